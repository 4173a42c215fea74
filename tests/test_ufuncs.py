"""Values: operation x dtype x instruction set x memory layout, from the reference table."""

import ctypes
import ctypes.util
import platform
import sys
import warnings
from contextlib import contextmanager
from functools import cache, lru_cache

import numpy as np
import pytest
from conftest import make_ufuncs
from layouts import LAYOUTS, SHAPE
from looped import looped
from reference import (
    BY_NAME,
    EXPECTATIONS,
    FLOATS,
    bit_type,
    bits,
    edges,
    exact,
    exact_values,
    finfo,
    is_finite,
    is_nan,
    samples,
    special_values,
)

import fastact
from fastact._core import ufuncs as core

CASES = [pytest.param(e, dtype, id=f"{e.name}-{dtype}") for e in EXPECTATIONS for dtype in e.dtypes]
FLOAT_CASES = [
    pytest.param(e, dtype, id=f"{e.name}-{dtype}") for e in EXPECTATIONS for dtype in FLOATS
]
by_expectation = pytest.mark.parametrize(
    "expectation", EXPECTATIONS, ids=[e.name for e in EXPECTATIONS]
)
by_case = pytest.mark.parametrize(("expectation", "dtype"), CASES)
by_float_case = pytest.mark.parametrize(("expectation", "dtype"), FLOAT_CASES)
by_float = pytest.mark.parametrize("dtype", FLOATS)
over_floats = looped("dtype", FLOATS)
over_layouts = looped("layout", LAYOUTS, ids=lambda layout: layout.__name__)
WITH_A_MINIMUM = ("silu", "gelu", "gelu_tanh")


def assert_same_bits(result, expected, *operands):
    """Fail unless the bits are the same, and show the first difference.

    Where two operands or more are not finite, every NaN is the same. IEEE 754 does not say which
    of two NaN becomes the result, and compilers swap factors. An infinite operand can make a NaN
    on the way.
    """
    assert result.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    assert result.shape == expected.shape
    got, wanted = bits(result).ravel(), bits(expected).ravel()
    different = got != wanted
    if different.any() and len(operands) > 1:
        several = sum((~is_finite(operand)).astype(int).ravel() for operand in operands) > 1
        different &= ~(several & is_nan(result).ravel() & is_nan(expected).ravel())
    if different.any():
        wrong = np.flatnonzero(different)
        at = wrong[0]
        values = [np.broadcast_to(operand, result.shape).flat[at] for operand in operands]
        pytest.fail(
            f"{len(wrong)} of {len(got)} differ; at {at}: {values} gives {got[at]:#x} "
            f"({result.flat[at]!r}), wanted {wanted[at]:#x} ({expected.flat[at]!r})"
        )


def matrix(values):
    """Repeat operands to the shape of a layout, in C order."""
    return [np.resize(value, SHAPE) for value in values]


def special_grid(expectation, dtype):
    """Combine every special value of an operand with all those of the others."""
    values = special_values(np.dtype(dtype))
    return [
        grid.ravel() for grid in np.meshgrid(*[values] * len(expectation.operands), indexing="ij")
    ]


def random_patterns(dtype, count, seed=1):
    """Make numbers with random bits, NaN, infinite and subnormal ones among them."""
    rng = np.random.default_rng(seed)
    kind = bit_type(dtype)
    return rng.integers(0, np.iinfo(kind).max, count, kind, endpoint=True).view(dtype)


# --------------------------------------------------------------------- error


@by_float_case
def test_error_is_within_the_bound(ufuncs, expectation, dtype):
    operands, expected = exact_results(expectation, dtype)
    result = ufuncs[expectation.name](*operands)
    assert result.dtype == dtype
    error = expected.error(result)
    worst = error.argmax()
    bound = expectation.bounds[dtype]
    assert error[worst] <= bound, (
        f"{(error > bound).sum()} of {len(error)} are off by more; the worst by "
        f"{error[worst]} ULP: {[operand[worst] for operand in operands]} gives {result[worst]!r}, "
        f"wanted {expected.near[worst]!r}"
    )


@cache
def exact_results(expectation, dtype):
    """Samples and their exact results, computed once for all instruction sets."""
    operands = samples(expectation, dtype)
    return operands, exact(expectation, operands)


@looped("dtype", BY_NAME["relu"].dtypes)
def test_relu_is_the_maximum_with_zero(ufuncs, dtype):
    (x,) = samples(BY_NAME["relu"], dtype)
    # `+ 0` turns -0.0 into +0.
    zero = x.dtype.type(0)  # NumPy 2.0 makes float32 of bfloat16 and the 0 of Python
    assert_same_bits(ufuncs["relu"](x), np.maximum(x, zero) + zero, x)


def all_of(dtype):
    """Make all numbers of a 16-bit type."""
    return np.arange(1 << 16, dtype=np.uint16).view(dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@by_expectation
def test_narrow_types_are_correctly_rounded_for_all_inputs(ufuncs, expectation, dtype):
    """With a gradient of 1. NaN stays NaN."""
    operands, keep, expected = exact_results_of_all(expectation, dtype)
    result = ufuncs[expectation.name](*operands)
    assert is_nan(result[is_nan(all_of(dtype))]).all()
    assert expected.error(result[keep]).max() <= 0.5


@lru_cache(1)
def exact_results_of_all(expectation, dtype):
    """All operands, which of them have an exact result, and these results."""
    x = all_of(dtype)
    operands = {"grad": np.ones(len(x), dtype), "slope": np.full(len(x), 0.01).astype(dtype)}
    operands = [operands.get(name, x) for name in expectation.operands]
    keep = is_finite(x)
    if expectation.output_of:
        lowest, highest = BY_NAME[expectation.output_of].range
        keep[keep] = (x[keep] >= lowest) & (x[keep] <= highest)
    return operands, keep, exact(expectation, [operand[keep] for operand in operands])


@cache
def near_zero(expectation, dtype):
    """Find the numbers of a 16-bit type next to the zero of a derivative, if there is one."""
    x = all_of(dtype)
    x = np.sort(x[is_finite(x)])
    for step in 64, 1:
        slopes = derivative(expectation, x[::step])
        (at,) = np.nonzero(slopes[:-1] * slopes[1:] < 0)
        if not at.size:
            return x[:0]
        x = x[at[0] * step - 8 : (at[0] + 1) * step + 9]
    return x


def derivative(expectation, x):
    return exact(expectation, [np.ones_like(x), x]).near


@looped("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "expectation", [pytest.param(e, id=e.name) for e in EXPECTATIONS if e.operands == ("grad", "x")]
)
def test_every_gradient_near_a_zero_of_the_derivative(ufuncs, expectation, dtype):
    """A sum that cancels there loses more than a sample of gradients is sure to show."""
    x = near_zero(expectation, dtype)
    assert bool(x.size) == (expectation.name.removesuffix("_backward") in WITH_A_MINIMUM)
    grad = all_of(dtype)
    grad = grad[is_finite(grad)]
    for number, slope in zip(x, derivative(expectation, x), strict=True):
        result = ufuncs[expectation.name](grad, np.full_like(grad, number))
        error = exact_values(grad.astype(np.float64) * slope, grad.dtype).error(result)
        assert error.max() <= expectation.bounds[dtype], (grad[error.argmax()], number)


@over_floats
@by_expectation
def test_special_values(ufuncs, expectation, dtype):
    *operands, expected = np.array(expectation.special, dtype).T.copy()
    result = ufuncs[expectation.name](*operands)
    wrong = (result != expected) | (np.signbit(result) != np.signbit(expected))
    wrong &= ~is_nan(expected) | ~is_nan(result)
    cases = np.transpose([*operands, expected, result])[wrong]
    assert not wrong.any(), f"operands, wanted, got:\n{cases}"


@by_float
@pytest.mark.parametrize(
    "expectation", [pytest.param(e, id=e.name) for e in EXPECTATIONS if e.range or e.monotone]
)
def test_range_and_order(ufuncs, expectation, dtype):
    """Results lie in the range. Those of a monotone function never fall, and reach its ends."""
    dtype = np.dtype(dtype)
    # In runs of neighbours, a step down would be a single bit in the last place.
    small = np.geomspace(1e-9, 1, 200)
    anchors = np.concatenate(
        [np.linspace(-110, 40, 600), np.linspace(-750, -690, 100), small, -small]
    )
    kind = bit_type(dtype)
    runs = bits(anchors.astype(dtype))[:, None] + np.arange(40, dtype=kind)
    values = runs.view(dtype).ravel()
    infinite, random = np.array([-np.inf, np.inf], dtype), random_patterns(dtype, 10_000)
    random = random[~is_nan(random)]
    below = np.nextafter(random, dtype.type(0))
    values = np.concatenate([values, infinite, edges(dtype), random, below])
    values = np.sort(values[~is_nan(values)])
    result = ufuncs[expectation.name](values)
    lowest, highest = np.array(expectation.range or infinite).astype(dtype)
    assert (result >= lowest).all()
    assert (result <= highest).all()
    if expectation.monotone:
        assert (result[1:] >= result[:-1]).all()
        assert result.min() == lowest
        assert result.max() == highest


@over_floats
def test_sigmoid_is_symmetric_within_an_ulp(ufuncs, dtype):
    x = np.concatenate([edges(np.dtype(dtype)), random_patterns(dtype, 10_000)])
    x = x[~is_nan(x)]
    total = ufuncs["sigmoid"](x).astype(np.float64) + ufuncs["sigmoid"](-x).astype(np.float64)
    assert (np.abs(total - 1) <= float(finfo(dtype).eps)).all()


@looped(
    ("name", "dtype", "last"),
    [(e.name, dtype, last) for e in EXPECTATIONS for dtype, last in e.tail.items()],
)
def test_tail_is_kept_to_the_smallest_subnormal(ufuncs, name, dtype, last):
    x = np.array([last, last - 1], dtype)
    assert_same_bits(ufuncs[name](x), np.array([finfo(dtype).smallest_subnormal, 0], dtype), x)


# ----------------------------------------------------------------- same bits


@over_layouts
@by_case
def test_layout_does_not_change_the_bits(ufuncs, expectation, dtype, layout):
    check_layout(ufuncs[expectation.name], dtype, layout, samples(expectation, dtype))


@over_layouts
@over_floats
@by_expectation
def test_layout_does_not_change_special_values(ufuncs, expectation, dtype, layout):
    """Not even the bits of a NaN."""
    check_layout(ufuncs[expectation.name], dtype, layout, special_grid(expectation, dtype))


def check_layout(compute, dtype, layout, values):
    for operands, out in layout(matrix(values)):
        native = np.dtype(dtype)
        plain = [np.array(o, dtype=native, order="C") for o in np.broadcast_arrays(*operands)]
        flat = [operand.ravel() for operand in plain]
        expected = compute(*flat, out=np.empty_like(flat[0])).reshape(plain[0].shape)
        result = compute(*operands, out=out)
        if out is not None:
            assert result is out
        assert_same_bits(np.asarray(result), expected, *plain)


@by_case
def test_neither_length_nor_position_changes_the_bits(ufuncs, expectation, dtype):
    compute = ufuncs[expectation.name]
    operands = [np.resize(operand, 4200) for operand in samples(expectation, dtype)]
    expected = compute(*operands)
    alone = [compute(*(operand[i : i + 1] for operand in operands)) for i in range(200)]
    assert_same_bits(np.concatenate(alone), expected[:200], *(o[:200] for o in operands))
    # Around vectors and blocks: 4096 bytes of 1, 2, 4 and 8 bytes each.
    blocks = (511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097)
    for length in (*range(71), *blocks):
        for start in 0, 1, 97:
            part = slice(start, start + length)
            shares = [operand[part] for operand in operands]
            assert_same_bits(compute(*shares), expected[part], *shares)
            strided = [np.repeat(share, 2)[::2] for share in shares]
            assert_same_bits(compute(*strided), expected[part], *shares)


@by_float
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "leaky_relu_backward"])
def test_results_that_go_past_the_cache(ufuncs, name, dtype):
    """Results from 32 MiB on, stored at any address: in whole cache lines and parts of them."""
    *operands, last = (np.resize(operand, 65537) for operand in samples(BY_NAME[name], dtype))
    if name.startswith("leaky"):
        last = last[:1]  # one slope for all
    expected = ufuncs[name](*operands, last)
    count = (1 << 25) // expected.nbytes + 1
    memory = np.full(count * expected.size + 3, 7, dtype)
    out = memory[1:-2]
    for threads in 1, 2:
        with fastact.num_threads(threads):
            large = [
                np.tile(operand, count if operand.size > 1 else 1) for operand in (*operands, last)
            ]
            ufuncs[name](*large, out=out)
        assert (bits(out.reshape(count, -1)) == bits(expected)).all()
        out[...] = 7
    assert (memory == 7).all()


@by_float
@pytest.mark.parametrize("name", ["relu", "sigmoid_backward"])
def test_results_of_strided_inputs_start_anywhere(ufuncs, name, dtype):
    n = 150_001
    operands = [np.resize(operand, n) for operand in samples(BY_NAME[name], dtype)]
    expected = ufuncs[name](*operands)
    strided = [np.repeat(operand, 2)[::2] for operand in operands]
    memory = np.full(n + 64, 7, dtype)
    for start in 0, 1, 5, 31:
        out = memory[start : start + n]
        for threads in 1, 3:
            with fastact.num_threads(threads):
                ufuncs[name](*strided, out=out)
            assert_same_bits(out, expected, *operands)
            assert (memory[:start] == 7).all()
            assert (memory[start + n :] == 7).all()
            out[...] = 7


@by_float
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid_backward"])
def test_threads_do_not_change_large_matrices(ufuncs, name, dtype):
    expectation = BY_NAME[name]
    operands = [np.resize(operand, (301, 700)) for operand in samples(expectation, dtype)]
    expected = ufuncs[name](*operands)
    views = {
        "by columns": np.asfortranarray,
        "gaps between rows": lambda a: np.pad(a, ((0, 0), (0, 5)))[:, :700],
        "short rows": lambda a: np.pad(a.reshape(-1, 7), ((0, 0), (2, 0)))[:, 2:],
        "boxes": lambda a: a.reshape(7, 43, 700).transpose(1, 2, 0).copy().transpose(2, 0, 1),
    }
    for make in views.values():
        viewed = [make(operand) for operand in operands]
        shaped = [operand.reshape(viewed[0].shape) for operand in operands]
        for count in 1, 2, 3:
            with fastact.num_threads(count):
                for out in np.empty(viewed[0].shape, dtype), make(np.empty_like(expected)):
                    ufuncs[name](*viewed, out=out)
                    assert_same_bits(out, expected.reshape(out.shape), *shaped)


@pytest.mark.parametrize(
    ("shape", "broadcast"),
    [((64, 40), (64, 1)), ((550, 2, 40, 32), (550, 1, 1, 32))],
    ids=["column", "row"],
)
def test_tiles_of_other_sizes_read_a_broadcast_operand(ufuncs, shape, broadcast):
    """Tiles of two sizes follow each other, and begin at the same element of `x`.

    In the second case, the share of a thread has to begin with the smaller one, as some do.
    """
    rng = np.random.default_rng(17)
    grad = rng.normal(size=(*shape[:-2], *shape[:-3:-1])).astype(np.float32).swapaxes(-1, -2)
    x = rng.normal(size=broadcast).astype(np.float32)
    out = np.empty(shape, np.float32)
    expected = np.where(np.broadcast_to(x, shape) > 0, grad, np.float32(0))
    with fastact.num_threads(2):
        for _ in range(10):
            np.testing.assert_array_equal(ufuncs["relu_backward"](grad, x, out=out), expected)


def test_a_transposed_output_may_overlap(ufuncs):
    """NumPy makes a copy. Without it, tiles would read what others have written."""
    square = np.arange(-5000, 5000, dtype=np.float32).reshape(100, 100)
    expected = np.maximum(square.T, 0)
    ufuncs["relu"](square.T, out=square)
    assert_same_bits(square, expected + np.float32(0))


@by_case
def test_threads_do_not_change_the_bits(ufuncs, expectation, dtype):
    compute = ufuncs[expectation.name]
    operands = [np.resize(operand, 3 * 65536 + 4097) for operand in samples(expectation, dtype)]
    small = [
        compute(*(o[i : i + 4096] for o in operands)) for i in range(0, len(operands[0]), 4096)
    ]
    expected = np.concatenate(small)
    for count in 1, 2, 3:
        with fastact.num_threads(count):
            assert_same_bits(compute(*operands), expected, *operands)
            backwards = [operand[::-1] for operand in operands]
            assert_same_bits(compute(*backwards), expected[::-1])
            into = operands[0].copy()
            compute(into, *operands[1:], out=into)
            assert_same_bits(into, expected, *operands)


def patterns(expectation, dtype):
    """Make operands from the whole range of bit patterns, and ordinary ones."""
    if np.dtype(dtype).itemsize == 2:
        x = all_of(dtype)
    elif dtype == "float32":
        x = np.arange(0, 1 << 32, 10_007, dtype=np.uint32).view(np.float32)
    else:
        ordinary = np.random.default_rng(2).uniform(-760, 760, 100_000)
        x = np.concatenate([random_patterns(dtype, 100_000), ordinary])
    others = [
        random_patterns(dtype, len(x), seed) for seed in range(3, 2 + len(expectation.operands))
    ]
    random = dict(
        zip([name for name in expectation.operands if name not in "xy"], others, strict=True)
    )
    operands = [random.get(name, x) for name in expectation.operands]
    pairs = zip(
        operands, samples(expectation, dtype), special_grid(expectation, dtype), strict=True
    )
    operands = [np.concatenate(pair) for pair in pairs]
    if expectation.operands[0] == "grad":
        operands[0][::2] = 1
    return operands


@pytest.mark.skipif(len(core.supported) == 1, reason="one instruction set only")
@by_float_case
def test_instruction_sets_agree_in_every_bit(expectation, dtype):
    operands = patterns(expectation, dtype)
    first, *others = (make_ufuncs(isa)[expectation.name](*operands) for isa in core.supported)
    for other in others:
        assert_same_bits(other, first, *operands)


# ---------------------------------------------------------- flags and modes


@contextmanager
def all_errors():
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        yield


@over_layouts
@over_floats
@by_expectation
def test_no_call_warns(ufuncs, expectation, dtype, layout):
    """Plain arrays take the fast call here. Other layouts take NumPy's."""
    for operands, out in layout(matrix(special_grid(expectation, dtype))):
        with all_errors():
            ufuncs[expectation.name](*operands, out=out)


@by_expectation
def test_no_call_on_python_values_warns(ufuncs, expectation):
    for values in zip(
        *(grid.tolist() for grid in special_grid(expectation, "float64")), strict=True
    ):
        with all_errors():
            ufuncs[expectation.name](*values)
            ufuncs[expectation.name](*([value] for value in values))


@over_floats
@looped("slope", [1e300, -1e300, 1e-300, 7e4, 1e-7, 1e-40, np.inf, np.nan])
@pytest.mark.parametrize("name", ["leaky_relu", "leaky_relu_backward"])
def test_no_slope_warns(ufuncs, name, slope, dtype):
    """A Python number is converted to the type of the arrays, where it may be out of range."""
    arrays = [np.array([-1, 0, 2, -3], dtype)] * (len(BY_NAME[name].operands) - 1)
    with np.errstate(all="ignore"):
        expected = ufuncs[name](*arrays, np.full(4, slope).astype(dtype))
    for part in (np.s_[:], np.s_[::2], np.s_[0]):
        with all_errors():
            result = ufuncs[name](*(array[part] for array in arrays), slope)
        np.testing.assert_array_equal(np.asarray(result, "d"), expected[part].astype("d"))


def control_register():
    """Return a function that reads MXCSR with fegetenv of glibc, and libm."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    environment = ctypes.create_string_buffer(64)

    def read():
        assert libm.fegetenv(environment) == 0
        return int.from_bytes(environment.raw[28:32], sys.byteorder)

    return read, libm


ALL_EXCEPTIONS = 0x3D
STATUS = 0x3F

glibc_on_x86_64 = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or platform.machine() != "x86_64",
    reason="reads MXCSR by glibc",
)


@glibc_on_x86_64
@looped("raised", [0, ALL_EXCEPTIONS], ids=["clear", "raised"])
@over_floats
@by_expectation
def test_calls_leave_modes_and_flags_alone(ufuncs, expectation, dtype, raised):
    read, libm = control_register()
    compute = ufuncs[expectation.name]
    grid = special_grid(expectation, dtype)
    out = np.empty_like(grid[0])
    large = [np.resize(operand, 150_000) for operand in grid]
    calls = [(grid, out, {}), (large, np.empty_like(large[0]), {})]
    if "slope" in expectation.operands:
        # The conversion of a number to the type of the arrays must not set flags either.
        calls += [(grid[:-1], out, {"negative_slope": slope}) for slope in (0.01, 1e-42, 1e-320)]
        calls += [(grid[:-1], out, {})]
    for operands, target, keywords in calls:
        libm.feclearexcept(ALL_EXCEPTIONS)
        libm.feraiseexcept(raised)
        before = read()
        compute(*operands, out=target, **keywords)
        after = read()
        libm.feclearexcept(ALL_EXCEPTIONS)
        assert after & ~STATUS == before & ~STATUS
        assert after == before, (
            f"{before & STATUS:#x} before, {after & STATUS:#x} after, {keywords}"
        )


@glibc_on_x86_64
@over_layouts
@by_expectation
def test_numpys_call_leaves_the_modes_alone(ufuncs, expectation, layout):
    read, _ = control_register()
    for operands, out in layout(matrix(special_grid(expectation, "float32"))):
        before = read() & ~STATUS
        ufuncs[expectation.name](*operands, out=out)
        assert read() & ~STATUS == before


THIRDS = [f"{sign}0x1.5555555555555p-{power}" for power in (2, 1) for sign in ("", "-")]


def test_denormals_and_rounding_are_as_ever(ufuncs):
    """Detect flush-to-zero, denormals-are-zero and the rounding mode by their effects."""
    x = np.linspace(-200, 200, 150_000, dtype=np.float32)
    tiny = np.array([5e-324, -5e-324])
    for expectation in EXPECTATIONS:
        ufuncs[expectation.name](*[x] * len(expectation.operands))
        assert (tiny + tiny == [1e-323, -1e-323]).all()
        assert (np.array([1e-308]) / 4 != 0).all()
        # 1/3 and -2/3 lie above the nearest doubles. Directed rounding would change one of them.
        thirds = np.array([1.0, -1.0, 2.0, -2.0]) / np.full(4, 3.0)
        assert [third.hex() for third in thirds.tolist()] == THIRDS
