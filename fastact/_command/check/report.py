"""What `fastact check` tells: a dict for JSON, and the text of the table."""

from collections.abc import Iterable, Sequence
from typing import Any

from fastact._command.check.cases import Case
from fastact._command.check.measure import Extreme, Tally
from fastact._command.console import table, ulp


def place_in_table(case: Case, who: str, tally: Tally, complete: bool) -> dict[str, Any]:
    """Describe what was measured of one who computes a case."""

    def place(extreme: Extreme) -> dict[str, str]:
        """Tell where it is, in the fewest digits needed. Constant operands are left out."""
        return {k: str(v) for k, v in extreme.values.items() if k in "xy" or case.sampled}

    error = tally.error.size if tally.error.size >= 0 else None
    over = error is not None and case.bound is not None and not error <= case.bound
    return {
        "operation": case.operation.name,
        "operands": case.operands,
        "dtype": str(case.dtype),
        "by": who,
        "inputs": tally.inputs,
        "complete": complete,
        "error": error,
        "at": place(tally.error),
        "misrounded": None if error is None else tally.misrounded,
        "bound": case.bound,
        "faults": {
            name: {"count": fault.count, "at": place(fault)} for name, fault in tally.faults.items()
        },
        "broken": over or bool(tally.faults),
    }


def as_text(rows: Sequence[dict[str, Any]], complete: bool) -> str:
    """Write the table as text."""
    heading = ("operation", "operands", "dtype", "by", "at", "inputs", "ULP", "misrounded", "bound")
    cells: list[tuple[str, ...]] = [(*heading, "")]
    notes = []
    for row in _merged(rows):
        cells.append(_cells(row))
        for name, fault in row["faults"].items():
            notes.append(
                f"BROKEN: {row['operation']} {row['dtype']} {row['by']}: {name} for "
                f"{fault['count']:,} inputs, first {_place(fault['at'])}"
            )
    if any(row["error"] is None for row in rows):
        notes.append(
            "float64: errors skipped, bits compared only; mpmath would be needed, or a wider type."
        )
    if not complete:
        notes.append("Interrupted: partial results, of the inputs counted.")
    return "\n".join([table(cells, left=5), *([""] if notes else []), *notes])


def _merged(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge rows that differ only in who computes. They have the same bits."""
    merged: list[dict[str, Any]] = []
    for row in rows:
        if merged and row["bound"] is not None and {**merged[-1], "by": row["by"]} == row:
            merged[-1]["by"] += f" = {row['by']}"
        else:
            merged.append(dict(row))
    return merged


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    verdict = "" if row["bound"] is None else "BROKEN" if row["broken"] else "ok"
    return (
        row["operation"],
        row["operands"] or "-",
        row["dtype"],
        row["by"],
        _place(row["at"]),
        f"{row['inputs']:,}",
        ulp(row["error"]),
        "-" if row["misrounded"] is None else f"{row['misrounded']:,}",
        "-" if row["bound"] is None else f"{row['bound']:g}",
        verdict if row["complete"] else f"{verdict} (partial)",
    )


def _place(values: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items()) or "-"
