"""Softmax, the one activation that is not elementwise."""

import operator
from math import inf
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastact._core.operands import compute_wide, float_dtype, refuse_masked
from fastact.layers._activations import Activation

__all__ = ["Softmax"]

# NumPy's stubs lack the `axis` parameter.
_vecdot: Any = np.vecdot


class Softmax(Activation):
    """exp(x) / sum(exp(x)) along an axis: probabilities, which are positive and sum to 1.

    The maximum is subtracted first, so that large inputs do not overflow. `forward` saves the
    output.

    Parameters
    ----------
    axis : int, default -1
        The axis along which the outputs sum to 1. It cannot be changed later.

    Raises
    ------
    TypeError
        If `axis` is not an integer.

    Notes
    -----
    The output and the gradient are 0 for an input of -inf. If the inputs along the axis contain
    NaN or +inf, or are all -inf, all outputs along it are NaN. float16 is computed in float32.
    Integers are promoted as in `numpy.exp`.

    For training, compute the loss from the logits with `fastact.losses.CrossEntropyLoss`. This is
    more accurate and faster than computing it from the output of `Softmax`.
    """

    __slots__ = ("_axis",)

    def __init__(self, axis: SupportsIndex = -1) -> None:
        if isinstance(axis, bool) or not hasattr(axis, "__index__"):
            raise TypeError(f"axis is to be an integer, not {type(axis).__name__}: {axis!r}")
        super().__init__(save="output")
        self._axis = operator.index(axis)

    @property
    def axis(self) -> int:
        """The axis along which the outputs sum to 1."""
        return self._axis

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        array = self._array(x)
        if not -array.ndim <= self._axis < array.ndim:
            if not array.ndim:
                raise ValueError(
                    f"{self!r}: the input has shape (), and no axis {self._axis} to sum along"
                )
            raise np.exceptions.AxisError(self._axis, array.ndim, repr(self))
        return compute_wide(self._values, (array,), float_dtype(self, array), out)

    def _gradient(self, grad: Any, kept: Any, out: NDArray[Any] | None, /) -> Any:
        grad = self._array(grad)
        # np.result_type knows nothing that float16 and bfloat16 have in common.
        dtype = np.subtract.resolve_dtypes((float_dtype(self, grad), kept.dtype, None))[2]
        return compute_wide(self._derivative, (grad, kept), dtype, out)

    def _array(self, operand: Any) -> Any:
        """Convert an operand; also a matrix, whose sums would not keep their dimensions."""
        refuse_masked(self, operand)
        return np.asarray(operand) if isinstance(operand, np.matrix) else np.asanyarray(operand)

    def _values(self, x: Any, out: NDArray[Any] | None) -> Any:
        y = np.subtract(x, x.max(self._axis, keepdims=True, initial=-inf), out=out)
        np.exp(y, out=y)
        y /= y.sum(self._axis, keepdims=True)
        return y

    def _derivative(self, grad: Any, y: Any, out: NDArray[Any] | None) -> Any:
        mean = np.expand_dims(_vecdot(grad, y, axis=self._axis), self._axis)
        result = np.subtract(grad, mean, out=out)
        result *= y
        return result
