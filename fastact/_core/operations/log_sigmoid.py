"""log_sigmoid, log(1 / (1 + exp(-x))), and its backward pass."""

import math
from typing import Any

import numpy as np

from .record import FLOATS, Bounds, Operation, backward_of


def _exact_log_sigmoid(m: Any, x: Any) -> Any:
    # exp(-|x|) never overflows, and keeps the tail on the right.
    return -(m.where(x < 0, -x, 0) + m.log1p(m.exp(-m.abs(x))))


def _numpy_log_sigmoid(x: Any, out: Any) -> Any:
    np.absolute(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    return np.subtract(np.minimum(x, 0), out, out=out)


def _exact_log_sigmoid_backward(m: Any, grad: Any, x: Any) -> Any:
    decay = m.exp(-m.abs(x))
    return grad * (m.where(x > 0, decay, 1) / (1 + decay))


def _numpy_log_sigmoid_backward(grad: Any, x: Any, out: Any) -> Any:
    np.exp(x, out=out)
    np.add(out, 1, out=out)
    return np.divide(grad, out, out=out)


OPERATIONS = (
    Operation(
        name="log_sigmoid",
        summary="Compute log(sigmoid(x)), the logarithm of a probability.",
        returns="Not positive, -0.0 where `x` is inf. NaN where `x` is NaN.",
        see="log_sigmoid_backward, softplus, sigmoid",
        notes=(
            f"{FLOATS} This is -softplus(-x), with the same errors. The right tail is kept down to "
            "the smallest subnormal number."
        ),
        exact=_exact_log_sigmoid,
        numpy=_numpy_log_sigmoid,
        bounds=Bounds(0.5, 0.5, 1.0),
        range=(-math.inf, 0.0),
        monotone=True,
        narrow="own",
        costly=True,
        peers={
            "SciPy": "log_expit",
            "PyTorch": ("torch._C._nn.log_sigmoid(x)", "torch._C._nn.log_sigmoid(x, out=out)"),
            "numba": "min(x, 0) - log1p(exp(-abs(x)))",
            "numexpr": "where(x < 0, x, 0) - log1p(exp(-abs(x)))",
            "JAX": "log_sigmoid",
        },
    ),
    backward_of(
        Operation,
        "log_sigmoid",
        summary="Compute grad * sigmoid(-x), the gradient of log_sigmoid from its input.",
        see="log_sigmoid, sigmoid",
        notes=f"{FLOATS} The error is at most 2 ULP, in the right tail, too.",
        exact=_exact_log_sigmoid_backward,
        bounds=Bounds(0.5, 1.0, 2.0),
        numpy=_numpy_log_sigmoid_backward,
        narrow="own",
        costly=True,
        # PyTorch's needs a buffer that its forward pass fills.
        peers={
            "numba": "grad / (1 + exp(x))",
            "numexpr": "grad / (1 + exp(x))",
            "JAX": "log_sigmoid",
        },
    ),
)
