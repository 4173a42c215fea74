"""The rectified linear unit, max(0, x), and its backward pass."""

from typing import Any

import numpy as np

from .record import FLOATS, Bounds, Operation, backward_of


def _exact_relu(m: Any, x: Any) -> Any:
    # A NaN fails the comparison.
    return m.where(x <= 0, 0, x)


def _numpy_relu(x: Any, out: Any) -> Any:
    return np.maximum(x, 0, out=out)


def _numpy_relu_backward(grad: Any, x: Any, out: Any) -> Any:
    # The mask is written straight into `out`, as 0 and 1. A mask of its own was no faster.
    np.greater(x, 0, out=out)
    return np.multiply(grad, out, out=out)


OPERATIONS = (
    Operation(
        name="relu",
        summary="Compute max(0, x), element by element.",
        returns="NaN where `x` is NaN, and +0 where it is -0.0.",
        see="relu_backward, leaky_relu",
        notes=(
            "Supports float16, float32, float64, the bfloat16 of ml_dtypes, and all integer "
            "dtypes, which it keeps. The result is exact."
        ),
        exact=_exact_relu,
        numpy=_numpy_relu,
        bounds=Bounds(0.0, 0.0, 0.0),
        range=(0.0, float("inf")),
        monotone=True,
        integers=True,
        narrow="bits",
        peers={
            # relu.out computes elsewhere and copies; clamp_min.out does not.
            "PyTorch": ("torch.relu(x)", "torch.clamp_min(x, 0, out=out)"),
            "numba": "max(x, 0)",
            "numexpr": "where(x > 0, x, 0)",
            "ONNX Runtime": ("Relu",),
            "JAX": "relu",
        },
    ),
    backward_of(
        Operation,
        "relu",
        summary="Compute the gradient of relu: grad where x > 0, and 0 elsewhere.",
        parameters={"x": "Input or output of `relu`."},
        notes=f"{FLOATS} The result is exact.",
        exact=lambda m, grad, x: m.where(x <= 0, 0, m.where(x > 0, grad, x)),
        numpy=_numpy_relu_backward,
        bounds=Bounds(0.0, 0.0, 0.0),
        peers={
            "PyTorch": (
                "torch.ops.aten.threshold_backward.default(grad, x, 0)",
                "torch.ops.aten.threshold_backward.grad_input(grad, x, 0, grad_input=out)",
            ),
            "numba": "grad if x > 0 else 0",
            "numexpr": "where(x > 0, grad, 0)",
            "JAX": "relu",
        },
    ),
)
