"""ONNX Runtime as a peer."""

import importlib
from typing import Any

import numpy as np

from fastact._command.peers import Peer, Request, Work


class ONNXRuntime(Peer):
    """Expects the name of an operator, and then that of its attribute for each parameter."""

    name, modules = "ONNX Runtime", ("onnxruntime", "onnx.helper")
    avx2 = None

    def __init__(self) -> None:
        super().__init__()
        errors = self._package.capi.onnxruntime_pybind11_state
        self._unsupported = (TypeError, KeyError, errors.NotImplemented, errors.InvalidGraph)
        self._sessions: dict[tuple[Any, ...], Any] = {}

    def _work(self, request: Request) -> Work | None:
        x, out = request.arrays["x"], request.out
        numbers = tuple(request.parameters.values())
        if x.itemsize == 8 and any(float(np.float32(number)) != number for number in numbers):
            return None  # an attribute is a float32, whatever the type
        session = self._session(request, x.dtype, numbers)
        names = {"run": session.run, "feed": {"x": x}}
        statement = 'run(["y"], feed)[0]'
        if out is not None and out.flags.c_contiguous:
            # It takes only contiguous operands. A strided one is copied in every call.
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

    def _session(
        self, request: Request, dtype: np.dtype[Any], parameters: tuple[float, ...]
    ) -> Any:
        """Make a model of the one operator, for any shape."""
        key = request.operation.name, dtype, parameters, self._threads
        if key not in self._sessions:
            helper = importlib.import_module("onnx.helper")
            kind = helper.np_dtype_to_tensor_dtype(dtype)
            operator, *attributes = request.recipe
            node = helper.make_node(operator, ["x"], ["y"])
            for attribute, value in zip(attributes, parameters, strict=True):
                node.attribute.append(helper.make_attribute(attribute, value))
            values = ([helper.make_tensor_value_info(name, kind, None)] for name in "xy")
            graph = helper.make_graph([node], request.operation.name, *values)
            # Versions that every runtime of the last years can read.
            opsets = [helper.make_opsetid("", 17)]
            model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
            options = self._package.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.log_severity_level = 3
            self._sessions[key] = self._package.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[key]
