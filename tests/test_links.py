"""The links between the files of the repository: to files that exist, and to headings in them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
FILES += [ROOT / folder / "README.md" for folder in ("asv_bench", "examples")]
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Made when the site is built, which finds what is missing.
MADE = ("docs/api/", "docs/pictures/")

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").exists(), reason="not the whole source tree: there are no pages"
)


def text_of(path):
    return CODE.sub("", path.read_text(encoding="utf-8"))


def anchors(path):
    """Make the anchors of the headings of a file, as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", sorted(FILES), ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path):
    for target in LINK.findall(text_of(path)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if str(file.relative_to(ROOT)).startswith(MADE):
            continue
        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"
