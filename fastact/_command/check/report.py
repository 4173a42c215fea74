"""What `fastact check` tells: a dict for JSON, and the text of the table."""

import re
from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Any

from fastact._command.check.measure import Extreme, Tally
from fastact._command.check.sweeps import Sweep
from fastact._command.console import table, ulp
from fastact._command.markup import Table

WIDTH = 80


def place_in_table(sweep: Sweep, who: str, tally: Tally, complete: bool) -> dict[str, Any]:
    """Describe what was measured of one who computes a sweep."""

    def place(extreme: Extreme) -> dict[str, str]:
        """Tell where it is, in the fewest digits needed. Constant operands are left out."""
        return {k: str(v) for k, v in extreme.values.items() if k in "xy" or sweep.sampled}

    error = tally.error.size if tally.error.size >= 0 else None
    over = error is not None and sweep.bound is not None and not error <= sweep.bound
    return {
        "operation": sweep.operation.name,
        "operands": sweep.operands,
        "dtype": str(sweep.dtype),
        "by": who,
        "inputs": tally.inputs,
        "complete": complete,
        "error": error,
        "at": place(tally.error),
        "misrounded": None if error is None else tally.misrounded,
        "bound": sweep.bound,
        "faults": {
            name: {"count": fault.count, "at": place(fault)} for name, fault in tally.faults.items()
        },
        "broken": over or bool(tally.faults),
    }


def as_text(rows: Sequence[dict[str, Any]], complete: bool) -> str:
    """Write the table as text, in 80 columns."""
    merged = _merged(rows)
    operations = list(dict.fromkeys(row["operation"] for row in merged))
    merged.sort(key=lambda row: operations.index(row["operation"]))
    everyone = list(dict.fromkeys(row["by"] for row in merged))
    columns = ["what", "dtype", "by", "inputs", "ULP", "misrounded", "bound", "verdict"]
    if len(everyone) < 2:
        columns.remove("by")
    if all(row["bound"] is None for row in merged):
        columns.remove("bound")
    cells = [{name: name for name in columns} | {"what": "", "verdict": ""}, *map(_cells, merged)]
    left = columns.index("inputs")
    lines = table([[row[name] for name in columns] for row in cells], left).splitlines()
    text = [fill(f"By {', '.join(everyone)}.", WIDTH), "", lines[0]] if merged else []
    operation = None
    for row, line in zip(merged, lines[1:], strict=True):
        if row["operation"] != operation:
            operation = row["operation"]
            text.append(operation)
        text.append(line)
    return "\n".join([*text, "", *_notes(rows, merged, complete)])


def as_table(rows: Sequence[dict[str, Any]], complete: bool) -> Table:
    """Make a table for a page."""
    names = ("dtype", "by", "inputs", "ULP", "misrounded", "bound", "verdict")
    headings = ("operation", "operands", "dtype", "by", "inputs", "largest error, ULP")
    cells = [
        (row["operation"], row["operands"], *(_cells(row)[name] for name in names))
        for row in _merged(rows)
    ]
    title = "" if complete else "Interrupted. *: partial results, of the inputs counted"
    return Table(title, [(*headings, "not nearest", "bound", "verdict"), *cells], 4)


def _notes(
    rows: Sequence[dict[str, Any]], merged: Sequence[dict[str, Any]], complete: bool
) -> list[str]:
    """Explain the columns, and say what is broken and where."""
    notes = [
        fill(
            "ULP: the largest error, in units in the last place. misrounded: how many results "
            "are not the nearest number. x = y: these have the same bits. --json tells where "
            "the errors are.",
            WIDTH,
        )
    ]
    if any(row["error"] is None for row in rows):
        notes.append(
            "float64: errors skipped, bits compared only; gmpy2 would be needed, or a\nwider type."
        )
    broken = [row for row in merged if row["broken"]]
    for row in broken:
        what = f"BROKEN: {row['operation']} {row['dtype']} {row['by']}:"
        if row["error"] is not None and not row["error"] <= row["bound"]:
            notes.append(f"{what} {ulp(row['error'])} ULP at {_place(row['at'])}")
        for name, fault in row["faults"].items():
            notes.append(
                f"{what} {name} for {fault['count']:,} inputs, first {_place(fault['at'])}"
            )
    bounded = sum(row["bound"] is not None for row in merged)
    if broken:
        notes.append(f"BROKEN: {len(broken)} of {bounded} rows.")
    elif bounded:
        notes.append(f"ok: {bounded} rows are within their bounds.")
    if not complete:
        notes.append("Interrupted. *: partial results, of the inputs counted.")
    return notes


def _merged(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge rows that differ only in who computes. They have the same bits."""
    merged: list[dict[str, Any]] = []
    for row in rows:
        if merged and row["bound"] is not None and {**merged[-1], "by": row["by"]} == row:
            merged[-1]["by"] += f" = {row['by']}"
        else:
            merged.append(dict(row))
    return merged


def _cells(row: dict[str, Any]) -> dict[str, str]:
    verdict = "" if row["bound"] is None else "ok"
    verdict += "" if row["complete"] else "*"
    verdict = "BROKEN" if row["broken"] else verdict
    # leaky_relu_backward has the longest text.
    operands = (
        row["operands"]
        .replace("negative_slope", "slope")
        .replace(" sampled, ", ", ")
        .replace(" <= ", "<=")
    )
    return {
        "what": f"  {operands}",
        "dtype": row["dtype"],
        # Its version is above the table.
        "by": re.sub(r" \d\S*$", "", row["by"]),
        "inputs": f"{row['inputs']:,}",
        "ULP": ulp(row["error"]),
        "misrounded": "-" if row["misrounded"] is None else f"{row['misrounded']:,}",
        "bound": "-" if row["bound"] is None else f"{row['bound']:g}",
        "verdict": verdict,
    }


def _place(values: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items()) or "-"
