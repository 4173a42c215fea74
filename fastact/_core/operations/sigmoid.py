"""The logistic function, 1 / (1 + exp(-x)), and its backward passes."""

from typing import Any

import numpy as np

from .record import FLOATS, Bounds, Operation, backward_of


def _exact_sigmoid(m: Any, x: Any) -> Any:
    # exp(-|x|) never overflows, and keeps the tail on the left.
    decay = m.exp(-m.abs(x))
    return m.where(x < 0, decay, 1) / (1 + decay)


def _numpy_sigmoid(x: Any, out: Any) -> Any:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.reciprocal(out, out=out)


def _exact_sigmoid_backward(m: Any, grad: Any, x: Any) -> Any:
    decay = m.exp(-m.abs(x))
    return grad * (decay / (1 + decay) ** 2)


def _numpy_sigmoid_backward(grad: Any, x: Any, out: Any) -> Any:
    _numpy_sigmoid(x, out)
    np.multiply(out, 1 - out, out=out)
    return np.multiply(grad, out, out=out)


def _numpy_sigmoid_backward_from_output(grad: Any, y: Any, out: Any) -> Any:
    np.subtract(1, y, out=out)
    np.multiply(y, out, out=out)
    return np.multiply(grad, out, out=out)


OPERATIONS = (
    Operation(
        name="sigmoid",
        summary="Compute 1 / (1 + exp(-x)), the logistic function.",
        returns="In [0, 1] and monotone. 0.5 at 0, and NaN where `x` is NaN.",
        see="sigmoid_backward, sigmoid_backward_from_output",
        notes=(
            f"{FLOATS} The error is at most 1.7 ULP in float32, over all inputs, and at most 1.7 "
            "ULP in float64, as far as it was sampled. float16 and bfloat16 are correctly "
            "rounded. The left tail is kept down to the smallest subnormal number (x near -103.97 "
            "in float32, -745.1 in float64)."
        ),
        exact=_exact_sigmoid,
        numpy=_numpy_sigmoid,
        bounds=Bounds(0.5, 0.5, 2.0),
        range=(0.0, 1.0),
        monotone=True,
        narrow="own",
        costly=True,
        peers={
            "SciPy": "expit",
            "PyTorch": ("torch.sigmoid(x)", "torch.sigmoid(x, out=out)"),
            "numba": "1 / (1 + exp(-x))",
            "numexpr": "1 / (1 + exp(-x))",
            "ONNX Runtime": ("Sigmoid",),
            "JAX": "sigmoid",
        },
    ),
    backward_of(
        Operation,
        "sigmoid",
        summary="Compute grad * s(x) * s(-x), the gradient of s = sigmoid, from its input.",
        returns="0 where `x` is infinite, NaN where it is NaN.",
        see="sigmoid, sigmoid_backward_from_output",
        notes=f"{FLOATS} The error is at most 2.5 ULP, in both tails.",
        exact=_exact_sigmoid_backward,
        numpy=_numpy_sigmoid_backward,
        bounds=Bounds(0.5, 1.0, 2.5),
        # 1 - y near y = 1 costs a factor of exp(4).
        numpy_ulp=120.0,
        narrow="own",
        costly=True,
        peers={"numba": "y = 1 / (1 + exp(-x)); grad * y * (1 - y)", "JAX": "sigmoid"},
    ),
    backward_of(
        Operation,
        "sigmoid",
        operand="y",
        name="sigmoid_backward_from_output",
        summary="Compute grad * y * (1 - y), the gradient of sigmoid from its output.",
        returns="NaN where `y` is NaN.",
        see="sigmoid, sigmoid_backward",
        notes=(
            f"{FLOATS} This is cheaper than `sigmoid_backward`. The error is at most 1.5 ULP from "
            "the exact value for this `y`. But where `y` is near 1 it no longer determines `x`: "
            "in float32 the gradient is off by thousands of ULP for x in [5, 10], and 0 from "
            "x = 17 on."
        ),
        exact=lambda m, grad, y: grad * (y * (1 - y)),
        numpy=_numpy_sigmoid_backward_from_output,
        peers={
            "PyTorch": (
                "torch.ops.aten.sigmoid_backward.default(grad, y)",
                "torch.ops.aten.sigmoid_backward.grad_input(grad, y, grad_input=out)",
            ),
            "numba": "grad * y * (1 - y)",
            "numexpr": "grad * y * (1 - y)",
        },
    ),
)
