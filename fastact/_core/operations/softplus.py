"""softplus, log(1 + exp(x)), and its backward pass."""

import math
from typing import Any

import numpy as np

from .record import FLOATS, Bounds, Operation, backward_of


def _exact_softplus(m: Any, x: Any) -> Any:
    # exp(-|x|) never overflows, and keeps the tail on the left.
    return m.where(x > 0, x, 0) + m.log1p(m.exp(-m.abs(x)))


def _numpy_softplus(x: Any, out: Any) -> Any:
    np.absolute(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    return np.add(out, np.maximum(x, 0), out=out)


def _exact_softplus_backward(m: Any, grad: Any, x: Any) -> Any:
    decay = m.exp(-m.abs(x))
    return grad * (m.where(x < 0, decay, 1) / (1 + decay))


def _numpy_softplus_backward(grad: Any, x: Any, out: Any) -> Any:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.divide(grad, out, out=out)


OPERATIONS = (
    Operation(
        name="softplus",
        summary="Compute log(1 + exp(x)), a smooth form of relu.",
        returns="Not negative. NaN where `x` is NaN.",
        see="softplus_backward, log_sigmoid, relu",
        notes=(
            f"{FLOATS} The error is at most 0.98 ULP in float32, over all inputs, and at most "
            "1.0 ULP in float64, as far as it was sampled. float16 and bfloat16 are correctly "
            "rounded. The left tail is kept down to the smallest subnormal number (x near -103.97 "
            "in float32, -745.1 in float64). This is the softplus of PyTorch with its default "
            "`beta`, without its `threshold`."
        ),
        exact=_exact_softplus,
        numpy=_numpy_softplus,
        bounds=Bounds(0.5, 0.5, 1.0),
        range=(0.0, math.inf),
        monotone=True,
        narrow="own",
        costly=True,
        peers={
            "PyTorch": ("torch._C._nn.softplus(x)", "torch._C._nn.softplus(x, out=out)"),
            "numba": "max(x, 0) + log1p(exp(-abs(x)))",
            "numexpr": "where(x > 0, x, 0) + log1p(exp(-abs(x)))",
            "ONNX Runtime": ("Softplus",),
            "JAX": "softplus",
        },
    ),
    backward_of(
        Operation,
        "softplus",
        summary="Compute grad * sigmoid(x), the gradient of softplus from its input.",
        see="softplus, sigmoid",
        notes=f"{FLOATS} The error is at most 2 ULP, in the left tail, too.",
        exact=_exact_softplus_backward,
        bounds=Bounds(0.5, 1.0, 2.0),
        numpy=_numpy_softplus_backward,
        narrow="own",
        costly=True,
        peers={
            "PyTorch": (
                "torch.ops.aten.softplus_backward.default(grad, x, 1, 20)",
                "torch.ops.aten.softplus_backward.grad_input(grad, x, 1, 20, grad_input=out)",
            ),
            "numba": "grad / (1 + exp(-x))",
            "numexpr": "grad / (1 + exp(-x))",
            "JAX": "softplus",
        },
    ),
)
