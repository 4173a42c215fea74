"""The arguments of the command ``fastact``, or ``python -m fastact``, and ``fastact info``."""

import argparse
import io
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from fastact import __version__
from fastact._core.operations import OPERATIONS, ROW_OPERATIONS
from fastact._core.ufuncs import supported

# Far larger than every cache. The arrays of float64 still take less than 2 GiB together.
MAX_SIZE = 1 << 24
DEFAULT_SIZE = 65536


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, by default with the arguments of the process; returns the exit status."""
    if sys.stderr is None:  # closed: print and argparse would write to stdout
        sys.stderr = io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8")
    problem = ""
    try:
        try:
            return _run(arguments)
        finally:  # --help and --version end with SystemExit
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:  # as in `fastact info | head -1`
        pass
    except OSError as error:  # a full disk, for example
        problem = f"fastact: error: {error}\n"
    for stream, text in (sys.stdout, ""), (sys.stderr, problem):
        if stream is None:
            continue
        try:
            stream.write(text)
            stream.flush()
        except OSError:  # Python would try to write it again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 1


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    if sys.stdout is None:
        raise OSError("stdout is closed")
    given = sys.argv[1:] if arguments is None else arguments
    options.command_line = shlex.join(["fastact", *given])
    # What to start Python with, to run the same in another process.
    options.again = sys.orig_argv[1:] if arguments is None else ["-m", "fastact", *given]
    status: int = options.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastact", description="Activation functions for NumPy.", formatter_class=_formatter
    )
    parser.add_argument("--version", action="version", version=f"fastact {__version__}")
    # With `prog`, no formatter is needed now.
    commands = parser.add_subparsers(required=True, metavar="command", prog=parser.prog)

    info = _add(commands, "info", "tell what is built, supported and in use", _INFO)
    info.set_defaults(run=_info)

    bench = _add(commands, "bench", "compare speed and error with NumPy, on this machine", _BENCH)
    bench.add_argument("--size", type=_size, metavar="N", help=f"elements, default {DEFAULT_SIZE}")
    bench.add_argument(
        "--peers",
        action="store_true",
        help="compare with all of SciPy, PyTorch, numba, numexpr, ONNX Runtime and JAX that are "
        "installed, at work of all kinds; takes some minutes, and needs a source tree",
    )
    bench.add_argument(
        "--hold",
        choices=("avx2",),
        help="with --peers, on a processor with AVX-512: let no package use more than AVX2; leaves "
        "out ONNX Runtime, which cannot be held",
    )
    bench.add_argument(
        "--epoch",
        action="store_true",
        help="compare an epoch of training with plain NumPy, PyTorch and scikit-learn instead; "
        "needs a source tree",
    )
    bench.add_argument(
        "--plot",
        type=_file,
        metavar="FILE",
        help="draw time over size, for all of them (needs matplotlib)",
    )
    bench.set_defaults(run=_bench, refuse=bench.error)

    check = _add(commands, "check", "measure the error of every result, on this machine", _CHECK)
    check.add_argument("--exhaustive", action="store_true", help="try every float32 input")
    check.add_argument("--peers", action="store_true", help="other packages, in a source tree")
    check.add_argument("--isa", choices=supported, help="one instruction set only")
    names = [record.name for record in OPERATIONS] + [record.name for record in ROW_OPERATIONS]
    check.add_argument("--operation", choices=names, metavar="NAME", help="one operation only")
    check.set_defaults(run=_check, refuse=check.error)

    for command in (info, bench, check):
        formats = command.add_mutually_exclusive_group()
        if command is not info:
            formats.add_argument(
                "--format",
                choices=("text", "json", "markdown"),
                default="text",
                help="what to write; the tables of markdown are for a page, and say where and when "
                "they were measured",
            )
        formats.add_argument(
            "--json", dest="format", action="store_const", const="json", help="write JSON"
        )
    return parser


_INFO = """\
examples:
  fastact info          the version, the instruction set, the threads
  fastact info --json   the same for a program
"""
_BENCH = """\
examples:
  fastact bench                      every function against NumPy
  fastact bench --size 1000          the same, for arrays of 1,000 elements
  fastact bench --peers              against every package that is installed
  fastact bench --peers --hold avx2  the same, with nothing beyond AVX2
  fastact bench --plot speed.svg     a picture of time over size
  fastact bench --format markdown    a table for a page
"""
_CHECK = """\
examples:
  fastact check                                   all functions, by samples
  fastact check --operation sigmoid               one function
  fastact check --exhaustive --operation sigmoid  all of its float32 inputs
  fastact check --format markdown                 a table for a page
"""


def _add(commands: Any, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """Add a command, whose help ends with examples."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=_formatter,
    )
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Format the help, in colors where stdout is a terminal and rich-argparse is installed.

    It is imported only for that: it takes longer than `fastact info`.
    """
    try:
        from rich_argparse import RawDescriptionRichHelpFormatter
    except ImportError:
        return argparse.RawDescriptionHelpFormatter(prog)
    return RawDescriptionRichHelpFormatter(prog)


def _size(text: str) -> int:
    # As a float, because int() refuses thousands of digits.
    size = float(text) if text.isdecimal() else 0
    if not 1 <= size <= MAX_SIZE:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a number from 1 to {MAX_SIZE}")
    return int(size)


def _file(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted the name of a file")
    return text


# ------------------------------------------------------------------------- info


def _info(options: argparse.Namespace) -> int:
    from fastact._command.console import machine, table

    facts = machine()
    if options.format == "json":
        print(json.dumps(facts, indent=2))
        return 0
    lines = [(name.replace("_", " "), _text(value)) for name, value in facts.items()]
    print(table(lines, left=2))
    return 0


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else str(value)


# ------------------------------------------------------------------ bench and check


def _bench(options: argparse.Namespace) -> int:
    from fastact._command import bench

    given = [name for name in ("size", "epoch", "peers", "plot") if getattr(options, name)]
    if len(given) > 1 and given != ["peers", "plot"]:
        # Whatever else is given does not go with the first one.
        options.refuse(f"--{given[0]} and --{given[1]} do not go together")
    options.size = options.size or DEFAULT_SIZE
    if problem := bench.problem(options):
        options.refuse(problem)
    return bench.run(options)


def _check(options: argparse.Namespace) -> int:
    from fastact._command import check
    from fastact._command.peers import NO_DEVELOPERS, load_developers

    if options.peers and load_developers() is None:
        options.refuse(NO_DEVELOPERS)
    return check.run(options)
