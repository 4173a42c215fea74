"""What the calls of the ufuncs say where NumPy's own error does not name what is wanted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def refuse(
    ufunc: np.ufunc,
    has_default: bool,
    bfloat16_type: int,
    operands: Sequence[Any],
    given: Sequence[Any],
    keywords: Mapping[str, Any],
    error: TypeError,
) -> None:
    """Raise an error that says what is wrong with a call that NumPy refused, if it is known.

    Parameters
    ----------
    ufunc : numpy.ufunc
    has_default : bool
        Whether the last operand has a default.
    bfloat16_type : int
        NumPy's number of the type; -1 if there is none.
    operands : sequence
        The operands that were given, by position or by name.
    given : sequence
        All arguments by position.
    keywords : mapping
        All arguments by name.
    error : TypeError
        The error of NumPy.
    """
    if any(overrides(operand) for operand in operands):
        return  # it is the error of an __array_ufunc__
    name, on_rows = ufunc.__name__, ufunc.signature is not None
    for i, operand in enumerate(operands):
        if has_default and i == ufunc.nin - 1 and type(operand) is int:
            float(operand)  # an OverflowError, or else the number is not the cause
            continue
        dtype = getattr(operand, "dtype", None)
        if dtype is None:
            dtype = np.asarray(operand).dtype
        if not isinstance(dtype, np.dtype):
            continue
        if (dtype.kind not in "biuf" or dtype.itemsize > 8) and dtype.num != bfloat16_type:
            advice = ". Convert it: x.astype(numpy.float64)" if dtype.kind == "f" else ""
            raise TypeError(
                f"{name}: an operand has dtype {dtype}; "
                f"wanted float16, float32, float64, or an integer or boolean dtype{advice}"
            ) from error
    advice = "; an axis is given by name, as in axis=-1" if on_rows else ""
    if len(given) > ufunc.nin + 1:
        raise TypeError(f"{error}{advice}") from error
    out = given[ufunc.nin] if len(given) > ufunc.nin else keywords.get("out")
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    if not (out is None or isinstance(out, (np.ndarray, tuple)) or overrides(out)):
        raise TypeError(
            f"{name}: out is of type {type(out).__name__}; wanted an array{advice}"
        ) from error
    axis = keywords.get("axis", -1)
    if on_rows and (isinstance(axis, bool) or not hasattr(axis, "__index__")):
        raise TypeError(
            f"{name}: axis is of type {type(axis).__name__}; wanted an integer"
        ) from error


def overrides(operand: Any) -> bool:
    """Whether an operand overrides the call through `__array_ufunc__`."""
    method = getattr(type(operand), "__array_ufunc__", np.ndarray.__array_ufunc__)
    return method is not np.ndarray.__array_ufunc__
