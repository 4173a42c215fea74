"""Tables with a title and headings, as text and in Markdown, so that a command refreshes pages."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

from fastact._command.console import table as aligned
from fastact._core.operations import OPERATIONS, ROW_OPERATIONS

WIDTH = 100
_FUNCTIONS = {record.name for record in OPERATIONS} | {record.name for record in ROW_OPERATIONS}


class Bold(str):
    """A cell that stands out."""

    __slots__ = ()


class Table(NamedTuple):
    """A table of texts."""

    title: str  # empty for none
    # The first has the headings. The table is left out if there are only these, and is its title if
    # there is nothing.
    rows: Sequence[Sequence[str]]
    left: int  # how many columns are aligned to the left


def as_text(
    tables: Iterable[Table],
    facts: Mapping[str, Any],
    packages: Mapping[str, str],
    notes: str,
    end: Iterable[Table] = (),
) -> str:
    """Write tables for a terminal, below what was measured, and above notes; others at the end."""
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    parts = [
        f"fastact {facts['version']} ({facts['isa']}, {facts['compiler']}) and {versions}\n"
        f"{facts['processor']}, Python {facts['python']}"
    ]
    parts += [_text(*table) for table in tables if len(table.rows) != 1]
    return "\n\n".join([*parts, notes, *(_text(*table) for table in end)])


def _text(title: str, rows: Sequence[Sequence[str]], left: int) -> str:
    if not rows:
        return f"{title}."
    return "\n".join([*([f"{title}:"] if title else []), aligned(rows, left)])


def as_markdown(
    tables: Iterable[Table], facts: Mapping[str, Any], packages: Mapping[str, str], command: str
) -> str:
    """Write tables in the Markdown of GitHub, and below how, when and where they were measured."""
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    source = (
        f"Measured by `{command}` on {time.strftime('%Y-%m-%d')}, on {facts['processor']} "
        f"({facts['isa']}, {facts['platform']}), with fastact {facts['version']} "
        f"({facts['compiler']}), Python {facts['python']}, {versions}."
    )
    parts = []
    for title, rows, left in tables:
        if not rows:
            parts.append(f"**{title}**")
        elif len(rows) > 1:
            rule = "|".join(["---"] * left + ["---:"] * (len(rows[0]) - left))
            heading, *lines = (
                f"| {' | '.join(map(_cell, row))} |".replace("|  |", "| |") for row in rows
            )
            table = "\n".join([heading, f"|{rule}|", *lines])
            parts += [f"**{title}**", table] if title else [table]
    return "\n\n".join(
        [*parts, fill(source, WIDTH, break_long_words=False, break_on_hyphens=False)]
    )


def _cell(text: str) -> str:
    """Write the name of a function, if the text starts with one, as code; the rest as it is."""
    if isinstance(text, Bold):
        return f"**{text}**"
    function = re.match(r"\w+", text.strip())
    name = function[0] if function and function[0] in _FUNCTIONS else ""
    rest = re.sub(r"([|*_`\\<])", r"\\\1", text.strip().removeprefix(name))
    return f"`{name}`{rest}" if name else rest
