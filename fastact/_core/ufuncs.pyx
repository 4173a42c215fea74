"""The kernel table made into `numpy.ufunc` objects, and the fast call.

Design
------
An operation is a `numpy.ufunc` whose loops are one function, `ufunc_loop`, that hands its
operands to the engine. Its `vectorcall` slot, a member of NumPy's public struct, is ours:
`fast_call` takes the plain case (exact, aligned, contiguous arrays of one type and shape)
straight to the engine, which spares most of the cost of a small call; matrices that lie
by rows and by columns go to its tiles. All else goes on to NumPy's own slot, as if
nothing had been there; on the way `general_call` supplies the default of the last
operand, and words the errors.
"""

import importlib
import importlib.util
import os
import sys

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.string cimport memset

from fastact._core.engine cimport run, store_number
from fastact._core.kernel cimport MAX_INPUTS, Kernel, convert_t, loop_or_null, transpose_t
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
    /* One call of the slot; what Cython makes of an object-returning pointer. */
    typedef PyObject *(*fastact_call)(PyObject *, PyObject *const *, size_t, PyObject *);
    /* Of np.broadcast_arrays: "will be read-only some day". NumPy has no public name. */
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
    TYPES = 24                    # NumPy's type numbers, up to NPY_HALF
    MAX_LOOPS = 16

cdef struct Operation:
    # All that a call needs; its first member is the `data` of the ufunc, so that the
    # ufunc leads back here.
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

# Keywords in a call are interned, and so is this: they compare by address.
cdef object OUT = sys.intern("out")
_kept = []                        # what C pointers point into; ufuncs live as long
_made = []                        # all ufuncs
cdef dict _modules = sys.modules
# NumPy's type number of ml_dtypes.bfloat16, once its loops are registered.
cdef int bfloat16_type = -1


cdef void ufunc_loop(
    char **args, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps, void *data
) noexcept nogil:
    run(<const Kernel *> data, args, dimensions[0], <const Py_ssize_t *> steps)


# ------------------------------------------------------------- the fast call

cdef inline bint same_layout(PyArrayObject *a, PyArrayObject *b) noexcept:
    """Whether b has the type and the shape of a."""
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
    """Flags of an exact, aligned, native array: ALIGNED and those in CONTIGUOUS; else 0."""
    cdef PyArrayObject *array = <PyArrayObject *> operand
    if not PyArray_CheckExact(operand):
        return 0
    cdef int flags = PyArray_FLAGS(array)
    if not flags & cnp.NPY_ARRAY_ALIGNED or not PyArray_ISNOTSWAPPED(array):
        return 0
    return flags & (cnp.NPY_ARRAY_ALIGNED | CONTIGUOUS)


cdef inline bint is_small_int(PyObject *operand) except -1:
    """Whether it is a Python int that a double holds exactly."""
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
    """The kernel for the type of an array, or NULL."""
    cdef int type_number = PyArray_TYPE(array)
    if type_number < TYPES:
        return op.by_type[type_number]
    return &op.bfloat16 if type_number == bfloat16_type else NULL


cdef object fast_call(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """The `vectorcall` slot of every ufunc here."""
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
    cdef int arrays = op.nin - op.has_default        # operands that have to be arrays
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
    cdef PyArrayObject *operands[MAX_INPUTS + 1]     # NULL: a number
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
        # The same array is welcome; one that only overlaps needs NumPy's copy.
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
    """A contiguous array of `size` bytes, with the shape and the type of another."""
    if size < LARGE:
        return PyArray_EMPTY(PyArray_NDIM(like), PyArray_DIMS(like), PyArray_TYPE(like), fortran)
    return large_empty(PyArray_NDIM(like), PyArray_DIMS(like), PyArray_TYPE(like), fortran)


cdef bint run_matrices(Kernel *kernel, PyArrayObject **operands, char **data) noexcept:
    """Runs a kernel on matrices, of which some lie by rows and some by columns.

    The output is the last of `operands`. Returns False, and does nothing, for anything
    else and where the output overlaps an input: NumPy goes row by row, or makes a copy.
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


# ---------------------------------------------------------- the general call

cdef object general_call(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """NumPy's call, with the default operand filled in."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> self).data
    cdef Py_ssize_t i, given = PyVectorcall_NARGS(nargsf)
    if bfloat16_type < 0 and "ml_dtypes" in _modules:
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
    """NumPy's call; the last operand is positional then, if it has a default."""
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
    """Makes the last operand positional, whether left out, named or given."""
    cdef int i
    name = <object> op.default_name
    if name in keywords:
        if len(operands) != op.nin - 1:
            problem = "got two values for" if len(operands) >= op.nin else "wants operands before"
            raise TypeError(f"{self.__name__}() {problem} {name!r}: {len(operands)} operands by position")
        operands.append(keywords.pop(name))
    elif len(operands) == op.nin - 1:
        operands.append(op.default)
    # A number takes the dtype of the arrays: where these are integers, the one np.exp
    # takes. NumPy would make it float64 there, and warn where it is out of range.
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
    # Most slopes are in the range of all types: NumPy will do, unless it is told not to cast.
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
    """A Python number as the fast call takes it: bfloat16 itself rounds twice, and takes no large int."""
    cdef cnp.ndarray rounded = np.empty((), dtype)
    store_number(&op.bfloat16, float(number), cnp.PyArray_DATA(rounded))
    return rounded[()]


cdef refuse_dtypes(object self, list operands, object error):
    """A TypeError that names the dtype of an operand, where that is the reason."""
    if any(overrides(operand) for operand in operands):
        return                                       # and has reasons of its own
    for operand in operands:
        dtype = getattr(operand, "dtype", None)
        if dtype is None:
            dtype = np.asarray(operand).dtype
        if not isinstance(dtype, np.dtype):
            continue
        if (dtype.kind not in "biuf" or dtype.itemsize > 8) and dtype.num != bfloat16_type:
            raise TypeError(
                f"{self.__name__}: an operand has dtype {dtype}; "
                "wanted float16, float32, float64, or an integer or boolean dtype"
            ) from error


cdef bint overrides(object operand):
    """Whether an operand takes the call over, by NumPy's protocol."""
    method = getattr(type(operand), "__array_ufunc__", np.ndarray.__array_ufunc__)
    return method is not np.ndarray.__array_ufunc__


# ------------------------------------------------------- the ufuncs themselves

cdef bint find_kernel(dict table, str name, int nin, str kind, Py_ssize_t item, Kernel *kernel):
    """Fills in `kernel` for an operation and a type; False where the table has none."""
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
    """The kernel of a ufunc with so many operands, for one of NumPy's own types.

    NULL, where the ufunc was not made here, or is none, or has no such kernel.
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
    # In the order in which NumPy looks for a loop that the operands can be cast to.
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
    if bfloat16_type >= 0:
        add_bfloat16(ufunc, bfloat16_type)
    _made.append(ufunc)
    return ufunc


cdef int add_bfloat16(object ufunc, int type_number) except -1:
    """Gives a ufunc its loop for the type number of bfloat16."""
    cdef Operation *op = <Operation *> (<PyUFuncObject *> ufunc).data
    cdef int[MAX_INPUTS + 1] types
    cdef int i
    for i in range(op.nin + 1):
        types[i] = type_number
    return PyUFunc_RegisterLoopForType(
        <PyUFuncObject *> ufunc, type_number, ufunc_loop, types, &op.bfloat16)


cdef int find_bfloat16() except -1:
    """Gives all ufuncs a loop for bfloat16, once ml_dtypes is in use.

    Nobody has a bfloat16 array without ml_dtypes being imported, and NumPy would cast it
    to float32, as ml_dtypes allows.
    """
    global bfloat16_type
    # Not there while it is just being imported; and there are mocks of modules.
    try:
        bfloat16 = _modules["ml_dtypes"].bfloat16
        dtype = np.dtype(bfloat16 if issubclass(bfloat16, np.generic) else None)
    except Exception:
        return 0
    if dtype.isbuiltin == 2 and dtype.name == "bfloat16":    # 2: somebody's own
        number = dtype.num
        for ufunc in _made:
            add_bfloat16(ufunc, number)
        bfloat16_type = number
    return 0


def kernel_table(isa):
    """The kernel table of the instruction set `isa`, a name in `targets.TARGETS`.

    The processor must have it: importing the module runs code compiled for it.
    """
    return importlib.import_module(f"fastact._core.kernels.{isa}").TABLE


def make_ufuncs(isa):
    """The ufuncs of `operations.OPERATIONS`, by name, over one instruction set."""
    table = kernel_table(isa)
    return {operation.name: make_ufunc(operation, table) for operation in OPERATIONS}


features = cpu.features({feature for target in targets.TARGETS for feature in target.features})
# What the processor has, of what was built: the build may have been for another kind.
supported = tuple(
    name for name in targets.supported(features) if importlib.util.find_spec(f"fastact._core.kernels.{name}"))
isa = targets.choose(supported, os.environ.get("FASTACT_ISA"))
ufuncs = make_ufuncs(isa)
