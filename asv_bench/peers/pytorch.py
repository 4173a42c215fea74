"""PyTorch as a peer."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastact._command.peers import Array, Peer, Request, Work


class PyTorch(Peer):
    """Expects two statements: one that makes a new result, and one that writes into `out`.

    If the operation has a parameter, a third one may make a new result with a value per channel.
    They call a function of `torch` on tensors named like the operands, and a parameter is a float,
    or a tensor with a value per channel. A function that lies deeper than `torch.relu` does is
    looked up beforehand.
    """

    name, modules = "PyTorch", ("torch",)
    avx2 = (
        "ATEN_CPU_CAPABILITY=avx2",
        "ONEDNN_MAX_CPU_ISA=AVX2",
        "MKL_ENABLE_INSTRUCTIONS=AVX2",
    )
    # Raised by its kernels, by `from_numpy` for a dtype, and for negative strides.
    _unsupported = (RuntimeError, TypeError, ValueError)

    def _parameter(self, value: Any) -> Any:
        return value if np.size(value) > 1 else super()._parameter(value)

    def _work(self, request: Request) -> Work | None:
        _, statements, arrays, parameters, out = request
        names: dict[str, Any] = {"torch": self._package, **parameters}
        statement = statements[out is not None]
        for name, value in parameters.items():
            if not isinstance(value, np.ndarray):
                continue
            shape = next(iter(arrays.values())).shape
            if out is not None or len(statements) < 3 or value.size != [*shape, 0][1]:
                return None
            statement = statements[2]
            names[name] = self._tensor(value.reshape(-1))
        function, bracket, rest = statement.partition("(")
        _, *attributes = function.split(".")
        if len(attributes) > 1:
            names["call"] = functools.reduce(getattr, attributes, self._package)
            statement = f"call{bracket}{rest}"
        names |= {name: self._tensor(array) for name, array in arrays.items()}
        if out is not None:
            names["out"] = self._tensor(out)
        dtype = next(iter(arrays.values())).dtype
        return Work(statement, names, lambda tensor: self._array(tensor, dtype))

    def _tensor(self, array: Array) -> Any:
        """View an array as a tensor. `from_numpy` does not know the bfloat16 of ml_dtypes."""
        if array.dtype.name == "bfloat16":
            return self._package.from_numpy(array.view(np.int16)).view(self._package.bfloat16)
        return self._package.from_numpy(array)

    def _array(self, tensor: Any, dtype: np.dtype[Any]) -> Array:
        if tensor.dtype == self._package.bfloat16:
            tensor = tensor.view(self._package.int16)
        array: Array = tensor.numpy()
        return array.view(dtype)

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        # NumPy does not record operations for autograd, so PyTorch must not either.
        with super().threads(n), self._package.inference_mode():
            yield

    def _set_threads(self, n: int) -> int:
        previous: int = self._package.get_num_threads()
        self._package.set_num_threads(n)
        return previous
