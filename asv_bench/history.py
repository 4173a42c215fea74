#!/usr/bin/env python3
"""Measure commits for the history of one machine, which is kept in results/.

    python history.py MACHINE [RANGE]

MACHINE is a folder of results/ with a machine.json. RANGE is one of git, such as
`main~3..main` or `HEAD^!`; by default, it is main. Commits that do not touch the package are left
out. What has been measured is not measured again, so that after an interruption the same command
goes on.
A machine whose processor is "callgrind" gets counts of instructions, which can be made on any
computer with the compiler that it names; all others get everything else.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# All but the table of times, which is large, and depends on what else the machine does; and but
# instructions, whose machine is the compiler.
TIMES = "^(?!times|instructions)"
INSTRUCTIONS = "^instructions"


def run_asv(*arguments, machine, folder):
    """Run asv for a machine, without what asv knows in the home folder.

    `machine` is a dict; its "machine" is the name. asv.conf.json is in `folder`. Returns the exit
    status: 2 if a benchmark failed, 1 if none could be run.
    """
    environment = {"PIP_CACHE_DIR": str(Path.home() / ".cache" / "pip"), **os.environ}
    # asv takes the Python of its version that comes first.
    environment["PATH"] = str(Path(sys.executable).parent) + os.pathsep + environment["PATH"]
    with tempfile.TemporaryDirectory() as home:
        environment["HOME"] = home
        known = {"version": 1, machine["machine"]: machine}
        Path(home, ".asv-machine.json").write_text(json.dumps(known))
        command = [sys.executable, "-P", "-m", "asv", *arguments, "--machine", machine["machine"]]
        return subprocess.run(command, cwd=folder, env=environment).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("machine", help="a folder of results/")
    parser.add_argument("range", nargs="?", default="main", help="commits (%(default)s)")
    options = parser.parse_args()
    path = HERE / "results" / options.machine / "machine.json"
    if not path.exists():
        parser.error(f"{path} is missing: README.md tells how to add a machine")
    machine = json.loads(path.read_text())
    counted = machine["cpu"] == "callgrind"
    command = ["git", "rev-list", "--first-parent", options.range, "--", "fastact", "setup.py"]
    commits = subprocess.check_output(command, cwd=HERE.parent, text=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(commits)  # the newest first
        file.flush()
        return run_asv(
            *("run", "--show-stderr", "--skip-existing-commits"),
            *("--bench", INSTRUCTIONS if counted else TIMES, f"HASHFILE:{file.name}"),
            machine=machine,
            folder=HERE,
        )


if __name__ == "__main__":
    sys.exit(main())
