"""C interface of the pools module."""

cimport numpy as cnp

cdef class Pool:
    cdef list arrays
    cdef object take(self, int ndim, cnp.npy_intp *dims, int type_number)

cdef object fresh(int ndim, cnp.npy_intp *dims, int type_number)

cpdef bint alike(first, second) noexcept
