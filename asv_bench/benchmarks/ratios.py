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
from timeit import Timer

import numpy as np

from ._cases import (
    CACHED,
    DTYPES,
    HUGE,
    LAYERS,
    LAYOUTS,
    MEDIUM,
    NEW_PROCESS,
    OPERATIONS,
    PAUSE,
    RESULTS,
    SMALL,
    UFUNCS,
    Call,
    make_call,
    make_layer,
    make_memcpy,
    make_negative,
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
