"""The Python blocks of README.md and of the pages in docs/, run as printed.

A section is run in a folder of its own. Blocks with a title are files, and each other `python`
block is a program, which prints what its comments say. In a section with files, `sh` blocks are
commands.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from compiled.clients import QUICK_FLAGS

import fastact

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
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
    for page in PAGES:
        if not page.exists():
            continue
        for section in page.read_text(encoding="utf-8").split("\n## "):
            heading, blocks = section.partition("\n")[0].lstrip("# "), BLOCK.findall(section)
            if any(language == "python" and not title for language, title, _ in blocks):
                yield pytest.param(blocks, id=f"{page.relative_to(ROOT)}: {heading}")


def run(command, folder):
    paths = [str(folder), *([] if SOURCE in sys.path else [SOURCE])]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu", "CFLAGS": QUICK_FLAGS}
    environment = os.environ | settings
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("blocks", list(sections()))
def test_section(blocks, tmp_path):
    code = "".join(text for _, _, text in blocks)
    for package in PACKAGES:
        if re.search(rf"^(import|from) {re.escape(package)}\b", code, re.MULTILINE):
            pytest.importorskip(package)
    with_files = any(title for _, title, _ in blocks)
    for i, (language, title, text) in enumerate(blocks):
        if title:
            (tmp_path / title).write_text(text, encoding="utf-8")
        elif language == "cython":
            (tmp_path / f"module_{i}.pyx").write_text(text, encoding="utf-8")
            run([sys.executable, "-P", "-m", "Cython.Build.Cythonize", "-i3", "."], tmp_path)
        elif language == "sh" and with_files:
            program, *arguments = text.split()
            assert program == "python", "the commands of these pages build a package"
            run([sys.executable, "-P", *arguments], tmp_path)
        elif language == "python":
            (tmp_path / f"program_{i}.py").write_text(text, encoding="utf-8")
            printed = run([sys.executable, "-P", f"program_{i}.py"], tmp_path)
            assert printed.splitlines() == PRINTED.findall(text)
