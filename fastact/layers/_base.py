"""The interface of all layers."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastact._core.operands import refuse_masked


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
            If `state` is not a mapping, or a value is masked, or neither floating-point nor
            integer.
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


def no_forward(layer: Layer) -> RuntimeError:
    return RuntimeError(
        f"{layer!r}: backward() before forward(), which keeps what backward() needs; "
        "layer(x) keeps nothing"
    )


def wrong_gradient(layer: Layer, shape: Any, wanted: Any) -> ValueError:
    return ValueError(
        f"{layer!r}: the gradient has shape {shape}, the output of forward() had shape {wanted}"
    )
