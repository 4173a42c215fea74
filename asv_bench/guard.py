#!/usr/bin/env python3
"""Compare a branch with main, and fail if it is slower.

    python guard.py [--base main] [--branch HEAD] [--only REGEX]
    python guard.py --times [--base main] [--branch HEAD] [--bench REGEX]

The first form counts instructions, which neither noise nor load changes. Both commits are built,
with the objects that are kept, and what was counted is kept with the build. What is worse is what
`count.py` calls so.

The second form, with asv, sees what counts cannot: division, latency, caches, threads, the size of
the package, memory and errors. What is worse by more than its threshold in asv.conf.json is only
a suspect: it is measured again, on both sides in turns, and stays one as long as the median over
all measurements is worse by as much, and the best of the branch worse than the worst of main. What
was chance goes away.

Exit status: 0 if nothing is worse. 1 if something is, if a benchmark fails on the branch, or
has no result there any more, if a commit does not build, or if nothing was compared.
"""

import argparse
import importlib
import itertools
import json
import math
import re
import sys
import tempfile
from pathlib import Path
from statistics import median

import count
import trees

HERE = Path(__file__).parent
# How often suspects are measured again: as long as there are any.
REPEATS = 5
# Where nothing works, this is enough to see.
SHOWN = 20


class Bench:
    """asv with results in a folder of its own, and the environment of this checkout."""

    def __init__(self, folder):
        util = importlib.import_module("asv.util")
        self.folder = Path(folder)
        config = util.load_json(str(HERE / "asv.conf.json"), js_comments=True)
        self.thresholds = config["regressions_thresholds"]
        for key in ("repo", "benchmark_dir", "env_dir"):
            config[key] = str((HERE / config[key]).resolve())
        config |= {"results_dir": "results", "html_dir": "html"}
        (self.folder / "asv.conf.json").write_text(json.dumps(config))

    def measure(self, commit, benches):
        """Run benchmarks with a commit: the figures by their names with parameters.

        A figure is None if it failed. What the commit does not have is left out.
        """
        selection = itertools.chain.from_iterable(("--bench", bench) for bench in benches)
        arguments = ("run", "--show-stderr", *selection, f"{commit}^!")
        from history import run_asv

        status = run_asv(*arguments, machine={"machine": "guard"}, folder=self.folder)
        paths = list((self.folder / "results" / "guard").glob(f"{commit[:8]}-*.json"))
        if status not in (0, 2) or not paths:
            raise SystemExit(f"guard: asv could not run the benchmarks with {commit}")
        (path,) = paths
        figures = {}
        for name, (values, parameters, *_) in json.loads(path.read_text())["results"].items():
            cases = [f"{name}({', '.join(case)})" for case in itertools.product(*parameters)]
            cases = cases if parameters else [name]
            figures |= zip(cases, values or itertools.repeat(None), strict=bool(values))
        path.unlink()
        figures = {name: v for name, v in figures.items() if v is None or not math.isnan(v)}
        if figures and all(value is None for value in figures.values()):
            raise SystemExit(f"guard: {commit} does not build, or no benchmark works with it")
        return figures

    def threshold(self, name):
        """Find what counts as noise, by the rule that asv has for its regressions."""
        return max(value for regex, value in self.thresholds.items() if re.match(regex, name))


def compare(bench, base, branch, regex):
    """Measure two commits; return the exit status."""
    # In this order, so that only one in two needs another installation.
    old = bench.measure(base, [regex])
    new = bench.measure(branch, [regex])
    failed = sorted(name for name in new if new[name] is None)
    gone = sorted(name for name in old.keys() - new.keys() if old[name] is not None)
    compared = [name for name in old if old[name] is not None and new.get(name) is not None]
    figures = {name: ([old[name]], [new[name]]) for name in compared}

    def ratio(name):
        return median(figures[name][1]) / median(figures[name][0])

    def is_worse(name):
        before, after = figures[name]
        apart = len(before) == 1 or min(after) > max(before)
        return apart and ratio(name) > 1 + bench.threshold(name)

    suspects = [name for name in compared if is_worse(name)]
    for repeat in range(1, REPEATS + 1):
        if not suspects:
            break
        print(f"guard: {len(suspects)} suspects, measured again ({repeat} of {REPEATS})")
        exact = [f"^{re.escape(name)}$" for name in suspects]
        sides = [(branch, 1), (base, 0)] if repeat % 2 else [(base, 0), (branch, 1)]
        for commit, side in sides:
            again = bench.measure(commit, exact)
            for name in suspects:
                if again.get(name) is not None:
                    figures[name][side].append(again[name])
        suspects = [name for name in suspects if is_worse(name)]

    print(f"\nguard: {branch[:8]} against {base[:8]}: {len(compared)} figures compared")
    for what, names in (("FAILED", failed), ("GONE", gone)):
        for name in names[:SHOWN]:
            print(f"{what}  {name}")
        if len(names) > SHOWN:
            print(f"{what}  ... and {len(names) - SHOWN} more")
    for name in sorted(suspects, key=ratio, reverse=True):
        old_value, new_value = map(median, figures[name])
        limit = 1 + bench.threshold(name)
        print(
            f"WORSE   {name}: {old_value:.4g} -> {new_value:.4g}, "
            f"{ratio(name):.2f} times (noise: up to {limit:.2f})"
        )
    if not compared:
        print("NOTHING was compared")
    bad = bool(failed or gone or suspects or not compared)
    print("guard: " + ("not good" if bad else "nothing is worse"))
    return int(bad)


def compare_counts(base, branch, only):
    """Count two commits; return the exit status."""
    try:
        before, after = (count.count_commit(commit, only) for commit in (base, branch))
    except count.CountError as error:
        print(f"guard: not counted: {error}")
        return 1
    lines = count.compare(before, after)
    print(f"\nguard: {branch[:8]} against {base[:8]}: {len(before)} counts compared")
    count.show(lines)
    print("guard: " + ("nothing is worse" if before and not lines else "not good"))
    return int(bool(lines) or not before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", default="main", help="what to compare with (main)")
    parser.add_argument("--branch", default="HEAD", help="what to judge (HEAD)")
    parser.add_argument("--only", default="", metavar="REGEX", help="which calls to count")
    parser.add_argument("--times", action="store_true", help="measure times and more, by asv")
    parser.add_argument("--bench", metavar="REGEX", help="which benchmarks of asv")
    options = parser.parse_args()
    commits = [trees.id_of(name) for name in (options.base, options.branch)]
    if not options.times:
        return compare_counts(*commits, options.only)
    from history import TIMES

    with tempfile.TemporaryDirectory(prefix="fastact-guard-") as folder:
        return compare(Bench(folder), *commits, options.bench or TIMES)


if __name__ == "__main__":
    sys.exit(main())
