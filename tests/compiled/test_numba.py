"""Functions compiled by numba call the ufuncs, and get their bits."""

from functools import cache
from itertools import islice

import layouts
import numpy as np
import pointers
import pytest
import reference
from clients import python

import fastact

numba = pytest.importorskip("numba")

NAMES = sorted(reference.BY_NAME)
# Of one, two and three operands, for what does not depend on the formula.
SOME = ["sigmoid", "tanh_backward", "leaky_relu_backward"]
REFUSED = (layouts.byte_swapped,)  # by numba itself
COMMON = (layouts.contiguous, layouts.strided, layouts.fortran)


@cache
def compiled(name):
    """The ufunc as a function compiled by numba, of as many operands as are given."""
    names = {"fastact": fastact}
    operands = ", ".join(reference.BY_NAME[name].operands)
    exec(f"def call({operands}): return fastact.{name}({operands})", names)
    exec(f"def call_out({operands}, out): return fastact.{name}({operands}, out)", names)
    call, call_out = (numba.njit(names[n]) for n in ("call", "call_out"))
    return lambda operands, out: call(*operands) if out is None else call_out(*operands, out)


def contiguous_operands(name, dtype):
    nin = len(reference.BY_NAME[name].operands)
    with np.errstate(all="ignore"):
        return [
            pointers.inputs(dtype, np.prod(layouts.SHAPE), i).reshape(layouts.SHAPE)
            for i in range(nin)
        ]


def compare(name, dtype, layout, count=None):
    """Compare with the ufunc in a layout, or in the first of its arrangements."""
    call, ufunc = compiled(name), getattr(fastact, name)
    for operands, out in islice(layout(contiguous_operands(name, dtype)), count):
        if out is not None and not out.flags.aligned:
            continue
        # In place, the operands are gone after the first call.
        copies = [np.array(operand) for operand in operands]
        with np.errstate(all="ignore"):
            expected = ufunc(*copies)
        result = call(operands, out)
        assert np.shape(result) == np.shape(expected)
        assert pointers.same_bits(np.asarray(result, expected.dtype), expected), layout.__name__
        if out is not None:
            assert pointers.same_bits(out, expected), layout.__name__
        elif layout in COMMON:
            assert result.flags.f_contiguous == expected.flags.f_contiguous
            assert result.flags.c_contiguous == expected.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", NAMES)
def test_contiguous(name, dtype):
    compare(name, dtype, layouts.contiguous)


@pytest.mark.slow
@pytest.mark.parametrize("layout", COMMON[1:], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_operands_of_one_layout(name, layout):
    compare(name, "f4", layout, count=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", [f for f in layouts.LAYOUTS if f not in REFUSED], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("name", SOME)
def test_all_layouts(name, layout):
    """What is compiled depends on the number of operands: the formula is found by its position."""
    compare(name, "f8", layout)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", NAMES)
def test_numbers(name, dtype):
    call, ufunc = compiled(name), getattr(fastact, name)
    for row in zip(*(o[0, :40] for o in contiguous_operands(name, dtype)), strict=True):
        result = call(row, None)
        assert pointers.same_bits(np.dtype(dtype).type(result), ufunc(*row))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
def test_relu_keeps_integers(dtype):
    x = np.arange(-5, 5).astype(dtype)
    call = compiled("relu")
    result, expected = call([x], None), fastact.relu(x)
    assert result.dtype == expected.dtype
    assert result.tobytes() == expected.tobytes()
    assert call([x[-1]], None) == expected[-1]


@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "i8", "u8"])
def test_integers_are_promoted(dtype):
    x = np.arange(1, 9).astype(dtype)
    for name in "sigmoid", "leaky_relu":
        numbers = [0.3] * (len(reference.BY_NAME[name].operands) - 1)
        result = compiled(name)([x, *numbers], None)
        assert pointers.same_bits(result, getattr(fastact, name)(x, *numbers))


def test_operands_of_several_dtypes():
    grad, x = np.linspace(-1, 1, 9, dtype="f4"), np.linspace(-9, 9, 9)
    for operands in (grad, x), (x, grad), (grad, x.astype("i8")), (grad, x.astype("i2")):
        result = compiled("tanh_backward")(operands, None)
        assert pointers.same_bits(result, fastact.tanh_backward(*operands))


# ------------------------------------------------------------------------ the slope


@numba.njit
def slopes(x, grad, slope):
    return (
        fastact.leaky_relu(x),
        fastact.leaky_relu(x, slope),
        fastact.leaky_relu(x, negative_slope=slope),
        fastact.leaky_relu_backward(grad, x),
        fastact.leaky_relu_backward(grad, x, negative_slope=slope),
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("slope", [0.2, 3, np.array([0.1, -0.2, 1e30])])
def test_slope(slope, dtype):
    x = np.linspace(-9, 9, 12, dtype=dtype).reshape(4, 3)
    slope = slope.astype(dtype) if isinstance(slope, np.ndarray) else slope
    results = slopes(x, x[::-1].copy(), slope)
    for result, expected in zip(results, slopes.py_func(x, x[::-1].copy(), slope), strict=True):
        assert pointers.same_bits(result, expected)


@pytest.mark.parametrize("x", [np.float32(-0.7), -0.7])
def test_slope_of_a_number(x):
    """The slope is rounded to the type of x, as a number of Python is."""
    results = slopes(x, x, 0.1)
    for result, expected in zip(results, slopes.py_func(x, x, 0.1), strict=True):
        assert pointers.same_bits(type(expected)(result), expected)


# ----------------------------------------------------------- out, and how functions are compiled


@numba.njit
def into(x, out):
    return fastact.sigmoid(x, out=out)


def test_out():
    x = np.linspace(-9, 9, 12).reshape(3, 4)
    expected = fastact.sigmoid(x)
    for out in np.zeros((3, 4)), np.zeros((3, 4), order="F"), np.zeros((6, 8))[::2, ::-2]:
        assert into(x, out).tobytes() == out.tobytes() == expected.tobytes()
    # One row for all; a number for all; and memory that is shared without being the same.
    out = np.zeros((3, 4))
    assert into(x[0], out).tobytes() == np.tile(expected[0], (3, 1)).tobytes()
    assert np.all(into(1.5, out) == fastact.sigmoid(1.5))
    both = np.linspace(-9, 9, 30)
    expected = fastact.sigmoid(both[:-1])
    into(both[:-1], both[1:])
    assert both[1:].tobytes() == expected.tobytes()
    both = np.linspace(-9, 9, 30)
    expected = fastact.sigmoid(both[::-1])
    into(both[::-1], both)
    assert both.tobytes() == expected.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "given", "dtypes"),
    [("relu", "i4", ("i2", "i8", "f4")), ("sigmoid", "f8", ("f4", "c16"))],
)
def test_out_of_another_dtype(name, given, dtypes):
    """What the ufunc takes by the rule same_kind, except for float16; unaligned ones, too."""
    call, ufunc = compiled(name), getattr(fastact, name)
    x = np.linspace(-90, 90, 12).reshape(3, 4).astype(given)
    for dtype in *dtypes, given:
        out = np.zeros((3, 4), [("skip", "i1"), ("value", dtype)])["value"]
        expected = ufunc(x, out=np.zeros((3, 4), dtype))
        assert call([x], out).tobytes() == expected.tobytes() == out.tobytes()


def test_out_of_another_dtype_in_odd_shapes():
    out = np.zeros((), "f4")
    assert into(np.float64(0.3), out) == fastact.sigmoid(0.3).astype("f4")
    assert into(np.zeros((3, 0)), np.zeros((3, 0), "f4")).shape == (3, 0)
    # One row for all, and an operand that shares memory with it.
    x = np.linspace(-9, 9, 4)
    assert (
        into(x, np.zeros((3, 4), "f4")).tobytes() == fastact.sigmoid([x] * 3).astype("f4").tobytes()
    )
    both = np.linspace(-9, 9, 30)
    expected = fastact.sigmoid(both[:15]).astype("f4")
    assert into(both[:15], both.view("f4")[3:18]).tobytes() == expected.tobytes()


def test_wrong_shapes():
    for out in np.zeros((1, 4)), np.zeros((1, 4), "f4"):
        with pytest.raises(ValueError, match="sigmoid: out must have the shape of the operands"):
            into(np.zeros((3, 4)), out)
    with pytest.raises(ValueError, match="shape"):
        into(np.zeros((3, 4)), np.zeros((3, 5)))
    with pytest.raises(ValueError, match="shape"):
        compiled("tanh_backward")([np.zeros(3), np.zeros(4)], None)


def test_in_other_compiled_functions():
    x = np.linspace(-9, 9, 1000).reshape(10, 100)

    @numba.vectorize
    def elementwise(x, y):
        return fastact.sigmoid_backward(x, y)

    @numba.njit(parallel=True, nogil=True)
    def rows(x):
        out = np.empty_like(x)
        for i in numba.prange(x.shape[0]):
            out[i] = fastact.tanh(x[i])
        return out

    @numba.guvectorize("(n)->(n)", nopython=True)
    def lines(x, out):
        fastact.silu(x, out)

    @numba.cfunc("float64(float64)")
    def callback(x):
        return x * fastact.sigmoid(x)

    @numba.njit
    def expression(x):
        return 2 * fastact.sigmoid(2 * x) - fastact.relu(-x) + 1

    assert elementwise(x, x).tobytes() == fastact.sigmoid_backward(x, x).tobytes()
    assert rows(x).tobytes() == fastact.tanh(x).tobytes()
    assert callback.ctypes(0.7) == 0.7 * fastact.sigmoid(0.7)
    out = np.empty_like(x)
    assert lines(x, out).tobytes() == fastact.silu(x).tobytes()
    assert expression(x).tobytes() == expression.py_func(x).tobytes()


# -------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "operands", "named"),
    [
        ("sigmoid", [np.ones(3, complex)], r"fastact.sigmoid got \(array\(complex128"),
        ("relu", [1j], r"fastact.relu got \(complex128"),
        ("sigmoid", ["text"], r"fastact.sigmoid got \(unicode_type"),
        ("sigmoid", [(1.0, 2.0)], r"fastact.sigmoid got \(UniTuple\(float64"),
        ("silu", [np.ones(3, "i1")], r"fastact.silu got \(array\(int8"),
        ("sigmoid", [np.ones(3, "f2")], r"fastact.sigmoid got \(array\(float16"),
        ("relu", [np.ones(3, "M8[s]")], r"fastact.relu got \(array\(datetime64"),
        ("tanh_backward", [np.ones(3), None], r"fastact.tanh_backward got \(.*none\)"),
        ("leaky_relu", [np.ones(3), 1j], r"fastact.leaky_relu got \(.*complex128\)"),
    ],
)
def test_typing_error_names_the_types(name, operands, named):
    with pytest.raises(numba.TypingError, match=named):
        compiled(name)(operands, None)


def test_typing_error_names_out():
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    for out in np.zeros(3, "i8"), np.zeros(3, "f2"), frozen, 1.0:
        with pytest.raises(numba.TypingError, match=r"fastact\.sigmoid: out is .*same_kind"):
            into(np.zeros(3), out)


# ------------------------------------------------------------------------------- the cache

MODULE = """\
import fastact
import numpy as np
from numba import njit


@njit(cache=True)
def network(grad, x, slope):
    y = fastact.leaky_relu(x, slope) + fastact.sigmoid(x)
    return fastact.tanh_backward(grad, y), fastact.silu(x[0, 0])
"""
PROGRAM = """\
import cached, fastact
import numpy as np
x = np.linspace(-9, 9, 300).reshape(30, 10)
{change}
result = cached.network(x, x[::-1], 0.3)
expected = cached.network.py_func(x, x[::-1], 0.3)
assert result[0].tobytes() == expected[0].tobytes()
assert result[1] == expected[1]
print(*map(len, (cached.network.stats.cache_hits, cached.network.stats.cache_misses)))
"""


def run(folder, check=True, change="", **environment):
    (folder / "cached.py").write_text(MODULE, encoding="utf-8")
    program = PROGRAM.format(change=change)
    return python("-c", program, folder=folder, check=check, **environment)


def test_cached_function_works_in_a_new_process(tmp_path, isa):
    assert run(tmp_path).stdout == "0 1\n"
    # Other addresses, and in `pytest` without --quick every instruction set.
    assert run(tmp_path).stdout == "1 0\n"
    assert run(tmp_path, FASTACT_ISA=isa).stdout == "1 0\n"


def test_cached_function_of_a_later_fastact(tmp_path):
    later = "import fastact.cy._functions as f; f.POSITIONS['tanh_backward'] += 500"
    found = run(tmp_path, check=False, change=later)
    for _ in range(2):
        assert found.returncode == 1
        assert "ImportError: this function was compiled with a later fastact" in found.stderr
        found = run(tmp_path, check=False)


def test_numba_is_no_dependency(tmp_path):
    program = (
        "import sys\nimport fastact, fastact.cy\n"
        "assert not {'numba', 'llvmlite', 'fastact.cy._numba'} & sys.modules.keys()"
    )
    python("-c", program, folder=tmp_path)
