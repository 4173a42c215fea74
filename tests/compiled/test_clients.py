"""Packages in Cython, C and C++ that were built against the installed fastact."""

import re
import shutil
from pathlib import Path

import pytest
from clients import CLIENT, build, python, run_setup

import fastact

pytestmark = pytest.mark.compiler
HEADER = Path(fastact.get_include()) / "fastact.h"
CALLS = """\
import sys
import numpy as np
sys.path.insert(0, {folder!r})
import pointers, fastact, cython_client
for name in ("relu", "leaky_relu", "sigmoid", "relu_backward", "leaky_relu_backward",
             "sigmoid_backward", "sigmoid_backward_from_output"):
    for dtype, call in ("f4", cython_client.call_f32), ("f8", cython_client.call_f64):
        with np.errstate(all="ignore"):
            a, b = pointers.inputs(dtype, 1500, 0), pointers.inputs(dtype, 1500, 1)
        arrays, number = pointers.operands_of(name)
        out = np.empty_like(a)
        call(name, a, b, 0.2, out)
        expected = getattr(fastact, name)(*[a, b][:len(arrays)], *[0.2] * number)
        assert pointers.same_bits(out, expected), (name, dtype)
x = np.linspace(-9, 9, 60, dtype="f4").reshape(4, 15)
expected = fastact.sigmoid(x)
cython_client.rows(x)
assert pointers.same_bits(x, expected)
assert cython_client.repeat_scalar(0.3, 2) == fastact.sigmoid(fastact.sigmoid(0.3))
cython_client.repeat(x.ravel(), 2)
assert cython_client.scalars(-700.0, 0.3) == (fastact.sigmoid(-700.0), -700.0 * 0.3)
print(fastact.__file__)
"""


LANGUAGES = ["cython", "c", *(["cpp"] if shutil.which("c++") else [])]


@pytest.fixture(scope="session")
def client(built_once):
    """Return a function that gives a folder with clients in all languages, built once."""

    def built(language):
        if language not in LANGUAGES:
            pytest.skip("no C++ compiler")
        return built_once("clients", lambda folder: build(folder, LANGUAGES))

    return built


def test_cython(client):
    folder = str(Path(__file__).parent)
    run = python("-c", CALLS.format(folder=folder), folder=client("cython"))
    assert run.stdout.strip() == fastact.__file__


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_c(client, language):
    program = f"""\
import numpy as np, fastact
import {language}_client as client
x = np.linspace(-200, 200, 1000, dtype=np.float32)
expected = x * fastact.sigmoid(x)
client.swish(x)
assert x.tobytes() == expected.tobytes()
assert client.sigmoid(-700.0) == fastact.sigmoid(-700.0)
y = -x
client.repeat(y, 10)
assert y.tobytes() == fastact.relu(-x).tobytes()
for flags in range(64):
    assert client.flags(flags), flags
"""
    python("-c", program, folder=client(language))


# ------------------------------------------------------------------------ versions


def count_of():
    return int(re.search(r"FASTACT_COUNT (\d+)", HEADER.read_text(encoding="utf-8"))[1])


def other_headers():
    """Changes that make headers of other versions of the installed one, by name."""
    # The last member, which an older fastact did not have.
    name = re.findall(r"\(\*(\w+)\)", HEADER.read_text(encoding="utf-8"))[-1]
    return {
        "limited": [],
        "older": [
            (r'^#define FASTACT_VERSION ".*"', '#define FASTACT_VERSION "0.0.1"'),
            (r"^#define FASTACT_COUNT \d+", f"#define FASTACT_COUNT {count_of() - 1}"),
            (rf"^ .*\(\*{name}\).*\n", ""),
            (rf"^static inline \w+ fastact_{name}\(.*\n{{\n.*\n}}\n", ""),
        ],
        "newer": [
            (r'^#define FASTACT_VERSION ".*"', '#define FASTACT_VERSION "99.1.0"'),
            (r"^#define FASTACT_COUNT \d+", f"#define FASTACT_COUNT {count_of() + 1}"),
            (r"^} fastact_api;", "    void (*later)(void);\n} fastact_api;"),
        ],
        "abi_0": [(r"^#define FASTACT_ABI \d+", "#define FASTACT_ABI 0")],
        "abi_2": [(r"^#define FASTACT_ABI \d+", "#define FASTACT_ABI 2")],
    }


# The C client once for each header, and a module in Cython against a newer declaration.
SETUP = """\
from Cython.Build import cythonize
from setuptools import Extension, setup

flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
setup(ext_modules=[
    *(
        Extension(
            f"{name}.c_client",
            [f"{name}/c_client.c"],
            include_dirs=[name],
            define_macros=[("Py_LIMITED_API", "0x030b0000")] if name == "limited" else [],
            extra_compile_args=flags,
        )
        for name in NAMES
    ),
    *cythonize("late.pyx", include_path=["declared"], language_level=3),
])
"""


@pytest.fixture(scope="session")
def versions(built_once):
    """Return a folder with modules that were built against other versions of fastact."""
    return built_once("versions", build_versions)


def build_versions(folder):
    for name, changes in other_headers().items():
        text = HEADER.read_text(encoding="utf-8")
        for pattern, replacement in changes:
            text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            assert count, pattern
        (folder / name).mkdir()
        (folder / name / "fastact.h").write_text(text, encoding="utf-8")
        shutil.copy(CLIENT / "c_client.c", folder / name)
    package = folder / "declared" / "fastact" / "cy"
    package.mkdir(parents=True)
    (package.parent / "__init__.pxd").touch()
    text = (HEADER.parents[1] / "__init__.pxd").read_text(encoding="utf-8")
    text += "cdef double later_scalar(double x) noexcept nogil\n"
    (package / "__init__.pxd").write_text(text, encoding="utf-8")
    source = "from fastact.cy cimport later_scalar\n\ndef call(x):\n    return later_scalar(x)\n"
    (folder / "late.pyx").write_text(source, encoding="utf-8")
    names = [*other_headers()]
    (folder / "setup.py").write_text(f"NAMES = {names}\n{SETUP}", encoding="utf-8")
    run_setup(folder)


def call_built_with(folder):
    return python("-c", "import c_client; print(c_client.sigmoid(0))", folder=folder, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["limited", "older"])
def test_built_with_the_limited_api_or_an_older_fastact(versions, name):
    run = call_built_with(versions / name)
    assert (run.stdout.strip(), run.stderr) == ("0.5", "")


@pytest.mark.slow
def test_built_with_a_newer_fastact(versions):
    run = call_built_with(versions / "newer")
    last = run.stderr.splitlines()[-1]
    assert run.returncode == 1
    assert last == (
        f"ImportError: this module was built with fastact 99.1.0 (ABI 1, {count_of() + 1} "
        f"functions), and fastact {fastact.__version__} (ABI 1, {count_of()} functions) is "
        "installed: install a later fastact"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("abi", "advice"), [(2, "later fastact"), (0, "module again")])
def test_built_for_another_abi(versions, abi, advice):
    run = call_built_with(versions / f"abi_{abi}")
    last = run.stderr.splitlines()[-1]
    assert run.returncode == 1
    assert last.startswith("ImportError: this module was built with fastact ")
    assert last.endswith(advice)
    assert f"(ABI {abi}, " in last


@pytest.mark.slow
def test_cython_function_of_a_newer_fastact(versions):
    run = python("-c", "import late", folder=versions, check=False)
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "later_scalar" in last


@pytest.mark.parametrize("language", ["cython", "c", "cpp"])
@pytest.mark.parametrize("missing", ["fastact", "fastact.cy"])
def test_no_fastact(client, language, missing):
    """None at all, or one from before it had compiled functions."""
    program = f"""\
import sys
sys.modules[{missing!r}] = None
try:
    import {language}_client
except ImportError as error:
    print(error)
"""
    run = python("-c", program, folder=client(language))
    assert missing in run.stdout


def test_include_folder_has_the_header():
    assert f'#define FASTACT_VERSION "{fastact.__version__}"' in HEADER.read_text(encoding="utf-8")
