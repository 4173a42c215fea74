"""SciPy as a peer."""

from fastact._command.peers.base import Array, Peer, Work
from fastact._core.operations import Operation, RowOperation


class SciPy(Peer):
    """Expects the name of a ufunc of `scipy.special`."""

    name, modules = "SciPy", ("scipy", "scipy.special")

    def _work(
        self,
        operation: Operation | RowOperation,
        arrays: dict[str, Array],
        parameters: dict[str, float],
        out: Array | None,
    ) -> Work | None:
        if self.name not in operation.peers:
            return None
        values = {**arrays, **parameters}
        ufunc = getattr(self._package.special, operation.peers[self.name])
        call = ", ".join(values)
        names = {"call": ufunc, "out": out, **values}
        return Work(f"call({call})" if out is None else f"call({call}, out=out)", names)
