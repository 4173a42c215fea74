"""mypy and pyright accept right calls and refuse wrong ones; the stubs agree with the package."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import fastact

FOLDER = Path(__file__).parent
ACCEPTED, REFUSED = FOLDER / "accepted.py", FOLDER / "refused.py"
# An editable install is not a folder in which checkers look for packages.
PATH = {"MYPYPATH": str(Path(fastact.__file__).parents[1])}

pytestmark = pytest.mark.slow


def run(*command, folder):
    """Run a module of Python where it finds no settings of this project."""
    return subprocess.run(
        [sys.executable, "-P", "-m", *command],
        cwd=folder,
        env={**os.environ, **({} if PATH["MYPYPATH"] in sys.path else PATH)},
        capture_output=True,
        text=True,
    )


def by_mypy(folder):
    """Lines with errors, by file."""
    pytest.importorskip("mypy")
    files = [str(path) for path in (ACCEPTED, REFUSED)]
    done = run("mypy", "--strict", "--config-file=", "--cache-dir=cache", *files, folder=folder)
    found = re.findall(r"^(?:.*[/\\])?(\w+\.py):(\d+): error: ", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return {(name, int(line)) for name, line in found}


def by_pyright(folder):
    """Lines with errors, by file."""
    pytest.importorskip("pyright")
    settings = {"include": ["."], "typeCheckingMode": "strict"}
    settings["pythonVersion"] = ".".join(map(str, sys.version_info[:2]))
    settings["extraPaths"] = [PATH["MYPYPATH"]]
    # As with mypy, a value of type Any may be used.
    settings |= {f"reportUnknown{what}Type": False for what in ("Member", "Variable", "Argument")}
    for path in ACCEPTED, REFUSED:
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    done = run("pyright", "--outputjson", "--pythonpath", sys.executable, folder=folder)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["summary"]["filesAnalyzed"] == 2, report
    return {
        (Path(d["file"]).name, d["range"]["start"]["line"] + 1)
        for d in report["generalDiagnostics"]
        if d["severity"] == "error"
    }


@pytest.mark.parametrize("check", [by_mypy, by_pyright])
def test_right_calls_are_accepted_and_wrong_ones_refused(check, tmp_path):
    lines = REFUSED.read_text(encoding="utf-8").splitlines()
    wrong = {(REFUSED.name, i) for i, line in enumerate(lines, 1) if line.endswith("# refused")}
    assert len(wrong) > 20
    assert check(tmp_path) == wrong


def test_accepted_calls_work():
    runpy.run_path(str(ACCEPTED))


def test_refused_calls_fail():
    """Most of them: a checker is to refuse what is an error, and not more than that."""
    names = {}
    head, _, calls = REFUSED.read_text(encoding="utf-8").partition("\n\nfastact.sigmoid()")
    exec(head, names)
    # NumPy takes everything that is an array or becomes one; Python does not look at annotations.
    harmless = "count: str"
    for line in ("fastact.sigmoid()" + calls).splitlines():
        if line.endswith("# refused") and not line.startswith(harmless):
            with pytest.raises((TypeError, ValueError, AttributeError)):
                exec(line, names)


def test_stubs_agree_with_the_package(tmp_path):
    pytest.importorskip("mypy")
    pytest.importorskip("numba")  # it imports all modules
    done = run("mypy.stubtest", "fastact", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
