"""What ``fastact bench`` tells: the times of every case; and of goals, what was missed."""

from typing import Any

from fastact._command.bench.cases import CACHED
from fastact._command.bench.race import ERROR_INPUTS, MAX_ULP, SMALL, ULP_FROM, fastest
from fastact._command.console import ulp
from fastact._command.markup import Bold, Table

NOTES = f"""\
Times are medians per element (of {SMALL} or fewer: per call), all in turns in one process.
ratio: time of fastact / time of the other. ULP: greatest error in units in the last place, over
about {ERROR_INPUTS:,} inputs of all magnitudes, and where sigmoid is neither 0 nor 1; of float16,
over all. Gradients are standard normal. The y of a gradient from the output counts as exact.
"-": no wider type to compare with. At an activation with an exponential, peers with an error
above {MAX_ULP} ULP for an input above {ULP_FROM:.0f} are inexact, and do not count."""
GOAL_NOTES = """\
Of every work, the case furthest from its target: time of fastact, time of the fastest other,
ratio, target, and how many cases meet it. memcpy: numpy.copyto, its time scaled to the bytes that
the operation reads and writes; on all threads, in as many parts. JAX cannot write into out. In
place, both times are those of a call and of a copy that gives the operand its values again.
"""


def details(results: dict[str, Any]) -> list[Table]:
    """Make tables of every case: of the functions, if there are goals, and of every work."""
    rows = results["rows"]
    made = [Table(_title(row), _compared(results, row["cases"]), 1) for row in rows]
    functions = [case for row in rows for case in row["cases"] if _is_plain(case)]
    title = f"Functions, {CACHED:,} elements: time per element, and {SMALL} elements: per call"
    functions_table = Table(title, _compared(results, functions, plain=True), 1)
    return made if any(row["target"] is None for row in rows) else [functions_table, *made]


def summary(results: dict[str, Any]) -> list[Table]:
    """Make tables of how far the goals were reached."""
    case = ("case", "against", "threads", "fastact", "other", "ratio")
    targets = [("work", "furthest case", *case[1:], "target", "met"), *_target_cells(results)]
    missed = [
        (row["work"], *_case_cells(case, "all" if row["all_threads"] else "1"))
        for row in results["rows"]
        for case in row["cases"]
        if case["met"] is False
    ]
    return [
        Table("Of every work, the case furthest from its target", targets, 3),
        Table("Missed targets", [("work", *case), *missed], 3),
        Table("Memory and import", _footprint_cells(results.get("footprint", [])), 1),
        Table("Greatest error, ULP", _error_cells(results), 2),
    ]


def slower(results: dict[str, Any]) -> Table:
    """Count the cases in which another package is faster, and name them."""
    above = results["above"]
    title = f"{len(above)} of {results['compared']} rows above 1.00 of the fastest other"
    if results["hold"]:
        title += f", all held to {results['hold']}"
    if results["left_out"]:
        title += f", without {' and '.join(results['left_out'])}, which cannot be held"
    cells: list[tuple[str, ...]] = [("row", "work", "fastest", "fastact", "other", "ratio")]
    for row in above:
        case, peer = row["case"], row["peer"]
        times = (_time(case["seconds"][name], case) for name in ("fastact", peer))
        remark = " (inexact)" if peer in case["excluded"] else ""
        cells.append((case["case"], row["work"], peer + remark, *times, f"{row['ratio']:.2f}"))
    return Table(title, cells if above else [], 3)


def _is_plain(case: dict[str, Any]) -> bool:
    """Tell whether a case is a function on a contiguous array, with out=, against others."""
    alike = case["layout"] == "contiguous" and case["out"] and not case["slope"]
    return alike and case["elements"] in (SMALL, CACHED) and case["dtype"][0] in "bf"


def _title(row: dict[str, Any]) -> str:
    threads = ", all threads" if row["all_threads"] and "threads" not in row["work"] else ""
    target = "" if row["target"] is None else f": at most {row['target']:.2f}"
    return f"{row['work']}{threads}{target}"


def _compared(
    results: dict[str, Any], cases: list[dict[str, Any]], plain: bool = False
) -> list[tuple[str, ...]]:
    """Compare times and errors; `plain` if with the fastest peer, whatever the target says.

    The fastest of the peers that do not compete has a line if it is faster than fastact, or if
    nobody competes.
    """
    errors = {(row["operation"], row["dtype"]): row["ulp"] for row in results["errors"]}
    small = f", {SMALL} elements"
    cells: list[tuple[str, ...]] = [("", "fastact", "fastest other", "ratio", "ULP", "ULP, other")]
    for case in cases:
        seconds, excluded, own = case["seconds"], case["excluded"], case["seconds"]["fastact"]
        peers = {name: seconds[name] for name in results["peers"] if name in seconds}
        # The target of a function may compare with something else.
        rival = fastest(peers, excluded) if plain else case["rival"]
        others = [rival] if rival else []
        if excluded and (rival is None or rival in peers):
            rough = min(excluded, key=seconds.__getitem__)
            others += [rough] if rival is None or seconds[rough] < own else []
        name = f"{case['operation']} {case['dtype']}{small if case['elements'] == SMALL else ''}"
        ulps = errors.get((case["operation"], case["dtype"]), {})
        for other in others:
            ratio = own / seconds[other]
            remark = " (inexact)" if other in excluded else ""
            cells.append(
                (
                    name if plain else case["case"],
                    _time(own, case),
                    f"{_time(seconds[other], case)}, {other}{remark}",
                    Bold(f"{ratio:.2f}") if ratio > 1 else f"{ratio:.2f}",
                    *(ulp(ulps[who]) if who in ulps else "" for who in ("fastact", other)),
                )
            )
    return cells


def _target_cells(results: dict[str, Any]) -> list[tuple[str, ...]]:
    cells = []
    for row in results["rows"]:
        threads = str(results["all_threads"] if row["all_threads"] else 1)
        ranked = sorted(
            (c for c in row["cases"] if c["ratio"] is not None), key=lambda case: case["ratio"]
        )
        met = sum(c["met"] for c in ranked)
        answer = "yes" if met == len(ranked) else f"no, {met} of {len(ranked)}"
        furthest = _case_cells(ranked[-1], threads) if ranked else ("-", "-", threads, *"---")
        cells.append((row["work"], *furthest, f"{row['target']:.2f}", answer if ranked else "-"))
    return cells


def _case_cells(case: dict[str, Any], threads: str) -> tuple[str, ...]:
    times = (_time(case["seconds"][name], case) for name in ("fastact", case["rival"]))
    return (case["case"], case["rival"], threads, *times, f"{case['ratio']:.2f}")


def _time(seconds: float, case: dict[str, Any]) -> str:
    """Write the time per element, or of a call on few."""
    if case["elements"] > SMALL:
        return f"{seconds / case['elements'] * 1e9:.3f} ns"
    return f"{seconds * 1e9:.0f} ns"


def _footprint_cells(footprint: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    cells: list[tuple[str, ...]] = [("", "measured", "target", "met")]
    for item in footprint:
        value, met = f"{item['value']:.1f} {item['unit']}", "yes" if item["met"] else "no"
        cells.append((item["what"], value, f"at most {item['target']}", met))
    return cells


def _error_cells(results: dict[str, Any]) -> list[tuple[str, ...]]:
    names = ["fastact", *results["peers"]]
    cells = [
        (
            row["operation"],
            row["dtype"],
            *(ulp(row["ulp"][name]) if name in row["ulp"] else "" for name in names),
        )
        for row in results["errors"]
    ]
    return [("operation", "dtype", *names), *cells]
