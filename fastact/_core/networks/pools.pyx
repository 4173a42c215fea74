"""Result arrays that layers and losses reuse once the caller no longer refers to them."""

cimport numpy as cnp
from cpython.object cimport PyObject

from fastact._core.runtime.memory cimport LARGE, lend, new_array

from weakref import WeakSet, ref

from fastact._core.runtime import memory

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
    # Minimum size in bytes of the results of elementwise layers that come from a pool.
    POOLED = 4096
    MAX_DIMS = cnp.NPY_MAXDIMS
    OURS = (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE
            | cnp.NPY_ARRAY_OWNDATA)


pools = WeakSet()


cdef class Pool:
    """Arrays that are reused once there are no other references to them.

    The arrays of a pool own their memory. A view holds a reference to the array that owns
    its memory, and so do memoryviews and objects created by the buffer protocol or DLPack.
    An array is therefore not reused while any of these exists.

    Arrays of `LARGE` bytes or more are not kept here: when they are freed, their memory is kept
    as that of any result is. All pools together keep no more than the limit of buffers allows.

    Without the GIL, the reference count does not account for other threads. In that case,
    every array is a new one.
    """

    def __cinit__(self):
        self.arrays = []
        if GIL:
            pools.add(self)

    def __dealloc__(self):
        lend(-self.size)

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
        cdef Py_ssize_t i, size
        cdef PyObject *item
        for i in range(len(self.arrays)):
            item = PyList_GET_ITEM(self.arrays, i)
            if only_here(item) and fits(<cnp.ndarray> item, ndim, dims, type_number):
                return <object> item
        array = fresh(ndim, dims, type_number)
        size = cnp.PyArray_NBYTES(<cnp.ndarray> array)
        if GIL and size < LARGE:
            self.keep(array, size)
        return array

    cdef int keep(self, object array, Py_ssize_t size) except -1:
        cdef Py_ssize_t i
        if not lend(size):
            release_pools()                          # what is in use comes back by and by
            if not lend(size):
                return 0
        # Dropping an array may run code that uses this pool: the callback of a weak reference.
        while len(self.arrays) == ARRAYS:
            lend(-self.sizes[0])
            self.size -= self.sizes[0]
            for i in range(1, ARRAYS):
                self.sizes[i - 1] = self.sizes[i]
            del self.arrays[0]                       # the oldest; a caller's reference keeps it alive
        self.sizes[len(self.arrays)] = size
        self.size += size
        self.arrays.append(array)
        return 0

    def release(self):
        """Drop all arrays. Return how many bytes those had that nothing else refers to."""
        cdef Py_ssize_t i, freed = 0
        arrays, self.arrays = self.arrays, []
        for i in range(len(arrays)):
            if only_here(PyList_GET_ITEM(arrays, i)):
                freed += self.sizes[i]
        lend(-self.size)
        self.size = 0
        return freed


def release_pools():
    """Drop the arrays of all pools. Return how many bytes those had that nothing else refers to."""
    return sum([pool.release() for pool in list(pools)])


memory.others.append(release_pools)


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


cdef void find_ends(cnp.ndarray array, char **first, char **last) noexcept:
    """Find the first byte of an array, and the one behind its last."""
    cdef Py_ssize_t span
    cdef int i
    first[0] = cnp.PyArray_BYTES(array)
    last[0] = first[0] + cnp.PyArray_ITEMSIZE(array)
    for i in range(cnp.PyArray_NDIM(array)):
        if cnp.PyArray_DIM(array, i) == 0:
            last[0] = first[0]
            return
        span = (cnp.PyArray_DIM(array, i) - 1) * cnp.PyArray_STRIDE(array, i)
        if span < 0:
            first[0] += span
        else:
            last[0] += span


cdef bint overlap(cnp.ndarray first, cnp.ndarray second) noexcept:
    """Whether two arrays may share memory: whether the ranges that they lie in do."""
    cdef char *first_start
    cdef char *first_stop
    cdef char *second_start
    cdef char *second_stop
    find_ends(first, &first_start, &first_stop)
    find_ends(second, &second_start, &second_stop)
    return first_start < second_stop and second_start < first_stop


cdef bint dangles(cnp.ndarray array) noexcept:
    """Whether an array is a view of another one that has been resized in place, and left it behind."""
    cdef PyObject *base = cnp.PyArray_BASE(array)
    cdef char *start
    cdef char *stop
    if base == NULL or not cnp.PyArray_Check(<object> base) or not cnp.PyArray_CHKFLAGS(
            <cnp.ndarray> base, cnp.NPY_ARRAY_OWNDATA):
        return False
    find_ends(array, &start, &stop)
    return start < cnp.PyArray_BYTES(<cnp.ndarray> base) or (
        stop > cnp.PyArray_BYTES(<cnp.ndarray> base) + cnp.PyArray_NBYTES(<cnp.ndarray> base))


cdef tuple held(arrays):
    """Return weak references to arrays. While they exist, NumPy lets nobody resize the arrays."""
    return tuple([ref(array) for array in arrays])
