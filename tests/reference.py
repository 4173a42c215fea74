"""The reference table of the tests: what every ufunc and its layers should do, and how exactly.

There is one `Expectation` per ufunc. Tests go over the table, so adding an expectation adds its
tests. Nothing here comes from fastact. Narrow types are computed in float64, whose error is below
2**-28 ULP of float32 (2**-20 in the tails of gelu, where the rounding of an argument counts), and
float64 in mpmath with 240 bits, where every product of two or three doubles is exact.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import ml_dtypes
import mpmath
import numpy as np

INF, NAN = np.inf, np.nan
FLOATS = ("bfloat16", "float16", "float32", "float64")
INTEGERS = tuple("bBhHiIlLqQ")
EXACT_CONTEXT = mpmath.MPContext()
EXACT_CONTEXT.prec = 240


@dataclass(frozen=True, eq=False)
class LayerExpectation:
    """What is expected of an activation layer with certain settings.

    Its values and gradients are those of the ufuncs, with the first operand after `x` and so on
    given by `operands`.

    Attributes
    ----------
    id : str
    layer : str
        Its class in `fastact.layers`.
    keeps : str
        What it keeps between the passes, "input" or "output".
    torch : callable, optional
        ``torch(torch)`` makes the same as a module of PyTorch; by default, that of this name.
    settings : dict
        Keyword arguments of the class.
    operands : tuple of float
        What the ufuncs take in addition to `x` and `grad`.
    """

    id: str
    layer: str
    keeps: str
    torch: Callable | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    operands: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Expectation:
    """What is expected of one ufunc.

    Attributes
    ----------
    name : str
    operands : tuple of str
        Names: `y`, or keys of `DOMAINS`.
    exact : callable
        ``exact(m, *operands)`` for single numbers; `m` has the mathematical functions. It is
        `numpy`, or a context of mpmath.
    bounds : dict of str to float
        Greatest error in ULP, by dtype.
    special : tuple of tuple of float
        Operands, and then the result. The sign of a zero counts.
    subtracted : callable, optional
        Like `exact`: what is subtracted to get the result. The errors of float32 and float64 are in
        ULP of the larger one of this and the result.
    integers : bool
        Whether integer dtypes are kept.
    range : tuple of float, optional
        The lowest and the highest result. A monotone function attains them at infinity.
    monotone : bool
        Whether the result never falls where `x` rises.
    tail : dict of str to float
        By dtype, an `x` with the smallest subnormal as its result, where that of x - 1 is 0.
    output_of : str, optional
        The activation whose output the operand `y` is.
    peers : tuple of str
        The packages that `fastact bench --peers` compares with, besides NumPy.
    layers : tuple of LayerExpectation
        Of an activation: its layers.
    """

    name: str
    operands: tuple[str, ...]
    exact: Callable
    bounds: dict[str, float]
    special: tuple[tuple[float, ...], ...]
    subtracted: Callable | None = None
    integers: bool = False
    range: tuple[float, float] | None = None
    monotone: bool = False
    tail: dict[str, float] = field(default_factory=dict)
    output_of: str | None = None
    peers: tuple[str, ...] = ()
    layers: tuple[LayerExpectation, ...] = ()

    @property
    def dtypes(self):
        return FLOATS + (INTEGERS if self.integers else ())


def _sigmoid(m, x):
    return 1 / (1 + m.exp(-x))


def _softplus(m, x):
    # log(1 + exp(x)) would overflow on the right, and lose the tail on the left.
    return (x if x > 0 else 0) + m.log1p(m.exp(-abs(x)))


def _silu_backward(m, grad, x):
    # In float64, 1 + x * s(-x) would lose its digits near the zero at x = -1.278.
    decay = m.exp(-abs(x))
    top = decay * (decay + (1 + x)) if x < 0 else 1 + decay + x * decay
    return grad * (top / (1 + decay) ** 2)


def _silu_subtracted(m, grad, x):
    # The smaller one of s(x) and |x| s(x) s(-x), whose difference is the derivative below 0.
    s = m.exp(-abs(x)) / (1 + m.exp(-abs(x)))
    return grad * s * min(1, abs(x) * (1 - s)) if x < 0 else 0 * grad


def _upper_tail(m, t):
    """Compute the probability that a standard normal variable is above t."""
    # From 1000 on it is less than all numbers, and mpmath cannot compute that of 1e300.
    t = t if t < 1000 else t * 0 + 1000
    return (math.erfc if m is np else m.erfc)(t / m.sqrt(2)) / 2


def _gelu(m, x):
    # From the smaller tail, so that nothing is lost in the other.
    return x - x * _upper_tail(m, x) if x > 0 else x * _upper_tail(m, -x)


def _gelu_backward(m, grad, x):
    t = abs(x) if abs(x) < 1000 else x * 0 + 1000
    slope = _upper_tail(m, t) - t * m.exp(-t * t / 2) / m.sqrt(2 * m.pi)
    return grad * (slope if x < 0 else 1 - slope)


def _tanh_argument(m, x):
    return 2 * m.sqrt(2 / m.pi) * (x + 44715 * x * x * x / 10**6)


def _gelu_tanh_backward(m, grad, x):
    t = abs(x)
    decay = m.exp(-_tanh_argument(m, t))
    slope = 1 + decay - 2 * m.sqrt(2 / m.pi) * (t + 3 * 44715 * t * t * t / 10**6)
    slope = decay * slope / (1 + decay) ** 2
    return grad * (slope if x < 0 else 1 - slope)


def _gelu_tanh_subtracted(m, grad, x):
    # The smaller one of s(v) and |x| v' s(v) s(-v), whose difference is the derivative below 0.
    t = min(abs(x), x * 0 + 1000)
    decay = m.exp(-_tanh_argument(m, t))
    share = 2 * m.sqrt(2 / m.pi) * (t + 3 * 44715 * t * t * t / 10**6) / (1 + decay)
    return grad * decay / (1 + decay) * min(1, share) if x < 0 else 0 * grad


def _leaky(id, slope, **settings):
    return LayerExpectation(
        id,
        "LeakyReLU",
        "output" if slope > 0 else "input",
        lambda torch: torch.nn.LeakyReLU(slope),
        settings,
        (slope,),
    )


def _bounds(narrow, *ulp):
    return dict(zip(FLOATS, (narrow, narrow, *ulp), strict=True))


GRADS = (3.0, -3.0, 0.0, -0.0, INF, -INF, NAN)
FINITE_GRADS = (3.0, -3.0, 0.0, -0.0)
# All of these are exact in float16 too.
SLOPES = (0.125, -2.0, 0.0, 1.5)
ZEROS = (0.0, -0.0)

EXPECTATIONS = (
    Expectation(
        "relu",
        ("x",),
        lambda m, x: x if x > 0 else x * 0,
        _bounds(0, 0, 0),
        ((NAN, NAN), (INF, INF), (-INF, 0.0), (0.0, 0.0), (-0.0, 0.0)),
        integers=True,
        range=(0.0, INF),
        monotone=True,
        peers=("PyTorch", "numba", "numexpr", "ONNX Runtime", "JAX"),
        layers=(LayerExpectation("relu", "ReLU", "output"),),
    ),
    Expectation(
        "leaky_relu",
        ("x", "slope"),
        lambda m, x, slope: x if x > 0 else slope * x,
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
        peers=("PyTorch", "numba", "numexpr", "ONNX Runtime", "JAX"),
        layers=(
            _leaky("leaky", 0.01),
            _leaky("leaky steep", 2.5, negative_slope=2.5),
            _leaky("leaky flat", 0.0, negative_slope=0.0),
            _leaky("leaky falling", -0.5, negative_slope=-0.5),
        ),
    ),
    Expectation(
        "sigmoid",
        ("x",),
        _sigmoid,
        _bounds(0.5, 2.0, 2.0),
        ((NAN, NAN), (INF, 1.0), (-INF, 0.0), (0.0, 0.5), (-0.0, 0.5)),
        range=(0.0, 1.0),
        monotone=True,
        tail={"bfloat16": -92, "float16": -17.3, "float32": -103.97, "float64": -745.1},
        peers=("SciPy", "PyTorch", "numba", "numexpr", "ONNX Runtime", "JAX"),
        layers=(
            LayerExpectation("sigmoid", "Sigmoid", "input"),
            LayerExpectation("sigmoid from output", "Sigmoid", "output", None, {"save": "output"}),
        ),
    ),
    Expectation(
        "relu_backward",
        ("grad", "x"),
        lambda m, grad, x: grad if x > 0 else x * 0,
        _bounds(0, 0, 0),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, x, g) for g in GRADS for x in (INF, 1.0)),
            *((g, x, 0.0) for g in GRADS for x in (-INF, -1.0, *ZEROS)),
        ),
        peers=("PyTorch", "numba", "numexpr", "JAX"),
    ),
    Expectation(
        "leaky_relu_backward",
        ("grad", "x", "slope"),
        lambda m, grad, x, slope: grad if x > 0 else slope * grad,
        _bounds(0.5, 0.5, 0.5),
        (
            *((g, NAN, s, NAN) for g in GRADS for s in SLOPES),
            *((g, x, s, g) for g in GRADS for s in (*SLOPES, NAN, INF) for x in (INF, 1.0)),
            *((g, x, s, s * g) for g in GRADS for s in (*SLOPES, NAN, INF) for x in (-INF, *ZEROS)),
        ),
        peers=("PyTorch", "numba", "numexpr", "JAX"),
    ),
    Expectation(
        "sigmoid_backward",
        ("grad", "x"),
        lambda m, grad, x: grad * _sigmoid(m, x) * _sigmoid(m, -x),
        _bounds(1.0, 2.5, 2.5),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, x, g * 0.0) for g in GRADS for x in (INF, -INF)),
            *((g, x, g / 4) for g in GRADS for x in ZEROS),
            *((g, x, g) for g in (INF, -INF, NAN) for x in (1.0, -1.0, 16.0, -16.0)),
        ),
        peers=("numba", "JAX"),
    ),
    Expectation(
        "sigmoid_backward_from_output",
        ("grad", "y"),
        lambda m, grad, y: grad * y * (1 - y),
        _bounds(1.0, 1.5, 1.5),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, y, g * 0.0) for g in GRADS for y in (0.0, 1.0)),
            *((g, 0.5, g / 4) for g in GRADS),
        ),
        output_of="sigmoid",
        peers=("PyTorch", "numba", "numexpr"),
    ),
    Expectation(
        "tanh",
        ("x",),
        lambda m, x: m.tanh(x),
        _bounds(0.5, 2.0, 2.0),
        ((NAN, NAN), (INF, 1.0), (-INF, -1.0), (0.0, 0.0), (-0.0, -0.0)),
        range=(-1.0, 1.0),
        monotone=True,
        peers=("PyTorch", "numba", "numexpr", "ONNX Runtime", "JAX"),
        layers=(LayerExpectation("tanh", "Tanh", "input"),),
    ),
    Expectation(
        "tanh_backward",
        ("grad", "x"),
        lambda m, grad, x: grad * _sigmoid(m, 2 * x) * _sigmoid(m, -2 * x) * 4,
        _bounds(1.0, 3.75, 3.75),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, x, g * 0.0) for g in FINITE_GRADS for x in (INF, -INF)),
            *((g, x, g) for g in GRADS for x in ZEROS),
            *((g, x, g) for g in (INF, -INF, NAN) for x in (1.0, -1.0, 8.0, -8.0)),
        ),
        peers=("numba", "numexpr", "JAX"),
    ),
    Expectation(
        "silu",
        ("x",),
        lambda m, x: x * _sigmoid(m, x),
        _bounds(0.5, 2.0, 2.0),
        ((NAN, NAN), (INF, INF), (-INF, -0.0), (0.0, 0.0), (-0.0, -0.0)),
        peers=("PyTorch", "numba", "numexpr", "JAX"),
        layers=(LayerExpectation("silu", "SiLU", "input"),),
    ),
    Expectation(
        "silu_backward",
        ("grad", "x"),
        _silu_backward,
        _bounds(1.0, 3.0, 3.0),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, INF, g) for g in GRADS),
            *((g, -INF, g * -0.0) for g in FINITE_GRADS),
            *((g, x, g / 2) for g in GRADS for x in ZEROS),
            *((g, x, g) for g in (INF, -INF, NAN) for x in (1.0, -1.0, 16.0)),
            # The derivative is negative below x = -1.278.
            *((g, x, -g) for g in (INF, -INF, NAN) for x in (-2.0, -16.0)),
        ),
        subtracted=_silu_subtracted,
        peers=("PyTorch", "numba", "JAX"),
    ),
    Expectation(
        "softplus",
        ("x",),
        _softplus,
        _bounds(0.5, 1.0, 1.0),
        ((NAN, NAN), (INF, INF), (-INF, 0.0), (64.0, 64.0)),
        range=(0.0, INF),
        monotone=True,
        tail={"bfloat16": -92, "float16": -17.3, "float32": -103.97, "float64": -745.1},
        peers=("PyTorch", "numba", "numexpr", "ONNX Runtime", "JAX"),
        layers=(LayerExpectation("softplus", "Softplus", "input"),),
    ),
    Expectation(
        "softplus_backward",
        ("grad", "x"),
        lambda m, grad, x: grad * _sigmoid(m, x),
        _bounds(1.0, 2.0, 2.0),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, INF, g) for g in GRADS),
            *((g, -INF, g * 0.0) for g in FINITE_GRADS),
            *((g, x, g / 2) for g in GRADS for x in ZEROS),
            *((g, x, g) for g in (INF, -INF, NAN) for x in (1.0, -1.0, 16.0, -16.0)),
        ),
        peers=("PyTorch", "numba", "numexpr", "JAX"),
    ),
    Expectation(
        "log_sigmoid",
        ("x",),
        lambda m, x: -_softplus(m, -x),
        _bounds(0.5, 1.0, 1.0),
        ((NAN, NAN), (INF, -0.0), (-INF, -INF), (-64.0, -64.0)),
        range=(-INF, 0.0),
        monotone=True,
        peers=("SciPy", "PyTorch", "numba", "numexpr", "JAX"),
        layers=(LayerExpectation("log_sigmoid", "LogSigmoid", "input"),),
    ),
    Expectation(
        "log_sigmoid_backward",
        ("grad", "x"),
        lambda m, grad, x: grad * _sigmoid(m, -x),
        _bounds(1.0, 2.0, 2.0),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, -INF, g) for g in GRADS),
            *((g, INF, g * 0.0) for g in FINITE_GRADS),
            *((g, x, g / 2) for g in GRADS for x in ZEROS),
            *((g, x, g) for g in (INF, -INF, NAN) for x in (1.0, -1.0, 16.0, -16.0)),
        ),
        peers=("numba", "numexpr", "JAX"),
    ),
    Expectation(
        "gelu",
        ("x",),
        _gelu,
        _bounds(0.5, 2.0, 2.0),
        ((NAN, NAN), (INF, INF), (-INF, -0.0), (0.0, 0.0), (-0.0, -0.0)),
        peers=("PyTorch", "numba", "JAX"),
        layers=(LayerExpectation("gelu", "GELU", "input"),),
    ),
    Expectation(
        "gelu_backward",
        ("grad", "x"),
        _gelu_backward,
        _bounds(1.0, 2.75, 2.75),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, INF, g) for g in GRADS),
            *((g, -INF, g * -0.0) for g in FINITE_GRADS),
            *((g, x, g / 2) for g in GRADS for x in ZEROS),
            *((g, x, g) for g in (INF, -INF, NAN) for x in (1.0, 16.0, -0.5)),
            # The derivative is negative below x = -0.752.
            *((g, x, -g) for g in (INF, -INF, NAN) for x in (-1.0, -8.0)),
        ),
        peers=("PyTorch", "numba", "JAX"),
    ),
    Expectation(
        "gelu_tanh",
        ("x",),
        lambda m, x: x / (1 + m.exp(-_tanh_argument(m, x))),
        _bounds(0.5, 2.0, 2.0),
        ((NAN, NAN), (INF, INF), (-INF, -0.0), (0.0, 0.0), (-0.0, -0.0)),
        peers=("PyTorch", "numba", "numexpr", "JAX"),
        layers=(
            LayerExpectation(
                "gelu tanh",
                "GELU",
                "input",
                lambda torch: torch.nn.GELU(approximate="tanh"),
                {"approximate": "tanh"},
            ),
        ),
    ),
    Expectation(
        "gelu_tanh_backward",
        ("grad", "x"),
        _gelu_tanh_backward,
        _bounds(1.0, 2.5, 2.5),
        (
            *((g, NAN, NAN) for g in GRADS),
            *((g, INF, g) for g in GRADS),
            *((g, -INF, g * -0.0) for g in FINITE_GRADS),
            *((g, x, g / 2) for g in GRADS for x in ZEROS),
            *((g, x, g) for g in (INF, -INF, NAN) for x in (1.0, 16.0, -0.5)),
            # The derivative is negative below x = -0.752.
            *((g, x, -g) for g in (INF, -INF, NAN) for x in (-1.0, -8.0)),
        ),
        subtracted=_gelu_tanh_subtracted,
        peers=("PyTorch", "numba", "JAX"),
    ),
)
BY_NAME = {expectation.name: expectation for expectation in EXPECTATIONS}


# -------------------------------------------------------------------- inputs


def bit_type(dtype):
    """Find the unsigned integer dtype as wide as `dtype`."""
    return np.dtype(f"u{np.dtype(dtype).itemsize}")


def bits(array):
    """View the bits of the elements of an array, in C order."""
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return native.view(bit_type(native.dtype))


def finfo(dtype):
    """Call np.finfo, or that of ml_dtypes for bfloat16."""
    return (np if np.dtype(dtype).kind == "f" else ml_dtypes).finfo(dtype)


def is_nan(array):
    """Call np.isnan without a warning. For bfloat16, a signalling NaN would cause one."""
    with np.errstate(invalid="ignore"):
        return np.isnan(array)


def is_finite(array):
    """Call np.isfinite without a warning."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(array)


def edges(dtype):
    """Make finite values where formulas change: at the ends of the type and of exp."""
    info = finfo(dtype)
    # Around here exp underflows: at the smallest normal, and at half the smallest subnormal.
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
    """Make NaN (quiet and signalling), infinities, zeros and ends of the type, of both signs."""
    info = finfo(dtype)
    ends = [0.0, 1.0, 20.0, 200.0, info.max, info.smallest_normal, info.smallest_subnormal]
    ends += [INF, NAN]
    with np.errstate(over="ignore"):
        values = np.array(ends).astype(dtype)
    signalling = (bits(values[-2:-1]) | 1).view(dtype)
    values = np.concatenate([values, signalling])
    sign = bit_type(dtype).type(1 << (8 * dtype.itemsize - 1))
    return np.concatenate([values, (bits(values) | sign).view(dtype)])


def _any(dtype, rng, n):
    """Draw ordinary, huge, tiny and subnormal numbers, and edges enough to meet each other."""
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


def _outputs(lowest, highest, dtype, rng, n):
    """Draw outputs of an activation, in [lowest, highest]. Many are near 0 or either end."""
    values = _any(dtype, rng, n)
    values = np.abs(values) if lowest == 0 else values
    near = 1 - np.ldexp(rng.uniform(0, 1, n), -rng.integers(0, finfo(dtype).nmant + 2, n))
    even = rng.uniform(lowest, highest, n)
    values = np.concatenate([values, even.astype(dtype), (highest * near).astype(dtype)])
    if lowest != 0:
        values = np.concatenate([values, (lowest * near).astype(dtype)])
    return values[(values >= lowest) & (values <= highest)]


def _integers(dtype, rng, n):
    info = np.iinfo(dtype)
    return np.concatenate(
        [
            rng.integers(info.min, info.max, 7 * n, dtype, endpoint=True),
            np.array([info.min, info.max, 0, 1], dtype),
        ]
    )


DOMAINS = {"x": _any, "grad": _any, "slope": _any}


def _domain(expectation, operand):
    """Find the function that draws an operand."""
    if operand in DOMAINS:
        return DOMAINS[operand]
    return partial(_outputs, *BY_NAME[expectation.output_of].range)


@cache
def samples(expectation, dtype, n=500):
    """Draw finite operands, equally long and read-only. Edges of one meet edges of the others."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(20240229)
    if dtype.kind in "iu":
        operands = [_integers(dtype, rng, n)]
    else:
        operands = [_domain(expectation, name)(dtype, rng, n) for name in expectation.operands]
        length = min(map(len, operands))
        operands = [rng.permutation(operand)[:length] for operand in operands]
        # A gradient of 1 shows the error of the derivative itself.
        if expectation.operands[0] == "grad":
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
        The exact values, rounded. Infinite where they round to infinity in the result's type.
    rest : ndarray of float64
        The exact values minus `near`, in units of `ulp`.
    ulp : ndarray of float64
        Spacing of the result's type at the exact values, subnormals included.
    """

    near: np.ndarray
    rest: np.ndarray
    ulp: np.ndarray

    def error(self, result):
        """Measure the error of `result` in ULP. Infinite where only one of both is finite."""
        with np.errstate(all="ignore"):
            error = np.abs((result.astype(np.float64) - self.near) / self.ulp - self.rest)
        error[np.isnan(error)] = INF
        error[np.isinf(self.near) & (result == self.near)] = 0
        return error


def exact(expectation, operands):
    """Compute the exact results for finite operands of one floating dtype."""
    dtype = operands[0].dtype
    if dtype == np.float64:
        info = finfo(dtype)
        near, exponent, rest = _exact_in_mpmath(expectation, operands, info)
        return Exact(near, rest, np.ldexp(1.0, _ulp_exponent(exponent, info)))
    wide = [operand.astype(np.float64) for operand in operands]
    with np.errstate(all="ignore"):
        values = _vectorized(expectation.exact)(*wide)
        if expectation.subtracted is None or dtype != np.float32:
            return exact_values(values, dtype)
        return exact_values(values, dtype, _vectorized(expectation.subtracted)(*wide))


def exact_values(values, dtype, subtracted=0):
    """Make exact results of a type narrower than float64 from their values."""
    info = finfo(dtype)
    limit = float(info.max) * (1 + float(info.epsneg) / 2)
    near = np.where(np.abs(values) >= limit, np.copysign(INF, values), values)
    ulp = _ulp_exponent(np.frexp(np.maximum(np.abs(values), np.abs(subtracted)))[1], info)
    return Exact(near, np.zeros(len(near)), np.ldexp(1.0, ulp))


def _ulp_exponent(exponent, info):
    """Find the exponent of the last bit of m * 2**exponent, where 0.5 <= m < 1."""
    return np.clip(exponent - 1, info.minexp, info.maxexp - 1) - info.nmant


def _vectorized(formula):
    """Make a function of arrays from a formula for single numbers."""

    def compute(*operands):
        rows = zip(*operands, strict=True)
        return np.array([formula(np, *values) for values in rows], dtype=np.float64)

    return compute


def _exact_in_mpmath(expectation, operands, info):
    context = EXACT_CONTEXT
    near, exponents, rests = [], [], []
    for values in zip(*(operand.tolist() for operand in operands), strict=True):
        wide = [context.mpf(number) for number in values]
        size = value = expectation.exact(context, *wide)
        if expectation.subtracted is not None:
            size = max(abs(value), abs(expectation.subtracted(context, *wide)))
        exponent = int(context.frexp(size)[1]) if size else info.minexp
        ulp = max(exponent - 1, info.minexp) - info.nmant
        # A whole number of ULP, ties to even. float() would do the same, but mpmath does not
        # promise how it rounds subnormals.
        count = context.ldexp(value, -ulp)
        whole = context.nint(count)
        overflow = abs(value) >= context.mpf(float(info.max)) * (1 + context.mpf(2) ** -54)
        near.append(INF * int(context.sign(value)) if overflow else np.ldexp(float(whole), ulp))
        rests.append(0.0 if overflow else float(count - whole))
        # Below all subnormals the exponent can be as low as that of exp(-1e308).
        exponents.append(max(exponent, info.minexp))
    return np.array(near), np.array(exponents), np.array(rests)
