"""The program that callgrind counts: every call that has a line in instructions.txt.

    python counted.py LIBRARY CLIENTS REGEX ISA

LIBRARY is counted.c as a shared library, CLIENTS a folder with the built clients of the doors, and
REGEX selects calls by their names, which start with ISA. Each call is made some times before it is
counted, for first calls fill caches. What the installed fastact lacks is left out, so that old
commits can be counted.

The program is for `count.py`, which holds still what makes counts differ: see `ENVIRONMENT` there.
"""

import ctypes
import gc
import math
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np

# Python adapts its code to what it computes after some calls.
WARM_UP, WARM_UP_PYTHON = 2, 20
DTYPES = "float32", "float64", "float16", "bfloat16"
SIZES = 16, 4096
LAYOUTS = "out", "new", "stride 2", "columns", "transposed", "where"
SHAPES = (1, 10), (64, 10), (64, 64), (16, 1000)


class Counter:
    """Counts calls by the library."""

    def __init__(self, path, regex, isa):
        self.library = ctypes.PyDLL(path)
        types = [*[ctypes.py_object] * 3, ctypes.c_long, ctypes.c_char_p]
        self.library.fastact_count.restype = ctypes.py_object
        self.library.fastact_count.argtypes = types
        self.selected = re.compile(regex).search
        self.isa = isa

    def __call__(self, name, function, *operands, calls=1, warm_up=WARM_UP, within=1, **keywords):
        """Count `calls` calls of a function, each of which makes `within` calls to be counted."""
        name = f"{self.isa} {name}"
        if not self.selected(name):
            return
        names = tuple(map(sys.intern, keywords)) or None
        given = (*operands, *keywords.values())
        self.library.fastact_count(function, given, names, warm_up, None)
        written = f"{name}: {calls * within}".encode()
        self.library.fastact_count(function, given, names, calls, written)


def place(values):
    """Copy an array to the start of a page, where nothing depends on chance."""
    memory = np.empty(values.nbytes + 8192, np.uint8)
    start = -memory.ctypes.data % 4096
    target = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    target[...] = values
    return target


def values_of(name, size, dtype):
    """Draw an operand by its name, of any type but the same numbers."""
    random = np.random.default_rng(sum(name.encode()))
    if name == "y":
        return random.uniform(0, 1, size).astype(dtype)
    return random.normal(0, 1 if name == "grad" else 4, size).astype(dtype)


@cache
def operand(name, size, dtype, layout):
    """Place an operand of one dimension, or a square one, in a layout."""
    values = values_of(name, size, dtype)
    if layout == "stride 2":
        return place(values.repeat(2))[::2]
    if layout == "columns":
        side = math.isqrt(values.size)
        return place(np.resize(values, (side, side + side // 4)))[:, :side]
    if layout == "transposed":
        return place(values.reshape(math.isqrt(values.size), -1)).T
    return place(values)


@cache
def out_of(shape, dtype):
    """Place an output."""
    return place(np.zeros(shape, dtype))


@cache
def mask_of(size):
    """Place a mask of two thirds of the elements."""
    return place(np.arange(size) % 3 > 0)


def count_elementwise(count, function, record, dtype, layouts=LAYOUTS):
    """Count the calls of an elementwise ufunc on a type."""
    arrays = [name for name in record.operands if name != record.parameter]
    for size in SIZES:
        calls = 4 if size == SIZES[0] else 1
        for layout in layouts:
            operands = [operand(name, size, dtype, layout) for name in arrays]
            what = f"{record.name} {dtype.name} {size} {layout}"
            keywords = {}
            if layout != "new":
                keywords["out"] = out_of(operands[0].shape, dtype)
            if layout == "where":
                keywords["where"] = mask_of(size)
            count(what, function, *operands, calls=calls, **keywords)
        if record.parameter and "new" in layouts:
            channels = size // 4
            operands = [values_of(name, size, dtype).reshape(1, -1, 2, 2) for name in arrays]
            slope = np.linspace(0, 1, channels, dtype=np.float32).astype(dtype).reshape(-1, 1, 1)
            operands = [place(values) for values in (*operands, slope)]
            what = f"{record.name} {dtype.name} {size} slope per channel"
            count(what, function, *operands, calls=calls, out=out_of(operands[0].shape, dtype))
            operands = [operand(name, size, dtype, "new") for name in arrays]
            what = f"{record.name} {dtype.name} {size} slope of float64"
            count(what, function, *operands, np.float64(0.1), calls=calls)
    if "new" in layouts:
        scalars = [values_of(name, 1, dtype)[0] for name in arrays]
        count(f"{record.name} {dtype.name} 1 scalar", function, *scalars, calls=4)


def count_rows(count, function, record, dtype, fastact):
    """Count the calls of an operation on rows."""
    for shape in SHAPES:
        for axis in -1, 0:
            operands = []
            for name in record.operands:
                values = values_of(name, math.prod(shape), dtype).reshape(shape)
                if name == "y":
                    values = getattr(fastact, record.output_of)(4 * values, axis=axis)
                operands.append(place(values))
            what = f"{record.name} {dtype.name} {'x'.join(map(str, shape))} axis {axis}"
            out = out_of(shape, dtype)
            if axis == 0:
                count(what, function, *operands, axis=0, out=out)
            else:
                count(what, function, *operands, out=out)


def count_layers(count, names, constructors, dtype):
    """Count the forward and backward passes of layers, and a step of SGD."""
    from fastact import layers

    for name in names:
        if not hasattr(layers, name):
            continue
        layer = getattr(layers, name)(*constructors.get(name, lambda n: ())(16))
        x = place(values_of("x", (4, 16), dtype))
        what = f"{name} {dtype.name} 4x16"
        # A backward pass needs the forward pass before it.
        count(f"{what} forward", layer.forward, x, warm_up=WARM_UP_PYTHON)
        gradient = place(values_of("grad", layer.forward(x).shape, dtype))
        layer.backward(gradient)
        count(f"{what} backward", layer.backward, gradient, warm_up=WARM_UP_PYTHON)


def count_training(count, dtype):
    """Count losses, and a step of gradient descent."""
    from fastact import layers, losses, optimizers

    x = place(values_of("x", (64, 10), dtype))
    shares = place(np.full((64, 10), 0.1, dtype))
    labels = place(np.arange(64) % 10)
    for name, target in (
        ("MSELoss", place(values_of("grad", (64, 10), dtype))),
        ("BCEWithLogitsLoss", place(values_of("y", (64, 10), dtype))),
        ("CrossEntropyLoss of labels", labels),
        ("CrossEntropyLoss of probabilities", shares),
    ):
        loss = getattr(losses, name.partition(" ")[0])()
        what = f"{name} {dtype.name} 64x10"
        count(f"{what} forward", loss.forward, x, target, warm_up=WARM_UP_PYTHON)
        loss.forward(x, target)
        count(f"{what} backward", loss.backward, warm_up=WARM_UP_PYTHON)
    linear = layers.Linear(16, 16, seed=0, dtype=dtype)
    linear.forward(place(values_of("x", (4, 16), dtype)))
    linear.backward(place(values_of("grad", (4, 16), dtype)))
    step = optimizers.SGD(linear, 0.1, momentum=0.9).step
    count(f"SGD {dtype.name} 16x16 step", step, warm_up=WARM_UP_PYTHON)


def count_doors(count, clients, load):
    """Count relu of 16 float32 through the compiled API; numba has none of its own to count."""
    x = place(np.zeros(16, np.float32))
    for door in "c", "cython":
        for path in Path(clients).glob(f"{door}_client.*.so"):
            client = load(path, f"{door}_client")
            count(f"relu float32 16 from {door}", client.repeat, x, 100, within=100)
            if hasattr(client, "repeat_scalar"):
                count(f"sigmoid float64 1 from {door}", client.repeat_scalar, 0.5, 100, within=100)


def main(library, clients, regex, isa):
    gc.disable()
    count = Counter(library, regex, isa)
    count.library.fastact_start()
    count("import", __import__, "fastact", warm_up=0)

    import fastact

    sys.path.insert(0, str(Path(__file__).parent))
    from benchmarks import _cases as table

    for name in DTYPES:
        try:
            dtype = table.dtype_of(name)
        except NotImplementedError:
            continue
        for record in table.OPERATIONS:
            try:
                function = table.function_of(record.name, name)
            except NotImplementedError:
                continue
            # What the driver does is the same for every instruction set.
            layouts = LAYOUTS if isa == "avx2" else ["out"]
            count_elementwise(count, function, record, dtype, layouts)
        for record in table.ROW_OPERATIONS.values():
            if hasattr(fastact, record.name):
                count_rows(count, getattr(fastact, record.name), record, dtype, fastact)
    if isa != "avx2":
        return
    for name in DTYPES[:2]:
        count_layers(count, table.LAYERS, table.ARGUMENTS, np.dtype(name))
        count_training(count, np.dtype(name))
    count_doors(count, clients, table.load)


if __name__ == "__main__":
    main(*sys.argv[1:])
