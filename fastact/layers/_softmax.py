"""Softmax and its logarithm, the activations that are not elementwise."""

import operator
from typing import Any, ClassVar, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastact
from fastact.layers._activations import Activation
from fastact.layers._operands import check_out, float_dtype, refuse_masked

__all__ = ["LogSoftmax", "Softmax"]

_FLOATS = {np.dtype(char) for char in "efd"}


class _OverAxis(Activation):
    """Base class of activations that are computed over an axis, from rows of the input.

    Subclasses have the function and its backward pass from the output.
    """

    __slots__ = ("_axis",)

    _function: ClassVar[Any]
    _derivative: ClassVar[Any]

    def __init__(self, axis: SupportsIndex = -1) -> None:
        if isinstance(axis, bool) or not hasattr(axis, "__index__"):
            raise TypeError(f"axis must be an integer, not {type(axis).__name__}: {axis!r}")
        super().__init__(save="output")
        self._axis = operator.index(axis)

    @property
    def axis(self) -> int:
        """The axis along which the outputs are computed."""
        return self._axis

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        array = self._array(x)
        if not -array.ndim <= self._axis < array.ndim:
            if not array.ndim:
                raise ValueError(
                    f"{self!r}: the input has shape (), and no axis {self._axis} to sum along"
                )
            raise np.exceptions.AxisError(self._axis, array.ndim, repr(self))
        return self._delivered(self._function, (array,), out)

    def _gradient(self, grad: Any, kept: Any, out: NDArray[Any] | None, /) -> Any:
        return self._delivered(self._derivative, (self._array(grad), kept), out)

    def _array(self, operand: Any) -> Any:
        """Convert an operand; also a matrix, which has two dimensions always."""
        if type(operand) is np.ndarray and operand.dtype in _FLOATS:
            return operand
        refuse_masked(self, operand)
        array = np.asarray(operand) if isinstance(operand, np.matrix) else np.asanyarray(operand)
        float_dtype(self, array)
        return array

    def _delivered(self, function: Any, operands: tuple[Any, ...], out: NDArray[Any] | None) -> Any:
        if out is None or (type(out) is np.ndarray and out.shape == operands[0].shape):
            return function(*operands, out=out, axis=self._axis)
        # float16 passes for every floating-point `out`. The ufunc knows the type of the result, and
        # refuses what that cannot be cast to.
        check_out(out, operands[0].shape, np.dtype(np.float16))
        function(*operands, out=np.asarray(out), axis=self._axis)
        return out


class Softmax(_OverAxis):
    """exp(x) / sum(exp(x)) along an axis: `fastact.softmax` and `fastact.softmax_backward`.

    The outputs are probabilities, which are positive and sum to 1. `forward` saves the output.

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
    NaN or +inf, or are all -inf, all outputs along it are NaN. 16-bit types are computed in
    float32. Integers are promoted as in `numpy.exp`.

    For training, compute the loss from the logits with `fastact.losses.CrossEntropyLoss`. This is
    more accurate and faster than computing it from the output of `Softmax`.
    """

    __slots__ = ()

    _function = fastact.softmax
    _derivative = fastact.softmax_backward


class LogSoftmax(_OverAxis):
    """x - log(sum(exp(x))) along an axis, the logarithm of the output of `Softmax`.

    This is `fastact.log_softmax` and `fastact.log_softmax_backward`. `forward` saves the output.

    Parameters
    ----------
    axis : int, default -1
        The axis along which the exponentials of the outputs sum to 1. It cannot be changed later.

    Raises
    ------
    TypeError
        If `axis` is not an integer.

    Notes
    -----
    If the inputs along the axis contain NaN or +inf, or are all -inf, all outputs along it are NaN.
    16-bit types are computed in float32. Integers are promoted as in `numpy.exp`.
    """

    __slots__ = ()

    _function = fastact.log_softmax
    _derivative = fastact.log_softmax_backward
