"""The ufuncs in functions compiled by numba, which finds this module by itself.

numba calls `init` when it first compiles or loads a function, through the entry point group
`numba_extensions`. Compiled code calls one function, `run_arrays` of `_functions.pyx`, by the name
of a symbol that `init` defines, and names an operation by its position in the table of the
compiled API. It holds no address, so numba can keep it in its cache: a new process looks the symbol
up again.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, typeof
from numba.core import cgutils, errors, types
from numba.core.typing.templates import infer_global
from numba.extending import intrinsic, overload
from numba.np import numpy_support

from fastact._core.operations import OPERATIONS
from fastact._core.ufuncs import ufuncs
from fastact.cy import _functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastact._core.operations import Operation

SYMBOL = "fastact_run_arrays_1"
_kept: list[Any] = []  # numba's types refer to functions weakly

# A function in place of a ufunc, what it calls, and how numba finds an implementation of that. The
# indirection has a reason: numba would take the ufunc itself apart into calls on single elements.
_CALL = "def {name}({signature}): return key({operands}, out)"
_KEY = "def key({signature}): ..."
_TYPED = "def typed({signature}): return implement(operation, ({operands},), out)"
_NUMBERS = """\
def implementation({signature}):
    return run(({converted},), None)
"""
_ARRAYS = """\
def implementation({signature}):
{conversions}
    shape = {shape}
    result = empty(shape{reverse}, dtype){transpose}
    run(({converted},), result)
    return result
"""
_INTO = """\
def implementation({signature}):
{conversions}
    if {shape} != out.shape:
        raise ValueError("{name}: out must have the shape of the operands, broadcast together")
"""
_OUT = (
    _INTO
    + """\
    if run(({converted},), out):  # an operand overlaps it
        run(({copied},), out)
    return out
"""
)
# Into an `out` of another dtype, or an unaligned one.
_CAST_OUT = (
    _INTO
    + """\
    result = empty(out.shape, dtype)
    run(({converted},), result)
    out[...] = result
    return out
"""
)


def init() -> None:
    """Make the ufuncs known to numba."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    binding.add_symbol(SYMBOL, get(_functions.RUN_ARRAYS, SYMBOL.encode()))
    for operation in OPERATIONS:
        key = _compiled(operation, _KEY, "key")
        overload(key)(
            _compiled(operation, _TYPED, "typed", implement=_implement, operation=operation)
        )
        call = njit(_compiled(operation, _CALL, operation.name, key=key))
        infer_global(ufuncs[operation.name], typeof(call))
        _kept.append(call)


def _compiled(
    operation: Operation, template: str, function: str, /, code: Any = (), **names: Any
) -> Any:
    """Return a function with the operands of an operation, made of a template."""
    parameters = [*operation.operands, "out=None"]
    if operation.parameter:
        parameters[-2] += f"={operation.default}"
    values = {
        "name": operation.name,
        "signature": ", ".join(parameters),
        "operands": ", ".join(operation.operands),
        **dict(code),
    }
    exec(template.format(**values), names)
    return names[function]


def _implement(operation: Operation, operands: Sequence[Any], out: Any) -> Any:
    """Return the function that numba compiles for operands of these types."""
    operands = [_plain(operand) for operand in operands]
    out = None if isinstance(_plain(out), types.NoneType) else _plain(out)
    dtype = _result_type(operation, operands, out)
    element = numpy_support.from_dtype(dtype)
    values: dict[str, str] = {}
    arrays = {
        name: array
        for name, array in zip(operation.operands, operands, strict=True)
        if isinstance(array, types.Array)
    }
    conversions, converted = ["    pass"], []
    for name in operation.operands:
        array = arrays.get(name)
        if array is None or (array.dtype == element and array.aligned):
            converted.append(name)
        elif array.ndim == 0:
            converted.append(f"{name}[()]")
        else:
            converted.append(f"{name}_converted")
            conversions.append(f"    {name}_converted = {name}.astype(dtype)")
    values["conversions"], values["converted"] = "\n".join(conversions), ", ".join(converted)
    values["copied"] = ", ".join(
        f"{name}.copy()" if name.partition("_converted")[0] in arrays else name
        for name in converted
    )
    ranks = {f"{name}.shape": array.ndim for name, array in arrays.items() if array.ndim}
    if out is not None:
        ranks["out.shape"] = out.ndim
    values["shape"] = _broadcast(ranks)
    ndim = max((array.ndim for array in arrays.values()), default=0)
    if out is not None:
        template = _OUT if out.dtype == element and out.aligned else _CAST_OUT
    elif ndim == 0:
        template = _NUMBERS
    else:
        template = _ARRAYS
        # The order of the result is known to the compiler: it goes by types.
        columns = ndim > 1 and all(a.layout == "F" for a in arrays.values() if a.ndim == ndim)
        values["reverse"], values["transpose"] = ("[::-1]", ".T") if columns else ("", "")
    return _compiled(
        operation,
        template,
        "implementation",
        values,
        run=_runner(_functions.POSITIONS[operation.name], dtype, element),
        dtype=dtype.type,
        empty=np.empty,
        broadcast_shapes=np.broadcast_shapes,
    )


def _broadcast(ranks: dict[str, int]) -> str:
    """Return an expression for the common shape of the shapes given by expressions."""
    shapes = list(ranks)
    if len(shapes) < 2:
        return "".join(shapes)
    general = f"broadcast_shapes({', '.join(shapes)})"
    if len(set(ranks.values())) > 1:
        return general
    # Equal shapes are the rule, and broadcast_shapes takes long.
    equal = " and ".join(f"{shape} == {shapes[0]}" for shape in shapes[1:])
    return f"({shapes[0]} if {equal} else {general})"


def _plain(operand: Any) -> Any:
    """Return the type of an operand, which numba gives as a value if it is a default."""
    if isinstance(operand, types.Omitted):
        operand = operand.value
    if operand is None:
        return types.none
    if isinstance(operand, float):
        return types.float64
    if isinstance(operand, types.Optional):
        return operand
    return types.unliteral(operand)


def _result_type(operation: Operation, operands: Sequence[Any], out: Any) -> np.dtype[Any]:
    """Return the dtype that NumPy chooses.

    numba does not tell numbers of Python from those of NumPy. Next to an array, and as a parameter,
    they count as numbers of Python, which take the dtype of the arrays.
    """
    some_array = any(isinstance(operand, types.Array) and operand.ndim for operand in operands)
    dtypes: list[Any] = []
    for name, operand in zip(operation.operands, operands, strict=True):
        number = isinstance(operand, (types.Float, types.Integer, types.Boolean))
        if not number and not isinstance(operand, types.Array):
            raise _refused(operation, operands)
        if number and name == operation.parameter:
            dtypes.append(_dtype_of_parameter(operation, operands, dtypes))
        elif number and some_array and operand in (types.float64, types.int64):
            dtypes.append(float if operand == types.float64 else int)
        else:
            try:
                dtypes.append(numpy_support.as_dtype(getattr(operand, "dtype", operand)))
            except errors.NumbaNotImplementedError:
                raise _refused(operation, operands) from None
    try:
        dtype: np.dtype[Any] = ufuncs[operation.name].resolve_dtypes((*dtypes, None))[-1]
    except TypeError:
        raise _refused(operation, operands) from None
    if dtype.kind == "f" and dtype.itemsize == 2:
        raise _refused(operation, operands)
    if out is not None and not _takes(out, dtype):
        raise errors.TypingError(
            f"fastact.{operation.name}: out is {out}; wanted a writeable array of {dtype}, or of a "
            "dtype to which it can be cast by the rule same_kind, float16 excepted"
        )
    return dtype


def _takes(out: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a result of this dtype may be written to `out`: by NumPy's rules, and by numba's."""
    if not (isinstance(out, types.Array) and out.mutable):
        return False
    if out.dtype == types.float16:
        return False
    try:
        return np.can_cast(dtype, numpy_support.as_dtype(out.dtype), "same_kind")
    except errors.NumbaNotImplementedError:
        return False


def _dtype_of_parameter(
    operation: Operation, operands: Sequence[Any], others: Sequence[Any]
) -> np.dtype[Any]:
    """Return the dtype to which the ufuncs round a number given as the parameter."""
    try:
        dtype = np.result_type(*(0.0 if d is float else 0 if d is int else d for d in others))
        return dtype if dtype.kind == "f" else np.exp.resolve_dtypes((dtype, None))[1]
    except TypeError:
        raise _refused(operation, operands) from None


def _refused(operation: Operation, operands: Sequence[Any]) -> Exception:
    given = ", ".join(map(str, operands))
    error: Exception = errors.TypingError(
        f"fastact.{operation.name} got ({given}); in code compiled by numba it takes numbers and "
        "arrays, of types that give a float32 or float64 result"
    )
    return error


def _runner(position: int, dtype: np.dtype[Any], element: Any) -> Any:
    """Return ``run(operands, out)``, which calls `run_arrays`.

    `operands` is a tuple of aligned arrays of `dtype` and of numbers. `out` is an array, or None to
    get a number. With an array, `run` returns whether it did nothing because an operand overlaps
    it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size, address = context.get_value_type(types.intp), cgutils.voidptr_t
        inputs, out = signature.args
        ndim = getattr(out, "ndim", 0)
        shape = cgutils.alloca_once(builder, ir.ArrayType(size, max(ndim, 1)))
        strides = cgutils.alloca_once(builder, ir.ArrayType(size, max(ndim, 1) * (len(inputs) + 1)))
        addresses = cgutils.alloca_once(builder, ir.ArrayType(address, len(inputs) + 1))

        def put(array: Any, index: int, value: Any) -> None:
            builder.store(value, cgutils.gep_inbounds(builder, array, 0, index))

        def put_array(k: int, kind: Any, value: Any) -> Any:
            array = context.make_array(kind)(context, builder, value)
            put(addresses, k, builder.bitcast(array.data, address))
            lengths = cgutils.unpack_tuple(builder, array.shape, kind.ndim)
            steps = cgutils.unpack_tuple(builder, array.strides, kind.ndim)
            missing = ndim - kind.ndim
            for dim in range(ndim):
                step = ir.Constant(size, 0)
                if dim >= missing:
                    one = builder.icmp_signed("==", lengths[dim - missing], ir.Constant(size, 1))
                    step = builder.select(one, step, steps[dim - missing])
                put(strides, k * ndim + dim, step)
            return lengths

        for k, kind in enumerate(inputs):
            value = builder.extract_value(arguments[0], k)
            if isinstance(kind, types.Array):
                put_array(k, kind, value)
                continue
            number = cgutils.alloca_once(builder, context.get_value_type(element))
            builder.store(context.cast(builder, value, kind, element), number)
            put(addresses, k, builder.bitcast(number, address))
            for dim in range(ndim):
                put(strides, k * ndim + dim, ir.Constant(size, 0))
        if ndim:
            for dim, length in enumerate(put_array(len(inputs), out, arguments[1])):
                put(shape, dim, length)
        elif isinstance(out, types.Array):
            put_array(len(inputs), out, arguments[1])
        else:
            result = cgutils.alloca_once(builder, context.get_value_type(element))
            put(addresses, len(inputs), builder.bitcast(result, address))

        integer = ir.IntType(32)
        parameters = [integer, integer, integer, size.as_pointer(), address.as_pointer()]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(integer, [*parameters, size.as_pointer()]), SYMBOL
        )
        numbers = [ir.Constant(integer, value) for value in (position, dtype.num, ndim)]
        pointers = [cgutils.gep_inbounds(builder, array, 0, 0) for array in (shape, addresses)]
        first = cgutils.gep_inbounds(builder, strides, 0, 0)
        status = builder.call(function, [*numbers, *pointers, first])
        unknown = builder.icmp_signed("==", status, ir.Constant(integer, _functions.NO_OPERATION))
        with cgutils.if_unlikely(builder, unknown):
            message = (
                "this function was compiled with a later fastact than the installed one: install "
                "that one, or delete the cache of numba"
            )
            context.call_conv.return_user_exc(builder, ImportError, (message,))
        if isinstance(out, types.Array):
            return builder.icmp_signed("!=", status, ir.Constant(integer, 0))
        return builder.load(result)

    def run(typing_context: Any, operands: Any, out: Any) -> Any:
        result = types.boolean if isinstance(out, types.Array) else element
        return result(operands, out), generate

    return intrinsic(run)
