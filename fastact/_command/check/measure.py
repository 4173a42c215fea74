"""Errors and faults of the results of a case, measured block by block on several threads."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastact._command.check.cases import Array, Case, Compute, Values
from fastact._command.errors import float_info, rounded
from fastact._command.exact import Exact, ExactInMpfr, exact_results


@dataclass
class Extreme:
    """How often something was seen, how bad it was, and where it was worst.

    Of equally bad ones the first is kept, whichever thread it was seen on.
    """

    size: float = -1.0
    position: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def add(self, other: "Extreme") -> None:
        """Take in what was seen elsewhere."""
        self.count += other.count
        if (other.size, -other.position) > (self.size, -self.position):
            self.size, self.position, self.values = other.size, other.position, other.values


@dataclass
class Tally:
    """What was measured over some inputs.

    Attributes
    ----------
    inputs : int
    misrounded : int
        How many results are not correctly rounded.
    error : Extreme
        The greatest error.
    faults : dict of str to Extreme
        What must not happen, by its description.
    """

    inputs: int = 0
    misrounded: int = 0
    error: Extreme = field(default_factory=Extreme)
    faults: dict[str, Extreme] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Take in what was measured over other inputs."""
        self.inputs += other.inputs
        self.misrounded += other.misrounded
        self.error.add(other.error)
        for name, fault in other.faults.items():
            self.faults.setdefault(name, Extreme()).add(fault)


def run_case(case: Case, workers: int, advance: Callable[[int], None]) -> tuple[list[Tally], bool]:
    """Measure a case on several threads. NumPy releases the GIL in its loops.

    Returns
    -------
    list of Tally
        For each of those who compute.
    bool
        Whether all inputs were done: False after Ctrl-C.
    """
    totals = [Tally() for _ in case.computes]
    starts = iter(range(0, case.inputs.size, case.block))
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
                    tallies = _measure_block(case, start)
                except BaseException:
                    stop.set()
                    raise
                with lock:
                    for total, tally in zip(totals, tallies, strict=True):
                        total.add(tally)
                    done += min(case.block, case.inputs.size - start)

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


def _measure_block(case: Case, start: int) -> list[Tally]:
    """Measure a block of a case, for each of those who compute it."""
    values = case.values(start)
    if not len(next(iter(values.values()))):
        return [Tally() for _ in case.computes]
    exact = exact_results(case.operation, values, case.dtype)
    first: Array | None = None
    tallies: list[Tally] = []
    for compute in case.computes.values():
        result = compute(values)
        different = None
        if first is None:
            first = result
        elif case.bound is not None:
            different = different_bits(result, first, values)
            if not different.any():
                tallies.append(tallies[0])
                continue
        tally = _measure_errors(exact, values, result, start)
        if case.bound is not None:
            _check_range(tally, case, values, result, start)
            _check_payload(tally, values, result, start)
            if case.operation.monotone:
                _check_order(tally, case, compute, values["x"], result, start)
        if different is not None:
            _add_fault(tally, "bits differ", different, values, start)
        tallies.append(tally)
    return tallies


def _measure_errors(
    exact: Exact | ExactInMpfr | None, values: Values, result: Array, start: int
) -> Tally:
    tally = Tally(len(result))
    if exact is None:
        return tally
    error = exact.error(result)
    at = int(error.argmax())
    tally.error = Extreme(float(error[at]), start + at, _at(values, at))
    tally.misrounded = exact.misrounded(result)
    return tally


def _check_range(tally: Tally, case: Case, values: Values, result: Array, start: int) -> None:
    """Check that results lie in the range of the operation."""
    if case.operation.range is None:
        return
    lowest, highest = rounded(np.array(case.operation.range), case.dtype)
    outside = (result < lowest) | (result > highest)
    name = "outside [{:g}, {:g}]".format(*case.operation.range)
    _add_fault(tally, name, outside, values, start)


def _check_payload(tally: Tally, values: Values, result: Array, start: int) -> None:
    """Check that the only NaN among numbers goes on. Its sign may change, and it becomes quiet."""
    *others, x = (value for name, value in sorted(values.items(), key=lambda item: item[0] in "xy"))
    lost = np.isnan(x)
    if lost.any():
        for other in others:
            lost &= np.isfinite(other)
        kind = np.dtype(f"u{x.dtype.itemsize}")
        payload = kind.type((1 << (float_info(x.dtype).nmant - 1)) - 1)
        lost &= ~np.isnan(result) | ((result.view(kind) ^ x.view(kind)) & payload != 0)
        _add_fault(tally, "payload of NaN lost", lost, values, start)


def _check_order(
    tally: Tally, case: Case, compute: Compute, x: Array, result: Array, start: int
) -> None:
    """Check that results rise where the inputs rise.

    Neighbours are compared, and the last input of a block with the first one of the next block.
    Over all bit patterns in order, this leaves out no pair except +0 and -0.
    """
    following = case.inputs.part(start + len(x), start + len(x) + 1)
    x = np.concatenate([x, following])
    y = np.concatenate([result, compute({"x": following})])
    x0, x1, y0, y1 = x[:-1], x[1:], y[:-1], y[1:]
    falls = ((x1 >= x0) & (y1 < y0)) | ((x1 <= x0) & (y1 > y0))
    _add_fault(tally, "not monotone", falls, {"x": x}, start)


def _add_fault(tally: Tally, name: str, wrong: Array, values: Values, start: int) -> None:
    if wrong.any():
        at = int(wrong.argmax())
        count = int(np.count_nonzero(wrong))
        tally.faults[name] = Extreme(0.0, start + at, _at(values, at), count)


def different_bits(result: Array, first: Array, values: Values) -> Array:
    """Find results whose bits differ, except for the payload where two NaN meet."""
    kind = f"u{first.dtype.itemsize}"
    different: Array = result.view(kind) != first.view(kind)
    if len(values) > 1 and different.any():
        odd = sum((~np.isfinite(value)).astype(int) for value in values.values())
        different &= ~((odd > 1) & np.isnan(result) & np.isnan(first))
    return different


def _at(values: Values, at: int) -> dict[str, Any]:
    return {name: v[at] if np.ndim(v) else v for name, v in values.items()}
