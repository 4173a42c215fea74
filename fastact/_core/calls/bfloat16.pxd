"""C interface of the bfloat16 module."""

# NumPy's type number of ml_dtypes.bfloat16, or -1 until its loops are registered.
cdef int bfloat16_type

cdef int add_ufunc(object ufunc) except -1

cdef int look_for_bfloat16() except -1
