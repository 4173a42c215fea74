"""Builds of the packages in `client/` against the installed fastact."""

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import fastact

CLIENT = Path(__file__).parent / "client"
# What Cython and Python search. An editable install is not a folder there, nor is a source tree
# with modules that were built in place; so it is added.
INSTALLED = str(Path(fastact.__file__).parents[1])
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("FASTACT_")},
    "PYTHONPATH": "" if INSTALLED in site.getsitepackages() else INSTALLED,
}
# What is tested is the interface. Python's own flags may ask for what needs optimisation.
QUICK_FLAGS = "-O0 -U_FORTIFY_SOURCE"


def python(*arguments, folder, check=True, **environment):
    """Run Python in a folder, with the modules that were built there."""
    paths = os.pathsep.join(filter(None, [str(folder), ENVIRONMENT["PYTHONPATH"]]))
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": paths, **environment},
        check=check,
        capture_output=True,
        text=True,
    )


def build(folder, languages):
    """Build clients in a folder."""
    shutil.copytree(CLIENT, folder, dirs_exist_ok=True)
    run_setup(folder, CLIENT=" ".join(languages))


def run_setup(folder, **environment):
    """Run the setup.py of a folder."""
    command = "setup.py", "-q", "build_ext", "--inplace", f"-j{os.cpu_count()}"
    run = python(*command, folder=folder, check=False, CFLAGS=QUICK_FLAGS, **environment)
    assert run.returncode == 0, run.stdout + run.stderr
