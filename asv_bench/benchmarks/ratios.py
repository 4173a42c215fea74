"""Times over other times, measured in one process in alternating rounds.

These are reliable even on noisy machines, so the history and the guard are based on them. The
peers of `fastact bench --peers` are not installed here. The other time is that of `memcpy`, of
NumPy, or of another call of fastact. Everything is in float32 and on one thread unless stated
otherwise.
"""

import importlib
import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from timeit import Timer

import numpy as np

from ._cases import (
    CACHED,
    DTYPES,
    HUGE,
    LARGE,
    LAYERS,
    LAYOUTS,
    MEDIUM,
    NEW_PROCESS,
    OPERATIONS,
    PAUSE,
    RESULTS,
    ROW_OPERATIONS,
    ROWS,
    SMALL,
    UFUNCS,
    Call,
    function_of,
    make_call,
    make_layer,
    make_memcpy,
    make_negative,
    make_rows,
    make_slope,
    make_view,
    place,
    processors,
    race,
    round_to_digits,
    use_threads,
)


class _Ratio:
    version = "1"
    timeout = 120


def over_memcpy(call, threads=1):
    """Race a call with memcpy of the bytes that it reads and writes, in as many parts."""
    array = call.operands[0]
    copy = make_memcpy(array)
    # A copy reads one array and writes one.
    arrays = sum(operand.size == array.size for operand in call.operands) + 1
    if threads == 1:
        return round_to_digits(race(call.timer(), copy.timer()) / (arrays / 2))
    with ThreadPoolExecutor(threads) as pool:
        parts = [np.array_split(operand, threads) for operand in copy.operands]
        names = {"map": pool.map, "copyto": np.copyto, "parts": parts}
        timer = Timer("list(map(copyto, *parts))", globals=names)
        return round_to_digits(race(call.timer(), timer, pause=PAUSE) / (arrays / 2))


def over_memcpy_on_all_threads(ufunc, dtype):
    """Race a large call with memcpy, both on all threads."""
    use_threads("all")
    return over_memcpy(make_call(ufunc, dtype, HUGE), processors())


class SmallCall(_Ratio):
    """A call on few elements over that of numpy.negative: the call takes all of the time."""

    params = (UFUNCS, DTYPES, [SMALL, MEDIUM], RESULTS)
    param_names = ("ufunc", "dtype", "elements", "result")

    def setup(self, ufunc, dtype, elements, result):
        self.ours = make_call(ufunc, dtype, elements, result=result)
        self.theirs = make_negative(elements, out=self.ours.out is not None)

    def track_over_negative(self, *_):
        return race(self.ours.timer(), self.theirs.timer())

    track_over_negative.pretty_name = "Small call: time / numpy.negative's"
    track_over_negative.unit = "x time of numpy.negative"


class InCache(_Ratio):
    """A call on 65,536 elements over memcpy of the bytes that it reads and writes."""

    params = (UFUNCS, DTYPES, LAYOUTS)
    param_names = ("ufunc", "dtype", "layout")

    def setup(self, ufunc, dtype, layout):
        use_threads(1)
        self.call = make_call(ufunc, dtype, CACHED, layout)

    def track_over_memcpy(self, *_):
        return over_memcpy(self.call)

    track_over_memcpy.pretty_name = "In cache: time / memcpy's"
    track_over_memcpy.unit = "x time of memcpy"


class Rows(_Ratio):
    """An operation on rows over NumPy's functions for the same."""

    params = (list(ROW_OPERATIONS), ["float32", "float64"], list(ROWS))
    param_names = ("ufunc", "dtype", "shape")

    def setup(self, *case):
        use_threads(1)
        self.ours, self.theirs = make_rows(*case)

    def track_over_numpy(self, *_):
        return round_to_digits(race(self.ours.timer(), self.theirs.timer()))

    track_over_numpy.pretty_name = "Rows: time / NumPy's"
    track_over_numpy.unit = "x time of NumPy"


class OutOfCache(_Ratio):
    """A call on 16 Mi elements over memcpy of the bytes that it reads and writes.

    On all threads, memcpy copies in as many parts. A new result is never the first one.
    """

    params = (UFUNCS, ["float32", "float64"], [1, "all"], RESULTS)
    param_names = ("ufunc", "dtype", "threads", "result")

    def setup(self, ufunc, dtype, threads, result):
        if result == "new" and (dtype, threads) != ("float32", 1):
            raise NotImplementedError("one kind of new result is enough")
        use_threads(1)
        # For all threads, this only finds out whether there is such a call.
        self.call = make_call(ufunc, dtype, HUGE if threads == 1 else SMALL, result=result)

    def track_over_memcpy(self, ufunc, dtype, threads, result):
        if threads == 1:
            return over_memcpy(self.call)
        program = (
            f"{NEW_PROCESS}from benchmarks.ratios import over_memcpy_on_all_threads as ratio;"
            f"print(ratio({ufunc!r}, {dtype!r}))"
        )
        return float(subprocess.check_output([sys.executable, "-P", "-c", program]))

    track_over_memcpy.pretty_name = "Out of cache: time / memcpy's"
    track_over_memcpy.unit = "x time of memcpy"


NUMPY_SIGMOID = next(o.numpy for o in OPERATIONS if o.name == "sigmoid")


class Sigmoid(_Ratio):
    """sigmoid over what a user of NumPy would write: 1 / (1 + exp(-x)), in place."""

    params = (["float16", "float32", "float64"], [MEDIUM, CACHED])
    param_names = ("dtype", "elements")

    def setup(self, dtype, elements):
        use_threads(1)
        self.call = make_call("sigmoid", dtype, elements)

    def track_over_numpy(self, *_):
        theirs = Call(NUMPY_SIGMOID, self.call.operands, self.call.out)
        return race(self.call.timer(), theirs.timer())

    track_over_numpy.pretty_name = "sigmoid: time / NumPy's 1 / (1 + exp(-x))"
    track_over_numpy.unit = "x time of NumPy's expression"


class Own(_Ratio):
    """A call over another call of fastact, both on 65,536 elements."""

    params = (["float32", "float64"],)
    param_names = ("dtype",)

    def setup(self, dtype):
        use_threads(1)
        self.dtype = dtype

    def track_sigmoid_backward(self, dtype):
        return self.race(make_call("sigmoid_backward", dtype), make_call("sigmoid", dtype))

    track_sigmoid_backward.pretty_name = "sigmoid_backward: time / sigmoid's"
    track_sigmoid_backward.unit = "x time of sigmoid"

    def track_denormals(self, dtype):
        denormals = np.random.default_rng(0).uniform(-1, 1, CACHED) * np.finfo(dtype).tiny
        return self.race(make_call("sigmoid", dtype, x=denormals), make_call("sigmoid", dtype))

    track_denormals.pretty_name = "sigmoid of denormals: time / ordinary inputs'"
    track_denormals.unit = "x time of ordinary inputs"

    def race(self, ours, theirs):
        return race(ours.timer(), theirs.timer())


def over_contiguous(layout, operation="relu", result="new", dtype="float32"):
    """Pair a call on a view with the same call on a contiguous array of its shape."""
    ours = make_view(layout, operation, result=result, dtype=dtype)
    x = ours.operands[0]
    return ours, Call(ours.function, [place(np.ascontiguousarray(x))], ours.out)


def over_number(x):
    """Pair sigmoid of what is no array of floats with sigmoid of as many float64."""
    sigmoid = function_of("sigmoid", "float64")
    return Call(sigmoid, [x]), Call(sigmoid, [np.atleast_1d(np.asarray(x, np.float64))])


# Calls beside the plain one, and the plain one.
PAIRS = {
    **{
        f"16, {kind}": lambda kind=kind: make_slope(kind)
        for kind in ("NumPy scalar", "0-d array", "array of one")
    },
    "16, float64 scalar": lambda: make_slope("float64 scalar", result="new"),
    "gradient of 1,024, NumPy scalar": lambda: make_slope(
        "NumPy scalar", "leaky_relu_backward", MEDIUM, "new"
    ),
    **{
        kind: lambda kind=kind: make_slope(kind, size=LARGE, result="new")
        for kind in ("slope per column", "slope per row", "slope per channel")
    },
    "relu, 64 of 80 columns": lambda: over_contiguous("64 of 80 columns"),
    "relu, 8 of 12 columns": lambda: over_contiguous("8 of 12 columns"),
    "sigmoid, 64 of 80 columns": lambda: over_contiguous("64 of 80 columns", "sigmoid"),
    "relu, channels last, out=": lambda: over_contiguous("channels last", result="out="),
    "relu, channels last, new": lambda: over_contiguous("channels last"),
    "sigmoid of a number": lambda: over_number(0.3),
    "sigmoid of a NumPy scalar": lambda: over_number(np.float64(0.3)),
    "sigmoid of 16 int64": lambda: over_number(np.arange(-8, 8)),
}


class Beside(_Ratio):
    """A call beside the plain one over the plain one: slopes of any kind, views, scalars."""

    params = (list(PAIRS),)
    param_names = ("call",)

    def setup(self, call):
        use_threads(1)
        self.ours, self.theirs = PAIRS[call]()

    def track_over_the_plain_call(self, *_):
        return race(self.ours.timer(), self.theirs.timer())

    track_over_the_plain_call.pretty_name = "Beside the plain call: time / the plain call's"
    track_over_the_plain_call.unit = "x time of the plain call"


def over_one_thread(layout, busy):
    """Race a call on 4 Mi elements on all threads with the same on one."""
    if layout == "contiguous":
        call = make_call("sigmoid", size=1 << 22)
    else:
        call = make_view(layout, "sigmoid", 1 << 22, "out=")
    x, out = call.operands[0], call.out
    names = {"call": call.function, "x": x, "out": out, "limit": use_threads}
    timers = [Timer(f"limit({n!r}), call(x, out=out)", globals=names) for n in ("all", 1)]
    others = processors() - 1 if busy else 0
    with ExitStack() as stack:
        for _ in range(others):
            process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
            stack.enter_context(process)
            stack.callback(process.kill)
        return race(*timers, pause=PAUSE)


class Threads(_Ratio):
    """A call on 4 Mi elements on all threads over one, where others compute or do not."""

    params = (["contiguous", "256 of 320 columns"], ["idle", "busy"])
    param_names = ("layout", "other_processors")

    def track_over_one_thread(self, layout, other_processors):
        program = (
            f"{NEW_PROCESS}from benchmarks.ratios import over_one_thread as ratio;"
            f"print(ratio({layout!r}, {other_processors == 'busy'}))"
        )
        return float(subprocess.check_output([sys.executable, "-P", "-c", program]))

    track_over_one_thread.pretty_name = "All threads: time / one thread's"
    track_over_one_thread.unit = "x time on one thread"


class InPlace(_Ratio):
    """A call with `out=x` over the same call with another `out`, 65,536 elements."""

    params = (UFUNCS, ["float32", "float64"])
    param_names = ("ufunc", "dtype")

    def setup(self, ufunc, dtype):
        use_threads(1)
        self.ours = make_call(ufunc, dtype, layout="in place")
        self.theirs = make_call(ufunc, dtype)

    def track_over_out_of_place(self, *_):
        return race(self.ours.timer(), self.theirs.timer())

    track_over_out_of_place.pretty_name = "In place: time / out of place"
    track_over_out_of_place.unit = "x time out of place"


class Layers(_Ratio):
    """A pass of a layer with its defaults, without `out=`, over a call of numpy.negative."""

    params = (LAYERS, [SMALL, CACHED])
    param_names = ("layer", "elements")

    def setup(self, layer, elements):
        use_threads(1)
        self.layer, self.x, self.grad = make_layer(layer, elements)
        self.theirs = make_negative(elements, out=False)

    def track_forward(self, *_):
        return race(Call(self.layer.forward, [self.x]).timer(), self.theirs.timer())

    track_forward.pretty_name = "Layers, forward: time / numpy.negative's"
    track_forward.unit = "x time of numpy.negative"

    def track_backward(self, *_):
        return race(Call(self.layer.backward, [self.grad]).timer(), self.theirs.timer())

    track_backward.pretty_name = "Layers, backward: time / numpy.negative's"
    track_backward.unit = "x time of numpy.negative"


# The module of the trainers: its name today, and its names in earlier commits.
TRAINERS = (
    "fastact._command.bench.trainers",
    "fastact._command.bench_epoch",
    "fastact._bench_epoch",
)


def import_first(names):
    """Import the first module that exists, or return None."""
    for name in names:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # neither does its package
            continue
        if found:
            return importlib.import_module(name)
    return None


class Epoch(_Ratio):
    """One epoch of training of a small autoencoder over the same in plain NumPy."""

    def setup(self):
        trainers = import_first(TRAINERS)
        if trainers is None:
            raise NotImplementedError("no networks")
        use_threads(1)
        x = trainers.data()
        self.trainers = trainers.fastact(x), trainers.plain_numpy(x)
        for trainer in self.trainers:
            trainer.reset()

    def track_over_numpy(self):
        ours, theirs = self.trainers
        # A turn is one epoch from the initial parameters, which takes longer than `TURN_SECONDS`.
        return race(Timer(ours.epoch, ours.reset), Timer(theirs.epoch, theirs.reset))

    track_over_numpy.pretty_name = "Epoch of an autoencoder: time / plain NumPy's"
    track_over_numpy.unit = "x time of NumPy"
