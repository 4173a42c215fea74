"""What a benchmark measures: one operation on arrays of one kind, and these arrays."""

import functools
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command import inputs
from fastact._core.operations import Operation

Array = NDArray[Any]

CACHED = 1 << 16
# How many values are drawn. Larger arrays repeat them.
VALUES = 1 << 16


@dataclass(frozen=True)
class Case:
    """One operation on arrays of one kind.

    Attributes
    ----------
    operation : Operation
    dtype : str
    size : int
        The number of elements.
    layout : str
        Layout of the operands: "contiguous", "stride 2" or "transposed". `out` is contiguous.
        Or "in place", where `out` is the first operand, or "denormal", of the inputs.
    out : bool
        Whether the result is stored in an existing array.
    all_threads : bool
        One thread if false.
    """

    operation: Operation
    dtype: str = "float32"
    size: int = CACHED
    layout: str = "contiguous"
    out: bool = True
    all_threads: bool = False

    def __str__(self) -> str:
        """Tell what distinguishes it from the other cases of its target."""
        layout = "" if self.layout == "contiguous" else f", {self.layout}"
        return f"{self.operation.name} {self.dtype}{layout}"


def cases(
    operations: Iterable[Operation],
    dtypes: Iterable[str] = ("float32",),
    sizes: Iterable[int] = (CACHED,),
    **others: Any,
) -> tuple[Case, ...]:
    """Make the cases of all combinations."""
    return tuple(
        Case(operation, dtype, size, **others)
        for operation, dtype, size in itertools.product(operations, dtypes, sizes)
    )


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


def make_operands(case: Case) -> dict[str, Any]:
    """Make the operands of a case, in its layout."""
    dtype = dtype_of(case.dtype)
    assert dtype is not None
    values = _values(case.operation, dtype, case.layout == "denormal")
    return {
        name: _lay_out(np.resize(v, case.size), case.layout) if isinstance(v, np.ndarray) else v
        for name, v in values.items()
    }


def _make_values(operation: Operation, dtype: np.dtype[Any], denormal: bool) -> dict[str, Any]:
    """Make the operands of an operation."""
    rng = np.random.default_rng(2)
    x = rng.normal(0, 4, VALUES).astype(dtype)
    if denormal:
        x = (rng.uniform(-1, 1, VALUES) * np.finfo(dtype).tiny).astype(dtype)
    return inputs.operands(operation, x)


# Not as a decorator: stubtest would compare the two signatures.
_values = functools.cache(_make_values)


def _lay_out(values: Array, layout: str) -> Array:
    target = values
    if layout == "stride 2":
        target = np.empty(2 * values.size, values.dtype)[::2]
    elif layout == "transposed":
        side = math.isqrt(values.size)
        values = values[: side * side].reshape(side, side)
        target = np.empty_like(values).T
    if target is not values:
        target[...] = values
    return target


def make_out(case: Case, operands: dict[str, Any]) -> Array | None:
    """Make the array for the result of a case, or None for a new result per call."""
    first = next(iter(operands.values()))
    return np.empty(first.shape, first.dtype) if case.out else None
