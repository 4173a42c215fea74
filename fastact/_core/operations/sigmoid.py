"""The logistic function, 1 / (1 + exp(-x)), and its backward passes."""

import math
from typing import Any

import numpy as np

from .record import FLOATS, INPUT, Bounds, Operation, gradient_of_input, gradient_of_output


def _exact_sigmoid(m: Any, x: Any) -> Any:
    # exp(-|x|) never overflows, and keeps the tail on the left.
    decay = m.exp(-m.abs(x))
    return m.where(x < 0, decay, 1) / (1 + decay)


def _numpy_sigmoid(x: Any, out: Any) -> Any:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.reciprocal(out, out=out)
    return out


def _numba_sigmoid(njit: Any, number: Any) -> Any:
    one = number(1)
    return njit(lambda x: one / (one + math.exp(-x)))


def _exact_sigmoid_backward(m: Any, grad: Any, x: Any) -> Any:
    decay = m.exp(-m.abs(x))
    return grad * (decay / (1 + decay) ** 2)


def _numpy_sigmoid_backward(grad: Any, x: Any, out: Any) -> Any:
    _numpy_sigmoid(x, out)
    np.multiply(out, 1 - out, out=out)
    np.multiply(grad, out, out=out)
    return out


def _numba_sigmoid_backward(njit: Any, number: Any) -> Any:
    sigmoid = _numba_sigmoid(njit, number)
    from_output = _numba_sigmoid_backward_from_output(njit, number)
    return njit(lambda grad, x: from_output(grad, sigmoid(x)))


def _exact_sigmoid_backward_from_output(m: Any, grad: Any, y: Any) -> Any:
    return grad * (y * (1 - y))


def _numpy_sigmoid_backward_from_output(grad: Any, y: Any, out: Any) -> Any:
    np.subtract(1, y, out=out)
    np.multiply(y, out, out=out)
    np.multiply(grad, out, out=out)
    return out


def _numba_sigmoid_backward_from_output(njit: Any, number: Any) -> Any:
    one = number(1)
    return njit(lambda grad, y: grad * y * (one - y))


OPERATIONS = (
    Operation(
        name="sigmoid",
        operands=("x",),
        summary="Compute 1 / (1 + exp(-x)), the logistic function.",
        parameters=(INPUT,),
        returns="In [0, 1] and monotone. 0.5 at 0, and NaN where `x` is NaN.",
        see="sigmoid_backward, sigmoid_backward_from_output",
        notes=(
            f"{FLOATS} The error is at most 0.80 ULP in float32, over all inputs, and at most 0.8 "
            "ULP in float64, as far as it was sampled. float16 and bfloat16 are correctly "
            "rounded. The left tail is kept down to the smallest subnormal number (x near -103.97 "
            "in float32, -745.1 in float64)."
        ),
        exact=_exact_sigmoid,
        numpy=_numpy_sigmoid,
        bounds=Bounds(0.5, 0.5, 1.0),
        range=(0.0, 1.0),
        monotone=True,
        narrow="own",
        costly=True,
        peers={
            "SciPy": "expit",
            "PyTorch": ("torch.sigmoid(x)", "torch.sigmoid(x, out=out)"),
            "numba": _numba_sigmoid,
            "numexpr": "1 / (1 + exp(-x))",
            "ONNX Runtime": ("Sigmoid",),
            "JAX": "sigmoid",
        },
    ),
    Operation(
        name="sigmoid_backward",
        operands=("grad", "x"),
        summary="Compute grad * s(x) * s(-x), the gradient of s = sigmoid, from its input.",
        parameters=(gradient_of_output("sigmoid"), "Input of `sigmoid`."),
        returns=f"{gradient_of_input('sigmoid')} 0 where `x` is infinite, NaN where it is NaN.",
        see="sigmoid, sigmoid_backward_from_output",
        notes=f"{FLOATS} The error is at most 1.5 ULP, in both tails.",
        exact=_exact_sigmoid_backward,
        numpy=_numpy_sigmoid_backward,
        bounds=Bounds(0.5, 1.0, 1.5),
        # 1 - y near y = 1 costs a factor of exp(4).
        numpy_ulp=120.0,
        narrow="own",
        costly=True,
        peers={"numba": _numba_sigmoid_backward, "JAX": "sigmoid"},
    ),
    Operation(
        name="sigmoid_backward_from_output",
        operands=("grad", "y"),
        summary="Compute grad * y * (1 - y), the gradient of sigmoid from its output.",
        parameters=(gradient_of_output("sigmoid"), "Output of `sigmoid`."),
        returns=f"{gradient_of_input('sigmoid')} NaN where `y` is NaN.",
        see="sigmoid, sigmoid_backward",
        notes=(
            f"{FLOATS} This is cheaper than `sigmoid_backward`. The error is at most 1.5 ULP from "
            "the exact value for this `y`. But where `y` is near 1 it no longer determines `x`: "
            "in float32 the gradient is off by thousands of ULP for x in [5, 10], and 0 from "
            "x = 17 on."
        ),
        exact=_exact_sigmoid_backward_from_output,
        numpy=_numpy_sigmoid_backward_from_output,
        bounds=Bounds(0.5, 1.0, 1.5),
        output_of="sigmoid",
        peers={
            "PyTorch": (
                "torch.ops.aten.sigmoid_backward.default(grad, y)",
                "torch.ops.aten.sigmoid_backward.grad_input(grad, y, grad_input=out)",
            ),
            "numba": _numba_sigmoid_backward_from_output,
            "numexpr": "grad * y * (1 - y)",
        },
    ),
)
