"""Source trees of commits, built in place, and kept in build/compare."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def built(folder):
    """The instruction sets that a tree was built for, best first."""
    paths = (folder / "fastact" / "_core" / "kernels").glob("_*.so")
    names = {path.name.partition(".")[0].lstrip("_") for path in paths}
    return [name for name in ("avx512", "avx2", "baseline") if name in names]


def id_of(commit):
    """The full name of a commit; a sentence ends the program if there is none."""
    command = ["git", "rev-parse", "--verify", "-q", f"{commit}^{{commit}}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"there is no commit {commit!r} here")
    return done.stdout.strip()


def tree_of(commit, targets):
    """Build a commit into a folder that is kept, and return the folder.

    The objects that this tree has kept are used, so that only what differs is compiled.
    """
    commit = id_of(commit)
    folder = ROOT / "build" / "compare" / commit[:12]
    if set(targets) <= set(built(folder)):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    environment = {
        "FASTACT_TARGETS": ",".join(targets),
        "FASTACT_OBJECTS": os.environ.get("FASTACT_OBJECTS") or str(ROOT / "build" / "objects"),
    }
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{commit[:8]} does not build")
    return folder
