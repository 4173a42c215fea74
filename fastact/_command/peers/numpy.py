"""NumPy as a peer."""

from typing import Any

import numpy as np

from fastact._command.peers.base import Array, Peer, Work, result_type
from fastact._core.operations import Operation, RowOperation


class NumPy(Peer):
    """Composes every operation: `Operation.numpy`."""

    name, modules = "NumPy", ("numpy",)

    def _parameter(self, value: Any) -> Any:
        return value

    def _work(
        self,
        operation: Operation | RowOperation,
        arrays: dict[str, Array],
        parameters: dict[str, Any],
        out: Array | None,
    ) -> Work | None:
        names: dict[str, Any] = {"call": operation.numpy, **arrays, **parameters}
        call = ", ".join([*arrays, *parameters])
        if out is not None:
            return Work(f"call({call}, out=out)", {**names, "out": out})
        names["empty_like"] = np.empty_like
        first = next(iter(arrays))
        names["dtype"] = result_type(operation, {**arrays, **parameters})
        return Work(f"call({call}, out=empty_like({first}, dtype))", names)
