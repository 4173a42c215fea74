"""Calls of every kind, a few times each: what valgrind and other slow tools are to watch."""

import contextlib

import numpy as np

import fastact
from fastact.layers import LeakyReLU, Linear, ReLU, Sequential, Sigmoid
from fastact.losses import MSELoss
from fastact.optimizers import SGD

NAMES = [name for name in fastact.__all__ if isinstance(getattr(fastact, name), np.ufunc)]
FLOATS = ["float16", "float32", "float64"]
with contextlib.suppress(ImportError):
    import ml_dtypes

    FLOATS.append(ml_dtypes.bfloat16)
# The ends of blocks, vectors and streams.
LENGTHS = [0, 1, 2, 3, 15, 16, 17, 63, 1023, 1025, 2049, 5000]


def refused(call, *operands, **keywords):
    """A call that has to fail."""
    try:
        call(*operands, **keywords)
    except (TypeError, ValueError):
        return
    raise AssertionError(f"{call} took {operands} {keywords}")


def ufunc_calls(ufunc, dtype):
    """Fast, general, strided, tiled, overlapping and failing calls of one ufunc."""
    for n in LENGTHS:
        x = np.linspace(-9, 9, n).astype(dtype)
        operands = [x] * ufunc.nin
        y = ufunc(*operands)
        ufunc(*operands, out=y)
        ufunc(*operands, y)
        x = np.linspace(-9, 9, 3 * n).astype(dtype)
        for part in x[::2], x[::-1], x[1::3], x[: n // 2 * 2].reshape(2, -1):
            ufunc(*[part] * ufunc.nin)
        if n:
            ufunc(*[x[1:]] * ufunc.nin, out=x[:-1])
            ufunc(*[x] * ufunc.nin, where=x > 0, out=np.zeros_like(x))
    rows = np.linspace(-9, 9, 37 * 70).astype(dtype).reshape(37, 70)
    columns = np.asfortranarray(rows)
    ufunc(*[columns] * ufunc.nin)
    ufunc(*[columns] * ufunc.nin, out=np.empty_like(rows))
    ufunc(*[rows[:, ::3]] * ufunc.nin, out=np.empty((24, 37), dtype).T)
    refused(ufunc, *[rows] * ufunc.nin, out=np.empty((3, 5), dtype))
    refused(ufunc, *[rows] * ufunc.nin, wrong=1)
    refused(ufunc, *[rows.astype(complex)] * ufunc.nin)
    refused(ufunc)


def main():
    """All calls, on one thread and on the default number."""
    for name in NAMES:
        ufunc = getattr(fastact, name)
        for dtype in FLOATS:
            ufunc_calls(ufunc, dtype)
        ufunc(*[1.5] * ufunc.nin)
        ufunc(*[[1, -2]] * ufunc.nin)
    x = np.linspace(-9, 9, 50, dtype=np.float32)
    for slope in 0.2, 2, 10**30, -1.0, np.float64(0.3), x:
        fastact.leaky_relu(x, slope)
        fastact.leaky_relu(x[::2], negative_slope=slope if slope is not x else x[::2])
        fastact.leaky_relu_backward(x, x, negative_slope=slope)
    fastact.relu(np.arange(-9, 9, dtype=np.int16))

    for threads in 1, 2:
        with fastact.num_threads(threads):
            large = np.linspace(-9, 9, (1 << 20) + 5, dtype=np.float32)
            for _ in range(2):  # the second time from a kept buffer
                fastact.relu(large)
            fastact.sigmoid(large[: 1 << 17], out=large[: 1 << 17])
            fastact.release_buffers()
            for dtype in np.float32, np.float64:
                model = Sequential(
                    Linear(7, 9, ReLU(), dtype=dtype),
                    Linear(9, 5, LeakyReLU(0.1), dtype=dtype),
                    Linear(5, 3, Sigmoid(), dtype=dtype),
                    Linear(3, 2, dtype=dtype),
                )
                optimizer, loss = SGD(model, lr=0.1, momentum=0.9), MSELoss()
                for rows in 11, 300, 0, 11:
                    inputs = np.ones((rows, 7), dtype)
                    target = np.zeros((rows, 2), dtype)
                    if rows:
                        loss.forward(model.forward(inputs), target)
                        model.backward(loss.backward())
                        optimizer.step()
                    refused(model.forward, np.ones((rows, 8), dtype))
    print("all calls made")


if __name__ == "__main__":
    main()
