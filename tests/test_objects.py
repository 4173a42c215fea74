"""An object is kept as long as all that it is made of is the same, and no longer."""

import os
import stat
import sys
import time
from pathlib import Path

import pytest
from programs import script

PATH = Path(__file__).parents[1] / "fastact" / "_core" / "objects.py"

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not (PATH.parents[2] / "setup.py").exists(),
    reason="wants the source tree, and a shell",
)

# As Cython writes it: quotations of the source, and all functions of a file of which one is used.
CODE = """\
#include "near.h"
static CYTHON_INLINE float __pyx_f_used(float x); /*proto*/
static CYTHON_INLINE float __pyx_f_unused(float x) {
  return x + 2;
}
static CYTHON_INLINE float __pyx_f_used(float x) {
  /* "fastact/activations/relu.pxd":7
 * cdef inline float used(float x):
 *     return x + 1             # <<<<<<<<<<<<<<
 */
  return x + 1;
}
float loop(float x) {
  return __pyx_f_used(x);
}
"""
SCRIPT = "#!/bin/sh\necho cc {version}\n"


@pytest.fixture
def objects():
    return script("fastact/_core/objects.py")


class Compiler:
    """What `Objects` takes of a compiler of distutils; an object is the code."""

    def __init__(self, command):
        self.compiler_so = [str(command)]

    def compile(self, sources, output_dir, macros, include_dirs, extra_postargs):
        path = Path(output_dir, "made.o")
        path.write_text(Path(sources[0]).read_text())
        return [str(path)]


class Build:
    """One C file with a header in another folder, which includes a further one, and a compiler."""

    def __init__(self, module, folder):
        self.module, self.folder = module, folder
        self.flags, self.macros, self.numpy = ["-O3"], [("NAME", "1")], "NumPy 2.0"
        (folder / "include").mkdir()
        self.write("code.c", CODE)
        self.write("include/near.h", '#include "far.h"\n')
        self.write("include/far.h", "#define FAR 1\n")
        self.write("cc", SCRIPT.format(version=12))
        os.chmod(folder / "cc", stat.S_IRWXU)

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def replace(self, old, new):
        assert old in CODE
        self.write("code.c", CODE.replace(old, new))

    def run(self):
        """Make the object; return its path, and whether it was compiled."""
        self.module._included.cache_clear()
        made = self.module.Objects(
            Compiler(self.folder / "cc"), self.folder / "kept", self.numpy, reports=False
        )
        folders = [str(self.folder / "include")]
        path = made.get(str(self.folder / "code.c"), self.flags, self.macros, folders)
        assert Path(path).read_text() == (self.folder / "code.c").read_text() or not made.compiled
        return path, bool(made.compiled)


@pytest.fixture
def build(objects, tmp_path):
    return Build(objects, tmp_path)


CHANGES = {
    "flags": lambda build, patch: build.flags.append("-g"),
    "macros": lambda build, patch: build.macros.append(("OTHER", "1")),
    "code": lambda build, patch: build.replace("x + 1;", "x + 3;"),
    "header": lambda build, patch: build.write("include/near.h", '#include "far.h"\nint near;\n'),
    "header of a header": lambda build, patch: build.write("include/far.h", "#define FAR 2\n"),
    "compiler": lambda build, patch: build.write("cc", SCRIPT.format(version=13)),
    "Python": lambda build, patch: patch.setattr(sys, "version", "3.99.0"),
    "NumPy": lambda build, patch: setattr(build, "numpy", "NumPy 2.1"),
    "environment": lambda build, patch: patch.setenv("CPATH", "/elsewhere"),
}
NO_CHANGES = {
    "nothing": lambda build: None,
    "a quotation": lambda build: build.replace('relu.pxd":7', 'relu.pxd":8'),
    "a function that is not used": lambda build: build.replace("x + 2", "x + 4"),
    "the time of the file": lambda build: build.write("code.c", CODE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_compiles_anew_and_back_again_does_not(build, change, monkeypatch):
    first, compiled = build.run()
    assert compiled
    with monkeypatch.context() as patch:
        CHANGES[change](build, patch)
        second, compiled = build.run()
    assert compiled
    assert second != first
    assert Path(first).exists()


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_does_not_matter_compiles_nothing(build, change):
    first, _ = build.run()
    NO_CHANGES[change](build)
    assert build.run() == (first, False)


def test_what_no_build_uses_is_deleted_in_the_end(build, objects):
    path, _ = build.run()
    kept = objects.Objects(Compiler(build.folder / "cc"), build.folder / "kept", "", reports=False)
    kept.tidy()
    assert Path(path).exists()
    old = time.time() - (objects.DAYS + 1) * 86400
    os.utime(path, (old, old))
    kept.tidy()
    assert not Path(path).exists()


def test_a_report_names_functions(objects, tmp_path):
    path = tmp_path / "unit.c"
    path.write_text(
        "static void __pyx_f_4unit_loop_f32(float *x) {\n  for\n}\n\n"
        "static void __pyx_fuse_1__pyx_f_4unit_total(double *x) {\n  for\n  for\n}\n"
    )
    said = "".join(
        f"{path}:{line}:3: optimized: {what} vectorized using 16 byte vectors\n"
        for line, what in ((2, "loop"), (6, "loop"), (7, "loop"), (4, "basic block part"))
    )
    assert objects._by_function(str(path), said).splitlines() == [
        ": basic block part vectorized using 16 byte vectors",
        "loop_f32: loop vectorized using 16 byte vectors",
        "total1: loop vectorized using 16 byte vectors",
    ]
