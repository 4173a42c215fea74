"""C interface of the bfloat16 module."""

cimport numpy as cnp

from fastact._core.calls.ufunc_data cimport UfuncData

# NumPy's type number of ml_dtypes.bfloat16, or -1 until its loops are registered.
cdef int bfloat16_type

cdef cnp.PyUFuncGenericFunction loop_of_ufunc(const UfuncData *data) noexcept

cdef int add_ufunc(object ufunc) except -1

cdef int look_for_bfloat16() except -1
