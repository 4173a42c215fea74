"""The sweeps of operations on rows: errors over samples, and the same bits everywhere."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastact._command.check.inputs import Inputs
from fastact._command.check.sweeps import SEED, Array, Sweep, Values, call, float_types
from fastact._core import ufuncs
from fastact._core.operations import ROW_OPERATIONS

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


@dataclass(frozen=True)
class RowSweep(Sweep):
    """An operation on rows. Its inputs are draws, each of some rows of one length."""

    operands = "rows sampled"
    block = 1
    cost = 100 * ELEMENTS
    places: tuple[int, ...] = ()  # of each draw, how many of the same length are before it

    def values(self, start: int) -> Values:
        """Make the operands of a draw, by name; the same ones in every run."""
        x = self.inputs.part(start, start + 1).astype(self.dtype)
        if self.operation.output_of is None:
            return {"x": x}
        random = np.random.default_rng([SEED, x.shape[1], self.places[start]])
        output = ufuncs.row_ufuncs[self.operation.output_of](x)
        return {"grad": random.normal(0, 1, x.shape).astype(self.dtype), "y": output}

    def at(self, values: Values, index: int) -> dict[str, Any]:
        """Tell the length of the row, and which of the rows of that draw it is."""
        elements = next(iter(values.values())).shape[1]
        return {"elements": elements, "row": index // elements}


def list_row_sweeps(options: argparse.Namespace) -> Iterator[RowSweep]:
    """List what is to be checked of operations on rows."""
    isas = [name for name in ufuncs.supported if options.isa in (None, name)]
    tables = {isa: ufuncs.make_row_ufuncs(isa) for isa in isas}
    elements = MANY_ELEMENTS if options.exhaustive else ELEMENTS
    lengths = LENGTHS + MORE_LENGTHS if options.exhaustive else LENGTHS
    by_length = [_draws(n, elements) for n in lengths]
    draws = [draw for of_length in by_length for draw in of_length]
    places = tuple(i for of_length in by_length for i in range(len(of_length)))
    inputs = Inputs(len(draws), lambda start, stop: _draw(*draws[start]))
    for dtype in float_types():
        for operation in ROW_OPERATIONS:
            if options.operation in (None, operation.name):
                computes = {isa: call(tables[isa][operation.name]) for isa in isas}
                bounds = operation.bounds
                bound = bounds.wide if dtype.itemsize > 2 else bounds.narrow
                yield RowSweep(operation, dtype, True, inputs, computes, bound=bound, places=places)


def _draws(n: int, elements: int) -> list[tuple[int, int, float, int | None]]:
    """List draws of rows: how many elements, how many rows, the scale, and which of `SHARES`.

    There is one row of each kind if it has more than `elements`.
    """
    scales, shares = (SCALES, SHARES) if n <= elements else (SCALES[1:2], SHARES[:1])
    draws: list[tuple[int, int, float, int | None]]
    draws = [(n, max(1, elements // n), scale, None) for scale in scales]
    return draws + [(n, max(1, elements // n), 1, i) for i in range(len(shares) if n > 1 else 0)]


def _draw(n: int, rows: int, scale: float, share: int | None) -> Array:
    """Make normal numbers, or one large element in each row, among equal or normal ones."""
    if share is None:
        return np.random.default_rng([SEED, n, int(100 * scale)]).normal(0, scale, (rows, n))
    x = np.full((rows, n), np.log(SHARES[share] / (n - 1)))
    random = np.random.default_rng([SEED, n, share])
    # Half of the rows: the errors of equal terms add up.
    x[1::2] += random.normal(0, 1, x[1::2].shape)
    x[:, random.integers(n)] = 0
    return x
