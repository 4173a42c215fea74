"""The command ``fastact check``: the error of every result, and the same bits everywhere.

Results in float16, bfloat16 and float32 are compared with `Operation.exact`, evaluated in float64
by NumPy, and those in float64 with the same formula in numbers of 200 bits, if gmpy2 is installed,
or else in `numpy.longdouble`, where this has 64 bits. docs/accuracy.md says how exact these are,
and what is a proof and what is evidence.

For 16-bit types, all inputs are tried, with 16 pseudo-random gradients each, and with all
gradients next to a zero of the derivative. NaNs of float32 and float64 have random payloads. Of
operations on rows, such as softmax, rows of several lengths and scales are tried: see `rows`.

The results of each instruction set are compared with those of the first one, bit for bit. The
exception: where two or more operands are not finite, every NaN is the same, because IEEE 754 does
not say which of two becomes the result. Where the bits are the same, so is the error, and it is
not measured again.
"""

import argparse
import contextlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastact._command import peers
from fastact._command.check.measure import run_sweep
from fastact._command.check.report import as_table, as_text, place_in_table
from fastact._command.check.rows import list_row_sweeps
from fastact._command.check.sweeps import Sweep, list_peer_sweeps, list_sweeps
from fastact._command.console import finite, machine, progress
from fastact._command.markup import as_markdown
from fastact._command.peers import Peer
from fastact._core.runtime.threads import get_num_threads

INTERRUPTED = 130


def run(options: argparse.Namespace) -> int:
    """Check what is asked for, and print it.

    Returns 0; or 1 if a bound is broken or there is a fault; or 130 if interrupted before.
    """
    others = {"NumPy": np.__version__}
    if options.peers:
        installed: list[Peer] = peers.load_developers().installed()
        others |= {peer.name: peer.version for peer in installed}
        with contextlib.ExitStack() as stack:
            # Not all of them can be called from several threads.
            for peer in installed:
                stack.enter_context(peer.threads(1))
            rows, complete = _check(list(list_peer_sweeps(options, installed)), 1)
    else:
        sweeps = [*list_sweeps(options), *list_row_sweeps(options)]
        rows, complete = _check(sweeps, get_num_threads())
    broken = any(row["broken"] for row in rows)
    facts = machine()
    if options.format == "json":
        results = {
            "machine": facts,
            "exhaustive": options.exhaustive,
            "complete": complete,
            "rows": rows,
        }
        print(json.dumps(finite(results), indent=2, allow_nan=False))
    elif options.format == "text":
        print(as_text(rows, complete))
    else:
        tables = [as_table(rows, complete)]
        print(as_markdown(tables, facts, others, options.command_line))
    return 1 if broken else 0 if complete else INTERRUPTED


def _check(sweeps: Sequence[Sweep], workers: int) -> tuple[list[dict[str, Any]], bool]:
    """Run the sweeps until the end or Ctrl-C."""
    rows: list[dict[str, Any]] = []
    total = sum(sweep.cost * sweep.inputs.size for sweep in sweeps)
    past = shown = 0
    with progress(100) as step:

        def advance(done: int) -> None:
            nonlocal shown
            while shown < 100 * (past + sweep.cost * done) // total:
                step(f"{sweep.operation.name} {sweep.dtype} {sweep.operands}".strip())
                shown += 1

        for sweep in sweeps:
            tallies, complete = run_sweep(sweep, workers, advance)
            rows += [
                place_in_table(sweep, who, tally, complete)
                for who, tally in zip(sweep.computes, tallies, strict=True)
            ]
            if not complete:
                return rows, False
            past += sweep.cost * sweep.inputs.size
    return rows, True
