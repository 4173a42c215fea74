"""What setup.py says before it starts, where compiler or flags do not work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastact
from fastact._core import targets

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.compiler,
    pytest.mark.skipif(
        sys.platform == "win32" or not (ROOT / "setup.py").exists() or not shutil.which("cc"),
        reason="wants the source tree and a compiler that takes flags as gcc does",
    ),
]

# One module that is there at once, in place of those of the package.
PROGRAM = """
import runpy, sys
import Cython.Build
from setuptools import Extension
Cython.Build.cythonize = lambda *args, **settings: [Extension("probed", ["probed.c"])]
sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""
OLD_COMPILER = """#!/bin/sh
case " $* " in *" -mavx512f "*) echo "what is -mavx512f?" >&2; exit 1;; esac
exec cc "$@"
"""
SOURCE = "#include <Python.h>\nPyMODINIT_FUNC PyInit_probed(void) { return NULL; }\n"


@pytest.fixture
def build(tmp_path):
    """Run setup.py in a copy, with an environment."""
    # What setup.py reads, and where it writes what it generates.
    (tmp_path / "fastact" / "_core" / "kernels").mkdir(parents=True)
    (tmp_path / "fastact" / "cy").mkdir()
    read = ["__init__.py", "_core/targets.py", "_core/generate.py", "_core/objects.py"]
    read += ["cy/_generate.py"]
    for name in [
        "setup.py",
        "README.md",
        *(f"fastact/{name}" for name in [*read, "cy/functions.txt"]),
    ]:
        shutil.copy(ROOT / name, tmp_path / name)
    operations = "fastact/_core/operations"
    shutil.copytree(ROOT / operations, tmp_path / operations)
    (tmp_path / "probed.c").write_text(SOURCE)
    pytest.importorskip("Cython")

    def run(**environment):
        flags = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED")
        clean = {name: value for name, value in os.environ.items() if name not in flags}
        return subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env={**clean, "LC_ALL": "C", **environment},
            capture_output=True,
            text=True,
        )

    return run


def test_what_works_is_built_and_silent(build, tmp_path):
    run = build(CFLAGS="-DUNUSED=1", LDFLAGS="-Wl,-rpath,/nowhere")
    assert (run.returncode, run.stderr) == (0, "")
    assert list(tmp_path.glob("probed*.so"))


@pytest.mark.parametrize(
    ("name", "flag"), [("LDFLAGS", "-Wl,--no-such-flag"), ("CFLAGS", "-fno-such-flag-at-all=3")]
)
def test_a_wrong_flag_is_shown_with_the_message(build, name, flag):
    run = build(**{name: flag})
    assert run.returncode == 1
    assert "does not compile and link an empty program" in run.stderr
    assert f"{name}={flag!r}" in run.stderr
    assert flag.removeprefix("-Wl,") in run.stderr.replace(f"{name}={flag!r}", "")  # by the tool
    assert "missing" not in run.stderr
    assert "Traceback" not in run.stderr


def test_no_compiler(build):
    run = build(CC="/nonexistent")
    assert run.returncode == 1
    assert "fastact cannot be built: a C compiler is missing" in run.stderr
    assert "/nonexistent" in run.stderr
    assert "apt install gcc" in run.stderr


def test_no_headers(build, tmp_path):
    (tmp_path / "Python.h").write_text("#error these are others\n")
    run = build(CPATH=str(tmp_path), CPPFLAGS=f"-I{tmp_path}")
    assert run.returncode == 1
    assert "Python's headers are missing" in run.stderr
    assert "these are others" in run.stderr


def test_an_unknown_instruction_set(build):
    run = build(FASTACT_TARGETS="baseline,avx3")
    assert run.returncode == 1
    assert run.stderr.startswith("FASTACT_TARGETS names avx3, which is no instruction set")
    assert run.stderr.rstrip().endswith("baseline")
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(len(targets.TARGETS) == 1, reason="one instruction set only")
def test_an_instruction_set_that_the_compiler_does_not_know(build, tmp_path):
    script = tmp_path / "cc"
    script.write_text(OLD_COMPILER)
    script.chmod(0o755)
    run = build(CC=str(script))
    assert run.returncode == 1
    assert "fastact cannot be built for avx512: this compiler does not know" in run.stderr
    assert "what is -mavx512f?" in run.stderr  # by the compiler
    assert "FASTACT_TARGETS=avx2,baseline" in run.stderr
    assert "Traceback" not in run.stderr
    assert build(CC=str(script), FASTACT_TARGETS="avx2,baseline").returncode == 0


# The one module that is linked with OpenMP, from a copy of the package.
THREADS_ONLY = """
import runpy, sys
import Cython.Build
every = Cython.Build.cythonize
Cython.Build.cythonize = lambda modules, **settings: every(
    [module for module in modules if module.name == "fastact._core.runtime.threads"], **settings
)
sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""
WITHOUT_OPENMP = """
import numpy as np
import fastact
from fastact._command import cli
from fastact._core.runtime import threads

x = np.linspace(-9, 9, 1 << 20, dtype=np.float32)
assert not threads.openmp
fastact.set_num_threads(4)
print(fastact.get_num_threads(), fastact.sigmoid(x).tobytes() == np.load("sigmoid.npy").tobytes())
cli.main(["info"])
"""


@pytest.mark.slow
def test_a_compiler_without_openmp(tmp_path):
    """It has no omp.h that works: the package is built without it, and computes the same."""
    pytest.importorskip("Cython")
    package = Path(fastact.__file__).parent
    unwanted = shutil.ignore_patterns("__pycache__", "*.c", "*.so")
    shutil.copytree(ROOT / "fastact", tmp_path / "fastact", ignore=unwanted)
    for name in "setup.py", "README.md":
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "omp.h").write_text("#error no OpenMP here\n")
    built = subprocess.run(
        [sys.executable, "-c", THREADS_ONLY],
        cwd=tmp_path,
        env=os.environ | {"CPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "fastact: this compiler has no OpenMP; building without it" in built.stderr
    for module in (package / "_core").rglob("*.so"):
        if not module.name.startswith("threads."):
            shutil.copy(module, tmp_path / module.relative_to(package.parent))
    x = np.linspace(-9, 9, 1 << 20, dtype=np.float32)
    np.save(tmp_path / "sigmoid.npy", fastact.sigmoid(x))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_OPENMP],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "3,2", "FASTACT_NUM_THREADS": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    said = run.stdout.splitlines()
    assert said[0] == "3 True"
    assert "openmp         no" in said
    assert "threads        3" in said
