"""C interface of the engine."""

from fastact._core.kernel cimport Kernel

cdef void run(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil

cdef void store_number(const Kernel *kernel, double value, void *target) noexcept nogil
