"""C interface of the engine."""

from fastact._core.driver.kernel cimport Kernel

cdef enum:
    # Elements below which operands are taken as they lie: see `run_aligned`.
    UNALIGNED = 1024

cdef void run(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil

cdef void run_one(const Kernel *kernel, char **args) noexcept nogil

cdef void run_aligned(
    const Kernel *kernel, void *loop, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint streamed
) noexcept nogil

cdef void run_alone(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil

cdef void store_number(const Kernel *kernel, double value, void *target) noexcept nogil
