"""What the ufuncs offer to the modules above them."""

from fastact._core.engine cimport Kernel

cdef enum:
    # Elements from which the GIL is let go: giving it up and taking it back costs 40 ns,
    # where relu of this many float32 takes 150.
    RELEASE = 2048

cdef const Kernel *kernel_of(object ufunc, int type_number, int nin) noexcept
cdef void *loop_of(dict table, str name)
