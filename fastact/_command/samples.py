"""Operands to measure errors and times with, always the same ones."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command.errors import float_info
from fastact._core.operations import BY_NAME, Operation

Array = NDArray[Any]


def sample(dtype: np.dtype[Any], count: int) -> Array:
    """Make about `count` finite inputs.

    Half of them are evenly spaced in their bit patterns, so that they are of every magnitude.
    For a 16-bit type these are all numbers of the type, if `count` allows. A quarter is uniform
    where sigmoid is neither 0 nor 1 throughout. A quarter is normal with standard deviation 4.
    """
    bits = 8 * dtype.itemsize
    patterns = min(count // 2, 1 << bits)
    # The step is odd. With an even one, the low bits would be the same in all of them.
    step = (1 << bits) // patterns | 1
    spaced = (np.arange(patterns, dtype=np.uint64) * np.uint64(step)).astype(f"u{dtype.itemsize}")
    edge = -np.log(float(float_info(dtype).smallest_subnormal))
    random = np.random.default_rng(0)
    values = [
        spaced.view(dtype),
        random.uniform(-edge, edge, count // 4).astype(dtype),
        random.normal(0, 4, count // 4).astype(dtype),
    ]
    return np.concatenate([v[np.isfinite(v)] for v in values])


def operands(operation: Operation, x: Array) -> dict[str, Any]:
    """Make the operands of an operation, by name, from the input `x` of its activation.

    In the order of the call: `grad` is standard normal, `y` is the exact output for `x`, rounded,
    and a parameter has its default value.
    """

    def make(name: str) -> Any:
        match name:
            case "x":
                return x
            case "y":
                assert operation.output_of is not None
                exact = BY_NAME[operation.output_of].exact
                return exact(np, x.astype(np.longdouble)).astype(x.dtype)
            case "grad":
                return np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
            case _:
                return operation.default

    with np.errstate(all="ignore"):
        return {name: make(name) for name in operation.operands}
