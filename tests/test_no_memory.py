"""Memory runs out in the middle of a call: a MemoryError, and nothing is written or left changed.

Allocations are made to fail by CPython's own hooks, each in turn. Everything happens in processes
of their own, for NumPy and CPython do not survive every such failure, either.
"""

import os
import textwrap

import pytest
from programs import output

pytest.importorskip("_testcapi")
pytestmark = pytest.mark.slow

HEAD = """
import numpy as np
import fastact
import _testcapi

def failing(first, call, count=1):
    # Fail the allocations of Python's and of raw memory from that number on.
    _testcapi.set_nomemory(first, first + count)
    try:
        return call()
    finally:
        _testcapi.remove_mem_hooks()

"""


def run(program):
    threads = {"FASTACT_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    return output(HEAD + textwrap.dedent(program), "-X", "faulthandler", **threads).split()


# What is left out crashes within NumPy (2.4), as `np.vecdot(x, x, axis=0)` does: functions of rows
# that are computed by NumPy's inner loops.
CALLS = {
    "plain": "fastact.sigmoid(x)",
    "out": "fastact.sigmoid(x, out=out)",
    "strided": "fastact.sigmoid(x[::-1], out=out)",
    "mixed": "fastact.leaky_relu(x[:, ::2], np.float64(0.3))",
    "where": "fastact.leaky_relu(x, 0.1, where=x > 0, out=out)",
    "list": "fastact.leaky_relu([1, 2.0])",
    "scalar": "fastact.sigmoid(np.float32(2))",
    "number": "fastact.leaky_relu(2.0)",
    "integers": "fastact.sigmoid(integers)",
    "keyword": "fastact.leaky_relu(x, negative_slope=10**30)",
    "dtype": "fastact.leaky_relu(x, 1e30, dtype='f8')",
    "refused": "fastact.leaky_relu(x, negative_slope=1j)",
    "not enough": "fastact.leaky_relu()",
    "twice": "fastact.leaky_relu(x, 0.1, negative_slope=0.2)",
    "rows": "fastact.softmax(x, out=out)",
    "long rows": "fastact.softmax(halves, out=halves_out)",
    "layer": "layer(x)",
    "training": "loss.forward(layer.forward(x), target); layer.backward(loss.backward())",
    "limit": "fastact.set_buffer_limit(1 << 28)",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_each_allocation_fails_in_turn(call):
    program = f"""
    from fastact.layers import Linear, ReLU
    from fastact.losses import MSELoss
    x = np.linspace(-3, 3, 24, dtype=np.float32).reshape(4, 6)
    integers = np.arange(5)
    out = np.full_like(x, 7)
    halves = np.zeros((3, 50_000), np.float16)
    halves_out = np.full_like(halves, 7)
    layer, loss, target = Linear(6, 3, ReLU(), seed=1), MSELoss(), np.zeros((4, 3), np.float32)

    def call():
        {call}

    try:                                # what is made once in a process has been made then
        call()
    except TypeError:
        pass
    refused = 0
    for number in range(300):
        out[:], halves_out[:] = 7, 7
        try:
            failing(number, call)
        except TypeError:
            pass
        except SystemError as error:
            # CPython's own, where it has no memory for a traceback of Python code, such as that
            # which words an error: the exception is lost. A caller in C sees it later.
            assert str(error).endswith(
                ("error return without exception set", "returned NULL without setting an exception")
            ), error
        except MemoryError:
            refused += 1
            assert (out == 7).all() and (halves_out == 7).all(), number
    print(refused)
    """
    assert len(run(program)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("name", ["softmax", "softmax_backward"])
def test_rows_of_several_inner_loops(name, dtype):
    """NumPy hands rows over one by one. Each failure has a child: NumPy does not survive some."""
    program = f"""
    import os, resource, signal
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    array = np.zeros((3, 2, 2 * 6000), {dtype!r}).transpose(1, 0, 2)[:, :, ::-2]
    out = np.full((3, 2, 6000), 7, {dtype!r}).transpose(1, 0, 2)
    function = fastact.{name}

    def attempt(number):
        try:
            failing(number, lambda: function(*[array] * function.nin, out=out))
        except MemoryError:
            return "refused" if (out == 7).all() else "written"
        return "wrong" if (out == 7).any() else "done"

    seen = []
    for number in range(60):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os._exit(["done", "refused", "written", "wrong"].index(attempt(number)))
        seen.append(os.waitpid(child, 0)[1])
    print(*sorted({{status >> 8 for status in seen if status & 127 == 0}}))
    """
    assert run(program) == ["0", "1"]


def test_the_handler_of_large_results_goes_back():
    """NumPy needs memory to set a handler: whatever fails, the next array gets NumPy's own."""
    program = """
    x = np.ones(1 << 21, np.float32)
    fastact.relu(x)
    refused = 0
    for number in range(40):
        try:
            failing(number, lambda: fastact.relu(x))
        except MemoryError:
            refused += 1
        assert np._core.multiarray.get_handler_name() == "default_allocator", number
        assert np._core.multiarray.get_handler_name(fastact.relu(x)) == "fastact", number
    print(refused > 1)
    """
    assert run(program) == ["True"]
