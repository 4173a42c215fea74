"""The command `fastact bench`: what it reports, never how fast that was."""

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from fastact._command import bench, bench_epoch, bench_peers, bench_plot, reference, timing
from fastact._command import cli as command
from fastact._command import peers as packages
from fastact._command.reference import wider
from fastact._core import threads
from fastact._core.operations import OPERATIONS

ROW_KEYS = ["operation", "dtype", "fastact_ns", "numpy_ns", "ratio", "fastact_ulp", "numpy_ulp"]
NAMES = [operation.name for operation in OPERATIONS]
FORWARD = ["relu", "leaky_relu", "sigmoid"]

# What every peer has, for which types. None has less than that without notice.
CLAIMS = {
    "NumPy": (NAMES, ["float16", "float32", "float64", "bfloat16"]),
    "SciPy": (["sigmoid"], ["float16", "float32", "float64", "bfloat16"]),
    "PyTorch": (
        [name for name in NAMES if name != "sigmoid_backward"],
        ["float16", "float32", "float64", "bfloat16"],
    ),
    "numba": (NAMES, ["float32", "float64"]),
    "numexpr": (
        [name for name in NAMES if name != "sigmoid_backward"],
        ["float32", "float64"],
    ),
    "ONNX Runtime": (FORWARD, ["float16", "float32", "float64"]),
    "JAX": (NAMES[:-1], ["float16", "float32", "float64", "bfloat16"]),
}


@pytest.fixture
def quick(monkeypatch):
    """A bench of a moment: the measurements mean nothing, all else is as ever."""
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0)
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(bench, "ERROR_INPUTS", 1 << 10)


@pytest.fixture
def quick_peers(quick, monkeypatch):
    """The same for `--peers` and `--plot`."""
    bench_peers._values.cache_clear()
    rows = tuple(
        replace(row, cases=tuple(replace(c, size=min(c.size, 64)) for c in row.cases))
        for row in bench_peers.ROWS
    )
    monkeypatch.setattr(bench_peers, "ROWS", rows)
    for name, value in {
        "VALUES": 64,
        "PAUSE": 0,
        "SETTLE_CALLS": 1,
        "ERROR_INPUTS": 1 << 10,
        "MEMORY_ELEMENTS": 1 << 10,
        "IMPORTS": 1,
    }.items():
        monkeypatch.setattr(bench_peers, name, value)
    monkeypatch.setattr(bench_plot, "SIZES", (16, 64))
    yield
    bench_peers._values.cache_clear()


@pytest.fixture
def numpy_alone(monkeypatch):
    """Make it seem that no other peer is installed."""
    for peer in packages._PEERS[1:]:
        monkeypatch.setitem(sys.modules, peer.modules[0], None)


@pytest.fixture(params=packages._PEERS, ids=lambda peer: peer.name)
def peer(request):
    for module in request.param.modules:
        pytest.importorskip(module)
    return request.param()


# ---------------------------------------------------------------- fastact and NumPy


def test_bench_json(quick, capsys):
    assert command.main(["bench", "--json", "--size", "100"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert list(results) == ["machine", "size", "rows", "small"]
    assert results["machine"]["isa"]
    assert results["size"] == 100
    measured = [(row["operation"], row["dtype"]) for row in results["rows"]]
    assert measured == [(op.name, dtype) for op in OPERATIONS for dtype in bench.DTYPES]
    for row in results["rows"]:
        assert list(row) == ROW_KEYS
        assert row["fastact_ns"] > 0
        assert row["ratio"] == row["fastact_ns"] / row["numpy_ns"]
        if wider(np.dtype(row["dtype"])) is None:
            assert row["fastact_ulp"] is row["numpy_ulp"] is None
        else:
            assert 0 <= row["fastact_ulp"] < 2
        if row["operation"] in ("relu", "relu_backward"):
            assert row["fastact_ulp"] in (0, None)
            assert row["numpy_ulp"] in (0, None)
    small = results["small"]
    assert small["elements"] == 16
    assert small["ratio"] == small["fastact_relu_ns"] / small["numpy_negative_ns"]


def test_bench_text(quick, capsys):
    assert command.main(["bench", "--size", "1"]) == 0
    captured = capsys.readouterr()
    for operation in OPERATIONS:
        for dtype in bench.DTYPES:
            lines = [x.split() for x in captured.out.splitlines()]
            assert [len(x) for x in lines if x[:2] == [operation.name, dtype]] == [7]
    # Without a terminal, the progress is a line for every row.
    assert len(captured.err.splitlines()) == len(OPERATIONS) * len(bench.DTYPES)


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
    assert len(captured.err.splitlines()) == len(OPERATIONS) * len(bench.DTYPES)


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

    def fail(size):
        assert threads.get_num_threads() == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_measure_all", fail)
    with pytest.raises(KeyboardInterrupt):
        command.main(["bench"])
    assert threads.set_num_threads(limit) == limit


def test_bench_ends_in_time(monkeypatch):
    """Rounds are cut short where the machine is slow, but there are some."""
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
    class Broken(packages.Peer):
        name, modules = "Broken", ("json", "json.decoder")

        def __init__(self):
            raise OSError("no such symbol")

    monkeypatch.setattr(packages, "_PEERS", (Broken, *packages._PEERS))
    assert [peer.name for peer in packages.installed()] == ["NumPy"]
    assert capsys.readouterr().err == "fastact: Broken left out: OSError('no such symbol')\n"


def arranged(operation, dtype, layout):
    """Make operands, and what is exact for them."""
    case = bench_peers.Case(operation.name, dtype, 64, layout)
    if bench_peers.dtype_of(dtype) is None:
        pytest.skip("no ml_dtypes")
    values = bench_peers.make_operands(operation, case)
    wide = (np.asarray(value, np.float64) for value in values.values())
    return values, reference.EXACT[operation.name](*wide)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_peers_compute_the_same(peer, dtype):
    """All that they claim is right, and they claim what they did."""
    claimed = []
    for operation in OPERATIONS:
        # numba takes half a second to compile each.
        layouts = ["contiguous"] if peer.name == "numba" else ["contiguous", "stride 2"]
        for layout in layouts:
            values, exact = arranged(operation, dtype, layout)
            out = np.empty(exact.shape, next(iter(values.values())).dtype)
            with peer.threads(1), np.errstate(all="ignore"):
                work = peer.prepare(operation.name, values, out)
                if work is None:
                    continue
                claimed.append(operation.name)
                out.fill(7)
                result = work()
            assert isinstance(result, np.ndarray)
            assert result.dtype == out.dtype
            assert np.shares_memory(result, out) or peer.name == "JAX"
            bound = 20 * float(reference.float_info(out.dtype).eps)
            np.testing.assert_allclose(result.astype(np.float64), exact, bound, bound)
    operations, dtypes = CLAIMS[peer.name]
    if (peer.name, dtype) == ("ONNX Runtime", "float64"):
        operations = ["relu", "sigmoid"]  # its slope is a float32
    assert list(dict.fromkeys(claimed)) == (operations if dtype in dtypes else [])


@pytest.mark.parametrize("layout", ["contiguous", "stride 2", "transposed"])
def test_peers_make_new_results(peer, layout):
    operation = next(o for o in OPERATIONS if o.name == "sigmoid")
    values, exact = arranged(operation, "float32", layout)
    with peer.threads(1), np.errstate(all="ignore"):
        work = peer.prepare("sigmoid", values, None)
        first, second = work(), work()
    assert not np.shares_memory(first, second)
    np.testing.assert_allclose(first, exact, 1e-5, 1e-6)


def test_peers_use_the_slope_that_is_given(peer):
    x = np.array([-2, 4], np.float32)
    with peer.threads(1):
        work = peer.prepare("leaky_relu", {"x": x, "negative_slope": 0.5}, np.empty_like(x))
        if work is not None:
            np.testing.assert_array_equal(work(), [-1, 4])
        assert peer.prepare("leaky_relu", {"x": x, "negative_slope": x}, None) is None


def test_threads_of_all_peers_together():
    """Starting numba sets the number of OpenMP's threads, which is PyTorch's too."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads(), threads.get_num_threads()
    with bench_peers.thread_limit(packages.installed(), 1):
        assert torch.get_num_threads() == threads.get_num_threads() == 1
    assert (torch.get_num_threads(), threads.get_num_threads()) == before


# -------------------------------------------------------------------- bench --peers


def test_bench_peers_json(quick_peers, numpy_alone, capsys):
    assert command.main(["bench", "--peers", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert list(results["peers"]) == ["NumPy"]
    assert results["machine"]["isa"]
    assert [row["work"] for row in results["rows"]] == [row.work for row in bench_peers.ROWS]
    for row, wanted in zip(results["rows"], bench_peers.ROWS, strict=True):
        assert row["target"] == wanted.target
        for case in row["cases"]:
            times = case["seconds"]
            if case["rival"] is None:
                assert {*times} == {"fastact", *case["excluded"]}
                assert case["ratio"] is case["met"] is None
                continue
            assert case["rival"] in {*times} - {"fastact", *case["excluded"]}
            assert case["ratio"] == times["fastact"] / times[case["rival"]]
            assert case["met"] == (case["ratio"] <= row["target"])
            assert case["dtype"] in ("float16", "bfloat16") or case["operation"] in NAMES
    assert {item["unit"] for item in results["footprint"]} == {"KiB", "ms", "MiB"}
    assert {row["operation"] for row in results["errors"]} == set(NAMES)


def test_bench_peers_text(quick_peers, numpy_alone, capsys):
    assert command.main(["bench", "--peers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for row in bench_peers.ROWS:
        assert any(line.startswith(row.work) for line in lines)


def test_bench_peers_without_any(quick_peers, monkeypatch, capsys):
    """Rows against fastact itself and memcpy are there, and the others are empty."""
    monkeypatch.setattr(packages, "installed", list)
    assert command.main(["bench", "--peers"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("sigmoid, 1,024"))
    assert line.split()[-6:] == ["1", "-", "-", "-", "0.80", "-"]


def test_a_wrong_sigmoid_does_not_compete():
    errors = {"fastact": {"above": 0.8}, "fast": {"above": 5.0}, "unknown": {"above": None}}
    assert bench_peers._too_wrong(errors, "sigmoid") == ["fast"]
    assert bench_peers._too_wrong(errors, "relu") == []
    times = {"fastact": 2.0, "fast": 1.0, "unknown": 3.0}
    assert bench_peers._fastest(times, ["fast"]) == "unknown"
    assert bench_peers._fastest({"fastact": 2.0}, []) is None


def test_memcpy_in_the_bytes_of_the_operation():
    x = np.arange(6, dtype=np.float32)
    for operation, factor in ("relu", 1), ("leaky_relu", 1), ("relu_backward", 1.5):
        values = reference.operands(bench_peers.BY_NAME[operation], x)
        out = np.zeros_like(x)
        rival = bench_peers._memcpy(bench_peers.Case(operation), values, out)
        assert rival.factor == factor
        rival.work()
        np.testing.assert_array_equal(out, next(iter(values.values())))


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(quick_peers, numpy_alone, tmp_path, suffix, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"bench.{suffix}"
    assert command.main(["bench", "--plot", str(path)]) == 0
    assert path.stat().st_size > 1000
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------- --epoch


def test_all_train_the_same_epoch():
    """What they are compared by is the same work: losses and parameters, but for rounding."""
    made = bench_epoch.trainers(bench_epoch.data())
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
    monkeypatch.setattr(bench_epoch, "ROUNDS", 2)


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
        for name, (module, _) in bench_epoch.TRAINERS.items()
        if module not in without and find(module)
    ]
    assert list(results["seconds"]) == list(results["loss"]) == names
    assert all(seconds > 0 for seconds in results["seconds"].values())
    assert results["rounds"] == 2
    # The data of a training step are 8 KiB, here and in NumPy.
    assert results["allocated_kib"]["fastact"] < 4


def test_epoch_text(two_rounds, capsys):
    assert command.main(["bench", "--epoch"]) == 0
    out = capsys.readouterr().out
    assert "One epoch" in out
    for name in bench_epoch.trainers(bench_epoch.data()):
        assert f"\n{name} " in out
