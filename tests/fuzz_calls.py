"""A fuzzer for the argument parsing of the calls, led by coverage. No part of the normal tests.

It makes calls from bytes: any number of operands of any kind, by position and by name, `out` in
every form, keywords that are interned and ones that are not, names that nobody knows. A call has
to return a result of the right shape, or raise a TypeError, a ValueError, an OverflowError or an
AttributeError, as NumPy's ufuncs do; it has to leave its operands alone and their reference
counts too. A result is compared with that of the call in which every operand is a contiguous
array and has a place of its own.

The extra ``fuzz`` has what it needs. For a certain time, or a certain number of calls::

    python tests/fuzz_calls.py -max_total_time=300
    python tests/fuzz_calls.py -runs=1000000

What atheris sees is the Python code here: every branch that makes up a call, and tells results
apart, is one. The compiled code has no counters, so that branches on what came back stand for it.
"""

import sys
import warnings

import atheris
import numpy as np

import fastact
from fastact._core import ufuncs as core

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "'where' used without 'out'")

UFUNCS = [made[name] for made in map(core.make_ufuncs, core.supported) for name in made]
FLOATS = [np.float16, np.float32, np.float64]
ERRORS = (TypeError, ValueError, OverflowError, AttributeError)


class Overriding:
    """Takes every call over."""

    def __array_ufunc__(self, *args, **keywords):
        """Give a string."""
        return "mine"


class Unhashable:
    """Nothing that an array is made of."""

    __hash__ = None
    __slots__ = ()


class Name(str):
    """A keyword that is a string by inheritance."""

    __slots__ = ()


ODD = [None, (), (None,), [], [1.0], "text", b"b", 1j, {}, Unhashable(), Overriding(), Ellipsis]
ODD += [True, np.True_, np.nan, 10**400, -(2**63), 2**53 + 1, np.ma.masked, float, (None, None)]
KEYWORDS = ["out", "negative_slope", "where", "dtype", "casting", "order", "subok", "signature"]
KEYWORDS += ["sig", "axis", "axes", "keepdims", "x", "grad", "", "OUT", "out ", "negative_slop"]


def an_array(data):
    """Make a small array of some layout."""
    dtype = np.dtype(data.PickValueInList([*FLOATS, np.float32, np.float32, np.int8, bool]))
    shape = data.PickValueInList([(5,), (5,), (5,), (2, 3), (3, 2), (), (0,), (1,), (1, 5)])
    kind = data.ConsumeIntInRange(0, 9)
    array = np.arange(-2, 58).astype(dtype)[: int(np.prod(shape))].reshape(shape)
    if kind == 1 and array.ndim:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif kind == 2 and array.ndim:
        array = array[::-1]
    elif kind == 3:
        array = np.asfortranarray(array)
    elif kind == 4:
        array = array.astype(dtype.newbyteorder())
    elif kind == 5:
        array.flags.writeable = False
    elif kind == 6:
        array = array.view(type("Sub", (np.ndarray,), {}))
    elif kind == 7:
        raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
        odd = np.ndarray(shape, dtype, raw)
        odd[...] = array
        array = odd
    return array


def a_value(data, arrays):
    """Make an operand, or one that is there already."""
    kind = data.ConsumeIntInRange(0, 7)
    if kind <= 2 or (kind == 3 and not arrays):
        made = an_array(data)
        arrays.append(made)
        return made
    if kind == 3:
        return data.PickValueInList(arrays)
    if kind == 4:
        return data.ConsumeFloat()
    if kind == 5:
        return data.ConsumeInt(9)
    if kind == 6:
        return data.PickValueInList(FLOATS)(1.5)
    return data.PickValueInList(ODD)


def an_out(data, arrays):
    kind = data.ConsumeIntInRange(0, 5)
    if kind == 0:
        return None
    if kind == 1:
        return (None,)
    value = a_value(data, arrays)
    if kind == 2:
        return (value,)
    return (value, value) if kind == 3 else value


def a_keyword(data, name, arrays):
    if data.ConsumeIntInRange(0, 5) == 0:
        return a_value(data, arrays)
    if name == "out":
        return an_out(data, arrays)
    if name == "where":
        return data.PickValueInList([True, False, np.array([True, False, True, True, False]), None])
    if name == "dtype":
        return data.PickValueInList([None, "e", "f", "d", "i4", "O", np.float32, "nothing", "D"])
    if name == "casting":
        return data.PickValueInList(["no", "equiv", "safe", "same_kind", "unsafe", "", None, 3])
    if name == "order":
        return data.PickValueInList(["C", "F", "A", "K", "", "X", None])
    if name == "subok":
        return data.PickValueInList([True, False, None, 1])
    if name in ("signature", "sig"):
        return data.PickValueInList(["f->f", "ff->f", "fff->f", "d", (), (None,) * 3, "->", None])
    return a_value(data, arrays)


def check(ufunc, operands, keywords, result):
    """Compare with the plain call of contiguous copies, where the call is a simple one."""
    simple = set(keywords) <= {"out", "negative_slope"} and len(operands) <= ufunc.nin
    values = [*operands, *([keywords["negative_slope"]] if "negative_slope" in keywords else [])]
    arrays = [v for v in values if type(v) is np.ndarray]
    if not simple or not arrays or len({a.dtype.newbyteorder("=") for a in arrays}) > 1:
        return
    if not all(type(v) in (np.ndarray, float) for v in values) or arrays[0].dtype.kind != "f":
        return
    if type(values[0]) is float or isinstance(result, str):
        return
    shape = np.broadcast_shapes(*(np.shape(v) for v in values))
    native = arrays[0].dtype.newbyteorder("=")
    full = [
        v if type(v) is float else np.array(np.broadcast_to(v, shape or (1,)), native, order="C")
        for v in check.copies(values)
    ]
    with np.errstate(all="ignore"):
        expected = ufunc(*full).reshape(shape)
    if type(result) is np.ndarray and result.shape == shape and result.dtype == native:
        assert np.array_equal(result, expected, equal_nan=True), (ufunc, values, result, expected)


def one_call(raw):
    """Make a call from bytes, and look at what it does."""
    data = atheris.FuzzedDataProvider(raw)
    ufunc = data.PickValueInList(UFUNCS)
    arrays, keywords = [], {}
    operands = [a_value(data, arrays) for _ in range(data.ConsumeIntInRange(0, ufunc.nin + 2))]
    for _ in range(data.ConsumeIntInRange(0, 3)):
        name = data.PickValueInList(KEYWORDS)
        value = a_keyword(data, name, arrays)
        form = data.ConsumeIntInRange(0, 3)
        if form == 1:
            name = "".join(list(name))  # equal, and not the same object
        elif form == 2:
            name = Name(name)
        keywords[name] = value
    saved = [array.copy() for array in arrays]
    check.copies = lambda values: [
        next((s for a, s in zip(arrays, saved, strict=True) if a is v), v) for v in values
    ]
    counts = [sys.getrefcount(array) for array in arrays]
    one_call.total += 1
    message = None
    try:
        with np.errstate(all="ignore"):  # NumPy casts to and from other dtypes
            result = ufunc(*operands, **keywords)
    except ERRORS as error:
        message = str(error)
    if message is not None:
        assert message
        one_call.failed += 1
        for array, before in zip(arrays, saved, strict=True):
            assert array.tobytes() == before.tobytes(), (ufunc, operands, keywords, message)
    else:
        check(ufunc, operands, keywords, result)
        out = [*operands[ufunc.nin :], keywords.get("out")]
        out = [o[0] if type(o) is tuple and len(o) == 1 else o for o in out]
        for array, before in zip(arrays, saved, strict=True):
            if any(isinstance(o, np.ndarray) and np.shares_memory(array, o) for o in out):
                continue
            assert array.tobytes() == before.tobytes(), (ufunc, operands, keywords)
        del result
    out = array = before = None
    now = [sys.getrefcount(array) for array in arrays]
    assert now == counts, (ufunc, operands, keywords, counts, now)


one_call.total = one_call.failed = 0


if __name__ == "__main__":
    print(fastact.__file__, len(UFUNCS), "ufuncs")
    for function in (an_array, a_value, an_out, a_keyword, check):
        globals()[function.__name__] = atheris.instrument_func(function)
    atheris.Setup(sys.argv, atheris.instrument_func(one_call))
    atheris.Fuzz()
