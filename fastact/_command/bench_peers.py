"""The command ``fastact bench --peers``: the table of targets, and who is how fast.

A row of `ROWS` is a kind of work with the ratio of times that is aimed at, and has several
cases. All works of a case take turns in one race: fastact, every peer that can do it, and
`memcpy` where that is the measure. The row shows the case that is furthest from its target.
"""

import contextlib
import functools
import itertools
import math
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastact
from fastact._command import reference
from fastact._command.console import machine, progress, table, ulp
from fastact._command.peers import Array, Peer, Work
from fastact._command.timing import race
from fastact._core.operations import OPERATIONS, Operation
from fastact._core.threads import get_num_threads, set_num_threads
from fastact._core.ufuncs import ufuncs

SMALL = 16
MEDIUM = 1 << 10
CACHED = 1 << 16
LARGE = 1 << 24
# Drawn once; larger arrays repeat them.
VALUES = 1 << 16
# Where calls take long: at least 3 rounds, more if they fit.
LARGE_SECONDS = 2.5
# Longer than the worker threads of OpenMP spin after a call.
PAUSE = 0.02

# A quarter per call, as sigmoid_backward takes of a gradient: 2**-2000 is 0 in float64.
SETTLE_CALLS = 1000

# Inputs per operation and type, for the errors.
ERROR_INPUTS = 1 << 18
# A peer's sigmoid competes if its error is no greater for inputs above this one.
MAX_ULP = 4
ULP_FROM = -80.0

MEMORY_ELEMENTS = 1 << 20
IMPORTS = 9

BY_NAME = {operation.name: operation for operation in OPERATIONS}
EVERYTHING = tuple(BY_NAME)
FORWARD = tuple(o.name for o in OPERATIONS if o.operands[0] == "x")


# ------------------------------------------------------------------------ the table


@dataclass(frozen=True)
class Case:
    """One operation on arrays of one kind.

    Attributes
    ----------
    operation, dtype : str
    size : int
        Elements.
    layout : str
        Of the operands: "contiguous", "stride 2" or "transposed". `out` is contiguous.
    out : bool
        Whether the result goes into an array that is there.
    all_threads : bool
        One thread if false.
    """

    operation: str
    dtype: str = "float32"
    size: int = CACHED
    layout: str = "contiguous"
    out: bool = True
    all_threads: bool = False

    def __str__(self) -> str:
        """Tell what distinguishes it within its row."""
        layout = "" if self.layout == "contiguous" else f", {self.layout}"
        return f"{self.operation} {self.dtype}{layout}"


@dataclass(frozen=True)
class Row:
    """A kind of work, and the ratio that is aimed at.

    Attributes
    ----------
    work : str
    target : float
        Ratio of times, fastact's to that of the rival, at most.
    cases : tuple of Case
    rival : callable, optional
        Makes the work to be held against, of fastact or `memcpy`, from a case and its
        arrays; the factor is for its time. By default the rival is the fastest peer.
    """

    work: str
    target: float
    cases: tuple[Case, ...]
    rival: "Callable[[Case, dict[str, Any], Array | None], Rival] | None" = None


@dataclass(frozen=True)
class Rival:
    """What else fastact is held against."""

    name: str
    work: Work
    factor: float = 1.0


def cases(
    operations: Iterable[str],
    dtypes: Iterable[str] = ("float32",),
    sizes: Iterable[int] = (CACHED,),
    **others: Any,
) -> tuple[Case, ...]:
    """Make the cases of all combinations."""
    return tuple(
        Case(operation, dtype, size, **others)
        for operation, dtype, size in itertools.product(operations, dtypes, sizes)
    )


def _memcpy(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    """Copy as NumPy does, in parts if there are threads."""
    source = next(v for v in values.values() if isinstance(v, np.ndarray))
    assert out is not None
    arrays = len(values) - ("negative_slope" in values) + 1
    names: dict[str, Any] = {"copyto": np.copyto, "source": source, "target": out}
    statement = "copyto(target, source)"
    n = get_num_threads()
    if n > 1:
        names["sources"] = np.array_split(source, n)
        names["targets"] = np.array_split(out, n)
        names["map"] = _pool(n).map
        statement = "list(map(copyto, targets, sources))"
    # A copy reads one array and writes one.
    return Rival("memcpy", Work(statement, names), arrays / 2)


@functools.cache
def _pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n)


def _own_sigmoid(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    return Rival("own sigmoid", _own("sigmoid", {"x": values["x"]}, out))


def _own_ordinary(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    values = make_operands(BY_NAME[case.operation], case)
    return Rival("ordinary inputs", _own(case.operation, values, np.empty_like(out)))


def _own_out_of_place(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    values = make_operands(BY_NAME[case.operation], case)
    return Rival("out of place", _own(case.operation, values, np.empty_like(out)))


ROWS = (
    Row("16 elements, out=", 0.40, cases(EVERYTHING, sizes=[SMALL])),
    Row("16 elements, new result", 0.60, cases(EVERYTHING, sizes=[SMALL], out=False)),
    Row(
        "relus and their backward, 1,024 and 65,536",
        1.0,
        cases(
            [name for name in EVERYTHING if "relu" in name],
            ["float32", "float64"],
            [MEDIUM, CACHED],
        ),
    ),
    Row("sigmoid, 1,024", 0.80, cases(["sigmoid"], sizes=[MEDIUM])),
    Row("sigmoid, 65,536", 0.95, cases(["sigmoid"], ["float32", "float64"])),
    Row(
        "sigmoid_backward_from_output, 65,536",
        1.0,
        cases(["sigmoid_backward_from_output"], ["float32", "float64"]),
    ),
    Row(
        "sigmoid_backward, 65,536",
        1.6,
        cases(["sigmoid_backward"], ["float32", "float64"]),
        _own_sigmoid,
    ),
    Row(
        "16 Mi, out=",
        1.10,
        tuple(
            case
            for case in cases(EVERYTHING, ["float32", "float64"], [LARGE])
            if (case.operation, case.dtype) != ("sigmoid", "float32")
        ),
        _memcpy,
    ),
    Row("sigmoid float32, 16 Mi, out=", 1.30, cases(["sigmoid"], sizes=[LARGE]), _memcpy),
    Row(
        "16 Mi, out=",
        1.10,
        cases(EVERYTHING, ["float32", "float64"], [LARGE], all_threads=True),
        _memcpy,
    ),
    Row("16 Mi, new result, second call on", 0.50, cases(EVERYTHING, sizes=[LARGE], out=False)),
    Row(
        "sigmoid, 65,536, stride 2 and transposed",
        0.30,
        cases(["sigmoid"], layout="stride 2") + cases(["sigmoid"], layout="transposed"),
    ),
    Row(
        "relu, 65,536, stride 2 and transposed",
        0.80,
        cases(["relu"], layout="stride 2") + cases(["relu"], layout="transposed"),
    ),
    Row(
        "sigmoid on denormal inputs, 65,536",
        1.2,
        cases(["sigmoid"], ["float32", "float64"], layout="denormal"),
        _own_ordinary,
    ),
    Row(
        "in place, 65,536",
        1.0,
        cases(EVERYTHING, ["float32", "float64"], layout="in place"),
        _own_out_of_place,
    ),
    Row("16-bit types, 65,536", 0.80, cases(FORWARD, ["float16", "bfloat16"])),
)


# ------------------------------------------------------------------------ arrays


def dtype_of(name: str) -> np.dtype[Any] | None:
    """Find a type; bfloat16 is that of ml_dtypes, if there is one."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        return None
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


@functools.cache
def _values(operation: Operation, dtype: np.dtype[Any], denormal: bool) -> dict[str, Any]:
    """Make the operands of an operation, once."""
    rng = np.random.default_rng(2)
    x = rng.normal(0, 4, VALUES).astype(dtype)
    if denormal:
        x = (rng.uniform(-1, 1, VALUES) * np.finfo(dtype).tiny).astype(dtype)
    return reference.operands(operation, x)


def make_operands(operation: Operation, case: Case) -> dict[str, Any]:
    """Make the operands of a case, in its layout."""
    dtype = dtype_of(case.dtype)
    assert dtype is not None
    values = _values(operation, dtype, case.layout == "denormal")
    return {
        name: _lay_out(np.resize(v, case.size), case.layout) if isinstance(v, np.ndarray) else v
        for name, v in values.items()
    }


def _lay_out(values: Array, layout: str) -> Array:
    target = values
    if layout == "stride 2":
        target = np.empty(2 * values.size, values.dtype)[::2]
    elif layout == "transposed":
        side = math.isqrt(values.size)
        values = values[: side * side].reshape(side, side)
        target = np.empty_like(values).T
    if target is not values:
        target[...] = values
    return target


# ----------------------------------------------------------------------- measuring


class _Fastact(Peer):
    name, modules = "fastact", ("fastact",)

    def _work(
        self, operation: str, arrays: dict[str, Array], slope: float, out: Array | None
    ) -> Work:
        values: dict[str, Any] = dict(arrays)
        if BY_NAME[operation].default not in (None, slope):
            values["negative_slope"] = slope
        call = ", ".join(values)
        names = {"call": ufuncs[operation], "out": out, **values}
        return Work(f"call({call})" if out is None else f"call({call}, out=out)", names)

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        previous = set_num_threads(n)
        try:
            yield
        finally:
            set_num_threads(previous)


def _own(operation: str, values: dict[str, Any], out: Array | None) -> Work:
    work = _Fastact().prepare(operation, values, out)
    assert work is not None
    return work


@contextlib.contextmanager
def thread_limit(peers: Iterable[Peer], n: int) -> Iterator[None]:
    """Let fastact and the peers use `n` threads."""
    with contextlib.ExitStack() as stack:
        for peer in (_Fastact(), *peers):
            stack.enter_context(peer.threads(n))
        yield


def prepare(
    peers: Iterable[Peer], operation: str, values: dict[str, Any], out: Array | None
) -> dict[str, Work]:
    """Prepare a work for fastact, first, and for all who can do it."""
    works = {p.name: p.prepare(operation, values, out) for p in (_Fastact(), *peers)}
    return {name: work for name, work in works.items() if work is not None}


def measure(peers: list[Peer]) -> dict[str, Any]:
    """Measure all rows, the errors, and what fastact takes of memory and time to import."""
    wanted = [(row, case) for row in ROWS for case in row.cases]
    pairs = list(dict.fromkeys((case.operation, case.dtype) for _, case in wanted))
    measured: dict[int, list[dict[str, Any]]] = {id(row): [] for row in ROWS}
    with progress(len(wanted) + 2) as step:
        step("errors")
        errors = {pair: e for pair in pairs if (e := _errors(peers, *pair)) is not None}
        for row, case in wanted:
            step(f"{row.work}: {case}")
            # Without the type, there is no such case.
            if (case.operation, case.dtype) in errors:
                slow = _too_wrong(errors[case.operation, case.dtype], case.operation)
                measured[id(row)].append(_measure_case(peers, row, case, slow))
        step("memory and import")
        footprint = _footprint()
    return {
        "machine": machine(),
        "peers": {peer.name: peer.version for peer in peers},
        "all_threads": get_num_threads(),
        "rows": [
            {
                "work": row.work,
                "target": row.target,
                "all_threads": row.cases[0].all_threads,
                "cases": measured[id(row)],
            }
            for row in ROWS
        ],
        "footprint": footprint,
        "errors": [
            {"operation": operation, "dtype": dtype, "ulp": {n: e["all"] for n, e in by.items()}}
            for (operation, dtype), by in errors.items()
        ],
    }


def _measure_case(peers: list[Peer], row: Row, case: Case, excluded: list[str]) -> dict[str, Any]:
    n = get_num_threads() if case.all_threads else 1
    operation = BY_NAME[case.operation]
    values = make_operands(operation, case)
    first = next(iter(values.values()))
    out = np.empty(first.shape, first.dtype) if case.out else None
    if case.layout == "in place":
        out = first
        _settle(case.operation, values)
    own = row.rival not in (None, _memcpy)
    with thread_limit(peers, n):
        works = prepare([] if own else peers, case.operation, values, out)
        rival = row.rival(case, values, out) if row.rival else None
        if rival:
            works[rival.name] = rival.work
        large = case.size >= LARGE
        seconds = race(
            [work.timer() for work in works.values()],
            seconds=LARGE_SECONDS if large else None,
            pause=PAUSE if n > 1 else 0,
        )
    times = dict(zip(works, seconds, strict=True))
    if rival:
        times[rival.name] *= rival.factor
    fastest = rival.name if rival else _fastest(times, excluded)
    ratio = times["fastact"] / times[fastest] if fastest else None
    return {
        "operation": case.operation,
        "dtype": case.dtype,
        "elements": case.size,
        "layout": case.layout,
        "case": f"{case}, {case.size:,}" if len({c.size for c in row.cases}) > 1 else str(case),
        "seconds": times,
        "rival": fastest,
        "excluded": [name for name in excluded if name in times],
        "ratio": ratio,
        "met": None if ratio is None else ratio <= row.target,
    }


def _settle(operation: str, values: dict[str, Any]) -> None:
    """Repeat a call in place until the values stay, on their way past denormal ones."""
    first = next(iter(values.values()))
    for _ in range(SETTLE_CALLS):
        ufuncs[operation](*values.values(), out=first)


def _fastest(times: dict[str, float], excluded: list[str]) -> str | None:
    rivals = [name for name in times if name != "fastact" and name not in excluded]
    return min(rivals, key=times.__getitem__, default=None)


def _errors(
    peers: list[Peer], operation: str, dtype_name: str
) -> dict[str, dict[str, float | None]] | None:
    """Find everyone's greatest errors, over all inputs and above `ULP_FROM`.

    None if fastact has not the operation for this type, or nobody has the type.
    """
    dtype = dtype_of(dtype_name)
    if dtype is None:
        return None
    x = reference.sample(dtype, ERROR_INPUTS)
    values = reference.operands(BY_NAME[operation], x)
    out = np.empty_like(x)
    with thread_limit(peers, 1):
        works = prepare(peers, operation, values, out)
        if "fastact" not in works:
            return None
        exact = reference.exact(operation, values, dtype)
        errors: dict[str, dict[str, float | None]] = {}
        for name, work in works.items():
            if exact is None:
                errors[name] = {"all": None, "above": None}
                continue
            error = reference.ulp_error(work(), exact)
            above = error[x.astype(np.float64) > ULP_FROM]
            errors[name] = {"all": float(error.max()), "above": float(above.max())}
    return errors


def _too_wrong(errors: dict[str, dict[str, float | None]], operation: str) -> list[str]:
    if operation != "sigmoid":
        return []
    return [name for name, e in errors.items() if (e["above"] or 0) > MAX_ULP]


# ----------------------------------------------------------------- memory and import


def _footprint() -> list[dict[str, Any]]:
    rows = [
        ("a call allocates, beyond its result", _extra_kib(), "KiB", 256),
        ("import, beyond that of numpy", _import_ms(), "ms", 15),
        ("installed", _installed_mib(), "MiB", 5),
    ]
    return [
        {"what": what, "value": value, "unit": unit, "target": target, "met": value <= target}
        for what, value, unit, target in rows
    ]


def _extra_kib() -> float:
    """Find the most that Python and NumPy allocate in a call, result apart; C has the stack."""
    kinds = itertools.product(["contiguous", "stride 2", "transposed"], [False, True])
    return max(
        _extra_bytes(Case(operation, dtype, MEMORY_ELEMENTS, layout, out)) / 1024
        for layout, out in kinds
        for operation, dtype in itertools.product(EVERYTHING, ["float16", "float32", "float64"])
    )


def _extra_bytes(case: Case) -> int:
    values = make_operands(BY_NAME[case.operation], case)
    out = None
    if case.out:
        first = next(iter(values.values()))
        out = np.empty(first.shape, first.dtype)
    call = ufuncs[case.operation]
    call(*values.values(), out=out)
    tracemalloc.start()
    try:
        result = call(*values.values(), out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak - (0 if case.out else result.nbytes)


def _import_ms() -> float:
    program = (
        "import numpy, time; start = time.perf_counter(); import fastact;"
        "print(time.perf_counter() - start)"
    )
    times = []
    for _ in range(IMPORTS):
        run = subprocess.run(
            [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
        )
        times.append(1e3 * float(run.stdout))
    return statistics.median(times)


def _installed_mib() -> float:
    """Add up the package's files, but for those that only a build in place leaves there."""
    folder = Path(fastact.__file__).parent
    files = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".c")
    return sum(p.stat().st_size for p in files if p.parent.name != "__pycache__") / 2**20


# -------------------------------------------------------------------------- output


def report(results: dict[str, Any]) -> str:
    """Write the results as text."""
    facts = results["machine"]
    names = ", ".join(f"{name} {version}" for name, version in results["peers"].items())
    missed = _missed(results["rows"])
    lines = [
        f"fastact {facts['version']} ({facts['isa']}, {facts['compiler']}) and {names}",
        f"{facts['processor']}, {results['all_threads']} processors, Python {facts['python']}",
        "",
        table(_target_cells(results), left=3),
        "",
        table(_footprint_cells(results["footprint"]), left=1),
        "",
        *(["Missed:", table(missed, left=3), ""] if missed else []),
        "Greatest error, ULP:",
        table(_error_cells(results), left=2),
        "",
        f"""\
Of every work the case that is furthest from its target: time of fastact, time of the fastest
other, ratio, target, and how many cases meet it. Times are medians per element (of 16: per
call), all in turns in one process. memcpy: numpy.copyto, its time scaled to the bytes that
the operation reads and writes; on all threads, in as many parts. Where sigmoid is compared,
peers with an error above {MAX_ULP} ULP for an input above {ULP_FROM:.0f} do not count. JAX
cannot write into out. Errors as in `fastact bench`, over about {ERROR_INPUTS:,} inputs.""",
    ]
    return "\n".join(lines)


def _target_cells(results: dict[str, Any]) -> list[tuple[str, ...]]:
    cells: list[tuple[str, ...]] = [
        (
            "work",
            "furthest case",
            "against",
            "threads",
            "fastact",
            "other",
            "ratio",
            "target",
            "met",
        )
    ]
    for row in results["rows"]:
        threads = str(results["all_threads"] if row["all_threads"] else 1)
        ranked = sorted((c for c in row["cases"] if c["ratio"] is not None), key=_ratio)
        if not ranked:
            cells.append(
                (row["work"], "-", "-", threads, "-", "-", "-", f"{row['target']:.2f}", "-")
            )
            continue
        met = sum(c["met"] for c in ranked)
        answer = "yes" if met == len(ranked) else f"no, {met} of {len(ranked)}"
        cells.append(
            (row["work"], *_case_cells(ranked[-1], threads), f"{row['target']:.2f}", answer)
        )
    return cells


def _ratio(case: dict[str, Any]) -> float:
    return float(case["ratio"])


def _case_cells(case: dict[str, Any], threads: str) -> tuple[str, ...]:
    times = (case["seconds"][name] for name in ("fastact", case["rival"]))
    many = case["elements"] > SMALL
    return (
        case["case"],
        case["rival"],
        threads,
        *(f"{t / case['elements'] * 1e9:.3f} ns" if many else f"{t * 1e9:.0f} ns" for t in times),
        f"{case['ratio']:.2f}",
    )


def _missed(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (row["work"], *_case_cells(case, "all" if row["all_threads"] else "1"))
        for row in rows
        for case in row["cases"]
        if case["met"] is False
    ]


def _footprint_cells(footprint: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            item["what"],
            f"{item['value']:.1f} {item['unit']}",
            f"at most {item['target']}",
            "yes" if item["met"] else "no",
        )
        for item in footprint
    ]


def _error_cells(results: dict[str, Any]) -> list[tuple[str, ...]]:
    names = ["fastact", *results["peers"]]
    cells = [
        (
            row["operation"],
            row["dtype"],
            *(ulp(row["ulp"][name]) if name in row["ulp"] else "" for name in names),
        )
        for row in results["errors"]
    ]
    return [("operation", "dtype", *names), *cells]
