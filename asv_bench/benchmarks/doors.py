"""What a call costs from Cython, C, numba and SciPy, over that of the ufunc from Python.

The clients are those of `tests/compiled`. The environments of asv have no numba and no SciPy, so
these benchmarks are "n/a" there; `docs/compiled.md` has the figures of all.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from timeit import Timer

import numpy as np

import fastact

from ._cases import figure, load, race

CLIENT = Path(__file__).parents[2] / "tests" / "compiled" / "client"
ELEMENTS = 16


class Repeated:
    """A client that repeats a call, as what a race takes for a `timeit.Timer`."""

    def __init__(self, repeat, operand):
        self.timer = Timer("repeat(operand, times)", globals={"repeat": repeat, "operand": operand})

    def timeit(self, number):
        """Measure the seconds that `number` calls take."""
        self.timer.inner.__globals__["times"] = number
        return self.timer.timeit(1)


def build(folder):
    """Build the clients in C and in Cython."""
    if not hasattr(fastact, "get_include"):
        raise NotImplementedError("no fastact.h")
    shutil.copytree(CLIENT, folder, dirs_exist_ok=True)
    path = os.pathsep.join([str(Path(fastact.__file__).parents[1]), *filter(None, sys.path)])
    for language in "c", "cython":
        subprocess.run(
            [sys.executable, "-P", "setup.py", "-q", "build_ext", "--inplace"],
            cwd=folder,
            env={**os.environ, "CLIENT": language, "PYTHONPATH": path},
            check=True,
            capture_output=True,
        )
    return folder


def numba_client():
    """Make functions that repeat a call, compiled by numba."""
    if importlib.util.find_spec("numba") is None:
        raise NotImplementedError("no numba")
    import numba

    @numba.njit
    def repeat(x, times):
        for _ in range(times):
            fastact.relu(x, x)

    @numba.njit
    def repeat_scalar(x, times):
        for _ in range(times):
            x = fastact.sigmoid(x)
        return x

    repeat(np.zeros(ELEMENTS, np.float32), 1)
    repeat_scalar(0.5, 1)
    return repeat, repeat_scalar


class Quad:
    """`scipy.integrate.quad` of sigmoid; the time is that of an evaluation."""

    def __init__(self):
        if importlib.util.find_spec("scipy") is None:
            raise NotImplementedError("no SciPy")
        from scipy import LowLevelCallable, integrate

        import fastact.cy

        sigmoid = LowLevelCallable.from_cython(fastact.cy, "sigmoid_scalar")
        self.evaluations = integrate.quad(sigmoid, 0, 1, full_output=True)[2]["neval"]
        self.timer = Timer(lambda: integrate.quad(sigmoid, 0, 1))

    def timeit(self, number):
        """Measure the seconds that `number` evaluations take."""
        runs = -(-number // self.evaluations)
        return self.timer.timeit(runs) * number / (runs * self.evaluations)


DOORS = ["C", "Cython", "numba", "Cython, number", "numba, number", "SciPy, number"]


def make_door(door, folder):
    """Make the timer of a door: relu of 16 float32, or sigmoid of one double."""
    x = np.zeros(ELEMENTS, np.float32)
    if door == "SciPy, number":
        return Quad()
    if door.startswith("numba"):
        repeat, repeat_scalar = numba_client()
    else:
        name = "c_client" if door == "C" else "cython_client"
        client = load(next(Path(folder).glob(f"{name}.*.*")), name)
        repeat, repeat_scalar = client.repeat, getattr(client, "repeat_scalar", None)
    return Repeated(repeat_scalar, 0.5) if door.endswith("number") else Repeated(repeat, x)


class Doors:
    """A call through a door over the ufunc's on 16 float32, with out=."""

    params = DOORS
    param_names = ("door",)
    version = "1"
    timeout = 240

    def setup_cache(self):
        # asv removes its own folder before the benchmarks of the next class.
        return str(build(tempfile.mkdtemp()))

    setup_cache.timeout = 240

    def setup(self, folder, door):
        x = np.zeros(ELEMENTS, np.float32)
        self.ours = make_door(door, folder)
        self.theirs = Timer("relu(x, x)", globals={"relu": fastact.relu, "x": x})

    @figure("Compiled call: time / the ufunc's", "x time of the ufunc's call")
    def track_over_ufunc(self, *_):
        return race(self.ours, self.theirs)
