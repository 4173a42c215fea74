"""The text of ``fastact bench --peers``: targets, what was missed, errors."""

from typing import Any

from fastact._command.bench.race import ERROR_INPUTS, MAX_ULP, ULP_FROM
from fastact._command.bench.targets import SMALL
from fastact._command.console import table, ulp
from fastact._command.markup import Table


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
    """Make tables for a page."""
    footprint = [("", "measured", "target", "met"), *_footprint_cells(results["footprint"])]
    missed = [
        ("missed", "case", "against", "threads", "fastact", "other", "ratio"),
        *_missed(results["rows"]),
    ]
    return [
        Table("Of every work, the case furthest from its target", _target_cells(results), 3),
        Table("", footprint, 1),
        Table("", missed, 3),
        Table("Greatest error, ULP", _error_cells(results), 2),
    ]


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
    many = case["elements"] > SMALL
    return (
        case["case"],
        case["rival"],
        threads,
        *(f"{t / case['elements'] * 1e9:.3f} ns" if many else f"{t * 1e9:.0f} ns" for t in times),
        f"{case['ratio']:.2f}",
    )


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
