"""The picture of ``fastact bench --plot``: time per element over the size of the array."""

from pathlib import Path
from typing import Any

import numpy as np

from fastact._command.bench.cases import Case, make_operands
from fastact._command.bench.race import prepare, thread_limit
from fastact._command.console import machine, progress
from fastact._command.peers import Peer, Work
from fastact._command.timing import race
from fastact._core.operations import BY_NAME, Operation

# One panel each: an operation that has to be computed, and one that is bound by memory.
OPERATIONS = (BY_NAME["sigmoid"], BY_NAME["relu"])
SIZES = tuple(4**k for k in range(2, 13))
TICKS = {16: "16", 256: "256", 4096: "4 Ki", 1 << 16: "64 Ki", 1 << 20: "1 Mi", 1 << 24: "16 Mi"}
RACE_SECONDS = 0.5


def problem(path: Path) -> str | None:
    """Say why a picture cannot be saved there; None if it can."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = sorted(FigureCanvasAgg.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        return f"--plot {path}: wanted a suffix that tells the format: {', '.join(known)}"
    new = not path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        return f"--plot {path}: {error.strerror}"
    if new:
        path.unlink()
    return None


def draw(peers: list[Peer], path: Path) -> None:
    """Measure fastact and all peers over the size of the array, and draw it into a file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    times = {operation.name: _measure(peers, operation) for operation in OPERATIONS}
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, len(OPERATIONS), sharex=True, sharey=True)
    for panel, (operation, by_name) in zip(panels, times.items(), strict=True):
        _draw_panel(panel, operation, by_name, ["fastact", *(peer.name for peer in peers)])
    panels[0].set_ylabel("nanoseconds per element")
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside right center", frameon=False)
    figure.suptitle("float32, one thread: lower is better", fontsize=11)
    figure.supxlabel(_caption(peers), fontsize=7.5, color="0.3")
    # Text stays text, in the reader's fonts. The file is a third of the size.
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(path, dpi=110)


def _caption(peers: list[Peer]) -> str:
    facts = machine()
    versions = ", ".join(f"{peer.name} {peer.version}" for peer in peers)
    return (
        f"{facts['processor']}, {facts['isa']}; fastact {facts['version']}, {versions}.\n"
        "Medians, all in turns in one process. Results go into an existing array, except for JAX."
    )


def _measure(peers: list[Peer], operation: Operation) -> dict[str, list[float]]:
    """Measure nanoseconds per element, for all sizes."""
    times: dict[str, list[float]] = {}
    with thread_limit(peers, 1), progress(len(SIZES)) as step:
        for size in SIZES:
            step(f"{operation.name}, {size:,} elements")
            values = make_operands(Case(operation, size=size))
            out = np.empty(size, np.float32)
            works = prepare(peers, operation, values, out)
            works["memcpy"] = Work("copyto(out, x)", {"copyto": np.copyto, "out": out, **values})
            seconds = race([work.timer() for work in works.values()], seconds=RACE_SECONDS)
            for name, t in zip(works, seconds, strict=True):
                times.setdefault(name, []).append(1e9 * t / size)
    return times


def _draw_panel(
    panel: Any, operation: str, times: dict[str, list[float]], names: list[str]
) -> None:
    for i, name in enumerate(names):
        if name in times:
            own = name == "fastact"
            panel.loglog(
                SIZES,
                times[name],
                label=name,
                color="black" if own else f"C{i - 1}",
                linewidth=2.6 if own else 1.3,
                marker="o",
                markersize=5 if own else 2.5,
                zorder=3 if own else 2,
            )
    panel.loglog(SIZES, times["memcpy"], label="memcpy", color="0.5", linestyle="--", zorder=1)
    panel.set_title(operation)
    panel.set_xlabel("elements")
    panel.set_xscale("log", base=2)
    panel.set_xticks(*zip(*TICKS.items(), strict=True))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.grid(True, alpha=0.3)
