"""Exact results of one block of operands, and the errors of others measured against them.

`Exact` has them in a wider type of NumPy, and `ExactInMpmath` has those of float64 in mpmath.
Both evaluate the formula in the record of the operation.
"""

import importlib
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command.errors import exact as exact_in_wider_type
from fastact._command.errors import rounded, ulp_error
from fastact._core.operations import Operation

Array = NDArray[Any]
# A product of three doubles is exact.
BITS = 240


class Exact:
    """Exact results of a block, in a wider type.

    Parameters
    ----------
    values : ndarray
    dtype : numpy.dtype
        The type of the results.
    """

    def __init__(self, values: Array, dtype: np.dtype[Any]) -> None:
        self._values = values
        self._rounded = rounded(values, dtype)

    def error(self, result: Array) -> NDArray[np.float64]:
        """Measure the errors in ULP; infinite for a wrong sign, that of a zero included."""
        error = ulp_error(result, self._values)
        wrong = np.signbit(result) != np.signbit(self._values)
        if wrong.any():
            error = np.where(wrong & ~np.isnan(result), np.inf, error)
        return error

    def misrounded(self, result: Array) -> int:
        """Count the results that are not correctly rounded."""
        return int(np.count_nonzero((result != self._rounded) & (result == result)))


class ExactInMpmath:
    """Exact results in float64: rounded numbers, and the remainders.

    A zero of mpmath has no sign, so the signs of zeros are not compared here.
    """

    def __init__(self, operation: Operation, values: dict[str, Any]) -> None:
        info = np.finfo(np.float64)
        functions = mpmath_functions()
        assert functions is not None
        context = functions.context
        operands = (np.atleast_1d(np.asarray(v, np.float64)) for v in values.values())
        wide = [np.array([context.mpf(v) for v in o.tolist()], object) for o in operands]
        rounded, rest, units = [], [], []
        for value in map(context.mpf, operation.exact(functions, *wide)):
            # value = (-1)**sign * number * 2**exponent, and number < 2**width. mpmath rounds
            # and divides its numbers much more slowly than Python its integers.
            sign, number, exponent, width = value._mpf_
            if not number:  # 0, infinity or NaN
                rounded.append(float(value))
                rest.append(0.0)
                units.append(info.minexp - info.nmant)
                continue
            # In ULP, of which each is 2**unit: a whole number, ties to even, and the rest.
            unit = max(exponent + width - 1, info.minexp) - info.nmant
            shift = min(unit - exponent, 4096)  # the exponent of exp(-1e300) has 300 digits
            whole, part = number << max(-shift, 0), 0
            if shift > 0:
                half = 1 << (shift - 1)
                whole = (number + half - 1 + (number >> shift & 1)) >> shift
                part = number - (whole << shift)
            rounded.append(float(-whole if sign else whole))
            rest.append(math.ldexp(-part if sign else part, -shift))
            units.append(min(unit, info.maxexp))
        self._units = np.array(units)
        with np.errstate(over="ignore"):
            self._rounded = np.ldexp(rounded, self._units)
        self._rest = np.array(rest)

    def error(self, result: Array) -> NDArray[np.float64]:
        """Measure the errors in ULP."""
        # Scaled before the subtraction, as a unit may be too small to divide by.
        with np.errstate(all="ignore"):
            error = np.abs(np.ldexp(result - self._rounded, -self._units) - self._rest)
        same = (np.isnan(result) & np.isnan(self._rounded)) | (
            np.isinf(result) & (result == self._rounded)
        )
        return np.where(same, 0, np.where(np.isnan(error), np.inf, error))

    def misrounded(self, result: Array) -> int:
        """Count the results that are not correctly rounded."""
        return int(np.count_nonzero((result != self._rounded) & (result == result)))


class MpmathFunctions:
    """The functions of mpmath over arrays of its numbers, under the names that NumPy gives them.

    This is the `m` of `Operation.exact`. It has `where` and `abs` of NumPy, every function of
    mpmath that has the same name in NumPy. `nextafter` does nothing. NumPy has no `erfc`: a formula
    that uses it needs another for NumPy. `context` has what a formula needs once, such as pi.

    Parameters
    ----------
    context : mpmath.MPContext
    """

    where = staticmethod(np.where)

    @staticmethod
    def abs(x: Array) -> Array:
        """Return the absolute values."""
        return np.abs(x)

    @staticmethod
    def nextafter(x: Array, towards: Any) -> Array:
        """Return x: no number of mpmath is next to another."""
        return x

    def __init__(self, context: Any) -> None:
        self.context = context

    def __getattr__(self, name: str) -> Callable[..., Array]:
        if not hasattr(np, name) and name != "erfc":
            raise AttributeError(f"NumPy has no function {name}: Operation.exact cannot use it")
        function = getattr(self.context, name)

        def call(*arrays: Any) -> Any:
            return np.frompyfunc(function, len(arrays), 1)(*arrays)

        return call


def _make_mpmath_functions() -> MpmathFunctions | None:
    """Make the functions of mpmath with `BITS` bits; None if it is not installed."""
    try:
        mpmath = importlib.import_module("mpmath")  # which has no types
    except ImportError:
        return None
    context = mpmath.MPContext()
    context.prec = BITS
    return MpmathFunctions(context)


_of_thread = threading.local()


def mpmath_functions() -> MpmathFunctions | None:
    """Return the functions of mpmath of this thread; None if it is not installed.

    Several functions of mpmath raise the precision of their context for a moment. With one
    context for all threads, the precision would drift.
    """
    if not hasattr(_of_thread, "functions"):
        _of_thread.functions = _make_mpmath_functions()
    functions: MpmathFunctions | None = _of_thread.functions
    return functions


def exact_results(
    operation: Operation, values: dict[str, Any], dtype: np.dtype[Any]
) -> Exact | ExactInMpmath | None:
    """Compute the exact results of a block; None where nothing is wider."""
    if dtype == np.float64 and mpmath_functions() is not None:
        return ExactInMpmath(operation, values)
    exact = exact_in_wider_type(operation, values, dtype)
    return None if exact is None else Exact(exact, dtype)
