"""Activation functions as layers."""

from math import inf, isfinite
from numbers import Real
from typing import Any, Literal, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastact
from fastact import leaky_relu, leaky_relu_backward
from fastact._core.operands import shown, with_shape
from fastact._core.pools import Pool
from fastact.layers._base import Layer, no_forward, wrong_gradient

__all__ = ["Activation", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Tanh"]

# How hard NumPy's ufuncs look for overlap between operands: they answer at once, and say yes
# where a proof would take long. (Any: NumPy's stubs know only -1 and 0.)
_OVERLAP_WORK: Any = 1


class Activation(Layer):
    """What the activation layers have in common; not a layer itself.

    A subclass brings `__call__` and `_gradient`, and gives `__init__` what to keep. The output
    has the shape of the input and, if that is one of floats, its dtype.

    Results have the dtype, shape and type that the function of the same name in `fastact`
    gives them; `backward` is such a function, of the gradient and the kept array.

    Parameters
    ----------
    save : {"input", "output"}
        What `forward` keeps for `backward`.
    """

    __slots__ = ("_kept", "_pool", "_save")

    def __init__(self, save: Literal["input", "output"]) -> None:
        self._save = save
        self._kept: Any = None
        self._pool = Pool()

    @property
    def save(self) -> Literal["input", "output"]:
        """What `forward` keeps for `backward`."""
        return self._save

    def _gradient(self, grad: Any, kept: Any, out: NDArray[Any] | None, /) -> Any:
        """Compute the gradient with respect to the input; `kept` is what `save` says."""
        raise NotImplementedError(f"{type(self).__name__} has no _gradient")

    def _ufuncs(self) -> tuple[np.ufunc, np.ufunc, float | None] | None:
        """Tell `Linear` what to fuse: the ufuncs of both passes, and the last operand of both."""
        function, gradient = self.__call__, self._gradient
        if isinstance(function, np.ufunc) and isinstance(gradient, np.ufunc):
            return function, gradient, None
        return None

    @property
    def _rectifier_slope(self) -> float | None:
        """Slope for x < 0 of a rectifier, by which `Linear` initialises; None for others."""
        return None

    def forward(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        """Compute the output and keep what `backward` needs.

        That is one array, the input or the output as `save` says. It is kept itself, not as
        a copy: do not change it between `forward` and `backward`. Only an input that `out`
        overwrites is copied first.

        Parameters
        ----------
        x : array_like
        out : ndarray, optional
            Where the output goes; may be `x`. If its dtype is narrower than that of `x` and
            the output is kept, the gradient is that of the rounded output.

        Returns
        -------
        ndarray or scalar

        Notes
        -----
        A call that raises leaves what was kept before.
        """
        result = self._pool.like(x, x) if out is None else out
        if self._save == "output":
            self._kept = y = self(x, result)
            return y
        array = kept = with_shape(x)
        if out is not None and np.may_share_memory(array, out, max_work=_OVERLAP_WORK):
            kept = np.array(array, subok=True)
        y = self(array, result)
        self._kept = kept
        return y

    def backward(
        self, grad: ArrayLike, /, out: NDArray[Any] | None = None, *, input_gradient: bool = True
    ) -> Any:
        kept = self._kept
        if kept is None:
            raise no_forward(self)
        array = with_shape(grad)
        if array.shape != kept.shape:
            raise wrong_gradient(self, array.shape, kept.shape)
        if not input_gradient:
            return None
        return self._gradient(array, kept, self._pool.like(array, kept) if out is None else out)

    def _forget(self) -> None:
        self._kept = None


# Where a layer has no setting, its call is that of the ufunc itself: a method around it
# costs more than the ufunc takes for a small array.


class ReLU(Activation):
    """max(0, x), element by element: `fastact.relu` and `fastact.relu_backward`.

    `forward` keeps the output, which tells as well as the input where that was positive,
    and which the next layer mostly keeps too; the input may go, or be overwritten.
    """

    __slots__ = ()

    __call__ = staticmethod(fastact.relu)
    _gradient = staticmethod(fastact.relu_backward)

    def __init__(self) -> None:
        super().__init__(save="output")

    @property
    def _rectifier_slope(self) -> float:
        return 0.0


class LeakyReLU(Activation):
    """x where x > 0, else negative_slope * x: `fastact.leaky_relu` and its backward pass.

    `forward` keeps the output if the slope is positive: the output has the sign of the
    input then. For any other slope it keeps the input.

    Parameters
    ----------
    negative_slope : float, default 0.01
        Finite, in the dtype of the inputs too. 0 and negative slopes are allowed. It cannot be
        changed afterwards.

    Raises
    ------
    TypeError
        If the slope is not a real number. The functions take arrays: one slope per channel.
    ValueError
        If the slope is NaN, or infinite, which would make the output NaN at 0.
    """

    __slots__ = ("_negative_slope",)

    def __init__(self, negative_slope: SupportsFloat = 0.01) -> None:
        # A bool is a Real to Python, but LeakyReLU(True) is a mistake.
        if not isinstance(negative_slope, Real) or isinstance(negative_slope, bool):
            raise TypeError(
                "negative_slope is to be a real number, "
                f"not {type(negative_slope).__name__}: {negative_slope!r}"
            )
        # A Python float, because a NumPy scalar would have a say in the dtype of results.
        try:
            slope = float(negative_slope)
        except OverflowError:  # from an int
            slope = inf
        if not isfinite(slope):
            raise ValueError(f"negative_slope is to be finite, not {shown(negative_slope)}")
        super().__init__(save="output" if slope > 0 else "input")
        self._negative_slope = slope

    @property
    def negative_slope(self) -> float:
        """Slope for x <= 0."""
        return self._negative_slope

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        return leaky_relu(x, self._negative_slope, out)

    def _gradient(self, grad: Any, kept: Any, out: NDArray[Any] | None, /) -> Any:
        return leaky_relu_backward(grad, kept, self._negative_slope, out)

    def _ufuncs(self) -> tuple[np.ufunc, np.ufunc, float | None]:
        return leaky_relu, leaky_relu_backward, self._negative_slope

    @property
    def _rectifier_slope(self) -> float:
        return self._negative_slope


class Sigmoid(Activation):
    """1 / (1 + exp(-x)), the logistic function: `fastact.sigmoid` and its backward pass.

    Parameters
    ----------
    save : {"input", "output"}, default "input"
        What `forward` keeps. From the input, `fastact.sigmoid_backward` computes the
        gradient to about an ULP everywhere. From the output,
        `fastact.sigmoid_backward_from_output` computes it in a fraction of the time, but the
        output has lost what the input was where it is near 1. It cannot be changed afterwards.

    Raises
    ------
    TypeError
        If `save` is not a string.
    ValueError
        If `save` is another string.

    Notes
    -----
    The default is the input because what it costs is seen, and what the output loses is not.
    From the output, a float32 gradient is off by thousands of ULP for x in [5, 10] and exactly
    0 from x = 17 on (float16: from 8.3 on; float64: from 37.1 on), while it is right for -x: a
    saturated unit stops learning on one side only. The cost: forward and backward together
    take about 1.3 times as long for large arrays and 2 times in cache, the input stays in
    memory until the next `forward`, and ``forward(x, out=x)`` has to copy it.

    ``Sigmoid(save="output")`` is right where inputs are known to stay small, or where gradients
    below the precision of the output do not matter: the error is less than the ULP of 1, times
    `grad`.
    """

    __slots__ = ()

    __call__ = staticmethod(fastact.sigmoid)

    def __init__(self, save: Literal["input", "output"] = "input") -> None:
        if not isinstance(save, str):
            raise TypeError(f"save is to be a string, not {type(save).__name__}: {save!r}")
        if save not in ("input", "output"):
            raise ValueError(f"save is to be 'input' or 'output', not {save!r}")
        super().__init__(save)

    def _gradient(self, grad: Any, kept: Any, out: NDArray[Any] | None, /) -> Any:
        return self._derivative(grad, kept, out)

    @property
    def _derivative(self) -> np.ufunc:
        return (
            fastact.sigmoid_backward
            if self._save == "input"
            else fastact.sigmoid_backward_from_output
        )

    def _ufuncs(self) -> tuple[np.ufunc, np.ufunc, float | None]:
        return fastact.sigmoid, self._derivative, None


class Tanh(Activation):
    """The hyperbolic tangent: `fastact.tanh` and `fastact.tanh_backward`.

    `forward` keeps the input.
    """

    __slots__ = ()

    __call__ = staticmethod(fastact.tanh)
    _gradient = staticmethod(fastact.tanh_backward)

    def __init__(self) -> None:
        super().__init__(save="input")


class SiLU(Activation):
    """x / (1 + exp(-x)): `fastact.silu` and `fastact.silu_backward`.

    `forward` keeps the input.
    """

    __slots__ = ()

    __call__ = staticmethod(fastact.silu)
    _gradient = staticmethod(fastact.silu_backward)

    def __init__(self) -> None:
        super().__init__(save="input")
