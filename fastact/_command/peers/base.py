"""What all peers have in common: a prepared piece of work, and the class of those who do it."""

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from timeit import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._core.operations import Operation, RowOperation

Array = NDArray[Any]


@dataclass(frozen=True)
class Work:
    """One operation on given arrays, ready to be performed or timed.

    Attributes
    ----------
    statement : str
        An expression that performs it. It is text because a function around it would cost 50 ns.
    names : dict
        What the expression refers to.
    result : callable
        Makes an ndarray of the value of the expression. This is not timed.
    """

    statement: str
    names: dict[str, Any]
    result: Callable[[Any], Array] = np.asarray

    def __call__(self) -> Array:
        """Perform it once."""
        return self.result(self._run())

    @functools.cached_property
    def _run(self) -> Callable[[], Any]:
        run: Callable[[], Any] = eval(f"lambda: {self.statement}", self.names)
        return run

    def timer(self) -> Timer:
        """Make a timer of the expression alone."""
        return Timer(self.statement, globals=self.names)


class Peer:
    """A package that computes the same.

    How it computes an operation is in the record of the operation, `Operation.peers`, under the
    name of the peer. The docstring of each class says what it expects there.

    Attributes
    ----------
    name : str
    version : str
    modules : tuple of str
        The modules that must be installed.
    """

    name: str
    version: str
    modules: tuple[str, ...]
    # What the package raises for operands that it does not support.
    _unsupported: tuple[type[Exception], ...] = (TypeError,)

    def __init__(self) -> None:
        for module in reversed(self.modules):
            self._package = importlib.import_module(module)
        self.version = self._package.__version__

    def prepare(
        self, operation: Operation | RowOperation, operands: dict[str, Any], out: Array | None
    ) -> Work | None:
        """Do everything that need not be timed, and perform the operation once.

        Parameters
        ----------
        operation : Operation
        operands : dict of str to ndarray or float
            As `fastact._command.inputs.operands` makes them. A parameter may be an array.
        out : ndarray or None
            Where to store the result, if the peer can do so. None asks for a new array per call.

        Returns
        -------
        Work or None
            To be called in the same `threads` context. None if the peer lacks the operation, or
            does not support these operands.
        """
        arrays = dict(operands)
        parameters = {}
        if operation.parameter in arrays:
            value = self._parameter(arrays.pop(operation.parameter))
            if value is None:
                return None
            parameters[operation.parameter] = value
        dtype = result_type(operation, operands)
        try:
            with np.errstate(all="ignore"):
                work = self._work(operation, arrays, parameters, out)
                fits = work is not None and work().dtype == dtype
        except self._unsupported:
            return None
        return work if fits else None

    def _parameter(self, value: Any) -> Any:
        """Convert a parameter to what the package takes: a float. None if it takes none like it."""
        return float(np.ravel(value)[0]) if np.size(value) == 1 else None

    def _work(
        self,
        operation: Operation | RowOperation,
        arrays: dict[str, Array],
        parameters: dict[str, Any],
        out: Array | None,
    ) -> Work | None:
        raise NotImplementedError

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        """Let the peer use `n` threads for what is prepared and performed in this context."""
        yield


def result_type(operation: Operation | RowOperation, operands: dict[str, Any]) -> np.dtype[Any]:
    """Find the type that NumPy would give the result."""
    typed = [value for value in operands.values() if type(value) is not float]
    wanted = np.result_type(*typed) if typed else np.dtype(np.float64)
    if wanted.kind in "biu" and not operation.integers:
        wanted = np.exp.resolve_dtypes((wanted, None))[1]
    return wanted
