"""Calls that type checkers are to accept. `test_types.py` runs them, too."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact
from fastact.layers import Layer, LeakyReLU, Linear, ReLU, Sequential, Sigmoid
from fastact.losses import MSELoss
from fastact.optimizers import SGD

x: NDArray[np.float32] = np.linspace(-1, 1, 9, dtype=np.float32)

# Arrays, numbers, lists; out by position and by name.
y: NDArray[np.float32] = fastact.sigmoid(x)
number: float = fastact.relu(-1.5)
fastact.tanh([1, 2.0])
fastact.silu(x, np.empty_like(x))
fastact.sigmoid(x, out=np.empty_like(x))
fastact.sigmoid(x, out=(np.empty_like(x),))
fastact.sigmoid_backward(np.ones_like(x), x, out=None)
fastact.sigmoid_backward_from_output(x, y)
fastact.tanh_backward(1.0, x)
fastact.silu_backward(x, x)
fastact.relu_backward(x, x, x.copy())

# The slope: left out, by position, by name, an array.
fastact.leaky_relu(x)
fastact.leaky_relu(x, 0.1)
fastact.leaky_relu(x, negative_slope=0.1, out=np.empty_like(x))
fastact.leaky_relu(x, np.full(9, 0.1))
fastact.leaky_relu_backward(x, x)
fastact.leaky_relu_backward(x, x, negative_slope=np.float32(0.1))

# The keywords of ufuncs, and what else a ufunc has.
fastact.relu(x, where=x > 0, out=np.zeros_like(x), dtype=np.float32, casting="same_kind")
fastact.relu(x, order="C", subok=False)
operands: int = fastact.sigmoid_backward.nin
name: str = fastact.sigmoid.__name__
fastact.relu.at(x.copy(), [0, 1])
ufunc: np.ufunc = fastact.sigmoid
functions: list[Callable[..., Any]] = [fastact.relu, fastact.leaky_relu]

# The rest of the package.
previous: int = fastact.set_num_threads(fastact.get_num_threads())
with fastact.num_threads(1):
    limit: int = fastact.set_buffer_limit(1 << 28)
released: int = fastact.release_buffers()
include: str = fastact.get_include()
version: str = fastact.__version__

layers: list[Layer] = [ReLU(), LeakyReLU(negative_slope=0.1), Sigmoid(), Linear(9, 3, ReLU())]
model = Sequential(Linear(9, 3, ReLU(), seed=0), Linear(3, 1, dtype=np.float32))
loss = MSELoss()
optimizer = SGD(model, lr=0.1, momentum=0.9)
batch = np.ones((4, 9), np.float32)
error: float = loss.forward(model.forward(batch), np.ones((4, 1), np.float32))
model.backward(loss.backward(), input_gradient=False)
optimizer.step()
