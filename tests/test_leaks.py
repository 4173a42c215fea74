"""Calls of every kind, failing ones included, leave reference counts and memory where they were.

A kind is called a thousand times here. ``pytest tests/test_leaks.py --long`` calls each a million
times, and those with results of 4 MiB ten thousand times. What a call loses shows that many times
over in the counts of its operands, in the number of Python's blocks, in the bytes that the C
library has handed out, or in the resident memory.
"""

import copy
import ctypes
import gc
import pickle
import sys
from itertools import repeat

import ml_dtypes
import numpy as np
import pytest
from layouts import Subclass
from programs import resident
from reference import EXPECTATIONS

import fastact
from fastact import layers, losses
from fastact.optimizers import SGD

pytestmark = pytest.mark.skipif(
    not sys.getallocatedblocks(), reason="Python's blocks are not counted: PYTHONMALLOC=malloc"
)

X = np.linspace(-9, 9, 40, dtype=np.float32)
ROWS = X.reshape(5, 8)
OUT = np.empty_like(X)
FROZEN = X.copy()
FROZEN.flags.writeable = False
LARGE = np.zeros(1 << 20, np.float32)  # results of 4 MiB are kept
MASK = X > 0
BFLOAT16 = X.astype(ml_dtypes.bfloat16)
SWAPPED = X.astype(">f4")
LABELS = np.zeros(5, np.intp)


def lost_by_dot(dtype):
    """Tell whether `numpy.dot`, which layers call, leaks the dtype: NumPy 2.5 on CPython 3.12."""
    if dtype not in (np.float32, np.float64):
        return False
    square, before = np.ones((2, 2), dtype), sys.getrefcount(dtype)
    for _ in range(50):
        np.dot(square, square)
    return sys.getrefcount(dtype) - before >= 50


DTYPES = map(np.dtype, ("f2", "f4", "f8", "i8", BFLOAT16.dtype))
# What calls hold for a while, and may forget to let go.
WATCHED = [X, ROWS, OUT, FROZEN, LARGE, MASK, BFLOAT16, SWAPPED, LABELS, None, True, ()]
WATCHED += [np.ndarray, np.float32, *(dtype for dtype in DTYPES if not lost_by_dot(dtype))]
WATCHED += [getattr(fastact, expectation.name) for expectation in EXPECTATIONS]


class Override:
    """Takes every call over."""

    def __array_ufunc__(self, *args, **keywords):  # noqa: D105
        return self


def refused(call):
    """Make a call that has to fail one that works."""

    def attempt():
        try:
            call()
        except (TypeError, ValueError):
            return
        raise AssertionError("it was not refused")

    return attempt


def calls_of(name):
    """Collect the kinds of calls of one ufunc."""
    f, n = getattr(fastact, name), len(next(e for e in EXPECTATIONS if e.name == name).operands)
    subclass, override, exotic = X.view(Subclass), Override(), X.astype(complex)
    WATCHED.extend([subclass, override, exotic])
    operands, half, strided = [X] * n, [X.astype("f2")] * n, [X[::2]] * n
    yield "fast", lambda: f(*operands)
    yield "out by name", lambda: f(*operands, out=OUT)
    yield "out by position", lambda: f(*operands, OUT)
    yield "out in a tuple", lambda: f(*operands, out=(OUT,))
    yield "float16", lambda: f(*half)
    yield "bfloat16", lambda: f(*[BFLOAT16] * n)
    yield "bytes swapped", lambda: f(*[SWAPPED] * n)
    yield "strided", lambda: f(*strided)
    yield "by columns", lambda: f(*[ROWS.T] * n)
    yield "overlap", lambda: f(*[OUT[:-1]] * n, out=OUT[1:])
    yield "where", lambda: f(*operands, out=OUT, where=MASK)
    yield "dtype", lambda: f(*operands, dtype="f8")
    yield "numbers", lambda: f(*[0.5] * n)
    yield "lists", lambda: f(*[[0.5, 1]] * n)
    yield "subclass", lambda: f(*[subclass] * n)
    yield "override", lambda: f(*[override] * n)
    yield "outer or at", (lambda: f.outer(ROWS[0], X)) if n == 2 else lambda: f.at(OUT, 3, *[1] * n)
    if n > 2:
        yield "outer or at", refused(lambda: f.outer(X, X))
    elif n == 1:
        yield "outer or at", lambda: f.at(OUT, 3)
    yield "large", lambda: f(*[LARGE] * n)
    yield "no operand", refused(lambda: f())
    yield "too many", refused(lambda: f(*operands, OUT, OUT))
    yield "unknown keyword", refused(lambda: f(*operands, oot=OUT))
    yield "out twice", refused(lambda: f(*operands, OUT, out=OUT))
    yield "out of another shape", refused(lambda: f(*operands, out=ROWS))
    yield "out read-only", refused(lambda: f(*operands, out=FROZEN))
    yield "out no array", refused(lambda: f(*operands, out=[1.0]))
    yield "complex", refused(lambda: f(*[exotic] * n))
    yield "text", refused(lambda: f(*["text"] * n))
    yield "casting", refused(lambda: f(*operands, out=LABELS, casting="no"))
    if n > 1:
        yield "shapes", refused(lambda: f(X, *[X[:7]] * (n - 1)))
    if "slope" in name or "leaky" in name:
        yield "slope left out", lambda: f(*operands[:-1])
        yield "slope by name", lambda: f(*operands[:-1], negative_slope=0.25)
        yield "slope by position", lambda: f(*operands[:-1], 2)
        yield "slope an array", lambda: f(*[ROWS] * (n - 1), ROWS[0])
        yield "slope twice", refused(lambda: f(*operands, negative_slope=0.25))
        yield "slope of text", refused(lambda: f(*operands[:-1], negative_slope="text"))
        yield "slope None", refused(lambda: f(*operands[:-1], negative_slope=None))


def calls_of_layers():
    """Collect the kinds of calls of layers, losses and the optimizer."""
    made = {e.layer: getattr(layers, e.layer)() for exp in EXPECTATIONS for e in exp.layers}
    made |= {"Softmax": layers.Softmax(), "Softmax, first axis": layers.Softmax(0)}
    made |= {"LogSoftmax": layers.LogSoftmax()}
    made |= {"Linear": layers.Linear(8, 3, seed=0)}
    made |= {"Linear, fused": layers.Linear(8, 3, layers.ReLU(), seed=0)}
    made |= {"Sequential": layers.Sequential(layers.Linear(8, 4, layers.Sigmoid(), seed=0))}
    for name, layer in made.items():
        grad = np.ones_like(layer.forward(ROWS))
        WATCHED.append(grad)

        def both(layer=layer, grad=grad):
            layer.forward(ROWS)
            layer.backward(grad)

        yield f"{name}: both passes", both
        yield f"{name}: call", lambda layer=layer: layer(ROWS)
        yield (
            f"{name}: wrong gradient",
            refused(lambda layer=layer: layer.backward(np.ones((2, 2, 2), np.float32))),
        )
        yield f"{name}: text", refused(lambda layer=layer: layer.forward("text"))
        yield f"{name}: copy", lambda layer=layer: copy.deepcopy(layer)
        yield f"{name}: pickle", lambda layer=layer: pickle.loads(pickle.dumps(layer))
    linear = made["Linear"]
    state = linear.state_dict()
    yield "Linear: shape", refused(lambda: linear.forward(X[:7]))
    yield "Linear: state", lambda: linear.load_state_dict(state)
    yield "Linear: bad state", refused(lambda: linear.__setstate__((None, X, X)))
    for name, target in [
        ("MSELoss", ROWS),
        ("BCEWithLogitsLoss", ROWS),
        ("CrossEntropyLoss", LABELS),
    ]:
        loss = getattr(losses, name)()

        def error(loss=loss, target=target):
            loss.forward(ROWS, target)
            loss.backward()

        yield f"{name}: both passes", error
        yield f"{name}: shapes", refused(lambda loss=loss: loss.forward(ROWS, X[:3]))
    for momentum in 0, 0.9:
        optimizer = SGD(made["Sequential"], lr=1e-9, momentum=momentum)
        yield f"SGD: step, momentum {momentum}", optimizer.step
    yield "SGD: bad rate", refused(lambda: SGD(linear, lr=-1))


def calls_of_settings():
    """Collect the calls that set something."""

    def within():
        with fastact.num_threads(1):
            fastact.get_num_threads()

    yield "num_threads", within
    yield "num_threads of text", refused(lambda: fastact.set_num_threads("2"))
    yield "set_buffer_limit", lambda: fastact.set_buffer_limit(1 << 28)
    yield "set_buffer_limit of -1", refused(lambda: fastact.set_buffer_limit(-1))
    yield "release_buffers", fastact.release_buffers


KINDS = {f"{e.name}: {kind}": call for e in EXPECTATIONS for kind, call in calls_of(e.name)}
KINDS |= dict(calls_of_layers()) | dict(calls_of_settings())


class Info(ctypes.Structure):
    """The mallinfo2 of the C library of GNU."""

    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


libc = ctypes.CDLL(None) if sys.platform != "win32" else None
if mallinfo := getattr(libc, "mallinfo2", None):
    mallinfo.restype = Info


def in_use():
    """Count references to what is watched, Python's blocks, bytes of malloc, and resident bytes."""
    gc.collect()
    counts = [sys.getrefcount(watched) for watched in WATCHED]
    info = mallinfo() if mallinfo else Info()
    pages = resident() if sys.platform.startswith("linux") else 0
    return counts, sys.getallocatedblocks(), info.uordblks + info.hblkhd, pages


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Leave out of every collection what is there already; no threads that wait for others."""
    gc.collect()
    gc.freeze()
    with fastact.num_threads(1):
        yield


def lost(call, count):
    """Call it, and tell what has grown by more than a few."""
    counts, blocks, handed_out, pages = in_use()
    for _ in repeat(None, count):
        call()
    now, blocks_now, handed_out_now, pages_now = in_use()
    grown = {
        f"references to {repr(watched)[:40]}": after - before
        for watched, before, after in zip(WATCHED, counts, now, strict=True)
        if abs(after - before) > 50
    }
    for name, growth, limit in (
        ("blocks of Python", blocks_now - blocks, 500),
        ("bytes of malloc", handed_out_now - handed_out, 32 << 10),
        ("resident bytes", pages_now - pages, 4 << 20),
    ):
        if growth >= limit:
            grown[name] = growth
    return grown


def assert_no_leak(call, count):
    """A leak shows each time; what other threads allocate, such as those of pytest-xdist, once."""
    for _ in repeat(None, 100):  # caches are filled
        call()
    in_use()
    grown = lost(call, count)
    for _ in range(2):
        grown = grown and lost(call, count)
    assert not grown


OWNERS = list(dict.fromkeys(kind.partition(":")[0] for kind in KINDS))


def assert_nothing_is_lost(pytestconfig, owner, large):
    """Try all kinds of calls of a function, layer or setting; name those that lose something."""
    long, lost = pytestconfig.getoption("long"), []
    for kind, call in KINDS.items():
        if kind.partition(":")[0] == owner and ("large" in kind) == large:
            try:
                assert_no_leak(call, 1000 if not long else 10_000 if large else 1_000_000)
            except AssertionError as error:
                lost.append(f"{kind}: {error}")
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize("owner", OWNERS)
def test_nothing_is_lost(owner, pytestconfig):
    assert_nothing_is_lost(pytestconfig, owner, large=False)


@pytest.mark.slow
@pytest.mark.parametrize("owner", [kind.partition(":")[0] for kind in KINDS if "large" in kind])
def test_nothing_of_large_results_is_lost(owner, pytestconfig):
    assert_nothing_is_lost(pytestconfig, owner, large=True)


kept = []
LEAKS = {
    "references": lambda: ctypes.pythonapi.Py_IncRef(ctypes.py_object(X)),
    "blocks": lambda: kept.append(object()),
    "malloc": lambda: libc.malloc(64),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_what_is_lost_is_seen(leak):
    if leak == "malloc" and not mallinfo:
        pytest.skip("the C library cannot tell")
    words = {"references": "references", "blocks": "blocks of Python", "malloc": "bytes of malloc"}
    with pytest.raises(AssertionError, match=words[leak]):
        assert_no_leak(LEAKS[leak], 1000)
    kept.clear()
