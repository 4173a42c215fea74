"""The table of operations: everything there is to say about every ufunc, in one place.

Each activation has a file here, with a record for the activation and for each of its backward
passes. To add an activation, add its file and its name to the tuple below.

This package can be loaded by its path, without `fastact`: setup.py and the benchmarks of asv
read it before anything is built. So it imports only the standard library and NumPy, and its own
modules by relative imports.
"""

from . import (
    gelu,
    gelu_tanh,
    leaky_relu,
    log_sigmoid,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from .record import Bounds, Operation, RowOperation

__all__ = ["BY_NAME", "OPERATIONS", "ROW_OPERATIONS", "Bounds", "Operation", "RowOperation"]

OPERATIONS: tuple[Operation, ...] = (
    *relu.OPERATIONS,
    *leaky_relu.OPERATIONS,
    *sigmoid.OPERATIONS,
    *tanh.OPERATIONS,
    *silu.OPERATIONS,
    *softplus.OPERATIONS,
    *log_sigmoid.OPERATIONS,
    *gelu.OPERATIONS,
    *gelu_tanh.OPERATIONS,
)
# Those over an axis, for which an elementwise sample, layout or loop makes no sense.
ROW_OPERATIONS: tuple[RowOperation, ...] = softmax.ROW_OPERATIONS
BY_NAME = {operation.name: operation for operation in OPERATIONS}
