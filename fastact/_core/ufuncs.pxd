"""C interface of the ufuncs module."""

from fastact._core.driver.kernel cimport Kernel

cdef const Kernel *kernel_of(object ufunc, int type_number, int nin) noexcept
