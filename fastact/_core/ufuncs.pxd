"""What the ufuncs offer to the modules above them."""

from fastact._core.kernel cimport Kernel

cdef const Kernel *kernel_of(object ufunc, int type_number, int nin) noexcept
