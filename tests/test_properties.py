"""Any shape, stride, dtype and value gives the bits that calls on single elements give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference import EXPECTATIONS, FLOATS, bits, finfo, is_nan

import fastact

pytestmark = pytest.mark.slow

dtypes = st.sampled_from([np.dtype(name) for name in FLOATS])
steps = st.sampled_from([-3, -2, -1, 1, 2, 5])


def arrays(dtype, shape, **options):
    """Draw any numbers of a type, NaN and infinities too, as far as `options` allow."""
    if dtype.kind == "f":
        elements = hnp.from_dtype(dtype, **options)
        elements |= hnp.from_dtype(dtype, min_value=-120, max_value=120)
        return hnp.arrays(dtype, shape, elements=elements)
    # hypothesis does not know bfloat16. Its numbers are the upper halves of float32.
    return arrays(np.dtype(np.float32), shape, **options).map(
        lambda wide: (bits(wide) >> 16).astype(np.uint16).view(dtype).reshape(wide.shape)
    )


@st.composite
def view(draw, dtype, shape):
    """Draw an array of this shape, with its axes in any order in memory and with any steps."""
    order = draw(st.permutations(range(len(shape))))
    strides = [draw(steps) for _ in shape]
    lengths = [n * abs(step) for n, step in zip(shape, strides, strict=True)]
    memory = np.zeros([lengths[axis] for axis in order], dtype)
    array = memory.transpose(np.argsort(order)) if order else memory
    # With the ellipsis, a 0-d array gives a view too.
    array = array[(..., *(slice(None, None, step) for step in strides))]
    array[...] = draw(arrays(dtype, shape))
    return array


@st.composite
def operands(draw, count, dtype):
    """Draw operands that broadcast, and an output for them or None."""
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=5, max_side=5))
    arrays = [draw(view(dtype, shape)) for shape in shapes.input_shapes]
    if draw(st.booleans()):
        return arrays, None
    return arrays, draw(view(dtype, shapes.result_shape))


@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=[e.name for e in EXPECTATIONS])
@given(data=st.data())
def test_equals_the_calls_on_single_elements(expectation, data):
    compute = getattr(fastact, expectation.name)
    dtype = data.draw(dtypes)
    arrays, out = data.draw(operands(len(expectation.operands), dtype))
    broadcast = np.broadcast_arrays(*arrays)
    singles = zip(*(array.ravel()[:, None].copy() for array in broadcast), strict=True)
    expected = [compute(*single) for single in singles]
    result = compute(*arrays, out=out)
    assert out is None or result is out
    assert np.shape(result) == broadcast[0].shape
    got = bits(np.asarray(result)).ravel().tolist()
    wanted = [int(bits(single)[0]) for single in expected]
    # Where two NaN meet, either may be the result: see assert_same_bits in test_ufuncs.
    nans = np.sum([is_nan(array) for array in broadcast], axis=0).ravel() > 1
    assert [g for g, n in zip(got, nans, strict=True) if not n] == [
        w for w, n in zip(wanted, nans, strict=True) if not n
    ]


def numbers(dtype):
    return arrays(dtype, st.integers(1, 300), allow_nan=False)


@pytest.mark.parametrize(
    "expectation", [pytest.param(e, id=e.name) for e in EXPECTATIONS if e.range or e.monotone]
)
@given(x=dtypes.flatmap(numbers))
def test_range_and_order(expectation, x):
    x = np.sort(np.concatenate([x, np.nextafter(x, x.dtype.type(0))]))
    y = getattr(fastact, expectation.name)(x)
    if expectation.range:
        lowest, highest = np.array(expectation.range).astype(x.dtype)
        assert (y >= lowest).all()
        assert (y <= highest).all()
    if expectation.monotone:
        assert (y[1:] >= y[:-1]).all()


@given(x=dtypes.flatmap(numbers))
def test_sigmoid_is_symmetric_within_an_ulp(x):
    total = fastact.sigmoid(x).astype(np.float64) + fastact.sigmoid(-x)
    assert (np.abs(total - 1) <= float(finfo(x.dtype).eps)).all()
