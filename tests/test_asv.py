"""asv_bench: its configuration, what asv takes from the benchmarks, and the guard."""

from pathlib import Path

import pytest
from programs import output

FOLDER = Path(__file__).parents[1] / "asv_bench"


def test_configuration_has_only_keys_that_asv_knows():
    # asv itself takes any.
    config = pytest.importorskip("asv.config")
    util = pytest.importorskip("asv.util")
    keys = util.load_json(str(FOLDER / "asv.conf.json"), js_comments=True).keys()
    assert keys - vars(config.Config()).keys() == {"version"}


def test_benchmarks_say_what_they_are(benchmarks):
    for benchmark in benchmarks:
        # Otherwise a hash of the code: any edit would end the history.
        assert isinstance(benchmark.suite.version, str), f"{benchmark.name} has no version"
        method = getattr(benchmark.suite, benchmark.name.rpartition(".")[2])
        assert method.pretty_name, f"{benchmark.name} has no pretty_name"
        if benchmark.kind == "track":
            assert method.unit != "unit", f"{benchmark.name} has no unit"
        if hasattr(benchmark.suite, "params"):
            assert benchmark.suite.param_names, f"{benchmark.name} has no param_names"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc")
def test_import_starts_no_threads():
    # The benchmarks are forked from a process that has imported them, and OpenMP hangs in a
    # child if it has run in the parent.
    program = f"""\
import os, sys
import numpy
threads = len(os.listdir("/proc/self/task"))  # those of OpenBLAS
sys.path.insert(0, {str(FOLDER)!r})
from benchmarks import accuracy, footprint, ratios, times
assert len(os.listdir("/proc/self/task")) == threads
"""
    output(program)


class Bench:
    """In place of asv: figures of a benchmark, one after the other; the last one stays."""

    def __init__(self, **figures):
        self.figures = {commit: list(values) for commit, values in figures.items()}

    def measure(self, commit, benches):
        values = self.figures[commit]
        value = values.pop(0) if len(values) > 1 else values[0]
        return {} if value == "n/a" else {"a benchmark": value}

    def threshold(self, name):
        return 0.1


@pytest.mark.parametrize(
    ("main", "branch", "status"),
    [
        ([1.0], [1.05], 0),
        ([1.0], [0.5], 0),
        ([1.0], [1.2], 1),
        ([1.0], [2.0, 1.0], 0),
        ([1.0, 1.3, 1.0], [1.2], 0),  # main has been as slow
        (["n/a"], [1.0], 1),  # nothing to compare
        ([1.0], ["n/a"], 1),
        ([1.0], [None], 1),
        ([None], [1.0], 1),
    ],
)
def test_guard(monkeypatch, main, branch, status):
    pytest.importorskip("asv")
    monkeypatch.syspath_prepend(FOLDER)
    import guard

    assert guard.compare(Bench(main=main, branch=branch), "main", "branch", "") == status
