"""What a call knows of its ufunc."""

cimport numpy as cnp
from cpython.object cimport PyObject

from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel

cdef extern from *:
    """
    #ifndef FASTACT_CALL
    #define FASTACT_CALL
    /* The type of the slot, matching what Cython generates for a pointer that returns object. */
    typedef PyObject *(*fastact_call)(PyObject *, PyObject *const *, size_t, PyObject *);
    #endif
    """
    ctypedef object (*call_t "fastact_call")(
        object self, PyObject *const *args, size_t nargsf, PyObject *kwnames
    )

    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)
    PyObject *PyTuple_GET_ITEM(PyObject *tuple, Py_ssize_t i)
    Py_ssize_t PyTuple_GET_SIZE(PyObject *tuple)

cdef extern from "numpy/ufuncobject.h":
    ctypedef struct PyUFuncObject:
        void **data
        call_t vectorcall

cdef enum:
    TYPES = 24                    # NumPy's type numbers, up to NPY_HALF
    MAX_LOOPS = 16

cdef struct UfuncData:
    # Everything that a call needs. Its first member is the `data` array of the ufunc, so the
    # `data` pointer of the ufunc is also a pointer to this struct.
    void *data[MAX_LOOPS]
    cnp.PyUFuncGenericFunction loop                  # which NumPy calls: the same for all types
    cnp.PyUFuncGenericFunction functions[MAX_LOOPS]
    char types[64]                # MAX_LOOPS * (MAX_INPUTS + 1)
    Kernel kernels[MAX_LOOPS]
    Kernel *by_type[TYPES]         # NumPy's type number -> the kernel of that type, or NULL
    int cast_to[TYPES]             # an integer type -> that of the result, if there is no kernel; or 0
    Kernel bfloat16
    int nin
    bint on_rows                  # whether this is a generalized ufunc, with kernels over rows
    bint has_default
    double default
    PyObject *default_name
    call_t numpy_call


cdef inline UfuncData *data_of(object ufunc) noexcept:
    return <UfuncData *> (<PyUFuncObject *> ufunc).data
