"""What all benchmarks measure: the table of calls, and races between two calls.

asv runs the benchmarks of the checkout with every commit that it measures, and passes parameters
by their position only. So what there is to measure is read from the source tree around this
file, not from the fastact that is installed. If the installed one lacks it, `setup` raises
NotImplementedError, which asv records as "n/a".
"""

import ast
import contextlib
import functools
import importlib.util
import math
import os
import sys
from functools import cache
from itertools import count
from pathlib import Path
from statistics import median
from timeit import Timer

import numpy as np

import fastact
from fastact import layers

try:
    from fastact._core.runtime import threads
except ImportError:  # earlier commits
    try:
        from fastact._core import threads
    except ImportError:
        from fastact import _engine as threads

# ----------------------------------------------------------------------- the table

SOURCE = Path(__file__).parents[2] / "fastact"


def load(path, name):
    """Import a module, or a package by its `__init__.py`, from a file, under a name of its own."""
    folders = [str(path.parent)] if path.stem == "__init__" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_RECORDS = load(SOURCE / "_core" / "operations" / "__init__.py", "fastact_operations")
timing = load(SOURCE / "_command" / "timing.py", "fastact_timing")
errors = load(SOURCE / "_command" / "errors.py", "fastact_errors")
arrays = load(SOURCE / "_command" / "bench" / "arrays.py", "fastact_arrays")

OPERATIONS = _RECORDS.OPERATIONS
ROW_OPERATIONS = {operation.name: operation for operation in _RECORDS.ROW_OPERATIONS}
OPERANDS = {operation.name: operation.operands for operation in OPERATIONS}
UFUNCS = list(OPERANDS)
DTYPES = ["float32", "float64", "float16", "bfloat16"]
SMALL, MEDIUM, CACHED, LARGE, HUGE = SIZES = [16, 1 << 10, 1 << 16, 1 << 20, 1 << 24]
LAYOUTS = ["contiguous", "in place", "stride 2", "transposed", "slope per column"]
RESULTS = ["out=", "new"]
# Shapes of operands of operations on rows, and a single long row.
ROWS = arrays.ROWS | {"65536": (CACHED,)}

# How many values are drawn. Larger arrays repeat them.
VALUES = CACHED

HUGE_PAGE = 2 << 20


class Call:
    """A call of a function with operands, and perhaps an `out`, to be timed.

    If `restores`, the first operand gets its values before each call. Repeated in place, a gradient
    would become denormal, and stay so: 0.6 of the smallest number is rounded to it.
    """

    def __init__(self, function, operands, out=None, restores=False):
        self.function, self.operands, self.out = function, operands, out
        self.values = None
        if restores:
            self.values = place(operands[0].shape, operands[0].dtype)
            self.values[...] = operands[0]

    def __call__(self):
        """Call the function."""
        if self.values is not None:
            np.copyto(self.operands[0], self.values)
        if self.out is None:
            return self.function(*self.operands)
        return self.function(*self.operands, out=self.out)

    def timer(self):
        """Make a timer with the call written out. `__call__` would add 100 ns."""
        names = {f"operand{i}": operand for i, operand in enumerate(self.operands)}
        text = ", ".join(names) + ("" if self.out is None else ", out=out")
        before = "" if self.values is None else "copyto(operand0, values), "
        names |= {"call": self.function, "out": self.out}
        names |= {"copyto": np.copyto, "values": self.values}
        return Timer(f"{before}call({text})", globals=names)


def make_call(
    operation,
    dtype="float32",
    size=CACHED,
    layout="contiguous",
    result="out=",
    x=None,
    restores=False,
):
    """Make a call of the table; `x` are inputs to use in place of normally distributed ones.

    In place, it `restores` its first operand: see `Call`.

    NotImplementedError if there is no such call, or if fastact lacks the operation for this type.
    """
    if layout == "in place" and result == "new":
        raise NotImplementedError("a new result is not in place")
    if layout == "slope per column" and "negative_slope" not in OPERANDS[operation]:
        raise NotImplementedError(f"{operation} has no slope")
    function = function_of(operation, dtype)
    values = _values(operation, dtype)
    if x is not None:
        values = [x.astype(dtype_of(dtype))]
    with_slope = layout == "slope per column"
    shape = "square" if with_slope else layout
    operands = [arrays.lay_out(v, size, shape, place) for v in values]
    out = None
    if layout == "in place":
        out = operands[0]
    elif result == "out=":
        out = place(operands[0].shape, operands[0].dtype)
    if with_slope:
        operands.append(slope_of(layout, operands[0], 1.0))
    return Call(function, operands, out, restores or layout == "in place")


def slope_of(kind, x, number=0.1):
    """Make a slope, a number or several, for an array."""
    return arrays.SLOPES[kind](np.array(number, x.dtype), x.shape)


def function_of(operation, dtype):
    """Find a ufunc, if it has a loop for a type."""
    function = getattr(fastact, operation, None)
    if function is None:
        raise NotImplementedError(f"no {operation}")
    # For a type without a loop, a ufunc uses a wider one or raises.
    arrays = [np.ones(1, dtype_of(dtype)) for name in OPERANDS[operation] if name in DRAWN]
    with contextlib.suppress(TypeError):
        if function(*arrays).dtype == dtype_of(dtype):
            return function
    raise NotImplementedError(f"{operation} has no loop of {dtype}")


def make_rows(operation, dtype, shape, axis=-1):
    """Make a call of an operation on rows, and what NumPy does for the same.

    NotImplementedError if fastact lacks the operation.
    """
    record = ROW_OPERATIONS[operation]
    function = getattr(fastact, operation, None)
    if function is None:
        raise NotImplementedError(f"no {operation}")
    random = np.random.default_rng(0)
    x = random.normal(0, 4, ROWS[shape]).astype(dtype_of(dtype))
    operands = [x]
    if record.output_of is not None:
        grad = random.standard_normal(x.shape).astype(x.dtype)
        operands = [grad, getattr(fastact, record.output_of)(x)]
    if axis == 0 and x.ndim == 2:
        operands = [np.ascontiguousarray(operand.T) for operand in operands]
        function = functools.partial(function, axis=0)
    operands = [placed(operand) for operand in operands]
    out = place(operands[0].shape, x.dtype)
    return Call(function, operands, out), Call(record.numpy, operands, np.empty_like(out))


def make_negative(size, out=True):
    """Make the plainest call that NumPy has: `negative` of float32."""
    x = placed(np.ones(size, np.float32))
    return Call(np.negative, [x], place(size, x.dtype) if out else None)


def make_slope(slope, operation="leaky_relu", size=SMALL, result="out="):
    """Make a call with a slope that is no Python number, and the same with one."""
    layout = "matrix" if slope.startswith("slope per") else "contiguous"
    if slope == "slope per channel":
        layout, size = "NCHW", arrays.IMAGES
    theirs = make_call(operation, size=size, layout=layout, result=result)
    ours = Call(theirs.function, list(theirs.operands), theirs.out)
    ours.operands.append(slope_of(slope, ours.operands[0]))
    theirs.operands.append(0.1)
    return ours, theirs


def make_memcpy(array):
    """Make a copy of as many bytes as an array has."""
    return Call(np.copyto, [place(array.size, array.dtype), place(array.size, array.dtype)])


def dtype_of(name):
    """Find a type by its name."""
    found = arrays.dtype_of(name)
    if found is None:
        raise NotImplementedError("no bfloat16 without ml_dtypes")
    return found


# The operands that are arrays. Slopes keep their default, except for one layout.
DRAWN = {
    "x": lambda random: random.normal(0, 4, VALUES),
    "y": lambda random: random.uniform(0, 1, VALUES),
    "grad": lambda random: random.standard_normal(VALUES),
}


@cache
def _values(operation, dtype):
    """Draw the operands that are arrays."""
    random = np.random.default_rng(0)
    return [
        DRAWN[name](random).astype(dtype_of(dtype)) for name in OPERANDS[operation] if name in DRAWN
    ]


_placed = count()


def place(shape, dtype):
    """Make an array at a place where the time of a kernel does not depend on chance.

    NumPy's arrays start 16 bytes past a page, or anywhere, and their pages are scattered over
    the memory. This is up to 30 % of the time of a kernel in cache. These start in a huge page of
    their own (NumPy asks for huge pages from 4 MiB on), at a multiple of 64 bytes, and at another
    place in the page than others.
    """
    nbytes = math.prod(np.atleast_1d(shape)) * dtype.itemsize
    memory = np.empty(max(nbytes, HUGE_PAGE) + 2 * HUGE_PAGE, np.uint8)
    start = -memory.ctypes.data % HUGE_PAGE + 320 * (next(_placed) % 64)
    target = memory[start : start + nbytes]
    target[...] = 0  # the system gives the pages only now
    return target.view(dtype).reshape(shape)


def placed(values):
    """Copy an array to such a place."""
    target = place(values.shape, values.dtype)
    target[...] = values
    return target


def figure(pretty_name, unit=None):
    """Give a benchmark its name and unit on asv's pages."""

    def decorate(method):
        method.pretty_name = pretty_name
        if unit:
            method.unit = unit
        return method

    return decorate


# -------------------------------------------------------------------------- layers

LAYERS = [
    name
    for path in sorted((SOURCE / "layers").glob("*.py"))
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    for name in ast.literal_eval(node.value)
    if name not in ("Layer", "Activation")  # what they have in common
]
# The arguments of constructors for inputs with `n` columns. Most need none.
ARGUMENTS = {
    "Linear": lambda n: (n, n),
    "Sequential": lambda n: (layers.Linear(n, n), layers.ReLU(), layers.Linear(n, n)),
}


def make_layer(name, size):
    """Make a layer after its forward pass, the input, and a gradient of the output."""
    if not hasattr(layers, name):
        raise NotImplementedError(f"no {name}")
    side = math.isqrt(size)
    layer = getattr(layers, name)(*ARGUMENTS.get(name, lambda n: ())(side))
    x = arrays.lay_out(_values("relu", "float32")[0], size, "square", place)
    y = layer.forward(x)
    return layer, x, placed(np.ones_like(y))


# ------------------------------------------------------------------------- threads


def processors():
    """Count the processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def use_threads(n):
    """Let fastact use `n` threads, "all" for as many as processors.

    asv forks its processes, and in a forked process fastact computes serially. More than one
    thread needs a new process: see `NEW_PROCESS`.
    """
    # The first commits have only `limit_threads`.
    limit = getattr(threads, "set_num_threads", None) or threads.limit_threads
    limit(processors() if n == "all" else n)


# The code with which a new process finds the benchmarks.
NEW_PROCESS = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); "


# --------------------------------------------------------------------------- races

# A smoke test sets the seconds to 0.
timing.RACE_SECONDS = float(os.environ.get("FASTACT_RACE_SECONDS", "0.2"))
timing.MIN_ROUNDS, timing.SAMPLE_SECONDS = 5, 5e-4
# Longer than the worker threads of OpenMP spin after a call.
PAUSE = 0.02


def race(ours, theirs, pause=0.0):
    """Measure the ratio of the times of two calls, or timers: the median over rounds of two turns.

    What slows the machine down slows down both turns of a round. It has four digits: more would
    be noise, and take up space in the history.
    """
    timers = [c.timer() if isinstance(c, Call) else c for c in (ours, theirs)]
    rounds = timing.rounds(timers, pause=pause)
    return round_to_digits(median(first / second for first, second in rounds))


def round_to_digits(value, digits=4):
    """Round to significant digits."""
    return float(f"{value:.{digits}g}")
