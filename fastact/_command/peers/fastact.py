"""fastact itself, as one of those who are compared."""

import contextlib
from collections.abc import Iterator
from typing import Any

from fastact._command.peers.base import Array, Peer, Work
from fastact._core.operations import Operation, RowOperation
from fastact._core.runtime.threads import set_num_threads
from fastact._core.ufuncs import row_ufuncs, ufuncs

ALL = ufuncs | row_ufuncs


class Fastact(Peer):
    """Has every operation. A parameter is left out where it has its default value."""

    name, modules = "fastact", ("fastact",)

    def _parameter(self, value: Any) -> Any:
        return value

    def _work(
        self,
        operation: Operation | RowOperation,
        arrays: dict[str, Array],
        parameters: dict[str, Any],
        out: Array | None,
    ) -> Work:
        given = {
            name: value
            for name, value in parameters.items()
            if type(value) is not float or value != operation.default
        }
        values = {**arrays, **given}
        call = ", ".join(values)
        names = {"call": ALL[operation.name], "out": out, **values}
        return Work(f"call({call})" if out is None else f"call({call}, out=out)", names)

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        previous = set_num_threads(n)
        try:
            yield
        finally:
            set_num_threads(previous)
