"""What compiled code relies on: the names, signatures and positions in `functions.txt`."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from programs import run

import fastact
import fastact.cy

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "fastact" / "cy" / "functions.txt"
HEADER = (Path(fastact.get_include()) / "fastact.h").read_text(encoding="utf-8")


def recorded():
    return [
        line
        for line in RECORD.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]


def in_table(header):
    """The members of the table, in their order, written as declarations of functions."""
    body = re.search(r"typedef struct \{(.*?)\} fastact_api;", header, re.DOTALL)[1]
    members = [" ".join(line.split()) for line in body.split(";") if line.strip()]
    assert members[:3] == ["int abi", "int count", "const char *version"]
    return [re.sub(r"\(\*(\w+)\)", r"\1", member) for member in members[3:]]


def change(record, table):
    """What a table changes for extensions that were built with the recorded one, and what to do."""
    if record == table:
        return ""
    if table[: len(record)] == record:
        new = "\n".join(table[len(record) :])
        return (
            "new functions: append these lines to fastact/cy/functions.txt, and raise the minor "
            f"version of fastact if the last one is released:\n{new}"
        )
    gone = [line for line in record if line not in table]
    what = "\n".join(gone) or "the order"
    return (
        "functions that extensions in use may call were removed or changed: if this has to be, "
        "raise ABI in fastact/cy/_generate.py and fastact/cy/functions.txt, and the major version "
        f"of fastact:\n{what}"
    )


def test_compiled_api_is_as_recorded():
    problem = change(recorded(), in_table(HEADER))
    assert not problem, problem


def test_abi_is_as_recorded():
    abi = re.search(r"# ABI (\d+)", RECORD.read_text(encoding="utf-8"))[1]
    assert f"#define FASTACT_ABI {abi}\n" in HEADER
    assert f"#define FASTACT_COUNT {len(recorded())}\n" in HEADER


def test_cython_and_c_have_the_same_functions():
    text = (Path(fastact.cy.__file__).parent / "__init__.pxd").read_text(encoding="utf-8")
    declared = re.findall(r"^cdef (.*) noexcept nogil$", text, re.MULTILINE)
    assert declared == recorded()
    assert set(fastact.cy.__pyx_capi__) == {re.search(r"(\w+)\(", line)[1] for line in declared}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (["void a(int)", "void b(int)"], ""),
        (["void a(int)", "void b(int)", "void c(int)"], "minor version .*void c"),
        (["void a(int)", "void c(int)", "void b(int)"], "major version .*the order"),
        (["void b(int)", "void a(int)"], "major version .*the order"),
        (["void a(int)"], "major version .*void b"),
        (["void a(int)", "void b(long)"], r"major version .*void b\(int\)"),
    ],
)
def test_a_change_says_which_version_to_raise(table, said):
    found = change(["void a(int)", "void b(int)"], table)
    assert re.search(said, found, re.DOTALL) if said else not found


# ----------------------------------------------------------------------- generator


def run_generator(program):
    """Run a program with `operations` and `generate`, loaded as setup.py does it."""
    lines = f"""\
import importlib.util, sys
def load(name, path, folders=None):
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
folder = {str(ROOT / "fastact")!r}
records = load("records", folder + "/_core/operations/__init__.py", [folder + "/_core/operations"])
generate = load("generate", folder + "/cy/_generate.py")
with open(folder + "/cy/functions.txt") as file:
    text = file.read()
{program}
assert not any(name.partition(".")[0] == "fastact" for name in sys.modules)
"""
    return run(lines)


def test_a_new_operation_is_appended():
    done = run_generator("""
first = records.OPERATIONS[0]
import dataclasses
new = dataclasses.replace(first, name="early")
table = generate.functions([new, *records.OPERATIONS], text)
print(*(function.name for function in table))
assert "void fastact_early_f32(const float *x, float *out, Py_ssize_t n)" in generate.header(
    table, "1.0")
assert "cdef double early_scalar(double x) noexcept nogil" in generate.pxd(table, "A file.")
""")
    assert not done.stderr, done.stderr
    names = [re.search(r"(\w+)\(", line)[1] for line in recorded()]
    assert done.stdout.split() == [*names, "early_f32", "early_f64", "early_scalar"]


def test_a_recorded_function_cannot_vanish():
    done = run_generator("generate.functions(records.OPERATIONS[1:], text)")
    assert "functions that no operation has: relu_f32, relu_f64, relu_scalar" in done.stderr


# ----------------------------------------------------------------------- fast-math


@pytest.mark.slow
@pytest.mark.compiler
def test_fast_math_is_refused(tmp_path):
    """The formulas do not compile with it: neither here nor in the package itself."""
    (tmp_path / "formula.pyx").write_text(
        "from fastact.activations cimport sigmoid as formula\n\n"
        "def sigmoid(double x):\n    return formula.sigmoid(x)\n",
        encoding="utf-8",
    )
    cython = [sys.executable, "-P", "-m", "cython", "-3", "-I", str(ROOT), "formula.pyx"]
    subprocess.run(cython, cwd=tmp_path, check=True)
    compiler = sysconfig.get_config_var("CC").split()
    headers = [f"-I{sysconfig.get_path('include')}"]
    fast = "-ffast-math", "-Ofast", "-ffinite-math-only", "-funsafe-math-optimizations"
    for flags in [], *([flag] for flag in fast):
        done = subprocess.run(
            [*compiler, *headers, "-fsyntax-only", *flags, "formula.c"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        refused = "fastact cannot be compiled with -ffast-math" in done.stderr
        assert (refused, bool(done.returncode)) == (bool(flags), bool(flags)), (flags, done.stderr)
