"""The blocks of docs/compiled.md and docs/libraries.md, and some of README.md, run as printed.

A section is run in a folder of its own. Blocks with a title are files, `sh` blocks are commands,
and each `python` block is a program, which prints what its comments say.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastact

ROOT = Path(__file__).parents[1]
PAGES = {
    "docs/compiled.md": None,
    "docs/libraries.md": None,
    "README.md": ["Calls from other code"],
}
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)
PACKAGES = ("dask.distributed", "jax", "numba", "pandas", "scipy", "sparse", "torch", "xarray")
# An editable install is not a folder in which Cython looks for packages.
SOURCE = str(Path(fastact.__file__).parents[1])

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "docs").exists(), reason="not the whole source tree"),
]


def sections():
    """Find the sections that have a program in them: page, heading and blocks."""
    for page, headings in PAGES.items():
        if not (ROOT / page).exists():
            continue
        text = (ROOT / page).read_text(encoding="utf-8")
        for section in text.split("\n## ")[1:]:
            heading, blocks = section.partition("\n")[0], BLOCK.findall(section)
            if headings in (None, [heading]) and any(b[0] == "python" for b in blocks):
                yield pytest.param(blocks, id=f"{page}: {heading}")


def run(command, folder):
    paths = [str(folder), *([] if SOURCE in sys.path else [SOURCE])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("blocks", list(sections()))
def test_section(blocks, tmp_path):
    code = "".join(text for _, _, text in blocks)
    for package in PACKAGES:
        if re.search(rf"^(import|from) {re.escape(package)}\b", code, re.MULTILINE):
            pytest.importorskip(package)
    programs = 0
    for i, (language, title, text) in enumerate(blocks):
        if title:
            (tmp_path / title).write_text(text, encoding="utf-8")
        elif language == "cython":
            (tmp_path / f"module_{i}.pyx").write_text(text, encoding="utf-8")
            run([sys.executable, "-P", "-m", "Cython.Build.Cythonize", "-i3", "."], tmp_path)
        elif language == "sh":
            program, *arguments = text.split()
            assert program == "python", "the commands of these pages build a package"
            run([sys.executable, "-P", *arguments], tmp_path)
        elif language == "python":
            (tmp_path / f"program_{i}.py").write_text(text, encoding="utf-8")
            printed = run([sys.executable, "-P", f"program_{i}.py"], tmp_path)
            assert printed.splitlines() == PRINTED.findall(text)
            programs += 1
    assert programs
