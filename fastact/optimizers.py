"""Stochastic gradient descent, the only optimizer in fastact.

>>> import numpy as np
>>> from fastact.layers import Linear
>>> from fastact.losses import MSELoss
>>> from fastact.optimizers import SGD
>>> rng = np.random.default_rng(0)
>>> x = rng.normal(size=(100, 3))
>>> y = x @ [[1.0], [-2.0], [3.0]] + 4
>>> model, loss = Linear(3, 1, dtype=np.float64, seed=0), MSELoss()
>>> optimizer = SGD(model, lr=0.1, momentum=0.5)
>>> for _ in range(200):
...     error = loss.forward(model.forward(x), y)
...     model.backward(loss.backward(), input_gradient=False)
...     optimizer.step()
>>> model.weight.round(3), model.bias.round(3)
(array([[ 1., -2.,  3.]]), array([4.]))
"""

from math import inf, isfinite
from numbers import Real
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from fastact._core.networks.training import Descent
from fastact.layers import Layer
from fastact.layers._operands import shown

__all__ = ["SGD"]


class SGD:
    """Gradient descent with momentum, in place.

    The update is that of PyTorch: velocity = momentum * velocity + gradient,
    parameter -= lr * velocity. In addition, a subnormal velocity is set to 0. Otherwise it would
    never reach 0 where the gradients stay 0, and would make every step several times slower.

    Parameters
    ----------
    model : Layer
        The layer whose parameters are updated, using the gradients of its last `backward`. To
        train only a part of a model, pass that part, such as ``model[1:]``.
    lr : float
        Learning rate, at least 0. It can be changed between steps.
    momentum : float, default 0.0
        Momentum, at least 0 and less than 1. It cannot be changed later.

    Raises
    ------
    TypeError
        If `model` is not a layer, or if `lr` or `momentum` is not a real number.
    ValueError
        If `lr` or `momentum` is out of range, or if the model has no parameters.

    Notes
    -----
    Pickles and deep copies contain the model. To keep the two together, pickle or copy both at
    once: ``model, optimizer = copy.deepcopy((model, optimizer))``.
    """

    __slots__ = ("_descent", "_lr", "_model", "_momentum")

    def __init__(self, model: Layer, lr: SupportsFloat, momentum: SupportsFloat = 0.0) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"model must be a layer, not {type(model).__name__}")
        parameters, gradients = model.parameters(), model.gradients()
        if not parameters:
            raise ValueError(f"{model!r} has no parameters")
        self.lr = lr
        self._momentum = _number("momentum", momentum)
        if self._momentum >= 1:
            raise ValueError(f"momentum must be less than 1, not {momentum!r}")
        self._model = model
        self._descent = Descent(
            [*parameters.values()], [gradients[name] for name in parameters], self._momentum > 0
        )

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: SupportsFloat) -> None:
        self._lr = _number("lr", value)

    @property
    def momentum(self) -> float:
        """Fraction of the velocity that is retained from step to step."""
        return self._momentum

    def step(self) -> None:
        """Update the parameters by one step."""
        self._descent.step(self._lr, self._momentum)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the model, the settings and the velocities."""
        return type(self), (self._model, self._lr, self._momentum), self._descent.velocities

    def __setstate__(self, velocities: list[NDArray[Any]]) -> None:
        """Restore the velocities, by copying them.

        Raises
        ------
        TypeError, ValueError
            If the state is not that of an optimizer of the same model. Nothing is changed in this
            case.
        """
        own = self._descent.velocities or []
        if not isinstance(velocities, list) or not all(
            isinstance(v, np.ndarray) for v in velocities
        ):
            raise TypeError(f"the state of an SGD must be a list of arrays, not {velocities!r}")
        shapes, wanted = [v.shape for v in velocities], [v.shape for v in own]
        if shapes != wanted:
            raise ValueError(f"velocities of the shapes {shapes}, wanted {wanted}")
        if not all(
            np.can_cast(v.dtype, to.dtype, "same_kind")
            for v, to in zip(velocities, own, strict=True)
        ):
            raise TypeError(f"velocities of the dtypes {[v.dtype for v in velocities]}")
        for velocity, to in zip(velocities, own, strict=True):
            np.copyto(to, velocity)

    def __repr__(self) -> str:
        """Show the settings."""
        return f"SGD(lr={self._lr!r}, momentum={self._momentum!r})"


def _number(name: str, value: Any) -> float:
    # bool is a subclass of int, but not a sensible value here.
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a real number, not {type(value).__name__}: {value!r}")
    try:
        number = float(value)
    except OverflowError:  # from an int
        number = inf
    if not (isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be finite and 0 or more, not {shown(value)}")
    return number
