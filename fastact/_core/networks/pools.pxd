"""C interface of the pools module."""

cimport numpy as cnp

cdef enum:
    # Maximum number of arrays in a pool. This is enough for two batch shapes, with two arrays of
    # each kind if the caller holds a reference to one of them.
    ARRAYS = 12

cdef class Pool:
    cdef object __weakref__
    cdef list arrays
    cdef Py_ssize_t[ARRAYS] sizes                     # bytes of each array, as it was allocated
    cdef Py_ssize_t size                             # of all
    cdef int keep(self, object array, Py_ssize_t size) except -1
    cdef object take(self, int ndim, cnp.npy_intp *dims, int type_number)

cdef object fresh(int ndim, cnp.npy_intp *dims, int type_number)

cpdef bint alike(first, second) noexcept

cdef bint overlap(cnp.ndarray first, cnp.ndarray second) noexcept

cdef bint dangles(cnp.ndarray array) noexcept

cdef tuple held(arrays)
