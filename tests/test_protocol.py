"""The ufuncs behave like those of NumPy: keywords, overlap, subclasses, errors, dask."""

import array
import copy
import importlib
import inspect
import itertools
import pickle
import re

import numpy as np
import pytest
from conftest import needs_signatures
from layouts import Subclass
from looped import looped
from numpy.lib.stride_tricks import as_strided
from programs import output
from reference import BY_NAME, EXPECTATIONS, FLOATS, samples

import fastact

by_expectation = pytest.mark.parametrize(
    "expectation", EXPECTATIONS, ids=[e.name for e in EXPECTATIONS]
)
by_float = looped("dtype", FLOATS)
by_default_slope = pytest.mark.parametrize("name", ["leaky_relu", "leaky_relu_backward"])
CASES = [pytest.param(e, dtype, id=f"{e.name}-{dtype}") for e in EXPECTATIONS for dtype in e.dtypes]
BINARY = [e for e in EXPECTATIONS if len(e.operands) == 2]
ROWS = [name for name, f in vars(fastact).items() if getattr(f, "signature", None)]
INTEGERS = BY_NAME["relu"].dtypes[len(FLOATS) :]


def ufunc(expectation):
    return getattr(fastact, expectation.name)


def case(expectation, dtype="float32", n=24):
    """Return the ufunc, writeable operands, and the result of the plain call."""
    operands = [operand[:n].copy() for operand in samples(expectation, dtype)]
    compute = ufunc(expectation)
    return compute, operands, compute(*operands)


def same(result, expected):
    assert type(result) is type(expected)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    assert result.tobytes() == expected.tobytes()


# ------------------------------------------------------------------ the call


@by_expectation
def test_is_a_ufunc(expectation):
    compute = ufunc(expectation)
    assert isinstance(compute, np.ufunc)
    assert (compute.nin, compute.nout) == (len(expectation.operands), 1)
    assert compute.__name__ == expectation.name
    assert expectation.operands[0] in compute.__doc__


@by_expectation
def test_pickle_and_copy_give_the_same_object(expectation):
    compute = ufunc(expectation)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(compute, protocol)) is compute
    assert copy.deepcopy(compute) is compute


@by_expectation
def test_out_in_every_form(expectation):
    compute, operands, expected = case(expectation)
    for shape in ((24,), (4, 6), (2, 3, 4)):
        shaped = [operand.reshape(shape) for operand in operands]
        for give in (
            lambda *a, out: compute(*a, out),
            lambda *a, out: compute(*a, out=out),
            lambda *a, out: compute(*a, out=(out,)),
            # A keyword that is not interned: it is equal to the name, but not identical.
            lambda *a, out: compute(*a, **{"".join(["o", "ut"]): out}),
        ):
            out = np.full(shape, 7, np.float32)
            assert give(*shaped, out=out) is out
            same(out, expected.reshape(shape))
        for none in (None, (None,)):
            same(compute(*operands, out=none), expected)


@by_expectation
def test_out_of_another_dtype_and_layout(expectation):
    compute, operands, expected = case(expectation)
    wide = np.zeros((24, 2))
    compute(*operands, out=wide[:, 1])
    same(wide[:, 1].copy(), expected.astype(np.float64))
    assert not wide[:, 0].any()


@by_expectation
def test_out_may_be_larger_than_the_operands(expectation):
    compute, operands, expected = case(expectation)
    out = np.zeros((3, 24), np.float32)
    compute(*operands, out=out)
    same(out, np.tile(expected, (3, 1)))


@by_expectation
def test_where_leaves_masked_elements_alone(expectation):
    compute, operands, expected = case(expectation)
    mask = np.arange(24) % 3 > 0
    out = np.full(24, 7, np.float32)
    assert compute(*operands, out=out, where=mask) is out
    same(out, np.where(mask, expected, np.float32(7)))
    out = operands[0]
    wanted = np.where(mask, expected, out)
    same(compute(*operands, where=mask, out=out), wanted)


@by_expectation
def test_dtype_and_signature_choose_the_loop(expectation):
    compute, operands, _ = case(expectation)
    wide = compute(*(operand.astype(np.float64) for operand in operands))
    same(compute(*operands, dtype=np.float64), wide)
    same(compute(*operands, dtype="d"), wide)
    same(compute(*operands, signature="d" * len(operands) + "->d"), wide)
    with pytest.raises(TypeError):
        compute(*operands, dtype="complex64")


@by_expectation
def test_casting_is_obeyed(expectation):
    compute, operands, expected = case(expectation)
    out = np.zeros(24, np.float16)
    with pytest.raises(TypeError, match="Cannot cast"):
        compute(*operands, out=out, casting="safe")
    assert not out.any()
    with np.errstate(all="ignore"):
        same(compute(*operands, out=out), expected.astype(np.float16))


@by_expectation
@looped("order", "KACF")
def test_order_is_obeyed(expectation, order):
    compute, operands, expected = case(expectation)
    for lay in (np.ascontiguousarray, np.asfortranarray):
        shaped = [lay(operand.reshape(4, 6)) for operand in operands]
        result = compute(*shaped, order=order)
        same(np.ascontiguousarray(result), expected.reshape(4, 6))
        assert result.strides == np.positive(shaped[0], order=order).strides
        same_order = compute(*shaped)
        assert same_order.strides == np.positive(shaped[0]).strides


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float64"])
def test_layout_of_results_of_repeated_elements(dtype):
    """As NumPy's: of types that are converted first, too."""
    x = np.ones((2, 3), dtype)
    for repeated in (
        np.broadcast_to(x[0], (2, 3)),
        np.broadcast_to(x[:, :1], (2, 3)),
        np.broadcast_to(x[0, 0], (2, 3, 2)),
        np.broadcast_to(x[:, None], (2, 4, 3)).transpose(2, 0, 1),
    ):
        for compute in fastact.relu, fastact.sigmoid:
            result, wanted = compute(repeated), np.sqrt(repeated)
            assert result.strides == tuple(
                s // wanted.itemsize * result.itemsize for s in wanted.strides
            )


@by_expectation
def test_keywords_in_any_order(expectation):
    compute, operands, expected = case(expectation)
    keywords = {"out": None, "where": True, "casting": "same_kind", "order": "K", "subok": True}
    same(compute(*operands, **keywords), expected)
    same(compute(*operands, **dict(reversed(keywords.items()))), expected)


# ------------------------------------------------------------------- overlap


@pytest.mark.parametrize(("expectation", "dtype"), CASES)
def test_overlap_of_input_and_output(expectation, dtype):
    compute = ufunc(expectation)
    n = 3000
    views = {
        "forward": (np.s_[:-1], np.s_[1:]),
        "back": (np.s_[1:], np.s_[:-1]),
        "reversed": (np.s_[:], np.s_[::-1]),
        "both reversed": (np.s_[::-1], np.s_[::-1]),
        "reversed and moved": (np.s_[-2::-1], np.s_[:0:-1]),
        "far": (np.s_[: -n // 3], np.s_[n // 3 :]),
        "interleaved": (np.s_[::2], np.s_[1::2]),
        "spread": (np.s_[: n // 2], np.s_[::2]),
        "gathered": (np.s_[::2], np.s_[: n // 2]),
    }
    for name, (source, target) in views.items():
        for i in range(len(expectation.operands)):
            operands = [np.resize(operand, n) for operand in samples(expectation, dtype)]
            taken = [operand[source] for operand in operands]
            expected = compute(*(operand.copy() for operand in taken))
            out = operands[i][target]
            assert compute(*taken, out=out) is out
            assert out.tobytes() == expected.tobytes(), name


@by_expectation
def test_overlap_in_two_dimensions(expectation):
    compute, operands, expected = case(expectation, n=36)
    square = [operand.reshape(6, 6) for operand in operands]
    out = square[0].T
    compute(*square, out=out)
    same(out.copy(), expected.reshape(6, 6))


@by_expectation
@by_float
def test_elements_of_the_output_that_coincide(expectation, dtype):
    """In place, each of them is computed from what was there before the call, and once."""
    compute, operands, expected = case(expectation, dtype, n=40)
    shapes = {"windows": (33, 8), "repeated": (5, 40), "repeated within": (40, 5), "apart": (8, 5)}
    steps = {"windows": (1, 1), "repeated": (0, 1), "repeated within": (1, 0), "apart": (5, 1)}
    for i, (name, shape) in itertools.product(range(len(operands)), shapes.items()):
        taken = [operand.copy() for operand in operands]
        strides = [step * taken[0].itemsize for step in steps[name]]
        views = [as_strided(operand, shape, strides) for operand in taken]
        compute(*views, out=views[i])
        assert taken[i].tobytes() == expected.tobytes(), name


# -------------------------------------------------- what counts as an operand


class WithArray:
    """Not an array, but it can be converted to one."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):  # noqa: D105
        return np.asarray(self.values, dtype)


class WithInterface:
    """Not an array, but it tells where its memory is."""

    def __init__(self, values):
        self.values = values
        self.__array_interface__ = values.__array_interface__


class Overriding:
    """Overrides every call."""

    def __array_ufunc__(self, called, method, *inputs, **keywords):  # noqa: D105
        return called, method, inputs, keywords


@by_expectation
def test_subclasses_stay(expectation):
    compute, operands, expected = case(expectation)
    views = [operand.view(Subclass) for operand in operands]
    same(compute(*views), expected.view(Subclass))
    same(compute(*views, subok=False), expected)
    for i in range(len(views)):
        same(compute(*operands[:i], views[i], *operands[i + 1 :]), expected.view(Subclass))
    out = np.zeros_like(views[0])
    assert compute(*operands, out=out) is out
    same(out, expected.view(Subclass))


@by_expectation
def test_masked_arrays_stay_masked(expectation):
    compute, operands, expected = case(expectation)
    mask = np.arange(24) % 4 == 1
    masked = np.ma.array(operands[0], mask=mask)
    result = compute(masked, *operands[1:])
    assert isinstance(result, np.ma.MaskedArray)
    assert (result.mask == mask).all()
    same(result.data[~mask], expected[~mask])


CONVERTED = {
    "list": np.ndarray.tolist,
    "tuple": lambda x: tuple(x.tolist()),
    "array.array": lambda x: array.array(x.dtype.char, x),
    "memoryview": memoryview,
    "__array__": WithArray,
    "__array_interface__": WithInterface,
    "nested": lambda x: x[:, None].tolist(),
}


@by_expectation
@looped("make", CONVERTED.values(), ids=CONVERTED)
def test_whatever_is_an_array_to_numpy(expectation, make):
    compute, operands, _ = case(expectation, "float64")
    made = [make(operand) for operand in operands]
    same(compute(*made), compute(*map(np.asarray, made)))
    same(compute(made[0], *operands[1:]), compute(np.asarray(made[0]), *operands[1:]))


@by_expectation
def test_scalars_give_scalars(expectation):
    compute, operands, expected = case(expectation, "float64")
    for i in range(8):
        values = [operand[i] for operand in operands]
        same(compute(*values), expected[i])
        same(compute(*(value.item() for value in values)), expected[i])
        same(compute(*(np.array(value) for value in values)), expected[i])
        out = np.empty(())
        assert compute(*values, out=out) is out
        same(out[()], expected[i])


@by_expectation
def test_array_ufunc_overrides(expectation):
    compute, operands, _ = case(expectation)
    other = Overriding()
    for i in range(len(operands)):
        given = (*operands[:i], other, *operands[i + 1 :])
        called, method, inputs, keywords = compute(*given, where=True)
        assert (called, method, keywords) == (compute, "__call__", {"where": True})
        assert all(one is two for one, two in zip(inputs, given, strict=True))
    assert compute(*operands, out=other)[0] is compute
    if len(operands) < 3:
        assert compute.at(other, [0], *operands[1:])[1] == "at"


@by_expectation
def test_an_error_of_an_override_is_not_replaced(expectation):
    class Failing:
        def __array_ufunc__(self, *args, **keywords):
            raise TypeError("mine")

    for operands in (
        [Failing()] * len(expectation.operands),
        [Failing(), *[1j] * (len(expectation.operands) - 1)],
    ):
        with pytest.raises(TypeError, match=r"^mine$"):
            ufunc(expectation)(*operands)


# ------------------------------------------------------------------- methods


@by_expectation
def test_at(expectation):
    compute, operands, _ = case(expectation)
    x, *others = operands
    indices = np.array([3, 0, 3, 23, 3, -1])
    rest = [other[: len(indices)] for other in others]
    expected = x.copy()
    for k, index in enumerate(indices):
        expected[index] = compute(expected[index], *(other[k] for other in rest))
    if len(others) > 1:
        with pytest.raises(ValueError, match=r"at|operand"):
            compute.at(x, indices, *rest[:1])
    else:
        compute.at(x, indices, *rest)
        same(x, expected)


@pytest.mark.parametrize("expectation", BINARY, ids=[e.name for e in BINARY])
@by_float
def test_methods_of_binary_ufuncs(expectation, dtype):
    compute, (a, b), _ = case(expectation, dtype)
    same(compute.outer(a, b[:5]), compute(*np.broadcast_arrays(a[:, None], b[:5])))
    for values in (a, a[::-1], a[::2], np.repeat(a, 3)[::3]):
        running = [values[0]]
        for value in values[1:]:
            running.append(compute(running[-1], value))
        running = np.array(running, dtype)
        same(compute.accumulate(values), running)
        same(compute.reduce(values), running[-1])
        cuts = [0, 5, 11]
        pieces = [values[i:j] for i, j in zip(cuts, [*cuts[1:], len(values)], strict=True)]
        expected = np.array([compute.reduce(piece) for piece in pieces])
        same(compute.reduceat(values, cuts), expected)
    table = a.reshape(4, 6)
    for axis in (0, 1):
        columns = np.moveaxis(table, axis, 0)
        expected = columns[0]
        for line in columns[1:]:
            expected = compute(expected, line)
        same(compute.reduce(table, axis=axis), expected)
        same(compute.accumulate(table, axis=axis).take(-1, axis), expected)
    with pytest.raises(ValueError, match="no identity"):
        compute.reduce(a[:0])


# --------------------------------------------------------------------- slope


@by_default_slope
@by_float
def test_slope_by_default_position_and_name(name, dtype):
    compute, (*arrays, _), _ = case(BY_NAME[name], dtype)
    slopes = {value: np.full(24, value, dtype) for value in (0.01, 0.2, -2, 0, 1.5)}
    same(compute(*arrays), compute(*arrays, slopes[0.01]))
    for value, slope in slopes.items():
        expected = compute(*arrays, slope)
        same(compute(*arrays, value), expected)
        same(compute(*arrays, negative_slope=value), expected)
        same(compute(*arrays, negative_slope=slope), expected)
        same(compute(*arrays, **{"".join(["negative", "_slope"]): value}), expected)
        out = np.zeros(24, dtype)
        assert compute(*arrays, negative_slope=value, out=out) is out
        same(out, expected)
        same(compute(*arrays, out=out[::-1], negative_slope=value), expected[::1])


@by_default_slope
@by_float
def test_slope_that_is_a_scalar_of_any_type(name, dtype):
    # 60 elements, and as many as are cast in parts.
    for shape, order in itertools.product(((0,), (60,), (5, 12), (4, 600)), "CF"):
        compute, (*arrays, _), _ = case(BY_NAME[name], dtype, 3000)
        arrays = [np.resize(array, shape).copy(order) for array in arrays]
        kept = [array.copy() for array in arrays]
        # NumPy has no type for float16 and bfloat16 together.
        kinds = [kind for kind in FLOATS if {kind, dtype} != {"float16", "bfloat16"}]
        for kind, number in itertools.product(kinds, (0.1, -np.pi, np.inf, np.nan)):
            slope = np.dtype(kind).type(number)
            wide = np.result_type(dtype, slope)
            expected = compute(
                *(array.astype(wide) for array in arrays), np.full(shape, slope, wide, order)
            )
            same(compute(*arrays, slope), expected)
            result = compute(*arrays, negative_slope=slope)
            same(result, expected)
            assert result.strides == expected.strides
            assert result.flags.owndata
            out = np.empty_like(expected)
            assert compute(*arrays, slope, out=out) is out
            same(out, expected)
        for operand, before in zip(arrays, kept, strict=True):
            same(operand, before)


@by_default_slope
def test_slope_per_channel(name):
    compute, (*arrays, slope), _ = case(BY_NAME[name])
    table = [operand.reshape(4, 6) for operand in arrays]
    for channels in (slope[:6], slope[:4, None]):
        full = np.broadcast_to(channels, (4, 6)).copy()
        same(compute(*table, channels), compute(*table, full))
        same(compute(*table, negative_slope=channels), compute(*table, full))


@by_default_slope
def test_slope_given_twice_or_alone(name):
    compute, operands, _ = case(BY_NAME[name])
    with pytest.raises(TypeError, match="negative_slope"):
        compute(*operands, negative_slope=0.1)
    with pytest.raises(TypeError, match="negative_slope"):
        compute(negative_slope=0.1)
    with pytest.raises(TypeError):
        compute()


@by_expectation
def test_other_operands_have_no_names(expectation):
    compute, operands, _ = case(expectation)
    named = dict(zip(expectation.operands, operands, strict=True))
    with pytest.raises(TypeError):
        compute(**named)


# --------------------------------------------------------- integers, booleans


@looped("dtype", INTEGERS)
def test_relu_keeps_integer_dtypes(dtype):
    x = np.array([1, 0, 100], dtype)
    assert fastact.relu(x).dtype == x.dtype
    assert fastact.relu(x[::2]).dtype == x.dtype
    assert fastact.relu(x[0]).dtype == x.dtype


def test_relu_takes_booleans_as_square_does():
    x = np.array([True, False])
    same(fastact.relu(x), np.square(x))
    assert fastact.relu(x).dtype == np.int8


NUMBERS = [{}, {"negative_slope": 0.2}, {"negative_slope": 2}, {"negative_slope": -1}]


@looped("dtype", ["?", *INTEGERS])
@by_expectation
def test_integers_are_promoted_as_by_exp(expectation, dtype):
    if expectation.integers:
        pytest.skip("keeps integers")
    compute = ufunc(expectation)
    with np.errstate(over="ignore"):
        promoted = np.exp(np.array([1, 0], dtype)).dtype
    has_slope = "slope" in expectation.operands
    for x in (np.array([1, 0, 3], dtype), np.array([1, 0, 3], dtype)[::2], np.array(1, dtype)):
        for keywords in NUMBERS if has_slope else [{}]:
            arrays = [x] * (len(expectation.operands) - has_slope)
            result = compute(*arrays, **keywords)
            assert result.dtype == promoted
            floats = [operand.astype(promoted) for operand in arrays]
            same(result, compute(*floats, **keywords))


@by_default_slope
@looped("kind", ["array.array", "memoryview", "__array__", "__array_interface__", "subclass"])
def test_integers_behind_a_protocol_are_promoted_so_too(name, kind):
    x = np.array([-100, 3], np.int8)
    count = len(BY_NAME[name].operands) - 1
    compute = getattr(fastact, name)
    made = x.view(Subclass) if kind == "subclass" else CONVERTED[kind](x)
    assert compute(*[made] * count).dtype == np.exp(made).dtype == np.float16
    assert compute(*[made] * count, 0.2).dtype == np.float16


@by_default_slope
def test_slope_of_integers_has_the_precision_of_the_dtype_asked_for(name):
    x = np.array([-100, 3], np.int8)
    arrays = [x] * (len(BY_NAME[name].operands) - 1)
    compute = getattr(fastact, name)
    expected = compute(*(a.astype(np.float64) for a in arrays))
    same(compute(*arrays, dtype=np.float64), expected)
    same(compute(*arrays, signature="d" * (len(arrays) + 1) + "->d"), expected)


# -------------------------------------------------------------------- errors

REFUSED = {
    "complex64": np.array([1j], "complex64"),
    "complex128": np.array([1j]),
    "object": np.array([1.0], object),
    "<U1": np.array(["a"]),
    "|S1": np.array([b"a"]),
    "StringDType()": np.array(["a"], np.dtypes.StringDType()),
    "[('a', '<f4'), ('b', '<i2')]": np.zeros(1, [("a", "<f4"), ("b", "<i2")]),
    "datetime64[D]": np.array(["2000-01-01"], "M8[D]"),
    "timedelta64[s]": np.array([1], "m8[s]"),
    str(np.dtype("g")): np.array([1], "g"),
    "|V3": np.zeros(1, "V3"),
}
if np.dtype("g").itemsize == 8:  # a float64 by another name
    del REFUSED[str(np.dtype("g"))]


@by_expectation
@looped("dtype", REFUSED)
def test_refused_dtypes_are_named(expectation, dtype):
    compute = ufunc(expectation)
    bad = REFUSED[dtype]
    for i in range(len(expectation.operands)):
        for other in (np.ones(1, np.float32), 1.0):
            operands = [bad if i == j else other for j in range(len(expectation.operands))]
            with pytest.raises(TypeError, match=re.escape(dtype)):
                compute(*operands)
            with pytest.raises(TypeError, match=re.escape(dtype)):
                compute(*operands, out=np.empty(1))


@by_expectation
@looped("value", ["a", b"a", 1j, None, {}, object()])
def test_refused_python_values(expectation, value):
    with pytest.raises(TypeError, match="dtype"):
        ufunc(expectation)(*[value] * len(expectation.operands))


def wrong_calls(compute, operands):
    """Make pairs of an error and the arguments that cause it. An `out` is filled with 7."""
    x = operands[0]
    frozen = np.full(24, 7, np.float32)
    frozen.flags.writeable = False
    for bad in (frozen, frozen[::-1], np.broadcast_to(np.float32(7), 24)):
        yield ValueError, operands, {"out": bad}
    for shape in ((23,), (25,), (1,), (24, 1), (0,), ()):
        yield ValueError, operands, {"out": np.full(shape, 7, np.float32)}
    if len(operands) > 1:
        for shape in ((23,), (25,), (2,), (0,), (5, 23)):
            shorter = np.ones(shape, np.float32)
            yield ValueError, [shorter, *operands[1:]], {}
            yield ValueError, [*operands[:-1], shorter], {"out": np.full(24, 7, np.float32)}
    for dtype in ("i4", "?", "M8[s]", "u1"):
        yield TypeError, operands, {"out": np.full(24, 7).astype(dtype)}
    for keywords in ({"oot": None}, {"Out": None}, {"negative_slop": 1.0}, {"axis": 0}, {"": 1}):
        yield TypeError, operands, keywords
        yield TypeError, operands, {"out": np.full(24, 7, np.float32), **keywords}
    yield TypeError, operands, {"out": [1.0] * 24}
    yield TypeError, [*operands, x, x], {}
    yield TypeError, [*operands, x], {"out": np.full(24, 7, np.float32)}
    yield ValueError, operands, {"out": (np.full(24, 7, np.float32),) * 2}
    yield ValueError, operands, {"out": np.full(24, 7, np.float32), "order": "X"}
    yield ValueError, operands, {"out": np.full(24, 7, np.float32), "casting": "none"}


@by_expectation
def test_wrong_calls_change_nothing(expectation):
    compute, operands, _ = case(expectation)
    tried = 0
    for error, given, keywords in wrong_calls(compute, operands):
        arrays = [a for a in (*given, keywords.get("out")) if isinstance(a, np.ndarray)]
        before = [a.tobytes() for a in arrays]
        with pytest.raises(error) as caught:
            compute(*given, **keywords)
        assert str(caught.value)
        assert [a.tobytes() for a in arrays] == before, keywords
        tried += 1
    assert tried > 20


# ---------------------------------------------------------------------- dask


@by_expectation
@by_float
def test_dask_computes_the_same_by_chunks(expectation, dtype):
    dask_array = importlib.import_module("dask.array")  # which takes a second
    compute = ufunc(expectation)
    operands = [np.resize(operand, (60, 50)) for operand in samples(expectation, dtype)]
    chunked = [dask_array.from_array(operand, chunks=(17, 13)) for operand in operands]
    result = compute(*chunked)
    assert isinstance(result, dask_array.Array)
    assert result.dtype == dtype
    assert result.chunks == chunked[0].chunks
    for scheduler in "threads", "synchronous":
        same(result.compute(scheduler=scheduler), compute(*operands))


@by_default_slope
def test_dask_with_slopes(name):
    dask_array = importlib.import_module("dask.array")
    compute = getattr(fastact, name)
    arrays = [np.resize(operand, (60, 50)) for operand in samples(BY_NAME[name], "float32")[:-1]]
    chunked = [dask_array.from_array(operand, chunks=(17, 13)) for operand in arrays]
    for keywords in ({}, {"negative_slope": 0.2}, {"negative_slope": np.arange(50, dtype="f4")}):
        result = compute(*chunked, **keywords)
        assert isinstance(result, dask_array.Array)
        same(result.compute(), compute(*arrays, **keywords))


@needs_signatures
@by_expectation
def test_signature_tells_the_operands(expectation):
    compute = ufunc(expectation)
    parameters = inspect.signature(compute).parameters
    assert len([p for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]) == compute.nin + 1
    assert ("negative_slope" in parameters) == ("slope" in expectation.operands)


@needs_signatures
@pytest.mark.parametrize("name", sorted({*BY_NAME, *ROWS}))
def test_every_default_of_the_signature_may_be_given(name):
    """They change nothing: alone, all at once, and not the dtype either."""
    compute = getattr(fastact, name)
    parameters = inspect.signature(compute).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert defaults.keys() >= {"out", "dtype", "signature", "axes" if name in ROWS else "where"}
    slope = defaults.get("negative_slope")
    count = compute.nin - (slope is not None)
    for dtype in (*FLOATS, "int8", "uint16", "int64", "bool"):
        for x in np.ones((3, 4), dtype), np.ones((3, 8), dtype)[:, ::2], np.ones((3, 4)).tolist():
            expected = compute(*[x] * count)
            for given in *({key: value} for key, value in defaults.items()), defaults:
                same(compute(*[x] * count, **given), expected)
    with pytest.raises(TypeError, match="axes"):
        fastact.relu(1.0, axes=None)


@pytest.mark.parametrize("out", [5, 1.0, "x", [1.0], np.float32(1)])
def test_out_that_is_no_array_is_named(out):
    kind = type(out).__name__
    for give in (
        lambda: fastact.relu([1.0], out),
        lambda: fastact.leaky_relu([1.0], 0.1, out),
        lambda: fastact.tanh_backward([1.0], [1.0], out=out),
        lambda: fastact.tanh(np.ones(1), out=(out,)),
    ):
        with pytest.raises(TypeError, match=f": out is of type {kind}; wanted an array$"):
            give()


# ------------------------------------------------------------------ bfloat16

FIRST_SEEN = """
assert fastact.sigmoid([0.0]) == 0.5                 # NumPy's call, before any bfloat16
import ml_dtypes
x = np.array([-2, 0, 3], ml_dtypes.bfloat16)
for y in (fastact.relu(x), fastact.leaky_relu(x), fastact.leaky_relu(x, negative_slope=0.5),
          fastact.leaky_relu(x[0]), fastact.sigmoid(x[::2]), fastact.sigmoid_backward(x, x)):
    assert y.dtype == x.dtype, y.dtype
assert fastact.leaky_relu(x, 0.5).tolist() == [-1, 0, 3]
"""
METHODS_FIRST = """
x = np.array([-2, 0, 3], ml_dtypes.bfloat16)
assert fastact.relu_backward.accumulate(x).dtype == x.dtype
assert fastact.relu.resolve_dtypes((x.dtype, None))[1] == x.dtype
"""


@pytest.mark.parametrize(
    "program",
    [
        "import fastact\n" + FIRST_SEEN,
        "import ml_dtypes, fastact\n" + FIRST_SEEN,
        "import ml_dtypes, fastact\n" + METHODS_FIRST,
        "import fastact, sys; assert 'ml_dtypes' not in sys.modules",
    ],
    ids=["calls", "ml_dtypes first", "methods", "without it"],
)
def test_bfloat16_is_found_whenever_it_is_imported(program):
    output("import numpy as np\n" + program)


@pytest.mark.skipif(np.dtype(np.longdouble) == np.float64, reason="longdouble is float64 here")
@by_expectation
def test_longdouble_is_refused_with_advice(expectation):
    compute, operands, _ = case(expectation, "float64")
    wide = [operand.astype(np.longdouble) for operand in operands]
    for given in wide, [*operands[:-1], wide[-1]], [operand[0] for operand in wide]:
        with pytest.raises(TypeError, match=r"longdouble|float(96|128)") as caught:
            compute(*given)
        advice = str(caught.value).rpartition("Convert it: ")[2]
        assert advice == "x.astype(numpy.float64)"
    converted = [eval(advice, {"x": x, "numpy": np}) for x in wide]
    same(compute(*converted), compute(*operands))
