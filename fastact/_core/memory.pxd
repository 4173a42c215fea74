"""What the memory module offers to the modules above it."""

cimport numpy as cnp

cdef enum:
    LARGE = 1 << 22               # bytes from which a result is made here

cdef object large_empty(int ndim, cnp.npy_intp *dims, int type_number, int fortran)
