"""`numpy.ufunc` objects made from the kernel table.

Design
------
An operation is a `numpy.ufunc` whose loops are all the same function, `ufunc_loop` of the engine, or
`rows_loop` for operations on rows, which are generalized ufuncs. The `data` pointer of each loop is its
kernel.
"""

import importlib
import importlib.util
import os
import sys

cimport numpy as cnp
from cpython.mem cimport PyMem_Malloc
from cpython.object cimport PyObject
from libc.string cimport memset

from fastact._core.calls.bfloat16 cimport add_ufunc
from fastact._core.calls.fast cimport fast_call
from fastact._core.calls.ufunc_data cimport PyUFuncObject, UfuncData, data_of
from fastact._core.driver.blocks cimport BLOCK, LARGER_BLOCK
from fastact._core.driver.engine cimport ufunc_loop
from fastact._core.driver.kernel cimport (
    MAX_INPUTS, Kernel, columns_t, convert_t, loop_or_null, rows_t, transpose_t,
)
from fastact._core.driver.rows cimport rows_loop

import numpy as np

from fastact._core import cpu, targets
from fastact._core.operations import OPERATIONS, ROW_OPERATIONS

cnp.import_array()
cnp.import_ufunc()

cdef extern from "numpy/ufuncobject.h":
    object PyUFunc_FromFuncAndDataAndSignature(
        cnp.PyUFuncGenericFunction *functions, void **data, char *types, int ntypes,
        int nin, int nout, int identity, const char *name, const char *doc, int unused,
        const char *signature)
    const int PyUFunc_None

_kept = []                        # objects that C pointers refer to; never freed, like the ufuncs


cdef bint find_kernel(dict table, str name, int nin, str kind, Py_ssize_t item, Kernel *kernel):
    """Fill in `kernel` for an operation and a type; return False if the table has none."""
    memset(kernel, 0, sizeof(Kernel))
    kernel.nin = nin
    kernel.item = kernel.block_item = item
    kernel.every_second = <convert_t> loop_or_null(table, f"every_second_{item}")
    kernel.transpose = <transpose_t> loop_or_null(table, f"transpose_{item}")
    kernel.stream = <convert_t> loop_or_null(table, "stream")
    kernel.loop = loop_or_null(table, f"{name}_{kind}")
    kernel.rows = <rows_t> loop_or_null(table, f"{name}_rows_{kind}")
    if kernel.loop == NULL and kernel.rows == NULL:
        kernel.load = <convert_t> loop_or_null(table, f"load_{kind}")
        kernel.store = <convert_t> loop_or_null(table, f"store_{kind}")
        if kernel.load == NULL:
            return False
        kind = "f32"
        kernel.block_item = 4
        kernel.loop = loop_or_null(table, f"{name}_narrow")
        if kernel.loop == NULL:
            kernel.loop = loop_or_null(table, f"{name}_f32")
        kernel.rows = <rows_t> loop_or_null(table, f"{name}_rows_f32")
    kernel.columns = <columns_t> loop_or_null(table, f"{name}_columns_{kind}")
    kernel.shared_loop = loop_or_null(table, f"{name}_shared_{kind}")
    kernel.fit = (LARGER_BLOCK if nin == 1 else BLOCK) // kernel.block_item
    return kernel.loop != NULL or kernel.rows != NULL


cdef const Kernel *kernel_of(object ufunc, int type_number, int nin) noexcept:
    """The kernel of an elementwise ufunc with `nin` inputs for one of NumPy's built-in types.

    NULL if `ufunc` is not a ufunc of this module, or has no such kernel.
    """
    cdef UfuncData *data
    if type(ufunc) is not np.ufunc or (<PyUFuncObject *> ufunc).vectorcall != fast_call:
        return NULL
    data = data_of(ufunc)
    return data.by_type[type_number] if data.nin == nin and not data.on_rows else NULL


cdef object make_ufunc(operation, dict table):
    cdef UfuncData *data = <UfuncData *> PyMem_Malloc(sizeof(UfuncData))
    if data == NULL:
        raise MemoryError()
    memset(data, 0, sizeof(UfuncData))
    if not 1 <= len(operation.operands) <= MAX_INPUTS:
        raise ValueError(f"{operation.name}: {len(operation.operands)} operands, wanted 1 to {MAX_INPUTS}")
    data.nin = len(operation.operands)
    data.on_rows = operation.core is not None
    data.loop = <cnp.PyUFuncGenericFunction> (rows_loop if data.on_rows else ufunc_loop)
    data.has_default = operation.default is not None
    if data.has_default:
        data.default = operation.default
        default_name = sys.intern(operation.operands[-1])
        _kept.append(default_name)
        data.default_name = <PyObject *> default_name
    cdef int count = 0, i
    # NumPy uses the first loop to which the operands can be cast, so the order matters.
    for char in "bBhHiIlLqQefd":
        dtype = np.dtype(char)
        kind = f"{dtype.kind}{8 * dtype.itemsize}"
        if not find_kernel(table, operation.name, data.nin, kind, dtype.itemsize, &data.kernels[count]):
            continue
        data.functions[count] = data.loop
        data.data[count] = &data.kernels[count]
        for i in range(data.nin + 1):
            data.types[count * (data.nin + 1) + i] = <char> dtype.num
        data.by_type[dtype.num] = &data.kernels[count]
        count += 1
    if not count:
        raise LookupError(f"the kernel table has no row for {operation.name}")
    name, doc = operation.name.encode(), operation.doc.encode()
    core = operation.core.encode() if data.on_rows else None
    _kept.extend((name, doc, core))
    ufunc = PyUFunc_FromFuncAndDataAndSignature(
        data.functions, data.data, data.types, count, data.nin, 1, PyUFunc_None, name, doc, 0,
        <const char *> core if data.on_rows else NULL)
    for char in "?bBhHiIlLqQ" if data.nin == 1 and not data.on_rows else "":
        dtype = np.dtype(char)
        if data.by_type[dtype.num] == NULL:
            data.cast_to[dtype.num] = ufunc.resolve_dtypes((dtype, None))[1].num
    if hasattr(ufunc, "__dict__"):                   # from NumPy 2.2 on
        ufunc.__module__ = "fastact"
        ufunc.__signature__ = operation.signature
        ufunc.__doc__ = f"{operation.name}{operation.signature}\n\n{operation.doc}"
    data.numpy_call = (<PyUFuncObject *> ufunc).vectorcall
    (<PyUFuncObject *> ufunc).vectorcall = fast_call
    find_kernel(table, operation.name, data.nin, "bf16", 2, &data.bfloat16)
    add_ufunc(ufunc)
    return ufunc


def kernel_table(isa):
    """The kernel table of the instruction set `isa`, a name in `targets.TARGETS`.

    The processor must support it, because importing the module runs code compiled for it.
    """
    return importlib.import_module(f"fastact._core.kernels._{isa}").TABLE


def make_ufuncs(isa):
    """The ufuncs of `operations.OPERATIONS` by name, using the kernels of one instruction set."""
    table = kernel_table(isa)
    return {operation.name: make_ufunc(operation, table) for operation in OPERATIONS}


def make_row_ufuncs(isa):
    """The generalized ufuncs of `operations.ROW_OPERATIONS` by name."""
    table = kernel_table(isa)
    return {operation.name: make_ufunc(operation, table) for operation in ROW_OPERATIONS}


features = cpu.features({feature for target in targets.TARGETS for feature in target.features})
# Instruction sets that the processor supports and that were built. The package may have been built
# for another kind of processor.
supported = tuple(
    name for name in targets.supported(features)
    if importlib.util.find_spec(f"fastact._core.kernels._{name}"))
isa = targets.choose(supported, os.environ.get("FASTACT_ISA"))
ufuncs = make_ufuncs(isa)
row_ufuncs = make_row_ufuncs(isa)
