"""The same operations as other packages do them, for comparison.

A peer is a package that is installed here: NumPy, SciPy, PyTorch, numba, numexpr, ONNX
Runtime, JAX. Each is used as someone would who knows it well: results go into `out` where
it can write there, views, models and compiled code are made in `Peer.prepare`, and there is
no layer of Python around the call that is not the package's own. An operation that a peer
does not offer is not composed of others, but by NumPy, numba and numexpr, which are for
composing.
"""

import contextlib
import functools
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from timeit import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command import reference

Array = NDArray[Any]


@dataclass(frozen=True)
class Work:
    """One operation on arrays that are given, ready to be performed, or timed.

    Attributes
    ----------
    statement : str
        An expression that performs it. Text, because a function around it would cost 50 ns.
    names : dict
        What the expression refers to.
    result : callable
        Makes an ndarray of the value of the expression; not timed.
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

    Attributes
    ----------
    name : str
    version : str
    modules : tuple of str
        What has to be installed.
    """

    name: str
    version: str
    modules: tuple[str, ...]
    # What the package raises for operands that it does not take.
    _unsupported: tuple[type[Exception], ...] = (TypeError,)

    def __init__(self) -> None:
        for module in reversed(self.modules):
            self._package = importlib.import_module(module)
        self.version = self._package.__version__

    def prepare(self, operation: str, operands: dict[str, Any], out: Array | None) -> Work | None:
        """Do everything that need not be timed, and perform the operation once.

        Parameters
        ----------
        operation : str
            The name of a row of `fastact._core.operations.OPERATIONS`.
        operands : dict of str to ndarray or float
            As of `fastact._command.reference.operands`.
        out : ndarray or None
            Where the result goes, if the peer can write there; None asks for a new array
            per call.

        Returns
        -------
        Work or None
            To be called in the same `threads` context. None where the peer lacks the
            operation, or has it not for these operands.
        """
        arrays = {name: value for name, value in operands.items() if name != "negative_slope"}
        slope = operands.get("negative_slope", 0.0)
        if np.ndim(slope):
            return None
        dtype = next(iter(arrays.values())).dtype
        try:
            with np.errstate(all="ignore"):
                work = self._work(operation, arrays, float(slope), out)
                fits = work is not None and work().dtype == dtype
        except self._unsupported:
            return None
        return work if fits else None

    def _work(
        self, operation: str, arrays: dict[str, Array], slope: float, out: Array | None
    ) -> Work | None:
        raise NotImplementedError

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        """Let the peer use `n` threads for what is prepared and performed in this context."""
        yield


class _NumPy(Peer):
    name, modules = "NumPy", ("numpy",)

    def _work(
        self, operation: str, arrays: dict[str, Array], slope: float, out: Array | None
    ) -> Work | None:
        names = {"call": reference.NUMPY[operation], "empty_like": np.empty_like, **arrays}
        call = ", ".join(arrays)
        if "leaky" in operation:
            call += f", {slope!r}"
        if out is None:
            return Work(f"call({call}, out=empty_like({next(iter(arrays))}))", names)
        return Work(f"call({call}, out=out)", {**names, "out": out})


class _SciPy(Peer):
    name, modules = "SciPy", ("scipy", "scipy.special")

    def _work(
        self, operation: str, arrays: dict[str, Array], slope: float, out: Array | None
    ) -> Work | None:
        if operation != "sigmoid":
            return None
        names = {"expit": self._package.special.expit, "out": out, **arrays}
        return Work("expit(x)" if out is None else "expit(x, out=out)", names)


class _PyTorch(Peer):
    name, modules = "PyTorch", ("torch",)
    # Without and with `out`. relu.out computes elsewhere and copies, clamp_min.out does not.
    _STATEMENTS = {
        "relu": ("torch.relu(x)", "torch.clamp_min(x, 0, out=out)"),
        "leaky_relu": ("leaky_relu(x, slope)", "leaky_relu(x, slope, out=out)"),
        "sigmoid": ("torch.sigmoid(x)", "torch.sigmoid(x, out=out)"),
        "relu_backward": (
            "aten.threshold_backward.default(grad, x, 0)",
            "aten.threshold_backward.grad_input(grad, x, 0, grad_input=out)",
        ),
        "leaky_relu_backward": (
            "aten.leaky_relu_backward.default(grad, x, slope, False)",
            "aten.leaky_relu_backward.grad_input(grad, x, slope, False, grad_input=out)",
        ),
        "sigmoid_backward_from_output": (
            "aten.sigmoid_backward.default(grad, y)",
            "aten.sigmoid_backward.grad_input(grad, y, grad_input=out)",
        ),
    }
    # Of its kernels, of `from_numpy` for a dtype, and for negative strides.
    _unsupported = (RuntimeError, TypeError, ValueError)

    def _work(
        self, operation: str, arrays: dict[str, Array], slope: float, out: Array | None
    ) -> Work | None:
        if operation not in self._STATEMENTS:
            return None
        torch = self._package
        names = {
            "torch": torch,
            # What torch.nn.functional.leaky_relu calls; that does not hand on `out`.
            "leaky_relu": torch._C._nn.leaky_relu,
            "slope": slope,
        }
        statement = self._STATEMENTS[operation][out is not None]
        if statement.startswith("aten."):
            # Looked up here: the operators are attributes of several levels of Python objects.
            function, bracket, rest = statement.partition("(")
            names["call"] = functools.reduce(getattr, function.split("."), torch.ops)
            statement = "call" + bracket + rest
        names |= {name: self._tensor(array) for name, array in arrays.items()}
        if out is not None:
            names["out"] = self._tensor(out)
        dtype = next(iter(arrays.values())).dtype
        return Work(statement, names, lambda tensor: self._array(tensor, dtype))

    def _tensor(self, array: Array) -> Any:
        """View an array. `from_numpy` does not know the bfloat16 of ml_dtypes."""
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
        previous = self._package.get_num_threads()
        self._package.set_num_threads(n)
        try:
            # NumPy has no autograd to keep the books of.
            with self._package.inference_mode():
                yield
        finally:
            self._package.set_num_threads(previous)


class _Numba(Peer):
    name, modules = "numba", ("numba",)

    def __init__(self) -> None:
        super().__init__()
        self._threads = 1
        # Starts its threads, which may set the number of threads of OpenMP for the process,
        # and so for PyTorch. In a `threads` context that would be too late.
        self._package.get_num_threads()
        error = self._package.core.errors.NumbaError
        self._unsupported = (TypeError, NotImplementedError, error)
        self._kernels: dict[tuple[Any, ...], Any] = {}

    def _work(
        self, operation: str, arrays: dict[str, Array], slope: float, out: Array | None
    ) -> Work | None:
        values = dict(arrays) if out is None else {**arrays, "out": out}
        first = next(iter(values.values()))
        shape = first.shape
        # The ufunc takes any layout; a plain loop has the shorter call and is vectorised.
        flat = len(shape) == 1 or all(a.flags.c_contiguous for a in values.values())
        if flat:
            values = {name: array.reshape(-1) for name, array in values.items()}
        form = "ufunc" if not flat else "fresh" if out is None else "loop"
        kernel = self._kernel(operation, len(arrays), first.dtype, slope, form)

        def result(value: Any) -> Array:
            done: Array = next(reversed(values.values())) if value is None else value
            return done.reshape(shape)

        return Work(f"call({', '.join(values)})", {"call": kernel, **values}, result)

    def _kernel(
        self, operation: str, arity: int, dtype: np.dtype[Any], slope: float, form: str
    ) -> Any:
        """Find the compiled function of a form: "loop" into `out`, "fresh" or "ufunc"."""
        key = operation, dtype, slope, form, self._threads > 1
        if key not in self._kernels:
            formula = self._formula(operation, dtype, slope)
            self._kernels[key] = (
                self._package.vectorize(formula.py_func)
                if form == "ufunc"
                else self._loop(formula, arity, form == "fresh")
            )
        return self._kernels[key]

    def _formula(self, operation: str, dtype: np.dtype[Any], slope: float) -> Any:
        """Make the scalar function; its constants are of the type of the arrays."""
        zero, one, slope = dtype.type(0), dtype.type(1), dtype.type(slope)
        njit = self._package.njit(error_model="numpy")
        sigmoid = njit(lambda x: one / (one + math.exp(-x)))
        from_output = njit(lambda grad, y: grad * y * (one - y))
        return {
            "relu": njit(lambda x: max(x, zero)),
            "leaky_relu": njit(lambda x: x if x > zero else slope * x),
            "sigmoid": sigmoid,
            "relu_backward": njit(lambda grad, x: grad if x > zero else zero),
            "leaky_relu_backward": njit(lambda grad, x: grad if x > zero else slope * grad),
            "sigmoid_backward": njit(lambda grad, x: from_output(grad, sigmoid(x))),
            "sigmoid_backward_from_output": from_output,
        }[operation]

    def _loop(self, formula: Any, arity: int, fresh: bool) -> Any:
        prange = self._package.prange  # a plain range but for parallel=True

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
        previous, self._threads = self._threads, n
        default = self._package.get_num_threads()
        self._package.set_num_threads(n)
        try:
            yield
        finally:
            self._threads = previous
            self._package.set_num_threads(default)


class _NumExpr(Peer):
    name, modules = "numexpr", ("numexpr",)
    _EXPRESSIONS = {
        "relu": "where(x > 0, x, 0)",
        "leaky_relu": "where(x > 0, x, slope * x)",
        "sigmoid": "1 / (1 + exp(-x))",
        "relu_backward": "where(x > 0, grad, 0)",
        "leaky_relu_backward": "where(x > 0, grad, slope * grad)",
        "sigmoid_backward_from_output": "grad * y * (1 - y)",
    }

    def _work(
        self, operation: str, arrays: dict[str, Array], slope: float, out: Array | None
    ) -> Work | None:
        expression = self._EXPRESSIONS.get(operation)
        dtype = next(iter(arrays.values())).dtype
        kind = {"float32": float, "float64": np.float64}.get(dtype.name)  # in its language
        if expression is None or kind is None:
            return None
        values: dict[str, Any] = dict(arrays)
        if "slope" in expression:
            values["slope"] = np.array(slope, dtype)
        # `evaluate` looks up names, types and cache anew in every call.
        signature = [(name, kind) for name in values]
        names = {"call": self._package.NumExpr(expression, signature), "out": out, **values}
        call = f"{', '.join(values)}, ex_uses_vml={self._package.use_vml}"
        return Work(f"call({call})" if out is None else f"call({call}, out=out)", names)

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        previous = self._package.set_num_threads(n)
        try:
            yield
        finally:
            self._package.set_num_threads(previous)


class _ONNXRuntime(Peer):
    name, modules = "ONNX Runtime", ("onnxruntime", "onnx.helper")
    _OPERATORS = {"relu": "Relu", "leaky_relu": "LeakyRelu", "sigmoid": "Sigmoid"}

    def __init__(self) -> None:
        super().__init__()
        self._threads = 1
        errors = self._package.capi.onnxruntime_pybind11_state
        self._unsupported = (TypeError, KeyError, errors.NotImplemented, errors.InvalidGraph)
        self._sessions: dict[tuple[Any, ...], Any] = {}

    def _work(
        self, operation: str, arrays: dict[str, Array], slope: float, out: Array | None
    ) -> Work | None:
        if operation not in self._OPERATORS:
            return None
        x = arrays["x"]
        if operation == "leaky_relu" and x.itemsize == 8 and float(np.float32(slope)) != slope:
            return None  # the attribute is a float32, whatever the type
        session = self._session(operation, x.dtype, slope)
        names = {"run": session.run, "feed": {"x": x}}
        statement = 'run(["y"], feed)[0]'
        if out is not None and out.flags.c_contiguous:
            # It takes contiguous operands only; a strided one is copied in every call.
            strided = not x.flags.c_contiguous
            source = np.empty(x.shape, x.dtype) if strided else x
            binding = session.io_binding()
            for bind, name, array in (
                (binding.bind_input, "x", source),
                (binding.bind_output, "y", out),
            ):
                bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            names = {"run": session.run_with_iobinding, "binding": binding, "x": x, "out": out}
            names |= {"copyto": np.copyto, "source": source}
            statement = "run(binding)"
            if strided:
                statement = "copyto(source, x) or run(binding)"
            return Work(statement, names, lambda _: out)
        return Work(statement, names)

    def _session(self, operation: str, dtype: np.dtype[Any], slope: float) -> Any:
        """Make a model of the one operator, for any shape."""
        key = operation, dtype, slope, self._threads
        if key not in self._sessions:
            helper = importlib.import_module("onnx.helper")
            kind = helper.np_dtype_to_tensor_dtype(dtype)
            node = helper.make_node(self._OPERATORS[operation], ["x"], ["y"])
            if operation == "leaky_relu":
                node.attribute.append(helper.make_attribute("alpha", slope))
            values = ([helper.make_tensor_value_info(name, kind, None)] for name in "xy")
            graph = helper.make_graph([node], operation, *values)
            # Versions that every runtime of the last years reads.
            opsets = [helper.make_opsetid("", 17)]
            model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
            options = self._package.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.log_severity_level = 3
            self._sessions[key] = self._package.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[key]

    @contextlib.contextmanager
    def threads(self, n: int) -> Iterator[None]:
        previous, self._threads = self._threads, n
        try:
            yield
        finally:
            self._threads = previous


class _JAX(Peer):
    name, modules = "JAX", ("jax",)
    # It can write into no array of the caller: with `out`, too, the result is a new one.

    def __init__(self) -> None:
        super().__init__()
        self._package.config.update("jax_enable_x64", True)
        self._device = self._package.devices("cpu")[0]

    def _work(
        self, operation: str, arrays: dict[str, Array], slope: float, out: Array | None
    ) -> Work | None:
        forward, _, rest = operation.partition("_backward")
        if rest:  # its gradients start from the input, not from the output
            return None
        nn, vjp = self._package.nn, self._package.vjp
        activation = {
            "relu": nn.relu,
            "leaky_relu": functools.partial(nn.leaky_relu, negative_slope=slope),
            "sigmoid": nn.sigmoid,
        }[forward]
        call = activation
        if "grad" in arrays:

            def call(grad: Any, x: Any) -> Any:
                return vjp(activation, x)[1](grad)[0]

        names = {name: self._package.device_put(a, self._device) for name, a in arrays.items()}
        names["call"] = self._package.jit(call)
        return Work(f"call({', '.join(arrays)}).block_until_ready()", names)


_PEERS = (_NumPy, _SciPy, _PyTorch, _Numba, _NumExpr, _ONNXRuntime, _JAX)


def installed() -> list[Peer]:
    """Find the peers that are installed, NumPy first; one that is broken is told on stderr."""
    peers: list[Peer] = []
    for peer in _PEERS:
        if not all(importlib.util.find_spec(name.partition(".")[0]) for name in peer.modules):
            continue
        try:
            peers.append(peer())
        except Exception as error:
            # Whatever a package raises at import, the others can be compared.
            print(f"fastact: {peer.name} left out: {error!r}", file=sys.stderr)
    return peers
