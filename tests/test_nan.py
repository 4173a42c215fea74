"""The bits of a NaN: its payload goes on at every position, with every instruction set."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from looped import looped
from reference import BY_NAME, EXPECTATIONS, FLOATS, bit_type, bits, finfo, is_nan

COUNTS = {"float32": 1 << 22, "float64": 1 << 18}
QUICK_COUNT = 1 << 17
# Whole vectors, in arrays that the cache holds.
BLOCK = 1 << 15
PAYLOAD_OF_ONES = float(np.uint64(0x7FFFFFFFFFFFFFFF).view(np.float64))
# Vectors, what is left over for shorter ones, and single numbers.
LENGTHS = range(1, 68)


def sign_bit(dtype):
    return bit_type(dtype).type(1 << (8 * np.dtype(dtype).itemsize - 1))


def payload_bits(dtype):
    """Make the mask of the payload. The bit above it, the quiet one, is not part of it."""
    return bit_type(dtype).type((1 << (finfo(dtype).nmant - 1)) - 1)


@cache
def all_nans(dtype):
    """Make NaNs of both signs, quiet and signalling: all of 16 bits, otherwise `COUNTS`.

    All of 16 bits come 64 times, in a period that is odd: each is at every lane of a vector. Of the
    others, a random number of bits at the end is set. A shift turns these into a large exponent.
    """
    dtype = np.dtype(dtype)
    kind = bit_type(dtype)
    if dtype.itemsize == 2:
        values = np.arange(1 << 16, dtype=kind).view(dtype)
        values = values[is_nan(values)]
        return np.tile(np.append(values, values[0]), 64)
    rng = np.random.default_rng(8)
    count = COUNTS[dtype.name]
    number = rng.integers(0, np.iinfo(kind).max, count, kind, endpoint=True)
    ones = (kind.type(1) << rng.integers(0, finfo(dtype).nmant, count).astype(kind)) - kind.type(1)
    number |= ones | bits(np.array(np.inf, dtype)) | kind.type(1)
    return number.view(dtype)


@pytest.fixture
def nans(request):
    """NaNs of a type; fewer of them for `--quick`."""
    quick = request.config.getoption("quick")
    return lambda dtype: all_nans(dtype)[: QUICK_COUNT if quick else None]


def place_of_input(expectation):
    return expectation.operands.index("y" if expectation.output_of else "x")


def operands_with(given, places, expectation):
    """Make operands of which those at certain places are NaN, so that one of these goes on."""
    values = {"grad": 3, "x": -0.5, "y": 0.25, "slope": 0.125}
    if [expectation.operands[place] for place in places] == ["grad"]:
        values["x"] = 0.5
    operands = [np.full(given.size, values[name], given.dtype) for name in expectation.operands]
    if "grad" in expectation.operands:
        operands[0][::2] *= -1
    for shift, place in enumerate(places):
        operands[place] = np.roll(given, shift)
    return operands


def assert_payloads(result, *given):
    """Fail unless every result is a NaN with the payload of one of those given."""
    mask = payload_bits(result.dtype)
    lost = [(bits(result) ^ bits(values)) & mask != 0 for values in given]
    wrong = np.logical_and.reduce(lost) if len(lost) > 1 else lost[0]
    wrong |= ~is_nan(result)
    if wrong.any():
        at = wrong.argmax()
        pytest.fail(
            f"{wrong.sum()} of {wrong.size} are lost; at {at}: "
            f"{[hex(bits(values)[at]) for values in given]} gives {bits(result)[at]:#x}"
        )


over_floats = looped("dtype", FLOATS)
by_expectation = pytest.mark.parametrize(
    "expectation", EXPECTATIONS, ids=[e.name for e in EXPECTATIONS]
)


@over_floats
@by_expectation
def test_payload_of_a_nan_goes_on(ufuncs, expectation, dtype, nans):
    """From `x` or `y`. The sign is kept, too, where there is no other operand."""
    compute, given = ufuncs[expectation.name], nans(dtype)
    place = place_of_input(expectation)
    out = np.empty(BLOCK, dtype)
    operands = operands_with(given[:BLOCK], [place], expectation)
    for start in range(0, given.size, BLOCK):
        operands[place] = given[start : start + BLOCK]
        shares = [operand[: operands[place].size] for operand in operands]
        result = compute(*shares, out=out[: shares[0].size])
        assert_payloads(result, operands[place])
        if len(operands) == 1:
            assert not ((bits(result) ^ bits(operands[0])) & sign_bit(dtype)).any()


@over_floats
@by_expectation
def test_bits_of_a_nan_do_not_depend_on_the_position(ufuncs, expectation, dtype, nans):
    """At any length and address, they are those of a large array, the sign as well."""
    compute = ufuncs[expectation.name]
    place = place_of_input(expectation)
    operands = operands_with(nans(dtype)[: 20 * sum(LENGTHS)], [place], expectation)
    expected = compute(*operands)
    result, start = np.empty_like(expected), 0
    while start < result.size:
        for length in LENGTHS:
            part = slice(start, start + length)
            compute(*(operand[part] for operand in operands), out=result[part])
            start += length
    assert_payloads(expected, operands[place])
    assert np.array_equal(bits(result), bits(expected))


@over_floats
@by_expectation
def test_payload_of_another_nan_goes_on(ufuncs, expectation, dtype, nans):
    """Of a gradient or a slope. Of two NaNs, either goes on."""
    given = nans(dtype)[:BLOCK]
    places = range(len(expectation.operands))
    for some in [*combinations(places, 1), *combinations(places, 2)]:
        operands = operands_with(given, some, expectation)
        result = ufuncs[expectation.name](*operands)
        assert_payloads(result, *(operands[place] for place in some))


@over_floats
@pytest.mark.parametrize("name", [e.name for e in EXPECTATIONS if "slope" in e.operands])
def test_a_number_that_is_nan_is_nan_in_every_type(ufuncs, name, dtype):
    """Whatever its payload: rounding all ones to fewer bits would carry into the sign."""
    operands = [np.full(3, -1, dtype)] * (len(BY_NAME[name].operands) - 1)
    for number in [*all_nans("float64")[:1000].tolist(), PAYLOAD_OF_ONES]:
        assert is_nan(ufuncs[name](*operands, number)).all()
