"""The text of ``fastact bench --peers``: targets, what was missed, errors."""

from typing import Any

from fastact._command.bench.cases import CACHED
from fastact._command.bench.race import ERROR_INPUTS, MAX_ULP, ULP_FROM, fastest
from fastact._command.bench.targets import SMALL
from fastact._command.console import table, ulp
from fastact._command.markup import Bold, Table


def report(results: dict[str, Any]) -> str:
    """Write the results as text."""
    facts = results["machine"]
    names = ", ".join(f"{name} {version}" for name, version in results["peers"].items())
    missed = _missed(results["rows"])
    lines = [
        f"fastact {facts['version']} ({facts['isa']}, {facts['compiler']}) and {names}",
        f"{facts['processor']}, {results['all_threads']} processors, Python {facts['python']}",
        "",
        table(_target_cells(results), left=3),
        "",
        table(_footprint_cells(results["footprint"]), left=1),
        "",
        *(["Missed:", table(missed, left=3), ""] if missed else []),
        "Greatest error, ULP:",
        table(_error_cells(results), left=2),
        "",
        f"""\
Of every work, the case furthest from its target: time of fastact, time of the fastest
other, ratio, target, and how many cases meet it. Times are medians per element (of 16: per
call), all in turns in one process. memcpy: numpy.copyto, its time scaled to the bytes that
the operation reads and writes; on all threads, in as many parts. JAX cannot write into out.
At an activation with an exponential, peers with an error above {MAX_ULP} ULP for an input above
{ULP_FROM:.0f} do not count. Errors as in `fastact bench`, over about {ERROR_INPUTS:,} inputs.""",
    ]
    return "\n".join(lines)


def tables(results: dict[str, Any]) -> list[Table]:
    """Make tables for a page: the functions, every work, and what the text has."""
    rows = results["rows"]
    functions = [case for row in rows for case in row["cases"] if _is_plain(case)]
    footprint = [("", "measured", "target", "met"), *_footprint_cells(results["footprint"])]
    missed = [
        ("work", "case", "against", "threads", "fastact", "other", "ratio"),
        *_missed(rows),
    ]
    return [
        Table(
            f"Functions, {CACHED:,} elements: time per element, and {SMALL} elements: per call",
            _compared(results, functions, plain=True),
            1,
        ),
        *(Table(_title(row), _compared(results, row["cases"]), 1) for row in rows),
        Table("Of every work, the case furthest from its target", _target_cells(results), 3),
        Table("Missed targets", missed, 3),
        Table("Memory and import", footprint, 1),
        Table("Greatest error, ULP", _error_cells(results), 2),
    ]


def _is_plain(case: dict[str, Any]) -> bool:
    """Tell whether a case is a function on a contiguous array, with out=, against others."""
    alike = case["layout"] == "contiguous" and case["out"] and not case["slope"]
    return alike and case["elements"] in (SMALL, CACHED) and case["dtype"][0] in "bf"


def _title(row: dict[str, Any]) -> str:
    threads = ", all threads" if row["all_threads"] and "threads" not in row["work"] else ""
    return f"{row['work']}{threads}: at most {row['target']:.2f}"


def _compared(
    results: dict[str, Any], cases: list[dict[str, Any]], plain: bool = False
) -> list[tuple[str, ...]]:
    """Compare times and errors; `plain` if with the fastest peer, whatever the target says.

    The fastest of the peers that do not compete has a line if it is faster than fastact, or if
    nobody competes.
    """
    errors = {(row["operation"], row["dtype"]): row["ulp"] for row in results["errors"]}
    small = f", {SMALL} elements"
    cells: list[tuple[str, ...]] = [
        ("", "fastact", "fastest other", "ratio", "ULP", "ULP, other"),
    ]
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
    cells: list[tuple[str, ...]] = [
        (
            "work",
            "furthest case",
            "against",
            "threads",
            "fastact",
            "other",
            "ratio",
            "target",
            "met",
        )
    ]
    for row in results["rows"]:
        threads = str(results["all_threads"] if row["all_threads"] else 1)
        ranked = sorted((c for c in row["cases"] if c["ratio"] is not None), key=_ratio)
        if not ranked:
            cells.append(
                (row["work"], "-", "-", threads, "-", "-", "-", f"{row['target']:.2f}", "-")
            )
            continue
        met = sum(c["met"] for c in ranked)
        answer = "yes" if met == len(ranked) else f"no, {met} of {len(ranked)}"
        cells.append(
            (row["work"], *_case_cells(ranked[-1], threads), f"{row['target']:.2f}", answer)
        )
    return cells


def _ratio(case: dict[str, Any]) -> float:
    return float(case["ratio"])


def _case_cells(case: dict[str, Any], threads: str) -> tuple[str, ...]:
    times = (case["seconds"][name] for name in ("fastact", case["rival"]))
    return (
        case["case"],
        case["rival"],
        threads,
        *(_time(t, case) for t in times),
        f"{case['ratio']:.2f}",
    )


def _time(seconds: float, case: dict[str, Any]) -> str:
    """Write the time per element, or of a call on few."""
    if case["elements"] > SMALL:
        return f"{seconds / case['elements'] * 1e9:.3f} ns"
    return f"{seconds * 1e9:.0f} ns"


def _missed(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (row["work"], *_case_cells(case, "all" if row["all_threads"] else "1"))
        for row in rows
        for case in row["cases"]
        if case["met"] is False
    ]


def _footprint_cells(footprint: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            item["what"],
            f"{item['value']:.1f} {item['unit']}",
            f"at most {item['target']}",
            "yes" if item["met"] else "no",
        )
        for item in footprint
    ]


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
