"""JAX as a peer."""

import functools
from typing import Any

from fastact._command.peers import Peer, Request, Work


class JAX(Peer):
    """Expects the name of a function of `jax.nn`; of a backward pass, that of its activation.

    A tuple of a name and a dict has keyword arguments besides. Parameters are given by name.
    Gradients start from the input. JAX cannot write into an array of the caller: even with `out`,
    the result is a new one.
    """

    name, modules = "JAX", ("jax",)
    avx2 = ("XLA_FLAGS=--xla_cpu_max_isa=AVX2",)

    def __init__(self) -> None:
        super().__init__()
        self._package.config.update("jax_enable_x64", True)
        self._device = self._package.devices("cpu")[0]

    def _work(self, request: Request) -> Work | None:
        vjp = self._package.vjp
        named, arrays = request.recipe, request.arrays
        name, settings = (named, {}) if isinstance(named, str) else named
        activation: Any = getattr(self._package.nn, name)
        if settings or request.parameters:
            activation = functools.partial(activation, **settings, **request.parameters)
        call = activation
        if not request.operation.forward:

            def call(grad: Any, x: Any) -> Any:
                return vjp(activation, x)[1](grad)[0]

        names = {key: self._package.device_put(a, self._device) for key, a in arrays.items()}
        names["call"] = self._package.jit(call)
        return Work(f"call({', '.join(arrays)}).block_until_ready()", names)
