"""C interface of the ufuncs module."""

from fastact._core.kernel cimport Kernel

cdef enum:
    TYPES = 24                    # NumPy's type numbers, up to NPY_HALF

cdef const Kernel *kernel_of(object ufunc, int type_number, int nin) noexcept
