"""NumPy's arrays through pointers that own nothing: what the calls and the driver ask them."""

cimport numpy as cnp
from cpython.object cimport PyObject

cdef extern from "numpy/ndarrayobject.h":
    ctypedef struct PyArrayObject:
        pass
    bint PyArray_CheckExact(PyObject *o)
    int PyArray_NDIM(PyArrayObject *a)
    cnp.npy_intp *PyArray_DIMS(PyArrayObject *a)
    cnp.npy_intp *PyArray_STRIDES(PyArrayObject *a)
    char *PyArray_BYTES(PyArrayObject *a)
    int PyArray_TYPE(PyArrayObject *a)
    int PyArray_FLAGS(PyArrayObject *a)
    bint PyArray_ISNOTSWAPPED(PyArrayObject *a)
    cnp.npy_intp PyArray_SIZE(PyArrayObject *a)
