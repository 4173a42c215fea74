"""The calls of the ufuncs: the fast path, and what it leaves to NumPy.

Design
------
The `vectorcall` slot of a ufunc, a member of NumPy's public struct, is replaced by `fast_call`. This
function handles aligned arrays of one type that are not of a subclass. Contiguous arrays of one shape
go directly to the engine, which removes most of the overhead of a small call. All others go
through `plans`. Scalars have a path of their own, and integers are cast first. All other calls
are forwarded to NumPy's original slot through `general_call`, which fills in the default of the last
operand and improves the error messages.
"""

import os
import sys
import threading

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.string cimport memcpy

from fastact._core.calls.scalars cimport new_scalar, scalar_type
from fastact._core.driver.engine cimport run, run_any, run_one, store_number
from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel
from fastact._core.driver.plans cimport run_arrays
from fastact._core.driver.rows cimport close_room, open_room, rows_loop, run_rows
from fastact._core.runtime.locks cimport load, store
from fastact._core.runtime.memory cimport LARGE, new_array
from fastact._core.runtime.threads cimport RELEASE

import numpy as np

from fastact._core.calls.refusals import overrides, refuse

cnp.import_array()
cnp.import_ufunc()

cdef extern from *:
    """
    /* Flag set by np.broadcast_arrays on results that will become read-only. NumPy does not
       export it. */
    #define FASTACT_WARN_ON_WRITE ((int) 0x80000000u)

    /* Where memory is lacking, NumPy (2.4) may fail without an exception. */
    static PyObject *fastact_call_numpy(
        fastact_call call, PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
    {
        PyObject *result = call(self, args, nargsf, kwnames);
        if (result == NULL && !PyErr_Occurred())
            PyErr_NoMemory();
        return result;
    }
    """
    object call_numpy "fastact_call_numpy"(
        call_t call, object self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)
    PyObject *PyErr_Occurred()
    bint PyFloat_CheckExact(PyObject *o)
    double PyFloat_AsDouble(object o) except? -1
    bint PyLong_CheckExact(PyObject *o)
    long long PyLong_AsLongLongAndOverflow(object o, int *overflow) except? -1
    PyObject *PyTuple_GET_ITEM(PyObject *tuple, Py_ssize_t i)
    Py_ssize_t PyTuple_GET_SIZE(PyObject *tuple)
    const int WARN_ON_WRITE "FASTACT_WARN_ON_WRITE"

cdef extern from "numpy/ndarrayobject.h":
    bint PyArray_CheckExact(PyObject *o)
    ctypedef struct PyArrayObject:
        pass
    int PyArray_NDIM(PyArrayObject *a)
    cnp.npy_intp *PyArray_DIMS(PyArrayObject *a)
    char *PyArray_BYTES(PyArrayObject *a)
    cnp.npy_intp *PyArray_STRIDES(PyArrayObject *a)
    int PyArray_TYPE(PyArrayObject *a)
    int PyArray_FLAGS(PyArrayObject *a)
    bint PyArray_ISNOTSWAPPED(PyArrayObject *a)
    cnp.npy_intp PyArray_SIZE(PyArrayObject *a)
    object PyArray_EMPTY(int ndim, cnp.npy_intp *dims, int type_number, int fortran)
    object PyArray_FromArray(PyArrayObject *a, PyObject *dtype, int requirements)
    PyObject *PyArray_DescrFromType(int type_number)

cdef extern from "numpy/ufuncobject.h":
    int PyUFunc_RegisterLoopForType(
        PyUFuncObject *ufunc, int usertype, cnp.PyUFuncGenericFunction function,
        const int *arg_types, void *data) except -1

# The keywords of a call are interned. This string is too, so they can be compared by address.
cdef object OUT = sys.intern("out")
cdef object AXIS = sys.intern("axis")
_made = []                        # all ufuncs; never freed
cdef dict _modules = sys.modules
# NumPy's type number of ml_dtypes.bfloat16, or -1 until its loops are registered.
cdef int bfloat16_type = -1
cdef object _registration = threading.RLock()    # held where they are registered


cdef void ufunc_loop(
    char **args, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps, void *data
) noexcept nogil:
    run_any(<const Kernel *> data, args, dimensions[0], <const Py_ssize_t *> steps)


cdef cnp.PyUFuncGenericFunction loop_of_ufunc(const Operation *op) noexcept:
    """The function that NumPy calls for each inner loop of a ufunc."""
    return <cnp.PyUFuncGenericFunction> (rows_loop if op.on_rows else ufunc_loop)


# ------------------------------------------------------------------- fast path

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


cdef inline bint is_small_int(PyObject *operand) except -1:
    """Whether the operand is a Python int that a double represents exactly."""
    cdef int overflow
    cdef long long value
    if not PyLong_CheckExact(operand):
        return False
    value = PyLong_AsLongLongAndOverflow(<object> operand, &overflow)
    return not overflow and -(1 << 53) <= value <= 1 << 53


cdef inline bint is_last_axis(PyObject *axis, int ndim) except -1:
    """Whether an axis, which may be NULL for the default, is the last of some dimensions."""
    cdef int overflow
    cdef long long value
    if axis == NULL:
        return ndim > 0
    if not PyLong_CheckExact(axis):
        return False
    value = PyLong_AsLongLongAndOverflow(<object> axis, &overflow)
    return not overflow and ndim > 0 and (value == -1 or value == ndim - 1)


cdef inline bint writeable(PyObject *array) noexcept:
    cdef int flags = PyArray_FLAGS(<PyArrayObject *> array)
    return flags & cnp.NPY_ARRAY_WRITEABLE and not flags & WARN_ON_WRITE


cdef inline Kernel *kernel_for(Operation *op, PyArrayObject *array) noexcept:
    """The kernel for the type of the array, or NULL."""
    cdef int type_number = PyArray_TYPE(array)
    if type_number < TYPES:
        return op.by_type[type_number]
    return &op.bfloat16 if type_number == load(&bfloat16_type) else NULL


cdef object fast_call(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """The `vectorcall` slot of all ufuncs of this module."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> self).data
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
            elif name == op.default_name and given == op.nin - 1:
                last = args[given + i]
            elif name == <PyObject *> AXIS and op.on_rows:
                axis = args[given + i]
            else:
                return general_call(self, args, nargsf, kwnames)
    cdef int arrays = op.nin - op.has_default        # operands that must be arrays
    if given == op.nin + 1 and out == NULL:
        out = args[op.nin]
    elif given > op.nin or given < arrays:
        return general_call(self, args, nargsf, kwnames)
    if op.has_default and given >= op.nin:
        last = args[op.nin - 1]

    if out == <PyObject *> None:
        out = NULL
    cdef PyArrayObject *first = <PyArrayObject *> args[0]
    cdef int order = plain_flags(args[0])
    if not order:
        return scalar_call(self, args, nargsf, kwnames, out, last)
    cdef Kernel *kernel = kernel_for(op, first)
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
    for i in range(1, op.nin):
        if i == arrays and (last == NULL or PyFloat_CheckExact(last) or is_small_int(last)):
            store_number(kernel, op.default if last == NULL else PyFloat_AsDouble(<object> last), &number)
        elif i < arrays or not single_value(kernel, last, first, &number):
            operands[i] = <PyArrayObject *> (last if i == arrays else args[i])
            flags = plain_flags(<PyObject *> operands[i])
            if not flags or PyArray_TYPE(operands[i]) != PyArray_TYPE(first):
                return general_call(self, args, nargsf, kwnames)
            order &= flags
            even = even and same_shape(first, operands[i])
            data[i] = PyArray_BYTES(operands[i])
            steps[i] = kernel.item
            continue
        operands[i] = NULL
        data[i] = <char *> &number
        steps[i] = 0

    cdef object result
    if out != NULL:
        flags = plain_flags(out)
        if not flags or not writeable(out) or PyArray_TYPE(<PyArrayObject *> out) != PyArray_TYPE(first):
            return general_call(self, args, nargsf, kwnames)
        order &= flags
        even = even and same_shape(first, <PyArrayObject *> out)
    if op.on_rows and not (
            even and order & cnp.NPY_ARRAY_C_CONTIGUOUS and is_last_axis(axis, PyArray_NDIM(first))):
        return general_call(self, args, nargsf, kwnames)
    if not even or not order & CONTIGUOUS or not PyArray_NDIM(first):
        result = run_arrays(kernel, <void **> operands, data, out)
        return general_call(self, args, nargsf, kwnames) if result is None else result

    cdef Py_ssize_t n = PyArray_SIZE(first)
    if out != NULL:
        result = <object> out
    else:
        result = new_result(first, n * kernel.item, not order & cnp.NPY_ARRAY_C_CONTIGUOUS)
    cdef char *target = PyArray_BYTES(<PyArrayObject *> result)
    for i in range(op.nin):
        # An input may be the output itself. For any other overlap, NumPy has to make a copy.
        if data[i] != target and data[i] < target + n * kernel.item and target < data[i] + n * kernel.item:
            return general_call(self, args, nargsf, kwnames)
    data[op.nin] = target
    steps[op.nin] = kernel.item
    if op.on_rows:
        row = PyArray_DIMS(first)[PyArray_NDIM(first) - 1]
        run_contiguous_rows(kernel, data, n // row if row else 0, row, steps)
    elif n < RELEASE:
        run(kernel, data, n, steps, False)
    else:
        with nogil:
            run(kernel, data, n, steps, False)
    return result


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
    cdef Operation *op = <Operation *> (<PyUFuncObject *> self).data
    cdef char *data[MAX_INPUTS + 1]
    cdef double number
    cdef int i, arrays = op.nin - op.has_default
    cdef void *value = NULL
    cdef int type_number = scalar_type(args[0], &value)
    if type_number == cnp.NPY_NOTYPE or out != NULL or op.on_rows:
        return general_call(self, args, nargsf, kwnames)
    cdef Kernel *kernel = op.by_type[type_number]
    if kernel == NULL:
        return general_call(self, args, nargsf, kwnames)
    for i in range(op.nin):
        if i < arrays or (last != NULL and not PyFloat_CheckExact(last) and not is_small_int(last)):
            if scalar_type(last if i == arrays else args[i], &value) != type_number:
                return general_call(self, args, nargsf, kwnames)
        else:
            store_number(kernel, op.default if last == NULL else PyFloat_AsDouble(<object> last), &number)
            value = &number
        data[i] = <char *> value
    result = new_scalar(type_number, &value)
    data[op.nin] = <char *> value
    run_one(kernel, data)
    return result


cdef object cast_call(
    object self, PyObject *const *args, size_t nargsf, PyObject *kwnames, PyObject *out
):
    """The call if there is no kernel for the first array: in place, on its cast to a type that has one."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> self).data
    cdef PyArrayObject *array = <PyArrayObject *> args[0]
    cdef int type_number = PyArray_TYPE(array)
    cdef int target = op.cast_to[type_number] if type_number < TYPES else 0
    cdef char *data[2]
    cdef Py_ssize_t steps[2]
    cdef Py_ssize_t n
    cdef Kernel *kernel
    cdef int i
    if op.nin != 1 or not target or out != NULL or not PyArray_NDIM(array):
        return general_call(self, args, nargsf, kwnames)
    for i in range(PyArray_NDIM(array)):
        # A copy of repeated elements has its dimensions in another order than NumPy's result.
        if PyArray_STRIDES(array)[i] == 0:
            return general_call(self, args, nargsf, kwnames)
    kernel, n = op.by_type[target], PyArray_SIZE(array)
    result = PyArray_FromArray(array, PyArray_DescrFromType(target), cnp.NPY_ARRAY_FORCECAST)
    data[0] = data[1] = PyArray_BYTES(<PyArrayObject *> result)
    steps[0] = steps[1] = kernel.item
    if n < RELEASE:
        run(kernel, data, n, steps, False)
    else:
        with nogil:
            run(kernel, data, n, steps, False)
    return result


# ---------------------------------------------------------------- general path

cdef object general_call(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """Call NumPy's implementation, with the default operand filled in."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> self).data
    cdef Py_ssize_t i, given = PyVectorcall_NARGS(nargsf)
    if load(&bfloat16_type) < 0 and "ml_dtypes" in _modules:
        find_bfloat16()
    if op.on_rows:
        open_room()
    try:
        return call_filled(self, args, nargsf, kwnames)
    except TypeError as error:
        keywords = {}
        if kwnames != NULL:
            keywords = {
                <object> PyTuple_GET_ITEM(kwnames, i): <object> args[given + i]
                for i in range(PyTuple_GET_SIZE(kwnames))}
        operands = [<object> args[i] for i in range(min(given, op.nin))]
        if op.has_default and <object> op.default_name in keywords:
            operands.append(keywords[<object> op.default_name])
        refuse(
            self, op.has_default, bfloat16_type, operands,
            [<object> args[i] for i in range(given)], keywords, error)
        raise
    finally:
        if op.on_rows:
            close_room()


cdef object call_filled(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """Call NumPy's implementation; a last operand with a default is passed by position."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> self).data
    cdef Py_ssize_t i, given = PyVectorcall_NARGS(nargsf)
    cdef bint names_axis = op.on_rows and (
        any_overrides(args, given) or kwnames != NULL and "axes" in <tuple> kwnames)
    cdef bint nones = False
    if kwnames != NULL:
        for i in range(PyTuple_GET_SIZE(kwnames)):
            nones = nones or args[given + i] == <PyObject *> None
    if not op.has_default and not names_axis and not nones:
        return call_numpy(op.numpy_call, self, args, nargsf, kwnames)
    cdef list operands = [<object> args[i] for i in range(given)]
    cdef dict keywords = {}
    if kwnames != NULL:
        for i in range(PyTuple_GET_SIZE(kwnames)):
            keywords[<object> PyTuple_GET_ITEM(kwnames, i)] = <object> args[given + i]
    # The defaults that `inspect.signature` shows, which NumPy itself refuses in part.
    if nones:
        for name in ("dtype", "signature", "sig", "axes") if op.on_rows else ("dtype", "signature", "sig"):
            if keywords.get(name, name) is None:
                del keywords[name]
    if names_axis:
        if "axes" in keywords:
            copy_overlapping(op, operands, keywords)
        else:
            keywords.setdefault("axis", -1)
    elif op.has_default:
        fill_default(self, op, operands, keywords)

    cdef list values = operands + list(keywords.values())
    cdef tuple names = tuple(keywords)
    cdef PyObject **vector = <PyObject **> PyMem_Malloc((len(values) + 1) * sizeof(PyObject *))
    if vector == NULL:
        raise MemoryError()
    try:
        for i in range(len(values)):
            vector[i] = <PyObject *> values[i]
        return call_numpy(
            op.numpy_call, self, vector, len(operands), <PyObject *> names if names else NULL)
    finally:
        PyMem_Free(vector)


cdef bint any_overrides(PyObject *const *args, Py_ssize_t given) except -1:
    """Whether an operand, such as a DataFrame, makes the call itself. It needs to know the axis:
    pandas would hand its columns over as the last one.
    """
    cdef Py_ssize_t i
    for i in range(given):
        if not isinstance(<object> args[i], cnp.ndarray) and hasattr(<object> args[i], "__array_ufunc__"):
            return True
    return False


cdef copy_overlapping(Operation *op, list operands, dict keywords):
    """Replace inputs that share memory with the output by copies.

    NumPy does so, but it takes one array along two axes to be the same elements in the same order.
    """
    cdef int i
    out = keywords.get("out", operands[op.nin] if len(operands) > op.nin else None)
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    for i in range(min(op.nin, len(operands)) if isinstance(out, np.ndarray) else 0):
        if not overrides(operands[i]):
            array = np.asanyarray(operands[i])
            if np.may_share_memory(array, out):
                operands[i] = array.copy()


cdef fill_default(object self, Operation *op, list operands, dict keywords):
    """Append the last operand if it was omitted or passed by keyword, and convert a number."""
    cdef int i
    name = <object> op.default_name
    if name in keywords:
        if len(operands) != op.nin - 1:
            problem = "got two values for" if len(operands) >= op.nin else "wants operands before"
            raise TypeError(f"{self.__name__}() {problem} {name!r}: {len(operands)} operands by position")
        operands.append(keywords.pop(name))
    elif len(operands) == op.nin - 1:
        operands.append(op.default)
    # Convert a number to the dtype of the arrays or, if these are integers, to the result dtype
    # of np.exp. NumPy would use float64 for integers, and warn if the number is out of range.
    if len(operands) < op.nin or type(operands[op.nin - 1]) not in (int, float):
        return
    if not keywords.keys().isdisjoint(("dtype", "signature", "sig")):
        # NumPy casts a number to its own types only, and a larger int not at all.
        if type(operands[op.nin - 1]) is int and abs(operands[op.nin - 1]) >= 1 << 64:
            operands[op.nin - 1] = float(operands[op.nin - 1])
        if bfloat16_type >= 0 and np.dtype(keywords.get("dtype")).num == bfloat16_type:
            operands[op.nin - 1] = rounded_to_bfloat16(
                op, operands[op.nin - 1], np.dtype(keywords["dtype"]))
        return
    for i in range(op.nin - 1):
        if type(operands[i]) not in (int, float) and not hasattr(operands[i], "__array_ufunc__"):
            operands[i] = np.asarray(operands[i])
    others = operands[:op.nin - 1]
    if not all(isinstance(operand, (np.ndarray, np.generic)) for operand in others):
        return
    # NumPy converts a number correctly if it is in the range of all types, as most slopes are,
    # and if it may cast.
    if ("casting" not in keywords and 1e-4 < abs(operands[op.nin - 1]) < 1e4
            and all(operand.dtype.kind == "f" for operand in others)):
        return
    if all(operand.dtype.num == bfloat16_type for operand in others):
        operands[op.nin - 1] = rounded_to_bfloat16(op, operands[op.nin - 1], others[0].dtype)
    elif all(operand.dtype.kind in "biuf" for operand in others):
        dtype = np.exp.resolve_dtypes((np.result_type(*others), None))[1]
        with np.errstate(all="ignore"):
            operands[op.nin - 1] = dtype.type(operands[op.nin - 1])


cdef object rounded_to_bfloat16(Operation *op, object number, object dtype):
    """Round a Python number to bfloat16 in the same way as `fast_call`.

    The constructor of bfloat16 rounds twice, and does not accept a large int.
    """
    # The operands may be byte-swapped, and the number is written in native order.
    cdef cnp.ndarray rounded = np.empty((), dtype.newbyteorder("="))
    store_number(&op.bfloat16, float(number), cnp.PyArray_DATA(rounded))
    return rounded[()]


# -------------------------------------------------------------------- bfloat16

cdef int add_ufunc(object ufunc) except -1:
    """Give a new ufunc its bfloat16 loop, now or once there are bfloat16 arrays."""
    with _registration:
        if bfloat16_type >= 0:
            add_bfloat16(ufunc, bfloat16_type)
        _made.append(ufunc)
    return 0


cdef int add_bfloat16(object ufunc, int type_number) except -1:
    """Register the bfloat16 loop of a ufunc."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> ufunc).data
    cdef int[MAX_INPUTS + 1] types
    cdef int i
    for i in range(op.nin + 1):
        types[i] = type_number
    return PyUFunc_RegisterLoopForType(
        <PyUFuncObject *> ufunc, type_number, loop_of_ufunc(op), types, &op.bfloat16)


cdef int find_bfloat16() except -1:
    """Register the bfloat16 loops of all ufuncs once ml_dtypes has been imported.

    bfloat16 arrays do not exist before that. Without these loops, NumPy would cast them to
    float32, as ml_dtypes allows.
    """
    # The attribute is missing during the import of ml_dtypes. The module may also be a mock.
    try:
        bfloat16 = _modules["ml_dtypes"].bfloat16
        dtype = np.dtype(bfloat16 if issubclass(bfloat16, np.generic) else None)
    except Exception:
        return 0
    if dtype.isbuiltin != 2 or dtype.name != "bfloat16":     # 2: a user-defined dtype
        return 0
    with _registration:
        if bfloat16_type < 0:
            for ufunc in _made:
                add_bfloat16(ufunc, dtype.num)
            store(&bfloat16_type, dtype.num)     # last: a thread that reads it finds the loops
    return 0


def _renew_registration():
    """In a forked child, a lock that another thread held would be held for ever."""
    global _registration
    _registration = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_registration)
if "ml_dtypes" in _modules:                          # else the first call finds it; methods do not look
    find_bfloat16()
