"""C interface of the plans module."""

from fastact._core.driver.kernel cimport Kernel

cdef object run_arrays(const Kernel *kernel, void **operands, char **values, void *out)

cdef bint run_alone_on(
    const Kernel *kernel, int ndim, const Py_ssize_t *shape, char **operands, const Py_ssize_t *strides
) noexcept nogil
