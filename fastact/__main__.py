"""The command ``fastact``, or ``python -m fastact``: what is installed, and how fast it is."""

import argparse
import contextlib
import importlib.util
import json
import math
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastact import __version__
from fastact._engine import compiler, limit_threads, openmp, thread_count
from fastact._operations import OPERATIONS, Operation
from fastact._targets import TARGETS
from fastact._ufuncs import isa, supported, ufuncs

if TYPE_CHECKING:
    from timeit import Timer

DTYPES = ("float16", "float32", "float64")
# Far out of every cache, and float64 still within 2 GiB in all.
MAX_SIZE = 1 << 24
SMALL = 16

# Long against the resolution of the clock, short against a time slice.
SAMPLE_SECONDS = 1e-3
ROUNDS = 301
# What a row may take for its rounds, however slow the machine.
ROW_SECONDS = 1.0
# Inputs per row, for the errors.
ERROR_INPUTS = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        The exit status.
    """
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastact", description="Activation functions for NumPy.")
    commands = parser.add_subparsers(required=True, metavar="command")

    info = commands.add_parser("info", help="tell what is built, supported and in use")
    info.set_defaults(run=_info)

    bench = commands.add_parser("bench", help="compare speed and error with NumPy, on this machine")
    bench.add_argument(
        "--size", type=_size, default=65536, metavar="N", help="elements, default 65536"
    )
    bench.set_defaults(run=_bench)

    for command in (info, bench):
        command.add_argument("--json", action="store_true", help="write JSON")
    return parser


def _size(text: str) -> int:
    size = int(text) if text.isdecimal() else 0
    if not 1 <= size <= MAX_SIZE:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a number from 1 to {MAX_SIZE}")
    return size


# ------------------------------------------------------------------------- info


def _info(options: argparse.Namespace) -> int:
    facts = machine()
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    rows = [(name.replace("_", " "), _text(value)) for name, value in facts.items()]
    print(_table(rows, left=2))
    return 0


def machine() -> dict[str, Any]:
    """Collect what is installed here, and what it runs on."""
    import numpy as np

    names = [target.name for target in TARGETS]
    return {
        "version": __version__,
        "compiler": compiler,
        "openmp": openmp,
        "threads": thread_count(),
        "isa_built": [n for n in names if importlib.util.find_spec(f"fastact._kernels.{n}")],
        "isa_supported": list(supported),
        "isa": isa,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
    }


def _processor() -> str:
    """Find the name of the processor; `platform` does not know it on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else str(value)


# ------------------------------------------------------------------------ bench


def _bench(options: argparse.Namespace) -> int:
    import numpy as np

    # One thread, as NumPy has. Its exp overflows for large -x; the error tells of that.
    threads = limit_threads(1)
    try:
        with np.errstate(all="ignore"):
            rows = _measure_all(options.size)
            small = _race_small()
    finally:
        limit_threads(threads)
    facts = machine()
    if options.json:
        results = {"machine": facts, "size": options.size, "rows": rows, "small": small}
        print(json.dumps(_finite(results), indent=2, allow_nan=False))
    else:
        print(_report(facts, options.size, rows, small))
    return 0


def _measure_all(size: int) -> list[dict[str, Any]]:
    """Make a row for every operation and dtype."""
    todo = [(operation, dtype) for operation in OPERATIONS for dtype in DTYPES]
    rows = []
    with _progress(len(todo)) as step:
        for operation, dtype in todo:
            step(f"{operation.name} {dtype}")
            rows.append(_measure(operation, dtype, size))
    return rows


def _measure(operation: Operation, dtype_name: str, size: int) -> dict[str, Any]:
    """Measure time per element and greatest error of an operation, here and in NumPy."""
    import numpy as np

    from fastact import _reference

    dtype = np.dtype(dtype_name)
    calls = ufuncs[operation.name], _reference.NUMPY[operation.name]

    x = np.random.default_rng(2).normal(0, 4, size).astype(dtype)
    values = _reference.operands(operation, x)
    out = np.empty_like(x)
    ours, theirs = (1e9 / size * t for t in _race([_timer(c, values, out) for c in calls]))

    x = _reference.sample(dtype, ERROR_INPUTS)
    values = _reference.operands(operation, x)
    exact = _reference.exact(operation.name, values, dtype)
    out = np.empty_like(x)
    errors: list[float | None] = []
    for call in calls:
        call(*values.values(), out=out)
        errors.append(None if exact is None else float(_reference.ulp_error(out, exact).max()))
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
    import numpy as np

    x = np.random.default_rng(2).normal(0, 4, SMALL).astype(np.float32)
    out = np.empty_like(x)
    calls = ufuncs["relu"], np.negative
    ours, theirs = (1e9 * t for t in _race([_timer(call, {"x": x}, out) for call in calls]))
    return {
        "elements": SMALL,
        "dtype": "float32",
        "fastact_relu_ns": ours,
        "numpy_negative_ns": theirs,
        "ratio": ours / theirs,
    }


def _timer(call: Callable[..., Any], values: dict[str, Any], out: Any) -> "Timer":
    """Make a timer of one call with `out=`, written out: a lambda would add 50 ns."""
    from timeit import Timer

    names = {"call": call, "out": out, **values}
    return Timer(f"call({', '.join(values)}, out=out)", globals=names)


def _race(timers: "Sequence[Timer]") -> list[float]:
    """Measure seconds per call: of each timer, the median over rounds of taking turns."""
    from statistics import median
    from time import perf_counter

    numbers = [_calibrate(timer) for timer in timers]
    samples: list[list[float]] = [[] for _ in timers]
    end = perf_counter() + ROW_SECONDS
    for turn in range(ROUNDS):
        if turn >= 3 and perf_counter() > end:
            break
        for timer, number, times in zip(timers, numbers, samples, strict=True):
            times.append(timer.timeit(number) / number)
    return [median(times) for times in samples]


def _calibrate(timer: "Timer") -> int:
    """Find how many calls take `SAMPLE_SECONDS`."""
    number = 1
    while timer.timeit(number) < SAMPLE_SECONDS:
        number *= 2
    return number


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function to be told of each of `total` steps, and show them on stderr.

    As a bar if rich is installed and stderr is a terminal, else in lines.
    """
    try:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
    except ImportError:
        console = None
    done = 0
    if console is None or not console.is_interactive:

        def tell(description: str) -> None:
            nonlocal done
            done += 1
            print(f"[{done}/{total}] {description}", file=sys.stderr, flush=True)

        yield tell
        return
    # Drawn between the measurements only: rich's own thread would disturb them.
    with Progress(console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=total)

        def draw(description: str) -> None:
            nonlocal done
            bar.update(task, description=description, completed=done, refresh=True)
            done += 1

        yield draw


# ----------------------------------------------------------------------- output


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
            _ulp(row["fastact_ulp"]),
            _ulp(row["numpy_ulp"]),
        )
        for row in rows
    ]
    return f"""\
fastact {facts["version"]} ({facts["isa"]}, {facts["compiler"]}) and NumPy {facts["numpy"]}
{facts["processor"]}, Python {facts["python"]}

{_table([*headings, *cells], left=2)}

A call on {small["elements"]} {small["dtype"]} values with out=: fastact.relu \
{small["fastact_relu_ns"]:.0f} ns, numpy.negative {small["numpy_negative_ns"]:.0f} ns, \
ratio {small["ratio"]:.2f}.

ns/elem: median time per element; {size:,} elements, out= given, one thread, in turns.
ratio:   time of fastact / time of NumPy.
ULP:     greatest error in units in the last place, over finite inputs: all of float16; about
         {ERROR_INPUTS:,} of float32 and float64, of all magnitudes and where sigmoid is neither
         0 nor 1. Gradients are standard normal. The y of sigmoid_backward_from_output counts as
         exact. "-": no wider type to compare with."""


def _ulp(error: float | None) -> str:
    if error is None:
        return "-"
    return f"{error:.2f}" if error < 1000 else f"{error:.0e}"


def _table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Align columns: the first `left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _finite(value: Any) -> Any:
    """Replace infinities, which JSON lacks, by the text "inf"."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


if __name__ == "__main__":
    sys.exit(main())
