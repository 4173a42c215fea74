"""Exact results of one block of operands, and the errors of others measured against them.

`Exact` has them in a wider type of NumPy, and `ExactInMpfr` has those of float64 in numbers of
MPFR, by gmpy2. Both evaluate the formula in the record of the operation.
"""

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command.errors import exact as exact_in_wider_type
from fastact._command.errors import rounded, ulp_error, unit_of
from fastact._core.operations import Operation, RowOperation

try:
    gmpy2: Any = importlib.import_module("gmpy2")  # which has no types
except ImportError:
    gmpy2 = None

Array = NDArray[Any]
# Of a number of MPFR: a product of three doubles is exact.
BITS = 200


class _Rounded:
    """What results should be."""

    _rounded: Array

    def misrounded(self, result: Array) -> int:
        """Count the results that are not correctly rounded."""
        return int(np.count_nonzero((result != self._rounded) & (result == result)))


class Exact(_Rounded):
    """Exact results of a block, in a wider type, for results of type `dtype`.

    If there is a `size`, the errors are in ULP of that, and signs are compared only where a result
    of the other sign would be wrong by more than 4 of these.
    """

    def __init__(self, values: Array, dtype: np.dtype[Any], size: Array | None = None) -> None:
        self._values, self._size = values, size
        self._rounded = rounded(values, dtype)

    def error(self, result: Array) -> NDArray[np.float64]:
        """Measure the errors in ULP; infinite for a wrong sign, that of a zero included."""
        error = ulp_error(result, self._values, self._size)
        wrong = np.signbit(result) != np.signbit(self._values)
        if self._size is not None:
            wrong &= ulp_error(np.zeros_like(result), self._values, self._size) > 4
        if wrong.any():
            error = np.where(wrong & ~np.isnan(result), np.inf, error)
        return error


class ExactInMpfr(_Rounded):
    """Exact results in float64: rounded numbers, and the remainders.

    The signs of zeros are not compared here.
    """

    def __init__(self, operation: Operation, values: dict[str, Any]) -> None:
        info = np.finfo(np.float64)
        operands = (np.atleast_1d(np.asarray(v, np.float64)) for v in values.values())
        rounded, exponents, rest, units = [], [], [], []
        # The context is the thread's own.
        with gmpy2.context(precision=BITS):
            wide = [np.array([gmpy2.mpfr(v) for v in o.tolist()], object) for o in operands]
            results = [gmpy2.mpfr(value) for value in operation.exact(MpfrFunctions(), *wide)]
            sizes = results
            if operation.subtracted is not None:
                terms = operation.subtracted(MpfrFunctions(), *wide)
                sizes = [max(abs(a), abs(b)) for a, b in zip(results, terms, strict=True)]
        for value, size in zip(results, sizes, strict=True):
            # value = (-1)**sign * number * 2**exponent, and number < 2**width. Whole numbers are
            # rounded and divided faster than those of MPFR.
            number, exponent = value.as_mantissa_exp() if gmpy2.is_finite(value) else (0, 0)
            if not number:  # 0, infinity or NaN
                rounded.append(float(value))
                exponents.append(0)
                rest.append(0.0)
                units.append(info.minexp - info.nmant)
                continue
            sign, number, exponent = number < 0, abs(int(number)), int(exponent)
            width = number.bit_length()
            # In ULP, of which each is 2**unit: a whole number, ties to even, and the rest.
            unit = max(exponent + width - 1, info.minexp) - info.nmant
            shift = min(unit - exponent, 4096)  # the exponent of exp(-1e6) has 7 digits
            whole, part = number << max(-shift, 0), 0
            if shift > 0:
                half = 1 << (shift - 1)
                whole = (number + half - 1 + (number >> shift & 1)) >> shift
                part = number - (whole << shift)
            # The errors are in ULP of `size`.
            top = (
                max(int(gmpy2.get_exp(size)) - 1, info.minexp) - info.nmant
                if gmpy2.is_finite(size)
                else unit
            )
            rounded.append(float(-whole if sign else whole))
            exponents.append(min(unit, info.maxexp))
            rest.append(math.ldexp(-part if sign else part, unit - shift - top))
            units.append(min(top, info.maxexp))
        self._units, powers = np.array(units), np.array(exponents)
        with np.errstate(over="ignore"):
            self._rounded = np.ldexp(rounded, powers)
        # What is only just infinite when rounded is less than 1 1/2 ULP above the largest number.
        just = (np.abs(rounded) == 2.0 ** (info.nmant + 1)) & np.isinf(self._rounded)
        just &= powers == info.maxexp - info.nmant - 1
        self._near = np.where(just, np.copysign(info.max, rounded), self._rounded)
        self._just = np.where(just, np.ldexp(np.sign(rounded), powers - self._units), 0)
        self._rest = np.array(rest)

    def error(self, result: Array) -> NDArray[np.float64]:
        """Measure the errors in ULP."""
        # Scaled before the subtraction, as a unit may be too small to divide by.
        with np.errstate(all="ignore"):
            error = np.abs(np.ldexp(result - self._near, -self._units) - (self._rest + self._just))
        same = (np.isnan(result) & np.isnan(self._rounded)) | (
            np.isinf(result) & (result == self._rounded)
        )
        return np.where(same, 0, np.where(np.isnan(error), np.inf, error))


class MpfrFunctions:
    """The functions of gmpy2 over arrays of its numbers, under the names that NumPy gives them.

    This is the `m` of `Operation.exact`. It has `where` and `abs` of NumPy, every function of
    gmpy2 that has the same name in NumPy, and `pi`. `nextafter` does nothing. NumPy has no `erfc`:
    a formula that uses it needs another for NumPy. `number` makes a constant of its digits.
    """

    where = staticmethod(np.where)

    @staticmethod
    def abs(x: Array) -> Array:
        """Return the absolute values."""
        return np.abs(x)

    @staticmethod
    def nextafter(x: Array, towards: Any) -> Array:
        """Return x: there are numbers of MPFR between those of NumPy."""
        return x

    @property
    def pi(self) -> Any:
        """The number of MPFR."""
        return gmpy2.const_pi()

    @staticmethod
    def number(digits: str) -> Any:
        """Make a number of MPFR."""
        return gmpy2.mpfr(digits)

    def __getattr__(self, name: str) -> Callable[..., Array]:
        if not hasattr(np, name) and name != "erfc":
            raise AttributeError(f"NumPy has no function {name}: Operation.exact cannot use it")
        function = getattr(gmpy2, name)

        def call(*arrays: Any) -> Any:
            return np.frompyfunc(function, len(arrays), 1)(*arrays)

        return call


def exact_results(
    operation: Operation | RowOperation, values: dict[str, Any], dtype: np.dtype[Any]
) -> Exact | ExactInMpfr | None:
    """Compute the exact results of a block; None where nothing is wider."""
    if dtype == np.float64 and gmpy2 is not None and isinstance(operation, Operation):
        return ExactInMpfr(operation, values)
    exact = exact_in_wider_type(operation, values, dtype)
    return None if exact is None else Exact(exact, dtype, unit_of(operation, values, dtype, exact))
