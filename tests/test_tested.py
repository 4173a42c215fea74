"""The table of what was tested in docs/platforms.md, and `docs/tested.py`, which writes it."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from programs import script

tested = script("docs/tested.py")

FORMS = dict.fromkeys(tested.COLUMNS, r"[^|]+") | {
    "instruction sets": r"((avx512, )?avx2, )?baseline",
    "Python": r"3\.\d+\.\S+",
    "NumPy": r"2\.\d+\.\S+",
    "date": r"20\d\d-\d\d-\d\d",
    "commit": r"[0-9a-f]{7,}",  # and no changes
    "passed": r"\d{1,3},\d{3}|\d{4,}",  # not a part of the tests
    "skipped": r"[\d,]+",
}
FACTS = {
    "processor": "A | B",
    "isa_supported": ["avx2", "baseline"],
    "platform": "Linux",
    "python": "3.11.7",
    "numpy": "2.4.6",
    "compiler": "gcc 12.2.0",
}
EMPTY = f"before\n{tested.START}{tested.HEADING}{tested.END}\nafter\n"
REPORT = '<testsuites><testsuite tests="12" skipped="2" failures="{}" errors="0"/></testsuites>'


def cells(line):
    return dict(zip(tested.COLUMNS, line.strip("|\n ").split(" | "), strict=True))


def test_page():
    _, rest = tested.PAGE.read_text(encoding="utf-8").split(tested.START)
    table, _ = rest.split(tested.END)
    assert table.startswith(tested.HEADING)
    for line in table.removeprefix(tested.HEADING).splitlines():
        for column, cell in cells(line).items():
            assert re.fullmatch(FORMS[column], cell), (column, cell)


def test_rows():
    first = tested.row(FACTS, "0123abc", 22_782, 31)
    for column, cell in cells(first).items():
        assert re.fullmatch(FORMS[column], cell), (column, cell)
    page = tested.with_row(EMPTY, first)
    assert page == EMPTY.replace(tested.END, first + tested.END)
    other = tested.row(FACTS | {"python": "3.13.5"}, "0123abc", 22_782, 31)
    page = tested.with_row(page, other)
    assert page == EMPTY.replace(tested.END, first + other + tested.END)
    later = tested.row(FACTS | {"compiler": "gcc 14.1.0"}, "4567def", 22_790, 31)
    page = tested.with_row(page, later)
    assert page == EMPTY.replace(tested.END, later + other + tested.END)


@pytest.mark.parametrize(
    ("failures", "arguments", "written"),
    [(0, [], True), (0, ["-k", "relu"], False), (1, [], False)],
)
def test_only_a_whole_run_without_failures_is_written(
    tmp_path, monkeypatch, failures, arguments, written
):
    page = tmp_path / "page.md"
    page.write_text(EMPTY, encoding="utf-8")

    def run(command, **options):
        (report,) = [c for c in command if c.startswith("--junitxml=")] or [""]
        if report:
            assert [a for a in command if a in arguments] == arguments
            Path(report.partition("=")[2]).write_text(REPORT.format(failures), encoding="utf-8")
        said = (
            json.dumps(FACTS) if "info" in command else "0123abc" if "rev-parse" in command else ""
        )
        return SimpleNamespace(returncode=int(bool(failures and report)), stdout=said)

    monkeypatch.setattr(tested, "PAGE", page)
    monkeypatch.setattr(tested.subprocess, "run", run)
    assert tested.main(arguments) == failures
    row = tested.row(FACTS, "0123abc", 10, 2)
    expected = EMPTY.replace(tested.END, row + tested.END) if written else EMPTY
    assert page.read_text(encoding="utf-8") == expected
