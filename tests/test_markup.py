"""The tables of the command as Markdown."""

import time

import pytest

import fastact
from fastact._command import cli as command
from fastact._command.check import inputs
from fastact._command.console import machine
from fastact._command.markup import Bold, Table, as_markdown

ROWS = [
    ("", "a|b", "n"),
    ("leaky_relu", "x_y*", "1"),
    ("  relu, a_b", Bold("3"), "2"),
    ("  -", "-", "2"),
]
TABLE = Table("Three rows", ROWS, 2)
PACKAGES = {"NumPy": "2.0", "SciPy": "1.0"}


@pytest.fixture
def quick(monkeypatch):
    """Make a check quick: few inputs besides the hard ones."""
    monkeypatch.setattr(inputs, "EVEN_INPUTS", 1 << 8)
    monkeypatch.setattr(inputs, "HARD_INPUTS", 1 << 8)
    monkeypatch.setattr(inputs, "SLOW_INPUTS", 1 << 4)
    monkeypatch.setattr(inputs, "SLOW_HARD_INPUTS", 1 << 4)
    monkeypatch.setattr(inputs, "NARROW_ROUNDS", 1)


def test_markdown():
    text = as_markdown([TABLE, Table("", [("no rows",)], 1)], machine(), PACKAGES, "x --y")
    lines = text.splitlines()
    assert lines[:7] == [
        "**Three rows**",
        "",
        r"| | a\|b | n |",
        "|---|---|---:|",
        r"| `leaky_relu` | x\_y\* | 1 |",
        r"| `relu`, a\_b | **3** | 2 |",
        "| - | - | 2 |",
    ]
    assert "no rows" not in text
    source = " ".join(lines[8:])
    assert source.startswith("Measured by `x --y` on ")
    for part in (time.strftime("%Y-%m-"), machine()["processor"], "NumPy 2.0, SciPy 1.0."):
        assert part in source
    assert f"fastact {fastact.__version__}" in source


def test_check(quick, capsys):
    assert command.main(["check", "--operation", "relu", "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert "check --operation relu --format markdown`" in text.replace("\n", " ")
    assert "| ok" in text


def test_json_is_a_format(quick, capsys):
    for arguments in (["--json"], ["--format", "json"]):
        assert command.main(["check", "--operation", "relu", *arguments]) == 0
        assert capsys.readouterr().out.startswith("{")
    with pytest.raises(SystemExit):
        command.main(["check", "--json", "--format", "markdown"])
