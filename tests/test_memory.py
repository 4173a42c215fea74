"""Buffers of large results: kept, handed out again, bounded, and nobody else's concern."""

import tracemalloc

import numpy as np
import pytest

import fastact
from fastact._core.runtime import memory

MIB = 1 << 20
LARGE = np.linspace(-9, 9, MIB, dtype=np.float32)  # a result of 4 MiB: the least that is kept
EXPECTED = np.maximum(LARGE, 0)


pytestmark = pytest.mark.usefixtures("nothing_kept")


def test_freed_result_is_handed_out_again():
    first = fastact.relu(LARGE)
    where = first.ctypes.data
    del first
    again = fastact.relu(LARGE)
    assert again.ctypes.data == where
    assert again.tobytes() == EXPECTED.tobytes()
    assert fastact.release_buffers() == 0


@pytest.mark.parametrize("result", [lambda x: fastact.relu(x[:-1]), lambda x: np.maximum(x, 0)])
def test_small_results_and_other_arrays_are_not_kept(result):
    del_me = result(LARGE)
    del del_me
    assert fastact.release_buffers() == 0


def free_of_4_8_and_12_mib():
    results = [fastact.relu(np.resize(LARGE, n * MIB)) for n in (1, 2, 3)]
    while results:
        results.pop(0)


def test_release_and_limit():
    free_of_4_8_and_12_mib()
    assert fastact.release_buffers() == 24 * MIB
    fastact.set_buffer_limit(20 * MIB)
    free_of_4_8_and_12_mib()
    assert fastact.release_buffers() == 20 * MIB, "the last two fit"
    free_of_4_8_and_12_mib()
    assert fastact.set_buffer_limit(15 * MIB) == 20 * MIB
    assert fastact.release_buffers() == 12 * MIB


def test_many_blocks():
    results = [fastact.relu(LARGE) for _ in range(40)]
    fastact.set_buffer_limit(1 << 40)
    results.clear()
    assert 0 < fastact.release_buffers() <= 40 * 4 * MIB


def test_switched_off():
    fastact.set_buffer_limit(0)
    result = fastact.relu(LARGE)
    assert result.tobytes() == EXPECTED.tobytes()
    del result
    assert fastact.release_buffers() == 0


@pytest.mark.parametrize("bad", [-1, -(10**30)])
def test_negative_limit(bad):
    with pytest.raises(ValueError, match="0 or more"):
        fastact.set_buffer_limit(bad)


def test_resize_and_sizes_that_do_not_fill_a_unit():
    for extra in (0, 1, 7, 16384, 16385):
        x = np.resize(LARGE, MIB + extra)
        for _ in range(3):
            y = fastact.relu(x)
            assert y.tobytes() == np.maximum(x, 0).tobytes()
        y.resize(3 * MIB, refcheck=False)
        assert not y[MIB + extra :].any()
        y.resize(10, refcheck=False)
        assert y.tobytes() == np.maximum(x[:10], 0).tobytes()
        del y


def test_a_call_takes_its_result_and_little_more():
    def peak():
        tracemalloc.start()
        result = fastact.relu(LARGE)
        size, most = result.nbytes, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most - size

    assert max(peak() for _ in range(3)) <= 256 << 10


def test_large_is_what_the_docstring_says():
    assert "4 MiB" in memory.set_buffer_limit.__doc__
