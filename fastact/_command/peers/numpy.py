"""NumPy as a peer."""

from typing import Any

import numpy as np

from fastact._command.peers.base import Array, Peer, Work
from fastact._core.operations import Operation


class NumPy(Peer):
    """Composes every operation: `Operation.numpy`."""

    name, modules = "NumPy", ("numpy",)

    def _work(
        self,
        operation: Operation,
        arrays: dict[str, Array],
        parameters: dict[str, float],
        out: Array | None,
    ) -> Work | None:
        names: dict[str, Any] = {"call": operation.numpy, "empty_like": np.empty_like, **arrays}
        call = ", ".join([*arrays, *map(repr, parameters.values())])
        if out is None:
            return Work(f"call({call}, out=empty_like({next(iter(arrays))}))", names)
        return Work(f"call({call}, out=out)", {**names, "out": out})
