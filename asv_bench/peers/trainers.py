"""A small autoencoder, trained by fastact and by others.

It has 64 inputs, 32 hidden units with relu, and 64 linear outputs that should reproduce the
inputs. The loss is the mean squared error. Training uses momentum, batches of 32, and float32.
Everyone starts with the same parameters and takes the same batches in the same order, so that
all compute the same up to rounding.
"""

import importlib.util
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact.layers import Linear, ReLU, Sequential
from fastact.losses import MSELoss
from fastact.optimizers import SGD

Array = NDArray[Any]

INPUTS, HIDDEN = 64, 32
BATCH = 32
LR, MOMENTUM = 0.1, 0.9


class Trainer(NamedTuple):
    """A network and its data."""

    reset: Callable[[], None]  # to the initial parameters, without momentum; this is not timed
    epoch: Callable[[], float]  # trains for one epoch and returns its mean loss


def data() -> Array:
    """Load the digits of scikit-learn, scaled to [0, 1]; random numbers where it is absent."""
    if importlib.util.find_spec("sklearn") is None:
        return np.random.default_rng(0).random((1797, INPUTS), dtype=np.float32)
    digits: Array = import_module("sklearn.datasets").load_digits().data
    return (digits / 16).astype(np.float32)


def network() -> Sequential:
    """Make the network. The others take their initial parameters from it."""
    return Sequential(Linear(INPUTS, HIDDEN, ReLU(), seed=0), Linear(HIDDEN, INPUTS, seed=1))


def fastact(x: Array) -> Trainer:
    """Train the way a user of this package would."""
    model, loss = network(), MSELoss()
    start = model.state_dict()
    optimizer = SGD(model, lr=LR, momentum=MOMENTUM)

    def reset() -> None:
        nonlocal optimizer
        model.load_state_dict(start)
        optimizer = SGD(model, lr=LR, momentum=MOMENTUM)

    def epoch() -> float:
        total = 0.0
        for i in range(0, len(x), BATCH):
            batch = x[i : i + BATCH]
            total += len(batch) * loss.forward(model.forward(batch), batch)
            model.backward(loss.backward(), input_gradient=False)
            optimizer.step()
        return total / len(x)

    return Trainer(reset, epoch)


def plain_numpy(x: Array) -> Trainer:
    """Train the way an expert in NumPy would.

    Results go into arrays that are made once. All parameters lie in one array, so that a step
    of descent takes four calls. `dot` takes less time than `matmul` here.
    """
    shapes = (INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, INPUTS), (INPUTS,)
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    parameters, gradients, velocity, change = np.zeros((4, ends[-1]), np.float32)
    w1, b1, w2, b2, w1_gradient, b1_gradient, w2_gradient, b2_gradient = (
        part.reshape(shape)
        for flat in (parameters, gradients)
        for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)
    )
    hidden, hidden_gradient = np.empty((2, BATCH, HIDDEN), np.float32)
    output, output_gradient = np.empty((2, BATCH, INPUTS), np.float32)
    positive = np.empty((BATCH, HIDDEN), bool)
    start = network().state_dict()

    def reset() -> None:
        w1[...], b1[...] = start["0.weight"].T, start["0.bias"]
        w2[...], b2[...] = start["1.weight"].T, start["1.bias"]
        velocity[...] = 0

    def step(batch: Array) -> float:
        h, dh, y, dy, mask = hidden, hidden_gradient, output, output_gradient, positive
        if len(batch) < BATCH:
            h, dh, y, dy, mask = (array[: len(batch)] for array in (h, dh, y, dy, mask))
        np.dot(batch, w1, out=h)
        np.add(h, b1, out=h)
        np.maximum(h, 0, out=h)
        np.dot(h, w2, out=y)
        np.add(y, b2, out=y)
        np.subtract(y, batch, out=dy)
        loss = float(np.vdot(dy, dy)) / dy.size
        np.multiply(dy, 2 / dy.size, out=dy)
        np.dot(h.T, dy, out=w2_gradient)
        np.add.reduce(dy, axis=0, out=b2_gradient)
        np.dot(dy, w2.T, out=dh)
        np.multiply(dh, np.greater(h, 0, out=mask), out=dh)
        np.dot(batch.T, dh, out=w1_gradient)
        np.add.reduce(dh, axis=0, out=b1_gradient)
        np.multiply(velocity, MOMENTUM, out=velocity)
        np.add(velocity, gradients, out=velocity)
        np.multiply(velocity, LR, out=change)
        np.subtract(parameters, change, out=parameters)
        return loss

    def epoch() -> float:
        total = 0.0
        for i in range(0, len(x), BATCH):
            batch = x[i : i + BATCH]
            total += len(batch) * step(batch)
        return total / len(x)

    return Trainer(reset, epoch)


def pytorch(x: Array) -> Trainer:
    """Train in PyTorch, eagerly, with the fastest of its implementations of SGD."""
    torch = import_module("torch")
    model = torch.nn.Sequential(
        torch.nn.Linear(INPUTS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, INPUTS)
    )
    theirs = dict(zip(model.state_dict(), network().state_dict().values(), strict=True))
    start = {name: torch.from_numpy(value) for name, value in theirs.items()}
    loss, samples = torch.nn.MSELoss(), torch.from_numpy(x)
    optimizer: Any = None

    def reset() -> None:
        nonlocal optimizer
        model.load_state_dict(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, fused=True)

    def epoch() -> float:
        total = 0.0
        for batch in samples.split(BATCH):
            optimizer.zero_grad()
            error = loss(model(batch), batch)
            error.backward()
            optimizer.step()
            total += len(batch) * error.item()
        return total / len(x)

    return Trainer(reset, epoch)


def scikit_learn(x: Array) -> Trainer:
    """Train scikit-learn's MLPRegressor."""
    regressor = import_module("sklearn.neural_network").MLPRegressor
    start = network().state_dict()
    model: Any = None

    def reset() -> None:
        nonlocal model
        model = regressor(
            hidden_layer_sizes=(HIDDEN,),
            solver="sgd",
            alpha=0,
            batch_size=BATCH,
            # Its loss is half the squared error, summed over the outputs, not their mean.
            learning_rate_init=LR * 2 / INPUTS,
            momentum=MOMENTUM,
            nesterovs_momentum=False,
            shuffle=False,
        )
        # The first call makes its parameters, and an optimiser for them that has to go.
        model.partial_fit(x[:BATCH], x[:BATCH])
        model.coefs_ = [start[name].T.copy() for name in ("0.weight", "1.weight")]
        model.intercepts_ = [start[name].copy() for name in ("0.bias", "1.bias")]
        del model._optimizer

    def epoch() -> float:
        model.partial_fit(x, x)
        return 2 * float(model.loss_)

    return Trainer(reset, epoch)


# By name: the module that must be installed, and the function that makes a trainer.
TRAINERS = {
    "fastact": ("fastact", fastact),
    "NumPy": ("numpy", plain_numpy),
    "PyTorch": ("torch", pytorch),
    "scikit-learn": ("sklearn", scikit_learn),
}


def trainers(x: Array) -> dict[str, Trainer]:
    """Make a trainer of everything that is installed, at its initial parameters."""
    made = {
        name: make(x)
        for name, (module, make) in TRAINERS.items()
        if importlib.util.find_spec(module)
    }
    for trainer in made.values():
        trainer.reset()
    return made
