"""The interface of all layers."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastact.layers._operands import refuse_masked

__all__ = ["Layer"]


class Layer:
    """Base class of all layers.

    Subclasses implement `__call__`, `forward` and `backward`. Every parameter of ``__init__`` must
    also be an attribute of the same name, because repr, pickle and copy read these attributes.

    Pickles and copies contain the settings and parameters of a layer, but not the arrays that
    `forward` saved.
    """

    # Without a __dict__, assigning to a misspelled setting raises an AttributeError.
    __slots__ = ()

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        """Compute the output without saving anything for `backward`.

        Arrays saved by an earlier `forward` are retained.

        Parameters
        ----------
        x : array_like
            The input.
        out : ndarray, optional
            Array to store the output in; may be `x`.

        Returns
        -------
        ndarray or scalar
            The output.
        """
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def forward(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        """Compute the output and save the arrays that `backward` needs.

        Parameters
        ----------
        x : array_like
            The input and the output may be saved without a copy. Do not modify them before
            `backward`.
        out : ndarray, optional
            Array to store the output in; may be `x`.

        Returns
        -------
        ndarray or scalar
            The output.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(
        self, grad: ArrayLike, /, out: NDArray[Any] | None = None, *, input_gradient: bool = True
    ) -> Any:
        """Compute the gradients of the loss with respect to the parameters and to the input.

        The gradients of the parameters are written to the arrays that `gradients` returns. The
        arrays saved by `forward` are retained until the next `forward`, so `backward` can be
        called several times.

        Parameters
        ----------
        grad : array_like
            Gradient of the loss with respect to the output of the last `forward`. It must have
            the shape of that output; it is not broadcast.
        out : ndarray, optional
            Array to store the gradient with respect to the input in; may be `grad`.
        input_gradient : bool, default True
            Whether to compute the gradient with respect to the input. The first layer of a
            network does not need it for training.

        Returns
        -------
        ndarray or scalar, or None
            The gradient with respect to the input; None if `input_gradient` is False.

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        ValueError
            If `grad` does not have the shape of the output.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Return the parameters by name.

        Returns
        -------
        dict of str to ndarray
            The arrays themselves, not copies. Writing to one changes the parameter.
        """
        return {}

    def gradients(self) -> dict[str, NDArray[Any]]:
        """Return the gradients of the loss with respect to the parameters, by name.

        Returns
        -------
        dict of str to ndarray
            The keys are the names of the parameters. Each `backward` overwrites the arrays, which
            are initially 0.
        """
        return {}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of the parameters by name.

        They can be saved by ``np.savez(path, **layer.state_dict())``.

        Returns
        -------
        dict of str to ndarray
            The copies.
        """
        return {name: parameter.copy() for name, parameter in self.parameters().items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Overwrite the parameters.

        Parameters
        ----------
        state : mapping of str to array_like
            One value of the right shape for each parameter, and nothing else. It can be the
            result of `state_dict` or `numpy.load`, or PyTorch's state of the same layers. Values
            are rounded to the dtype of the parameter.

        Raises
        ------
        TypeError
            If `state` is not a mapping, or if a value is masked, or neither floating-point nor
            integer.
        ValueError
            If a name is missing or unexpected, a shape is wrong, or a parameter is read-only. No
            parameter is changed in this case.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping of names to arrays, not {state!r}")
        parameters = self.parameters()
        missing, unexpected = parameters.keys() - state.keys(), state.keys() - parameters.keys()
        if missing or unexpected:
            raise ValueError(
                f"{self!r}: missing in the state: {sorted(missing)}; "
                f"unexpected: {sorted(map(str, unexpected))}"
            )
        # Convert all values before writing the first, so that an error changes nothing.
        values = {}
        for name, parameter in parameters.items():
            refuse_masked(name, state[name])
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
        """Release the arrays that `forward` saved."""

    def _overwrites(self, x: NDArray[Any]) -> bool:
        """Whether `backward` may write to memory of an array: to a gradient of a parameter."""
        return any(np.may_share_memory(x, gradient) for gradient in self.gradients().values())

    def __repr__(self) -> str:
        """Show the settings that differ from their defaults."""
        settings = (
            f"{name}={getattr(self, name)!r}"
            for name, parameter in signature(type(self)).parameters.items()
            if getattr(self, name) != parameter.default
        )
        return f"{type(self).__name__}({', '.join(settings)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by calling the class with the settings."""
        return type(self), tuple(getattr(self, name) for name in signature(type(self)).parameters)


def no_forward(layer: Layer) -> RuntimeError:
    return RuntimeError(
        f"{layer!r}: backward() before forward(), which keeps what backward() needs; "
        "layer(x) keeps nothing"
    )


def wrong_gradient(layer: Layer, shape: Any, wanted: Any) -> ValueError:
    return ValueError(
        f"{layer!r}: the gradient has shape {shape}, the output of forward() had shape {wanted}"
    )
