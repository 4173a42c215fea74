#!/usr/bin/env python3
"""Compare a function of this source tree with that of a commit: instructions, and time.

    python asv_bench/compare.py NAME [--base HEAD] [--shape 65536] [--dtype float32] [--isa NAME]

The tree is built in place already. The commit is built into build/compare, for the same
instruction sets and with the objects that the tree has kept, so that only what differs is compiled.
Times are medians of processes in alternating rounds, in processor time. Instructions are those of
one call, counted by callgrind if valgrind is installed. It does not run AVX-512: they are counted
with the next best instruction set.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from statistics import median

from trees import ROOT, built, tree_of

ROUNDS = 7
COUNTED = "__pyx_f_7fastact_5_core_5calls_*fast_call"  # with or without a name of its file

CALLS = """
import sys, time
folder, name, shape, dtype, once = sys.argv[1:]
sys.path.insert(0, folder)
import numpy as np
import fastact
from fastact._core import operations
assert fastact.__file__.startswith(folder), fastact.__file__
fastact.set_num_threads(1)
records = {r.name: r for r in (*operations.OPERATIONS, *operations.ROW_OPERATIONS)}
if name not in records:
    sys.exit(f"no function {name!r}; choose one of: {', '.join(records)}")
function, record = getattr(fastact, name), records[name]
count = len(record.operands) - (record.default is not None)
random = np.random.default_rng(0)
shape = tuple(map(int, shape.split(",")))
operands = [(4 * random.standard_normal(shape)).astype(dtype) for _ in range(count)]
out = np.empty_like(operands[0])
function(*operands, out=out)
if once == "no":
    def run(n):
        start = time.process_time()
        for _ in range(n):
            function(*operands, out=out)
        return (time.process_time() - start) / n * 1e9
    n = max(1, int(2e6 / max(run(5), 1)))
    print(sorted(run(n) for _ in range(25))[12])
"""


def call(folder, options, isa, once, *tool):
    """Run calls with a tree in a process of its own, and return what it prints."""
    command = [*tool, sys.executable, "-c", CALLS, str(folder), options.name, options.shape]
    done = subprocess.run(
        [*command, options.dtype, once],
        env=os.environ | {"FASTACT_ISA": isa},
        capture_output=True,
        text=True,
        cwd="/",
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout + done.stderr


def instructions(folder, options, isa):
    """The instructions of one call."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    said = call(folder, options, isa, "yes", *tool, f"--toggle-collect={COUNTED}")
    return int(re.search(r"Collected : (\d+)", said)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="the function, such as sigmoid")
    parser.add_argument("--base", default="HEAD", help="what to compare with (HEAD)")
    parser.add_argument("--shape", default="65536", help="of the operands, such as 64,1000 (65536)")
    parser.add_argument("--dtype", default="float32", help="of the operands (float32)")
    parser.add_argument("--isa", help="the instruction set (the best that was built)")
    options = parser.parse_args()
    targets = built(ROOT)
    if not targets:
        sys.exit("nothing is built here: run python setup.py build_ext --inplace")
    if options.isa and options.isa not in targets:
        sys.exit(f"{options.isa} is not built; choose one of: {', '.join(targets)}")
    isa = options.isa or targets[0]
    trees = [tree_of(options.base, targets), ROOT]
    times = [[], []]
    for _ in range(ROUNDS):
        for tree, found in zip(trees, times, strict=True):
            found.append(float(call(tree, options, isa, "no")))
    before, after = map(median, times)
    spread = max(max(found) / min(found) for found in times) - 1
    what = f"{options.name} {options.dtype} {options.shape}"
    print(f"{what}, {options.base} -> this tree")
    noise = f"{isa}; spread {spread:.0%}"
    print(f"time          {before:10.0f} -> {after:10.0f} ns, {after / before:.3f} times ({noise})")
    counted = [name for name in targets if name != "avx512"]
    if not shutil.which("valgrind") or not counted:
        reason = "there is no valgrind" if counted else "valgrind does not run AVX-512"
        print(f"instructions  not counted: {reason}")
        return
    isa = isa if isa in counted else counted[0]
    before, after = (instructions(tree, options, isa) for tree in trees)
    print(f"instructions  {before:10d} -> {after:10d} a call, {after / before:.3f} times ({isa})")


if __name__ == "__main__":
    main()
