"""THE reference table of the tests: what every ufunc should compute, and how exactly.

One row per operation. A test goes over the rows, so a new row is tested by existing.
Nothing here comes from fastact: narrow types are computed in float64, whose error is
below 2**-28 ULP of float32, and float64 in mpmath with 240 bits, where every product of
two or three doubles is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import ml_dtypes
import mpmath
import numpy as np

INF, NAN = np.inf, np.nan
FLOATS = ("bfloat16", "float16", "float32", "float64")
INTEGERS = tuple("bBhHiIlLqQ")
EXACT_CONTEXT = mpmath.MPContext()
EXACT_CONTEXT.prec = 240


@dataclass(frozen=True, eq=False)
class Row:
    """What is expected of one ufunc.

    Attributes
    ----------
    name : str
    operands : tuple of str
        Names, and the keys of `DOMAINS`.
    exact : callable
        ``exact(exp, *operands)`` in a type of higher precision.
    bounds : dict of str to float
        Greatest error in ULP, by dtype.
    special : tuple of tuple of float
        Operands, and then the result; the sign of a zero counts.
    integers : bool
        Whether integer dtypes are kept.
    """

    name: str
    operands: tuple[str, ...]
    exact: Callable
    bounds: dict[str, float]
    special: tuple[tuple[float, ...], ...]
    integers: bool = False

    @property
    def dtypes(self):
        return FLOATS + (INTEGERS if self.integers else ())


def _sigmoid(exp, x):
    return 1 / (1 + exp(-x))


def _bounds(narrow, *ulp):
    return dict(zip(FLOATS, (narrow, narrow, *ulp), strict=True))


GRADS = (3.0, -3.0, 0.0, -0.0, INF, -INF, NAN)
FINITE_GRADS = (3.0, -3.0, 0.0, -0.0)
# All of these are numbers of float16 too.
SLOPES = (0.125, -2.0, 0.0, 1.5)
ZEROS = (0.0, -0.0)

ROWS = (
    Row(
        "relu",
        ("x",),
        lambda exp, x: x if x > 0 else x * 0,
        _bounds(0, 0, 0),
        ((NAN, NAN), (INF, INF), (-INF, 0.0), (0.0, 0.0), (-0.0, 0.0)),
        integers=True,
    ),
    Row(
        "leaky_relu",
        ("x", "slope"),
        lambda exp, x, slope: x if x > 0 else slope * x,
        _bounds(0.5, 0.5, 0.5),
        (
            *((NAN, s, NAN) for s in SLOPES),
            *((INF, s, INF) for s in (*SLOPES, NAN, INF, -INF)),
            *((x, s, s * x) for s in SLOPES for x in (-INF, 0.0, -0.0)),
            # A slope of NaN or infinity follows IEEE arithmetic.
            (1.0, NAN, 1.0),
            (-1.0, NAN, NAN),
            (0.0, INF, NAN),
            (-0.0, -INF, NAN),
            (-1.0, INF, -INF),
            (-1.0, -INF, INF),
        ),
    ),
    Row(
        "sigmoid",
        ("x",),
        _sigmoid,
        _bounds(0.5, 1.0, 1.0),
        ((NAN, NAN), (INF, 1.0), (-INF, 0.0), (0.0, 0.5), (-0.0, 0.5)),
    ),
    Row(
        "relu_backward",
        ("grad", "x"),
        lambda exp, grad, x: grad if x > 0 else x * 0,
        _bounds(0, 0, 0),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, x, g) for g in GRADS for x in (INF, 1.0)),
            *((g, x, 0.0) for g in GRADS for x in (-INF, -1.0, *ZEROS)),
        ),
    ),
    Row(
        "leaky_relu_backward",
        ("grad", "x", "slope"),
        lambda exp, grad, x, slope: grad if x > 0 else slope * grad,
        _bounds(0.5, 0.5, 0.5),
        (
            *((g, NAN, s, NAN) for g in GRADS for s in SLOPES),
            *((g, x, s, g) for g in GRADS for s in (*SLOPES, NAN, INF) for x in (INF, 1.0)),
            *((g, x, s, s * g) for g in GRADS for s in (*SLOPES, NAN, INF) for x in (-INF, *ZEROS)),
        ),
    ),
    Row(
        "sigmoid_backward",
        ("grad", "x"),
        lambda exp, grad, x: grad * _sigmoid(exp, x) * _sigmoid(exp, -x),
        _bounds(1.0, 1.5, 1.5),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, x, g * 0.0) for g in GRADS for x in (INF, -INF)),
            *((g, x, g / 4) for g in GRADS for x in ZEROS),
            *((g, x, g) for g in (INF, -INF, NAN) for x in (1.0, -1.0, 16.0, -16.0)),
        ),
    ),
    Row(
        "sigmoid_backward_from_output",
        ("grad", "y"),
        lambda exp, grad, y: grad * y * (1 - y),
        _bounds(1.0, 1.5, 1.5),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, y, g * 0.0) for g in GRADS for y in (0.0, 1.0)),
            *((g, 0.5, g / 4) for g in GRADS),
        ),
    ),
)
BY_NAME = {row.name: row for row in ROWS}


# -------------------------------------------------------------------- inputs


def bit_type(dtype):
    """The unsigned integer dtype as wide as `dtype`."""
    return np.dtype(f"u{np.dtype(dtype).itemsize}")


def bits(array):
    """The bits of an array's elements, in C order."""
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return native.view(bit_type(native.dtype))


def finfo(dtype):
    """np.finfo, which does not know bfloat16."""
    return (np if np.dtype(dtype).kind == "f" else ml_dtypes).finfo(dtype)


def is_nan(array):
    """np.isnan, silent: that of ml_dtypes raises a flag for a signalling NaN."""
    with np.errstate(invalid="ignore"):
        return np.isnan(array)


def is_finite(array):
    """np.isfinite, silent in the same way."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(array)


def edges(dtype):
    """Finite values where formulas change: ends of the type, and of the exponential."""
    info = finfo(dtype)
    # From here on exp underflows: half of the smallest subnormal, and the smallest normal.
    tails = [-np.log(float(info.smallest_normal)) + extra for extra in (0, 16.6, 17.3, 37)]
    steps = np.log(2) * np.array([0.5, 1, 1.5, 24.5, 53.5])
    positive = np.concatenate(
        [
            [0, 1, 2, 4, 0.5, info.eps, info.epsneg, info.eps / 8],
            [info.max, info.smallest_normal, info.smallest_subnormal],
            tails,
            steps,
        ]
    ).astype(dtype)
    around = [
        positive,
        np.nextafter(positive, dtype.type(0)),
        np.nextafter(positive, dtype.type(1)),
    ]
    values = np.concatenate(around)
    return np.concatenate([values, -values])


def special_values(dtype):
    """NaN quiet and signalling with either sign, infinities, zeros, and ends of the type."""
    info = finfo(dtype)
    ends = [
        0.0,
        1.0,
        20.0,
        200.0,
        info.max,
        info.smallest_normal,
        info.smallest_subnormal,
        INF,
        NAN,
    ]
    with np.errstate(over="ignore"):
        values = np.array(ends).astype(dtype)
    signalling = (bits(values[-2:-1]) | 1).view(dtype)
    values = np.concatenate([values, signalling])
    sign = bit_type(dtype).type(1 << (8 * dtype.itemsize - 1))
    return np.concatenate([values, (bits(values) | sign).view(dtype)])


def _any(dtype, rng, n):
    """Ordinary, huge, tiny and subnormal numbers, and edges that will meet each other."""
    info = finfo(dtype)
    top, bottom = info.maxexp, info.minexp
    # Beyond x = `tail` a sigmoid is 0, and with a huge gradient its derivative is not.
    tail = (1 + info.nmant - bottom) * np.log(2)
    ordinary = [rng.normal(0, 4, n), *(rng.uniform(-w, w, n) for w in (tail, 2.2 * tail))]
    scales = [(top // 2, top), (bottom, top), (bottom, bottom // 2)]
    scaled = [np.ldexp(rng.uniform(-1, 1, n), rng.integers(*scale, n)) for scale in scales]
    numbers = np.concatenate([*ordinary, *scaled]).astype(dtype)
    subnormal = rng.integers(1, 1 << info.nmant, n).astype(bit_type(dtype)).view(dtype)
    return np.concatenate([numbers, subnormal, -subnormal, np.resize(edges(dtype), 3 * n)])


def _unit(dtype, rng, n):
    """Outputs of sigmoid: [0, 1], crowded at both ends."""
    values = np.abs(_any(dtype, rng, n))
    near_one = 1 - np.ldexp(rng.uniform(0, 1, n), -rng.integers(0, finfo(dtype).nmant + 2, n))
    values = np.concatenate([values, rng.uniform(0, 1, n).astype(dtype), near_one.astype(dtype)])
    return values[values <= 1]


def _integers(dtype, rng, n):
    info = np.iinfo(dtype)
    return np.concatenate(
        [
            rng.integers(info.min, info.max, 7 * n, dtype, endpoint=True),
            np.array([info.min, info.max, 0, 1], dtype),
        ]
    )


DOMAINS = {"x": _any, "grad": _any, "slope": _any, "y": _unit}


@cache
def samples(row, dtype, n=500):
    """Finite operands for a row, equally long and read-only; edges meet edges of the others."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(20240229)
    if dtype.kind in "iu":
        operands = [_integers(dtype, rng, n)]
    else:
        operands = [DOMAINS[name](dtype, rng, n) for name in row.operands]
        length = min(map(len, operands))
        operands = [rng.permutation(operand)[:length] for operand in operands]
        # With grad = 1 the error of the derivative itself is seen.
        if row.operands[0] == "grad":
            operands[0][::4] = 1
    for operand in operands:
        operand.flags.writeable = False
    return tuple(operands)


# --------------------------------------------------------------------- error


@dataclass(frozen=True)
class Exact:
    """Exact results.

    Attributes
    ----------
    near : ndarray of float64
        The exact values rounded; infinite where they round to that in the result's type.
    rest : ndarray of float64
        What `near` lacks, in units of `ulp`.
    ulp : ndarray of float64
        Spacing of the result's type at the exact values, subnormals included.
    """

    near: np.ndarray
    rest: np.ndarray
    ulp: np.ndarray

    def error(self, result):
        """Error of `result` in ULP; infinite where only one of both is finite."""
        with np.errstate(all="ignore"):
            error = np.abs((result.astype(np.float64) - self.near) / self.ulp - self.rest)
        error[np.isnan(error)] = INF
        error[np.isinf(self.near) & (result == self.near)] = 0
        return error


def exact(row, operands):
    """Exact results of a row for finite operands of one floating dtype."""
    dtype = operands[0].dtype
    info = finfo(dtype)
    if dtype == np.float64:
        near, exponent, rest = _exact_in_mpmath(row, operands, info)
    else:
        wide = [operand.astype(np.float64) for operand in operands]
        with np.errstate(all="ignore"):
            near = _vectorized(row)(*wide)
        exponent = np.frexp(near)[1]
        rest = np.zeros(len(near))
    ulp = _ulp_exponent(exponent, info)
    limit = float(info.max) * (1 + float(info.epsneg) / 2)
    if dtype != np.float64:
        near = np.where(np.abs(near) >= limit, np.copysign(INF, near), near)
    return Exact(near, rest, np.ldexp(1.0, ulp))


def _ulp_exponent(exponent, info):
    """Exponent of the last bit of a number 0.5 <= m < 1 times 2**exponent."""
    return np.clip(exponent - 1, info.minexp, info.maxexp - 1) - info.nmant


def _vectorized(row):
    """A formula of the table, which says `if`, over arrays."""

    def compute(*operands):
        return np.array(
            [row.exact(np.exp, *values) for values in zip(*operands, strict=True)], dtype=np.float64
        )

    return compute


def _exact_in_mpmath(row, operands, info):
    context = EXACT_CONTEXT
    near, exponents, rests = [], [], []
    for values in zip(*(operand.tolist() for operand in operands), strict=True):
        value = row.exact(context.exp, *map(context.mpf, values))
        exponent = int(context.frexp(value)[1]) if value else info.minexp
        ulp = max(exponent - 1, info.minexp) - info.nmant
        # An integer number of ULP, rounded to even: float() would do the same, but its
        # rounding of subnormals is not promised by mpmath.
        count = context.ldexp(value, -ulp)
        whole = context.nint(count)
        overflow = abs(value) >= context.mpf(float(info.max)) * (1 + context.mpf(2) ** -54)
        near.append(INF * int(context.sign(value)) if overflow else np.ldexp(float(whole), ulp))
        rests.append(0.0 if overflow else float(count - whole))
        # Below all subnormals the exponent can be as low as that of exp(-1e308).
        exponents.append(max(exponent, info.minexp))
    return np.array(near), np.array(exponents), np.array(rests)
