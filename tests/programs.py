"""Programs in processes of their own, functions in threads, and what this process takes."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from pathlib import Path

# What decides how fastact and Python run.
SETTINGS = ("FASTACT_", "OMP_", "LC_", "LANG", "PYTHONWARN", "PYTHONDONT")


def run(program, *flags, folder=None, command=(sys.executable,), timeout=300, **environment):
    """Run a program with nothing but the given settings; in a folder, from a file there."""
    program = textwrap.dedent(program)
    if folder is not None:
        (folder / "program.py").write_text(program, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [*command, *flags, "-P", "-W", "error", *(["program.py"] if folder else ["-c", program])],
        cwd=folder,
        env=clean | paths | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def output(program, *flags, **settings):
    """Give what a program prints, which has to end well and to complain of nothing."""
    done = run(program, *flags, **settings)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


IMPORTS = """
import json, os, warnings
import numpy

# Python 3.12 warns of the threads of BLAS.
warnings.filterwarnings("ignore", r".*fork\\(\\) may lead to deadlocks", DeprecationWarning)
{before}
cases = {cases}
for case in cases:
    if len(cases) > 1 and os.fork():
        os.wait()
        continue
    os.environ.update(case)
    try:
        import fastact
        from fastact._core import ufuncs
        said = ufuncs.isa, fastact.get_num_threads(), fastact.set_buffer_limit(0)
    except ImportError as error:
        said = str(error)
    print(json.dumps(said), flush=True)
    os._exit(0)
"""


def imports(cases, before="", **environment):
    """Import fastact with settings that each differ, and give what comes of it.

    The instruction set, the number of threads and the limit of kept buffers; or the text of an
    ImportError. Where there is fork, NumPy is imported once for all. Settings of OpenMP belong in
    `environment`: they are read when its library is loaded, which NumPy may do.
    """
    together = [cases] if hasattr(os, "fork") else [[case] for case in cases]
    programs = (IMPORTS.format(before=before, cases=ascii(some)) for some in together)
    return [
        json.loads(line)
        for program in programs
        for line in output(program, **environment).splitlines()
    ]


def script(path):
    """Load a script of the source tree; without the tree, skip the tests that ask for it."""
    file = Path(__file__).parents[1] / path
    if not file.exists():
        import pytest  # not for the programs

        pytest.skip("not the whole source tree", allow_module_level=True)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_threads(*works):
    """Call functions at the same time, each in a thread, and raise what one of them raises."""
    barrier, errors = threading.Barrier(len(works)), []

    def attempt(work):
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=attempt, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def meanwhile(work, count=1):
    """Call a function over and over, in threads, until the block ends; raise what it raises."""
    stop, errors = threading.Event(), []

    def repeat():
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def resident():
    """Bytes of memory that this process has in use, on Linux."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
