"""What all commands print in a terminal: facts about the machine, aligned columns, and progress."""

import contextlib
import importlib.util
import math
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastact import __version__
from fastact._core.cpu import compiler
from fastact._core.runtime.threads import get_num_threads, openmp
from fastact._core.targets import TARGETS
from fastact._core.ufuncs import isa, supported


def machine() -> dict[str, Any]:
    """Collect facts about what is installed, and about the machine."""
    names = [target.name for target in TARGETS]
    return {
        "version": __version__,
        "compiler": compiler,
        "openmp": openmp,
        "threads": get_num_threads(),
        "isa_built": [n for n in names if importlib.util.find_spec(f"fastact._core.kernels._{n}")],
        "isa_supported": list(supported),
        "isa": isa,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
    }


def _processor() -> str:
    """Find the name of the processor, which `platform` does not know on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def table(rows: Sequence[Sequence[str]], left: int) -> str:
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


def ulp(error: float | None) -> str:
    """Write an error in units in the last place."""
    if error is None:
        return "-"
    return f"{error:.2f}" if error < 1000 else f"{error:.0e}".replace("e+0", "e").replace("e+", "e")


def finite(value: Any) -> Any:
    """Replace infinities, which JSON lacks, by the text "inf"."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """Show the progress of `total` steps on stderr; yields a function to call at each step.

    The progress is a bar if rich is installed and stderr is a terminal. Otherwise it is lines.
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
    # Drawn only between the measurements. A thread of rich would disturb them.
    with Progress(console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=total)

        def draw(description: str) -> None:
            nonlocal done
            bar.update(task, description=description, completed=done, refresh=True)
            done += 1

        yield draw
