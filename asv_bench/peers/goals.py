"""The table of goals: kinds of work, and the ratios of times that are aimed at.

A goal has several cases. A new operation belongs to the goals of its kind by its record: by the
passes it is, and by whether it is costly. The goals of sigmoid and relu alone are those that
these two were built for.
"""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command.bench.arrays import IMAGES, ROWS
from fastact._command.bench.cases import CACHED, Case, cases, make_operands
from fastact._command.bench.race import LARGE, SMALL, Goal, Rival, restored
from fastact._command.peers import Fastact, Work
from fastact._core.operations import BY_NAME, OPERATIONS, ROW_OPERATIONS, Operation, RowOperation
from fastact._core.runtime.threads import get_num_threads, set_num_threads

Array = NDArray[Any]

MEDIUM = 1 << 10


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


@functools.cache
def _pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n)


def _own_on_one_thread(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    own = _own(case.operation, values, out)
    names = own.names | {"limit": set_num_threads, "one": 1, "all": get_num_threads()}
    return Rival("one thread", Work(f"limit(one), {own.statement}, limit(all)", names))


def _own_sigmoid(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    return Rival("own sigmoid", _own(BY_NAME["sigmoid"], {"x": values["x"]}, out))


def _own_on_ordinary_inputs(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    values = make_operands(replace(case, layout="contiguous"))
    return Rival("ordinary inputs", _own(case.operation, values, np.empty_like(out)))


def _own_out_of_place(case: Case, values: dict[str, Any], out: Array | None) -> Rival:
    values = make_operands(replace(case, layout="contiguous"))
    first = next(iter(values.values()))
    work = _own(case.operation, values, np.empty_like(out))
    return Rival("out of place", restored(work, first, first.copy()))


def _own(operation: Operation | RowOperation, values: dict[str, Any], out: Array | None) -> Work:
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
OTHERS = tuple(o for o in COSTLY if not o.name.startswith("sigmoid"))

_SIGMOID, _RELU = [BY_NAME["sigmoid"]], [BY_NAME["relu"]]
_LEAKY_RELU, _LEAKY_RELU_BACKWARD = [BY_NAME["leaky_relu"]], [BY_NAME["leaky_relu_backward"]]
_MATRIX, _NARROW_MATRIX = 4096 * 64, 65536 * 8
_WHOLE_AND_VIEW = ("contiguous", "256 of 320 columns")
_SHARED = cases(_SIGMOID, sizes=[1 << 22], layouts=_WHOLE_AND_VIEW, all_threads=True)
_CHANNELS_LAST = cases(_RELU, sizes=[IMAGES], layouts=["NHWC"])
_STRIDED = ("stride 2", "transposed")
_SCALARS = ("NumPy scalar", "0-d array", "array of one")
_PER_AXIS = ("slope per column", "slope per row")
# One exponential per element takes longer than memory does for a float32 read and written.
_BOUND_BY_MEMORY = tuple(
    case
    for case in cases(OPERATIONS, FLOATS, [LARGE])
    if not (case.operation.costly and case.operation.forward and case.dtype == "float32")
)

_SOFTMAX, _OTHER_ROWS = ROW_OPERATIONS[:1], ROW_OPERATIONS[1:]


def _rows(operations: tuple[RowOperation, ...]) -> tuple[Case, ...]:
    return tuple(
        case
        for layout, shape in ROWS.items()
        for case in cases(operations, sizes=[math.prod(shape)], layouts=[layout])
    )


_ALL_GOALS = (
    Goal("16 elements, out=", 0.40, cases(OPERATIONS, sizes=[SMALL])),
    Goal("16 elements, new result", 0.60, cases(OPERATIONS, sizes=[SMALL], out=False)),
    Goal("no exponential, 1,024 and 65,536", 1.0, cases(SIMPLE, FLOATS, [MEDIUM, CACHED])),
    Goal("sigmoid, 1,024", 0.80, cases(_SIGMOID, sizes=[MEDIUM])),
    Goal("sigmoid, 65,536", 0.95, cases(_SIGMOID, FLOATS)),
    Goal("gradient from the output, 65,536", 1.0, cases(FROM_OUTPUT, FLOATS)),
    Goal(
        "sigmoid_backward, 65,536", 1.6, cases([BY_NAME["sigmoid_backward"]], FLOATS), _own_sigmoid
    ),
    Goal("other exponentials, 65,536", 1.0, cases(OTHERS, FLOATS)),
    Goal("16 Mi, out=", 1.10, _BOUND_BY_MEMORY, memcpy, alone=True),
    Goal(
        "exponential, float32, 16 Mi, out=",
        1.30,
        cases([o for o in COSTLY if o.forward], sizes=[LARGE]),
        memcpy,
        alone=True,
    ),
    Goal(
        "16 Mi, out=",
        1.10,
        cases(OPERATIONS, FLOATS, [LARGE], all_threads=True),
        memcpy,
        alone=True,
    ),
    Goal("16 Mi, new result, second call on", 0.50, cases(OPERATIONS, sizes=[LARGE], out=False)),
    Goal("sigmoid, 65,536, stride 2 and transposed", 0.30, cases(_SIGMOID, layouts=_STRIDED)),
    Goal("relu, 65,536, stride 2 and transposed", 0.80, cases(_RELU, layouts=_STRIDED)),
    Goal(
        "sigmoid on denormal inputs, 65,536",
        1.2,
        cases(_SIGMOID, FLOATS, layouts=["denormal"]),
        _own_on_ordinary_inputs,
        alone=True,
    ),
    Goal(
        "in place, 65,536",
        1.0,
        cases(OPERATIONS, FLOATS, layouts=["in place"]),
        _own_out_of_place,
        alone=True,
    ),
    Goal("16-bit types, 65,536", 0.80, cases(FORWARD, NARROW)),
    Goal("softmax of rows, out=", 0.80, _rows(_SOFTMAX)),
    Goal("logarithm and gradients of softmax of rows, out=", 0.95, _rows(_OTHER_ROWS)),
    Goal("a row, 65,536, out=", 0.95, cases(ROW_OPERATIONS)),
    Goal(
        "slope that is a NumPy scalar or an array of one, 16, out=",
        0.40,
        cases(_LEAKY_RELU, sizes=[SMALL], slopes=_SCALARS),
    ),
    Goal(
        "slope that is a float64 scalar, 16, new result",
        1.0,
        cases(_LEAKY_RELU, sizes=[SMALL], slopes=["float64 scalar"], out=False),
    ),
    Goal(
        "gradient with a slope that is a NumPy scalar, 1,024",
        0.60,
        cases(_LEAKY_RELU_BACKWARD, sizes=[MEDIUM], slopes=["NumPy scalar"], out=False),
    ),
    Goal(
        "slope per column, channel and row, new result",
        0.70,
        cases(_LEAKY_RELU, FLOATS[:1], [_MATRIX], ["matrix"], _PER_AXIS, out=False)
        + cases(_LEAKY_RELU, FLOATS[:1], [IMAGES], ["NCHW"], ["slope per channel"], out=False),
    ),
    Goal(
        "view of columns, new result",
        0.70,
        cases(_RELU + _SIGMOID, sizes=[_MATRIX], layouts=["64 of 80 columns"], out=False)
        + cases(_RELU, sizes=[_NARROW_MATRIX], layouts=["8 of 12 columns"], out=False),
    ),
    Goal("images with the channels last, out=", 0.70, _CHANNELS_LAST),
    Goal(
        "images with the channels last, new result",
        0.80,
        tuple(replace(case, out=False) for case in _CHANNELS_LAST),
    ),
    Goal(
        "sigmoid of a number",
        0.50,
        cases(_SIGMOID, ["float64"], [1], ["number", "NumPy scalar"], out=False),
        peers=("SciPy",),
    ),
    Goal(
        "sigmoid of integers, 16, new result", 0.60, cases(_SIGMOID, ["int64"], [SMALL], out=False)
    ),
    Goal("relu float64, 65,536, stride 2", 0.80, cases(_RELU, ["float64"], layouts=["stride 2"])),
    Goal("4 Mi on all threads, over one", 0.60, _SHARED, _own_on_one_thread, alone=True),
    Goal(
        "4 Mi on all threads, over one, other processors busy",
        1.20,
        tuple(replace(case, busy=True) for case in _SHARED),
        _own_on_one_thread,
        alone=True,
    ),
)
# A kind of work that no operation does is no goal.
GOALS = tuple(goal for goal in _ALL_GOALS if goal.cases)
