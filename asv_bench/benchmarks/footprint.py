"""What fastact takes besides time: import, disk space and memory."""

import itertools
import math
import subprocess
import sys
import tracemalloc
import zlib
from importlib.metadata import files
from statistics import median

from ._cases import (
    DTYPES,
    HUGE,
    LARGE,
    LAYOUTS,
    RACE_SECONDS,
    RESULTS,
    SMALL,
    UFUNCS,
    make_call,
    round_to_digits,
)

IMPORTS = 11 if RACE_SECONDS else 3


class Import:
    """In a new process. The files have been read before."""

    params = ["fastact", "fastact.layers"]
    param_names = ["module"]
    version = "1"
    timeout = 120

    def track_over_numpy(self, module):
        # Processor time is used because a new process may be interrupted at any time.
        program = (
            "from time import process_time as now; a = now(); import numpy; b = now();"
            f"import {module}; print((now() - b) / (b - a))"
        )
        command = [sys.executable, "-P", "-c", program]
        return round_to_digits(
            median(float(subprocess.check_output(command)) for _ in range(IMPORTS))
        )

    track_over_numpy.pretty_name = "Import: processor time / NumPy's"
    track_over_numpy.unit = "x processor time of NumPy's import"


class Size:
    """The installed package."""

    version = "1"

    def track_installed(self):
        return round_to_digits(sum(len(data) for data in self.contents()) / 2**10)

    track_installed.pretty_name = "Size of the installed package"
    track_installed.unit = "KiB"

    def track_wheel(self):
        # asv does not tell where the wheel is. Its size is that of the compressed files.
        return round_to_digits(sum(len(zlib.compress(data)) for data in self.contents()) / 2**10)

    track_wheel.pretty_name = "Size of the wheel"
    track_wheel.unit = "KiB"

    def contents(self):
        """Read the files, without those that pip and Python add."""
        paths = (p for p in files("fastact") if p.parts[0] == "fastact" and p.suffix != ".pyc")
        return [path.read_binary() for path in paths]


class Memory:
    """What Python and NumPy allocate in a call on 1 Mi elements, beyond its result."""

    params = (UFUNCS, DTYPES)
    param_names = ("ufunc", "dtype")
    version = "1"
    timeout = 120

    def setup(self, ufunc, dtype):
        make_call(ufunc, dtype, SMALL)  # raises, if there is none

    def track_extra(self, ufunc, dtype):
        # At least 1, because asv divides by it.
        return max(1, *(math.ceil(extra / 2**10) for extra in extra_bytes(ufunc, dtype)))

    track_extra.pretty_name = "Memory of a call beyond its result"
    track_extra.unit = "KiB"


def extra_bytes(ufunc, dtype):
    """Measure this for every layout and kind of result."""
    found = []
    for layout, result in itertools.product(LAYOUTS, RESULTS):
        try:
            call = make_call(ufunc, dtype, LARGE, layout, result)
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

    params = (UFUNCS, RESULTS)
    param_names = ("ufunc", "result")
    version = "1"

    def setup(self, ufunc, result):
        self.call = make_call(ufunc, size=HUGE, result=result)

    def peakmem_call(self, *_):
        self.call()

    peakmem_call.pretty_name = "Peak memory of a process, 16 Mi elements"
