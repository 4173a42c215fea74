"""The check of operations on rows: errors over samples, and the same bits everywhere."""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command.check.cases import float_types
from fastact._command.errors import exact_rows, rounded, ulp_error, wider
from fastact._core import ufuncs
from fastact._core.operations import ROW_OPERATIONS, RowOperation

Array = NDArray[Any]
# The shortest rows, those that fill a vector or do not, and one that is longer than a cache line.
LENGTHS = (1, 2, 3, 10, 64, 1000)
# How far the elements are from each other: alike, ordinary, and so that most results are tiny.
SCALES = (0.01, 1.0, 10.0, 100.0)
# Elements of each length and scale.
ELEMENTS = 1 << 14
MANY_ELEMENTS = 1 << 20
SEED = 20240229


def check_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure each operation and dtype; yield lines of the report, one per instruction set."""
    isas = [name for name in ufuncs.supported if options.isa in (None, name)]
    tables = {isa: ufuncs.make_row_ufuncs(isa) for isa in isas}
    operations = [op for op in ROW_OPERATIONS if options.operation in (None, op.name)]
    elements = MANY_ELEMENTS if options.exhaustive else ELEMENTS
    for dtype in float_types():
        for operation in operations:
            functions = {isa: tables[isa][operation.name] for isa in isas}
            yield from _measure(operation, dtype, functions, elements)


def _measure(
    operation: RowOperation, dtype: np.dtype[Any], functions: dict[str, Any], elements: int
) -> Iterator[dict[str, Any]]:
    bound = operation.bounds.wide if dtype.itemsize > 2 else operation.bounds.narrow
    rows: dict[str, dict[str, Any]] = {}
    for isa in functions:
        rows[isa] = {
            "operation": operation.name,
            "operands": "rows sampled",
            "dtype": str(dtype),
            "by": isa,
            "inputs": 0,
            "complete": True,
            "error": None if wider(dtype) is None else 0.0,
            "at": {},
            "misrounded": None if wider(dtype) is None else 0,
            "bound": bound,
            "faults": {},
            "broken": False,
        }
    for operands in _draw(operation, dtype, elements):
        exact = exact_rows(operation, dict(zip(operation.operands, operands, strict=True)), dtype)
        first: Array | None = None
        for isa, row in rows.items():
            result = functions[isa](*operands)
            row["inputs"] += result.size
            if exact is not None:
                _add_errors(row, result, *exact)
            first = result if first is None else first
            kind = f"u{dtype.itemsize}"
            different = (result.view(kind) != first.view(kind)).any(-1)
            if different.any():
                at = {"elements": str(result.shape[1]), "row": str(int(different.argmax()))}
                fault = row["faults"].setdefault("bits differ", {"count": 0, "at": at})
                fault["count"] += int(different.sum())
    for row in rows.values():
        over = row["error"] is not None and not row["error"] <= bound
        row["broken"] = over or bool(row["faults"])
        yield row


def _draw(
    operation: RowOperation, dtype: np.dtype[Any], elements: int
) -> Iterator[tuple[Array, ...]]:
    """Make the operands, the same ones in every run."""
    for n in LENGTHS:
        for scale in SCALES:
            random = np.random.default_rng([SEED, n, int(100 * scale)])
            shape = max(1, elements // n), n
            x = random.normal(0, scale, shape).astype(dtype)
            if operation.output_of is None:
                yield (x,)
            else:
                output = ufuncs.row_ufuncs[operation.output_of](x)
                yield random.normal(0, 1, shape).astype(dtype), output


def _add_errors(row: dict[str, Any], result: Array, exact: Array, size: Array) -> None:
    error = ulp_error(result, exact, size)
    worst = int(np.argmax(error))
    if not error.flat[worst] <= row["error"]:
        row["error"] = float(error.flat[worst])
        length = result.shape[1]
        row["at"] = {"elements": str(length), "row": str(worst // length)}
    row["misrounded"] += int(np.count_nonzero(result != rounded(exact, result.dtype)))
