"""numexpr as a peer."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastact._command.peers.base import Array, Peer, Work
from fastact._core.operations import Operation, RowOperation


class NumExpr(Peer):
    """Expects an expression in the names of the operands.

    A tuple of it and a dict has constants besides, which are of the type of the operands. Numbers
    in the expression, other than integers, would make float64 of float32.
    """

    name, modules = "numexpr", ("numexpr",)

    def _work(
        self,
        operation: Operation | RowOperation,
        arrays: dict[str, Array],
        parameters: dict[str, float],
        out: Array | None,
    ) -> Work | None:
        named = operation.peers.get(self.name)
        expression, constants = named if isinstance(named, tuple) else (named, {})
        dtype = next(iter(arrays.values())).dtype
        kind = {"float32": float, "float64": np.float64}.get(dtype.name)  # in its language
        if expression is None or kind is None:
            return None
        values: dict[str, Any] = dict(arrays)
        values |= {n: np.array(value, dtype) for n, value in (parameters | constants).items()}
        # `evaluate` looks up names, types and cache anew in every call.
        signature = [(name, kind) for name in values]
        names = {"call": self._package.NumExpr(expression, signature), "out": out, **values}
        call = f"{', '.join(values)}, ex_uses_vml={self._package.use_vml}"
        return Work(f"call({call})" if out is None else f"call({call}, out=out)", names)

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        previous = self._package.set_num_threads(n)
        try:
            yield
        finally:
            self._package.set_num_threads(previous)
