"""C interface of the fast module."""

from cpython.object cimport PyObject

cdef object fast_call(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
