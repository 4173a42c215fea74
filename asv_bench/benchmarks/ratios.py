"""Times over other times, measured in one process in alternating rounds.

These are reliable even on noisy machines, so the history and the guard are based on them. The
peers of `fastact bench --peers` are not installed here. The other time is that of `memcpy`, of
NumPy, or of another call of fastact. Everything is in float32 and on one thread unless stated
otherwise.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from timeit import Timer

import numpy as np

from . import _cases


class _Ratio:
    version = "1"
    timeout = 120


def over_memcpy(call, threads=1):
    """Race a call with memcpy of the bytes that it reads and writes, in as many parts."""
    array = call.operands[0]
    copy = _cases.make_memcpy(array)
    # A copy reads one array and writes one.
    factor = (sum(operand.size == array.size for operand in call.operands) + 1) / 2
    if threads == 1:
        return _cases.round_to_digits(_cases.race(call, copy) / factor)
    with ThreadPoolExecutor(threads) as pool:
        parts = [np.array_split(operand, threads) for operand in copy.operands]
        names = {"map": pool.map, "copyto": np.copyto, "parts": parts}
        timer = Timer("list(map(copyto, *parts))", globals=names)
        ratio = _cases.race(call, timer, pause=_cases.PAUSE)
        return _cases.round_to_digits(ratio / factor)


def over_memcpy_on_all_threads(ufunc, dtype):
    """Race a large call with memcpy, both on all threads."""
    _cases.use_threads("all")
    return over_memcpy(_cases.make_call(ufunc, dtype, _cases.HUGE), _cases.processors())


class SmallCall(_Ratio):
    """A call on few elements over that of numpy.negative: the call takes all of the time."""

    params = (_cases.UFUNCS, _cases.DTYPES, [_cases.SMALL, _cases.MEDIUM], _cases.RESULTS)
    param_names = ("ufunc", "dtype", "elements", "result")

    def setup(self, ufunc, dtype, elements, result):
        self.ours = _cases.make_call(ufunc, dtype, elements, result=result)
        self.theirs = _cases.make_negative(elements, out=self.ours.out is not None)

    @_cases.figure("Small call: time / numpy.negative's", "x time of numpy.negative")
    def track_over_negative(self, *_):
        return _cases.race(self.ours, self.theirs)


class InCache(_Ratio):
    """A call on 65,536 elements over memcpy of the bytes that it reads and writes."""

    params = (_cases.UFUNCS, _cases.DTYPES, _cases.LAYOUTS)
    param_names = ("ufunc", "dtype", "layout")

    def setup(self, ufunc, dtype, layout):
        _cases.use_threads(1)
        self.call = _cases.make_call(ufunc, dtype, _cases.CACHED, layout)

    @_cases.figure("In cache: time / memcpy's", "x time of memcpy")
    def track_over_memcpy(self, *_):
        return over_memcpy(self.call)


class Rows(_Ratio):
    """An operation on rows over NumPy's functions for the same."""

    params = (list(_cases.ROW_OPERATIONS), ["float32", "float64"], list(_cases.ROWS))
    param_names = ("ufunc", "dtype", "shape")

    def setup(self, *case):
        _cases.use_threads(1)
        self.ours, self.theirs = _cases.make_rows(*case)

    @_cases.figure("Rows: time / NumPy's", "x time of NumPy")
    def track_over_numpy(self, *_):
        return _cases.race(self.ours, self.theirs)


class OutOfCache(_Ratio):
    """A call on 16 Mi elements over memcpy of the bytes that it reads and writes.

    On all threads, memcpy copies in as many parts. A new result is never the first one.
    """

    params = (_cases.UFUNCS, ["float32", "float64"], [1, "all"], _cases.RESULTS)
    param_names = ("ufunc", "dtype", "threads", "result")

    def setup(self, ufunc, dtype, threads, result):
        if result == "new" and (dtype, threads) != ("float32", 1):
            raise NotImplementedError("one kind of new result is enough")
        _cases.use_threads(1)
        # For all threads, this only finds out whether there is such a call.
        self.call = _cases.make_call(
            ufunc, dtype, _cases.HUGE if threads == 1 else _cases.SMALL, result=result
        )

    @_cases.figure("Out of cache: time / memcpy's", "x time of memcpy")
    def track_over_memcpy(self, ufunc, dtype, threads, result):
        if threads == 1:
            return over_memcpy(self.call)
        program = (
            f"{_cases.NEW_PROCESS}from benchmarks import ratios;"
            f"print(ratios.over_memcpy_on_all_threads({ufunc!r}, {dtype!r}))"
        )
        return float(subprocess.check_output([sys.executable, "-P", "-c", program]))


NUMPY_SIGMOID = next(o.numpy for o in _cases.OPERATIONS if o.name == "sigmoid")


class Sigmoid(_Ratio):
    """sigmoid over what a user of NumPy would write: 1 / (1 + exp(-x)), in place."""

    params = (["float16", "float32", "float64"], [_cases.MEDIUM, _cases.CACHED])
    param_names = ("dtype", "elements")

    def setup(self, dtype, elements):
        _cases.use_threads(1)
        self.call = _cases.make_call("sigmoid", dtype, elements)

    @_cases.figure("sigmoid: time / NumPy's 1 / (1 + exp(-x))", "x time of NumPy's expression")
    def track_over_numpy(self, *_):
        theirs = _cases.Call(NUMPY_SIGMOID, self.call.operands, self.call.out)
        return _cases.race(self.call, theirs)


class Own(_Ratio):
    """A call over another call of fastact, both on 65,536 elements."""

    params = (["float32", "float64"],)
    param_names = ("dtype",)

    def setup(self, dtype):
        _cases.use_threads(1)
        self.dtype = dtype

    @_cases.figure("sigmoid_backward: time / sigmoid's", "x time of sigmoid")
    def track_sigmoid_backward(self, dtype):
        ours = _cases.make_call("sigmoid_backward", dtype)
        return _cases.race(ours, _cases.make_call("sigmoid", dtype))

    @_cases.figure("sigmoid of denormals: time / ordinary inputs'", "x time of ordinary inputs")
    def track_denormals(self, dtype):
        denormals = np.random.default_rng(0).uniform(-1, 1, _cases.CACHED) * np.finfo(dtype).tiny
        ours = _cases.make_call("sigmoid", dtype, x=denormals)
        return _cases.race(ours, _cases.make_call("sigmoid", dtype))


def over_contiguous(layout, operation="relu", result="new", dtype="float32"):
    """Pair a call on a view with the same call on a contiguous array of its shape."""
    size = _cases.arrays.IMAGES if layout == "NHWC" else _cases.LARGE
    ours = _cases.make_call(operation, dtype, size, layout, result)
    x = ours.operands[0]
    return ours, _cases.Call(ours.function, [_cases.placed(np.ascontiguousarray(x))], ours.out)


def over_number(x):
    """Pair sigmoid of what is no array of floats with sigmoid of as many float64."""
    sigmoid = _cases.function_of("sigmoid", "float64")
    array = np.atleast_1d(np.asarray(x, np.float64))
    return _cases.Call(sigmoid, [x]), _cases.Call(sigmoid, [array])


# Calls beside the plain one, and the plain one.
PAIRS = {
    **{
        f"16, {kind}": lambda kind=kind: _cases.make_slope(kind)
        for kind in ("NumPy scalar", "0-d array", "array of one")
    },
    "16, float64 scalar": lambda: _cases.make_slope("float64 scalar", result="new"),
    "gradient of 1,024, NumPy scalar": lambda: _cases.make_slope(
        "NumPy scalar", "leaky_relu_backward", _cases.MEDIUM, "new"
    ),
    **{
        kind: lambda kind=kind: _cases.make_slope(kind, size=_cases.LARGE, result="new")
        for kind in ("slope per column", "slope per row", "slope per channel")
    },
    "relu, 64 of 80 columns": lambda: over_contiguous("64 of 80 columns"),
    "relu, 8 of 12 columns": lambda: over_contiguous("8 of 12 columns"),
    "sigmoid, 64 of 80 columns": lambda: over_contiguous("64 of 80 columns", "sigmoid"),
    "relu, channels last, out=": lambda: over_contiguous("NHWC", result="out="),
    "relu, channels last, new": lambda: over_contiguous("NHWC"),
    "sigmoid of a number": lambda: over_number(0.3),
    "sigmoid of a NumPy scalar": lambda: over_number(np.float64(0.3)),
    "sigmoid of 16 int64": lambda: over_number(np.arange(-8, 8)),
}


class Beside(_Ratio):
    """A call beside the plain one over the plain one: slopes of any kind, views, scalars."""

    params = (list(PAIRS),)
    param_names = ("call",)

    def setup(self, call):
        _cases.use_threads(1)
        self.ours, self.theirs = PAIRS[call]()

    @_cases.figure("Beside the plain call: time / the plain call's", "x time of the plain call")
    def track_over_the_plain_call(self, *_):
        return _cases.race(self.ours, self.theirs)


def over_one_thread(layout, busy):
    """Race a call on 4 Mi elements on all threads with the same on one."""
    call = _cases.make_call("sigmoid", size=1 << 22, layout=layout)
    x, out = call.operands[0], call.out
    names = {"call": call.function, "x": x, "out": out, "limit": _cases.use_threads}
    timers = [Timer(f"limit({n!r}), call(x, out=out)", globals=names) for n in ("all", 1)]
    with _cases.timing.busy_processes(_cases.processors() - 1 if busy else 0):
        return _cases.race(*timers, pause=_cases.PAUSE)


class Threads(_Ratio):
    """A call on 4 Mi elements on all threads over one, where others compute or do not."""

    params = (["contiguous", "256 of 320 columns"], ["idle", "busy"])
    param_names = ("layout", "other_processors")

    @_cases.figure("All threads: time / one thread's", "x time on one thread")
    def track_over_one_thread(self, layout, other_processors):
        program = (
            f"{_cases.NEW_PROCESS}from benchmarks import ratios;"
            f"print(ratios.over_one_thread({layout!r}, {other_processors == 'busy'}))"
        )
        return float(subprocess.check_output([sys.executable, "-P", "-c", program]))


class InPlace(_Ratio):
    """A call with `out=x` over the same call with another `out`, 65,536 elements.

    Both after a copy of the first operand.
    """

    version = "2"
    params = (_cases.UFUNCS, ["float32", "float64"])
    param_names = ("ufunc", "dtype")

    def setup(self, ufunc, dtype):
        _cases.use_threads(1)
        self.ours = _cases.make_call(ufunc, dtype, layout="in place")
        self.theirs = _cases.make_call(ufunc, dtype, restores=True)

    @_cases.figure("In place: time / out of place", "x time out of place")
    def track_over_out_of_place(self, *_):
        return _cases.race(self.ours, self.theirs)


class Layers(_Ratio):
    """A pass of a layer with its defaults, without `out=`, over a call of numpy.negative."""

    params = (_cases.LAYERS, [_cases.SMALL, _cases.CACHED])
    param_names = ("layer", "elements")

    def setup(self, layer, elements):
        _cases.use_threads(1)
        self.layer, self.x, self.grad = _cases.make_layer(layer, elements)
        self.theirs = _cases.make_negative(elements, out=False)

    @_cases.figure("Layers, forward: time / numpy.negative's", "x time of numpy.negative")
    def track_forward(self, *_):
        return _cases.race(_cases.Call(self.layer.forward, [self.x]), self.theirs)

    @_cases.figure("Layers, backward: time / numpy.negative's", "x time of numpy.negative")
    def track_backward(self, *_):
        return _cases.race(_cases.Call(self.layer.backward, [self.grad]), self.theirs)


class Epoch(_Ratio):
    """One epoch of training of a small autoencoder over the same in plain NumPy."""

    def setup(self):
        _cases.use_threads(1)
        try:
            trainers = _cases.load(
                Path(__file__).parents[1] / "peers" / "trainers.py", "fastact_trainers"
            )
            x = trainers.data()
            self.trainers = trainers.fastact(x), trainers.plain_numpy(x)
        except (AttributeError, ImportError, TypeError) as error:  # earlier commits
            raise NotImplementedError("no such networks") from error
        for trainer in self.trainers:
            trainer.reset()

    @_cases.figure("Epoch of an autoencoder: time / plain NumPy's", "x time of NumPy")
    def track_over_numpy(self):
        ours, theirs = self.trainers
        # A turn is one epoch from the initial parameters, which takes longer than `TURN_SECONDS`.
        return _cases.race(Timer(ours.epoch, ours.reset), Timer(theirs.epoch, theirs.reset))
