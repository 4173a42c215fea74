"""The leaky rectified linear unit, with a slope for x <= 0, and its backward pass."""

from typing import Any

import numpy as np

from .record import FLOATS, INPUT, Bounds, Operation, backward_of

_SLOPE = (
    "Slope for x <= 0, given by position or by name. It is rounded to the dtype of the result. "
    "It broadcasts, so that there can be one slope per channel, for example."
)
_NOTES = (
    f"{FLOATS} The error is at most 0.5 ULP: the result is rounded once. Slopes of any size and "
    "sign are supported. NaN and infinite slopes follow IEEE 754."
)


def _exact_leaky_relu(m: Any, x: Any, negative_slope: Any) -> Any:
    return m.where(x > 0, x, negative_slope * x)


def _numpy_leaky_relu(x: Any, negative_slope: float, out: Any) -> Any:
    # Right for slopes from 0 to 1.
    np.multiply(x, negative_slope, out=out)
    return np.maximum(x, out, out=out)


def _exact_leaky_relu_backward(m: Any, grad: Any, x: Any, negative_slope: Any) -> Any:
    return m.where(x <= 0, negative_slope * grad, m.where(x > 0, grad, x))


def _numpy_leaky_relu_backward(grad: Any, x: Any, negative_slope: float, out: Any) -> Any:
    # Right for slopes from 0 to 1.
    np.greater(x, 0, out=out)
    np.maximum(out, negative_slope, out=out)
    return np.multiply(grad, out, out=out)


# The result rises with x for positive slopes only, so neither operation is called monotone.
OPERATIONS = (
    Operation(
        name="leaky_relu",
        operands=("x", "negative_slope"),
        summary="Compute x where x > 0, and negative_slope * x elsewhere.",
        parameters=(INPUT, _SLOPE),
        returns="NaN where `x` is NaN.",
        see="leaky_relu_backward, relu",
        notes=_NOTES,
        exact=_exact_leaky_relu,
        numpy=_numpy_leaky_relu,
        bounds=Bounds(0.5, 0.5, 0.5),
        default=0.01,
        peers={
            # What torch.nn.functional.leaky_relu calls. The latter takes no `out`.
            "PyTorch": (
                "torch._C._nn.leaky_relu(x, negative_slope)",
                "torch._C._nn.leaky_relu(x, negative_slope, out=out)",
                "torch.prelu(x, negative_slope)",
            ),
            "numba": "x if x > 0 else negative_slope * x",
            "numexpr": "where(x > 0, x, negative_slope * x)",
            "ONNX Runtime": ("LeakyRelu", "alpha"),
            "JAX": "leaky_relu",
        },
    ),
    backward_of(
        Operation,
        "leaky_relu",
        summary="Compute the gradient of leaky_relu: grad where x > 0, else negative_slope * grad.",
        parameters={"negative_slope": _SLOPE},
        notes=_NOTES,
        exact=_exact_leaky_relu_backward,
        numpy=_numpy_leaky_relu_backward,
        bounds=Bounds(0.5, 0.5, 0.5),
        default=0.01,
        peers={
            "PyTorch": (
                "torch.ops.aten.leaky_relu_backward.default(grad, x, negative_slope, False)",
                "torch.ops.aten.leaky_relu_backward.grad_input("
                "grad, x, negative_slope, False, grad_input=out)",
            ),
            "numba": "grad if x > 0 else negative_slope * grad",
            "numexpr": "where(x > 0, grad, negative_slope * grad)",
            "JAX": "leaky_relu",
        },
    ),
)
