"""The arrays that calls are timed on: their types, shapes and layouts.

The benchmarks of asv load this module by its path, so it imports nothing of fastact.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Views of the first columns of a matrix: how many columns, of how many.
VIEWS = {"64 of 80 columns": (64, 80), "8 of 12 columns": (8, 12), "256 of 320 columns": (256, 320)}
# Shapes of operands of operations on rows.
ROWS = {"1 x 10": (1, 10), "32 x 10": (32, 10), "4096 x 64": (4096, 64), "256 x 1000": (256, 1000)}
# Channels, height and width of the images, and the elements of 16 of them.
IMAGE = (32, 28, 28)
IMAGES = 16 * math.prod(IMAGE)
# Parameters, given the number as an array of the type of the arrays and the shape of the latter.
SLOPES: dict[str, Callable[[Array, tuple[int, ...]], Any]] = {
    "NumPy scalar": lambda slope, shape: slope[()],
    "0-d array": lambda slope, shape: slope,
    "array of one": lambda slope, shape: slope.reshape(1),
    "float64 scalar": lambda slope, shape: np.float64(slope),
    "slope per column": lambda slope, shape: np.linspace(0, 1, shape[1], dtype=slope.dtype),
    "slope per channel": lambda slope, shape: np.linspace(
        0, 1, shape[1], dtype=slope.dtype
    ).reshape(-1, 1, 1),
    "slope per row": lambda slope, shape: np.linspace(0, 1, shape[0], dtype=slope.dtype)[:, None],
}


def dtype_of(name: str) -> np.dtype[Any] | None:
    """Find a type by its name; bfloat16 is that of ml_dtypes, or None without it."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        return None
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def lay_out(
    values: Array, size: int, layout: str, empty: Callable[[Any, Any], Array] = np.empty
) -> Array:
    """Make an array of `size` elements, or somewhat fewer, in a layout.

    The values are repeated as often as needed. `empty` makes the memory, given a shape and a type.
    The layout is "stride 2", "square", "transposed", "matrix" (of 64 columns), "NCHW" (images),
    "NHWC" (a view of these, with the channels last), or a key of `VIEWS`. Anything else is
    contiguous.
    """
    side, dtype = math.isqrt(size), values.dtype
    if layout in VIEWS:
        columns, total = VIEWS[layout]
        target = empty((size // columns, total), dtype)[:, :columns]
    elif layout == "stride 2":
        target = empty(2 * size, dtype)[::2]
    elif layout in ("square", "transposed"):
        target = empty((side, side), dtype)
        target = target.T if layout == "transposed" else target
    elif layout == "matrix":
        target = empty((size // 64, 64), dtype)
    elif layout in ("NCHW", "NHWC"):
        images = empty((max(1, size // math.prod(IMAGE)), *IMAGE), dtype)
        target = images.transpose(0, 2, 3, 1) if layout == "NHWC" else images
    else:
        target = empty(size, dtype)
    target[...] = np.resize(values, target.shape)
    return target
