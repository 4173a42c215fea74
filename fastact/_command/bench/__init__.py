"""The command ``fastact bench``: how fast fastact is, and how fast others are.

`overview` compares with NumPy, `race` with everything that is installed (``--peers``), `epoch`
at training a network (``--epoch``). `plot` draws time over size (``--plot``).
"""

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from fastact._command.console import finite
from fastact._command.markup import document


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    if options.epoch:
        _run_epoch(options)
    elif options.peers or options.plot:
        _run_peers(options)
    else:
        _run_overview(options)
    return 0


def problem(options: argparse.Namespace) -> str | None:
    """Say why the command would fail after it has measured; None if it would not."""
    if not options.plot:
        return None
    if importlib.util.find_spec("matplotlib") is None:
        return "--plot needs matplotlib: install it with `pip install matplotlib`"
    from fastact._command.bench import plot

    return plot.problem(Path(options.plot))


# Each of them is imported only when it is asked for: some import all that is installed.


def _run_overview(options: argparse.Namespace) -> None:
    from fastact._command.bench import overview

    results = overview.measure(options.size)
    _print(results, overview, options)


def _run_epoch(options: argparse.Namespace) -> None:
    from fastact._command.bench import epoch

    results = epoch.measure()
    _print(results, epoch, options)


def _run_peers(options: argparse.Namespace) -> None:
    from fastact._command import peers as packages
    from fastact._command.bench import plot, race, report

    peers = packages.installed()
    with np.errstate(all="ignore"):
        if options.peers:
            results = race.measure(peers)
            _print(results, report, options)
        if options.plot:
            plot.draw(peers, Path(options.plot))


def _print(results: dict[str, Any], module: Any, options: argparse.Namespace) -> None:
    """Print results as `--format` says; `module` writes the text and the tables."""
    facts = results["machine"]
    match options.format:
        case "json":
            print(json.dumps(finite(results), indent=2, allow_nan=False))
        case "text":
            print(module.report(results))
        case style:
            packages = results.get("peers") or {"NumPy": facts["numpy"]}
            tables = module.tables(results)
            print(document(tables, style, options.command_line, facts, packages))
