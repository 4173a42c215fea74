"""Activation functions as layers."""

from math import inf, isfinite
from numbers import Real
from typing import Any, Literal, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastact
from fastact import leaky_relu, leaky_relu_backward
from fastact._core.networks.pools import Pool
from fastact.layers._base import Layer, no_forward, wrong_gradient
from fastact.layers._operands import shown, with_shape

__all__ = [
    "GELU",
    "Activation",
    "LeakyReLU",
    "LogSigmoid",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
]

# The effort that NumPy's ufuncs spend on the overlap check: the answer is immediate, and errs on
# the side of overlap where an exact one would be slow. (Any: NumPy's stubs allow only -1 and 0.)
_OVERLAP_WORK: Any = 1


class Activation(Layer):
    """Base class of the activation layers.

    Subclasses implement `__call__` and ``_gradient``, and pass `save` to ``__init__``. The output
    has the shape of the input. It also has the dtype of the input if that is floating-point.

    Results have the same dtype, shape and type as those of the corresponding function in
    ``fastact``. `backward` applies such a function to the gradient and the saved array.

    Parameters
    ----------
    save : {"input", "output"}
        The array that `forward` saves for `backward`.
    """

    __slots__ = ("_kept", "_pool", "_save")

    def __init__(self, save: Literal["input", "output"]) -> None:
        self._save = save
        self._kept: Any = None
        self._pool = Pool()

    @property
    def save(self) -> Literal["input", "output"]:
        """The array that `forward` saves for `backward`."""
        return self._save

    def _gradient(self, grad: Any, kept: Any, out: NDArray[Any] | None, /) -> Any:
        """Compute the gradient with respect to the input; `kept` is the saved array."""
        raise NotImplementedError(f"{type(self).__name__} has no _gradient")

    def _ufuncs(self) -> tuple[np.ufunc, np.ufunc, float | None] | None:
        """Return what `Linear` fuses: the ufuncs of both passes, and their last operand."""
        function, gradient = self.__call__, self._gradient
        if isinstance(function, np.ufunc) and isinstance(gradient, np.ufunc):
            return function, gradient, None
        return None

    @property
    def _rectifier_slope(self) -> float | None:
        """Slope of a rectifier for x < 0, used by `Linear` for initialization; None otherwise."""
        return None

    def forward(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        """Compute the output and save the array that `backward` needs.

        This is the input or the output, depending on `save`. The array is not copied, so do not
        modify it between `forward` and `backward`. An input that `out` overwrites is copied
        first.

        Parameters
        ----------
        x : array_like
            The input.
        out : ndarray, optional
            Array to store the output in; may be `x`. If its dtype is narrower than that of `x`
            and the output is saved, the gradient is that of the rounded output.

        Returns
        -------
        ndarray or scalar
            The output.

        Notes
        -----
        If the call raises an exception, the previously saved array is retained.
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

    def _overwrites(self, x: NDArray[Any]) -> bool:
        return False


# Layers without settings use the ufunc itself as `__call__`. For a small array, a wrapper method
# would take longer than the ufunc.


class ReLU(Activation):
    """max(0, x), elementwise: `fastact.relu` and `fastact.relu_backward`.

    `forward` saves the output, which is positive exactly where the input is. The next layer
    usually saves the same array. The input can then be freed or overwritten.
    """

    __slots__ = ()

    __call__ = fastact.relu
    _gradient = fastact.relu_backward

    def __init__(self) -> None:
        super().__init__(save="output")

    @property
    def _rectifier_slope(self) -> float:
        return 0.0


class LeakyReLU(Activation):
    """x where x > 0, else negative_slope * x: `fastact.leaky_relu` and its backward pass.

    `forward` saves the output if the slope is positive, because the output then has the sign of
    the input. Otherwise it saves the input.

    Parameters
    ----------
    negative_slope : float, default 0.01
        Slope for x <= 0. It must be finite, also in the dtype of the inputs. It may be 0 or
        negative. It cannot be changed later.

    Raises
    ------
    TypeError
        If the slope is not a real number. For one slope per channel, use the functions, which
        accept arrays.
    ValueError
        If the slope is NaN or infinite. An infinite slope would make the output NaN at 0.
    """

    __slots__ = ("_negative_slope",)

    def __init__(self, negative_slope: SupportsFloat = 0.01) -> None:
        # bool is a subclass of int, but LeakyReLU(True) is a mistake.
        if not isinstance(negative_slope, Real) or isinstance(negative_slope, bool):
            raise TypeError(
                "negative_slope must be a real number, "
                f"not {type(negative_slope).__name__}: {negative_slope!r}"
            )
        # Convert to a Python float: a NumPy scalar would affect the dtype of the results.
        try:
            slope = float(negative_slope)
        except OverflowError:  # from an int
            slope = inf
        if not isfinite(slope):
            raise ValueError(f"negative_slope must be finite, not {shown(negative_slope)}")
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
        The array that `forward` saves. From the input, `fastact.sigmoid_backward` computes the
        gradient to about one ULP everywhere. From the output,
        `fastact.sigmoid_backward_from_output` is several times faster, but an output close to 1
        does not determine the input accurately. It cannot be changed later.

    Raises
    ------
    TypeError
        If `save` is not a string.
    ValueError
        If `save` is any other string.

    Notes
    -----
    The default is "input" because its cost is easy to notice, while the loss of accuracy with
    "output" is not. With "output", a float32 gradient is off by thousands of ULP for x in [5, 10]
    and exactly 0 for x >= 17 (float16: x >= 8.3; float64: x >= 37.1). It is still accurate for
    -x, so a saturated unit stops learning on one side only. With "input", forward and backward
    together take about 1.3 times as long for large arrays, and twice as long for arrays in the
    cache. The input also stays in memory until the next `forward`, and ``forward(x, out=x)`` has
    to copy it.

    Use ``Sigmoid(save="output")`` if the inputs are known to be small, or if gradients below the
    precision of the output do not matter. The error is less than the ULP of 1, times `grad`.
    """

    __slots__ = ()

    __call__ = fastact.sigmoid

    def __init__(self, save: Literal["input", "output"] = "input") -> None:
        if not isinstance(save, str):
            raise TypeError(f"save must be a string, not {type(save).__name__}: {save!r}")
        if save not in ("input", "output"):
            raise ValueError(f"save must be 'input' or 'output', not {save!r}")
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

    `forward` saves the input.
    """

    __slots__ = ()

    __call__ = fastact.tanh
    _gradient = fastact.tanh_backward

    def __init__(self) -> None:
        super().__init__(save="input")


class SiLU(Activation):
    """x / (1 + exp(-x)): `fastact.silu` and `fastact.silu_backward`.

    `forward` saves the input.
    """

    __slots__ = ()

    __call__ = fastact.silu
    _gradient = fastact.silu_backward

    def __init__(self) -> None:
        super().__init__(save="input")


class Softplus(Activation):
    """log(1 + exp(x)): `fastact.softplus` and `fastact.softplus_backward`.

    `forward` saves the input.
    """

    __slots__ = ()

    __call__ = fastact.softplus
    _gradient = fastact.softplus_backward

    def __init__(self) -> None:
        super().__init__(save="input")


class LogSigmoid(Activation):
    """log(1 / (1 + exp(-x))): `fastact.log_sigmoid` and `fastact.log_sigmoid_backward`.

    `forward` saves the input.
    """

    __slots__ = ()

    __call__ = fastact.log_sigmoid
    _gradient = fastact.log_sigmoid_backward

    def __init__(self) -> None:
        super().__init__(save="input")


class GELU(Activation):
    """x * (1 + erf(x / sqrt(2))) / 2: `fastact.gelu`, or its approximation `fastact.gelu_tanh`.

    `forward` saves the input.

    Parameters
    ----------
    approximate : {"none", "tanh"}, default "none"
        "none" is the exact function. "tanh" is an approximation that some networks were trained
        with, and is faster. It cannot be changed later.

    Raises
    ------
    TypeError
        If `approximate` is not a string.
    ValueError
        If `approximate` is any other string.
    """

    __slots__ = ("_approximate",)

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        if not isinstance(approximate, str):
            raise TypeError(
                f"approximate must be a string, not {type(approximate).__name__}: {approximate!r}"
            )
        if approximate not in ("none", "tanh"):
            raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}")
        super().__init__(save="input")
        self._approximate = approximate

    @property
    def approximate(self) -> Literal["none", "tanh"]:
        """Which function it is: "none" for the exact one, or "tanh"."""
        return self._approximate

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        return self._ufuncs()[0](x, out)

    def _gradient(self, grad: Any, kept: Any, out: NDArray[Any] | None, /) -> Any:
        return self._ufuncs()[1](grad, kept, out)

    def _ufuncs(self) -> tuple[np.ufunc, np.ufunc, float | None]:
        if self._approximate == "tanh":
            return fastact.gelu_tanh, fastact.gelu_tanh_backward, None
        return fastact.gelu, fastact.gelu_backward, None
