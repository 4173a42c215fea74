"""How far results are from exact values, in units in the last place (ULP).

The benchmarks of asv load this module by its path, so it imports nothing of fastact.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastact._core.operations import Operation, RowOperation

Array = NDArray[np.floating[Any]]


def wider(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Find a type with at least 11 more bits than `dtype`; None if NumPy has none here."""
    if dtype.itemsize < 8:
        return np.dtype(np.float64)
    # It has 64 bits on x86. On Windows and macOS it is often another name of float64.
    extended = np.dtype(np.longdouble)
    return extended if np.finfo(extended).nmant >= 63 else None


def exact(
    operation: "Operation | RowOperation", values: dict[str, Any], dtype: np.dtype[Any]
) -> Array | None:
    """Compute the exact result for operands of type `dtype` in a wider type, if there is one."""
    wide = wider(dtype)
    if wide is None:
        return None
    with np.errstate(all="ignore"):
        # A parameter given as a Python float is first rounded to the type, as in the call.
        operands = (np.asarray(value, dtype).astype(wide) for value in values.values())
        result: Array = operation.exact(np, *operands)
    return result


def unit_of(
    operation: "Operation | RowOperation",
    values: dict[str, Any],
    dtype: np.dtype[Any],
    result: Array,
) -> Array | None:
    """Compute what the errors are in ULP of, given exact results; None for the results themselves.

    Signs of results that are as small as their error are not compared, nor those of zeros.
    """
    of_rows = operation.core is not None
    if operation.subtracted is None or not (of_rows or dtype.itemsize > 2):
        return abs(result) if of_rows else None
    with np.errstate(all="ignore"):
        operands = (np.asarray(v, dtype).astype(result.dtype) for v in values.values())
        unit: Array = np.maximum(abs(result), abs(operation.subtracted(np, *operands)))
    return unit


def ulp_error(result: Array, exact: Array, size: Array | None = None) -> NDArray[np.float64]:
    """Measure how far every result is from the exact value, in ULP.

    The unit is the spacing of the numbers of the type of `result` in the binade of the exact
    value, or of `size`. Below the smallest normal number, and for 0, it is the smallest subnormal.
    `exact` has a wider type. The error is 0 also where both are NaN, or both are the same
    infinity. An exact value that rounds to infinity counts as infinite. The error is infinite
    where only one is.
    """
    result, exact = np.asarray(result), np.asarray(exact)
    with np.errstate(all="ignore"):
        distance = np.abs(result.astype(exact.dtype) - exact)
        unit = per_ulp(exact if size is None else size, result.dtype)
        error = (distance * unit).astype(np.float64)
        special = ~np.isfinite(error)
        if special.any():
            nearest = rounded(exact, result.dtype)
            same = (np.isinf(result) & (result == nearest)) | (np.isnan(result) & np.isnan(exact))
            error = np.where(same, 0, np.where(special, np.inf, error))
    return error


def rounded(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Round exact values to the nearest of `dtype`, ties to even."""
    if dtype.kind == "f":
        return exact.astype(dtype)
    # The casts of ml_dtypes go by way of float32, and round twice.
    scale = per_ulp(exact, dtype)
    return (np.rint(exact * scale) / scale).astype(dtype)


def per_ulp(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Compute 1 / ULP, a power of two, for a result of type `dtype`."""
    info = float_info(dtype)
    if exact.dtype != np.float64:
        # |exact| = m * 2**exponent with 1/2 <= m < 1, except for 0.
        exponent = np.frexp(exact)[1] - 1
        exponent = np.where(exact == 0, info.minexp, np.maximum(exponent, info.minexp))
        power: Array = np.ldexp(exact.dtype.type(1), info.nmant - exponent)
        return power
    # The same in integers, five times as fast. The exponent field has a bias of 1023.
    field = exact.view(np.uint64) & (0x7FF << 52)
    field = np.maximum(field, (1023 + info.minexp) << 52)
    power = (((2 * 1023 + info.nmant) << 52) - field).view(np.float64)
    return power


def float_info(dtype: np.dtype[Any]) -> Any:
    """Call `np.finfo`, or its counterpart in ml_dtypes for bfloat16."""
    if dtype.kind == "f":
        return np.finfo(dtype)
    from ml_dtypes import finfo

    make: Callable[[Any], Any] = finfo
    return make(dtype)
