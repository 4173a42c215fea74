"""Tables as Markdown and reStructuredText, so that pages are refreshed by a command.

Below the tables, a sentence says how, when and where they were measured.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

from fastact._core.operations import OPERATIONS, ROW_OPERATIONS

WIDTH = 100
_FUNCTIONS = {record.name for record in OPERATIONS} | {record.name for record in ROW_OPERATIONS}


class Bold(str):
    """A cell that stands out."""

    __slots__ = ()


class Table(NamedTuple):
    """A table of texts."""

    title: str  # empty for none
    rows: Sequence[Sequence[str]]  # the first has the headings
    left: int  # how many columns are aligned to the left


def document(
    tables: Iterable[Table],
    style: str,
    command: str,
    facts: Mapping[str, Any],
    packages: Mapping[str, str],
) -> str:
    """Write tables, and where they come from.

    Parameters
    ----------
    tables : iterable of Table
    style : {"markdown", "rst"}
    command : str
        The command that was given.
    facts : mapping
        The result of `fastact._command.console.machine`.
    packages : mapping of str to str
        The versions of the other packages, by name.

    Returns
    -------
    str
    """
    write = _markdown if style == "markdown" else _rst
    parts = [write(table) for table in tables if len(table.rows) > 1]
    code = f"`{command}`" if style == "markdown" else f"``{command}``"
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    source = (
        f"Measured by {code} on {time.strftime('%Y-%m-%d')}, on {facts['processor']} "
        f"({facts['isa']}, {facts['platform']}), with fastact {facts['version']} "
        f"({facts['compiler']}), Python {facts['python']}, {versions}."
    )
    lines = fill(source, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n\n".join([*parts, lines])


def _markdown(table: Table) -> str:
    """Write a table in the Markdown of GitHub."""
    columns = len(table.rows[0])
    rule = ["---" if i < table.left else "---:" for i in range(columns)]
    lines = []
    for row in table.rows:
        cells = [_cell(cell, "`", r"[|*_`\\<]") for cell in row]
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    lines.insert(1, f"|{'|'.join(rule)}|")
    return "\n".join(([f"**{table.title}**", ""] if table.title else []) + lines)


def _cell(text: str, code: str, special: str) -> str:
    """Write the name of a function, if the text starts with one, as code; the rest as it is."""
    if isinstance(text, Bold):
        return f"**{text}**"
    function = re.match(r"\w+", text.strip())
    name = function[0] if function and function[0] in _FUNCTIONS else ""
    rest = re.sub(f"({special})", r"\\\1", text.strip().removeprefix(name))
    return f"{code}{name}{code}{rest}" if name else rest


def _rst(table: Table) -> str:
    """Write a table as a list, which needs no widths."""
    lines = [f".. list-table:: {table.title}".rstrip(), "   :header-rows: 1", ""]
    for row in table.rows:
        for i, cell in enumerate(row):
            text = _cell(cell, "``", r"[|*_`\\]")
            # A lone dash would begin a list.
            text = rf"\{text}" if text == "-" else text
            lines.append(f"   {'* -' if i == 0 else '  -'} {text}".rstrip())
    return "\n".join(lines)
