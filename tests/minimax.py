"""The coefficients of the polynomials in `fastact/activations/*.pxd`.

``python tests/minimax.py`` prints them, and the error of each polynomial. It computes those whose
description, or the method, has changed since they were written into `fits.json`, and writes them
there.
"""

import functools
import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mpmath
import numpy as np

RECORD = Path(__file__).with_name("fits.json")
GRID = 401
DIGITS = 60


@dataclass(frozen=True)
class Fit:
    """A polynomial P for which base(x) + factor(x) * P(variable(x)) approximates target(x).

    Attributes
    ----------
    target, base, factor, variable, weight : callable
        Functions of a number of mpmath. What is minimised is the greatest error over `weight`.
    low, high : callable
        The interval of x, computed when mpmath has enough digits.
    degree : int
    number : type
        The coefficients are rounded to it.
    """

    target: Callable
    base: Callable
    factor: Callable
    variable: Callable
    weight: Callable
    low: Callable
    high: Callable
    degree: int
    number: type

    @property
    def size(self):
        """How many coefficients there are."""
        return self.degree + 1

    def error(self, coefficients, x):
        """Error of the approximation at x, relative to `weight`."""
        # Not mpmath.polyval, whose order of coefficients changes with mpmath 1.4.
        v = self.variable(x)
        value = self.base(x) + self.factor(x) * sum(c * v**i for i, c in enumerate(coefficients))
        return (value - self.target(x)) / self.weight(x)


@dataclass(frozen=True)
class Quotient(Fit):
    """A quotient P / Q in place of P: the coefficients of P, then those of Q. Its highest is 1.

    Attributes
    ----------
    below : int
        The degree of Q.
    """

    below: int

    @property
    def size(self):
        """How many coefficients there are."""
        return self.degree + 1 + self.below

    def error(self, coefficients, x):
        """Error of the approximation at x, relative to `weight`."""
        above, below = coefficients[: self.degree + 1], [*coefficients[self.degree + 1 :], 1]
        v = self.variable(x)
        quotient = sum(c * v**i for i, c in enumerate(above))
        quotient /= sum(c * v**i for i, c in enumerate(below))
        value = self.base(x) + self.factor(x) * quotient
        return (value - self.target(x)) / self.weight(x)


def _exponential(degree, number):
    """exp(-r) = 1 - r + r**2 P(r), relative to exp(-r)."""
    return Fit(
        target=lambda r: mpmath.exp(-r),
        base=lambda r: 1 - r,
        factor=lambda r: r**2,
        variable=lambda r: r,
        weight=lambda r: mpmath.exp(-r),
        # A little more than |r| <= ln 2 / 2, for the rounding of the quotient.
        low=lambda: -mpmath.mpf("1.0001") * mpmath.log(2) / 2,
        high=lambda: mpmath.mpf("1.0001") * mpmath.log(2) / 2,
        degree=degree,
        number=number,
    )


def _expm1(degree, number):
    """(exp(-2 r) - 1) / 2 = -r + r**2 P(r), relative to itself, for |r| <= ln 2 / 4."""
    return Fit(
        target=lambda r: mpmath.expm1(-2 * r) / 2,
        base=lambda r: -r,
        factor=lambda r: r**2,
        variable=lambda r: r,
        weight=lambda r: abs(r),
        low=lambda: -mpmath.mpf("1.0001") * mpmath.log(2) / 4,
        high=lambda: mpmath.mpf("1.0001") * mpmath.log(2) / 4,
        degree=degree,
        number=number,
    )


def _half_tanh(degree, number):
    """2 tanh(t / 2) = t + t**3 P(t**2) for |t| <= ln 2 / 2, relative to itself."""
    return Fit(
        target=lambda t: 2 * mpmath.tanh(t / 2),
        base=lambda t: t,
        factor=lambda t: t**3,
        variable=lambda t: t**2,
        weight=lambda t: 2 * mpmath.tanh(t / 2),
        # An odd function: positive t will do. At 0 the error is 0 whatever P is.
        low=lambda: mpmath.log(2) / 2000,
        high=lambda: mpmath.mpf("1.0001") * mpmath.log(2) / 2,
        degree=degree,
        number=number,
    )


def _logarithm(degree, number):
    """log(1 + d) = d + d**2 P(d) for -1/4 <= d <= 1/2, relative to d."""
    return Fit(
        target=mpmath.log1p,
        base=lambda d: d,
        factor=lambda d: d**2,
        variable=lambda d: d,
        weight=lambda d: abs(d),
        low=lambda: mpmath.mpf("-0.2501"),
        high=lambda: mpmath.mpf("0.5001"),
        degree=degree,
        number=number,
    )


def _time(w):
    """The t for which w is (t - 4) / (t + 4)."""
    return 4 * (1 + w) / (1 - w)


def _mills(t):
    """exp(t**2 / 2) times the probability that a normal variable is above t."""
    return mpmath.exp(t**2 / 2) * mpmath.erfc(t / mpmath.sqrt(2)) / 2


def _upper_tail(w):
    """(t + 4) mills(t)."""
    return (_time(w) + 4) * _mills(_time(w))


def _in_time(function, highest, degree, number):
    """function(w) = P(w) for w = (t - 4) / (t + 4), 0 <= t <= highest, relative to itself."""
    return Fit(
        target=function,
        base=lambda w: mpmath.mpf(0),
        factor=lambda w: mpmath.mpf(1),
        variable=lambda w: w,
        weight=function,
        low=lambda: mpmath.mpf(-1),
        high=lambda: mpmath.mpf(highest - 4) / (highest + 4),
        degree=degree,
        number=number,
    )


@functools.cache
def gelu_zero():
    """The t > 0 for which the derivative of gelu is 0 at -t."""
    with mpmath.workdps(2 * DIGITS):
        return mpmath.findroot(lambda t: _gelu_slope(t), mpmath.mpf("0.7517915"))


def _gelu_slope(t):
    """exp(t**2 / 2) gelu'(-t)."""
    return _mills(t) - t / mpmath.sqrt(2 * mpmath.pi)


def _gelu_quotient(w):
    """_gelu_slope(t) / (zero - t); at the zero itself, its limit."""
    t, zero = _time(w), gelu_zero()
    if abs(t - zero) < mpmath.mpf(10) ** (-DIGITS // 2):
        return 2 / mpmath.sqrt(2 * mpmath.pi) - zero * _mills(zero)
    return _gelu_slope(t) / (zero - t)


def _decay(rate, first, degree):
    """2**-32 exp(-r) = 2**-32 (1 - r + ...) + x**first P(x), relative to itself.

    r = `rate` * x, and |r| <= ln 2 / 2. The exponential series has `first` terms.
    """

    def decay(x):
        return mpmath.exp(-rate() * x) / 2**32

    return Fit(
        target=decay,
        base=lambda x: sum(((-rate() * x) ** i for i in range(first)), mpmath.mpf(0)) / 2**32,
        factor=lambda x: x**first,
        variable=lambda x: x,
        weight=decay,
        # A little more, for the rounding of the quotient.
        low=lambda: -mpmath.mpf("1.0001") * mpmath.log(2) / 2 / rate(),
        high=lambda: mpmath.mpf("1.0001") * mpmath.log(2) / 2 / rate(),
        degree=degree,
        number=np.float32,
    )


# The float formula of gelu divides the first, nearly 1 / sqrt(2 pi), by the sum of t, the second,
# and a quotient.
GELU_ABOVE = float.fromhex("0x1.98853ap-2")
GELU_SHIFT = 0.734375


def _warped(t):
    """(t - 4) / (t + 4)."""
    return (t - 4) / (t + 4)


def _gelu_float(function, base, highest, sign, degree=4):
    """function(t) = base(t) + P(t) / Q(t) for 0 <= t <= highest, relative to itself.

    In float, ln 2 is rounded, so that 2**k exp(-r) is not exp(-t**2 / 2), but, except for 2**-28, a
    smooth multiple of it. `function` is divided by this multiple if `sign` is -1, and multiplied by
    it if it is 1.
    """

    @functools.cache
    def target(w):
        t = _time(w)
        excess = mpmath.mpf(float(np.float32(2 * np.log(2)))) / (2 * mpmath.log(2)) - 1
        return function(t) * mpmath.exp(sign * t**2 / 2 * excess)

    return Quotient(
        target=target,
        base=lambda w: base(_time(w)),
        factor=lambda w: mpmath.mpf(1),
        variable=_time,
        weight=target,
        low=lambda: mpmath.mpf(-1),
        high=lambda: _warped(mpmath.mpf(highest)),
        degree=degree,
        number=np.float32,
        below=4,
    )


FITS = {
    "exponential float32": _exponential(4, np.float32),
    "exponential float64": _exponential(9, np.float64),
    # For float16 and bfloat16, computed in float32.
    "exponential narrow": _exponential(3, np.float32),
    # For results in float32 and narrower types, computed in float64.
    "exponential to float": _exponential(5, np.float64),
    "half tanh float32": _half_tanh(2, np.float32),
    "half tanh float64": _half_tanh(5, np.float64),
    "tanh float32": _expm1(4, np.float32),
    "logarithm float32": _logarithm(8, np.float32),
    "logarithm float64": _logarithm(19, np.float64),
    # Those of float32 are computed in float64.
    "gelu float64": _in_time(_upper_tail, 39, 24, np.float64),
    "gelu gradient float32": _in_time(_gelu_quotient, 21, 10, np.float64),
    "gelu gradient float64": _in_time(_gelu_quotient, 55, 22, np.float64),
    # The quotients that are computed in float32.
    "gelu quotient float32": _gelu_float(
        lambda t: GELU_ABOVE / _mills(t), lambda t: t + mpmath.mpf(GELU_SHIFT), "14.85", 1
    ),
    "gelu gradient quotient float32": _gelu_float(
        lambda t: 2 * _gelu_quotient(_warped(t)), lambda t: mpmath.mpf(1), "19.9", -1
    ),
    "gelu narrow": _gelu_float(_mills, lambda t: mpmath.mpf(0), "14.85", -1, 3),
    "gelu narrow exponential": _decay(lambda: mpmath.mpf(1) / 2, 0, 5),
    "gelu_tanh exponential": _decay(lambda: mpmath.log(2), 2, 4),
    "gelu_tanh narrow exponential": _decay(lambda: mpmath.log(2), 0, 5),
}


def levelled(fit, points):
    """P whose error has one size and alternating signs at `points`.

    Parameters
    ----------
    fit : Fit
    points : list of mpf
        degree + 2 of them, ascending.

    Returns
    -------
    list of mpf
        The coefficients, lowest first.
    """
    n = fit.degree + 2
    matrix, right = mpmath.matrix(n, n), mpmath.matrix(n, 1)
    for i, x in enumerate(points):
        factor, variable = fit.factor(x), fit.variable(x)
        for j in range(fit.degree + 1):
            matrix[i, j] = factor * variable**j
        matrix[i, fit.degree + 1] = (-1) ** i * fit.weight(x)
        right[i] = fit.target(x) - fit.base(x)
    return list(mpmath.lu_solve(matrix, right))[:-1]


def summit(fit, coefficients, left, right):
    """Where between `left` and `right` the error is greatest, by trisection."""
    for _ in range(90):
        third = (right - left) / 3
        a, b = left + third, right - third
        if abs(fit.error(coefficients, a)) < abs(fit.error(coefficients, b)):
            left = a
        else:
            right = b
    return (left + right) / 2


def summits(fit, coefficients, nodes, count):
    """The greatest error of each sign in turn; one sign change of the error parts two.

    Parameters
    ----------
    fit : Fit
    coefficients : list of mpf
    nodes : callable
        ``nodes(t)`` carries t in [-1, 1] to the interval of the fit.
    count : int
        How many summits there should be; ValueError if there are not.

    Returns
    -------
    list of mpf
        Ascending; the ends of the interval are summits too.
    """
    # An odd number of steps leaves the middle out, where the error may be 0 whatever P is.
    grid = [nodes(-mpmath.cos(mpmath.pi * i / GRID)) for i in range(GRID + 1)]
    errors = [fit.error(coefficients, x) for x in grid]
    runs = [[0]]
    for i in range(1, GRID + 1):
        if errors[i] * errors[runs[-1][-1]] < 0:
            runs.append([i])
        else:
            runs[-1].append(i)
    if len(runs) != count:
        raise ValueError(f"{len(runs)} summits of the error, wanted {count}")
    found = []
    for run in runs:
        best = max(run, key=lambda i: abs(errors[i]))
        around = max(best - 1, 0), min(best + 1, GRID)
        found.append(summit(fit, coefficients, *(grid[i] for i in around)))
    return found


@functools.cache
def minimax(fit):
    """P of least greatest error, by Remez's exchange.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    coefficients : list of mpf
        Lowest first.
    error : mpf
        The greatest error relative to the weight.
    """
    with mpmath.workdps(DIGITS):
        low, high = fit.low(), fit.high()

        def nodes(t):
            return (low + high) / 2 + (high - low) / 2 * t

        n = fit.degree + 2
        points = [nodes(-mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n))) for i in range(n)]
        for _ in range(50):
            coefficients = levelled(fit, points)
            before, points = points, summits(fit, coefficients, nodes, n)
            moved = max(abs(a - b) for a, b in zip(before, points, strict=True))
            # The error is level at its summits: the coefficients are as exact as this squared.
            if moved < (high - low) * mpmath.mpf(10) ** -14:
                break
        return coefficients, max(abs(fit.error(coefficients, x)) for x in points)


def levelled_quotient(fit, points, below):
    """Like `levelled`, of a quotient: `below` are the values of Q at the points, or nearly."""
    n = fit.degree + fit.below + 2
    matrix, right = mpmath.matrix(n, n), mpmath.matrix(n, 1)
    for i, x in enumerate(points):
        factor, variable, rest = fit.factor(x), fit.variable(x), fit.base(x) - fit.target(x)
        for j in range(fit.degree + 1):
            matrix[i, j] = factor * variable**j
        for j in range(fit.below):
            matrix[i, fit.degree + 1 + j] = rest * variable**j
        matrix[i, n - 1] = (-1) ** i * fit.weight(x) * below[i]
        right[i] = -rest * variable**fit.below
    return list(mpmath.lu_solve(matrix, right))[:-1]


@functools.cache
def minimax_quotient(fit):
    """Like `minimax`, of a quotient.

    The error times Q is linear in all coefficients, if the Q of this product is the last step's.
    """
    with mpmath.workdps(DIGITS):
        low, high = fit.low(), fit.high()

        def nodes(t):
            return (low + high) / 2 + (high - low) / 2 * t

        n = fit.degree + fit.below + 2
        points = [nodes(-mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n))) for i in range(n)]
        below = [fit.variable(x) ** fit.below + 1 for x in points]
        for _ in range(50):
            for _ in range(20):
                coefficients = levelled_quotient(fit, points, below)
                q = [*coefficients[fit.degree + 1 :], 1]
                below = [sum(c * fit.variable(x) ** i for i, c in enumerate(q)) for x in points]
            before, points = points, summits(fit, coefficients, nodes, n)
            below = [sum(c * fit.variable(x) ** i for i, c in enumerate(q)) for x in points]
            moved = max(abs(a - b) for a, b in zip(before, points, strict=True))
            if moved < (high - low) * mpmath.mpf(10) ** -14:
                break
        return coefficients, max(abs(fit.error(coefficients, x)) for x in points)


def best(fit):
    """The coefficients of a polynomial or a quotient, and its greatest error."""
    return (minimax_quotient if isinstance(fit, Quotient) else minimax)(fit)


def rounded(fit, exact):
    """The coefficients as numbers of the type that is computed in, and what that leaves of each."""
    with mpmath.workdps(DIGITS):
        near = [fit.number(mpmath.nstr(c, 30)) for c in exact]
        return near, [float(c - mpmath.mpf(float(n))) for c, n in zip(exact, near, strict=True)]


def digest(fit):
    """What a fit depends on: what it approximates, its degree, and the method."""
    with mpmath.workdps(DIGITS):
        low, high = fit.low(), fit.high()
        said = [fit.degree, fit.number.__name__, GRID, DIGITS]
        # At points without a meaning, but for both ends.
        for share in 0, 0.11, 0.37, 0.71, 0.93, 1:
            x = low + (high - low) * share
            parts = (fit.target, fit.base, fit.factor, fit.variable, fit.weight)
            said += [mpmath.nstr(value, 30) for value in (x, *(part(x) for part in parts))]
    said += [inspect.getsource(part) for part in (Fit.error, levelled, summit, summits, minimax)]
    if isinstance(fit, Quotient):
        parts = Quotient.error, levelled_quotient, minimax_quotient
        said += [fit.below, *map(inspect.getsource, parts)]
    return hashlib.sha256("\n".join(map(str, said)).encode()).hexdigest()[:16]


def record():
    """The exact coefficients by name of the fit, lowest first, with the digest of the fit."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def exact_coefficients(recorded):
    """The recorded coefficients as numbers of mpmath."""
    with mpmath.workdps(DIGITS):
        return [mpmath.mpf(c) for c in recorded["coefficients"]]


def error_bits(fit, exact):
    """How exact an approximation is in bits, and how level its error is at the summits.

    Returns
    -------
    bits : float
    level : float
        The least summit of the error over the greatest: 1 for the best of all polynomials, whose
        error has degree + 2 summits of alternating signs (Chebyshev). 0 if there are fewer.
    """
    with mpmath.workdps(DIGITS // 2):
        low, high = fit.low(), fit.high()
        steps = 12 * (fit.size + 1) + 1
        nodes = (-mpmath.cos(mpmath.pi * i / steps) for i in range(steps + 1))
        errors = [fit.error(exact, (low + high) / 2 + (high - low) / 2 * t) for t in nodes]
        tops = errors[:1]
        for error in errors[1:]:
            if error * tops[-1] < 0:
                tops.append(error)
            elif abs(error) > abs(tops[-1]):
                tops[-1] = error
        tops = [abs(top) for top in tops]
        level = min(tops) / max(tops) if len(tops) == fit.size + 1 else 0
        return float(-mpmath.log(max(tops), 2)), float(level)


def main():
    """Compute what has changed, print all, and write it."""
    known = record() if RECORD.exists() else {}
    for name, fit in FITS.items():
        found = known.get(name, {})
        if found.get("digest") != digest(fit):
            exact, _ = best(fit)
            found = {"digest": digest(fit), "coefficients": [mpmath.nstr(c, 40) for c in exact]}
            known[name] = found
            text = json.dumps({n: known[n] for n in FITS if n in known}, indent=1)
            RECORD.write_text(f"{text}\n", encoding="utf-8")
        exact = exact_coefficients(found)
        print(f"{name}: degree {fit.degree}, error 2**-{error_bits(fit, exact)[0]:.2f}", flush=True)
        for i, coefficient in enumerate(rounded(fit, exact)[0]):
            print(f"    {i % (fit.degree + 1)}: {float(coefficient)!r}")


if __name__ == "__main__":
    main()
