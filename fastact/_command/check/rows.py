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
# The shortest rows, those that fill a vector or do not, and such as are computed in several
# pieces. The error of a sum grows with its length.
LENGTHS = (1, 2, 3, 10, 64, 1000, 33_000)
MORE_LENGTHS = (1_000_000, 10_000_000)
# How far the elements are from each other: alike, ordinary, and so that most results are tiny.
SCALES = (0.01, 1.0, 10.0, 100.0)
# What the terms of all other elements add up to, in units of that of the largest one. Small sums
# are added up apart, and what is small depends on the length and the type.
SHARES = (0.45, 1e-3, 2e-6, 1e-10)
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
    lengths = LENGTHS + MORE_LENGTHS if options.exhaustive else LENGTHS
    for dtype in float_types():
        for operation in operations:
            functions = {isa: tables[isa][operation.name] for isa in isas}
            yield from _measure(operation, dtype, functions, lengths, elements)


def _measure(
    operation: RowOperation,
    dtype: np.dtype[Any],
    functions: dict[str, Any],
    lengths: tuple[int, ...],
    elements: int,
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
    for operands in _draw(operation, dtype, lengths, elements):
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
    operation: RowOperation, dtype: np.dtype[Any], lengths: tuple[int, ...], elements: int
) -> Iterator[tuple[Array, ...]]:
    """Make the operands, the same ones in every run."""
    for n in lengths:
        for index, x in enumerate(_draw_rows(n, elements)):
            x = x.astype(dtype)
            if operation.output_of is None:
                yield (x,)
            else:
                random = np.random.default_rng([SEED, n, index])
                output = ufuncs.row_ufuncs[operation.output_of](x)
                yield random.normal(0, 1, x.shape).astype(dtype), output


def _draw_rows(n: int, elements: int) -> Iterator[Array]:
    """Make rows of normal numbers, and rows with one large element among equal or normal ones.

    There is one of each kind if a row has more than `elements`.
    """
    shape = max(1, elements // n), n
    scales, shares = (SCALES, SHARES) if n <= elements else (SCALES[1:2], SHARES[:1])
    for scale in scales:
        yield np.random.default_rng([SEED, n, int(100 * scale)]).normal(0, scale, shape)
    for index, share in enumerate(shares if n > 1 else ()):
        x = np.full(shape, np.log(share / (n - 1)))
        random = np.random.default_rng([SEED, n, index])
        # Half of the rows: the errors of equal terms add up.
        x[1::2] += random.normal(0, 1, x[1::2].shape)
        x[:, random.integers(n)] = 0
        yield x


def _add_errors(row: dict[str, Any], result: Array, exact: Array, size: Array) -> None:
    error = ulp_error(result, exact, size)
    worst = int(np.argmax(error))
    if not error.flat[worst] <= row["error"]:
        row["error"] = float(error.flat[worst])
        length = result.shape[1]
        row["at"] = {"elements": str(length), "row": str(worst // length)}
    row["misrounded"] += int(np.count_nonzero(result != rounded(exact, result.dtype)))
