"""The bits of results stay what they were in the last release.

`RECORDED` has a digest for every ufunc and dtype. A change of one is a change that users see: it
needs a reason, an entry in CHANGELOG.md and a minor release, as docs/promises.md says. This prints
the digests of the installed package, in the form that they have here::

    python tests/test_bits.py
"""

import hashlib

import ml_dtypes
import numpy as np
import pytest
from reference import BY_NAME, FLOATS

import fastact
from fastact._core.operations import ROW_OPERATIONS
from fastact._core.ufuncs import make_row_ufuncs

COUNT = 1 << 16
ROW_NAMES = [operation.name for operation in ROW_OPERATIONS]

# By name, in the order of FLOATS.
RECORDED = {
    "relu": "da7df1162c3a 5ca2c34b6d18 de1cf457718f 2731c68bf5ac",
    "leaky_relu": "e5cdbccb8611 166ae7142cb4 02c395ff3131 6ae3740f6ba9",
    "sigmoid": "23633c347dfb aaee3cc046fe 44d3cf3c0597 49ed350cbf5f",
    "relu_backward": "15ab2c5d3d5c aee5d9aec4fb 20b536423431 7cc74c80d211",
    "leaky_relu_backward": "55cc6f22dd20 0078a618e8f6 48029111ce6f b6a0bf3c06ae",
    "sigmoid_backward": "59eb19480df7 f1ce1dc3d938 2a7c2c59b6a6 a57e893efd64",
    "sigmoid_backward_from_output": "f667afea03a5 8b9065e32004 cf5549ceb6c9 f63270e09012",
    "tanh": "f97b6263b4c6 2e4b27f185f8 c5719dbbb8cd d1c7eb310ca2",
    "tanh_backward": "42172be62c08 d84de49bc156 70811d26f138 13b1403fb8f5",
    "silu": "5d977b2ec0db 5d80fe5850fd bd861a4e2665 56ab227c910a",
    "silu_backward": "0e1335fa98e3 077994145081 b3a3e413ec6c 1b4ae19e9a8d",
    "softplus": "3840fc8f02d5 5127b54e9001 2da3bd9ff3f6 1a55e74a98a1",
    "softplus_backward": "fe800e4f7e6e 757d54434b94 a9e5168740a6 d06e2bf35f04",
    "log_sigmoid": "9cea3d48a49a 7d77d60005d0 c5686b82806e 4f768a00f322",
    "log_sigmoid_backward": "c6fa52b0f41d 223d6b4819f2 04c6434916c4 70b2aa14d345",
    "gelu": "0a5e615130c8 63ec8a90db27 a0d1ac042e60 05716ed844d5",
    "gelu_backward": "34ab4f3091cf 62cbc1a3b87d 39cc5a9a79e0 ab5591e00d0c",
    "gelu_tanh": "788409dcec1c e376e05962bf 3932a74f04fd 07ca87c53387",
    "gelu_tanh_backward": "d3ad96a79839 f786fbf01447 b63582796b37 69457d247a59",
}


# Of operations on rows.
RECORDED_ROWS = {
    "softmax": "4fd0559b66fd c8ff147af31f 7d0a76400c8c d815b3e6a3ab",
    "log_softmax": "978eab4be99d 0903889a9bc6 920338c8df1a 589e1854e443",
    "softmax_backward": "9dfc346245fb 91f437c88970 b6ddb8566640 d3b855d79594",
    "log_softmax_backward": "9a900cd22056 f33ff164ef0d 518c7bc346f8 a03b7fed4f31",
}


def operand(dtype, place):
    """Make numbers of all sizes, special ones, and ordinary ones: by whole numbers only.

    NumPy's random numbers may change with its version. `place` is that of the operand: another
    order of the same numbers, so that all sorts of pairs meet.
    """
    dtype = np.dtype(dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    step = (np.iinfo(unsigned).max // COUNT) | 1
    bits = (np.arange(COUNT, dtype=np.uint64) * np.uint64(step)).astype(unsigned).view(dtype)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1, -1], np.float32).astype(dtype)
    ordinary = (np.arange(-COUNT // 2, COUNT // 2) / 256).astype(np.float32).astype(dtype)
    values = np.concatenate([bits, np.resize(special, 700), ordinary])
    order = (np.arange(values.size) * (1, 7919, 104729)[place]) % values.size
    return values[order]


def digest(ufunc, dtype):
    operands = [operand(dtype, place) for place in range(ufunc.nin)]
    with np.errstate(all="ignore"):
        result = ufunc(*operands)
        # Of two NaNs, either may go on.
        wide = [operand.astype(np.float64) for operand in operands]
        several = sum((~np.isfinite(o)).astype(int) for o in wide) > 1
        result[several & np.isnan(result.astype(np.float64))] = 0
        # The sign of a NaN that inf * 0 makes is the processor's.
        made = np.isnan(result.astype(np.float64)) & ~np.any([np.isnan(o) for o in wide], axis=0)
        result[made] = 0
        # A compiler may replace a choice of x by a product of x and 1, which makes a NaN quiet.
        bits = result.view(f"u{result.itemsize}")
        quiet = bits.dtype.type(1 << (ml_dtypes.finfo(result.dtype).nmant - 1))
        bits[np.isnan(result.astype(np.float64))] |= quiet
    return hashlib.sha256(result.tobytes()).hexdigest()[:12]


def digest_of_rows(functions, name, dtype):
    """Of rows of several lengths, with all differences up to 256: a NaN would fill its row."""
    digests = hashlib.sha256()
    numbers = np.arange(30_000)
    for length in (1, 5, 30, 300, 3000):
        x = ((numbers * 7919 % 65_536 - 32_768) / 256).astype(np.float32).astype(dtype)
        x = x.reshape(-1, length)
        operands = [x]
        if name.endswith("_backward"):
            grad = ((numbers * 104_729 % 65_536 - 32_768) / 4096).astype(np.float32).astype(dtype)
            operands = [grad.reshape(x.shape), functions[name.removesuffix("_backward")](x)]
        digests.update(functions[name](*operands).tobytes())
    return digests.hexdigest()[:12]


@pytest.mark.parametrize("name", RECORDED_ROWS)
def test_bits_of_rows_are_those_of_the_release(isa, name):
    functions = make_row_ufuncs(isa)
    assert " ".join(digest_of_rows(functions, name, d) for d in FLOATS) == RECORDED_ROWS[name]


@pytest.mark.parametrize("name", RECORDED)
def test_bits_are_those_of_the_release(ufuncs, isa, name):
    assert " ".join(digest(ufuncs[name], dtype) for dtype in FLOATS) == RECORDED[name]


@pytest.mark.parametrize("name", [*BY_NAME, *ROW_NAMES])
def test_every_function_has_a_digest(name):
    """Of each dtype. A new function gets its own: they are not compared with a release then."""
    table, make = (
        (RECORDED, lambda d: digest(getattr(fastact, name), d))
        if name in BY_NAME
        else (RECORDED_ROWS, lambda d: digest_of_rows(vars(fastact), name, d))
    )
    if name in table:
        assert len(table[name].split()) == len(FLOATS)
    else:
        line = f'"{name}": "{" ".join(map(make, FLOATS))}",'
        pytest.fail(f"tests/test_bits.py: add {line}")


def test_every_operand_is_a_permutation():
    for place in 1, 2:
        first, other = (np.sort(operand("f2", p).view("u2")) for p in (0, place))
        assert np.array_equal(first, other)


if __name__ == "__main__":
    for name in BY_NAME:
        found = " ".join(digest(getattr(fastact, name), dtype) for dtype in FLOATS)
        print(f'    "{name}": "{found}",')
    for name in RECORDED_ROWS:
        found = " ".join(digest_of_rows(vars(fastact), name, dtype) for dtype in FLOATS)
        print(f'    "{name}": "{found}",')
