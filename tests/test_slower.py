"""What `fastact bench --peers` ends with, and how it holds others to AVX2."""

import importlib
import subprocess
import sys

import pytest
from conftest import load_developers
from programs import output

from fastact._command import bench, console
from fastact._command import cli as command
from fastact._command import peers as command_peers
from fastact._command.bench import race, tables
from fastact._core import ufuncs as core

packages = load_developers()
if packages is None:
    pytest.skip("no asv_bench beside the tests: not the whole source tree", allow_module_level=True)
footprint = importlib.import_module(f"{command_peers.DEVELOPERS}.footprint")


def result_of(name, own, excluded=(), **peers):
    """Make what a case has as its result, from nanoseconds."""
    seconds = {name: ns * 1e-9 for name, ns in {"fastact": own, **peers}.items()}
    return {"case": name, "elements": 16, "seconds": seconds, "excluded": excluded}


RESULTS = {
    "peers": {"A": "1", "B": "2"},
    "rows": [
        {"work": "first", "cases": [result_of("a", 20, A=40, B=16)]},
        {
            "work": "second",
            "cases": [
                result_of("b", 10.04, A=10, memcpy=1),
                result_of("c", 30, ["A"], A=10),
                result_of("d", 20, memcpy=1),
            ],
        },
    ],
}


def test_rows_above_one():
    results = RESULTS | race.slower(RESULTS) | {"hold": None, "left_out": []}
    assert results["compared"] == 3
    title, cells, _ = tables.slower(results)
    assert title == "2 of 3 rows above 1.00 of the fastest other"
    assert cells[1:] == [
        ("c", "second", "A (inexact)", "30 ns", "10 ns", "3.00"),
        ("a", "first", "B", "20 ns", "16 ns", "1.25"),
    ]
    title, cells, _ = tables.slower(results | {"above": [], "hold": "avx2", "left_out": ["C"]})
    assert title == (
        "0 of 3 rows above 1.00 of the fastest other, "
        "all held to avx2, without C, which cannot be held"
    )
    assert cells == []


# ----------------------------------------------------------------------------- --hold


@pytest.fixture
def held(monkeypatch):
    """Make it seem that this process has been started so."""
    if "avx2" not in core.supported:
        pytest.skip("no AVX2")
    for name, value in packages.held_to_avx2().items():
        monkeypatch.setenv(name, value)


class Free(command_peers.Peer):
    """A peer that cannot be held."""

    name, modules, avx2 = "free", ("numpy",), None


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_peers_that_cannot_be_held(held, monkeypatch, capsys, form):
    def measure(peers, goals):
        assert [peer.name for peer in peers] == ["NumPy"]
        rest = {"machine": console.machine(), "all_threads": 1, "rows": [], "errors": []}
        return rest | {"peers": {"NumPy": "1"}}

    monkeypatch.setattr(packages, "installed", lambda: [command_peers.NumPy(), Free()])
    monkeypatch.setattr(race, "measure", measure)
    monkeypatch.setattr(footprint, "measure", list)
    assert command.main(["bench", "--peers", "--hold", "avx2", "--format", form]) == 0
    *_, last, source = capsys.readouterr().out.split("\n\n")
    counted = (last if form == "markdown" else source).strip().strip("*.")
    assert counted == (
        "0 of 0 rows above 1.00 of the fastest other, "
        "all held to avx2, without free, which cannot be held"
    )


def test_holding_starts_another_process(held, monkeypatch):
    started = []

    def run(command, env):
        started.append((command, env))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("FASTACT_ISA")
    arguments = ["bench", "--peers", "--hold", "avx2", "--json"]
    assert command.main(arguments) == 3
    monkeypatch.setattr(sys, "argv", ["fastact", *arguments])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-P", "bin/fastact", *arguments])
    assert command.main() == 3
    (first, env), (second, _) = started
    assert first == [sys.executable, "-m", "fastact", *arguments]
    assert second == [sys.executable, "-P", "bin/fastact", *arguments]
    assert env["FASTACT_ISA"] == "avx2"
    assert env["NUMBA_CPU_FEATURES"] == ""


# What each package says that it uses.
HELD = {
    "fastact": "import fastact._core.ufuncs as f; assert f.isa == 'avx2'",
    # Of what it has loops for: AVX512F alone, for example, is none.
    "numpy": "from numpy._core import _multiarray_umath as c; f = c.__cpu_features__;"
    "on = [n for n in c.__cpu_dispatch__ if f[n]]; assert on, on;"
    "assert not [n for n in on if n == 'X86_V4' or n.startswith('AVX512')], on",
    "torch": "import torch; assert torch.backends.cpu.get_cpu_capability() == 'AVX2'",
    "numba": "from numba.core.registry import cpu_target as t;"
    "c = t.target_context.codegen(); assert c._get_host_cpu_name() == 'haswell';"
    "assert '+avx512' not in c._get_host_cpu_features()",
}


@pytest.mark.parametrize("package", HELD)
def test_variables_hold_packages(held, package):
    pytest.importorskip(package)
    output(HELD[package], **packages.held_to_avx2())


@pytest.mark.parametrize(
    ("names", "reason"), [("avx512 avx2", ""), ("baseline", "this processor or build has baseline")]
)
def test_hold_where_there_is_no_avx2(monkeypatch, names, reason):
    monkeypatch.setattr(bench, "supported", tuple(names.split()))
    options = command._parser().parse_args(["bench", "--peers", "--hold", "avx2"])
    assert reason in (bench.problem(options) or "")
