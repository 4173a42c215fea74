"""What the memory module offers to the modules above it."""

cimport numpy as cnp

cdef enum:
    LARGE = 1 << 22               # bytes from which the buffers of results are kept

cdef object new_array(
    int ndim, cnp.npy_intp *dims, cnp.npy_intp *strides, bint fortran, int type_number, Py_ssize_t size)
