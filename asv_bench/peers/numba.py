"""numba as a peer."""

import contextlib
import functools
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastact._command.peers import Array, Peer, Request, Work


class Numba(Peer):
    """Expects an expression of a single element, with the functions of `math`.

    Statements may come before it, each with a semicolon. It may be a tuple of the expression and a
    dict of constants.
    """

    name, modules = "numba", ("numba",)
    # The name alone would leave the features of this processor on.
    avx2 = ("NUMBA_CPU_NAME=haswell", "NUMBA_CPU_FEATURES=")

    def __init__(self) -> None:
        super().__init__()
        # This starts its threads, which may set the number of OpenMP's threads for the process,
        # and so for PyTorch. In a `threads` context that would be too late.
        self._package.get_num_threads()
        error = self._package.core.errors.NumbaError
        self._unsupported = (TypeError, NotImplementedError, error)
        self._kernels: dict[tuple[Any, ...], Any] = {}

    def _work(self, request: Request) -> Work | None:
        arrays, out = request.arrays, request.out
        values = dict(arrays) if out is None else {**arrays, "out": out}
        first = next(iter(values.values()))
        shape = first.shape
        # The ufunc takes any layout. A plain loop has the shorter call and is vectorised.
        flat = len(shape) == 1 or all(a.flags.c_contiguous for a in values.values())
        if flat:
            values = {name: array.reshape(-1) for name, array in values.items()}
        form = "ufunc" if not flat else "fresh" if out is None else "loop"
        kernel = self._kernel(request, first.dtype, form)

        def result(value: Any) -> Array:
            done: Array = next(reversed(values.values())) if value is None else value
            return done.reshape(shape)

        return Work(f"call({', '.join(values)})", {"call": kernel, **values}, result)

    def _kernel(self, request: Request, dtype: np.dtype[Any], form: str) -> Any:
        """Find the compiled function of a form: "loop" into `out`, "fresh" or "ufunc"."""
        operation, parameters = request.operation, request.parameters
        key = operation.name, dtype, tuple(parameters.values()), form, self._threads > 1
        if key not in self._kernels:
            recipe = request.recipe
            expression, constants = recipe if isinstance(recipe, tuple) else (recipe, {})
            formula = _formula(expression, parameters | constants, list(request.arrays), dtype)
            self._kernels[key] = (
                self._package.vectorize(formula)
                if form == "ufunc"
                else self._loop(formula, len(request.arrays), form == "fresh")
            )
        return self._kernels[key]

    def _loop(self, formula: Any, arity: int, fresh: bool) -> Any:
        prange = self._package.prange  # a plain range except with parallel=True
        formula = self._package.njit(error_model="numpy")(formula)

        def unary(a: Any, out: Any) -> None:
            for i in prange(a.size):
                out[i] = formula(a[i])

        def binary(a: Any, b: Any, out: Any) -> None:
            for i in prange(a.size):
                out[i] = formula(a[i], b[i])

        def unary_fresh(a: Any) -> Any:
            out = np.empty_like(a)
            loop(a, out)
            return out

        def binary_fresh(a: Any, b: Any) -> Any:
            out = np.empty_like(a)
            loop(a, b, out)
            return out

        njit = functools.partial(self._package.njit, error_model="numpy")
        loop = njit(unary if arity == 1 else binary, parallel=self._threads > 1)
        if not fresh:
            return loop
        return njit(unary_fresh if arity == 1 else binary_fresh)

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        default = self._package.get_num_threads()
        self._package.set_num_threads(n)
        try:
            with super().threads(n):
                yield
        finally:
            self._package.set_num_threads(default)


def _formula(
    expression: str, constants: dict[str, float], operands: list[str], dtype: np.dtype[Any]
) -> Any:
    """Make a function with typed numbers: next to those of Python, numba computes in double."""
    numbers = dict(constants)

    def name_of(number: re.Match[str]) -> str:
        name = f"number_{number[0].replace('.', '_')}"
        numbers[name] = float(number[0])
        return name

    code = re.sub(r"\b\d[\d.]*", name_of, expression)
    names = vars(math) | {name: dtype.type(number) for name, number in numbers.items()}
    *steps, result = code.split("; ")
    exec(f"def formula({', '.join(operands)}): {'; '.join([*steps, f'return {result}'])}", names)
    return names["formula"]
