"""The allocator of large results under attack: collections, finalizers, other handlers."""

import ctypes
import gc
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import fastact

MIB = 1 << 20
UNIT = 1 << 16  # sizes are rounded up to this

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


def address(array):
    return array.__array_interface__["data"][0]


def room(array):
    """Bytes of the block of an array, by the C library."""
    libc.malloc_usable_size.restype = ctypes.c_size_t
    libc.malloc_usable_size.argtypes = (ctypes.c_void_p,)
    return libc.malloc_usable_size(address(array))


def rounded(size):
    return -(-size // UNIT) * UNIT


needs_usable_size = pytest.mark.skipif(
    not hasattr(libc, "malloc_usable_size"), reason="no malloc_usable_size in this C library"
)


@pytest.fixture(autouse=True)
def _empty_at_first():
    previous = fastact.set_buffer_limit(64 * MIB)
    fastact.release_buffers()
    before = get_handler()
    yield
    set_handler(before)
    fastact.release_buffers()
    fastact.set_buffer_limit(previous)


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
    where = address(array)
    del array
    # The block goes to the next result of its rounded size, which must fit.
    result = fastact.relu(x)
    assert address(result) == where
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
    program = """if True:
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
    run = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")


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


def test_a_view_outlives_its_base():
    y = fastact.relu(np.arange(2 * MIB, dtype=np.float32))
    view = y[MIB:]
    del y
    others = [fastact.relu(np.ones(2 * MIB, np.float32)) for _ in range(3)]
    assert np.array_equal(view, np.arange(MIB, 2 * MIB, dtype=np.float32))
    del others
