"""Errors and faults of the results of a sweep, measured block by block on several threads."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastact._command.check.sweeps import Array, Compute, Sweep, Values
from fastact._command.errors import float_info, rounded
from fastact._command.exact import Exact, ExactInMpfr, exact_results
from fastact._core.operations import Operation


@dataclass
class Extreme:
    """How often something was seen, how bad it was, and where it was worst.

    Of equally bad ones the first is kept, whichever thread it was seen on.
    """

    size: float = -1.0
    position: tuple[int, int] = (0, 0)  # the start of the block, and the index in it
    values: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def add(self, other: "Extreme") -> None:
        """Take in what was seen elsewhere."""
        self.count += other.count
        if other.size > self.size or (other.size == self.size and other.position < self.position):
            self.size, self.position, self.values = other.size, other.position, other.values


@dataclass
class Tally:
    """What was measured over some inputs."""

    inputs: int = 0
    misrounded: int = 0  # how many results are not correctly rounded
    error: Extreme = field(default_factory=Extreme)  # the greatest
    faults: dict[str, Extreme] = field(default_factory=dict)  # what must not happen

    def add(self, other: "Tally") -> None:
        """Take in what was measured over other inputs."""
        self.inputs += other.inputs
        self.misrounded += other.misrounded
        self.error.add(other.error)
        for name, fault in other.faults.items():
            self.faults.setdefault(name, Extreme()).add(fault)


def run_sweep(
    sweep: Sweep, workers: int, advance: Callable[[int], None]
) -> tuple[list[Tally], bool]:
    """Measure a sweep on several threads: a tally for each who computes, and whether all was done.

    NumPy releases the GIL in its loops. Not all is done after Ctrl-C.
    """
    totals = [Tally() for _ in sweep.computes]
    starts = iter(range(0, sweep.inputs.size, sweep.block))
    lock = threading.Lock()
    stop = threading.Event()
    done = 0

    def next_start() -> int | None:
        with lock:
            return None if stop.is_set() else next(starts, None)

    def work() -> None:
        nonlocal done
        with np.errstate(all="ignore"):
            while (start := next_start()) is not None:
                try:
                    tallies = _measure_block(sweep, start)
                except BaseException:
                    stop.set()
                    raise
                with lock:
                    for total, tally in zip(totals, tallies, strict=True):
                        total.add(tally)
                    done += min(sweep.block, sweep.inputs.size - start)

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work) for _ in range(workers)]
        complete = True
        try:
            waiting: Iterable[Any] = futures
            while waiting:
                waiting = wait(waiting, timeout=0.2).not_done
                advance(done)
        except KeyboardInterrupt:
            complete = False
        finally:
            stop.set()
    for future in futures:
        future.result()
    return totals, complete


def _measure_block(sweep: Sweep, start: int) -> list[Tally]:
    """Measure a block of a sweep, for each of those who compute it."""
    values = sweep.values(start)
    if not len(next(iter(values.values()))):
        return [Tally() for _ in sweep.computes]
    exact = exact_results(sweep.operation, values, sweep.dtype)
    first: Array | None = None
    tallies: list[Tally] = []
    for compute in sweep.computes.values():
        result = compute(values)
        different = None
        if first is None:
            first = result
        elif sweep.bound is not None:
            different = different_bits(result, first, values)
            if not different.any():
                tallies.append(tallies[0])
                continue
        tally = _measure_errors(exact, sweep, values, result, start)
        if sweep.bound is not None and isinstance(sweep.operation, Operation):
            _check_range(tally, sweep, values, result, start)
            _check_payload(tally, sweep, values, result, start)
            if sweep.operation.monotone:
                _check_order(tally, sweep, compute, values["x"], result, start)
        if different is not None:
            _add_fault(tally, sweep, "bits differ", different, values, start)
        tallies.append(tally)
    return tallies


def _measure_errors(
    exact: Exact | ExactInMpfr | None, sweep: Sweep, values: Values, result: Array, start: int
) -> Tally:
    tally = Tally(result.size)
    if exact is None:
        return tally
    error = exact.error(result)
    at = int(error.argmax())
    tally.error = Extreme(float(error.flat[at]), (start, at), sweep.at(values, at))
    tally.misrounded = exact.misrounded(result)
    return tally


def _check_range(tally: Tally, sweep: Sweep, values: Values, result: Array, start: int) -> None:
    """Check that results lie in the range of the operation."""
    assert isinstance(sweep.operation, Operation)
    if sweep.operation.range is None:
        return
    lowest, highest = rounded(np.array(sweep.operation.range), sweep.dtype)
    outside = (result < lowest) | (result > highest)
    name = "outside [{:g}, {:g}]".format(*sweep.operation.range)
    _add_fault(tally, sweep, name, outside, values, start)


def _check_payload(tally: Tally, sweep: Sweep, values: Values, result: Array, start: int) -> None:
    """Check that the only NaN among numbers goes on. Its sign may change, and it becomes quiet."""
    *others, x = (value for name, value in sorted(values.items(), key=lambda item: item[0] in "xy"))
    lost = np.isnan(x)
    if lost.any():
        for other in others:
            lost &= np.isfinite(other)
        kind = np.dtype(f"u{x.dtype.itemsize}")
        payload = kind.type((1 << (float_info(x.dtype).nmant - 1)) - 1)
        lost &= ~np.isnan(result) | ((result.view(kind) ^ x.view(kind)) & payload != 0)
        _add_fault(tally, sweep, "payload of NaN lost", lost, values, start)


def _check_order(
    tally: Tally, sweep: Sweep, compute: Compute, x: Array, result: Array, start: int
) -> None:
    """Check that results rise where the inputs rise.

    Neighbours are compared, and the last input of a block with the first one of the next block.
    Over all bit patterns in order, this leaves out no pair except +0 and -0.
    """
    following = sweep.inputs.part(start + len(x), start + len(x) + 1)
    x = np.concatenate([x, following])
    y = np.concatenate([result, compute({"x": following})])
    x0, x1, y0, y1 = x[:-1], x[1:], y[:-1], y[1:]
    falls = ((x1 >= x0) & (y1 < y0)) | ((x1 <= x0) & (y1 > y0))
    _add_fault(tally, sweep, "not monotone", falls, {"x": x}, start)


def _add_fault(
    tally: Tally, sweep: Sweep, name: str, wrong: Array, values: Values, start: int
) -> None:
    if wrong.any():
        at = int(wrong.argmax())
        count = int(np.count_nonzero(wrong))
        tally.faults[name] = Extreme(0.0, (start, at), sweep.at(values, at), count)


def different_bits(result: Array, first: Array, values: Values) -> Array:
    """Find results whose bits differ, except for the payload where two NaN meet."""
    kind = f"u{first.dtype.itemsize}"
    different: Array = result.view(kind) != first.view(kind)
    if len(values) > 1 and different.any():
        odd = sum((~np.isfinite(value)).astype(int) for value in values.values())
        different &= ~((odd > 1) & np.isnan(result) & np.isnan(first))
    return different
