"""C interface of the general module."""

from cpython.object cimport PyObject

cdef object general_call(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
