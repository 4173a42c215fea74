"""Builds of the packages in `client/` against the installed fastact."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fastact

CLIENT = Path(__file__).parent / "client"
# What Cython and Python search. An editable install is not a folder there, so it is added.
INSTALLED = str(Path(fastact.__file__).parents[1])
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("FASTACT_")},
    "PYTHONPATH": "" if INSTALLED in sys.path else INSTALLED,
}


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


def build(folder, language, **environment):
    """Build a client in a folder, and return the outcome."""
    shutil.copytree(CLIENT, folder, dirs_exist_ok=True)
    command = "setup.py", "-q", "build_ext", "--inplace"
    return python(*command, folder=folder, check=False, CLIENT=language, **environment)
