"""What a benchmark times: one operation on arrays of one kind; their values are drawn once."""

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command import samples
from fastact._command.bench.arrays import ROWS, SLOPES, dtype_of, lay_out
from fastact._core.operations import Operation, RowOperation
from fastact._core.ufuncs import row_ufuncs

Array = NDArray[Any]

CACHED = 1 << 16
# How many values are drawn. Larger arrays repeat them.
VALUES = 1 << 16


@dataclass(frozen=True)
class Case:
    """One operation on arrays of one kind."""

    operation: Operation | RowOperation
    dtype: str = "float32"
    size: int = CACHED  # elements
    # One of `lay_out`, or a key of `ROWS`; `out` is contiguous. Or "in place", where `out` is the
    # first operand; "denormal", where the inputs are; "number" or "NumPy scalar": the operand is
    # no array.
    layout: str = "contiguous"
    out: bool = True  # whether the result is stored in an existing array
    all_threads: bool = False  # else one thread
    busy: bool = False  # whether another process keeps each other processor busy
    slope: str = ""  # the parameter, if it is not a Python number: a key of `SLOPES`

    def __str__(self) -> str:
        """Tell what distinguishes it from the other cases of its target."""
        layout = "" if self.layout == "contiguous" else f", {self.layout}"
        slope = f", {self.slope}" if self.slope else ""
        busy = ", busy" if self.busy else ""
        return f"{self.operation.name} {self.dtype}{layout}{slope}{busy}"


def cases(
    operations: Iterable[Operation | RowOperation],
    dtypes: Iterable[str] = ("float32",),
    sizes: Iterable[int] = (CACHED,),
    layouts: Iterable[str] = ("contiguous",),
    slopes: Iterable[str] = ("",),
    **others: Any,
) -> tuple[Case, ...]:
    """Make the cases of all combinations."""
    return tuple(
        Case(operation, dtype, size, layout, slope=slope, **others)
        for layout, slope, operation, dtype, size in itertools.product(
            layouts, slopes, operations, dtypes, sizes
        )
    )


def make_operands(case: Case) -> dict[str, Any]:
    """Make the operands of a case, in its layout."""
    dtype = dtype_of(case.dtype)
    assert dtype is not None
    if isinstance(case.operation, RowOperation):
        return _make_rows(case.operation, dtype, case)
    values = _timed_values(case.operation, dtype, case.layout == "denormal")
    operands = {
        name: _lay_out(v, case.size, case.layout) if isinstance(v, np.ndarray) else v
        for name, v in values.items()
    }
    if case.slope:
        name = case.operation.parameter
        assert name is not None
        shape = next(iter(operands.values())).shape
        operands[name] = SLOPES[case.slope](np.array(operands[name], dtype), shape)
    return operands


def _make_rows(operation: RowOperation, dtype: np.dtype[Any], case: Case) -> dict[str, Any]:
    """Make the operands of an operation on rows; one row if the layout has no shape."""
    rng = np.random.default_rng(2)
    shape = ROWS.get(case.layout, (case.size,))
    x = rng.normal(0, 4, shape).astype(dtype)
    if operation.output_of is None:
        return {"x": x}
    output: Array = row_ufuncs[operation.output_of](x)
    return {"grad": rng.normal(size=shape).astype(dtype), "y": output}


def _draw_timed_values(
    operation: Operation, dtype: np.dtype[Any], denormal: bool
) -> dict[str, Any]:
    """Draw the operands of an operation that is timed."""
    rng = np.random.default_rng(2)
    x = rng.normal(0, 4, VALUES).astype(dtype)
    if denormal:
        x = (rng.uniform(-1, 1, VALUES) * np.finfo(dtype).tiny).astype(dtype)
    return samples.operands(operation, x)


# Not as a decorator: stubtest would compare the two signatures.
_timed_values = functools.cache(_draw_timed_values)


def _lay_out(values: Array, size: int, layout: str) -> Any:
    if layout in ("number", "NumPy scalar"):
        return values[0].item() if layout == "number" else values[0]
    return lay_out(values, size, layout)


def make_out(case: Case, operands: dict[str, Any]) -> Array | None:
    """Make the array for the result of a case, or None for a new result per call."""
    if not case.out:
        return None
    first = next(iter(operands.values()))
    return np.empty(first.shape, first.dtype)
