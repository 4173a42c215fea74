"""Checks and conversions of the operands of layers and losses."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def with_shape(operand: ArrayLike) -> Any:
    """Return an array of any library unchanged; convert other objects to a NumPy array."""
    return operand if hasattr(operand, "shape") else np.asarray(operand)


def real_array(who: object, operand: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert an operand to a contiguous array of a floating-point dtype.

    Raises
    ------
    TypeError
        If the operand is complex, object, string, structured or masked.
    """
    refuse_masked(who, operand)
    array = np.asarray(operand)
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise TypeError(f"{who!r}: an operand has dtype {array.dtype}, wanted {dtype}")
    array = np.require(array, dtype, ["C", "ALIGNED"])
    # Two of C's types may be the same, such as long and long long. NumPy keeps the one it is given.
    return array if array.dtype.num == dtype.num else array.view(dtype)


def shown(value: Any) -> str:
    """Return the repr for an error message; Python limits that of an int to 4,300 digits."""
    try:
        return repr(value)
    except ValueError:
        return f"a very large {type(value).__name__}"


def refuse_masked(who: object, operand: Any) -> None:
    """Raise a TypeError for a masked array, whose mask would be ignored."""
    if isinstance(operand, np.ma.MaskedArray):
        raise TypeError(
            f"{who!r} takes no masked array: masked elements would count as any other; "
            "give it an array without a mask, such as x.filled(0)"
        )


def float_dtype(who: object, x: Any) -> np.dtype[Any]:
    """Return the dtype of ``numpy.exp(x)``.

    Raises
    ------
    TypeError
        If it is not float16, float32 or float64.
    """
    error = None
    try:
        dtype: np.dtype[Any] = np.exp.resolve_dtypes((x.dtype, None))[1]
    except TypeError as caught:
        dtype, error = x.dtype, caught
    if error or dtype.itemsize > 8 or not np.can_cast(dtype, np.float64, "same_kind"):
        raise TypeError(
            f"{who!r}: an operand has dtype {x.dtype}; "
            "wanted float16, float32, float64, or an integer or boolean dtype"
        ) from error
    return dtype


def wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype to compute in: float32 for narrower dtypes, else `dtype` itself."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise the error that a ufunc would raise if `out` cannot hold the result."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, not {type(out).__name__}")
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError("out must be an array without a mask, not a MaskedArray")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, the result {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if not np.can_cast(dtype, out.dtype, "same_kind"):
        raise TypeError(f"out has dtype {out.dtype}, the result {dtype}")


def delivered(result: Any, out: NDArray[Any] | None) -> Any:
    """Return the result, copied to `out` if given."""
    if out is None or result is None or result is out:
        return result
    np.copyto(out, result, casting="same_kind")
    return out
