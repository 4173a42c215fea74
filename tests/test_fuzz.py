"""Any call gives what NumPy's rules and a loop over single elements give, or NumPy's own error.

Calls are drawn from the whole surface: every ufunc of every instruction set, and its methods;
operands of any shape, stride, alignment, byte order and dtype, that may share memory with each
other and with `out`; slopes of every kind; all keywords. The reference is the same ufunc on
contiguous copies that NumPy has broadcast and cast. A ufunc of NumPy with as many operands
gets the same call, and tells types and strides of the result, or the type of the error. After
each call all memory around the operands is compared, so that nothing but `out` has changed. Any
warning is an error.

Layers and losses get operands of any layout and dtype. Their reference is the same layer on
contiguous copies. Layers also get their own arrays, and hooks change these within NumPy's calls.

``pytest tests/test_fuzz.py --long`` tries 5,000 new examples for most of them, which takes an hour
of one processor.
"""

import copy
import math
import warnings
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from conftest import make_ufuncs
from elementwise import LAYERS
from hypothesis import given, settings, target
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from layouts import Subclass
from looped import looped
from reference import BY_NAME, EXPECTATIONS, FLOATS, INTEGERS, special_values
from test_hooks import CHANGES, METHODS, WAYS, check_a_change, overflowing
from test_hooks import NAMES as CHANGED_ARRAYS
from test_own_arrays import MADE as OWN_ARRAYS
from test_ufuncs import assert_same_bits

import fastact
from fastact import layers, losses
from fastact._core import ufuncs as core
from fastact.optimizers import SGD

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning"),
]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
LARGEST = 1 << 24  # bytes of a layout: six axes with steps of 17 would take any memory
DTYPES = [np.dtype(name) for name in (*FLOATS, "?", *INTEGERS)]
fastact.relu(np.ones(1, BFLOAT16))  # methods know it from the first call on
# What NumPy has with 1, 2 and 3 operands, and without an identity. The last two know no promotion
# of integers and of booleans.
PEERS = {1: np.exp, 2: np.arctan2, 3: np._core.umath.clip, "relu": np.square}
NAMES = [expectation.name for expectation in EXPECTATIONS]
by_name = pytest.mark.parametrize("name", NAMES)

instruction_sets = st.sampled_from(core.supported)
steps = st.sampled_from([1, 1, 1, 1, -1, -1, 2, -2, 3, 5, 17])
rarely = st.sampled_from([False] * 7 + [True])
often = st.booleans()


# ------------------------------------------------------------------- operands


def values(rng, dtype, n):
    """Make any values of a dtype: ordinary ones, special ones, and random bits."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind == "b":
        return rng.integers(0, 2, n).astype(bool)
    bits = rng.integers(0, 256, n * dtype.itemsize, np.uint8).view(dtype)
    if dtype.kind in "iu":
        return bits
    drawn = rng.normal(0, 4, n).astype(dtype)
    special = rng.choice(special_values(dtype), n)
    return np.choose(rng.choice(3, n, p=[0.7, 0.1, 0.2]), [drawn, bits, special])


class Layout(NamedTuple):
    """Where the elements of an array lie in its memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...]
    low: int  # bytes before the first element
    size: int  # bytes in all

    def array(self, memory, start):
        return np.ndarray(self.shape, self.dtype, memory, start + self.low, self.strides)


@st.composite
def layout(draw, shape, dtype, *, repeated=False):
    """Draw a layout: axes in any order, with any steps; 0 too, if `repeated`."""
    if draw(often):
        order = range(len(shape))
        signs = [1] * len(shape)
    else:
        order = draw(st.permutations(range(len(shape))))
        signs = [draw(steps) for _ in shape]
    if draw(rarely):
        dtype = dtype.newbyteorder()
    strides, unit = [0] * len(shape), dtype.itemsize
    size = unit * math.prod(shape)
    for axis in reversed(order):
        if repeated and draw(rarely):
            continue
        step = signs[axis]
        if size * abs(step) > LARGEST:
            step = 1 if step > 0 else -1
        size *= abs(step)
        strides[axis] = unit * step
        unit *= max(1, shape[axis]) * abs(step)
    if 0 in shape:
        return Layout(shape, dtype, tuple(strides), 0, 0)
    spans = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    low = -sum(span for span in spans if span < 0)
    return Layout(shape, dtype, tuple(strides), low, low + sum(map(abs, spans)) + dtype.itemsize)


@st.composite
def shapes(draw, count):
    """Draw shapes that broadcast, now and then large ones, and now and then ones that do not."""
    if draw(rarely) and draw(rarely):
        n = draw(st.sampled_from([(1030,), (5000,), (70, 90), (33, 130), (140_000,), (3, 50_000)]))
        return [draw(st.sampled_from([n, n, n[-1:], ()])) for _ in range(count)]
    if draw(rarely):
        return [draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)) for _ in range(count)]
    most = {"min_side": draw(st.sampled_from([0, 1, 1])), "max_side": draw(st.integers(1, 9))}
    drawn = hnp.mutually_broadcastable_shapes(
        num_shapes=count, max_dims=draw(st.sampled_from([2, 3, 6])), **most
    )
    return list(draw(drawn).input_shapes)


@st.composite
def numbers(draw, rng):
    """Draw a slope that is a number of Python."""
    value = draw(
        st.sampled_from([0.2, 0.01, 0.0, -0.0, 1.0, -2.5, 1e300, -1e-300, np.inf, np.nan, 7e4])
        | st.floats(width=32)
        | st.integers(-(2**24), 2**24)
    )
    return value


class Case:
    """Operands of a call, and the memory they lie in."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.memories = []

    def memory(self, size, dtype):
        count = -(-size // dtype.itemsize)
        made = values(self.rng, dtype, count).view(np.uint8)
        self.memories.append(made)
        return made

    def copies(self):
        return [memory.copy() for memory in self.memories]

    def restore(self, copies):
        for memory, saved in zip(self.memories, copies, strict=True):
            memory[...] = saved

    def place(self, draw, placed, slack=32):
        """Make arrays of these layouts in one memory, all of which may overlap."""
        size = max(one.size for one in placed) + slack
        memory = self.memory(size, placed[0].dtype)
        arrays = []
        for one in placed:
            item = one.dtype.itemsize
            start = draw(st.integers(0, (len(memory) - one.size) // item)) * item
            if draw(rarely):
                start = min(start + 1, len(memory) - one.size)
            arrays.append(one.array(memory, start))
        return arrays


@st.composite
def dtype_lists(draw, count):
    """Draw dtypes: mostly one for all operands."""
    if draw(st.integers(0, 3)):
        return [draw(st.sampled_from(DTYPES[:4] * 3 + DTYPES))] * count
    return [draw(st.sampled_from(DTYPES)) for _ in range(count)]


@st.composite
def drawn_calls(draw, name):
    """Draw a case, its operands, and the keywords of the call."""
    expectation = BY_NAME[name]
    has_slope = "slope" in expectation.operands
    count = len(expectation.operands)
    case = Case(draw(st.integers(0, 2**32)))
    wanted = draw(shapes(count))
    dtypes = draw(dtype_lists(count))
    if draw(often):
        wanted = [wanted[0]] * count
    kinds = ["array"] * count
    if has_slope:
        kinds[-1] = draw(st.sampled_from(["array", "number", "number", "default", "scalar"]))
    elif draw(rarely):
        kinds[draw(st.integers(0, count - 1))] = draw(st.sampled_from(["number", "scalar", "list"]))
    placed = [
        draw(layout(shape, dtype, repeated=True))
        for shape, dtype in zip(wanted, dtypes, strict=True)
    ]
    shape = None
    with suppress(ValueError):
        used = [s for s, kind in zip(wanted, kinds, strict=True) if kind in ("array", "list")]
        shape = np.broadcast_shapes(*used)

    keywords = {}
    out_kind = draw(
        st.sampled_from(["none", "none", "none", "new", "shared", "operand", "view", "wrong"])
    )
    out_layout = None
    if out_kind in ("new", "shared"):
        out_shape = () if shape is None else shape
        if draw(rarely):
            out_shape = (2, *out_shape)[:6]
        out_dtype = dtypes[0] if draw(st.integers(0, 3)) else draw(st.sampled_from(DTYPES))
        out_layout = draw(layout(out_shape, out_dtype))
    # A byte of another value than 0 and 1 is no boolean.
    alone = any(one.dtype.kind == "b" for one in (*placed, out_layout) if one is not None)
    if out_kind == "shared" and not alone and draw(often):
        *operands, out = case.place(draw, [*placed, out_layout], draw(st.sampled_from([0, 8, 64])))
    elif out_kind == "shared" and not alone:
        first, out = case.place(draw, [placed[0], out_layout], draw(st.sampled_from([0, 8, 64])))
        operands = [first, *(case.place(draw, [one])[0] for one in placed[1:])]
    else:
        operands = [case.place(draw, [one])[0] for one in placed]
        out = None if out_layout is None else case.place(draw, [out_layout])[0]
    if not draw(st.integers(0, 3)):
        operands = [operands[0]] * count if draw(often) else operands
    if out_kind in ("operand", "view"):
        out = operands[draw(st.integers(0, count - 1))]
        if out_kind == "view":
            cut = draw(st.sampled_from([np.s_[::-1], np.s_[...], np.s_[..., ::-1], "T", 0]))
            if cut == "T":
                out = out.T
            elif cut == 0:
                # Where it cannot be a view, it would be a copy, and `case` would not restore that.
                flat = out.reshape(-1)
                out = flat if np.shares_memory(flat, out) else out
            elif out.ndim:
                out = out[cut]
        # What is written to several elements at once is nobody's guess.
        if 0 in [s for s, n in zip(out.strides, out.shape, strict=True) if n > 1]:
            out.flags.writeable = False
    if out_kind == "wrong":
        seven = case.memory(7 * 4, np.dtype("f4")).view("f4")
        out = draw(st.sampled_from([[1.0], (), seven, np.float32(1), (None, None), "out", 5]))
    if isinstance(out, np.ndarray) and out.size and draw(rarely):
        out = out.view()
        out.flags.writeable = False

    operands = [
        {"number": float(case.rng.normal()), "scalar": array.dtype.newbyteorder("=").type(1)}.get(
            kind, array
        )
        for kind, array in zip(kinds, operands, strict=True)
    ]
    operands = [
        array.tolist() if kind == "list" and array.dtype != BFLOAT16 else array
        for kind, array in zip(kinds, operands, strict=True)
    ]
    if has_slope and kinds[-1] == "number":
        operands[-1] = draw(numbers(case.rng))
    for i, operand in enumerate(operands):
        if isinstance(operand, np.ndarray) and draw(rarely):
            operands[i] = operand.view()
            if draw(often):
                operands[i].flags.writeable = False
            else:
                operands[i] = operands[i].view(Subclass)
                keywords["subok"] = draw(often)
    if draw(rarely):
        keywords["dtype"] = draw(st.sampled_from(["e", "f", "d", BFLOAT16]))
    if draw(rarely):
        keywords["casting"] = draw(
            st.sampled_from(["no", "equiv", "safe", "same_kind", "unsafe", "wrong"])
        )
    if draw(rarely):
        keywords["order"] = draw(st.sampled_from(["C", "F", "A", "K", "X"]))
    if draw(rarely):
        mask_shape = [n if draw(often) else 1 for n in shape or ()]
        mask_shape = tuple(mask_shape[draw(st.integers(0, len(mask_shape))) :])
        one = draw(layout(mask_shape, np.dtype(bool)))
        keywords["where"] = draw(st.sampled_from([True, False])) if draw(rarely) else None
        if keywords["where"] is None:
            keywords["where"] = case.place(draw, [one])[0]
    return case, operands, kinds, out, keywords


# ------------------------------------------------------------------ reference


def loop_dtype(name, operands, kinds, dtype=None):
    """Find the dtype that a call computes in; None where only NumPy knows."""
    chars = "bBhHiIlLqQefd" if BY_NAME[name].integers else "efd"
    if dtype is not None:
        return np.dtype(dtype)
    slope = "slope" in BY_NAME[name].operands and kinds[-1] in ("number", "default")
    arrays = operands[:-1] if slope else operands
    if not all(isinstance(array, (np.ndarray, np.generic)) for array in arrays):
        return None
    found = [array.dtype for array in arrays]
    if BFLOAT16 in [dtype.newbyteorder("=") for dtype in found]:
        same = all(dtype.newbyteorder("=") == BFLOAT16 for dtype in found)
        return BFLOAT16 if same else None
    if slope:
        return np.exp.resolve_dtypes((np.result_type(*found), None))[1]
    return next(np.dtype(c) for c in chars if all(np.can_cast(d, c) for d in found))


def raised(function, *args, **keywords):
    """Give the result and None, or None and the error."""
    try:
        return function(*args, **keywords), None
    except Exception as error:
        return None, error


def kind_of(error):
    """Find the class of an error that a user may catch."""
    wanted = (TypeError, ValueError, OverflowError, MemoryError, IndexError, RuntimeError)
    return None if error is None else next((k for k in wanted if isinstance(error, k)), type(error))


def native(array):
    """Copy an array, contiguous and in native byte order."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", subok=False)


def wide_type(result):
    return np.generic if isinstance(result, np.generic) else type(result)


def describe(name, operands, out, keywords):
    def one(value):
        if not isinstance(value, np.ndarray):
            return repr(value)
        return f"<{value.dtype.str} {value.shape} strides {value.strides} at {value.ctypes.data}>"

    listed = [*map(one, operands), f"out={one(out)}", *(f"{k}={v!r}" for k, v in keywords.items())]
    return f"{name}({', '.join(listed)})"


@by_name
@given(data=st.data())
def test_calls(name, data):
    ufuncs = make_ufuncs(data.draw(instruction_sets))
    case, operands, kinds, out, keywords = data.draw(drawn_calls(name))
    compute, expectation = ufuncs[name], BY_NAME[name]
    has_slope = "slope" in expectation.operands
    peer = PEERS.get(name, PEERS[len(operands)])

    # The forms of the same call.
    positional, named = list(operands), dict(keywords)
    if has_slope and kinds[-1] == "default":
        positional.pop()
        operands[-1] = 0.01
    elif has_slope and data.draw(often):
        named["negative_slope"] = positional.pop()
    as_position = out is not None and len(positional) == len(operands) and data.draw(often)
    if as_position:
        positional.append(out)
    elif out is not None or data.draw(rarely):
        named["out"] = (out,) if isinstance(out, np.ndarray) and data.draw(often) else out
    said = describe(name, operands, out, keywords)

    before = case.copies()
    inputs = [native(o) if isinstance(o, (np.ndarray, np.generic)) else o for o in operands]
    mask = copy.copy(keywords.get("where", True))
    loop = loop_dtype(name, operands, kinds, keywords.get("dtype"))
    exact = loop is not None and all(
        # An integer becomes a float; the other way, into `out`, NumPy may have to warn.
        array.dtype.newbyteorder("=") == loop
        or (array.dtype.kind in "biu" and loop.kind == "f" and array is not out)
        for array in (*operands, out)
        if isinstance(array, (np.ndarray, np.generic))
    )
    flags = "raise" if exact and "dtype" not in keywords else "ignore"
    with np.errstate(all=flags), warnings.catch_warnings():
        if out is None:
            warnings.filterwarnings("ignore", "'where' used without 'out'", UserWarning)
        result, error = raised(compute, *positional, **named)
    after = case.copies()

    # What NumPy's ufunc says to such a call.
    case.restore(before)
    comparable = expectation.integers or len(operands) < 3
    if not comparable:
        float_kinds = [getattr(o, "dtype", np.dtype("f8")) for o in operands]
        comparable = loop is not None and all(d.kind == "f" for d in float_kinds)
    if comparable:
        peer_keywords = {k: v for k, v in named.items() if k != "negative_slope"}
        # NumPy casts no number of Python under "equiv". With a dtype, its answer is ours.
        refused = "dtype" in keywords and keywords.get("casting") == "equiv"
        half = 0.5 if refused or loop is None else loop.type(0.5)
        peer_operands = (
            list(operands)
            if loop is None or not has_slope
            else [
                *operands[:-1],
                half if kinds[-1] in ("number", "default") else operands[-1],
            ]
        )
        if as_position:
            peer_operands.append(out)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted, wanted_error = raised(peer, *peer_operands, **peer_keywords)
        case.restore(before)
        assert kind_of(error) == kind_of(wanted_error), (said, error, wanted_error)
        if error is None:
            assert wide_type(result) is wide_type(wanted), said
            assert result.dtype == wanted.dtype, said
            assert result.shape == wanted.shape, said
            strides = [
                [s for s, n in zip(r.strides, r.shape, strict=True) if n > 1]
                for r in (result, wanted)
            ]
            assert strides[0] == strides[1] or not result.size, said
    if error is not None:
        assert str(error), said
        assert all(map(np.array_equal, before, after)), f"changed by a call that fails: {said}"
        return

    # What the elements are to be.
    shape = result.shape
    target(float(result.size > 0) + len(shape))
    given_out = isinstance(out, np.ndarray)
    if given_out:
        assert result is out, said
    full = [
        # A number of Python has no say in the dtype.
        o
        if loop is None and isinstance(o, (bool, int, float))
        else np.array(np.broadcast_to(o, shape if shape else (1,)), order="C")
        for o in inputs
    ]
    if kinds[-1] in ("number", "default") and has_slope:
        with np.errstate(all="ignore"):
            slope = inputs[-1]
            if loop is not None:
                slope = np.float32(slope) if loop == BFLOAT16 else slope
                full[-1] = np.full(full[0].shape, loop.type(slope), loop)
            else:
                full[-1] = slope
    with np.errstate(all="ignore"):
        if loop is not None:
            full = [operand.astype(loop) for operand in full]
        expected = np.asarray(compute(*full))
        expected = expected.reshape(shape) if expected.ndim else np.full(shape, expected)
    if loop is not None and not given_out:
        assert result.dtype == loop, said
    loop_type = expected.dtype
    final = expected.dtype if not given_out else out.dtype.newbyteorder("=")
    if final.kind in "biu" and expected.dtype.kind not in "biu":
        return  # casting="unsafe": what becomes of NaN is up to the compiler
    with np.errstate(all="ignore"):
        expected = expected.astype(final)
    shares = given_out and any(np.may_share_memory(out, operand) for operand in operands)
    if mask is not True and shares and out.dtype.newbyteorder("=") != loop_type:
        return  # NumPy 2.4 writes anything to masked elements then: np.exp does so too
    mask = np.broadcast_to(mask, shape)
    got = np.asarray(result)
    if given_out:
        # The memory as it is to be, all of it; `out` where it lies now.
        case.restore(after)
        seen = got.copy()
        case.restore(before)
        old = got.copy()
        expected = np.where(mask, expected, old)
        np.copyto(got, seen, casting="unsafe")
        assert all(map(np.array_equal, case.memories, after)), f"memory beside out: {said}"
        got = seen
    else:
        assert all(map(np.array_equal, before, after)), f"an operand was changed: {said}"
        got, expected = got[mask], expected[mask]
        full = [o if np.ndim(o) == 0 else o.reshape(shape)[mask] for o in full]
    floats = [np.asarray(o).reshape(np.shape(o) and got.shape) for o in full]
    try:
        if got.dtype.kind in "biu":
            assert np.array_equal(got, expected)
        else:
            assert_same_bits(native(got), native(expected), *floats)
    except (AssertionError, pytest.fail.Exception) as failure:
        raise AssertionError(f"{said}: {failure}") from None


# -------------------------------------------------------------------- methods


def assert_equal_but_nans(got, expected, said):
    """Compare bits, but hold every NaN the same: in a chain, two of them meet easily."""
    got, expected = native(np.asarray(got)), native(np.asarray(expected))
    assert got.dtype == expected.dtype, (said, got.dtype, expected.dtype)
    assert got.shape == expected.shape, (said, got.shape, expected.shape)
    if got.dtype.kind not in "biu":
        with np.errstate(all="ignore"):
            got, expected = (np.where(np.isnan(a), a.dtype.type(0), a) for a in (got, expected))
    assert got.tobytes() == expected.tobytes(), said


def folded(compute, values, mask, initial=None):
    """Reduce along the first axis, value by value. `mask` has the shape of `values`."""
    every = [] if initial is None else [np.full(values.shape[1:], initial, values.dtype)]
    result = every[0] if every else values[0].copy()
    for value, wanted in zip(values[0 if every else 1 :], mask[0 if every else 1 :], strict=True):
        step = np.asarray(compute(np.atleast_1d(result), np.atleast_1d(value)))
        result = np.where(wanted, step.reshape(value.shape), result)
    return result


@st.composite
def method_calls(draw, name):
    """Draw a method, its operands, keywords, and a function that computes the result."""
    count = len(BY_NAME[name].operands)
    case = Case(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(DTYPES[:4] * 6 + DTYPES))
    method = draw(st.sampled_from(["reduce", "accumulate", "reduceat", "at", "outer"]))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
    if draw(rarely):
        shape = (draw(st.sampled_from([1100, 2500])), *shape[:1])
    one = draw(layout(shape, dtype, repeated=method != "at"))
    array, again = case.place(draw, [one, one], draw(st.sampled_from([0, 8, 256])))
    if not array.ndim or draw(rarely):
        axis = draw(st.sampled_from([0, -1, None, (), 3, -5, (0, 1)]))
    else:
        axis = draw(st.integers(-array.ndim, array.ndim - 1))
    keywords = {}
    if method in ("reduce", "accumulate", "reduceat"):
        keywords["axis"] = axis
        if draw(rarely):
            keywords["dtype"] = draw(st.sampled_from(["e", "f", "d"]))
    if method == "reduce":
        if draw(often):
            keywords["keepdims"] = draw(often)
        if draw(rarely):
            keywords["initial"] = 1.5
            keywords["where"] = case.place(draw, [draw(layout(shape, np.dtype(bool)))])[0]
    args = [array]
    if method == "reduceat":
        length = shape[axis] if isinstance(axis, int) and -len(shape) <= axis < len(shape) else 3
        top = length if draw(rarely) else max(length - 1, 0)
        args.append(draw(st.lists(st.integers(0, top), min_size=draw(often), max_size=6)))
    elif method == "outer":
        other = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4))
        args.append(case.place(draw, [draw(layout(other, dtype))])[0])
    elif method == "at":
        if 0 in array.strides or array.ndim == 0:
            array = args[0] = case.place(draw, [draw(layout((5, 2), dtype))])[0]
        top = array.shape[0] - (not draw(rarely))
        indices = draw(st.lists(st.integers(-array.shape[0], max(top, 0)), max_size=8))
        args.append(np.array(indices, np.intp))
        if count > 1 or draw(rarely):
            same = again.shape == array.shape and array.shape[0] == len(indices)
            args.append(again if same else array.dtype.newbyteorder("=").type(1))
        if count > 2 and draw(often):
            args.append(array.dtype.newbyteorder("=").type(1))
    if method in ("reduce", "accumulate") and draw(rarely) and isinstance(axis, int):
        with suppress(IndexError):
            wanted = list(shape)
            if method == "reduce":
                wanted.pop(axis)
            keywords["out"] = case.place(draw, [draw(layout(tuple(wanted), dtype))])[0]
            keywords.pop("keepdims", None)
    if draw(rarely):
        args[0] = args[0].view()
        args[0].flags.writeable = False
    return case, method, args, keywords


def expected_of_method(compute, method, args, keywords, loop):
    """Compute the result of a method from calls alone."""
    array = native(args[0]).astype(loop)
    if method == "at":
        result = native(args[0])
        others = [np.broadcast_to(native(np.asarray(o)), result[args[1]].shape) for o in args[2:]]
        for k, index in enumerate(args[1]):
            values = [
                np.atleast_1d(v).astype(loop) for v in (result[index], *(o[k] for o in others))
            ]
            result[index] = compute(*values).reshape(result[index].shape)
        return result
    if method == "outer":
        other = native(args[1]).astype(loop)
        return compute(array.reshape(array.shape + (1,) * other.ndim), other)
    axis = keywords["axis"]
    if method == "reduce" and (axis == () or not array.ndim):
        return None
    axis = axis[0] if isinstance(axis, tuple) else axis or 0
    values = np.moveaxis(array, axis, 0).copy()
    if method == "reduce":
        mask = np.broadcast_to(keywords.get("where", True), array.shape)
        result = folded(compute, values, np.moveaxis(mask, axis, 0), keywords.get("initial"))
        return np.expand_dims(result, axis) if keywords.get("keepdims") else result
    if method == "accumulate":
        rows = [
            folded(compute, values[: i + 1], np.ones(values.shape, bool)[: i + 1])
            for i in range(len(values))
        ]
    else:
        bounds = [*args[1], len(values)]
        parts = [values[i : max(j, i + 1)] for i, j in pairwise(bounds)]
        rows = [folded(compute, part, np.ones(part.shape, bool)) for part in parts]
    return np.moveaxis(np.array(rows, loop).reshape(len(rows), *values.shape[1:]), 0, axis)


@given(data=st.data())
def test_methods(data):
    ufuncs = make_ufuncs(data.draw(instruction_sets))
    name = data.draw(st.sampled_from(NAMES[:1] + [n for n in NAMES if n != "relu"] * 2))
    case, method, args, keywords = data.draw(method_calls(name))
    compute = ufuncs[name]
    said = f"{name}.{describe(method, args, None, keywords)}"
    before = case.copies()
    inputs = [a if isinstance(a, list) else np.array(a, subok=False) for a in args]
    masks = copy.deepcopy(keywords)
    with np.errstate(all="ignore"):
        result, error = raised(getattr(compute, method), *args, **keywords)
    after = case.copies()
    case.restore(before)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = PEERS[compute.nin] if compute.nin < 3 else np._core.umath.clip
        wanted, wanted_error = raised(getattr(peer, method), *args, **keywords)
    case.restore(before)
    assert kind_of(error) == kind_of(wanted_error) or name == "relu", (said, error, wanted_error)
    if error is not None:
        assert str(error), said
        assert all(map(np.array_equal, before, after)), f"changed by a call that fails: {said}"
        return
    loop = loop_dtype(name, [a for a in inputs[:1]], ["array"] * 3, keywords.get("dtype"))
    with np.errstate(all="ignore"):
        expected = expected_of_method(compute, method, inputs, masks, loop)
        if expected is None:
            return
        if method == "at":
            args[0].setflags(write=True) if args[0].base is None else None
            case.restore(after)
            assert_equal_but_nans(args[0], expected, said)
            return
        assert wide_type(result) is wide_type(wanted) or name == "relu", said
        if "out" in keywords:
            assert result is keywords["out"], said
            expected = expected.astype(result.dtype.newbyteorder("="))
            case.restore(after)
    assert_equal_but_nans(result, expected, said)


# ----------------------------------------------------------- layers and losses


class Moderate(Case):
    """A case whose numbers are small: products of any others overflow."""

    def memory(self, size, dtype):
        count = -(-size // dtype.itemsize)
        if dtype.kind == "b":
            return super().memory(size, dtype)
        low = 0 if dtype.kind == "u" else -100
        drawn = self.rng.integers(low, 101, count)
        drawn = drawn / 8 if dtype.kind not in "iu" else drawn
        native_type = dtype.newbyteorder("=")
        made = drawn.astype(native_type).astype(dtype).view(np.uint8)
        self.memories.append(made)
        return made


def are_small(*arrays):
    """Tell whether all numbers are as small as `Moderate` made them.

    Read from a place shifted by a byte, they are any, and NumPy may have to warn when it converts
    them.
    """
    with np.errstate(all="ignore"):
        return all((np.abs(native(array).astype(np.float64)) <= 100).all() for array in arrays)


ACTIVATIONS = {name: case.make for name, case in LAYERS.items()}
MADE = {
    **ACTIVATIONS,
    "Softmax": layers.Softmax,
    "Linear": lambda: layers.Linear(3, 4, seed=1),
    "Linear, fused": lambda: layers.Linear(3, 2, layers.ReLU(), dtype="float64", seed=1),
    "Linear, keeps input": lambda: layers.Linear(3, 3, layers.Sigmoid(), seed=1),
    "Sequential": lambda: layers.Sequential(
        layers.LeakyReLU(0.2), layers.Linear(3, 5, layers.ReLU(), seed=1), layers.Softmax()
    ),
}


def assert_close(got, expected, said, scale=0):
    got, expected = native(np.asarray(got)), native(np.asarray(expected))
    assert got.dtype == expected.dtype, said
    assert got.shape == expected.shape, said
    with np.errstate(all="ignore"):
        got, expected = got.astype(np.float64), expected.astype(np.float64)
        scale = np.max(np.abs(expected), initial=scale, where=np.isfinite(expected))
    tolerance = 1e-5 if got.dtype.itemsize > 2 else 1e-2
    np.testing.assert_allclose(got, expected, tolerance, tolerance * scale, err_msg=said)


@pytest.mark.parametrize("layer_name", MADE)
@settings(max_examples=max(1, settings.default.max_examples // 2))
@given(data=st.data())
def test_layers(layer_name, data):
    draw = data.draw
    layer, reference = MADE[layer_name](), MADE[layer_name]()
    elementwise = layer_name in ACTIVATIONS
    case = Moderate(draw(st.integers(0, 2**32)))
    shape = draw(
        hnp.array_shapes(
            min_dims=0 if elementwise else 1, max_dims=5, min_side=draw(often), max_side=5
        )
    )
    if not elementwise and draw(st.integers(0, 7)):
        shape = (*shape[:-1], 3)
    if layer_name != "Sequential" and draw(rarely) and draw(rarely):
        shape = (47_000, 3)
    dtype = draw(st.sampled_from(DTYPES[:4] * 3 + DTYPES))
    one = draw(layout(shape, dtype, repeated=True))
    with np.errstate(all="ignore"):
        plain, wanted_error = raised(reference.forward, native(np.zeros(shape, dtype)))
    out = None
    if plain is None or not draw(st.integers(0, 2)) or dtype.kind == "b" or not np.ndim(plain):
        x = case.place(draw, [one])[0]
    else:
        target_layout = draw(layout(plain.shape, plain.dtype))
        x, out = case.place(draw, [one, target_layout], draw(st.sampled_from([0, 8, 256])))
    said = describe(layer_name, [x], out, {})
    before = case.copies()
    calm = dtype.kind == "f" and are_small(x)
    with np.errstate(all="raise" if calm else "ignore", under="ignore"):
        y, error = raised(layer.forward, x, out)
    after = case.copies()
    case.restore(before)
    with np.errstate(all="ignore"):
        expected, wanted_error = raised(reference.forward, native(x))
    assert kind_of(error) == kind_of(wanted_error), (said, error, wanted_error)
    if error is not None:
        assert all(map(np.array_equal, before, after)), said
        return
    equal = assert_equal_but_nans if elementwise else assert_close
    if out is not None:
        assert y is out, said
        np.copyto(out, expected)
        case_expected = case.copies()
        case.restore(after)
        equal(np.asarray(y), expected, said)
        # Beside `out` nothing has changed.
        now = np.array(out)
        case.restore(case_expected)
        np.copyto(out, now)
        assert all(map(np.array_equal, case.memories, after)), f"memory beside out: {said}"
        case.restore(after)
    else:
        assert all(map(np.array_equal, before, after)), said
        equal(y, expected, said)

    wrong = draw(rarely)
    grad_shape = (*np.shape(expected), 2) if wrong else np.shape(expected)
    grad_dtype = draw(st.sampled_from(DTYPES[:4]))
    memories = case.memories
    case.memories = []
    grad = case.place(draw, [draw(layout(grad_shape, grad_dtype, repeated=True))])[0]
    saved = case.copies()
    with np.errstate(all="ignore"):
        gradient, error = raised(layer.backward, grad)
        wanted, wanted_error = raised(reference.backward, native(grad))
    assert kind_of(error) == kind_of(wanted_error), (said, error, wanted_error)
    assert all(map(np.array_equal, case.memories, saved)), said
    assert (error is None) != wrong, (said, error)
    if error is None:
        if elementwise:
            assert_equal_but_nans(gradient, wanted, said)
        else:
            assert_close(gradient, wanted, said, 100)  # that of grad: terms cancel
        for parameter, value in layer.gradients().items():
            assert_close(value, reference.gradients()[parameter], said, 100)
    assert len(memories) in (1, 2)


@pytest.mark.parametrize("loss_name", ["MSELoss", "BCEWithLogitsLoss", "CrossEntropyLoss"])
@given(data=st.data())
def test_losses(loss_name, data):
    draw = data.draw
    loss, reference = getattr(losses, loss_name)(), getattr(losses, loss_name)()
    case = Moderate(draw(st.integers(0, 2**32)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=draw(often), max_side=6))
    shapes = [shape, shape if draw(st.integers(0, 7)) else (*shape, 1)]
    dtypes = [draw(st.sampled_from(DTYPES[:4] * 3 + DTYPES)) for _ in range(2)]
    if draw(often):
        dtypes[1] = dtypes[0]
    if loss_name == "CrossEntropyLoss" and shape and draw(often):
        shapes[1], dtypes[1] = shape[:-1], draw(st.sampled_from(DTYPES[5:]))
    arrays = [
        case.place(draw, [draw(layout(s, d, repeated=True))])[0]
        for s, d in zip(shapes, dtypes, strict=True)
    ]
    if dtypes[1].kind in "iu" and shapes[1] != shape and draw(st.integers(0, 5)):
        with suppress(ValueError):  # an array that lies in one place only
            arrays[1][...] = case.rng.integers(0, max([1, *shape[-1:]]), shapes[1])
    said = describe(loss_name, arrays, None, {})
    before = case.copies()
    with np.errstate(all="warn" if are_small(*arrays) else "ignore", under="ignore"):
        value, error = raised(loss.forward, *arrays)
        wanted, wanted_error = raised(reference.forward, *map(native, arrays))
    assert kind_of(error) == kind_of(wanted_error), (said, error, wanted_error)
    assert kind_of(error) in (None, TypeError, ValueError), (said, error)
    if error is None:
        assert type(value) is float
        assert value == wanted or (value != value and wanted != wanted), said
        gradient = loss.backward()
        assert gradient.shape == shape, said
        assert_equal_but_nans(gradient, reference.backward(), said)
    assert all(map(np.array_equal, before, case.memories)), said


@pytest.mark.parametrize("layer_name", OWN_ARRAYS)
@settings(max_examples=max(1, settings.default.max_examples // 2))
@given(data=st.data())
def test_own_arrays(layer_name, data):
    """A layer gets its own arrays, or views of them, and a twin gets copies."""
    draw = data.draw
    twins = [OWN_ARRAYS[layer_name]() for _ in range(2)]
    trainable = bool(twins[0].parameters())
    optimizers = [SGD(layer, lr=0.01, momentum=0.5) for layer in twins] if trainable else []
    x = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=(4, 4))
    own = [[x.copy(), *layer.parameters().values(), *layer.gradients().values()] for layer in twins]
    fixed, rows, kept = len(own[0]), None, []
    for _ in range(draw(st.integers(1, 8))):
        i = draw(st.integers(0, len(own[0]) - 1))
        cut = draw(st.sampled_from([np.s_[:], np.s_[::-1], np.s_[:1], np.s_[-1:], np.s_[1::2]]))
        operands = [
            (array if array.ndim == 2 else array[None])[cut] for array in (one[i] for one in own)
        ]
        if draw(rarely) and len(operands[0]) == 4:
            operands = [operand.T for operand in operands]
        if np.max(np.abs(operands[0]), initial=0) > 1e6:
            break
        operands[1] = np.array(operands[1])
        method = draw(st.sampled_from(["__call__", "forward", "backward", "backward", "step"]))
        if method == "step":
            parameters = twins[0].parameters().values()
            if trainable and not any(np.may_share_memory(a, b) for a in kept for b in parameters):
                for optimizer in optimizers:
                    optimizer.step()
            continue
        if method == "backward" and len(operands[0]) != rows:
            continue
        # What is kept must not be overwritten: everything else may.
        k = draw(st.integers(0, len(own[0]) - 1))
        outs = [one[k] for one in own]
        if (
            draw(often)
            or outs[0].shape != operands[0].shape
            or any(np.may_share_memory(outs[0], array) for array in kept)
        ):
            outs = [None, None]
        said = f"{layer_name}: {method}, {i}, {cut}, out {k if outs[0] is not None else None}"
        results = [
            getattr(one, method)(operand, out=out)
            for one, operand, out in zip(twins, operands, outs, strict=True)
        ]
        assert_close(*results, said, 1)
        if method == "forward":
            rows, kept = len(operands[0]), [operands[0], results[0]]
        for one, result in zip(own, results, strict=True):
            one.append(result)
        if draw(often) and len(own[0]) > fixed:
            dropped = draw(st.integers(fixed, len(own[0]) - 1))  # it may be used again
            for one in own:
                del one[dropped]
        for array, wanted in zip(*own, strict=True):
            assert_close(array, wanted, said, 1)


@given(data=st.data())
def test_hooks_within_products(data):
    draw = data.draw
    activation = draw(st.sampled_from([None, layers.ReLU, layers.Tanh, layers.Softmax]))
    width = draw(st.sampled_from([1, 2, 63, 600, 5000, 50_000]))
    check_a_change(
        overflowing(activation, draw(st.integers(1, 3)), width),
        draw(st.sampled_from(CHANGED_ARRAYS)),
        draw(st.sampled_from(list(CHANGES))),
        draw(st.sampled_from(METHODS)),
        draw(st.sampled_from(list(WAYS.values()))),
    )


# ------------------------------------------------------------------- found here


@pytest.mark.parametrize("name", ["leaky_relu", "leaky_relu_backward"])
def test_a_number_takes_the_bfloat16_that_is_asked_for(ufuncs, isa, name):
    x = np.array([-2, 0, 3], BFLOAT16)
    operands = [x] * (ufuncs[name].nin - 1)
    for slope in ((), (0.25,), (2,)):
        result = ufuncs[name](*operands, *slope, dtype=BFLOAT16)
        assert result.dtype == BFLOAT16
        assert result.tobytes() == ufuncs[name](*operands, *slope).tobytes()
    with pytest.raises(TypeError, match="cast"):
        ufuncs[name](*(operand.astype("f4") for operand in operands), dtype=BFLOAT16)


@looped("dtype", FLOATS)
@looped("casting", ["no", "equiv", "safe", "same_kind"])
def test_a_number_has_the_dtype_of_the_arrays_under_every_casting(ufuncs, isa, casting, dtype):
    x = np.array([-2, 0, 3], dtype)
    for slope in ((), (0.25,), (2,), (1e9,)):
        with np.errstate(all="ignore"):
            result = ufuncs["leaky_relu"](x, *slope, casting=casting)
        assert result.tobytes() == ufuncs["leaky_relu"](x, *slope).tobytes()


@pytest.mark.parametrize("layer_name", [*ACTIVATIONS, "Softmax"])
def test_gradients_of_bfloat16_may_be_float16(layer_name):
    layer = MADE[layer_name]()
    layer.forward(np.ones((2, 3), BFLOAT16))
    assert layer.backward(np.ones((2, 3), np.float16)).dtype == np.float32


@looped("dtype", FLOATS)
def test_cross_entropy_of_a_scalar_is_refused(dtype):
    scalar = np.array(1, dtype)
    for target_dtype in (dtype, "float32", "float64", "i8"):
        with pytest.raises(ValueError, match="at least one axis"):
            losses.CrossEntropyLoss()(scalar, np.array(0, target_dtype))


@looped("dtype", FLOATS)
@looped("shape", [(0, 0), (0, 3), (2, 0, 3)])
def test_cross_entropy_without_samples(shape, dtype):
    """No matter how many classes there are, the mean of nothing is NaN, and the gradient empty."""
    loss = losses.CrossEntropyLoss()
    for wanted in (np.zeros(shape[:-1], np.int8), np.zeros(shape, dtype)):
        assert np.isnan(loss.forward(np.zeros(shape, dtype), wanted))
        assert loss.backward().shape == shape


@pytest.mark.parametrize("loss_name", ["MSELoss", "BCEWithLogitsLoss", "CrossEntropyLoss"])
def test_a_gradient_beyond_float16_is_infinite_without_a_warning(loss_name):
    loss = getattr(losses, loss_name)()
    with np.errstate(all="raise"):
        loss.forward(np.zeros(3, np.float16), np.full(3, 1e30, np.float32))
        gradient = loss.backward()
    assert gradient.dtype == np.float16
    assert np.isinf(gradient).all()
