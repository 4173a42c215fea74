"""The hyperbolic tangent and its backward pass."""

import math
from typing import Any

import numpy as np

from .record import FLOATS, INPUT, Bounds, Operation, gradient_of_input, gradient_of_output


def _exact_tanh(m: Any, x: Any) -> Any:
    return m.tanh(x)


def _numpy_tanh(x: Any, out: Any) -> Any:
    return np.tanh(x, out=out)


def _numba_tanh(njit: Any, number: Any) -> Any:
    return njit(lambda x: math.tanh(x))


def _exact_tanh_backward(m: Any, grad: Any, x: Any) -> Any:
    # 1 - tanh(x)**2 without the cancellation.
    decay = m.exp(-2 * m.abs(x))
    return grad * (4 * decay / (1 + decay) ** 2)


def _numpy_tanh_backward(grad: Any, x: Any, out: Any) -> Any:
    np.tanh(x, out=out)
    np.multiply(out, out, out=out)
    np.subtract(1, out, out=out)
    return np.multiply(grad, out, out=out)


def _numba_tanh_backward(njit: Any, number: Any) -> Any:
    one, tanh = number(1), _numba_tanh(njit, number)

    def backward(grad: Any, x: Any) -> Any:
        y = tanh(x)
        return grad * (one - y * y)

    return njit(backward)


OPERATIONS = (
    Operation(
        name="tanh",
        operands=("x",),
        summary="Compute the hyperbolic tangent.",
        parameters=(INPUT,),
        returns="In [-1, 1] and monotone. `x` itself near 0, and NaN where `x` is NaN.",
        see="tanh_backward, sigmoid",
        notes=(
            f"{FLOATS} The error is at most 0.83 ULP in float32, over all inputs, and at most 0.8 "
            "ULP in float64, as far as it was sampled. float16 and bfloat16 are correctly rounded."
        ),
        exact=_exact_tanh,
        numpy=_numpy_tanh,
        bounds=Bounds(0.5, 0.5, 1.0),
        range=(-1.0, 1.0),
        monotone=True,
        costly=True,
        peers={
            "PyTorch": ("torch.tanh(x)", "torch.tanh(x, out=out)"),
            "numba": _numba_tanh,
            "numexpr": "tanh(x)",
            "ONNX Runtime": ("Tanh",),
            "JAX": "tanh",
        },
    ),
    Operation(
        name="tanh_backward",
        operands=("grad", "x"),
        summary="Compute grad * (1 - tanh(x)**2), the gradient of tanh from its input.",
        parameters=(gradient_of_output("tanh"), "Input of `tanh`."),
        returns=f"{gradient_of_input('tanh')} 0 where `x` is infinite, NaN where it is NaN.",
        see="tanh",
        notes=f"{FLOATS} The error is at most 1.5 ULP, in both tails.",
        exact=_exact_tanh_backward,
        numpy=_numpy_tanh_backward,
        bounds=Bounds(0.5, 1.0, 1.5),
        # 1 - y**2 near y = 1 costs a factor of cosh(4)**2.
        numpy_ulp=3000.0,
        narrow="own",
        costly=True,
        peers={
            "numba": _numba_tanh_backward,
            "numexpr": "grad * (1 - tanh(x) ** 2)",
            "JAX": "tanh",
        },
    ),
)
