"""What `fastact check` measures: operations, dtypes, inputs, and who computes."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastact._command.check import inputs
from fastact._command.errors import exact
from fastact._core import ufuncs
from fastact._core.operations import BY_NAME, OPERATIONS, Operation, RowOperation

if TYPE_CHECKING:
    from fastact._command.peers import Peer

Array = NDArray[Any]
Values = dict[str, Any]
Compute = Callable[[Values], Array]

# All arrays of a block, those in float64 too, fit into the L2 cache at the same time.
BLOCK = 1 << 14
# gmpy2 takes some 10 us an element.
SLOW_BLOCK = 1 << 10
SEED = 20240229
# How many numbers on either side of a zero of a derivative are tried with every gradient.
NEAR = 16


@dataclass(frozen=True)
class Sweep:
    """One operation and dtype over inputs. It has a line of the report for each who computes."""

    operation: Operation | RowOperation
    dtype: np.dtype[Any]
    sampled: bool  # whether the operands besides the input are pseudo-random, not constant
    inputs: inputs.Inputs
    computes: dict[str, Compute]  # who computes, by name
    limit: float = np.inf  # the greatest absolute value of `x` that is tried, NaN apart
    # The greatest error allowed. Without, peers compute: nothing can be broken, and no bits are
    # compared.
    bound: float | None = None

    @property
    def operands(self) -> str:
        """What is special about the operands."""
        names = [name for name in self.operation.operands if name not in "xy"]
        if self.sampled:
            texts = [f"{name} sampled" for name in names]
        else:
            texts = [f"{name}={self._constant(name):g}" for name in names]
        if self.limit < np.inf:
            texts.append(f"|x| <= {self.limit:.1f}")
        return ", ".join(texts)

    @property
    def block(self) -> int:
        """How many inputs to take at a time."""
        return SLOW_BLOCK if self.dtype == np.float64 else BLOCK

    @property
    def cost(self) -> int:
        """How many nanoseconds an input takes, about."""
        if self.dtype == np.float64:
            return 60_000 if self.operation.costly else 30_000
        return 80 if self.operation.costly else 20

    def values(self, start: int) -> Values:
        """Make the operands of a block, by name; the same ones in every run."""
        x = self.inputs.part(start, start + self.block)
        with np.errstate(invalid="ignore"):
            if self.operation.output_of is not None:
                lowest, highest = BY_NAME[self.operation.output_of].range or (-np.inf, np.inf)
                x = x[~((x < lowest) | (x > highest))]  # NaN stays
            elif self.limit < np.inf:
                x = x[~(np.abs(x) > self.limit)]
        values: Values = {}
        for i, name in enumerate(self.operation.operands):
            if name in "xy":
                values[name] = x
            elif self.sampled:
                values[name] = inputs.random_numbers(self.dtype, len(x), (SEED, start, i))
                if name == "grad" and self.inputs.random is not None:
                    every = inputs.patterns(self.dtype, self.inputs.size)
                    random = max(self.inputs.random - start, 0)
                    values[name][random:] = every.part(start + random, start + len(x))
            else:
                constant = self._constant(name)
                values[name] = np.full_like(x, constant) if name == "grad" else constant
        return values

    def at(self, values: Values, index: int) -> dict[str, Any]:
        """Tell what an element of a result is computed from."""
        return {name: v[index] if np.ndim(v) else v for name, v in values.items()}

    def _constant(self, name: str) -> Any:
        return 1.0 if name == "grad" else self.operation.default


def list_sweeps(options: argparse.Namespace) -> Iterator[Sweep]:
    """List what is to be checked."""
    isas = [name for name in ufuncs.supported if options.isa in (None, name)]
    tables = {isa: ufuncs.make_ufuncs(isa) for isa in isas}
    for dtype in float_types():
        for operation in _chosen(options):
            computes = {isa: call(tables[isa][operation.name]) for isa in isas}
            for sampled in (False, True) if len(operation.operands) > 1 else (False,):
                bounds = operation.bounds
                narrow = bounds.narrow_sampled if sampled else bounds.narrow
                bound = bounds.wide if dtype.itemsize > 2 else narrow
                near = near_zeros(operation, dtype) if sampled and dtype.itemsize == 2 else None
                chosen = inputs.choose(dtype, options.exhaustive, sampled, near)
                yield Sweep(operation, dtype, sampled, chosen, computes, bound=bound)


def near_zeros(operation: Operation, dtype: np.dtype[Any]) -> Array | None:
    """Find the numbers of a 16-bit type next to a zero of a derivative; None if there is no zero.

    The error of a sum that cancels is larger there than any sample of gradients is sure to show.
    """
    if operation.operands != ("grad", "x"):
        return None
    x = inputs.patterns(dtype, 1 << 16).part(0, 1 << 16)
    with np.errstate(invalid="ignore"):
        x = np.sort(x[np.isfinite(x)])
    slopes = exact(operation, {"grad": np.ones_like(x), "x": x}, dtype)
    assert slopes is not None  # float64 is wider
    (at,) = np.nonzero(slopes[:-1] * slopes[1:] < 0)
    return x[at[:, None] + np.arange(1 - NEAR, 1 + NEAR)].ravel() if at.size else None


def _chosen(options: argparse.Namespace) -> list[Operation]:
    return [op for op in OPERATIONS if options.operation in (None, op.name)]


def call(ufunc: Callable[..., Any]) -> Compute:
    """Make a function of operands by name."""
    return lambda values: np.asarray(ufunc(*values.values()))


def float_types() -> list[np.dtype[Any]]:
    """Find the floating-point types; bfloat16 only where ml_dtypes is installed."""
    dtypes = [np.dtype(name) for name in ("float16", "float32", "float64")]
    with contextlib.suppress(ImportError, TypeError):
        from ml_dtypes import bfloat16

        dtype = np.dtype(bfloat16)
        unary = next(op.name for op in OPERATIONS if len(op.operands) == 1)
        if ufuncs.ufuncs[unary](np.zeros(1, dtype)).dtype == dtype:
            dtypes.insert(1, dtype)
    return dtypes


def list_peer_sweeps(options: argparse.Namespace, peers: "list[Peer]") -> Iterator[Sweep]:
    """List the cases of peers and of fastact, for operations that are not correctly rounded.

    Where there is an exponential in it, the inputs are tried a second time without those at
    which exp(-|x|) is subnormal or 0. Most peers lose everything there, which says nothing about
    them elsewhere.
    """
    for operation in _chosen(options):
        if operation.correctly_rounded:
            continue
        for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
            exhaustive = options.exhaustive and len(operation.operands) == 1
            chosen = inputs.choose(dtype, exhaustive, sampled=False)
            sweep = Sweep(operation, dtype, False, chosen, {})
            values = sweep.values(0)
            sweep.computes["fastact"] = call(ufuncs.ufuncs[operation.name])
            for peer in peers:
                out = np.empty_like(next(iter(values.values())))
                if peer.prepare(operation, values, out) is not None:
                    sweep.computes[f"{peer.name} {peer.version}"] = _call_peer(peer, operation)
            yield sweep
            if operation.costly:
                yield replace(sweep, limit=-float(np.log(np.finfo(dtype).smallest_normal)))


def _call_peer(peer: "Peer", operation: Operation) -> Compute:
    def compute(values: Values) -> Array:
        # Prepared anew for every block, because some peers copy the operands.
        out = np.empty_like(next(iter(values.values())))
        work = peer.prepare(operation, values, out)
        assert work is not None  # as for the first block
        return work()

    return compute
