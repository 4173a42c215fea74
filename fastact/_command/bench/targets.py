"""The table of targets: kinds of work, and the ratios of times that are aimed at.

A target has several cases. A new operation belongs to the targets of its kind by its record: by
the passes it is, and by whether it is costly. The targets of sigmoid and relu alone are those
that these two were built for.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command.bench.cases import CACHED, Case, cases, make_operands
from fastact._command.peers.base import Work
from fastact._command.peers.fastact import Fastact
from fastact._core.operations import BY_NAME, OPERATIONS, Operation, sigmoid
from fastact._core.threads import get_num_threads

Array = NDArray[Any]

SMALL = 16
MEDIUM = 1 << 10
LARGE = 1 << 24


@dataclass(frozen=True)
class Rival:
    """What else fastact is compared with: the work, and a factor for its time."""

    name: str
    work: Work
    factor: float = 1.0


@dataclass(frozen=True)
class Target:
    """A kind of work, and the ratio that is aimed at.

    Attributes
    ----------
    work : str
    ratio : float
        The time of fastact divided by that of the rival, at most.
    cases : tuple of Case
    rival : callable, optional
        Makes the rival from a case, its operands and `out`. By default the rival is the fastest
        peer.
    peers : tuple of str, optional
        Names of the peers that compete; all of them by default.
    alone : bool, default False
        Whether the peers do not even take part, because the rival is fastact itself.
    """

    work: str
    ratio: float
    cases: tuple[Case, ...]
    rival: Callable[[Case, dict[str, Any], Array | None], Rival] | None = None
    peers: tuple[str, ...] | None = None
    alone: bool = False


# -------------------------------------------------------------------------- rivals


def memcpy(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    """Copy as NumPy does, in parts if there are threads."""
    arrays = [value for value in values.values() if isinstance(value, np.ndarray)]
    source = arrays[0]
    assert out is not None
    names: dict[str, Any] = {"copyto": np.copyto, "source": source, "target": out}
    statement = "copyto(target, source)"
    n = get_num_threads()
    if n > 1:
        names["sources"] = np.array_split(source, n)
        names["targets"] = np.array_split(out, n)
        names["map"] = _pool(n).map
        statement = "list(map(copyto, targets, sources))"
    # A copy reads one array and writes one.
    return Rival("memcpy", Work(statement, names), (len(arrays) + 1) / 2)


def _make_pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n)


# Not as a decorator: stubtest would compare the two signatures.
_pool = functools.cache(_make_pool)


def _own_sigmoid(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    return Rival("own sigmoid", _own(BY_NAME["sigmoid"], {"x": values["x"]}, out))


def _own_with_ordinary_inputs(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    return Rival("ordinary inputs", _own_contiguous(case, out))


def _own_out_of_place(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    return Rival("out of place", _own_contiguous(case, out))


def _own_contiguous(case: Case, out: Array | None) -> Work:
    values = make_operands(replace(case, layout="contiguous"))
    return _own(case.operation, values, np.empty_like(out))


def _own(operation: Operation, values: dict[str, Any], out: Array | None) -> Work:
    work = Fastact().prepare(operation, values, out)
    assert work is not None
    return work


# ------------------------------------------------------------------------ the table

FLOATS = ("float32", "float64")
NARROW = ("float16", "bfloat16")

FORWARD = tuple(o for o in OPERATIONS if o.forward)
COSTLY = tuple(o for o in OPERATIONS if o.costly)
FROM_OUTPUT = tuple(o for o in OPERATIONS if o.output_of)
SIMPLE = tuple(o for o in OPERATIONS if not o.costly and not o.output_of)
OTHERS = tuple(o for o in COSTLY if o not in sigmoid.OPERATIONS)

_SIGMOID, _RELU = [BY_NAME["sigmoid"]], [BY_NAME["relu"]]
# One exponential per element takes longer than memory does for a float32 read and written.
_BOUND_BY_MEMORY = tuple(
    case
    for case in cases(OPERATIONS, FLOATS, [LARGE])
    if not (case.operation.costly and case.operation.forward and case.dtype == "float32")
)

_ALL_TARGETS = (
    Target("16 elements, out=", 0.40, cases(OPERATIONS, sizes=[SMALL])),
    Target("16 elements, new result", 0.60, cases(OPERATIONS, sizes=[SMALL], out=False)),
    Target(
        "no exponential, 1,024 and 65,536",
        1.0,
        cases(SIMPLE, FLOATS, [MEDIUM, CACHED]),
    ),
    Target("sigmoid, 1,024", 0.80, cases(_SIGMOID, sizes=[MEDIUM])),
    Target("sigmoid, 65,536", 0.95, cases(_SIGMOID, FLOATS)),
    Target("gradient from the output, 65,536", 1.0, cases(FROM_OUTPUT, FLOATS)),
    Target(
        "sigmoid_backward, 65,536",
        1.6,
        cases([BY_NAME["sigmoid_backward"]], FLOATS),
        _own_sigmoid,
        alone=True,
    ),
    Target(
        "other exponentials, 65,536",
        1.0,
        cases(OTHERS, FLOATS),
        peers=("NumPy", "SciPy", "PyTorch"),
    ),
    Target("16 Mi, out=", 1.10, _BOUND_BY_MEMORY, memcpy),
    Target(
        "exponential, float32, 16 Mi, out=",
        1.30,
        cases([o for o in COSTLY if o.forward], sizes=[LARGE]),
        memcpy,
    ),
    Target(
        "16 Mi, out=",
        1.10,
        cases(OPERATIONS, FLOATS, [LARGE], all_threads=True),
        memcpy,
    ),
    Target("16 Mi, new result, second call on", 0.50, cases(OPERATIONS, sizes=[LARGE], out=False)),
    Target(
        "sigmoid, 65,536, stride 2 and transposed",
        0.30,
        cases(_SIGMOID, layout="stride 2") + cases(_SIGMOID, layout="transposed"),
    ),
    Target(
        "relu, 65,536, stride 2 and transposed",
        0.80,
        cases(_RELU, layout="stride 2") + cases(_RELU, layout="transposed"),
    ),
    Target(
        "sigmoid on denormal inputs, 65,536",
        1.2,
        cases(_SIGMOID, FLOATS, layout="denormal"),
        _own_with_ordinary_inputs,
        alone=True,
    ),
    Target(
        "in place, 65,536",
        1.0,
        cases(OPERATIONS, FLOATS, layout="in place"),
        _own_out_of_place,
        alone=True,
    ),
    Target("16-bit types, 65,536", 0.80, cases(FORWARD, NARROW)),
)
# A kind of work that no operation does is no target.
TARGETS = tuple(target for target in _ALL_TARGETS if target.cases)
