"""What the memory module offers to the modules above it."""

cimport numpy as cnp

cdef enum:
    LARGE = 1 << 22               # bytes from which the buffers of results are kept

# Counts `size` bytes more, or fewer, as kept by others. False, and nothing is counted, if that
# would exceed the limit.
cdef bint lend(Py_ssize_t size) noexcept

cdef object new_array(
    int ndim, cnp.npy_intp *dims, cnp.npy_intp *strides, bint fortran, int type_number, Py_ssize_t size)
