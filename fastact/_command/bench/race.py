"""Races of fastact with everyone else, over a table of goals.

All works of a case take turns in one race: fastact, every peer that supports it, and whatever
else the goal compares with.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command import errors, samples
from fastact._command.bench.arrays import ROWS, dtype_of
from fastact._command.bench.cases import Case, cases, make_operands, make_out
from fastact._command.console import machine, progress
from fastact._command.peers import Fastact, Peer, Work
from fastact._command.timing import busy_processes, race
from fastact._core.operations import BY_NAME, OPERATIONS, Operation, RowOperation
from fastact._core.runtime.threads import get_num_threads

Array = NDArray[Any]
# The greatest errors of a work, by the inputs that they are of: "all", or those "above" a number.
Errors = dict[str, float | None]

DTYPES = ("float16", "float32", "float64")
SMALL = 16
LARGE = 1 << 24
# Where calls take long: at least 3 rounds, and more if they fit.
LARGE_SECONDS = 2.5
# Longer than the worker threads of OpenMP spin after a call.
PAUSE = 0.02

# Inputs per operation and type, for the errors.
ERROR_INPUTS = 1 << 18
# A peer competes at a costly activation if its error is no greater for inputs above this one.
MAX_ULP = 4
ULP_FROM = -80.0


@dataclass(frozen=True)
class Rival:
    """What else fastact is compared with: the work, and a factor for its time."""

    name: str
    work: Work
    factor: float = 1.0


@dataclass(frozen=True)
class Goal:
    """A kind of work, and the ratio of times that is aimed at."""

    work: str
    ratio: float | None  # the time of fastact over that of the rival, at most; None aims at nothing
    cases: tuple[Case, ...]
    # Makes the rival from a case, its operands and `out`. By default it is the fastest peer.
    rival: Callable[[Case, dict[str, Any], Array | None], Rival] | None = None
    peers: tuple[str, ...] | None = None  # the names of those that compete, if not all
    alone: bool = False  # no peer even takes part: the rival is fastact itself, or memory


def _negative(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    return Rival("numpy.negative", Work.of(np.negative, values, out))


def overview(size: int) -> tuple[Goal, ...]:
    """List what ``fastact bench`` measures."""
    return (
        Goal(f"{size:,} elements, out=, one thread", None, cases(OPERATIONS, DTYPES, [size])),
        Goal(
            f"{SMALL} elements, where the call takes all of the time",
            None,
            cases([BY_NAME["relu"]], sizes=[SMALL]),
            _negative,
            alone=True,
        ),
    )


@contextlib.contextmanager
def thread_limit(peers: Iterable[Peer], n: int) -> Iterator[None]:
    """Let fastact and the peers use `n` threads."""
    with contextlib.ExitStack() as stack:
        for peer in (Fastact(), *peers):
            stack.enter_context(peer.threads(n))
        yield


def prepare(
    peers: Iterable[Peer],
    operation: Operation | RowOperation,
    values: dict[str, Any],
    out: Array | None,
) -> dict[str, Work]:
    """Prepare a work for fastact, first, and for all peers that support it."""
    works = {p.name: p.prepare(operation, values, out) for p in (Fastact(), *peers)}
    return {name: work for name, work in works.items() if work is not None}


def measure(peers: list[Peer], goals: Sequence[Goal]) -> dict[str, Any]:
    """Measure the times of all goals, and the errors of their operations."""
    greatest: dict[tuple[Operation | RowOperation, str], dict[str, Errors] | None] = {}
    rows = []
    with progress(sum(len(goal.cases) for goal in goals)) as step:
        for goal in goals:
            measured = []
            for case in goal.cases:
                step(f"{goal.work}: {case}")
                pair = case.operation, case.dtype
                if pair not in greatest:
                    greatest[pair] = _errors(peers, *pair)
                # Without the type, there is no such case.
                if (found := greatest[pair]) is not None:
                    inexact = too_inexact(found, case.operation)
                    measured.append(_measure_case(peers, goal, case, inexact))
            all_threads = goal.cases[0].all_threads
            row = {"work": goal.work, "target": goal.ratio, "all_threads": all_threads}
            rows.append(row | {"cases": measured})
    return {
        "machine": machine(),
        "peers": {peer.name: peer.version for peer in peers},
        "all_threads": get_num_threads(),
        "rows": rows,
        "errors": [
            {
                "operation": operation.name,
                "dtype": dtype,
                "ulp": {name: error["all"] for name, error in by.items()},
            }
            for (operation, dtype), by in greatest.items()
            if by
        ],
    }


def _measure_case(peers: list[Peer], goal: Goal, case: Case, excluded: list[str]) -> dict[str, Any]:
    n = get_num_threads() if case.all_threads else 1
    values = make_operands(case)
    out = make_out(case, values)
    first = next(iter(values.values()))
    before = first.copy() if case.layout == "in place" else None
    if before is not None:
        out = first
    with thread_limit(peers, n), busy_processes(n - 1 if case.busy else 0):
        works = prepare(_competitors(peers, goal), case.operation, values, out)
        if before is not None:
            works = {name: restored(work, first, before) for name, work in works.items()}
        rival = goal.rival(case, values, out) if goal.rival else None
        if rival:
            works[rival.name] = rival.work
        seconds = race(
            [work.timer() for work in works.values()],
            seconds=LARGE_SECONDS if case.size >= LARGE or n > 1 else None,
            pause=PAUSE if n > 1 else 0,
        )
    times = dict(zip(works, seconds, strict=True))
    if rival:
        times[rival.name] *= rival.factor
    opponent = rival.name if rival else fastest(times, excluded)
    ratio = times["fastact"] / times[opponent] if opponent else None
    several = len({c.size for c in goal.cases}) > 1
    return {
        "operation": case.operation.name,
        "dtype": case.dtype,
        "elements": case.size,
        "layout": case.layout,
        "out": case.out,
        "slope": case.slope,
        "case": f"{case}, {case.size:,}" if several else str(case),
        "seconds": times,
        "rival": opponent,
        "excluded": [name for name in excluded if name in times],
        "ratio": ratio,
        "met": None if ratio is None or goal.ratio is None else ratio <= goal.ratio,
    }


def _competitors(peers: list[Peer], goal: Goal) -> list[Peer]:
    if goal.alone:
        return []
    return [peer for peer in peers if goal.peers is None or peer.name in goal.peers]


def restored(work: Work, array: Array, values: Array) -> Work:
    """Give an array its values before each call of a work.

    Repeated in place, a gradient becomes denormal, and stays so: 0.6 of the smallest number is
    rounded to it. That would take up to 12 times as long.
    """
    names = work.names | {"copyto": np.copyto, "array": array, "values": values}
    return Work(f"copyto(array, values), {work.statement}", names, work.result)


def fastest(times: dict[str, float], excluded: list[str]) -> str | None:
    """Find the fastest work of the others, except for those excluded."""
    rivals = [name for name in times if name != "fastact" and name not in excluded]
    return min(rivals, key=times.__getitem__, default=None)


def slower(results: dict[str, Any]) -> dict[str, Any]:
    """Find the cases in which another package takes less time, inexact ones included.

    Returns
    -------
    dict
        "compared": how many cases other packages take part in; "above": those with a ratio above
        1.00, the greatest first.
    """
    compared, above = 0, []
    for row in results["rows"]:
        for case in row["cases"]:
            times = {name: t for name, t in case["seconds"].items() if name in results["peers"]}
            compared += bool(times)
            if (peer := fastest(times, [])) is None:
                continue
            ratio = case["seconds"]["fastact"] / times[peer]
            if round(ratio, 2) > 1:
                above.append({"work": row["work"], "case": case, "peer": peer, "ratio": ratio})
    return {"compared": compared, "above": sorted(above, key=lambda row: -row["ratio"])}


def _errors(
    peers: list[Peer], operation: Operation | RowOperation, dtype_name: str
) -> dict[str, Errors] | None:
    """Find the greatest errors of everyone, over all inputs and above `ULP_FROM`.

    None if fastact lacks the operation for this type, or the type does not exist here. Of
    integers, none are measured.
    """
    dtype = dtype_of(dtype_name)
    if dtype is None:
        return None
    if dtype.kind in "iu":
        return {}
    with thread_limit(peers, 1):
        if isinstance(operation, RowOperation):
            return _errors_of_rows(peers, operation, dtype)
        x = samples.sample(dtype, ERROR_INPUTS)
        values = samples.operands(operation, x)
        works = prepare(peers, operation, values, np.empty_like(x))
        if "fastact" not in works:
            return None
        exact = errors.exact(operation, values, dtype)
        if exact is None:
            return {name: {"all": None, "above": None} for name in works}
        unit = errors.unit_of(operation, values, dtype, exact)
        greatest: dict[str, Errors] = {}
        for name, work in works.items():
            error = errors.ulp_error(work(), exact, unit)
            above = error[x.astype(np.float64) > ULP_FROM]
            greatest[name] = {"all": float(error.max()), "above": float(above.max())}
    return greatest


def _errors_of_rows(
    peers: list[Peer], operation: RowOperation, dtype: np.dtype[Any]
) -> dict[str, Errors]:
    """Find the greatest errors over the rows that the times are of."""
    greatest: dict[str, list[float]] = {}
    for layout in ROWS:
        values = make_operands(Case(operation, dtype.name, layout=layout))
        exact = errors.exact(operation, values, dtype)
        unit = None if exact is None else errors.unit_of(operation, values, dtype, exact)
        out = np.empty_like(values[operation.operands[0]])
        for name, work in prepare(peers, operation, values, out).items():
            of_layouts = greatest.setdefault(name, [])
            if exact is not None:
                of_layouts.append(float(errors.ulp_error(work(), exact, unit).max()))
    return {name: {"all": max(of_layouts, default=None)} for name, of_layouts in greatest.items()}


def too_inexact(greatest: dict[str, Errors], operation: Operation | RowOperation) -> list[str]:
    """List those that do not compete, because they trade accuracy for speed."""
    if isinstance(operation, RowOperation) or not (operation.costly and operation.forward):
        return []
    return [name for name, error in greatest.items() if (error["above"] or 0) > MAX_ULP]
