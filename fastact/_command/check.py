"""The command ``fastact check``: the error of every result, and the same bits everywhere.

What is held against what
-------------------------
float16, bfloat16 and float32 are held against `fastact._command.reference.EXACT`, evaluated in
float64 by NumPy: another formula, another exponential, and no code in common with the
kernels. Its own relative error is about 1e-15 where half an ULP of float32 is 2**-24 or
3e-8 of the value at least: some 1e-8 ULP. So the greatest errors are right in all digits
shown, and the count of results that are not correctly rounded could be wrong only for an
exact value within 1e-8 ULP of a tie between two float32 numbers. With ``--exhaustive``, all
2**32 inputs are tried: for operations of x alone, or with constant other operands, the table
is a proof for this machine and build. Where the other operands are pseudo-random too, 2**28
inputs are taken, evenly spaced: evidence.

float64 is held against the same formulas in mpmath with 240 bits if that is installed, else
in `numpy.longdouble` where this has 64 bits. Its inputs are random, evenly spaced in their
bit patterns, and hard ones. This is evidence, not proof.

Instruction sets are compared with the first one, bit for bit. Only where two operands or
more are not finite, NaN is NaN: IEEE 754 leaves open which of two goes on. Where the bits
are the same, so is the error, and it is not measured again.
"""

import argparse
import contextlib
import functools
import importlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastact._command import reference
from fastact._command.console import finite, machine, progress, table, ulp
from fastact._core import ufuncs
from fastact._core.operations import OPERATIONS, Operation
from fastact._core.threads import get_num_threads

if TYPE_CHECKING:
    from fastact._command import peers as packages

Array = NDArray[Any]
Values = dict[str, Any]
Compute = Callable[[Values], Array]

# The greatest errors allowed, in ULP: of the 16-bit types with a gradient of 1, of these with
# any gradient, and of float32 and float64.
BOUNDS = {
    "relu": (0.0, 0.0, 0.0),
    "leaky_relu": (0.5, 0.5, 0.5),
    "sigmoid": (0.5, 0.5, 1.0),
    "relu_backward": (0.0, 0.0, 0.0),
    "leaky_relu_backward": (0.5, 0.5, 0.5),
    "sigmoid_backward": (0.5, 1.0, 1.5),
    "sigmoid_backward_from_output": (0.5, 1.0, 1.5),
}
MONOTONE = ("sigmoid",)

# All arrays of a block, in float64 too, are in the L2 cache at the same time.
BLOCK = 1 << 14
# mpmath takes some 50 us an element.
SLOW_BLOCK = 1 << 10
SEED = 20240229

# How many inputs a sample has. Of 16-bit types: rounds over all of them, with other gradients.
EVEN_INPUTS = 1 << 24
HARD_INPUTS = 1 << 20
NARROW_ROUNDS = 16
SLOW_INPUTS = SLOW_HARD_INPUTS = 1 << 15

INTERRUPTED = 130


# ------------------------------------------------------------------------ cases


@dataclass(frozen=True)
class Inputs:
    """Values of the operand that is gone through, `x` or `y`, in order.

    Attributes
    ----------
    size : int
    part : callable
        ``part(start, stop)`` makes those from `start` to `stop`, cut off at `size`.
    """

    size: int
    part: Callable[[int, int], Array]


@dataclass(frozen=True)
class Case:
    """One operation and dtype over inputs: a row of the table per instruction set or peer.

    Attributes
    ----------
    operation : Operation
    dtype : numpy.dtype
    sampled : bool
        Whether the operands beside the input are pseudo-random, not constant.
    inputs : Inputs
    computes : dict
        Who computes, by name.
    limit : float
        Greatest absolute value of `x` that is taken, NaN apart.
    bound : float, optional
        Greatest error allowed. Without one, these are peers: nothing can be broken, and
        nobody's bits are compared.
    """

    operation: Operation
    dtype: np.dtype[Any]
    sampled: bool
    inputs: Inputs
    computes: dict[str, Compute]
    limit: float = np.inf
    bound: float | None = None

    @property
    def operands(self) -> str:
        """What is special about the operands."""
        names = [name for name in self.operation.operands if name not in "xy"]
        if self.sampled:
            texts = [f"{name} sampled" for name in names]
        else:
            texts = [f"{name}={1 if name == 'grad' else 0.01}" for name in names]
        if self.limit < np.inf:
            texts.append(f"|x| <= {self.limit:.1f}")
        return ", ".join(texts)

    @property
    def block(self) -> int:
        """How many inputs to take at a time."""
        return SLOW_BLOCK if self.dtype == np.float64 else BLOCK

    def values(self, start: int) -> Values:
        """Make the operands of a block, by name; the same ones in every run."""
        x = self.inputs.part(start, start + self.block)
        with np.errstate(invalid="ignore"):
            if "y" in self.operation.operands:
                x = x[~((x < 0) | (x > 1))]  # outputs of sigmoid, and NaN
            elif self.limit < np.inf:
                x = x[~(np.abs(x) > self.limit)]
        values: Values = {}
        for i, name in enumerate(self.operation.operands):
            if name in "xy":
                values[name] = x
            elif self.sampled:
                values[name] = _random(self.dtype, len(x), (SEED, start, i))
            else:
                values[name] = np.ones_like(x) if name == "grad" else self.operation.default
        return values


def _random(dtype: np.dtype[Any], count: int, seed: tuple[int, ...]) -> Array:
    """Make finite numbers of which every bit is random, so of all magnitudes.

    One in eight is near the largest, and one in eight is near the smallest or subnormal.
    """
    info = reference.float_info(dtype)
    kind = np.dtype(f"u{dtype.itemsize}")
    rng = np.random.Generator(np.random.SFC64(seed))
    bits = rng.integers(0, np.iinfo(kind).max, count, kind, endpoint=True)
    # All bits of the exponent but the last two.
    exponent = kind.type((info.maxexp - 2) << (info.nmant + 1))
    bits[::8] |= exponent
    bits[1::8] &= ~exponent
    values = bits.view(dtype)
    with np.errstate(invalid="ignore"):
        values[~np.isfinite(values)] = info.max
    return values


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    """List what is to be checked."""
    isas = [name for name in ufuncs.supported if options.isa in (None, name)]
    tables = {isa: ufuncs.make_ufuncs(isa) for isa in isas}
    for dtype in _dtypes(tables[isas[0]]):
        for operation in _chosen(options):
            computes = {isa: _call(tables[isa][operation.name]) for isa in isas}
            for sampled in (False, True) if len(operation.operands) > 1 else (False,):
                narrow, narrow_sampled, wide = BOUNDS[operation.name]
                bound = wide if dtype.itemsize > 2 else narrow_sampled if sampled else narrow
                inputs = _inputs(dtype, options.exhaustive, sampled)
                yield Case(operation, dtype, sampled, inputs, computes, bound=bound)


def _chosen(options: argparse.Namespace) -> list[Operation]:
    return [op for op in OPERATIONS if options.operation in (None, op.name)]


def _call(ufunc: Callable[..., Any]) -> Compute:
    return lambda values: np.asarray(ufunc(*values.values()))


def _dtypes(ufuncs: dict[str, Any]) -> list[np.dtype[Any]]:
    """Find the floating-point types, bfloat16 only where ml_dtypes is installed."""
    dtypes = [np.dtype(name) for name in ("float16", "float32", "float64")]
    with contextlib.suppress(ImportError, TypeError):
        from ml_dtypes import bfloat16

        dtype = np.dtype(bfloat16)
        if ufuncs["sigmoid"](np.zeros(1, dtype)).dtype == dtype:
            dtypes.insert(1, dtype)
    return dtypes


# ----------------------------------------------------------------------- inputs


def _inputs(dtype: np.dtype[Any], exhaustive: bool, sampled: bool) -> Inputs:
    """Choose the inputs of a type."""
    if dtype.itemsize == 2:
        return _patterns(dtype, (NARROW_ROUNDS if sampled else 1) << 16)
    if dtype.itemsize == 4 and exhaustive:
        return _patterns(dtype, 1 << 28, 17) if sampled else _patterns(dtype, 1 << 32)
    if dtype.itemsize == 4:
        count, hard = EVEN_INPUTS, HARD_INPUTS
    else:
        count, hard = SLOW_INPUTS, SLOW_HARD_INPUTS
    values = _sample(dtype, count, hard)
    return Inputs(len(values), lambda start, stop: values[start:stop])


def _patterns(dtype: np.dtype[Any], size: int, step: int = 1) -> Inputs:
    """Make the numbers of a type, NaN and infinities too, in the order of their bits.

    After the last comes the first again, if `size` is so large.
    """

    def part(start: int, stop: int) -> Array:
        patterns = np.arange(start, min(stop, size), dtype=np.uint64) * np.uint64(step)
        return patterns.astype(f"u{dtype.itemsize}").view(dtype)

    return Inputs(size, part)


@functools.cache
def _sample(dtype: np.dtype[Any], count: int, hard: int) -> Array:
    """Make `reference.sample` with NaN and infinities, and about `hard` hard inputs."""
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0], dtype)
    return np.concatenate([special, _hard(dtype, hard), reference.sample(dtype, count)])


def _hard(dtype: np.dtype[Any], count: int) -> Array:
    """Make about `count` inputs where a formula changes, or its error is near the greatest.

    Runs of neighbours around 0, the ends of the type, the ends of every binade of exp(x)
    and the middles between them, where an argument reduction goes from one k to the next,
    and integers, such as clamps are. Evenly spaced ones, of both signs, where results are
    subnormal, where they approach 1, where they vanish for gradients of any size, and where
    1/2 + x/4 is a result.
    """
    info = np.finfo(dtype)
    kind = np.dtype(f"u{dtype.itemsize}")
    lowest = info.nmant - info.minexp  # the smallest subnormal is 2**-lowest
    binades = np.arange(0, lowest + info.maxexp + 2, 0.5) * np.log(2)
    integers = np.arange(1, binades[-1])
    powers = np.ldexp(1.0, np.arange(-info.nmant - 10, 5))
    ends = [0.0, info.smallest_subnormal, info.smallest_normal, info.max]
    anchors = np.concatenate([ends, powers, 1 - powers, integers, binades]).astype(dtype).view(kind)
    anchors = anchors[:: max(1, 4 * len(anchors) // count)]
    width = max(1, count // (4 * len(anchors)))
    runs = anchors[:, None] + np.arange(-(width // 2), width - width // 2).astype(kind)

    logs = np.log(2) * np.array([-info.minexp, lowest + 1, info.nmant, info.nmant + 2])
    vanish = np.log(2) * (lowest + 1 + info.maxexp)
    spans = [(logs[0], logs[1]), (logs[2], logs[3]), (vanish - 4, vanish + 1), (powers[0], 1)]
    spaced = []
    for span in spans:
        first, last = map(int, np.array(span, dtype).view(kind))
        step = max(1, (last - first) * 16 // count)
        spaced.append(np.arange(first, last, step, dtype=np.uint64).astype(kind))
    positive = np.concatenate([runs.ravel(), *spaced]).view(dtype)
    positive = np.sort(np.abs(positive[np.isfinite(positive)]))
    return np.concatenate([positive, -positive])


# ------------------------------------------------------------------ exact values


class Exact:
    """Exact results of a block, in a wider type.

    Parameters
    ----------
    values : ndarray
    dtype : numpy.dtype
        That of the results.
    """

    def __init__(self, values: Array, dtype: np.dtype[Any]) -> None:
        self._values = values
        self._rounded = reference.rounded(values, dtype)

    def error(self, result: Array) -> NDArray[np.float64]:
        """Measure the errors in ULP; infinite for a wrong sign, be it that of a zero."""
        error = reference.ulp_error(result, self._values)
        wrong = np.signbit(result) != np.signbit(self._values)
        if wrong.any():
            error = np.where(wrong & ~np.isnan(result), np.inf, error)
        return error

    def misrounded(self, result: Array) -> int:
        """Count the results that are not correctly rounded."""
        return int(np.count_nonzero((result != self._rounded) & (result == result)))


class ExactInMpmath:
    """Exact results in float64, as a rounded number and what that lacks.

    An mpmath zero has no sign, so the signs of zeros are not looked at here.
    """

    def __init__(self, operation: str, values: Values) -> None:
        info = np.finfo(np.float64)
        context = _mpmath()
        operands = (np.atleast_1d(np.asarray(v, np.float64)) for v in values.values())
        wide = [np.array([context.mpf(v) for v in o.tolist()], object) for o in operands]
        rounded, rest, units = [], [], []
        for value in map(context.mpf, reference.EXACT[operation](*wide)):
            if not context.isfinite(value):
                rounded.append(float(value))
                rest.append(0.0)
                units.append(0)
                continue
            exponent = int(context.frexp(value)[1]) - 1 if value else info.minexp
            unit = max(exponent, info.minexp) - info.nmant
            # A whole number of ULP, ties to even. float() would not promise that of subnormals.
            count = context.ldexp(value, -unit)
            whole = context.nint(count)
            rounded.append(float(whole))
            rest.append(float(count - whole))
            units.append(min(unit, info.maxexp))
        self._units = np.array(units)
        with np.errstate(over="ignore"):
            self._rounded = np.ldexp(rounded, self._units)
        self._rest = np.array(rest)

    def error(self, result: Array) -> NDArray[np.float64]:
        """Measure the errors in ULP."""
        # Scaled before the subtraction: a unit may be too small to be divided by.
        with np.errstate(all="ignore"):
            error = np.abs(np.ldexp(result - self._rounded, -self._units) - self._rest)
        same = (np.isnan(result) & np.isnan(self._rounded)) | (
            np.isinf(result) & (result == self._rounded)
        )
        return np.where(same, 0, np.where(np.isnan(error), np.inf, error))

    def misrounded(self, result: Array) -> int:
        """Count the results that are not correctly rounded."""
        return int(np.count_nonzero((result != self._rounded) & (result == result)))


@functools.cache
def _mpmath() -> Any:
    """Make a context in which every product of three doubles is exact; None without mpmath."""
    try:
        mpmath = importlib.import_module("mpmath")  # which has no types
    except ImportError:
        return None
    context = mpmath.MPContext()
    context.prec = 240
    # np.exp of an array of objects calls this, so `EXACT` serves numbers of mpmath as it is.
    context.mpf.exp = lambda self: context.exp(self)
    return context


def _exact(case: Case, values: Values) -> Exact | ExactInMpmath | None:
    """Compute the exact results of a block; None where nothing is wider."""
    if case.dtype == np.float64 and _mpmath() is not None:
        return ExactInMpmath(case.operation.name, values)
    exact = reference.exact(case.operation.name, values, case.dtype)
    return None if exact is None else Exact(exact, case.dtype)


# ---------------------------------------------------------------------- measuring


@dataclass
class Extreme:
    """How often something was seen, how bad it was, and where it was worst.

    Of equally bad ones the first is kept, whoever computed which block.
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
        What must not be, by what it is.
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


def _measure_block(case: Case, start: int) -> list[Tally]:
    """Measure a block of a case, for each of those who compute it."""
    values = case.values(start)
    if not len(next(iter(values.values()))):
        return [Tally() for _ in case.computes]
    exact = _exact(case, values)
    first: Array | None = None
    tallies: list[Tally] = []
    for compute in case.computes.values():
        result = compute(values)
        different = None
        if first is None:
            first = result
        elif case.bound is not None:
            different = _different(result, first, values)
            if not different.any():
                tallies.append(tallies[0])
                continue
        tally = _measure(exact, values, result, start)
        if case.bound is not None and case.operation.name in MONOTONE:
            _check_order(tally, case, compute, values["x"], result, start)
        if different is not None:
            _add_fault(tally, "bits differ", different, values, start)
        tallies.append(tally)
    return tallies


def _measure(
    exact: Exact | ExactInMpmath | None, values: Values, result: Array, start: int
) -> Tally:
    """Measure errors."""
    tally = Tally(len(result))
    if exact is None:
        return tally
    error = exact.error(result)
    at = int(error.argmax())
    tally.error = Extreme(float(error[at]), start + at, _at(values, at))
    tally.misrounded = exact.misrounded(result)
    return tally


def _check_order(
    tally: Tally, case: Case, compute: Compute, x: Array, result: Array, start: int
) -> None:
    """Check that results lie in [0, 1], and rise where the inputs rise.

    Neighbours are compared, the last of the block with the first of the next one, so that
    over all bit patterns in order nothing is left out but the pair of +0 and -0.
    """
    following = case.inputs.part(start + len(x), start + len(x) + 1)
    x = np.concatenate([x, following])
    y = np.concatenate([result, compute({"x": following})])
    x0, x1, y0, y1 = x[:-1], x[1:], y[:-1], y[1:]
    falls = ((x1 >= x0) & (y1 < y0)) | ((x1 <= x0) & (y1 > y0))
    _add_fault(tally, "not monotone", falls, {"x": x}, start)
    _add_fault(tally, "outside [0, 1]", (y < 0) | (y > 1), {"x": x}, start)


def _add_fault(tally: Tally, name: str, wrong: Array, values: Values, start: int) -> None:
    if wrong.any():
        at = int(wrong.argmax())
        count = int(np.count_nonzero(wrong))
        tally.faults[name] = Extreme(0.0, start + at, _at(values, at), count)


def _different(result: Array, first: Array, values: Values) -> Array:
    """Find results whose bits differ, but for the payload where two NaN meet."""
    kind = f"u{first.dtype.itemsize}"
    different: Array = result.view(kind) != first.view(kind)
    if len(values) > 1 and different.any():
        odd = sum((~np.isfinite(value)).astype(int) for value in values.values())
        different &= ~((odd > 1) & np.isnan(result) & np.isnan(first))
    return different


def _at(values: Values, at: int) -> dict[str, Any]:
    return {name: v[at] if np.ndim(v) else v for name, v in values.items()}


def _run(case: Case, workers: int, advance: Callable[[int], None]) -> tuple[list[Tally], bool]:
    """Measure a case on several threads, which let go of the GIL inside of NumPy.

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


# ------------------------------------------------------------------------ peers


def _peer_cases(options: argparse.Namespace, peers: "list[packages.Peer]") -> Iterator[Case]:
    """List the cases of sigmoid and its backward pass that a peer has, beside ours.

    Over all inputs, and again where the result of sigmoid is a normal number: most peers
    lose all below, which says nothing about them elsewhere.
    """
    for operation in _chosen(options):
        if not operation.name.startswith("sigmoid"):
            continue
        for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
            exhaustive = options.exhaustive and operation.name == "sigmoid"
            inputs = _inputs(dtype, exhaustive, sampled=False)
            case = Case(operation, dtype, False, inputs, {})
            values = case.values(0)
            case.computes["fastact"] = _call(ufuncs.ufuncs[operation.name])
            for peer in peers:
                out = np.empty_like(next(iter(values.values())))
                if peer.prepare(operation.name, values, out) is not None:
                    case.computes[f"{peer.name} {peer.version}"] = _call_peer(peer, operation)
            yield case
            if "x" in values:
                yield replace(case, limit=-float(np.log(np.finfo(dtype).smallest_normal)))


def _call_peer(peer: "packages.Peer", operation: Operation) -> Compute:
    def compute(values: Values) -> Array:
        # Prepared anew for every block: some peers copy the operands.
        out = np.empty_like(next(iter(values.values())))
        work = peer.prepare(operation.name, values, out)
        assert work is not None  # as for the first block
        return work()

    return compute


# ---------------------------------------------------------------------- the command


def run(options: argparse.Namespace) -> int:
    """Check what is asked for, and print it.

    Returns
    -------
    int
        0, or 1 if a bound is broken or there is a fault, or 130 if interrupted before.
    """
    if options.peers:
        from fastact._command import peers as packages

        peers = packages.installed()
        with contextlib.ExitStack() as stack:
            # Not all of them can be called from several threads.
            for peer in peers:
                stack.enter_context(peer.threads(1))
            rows, complete = _check(list(_peer_cases(options, peers)), 1)
    else:
        rows, complete = _check(list(_cases(options)), get_num_threads())
    broken = any(row["broken"] for row in rows)
    if options.json:
        results = {
            "machine": machine(),
            "exhaustive": options.exhaustive,
            "complete": complete,
            "rows": rows,
        }
        print(json.dumps(finite(results), indent=2, allow_nan=False))
    else:
        print(_report(rows, complete))
    return 1 if broken else 0 if complete else INTERRUPTED


def _check(cases: Sequence[Case], workers: int) -> tuple[list[dict[str, Any]], bool]:
    """Run the cases until the end or Ctrl-C."""
    rows: list[dict[str, Any]] = []
    total = sum(_weight(case, case.inputs.size) for case in cases)
    past = shown = 0
    with progress(100) as step:

        def advance(done: int) -> None:
            nonlocal shown
            while shown < 100 * (past + _weight(case, done)) // total:
                step(f"{case.operation.name} {case.dtype} {case.operands}".strip())
                shown += 1

        for case in cases:
            tallies, complete = _run(case, workers, advance)
            rows += [
                _row(case, who, tally, complete)
                for who, tally in zip(case.computes, tallies, strict=True)
            ]
            if not complete:
                return rows, False
            past += _weight(case, case.inputs.size)
    return rows, True


def _weight(case: Case, inputs: int) -> int:
    """Estimate the nanoseconds that inputs take."""
    heavy = "sigmoid" in case.operation.name and "output" not in case.operation.name
    if case.dtype == np.float64:
        return inputs * (60_000 if heavy else 30_000)
    return inputs * (80 if heavy else 20)


def _row(case: Case, who: str, tally: Tally, complete: bool) -> dict[str, Any]:
    def place(extreme: Extreme) -> dict[str, str]:
        """Where it is, in the fewest digits that tell; constant operands tell nothing."""
        return {k: str(v) for k, v in extreme.values.items() if k in "xy" or case.sampled}

    error = tally.error.size if tally.error.size >= 0 else None
    over = error is not None and case.bound is not None and not error <= case.bound
    return {
        "operation": case.operation.name,
        "operands": case.operands,
        "dtype": str(case.dtype),
        "by": who,
        "inputs": tally.inputs,
        "complete": complete,
        "error": error,
        "at": place(tally.error),
        "misrounded": None if error is None else tally.misrounded,
        "bound": case.bound,
        "faults": {
            name: {"count": fault.count, "at": place(fault)} for name, fault in tally.faults.items()
        },
        "broken": over or bool(tally.faults),
    }


# ----------------------------------------------------------------------- output


def _report(rows: Sequence[dict[str, Any]], complete: bool) -> str:
    """Write the rows as text."""
    heading = ("operation", "operands", "dtype", "by", "at", "inputs", "ULP", "misrounded", "bound")
    cells: list[tuple[str, ...]] = [(*heading, "")]
    notes = []
    for row in _merged(rows):
        cells.append(_cells(row))
        for name, fault in row["faults"].items():
            notes.append(
                f"BROKEN: {row['operation']} {row['dtype']} {row['by']}: {name} for "
                f"{fault['count']:,} inputs, first {_place(fault['at'])}"
            )
    if any(row["error"] is None for row in rows):
        notes.append(
            "float64: errors skipped, bits compared only; mpmath would be needed, or a wider type."
        )
    if not complete:
        notes.append("Interrupted: partial results, of the inputs counted.")
    return "\n".join([table(cells, left=5), *([""] if notes else []), *notes])


def _merged(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make one row of those that differ in nothing but who computes: they have the same bits."""
    merged: list[dict[str, Any]] = []
    for row in rows:
        if merged and row["bound"] is not None and {**merged[-1], "by": row["by"]} == row:
            merged[-1]["by"] += f" = {row['by']}"
        else:
            merged.append(dict(row))
    return merged


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    verdict = "" if row["bound"] is None else "BROKEN" if row["broken"] else "ok"
    return (
        row["operation"],
        row["operands"] or "-",
        row["dtype"],
        row["by"],
        _place(row["at"]),
        f"{row['inputs']:,}",
        ulp(row["error"]),
        "-" if row["misrounded"] is None else f"{row['misrounded']:,}",
        "-" if row["bound"] is None else f"{row['bound']:g}",
        verdict if row["complete"] else f"{verdict} (partial)",
    )


def _place(values: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items()) or "-"
