"""The sigmoid linear unit, x * sigmoid(x), and its backward pass."""

import math
from typing import Any

import numpy as np

from .record import FLOATS, Bounds, Operation, backward_of

# z > 0, for which the derivative of silu is 0 at -z: 1 + exp(-z) = z. In parts, to 159 bits.
_ZERO = (1.2784645427610737, 1.0946994183093437e-16, 3.907766676128665e-33)


def _exact_silu(m: Any, x: Any) -> Any:
    # exp(-|x|) never overflows, and keeps the tail on the left.
    decay = m.exp(-m.abs(x))
    y = x * (m.where(x < 0, decay, 1) / (1 + decay))
    # Near 0 it is x / 2 + x**2 / 4. A wider type of NumPy loses the second term of tiny x, and
    # x / 2 can be a tie of the narrower type: the next number above is on the right side of it.
    tiny = (x != 0) & (m.abs(x) < 1e-20)
    y = m.where(tiny, m.nextafter(y, math.inf), y)
    # The limit, where the product would be infinity * 0.
    return m.where(x < -1e4, -0.0, y)


def _numpy_silu(x: Any, out: Any) -> Any:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.divide(x, out, out=out)


def _exact_silu_backward(m: Any, grad: Any, x: Any) -> Any:
    # Beyond 1e4 all has long vanished, and infinity * 0 would be NaN.
    x = m.where(m.abs(x) > 1e4, m.where(x < 0, -1e4, 1e4), x)
    decay = m.exp(-m.abs(x))
    if m is np:
        # exp(x) + 1 + x = (z - 1) expm1(u) + u with u = x + z: no cancellation near its zero,
        # x = -z. MPFR has bits to spare.
        u = ((x + _ZERO[0]) + _ZERO[1]) + _ZERO[2]
        growth = np.expm1(u)
        negative = decay * ((_ZERO[0] - 1) * growth + _ZERO[1] * growth + u)
    else:
        negative = decay * (decay + 1 + x)
    positive = 1 + decay + x * decay
    return grad * (m.where(x < 0, negative, positive) / (1 + decay) ** 2)


def _numpy_silu_backward(grad: Any, x: Any, out: Any) -> Any:
    y = 1 / (1 + np.exp(-x))
    np.subtract(1, y, out=out)
    np.multiply(x, out, out=out)
    np.add(out, 1, out=out)
    np.multiply(y, out, out=out)
    return np.multiply(grad, out, out=out)


def _smaller_term(m: Any, grad: Any, x: Any) -> Any:
    # Below 0 the derivative is s(x) - |x| s(x) s(-x).
    decay = m.exp(-m.abs(x))
    s = decay / (1 + decay)
    factor = m.abs(x) / (1 + decay)
    return grad * m.where(x < 0, s * m.where(factor < 1, factor, 1), 0)


OPERATIONS = (
    Operation(
        name="silu",
        summary="Compute x / (1 + exp(-x)), the sigmoid linear unit, also called swish.",
        returns="-0.0 where `x` is -inf, and NaN where it is NaN.",
        see="silu_backward, sigmoid",
        notes=(
            f"{FLOATS} The error is at most 1.8 ULP in float32, over all inputs, and at most 1.8 "
            "ULP in float64, as far as it was sampled. float16 and bfloat16 are correctly "
            "rounded. The left tail is kept down to the smallest subnormal number (x near -108.7 "
            "in float32, -751.8 in float64)."
        ),
        exact=_exact_silu,
        numpy=_numpy_silu,
        bounds=Bounds(0.5, 0.5, 2.0),
        narrow="own",
        costly=True,
        peers={
            "PyTorch": ("torch._C._nn.silu(x)", "torch._C._nn.silu(x, out=out)"),
            "numba": "x / (1 + exp(-x))",
            "numexpr": "x / (1 + exp(-x))",
            "JAX": "silu",
        },
    ),
    backward_of(
        Operation,
        "silu",
        summary="Compute the gradient of silu, grad * s(x) * (1 + x * s(-x)) with s = sigmoid.",
        notes=(
            f"{FLOATS} The error is at most 3 ULP, in both tails. Where the derivative is near 0, "
            "about x = -1.278, these are ULP of the terms s(x) and x * s(x) * s(-x) that cancel."
        ),
        exact=_exact_silu_backward,
        numpy=_numpy_silu_backward,
        subtracted=_smaller_term,
        bounds=Bounds(0.5, 1.0, 3.0),
        # The derivative is 0 at x = -1.278, which the sum of 1 and a product does not know.
        numpy_ulp=4000.0,
        narrow="own",
        costly=True,
        peers={
            "PyTorch": (
                "torch.ops.aten.silu_backward.default(grad, x)",
                "torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=out)",
            ),
            "numba": "y = 1 / (1 + exp(-x)); grad * y * (1 + x * (1 - y))",
            "JAX": "silu",
        },
    ),
)
