"""Arrays of more than 2**31 elements, of more bytes than memory has, and ones that nobody has.

Counts of elements and bytes do not overflow: in one dimension and in all, contiguous and strided,
with `out` and in place, from files. A result that cannot be allocated is a MemoryError that leaves
the operands, the kept buffers and the next call alone.

The large ones take up to 8 GiB: ``pytest tests/test_size.py --long``.
"""

import sys

import numpy as np
import pytest
from programs import output

import fastact
from fastact.layers import LeakyReLU, Linear, Sigmoid

OVER = 2**31 + 5
GIB = 1 << 30


def pattern(n, dtype):
    """Fill an array with a row of 251 values over and over, so that a shift shows."""
    row = (np.arange(251) - 125).astype(dtype)
    array = np.empty(n, dtype)
    whole = n // 251 * 251
    array[:whole].reshape(-1, 251)[...] = row
    array[whole:] = row[: n - whole]
    return array


def assert_pattern(result, function, step=1, chunk=251 << 20):
    """Fail unless `result` is the function of every `step`-th element of the pattern."""
    row = function((np.arange(251 * step)[::step] % 251 - 125).astype(result.dtype))
    for start in range(0, result.size, chunk):
        part = result[start : start + chunk]
        whole = part.size // 251 * 251
        assert (part[:whole].reshape(-1, 251) == row).all(), start
        assert (part[whole:] == row[: part.size - whole]).all(), start


def relu(x):
    return np.maximum(x, x.dtype.type(0))


@pytest.fixture(autouse=True)
def _nothing_kept():
    yield
    fastact.release_buffers()


# ------------------------------------------------------------------ in gigabytes


@pytest.mark.large
@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_more_elements_than_an_int_has(dtype):
    """One dimension: a new result, `out`, and in place."""
    x = pattern(OVER, dtype)
    y = fastact.relu(x)
    assert_pattern(y, relu)
    if dtype == "int8":
        y[...] = 7
        assert fastact.relu(x, out=y) is y
        assert_pattern(y, relu)
    del y
    assert fastact.relu(x, out=x) is x
    assert_pattern(x, relu)


@pytest.mark.large
def test_more_bytes_than_an_unsigned_int_has():
    x = np.full(2**29 + 3, 0.5, np.float64)
    x[0], x[-1] = -1, -2
    assert fastact.sigmoid(x, out=x) is x
    middle = fastact.sigmoid(np.array([0.5]))[0]
    ends = fastact.sigmoid(np.array([-1.0, -2.0]))
    assert (x[0], x[-1]) == tuple(ends)
    assert (x[1:-1] == middle).all()


@pytest.mark.large
def test_every_second_of_more_elements():
    """Steps: the last element lies more than 2**32 bytes behind the first."""
    x = pattern(2 * OVER, np.int8)
    y = fastact.relu(x[::2])
    assert y.size == OVER
    assert_pattern(y, relu, step=2)
    del y
    view = x[::2]
    assert fastact.relu(view, out=view) is view
    assert_pattern(view, relu, step=2)
    assert_pattern(x[1::2], lambda row: (np.arange(1, 503)[::2] % 251 - 125).astype(np.int8))


@pytest.mark.large
def test_backwards_over_more_elements():
    x = pattern(OVER, np.int8)
    y = fastact.relu(x[::-1])
    assert_pattern(y[::-1], relu)


@pytest.mark.large
@pytest.mark.parametrize("shape", [(2, 2**30 + 3), (46_350, 46_349), (2**30 + 3, 2)], ids=str)
def test_matrices_of_more_elements(shape):
    """By columns into rows, and new ones by columns."""
    x = pattern(shape[0] * shape[1], np.int8).reshape(shape)
    out = np.empty(shape[::-1], np.int8)
    assert fastact.relu(x.T, out=out) is out
    for start in range(0, shape[1], 1 << 22):
        part = x[:, start : start + (1 << 22)].T
        assert (out[start : start + (1 << 22)] == relu(part)).all()
    out[...] = 7
    del out
    y = fastact.relu(x.T)
    assert y.strides == x.T.strides
    assert_pattern(y.T.reshape(-1), relu)


@pytest.mark.large
def test_one_number_broadcast_over_more_elements():
    x = np.broadcast_to(np.int8(-3), OVER)
    out = np.ones(OVER, np.int8)
    fastact.relu(x, out=out)
    assert not out.any()
    y = fastact.relu(np.broadcast_to(np.int8([[1], [-1]]), (2, 2**30 + 3)))
    assert (y[0] == 1).all()
    assert not y[1].any()


@pytest.mark.large
def test_where_over_more_elements():
    x = pattern(OVER, np.int8)
    where = np.broadcast_to(np.True_, OVER)
    fastact.relu(x, out=x, where=where)
    assert_pattern(x, relu)


@pytest.mark.large
def test_a_linear_layer_with_a_large_output():
    layer = Linear(1, 2**16, LeakyReLU(0.5), seed=0)
    x = np.ones((2**14 + 1, 1), np.float32)
    x[-1] = -1
    y = layer(x)
    assert y.size > 2**30
    assert (y[0] == y[-2]).all()
    assert np.array_equal(y[-1], layer(x[-1:])[0])


@pytest.mark.large
def test_a_file_of_six_gibibytes(tmp_path):
    """A sparse file: holes are read as zeros, and only what is written takes space."""
    n = 6 * GIB
    x = np.memmap(tmp_path / "x", np.int8, "w+", shape=n)
    places = np.array([0, 1, 2**31 - 1, 2**31, 2**32 + 7, n - 1])
    x[places] = [3, -3, 5, -5, 7, -7]
    x.flush()
    x = np.memmap(tmp_path / "x", np.int8, "r", shape=n)
    total = 0
    for start in range(0, n, GIB):
        total += int(fastact.relu(x[start : start + GIB]).sum(dtype=np.int64))
    assert total == 15
    # In place, over the whole of it in one call.
    x = np.memmap(tmp_path / "x", np.int8, "r+", shape=n)
    assert fastact.relu(x, out=x) is x
    assert x[places].tolist() == [3, 0, 5, 0, 7, 0]


@pytest.mark.large
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_larger_than_the_free_memory(tmp_path):
    """One call reads all of it: the first row stays where all others are positive.

    A sparse file, of which three numbers a row are written.
    """
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))
    columns = 1 << 25
    rows = (free + GIB) // (2 * columns)
    x = np.memmap(tmp_path / "x", np.float16, "w+", shape=(rows, columns))
    assert x.nbytes > free
    x[:, [5, 7, columns - 1]] = 1
    x[0, [5, 7, columns - 1]] = 3, 4, 5
    x[-1, 7] = -1
    x.flush()
    x = np.memmap(tmp_path / "x", np.float16, "r", shape=(rows, columns))
    result = fastact.relu_backward.reduce(x, axis=0)
    (places,) = result.nonzero()
    assert (places.tolist(), result[places].tolist()) == ([5, columns - 1], [3, 5])


# ------------------------------------------------------------------------ files


@pytest.mark.parametrize("expected", ["relu", "sigmoid"])
def test_files_in_memory(tmp_path, expected):
    compute = getattr(fastact, expected)
    values = np.linspace(-9, 9, 300_000, dtype=np.float32)
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=values.shape)
    out = np.memmap(tmp_path / "y", np.float32, "w+", shape=values.shape)
    x[:] = values
    x.flush()
    x = np.memmap(tmp_path / "x", np.float32, "r", shape=values.shape)
    result = compute(x)
    assert type(result) is type(np.exp(x))
    assert result.tobytes() == compute(values).tobytes()
    assert compute(x, out=out) is out
    out.flush()
    assert (tmp_path / "y").read_bytes() == compute(values).tobytes()
    with pytest.raises(ValueError, match="read-only"):
        compute(x, out=x)
    private = np.memmap(tmp_path / "x", np.float32, "c", shape=values.shape)
    compute(private, out=private)
    assert (tmp_path / "x").read_bytes() == values.tobytes()
    layer = Sigmoid()
    layer.forward(x)
    gradient = layer.backward(np.ones_like(values))
    assert gradient.tobytes() == fastact.sigmoid_backward(np.ones_like(values), values).tobytes()


def test_a_file_that_begins_anywhere(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" + np.arange(-50, 50, dtype=">f8").tobytes())
    x = np.memmap(tmp_path / "x", ">f8", "r", offset=3)
    assert not x.flags.aligned
    assert fastact.relu(x).tolist() == [0.0] * 50 + list(range(50))


# ------------------------------------------------------- what cannot be allocated


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "float64"])
def test_a_result_that_nobody_has_memory_for(dtype):
    one = np.array([[-1.0]]).astype(dtype)
    for shape in [(2**24, 2**22), (2**45,), (2**20, 2**20, 2**19)]:
        x = np.broadcast_to(one.reshape((1,) * len(shape)), shape)
        with pytest.raises((MemoryError, ValueError)):
            fastact.relu(x)
        with pytest.raises((MemoryError, ValueError)):
            fastact.leaky_relu(x, 0.5)
        with pytest.raises((MemoryError, ValueError)):
            fastact.relu_backward.outer(x, one)
    assert one.tolist() == [[-1.0]]


LIMITED = """
import gc, resource, sys
import numpy as np
import fastact
from fastact.layers import Linear, ReLU, Sequential, Sigmoid
from fastact.losses import MSELoss

MIB = 1 << 20
x = np.linspace(-9, 9, 8 * MIB, dtype=np.float32)                    # 32 MiB
before = x[::1001].copy()
matrix = x[:MIB].reshape(2, -1, 64)
layer = Sequential(Linear(64, 64, ReLU(), seed=0), Sigmoid())
layer.forward(matrix[0, :100])
kept = layer.backward(np.ones((100, 64), np.float32)).copy()
del matrix
fastact.sigmoid(x)                                                   # is kept: 32 MiB
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 20 * MIB, -1))

# The kept block does for a result of its size.
y = fastact.sigmoid(x)
failed = 0
for call in [
    lambda: fastact.relu(x),
    lambda: fastact.leaky_relu(x, 0.2),
    lambda: fastact.sigmoid(x.reshape(2048, -1).T),
    lambda: fastact.sigmoid(x[::-1]),
    lambda: fastact.relu_backward(x, x),
    lambda: fastact.relu_backward.accumulate(x),
    lambda: fastact.relu(x, dtype=np.float64),
    lambda: ReLU().forward(x),
    lambda: Sigmoid().forward(x, out=x),
    lambda: layer.forward(x.reshape(-1, 64)),
    lambda: MSELoss()(x, x),
]:
    try:
        call()
    except MemoryError:
        failed += 1
    assert np.array_equal(x[::1001], before)
# Blocks that are kept go before a call fails.
del y
small = fastact.sigmoid(x[::2])                                      # 16 MiB
fastact.sigmoid(x, out=x)
print(failed, fastact.release_buffers() >= 0, len(gc.garbage))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_is_limited():
    assert output(LIMITED, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1") == "11 True 0\n"
