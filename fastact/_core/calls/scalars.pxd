"""NumPy's scalars as operands and results, without the detour of an array."""

from cpython.object cimport PyObject
from numpy cimport NPY_NOTYPE

cdef extern from *:
    """
    #ifndef FASTACT_SCALARS
    #define FASTACT_SCALARS
    /* NumPy's type number of a Python float or a scalar of float16, float32 or float64, but not
       of a subclass, and the address of its value. */
    static inline int fastact_scalar(PyObject *o, void **value)
    {
        if (PyFloat_CheckExact(o)) {
            *value = &((PyFloatObject *) o)->ob_fval;
            return NPY_DOUBLE;
        }
        if (Py_TYPE(o) == &PyDoubleArrType_Type) {
            *value = &PyArrayScalar_VAL(o, Double);
            return NPY_DOUBLE;
        }
        if (Py_TYPE(o) == &PyFloatArrType_Type) {
            *value = &PyArrayScalar_VAL(o, Float);
            return NPY_FLOAT;
        }
        if (Py_TYPE(o) == &PyHalfArrType_Type) {
            *value = &PyArrayScalar_VAL(o, Half);
            return NPY_HALF;
        }
        return NPY_NOTYPE;
    }

    /* A new scalar of one of these types, and the address of its value. */
    static inline PyObject *fastact_new_scalar(int type_number, void **value)
    {
        PyObject *o;
        if (type_number == NPY_DOUBLE) {
            if ((o = PyArrayScalar_New(Double)) != NULL)
                *value = &PyArrayScalar_VAL(o, Double);
        } else if (type_number == NPY_FLOAT) {
            if ((o = PyArrayScalar_New(Float)) != NULL)
                *value = &PyArrayScalar_VAL(o, Float);
        } else {
            if ((o = PyArrayScalar_New(Half)) != NULL)
                *value = &PyArrayScalar_VAL(o, Half);
        }
        return o;
    }
    #endif
    """
    int scalar_type "fastact_scalar"(PyObject *o, void **value) noexcept
    object new_scalar "fastact_new_scalar"(int type_number, void **value)
