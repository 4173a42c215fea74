"""Operations on rows: softmax, its logarithm and their gradients.

The exact results are computed in `numpy.longdouble` or, for float64, in mpmath, by the definitions.
The bits of all layouts, instruction sets and threads are compared with those of rows that are
contiguous and computed one by one.
"""

import itertools
import math
import os
import sys
from dataclasses import replace
from functools import cache

import mpmath
import numpy as np
import pytest
from layouts import LAYOUTS
from looped import looped
from programs import output
from reference import EXACT_CONTEXT, FLOATS, INF, NAN, bits, finfo

import fastact
from fastact._core import operations
from fastact._core import ufuncs as core
from fastact._core.networks import training

make_ufuncs = cache(core.make_row_ufuncs)
NAMES = ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"]
# The shortest rows, around the parts of a sum, those that are computed in one piece or several, and
# longer than a block.
LENGTHS = [*range(1, 36), 63, 64, 65, 127, 128, 129, 500, 511, 512, 513, 1000, 5000]

every_name = pytest.mark.parametrize("name", NAMES)
every_dtype = pytest.mark.parametrize("dtype", FLOATS)
over_dtypes = looped("dtype", FLOATS)


@pytest.fixture
def function(isa, name):
    return make_ufuncs(isa)[name]


def draw(name, dtype, shape, scale=4.0, seed=1):
    """Draw operands: logits, or a gradient and an output."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, scale, shape).astype(dtype)
    if not name.endswith("_backward"):
        return [x]
    output = make_ufuncs("baseline")[name.removesuffix("_backward")]
    return [rng.normal(0, scale, shape).astype(dtype), output(x)]


def one_by_one(name, operands):
    """Compute each row by itself, by the kernels of the baseline."""
    function = make_ufuncs("baseline")[name]
    operands = np.broadcast_arrays(*operands)
    result = np.empty(operands[0].shape, operands[0].dtype)
    for index in np.ndindex(result.shape[:-1]):
        result[index] = function(*(np.ascontiguousarray(operand[index]) for operand in operands))
    return result


def assert_same(result, wanted, message=""):
    assert result.dtype == wanted.dtype, message
    assert result.shape == wanted.shape, message
    assert np.array_equal(bits(result), bits(wanted)), message


def test_the_table_is_whole():
    assert [operation.name for operation in operations.ROW_OPERATIONS] == NAMES
    assert set(NAMES) < set(fastact.__all__)


def test_a_record_describes_each_operand():
    for operation in (*operations.OPERATIONS, *operations.ROW_OPERATIONS):
        with pytest.raises(ValueError, match=f"{operation.name}: parameters must describe each"):
            replace(operation, parameters=operation.parameters[1:])


# ------------------------------------------------------------------------- errors


def by_definition(name, m, operands):
    """The exact result and what is subtracted to get it, of arrays of numbers wide enough."""
    if name.endswith("_backward"):
        grad, y = operands
        if name == "softmax_backward":
            total = (grad * y).sum(-1, keepdims=True)
            return y * (grad - total), abs(y) * np.maximum(abs(grad), abs(total))
        total = m.exp(y) * grad.sum(-1, keepdims=True)
        return grad - total, np.maximum(abs(grad), abs(total))
    (x,) = operands
    top = x.max(-1, keepdims=True)
    if name == "softmax":
        powers = m.exp(x - top)
        return powers / powers.sum(-1, keepdims=True), None
    # All but one of the largest elements.
    others = m.exp(x - top)
    np.put_along_axis(others, x.argmax(-1)[..., None], 0 * top, -1)
    return (x - top) - m.log1p(others.sum(-1, keepdims=True)), None


class InMpmath:
    """The functions of mpmath that the definitions need, over arrays."""

    exp = np.frompyfunc(EXACT_CONTEXT.exp, 1, 1)
    log1p = np.frompyfunc(EXACT_CONTEXT.log1p, 1, 1)


def error(name, operands, result):
    """The greatest error in ULP: of the result, or of what is subtracted if that is larger."""
    dtype = result.dtype
    if dtype == np.float64:
        functions, to_wide = InMpmath, np.frompyfunc(EXACT_CONTEXT.mpf, 1, 1)
    else:
        functions, to_wide = np, lambda a: a.astype(np.float64)
    wide = [to_wide(operand.astype(np.float64)) for operand in operands]
    wanted, subtracted = by_definition(name, functions, wide)
    size = abs(wanted) if subtracted is None else np.maximum(abs(wanted), subtracted)
    _, exponent = np.frexp(size.astype(np.float64))
    info = finfo(dtype)
    unit = np.ldexp(1.0, np.maximum(exponent - 1, info.minexp) - info.nmant)
    return float((abs(to_wide(result.astype(np.float64)) - wanted) / unit).max())


@looped("scale", [0.01, 1.0, 4.0, 40.0, 300.0])
@every_dtype
@every_name
def test_errors(function, name, dtype, scale):
    bounds = next(op for op in operations.ROW_OPERATIONS if op.name == name).bounds
    bound = bounds.narrow if np.dtype(dtype).itemsize == 2 else bounds.wide
    many = 3000 if np.dtype(dtype) != np.float64 else 60
    for n in (1, 2, 3, 10, 16, 33, 130):
        operands = draw(name, dtype, (max(1, many // n), n), scale, seed=n)
        assert error(name, operands, function(*operands)) <= bound, n


@looped("dtype", ["float32", "float64"])
def test_a_small_result_keeps_its_digits(isa, dtype):
    """Down to the smallest subnormal number: of an element, and of the sum of all others."""
    tail = -np.log(float(np.finfo(dtype).smallest_subnormal))
    x = np.zeros((200, 3), dtype)
    x[:, 1] = -np.linspace(0, tail - 1, 200)
    x[:, 2] = x[:, 1] - 1
    for name in ("softmax", "log_softmax"):
        result = make_ufuncs(isa)[name](x)
        assert error(name, [x], result) <= 2.5
        assert (result[:-1, 1] != 0).all()
    assert (make_ufuncs(isa)["log_softmax"](x)[:-2, 0] < 0).all()


def of_two_numbers(n, x, top):
    """Softmax and log_softmax, at `top` and at x, of a row of n - 1 elements x and `top`."""
    m = EXACT_CONTEXT
    others = (n - 1) * m.exp(m.mpf(float(x)) - float(top))
    logs = [-m.log1p(others), m.mpf(float(x)) - float(top) - m.log1p(others)]
    return {"softmax": [m.exp(value) for value in logs], "log_softmax": logs}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [100, 513, 1000, 33_000, 1_000_000, 10_000_000])
def test_long_rows(isa, dtype, n):
    """The errors of equal terms add up, whether their sum is large or small beside the largest."""
    if n > 33_000 and isa != core.supported[0]:
        pytest.skip("takes seconds; that the bits are those of the other sets is tested below")
    info = finfo(dtype)
    shares = (0.45, 1e-2, 1.1e-6, 0.9e-6, 1e-9, 1.1e-12, 1e-14)
    for share in shares if n < 10_000_000 else shares[:2]:
        x = np.full(n, np.log(share / n), dtype)
        x[n // 3] = 0
        for name, wanted in of_two_numbers(n, x[0], 0).items():
            result = make_ufuncs(isa)[name](x)
            assert (result == result[0]).sum() >= n - 1
            for value, exact in zip(result[[n // 3, 0]], wanted, strict=True):
                exponent = max(np.frexp(float(exact))[1] - 1, info.minexp)
                error = abs(float(value) - exact) / np.ldexp(1.0, exponent - info.nmant)
                assert error <= 2.5, (name, share, float(value))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_rows_have_the_same_bits_everywhere(isa, dtype):
    rng = np.random.default_rng(8)
    for n in (512, 513, 1024, 1025, 20_000):
        for share in (0.45, 1e-10):
            x = (np.log(share / n) + rng.normal(0, 1, (4, n))).astype(dtype)
            x[:, n // 2] = 0
            for name in ("softmax", "log_softmax"):
                wanted = one_by_one(name, [x])
                assert_same(make_ufuncs(isa)[name](x), wanted)
                assert_same(make_ufuncs(isa)[name](x.T.copy(), axis=0).T, wanted)


@pytest.mark.parametrize("n", [1000, 33_000])
def test_errors_of_long_rows_of_rounded_numbers(isa, n):
    rng = np.random.default_rng(5)
    x = np.round(rng.normal(0, 4, (1, n)) * 4) / 4
    for name in ("softmax", "log_softmax"):
        assert error(name, [x], make_ufuncs(isa)[name](x)) <= 2.5


@looped("dtype", ["float32", "float64"])
@looped("offset", [1e2, 300.0, -300.0, 2100.0, -1e6, 1e30, -1e30])
def test_an_offset_of_all_elements(isa, dtype, offset):
    """Where k of an element does not fit, the largest element is subtracted first."""
    rng = np.random.default_rng(3)
    x = (rng.normal(0, 20, (60, 7)) + offset).astype(dtype)
    for name in ("softmax", "log_softmax"):
        assert error(name, [x], make_ufuncs(isa)[name](x)) <= 2.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1000, 33_000])
def test_cross_entropy_of_long_rows(isa, dtype, n):
    """Losses, and the gradient by weights, whose sum is a factor of it."""
    loss = training.SoftmaxLoss(core.kernel_table(isa))
    rng = np.random.default_rng(6)
    x = np.log(0.45 / n) + np.zeros((2, n))
    x[1] += rng.normal(0, 1, n)
    x[:, n // 2] = 0
    x = x.astype(dtype)
    weights = np.stack([np.full(n, 0.1), rng.random(n)]).astype(dtype)
    wide = np.longdouble if dtype == "float64" else np.float64
    logs = by_definition("log_softmax", np, [x.astype(wide)])[0]
    gradient, units = np.empty_like(x), 2.5 * np.finfo(dtype).eps
    for target in np.array([n // 2, n // 2]), np.array([0, n - 1]):
        wanted = -np.take_along_axis(logs, target[:, None], 1).mean()
        assert abs(loss(x, target, gradient) - wanted) <= units * wanted
    wanted = -(weights * logs).sum() / 2
    assert abs(loss(x, weights, gradient) - wanted) <= units * wanted
    share = np.exp(logs) * weights.astype(wide).sum(-1, keepdims=True)
    difference = abs(gradient - (share - weights) / 2)
    assert (difference <= 2 * units * np.maximum(share, weights)).all()


def test_cross_entropy_of_many_rows(isa):
    loss = training.SoftmaxLoss(core.kernel_table(isa))
    x = np.zeros((300_000, 3))
    wanted = np.log(3.0)
    for target in np.zeros(len(x), np.intp), np.full(x.shape, 1 / 3):
        assert abs(loss(x, target, np.empty_like(x)) - wanted) <= 2 * np.spacing(wanted)


# --------------------------------------------------------------------------- bits


@looped("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@every_dtype
@every_name
def test_layouts(function, name, dtype, layout):
    operands = draw(name, dtype, (6, 420))
    tried = 0
    for arrays, out in layout(operands):
        lengths = {np.shape(a)[-1] if np.ndim(a) else None for a in arrays}
        if len(lengths) > 1 or None in lengths or not all(np.ndim(a) for a in arrays):
            continue  # an axis is not broadcast
        wanted = one_by_one(name, arrays)
        if out is not None and out.shape != wanted.shape:
            continue
        tried += 1
        assert_same(function(*arrays, out=out).astype(wanted.dtype), wanted)
    assert tried or layout.__name__ == "zero_dimensional"


@every_dtype
@every_name
def test_lengths_and_axes(function, name, dtype):
    for n in LENGTHS:
        for rows in (1, 3, 4, 33) if n < 600 else (2,):
            operands = draw(name, dtype, (rows, n), seed=n)
            wanted = one_by_one(name, operands)
            assert_same(function(*operands), wanted, (rows, n))
            across = [np.ascontiguousarray(operand.T) for operand in operands]
            assert_same(function(*across, axis=0).T, wanted, (n, rows))
            out = np.full((2 * n, rows), 7, wanted.dtype)
            function(*across, axis=0, out=out[::2])
            assert_same(out[::2].T, wanted, (n, rows))
            assert (out[1::2] == 7).all()


@every_name
def test_axes_of_many_dimensions(function, name):
    operands = draw(name, "float32", (3, 4, 5, 6))
    for axis in range(-4, 4):
        moved = [np.moveaxis(operand, axis, -1) for operand in operands]
        wanted = np.moveaxis(one_by_one(name, moved), -1, axis)
        assert_same(function(*operands, axis=axis), wanted)
        assert_same(function(*operands, axis=np.int64(axis)), wanted)
        turned = [operand.T for operand in operands]
        assert_same(function(*turned, axis=-1 - axis), wanted.T)
        copies = [operand.copy() for operand in operands]
        assert function(*copies, axis=axis, out=copies[0]) is copies[0]
        assert_same(copies[0], wanted)


@every_name
def test_results_are_in_c_order(function, name):
    for shape in ((6, 4), (3, 4, 5), (2, 1, 3, 2)):
        operands = draw(name, "float32", shape)
        for given in (
            operands,
            [np.asfortranarray(o) for o in operands],
            [o[::-1] for o in operands],
        ):
            for axis in range(len(shape) - 1):
                result = function(*given, axis=axis)
                assert result.flags.c_contiguous
                moved = [np.moveaxis(o, axis, -1) for o in given]
                assert_same(result, np.moveaxis(one_by_one(name, moved), -1, axis))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@every_name
def test_threads(function, name, dtype):
    # A little more than what wakes threads, 2**18 elements. Also of columns, more than a block
    # each, of which a thread may get one.
    tall = [((33_000, 8), 0), ((8000, 33), 0), ((87_501, 3), 0), ((65_600, 4), 0)]
    wide = [((26_300, 10), -1), ((520, 510), -1), ((510, 520), 0), ((3, 87_501), -1)]
    wide[2:2] = [((61, 5000), -1)]  # several rows for each room that is allocated
    # The split is the same for all types.
    for shape, axis in tall + wide if dtype == "float32" else tall[::2] + wide[::2]:
        operands = draw(name, dtype, shape)
        wanted, out = (np.empty(shape, dtype) for _ in range(2))
        with fastact.num_threads(1):
            function(*operands, axis=axis, out=wanted)
        with fastact.num_threads(4):
            assert_same(function(*operands, axis=axis), wanted)
            assert_same(function(*operands, axis=axis, out=out), wanted)


@every_name
def test_rows_that_overlap(function, name):
    memory = draw(name, "float64", (400,))
    for step in (1, 3):
        operands = [np.lib.stride_tricks.sliding_window_view(m, 20)[::step] for m in memory]
        assert_same(function(*operands), one_by_one(name, operands))
    for n, shift in ((390, 10), (390, 1), (200, 200)):
        wanted = function(*(m[:n].copy() for m in memory))
        copies = [m.copy() for m in memory]
        assert_same(function(*(m[:n] for m in copies), out=copies[0][shift : shift + n]), wanted)


@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 3), (2, 2, 2, 2)])
@every_name
def test_output_that_is_an_operand_along_other_axes(name, shape):
    """The output is an operand, its transposes, or overlaps it; each has an axis of its own."""
    function = getattr(fastact, name)
    size, dims = math.prod(shape), range(len(shape))
    memory = draw(name, "float64", (size + 5,))
    for axes in itertools.product(dims, repeat=function.nin + 1):
        wanted = function(*(m[:size].copy().reshape(shape) for m in memory), axes=list(axes))
        for i, shift in itertools.product(range(function.nin), (0, 1, 5)):
            for turn in itertools.permutations(dims):
                copies = [m.copy() for m in memory]
                out = copies[i][shift : shift + size].reshape(shape).transpose(turn)
                operands = [m[:size].reshape(shape) for m in copies]
                assert_same(function(*operands, axes=list(axes), out=out), wanted)


def test_output_behind_a_buffer_along_another_axis():
    x = draw("softmax", "float64", (3, 3, 3))[0]
    wanted = fastact.softmax(x.copy(), axes=[0, 1])
    assert_same(fastact.softmax(memoryview(x), axes=[0, 1], out=(x,)), wanted)


def test_a_row_of_each_operand_is_repeated(isa):
    function = make_ufuncs(isa)["softmax_backward"]
    grad, y = draw("softmax_backward", "float32", (5, 8))
    for operands in ([grad[0], y], [grad, y[:1]], [grad[:, None], y]):
        assert_same(function(*operands), one_by_one("softmax_backward", operands))


# ----------------------------------------------------------------- special values


@over_dtypes
@looped("rows", [1, 40])
def test_special_values(isa, dtype, rows):
    softmax, log_softmax = (make_ufuncs(isa)[name] for name in ("softmax", "log_softmax"))
    greatest = float(finfo(dtype).max)
    for row, wanted in [
        ([-INF, 0, 0], [0, 0.5, 0.5]),
        ([-INF, -INF, 3], [0, 0, 1]),
        ([greatest, -greatest, greatest], [0.5, 0, 0.5]),
        ([greatest, -greatest, -greatest], [1, 0, 0]),
        ([-greatest, -greatest, -greatest, -greatest], [0.25] * 4),
        ([-0.0, 0.0], [0.5, 0.5]),
        ([7.0], [1]),
        ([NAN, 1, 2], [NAN] * 3),
        ([NAN, NAN], [NAN] * 2),
        ([1, -NAN, INF], [NAN] * 3),
        ([INF, 1, 2], [NAN] * 3),
        ([INF, -INF], [NAN] * 2),
        ([-INF] * 3, [NAN] * 3),
    ]:
        x = np.resize(np.array([row, [0.0] * len(row)], dtype), (2 * rows, len(row)))
        with np.errstate(all="raise"):
            y, logarithm = softmax(x), log_softmax(x)
        assert_same(y[0::2], np.resize(np.array(wanted, dtype), (rows, len(row))), row)
        # The other rows are not affected.
        np.testing.assert_allclose(y[1::2].astype("f8"), 1 / len(row), rtol=1e-2)
        with np.errstate(divide="ignore"):
            logs = np.log(np.array(wanted, "f8"))
        if greatest not in np.abs(row):
            np.testing.assert_allclose(logarithm[0].astype("f8"), logs, rtol=1e-2)
    x = np.array([[-greatest, greatest]], dtype)
    with np.errstate(all="raise"):
        assert log_softmax(x).tolist() == [[-INF, 0]]


@over_dtypes
@looped("rows", [1, 40])
def test_special_gradients(isa, dtype, rows):
    softmax, log_softmax = (
        make_ufuncs(isa)[name] for name in ("softmax_backward", "log_softmax_backward")
    )
    greatest, large = float(finfo(dtype).max), 1.5 * 2.0 ** (finfo(dtype).maxexp - 1)
    for grad, y, wanted in [
        ([1, 2], [0, 1], [0, 0]),
        ([large, -large], [0.25, 0.75], [large * 0.375, -large * 0.375]),
        ([NAN, 2], [0.5, 0.5], [NAN, NAN]),
        ([INF, 2], [0.5, 0.5], [NAN, -INF]),
        ([1, 2], [NAN, NAN], [NAN, NAN]),
        ([0, 0], [0.5, 0.5], [0, 0]),
    ]:
        with np.errstate(all="raise"):
            result = softmax(*(np.resize(np.array(a, dtype), (rows, 2)) for a in (grad, y)))
        np.testing.assert_array_equal(result.astype("f8"), np.resize(wanted, (rows, 2)))
        assert not np.signbit(result[np.isnan(result)]).any()
    for grad, y, wanted in [
        ([1, 2], [-INF, 0], [1, -1]),
        ([greatest, 0], [0, -INF], [0, 0]),
        ([greatest, 0, 0], [-INF, -INF, 0], [greatest, 0, -greatest]),
        ([1, 0], [INF, 0], [-INF, -1]),
        ([1, -1], [INF, -INF], [NAN, -1]),
        ([1, 2], [-INF, 1e4], [1, -INF]),
        ([-INF, 0, 0], [0, -1e4, -INF], [NAN, INF, NAN]),
        ([NAN, 2], [-1, -1], [NAN, NAN]),
        ([INF, 2], [-1, -1], [NAN, -INF]),
        ([1, -1], [-1, -1], [1, -1]),
        ([3, 2], [NAN, 0], [NAN, -3]),
    ]:
        with np.errstate(all="raise"):
            result = log_softmax(
                *(np.resize(np.array(a, dtype), (rows, len(grad))) for a in (grad, y))
            )
        np.testing.assert_array_equal(result.astype("f8"), np.resize(wanted, (rows, len(grad))))
        assert not np.signbit(result[np.isnan(result)]).any()


def operands_of_all_sizes(rng, dtype, n):
    """Draw gradients of one sign, so that no sum cancels, and y such that all products are met."""
    info = finfo(dtype)
    least, most = info.minexp - info.nmant, info.maxexp - 4
    exponents = rng.integers(least, most, n)
    if rng.random() < 0.5:
        exponents = np.minimum(exponents[0] + rng.integers(-40, 1, n), most)
        exponents = np.maximum(exponents, least)
    grad = np.ldexp(rng.choice([-1, 1]) * rng.uniform(1, 2, n), exponents).astype(dtype)
    if rng.random() < 0.5:
        grad[rng.integers(n)] = rng.choice([0.0, -0.0])
    size = np.log(abs(grad.astype(np.longdouble)).sum() + float(info.smallest_subnormal))
    y = [
        -abs(rng.normal(0, 3, n)),
        -size + rng.uniform(least - 3, most + 3, n) * np.log(2),
        rng.uniform(-2 * most, 0, n),
        np.where(rng.random(n) < 0.3, -INF, -1.0),
    ][rng.integers(4)]
    return grad, y.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_softmax_backward_over_the_whole_range(isa, dtype):
    """Also where exp(y) is subnormal, 0 or more than 1, and for rows among others."""
    function = make_ufuncs(isa)["log_softmax_backward"]
    rng = np.random.default_rng(11)
    m = mpmath.MPContext()
    m.prec = 2400
    info = finfo(dtype)
    for _ in range(400 if dtype == "float32" else 150):
        n = int(rng.integers(1, 7))
        grad, y = operands_of_all_sizes(rng, dtype, n)
        result = function(grad, y)
        assert_same(result, one_by_one("log_softmax_backward", [grad[None], y[None]])[0])
        # Beside ordinary ones, whose bits stay what they are.
        for width in (3, 32):
            others = rng.normal(0, 1, (2, n, width)).astype(dtype)
            others[1] = -abs(others[1])
            wanted = one_by_one("log_softmax_backward", [o.T for o in others])
            others[:, :, 1] = grad, y
            wanted[1] = result
            assert_same(function(*others, axis=0).T, wanted)
        total = sum(map(m.mpf, grad.tolist()))
        for g, log, value in zip(grad.tolist(), y.tolist(), result.tolist(), strict=True):
            product = m.exp(log) * total if log > -INF else m.mpf(0)
            wanted = m.mpf(g) - product
            if abs(wanted) > float(info.max):
                assert value == (INF if wanted > 0 else -INF) or abs(value) == float(info.max)
                continue
            size = max(abs(wanted), abs(product))
            exponent = max(int(m.frexp(size)[1]) - 1 if size else info.minexp, info.minexp)
            unit = m.ldexp(1, exponent - info.nmant)
            assert abs(value - wanted) <= 2.5 * unit, (grad, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_backward_of_large_gradients(isa, dtype):
    """Grad - sum(grad * y) may be twice as large as the type goes."""
    function = make_ufuncs(isa)["softmax_backward"]
    info = finfo(dtype)
    rng = np.random.default_rng(12)
    for n in (2, 10, 600):
        grad = (rng.uniform(-1, 1, (5, n)) * float(info.max)).astype(dtype)
        grad[:, 0], grad[:, 1] = info.max, -float(info.max)
        y = make_ufuncs(isa)["softmax"](rng.normal(0, 3, (5, n)).astype(dtype))
        small = function(grad * np.dtype(dtype).type(2.0**-20), y)
        result = function(grad, y)
        assert_same(result, one_by_one("softmax_backward", [grad, y]))
        assert_same(function(grad.T.copy(), y.T.copy(), axis=0).T, result)
        assert np.isfinite(result).all()
        np.testing.assert_allclose(result, small * np.dtype(dtype).type(2.0**20), rtol=1e-5, atol=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_nan_in_y(isa, dtype):
    """In log_softmax_backward it is that of an element; its sign does not go on."""
    payload = np.array([0xFFC12345], "u4").view("f4")[0]
    for n in (3, 20, 700):
        for nan in (NAN, -NAN, payload):
            grad, y = np.ones((5, n), dtype), np.full((5, n), -1.0, dtype)
            y[2, 1] = nan
            for axis, arrays in ((1, [grad, y]), (0, [grad.T.copy(), y.T.copy()])):
                result = make_ufuncs(isa)["log_softmax_backward"](*arrays, axis=axis)
                result = np.moveaxis(result, axis, -1)
                assert np.isnan(result).sum() == 1
                assert bits(result[2, 1:2]) == bits(np.array([NAN], dtype))
                result = make_ufuncs(isa)["softmax_backward"](*arrays, axis=axis)
                result = np.moveaxis(result, axis, -1)
                assert (bits(result[2]) == bits(np.array([NAN], dtype))).all()
                assert np.isnan(result).sum() == n


def test_a_sum_that_cancels(isa):
    """Its rounding errors remain, as docs/accuracy.md says."""
    function = make_ufuncs(isa)["log_softmax_backward"]
    y = np.log(np.full(3, 1 / 3, "float32"))
    assert function(np.array([1e20, -1e20, 1], "float32"), y)[2] == 1
    rng = np.random.default_rng(13)
    for dtype, unit in (("float32", 2.0**-53), ("float64", 2.0**-104)):
        for n in (3, 50, 2000):
            grad = rng.normal(0, 1e6, (3, n)).astype(dtype)
            grad[:, n // 2 :] = -grad[:, : n - n // 2]
            grad[:, -1] += 1
            y = np.full((3, n), np.log(1 / n), dtype)
            result = function(grad, y)
            for g, row in zip(grad, result, strict=True):
                total = math.fsum(g.tolist())
                size = math.fsum(abs(g).tolist())
                allowed = (n / 16 + 4) ** (1 if dtype == "float32" else 2) * unit * size / n
                wanted = g.astype("f8") - np.exp(y[0].astype("f8")) * total
                ulp = np.spacing(np.maximum(abs(wanted), abs(total) / n).astype(dtype))
                assert (abs(row.astype("f8") - wanted) <= 2.5 * ulp + allowed).all()


@every_name
def test_nan_is_the_same_everywhere(function, name):
    """It is made anew: the positive quiet one, without a payload."""
    for n in (3, 20, 700):
        operands = draw(name, "float32", (5, n))
        operands[0][2, 1] = np.uint32(0xFFC12345).view(np.float32)
        result = function(*operands)
        assert (bits(result[2]) == 0x7FC00000).all()
        assert not np.isnan(np.delete(result, 2, 0)).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_of_losses_is_the_same_everywhere(isa, dtype):
    """That of losses, and of the gradients of cross-entropy, is the positive quiet one."""
    table = core.kernel_table(isa)
    payload = np.array([0xFFC12345], "u4").view("f4")[0].astype(dtype)
    for n in (1, 2, 17, 600):
        for nan in (NAN, -NAN, payload):
            x, target = np.full((2, n), 0.5, dtype), np.full((2, n), 0.25, dtype)
            x[1, n // 2] = nan
            for loss in training.MeanLoss("logistic_loss", table), training.SoftmaxLoss(table):
                for arrays in (x, target), (target, x), (x, x):
                    value = np.float64(loss(*arrays, np.empty_like(x)))
                    assert bits(np.array([value])) == bits(np.array([NAN]))
            for arrays in (x, np.zeros(2, np.intp)), (x, target), (target, x):
                gradient = np.empty_like(x)
                value = np.float64(training.SoftmaxLoss(table)(*arrays, gradient))
                assert bits(np.array([value])) == bits(np.array([NAN]))
                assert (bits(gradient[1]) == bits(np.array([NAN], dtype))).all()
                assert not np.isnan(gradient[0]).any()


@every_name
def test_rows_of_nothing(function, name):
    count = function.nin
    for shape in (0,), (3, 0), (0, 3):
        assert function(*[np.empty(shape)] * count).shape == shape
    assert function(*[np.empty((0, 3, 2))] * count, axis=0).shape == (0, 3, 2)


# -------------------------------------------------------------------------- types


@looped("dtype", ["bool", "int8", "uint8", "int16", "int32", "int64", "uint64"])
@every_name
def test_integers_are_promoted_as_by_exp(function, name, dtype):
    operands = [np.array([[1, 0, 1], [1, 1, 0]], dtype)] * function.nin
    wanted = np.exp(operands[0]).dtype
    assert_same(function(*operands), function(*(o.astype(wanted) for o in operands)))


@every_name
def test_types_that_differ(function, name):
    operands = draw(name, "float32", (4, 5))
    wide = [operand.astype("float64") for operand in operands]
    assert function(*operands, dtype="float64").dtype == np.float64
    assert_same(function(*operands, dtype="float64"), function(*wide))
    out = np.empty((4, 5), "float32")
    assert function(*wide, out=out) is out
    assert_same(out, function(*wide).astype("float32"))
    if len(operands) == 2:
        assert_same(function(operands[0], wide[1]), function(wide[0], wide[1]))


@every_name
def test_bfloat16_is_computed_in_float32(function, name):
    operands = draw(name, next(d for d in FLOATS if np.dtype(d).name == "bfloat16"), (7, 50))
    wanted = function(*(operand.astype("float32") for operand in operands))
    assert_same(function(*operands), wanted.astype(operands[0].dtype))


def test_lists_and_subclasses():
    class Array(np.ndarray):
        pass

    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert_same(fastact.softmax(x.tolist()), fastact.softmax(x))
    assert type(fastact.softmax(x.view(Array))) is Array
    swapped = x.astype(">f8")
    assert_same(fastact.softmax(swapped), fastact.softmax(x))


# -------------------------------------------------------------------------- misuse

X = np.ones((2, 3))
READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("arguments", "keywords", "kind", "message"),
    [
        ((), {}, TypeError, "positional arguments"),
        ((X, X, X), {}, TypeError, "positional arguments"),
        ((X,), {"where": True}, TypeError, "where"),
        ((X,), {"keepdims": True}, TypeError, "keepdims"),
        ((X,), {"axes": [0, 1], "axis": 1}, TypeError, "both 'axis' and 'axes'"),
        ((X,), {"axis": 1.0}, TypeError, "float"),
        ((X,), {"axis": 2}, np.exceptions.AxisError, "axis 2"),
        ((X,), {"axis": 2**70}, OverflowError, "int"),
        ((1.0,), {}, ValueError, "does not have enough dimensions"),
        ((np.float32(1),), {}, ValueError, "does not have enough dimensions"),
        ((X,), {"out": np.ones((3, 2))}, ValueError, "mismatch in its core dimension"),
        ((X,), {"out": READ_ONLY}, ValueError, "read-only"),
        ((X,), {"axis": None}, TypeError, "softmax: axis is of type NoneType; wanted an integer"),
        ((X,), {"axis": (0, 1)}, TypeError, "softmax: axis is of type tuple; wanted an integer"),
        ((X,), {"axis": True}, TypeError, "softmax: axis is of type bool; wanted an integer"),
        ((X.tolist(),), {"axis": "0"}, TypeError, "softmax: axis is of type str; wanted an int"),
        ((X, 1), {}, TypeError, "softmax: out is of type int; wanted an array; an axis is given"),
        ((X, X, 1), {}, TypeError, "an axis is given by name, as in axis=-1"),
        ((X,), {"out": [1.0]}, TypeError, "out is of type list; wanted an array"),
        ((X,), {"out": (1,)}, TypeError, "out is of type int; wanted an array"),
        ((X,), {"out": np.ones((2, 3), int)}, TypeError, "Cannot cast"),
        ((X + 1j,), {}, TypeError, "softmax: an operand has dtype complex128; wanted float16"),
        ((X.astype(object),), {}, TypeError, "softmax: an operand has dtype object"),
        ((X.astype(np.longdouble),), {}, TypeError, "x.astype"),
    ],
)
def test_misuse(arguments, keywords, kind, message):
    out = keywords.get("out")
    before = None if out is None else np.copy(out)
    with pytest.raises(kind, match=message):
        fastact.softmax(*arguments, **keywords)
    assert out is None or np.array_equal(out, before)


WITHOUT_MEMORY = """\
import resource
import numpy as np
import fastact

x = np.zeros((2, 3_000_000), "float16")
out = np.full(x.shape, 7, "float16")
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (9 << 20),) * 2)
for arrays in (x, out), (x[:, ::-1], out[:, ::-1]):
    try:
        fastact.softmax(arrays[0], out=arrays[1])
    except MemoryError:
        assert (out == 7).all()
        print("refused")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer takes all addresses")
def test_no_memory_for_the_copy_of_a_row():
    assert output(WITHOUT_MEMORY) == "refused\nrefused\n"


@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_rows_of_different_lengths(name):
    with pytest.raises(ValueError, match=r"size 2 is different from 3"):
        getattr(fastact, name)(X, X[:, :2])


def test_docstrings_and_signatures():
    for name in NAMES:
        function = getattr(fastact, name)
        count = function.nin
        assert function.signature == ",".join(["(n)"] * count) + "->(n)"
        for section in ("Parameters", "Returns", "Raises", "See Also", "Notes"):
            assert f"{section}\n{'-' * len(section)}" in function.__doc__
        assert "axis : int, default -1" in function.__doc__
