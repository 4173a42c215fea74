"""`numpy.ufunc` objects made from the kernel table, and the fast path of their calls.

Design
------
An operation is a `numpy.ufunc` whose loops are all the same function, `ufunc_loop`, which
passes its operands to the engine. Its `vectorcall` slot, a member of NumPy's public struct,
is replaced by `fast_call`. This function handles the simple case: aligned, contiguous
arrays of one type and shape that are not of a subclass. It passes them directly to the
engine, which removes most of the overhead of a small call. Matrices in a mix of C and
Fortran order are processed by tiles. All other calls are forwarded to NumPy's original
slot through `general_call`, which fills in the default of the last operand and improves
the error messages.
"""

import importlib
import importlib.util
import os
import sys
import threading

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.string cimport memset

from fastact._core.engine cimport run, store_number
from fastact._core.kernel cimport MAX_INPUTS, Kernel, convert_t, loop_or_null, transpose_t
from fastact._core.locks cimport load, store
from fastact._core.memory cimport LARGE, large_empty
from fastact._core.threads cimport RELEASE
from fastact._core.tiles cimport by_columns, run_tiles

import numpy as np

from fastact._core import cpu, targets
from fastact._core.operations import OPERATIONS

cnp.import_array()
cnp.import_ufunc()

cdef extern from *:
    """
    /* The type of the slot, matching what Cython generates for a pointer that returns object. */
    typedef PyObject *(*fastact_call)(PyObject *, PyObject *const *, size_t, PyObject *);
    /* Flag set by np.broadcast_arrays on results that will become read-only. NumPy does not
       export it. */
    #define FASTACT_WARN_ON_WRITE ((int) 0x80000000u)
    """
    ctypedef object (*call_t "fastact_call")(
        object self, PyObject *const *args, size_t nargsf, PyObject *kwnames
    )
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)
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
    object PyArray_EMPTY(int nd, cnp.npy_intp *dims, int typenum, int fortran)

cdef extern from "numpy/ufuncobject.h":
    ctypedef struct PyUFuncObject:
        void **data
        call_t vectorcall
    int PyUFunc_RegisterLoopForType(
        PyUFuncObject *ufunc, int usertype, cnp.PyUFuncGenericFunction function,
        const int *arg_types, void *data) except -1
    object PyUFunc_FromFuncAndData(
        cnp.PyUFuncGenericFunction *functions, void **data, char *types, int ntypes,
        int nin, int nout, int identity, const char *name, const char *doc, int unused)
    const int PyUFunc_None

cdef enum:
    MAX_LOOPS = 16

cdef struct Operation:
    # Everything that a call needs. Its first member is the `data` array of the ufunc, so the
    # `data` pointer of the ufunc is also a pointer to this struct.
    void *data[MAX_LOOPS]
    cnp.PyUFuncGenericFunction functions[MAX_LOOPS]
    char types[64]                # MAX_LOOPS * (MAX_INPUTS + 1)
    Kernel kernels[MAX_LOOPS]
    Kernel *by_type[TYPES]         # NumPy's type number -> the kernel of that type, or NULL
    Kernel bfloat16
    int nin
    bint has_default
    double default
    PyObject *default_name
    call_t numpy_call

# The keywords of a call are interned. This string is too, so they can be compared by address.
cdef object OUT = sys.intern("out")
_kept = []                        # objects that C pointers refer to; never freed, like the ufuncs
_made = []                        # all ufuncs
cdef dict _modules = sys.modules
# NumPy's type number of ml_dtypes.bfloat16, or -1 until its loops are registered.
cdef int bfloat16_type = -1
cdef object _registration = threading.RLock()    # held where they are registered


cdef void ufunc_loop(
    char **args, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps, void *data
) noexcept nogil:
    run(<const Kernel *> data, args, dimensions[0], <const Py_ssize_t *> steps)


# ------------------------------------------------------------------- fast path

cdef inline bint same_layout(PyArrayObject *a, PyArrayObject *b) noexcept:
    """Whether b has the same type and shape as a."""
    cdef int i, ndim = PyArray_NDIM(a)
    if PyArray_TYPE(a) != PyArray_TYPE(b) or ndim != PyArray_NDIM(b):
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
    cdef PyObject *name
    cdef Py_ssize_t i
    if kwnames != NULL:
        for i in range(PyTuple_GET_SIZE(kwnames)):
            name = PyTuple_GET_ITEM(kwnames, i)
            if name == <PyObject *> OUT:
                out = args[given + i]
            elif name == op.default_name and given == op.nin - 1:
                last = args[given + i]
            else:
                return general_call(self, args, nargsf, kwnames)
    cdef int arrays = op.nin - op.has_default        # operands that must be arrays
    if given == op.nin + 1 and out == NULL:
        out = args[op.nin]
    elif given > op.nin or given < arrays:
        return general_call(self, args, nargsf, kwnames)
    if op.has_default and given >= op.nin:
        last = args[op.nin - 1]

    cdef PyArrayObject *first = <PyArrayObject *> args[0]
    cdef int order = plain_flags(args[0])
    cdef Kernel *kernel = kernel_for(op, first) if order and PyArray_NDIM(first) else NULL
    if kernel == NULL:
        return general_call(self, args, nargsf, kwnames)
    cdef PyArrayObject *operands[MAX_INPUTS + 1]     # NULL for a number
    cdef char *data[MAX_INPUTS + 1]
    cdef Py_ssize_t steps[MAX_INPUTS + 1]
    cdef double number                               # room for one element of any type
    for i in range(op.nin):
        if i == arrays and (last == NULL or PyFloat_CheckExact(last) or is_small_int(last)):
            store_number(kernel, op.default if last == NULL else PyFloat_AsDouble(<object> last), &number)
            operands[i] = NULL
            data[i] = <char *> &number
            steps[i] = 0
            continue
        operands[i] = <PyArrayObject *> (last if i == arrays else args[i])
        order &= plain_flags(<PyObject *> operands[i])
        if not order or not same_layout(first, operands[i]):
            return general_call(self, args, nargsf, kwnames)
        data[i] = PyArray_BYTES(operands[i])
        steps[i] = kernel.item

    cdef Py_ssize_t n = PyArray_SIZE(first)
    cdef object result
    if out != NULL and out != <PyObject *> None:
        order &= plain_flags(out)
        if not order or not same_layout(first, <PyArrayObject *> out) or not writeable(out):
            return general_call(self, args, nargsf, kwnames)
        result = <object> out
        if not order & CONTIGUOUS:
            operands[op.nin] = <PyArrayObject *> out
            if run_matrices(kernel, operands, data):
                return result
    elif order & CONTIGUOUS:
        result = new_result(first, n * kernel.item, not order & cnp.NPY_ARRAY_C_CONTIGUOUS)
    if not order & CONTIGUOUS:
        return general_call(self, args, nargsf, kwnames)
    cdef char *target = PyArray_BYTES(<PyArrayObject *> result)
    for i in range(op.nin):
        # An input may be the output itself. For any other overlap, NumPy has to make a copy.
        if data[i] != target and data[i] < target + n * kernel.item and target < data[i] + n * kernel.item:
            return general_call(self, args, nargsf, kwnames)
    data[op.nin] = target
    steps[op.nin] = kernel.item
    if n < RELEASE:
        run(kernel, data, n, steps)
    else:
        with nogil:
            run(kernel, data, n, steps)
    return result


cdef inline object new_result(PyArrayObject *like, Py_ssize_t size, bint fortran):
    """A contiguous array of `size` bytes, with the shape and type of `like`."""
    if size < LARGE:
        return PyArray_EMPTY(PyArray_NDIM(like), PyArray_DIMS(like), PyArray_TYPE(like), fortran)
    return large_empty(PyArray_NDIM(like), PyArray_DIMS(like), PyArray_TYPE(like), fortran)


cdef bint run_matrices(Kernel *kernel, PyArrayObject **operands, char **data) noexcept:
    """Run a kernel on matrices in a mix of row-major and column-major order.

    The output is the last of `operands`. For all other operands, and if the output overlaps
    an input, this does nothing and returns False. NumPy then processes the rows one by one,
    or makes a copy.
    """
    cdef Py_ssize_t row_steps[MAX_INPUTS + 1]
    cdef Py_ssize_t column_steps[MAX_INPUTS + 1]
    cdef Py_ssize_t rows, columns, low, high, out_low = 0, out_high = 0
    cdef PyArrayObject *out = operands[kernel.nin]
    cdef int i, lying = 0, standing = 0
    if PyArray_NDIM(out) != 2:
        return False
    rows, columns = PyArray_DIMS(out)[0], PyArray_DIMS(out)[1]
    if rows == 0 or columns == 0:
        return False
    data[kernel.nin] = PyArray_BYTES(out)
    for i in range(kernel.nin, -1, -1):
        if operands[i] == NULL:
            row_steps[i] = column_steps[i] = 0
            continue
        row_steps[i] = PyArray_STRIDES(operands[i])[0]
        column_steps[i] = PyArray_STRIDES(operands[i])[1]
        low = <Py_ssize_t> data[i] + min(0, (rows - 1) * row_steps[i])
        low += min(0, (columns - 1) * column_steps[i])
        high = <Py_ssize_t> data[i] + max(0, (rows - 1) * row_steps[i])
        high += max(0, (columns - 1) * column_steps[i]) + kernel.item
        if i == kernel.nin:
            out_low, out_high = low, high
        elif low < out_high and out_low < high:
            return False
        if by_columns(row_steps[i], column_steps[i]):
            standing += 1
        else:
            lying += 1
    if not lying or not standing:
        return False
    with nogil:
        run_tiles(kernel, data, rows, columns, row_steps, column_steps)
    return True


# ---------------------------------------------------------------- general path

cdef object general_call(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """Call NumPy's implementation, with the default operand filled in."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> self).data
    cdef Py_ssize_t i, given = PyVectorcall_NARGS(nargsf)
    if load(&bfloat16_type) < 0 and "ml_dtypes" in _modules:
        find_bfloat16()
    try:
        return call_filled(self, args, nargsf, kwnames)
    except TypeError as error:
        operands = [<object> args[i] for i in range(min(given, op.nin))]
        if kwnames != NULL and op.has_default:
            for i in range(PyTuple_GET_SIZE(kwnames)):
                if <object> PyTuple_GET_ITEM(kwnames, i) == <object> op.default_name:
                    operands.append(<object> args[given + i])
        refuse_dtypes(self, operands, error)
        raise


cdef object call_filled(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """Call NumPy's implementation; a last operand with a default is passed by position."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> self).data
    if not op.has_default:
        return op.numpy_call(self, args, nargsf, kwnames)
    cdef Py_ssize_t i, given = PyVectorcall_NARGS(nargsf)
    cdef list operands = [<object> args[i] for i in range(given)]
    cdef dict keywords = {}
    if kwnames != NULL:
        for i in range(PyTuple_GET_SIZE(kwnames)):
            keywords[<object> PyTuple_GET_ITEM(kwnames, i)] = <object> args[given + i]
    fill_default(self, op, operands, keywords)

    cdef list values = operands + list(keywords.values())
    cdef tuple names = tuple(keywords)
    cdef PyObject **vector = <PyObject **> PyMem_Malloc((len(values) + 1) * sizeof(PyObject *))
    if vector == NULL:
        raise MemoryError()
    try:
        for i in range(len(values)):
            vector[i] = <PyObject *> values[i]
        return op.numpy_call(self, vector, len(operands), <PyObject *> names if names else NULL)
    finally:
        PyMem_Free(vector)


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
        # NumPy casts a number to its own types only.
        if bfloat16_type >= 0 and np.dtype(keywords.get("dtype")).num == bfloat16_type:
            operands[op.nin - 1] = np.dtype(keywords["dtype"]).type(operands[op.nin - 1])
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


cdef refuse_dtypes(object self, list operands, object error):
    """Raise a TypeError with the dtype of the operand that caused `error`, if there is one."""
    if any(overrides(operand) for operand in operands):
        return                                       # the error is from its __array_ufunc__
    for operand in operands:
        dtype = getattr(operand, "dtype", None)
        if dtype is None:
            dtype = np.asarray(operand).dtype
        if not isinstance(dtype, np.dtype):
            continue
        if (dtype.kind not in "biuf" or dtype.itemsize > 8) and dtype.num != bfloat16_type:
            advice = ". Convert it: x.astype(numpy.float64)" if dtype.kind == "f" else ""
            raise TypeError(
                f"{self.__name__}: an operand has dtype {dtype}; "
                f"wanted float16, float32, float64, or an integer or boolean dtype{advice}"
            ) from error


cdef bint overrides(object operand):
    """Whether an operand overrides the call through `__array_ufunc__`."""
    method = getattr(type(operand), "__array_ufunc__", np.ndarray.__array_ufunc__)
    return method is not np.ndarray.__array_ufunc__


# ---------------------------------------------------------------------- ufuncs

cdef bint find_kernel(dict table, str name, int nin, str kind, Py_ssize_t item, Kernel *kernel):
    """Fill in `kernel` for an operation and a type; return False if the table has none."""
    memset(kernel, 0, sizeof(Kernel))
    kernel.nin = nin
    kernel.item = kernel.block_item = item
    kernel.every_second = <convert_t> loop_or_null(table, f"every_second_{item}")
    kernel.transpose = <transpose_t> loop_or_null(table, f"transpose_{item}")
    kernel.stream = <convert_t> loop_or_null(table, "stream")
    kernel.loop = loop_or_null(table, f"{name}_{kind}")
    if kernel.loop == NULL:
        kernel.load = <convert_t> loop_or_null(table, f"load_{kind}")
        kernel.store = <convert_t> loop_or_null(table, f"store_{kind}")
        if kernel.load == NULL:
            return False
        kind = "f32"
        kernel.block_item = 4
        kernel.loop = loop_or_null(table, f"{name}_narrow")
        if kernel.loop == NULL:
            kernel.loop = loop_or_null(table, f"{name}_f32")
    kernel.shared_loop = loop_or_null(table, f"{name}_shared_{kind}")
    return kernel.loop != NULL


cdef const Kernel *kernel_of(object ufunc, int type_number, int nin) noexcept:
    """The kernel of a ufunc with `nin` inputs for one of NumPy's built-in types.

    NULL if `ufunc` is not a ufunc of this module, or has no such kernel.
    """
    cdef Operation *op
    if type(ufunc) is not np.ufunc or (<PyUFuncObject *> ufunc).vectorcall != fast_call:
        return NULL
    op = <Operation *> (<PyUFuncObject *> ufunc).data
    return op.by_type[type_number] if op.nin == nin else NULL


cdef object make_ufunc(operation, dict table):
    cdef Operation *op = <Operation *> PyMem_Malloc(sizeof(Operation))
    if op == NULL:
        raise MemoryError()
    memset(op, 0, sizeof(Operation))
    if not 1 <= len(operation.operands) <= MAX_INPUTS:
        raise ValueError(f"{operation.name}: {len(operation.operands)} operands, wanted 1 to {MAX_INPUTS}")
    op.nin = len(operation.operands)
    op.has_default = operation.default is not None
    if op.has_default:
        op.default = operation.default
        default_name = sys.intern(operation.operands[-1])
        _kept.append(default_name)
        op.default_name = <PyObject *> default_name
    cdef int count = 0, i
    # NumPy uses the first loop to which the operands can be cast, so the order matters.
    for char in "bBhHiIlLqQefd":
        dtype = np.dtype(char)
        kind = f"{dtype.kind}{8 * dtype.itemsize}"
        if not find_kernel(table, operation.name, op.nin, kind, dtype.itemsize, &op.kernels[count]):
            continue
        op.functions[count] = <cnp.PyUFuncGenericFunction> ufunc_loop
        op.data[count] = &op.kernels[count]
        for i in range(op.nin + 1):
            op.types[count * (op.nin + 1) + i] = <char> dtype.num
        op.by_type[dtype.num] = &op.kernels[count]
        count += 1
    if not count:
        raise LookupError(f"the kernel table has no row for {operation.name}")
    name, doc = operation.name.encode(), operation.doc.encode()
    _kept.extend((name, doc))
    ufunc = PyUFunc_FromFuncAndData(
        op.functions, op.data, op.types, count, op.nin, 1, PyUFunc_None, name, doc, 0)
    if hasattr(ufunc, "__dict__"):                   # from NumPy 2.2 on
        ufunc.__module__ = "fastact"
        ufunc.__signature__ = operation.signature
        ufunc.__doc__ = f"{operation.name}{operation.signature}\n\n{operation.doc}"
    op.numpy_call = (<PyUFuncObject *> ufunc).vectorcall
    (<PyUFuncObject *> ufunc).vectorcall = fast_call
    find_kernel(table, operation.name, op.nin, "bf16", 2, &op.bfloat16)
    with _registration:
        if bfloat16_type >= 0:
            add_bfloat16(ufunc, bfloat16_type)
        _made.append(ufunc)
    return ufunc


cdef int add_bfloat16(object ufunc, int type_number) except -1:
    """Register the bfloat16 loop of a ufunc."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> ufunc).data
    cdef int[MAX_INPUTS + 1] types
    cdef int i
    for i in range(op.nin + 1):
        types[i] = type_number
    return PyUFunc_RegisterLoopForType(
        <PyUFuncObject *> ufunc, type_number, ufunc_loop, types, &op.bfloat16)


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


def kernel_table(isa):
    """The kernel table of the instruction set `isa`, a name in `targets.TARGETS`.

    The processor must support it, because importing the module runs code compiled for it.
    """
    return importlib.import_module(f"fastact._core.kernels._{isa}").TABLE


def make_ufuncs(isa):
    """The ufuncs of `operations.OPERATIONS` by name, using the kernels of one instruction set."""
    table = kernel_table(isa)
    return {operation.name: make_ufunc(operation, table) for operation in OPERATIONS}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_registration)
features = cpu.features({feature for target in targets.TARGETS for feature in target.features})
# Instruction sets that the processor supports and that were built. The package may have been built
# for another kind of processor.
supported = tuple(
    name for name in targets.supported(features)
    if importlib.util.find_spec(f"fastact._core.kernels._{name}"))
isa = targets.choose(supported, os.environ.get("FASTACT_ISA"))
ufuncs = make_ufuncs(isa)
if "ml_dtypes" in _modules:                          # else the first call finds it; methods do not look
    find_bfloat16()
