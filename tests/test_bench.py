"""The command `fastact bench`: what it reports, never how fast anything is."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import load_developers
from reference import BY_NAME as EXPECTATIONS

import fastact
from fastact._command import cli as command
from fastact._command import errors, samples, timing
from fastact._command import peers as command_peers
from fastact._command.bench import arrays, cases, plot, race, tables
from fastact._command.markup import Bold
from fastact._core.operations import BY_NAME, OPERATIONS, ROW_OPERATIONS
from fastact._core.runtime import threads

packages = load_developers()
if packages is None:
    pytest.skip("no asv_bench beside the tests: not the whole source tree", allow_module_level=True)
epoch, footprint, goals, trainers = (
    importlib.import_module(f"{command_peers.DEVELOPERS}.{name}")
    for name in ("epoch", "footprint", "goals", "trainers")
)

NAMES = list(BY_NAME)
ROWS = [operation.name for operation in ROW_OPERATIONS]

# The types that every peer supports. The operations are in tests/reference.py.
PEER_DTYPES = {
    "NumPy": ["float16", "float32", "float64", "bfloat16"],
    "SciPy": ["float16", "float32", "float64", "bfloat16"],
    "PyTorch": ["float16", "float32", "float64", "bfloat16"],
    "numba": ["float32", "float64"],
    "numexpr": ["float32", "float64"],
    "ONNX Runtime": ["float16", "float32", "float64"],
    "JAX": ["float16", "float32", "float64", "bfloat16"],
}

# How far off results may be, relative to 1 or to themselves, if not 20 eps. JAX multiplies the
# rounded 1 - tanh(u)**2 by x u'(x) / 2, which is 23 at x = 7.2: 69 eps were seen.
EPS = {("JAX", "gelu_tanh_backward"): 100}

ROW_PEERS = ("NumPy", "PyTorch")

# Nanoseconds per element.
TIMES = {"fastact": 0.5, "exact": 0.8, "rough": 0.25, "slow": 9.0, "own": 1.0}


def claimed_by(peer, dtype):
    """List the operations that a peer should support for a type."""
    if dtype not in PEER_DTYPES[peer]:
        return []
    names = [n for n in NAMES if peer == "NumPy" or peer in EXPECTATIONS[n].peers]
    if (peer, dtype) == ("ONNX Runtime", "float64"):
        # Its parameters are float32, and it has a softplus of float32 only.
        names = [n for n in names if BY_NAME[n].parameter is None and n != "softplus"]
    return names + [n for n in ROWS if peer in ROW_PEERS]


@pytest.fixture
def quick(monkeypatch):
    """Make a bench quick. The measurements mean nothing, and everything else is as usual."""
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0)
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(race, "ERROR_INPUTS", 1 << 10)


@pytest.fixture
def quick_peers(quick, monkeypatch):
    """Make `--peers` and `--plot` quick, too."""
    cases._timed_values.cache_clear()
    few = tuple(
        replace(goal, cases=tuple(replace(c, size=min(c.size, 64)) for c in goal.cases))
        for goal in goals.GOALS
    )
    monkeypatch.setattr(goals, "GOALS", few)
    for module, name, value in (
        (cases, "VALUES", 64),
        (race, "PAUSE", 0),
        (plot, "SIZES", (16, 64)),
    ):
        monkeypatch.setattr(module, name, value)
    taken = [{"what": "all", "value": 1, "unit": "MiB", "target": 2, "met": True}]
    monkeypatch.setattr(footprint, "measure", lambda: taken)
    yield
    cases._timed_values.cache_clear()


@pytest.fixture
def numpy_alone(monkeypatch):
    """Make it seem that no other peer is installed."""
    for peer in packages.PEERS[1:]:
        monkeypatch.setitem(sys.modules, peer.modules[0], None)


@pytest.fixture
def sklearn():
    """Import it before `numpy_alone` hides SciPy, which it needs."""
    pytest.importorskip("sklearn.datasets")
    return pytest.importorskip("sklearn.neural_network")


@pytest.fixture(params=packages.PEERS, ids=lambda peer: peer.name)
def peer(request):
    for module in request.param.modules:
        pytest.importorskip(module)
    return request.param()


# ---------------------------------------------------------------- fastact and NumPy


def test_bench_json(quick, capsys):
    assert command.main(["bench", "--json", "--size", "100"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert list(results) == ["machine", "peers", "all_threads", "rows", "errors"]
    assert results["machine"]["isa"]
    assert list(results["peers"]) == ["NumPy"]
    plain, small = (row["cases"] for row in results["rows"])
    wanted = [(op.name, dtype) for op in OPERATIONS for dtype in race.DTYPES]
    assert [(case["operation"], case["dtype"]) for case in plain] == wanted
    for case in plain:
        assert case["elements"] == 100
        assert set(case["seconds"]) == {"fastact", "NumPy"}
        assert min(case["seconds"].values()) > 0
        assert case["met"] is None
    assert [(row["operation"], row["dtype"]) for row in results["errors"]] == wanted
    for row in results["errors"]:
        own, numpy = row["ulp"]["fastact"], row["ulp"]["NumPy"]
        if errors.wider(np.dtype(row["dtype"])) is None:
            assert own is numpy is None
        else:
            assert 0 <= own <= max(BY_NAME[row["operation"]].bounds)
        if BY_NAME[row["operation"]].bounds.wide == 0:
            assert own in (0, None)
            assert numpy in (0, None)
    (call,) = small
    assert call["elements"] == 16
    assert call["ratio"] == call["seconds"]["fastact"] / call["seconds"]["numpy.negative"]


def test_bench_text(quick, capsys):
    assert command.main(["bench", "--size", "1"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    for operation in OPERATIONS:
        for dtype in race.DTYPES:
            (line,) = (
                x for x in lines if x.startswith(f"{operation.name} {dtype} ") and "NumPy" in x
            )
            assert line.split()[3] == "ns"
    assert any("numpy.negative" in line for line in lines)
    # Without a terminal, the progress has one line per operation and dtype, and for the small call.
    assert len(captured.err.splitlines()) == len(OPERATIONS) * len(race.DTYPES) + 1


@pytest.mark.parametrize("arguments", [["--size", "1"], ["--epoch"], ["--peers"]])
def test_bench_markdown(quick_peers, sklearn, numpy_alone, monkeypatch, capsys, arguments):
    monkeypatch.setattr(epoch, "ROUNDS", 1)
    assert command.main(["bench", *arguments, "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert sum(line.startswith("| ") for line in text.splitlines()) > 3
    assert f"fastact bench {' '.join(arguments)} --format markdown`" in text.replace("\n", " ")


def as_in_a_terminal(monkeypatch):
    """Make rich take stderr for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for name in ("TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("missing", ["rich.console", "rich.progress"])
def test_bench_without_rich(quick, capsys, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    as_in_a_terminal(monkeypatch)
    assert command.main(["bench", "--json", "--size", "1"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)
    assert len(captured.err.splitlines()) == len(OPERATIONS) * len(race.DTYPES) + 1


def test_bench_with_rich(quick, capsys, monkeypatch):
    pytest.importorskip("rich")
    as_in_a_terminal(monkeypatch)
    assert command.main(["bench", "--json", "--size", "1"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)  # the bar is on stderr, and nothing else on stdout
    assert "\x1b[" in captured.err


def test_bench_puts_back_the_threads(quick, monkeypatch):
    limit = threads.set_num_threads(1)
    threads.set_num_threads(limit)

    def fail(timers, **options):
        assert threads.get_num_threads() == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(race, "race", fail)
    with pytest.raises(KeyboardInterrupt):
        command.main(["bench"])
    assert threads.set_num_threads(limit) == limit


def test_bench_ends_in_time(monkeypatch):
    """On a slow machine there are fewer rounds, but at least three."""
    turns = []

    class Slow:
        def timeit(self, number):
            turns.append(number)
            return 2.0 * number

    monkeypatch.setattr(timing, "RACE_SECONDS", 0)
    assert timing.race([Slow(), Slow()]) == [2, 2]
    assert turns == [1] * 12  # three to calibrate, and three rounds


# ---------------------------------------------------------------------------- peers


def test_numpy_alone(numpy_alone, capsys):
    assert [peer.name for peer in packages.installed()] == ["NumPy"]
    assert capsys.readouterr().err == ""


def test_a_broken_peer_is_left_out(numpy_alone, capsys, monkeypatch):
    class Broken(command_peers.Peer):
        name, modules = "Broken", ("json", "json.decoder")

        def __init__(self):
            raise OSError("no such symbol")

    monkeypatch.setattr(packages, "PEERS", (Broken, *packages.PEERS))
    assert [peer.name for peer in packages.installed()] == ["NumPy"]
    assert capsys.readouterr().err == "fastact: Broken left out: OSError('no such symbol')\n"


def arranged(operation, dtype, layout):
    """Make operands and their exact results."""
    case = cases.Case(operation, dtype, 64, layout)
    if arrays.dtype_of(dtype) is None:
        pytest.skip("no ml_dtypes")
    values = cases.make_operands(case)
    wide = (np.asarray(value, np.float64) for value in values.values())
    return values, operation.exact(np, *wide)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_peers_compute_the_same(peer, dtype):
    """What a peer supports is right, and is what it should support."""
    claimed = []
    for operation in (*OPERATIONS, *ROW_OPERATIONS):
        # numba takes half a second to compile each.
        layouts = ["contiguous"] if peer.name == "numba" else ["contiguous", "stride 2"]
        for layout in layouts:
            values, exact = arranged(operation, dtype, layout)
            out = np.empty(exact.shape, next(iter(values.values())).dtype)
            with peer.threads(1), np.errstate(all="ignore"):
                work = peer.prepare(operation, values, out)
                if work is None:
                    continue
                claimed.append(operation.name)
                out.fill(7)
                result = work()
            assert isinstance(result, np.ndarray)
            assert result.dtype == out.dtype
            assert np.shares_memory(result, out) or peer.name == "JAX"
            bound = EPS.get((peer.name, operation.name), 20) * float(
                errors.float_info(out.dtype).eps
            )
            np.testing.assert_allclose(result.astype(np.float64), exact, bound, bound)
    assert list(dict.fromkeys(claimed)) == claimed_by(peer.name, dtype)


@pytest.mark.parametrize("layout", ["contiguous", "stride 2", "transposed"])
def test_peers_make_new_results(peer, layout):
    operation = BY_NAME["sigmoid"]
    values, exact = arranged(operation, "float32", layout)
    with peer.threads(1), np.errstate(all="ignore"):
        work = peer.prepare(operation, values, None)
        first, second = work(), work()
    assert not np.shares_memory(first, second)
    np.testing.assert_allclose(first, exact, 1e-5, 1e-6)


def test_peers_use_the_slope_that_is_given(peer):
    x, leaky_relu = np.array([-2, 4], np.float32), BY_NAME["leaky_relu"]
    with peer.threads(1):
        work = peer.prepare(leaky_relu, {"x": x, "negative_slope": 0.5}, np.empty_like(x))
        if work is not None:
            np.testing.assert_array_equal(work(), [-1, 4])
        for slope in np.float32(0.5), np.array(0.5, np.float32), np.array([0.5], np.float32):
            work = peer.prepare(leaky_relu, {"x": x, "negative_slope": slope}, None)
            if work is not None:
                np.testing.assert_array_equal(work(), [-1, 4])


@pytest.mark.parametrize("slope", ["slope per column", "slope per row", "float64 scalar"])
def test_peers_with_other_slopes(peer, slope):
    """Those that take one broadcast it and promote as NumPy does. The others do not take part."""
    case = cases.Case(BY_NAME["leaky_relu"], size=256, layout="matrix", slope=slope)
    values = cases.make_operands(case)
    with peer.threads(1):
        work = peer.prepare(case.operation, values, None)
        takes = {"NumPy"} if slope != "slope per column" else {"NumPy", "PyTorch"}
        assert (work is not None) == (peer.name in takes)
        if work is not None:
            result, x = work(), values["x"]
            assert result.dtype == (np.float64 if slope == "float64 scalar" else np.float32)
            np.testing.assert_array_equal(result, np.where(x > 0, x, x * values["negative_slope"]))


def test_threads_of_all_peers_together():
    """Starting numba sets the number of threads of OpenMP, and so that of PyTorch."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads(), threads.get_num_threads()
    with race.thread_limit(packages.installed(), 1):
        assert torch.get_num_threads() == threads.get_num_threads() == 1
    assert (torch.get_num_threads(), threads.get_num_threads()) == before


# -------------------------------------------------------------------- bench --peers


def test_bench_peers_json(quick_peers, numpy_alone, capsys):
    assert command.main(["bench", "--peers", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert list(results["peers"]) == ["NumPy"]
    assert results["machine"]["isa"]
    assert [row["work"] for row in results["rows"]] == [goal.work for goal in goals.GOALS]
    for row, goal in zip(results["rows"], goals.GOALS, strict=True):
        assert row["target"] == goal.ratio
        for case in row["cases"]:
            times = case["seconds"]
            if case["rival"] is None:
                assert {*times} == {"fastact", *case["excluded"]}
                assert case["ratio"] is case["met"] is None
                continue
            assert case["rival"] in {*times} - {"fastact", *case["excluded"]}
            assert case["ratio"] == times["fastact"] / times[case["rival"]]
            assert case["met"] == (case["ratio"] <= row["target"])
            assert case["dtype"] in ("float16", "bfloat16") or case["operation"] in NAMES + ROWS
    assert results["footprint"] == footprint.measure()
    assert {row["operation"] for row in results["errors"]} == set(NAMES + ROWS)
    for row in results["errors"]:
        if row["operation"] in ROWS:
            assert 0 <= row["ulp"]["fastact"] < 2.5


def test_bench_peers_text(quick_peers, numpy_alone, capsys):
    assert command.main(["bench", "--peers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for goal in goals.GOALS:
        assert any(line.startswith(goal.work) for line in lines)


def test_tables_of_a_page():
    """A peer that is too inexact to compete has a line of its own if it is faster than fastact."""
    case = {
        "operation": "tanh",
        "dtype": "float32",
        "elements": cases.CACHED,
        "layout": "contiguous",
        "out": True,
        "slope": "",
        "case": "tanh float32",
        "seconds": {name: t * cases.CACHED * 1e-9 for name, t in TIMES.items()},
        "rival": "own",
        "excluded": ["rough"],
        "ratio": 0.5,
        "met": True,
    }
    row = {"work": "gradient", "target": 0.6, "all_threads": False, "cases": [case]}
    results = {
        "peers": {"exact": "1.0", "rough": "2.0", "slow": "3.0"},
        "all_threads": 2,
        "rows": [row],
        "footprint": [],
        "errors": [
            {
                "operation": "tanh",
                "dtype": "float32",
                "ulp": {"fastact": 0.7, "exact": 1.4, "rough": 103.0, "slow": 1.0},
            }
        ],
    }
    functions, work, *_ = tables.details(results)
    assert functions.rows[1:] == [
        ("tanh float32", "0.500 ns", "0.800 ns, exact", "0.62", "0.70", "1.40"),
        ("tanh float32", "0.500 ns", "0.250 ns, rough (inexact)", "2.00", "0.70", "103.00"),
    ]
    assert [type(line[3]) for line in functions.rows[1:]] == [str, Bold]
    assert work.title == "gradient: at most 0.60"
    assert work.rows[1:] == [("tanh float32", "0.500 ns", "1.000 ns, own", "0.50", "0.70", "")]


def test_bench_peers_without_any(quick_peers, monkeypatch, capsys):
    """Races with fastact itself and with memcpy still take place. Other targets are empty."""
    monkeypatch.setattr(packages, "installed", list)
    assert command.main(["bench", "--peers"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("sigmoid, 1,024"))
    assert line.split()[-6:] == ["1", "-", "-", "-", "0.80", "-"]


def test_a_wrong_sigmoid_does_not_compete():
    greatest = {"fastact": {"above": 0.8}, "fast": {"above": 5.0}, "unknown": {"above": None}}
    assert race.too_inexact(greatest, BY_NAME["sigmoid"]) == ["fast"]
    assert race.too_inexact(greatest, BY_NAME["relu"]) == []
    times = {"fastact": 2.0, "fast": 1.0, "unknown": 3.0}
    assert race.fastest(times, ["fast"]) == "unknown"
    assert race.fastest({"fastact": 2.0}, []) is None


def test_memcpy_in_the_bytes_of_the_operation():
    x = np.arange(6, dtype=np.float32)
    for name, factor in ("relu", 1), ("leaky_relu", 1), ("relu_backward", 1.5):
        values = samples.operands(BY_NAME[name], x)
        out = np.zeros_like(x)
        rival = goals.memcpy(cases.Case(BY_NAME[name]), values, out)
        assert rival.factor == factor
        rival.work()
        np.testing.assert_array_equal(out, next(iter(values.values())))


def test_calls_in_place_start_from_the_same_values(monkeypatch):
    case = cases.Case(BY_NAME["silu_backward"], "float64", 64, "in place")
    goal = next(goal for goal in goals.GOALS if goal.work.startswith("in place"))
    operands = cases.make_operands(case)
    expected = fastact.silu_backward(operands["grad"], operands["x"])
    monkeypatch.setattr(race, "make_operands", lambda _: operands)
    monkeypatch.setattr(race, "race", lambda timers, **_: [timer.timeit(100) for timer in timers])
    assert race._measure_case([], goal, case, [])["rival"] == "out of place"
    np.testing.assert_array_equal(operands["grad"], expected, strict=True)


def test_denormal_inputs_race_with_ordinary_ones():
    target = next(t for t in goals.GOALS if "denormal" in t.work)
    for case in target.cases:
        values = cases.make_operands(case)
        tiny = np.finfo(case.dtype).tiny
        assert (np.abs(values["x"]) < tiny).all()
        rival = target.rival(case, values, np.empty_like(values["x"]))
        assert np.median(np.abs(rival.work.names["x"])) > 1


def test_targets_with_chosen_peers(quick_peers, numpy_alone, monkeypatch, capsys):
    """Only the peers that a target names take part."""
    few = [replace(t, peers=("SciPy",)) for t in goals.GOALS if t.work == "sigmoid, 65,536"]
    monkeypatch.setattr(goals, "GOALS", few)
    assert command.main(["bench", "--peers", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert all(list(case["seconds"]) == ["fastact"] for case in row["cases"])


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(quick_peers, numpy_alone, tmp_path, suffix, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"bench.{suffix}"
    assert command.main(["bench", "--plot", str(path)]) == 0
    assert path.stat().st_size > 1000
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("speed", "wanted a suffix that tells the format"),
        ("speed.xyz", "wanted a suffix that tells the format"),
        ("no folder/speed.svg", "No such file or directory"),
    ],
)
def test_plot_to_a_bad_path(monkeypatch, tmp_path, name, expected, capsys):
    """It is refused before anything is measured, and leaves no file."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(race, "measure", None)
    with pytest.raises(SystemExit) as stop:
        command.main(["bench", "--peers", "--plot", str(tmp_path / name)])
    assert stop.value.code == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_plot_without_matplotlib(monkeypatch, capsys):
    monkeypatch.setattr(race, "measure", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        command.main(["bench", "--peers", "--plot", "speed.svg"])
    assert stop.value.code == 2
    assert "pip install matplotlib" in capsys.readouterr().err


def test_footprint(monkeypatch):
    benchmarks = Path(__file__).parents[1] / "asv_bench" / "benchmarks"
    command_peers.load_package(benchmarks, footprint.BENCHMARKS)
    asv = importlib.import_module(f"{footprint.BENCHMARKS}.footprint")
    monkeypatch.setattr(asv.Memory, "params", (["relu"], ["float32", "bfloat16"]))
    monkeypatch.setattr(asv._cases, "LARGE", 64)
    monkeypatch.setattr(asv, "IMPORTS", 1)
    monkeypatch.setattr(footprint, "load_package", lambda folder, name: None)
    taken = footprint.measure()
    assert [item["unit"] for item in taken] == ["KiB", "ms", "MiB"]
    assert all(item["value"] >= 0 for item in taken)


# ------------------------------------------------------------------- without asv_bench


@pytest.mark.parametrize("arguments", ["bench --peers", "bench --epoch", "check --peers"])
def test_a_sentence_where_there_is_no_asv_bench(monkeypatch, tmp_path, capsys, arguments):
    monkeypatch.delitem(sys.modules, command_peers.DEVELOPERS)
    monkeypatch.setattr(
        command_peers, "__file__", str(tmp_path / "fastact" / "_command" / "peers.py")
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command.main(arguments.split())
    assert stop.value.code == 2
    assert "run this in the top folder of a clone" in " ".join(capsys.readouterr().err.split())


def test_asv_bench_of_the_current_folder(tmp_path):
    """As in the top folder of a clone, with an installed wheel."""
    folder = tmp_path / "asv_bench" / "peers"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from .found import where\n", encoding="utf-8")
    (folder / "found.py").write_text("where = 'here'\n", encoding="utf-8")
    program = f"""
from fastact._command import peers
peers.__file__ = {str(tmp_path / "elsewhere" / "fastact" / "_command" / "peers.py")!r}
print(peers.load_developers().where)
"""
    path = str(Path(fastact.__file__).parents[1])
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {path!r})\n{program}"]
    assert subprocess.check_output(command, cwd=tmp_path, text=True) == "here\n"


# ------------------------------------------------------------------------- --epoch


def test_all_train_the_same_epoch():
    """All do the same work: they have the same losses, up to rounding."""
    made = trainers.trainers(trainers.data())
    assert {"fastact", "NumPy"} <= set(made)
    losses = {name: [trainer.epoch() for _ in range(3)] for name, trainer in made.items()}
    for name, values in losses.items():
        assert values == pytest.approx(losses["fastact"], rel=1e-5), name
        assert values[0] > values[1] > values[2]
    for name, trainer in made.items():
        trainer.reset()
        assert trainer.epoch() == pytest.approx(losses["fastact"][0], rel=1e-5), name


@pytest.fixture
def two_rounds(monkeypatch):
    monkeypatch.setattr(epoch, "ROUNDS", 2)


@pytest.mark.parametrize("without", [[], ["torch", "sklearn", "threadpoolctl"]], ids=repr)
def test_epoch_json(two_rounds, monkeypatch, capsys, without):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in without else find(name)
    )
    assert command.main(["bench", "--epoch", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    names = [
        name
        for name, (module, _) in trainers.TRAINERS.items()
        if module not in without and find(module)
    ]
    assert list(results["seconds"]) == list(results["loss"]) == names
    assert all(seconds > 0 for seconds in results["seconds"].values())
    assert results["rounds"] == 2


@pytest.mark.gil
def test_epoch_allocates_nothing(two_rounds, capsys):
    assert command.main(["bench", "--epoch", "--json"]) == 0
    # The arrays of one training step take 8 KiB, so none of them is allocated again.
    assert json.loads(capsys.readouterr().out)["allocated_kib"]["fastact"] < 4


def test_epoch_text(two_rounds, capsys):
    assert command.main(["bench", "--epoch"]) == 0
    out = capsys.readouterr().out
    assert "One epoch" in out
    for name in trainers.trainers(trainers.data()):
        assert f"\n{name} " in out
