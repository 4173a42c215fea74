"""Layers: forward and backward passes that remember what lies between them.

>>> import numpy as np
>>> from fastact.layers import LeakyReLU, Linear, Sequential
>>> layer = LeakyReLU(negative_slope=0.2)
>>> layer(np.array([-1.0, 2.0]))  # computes, keeps nothing
array([-0.2,  2. ])
>>> y = layer.forward(np.array([-1.0, 2.0]))
>>> layer.backward(np.array([1.0, 1.0]))
array([0.2, 1. ])
>>> model = Sequential(Linear(2, 3, layer, seed=0), Linear(3, 1, seed=1))
>>> model(np.ones((5, 2), np.float32)).shape
(5, 1)
"""

import copyreg
import operator
from collections.abc import Iterator, Mapping
from inspect import signature
from itertools import pairwise
from math import inf, isfinite, sqrt
from numbers import Real
from typing import Any, Literal, SupportsFloat, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastact import (
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    sigmoid_backward_from_output,
)
from fastact._core.dense import Dense, Pool
from fastact._core.operands import (
    check_out,
    compute_wide,
    delivered,
    float_dtype,
    real_array,
    with_shape,
)

__all__ = ["Activation", "Layer", "LeakyReLU", "Linear", "ReLU", "Sequential", "Sigmoid", "Softmax"]

# How hard NumPy's ufuncs look whether operands overlap: an answer at once, and yes where it
# would take long. (Any: NumPy's stubs know only -1 and 0.)
_OVERLAP_WORK: Any = 1

# NumPy's stubs know no axis.
_vecdot: Any = np.vecdot


class Layer:
    """What all layers have in common; not a layer itself.

    A subclass brings `__call__`, `forward` and `backward`. It lets every parameter of its own
    `__init__` be read under the parameter's name: repr, pickle and copy go by that.

    Pickles and copies of a layer carry its settings and its parameters, and not what `forward`
    has kept.
    """

    # No __dict__: a misspelt setting is an AttributeError.
    __slots__ = ()

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        """Compute the output and keep nothing.

        What an earlier `forward` has kept stays.

        Parameters
        ----------
        x : array_like
        out : ndarray, optional
            Where the output goes; may be `x`.

        Returns
        -------
        ndarray or scalar
        """
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def forward(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        """Compute the output and keep what `backward` needs.

        Parameters
        ----------
        x : array_like
            May be kept itself, not as a copy: do not change it before `backward`. Nor the output.
        out : ndarray, optional
            Where the output goes; may be `x`.

        Returns
        -------
        ndarray or scalar
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(
        self, grad: ArrayLike, /, out: NDArray[Any] | None = None, *, input_gradient: bool = True
    ) -> Any:
        """Compute the gradients of the loss with respect to the parameters and to the input.

        Those of the parameters go where `gradients` shows them. What `forward` has kept stays
        until the next `forward`, so that this may be called any number of times.

        Parameters
        ----------
        grad : array_like
            Gradient of the loss with respect to the output of the last `forward`, of its shape.
        out : ndarray, optional
            Where the gradient with respect to the input goes; may be `grad`.
        input_gradient : bool, default True
            Whether to compute the gradient with respect to the input: the first layer of a
            network that is trained has no use for it.

        Returns
        -------
        ndarray or scalar, or None without `input_gradient`

        Raises
        ------
        RuntimeError
            If there was no `forward`.
        ValueError
            If `grad` is not of the shape of the output; it is not broadcast.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Name the parameters.

        Returns
        -------
        dict of str to ndarray
            The arrays themselves: what is written into one holds from then on.
        """
        return {}

    def gradients(self) -> dict[str, NDArray[Any]]:
        """Name the gradients of the loss with respect to the parameters.

        Returns
        -------
        dict of str to ndarray
            Under the names of the parameters, the arrays that every `backward` overwrites; 0
            before the first.
        """
        return {}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copy the parameters, by name, as for ``np.savez(path, **layer.state_dict())``.

        Returns
        -------
        dict of str to ndarray
        """
        return {name: parameter.copy() for name, parameter in self.parameters().items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Overwrite the parameters.

        Parameters
        ----------
        state : mapping of str to array_like
            A value for every parameter, of its shape, and nothing else: what `state_dict`
            returned, what `numpy.load` opened, or PyTorch's state of the same layers. Floats of
            another width are rounded.

        Raises
        ------
        TypeError
            If `state` is not a mapping, or a value is neither floating-point nor integer.
        ValueError
            If names are missing or unexpected, a shape is wrong, or a parameter is read-only.
            Nothing is changed then.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state is to be a mapping of names to arrays, not {state!r}")
        parameters = self.parameters()
        missing, unexpected = parameters.keys() - state.keys(), state.keys() - parameters.keys()
        if missing or unexpected:
            raise ValueError(
                f"{self!r}: missing in the state: {sorted(missing)}; "
                f"unexpected: {sorted(map(str, unexpected))}"
            )
        # All values are converted before the first is written.
        values = {}
        for name, parameter in parameters.items():
            value = np.asarray(state[name])
            if value.dtype.kind not in "fiu":
                raise TypeError(f"{name}: values of dtype {value.dtype}, wanted {parameter.dtype}")
            if value.shape != parameter.shape:
                raise ValueError(f"{name}: shape {value.shape}, wanted {parameter.shape}")
            if not parameter.flags.writeable:
                raise ValueError(f"{name} is read-only")
            values[name] = value.astype(parameter.dtype)
        for name, parameter in parameters.items():
            parameter[...] = values[name]

    def _forget(self) -> None:
        """Drop what `forward` has kept."""

    def __repr__(self) -> str:
        """Show the settings that are not the default."""
        settings = (
            f"{name}={getattr(self, name)!r}"
            for name, parameter in signature(type(self)).parameters.items()
            if getattr(self, name) != parameter.default
        )
        return f"{type(self).__name__}({', '.join(settings)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Make pickles and copies by calling the class with the settings."""
        return type(self), tuple(getattr(self, name) for name in signature(type(self)).parameters)


def _no_forward(layer: Layer) -> RuntimeError:
    return RuntimeError(
        f"{layer!r}: backward() before forward(), which keeps what backward() needs; "
        "layer(x) keeps nothing"
    )


def _wrong_gradient(layer: Layer, shape: Any, wanted: Any) -> ValueError:
    return ValueError(
        f"{layer!r}: the gradient has shape {shape}, the output of forward() had shape {wanted}"
    )


# --------------------------------------------------------------- activations


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

    def backward(  # noqa: D102
        self, grad: ArrayLike, /, out: NDArray[Any] | None = None, *, input_gradient: bool = True
    ) -> Any:
        kept = self._kept
        if kept is None:
            raise _no_forward(self)
        array = with_shape(grad)
        if array.shape != kept.shape:
            raise _wrong_gradient(self, array.shape, kept.shape)
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

    __call__ = staticmethod(relu)
    _gradient = staticmethod(relu_backward)

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
            raise ValueError(f"negative_slope is to be finite, not {negative_slope!r}")
        super().__init__(save="output" if slope > 0 else "input")
        self._negative_slope = slope

    @property
    def negative_slope(self) -> float:
        """Slope for x <= 0."""
        return self._negative_slope

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:  # noqa: D102
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

    __call__ = staticmethod(sigmoid)

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
        return sigmoid_backward if self._save == "input" else sigmoid_backward_from_output

    def _ufuncs(self) -> tuple[np.ufunc, np.ufunc, float | None]:
        return sigmoid, self._derivative, None


class Softmax(Activation):
    """exp(x) / sum(exp(x)) along an axis: positive numbers of sum 1, as probabilities are.

    The maximum is subtracted first, so that inputs of any size do. What `forward` keeps is
    the output.

    Parameters
    ----------
    axis : int, default -1
        The axis along which the outputs sum to 1. It cannot be changed afterwards.

    Raises
    ------
    TypeError
        If `axis` is not an integer.

    Notes
    -----
    -inf gives 0, and its gradient is 0. NaN, +inf, or nothing but -inf along the axis give
    NaN all along it. float16 is computed in float32; integers are promoted as by `numpy.exp`.
    A loss of the logits, `fastact.losses.CrossEntropyLoss`, is more accurate than one of these
    outputs, and cheaper.
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

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:  # noqa: D102
        x = np.asanyarray(x)
        dtype = float_dtype(self, x)
        return compute_wide(self._values, (x,), dtype, out)

    def _gradient(self, grad: Any, kept: Any, out: NDArray[Any] | None, /) -> Any:
        grad = np.asanyarray(grad)
        dtype = np.result_type(float_dtype(self, grad), kept)
        return compute_wide(self._derivative, (grad, kept), dtype, out)

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


# -------------------------------------------------------------------- networks


class Linear(Layer):
    """activation(x @ weight.T + bias), over the last axis of x.

    The product is that of NumPy's BLAS. Bias and activation are one pass over its result, and
    so are, backward, the gradients of the activation and of the bias.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the last axis of the input and of the output, 1 or more.
    activation : Activation, optional
        Such as ``ReLU()``, for its settings; it may be that of other layers, too. None: the
        identity.
    dtype : float32 or float64, default float32
        Of the parameters, of results and of gradients. Inputs and gradients of another dtype
        are converted.
    seed : optional
        For the initial weights: what `numpy.random.default_rng` takes.

    Raises
    ------
    TypeError
        If an argument is of a wrong type, or `dtype` is neither float32 nor float64.
    ValueError
        If there are no features.

    Notes
    -----
    Before a rectifier of slope a for x < 0 (`ReLU`: 0), weights are drawn from a normal
    distribution of variance 2 / ((1 + a**2) in_features), by He et al. [1]_, before anything
    else from a uniform one of variance 2 / (in_features + out_features), by Glorot and
    Bengio [2]_. The bias is 0.

    Results are arrays that `forward` and `backward` use again once the caller has dropped them:
    a training step allocates next to nothing. They are not changed before. A free-threaded
    Python does not tell who has dropped what; there, they are new ones.

    Where a product overflows, recent versions of NumPy warn, as of any product; `numpy.errstate`
    tells them not to.

    PyTorch has the same layout and names (``weight``, ``bias``): its state of a `Linear` is one
    of this. The activation is not a layer of its own here, which matters for the names of a
    `Sequential`: write ``Sequential(Linear(2, 3), ReLU())`` to have those of PyTorch.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Delving deep into rectifiers: surpassing
       human-level performance on ImageNet classification", ICCV 2015, equations 10 and 15.
    .. [2] X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward
       neural networks", AISTATS 2010, equation 16.
    """

    __slots__ = ("_activation", "_dense")

    def __init__(
        self,
        in_features: SupportsIndex,
        out_features: SupportsIndex,
        activation: Activation | None = None,
        *,
        dtype: DTypeLike = np.float32,
        seed: Any = None,
    ) -> None:
        inputs = _positive("in_features", in_features)
        outputs = _positive("out_features", out_features)
        if activation is not None and not isinstance(activation, Activation):
            raise TypeError(
                f"activation is to be a layer such as ReLU(), or None, not {activation!r}"
            )
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise TypeError(f"dtype is to be float32 or float64, not {np.dtype(dtype)}")
        rng = np.random.default_rng(seed)
        slope = None if activation is None else activation._rectifier_slope
        if slope is None:
            limit = sqrt(6 / (inputs + outputs))
            weight = rng.uniform(-limit, limit, (outputs, inputs))
        else:
            weight = rng.normal(0, sqrt(2 / ((1 + slope * slope) * inputs)), (outputs, inputs))
        self._make(activation, weight.astype(dtype), np.zeros(outputs, dtype))

    def _make(
        self, activation: Activation | None, weight: NDArray[Any], bias: NDArray[Any]
    ) -> None:
        self._activation = activation
        if activation is None:
            self._dense = Dense(weight, bias)
        else:
            function, gradient, operand = activation._ufuncs() or (None, None, None)
            keeps_input = activation.save == "input"
            self._dense = Dense(
                weight, bias, activation, function, gradient, operand, keeps_input=keeps_input
            )

    @property
    def in_features(self) -> int:
        """Length of the last axis of the input."""
        return int(self._dense.weight.shape[1])

    @property
    def out_features(self) -> int:
        """Length of the last axis of the output."""
        return int(self._dense.weight.shape[0])

    @property
    def activation(self) -> Activation | None:
        """What follows the product; it keeps nothing itself."""
        return self._activation

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of parameters, results and gradients."""
        return self.weight.dtype

    @property
    def weight(self) -> NDArray[Any]:
        """The weights, (out_features, in_features); the array itself."""
        weight: NDArray[Any] = self._dense.weight
        return weight

    @property
    def bias(self) -> NDArray[Any]:
        """The bias, (out_features,); the array itself."""
        bias: NDArray[Any] = self._dense.bias
        return bias

    def parameters(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        return {"weight": self._dense.weight, "bias": self._dense.bias}

    def gradients(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        return {"weight": self._dense.weight_gradient, "bias": self._dense.bias_gradient}

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:  # noqa: D102
        x = self._input(x, out)
        return delivered(self._dense(x), out)

    def forward(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        """Compute the output and keep what `backward` needs.

        That is the input, and the output or, where the activation wants it, what it was
        applied to. The arrays are kept themselves, not as copies: do not change them between
        `forward` and `backward`. Only an input that `out` overwrites is copied first.

        Parameters
        ----------
        x : array_like, shape (..., in_features)
        out : ndarray, shape (..., out_features), optional
            Where the output is copied to; may be `x`.

        Returns
        -------
        ndarray, shape (..., out_features)

        Raises
        ------
        TypeError
            If `x` is complex, object or string, or `out` no array of floats.
        ValueError
            If the shape of `x` or `out` is wrong.
        """
        x = self._input(x, out)
        if out is not None and np.may_share_memory(x, out):
            x = x.copy()
        return delivered(self._dense.forward(x), out)

    def backward(  # noqa: D102
        self, grad: ArrayLike, /, out: NDArray[Any] | None = None, *, input_gradient: bool = True
    ) -> Any:
        dense = self._dense
        if dense.x is None:
            raise _no_forward(self)
        if not dense.takes_gradient(grad):
            grad = real_array(self, grad, self.dtype)
            if grad.shape != dense.shape:
                raise _wrong_gradient(self, grad.shape, dense.shape)
        if out is None:
            return dense.backward(grad, input_gradient)
        check_out(out, dense.x_shape, self.dtype)
        return delivered(dense.backward(grad, input_gradient), out)

    def _input(self, x: Any, out: Any) -> NDArray[Any]:
        """Check the operands, and convert x if need be."""
        if not self._dense.takes(x):
            x = real_array(self, x, self.dtype)
            if x.ndim == 0 or x.shape[-1] != self.in_features:
                raise ValueError(
                    f"{self!r}: the input has shape {x.shape}, wanted (..., {self.in_features})"
                )
        if out is not None:
            check_out(out, (*x.shape[:-1], self.out_features), self.dtype)
        array: NDArray[Any] = x
        return array

    def _forget(self) -> None:
        self._dense.forget()

    def __repr__(self) -> str:
        """Show the settings that are not the default."""
        text = f"in_features={self.in_features}, out_features={self.out_features}"
        if self._activation is not None:
            text += f", activation={self._activation!r}"
        if self.dtype != np.float32:
            text += f", dtype='{self.dtype}'"
        return f"{type(self).__name__}({text})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Make pickles and copies with settings and parameters."""
        state = self._activation, self.weight, self.bias
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take over settings and parameters; `copy.copy` hands over those of another layer."""
        activation, weight, bias = state
        self._make(activation, weight.copy(), bias.copy())


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is to be an integer, not {type(value).__name__}: {value!r}")
    number = operator.index(value)
    if number < 1:
        raise ValueError(f"{name} is to be 1 or more, not {number}")
    return number


class Sequential(Layer):
    """Layers one after the other, as one layer.

    Parameters
    ----------
    *layers : Layer
        At least one, and each once: a layer remembers one `forward`.

    Raises
    ------
    TypeError
        If one of them is not a layer.
    ValueError
        If there is none, if one occurs twice, or if a `Linear` has not as many input features
        as the one before it has output features.

    Notes
    -----
    It has a length, it can be iterated and indexed, and a slice of it is a `Sequential` of the
    same layers. Parameters are named as PyTorch names them: ``"0.weight"``, ``"0.bias"``.

    Where a `forward` raises on its way, what the layers had kept is dropped.

    Examples
    --------
    >>> import numpy as np
    >>> from fastact.layers import Linear, ReLU, Sequential
    >>> model = Sequential(Linear(64, 32, ReLU(), seed=0), Linear(32, 64, seed=1))
    >>> y = model.forward(np.ones((10, 64), np.float32))
    >>> model.backward(np.ones_like(y), input_gradient=False)
    >>> [(name, gradient.shape) for name, gradient in model.gradients().items()]
    [('0.weight', (32, 64)), ('0.bias', (32,)), ('1.weight', (64, 32)), ('1.bias', (64,))]
    """

    __slots__ = ("_layers",)

    def __init__(self, *layers: Layer) -> None:
        if not layers:
            raise ValueError("Sequential() is to have at least one layer")
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"a layer is to be a Layer, such as ReLU(), not {layer!r}")
        self._layers = layers
        simple = list(_simple_layers(layers))
        if len(set(map(id, simple))) < len(simple):
            raise ValueError("a layer occurs twice: it remembers only one forward(); copy it")
        linear = [layer for layer in simple if isinstance(layer, Linear)]
        for before, after in pairwise(linear):
            if before.out_features != after.in_features:
                raise ValueError(f"{after!r} does not fit behind {before!r}")

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:  # noqa: D102
        for layer in self._layers[:-1]:
            x = layer(x)
        return self._layers[-1](x, out)

    def forward(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:  # noqa: D102
        if out is not None and np.may_share_memory(x := with_shape(x), out):
            x = np.array(x, subok=True)  # it may be kept
        try:
            for layer in self._layers[:-1]:
                x = layer.forward(x)
            return self._layers[-1].forward(x, out)
        except BaseException:
            self._forget()
            raise

    def backward(  # noqa: D102
        self, grad: ArrayLike, /, out: NDArray[Any] | None = None, *, input_gradient: bool = True
    ) -> Any:
        for layer in self._layers[:0:-1]:
            grad = layer.backward(grad)
        return self._layers[0].backward(grad, out, input_gradient=input_gradient)

    def parameters(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        return {
            f"{i}.{name}": parameter
            for i, layer in enumerate(self._layers)
            for name, parameter in layer.parameters().items()
        }

    def gradients(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        return {
            f"{i}.{name}": gradient
            for i, layer in enumerate(self._layers)
            for name, gradient in layer.gradients().items()
        }

    def __len__(self) -> int:
        """Count the layers."""
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        """Go through the layers."""
        return iter(self._layers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Layer: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...

    def __getitem__(self, index: Any) -> Layer:
        """Find a layer, or make a `Sequential` of some."""
        if isinstance(index, slice):
            return Sequential(*self._layers[index])
        layer: Layer = self._layers[index]
        return layer

    def _forget(self) -> None:
        for layer in self._layers:
            layer._forget()

    def __repr__(self) -> str:
        """Show the layers."""
        return f"{type(self).__name__}({', '.join(map(repr, self._layers))})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Make pickles and copies by calling the class with the layers."""
        return type(self), self._layers


def _simple_layers(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    """Go through all layers that do not consist of others."""
    for layer in layers:
        if isinstance(layer, Sequential):
            yield from _simple_layers(layer._layers)
        else:
            yield layer
