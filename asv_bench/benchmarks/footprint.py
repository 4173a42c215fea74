"""What fastact takes besides time: import, disk space and memory."""

import itertools
import math
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from statistics import median

import fastact

from . import _cases

IMPORTS = 11 if _cases.timing.RACE_SECONDS else 3


def import_seconds(module):
    """Measure the processor time of importing NumPy, and then a module, in new processes."""
    # Processor time is used because a new process may be interrupted at any time.
    program = (
        "from time import process_time as now; a = now(); import numpy; b = now();"
        f"import {module}; print(b - a, now() - b)"
    )
    command = [sys.executable, "-P", "-c", program]
    times = [map(float, subprocess.check_output(command).split()) for _ in range(IMPORTS)]
    return tuple(map(median, zip(*times, strict=True)))


def contents():
    """Read the files of the package, without those that Python and a build in place add."""
    paths = Path(fastact.__file__).parent.rglob("*")
    return [p.read_bytes() for p in paths if p.is_file() and p.suffix not in (".c", ".pyc")]


class Import:
    """In a new process. The files have been read before."""

    params = ["fastact", "fastact.layers"]
    param_names = ["module"]
    version = "1"
    timeout = 120

    @_cases.figure("Import: processor time / NumPy's", "x processor time of NumPy's import")
    def track_over_numpy(self, module):
        numpy, own = import_seconds(module)
        return _cases.round_to_digits(own / numpy)


class Size:
    """The installed package."""

    version = "1"

    @_cases.figure("Size of the installed package", "KiB")
    def track_installed(self):
        return _cases.round_to_digits(sum(len(data) for data in contents()) / 2**10)

    @_cases.figure("Size of the wheel", "KiB")
    def track_wheel(self):
        # asv does not tell where the wheel is. Its size is that of the compressed files.
        return _cases.round_to_digits(sum(len(zlib.compress(data)) for data in contents()) / 2**10)


class Memory:
    """What Python and NumPy allocate in a call on 1 Mi elements, beyond its result."""

    params = (_cases.UFUNCS, _cases.DTYPES)
    param_names = ("ufunc", "dtype")
    version = "1"
    timeout = 120

    def setup(self, ufunc, dtype):
        _cases.make_call(ufunc, dtype, _cases.SMALL)  # raises, if there is none

    @_cases.figure("Memory of a call beyond its result", "KiB")
    def track_extra(self, ufunc, dtype):
        # At least 1, because asv divides by it.
        return max(1, *(math.ceil(extra / 2**10) for extra in extra_bytes(ufunc, dtype)))


def extra_bytes(ufunc, dtype):
    """Measure this for every layout and kind of result."""
    found = []
    for layout, result in itertools.product(_cases.LAYOUTS, _cases.RESULTS):
        try:
            call = _cases.make_call(ufunc, dtype, _cases.LARGE, layout, result)
        except NotImplementedError:
            continue
        call()  # the first one fills caches of NumPy's
        tracemalloc.start()
        y = call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        found.append(peak - (y.nbytes if call.out is None else 0))
    return found


class Peak:
    """All that a process takes, including its arrays of 16 Mi float32 elements."""

    params = (_cases.UFUNCS, _cases.RESULTS)
    param_names = ("ufunc", "result")
    version = "1"

    def setup(self, ufunc, result):
        self.call = _cases.make_call(ufunc, size=_cases.HUGE, result=result)

    @_cases.figure("Peak memory of a process, 16 Mi elements")
    def peakmem_call(self, *_):
        self.call()
