"""The command ``fastact bench``: fastact and NumPy; with ``--peers``, all that is installed.

``--epoch`` is in `_bench_epoch`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from timeit import Timer
from typing import Any

import numpy as np

from fastact._command import reference
from fastact._command.console import finite, machine, progress, table, ulp
from fastact._command.timing import race
from fastact._core.operations import OPERATIONS, Operation
from fastact._core.threads import set_num_threads
from fastact._core.ufuncs import ufuncs

DTYPES = ("float16", "float32", "float64")
SMALL = 16
# Inputs per row, for the errors.
ERROR_INPUTS = 1 << 20


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    if options.epoch:
        return _run_epoch(options)
    if options.peers or options.plot:
        return _run_peers(options)
    # One thread, as NumPy has. Its exp overflows for large -x; the error tells of that.
    threads = set_num_threads(1)
    try:
        with np.errstate(all="ignore"):
            rows = _measure_all(options.size)
            small = _race_small()
    finally:
        set_num_threads(threads)
    facts = machine()
    if options.json:
        print(_json({"machine": facts, "size": options.size, "rows": rows, "small": small}))
    else:
        print(_report(facts, options.size, rows, small))
    return 0


def _run_epoch(options: argparse.Namespace) -> int:
    from fastact._command.bench_epoch import measure, report

    results = measure()
    print(_json(results) if options.json else report(results))
    return 0


def _run_peers(options: argparse.Namespace) -> int:
    # Only here: they import all that is installed.
    from fastact._command.bench_peers import measure, report
    from fastact._command.bench_plot import draw
    from fastact._command.peers import installed

    peers = installed()
    with np.errstate(all="ignore"):
        if options.peers:
            results = measure(peers)
            print(_json(results) if options.json else report(results))
        if options.plot:
            draw(peers, Path(options.plot))
    return 0


def _json(results: dict[str, Any]) -> str:
    return json.dumps(finite(results), indent=2, allow_nan=False)


def _measure_all(size: int) -> list[dict[str, Any]]:
    """Make a row for every operation and dtype."""
    todo = [(operation, dtype) for operation in OPERATIONS for dtype in DTYPES]
    rows = []
    with progress(len(todo)) as step:
        for operation, dtype in todo:
            step(f"{operation.name} {dtype}")
            rows.append(_measure(operation, dtype, size))
    return rows


def _measure(operation: Operation, dtype_name: str, size: int) -> dict[str, Any]:
    """Measure time per element and greatest error of an operation, here and in NumPy."""
    dtype = np.dtype(dtype_name)
    calls = ufuncs[operation.name], reference.NUMPY[operation.name]

    x = np.random.default_rng(2).normal(0, 4, size).astype(dtype)
    values = reference.operands(operation, x)
    out = np.empty_like(x)
    ours, theirs = (1e9 / size * t for t in race([_timer(c, values, out) for c in calls]))

    x = reference.sample(dtype, ERROR_INPUTS)
    values = reference.operands(operation, x)
    exact = reference.exact(operation.name, values, dtype)
    out = np.empty_like(x)
    errors: list[float | None] = []
    for call in calls:
        call(*values.values(), out=out)
        errors.append(None if exact is None else float(reference.ulp_error(out, exact).max()))
    return {
        "operation": operation.name,
        "dtype": dtype_name,
        "fastact_ns": ours,
        "numpy_ns": theirs,
        "ratio": ours / theirs,
        "fastact_ulp": errors[0],
        "numpy_ulp": errors[1],
    }


def _race_small() -> dict[str, Any]:
    """Measure a call on few elements, where the call is all there is."""
    x = np.random.default_rng(2).normal(0, 4, SMALL).astype(np.float32)
    out = np.empty_like(x)
    calls = ufuncs["relu"], np.negative
    ours, theirs = (1e9 * t for t in race([_timer(call, {"x": x}, out) for call in calls]))
    return {
        "elements": SMALL,
        "dtype": "float32",
        "fastact_relu_ns": ours,
        "numpy_negative_ns": theirs,
        "ratio": ours / theirs,
    }


def _timer(call: Callable[..., Any], values: dict[str, Any], out: Any) -> Timer:
    """Make a timer of one call with `out=`, written out: a lambda would add 50 ns."""
    names = {"call": call, "out": out, **values}
    return Timer(f"call({', '.join(values)}, out=out)", globals=names)


def _report(
    facts: dict[str, Any], size: int, rows: list[dict[str, Any]], small: dict[str, Any]
) -> str:
    """Write the results as text."""
    headings = (
        ("", "", "fastact", "NumPy", "", "fastact", "NumPy"),
        ("operation", "dtype", "ns/elem", "ns/elem", "ratio", "ULP", "ULP"),
    )
    cells = [
        (
            row["operation"],
            row["dtype"],
            f"{row['fastact_ns']:.3f}",
            f"{row['numpy_ns']:.3f}",
            f"{row['ratio']:.3f}",
            ulp(row["fastact_ulp"]),
            ulp(row["numpy_ulp"]),
        )
        for row in rows
    ]
    return f"""\
fastact {facts["version"]} ({facts["isa"]}, {facts["compiler"]}) and NumPy {facts["numpy"]}
{facts["processor"]}, Python {facts["python"]}

{table([*headings, *cells], left=2)}

A call on {small["elements"]} {small["dtype"]} values with out=: fastact.relu \
{small["fastact_relu_ns"]:.0f} ns, numpy.negative {small["numpy_negative_ns"]:.0f} ns, \
ratio {small["ratio"]:.2f}.

ns/elem: median time per element; {size:,} elements, out= given, one thread, in turns.
ratio:   time of fastact / time of NumPy.
ULP:     greatest error in units in the last place, over finite inputs: all of float16; about
         {ERROR_INPUTS:,} of float32 and float64, of all magnitudes and where sigmoid is neither
         0 nor 1. Gradients are standard normal. The y of sigmoid_backward_from_output counts as
         exact. "-": no wider type to compare with."""
