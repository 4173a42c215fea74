"""SciPy as a peer."""

from fastact._command.peers import Peer, Request, Work


class SciPy(Peer):
    """Expects the name of a ufunc of `scipy.special`."""

    name, modules = "SciPy", ("scipy", "scipy.special")

    def _work(self, request: Request) -> Work | None:
        ufunc = getattr(self._package.special, request.recipe)
        return Work.of(ufunc, {**request.arrays, **request.parameters}, request.out)
