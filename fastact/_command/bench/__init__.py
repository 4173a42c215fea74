"""The command ``fastact bench``: how fast fastact is, and how fast others are.

`race` compares with NumPy, or with everything that is installed (``--peers``). `plot` draws time
over size (``--plot``). What else ``--peers`` and ``--epoch`` need is in `asv_bench/peers`.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fastact._command.console import finite
from fastact._command.markup import Table, as_markdown, as_text
from fastact._command.peers import DEVELOPERS, NO_DEVELOPERS, NumPy, load_developers
from fastact._core.ufuncs import supported


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    # Imported only here: all that is installed, and what imports it.
    from fastact._command.bench import race, tables

    developers = load_developers() if options.peers or options.plot else None
    if developers and options.hold:
        variables = developers.held_to_avx2()
        if any(os.environ.get(name) != value for name, value in variables.items()):
            # NumPy and fastact are imported already.
            command = [sys.executable, *options.again]
            return subprocess.run(command, env=os.environ | variables).returncode
    peers = developers.installed() if developers else [NumPy()]
    left_out = [peer.name for peer in peers if options.hold and peer.avx2 is None]
    peers = [peer for peer in peers if peer.name not in left_out]
    with np.errstate(all="ignore"):  # NumPy's exp overflows. The errors tell of that
        if options.epoch:
            epoch = import_module(f"{DEVELOPERS}.epoch")
            results = epoch.measure()
            _print(results, [], epoch.details(results), epoch.notes(results), options)
        elif options.peers:
            results = race.measure(peers, import_module(f"{DEVELOPERS}.goals").GOALS)
            results["footprint"] = import_module(f"{DEVELOPERS}.footprint").measure()
            results |= {"hold": options.hold, "left_out": left_out, **race.slower(results)}
            summary, notes = tables.summary(results), tables.GOAL_NOTES + tables.NOTES
            details, end = tables.details(results), [tables.slower(results)]
            _print(results, summary, details, notes, options, end)
        elif not options.plot:
            results = race.measure(peers, race.overview(options.size))
            _print(results, [], tables.details(results), tables.NOTES, options)
        if options.plot:
            from fastact._command.bench import plot

            plot.draw(peers, Path(options.plot))
    return 0


def problem(options: argparse.Namespace) -> str | None:
    """Say why the command would fail, perhaps after it has measured; None if it would not."""
    if (options.peers or options.epoch) and load_developers() is None:
        return NO_DEVELOPERS
    if options.hold and not options.peers:
        return "--hold goes with --peers"
    if options.hold and options.hold not in supported:
        return f"--hold {options.hold}: this processor or build has {', '.join(supported)} only"
    if not options.plot:
        return None
    if importlib.util.find_spec("matplotlib") is None:
        return "--plot needs matplotlib: install it with `pip install matplotlib`"
    from fastact._command.bench import plot

    return plot.problem(Path(options.plot))


def _print(
    results: dict[str, Any],
    summary: list[Table],
    details: list[Table],
    notes: str,
    options: argparse.Namespace,
    end: Sequence[Table] = (),
) -> None:
    """Print results as `--format` says: as text, the summary if there is any. `end` comes last."""
    facts, packages = results["machine"], results["peers"]
    match options.format:
        case "json":
            print(json.dumps(finite(results), indent=2, allow_nan=False))
        case "text":
            print(as_text(summary or details, facts, packages, notes, end))
        case "markdown":
            tables = [*details, *summary, *end]
            print(as_markdown(tables, facts, packages, options.command_line))
