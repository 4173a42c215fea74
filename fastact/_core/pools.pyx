"""Result arrays that layers and losses reuse once the caller no longer refers to them."""

cimport numpy as cnp
from cpython.object cimport PyObject

from fastact._core.memory cimport new_array

cnp.import_array()

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define FASTACT_GIL 0
    #else
    #define FASTACT_GIL 1
    #endif
    /* The list holds the only reference, and there is no weak reference, which could be turned
       into another reference. */
    #define FASTACT_ONLY_HERE(o) (Py_REFCNT(o) == 1 \\
        && *(PyObject **) ((char *) (o) + Py_TYPE(o)->tp_weaklistoffset) == NULL)
    """
    const bint GIL "FASTACT_GIL"
    bint only_here "FASTACT_ONLY_HERE"(PyObject *array) noexcept
    PyObject *PyList_GET_ITEM(list items, Py_ssize_t i)

cdef enum:
    # Maximum number of arrays in a pool. This is enough for two batch shapes, with two arrays of
    # each kind if the caller holds a reference to one of them.
    SLOTS = 12
    # Minimum size in bytes of the results of elementwise layers that come from a pool.
    POOLED = 4096
    MAX_DIMS = cnp.NPY_MAXDIMS
    OURS = (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE
            | cnp.NPY_ARRAY_OWNDATA)


cdef class Pool:
    """Arrays that are reused once there are no other references to them.

    The arrays of a pool own their memory. A view holds a reference to the array that owns
    its memory, and so do memoryviews and objects created by the buffer protocol or DLPack.
    An array is therefore not reused while any of these exists.

    Without the GIL, the reference count does not account for other threads. In that case,
    every array is a new one.
    """

    def __cinit__(self):
        self.arrays = []

    def empty(self, shape, dtype):
        """An uninitialized array, as returned by `numpy.empty`."""
        cdef cnp.npy_intp[MAX_DIMS] dims
        cdef int i, ndim
        if len(shape) > MAX_DIMS:
            raise ValueError(f"{len(shape)} dimensions, wanted at most {MAX_DIMS}")
        ndim = <int> len(shape)
        for i in range(ndim):
            dims[i] = shape[i]
        return self.take(ndim, dims, (<cnp.dtype?> dtype).num)

    def like(self, first, second):
        """An array for the result if the operands are large and `alike`; otherwise None.

        For small results, it is faster if NumPy allocates them. For other operands, NumPy
        determines the result type or raises an error.
        """
        cdef cnp.ndarray array
        if not cnp.PyArray_CheckExact(first):
            return None
        array = <cnp.ndarray> first
        if cnp.PyArray_NBYTES(array) < POOLED or not alike(first, second):
            return None
        return self.take(cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array), cnp.PyArray_TYPE(array))

    cdef object take(self, int ndim, cnp.npy_intp *dims, int type_number):
        cdef Py_ssize_t i
        cdef PyObject *item
        if not GIL:
            return fresh(ndim, dims, type_number)
        for i in range(len(self.arrays)):
            item = PyList_GET_ITEM(self.arrays, i)
            if only_here(item) and fits(<cnp.ndarray> item, ndim, dims, type_number):
                return <object> item
        array = fresh(ndim, dims, type_number)
        if len(self.arrays) == SLOTS:
            del self.arrays[0]                       # the oldest; the caller's reference keeps it alive
        self.arrays.append(array)
        return array


cdef bint fits(cnp.ndarray array, int ndim, cnp.npy_intp *dims, int type_number) noexcept:
    """Whether an array equals a new one in its attributes, which the caller may have changed."""
    cdef int i
    if cnp.PyArray_NDIM(array) != ndim or cnp.PyArray_TYPE(array) != type_number:
        return False
    for i in range(ndim):
        if cnp.PyArray_DIM(array, i) != dims[i]:
            return False
    return cnp.PyArray_FLAGS(array) & OURS == OURS and cnp.PyArray_ISNOTSWAPPED(array)


cdef object fresh(int ndim, cnp.npy_intp *dims, int type_number):
    cdef cnp.npy_intp size = cnp.PyArray_DescrFromType(type_number).itemsize
    cdef int i
    for i in range(ndim):
        size *= dims[i]
    return new_array(ndim, dims, NULL, False, type_number, size)


cpdef bint alike(first, second) noexcept:
    """Whether both are contiguous arrays of the same shape, and both are float32 or float64."""
    cdef cnp.ndarray a, b
    cdef int i
    if not cnp.PyArray_CheckExact(first) or not cnp.PyArray_CheckExact(second):
        return False
    a, b = first, second
    if (cnp.PyArray_TYPE(a) not in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE)
            or cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(b) or cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b)
            or not cnp.PyArray_ISCARRAY_RO(a) or not cnp.PyArray_ISCARRAY_RO(b)):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(b, i):
            return False
    return True
