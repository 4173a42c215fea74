"""The approximation of the Gaussian error linear unit by tanh, and its backward pass."""

import math
from typing import Any

import numpy as np

from .record import FLOATS, Bounds, Operation, backward_of

_PI = "3.14159265358979323846264338328"
# z > 0, for which the derivative of gelu_tanh is 0 at -z. In parts, to 159 bits.
_ZERO = (0.7524614220710163, -3.635560509207687e-17, 2.5415595389660457e-33)


def _constants(m: Any, t: Any) -> tuple[Any, Any]:
    """Compute 2 sqrt(2 / pi) and 0.044715, in the type of t."""
    if m is np:
        number = t.dtype.type
        return np.sqrt(8 / number(_PI)), number("0.044715")
    return m.sqrt(8 / m.pi), m.number("0.044715")


def _exact_gelu_tanh(m: Any, x: Any) -> Any:
    t = m.where(m.abs(x) > 1e3, 1e3, m.abs(x))
    factor, cubic = _constants(m, t)
    # exp(-v) never overflows, and keeps the tail on the left.
    decay = m.exp(-factor * t * (1 + cubic * t * t))
    y = x * (m.where(x < 0, decay, 1) / (1 + decay))
    # As in gelu: x / 2 can be a tie of the narrower type, and the result is above it.
    tiny = (x != 0) & (m.abs(x) < 1e-20)
    y = m.where(tiny, m.nextafter(y, math.inf), y)
    # The limit, where the product would be infinity * 0.
    return m.where(x < -1e3, -0.0, y)


def _exact_gelu_tanh_backward(m: Any, grad: Any, x: Any) -> Any:
    t = m.where(m.abs(x) > 1e3, 1e3, m.abs(x))
    factor, cubic = _constants(m, t)
    decay = m.exp(-factor * t * (1 + cubic * t * t))
    if m is np:
        # 1 + exp(-v) - t v' = (z v'(z) - 1) expm1(v(z) - v) - (t v' - z v'(z)), without
        # cancellation near its zero, t = z. Both differences have the factor u = t - z. MPFR has
        # bits to spare.
        zero = t * 0 + _ZERO[0] + _ZERO[1] + _ZERO[2]
        u = ((t - _ZERO[0]) - _ZERO[1]) - _ZERO[2]
        square = 3 * zero * zero + 3 * zero * u + u * u
        rest = factor * zero * (1 + 3 * cubic * zero * zero) - 1
        negative = rest * np.expm1(-factor * u * (1 + cubic * square))
        negative = decay * (negative - factor * u * (1 + 3 * cubic * square))
    else:
        negative = decay * (1 + decay - factor * t * (1 + 3 * cubic * t * t))
    positive = 1 + decay + factor * t * (1 + 3 * cubic * t * t) * decay
    return grad * (m.where(x < 0, negative, positive) / (1 + decay) ** 2)


def _smaller_term(m: Any, grad: Any, x: Any) -> Any:
    # Below 0 the derivative is s(v) - |x| v' s(v) s(-v).
    t = m.where(m.abs(x) > 1e3, 1e3, m.abs(x))
    factor, cubic = _constants(m, t)
    decay = m.exp(-factor * t * (1 + cubic * t * t))
    s = decay / (1 + decay)
    share = factor * t * (1 + 3 * cubic * t * t) / (1 + decay)
    return grad * m.where(x < 0, s * m.where(share < 1, share, 1), 0)


def _numpy_gelu_tanh(x: Any, out: Any) -> Any:
    np.multiply(x, x, out=out)
    np.multiply(out, -0.044715 * math.sqrt(8 / math.pi), out=out)
    np.subtract(out, math.sqrt(8 / math.pi), out=out)
    np.multiply(x, out, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.divide(x, out, out=out)


def _numpy_gelu_tanh_backward(grad: Any, x: Any, out: Any) -> Any:
    factor = math.sqrt(8 / math.pi)
    square = x * x
    y = 1 / (1 + np.exp(-x * (factor + 0.044715 * factor * square)))
    np.multiply(square, 3 * 0.044715 * factor, out=out)
    np.add(out, factor, out=out)
    np.multiply(x, out, out=out)
    np.multiply(1 - y, out, out=out)
    np.add(out, 1, out=out)
    np.multiply(y, out, out=out)
    return np.multiply(grad, out, out=out)


_FACTOR = math.sqrt(8 / math.pi)
_NUMBERS = {"factor": _FACTOR, "cubic": 0.044715 * _FACTOR}


OPERATIONS = (
    Operation(
        name="gelu_tanh",
        summary="Compute x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2, close to gelu.",
        returns="-0.0 where `x` is -inf, and NaN where it is NaN.",
        see="gelu_tanh_backward, gelu",
        notes=(
            f"{FLOATS} The error is at most 1.8 ULP in float32, over all inputs, and at most "
            "0.6 ULP in float64, as far as it was sampled. float16 and bfloat16 are correctly "
            "rounded. The left tail is kept down to the smallest subnormal number (x near -10.77 "
            'in float32, -21.55 in float64). This is the gelu of PyTorch with approximate="tanh".'
        ),
        exact=_exact_gelu_tanh,
        numpy=_numpy_gelu_tanh,
        bounds=Bounds(0.5, 0.5, 2.0),
        # The rounding of the argument of exp.
        numpy_ulp=40.0,
        narrow="own",
        costly=True,
        peers={
            "PyTorch": (
                "torch._C._nn.gelu(x, approximate='tanh')",
                "torch._C._nn.gelu(x, approximate='tanh', out=out)",
            ),
            "numba": ("x / (1 + exp(-x * (factor + cubic * x * x)))", _NUMBERS),
            "numexpr": (
                "x / (1 + exp(factor * x * (1 + cubic * x * x)))",
                {"factor": -1.5957691216057308, "cubic": 0.044715},
            ),
            "JAX": "gelu",
        },
    ),
    backward_of(
        Operation,
        "gelu_tanh",
        summary="Compute the gradient of gelu_tanh from its input.",
        notes=(
            f"{FLOATS} The gradient is grad * s(v) * (1 + x * v' * s(-v)) with s = sigmoid, "
            "v = 2 sqrt(2 / pi) (x + 0.044715 x**3) and its derivative v'. The error is at most "
            "0.51 ULP in float32, and 2.5 ULP in float64, in both tails. In float64, it is in ULP "
            "of the terms whose difference the gradient is, where this is near 0, at x = -0.752."
        ),
        exact=_exact_gelu_tanh_backward,
        numpy=_numpy_gelu_tanh_backward,
        subtracted=_smaller_term,
        bounds=Bounds(0.5, 1.0, 2.5),
        # The derivative is 0 at x = -0.752, which the sum of 1 and a product does not know.
        numpy_ulp=4000.0,
        narrow="own",
        costly=True,
        peers={
            "PyTorch": (
                "torch.ops.aten.gelu_backward.default(grad, x, approximate='tanh')",
                "torch.ops.aten.gelu_backward.grad_input("
                "grad, x, approximate='tanh', grad_input=out)",
            ),
            "numba": (
                "square = cubic * x * x; y = 1 / (1 + exp(-x * (factor + square))); "
                "grad * y * (1 + x * (factor + 3 * square) * (1 - y))",
                _NUMBERS,
            ),
            "JAX": "gelu",
        },
    ),
)
