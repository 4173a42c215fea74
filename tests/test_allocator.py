"""The allocator of large results under attack, for one block and under load.

Collections, finalizers, other handlers, forks, threads, limits on memory, many calls: counts of
bytes stay right, memory does not grow, no block has two owners, and a thread keeps its handler.
"""

import ctypes
import gc
import sys
import weakref
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from programs import in_threads, output, resident

import fastact
from fastact.layers import Linear, ReLU, Sequential
from fastact.losses import MSELoss

MIB = 1 << 20
UNIT = 1 << 16  # sizes are rounded up to this
LARGE = np.linspace(-9, 9, MIB, dtype=np.float32)
EXPECTED = fastact.relu(LARGE).tobytes()

# NumPy's C API as a table of addresses: PyDataMem_SetHandler and PyDataMem_GetHandler.
ctypes.pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
ctypes.pythonapi.PyCapsule_GetPointer.argtypes = ctypes.py_object, ctypes.c_char_p
ctypes.pythonapi.PyCapsule_New.restype = ctypes.py_object
ctypes.pythonapi.PyCapsule_New.argtypes = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
_TABLE = (ctypes.c_void_p * 306).from_address(
    ctypes.pythonapi.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None)
)
set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(_TABLE[304])
get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(_TABLE[305])

libc = ctypes.CDLL(None) if sys.platform != "win32" else None


class Handler(ctypes.Structure):
    """PyDataMem_Handler."""

    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    ]


MALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
CALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)


def handler_of(array):
    """Give the capsule of the handler that allocated an array: the last member of its struct."""
    return ctypes.py_object.from_address(id(array) + object.__basicsize__ + 72).value


def handler_name(array):
    return np._core.multiarray.get_handler_name(array)


def room(array):
    """Bytes of the block of an array, by the C library."""
    libc.malloc_usable_size.restype = ctypes.c_size_t
    libc.malloc_usable_size.argtypes = (ctypes.c_void_p,)
    return libc.malloc_usable_size(array.ctypes.data)


def rounded(size):
    return -(-size // UNIT) * UNIT


needs_usable_size = pytest.mark.skipif(
    not hasattr(libc, "malloc_usable_size"), reason="no malloc_usable_size in this C library"
)


@pytest.fixture(autouse=True)
def _handler_stays(nothing_kept):
    before = get_handler()
    yield
    set_handler(before)


@pytest.fixture
def ours():
    """Our handler, set for all arrays; the default comes back."""
    capsule = handler_of(fastact.relu(np.ones(MIB, np.float32)))
    before = set_handler(capsule)
    yield capsule
    set_handler(before)
    fastact.release_buffers()


@needs_usable_size
@pytest.mark.parametrize("extra", [0, 8, UNIT - 8, UNIT, UNIT + 8])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: np.zeros(n, np.uint8),
        lambda n: np.empty(n, np.uint8),
        lambda n: np.full(n, 7, np.uint8),
    ],
    ids=["zeros", "empty", "full"],
)
def test_every_block_has_the_size_under_which_it_is_kept(ours, make, extra):
    size = 5 * MIB + extra
    x = np.ones(rounded(size) // 4, np.float32)
    array = make(size)
    assert handler_name(array) == "fastact"
    assert room(array) >= rounded(size)
    where = array.ctypes.data
    del array
    # The block goes to the next result of its rounded size, which must fit.
    result = fastact.relu(x)
    assert result.ctypes.data == where
    assert room(result) >= result.nbytes
    result.fill(1)


@needs_usable_size
def test_resized_arrays_have_the_size_under_which_they_are_kept(ours):
    for first, second in [(100, 5 * MIB + 8), (5 * MIB + 8, 9 * MIB + 24), (9 * MIB, 4 * MIB + 8)]:
        array = np.zeros(first, np.uint8)
        array.resize(second, refcheck=False)
        assert room(array) >= rounded(second)
        assert not array.any()
        array.fill(1)


def test_a_block_just_below_the_least_size_is_not_kept(ours):
    fastact.release_buffers()
    array = np.empty(4 * MIB - 8, np.uint8)
    assert handler_name(array) == "fastact"
    del array
    assert fastact.release_buffers() == 0


def test_zeros_are_zero_after_a_kept_block(ours):
    array = np.ones(5 * MIB, np.uint8)
    del array
    assert not np.zeros(5 * MIB, np.uint8).any()


@needs_usable_size
def test_small_arrays_take_no_more_than_they_need(ours):
    # A finalizer may make some while our handler is set, and keep them.
    arrays = [np.ones(10), np.zeros(10)]
    assert all(handler_name(array) == "fastact" for array in arrays)
    assert all(room(array) < 1024 for array in arrays)


@pytest.mark.parametrize("size", [2**62, 2**63 - UNIT - 8, 2**63 - 8])
def test_sizes_that_nobody_has(ours, size):
    for make in np.zeros, np.empty:
        with pytest.raises(MemoryError):
            make(size, np.uint8)
    array = np.ones(5 * MIB, np.uint8)
    with pytest.raises(MemoryError):
        array.resize(size, refcheck=False)
    assert array.all()
    fastact.relu(np.ones(MIB, np.float32))


def test_products_that_overflow(ours):
    # NumPy asks for bytes, others may ask for elements.
    handler = Handler.from_address(ctypes.pythonapi.PyCapsule_GetPointer(ours, b"mem_handler"))
    for number, size in [(2**33, 2**33), (2**63, 2), (3, 2**63), (1, 2**64 - 8), (2**64 - 8, 1)]:
        assert CALLOC(handler.calloc)(None, number, size) is None
    for size in (2**64 - 1, 2**64 - UNIT + 1):
        assert MALLOC(handler.malloc)(None, size) is None


@pytest.fixture
def collecting():
    """Run a callback in every collection, and collect as often as Python can, within `with`."""
    callbacks, threshold = gc.callbacks[:], gc.get_threshold()

    @contextmanager
    def often(callback):
        gc.callbacks.append(lambda phase, info: callback())
        gc.set_threshold(1)
        yield
        [[] for _ in range(3)]  # whatever is put off comes now
        gc.set_threshold(0)

    yield often
    gc.set_threshold(*threshold)
    gc.callbacks[:] = callbacks


@pytest.mark.gil
@needs_usable_size
def test_a_collection_never_sees_our_handler(collecting):
    x = np.ones(rounded(5 * MIB + 8) // 4, np.float32)
    made = []
    for _ in range(10):
        with collecting(lambda: made.append(np.zeros(5 * MIB + 8, np.uint8))):
            y = fastact.relu(x)
        assert made, "nothing was collected"
        assert {handler_name(array) for array in made} == {"default_allocator"}
        assert room(y) >= y.nbytes
        made.clear()
    assert gc.isenabled()
    gc.disable()
    fastact.relu(x)
    assert not gc.isenabled()
    gc.enable()


def test_finalizers_that_allocate():
    """In a process of its own, with the checks of the C library on."""
    program = """
        import gc
        import numpy as np
        import fastact

        class Waste:
            def __init__(self):
                self.me = self
            def __del__(self):
                kept.append(np.zeros(5 * 2**20 + 8, np.uint8))
                del kept[:-2]
                fastact.relu(x)

        kept = []
        x = np.ones(5 * 2**18 + 2**14, np.float32)
        gc.set_threshold(1)
        for _ in range(30):
            Waste()
            assert fastact.relu(x).all()
            assert fastact.relu(x[: -2**13]).all()
    """
    output(program, MALLOC_CHECK_="3", MALLOC_PERTURB_="165")


# ------------------------------------------------------------------ other handlers


def counting():
    """Make a handler that takes from the C library, and a list of what it was asked for."""
    asked = []
    libc.malloc.restype = libc.calloc.restype = libc.realloc.restype = ctypes.c_void_p
    libc.free.restype = None

    @MALLOC
    def malloc(context, size):
        asked.append(size)
        return libc.malloc(ctypes.c_size_t(size))

    @CALLOC
    def calloc(context, number, size):
        asked.append(number * size)
        return libc.calloc(ctypes.c_size_t(number), ctypes.c_size_t(size))

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    def realloc(context, where, size):
        return libc.realloc(ctypes.c_void_p(where), ctypes.c_size_t(size))

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    def free(context, where, size):
        libc.free(ctypes.c_void_p(where))

    functions = [malloc, calloc, realloc, free]
    addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
    handler = Handler(b"counting", 1, None, *addresses)
    _alive.extend([*functions, handler])
    return ctypes.pythonapi.PyCapsule_New(ctypes.addressof(handler), b"mem_handler", None), asked


_alive = []  # arrays point there


@pytest.mark.skipif(libc is None, reason="the C library is another")
def test_a_handler_of_the_user_goes_before_ours():
    capsule, asked = counting()
    x = np.ones(2 * MIB, np.float32)
    set_handler(capsule)
    y = fastact.relu(x)
    assert get_handler() is capsule
    assert handler_name(y) == "counting"
    assert 8 * MIB in asked


@pytest.mark.gil
@pytest.mark.skipif(libc is None, reason="the C library is another")
def test_a_handler_that_is_set_meanwhile_stays(collecting):
    capsule, _ = counting()
    x = np.ones(2 * MIB, np.float32)
    for _ in range(10):
        before = get_handler()
        with collecting(lambda: set_handler(capsule)):
            fastact.relu(x)
        assert get_handler() is capsule
        set_handler(before)


def test_a_result_that_cannot_be_allocated():
    x = np.broadcast_to(np.float32(1), (2**20, 2**20, 2**20))
    before = get_handler()
    with pytest.raises(MemoryError):
        fastact.relu(x)
    assert get_handler() is before
    assert gc.isenabled()


# ------------------------------------------------------ what holders do to their arrays


CHANGES = {
    "state": lambda y: y.__setstate__((1, (3,), np.dtype(np.int32), False, b"0123456789ab")),
    "larger state": lambda y: y.__setstate__(
        (1, (9 * MIB,), np.dtype(np.uint8), False, bytes(9 * MIB))
    ),
    "dtype": lambda y: setattr(y, "dtype", np.complex128),
    "shape": lambda y: setattr(y, "shape", (-1, 2)),
    "strides": lambda y: setattr(y, "strides", (0,)),
    "to nothing": lambda y: y.resize(0, refcheck=False),
    "to little": lambda y: y.resize(3, refcheck=False),
    "to more": lambda y: y.resize(3 * MIB, refcheck=False),
}


@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_results_that_their_holder_changes(change):
    for _ in range(3):
        x = np.ones(2 * MIB, np.float32)
        y = fastact.relu(x)
        change(y)
        del y
        for size in (MIB, 2 * MIB, 3 * MIB):
            z = fastact.relu(np.ones(size, np.float32))
            if hasattr(libc, "malloc_usable_size"):
                assert room(z) >= z.nbytes
            z.fill(2)


# -------------------------------------------------------------------- under load


def test_no_block_has_two_owners():
    """Results are made and dropped at random; each has its own mark, all along."""
    rng = np.random.default_rng(1)
    held, marks = {}, 0
    for _ in range(100):
        if len(held) > 6 or (held and rng.random() < 0.5):
            mark = list(held)[rng.integers(len(held))]
            array = held.pop(mark)
            assert (array[0], array[-1]) == (mark, mark)
            assert (array[:: 1 << 12] == mark).all()
        else:
            marks += 1
            size = MIB + int(rng.integers(0, 3)) * (1 << 14)
            held[marks] = fastact.relu(np.full(size, marks, np.float32))
    spans = sorted((a.ctypes.data, a.ctypes.data + a.nbytes) for a in held.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_views_of_every_kind_outlive_the_result():
    y = fastact.relu(LARGE)
    where, reference = y.ctypes.data, weakref.ref(y)
    holders = [
        y[::2],
        y.reshape(1024, -1).T,
        memoryview(y),
        np.asarray(memoryview(y)),
        y.view("u4"),
    ]
    holders.append(np.from_dlpack(y))
    del y
    while holders:
        assert fastact.relu(LARGE).ctypes.data != where
        holder = holders.pop(0)
        assert np.asarray(holder).size
        del holder
        gc.collect()
    assert reference() is None
    assert fastact.relu(LARGE).ctypes.data == where or fastact.release_buffers() >= 8 * MIB


def test_results_that_are_freed_by_another_thread():
    made = [fastact.relu(LARGE) for _ in range(8)]
    in_threads(*[made.pop] * 8)
    assert fastact.release_buffers() == 32 * MIB


def test_finalizers_that_compute_while_a_block_is_freed():
    """A base class of arrays whose finalizer makes large results, and frees some."""
    seen = []

    class Owner(np.ndarray):
        def __del__(self):
            seen.append(fastact.relu(LARGE).tobytes() == EXPECTED)
            fastact.release_buffers()

    for _ in range(8):
        y = fastact.relu(LARGE).view(Owner)
        cycle = [y]
        cycle.append(cycle)
        del y, cycle
        gc.collect()
        assert fastact.relu(LARGE).tobytes() == EXPECTED
    assert len(seen) == 8
    assert all(seen)


def test_a_resized_result_is_counted_by_its_new_size():
    for count in (MIB // 2, 2 * MIB, 3 * MIB + 5, 10):
        y = fastact.relu(LARGE)
        y.resize(count, refcheck=False)
        y[...] = 7
        size = rounded(y.nbytes)
        fastact.release_buffers()
        del y
        kept = fastact.release_buffers()
        assert kept == (size if size >= 4 * MIB else 0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_and_references_stay_where_they_are():
    """After rounds of large results, of failures among them, and of training."""
    out = np.empty_like(LARGE)
    frozen = out.view()
    frozen.flags.writeable = False
    small = LARGE[:1000]
    model = Sequential(Linear(100, 30, ReLU(), seed=0), Linear(30, 100, seed=1))
    loss = MSELoss()
    batch = np.ones((20, 100), np.float32)

    def a_round():
        fastact.relu(LARGE[: MIB - 1])
        y = fastact.relu(LARGE)
        fastact.relu(y, out=y)
        for wrong in (
            lambda: fastact.relu(small, out=frozen),
            lambda: fastact.leaky_relu(small, small[:7]),
            lambda: fastact.leaky_relu(small, 0.1, 0.2, 0.3),
            lambda: fastact.relu(small, oot=1),
            lambda: fastact.leaky_relu("text", negative_slope=1),
            lambda: model(small),
            lambda: fastact.relu(small, out=(frozen,), casting="no"),
        ):
            with pytest.raises((TypeError, ValueError)):
                wrong()
        loss.forward(model.forward(batch), batch)
        model.backward(loss.backward())

    operands = [LARGE, out, frozen, small, batch, fastact.relu, fastact.leaky_relu]
    for _ in range(10):
        a_round()
    gc.collect()
    before, counts = resident(), [sys.getrefcount(operand) for operand in operands]
    blocks = sys.getallocatedblocks()
    for _ in range(50):
        a_round()
    gc.collect()
    assert [sys.getrefcount(operand) for operand in operands] == counts
    assert sys.getallocatedblocks() - blocks < 300
    assert resident() - before < 16 * MIB


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
def test_blocks_after_a_fork_belong_to_each_process():
    """Parent and child both use the blocks kept before the fork; neither sees the other."""
    program = """
    import os
    import numpy as np
    import fastact
    x = np.ones(1 << 21, np.float32)
    for _ in range(2):
        kept = [fastact.relu(x * n) for n in (1, 2, 3)]
        del kept[0], kept[0]
        child = os.fork()
        scale = 5 if child else 7
        made = [fastact.relu(x * scale) for _ in range(3)]
        right = (kept[0] == 3).all() and all((y == scale).all() for y in made)
        del made
        right = right and fastact.release_buffers() > 0
        if child == 0:
            os._exit(0 if right else 1)
        assert right and os.waitpid(child, 0)[1] == 0
    """
    output(program, FASTACT_NUM_THREADS="1")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_kept_blocks_go_before_a_call_fails():
    program = """
    import resource
    import numpy as np
    import fastact
    MIB = 1 << 20
    x = np.ones(24 * MIB, np.int8)
    held = [fastact.relu(x[: n * MIB]) for n in (5, 6, 7, 8, 9)]
    held.clear()                                      # 35 MiB are kept
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size, -1))
    y = fastact.relu(x)                               # fits only where the kept ones were
    assert y.all() and y.size == 24 * MIB
    try:
        fastact.relu(np.broadcast_to(np.int8(1), 400 * MIB))
    except MemoryError:
        print("refused")
    assert y.all()
    del y
    assert fastact.relu(x).all()
    """
    assert output(program, FASTACT_NUM_THREADS="1", OMP_NUM_THREADS="1") == "refused\n"


def test_the_handler_of_a_thread_is_its_own():
    """NumPy keeps handlers by context: ours is put back in each."""
    names = []

    def compute():
        for _ in range(10):
            fastact.relu(LARGE)
            names.append(np._core.multiarray.get_handler_name())

    in_threads(*[compute] * 6)
    assert set(names) == {"default_allocator"}
