"""Measure the tables of README.md and of these pages anew, on this machine.

    python docs/refresh.py MACHINE [PART]

A table that the command `fastact` has written stands between two comments:

    <!-- measured on MACHINE: COMMAND
    START OF A TITLE
    START OF A TITLE | FIRST CELL
    -->
    <!-- end -->

The lines say which tables of the output stand there. Those with a first cell take single rows,
which become one table. Without lines, it is the whole output. MACHINE is a name of your choice. The
tables of other machines stay as they are. With PART, only commands that contain it are run.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(
    r"(<!-- measured on (?P<machine>[\w-]+): (?P<command>[^\n]+)\n(?P<lines>(?:[^\n]+\n)*?)-->\n)"
    r"(?P<text>(?s:.*?))(?=<!-- end -->)"
)


def chosen(output, lines):
    """Choose from the output of a command, as the lines of a comment say.

    Parameters
    ----------
    output : str
        Tables in Markdown, and a last paragraph that says how they were measured.
    lines : list of str

    Returns
    -------
    str

    Raises
    ------
    LookupError
        If there is no such table or row.
    """
    *parts, source = output.strip().split("\n\n")
    if not lines:
        return output.strip()
    tables, title = {}, ""
    for part in parts:
        if part.startswith("**"):
            title = part.strip("*")
        else:
            tables[title] = part.splitlines()
    texts, rows = [], []
    for line in lines:
        start, _, cell = line.partition(" | ")
        title = next((title for title in tables if title.startswith(start)), None)
        if title is None:
            raise LookupError(f"no table starts with {start!r}: there are {list(tables)}")
        heading, rule, *body = tables[title]
        if not cell:
            texts += [f"**{title}**", "\n".join(tables[title])]
            continue
        found = [row for row in body if row.startswith(f"| {cell} |")]
        if not found:
            raise LookupError(f"{title}: no row starts with {cell!r}")
        rows += found if rows else [heading, rule, *found]
    return "\n\n".join([*texts, *(["\n".join(rows)] if rows else []), source])


def main(machine, part=""):
    """Run each command once, and write its tables into the pages."""
    outputs = {}

    def measured(block):
        command = block["command"]
        if block["machine"] != machine or part not in command:
            return block[0]
        if command not in outputs:
            print(f"$ {command}", flush=True)
            run = subprocess.run(
                shlex.split(command), stdout=subprocess.PIPE, text=True, check=True
            )
            outputs[command] = run.stdout
        return f"{block[1]}{chosen(outputs[command], block['lines'].splitlines())}\n"

    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        path.write_text(BLOCK.sub(measured, text), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
