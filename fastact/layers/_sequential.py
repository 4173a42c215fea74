"""Sequences of layers."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastact.layers._base import Layer
from fastact.layers._linear import Linear
from fastact.layers._operands import with_shape

__all__ = ["Sequential"]


class Sequential(Layer):
    """A sequence of layers, applied in order, as a single layer.

    Parameters
    ----------
    *layers : Layer
        At least one layer. No layer may occur twice, because a layer saves the arrays of only one
        `forward`.

    Raises
    ------
    TypeError
        If an argument is not a layer.
    ValueError
        If there are no layers, if a layer occurs twice, or if the number of input features of a
        `Linear` differs from the number of output features of the `Linear` before it.

    Notes
    -----
    A `Sequential` has a length and can be iterated over and indexed. A slice is a `Sequential` of
    the same layers. Parameters have the same names as in PyTorch: ``"0.weight"``, ``"0.bias"``.

    If `forward` raises an exception, all layers release the arrays that they saved.

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
            raise ValueError("Sequential() must have at least one layer")
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"a layer must be a Layer, such as ReLU(), not {layer!r}")
        self._layers = layers
        simple = list(simple_layers(layers))
        if len(set(map(id, simple))) < len(simple):
            raise ValueError("a layer occurs twice: it remembers only one forward(); copy it")
        linear = [layer for layer in simple if isinstance(layer, Linear)]
        for before, after in pairwise(linear):
            if before.out_features != after.in_features:
                raise ValueError(f"{after!r} does not fit behind {before!r}")

    def __call__(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        for layer in self._layers[:-1]:
            x = layer(x)
        return self._layers[-1](x, out)

    def forward(self, x: ArrayLike, /, out: NDArray[Any] | None = None) -> Any:
        # The first layer may save its input.
        if (out is not None and np.may_share_memory(x := with_shape(x), out)) or (
            isinstance(x, np.ndarray) and self._overwrites(x)
        ):
            x = np.array(x, subok=True)
        try:
            for layer in self._layers[:-1]:
                x = layer.forward(x)
            return self._layers[-1].forward(x, out)
        except BaseException:
            self._forget()
            raise

    def backward(
        self, grad: ArrayLike, /, out: NDArray[Any] | None = None, *, input_gradient: bool = True
    ) -> Any:
        for layer in self._layers[:0:-1]:
            grad = layer.backward(grad)
        return self._layers[0].backward(grad, out, input_gradient=input_gradient)

    def parameters(self) -> dict[str, NDArray[Any]]:
        return {
            f"{i}.{name}": parameter
            for i, layer in enumerate(self._layers)
            for name, parameter in layer.parameters().items()
        }

    def gradients(self) -> dict[str, NDArray[Any]]:
        return {
            f"{i}.{name}": gradient
            for i, layer in enumerate(self._layers)
            for name, gradient in layer.gradients().items()
        }

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        """Iterate over the layers."""
        return iter(self._layers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Layer: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...

    def __getitem__(self, index: Any) -> Layer:
        """Return a layer, or a `Sequential` of the layers in a slice."""
        if isinstance(index, slice):
            return Sequential(*self._layers[index])
        layer: Layer = self._layers[index]
        return layer

    def _forget(self) -> None:
        for layer in self._layers:
            layer._forget()

    def _overwrites(self, x: NDArray[Any]) -> bool:
        # A loop, because a generator takes twice as long.
        for layer in self._layers:  # noqa: SIM110
            if layer._overwrites(x):
                return True
        return False

    def __repr__(self) -> str:
        """Show the layers."""
        return f"{type(self).__name__}({', '.join(map(repr, self._layers))})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by calling the class with the layers."""
        return type(self), self._layers


def simple_layers(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    """Iterate over all layers, recursing into each `Sequential`."""
    for layer in layers:
        if isinstance(layer, Sequential):
            yield from simple_layers(layer._layers)
        else:
            yield layer
