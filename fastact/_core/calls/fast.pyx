"""The calls of the ufuncs: the fast path.

Design
------
The `vectorcall` slot of a ufunc, a member of NumPy's public struct, is replaced by `fast_call`. This
function handles aligned arrays of one type that are not of a subclass. Contiguous arrays of one shape
go directly to the engine, which removes most of the overhead of a small call. All others go
through `plans`. Scalars have a path of their own, and integers are cast first. All other calls
are forwarded to NumPy's original slot through `general_call`, which is in `general.pyx`.
"""

import sys

cimport numpy as cnp
from cpython.object cimport PyObject
from libc.string cimport memcpy

from fastact._core.calls.bfloat16 cimport bfloat16_type
from fastact._core.calls.general cimport general_call
from fastact._core.calls.scalars cimport new_scalar, scalar_type
from fastact._core.calls.ufunc_data cimport (
    TYPES, PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyVectorcall_NARGS, UfuncData, data_of,
)
from fastact._core.driver.engine cimport run, run_one, store_number
from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel
from fastact._core.driver.plans cimport run_arrays
from fastact._core.driver.rows cimport close_room, open_room, run_rows
from fastact._core.runtime.arrays cimport (
    PyArray_BYTES, PyArray_CheckExact, PyArray_DIMS, PyArray_FLAGS, PyArray_ISNOTSWAPPED, PyArray_NDIM,
    PyArray_SIZE, PyArray_STRIDES, PyArray_TYPE, PyArrayObject,
)
from fastact._core.runtime.locks cimport load
from fastact._core.runtime.memory cimport LARGE, new_array
from fastact._core.runtime.threads cimport RELEASE

cnp.import_array()

cdef extern from *:
    """
    /* Flag set by np.broadcast_arrays on results that will become read-only. NumPy does not
       export it. */
    #define FASTACT_WARN_ON_WRITE ((int) 0x80000000u)
    """
    PyObject *PyErr_Occurred()
    bint PyFloat_CheckExact(PyObject *o)
    double PyFloat_AsDouble(object o) except? -1
    bint PyLong_CheckExact(PyObject *o)
    long long PyLong_AsLongLongAndOverflow(object o, int *overflow) except? -1
    const int WARN_ON_WRITE "FASTACT_WARN_ON_WRITE"

cdef extern from "numpy/ndarrayobject.h":
    object PyArray_EMPTY(int ndim, cnp.npy_intp *dims, int type_number, int fortran)
    object PyArray_FromArray(PyArrayObject *a, PyObject *dtype, int requirements)
    PyObject *PyArray_DescrFromType(int type_number)

# The keywords of a call are interned. This string is too, so they can be compared by address.
cdef object OUT = sys.intern("out")
cdef object AXIS = sys.intern("axis")


cdef inline bint same_shape(PyArrayObject *a, PyArrayObject *b) noexcept:
    """Whether b has the same shape as a."""
    cdef int i, ndim = PyArray_NDIM(a)
    if ndim != PyArray_NDIM(b):
        return False
    for i in range(ndim):
        if PyArray_DIMS(a)[i] != PyArray_DIMS(b)[i]:
            return False
    return True


cdef enum:
    CONTIGUOUS = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS


cdef inline int plain_flags(PyObject *operand) noexcept:
    """The ALIGNED and CONTIGUOUS flags of an ndarray that is aligned and native; otherwise 0.

    Subclasses of ndarray also give 0.
    """
    cdef PyArrayObject *array = <PyArrayObject *> operand
    if not PyArray_CheckExact(operand):
        return 0
    cdef int flags = PyArray_FLAGS(array)
    if not flags & cnp.NPY_ARRAY_ALIGNED or not PyArray_ISNOTSWAPPED(array):
        return 0
    return flags & (cnp.NPY_ARRAY_ALIGNED | CONTIGUOUS)


cdef inline bint is_int(PyObject *operand, long long *value) except -1:
    """Whether the operand is a Python int of at most 64 bits."""
    cdef int overflow = 0
    if not PyLong_CheckExact(operand):
        return False
    value[0] = PyLong_AsLongLongAndOverflow(<object> operand, &overflow)
    return not overflow


cdef inline bint is_number(
    const UfuncData *ufunc, const Kernel *kernel, PyObject *operand, double *number
) except -1:
    """Whether an operand with a default is a Python number, or NULL for the default; write it if so.

    An int is one if a double represents it exactly.
    """
    cdef long long value = 0
    if operand == NULL:
        number[0] = ufunc.default
    elif PyFloat_CheckExact(operand):
        number[0] = PyFloat_AsDouble(<object> operand)
    elif is_int(operand, &value) and -(1 << 53) <= value <= 1 << 53:
        number[0] = <double> value
    else:
        return False
    store_number(kernel, number[0], number)
    return True


cdef inline int find_axis(PyObject *axis, int ndim) except -2:
    """The number of an axis, which may be NULL for the last one, of some dimensions; -1 if there is none."""
    cdef long long value = -1
    if axis != NULL and not is_int(axis, &value):
        return -1
    value += ndim if value < 0 else 0
    return <int> value if 0 <= value < ndim else -1


cdef inline bint writeable(PyObject *array) noexcept:
    cdef int flags = PyArray_FLAGS(<PyArrayObject *> array)
    return flags & cnp.NPY_ARRAY_WRITEABLE and not flags & WARN_ON_WRITE


cdef inline Kernel *kernel_for(UfuncData *ufunc, PyArrayObject *array) noexcept:
    """The kernel for the type of the array, or NULL."""
    cdef int type_number = PyArray_TYPE(array)
    if type_number < TYPES:
        return ufunc.by_type[type_number]
    return &ufunc.bfloat16 if type_number == load(&bfloat16_type) else NULL


cdef object fast_call(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """The `vectorcall` slot of all ufuncs of this module."""
    cdef UfuncData *ufunc = data_of(self)
    cdef Py_ssize_t given = PyVectorcall_NARGS(nargsf)
    cdef PyObject *out = NULL
    cdef PyObject *last = NULL                       # the operand that has a default
    cdef PyObject *axis = NULL
    cdef PyObject *name
    cdef Py_ssize_t i
    if kwnames != NULL:
        for i in range(PyTuple_GET_SIZE(kwnames)):
            name = PyTuple_GET_ITEM(kwnames, i)
            if name == <PyObject *> OUT:
                out = args[given + i]
            elif name == ufunc.default_name and given == ufunc.nin - 1:
                last = args[given + i]
            elif name == <PyObject *> AXIS and ufunc.on_rows:
                axis = args[given + i]
            else:
                return general_call(self, args, nargsf, kwnames)
    cdef int arrays = ufunc.nin - ufunc.has_default  # operands that must be arrays
    if given == ufunc.nin + 1 and out == NULL:
        out = args[ufunc.nin]
    elif given > ufunc.nin or given < arrays:
        return general_call(self, args, nargsf, kwnames)
    if ufunc.has_default and given >= ufunc.nin:
        last = args[ufunc.nin - 1]

    if out == <PyObject *> None:
        out = NULL
    cdef PyArrayObject *first = <PyArrayObject *> args[0]
    cdef int order = plain_flags(args[0])
    if not order:
        return scalar_call(self, args, nargsf, kwnames, out, last)
    cdef Kernel *kernel = kernel_for(ufunc, first)
    if kernel == NULL:
        return cast_call(self, args, nargsf, kwnames, out)
    cdef PyArrayObject *operands[MAX_INPUTS + 1]     # NULL for a single value
    cdef char *data[MAX_INPUTS + 1]
    cdef Py_ssize_t steps[MAX_INPUTS + 1]
    cdef double number                               # room for one element of any type
    cdef bint even = True                            # whether all have the same shape
    cdef Py_ssize_t row                              # elements of one, in an operation on rows
    cdef int flags
    operands[0] = first
    data[0] = PyArray_BYTES(first)
    steps[0] = kernel.item
    for i in range(1, ufunc.nin):
        if i == arrays and (
                is_number(ufunc, kernel, last, &number) or single_value(kernel, last, first, &number)):
            operands[i] = NULL
            data[i] = <char *> &number
            steps[i] = 0
            continue
        operands[i] = <PyArrayObject *> (last if i == arrays else args[i])
        flags = plain_flags(<PyObject *> operands[i])
        if not flags or PyArray_TYPE(operands[i]) != PyArray_TYPE(first):
            if i == arrays and even and order & CONTIGUOUS and out == NULL:
                return promoted_call(self, args, nargsf, kwnames, kernel, last)
            return general_call(self, args, nargsf, kwnames)
        order &= flags
        even = even and same_shape(first, operands[i])
        data[i] = PyArray_BYTES(operands[i])
        steps[i] = kernel.item

    cdef object result
    cdef int along = 0                               # the axis of rows
    if out != NULL:
        flags = plain_flags(out)
        if not flags or not writeable(out) or PyArray_TYPE(<PyArrayObject *> out) != PyArray_TYPE(first):
            return general_call(self, args, nargsf, kwnames)
        order &= flags
        even = even and same_shape(first, <PyArrayObject *> out)
    if ufunc.on_rows:
        along = find_axis(axis, PyArray_NDIM(first)) if even else -1
        if along < 0:
            return general_call(self, args, nargsf, kwnames)
        if not order & cnp.NPY_ARRAY_C_CONTIGUOUS:
            if out != NULL or along == PyArray_NDIM(first) - 1:
                return general_call(self, args, nargsf, kwnames)
            # NumPy would make a result with this axis last in memory.
            result = PyArray_EMPTY(PyArray_NDIM(first), PyArray_DIMS(first), PyArray_TYPE(first), False)
            return self(*[<object> args[i] for i in range(given)], out=result, axis=along)
    if not even or not order & CONTIGUOUS or not PyArray_NDIM(first):
        result = run_arrays(kernel, <void **> operands, data, out)
        return general_call(self, args, nargsf, kwnames) if result is None else result

    cdef Py_ssize_t n = PyArray_SIZE(first)
    if out != NULL:
        result = <object> out
    else:
        result = new_result(first, n * kernel.item, not order & cnp.NPY_ARRAY_C_CONTIGUOUS)
    cdef char *target = PyArray_BYTES(<PyArrayObject *> result)
    for i in range(ufunc.nin):
        # An input may be the output itself. For any other overlap, NumPy has to make a copy.
        if data[i] != target and data[i] < target + n * kernel.item and target < data[i] + n * kernel.item:
            return general_call(self, args, nargsf, kwnames)
    data[ufunc.nin] = target
    steps[ufunc.nin] = kernel.item
    if ufunc.on_rows and along == PyArray_NDIM(first) - 1:
        row = PyArray_DIMS(first)[along]
        run_contiguous_rows(kernel, data, n // row if row else 0, row, steps)
    elif ufunc.on_rows:
        if n:
            run_along(kernel, data, n, first, along)
    else:
        run_contiguous(kernel, data, n, steps)
    return result


cdef inline void run_contiguous(
    const Kernel *kernel, char **data, Py_ssize_t n, const Py_ssize_t *steps
) noexcept:
    if n < RELEASE:
        run(kernel, data, n, steps, False)
    else:
        with nogil:
            run(kernel, data, n, steps, False)


cdef int run_contiguous_rows(
    const Kernel *kernel, char **data, Py_ssize_t rows, Py_ssize_t n, const Py_ssize_t *steps
) except -1:
    cdef Py_ssize_t row_steps[MAX_INPUTS + 1]
    cdef int i
    for i in range(kernel.nin + 1):
        row_steps[i] = n * kernel.item
    if rows * n < RELEASE:
        run_rows(kernel, data, rows, row_steps, n, steps)
    else:
        with nogil:
            run_rows(kernel, data, rows, row_steps, n, steps)
    # Set if there was no memory for the copy of a long row.
    return -1 if PyErr_Occurred() != NULL else 0


cdef int run_along(
    const Kernel *kernel, char **data, Py_ssize_t elements, PyArrayObject *like, int axis
) except -1:
    """Apply a kernel to the rows along an axis of arrays in C order, of the shape of `like`."""
    cdef Py_ssize_t row_steps[MAX_INPUTS + 1]
    cdef Py_ssize_t steps[MAX_INPUTS + 1]
    cdef Py_ssize_t rows = 1, n = PyArray_DIMS(like)[axis]
    cdef int i
    for i in range(axis + 1, PyArray_NDIM(like)):
        rows *= PyArray_DIMS(like)[i]
    if rows == 1:                                    # those behind it have one element
        for i in range(kernel.nin + 1):
            steps[i] = kernel.item
        return run_contiguous_rows(kernel, data, elements // n, n, steps)
    for i in range(kernel.nin + 1):
        steps[i] = rows * kernel.item
        row_steps[i] = kernel.item
    if elements < RELEASE:
        run_groups(kernel, data, elements // (rows * n), rows, row_steps, n, steps)
    else:
        with nogil:
            run_groups(kernel, data, elements // (rows * n), rows, row_steps, n, steps)
    return -1 if PyErr_Occurred() != NULL else 0


cdef void run_groups(
    const Kernel *kernel, char **data, Py_ssize_t groups, Py_ssize_t rows, const Py_ssize_t *row_steps,
    Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil:
    """Apply a kernel to groups of rows, one behind the other."""
    cdef Py_ssize_t _group
    cdef int i
    if groups == 1:
        run_rows(kernel, data, rows, row_steps, n, steps)
        return
    open_room()                                      # kept from group to group
    for _group in range(groups):
        run_rows(kernel, data, rows, row_steps, n, steps)
        for i in range(kernel.nin + 1):
            data[i] += rows * n * kernel.item
    close_room()


cdef inline object new_result(PyArrayObject *like, Py_ssize_t size, bint fortran):
    """A contiguous array of `size` bytes, with the shape, type and order of `like`."""
    if size < LARGE:
        return PyArray_EMPTY(PyArray_NDIM(like), PyArray_DIMS(like), PyArray_TYPE(like), fortran)
    return new_array(
        PyArray_NDIM(like), PyArray_DIMS(like), NULL, fortran, PyArray_TYPE(like), size)


cdef bint single_value(
    Kernel *kernel, PyObject *operand, PyArrayObject *first, void *value
) noexcept:
    """Write an operand to `value` if it is a single value of the type of the arrays.

    This is a scalar, or an array that has one element and no dimensions that `first` does not have.
    """
    cdef void *found = NULL
    cdef int type_number
    if plain_flags(operand):
        found = PyArray_BYTES(<PyArrayObject *> operand)
        type_number = PyArray_TYPE(<PyArrayObject *> operand)
        if (PyArray_SIZE(<PyArrayObject *> operand) != 1
                or PyArray_NDIM(<PyArrayObject *> operand) > PyArray_NDIM(first)):
            return False
    else:
        type_number = scalar_type(operand, &found)
    if type_number != PyArray_TYPE(first):
        return False
    memcpy(value, found, kernel.item)
    return True


cdef object scalar_call(
    object self, PyObject *const *args, size_t nargsf, PyObject *kwnames, PyObject *out, PyObject *last
):
    """Handle scalars of one type, and pass anything else that is not an array to NumPy."""
    cdef UfuncData *ufunc = data_of(self)
    cdef char *data[MAX_INPUTS + 1]
    cdef double number
    cdef int i, arrays = ufunc.nin - ufunc.has_default
    cdef void *value = NULL
    cdef int type_number = scalar_type(args[0], &value)
    if type_number == cnp.NPY_NOTYPE or out != NULL or ufunc.on_rows:
        return general_call(self, args, nargsf, kwnames)
    cdef Kernel *kernel = ufunc.by_type[type_number]
    if kernel == NULL:
        return general_call(self, args, nargsf, kwnames)
    for i in range(ufunc.nin):
        value = &number
        if i < arrays or not is_number(ufunc, kernel, last, &number):
            if scalar_type(last if i == arrays else args[i], &value) != type_number:
                return general_call(self, args, nargsf, kwnames)
        data[i] = <char *> value
    result = new_scalar(type_number, &value)
    data[ufunc.nin] = <char *> value
    run_one(kernel, data)
    return result


cdef object promoted_call(
    object self, PyObject *const *args, size_t nargsf, PyObject *kwnames, const Kernel *kernel, PyObject *last
):
    """The call on contiguous arrays, with a kernel of their type, and a last operand of another type.

    If this is a NumPy scalar, what has the narrower type is cast to the other one, as NumPy promotes.
    """
    cdef UfuncData *ufunc = data_of(self)
    cdef PyArrayObject *first = <PyArrayObject *> args[0]
    cdef PyObject *operands[MAX_INPUTS]
    cdef void *value = NULL
    cdef int i, arrays = ufunc.nin - 1
    cdef int type_number = scalar_type(last, &value)
    cdef const Kernel *other = ufunc.by_type[type_number] if type_number != cnp.NPY_NOTYPE else NULL
    # NumPy casts long arrays in parts, that stay in the cache.
    if (other == NULL or other.item == kernel.item or not PyArray_NDIM(first)
            or (other.item > kernel.item and PyArray_SIZE(first) >= RELEASE)):
        return general_call(self, args, nargsf, kwnames)
    cdef list cast = []
    for i in range(arrays):
        operands[i] = args[i]
        if other.item > kernel.item:
            cast.append(PyArray_FromArray(
                <PyArrayObject *> args[i], PyArray_DescrFromType(type_number), cnp.NPY_ARRAY_FORCECAST))
            operands[i] = <PyObject *> cast[i]
    if other.item < kernel.item:
        cast.append(float(<object> last))
        last = <PyObject *> cast[0]
    operands[arrays] = last
    return fast_call(self, operands, ufunc.nin, NULL)


cdef object cast_call(
    object self, PyObject *const *args, size_t nargsf, PyObject *kwnames, PyObject *out
):
    """The call if there is no kernel for the first array: in place, on its cast to a type that has one."""
    cdef UfuncData *ufunc = data_of(self)
    cdef PyArrayObject *array = <PyArrayObject *> args[0]
    cdef int type_number = PyArray_TYPE(array)
    cdef int target = ufunc.cast_to[type_number] if type_number < TYPES else 0
    cdef char *data[2]
    cdef Py_ssize_t steps[2]
    cdef Py_ssize_t n
    cdef Kernel *kernel
    cdef int i
    if ufunc.nin != 1 or not target or out != NULL or not PyArray_NDIM(array):
        return general_call(self, args, nargsf, kwnames)
    for i in range(PyArray_NDIM(array)):
        # A copy of repeated elements has its dimensions in another order than NumPy's result.
        if PyArray_STRIDES(array)[i] == 0:
            return general_call(self, args, nargsf, kwnames)
    kernel, n = ufunc.by_type[target], PyArray_SIZE(array)
    result = PyArray_FromArray(array, PyArray_DescrFromType(target), cnp.NPY_ARRAY_FORCECAST)
    data[0] = data[1] = PyArray_BYTES(<PyArrayObject *> result)
    steps[0] = steps[1] = kernel.item
    run_contiguous(kernel, data, n, steps)
    return result
