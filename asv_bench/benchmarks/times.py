"""Seconds of every call in the table, and of every layer.

This is how long a user waits, on this machine and at this time. There are too many for the
history. On a noisy machine, use `ratios` instead.
"""

from . import _cases


class _Time:
    version = "1"
    timeout = 120
    rounds = 1
    sample_time = 0.002
    warmup_time = 0.005
    repeat = (3, 11, 0.1)


class Ufuncs(_Time):
    """The table of calls, on one thread. asv's own call of the benchmark adds some 150 ns."""

    params = (_cases.UFUNCS, _cases.DTYPES, _cases.SIZES, _cases.LAYOUTS, _cases.RESULTS)
    param_names = ("ufunc", "dtype", "elements", "layout", "result")

    def setup(self, *case):
        _cases.use_threads(1)
        self.call = _cases.make_call(*case)

    @_cases.figure("A call")
    def time_call(self, *_):
        self.call()


class Rows(_Time):
    """Operations on rows, along the last axis and, of the transposed operands, the first."""

    params = (list(_cases.ROW_OPERATIONS), _cases.DTYPES, list(_cases.ROWS), [-1, 0])
    param_names = ("ufunc", "dtype", "shape", "axis")

    def setup(self, *case):
        _cases.use_threads(1)
        self.call, _ = _cases.make_rows(*case)

    @_cases.figure("A call on rows")
    def time_call(self, *_):
        self.call()


class Threads(_Time):
    """float32, contiguous, with `out=`, in a process that is not forked."""

    params = (_cases.UFUNCS, [_cases.LARGE, _cases.HUGE], [1, 2, "all"])
    param_names = ("ufunc", "elements", "threads")
    number = 10
    repeat = (3, 5, 1.0)

    def setup(self, ufunc, elements, threads):
        _cases.make_call(ufunc, size=_cases.SMALL)  # raises if there is no such call
        if threads != "all" and threads > _cases.processors():
            raise NotImplementedError(f"{threads} threads on {_cases.processors()} processors")

    @_cases.figure("A call on several threads")
    def timeraw_call(self, ufunc, elements, threads):
        setup = (
            f"{_cases.NEW_PROCESS}from benchmarks._cases import make_call, use_threads;"
            f"use_threads({threads!r}); call = make_call({ufunc!r}, size={elements}); call()"
        )
        return "call()", setup


class Layers(_Time):
    """Passes of a layer with its defaults, float32, on one thread."""

    params = (_cases.LAYERS, [_cases.SMALL, _cases.CACHED, _cases.LARGE])
    param_names = ("layer", "elements")

    def setup(self, layer, elements):
        _cases.use_threads(1)
        self.layer, self.x, self.grad = _cases.make_layer(layer, elements)

    @_cases.figure("Forward pass of a layer")
    def time_forward(self, *_):
        self.layer.forward(self.x)

    @_cases.figure("Backward pass of a layer")
    def time_backward(self, *_):
        self.layer.backward(self.grad)
