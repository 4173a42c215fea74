"""Time of every ufunc, of the layers and of the import.

A new row of `fastact._operations.OPERATIONS` has its benchmarks by existing. The arrays
are made when this module is imported, not in `setup`: asv_runner from 0.3 on runs `setup`
before every single call, and so measures one cold call instead of many.
"""

from itertools import repeat

import numpy as np

from fastact import _ufuncs, layers
from fastact._operations import OPERATIONS

DTYPES = ["float32", "float64"]
SMALL, LARGE = 16, 65536  # LARGE is below the size from which threads are used
CALLS = 1000


def _case(operation, dtype, size):
    """Return a call: the ufunc, the arrays and `out`; a slope is left at its default."""
    random = np.random.default_rng(0)
    values = {
        "x": random.normal(0, 4, size),
        "grad": random.standard_normal(size),
        "y": random.uniform(0, 1, size),
    }
    arrays = [values[name].astype(dtype) for name in operation.operands if name in values]
    return _ufuncs.ufuncs[operation.name], arrays, np.empty_like(arrays[0])


CASES = {
    (operation.name, dtype, size): _case(operation, dtype, size)
    for operation in OPERATIONS
    for dtype in DTYPES
    for size in (SMALL, LARGE)
}
LAYERS = {name: getattr(layers, name)() for name in ("ReLU", "LeakyReLU", "Sigmoid")}
X, GRAD = (CASES["relu_backward", "float32", LARGE][1][i] for i in (1, 0))
for _layer in LAYERS.values():
    _layer.forward(X)


class _Ufuncs:
    params = ([operation.name for operation in OPERATIONS], DTYPES)
    param_names = ("operation", "dtype")
    timeout = 30
    version = "1"  # by default a hash of the code: any edit would end the history


class Small(_Ufuncs):
    """16 elements with `out=`."""

    def time_1000_calls(self, operation, dtype):
        """Seconds for 1000 calls: read milliseconds as microseconds a call."""
        call, arrays, out = CASES[operation, dtype, SMALL]
        # Written out: unpacking the arrays would cost as much as the call.
        if len(arrays) == 1:
            (x,) = arrays
            for _ in repeat(None, CALLS):
                call(x, out=out)
        else:
            grad, x = arrays
            for _ in repeat(None, CALLS):
                call(grad, x, out=out)


class Large(_Ufuncs):
    """65,536 elements with `out=`, in cache, in one thread."""

    def time_call(self, operation, dtype):
        """Seconds for a call."""
        call, arrays, out = CASES[operation, dtype, LARGE]
        call(*arrays, out=out)


class Layers:
    """65,536 float32 elements, without `out=`."""

    params = tuple(LAYERS)
    param_names = ("layer",)
    timeout = 30
    version = "1"

    def time_forward(self, layer):
        """Seconds for a forward pass."""
        LAYERS[layer].forward(X)

    def time_backward(self, layer):
        """Seconds for a backward pass."""
        LAYERS[layer].backward(GRAD)


class Import:
    """A new process that has imported NumPy already."""

    timeout = 60
    version = "1"

    def timeraw_fastact(self):
        """Seconds for the import of fastact."""
        return "import fastact", "import numpy"

    def timeraw_layers(self):
        """Seconds for the import of fastact.layers."""
        return "import fastact.layers", "import numpy"
