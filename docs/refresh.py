"""Measure the tables of the repository anew, on this machine.

    python docs/refresh.py MACHINE [PART]

`docs/measured/MACHINE` has what commands have printed, one in each file, below the command.
Those that contain PART are run again. MACHINE is a name of your choice. Then tables of README.md
and of these pages are made anew, between the comments `<!-- rows of FILE -->` and `<!-- end -->`: a
row is replaced by those of the first table of FILE that have its first cell.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "docs" / "measured"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"(<!-- rows of (\S+) -->\n)((?s:.*?))(?=<!-- end -->)")


def rows(text, measured):
    """Take the rows of a table, and its last paragraph, from what a command has printed."""
    *parts, source = measured.strip().split("\n\n")
    tables = [part.splitlines() for part in parts if part.startswith("| ")]
    lines = []
    for cell in dict.fromkeys(re.findall(r"^\| [^ |].*? \| ", text, re.MULTILINE)):
        found = ((table, [row for row in table if row.startswith(cell)]) for table in tables)
        table, chosen = next((pair for pair in found if pair[1]), (None, None))
        if chosen is None:
            raise LookupError(f"no row starts with {cell!r}")
        lines += [*([] if lines else table[:2]), *chosen]
    return "\n".join([*lines, "", source, ""])


def main(machine, part=""):
    """Run the commands, and write the tables into the pages."""
    for path in sorted(MEASURED.glob(f"{machine}/*.md")):
        heading = path.read_text(encoding="utf-8").partition("\n")[0]
        command = heading.removeprefix(f"# {machine}: ")
        if part in command:
            print(f"$ {command}", flush=True)
            output = subprocess.run(
                shlex.split(command), stdout=subprocess.PIPE, text=True, check=True
            ).stdout
            path.write_text(f"{heading}\n\n{output}", encoding="utf-8")

    def anew(block):
        return block[1] + rows(block[3], (ROOT / block[2]).read_text(encoding="utf-8"))

    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        path.write_text(BLOCK.sub(anew, text), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
