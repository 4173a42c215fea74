"""numexpr as a peer."""

from typing import Any

import numpy as np

from fastact._command.peers import Peer, Request, Work


class NumExpr(Peer):
    """Expects an expression in the names of the operands.

    A tuple of it and a dict has constants besides, which are of the type of the operands. Numbers
    in the expression, other than integers, would make float64 of float32.
    """

    name, modules = "numexpr", ("numexpr",)

    def _work(self, request: Request) -> Work | None:
        named, arrays = request.recipe, request.arrays
        expression, constants = named if isinstance(named, tuple) else (named, {})
        dtype = next(iter(arrays.values())).dtype
        kind = {"float32": float, "float64": np.float64}.get(dtype.name)  # in its language
        if kind is None:
            return None
        values: dict[str, Any] = dict(arrays)
        values |= {
            n: np.array(value, dtype) for n, value in (request.parameters | constants).items()
        }
        # `evaluate` looks up names, types and cache anew in every call.
        signature = [(name, kind) for name in values]
        function = self._package.NumExpr(expression, signature)
        return Work.of(function, values, request.out, f", ex_uses_vml={self._package.use_vml}")

    def _set_threads(self, n: int) -> int:
        previous: int = self._package.set_num_threads(n)
        return previous
