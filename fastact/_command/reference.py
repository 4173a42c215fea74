"""What every operation is held against: exact values, and NumPy's expressions.

Two tables keyed by the name of the operation. `EXACT` has the mathematics, to be
evaluated in a type wider than that of the result; it shares nothing with the kernels.
`NUMPY` has what a careful NumPy user would write. `ulp_error` tells how far a result is
from the exact value.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._core.operations import Operation

Array = NDArray[np.floating[Any]]


# ------------------------------------------------------------------ exact values
#
# NaN takes the last branch.


def _relu(x: Array) -> Array:
    return np.where(x <= 0, 0, x)


def _leaky_relu(x: Array, negative_slope: Array) -> Array:
    return np.where(x > 0, x, negative_slope * x)


def _sigmoid(x: Array) -> Array:
    # exp(-|x|) overflows for no x, and keeps the tail on the left.
    decay: Array = np.exp(-np.abs(x))
    return np.divide(np.where(x < 0, decay, 1), 1 + decay)


def _relu_backward(grad: Array, x: Array) -> Array:
    return np.where(x <= 0, 0, np.where(x > 0, grad, x))


def _leaky_relu_backward(grad: Array, x: Array, negative_slope: Array) -> Array:
    return np.where(x <= 0, negative_slope * grad, np.where(x > 0, grad, x))


def _sigmoid_backward(grad: Array, x: Array) -> Array:
    decay: Array = np.exp(-np.abs(x))
    return np.multiply(grad, decay / (1 + decay) ** 2)


def _sigmoid_backward_from_output(grad: Array, y: Array) -> Array:
    return np.multiply(grad, y * (1 - y))


EXACT: dict[str, Callable[..., Array]] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "sigmoid": _sigmoid,
    "relu_backward": _relu_backward,
    "leaky_relu_backward": _leaky_relu_backward,
    "sigmoid_backward": _sigmoid_backward,
    "sigmoid_backward_from_output": _sigmoid_backward_from_output,
}


# ----------------------------------------------------------- NumPy's expressions
#
# In place wherever that is possible, and without branches: `np.where` and `where=` take
# some 4 ns an element where the signs are random. The mask goes straight into `out` as
# 0 and 1, which was as fast as a mask of its own or faster.


def _numpy_relu(x: Array, out: Array) -> Array:
    np.maximum(x, 0, out=out)
    return out


def _numpy_leaky_relu(x: Array, negative_slope: float, out: Array) -> Array:
    # For slopes from 0 to 1.
    np.multiply(x, negative_slope, out=out)
    np.maximum(x, out, out=out)
    return out


def _numpy_sigmoid(x: Array, out: Array) -> Array:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.reciprocal(out, out=out)
    return out


def _numpy_relu_backward(grad: Array, x: Array, out: Array) -> Array:
    np.greater(x, 0, out=out)
    np.multiply(grad, out, out=out)
    return out


def _numpy_leaky_relu_backward(grad: Array, x: Array, negative_slope: float, out: Array) -> Array:
    # For slopes from 0 to 1.
    np.greater(x, 0, out=out)
    np.maximum(out, negative_slope, out=out)
    np.multiply(grad, out, out=out)
    return out


def _numpy_sigmoid_backward(grad: Array, x: Array, out: Array) -> Array:
    _numpy_sigmoid(x, out)
    np.multiply(out, 1 - out, out=out)
    np.multiply(grad, out, out=out)
    return out


def _numpy_sigmoid_backward_from_output(grad: Array, y: Array, out: Array) -> Array:
    np.subtract(1, y, out=out)
    np.multiply(y, out, out=out)
    np.multiply(grad, out, out=out)
    return out


NUMPY: dict[str, Callable[..., Array]] = {
    "relu": _numpy_relu,
    "leaky_relu": _numpy_leaky_relu,
    "sigmoid": _numpy_sigmoid,
    "relu_backward": _numpy_relu_backward,
    "leaky_relu_backward": _numpy_leaky_relu_backward,
    "sigmoid_backward": _numpy_sigmoid_backward,
    "sigmoid_backward_from_output": _numpy_sigmoid_backward_from_output,
}


# ------------------------------------------------------------------------ inputs


def sample(dtype: np.dtype[Any], count: int) -> Array:
    """Make about `count` finite inputs, always the same ones.

    Half of them are evenly spaced in their bit patterns, so that they are of every
    magnitude; of a type of 16 bits, all there are if `count` allows. A quarter is
    uniform where sigmoid is neither 0 nor 1 throughout, and a quarter normal with
    standard deviation 4.
    """
    bits = 8 * dtype.itemsize
    patterns = min(count // 2, 1 << bits)
    # An odd step, or the low bits would be the same in all of them.
    step = (1 << bits) // patterns | 1
    spaced = (np.arange(patterns, dtype=np.uint64) * np.uint64(step)).astype(f"u{dtype.itemsize}")
    edge = -np.log(float(float_info(dtype).smallest_subnormal))
    random = np.random.default_rng(0)
    values = [
        spaced.view(dtype),
        random.uniform(-edge, edge, count // 4).astype(dtype),
        random.normal(0, 4, count // 4).astype(dtype),
    ]
    return np.concatenate([v[np.isfinite(v)] for v in values])


def operands(operation: Operation, x: Array) -> dict[str, Any]:
    """Make the operands of an operation, by name, from values of its input.

    Parameters
    ----------
    operation : Operation
    x : ndarray
        The input of the activation.

    Returns
    -------
    dict
        In the order of the call: `grad` is standard normal, `y` the exact sigmoid of `x`,
        rounded, and `negative_slope` the default.
    """

    def make(name: str) -> Any:
        match name:
            case "x":
                return x
            case "y":
                return EXACT["sigmoid"](x.astype(np.longdouble)).astype(x.dtype)
            case "grad":
                return np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
            case _:
                return operation.default

    with np.errstate(all="ignore"):
        return {name: make(name) for name in operation.operands}


# ------------------------------------------------------------------------ errors


def wider(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Find a type with at least 11 more bits than `dtype`; None if NumPy has none here."""
    if dtype.itemsize < 8:
        return np.dtype(np.float64)
    # 64 bits on x86; on Windows and macOS it often is but another name of float64.
    extended = np.dtype(np.longdouble)
    return extended if np.finfo(extended).nmant >= 63 else None


def exact(operation: str, values: dict[str, Any], dtype: np.dtype[Any]) -> Array | None:
    """Compute the exact result for operands of type `dtype` in a wider type, if there is one."""
    wide = wider(dtype)
    if wide is None:
        return None
    with np.errstate(all="ignore"):
        # A slope given as a Python float is first rounded to the type, as in the call.
        return EXACT[operation](*(np.asarray(v, dtype).astype(wide) for v in values.values()))


def ulp_error(result: Array, exact: Array) -> NDArray[np.float64]:
    """Measure how far every result is from the exact value, in units in the last place.

    The unit is the spacing of the numbers of the type of `result` in the binade of the
    exact value; below the smallest normal number, and for 0, the smallest subnormal.

    Parameters
    ----------
    result : ndarray
        Of a floating-point type.
    exact : ndarray
        Of the same shape and a wider type.

    Returns
    -------
    ndarray of float64
        0 also where both are NaN, or infinite alike; an exact value that rounds to infinity
        counts as such. Infinite where only one of them is.
    """
    result, exact = np.asarray(result), np.asarray(exact)
    with np.errstate(all="ignore"):
        distance = np.abs(result.astype(exact.dtype) - exact)
        error = (distance * _per_ulp(exact, result.dtype)).astype(np.float64)
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
    per_ulp = _per_ulp(exact, dtype)
    return (np.rint(exact * per_ulp) / per_ulp).astype(dtype)


def _per_ulp(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Compute 1 / ULP, a power of two, for a result of type `dtype`."""
    info = float_info(dtype)
    if exact.dtype != np.float64:
        # |exact| = m * 2**exponent with 1/2 <= m < 1, but for 0.
        exponent = np.frexp(exact)[1] - 1
        exponent = np.where(exact == 0, info.minexp, np.maximum(exponent, info.minexp))
        power: Array = np.ldexp(exact.dtype.type(1), info.nmant - exponent)
        return power
    # The same in integers, five times as fast: the field of the exponent has a bias of 1023.
    field = exact.view(np.uint64) & (0x7FF << 52)
    field = np.maximum(field, (1023 + info.minexp) << 52)
    power = (((2 * 1023 + info.nmant) << 52) - field).view(np.float64)
    return power


def float_info(dtype: np.dtype[Any]) -> Any:
    """Find what `np.finfo` tells, which does not know the bfloat16 of ml_dtypes."""
    if dtype.kind == "f":
        return np.finfo(dtype)
    from ml_dtypes import finfo

    make: Callable[[Any], Any] = finfo
    return make(dtype)
