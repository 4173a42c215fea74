"""Applies the worked example of CONTRIBUTING.md to the source tree in the current folder.

A code block with a title is a new file: its title is the path. A block of `diff` is a change to
files that are there. The example is wrong if a change does not apply, or if the tests fail after
it: `.ci/run` tries both.
"""

import re
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
HEADING = "## Adding an activation"


def main() -> int:
    """Apply every block of the section, in order."""
    guide = Path("CONTRIBUTING.md").read_text(encoding="utf-8")
    section = guide.split(f"\n{HEADING}")[1].split("\n## ")[0]
    changed = 0
    for language, title, text in BLOCK.findall(section):
        if title:
            path = Path(title)
            if path.exists():
                print(f"{title} is there already")
                return 1
            path.write_text(text, encoding="utf-8")
        elif language == "diff":
            subprocess.run(["git", "apply", "--recount", "-"], input=text, text=True, check=True)
        else:
            continue
        changed += 1
        print(f"applied: {title or text.partition(chr(10))[0]}")
    if not changed:
        print("CONTRIBUTING.md has no blocks to apply")
    return 0 if changed else 1


if __name__ == "__main__":
    sys.exit(main())
