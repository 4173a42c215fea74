"""Run the tests, and record in platforms.md what passed, where and when.

    python docs/tested.py [ARGUMENTS]

Without arguments, all tests run. If none of them fails, a row is added to the table between the
comments in `docs/platforms.md`, or replaces that of the same processor, system, Python and NumPy.
ARGUMENTS go to pytest, as in `python docs/tested.py -k relu`: the row is printed then, and the page
stays as it is, because not all tests ran.
"""

import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "platforms.md"
START, END = "<!-- tested by: python docs/tested.py -->\n", "<!-- end of tested -->"
COLUMNS = (
    *("processor", "instruction sets", "system", "Python", "NumPy", "compiler", "date", "commit"),
    *("passed", "skipped"),
)
HEADING = f"| {' | '.join(COLUMNS)} |\n|{'---|' * 8}---:|---:|\n"
KEY = 0, 2, 3, 4  # what names a row


def row(facts, commit, passed, skipped):
    """Write a row, of the facts that `fastact info --json` prints, and numbers of tests."""
    cells = [
        facts["processor"],
        ", ".join(facts["isa_supported"]),
        facts["platform"],
        facts["python"],
        facts["numpy"],
        facts["compiler"],
        time.strftime("%Y-%m-%d"),
        commit,
        f"{passed:,}",
        f"{skipped:,}",
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def with_row(page, new):
    """Put a row into the text of the page, in place of the one with the same key."""
    before, rest = page.split(START)
    table, after = rest.split(END)
    rows = {}
    for line in [*table.removeprefix(HEADING).splitlines(keepends=True), new]:
        cells = line.strip("|\n ").split(" | ")
        rows[tuple(cells[i] for i in KEY)] = line
    return f"{before}{START}{HEADING}{''.join(rows.values())}{END}{after}"


def counts(report):
    """Count the tests that passed, were skipped, and failed, in a report in the form of JUnit."""
    suites = ElementTree.fromstring(report).iter("testsuite")
    total = skipped = failed = 0
    for suite in suites:
        total += int(suite.get("tests"))
        skipped += int(suite.get("skipped"))
        failed += int(suite.get("failures")) + int(suite.get("errors"))
    return total - skipped - failed, skipped, failed


def output(*command):
    """Run a command in the top folder of the tree."""
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def main(arguments):
    """Run the tests; returns the exit status."""
    # An installed package is tested, or else the tree, built in place.
    python = [sys.executable, *(["-P"] if find_spec("fastact") else []), "-m"]
    facts = json.loads(output(*python, "fastact", "info", "--json"))
    commit = output("git", "rev-parse", "--short", "HEAD").strip()
    if output("git", "status", "--porcelain", "--untracked-files=no"):
        commit += " with changes"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status = subprocess.run(
            [*python, "pytest", f"--junitxml={report}", *arguments], cwd=ROOT
        ).returncode
        if not report.exists():
            return status or 1
        passed, skipped, failed = counts(report.read_text(encoding="utf-8"))
    if status or failed or not passed:
        print(f"{failed} tests failed: {PAGE.name} stays as it is")
        return status or 1
    new = row(facts, commit, passed, skipped)
    print(new, end="")
    if not arguments:
        PAGE.write_text(with_row(PAGE.read_text(encoding="utf-8"), new), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
