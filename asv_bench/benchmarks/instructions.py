"""Instructions of a call, counted by callgrind: the same in every run, on any computer.

They depend on the compiler, and on the versions that `instructions.txt` names; the machine of asv
is the compiler. Of the calls of that file, these are the ones that have a history. Where nothing
can be counted, they are "n/a".
"""

import os
import sys
from pathlib import Path

import fastact

from ._cases import DTYPES, LAYERS, ROW_OPERATIONS, UFUNCS, figure, load

count = load(Path(__file__).parents[1] / "count.py", "fastact_count")
hot_loops = load(Path(__file__).parents[1] / "hot_loops.py", "fastact_hot_loops")

# The calls that have a history. A smoke test counts little.
ONLY = " (16 new|16 out|4096 out|4096 stride 2|from.*|.* axis .*|.*ward|.* step|import)$"
if os.environ.get("FASTACT_RACE_SECONDS") == "0":
    ONLY = "relu float32"


class _Counted:
    version = "1"
    timeout = 600

    def setup_cache(self):
        """Count all calls, once for all classes."""
        try:
            return count.count(sys.executable, only=ONLY)[1]
        except count.CountError as error:
            print(f"not counted: {error}", file=sys.stderr)
            return {}

    setup_cache.timeout = 600

    def setup(self, counts, *case):
        """Find the count of a case; NotImplementedError if there is none."""
        self.number = counts.get(" ".join(case))
        if self.number is None:
            raise NotImplementedError(f"no count of {' '.join(case)}")


class Elementwise(_Counted):
    """A ufunc: the kernel shows in 4,096 elements, the call in 16."""

    params = (list(count.SETS), UFUNCS, DTYPES, ["16 new", "16 out", "4096 out", "4096 stride 2"])
    param_names = ("instruction set", "ufunc", "dtype", "elements")

    @figure("Ufunc: instructions of a call", "instructions")
    def track_instructions(self, *_):
        return self.number


class Rows(_Counted):
    """An operation on rows, along the last axis or the first."""

    params = (
        list(count.SETS),
        list(ROW_OPERATIONS),
        DTYPES,
        [f"{shape} axis {axis}" for shape in ("64x10", "64x64", "16x1000") for axis in (-1, 0)],
    )
    param_names = ("instruction set", "ufunc", "dtype", "shape")

    @figure("Rows: instructions of a call", "instructions")
    def track_instructions(self, *_):
        return self.number


class Networks(_Counted):
    """A pass of a layer, with the instructions of NumPy's products."""

    params = (["avx2"], LAYERS, ["float32 4x16"], ["forward", "backward"])
    param_names = ("instruction set", "layer", "operand", "pass")

    @figure("Layer: instructions of a pass", "instructions")
    def track_instructions(self, *_):
        return self.number


class Other(_Counted):
    """Losses, a step of gradient descent, the compiled API, and `import fastact` after NumPy."""

    params = (
        ["avx2"],
        [
            "CrossEntropyLoss of labels float32 64x10 forward",
            "CrossEntropyLoss of probabilities float32 64x10 forward",
            "MSELoss float32 64x10 forward",
            "BCEWithLogitsLoss float32 64x10 forward",
            "SGD float32 16x16 step",
            "relu float32 16 from c",
            "relu float32 16 from cython",
            "sigmoid float64 1 from cython",
            "import",
        ],
    )
    param_names = ("instruction set", "call")

    @figure("Other calls: instructions", "instructions")
    def track_instructions(self, *_):
        return self.number


class Vectors:
    """The hot loop of a kernel for AVX-512, which callgrind does not run, by objdump."""

    params = (UFUNCS, ["float32", "float64"])
    param_names = ("ufunc", "dtype")
    version = "1"

    def setup_cache(self):
        """Read the module of the kernels."""
        try:
            return hot_loops.instructions(Path(fastact.__file__).parent)
        except hot_loops.UnknownError as error:
            print(f"not counted: {error}", file=sys.stderr)
            return {}

    def setup(self, found, ufunc, dtype):
        """Find the loop; NotImplementedError if there is none, or it cannot be told."""
        self.number = found.get(f"{ufunc}_{dtype.replace('float', 'f')}")
        if self.number is None:
            raise NotImplementedError(f"no hot loop of {ufunc} for {dtype}")

    @figure("AVX-512: instructions of 64 bytes", "instructions")
    def track_per_vector(self, *_):
        return self.number
