"""Dense layers."""

import copyreg
import operator
from math import sqrt
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastact._core.networks.dense import Dense
from fastact.layers._activations import Activation
from fastact.layers._base import Layer, no_forward, wrong_gradient
from fastact.layers._operands import check_out, delivered, real_array

__all__ = ["Linear"]


class _Nothing:
    """Placeholder for the `Dense` of a layer that has not been initialized."""

    # A __getattr__ of the layer itself would slow down every attribute access.
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("this Linear was made without __init__ and has no parameters yet")

    def __call__(self, x: Any) -> Any:
        return self.weight


class Linear(Layer):
    """activation(x @ weight.T + bias), over the last axis of x.

    The product is computed by NumPy's BLAS. Bias and activation are applied in a single pass over
    its result. In the backward pass, the gradients of the activation and of the bias are also
    computed in a single pass.

    Parameters
    ----------
    in_features, out_features : int
        Length of the last axis of the input and of the output, at least 1.
    activation : Activation, optional
        Activation layer, such as ``ReLU()``. It saves nothing itself, so several layers can share
        one. The default is None, the identity.
    dtype : float32 or float64, default float32
        Dtype of the parameters, results and gradients. Inputs and gradients of another dtype
        are converted.
    seed : optional
        Seed for the initial weights, passed to `numpy.random.default_rng`.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or `dtype` is neither float32 nor float64.
    ValueError
        If `in_features` or `out_features` is less than 1.

    Notes
    -----
    If the activation is a rectifier with slope a for x < 0 (0 for `ReLU`), the weights are drawn
    from a normal distribution with variance 2 / ((1 + a**2) in_features), following He et
    al. [1]_. Otherwise they are drawn from a uniform distribution with variance
    2 / (in_features + out_features), following Glorot and Bengio [2]_. The bias is initially 0.

    `forward` and `backward` reuse a result array once the caller holds no reference to it, so a
    training step allocates almost no memory. An array that is still referenced is not changed. The
    layer keeps at most 12 results of less than 4 MiB for this, within the limit that
    `fastact.set_buffer_limit` sets; `fastact.release_buffers` frees them. In
    free-threaded Python, reference counts are not sufficient to decide this, and every result is
    a new array.

    If a product overflows, recent versions of NumPy issue a warning. Use `numpy.errstate` to
    suppress it.

    PyTorch uses the same layout and names (``weight``, ``bias``), so the state of a PyTorch
    `Linear` can be loaded. Here the activation is part of the layer, which affects the names in a
    `Sequential`. Write ``Sequential(Linear(2, 3), ReLU())`` to get the names of PyTorch.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Delving deep into rectifiers: surpassing
       human-level performance on ImageNet classification", ICCV 2015, equations 10 and 15.
    .. [2] X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward
       neural networks", AISTATS 2010, equation 16.
    """

    __slots__ = ("_activation", "_dense", "_separate")

    _activation: Activation | None
    _separate: Activation | None  # the activation if it is not fused
    _dense: Any

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Create a layer that raises an informative error when used before initialization."""
        self = super().__new__(cls)
        self._activation = self._separate = None
        self._dense = _Nothing()
        return self

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
            raise _wrong_activation(activation)
        wanted = [np.dtype(real) for real in (np.float32, np.float64) if np.dtype(dtype) == real]
        if not wanted:
            raise TypeError(f"dtype must be float32 or float64, not {np.dtype(dtype)}")
        dtype = wanted[0]  # not longdouble, which may be the same as float64
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
        if activation is None:
            dense = Dense(weight, bias)
        else:
            function, gradient, operand = activation._ufuncs() or (None, None, None)
            keeps_input = activation.save == "input"
            dense = Dense(weight, bias, function, gradient, operand, keeps_input=keeps_input)
        self._activation, self._dense = activation, dense
        self._separate = None if dense.fused else activation

    @property
    def in_features(self) -> int:
        """Length of the last axis of the input."""
        return int(self._dense.inputs)

    @property
    def out_features(self) -> int:
        """Length of the last axis of the output."""
        return int(self._dense.columns)

    @property
    def activation(self) -> Activation | None:
        """The activation, which saves nothing itself."""
        return self._activation

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the parameters, results and gradients."""
        return self.weight.dtype

    @property
    def weight(self) -> NDArray[Any]:
        """The weights, of shape (out_features, in_features); not a copy."""
        weight: NDArray[Any] = self._dense.weight
        return weight

    @property
    def bias(self) -> NDArray[Any]:
        """The bias, of shape (out_features,); not a copy."""
        bias: NDArray[Any] = self._dense.bias
        return bias

    def parameters(self) -> dict[str, NDArray[Any]]:
        return {"weight": self._dense.weight, "bias": self._dense.bias}

    def gradients(self) -> dict[str, NDArray[Any]]:
        return {"weight": self._dense.weight_gradient, "bias": self._dense.bias_gradient}

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        x = self._input(x, out)
        y = self._dense(x)
        if self._separate is not None:
            y = _put(self._separate(y, out=y), y)
        return delivered(y, out)

    def forward(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        """Compute the output and save the arrays that `backward` needs.

        These are the input of the layer and either the output or the input of the activation,
        depending on the activation. The arrays are not copied, so do not modify them between
        `forward` and `backward`. An input that `out` overwrites is copied first.

        Parameters
        ----------
        x : array_like, shape (..., in_features)
            The input.
        out : ndarray, shape (..., out_features), optional
            Array to copy the output to; may be `x`.

        Returns
        -------
        ndarray, shape (..., out_features)
            The output.

        Raises
        ------
        TypeError
            If `x` is complex, object, string or masked, or if `out` is not a floating-point
            array.
        ValueError
            If `x` or `out` has the wrong shape.
        """
        x = self._input(x, out)
        if out is not None and np.may_share_memory(x, out):
            x = x.copy()
        dense, activation = self._dense, self._separate
        if activation is None:
            return delivered(dense.forward(x), out)
        matrix, z = dense.start(x)
        y = dense.pool.empty(z.shape, z.dtype) if activation.save == "input" else z
        _put(activation(z, out=y), y)
        dense.keep(matrix, x.shape, y.shape, z if activation.save == "input" else y)
        return delivered(y, out)

    def backward(
        self, grad: ArrayLike, /, out: NDArray[Any] | None = None, *, input_gradient: bool = True
    ) -> Any:
        dense = self._dense
        if dense.x is None:
            raise no_forward(self)
        if not dense.takes_gradient(grad):
            grad = real_array(self, grad, self.dtype)
            if grad.shape != dense.shape:
                raise wrong_gradient(self, grad.shape, dense.shape)
        if out is not None:
            check_out(out, dense.x_shape, self.dtype)
        if self._separate is None:
            x_gradient = dense.backward(grad, input_gradient)
        else:
            saved = dense.saved(grad)
            dz = dense.pool.empty(dense.shape, self.dtype)
            _put(self._separate._gradient(grad, saved[1], dz), dz)
            x_gradient = dense.backward(dz, input_gradient, saved)
        return x_gradient if out is None else delivered(x_gradient, out)

    def _input(self, x: Any, out: Any) -> NDArray[Any]:
        """Check the operands, and convert `x` if necessary."""
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

    def _overwrites(self, x: NDArray[Any]) -> bool:
        overwrites: bool = self._dense.overwrites(x)
        return overwrites

    def __repr__(self) -> str:
        """Show the settings that differ from their defaults."""
        text = f"in_features={self.in_features}, out_features={self.out_features}"
        if self._activation is not None:
            text += f", activation={self._activation!r}"
        if self.dtype != np.float32:
            text += f", dtype='{self.dtype}'"
        return f"{type(self).__name__}({text})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the settings and the parameters."""
        state = self._activation, self.weight, self.bias
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Restore settings and parameters.

        The parameters are copied, because `copy.copy` passes those of another layer. So they may
        be read-only, or memory-mapped files, as `joblib.load` passes them with ``mmap_mode``.

        Raises
        ------
        TypeError, ValueError
            If the state is not that of a `Linear`. The layer is not changed in this case.
        """
        if not isinstance(state, tuple) or len(state) != 3:
            raise TypeError(
                "the state of a Linear must be (activation, weight, bias), "
                f"not {type(state).__name__}: {state!r}"
            )
        activation, weight, bias = state
        if activation is not None and not isinstance(activation, Activation):
            raise _wrong_activation(activation)
        self._make(activation, _copied(weight), _copied(bias))


def _put(result: Any, out: NDArray[Any]) -> NDArray[Any]:
    """Copy a result to `out` if the function of a user returned another array."""
    if result is not out:
        out[...] = result
    return out


def _copied(parameter: Any) -> Any:
    """Copy an array to the layout that `Dense` requires; return other objects unchanged."""
    if not isinstance(parameter, np.ndarray) or isinstance(parameter, np.ma.MaskedArray):
        return parameter
    # The pickle may come from a machine with another byte order.
    copy = np.array(parameter, parameter.dtype.newbyteorder("="), order="C")
    # float64 has another number in a longdouble that is the same.
    return copy.view(np.float64) if copy.dtype == np.float64 else copy


def _wrong_activation(activation: Any) -> TypeError:
    return TypeError(
        f"activation must be an activation layer such as ReLU(), or None, not {activation!r}"
    )


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}: {value!r}")
    number = operator.index(value)
    if number < 1:
        raise ValueError(f"{name} must be 1 or more, not {number}")
    return number
