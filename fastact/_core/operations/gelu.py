"""The Gaussian error linear unit, and its backward pass."""

import math
from itertools import pairwise
from typing import Any

import numpy as np

from .record import FLOATS, Bounds, Operation, backward_of

_PI = "3.14159265358979323846264338328"
# z > 0, for which the derivative of gelu is 0 at -z. In parts, to 159 bits.
_ZERO = (0.7517915246935645, -1.4956759177009883e-17, -5.384040947833005e-34)


def _exact_gelu(m: Any, x: Any) -> Any:
    t = m.where(m.abs(x) > 1e4, 1e4, m.abs(x))
    tail = _tail(t, _density(t)) if m is np else m.erfc(t / m.sqrt(2)) / 2
    y = m.where(x < 0, -t * tail, x - t * tail)
    if m is np:
        # Near 0 it is x / 2 + 0.4 x**2. A wider type of NumPy loses the second term of tiny x, and
        # x / 2 can be a tie of the narrower type: the next number above is on the right side of it.
        y = np.where(np.abs(x) < 1e-20, np.nextafter(x / 2, math.inf), y)
    return m.where(x == 0, x, y)


def _exact_gelu_backward(m: Any, grad: Any, x: Any) -> Any:
    # Beyond 1e4 all has long vanished, and infinity * 0 would be NaN.
    t = m.where(m.abs(x) > 1e4, 1e4, m.abs(x))
    if m is np:
        slope = _slope(t)
    else:
        slope = m.erfc(t / m.sqrt(2)) / 2
        slope = slope - t * m.exp(-t * t / 2) / m.sqrt(2 * m.pi)
    return grad * m.where(x < 0, slope, 1 - slope)


def _density(t: Any) -> Any:
    """Compute exp(-t**2 / 2) / sqrt(2 pi). The square of a narrower type is exact in float64."""
    if t.dtype == np.float64:
        decay = np.exp(-0.5 * t * t)
    else:
        high = np.rint(t * 2**16) / 2**16
        decay = np.exp(-0.5 * high * high) * np.exp(-0.5 * (t - high) * (t + high))
    return decay / np.sqrt(2 * t.dtype.type(_PI))


def _tail(t: Any, density: Any) -> Any:
    """Compute the probability Q(t) that a normal variable is above t: NumPy has no erfc.

    From t = 2 on by Laplace's continued fraction of Q / density, and below by the power series
    1/2 - Q = density * (t + t**3 / 3 + t**5 / (3 * 5) + ...). Each takes the fewer terms the
    further away from 2 the numbers are, so they are parted.
    """
    epsilon = np.finfo(t.dtype).eps
    tail = t * np.nan
    for low, high in pairwise((0, 2**-6, 2**-3, 0.5, 1, 2)):
        chosen = (t >= low) & (t < high)
        near = t[chosen]
        power, total, n = near, near, 3
        while (power > total * epsilon / 4).any():
            power = power * (near * near) / n
            total, n = total + power, n + 2
        tail[chosen] = 0.5 - density[chosen] * total
    for low, high in pairwise((2, 3, 4, 6, 8, 16, np.inf)):
        chosen = (t >= low) & (t < high)
        fraction = far = t[chosen]
        # At t = 2, 72 terms give 44 bits, and 150 give 62.
        for n in range(int((72 if epsilon > 1e-17 else 150) * (2 / low) ** 2 + 12), 0, -1):
            fraction = far + n / fraction
        tail[chosen] = density[chosen] / fraction
    return tail


def _slope(t: Any) -> Any:
    """Compute Q(t) - t * density(t): near its zero by a Taylor series, without cancellation."""
    density = _density(t)
    slope = -(t * density - _tail(t, density))  # -0.0 where both are 0
    u = ((t - _ZERO[0]) - _ZERO[1]) - _ZERO[2]
    inside = np.abs(u) < 0.25
    if not inside.any():
        return slope
    u = np.where(inside, u, 0)
    # M = Q / density has M' = t M - 1, so (k + 1) m[k + 1] = zero m[k] + m[k - 1], and m[0] = zero.
    zero = sum(t.dtype.type(part) for part in _ZERO)
    coefficients = [zero, zero * zero - 1]
    for k in range(1, 40):
        coefficients.append((zero * coefficients[k] + coefficients[k - 1]) / (k + 1))
    coefficients[1] = coefficients[1] - 1  # the series of M - t
    series = u * 0
    for coefficient in reversed(coefficients[1:]):
        series = series * u + coefficient
    return np.where(inside, density * (series * u), slope)


_NUMBERS = {"factor": -math.sqrt(0.5), "density": 1 / math.sqrt(2 * math.pi)}
# NumPy has no erf. Without SciPy, one takes that of Python, a number at a time.
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _numpy_gelu(x: Any, out: Any) -> Any:
    np.multiply(x, -math.sqrt(0.5), out=out)
    out[...] = _erfc(out)
    np.multiply(out, 0.5, out=out)
    return np.multiply(x, out, out=out)


def _numpy_gelu_backward(grad: Any, x: Any, out: Any) -> Any:
    slope = x * np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    np.multiply(x, -math.sqrt(0.5), out=out)
    out[...] = _erfc(out)
    np.multiply(out, 0.5, out=out)
    np.add(out, slope, out=out)
    return np.multiply(grad, out, out=out)


OPERATIONS = (
    Operation(
        name="gelu",
        summary="Compute x * (1 + erf(x / sqrt(2))) / 2, the Gaussian error linear unit.",
        returns="-0.0 where `x` is -inf, and NaN where it is NaN.",
        see="gelu_backward, gelu_tanh, silu",
        notes=(
            f"{FLOATS} The error is at most 2.0 ULP in float32, over all inputs, and at most "
            "1.2 ULP in float64, as far as it was sampled. float16 and bfloat16 are correctly "
            "rounded. The left tail is kept down to the smallest subnormal number (x near -14.36 "
            "in float32, -38.58 in float64). This is the gelu of PyTorch with its default "
            "`approximate`."
        ),
        exact=_exact_gelu,
        numpy=_numpy_gelu,
        bounds=Bounds(0.5, 0.5, 2.0),
        # The rounding of the argument of erfc.
        numpy_ulp=40.0,
        narrow="own",
        costly=True,
        peers={
            "PyTorch": ("torch._C._nn.gelu(x)", "torch._C._nn.gelu(x, out=out)"),
            "numba": ("0.5 * x * erfc(factor * x)", _NUMBERS),
            "JAX": ("gelu", {"approximate": False}),
        },
    ),
    backward_of(
        Operation,
        "gelu",
        summary="Compute the gradient of gelu from its input.",
        notes=(
            f"{FLOATS} The gradient is grad * (q(-x) + x * exp(-x**2 / 2) / sqrt(2 pi)), where "
            "q(x) is the probability that a standard normal variable is above x. The error is at "
            "most 2.75 ULP, in both tails and where the gradient is near 0, at x = -0.752."
        ),
        exact=_exact_gelu_backward,
        numpy=_numpy_gelu_backward,
        bounds=Bounds(0.5, 1.0, 2.75),
        # The derivative is 0 at x = -0.752, which a sum does not know.
        numpy_ulp=4000.0,
        narrow="own",
        costly=True,
        peers={
            "PyTorch": (
                "torch.ops.aten.gelu_backward.default(grad, x)",
                "torch.ops.aten.gelu_backward.grad_input(grad, x, grad_input=out)",
            ),
            "numba": (
                "grad * (0.5 * erfc(factor * x) + x * density * exp(-0.5 * x * x))",
                _NUMBERS,
            ),
            "JAX": ("gelu", {"approximate": False}),
        },
    ),
)
