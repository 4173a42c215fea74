"""Loss functions: the mean over a batch, and its gradient with respect to the predictions.

>>> import numpy as np
>>> from fastact.losses import MSELoss
>>> loss = MSELoss()
>>> loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))  # computes, keeps nothing
2.0
>>> loss.forward(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
2.0
>>> loss.backward()
array([ 0., -2.])
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastact._core.networks.pools import Pool, alike
from fastact._core.networks.training import MeanLoss, SoftmaxLoss
from fastact.layers._operands import float_dtype, real_array, refuse_masked, wide

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "Loss", "MSELoss"]


class Loss:
    """Base class of all losses.

    16-bit types are computed in float32, other types in the dtype of the prediction.
    Floating-point warnings are suppressed. The loss of an empty batch is NaN.

    A gradient array is reused once the caller holds no reference to it. A loss keeps at most 12 of
    them, of less than 4 MiB, within the limit that `fastact.set_buffer_limit` sets;
    `fastact.release_buffers` frees them.
    """

    __slots__ = ("_pool", "_saved")

    def __init__(self) -> None:
        # The gradient and the dtype that it is to have: together, for threads that share the loss.
        self._saved: tuple[NDArray[Any], Any] | None = None
        self._pool = Pool()

    def __call__(self, prediction: ArrayLike, target: ArrayLike, /) -> float:
        """Compute the mean loss without saving anything for `backward`.

        Parameters
        ----------
        prediction : array_like
            Of float16, float32 or float64. Integers are promoted as in `numpy.exp`.
        target : array_like
            Must have the shape of the prediction; it is not broadcast.

        Returns
        -------
        float
            The mean.

        Raises
        ------
        TypeError
            If a dtype is complex, object or string, or an array is masked.
        ValueError
            If the shapes differ.
        """
        return self._computed(prediction, target)[0]

    def forward(self, prediction: ArrayLike, target: ArrayLike, /) -> float:
        """Compute the mean loss, and save its gradient for `backward`.

        The errors are the same as those of `__call__`.

        Parameters
        ----------
        prediction, target : array_like
            As for `__call__`.

        Returns
        -------
        float
            The mean.
        """
        value, self._saved = self._computed(prediction, target)
        return value

    def backward(self) -> NDArray[Any]:
        """Compute the gradient of the last `forward` with respect to the prediction.

        It can be called several times, and may return the same array each time.

        Returns
        -------
        ndarray
            Has the shape and dtype of the prediction.

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        """
        saved = self._saved
        if saved is None:
            raise RuntimeError(
                f"{self!r}: backward() before forward(), which keeps what backward() needs; "
                "loss(prediction, target) keeps nothing"
            )
        gradient, dtype = saved
        return gradient if gradient.dtype == dtype else _narrowed(gradient, dtype)

    def _computed(self, prediction: Any, target: Any) -> tuple[float, tuple[NDArray[Any], Any]]:
        """Compute the loss, and what to save: the gradient, and the dtype that it is to have."""
        if alike(prediction, target):
            value, gradient = self._value(prediction, target)
            return value, (gradient, prediction.dtype)
        for operand in (prediction, target):
            refuse_masked(self, operand)
        prediction = np.asarray(prediction)
        dtype = float_dtype(self, prediction)
        prediction = real_array(self, prediction, wide(dtype))
        target = self._target(np.asarray(target), prediction)
        value, gradient = self._value(prediction, target)
        return value, (gradient, dtype)

    def _target(self, target: NDArray[Any], prediction: NDArray[Any]) -> NDArray[Any]:
        """Check and convert the target."""
        if target.shape != prediction.shape:
            raise ValueError(
                f"{self!r}: the target has shape {target.shape}, the prediction {prediction.shape}"
            )
        return real_array(self, target, prediction.dtype)

    def _value(self, prediction: NDArray[Any], target: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Compute the loss and the gradient."""
        raise NotImplementedError(f"{type(self).__name__} has no _value")

    def _empty(self, like: NDArray[Any]) -> NDArray[Any]:
        empty: NDArray[Any] = self._pool.empty(like.shape, like.dtype)
        return empty

    def __repr__(self) -> str:
        """Show the class."""
        return f"{type(self).__name__}()"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without the saved arrays."""
        return type(self), ()


# Used as a decorator.
_silent = np.errstate(all="ignore")
_squared_error = MeanLoss("squared_error")
_logistic_loss = MeanLoss("logistic_loss")
_softmax_loss = SoftmaxLoss()


@_silent
def _narrowed(gradient: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert to a 16-bit type, whose greatest number is exceeded easily."""
    return gradient.astype(dtype)


class MSELoss(Loss):
    """The mean of (prediction - target)**2 over all elements."""

    __slots__ = ()

    def _value(self, prediction: NDArray[Any], target: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        gradient = self._empty(prediction)
        return _squared_error(prediction, target, gradient), gradient


class BCEWithLogitsLoss(Loss):
    """The mean binary cross-entropy of sigmoid(prediction), over all elements.

    This is the mean of -t log s(z) - (1 - t) log s(-z), for logits z and targets t in [0, 1]. It
    is computed as log(1 + exp(-abs(z))) + z ((z > 0) - t), which does not overflow for logits of
    large magnitude. An infinite logit of the correct sign has a loss of 0. The gradient is
    (sigmoid(z) - t) / n.
    """

    __slots__ = ()

    def _value(self, prediction: NDArray[Any], target: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        gradient = self._empty(prediction)
        return _logistic_loss(prediction, target, gradient), gradient


class CrossEntropyLoss(Loss):
    """The mean cross-entropy of softmax(prediction), over all samples.

    The classes are along the last axis of the logits. The target is either the integer index of
    the correct class, with the shape of the logits without the last axis, or the probabilities of
    the classes, with the shape of the logits. An index out of range raises a ValueError. Integers
    with the shape of the logits raise a TypeError, as in PyTorch, because they may be meant as
    either. Convert a one-hot encoding by ``target.astype(np.float32)``.

    The gradient is (softmax(prediction) - p) / n if the probabilities p of each sample sum to 1.
    For class indices, value and gradient keep their digits where a prediction is almost certain:
    the sum of the other probabilities is not computed as a difference from 1.
    """

    __slots__ = ()

    def _target(self, target: NDArray[Any], prediction: NDArray[Any]) -> NDArray[Any]:
        shape = prediction.shape
        if target.ndim == len(shape):
            if shape and target.shape == shape and target.dtype.kind in "iu":
                raise TypeError(
                    f"{self!r}: the target has the shape of the prediction, {shape}, and dtype "
                    f"{target.dtype}; wanted indices of shape {shape[:-1]}, or probabilities of a "
                    "floating-point dtype"
                )
            return super()._target(target, prediction)
        if target.shape != shape[:-1]:
            raise ValueError(
                f"{self!r}: the target has shape {target.shape}; wanted that of the prediction, "
                f"{shape}, or for indices {shape[:-1]}"
            )
        if target.dtype.kind not in "iu":
            raise TypeError(f"{self!r}: indices of dtype {target.dtype}, wanted integers")
        if target.dtype == np.uint64:  # the only dtype with numbers that intp lacks
            target = np.minimum(target, np.iinfo(np.intp).max)
        # A copy: another thread may change the target after the check, and the gradient is written
        # at the labels.
        return np.array(target, np.intp, order="C")

    def _value(self, prediction: NDArray[Any], target: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        if not prediction.ndim:
            raise ValueError(f"{self!r}: the prediction must have at least one axis, of classes")
        gradient = self._empty(prediction)
        value = _softmax_loss(prediction, target, gradient)
        if value is None:
            raise ValueError(
                f"{self!r}: the target has indices from {target.min()} to {target.max()}, "
                f"there are {prediction.shape[-1]} classes"
            )
        return value, gradient
