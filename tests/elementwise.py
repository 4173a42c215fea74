"""The activation layers that the reference table describes, ready to be tested."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from reference import BY_NAME, EXPECTATIONS

import fastact
from fastact import layers


class ElementwiseLayer(NamedTuple):
    """An activation layer with certain settings, and what it should compute.

    Attributes
    ----------
    make : callable
        Makes the layer.
    function, derivative : callable
        Of an array of float64.
    gradient : callable
        ``gradient(grad, x)``: the backward pass of `fastact` from the input.
    keeps : str
        What the layer keeps between the passes, "input" or "output".
    torch : callable
        Makes the same as a module of PyTorch, given the package.
    """

    make: Callable[[], layers.Activation]
    function: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray, np.ndarray], np.ndarray]
    keeps: str
    torch: Callable[[Any], Any]


def _elementwise(expectation, wanted):
    """Combine the expectations of an activation and of one of its layers."""
    backward = f"{expectation.name}_backward"

    def make():
        return getattr(layers, wanted.layer)(**wanted.settings)

    def gradient(grad, x):
        return getattr(fastact, backward)(grad, x, *wanted.operands)

    def function(x):
        return expectation.exact(np, x, *wanted.operands)

    def derivative(x):
        return BY_NAME[backward].exact(np, 1.0, x, *wanted.operands)

    over_arrays = partial(np.vectorize, otypes=[float])
    return ElementwiseLayer(
        make,
        over_arrays(function),
        over_arrays(derivative),
        gradient,
        wanted.keeps,
        wanted.torch or (lambda torch: getattr(torch.nn, wanted.layer)()),
    )


LAYERS = {
    wanted.id: _elementwise(expectation, wanted)
    for expectation in EXPECTATIONS
    for wanted in expectation.layers
}
