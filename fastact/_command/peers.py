"""Who is compared: a prepared piece of work, the class of those who do it, fastact and NumPy.

The peers besides NumPy are in `asv_bench/peers` of the source tree: see `load_developers`.
"""

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from timeit import Timer
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact._core.operations import Operation, RowOperation
from fastact._core.runtime.threads import set_num_threads
from fastact._core.ufuncs import row_ufuncs, ufuncs

Array = NDArray[Any]
DEVELOPERS = "fastact_developers"
NO_DEVELOPERS = (
    "--peers and --epoch need asv_bench, which is not installed: run this in the top folder of a "
    "clone of the repository"
)


def load_developers() -> Any:
    """Import `asv_bench/peers`: of the tree that this is a part of, or of the current folder.

    None if neither has it.
    """
    for root in Path(__file__).parents[2], Path.cwd():
        folder = root / "asv_bench" / "peers"
        if DEVELOPERS not in sys.modules and (folder / "__init__.py").exists():
            load_package(folder, DEVELOPERS)
    return sys.modules.get(DEVELOPERS)


def load_package(folder: Path, name: str) -> None:
    """Import a package from its folder, under a name of its own."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


class Request(NamedTuple):
    """What a peer is asked for."""

    operation: Operation | RowOperation
    recipe: Any  # how the peer computes it: see `Peer.recipe`
    arrays: dict[str, Array]
    parameters: dict[str, Any]
    out: Array | None


@dataclass(frozen=True)
class Work:
    """One operation on given arrays, ready to be performed or timed."""

    # An expression that performs it. It is text because a function around it would cost 50 ns.
    statement: str
    names: dict[str, Any]  # what the expression refers to
    # Makes an ndarray of the value of the expression. This is not timed.
    result: Callable[[Any], Array] = np.asarray

    @classmethod
    def of(cls, function: Any, values: dict[str, Any], out: Any, more: str = "") -> "Work":
        """Call a function with values by position, and with `out=` unless it is None."""
        end = more if out is None else f"{more}, out=out"
        return cls(f"call({', '.join(values)}{end})", {"call": function, "out": out, **values})

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
    """A package that computes the same."""

    name: str
    version: str
    modules: tuple[str, ...]  # that must be installed
    # Variables of the environment that hold it to AVX2, if they are set before its import; none if
    # it does not go beyond. None if it cannot be held.
    avx2: tuple[str, ...] | None = ()
    # What the package raises for operands that it does not support.
    _unsupported: tuple[type[Exception], ...] = (TypeError,)
    _threads = 1

    def __init__(self) -> None:
        for module in reversed(self.modules):
            self._package = importlib.import_module(module)
        self.version = self._package.__version__

    def prepare(
        self, operation: Operation | RowOperation, operands: dict[str, Any], out: Array | None
    ) -> Work | None:
        """Do everything that need not be timed, and perform the operation once.

        The operands are those of `fastact._command.samples.operands`; a parameter may be an array.
        The result goes to `out`, if the peer can do so; None asks for a new array per call. The
        work is to be called in the same `threads` context. None if the peer lacks the operation,
        or does not support these operands.
        """
        arrays, parameters, recipe = dict(operands), {}, self.recipe(operation)
        if recipe is None:
            return None
        if operation.parameter in arrays:
            value = self._parameter(arrays.pop(operation.parameter))
            if value is None:
                return None
            parameters[operation.parameter] = value
        dtype = result_type(operation, operands)
        try:
            with np.errstate(all="ignore"):
                work = self._work(Request(operation, recipe, arrays, parameters, out))
                fits = work is not None and work().dtype == dtype
        except self._unsupported:
            return None
        return work if fits else None

    def recipe(self, operation: Operation | RowOperation) -> Any:
        """Find how it computes an operation: in `Operation.peers`, under its name; None if not.

        The docstring of each class says what it expects there.
        """
        return operation.peers.get(self.name)

    def _parameter(self, value: Any) -> Any:
        """Convert a parameter to what the package takes: a float. None if it takes none like it."""
        return float(np.ravel(value)[0]) if np.size(value) == 1 else None

    def _work(self, request: Request) -> Work | None:
        raise NotImplementedError

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        """Let the peer use `n` threads for what is prepared and performed in this context."""
        previous = self._set_threads(n)
        try:
            yield
        finally:
            self._set_threads(previous)

    def _set_threads(self, n: int) -> int:
        """Set the number of threads, and return the previous one."""
        previous, self._threads = self._threads, n
        return previous


def result_type(operation: Operation | RowOperation, operands: dict[str, Any]) -> np.dtype[Any]:
    """Find the type that NumPy would give the result."""
    typed = [value for value in operands.values() if type(value) is not float]
    wanted = np.result_type(*typed) if typed else np.dtype(np.float64)
    if wanted.kind in "biu" and not operation.integers:
        wanted = np.exp.resolve_dtypes((wanted, None))[1]
    return wanted


class Fastact(Peer):
    """fastact itself. A parameter is left out where it has its default value."""

    name, modules = "fastact", ("fastact",)
    avx2 = ("FASTACT_ISA=avx2",)

    def recipe(self, operation: Operation | RowOperation) -> Any:
        return (ufuncs | row_ufuncs)[operation.name]

    def _parameter(self, value: Any) -> Any:
        return value

    def _work(self, request: Request) -> Work:
        default = request.operation.default
        given = {
            name: value
            for name, value in request.parameters.items()
            if type(value) is not float or value != default
        }
        return Work.of(request.recipe, {**request.arrays, **given}, request.out)

    def _set_threads(self, n: int) -> int:
        return set_num_threads(n)


# The names that this version of NumPy has. It warns of others.
_DISPATCHED = importlib.import_module("numpy._core._multiarray_umath").__cpu_dispatch__
_BEYOND_AVX2 = [name for name in _DISPATCHED if name == "X86_V4" or name.startswith("AVX512")]


class NumPy(Peer):
    """Composes every operation: `Operation.numpy`."""

    name, modules = "NumPy", ("numpy",)
    avx2 = (f"NPY_DISABLE_CPU_FEATURES={' '.join(_BEYOND_AVX2)}",)

    def recipe(self, operation: Operation | RowOperation) -> Any:
        return operation.numpy

    def _parameter(self, value: Any) -> Any:
        return value

    def _work(self, request: Request) -> Work:
        values = {**request.arrays, **request.parameters}
        if request.out is not None:
            return Work.of(request.recipe, values, request.out)
        names = {"call": request.recipe, "empty_like": np.empty_like, **values}
        names["dtype"] = result_type(request.operation, values)
        new = f"empty_like({next(iter(values))}, dtype)"
        return Work(f"call({', '.join(values)}, out={new})", names)
