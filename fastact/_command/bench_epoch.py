"""``fastact bench --epoch``: a small autoencoder trained here and elsewhere, for one epoch.

It has 64 inputs, 32 hidden units with relu and 64 linear outputs, and is to return its input:
mean squared error, momentum, batches of 32, float32. Everyone starts with the same parameters
and takes the same batches in the same order, so that all compute the same, but for rounding.
"""

import contextlib
import importlib.util
import tracemalloc
from collections.abc import Callable, Iterator
from importlib import import_module
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact._command.console import machine, table
from fastact._core.threads import num_threads
from fastact.layers import Linear, ReLU, Sequential
from fastact.losses import MSELoss
from fastact.optimizers import SGD

Array = NDArray[Any]

INPUTS, HIDDEN = 64, 32
BATCH = 32
LR, MOMENTUM = 0.1, 0.9
ROUNDS = 101
# A ratio of this or less was to be reached.
TARGETS = {"NumPy": 0.8, "PyTorch": 0.5, "scikit-learn": 0.5}


class Trainer(NamedTuple):
    """A network and its data.

    Attributes
    ----------
    reset : callable
        Goes back to the parameters of the start, without momentum; not timed.
    epoch : callable
        Trains for one epoch and returns its mean loss.
    """

    reset: Callable[[], None]
    epoch: Callable[[], float]


def data() -> Array:
    """Load the digits of scikit-learn, scaled to [0, 1]; random numbers where it is absent."""
    if importlib.util.find_spec("sklearn") is None:
        return np.random.default_rng(0).random((1797, INPUTS), dtype=np.float32)
    digits: Array = import_module("sklearn.datasets").load_digits().data
    return (digits / 16).astype(np.float32)


def network() -> Sequential:
    """Make the network; the others take their parameters from here."""
    return Sequential(Linear(INPUTS, HIDDEN, ReLU(), seed=0), Linear(HIDDEN, INPUTS, seed=1))


def fastact(x: Array) -> Trainer:
    """Train as a user of this package does."""
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
    """Train as someone does who knows NumPy well.

    Results go into arrays that are made once, and all parameters lie in one of them, so that a
    step of descent is four calls. `dot` takes less time than `matmul` here.
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
            # It descends half the squared error, summed over the outputs, not their mean.
            learning_rate_init=LR * 2 / INPUTS,
            momentum=MOMENTUM,
            nesterovs_momentum=False,
            shuffle=False,
        )
        # The first call makes its parameters; its optimiser, made from these, has to go, too.
        model.partial_fit(x[:BATCH], x[:BATCH])
        model.coefs_ = [start[name].T.copy() for name in ("0.weight", "1.weight")]
        model.intercepts_ = [start[name].copy() for name in ("0.bias", "1.bias")]
        del model._optimizer

    def epoch() -> float:
        model.partial_fit(x, x)
        return 2 * float(model.loss_)

    return Trainer(reset, epoch)


# Name, what has to be installed, and how to make one.
TRAINERS = {
    "fastact": ("fastact", fastact),
    "NumPy": ("numpy", plain_numpy),
    "PyTorch": ("torch", pytorch),
    "scikit-learn": ("sklearn", scikit_learn),
}


def trainers(x: Array) -> dict[str, Trainer]:
    """Make a trainer, at its start, of everything that is installed."""
    made = {
        name: make(x)
        for name, (module, make) in TRAINERS.items()
        if importlib.util.find_spec(module)
    }
    for trainer in made.values():
        trainer.reset()
    return made


def measure() -> dict[str, Any]:
    """Time epochs from the start on, in turns, on one thread; the medians."""
    x = data()
    with _one_thread():
        made = trainers(x)
        losses = {name: trainer.epoch() for name, trainer in made.items()}
        allocated = {name: _allocated_kib(trainer) for name, trainer in made.items()}
        times: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(ROUNDS):
            for name, trainer in made.items():
                trainer.reset()
                start = perf_counter()
                trainer.epoch()
                times[name].append(perf_counter() - start)
    return {
        "machine": machine(),
        "samples": len(x),
        "rounds": ROUNDS,
        "loss": losses,
        "allocated_kib": allocated,
        "seconds": {name: median(values) for name, values in times.items()},
    }


def _allocated_kib(trainer: Trainer) -> float:
    """Find the most that an epoch allocates through Python and NumPy, after an earlier one."""
    tracemalloc.start()
    try:
        trainer.epoch()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        trainer.epoch()
        return (tracemalloc.get_traced_memory()[1] - before) / 1024
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(num_threads(1))
        if importlib.util.find_spec("torch"):
            torch = import_module("torch")
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        if importlib.util.find_spec("threadpoolctl"):
            stack.enter_context(import_module("threadpoolctl").threadpool_limits(1))
        yield


def report(results: dict[str, Any]) -> str:
    """Write the results as text."""
    facts, seconds = results["machine"], results["seconds"]
    batches = -(-results["samples"] // BATCH)
    cells = [("", "ms/epoch", "us/batch", "ratio", "target", "KiB", "loss")]
    for name, time in seconds.items():
        ratio = target = ""
        if name in TARGETS:
            ratio, target = f"{seconds['fastact'] / time:.2f}", f"{TARGETS[name]:.2f}"
        times = f"{1e3 * time:.3f}", f"{1e6 * time / batches:.1f}"
        # PyTorch's own allocations are not seen.
        kib = "-" if name == "PyTorch" else f"{results['allocated_kib'][name]:.1f}"
        cells.append((name, *times, ratio, target, kib, f"{results['loss'][name]:.6f}"))
    return f"""\
fastact {facts["version"]} ({facts["isa"]}, {facts["compiler"]}) and NumPy {facts["numpy"]}
{facts["processor"]}, Python {facts["python"]}

{table(cells, left=1)}

One epoch of an autoencoder {INPUTS}-{HIDDEN}-{INPUTS}, relu, then linear, on \
{results["samples"]:,} samples: mean squared
error, SGD with momentum, batches of {BATCH}, float32, one thread. The medians of \
{results["rounds"]} rounds of
taking turns, each from the same start.

ratio: time of fastact / time of the other.
KiB:   what an epoch allocates at most at a time, after an earlier one.
loss:  mean over the epoch; all compute the same."""
