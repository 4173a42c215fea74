"""Processes, threads and signals: nothing hangs, and every result is right.

Every program runs in a process of its own, with a time limit: fork, spawn and pools of workers
after threads were used; many Python threads at once; limits that change while others compute;
Ctrl-C in a large call; the end of the interpreter with threads in a call; subinterpreters.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import programs
import pytest

HEAD = """
import gc, multiprocessing, os, signal, sys, threading, warnings, zlib
import numpy as np
import fastact
from programs import in_threads, meanwhile

# Python 3.12 warns of any fork with threads: what is tested is that they do no harm.
warnings.filterwarnings("ignore", r".*fork\\(\\) may lead to deadlocks", DeprecationWarning)
x = np.linspace(-9, 9, 1 << 20, dtype=np.float32)            # results of 4 MiB: kept, and threads

def work(scale):
    y = x * np.float32(scale)
    return zlib.crc32(fastact.sigmoid(y)), zlib.crc32(fastact.relu(y))

"""
THREADS = {"OMP_NUM_THREADS": "2", "FASTACT_NUM_THREADS": "2"}
pytestmark = pytest.mark.slow
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


def output(program, folder, timeout=120, **more):
    """Run a program from a file, as workers want it, and give what it prints."""
    program = HEAD + textwrap.dedent(program)
    return programs.output(program, folder=folder, timeout=timeout, **THREADS | more).split()


# -------------------------------------------------------------- fork and workers


@needs_fork
def test_children_of_children(tmp_path):
    """Kept buffers belong to each process alone; a child releases, computes and forks again."""
    program = """
    expected = work(1)
    assert fastact.release_buffers() > 0
    work(1)
    for _ in range(2):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            right = work(1) == expected and fastact.get_num_threads() == 1
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0 if fastact.release_buffers() > 0 and work(1) == expected else 1)
            right &= os.waitpid(grandchild, 0)[1] == 0
            fastact.set_buffer_limit(0)
            fastact.set_num_threads(5)
            right &= work(1) == expected and fastact.get_num_threads() == 1
            os._exit(0 if right else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert work(1) == expected
    assert fastact.release_buffers() > 0
    """
    assert output(program, tmp_path) == []


@needs_fork
def test_fork_while_others_compute(tmp_path):
    program = """
    expected = work(1)

    def busy():
        assert work(1) == expected

    with meanwhile(busy, 3):
        for _ in range(20):              # some of them while a lock is held
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                os._exit(0 if work(1) == expected and fastact.release_buffers() > 0 else 1)
            assert os.waitpid(child, 0)[1] == 0
    """
    assert output(program, tmp_path) == []


@needs_fork
def test_fork_while_buffers_are_handed_out(tmp_path):
    """Without a GIL, mostly a thread that CPython has stopped holds the lock of the buffers."""
    program = """
    with meanwhile(lambda: fastact.relu(x), 4):
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                fastact.relu(x)
                os._exit(0 if fastact.release_buffers() > 0 else 1)
            assert os.waitpid(child, 0)[1] == 0
    """
    assert output(program, tmp_path) == []


MAP = "pool.map(work, range(4))"
JOBS = "joblib.Parallel()(joblib.delayed(work)(scale) for scale in range(4))"
POOLS = {
    "concurrent.futures, threads": ("concurrent.futures.ThreadPoolExecutor(3)", MAP),
    "concurrent.futures, processes": ("concurrent.futures.ProcessPoolExecutor(3)", MAP),
    **{
        f"multiprocessing, {name}": (f"multiprocessing.get_context({name!r}).Pool(2)", MAP)
        for name in multiprocessing.get_all_start_methods()
    },
    **{
        f"joblib, {name}": (f"joblib.parallel_backend({name!r}, n_jobs=2)", JOBS)
        for name in ("loky", "threading", "multiprocessing")
    },
}
# What these rest on is tested without them, too.
LARGE = ("concurrent.futures, processes", "joblib, threading", "joblib, multiprocessing")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.large if n in LARGE else ()) for n in POOLS]
)
def test_pools(tmp_path, name):
    module, (pool, results) = name.partition(",")[0], POOLS[name]
    pytest.importorskip(module)
    program = f"""
    import {module}
    if __name__ == "__main__":
        expected = [work(scale) for scale in range(4)]
        with {pool} as pool:
            print("same" if list({results}) == expected else "different")
    """
    assert output(program, tmp_path, JOBLIB_TEMP_FOLDER=str(tmp_path)) == ["same"]


# --------------------------------------------------------------- Python threads


def test_64_threads_on_the_same_and_on_different_arrays(tmp_path):
    program = """
    expected = {scale: work(scale) for scale in range(8)}
    shared_in, shared_out = x.copy(), np.empty_like(x)
    wanted = fastact.sigmoid(x).tobytes()
    small = np.linspace(-9, 9, 100, dtype=np.float32)
    small_wanted = fastact.sigmoid(small).tobytes()

    def same_and_different(number):
        assert work(number % 8) == expected[number % 8]
        # All write the same bits to the same place.
        assert fastact.sigmoid(shared_in, out=shared_out).tobytes() == wanted
        for _ in range(20):
            assert fastact.sigmoid(small).tobytes() == small_wanted
        if number == 0:
            fastact.release_buffers()

    in_threads(*(lambda i=i: same_and_different(i) for i in range(64)))
    assert shared_in.tobytes() == x.tobytes()
    """
    assert output(program, tmp_path) == []


def test_limits_that_change_while_others_compute(tmp_path):
    program = """
    expected = {scale: work(scale) for scale in range(4)}

    def compute(number):
        for _ in range(5):
            assert work(number) == expected[number]

    def change():
        for n in range(30):
            fastact.set_num_threads(1 + n % 3)
            with fastact.num_threads(1 + n % 2):
                fastact.set_buffer_limit((n % 5) << 22)
                fastact.release_buffers()
            assert fastact.get_num_threads() >= 1

    with meanwhile(change):
        in_threads(*(lambda i=i: compute(i) for i in range(4)))
    """
    assert output(program, tmp_path) == []


def test_layers_of_their_own_in_many_threads(tmp_path):
    program = """
    from fastact.layers import Linear, ReLU, Sequential, Sigmoid
    from fastact.losses import MSELoss
    from fastact.optimizers import SGD

    def train(number):
        model = Sequential(Linear(20, 30, ReLU(), seed=number), Linear(30, 5, Sigmoid(), seed=1))
        loss, optimizer = MSELoss(), SGD(model, lr=0.1)
        rng = np.random.default_rng(number)
        for _ in range(20):
            inputs = rng.normal(size=(50, 20)).astype(np.float32)
            loss.forward(model.forward(inputs), np.zeros((50, 5), np.float32))
            model.backward(loss.backward(), input_gradient=False)
            optimizer.step()
        return b"".join(p.tobytes() for p in model.parameters().values())

    expected = [train(i) for i in range(8)]
    got = [None] * 8
    def into(i):
        got[i] = train(i)
    in_threads(*(lambda i=i: into(i) for i in range(8)))
    print(got == expected)
    """
    assert output(program, tmp_path, OPENBLAS_NUM_THREADS="1") == ["True"]


# ------------------------------------------------------- signals and the very end

# A shell has the interrupt ignored in what it runs in the background, and children inherit that.
# The alarm ends a program that no interrupt reaches.
LOOP = """
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.alarm(120)
large = np.linspace(-9, 9, 1 << 23, dtype=np.float32)
expected = fastact.sigmoid(large)
out = np.empty_like(large)
print("ready", flush=True)
caught = 0
while caught < 3:
    try:
        result = fastact.sigmoid(large)
        print("calling", flush=True)
        while True:
            result = fastact.sigmoid(large)
            fastact.sigmoid(large[::2], out=out[::2])
    except KeyboardInterrupt:
        caught += 1
        # What was interrupted is over: the next call is whole.
        assert np.array_equal(fastact.sigmoid(large), expected)
        print("caught", flush=True)
fastact.release_buffers()
print("done", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_keyboard_interrupt_in_large_calls(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEAD + LOOP],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | THREADS,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            for _ in range(3):
                assert process.stdout.readline() == "calling\n"
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "caught\n"
            # Not communicate(), which would miss lines that readline() has read ahead.
            assert process.stdout.read() == "done\n"
            assert (process.stderr.read(), process.wait(60)) == ("", 0)
        finally:
            process.kill()


@pytest.mark.parametrize(
    "end", ["pass", "sys.exit(0)", "threading.Thread(target=sys.exit).start()"]
)
def test_the_interpreter_ends_while_daemon_threads_compute(tmp_path, end):
    program = f"""
    def forever(computing):
        kept = []
        while True:
            kept.append(fastact.sigmoid(x))
            fastact.relu(x[::2])
            fastact.sigmoid(x[:100])
            del kept[:-3]
            computing.set()

    events = [threading.Event() for _ in range(4)]
    for event in events:
        threading.Thread(target=forever, args=(event,), daemon=True).start()
    for event in events:
        event.wait()
    work(1)
    print("end", flush=True)
    {end}
    """
    assert output(program, tmp_path, timeout=60) == ["end"]


def test_results_that_live_until_the_very_end(tmp_path):
    """Kept by modules, in cycles, and by finalizers that compute while modules go."""
    program = """
    class Late:
        def __init__(self):
            self.me, self.result = self, fastact.relu(x)
        def __del__(self, relu=fastact.relu, x=x):
            self.result = relu(x)
    late = Late()
    sys.late = Late()
    np.late = fastact.relu(x)[::2]
    import atexit
    atexit.register(lambda: fastact.relu(x).sum())
    atexit.register(fastact.release_buffers)
    print("end")
    """
    assert output(program, tmp_path) == ["end"]


SUBINTERPRETER = """
import sys
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
code = "import sys; sys.path[:] = " + repr(sys.path) + '''
try:
    import fastact
except ImportError as error:
    print("ImportError:", error)
else:
    print("imported", fastact.relu([-1.0, 2.0]).tolist())
'''
for _ in range(2):
    number = interpreters.create()
    failure = interpreters.run_string(number, code)
    if failure is not None:
        print(failure)
    interpreters.destroy(number)
    sys.stdout.flush()
try:
    import fastact
except ImportError as error:
    print("ImportError:", error)
else:
    print("imported", fastact.relu([-1.0, 2.0]).tolist())
"""


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_the_main_interpreter_has_it_and_others_an_import_error(first):
    """The main interpreter imports before two subinterpreters, or after them."""
    run = programs.run(("import fastact\n" if first else "") + SUBINTERPRETER, **THREADS)
    assert run.returncode == 0, (run.returncode, run.stdout, run.stderr)
    *refused, last = [line for line in run.stdout.splitlines() if line]
    assert len(refused) == 2, run.stdout
    for line in refused:
        assert line.startswith("ImportError: ")
        assert "main interpreter of a process only" in line
    assert last == "imported [0.0, 2.0]"


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is mapped cannot be truncated")
@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer has handlers of its own")
def test_a_fault_in_a_worker_is_reported(tmp_path):
    """The end of a file is missing: faulthandler has to say so whichever thread comes to it."""
    program = """
    import faulthandler
    faulthandler.enable()
    n = 1 << 24
    np.zeros(n, np.float32).tofile("numbers")
    numbers = np.memmap("numbers", np.float32, "r+")
    out = np.empty(n, np.float32)
    fastact.sigmoid(numbers, out=out)
    # The worker has the second half. The caller has milliseconds to do until it comes there.
    os.truncate("numbers", n // 2 * 4)
    fastact.sigmoid(numbers, out=out)
    """
    run = programs.run(HEAD + textwrap.dedent(program), folder=tmp_path, timeout=60, **THREADS)
    assert run.returncode == -signal.SIGBUS
    assert run.stderr.startswith("Fatal Python error")
