"""asv_bench: its configuration, what asv takes from the benchmarks, the guard, and counts."""

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
    ("before", "after", "told"),
    [
        ({"relu": 400}, {"relu": 408}, []),
        ({"relu": 400}, {"relu": 409}, ["WORSE    relu: 400 -> 409 instructions, +2.25%"]),
        ({"relu": 400}, {"relu": 300, "tanh": 1}, []),
        ({"relu": 100_000}, {"relu": 100_500}, []),
        ({"relu": 9000}, {"relu": 9090}, ["WORSE    relu: 9000 -> 9090 instructions, +1.00%"]),
        ({"relu where": 10_000}, {"relu where": 10_300}, []),  # most of it is NumPy's
        ({"relu": 400, "tanh": 400}, {"relu": 400}, ["MISSING  tanh"]),
        (
            {"relu": 10_000, "tanh": 10_000},
            {"relu": 11_000, "tanh": 12_000},
            [
                "WORSE    tanh: 10000 -> 12000 instructions, +20.00%",
                "WORSE    relu: 10000 -> 11000 instructions, +10.00%",
            ],
        ),
    ],
)
def test_counts_that_are_worse(monkeypatch, before, after, told):
    monkeypatch.syspath_prepend(FOLDER)
    import count

    assert count.compare(before, after) == told


def test_counts_are_kept(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    import count

    facts = ["compiler: a", "Python: b"]
    counts = {"avx2 tanh float32 16 out": 3, "avx2 import": 12345678}
    count.write(facts, counts, tmp_path / "file")
    assert count.read(tmp_path / "file") == (facts, counts)
    assert count.read(tmp_path / "none") == ([], {})
    # Those that are in git.
    known, counts = count.read()
    assert [fact.partition(":")[0] for fact in known] == [
        *("compiler", "Cython", "Python", "NumPy", "C library", "valgrind")
    ]
    assert {name.split()[0] for name in counts} == set(count.SETS)
    assert all(number > 0 for number in counts.values())


def test_why_nothing_is_counted(monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    import count

    monkeypatch.setitem(count.ENVIRONMENT, "PATH", "/nowhere")
    monkeypatch.setattr("sys.argv", ["count.py"])
    assert count.main() == 3
    assert capsys.readouterr().out == (
        "count: not counted: there is no valgrind (Debian: apt install valgrind)\n"
    )
    said = "vex amd64->IR: unhandled instruction bytes: 0x62\nvalgrind: unrecognised instruction"
    with pytest.raises(count.CountError, match="unrecognised instruction"):
        count.run(["/bin/sh", "-c", f"echo '{said}'; exit 1"])


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
    monkeypatch.syspath_prepend(FOLDER)
    import guard

    assert guard.compare(Bench(main=main, branch=branch), "main", "branch", "") == status
