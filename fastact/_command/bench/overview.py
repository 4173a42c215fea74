"""``fastact bench``: time and error of every operation, here and in NumPy."""

from collections.abc import Callable
from timeit import Timer
from typing import Any

import numpy as np

from fastact._command import errors, inputs
from fastact._command.console import machine, progress, table, ulp
from fastact._command.markup import Table
from fastact._command.timing import race
from fastact._core.operations import OPERATIONS, Operation
from fastact._core.runtime.threads import num_threads
from fastact._core.ufuncs import ufuncs

DTYPES = ("float16", "float32", "float64")
SMALL = 16
# How many inputs the errors are measured with, per operation and dtype.
ERROR_INPUTS = 1 << 20


def measure(size: int) -> dict[str, Any]:
    """Measure every operation and dtype on one thread, as NumPy has one."""
    # NumPy's exp overflows for large -x. The error tells of that.
    with num_threads(1), np.errstate(all="ignore"):
        rows = _measure_all(size)
        small = _race_small()
    return {"machine": machine(), "size": size, "rows": rows, "small": small}


def _measure_all(size: int) -> list[dict[str, Any]]:
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
    calls = ufuncs[operation.name], operation.numpy

    x = np.random.default_rng(2).normal(0, 4, size).astype(dtype)
    values = inputs.operands(operation, x)
    out = np.empty_like(x)
    ours, theirs = (1e9 / size * t for t in race([_timer(c, values, out) for c in calls]))

    x = inputs.sample(dtype, ERROR_INPUTS)
    values = inputs.operands(operation, x)
    exact = errors.exact(operation, values, dtype)
    out = np.empty_like(x)
    greatest: list[float | None] = []
    for call in calls:
        call(*values.values(), out=out)
        greatest.append(None if exact is None else float(errors.ulp_error(out, exact).max()))
    return {
        "operation": operation.name,
        "dtype": dtype_name,
        "fastact_ns": ours,
        "numpy_ns": theirs,
        "ratio": ours / theirs,
        "fastact_ulp": greatest[0],
        "numpy_ulp": greatest[1],
    }


def _race_small() -> dict[str, Any]:
    """Measure a call on few elements, where the call takes all of the time."""
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
    """Make a timer of one call with `out=`, written out, as a lambda would add 50 ns."""
    names = {"call": call, "out": out, **values}
    return Timer(f"call({', '.join(values)}, out=out)", globals=names)


def _cells(results: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            row["operation"],
            row["dtype"],
            f"{row['fastact_ns']:.3f}",
            f"{row['numpy_ns']:.3f}",
            f"{row['ratio']:.3f}",
            ulp(row["fastact_ulp"]),
            ulp(row["numpy_ulp"]),
        )
        for row in results["rows"]
    ]


def tables(results: dict[str, Any]) -> list[Table]:
    """Make tables for a page."""
    small = results["small"]
    title = (
        f"ns per element of {results['size']:,}, with out=, on one thread; "
        "ULP: greatest error; ratio: of times"
    )
    headings = ("operation", "dtype", "fastact", "NumPy", "ratio", "ULP", "ULP, NumPy")
    calls = [
        ("ns per call", "fastact.relu", "numpy.negative", "ratio"),
        (
            f"{small['elements']} elements, {small['dtype']}",
            f"{small['fastact_relu_ns']:.0f}",
            f"{small['numpy_negative_ns']:.0f}",
            f"{small['ratio']:.2f}",
        ),
    ]
    return [Table(title, [headings, *_cells(results)], 2), Table("", calls, 1)]


def report(results: dict[str, Any]) -> str:
    """Write the results as text."""
    facts, small = results["machine"], results["small"]
    headings = (
        ("", "", "fastact", "NumPy", "", "fastact", "NumPy"),
        ("operation", "dtype", "ns/elem", "ns/elem", "ratio", "ULP", "ULP"),
    )
    return f"""\
fastact {facts["version"]} ({facts["isa"]}, {facts["compiler"]}) and NumPy {facts["numpy"]}
{facts["processor"]}, Python {facts["python"]}

{table([*headings, *_cells(results)], left=2)}

A call on {small["elements"]} {small["dtype"]} values with out=: fastact.relu \
{small["fastact_relu_ns"]:.0f} ns, numpy.negative {small["numpy_negative_ns"]:.0f} ns, \
ratio {small["ratio"]:.2f}.

ns/elem: median time per element; {results["size"]:,} elements, out= given, one thread, in turns.
ratio:   time of fastact / time of NumPy.
ULP:     greatest error in units in the last place, over finite inputs: all of float16, and about
         {ERROR_INPUTS:,} of float32 and float64, of all magnitudes and where sigmoid is neither
         0 nor 1. Gradients are standard normal. The y of a gradient from the output counts as
         exact. "-": no wider type to compare with."""
