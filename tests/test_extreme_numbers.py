"""Numbers that are too large: slopes, learning rates, limits."""

import sys

import ml_dtypes
import numpy as np
import pytest
from looped import looped

import fastact
from fastact.layers import LeakyReLU, Linear
from fastact.optimizers import SGD

HUGE = 10**400
LONGEST = 10**5000  # Python refuses to show it
DTYPES = ["float16", "float32", "float64", "int8", "uint64", ml_dtypes.bfloat16]


def rounded(value, dtype):
    """Round a number to a floating-point dtype, once."""
    if dtype is not ml_dtypes.bfloat16:
        with np.errstate(all="ignore"):
            return np.exp.resolve_dtypes((np.dtype(dtype), None))[1].type(value)
    # To odd in float32 first: its last bit then says that there is more.
    with np.errstate(all="ignore"):
        narrow = np.float32(value)
    if float(narrow) != value and not narrow.view(np.uint32) & 1 and np.isfinite(narrow):
        toward = np.inf if value > float(narrow) else -np.inf
        narrow = np.nextafter(narrow, np.float32(toward))
    return ml_dtypes.bfloat16(narrow)


@looped("dtype", DTYPES, ids=str)
@looped("slope", [2**63, -(2**63) - 1, 2**64, 2**100 + 1, 2**1000, -(2**1000)])
def test_a_slope_of_many_bits(slope, dtype):
    x = np.ones(8).astype(dtype)
    if x.dtype.kind != "u":
        x = -x
    wanted = rounded(slope, dtype) * x[0] if x[0] < 0 else 1
    swapped = x.byteswap().view(x.dtype.newbyteorder())
    for operand in x, x[::2], x.reshape(2, 4).T, x[0], swapped:
        y = fastact.leaky_relu(operand, slope)
        assert np.all(y == wanted)
        # NumPy warns where it casts a slope for `dtype`.
        with np.errstate(over="ignore"):
            assert np.all(fastact.leaky_relu(operand, slope, dtype=y.dtype) == wanted)
        y = fastact.leaky_relu_backward(operand, operand, negative_slope=slope)
        assert np.all(y == wanted)


# Keywords that NumPy handles, some of which it would refuse with any slope.
DOORS = [
    *({"dtype": dtype} for dtype in (*"efdD", ml_dtypes.bfloat16, None)),
    *({"casting": rule} for rule in ("safe", "unsafe")),
    {"order": "C"},
    {"where": True},
    {"signature": None},
    {"negative_slop": 1},
]


@looped("dtype", DTYPES, ids=str)
@looped("slope", [HUGE, -HUGE, LONGEST], ids=["HUGE", "-HUGE", "LONGEST"])
def test_a_slope_beyond_all_floats(slope, dtype):
    x = np.ones(8).astype(dtype)
    before, out = x.copy(), np.full(8, 7).astype(np.float64)
    for operand in x, x[::2]:
        with pytest.raises(OverflowError, match="int too large to convert to float"):
            fastact.leaky_relu(operand, slope)
        with pytest.raises(OverflowError, match="int too large to convert to float"):
            fastact.leaky_relu(operand, slope, out=out[: len(operand)])
        for keywords in DOORS:
            for call in (
                lambda o, **k: fastact.leaky_relu(o, slope, **k),
                lambda o, **k: fastact.leaky_relu_backward(o, o, negative_slope=slope, **k),
            ):
                with pytest.raises(OverflowError, match="int too large to convert to float"):
                    call(operand, **keywords)
    assert np.array_equal(x, before)
    assert (out == 7).all()


# Halfway between two of bfloat16 in float32, but above it.
@looped(
    "slope",
    [1 + 2**-8 + 2**-40, (1 + 2**-8 + 2**-40) * 2**20, 2**24 + 2**16 + 1, 2**88 + 2**80 + 2**40],
)
def test_a_bfloat16_slope_is_rounded_once_in_every_layout(slope):
    x = -np.ones(8, ml_dtypes.bfloat16)
    wanted = fastact.leaky_relu(x, slope)[0]
    assert wanted == -rounded(slope, ml_dtypes.bfloat16)
    assert (fastact.leaky_relu(x[::2], slope) == wanted).all()
    assert (fastact.leaky_relu(x, slope, where=True) == wanted).all()
    assert (fastact.leaky_relu(x, slope, dtype=x.dtype) == wanted).all()


@pytest.mark.parametrize("bad", [HUGE, -HUGE, LONGEST], ids=["HUGE", "-HUGE", "LONGEST"])
def test_settings_beyond_all_floats(bad):
    layer = Linear(2, 2)
    with pytest.raises(ValueError, match="lr must be finite"):
        SGD(layer, lr=bad)
    with pytest.raises(ValueError, match="momentum must be finite"):
        SGD(layer, lr=0.1, momentum=bad)
    optimizer = SGD(layer, lr=0.1)
    with pytest.raises(ValueError, match="lr must be finite"):
        optimizer.lr = bad
    assert optimizer.lr == 0.1
    with pytest.raises(ValueError, match="negative_slope must be finite"):
        LeakyReLU(bad)


@pytest.mark.parametrize(
    "limit", [2**63, 2**70, HUGE, LONGEST], ids=["63", "70", "HUGE", "LONGEST"]
)
def test_a_limit_beyond_all_sizes(limit):
    fastact.release_buffers()  # of other tests
    before = fastact.set_buffer_limit(limit)
    try:
        x = np.ones(1 << 20, np.float32)
        where = fastact.relu(x).ctypes.data
        assert fastact.relu(x).ctypes.data == where
        assert fastact.release_buffers() == 4 << 20
    finally:
        assert fastact.set_buffer_limit(before) == sys.maxsize


@looped("bad", [1.5, 1e9, "1", None, np.float32(3), [1]], ids=repr)
def test_a_limit_that_is_no_integer(bad):
    before = fastact.set_buffer_limit(1 << 20)
    with pytest.raises(TypeError, match="integer"):
        fastact.set_buffer_limit(bad)
    assert fastact.set_buffer_limit(np.int64(before)) == 1 << 20
