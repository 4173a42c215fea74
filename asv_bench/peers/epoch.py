"""``fastact bench --epoch``: one epoch of training, here and elsewhere."""

import contextlib
import importlib.util
import tracemalloc
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from statistics import median
from time import perf_counter
from typing import Any

from fastact._command.console import machine
from fastact._command.markup import Table
from fastact._core.runtime.threads import num_threads

from .trainers import BATCH, HIDDEN, INPUTS, Trainer, data, trainers

ROUNDS = 101
# The ratios of times that were aimed at.
GOALS = {"NumPy": 0.8, "PyTorch": 0.5, "scikit-learn": 0.5}
DISTRIBUTIONS = {"NumPy": "numpy", "PyTorch": "torch", "scikit-learn": "scikit-learn"}


def measure() -> dict[str, Any]:
    """Time first epochs, in turns, on one thread."""
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
        "peers": {name: version(DISTRIBUTIONS[name]) for name in made if name in DISTRIBUTIONS},
        "samples": len(x),
        "rounds": ROUNDS,
        "loss": losses,
        "allocated_kib": allocated,
        "seconds": {name: median(values) for name, values in times.items()},
    }


def _allocated_kib(trainer: Trainer) -> float:
    """Find the most that an epoch after the first allocates through Python and NumPy."""
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


def _cells(results: dict[str, Any]) -> list[tuple[str, ...]]:
    seconds = results["seconds"]
    batches = -(-results["samples"] // BATCH)
    cells: list[tuple[str, ...]] = [("", "ms/epoch", "us/batch", "ratio", "target", "KiB", "loss")]
    for name, time in seconds.items():
        ratio = target = ""
        if name in GOALS:
            ratio, target = f"{seconds['fastact'] / time:.2f}", f"{GOALS[name]:.2f}"
        times = f"{1e3 * time:.3f}", f"{1e6 * time / batches:.1f}"
        # The allocations of PyTorch cannot be seen.
        kib = "-" if name == "PyTorch" else f"{results['allocated_kib'][name]:.1f}"
        cells.append((name, *times, ratio, target, kib, f"{results['loss'][name]:.6f}"))
    return cells


def details(results: dict[str, Any]) -> list[Table]:
    """Make the table."""
    title = (
        f"An epoch of an autoencoder {INPUTS}-{HIDDEN}-{INPUTS} on {results['samples']:,} samples, "
        f"batches of {BATCH}, float32, one thread; ratio: time of fastact / time of the other"
    )
    return [Table(title, _cells(results), 1)]


def notes(results: dict[str, Any]) -> str:
    """Explain the table."""
    return f"""\
One epoch: relu, then linear; mean squared error, SGD with momentum. The medians of \
{results["rounds"]} rounds of
taking turns, each from the same start. KiB: the most that an epoch after the first has
allocated at a time. loss: mean over the epoch; all compute the same."""
