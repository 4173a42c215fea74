#!/usr/bin/env python3
"""Count the instructions of every call that matters, and compare them with instructions.txt.

    python asv_bench/count.py [--accept | --base COMMIT] [--only REGEX] [--twice]

callgrind counts what a call executes, to the last instruction: the same in every run, whatever
else the machine does. It does not see caches, latency, division and threads. It runs AVX2 and the
baseline, not AVX-512.

Exit status: 0 if nothing is worse; 1 if something is, if a line of the file is missing, or if the
calls fail; 3 if nothing can be counted here, with the reason.

instructions.txt has the counts of the last commit that changed them, one line a call. --accept
writes it. It holds for the compiler and the versions that its head names. With others, the parent
commit is built and counted, too, and compared with; --base does so with any commit.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SNAPSHOT = HERE / "instructions.txt"
SETS = "avx2", "baseline"
# What a call may be worse by: a share of its instructions, and in small calls so many.
SHARE, FEW = 0.005, 8
# Code of NumPy and Python looks up addresses in hash tables, which depend on where both are.
OTHERS_CODE = re.compile(
    " (where|bfloat16 1 scalar|slope of float64|axis 0|forward|backward|step)$"
)
FEW_OF_OTHERS, SHARE_OF_WHERE = 300, 0.02
SHOWN = 20
# By how much two counts of the same may differ.
EQUAL = 1e-4
# Held still: hashes, threads, the choice of OpenBLAS, and whatever the user has set. All memory
# comes from counted_malloc.c.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C",
    "PYTHONHASHSEED": "0",
    "PYTHONMALLOC": "malloc",
    "FASTACT_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENBLAS_CORETYPE": "Haswell",
}


class CountError(Exception):
    """Why nothing can be counted here."""


class FailedError(CountError):
    """What went wrong, though it can be counted here."""


def run(command, **options):
    """Run a program in the environment, and return what it prints."""
    environment = ENVIRONMENT | options.pop("env", {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, **options)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        unknown = [line for line in said if re.search("unhandled|unrecognised", line)]
        if unknown:
            raise CountError("\n".join(unknown))
        raise FailedError("\n".join(said[-5:]) or f"{command[0]}: exit {done.returncode}")
    return done.stdout


def facts(python, folder):
    """The versions that counts depend on, and the compiler of the installed fastact."""
    program = """
import glob, os, platform, re, sys
import numpy, fastact
names = glob.glob(os.path.join(os.path.dirname(fastact.__file__), "**", "*.so"), recursive=True)
text = b"".join(open(name, "rb").read() for name in names)
def found(pattern):
    return " ".join(sorted({m.decode() for m in re.findall(pattern, text)})) or "unknown"
print("compiler:", found(rb"GCC: \\(.*?\\) [0-9.]+|clang version [0-9.]+"))
print("Cython:", found(rb"_cython_([0-9_]+[0-9])").replace("_", "."))
print("Python:", platform.python_version())
print("NumPy:", numpy.__version__)
print("C library:", " ".join(platform.libc_ver()))
"""
    said = run([python, "-c", program], cwd="/", env=path_of(folder))
    version = run(["valgrind", "--version"]).strip()
    return [*said.splitlines(), f"valgrind: {version.removeprefix('valgrind-')}"]


def path_of(folder):
    """The environment in which fastact comes from a folder, if there is one."""
    return {"PYTHONPATH": str(folder)} if folder else {}


def build_libraries(python, work):
    """Compile counted.c for a Python, and the allocator: the paths of both."""
    include = run([python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"]).strip()
    compiler = shlex.split(os.environ.get("CC") or "cc")
    paths = work / "counted.so", work / "counted_malloc.so"
    for path in paths:
        source = HERE / path.with_suffix(".c").name
        # Otherwise, gcc makes a call of calloc of what is in calloc.
        flags = ["-shared", "-fPIC", "-O1", "-fno-builtin-malloc", f"-I{include}"]
        command = [*compiler, *flags, str(source), "-o", str(path)]
        run(command, env={"PATH": os.environ["PATH"]})
    return paths


def build_clients(python, folder, work):
    """Build the clients of the compiled API, if the installed fastact has one."""
    client = work / "client"
    shutil.copytree(HERE.parent / "tests" / "compiled" / "client", client)
    for language in "c", "cython":
        # An old commit may lack a door, and an environment Cython.
        with contextlib.suppress(CountError):
            run(
                [python, "-P", "setup.py", "-q", "build_ext", "--inplace"],
                cwd=client,
                env=path_of(folder) | {"CLIENT": language, "PATH": os.environ["PATH"]},
            )
    return client


def count_set(python, folder, isa, only, libraries, clients, work):
    """Count the calls of one instruction set."""
    work = Path(tempfile.mkdtemp(dir=work))
    valgrind = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--instr-atstart=no"]
    library, allocator = map(str, libraries)
    program = [python, "-P", str(HERE / "counted.py"), library, str(clients), only, isa]
    environment = path_of(folder) | {"FASTACT_ISA": isa, "LD_PRELOAD": allocator}
    # First without valgrind: Python compiles what is imported, and errors show within a second.
    for tool in [], [*valgrind, "--callgrind-out-file=out"]:
        run([*tool, *program], cwd=work, env=environment)
    counts = {}
    for path in work.glob("out.*"):
        text = path.read_text()
        if named := re.search(r"^desc: Trigger: Client Request: (.*): (\d+)$", text, re.M):
            total = int(re.search(r"^(?:summary|totals): (\d+)$", text, re.M)[1])
            counts[named[1]] = round(total / int(named[2]))
    return counts


def count(python=sys.executable, folder=None, only="", twice=False, sets=SETS):
    """Count the calls of the fastact that a Python imports.

    Parameters
    ----------
    python : str, default sys.executable
    folder : path, optional
        A source tree that is built in place, in place of what is installed.
    only : str, default ""
        A regular expression: which calls, by their names.
    twice : bool, default False
        Whether those of the first instruction set are counted twice, at once: both counts must be
        equal.
    sets : sequence of str
        The instruction sets.

    Returns
    -------
    facts : list of str
        What the counts depend on: the compiler, and versions.
    counts : dict
        The instructions of a call, by its name.

    Raises
    ------
    CountError
        If there is no valgrind, or if it does not know an instruction.
    FailedError
        If the program fails, or if two counts differ.
    """
    if not shutil.which("valgrind", path=ENVIRONMENT["PATH"]):
        raise CountError("there is no valgrind (Debian: apt install valgrind)")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count()) as pool:
        work = Path(name)
        known = facts(python, folder)
        clients = build_clients(python, folder, work)
        libraries = build_libraries(python, work)

        def one(isa):
            return count_set(python, folder, isa, only, libraries, clients, work)

        counts = list(pool.map(one, [*sets, *sets[:1]] if twice else sets))
    first = {name: number for found in counts[: len(sets)] for name, number in found.items()}
    second = {name: number for found in counts[len(sets) :] for name, number in found.items()}
    apart = [
        f"{name}: {first[name]}, {number}"
        for name, number in second.items()
        if abs(first[name] - number) > EQUAL * number
    ]
    if apart:
        raise FailedError("\n".join(["two counts differ:", *apart]))
    return known, first


def count_commit(commit, only=""):
    """Build a commit and count its calls: all are counted once, and kept beside the build."""
    from trees import tree_of

    tree = tree_of(commit, SETS)
    known = [*facts(sys.executable, tree), f"counted by: {digest()}"]
    kept = tree / "instructions.txt"
    before, counts = read(kept)
    if before != known:
        write(known, count(folder=tree)[1], kept)
        counts = read(kept)[1]
    return {name: number for name, number in counts.items() if re.search(only, name)}


def digest():
    """The digest of what counts, and of the table of calls."""
    names = "counted.py", "counted.c", "counted_malloc.c", "benchmarks/_cases.py"
    paths = [HERE / name for name in names]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


# ------------------------------------------------------------------------ snapshot


def read(path=SNAPSHOT):
    """Read a snapshot: its facts and its counts; empty if there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    counts = dict(line.rsplit(None, 1) for line in lines if not line.startswith("#"))
    known = [line[2:] for line in lines if line.startswith("# ") and ": " in line]
    return known, {name: int(number) for name, number in counts.items()}


def write(known, counts, path=SNAPSHOT):
    """Write a snapshot."""
    lines = [f"# {fact}" for fact in known]
    lines += [f"{name:<62} {counts[name]:>9}" for name in sorted(counts)]
    path.write_text("\n".join(lines) + "\n")


def is_worse(name, before, after):
    """Whether a call has become slower by more than is allowed."""
    few = FEW_OF_OTHERS if OTHERS_CODE.search(name) else FEW
    share = SHARE_OF_WHERE if name.endswith(" where") else SHARE
    return after - before > max(few, share * before)


def compare(before, after):
    """Lines that say what is worse, worst first, and what is missing."""
    worse = [name for name in before if name in after and is_worse(name, before[name], after[name])]
    worse.sort(key=lambda name: before[name] / after[name])
    lines = [
        f"WORSE    {name}: {before[name]} -> {after[name]} instructions, "
        f"{after[name] / before[name] - 1:+.2%}"
        for name in worse
    ]
    return lines + [f"MISSING  {name}" for name in before if name not in after]


def show(lines):
    """Print the first of many lines: one cause may make every call worse."""
    print(*lines[:SHOWN], sep="\n", end="\n" if lines else "")
    if len(lines) > SHOWN:
        print(f"... and {len(lines) - SHOWN} more")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--accept", action="store_true", help="write instructions.txt anew")
    what.add_argument("--base", help="compare with a commit in place of instructions.txt")
    parser.add_argument("--twice", action="store_true", help="count AVX2 twice, at once")
    parser.add_argument("--only", default="", metavar="REGEX", help="some calls, by their names")
    parser.add_argument(
        "--installed", action="store_true", help="count what is installed, not this source tree"
    )
    options = parser.parse_args()
    folder = None if options.installed else HERE.parent
    try:
        return judge(options, folder)
    except CountError as error:
        print(f"count: not counted: {error}")
        return 1 if isinstance(error, FailedError) else 3


def judge(options, folder):
    """Count as the options say, and return the exit status."""
    known, counts = count(folder=folder, only=options.only, twice=options.twice)
    if not counts:
        raise CountError(f"no call matches {options.only!r}")
    if options.accept:
        return accept(known, counts, options.only)
    base = options.base
    wanted, before = read()
    if not base and wanted != known:
        base = parent()
        for line in sorted(set(wanted) ^ set(known)):
            print(f"{'-' if line in wanted else '+'} {line}")
        print(f"instructions.txt is of other versions: compared with {base} instead")
    if base:
        before = count_commit(base, options.only)
    before = {name: n for name, n in before.items() if re.search(options.only, name)}
    lines = compare(before, counts)
    better = sum(counts[name] < before[name] for name in before if name in counts)
    show(lines)
    print(
        f"{len(counts)} calls counted: {len(lines)} worse or missing, {better} better, "
        f"{len(counts.keys() - before.keys())} new"
    )
    if lines and not base:
        print("what is meant is accepted by: python asv_bench/count.py --accept")
    return int(bool(lines))


def parent():
    """The commit that this tree changes: HEAD, or the one before if nothing has changed since."""
    command = ["git", "status", "--porcelain"]
    said = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    base = "HEAD" if said.stdout else "HEAD^"
    command = ["git", "rev-parse", "--verify", "-q", base]
    if subprocess.run(command, cwd=HERE.parent, capture_output=True).returncode:
        raise CountError(f"there is no commit {base} here to compare with")
    return base


def accept(known, counts, only):
    """Write the snapshot, or a part of it."""
    kept = {}
    if only:
        wanted, kept = read()
        if kept and wanted != known:
            raise CountError("instructions.txt is of other versions: accept without --only")
        kept = {name: n for name, n in kept.items() if not re.search(only, name)}
    write(known, kept | counts)
    print(f"{len(counts)} counts written to {SNAPSHOT.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
