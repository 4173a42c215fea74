"""The hyperbolic tangent and its backward pass."""

from typing import Any

import numpy as np

from .record import FLOATS, Bounds, Operation, backward_of


def _exact_tanh(m: Any, x: Any) -> Any:
    return m.tanh(x)


def _numpy_tanh(x: Any, out: Any) -> Any:
    return np.tanh(x, out=out)


def _exact_tanh_backward(m: Any, grad: Any, x: Any) -> Any:
    # 1 - tanh(x)**2 without the cancellation.
    decay = m.exp(-2 * m.abs(x))
    return grad * (4 * decay / (1 + decay) ** 2)


def _numpy_tanh_backward(grad: Any, x: Any, out: Any) -> Any:
    np.tanh(x, out=out)
    np.multiply(out, out, out=out)
    np.subtract(1, out, out=out)
    return np.multiply(grad, out, out=out)


OPERATIONS = (
    Operation(
        name="tanh",
        summary="Compute the hyperbolic tangent.",
        returns="In [-1, 1] and monotone. `x` itself near 0, and NaN where `x` is NaN.",
        see="tanh_backward, sigmoid",
        notes=(
            f"{FLOATS} The error is at most 2.0 ULP in float32, over all inputs, and at most 1.7 "
            "ULP in float64, as far as it was sampled. float16 and bfloat16 are correctly rounded."
        ),
        exact=_exact_tanh,
        numpy=_numpy_tanh,
        bounds=Bounds(0.5, 0.5, 2.0),
        range=(-1.0, 1.0),
        monotone=True,
        costly=True,
        peers={
            "PyTorch": ("torch.tanh(x)", "torch.tanh(x, out=out)"),
            "numba": "tanh(x)",
            "numexpr": "tanh(x)",
            "ONNX Runtime": ("Tanh",),
            "JAX": "tanh",
        },
    ),
    backward_of(
        Operation,
        "tanh",
        summary="Compute grad * (1 - tanh(x)**2), the gradient of tanh from its input.",
        returns="0 where `x` is infinite, NaN where it is NaN.",
        notes=(
            f"{FLOATS} The error is at most 2.5 ULP, in both tails, and at most 3.7 ULP in results "
            "of less than four times the smallest normal number."
        ),
        exact=_exact_tanh_backward,
        numpy=_numpy_tanh_backward,
        # 2.5, except for results of less than four times the smallest normal number.
        bounds=Bounds(0.5, 1.0, 3.75),
        # 1 - y**2 near y = 1 costs a factor of cosh(4)**2.
        numpy_ulp=3000.0,
        narrow="own",
        costly=True,
        peers={
            "numba": "y = tanh(x); grad * (1 - y * y)",
            "numexpr": "grad * (1 - tanh(x) ** 2)",
            "JAX": "tanh",
        },
    ),
)
