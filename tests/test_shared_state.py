"""What threads share: kept buffers, limits, the loops of bfloat16, a layer.

Most of it happens in this process and takes seconds, so that the sanitizers and `.ci/races` see
it. tests/test_processes.py has more threads, forks and other ends.
"""

import sysconfig

import numpy as np
import pytest
from programs import in_threads, meanwhile, output

import fastact
from fastact.layers import Linear, ReLU

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
THREADS = 8


@pytest.mark.skipif(not FREE_THREADED, reason="a Python with a GIL")
def test_import_leaves_the_gil_off():
    program = """
import sys
import fastact
from fastact.layers import Linear
assert not sys._is_gil_enabled()
"""
    output(program)


def test_kept_buffers():
    """Blocks are handed out once each, while the limit changes and all are released."""
    x = np.linspace(-9, 9, 1 << 20, dtype=np.float32)
    previous = fastact.set_buffer_limit(64 << 20)

    def compute(scale):
        expected = np.maximum(x * np.float32(scale), 0).tobytes()
        for _ in range(15):
            results = [fastact.relu(x * np.float32(scale)) for _ in range(2)]
            assert all(result.tobytes() == expected for result in results)

    def disturb():
        for limit in 1 << 20, 9 << 20, 64 << 20:
            fastact.set_buffer_limit(limit)
        fastact.release_buffers()

    try:
        with meanwhile(disturb):
            in_threads(*(lambda scale=scale: compute(scale) for scale in range(1, 5)))
    finally:
        fastact.set_buffer_limit(previous)
    assert fastact.release_buffers() <= 64 << 20


def test_number_of_threads_changes_meanwhile():
    x = np.linspace(-9, 9, 300_000, dtype=np.float32)
    expected = fastact.sigmoid(x).tobytes()

    def disturb():
        for count in 1, 2, 3:
            fastact.set_num_threads(count)

    def compute():
        for _ in range(30):
            assert fastact.sigmoid(x).tobytes() == expected

    previous = fastact.set_num_threads(2)
    try:
        with meanwhile(disturb):
            in_threads(*[compute] * 4)
    finally:
        fastact.set_num_threads(previous)


BFLOAT16 = """
import sys
import numpy as np
import fastact
from programs import in_threads
sys.setswitchinterval(1e-6)
import ml_dtypes
x = np.linspace(-9, 9, 64).astype(ml_dtypes.bfloat16)
dtypes = []

def work():
    for _ in range(20):
        dtypes.append(fastact.relu(x[::2]).dtype)
        dtypes.append(fastact.leaky_relu_backward(x, x).dtype)

in_threads(*[work] * 8)
assert len(dtypes) == 8 * 40 and set(dtypes) == {x.dtype}, (len(dtypes), set(dtypes))
"""


def test_loops_of_bfloat16_are_there_for_all_threads():
    pytest.importorskip("ml_dtypes")
    for _ in range(3):
        output(BFLOAT16)


@pytest.mark.parametrize("activation", [None, ReLU()], ids=["linear", "relu"])
def test_threads_may_share_a_layer(activation):
    """They get each other's gradients, or are refused; never memory of others."""
    layer = Linear(7, 5, activation, seed=1)

    def train(rows):
        x, grad = np.ones((rows, 7), np.float32), np.ones((rows, 5), np.float32)
        expected = layer(x).tobytes()
        for _ in range(200):
            assert layer.forward(x).tobytes() == expected
            try:
                gradient = layer.backward(grad)
            except (ValueError, RuntimeError):  # another thread's forward was the last
                continue
            assert gradient.shape[1] == 7

    in_threads(*(lambda rows=rows: train(rows) for rows in range(1, THREADS + 1)))
