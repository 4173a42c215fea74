"""softmax and its logarithm, over an axis, and their backward passes from the output."""

from typing import Any

import numpy as np

from .record import FLOATS, Bounds, RowOperation, backward_of

_INPUT = "Input, with at least one dimension."
_ROWS = (
    "A row is what the function is computed for: the elements along `axis`. If a row has a NaN or "
    "inf, or nothing but -inf, the whole row of the result is NaN."
)
_GRADIENT = (
    "The error is at most 2.5 ULP of the larger one of the result and of what is subtracted. Where "
    "the sum cancels, its rounding errors are added: see the page on accuracy."
)


def _exact_softmax(m: Any, x: Any) -> Any:
    powers = m.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _exact_log_softmax(m: Any, x: Any) -> Any:
    top = x.max(-1, keepdims=True)
    # The sum less 1 for one of the largest elements: nothing is lost from a small one.
    ones = (x == top).sum(-1, keepdims=True)
    others = m.where(x == top, 0, m.exp(x - top)).sum(-1, keepdims=True)
    return (x - top) - m.log1p(others + (ones - 1))


def _mean_gradient(m: Any, grad: Any, y: Any) -> Any:
    return (grad * y).sum(-1, keepdims=True)


def _share_of_gradient(m: Any, grad: Any, y: Any) -> Any:
    return m.exp(y) * grad.sum(-1, keepdims=True)


def _numpy_softmax(x: Any, out: Any) -> Any:
    np.subtract(x, x.max(-1, keepdims=True), out=out)
    np.exp(out, out=out)
    return np.divide(out, out.sum(-1, keepdims=True), out=out)


def _numpy_log_softmax(x: Any, out: Any) -> Any:
    shifted = np.subtract(x, x.max(-1, keepdims=True))
    np.exp(shifted, out=out)
    total = out.sum(-1, keepdims=True)
    return np.subtract(shifted, np.log(total, out=total), out=out)


def _numpy_softmax_backward(grad: Any, y: Any, out: Any) -> Any:
    np.multiply(grad, y, out=out)
    total = out.sum(-1, keepdims=True)
    np.subtract(grad, total, out=out)
    return np.multiply(out, y, out=out)


def _numpy_log_softmax_backward(grad: Any, y: Any, out: Any) -> Any:
    np.exp(y, out=out)
    np.multiply(out, grad.sum(-1, keepdims=True), out=out)
    return np.subtract(grad, out, out=out)


ROW_OPERATIONS = (
    RowOperation(
        name="softmax",
        summary="Compute exp(x) / sum(exp(x)) along an axis: probabilities, whose sum is 1.",
        parameters=(_INPUT,),
        returns="From 0 to 1.",
        see="log_softmax, softmax_backward, sigmoid",
        notes=(
            f"{FLOATS} {_ROWS} An element of -inf gives 0. The error of every element is at most "
            "2.5 ULP, also of those that are subnormal. 16-bit types are computed in float32."
        ),
        exact=_exact_softmax,
        numpy=_numpy_softmax,
        bounds=Bounds(0.51, 0.51, 2.5),
        peers={"PyTorch": ("torch.softmax(x, -1)", "torch.softmax(x, -1, out=out)")},
    ),
    RowOperation(
        name="log_softmax",
        summary="Compute x - log(sum(exp(x))) along an axis, the logarithm of softmax.",
        parameters=(_INPUT,),
        returns="Not positive.",
        see="softmax, log_softmax_backward, log_sigmoid",
        notes=(
            f"{FLOATS} {_ROWS} An element of -inf gives -inf. The error of every element is at "
            "most 2.5 ULP, also of those near 0. 16-bit types are computed in float32."
        ),
        exact=_exact_log_softmax,
        numpy=_numpy_log_softmax,
        bounds=Bounds(0.51, 0.51, 2.5),
        peers={"PyTorch": ("torch.log_softmax(x, -1)", "torch.log_softmax(x, -1, out=out)")},
    ),
    backward_of(
        RowOperation,
        "softmax",
        operand="y",
        summary="Compute y * (grad - sum(grad * y)), the gradient of softmax from its output.",
        returns="",
        see="softmax, log_softmax_backward",
        notes=(
            f"{FLOATS} If the row of `grad` or `y` has a NaN, the whole row of the result is NaN. "
            f"{_GRADIENT}"
        ),
        exact=lambda m, grad, y: y * (grad - _mean_gradient(m, grad, y)),
        subtracted=lambda m, grad, y: y * m.maximum(abs(grad), abs(_mean_gradient(m, grad, y))),
        numpy=_numpy_softmax_backward,
        bounds=Bounds(0.51, 0.51, 2.5),
        peers={
            "PyTorch": (
                "torch._softmax_backward_data(grad, y, -1, grad.dtype)",
                "torch._softmax_backward_data(grad, y, -1, grad.dtype, grad_input=out)",
            )
        },
    ),
    backward_of(
        RowOperation,
        "log_softmax",
        operand="y",
        summary="Compute grad - exp(y) * sum(grad), the gradient of log_softmax from its output.",
        returns="",
        see="log_softmax, softmax_backward",
        notes=(
            f"{FLOATS} If the row of `grad` has a NaN, the whole row of the result is NaN. A NaN "
            f"in `y` makes that element NaN. {_GRADIENT}"
        ),
        exact=lambda m, grad, y: grad - _share_of_gradient(m, grad, y),
        subtracted=_share_of_gradient,
        numpy=_numpy_log_softmax_backward,
        bounds=Bounds(0.51, 0.51, 2.5),
        peers={
            "PyTorch": (
                "torch._log_softmax_backward_data(grad, y, -1, grad.dtype)",
                "torch._log_softmax_backward_data(grad, y, -1, grad.dtype, out=out)",
            )
        },
    ),
)
