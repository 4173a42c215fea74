"""The command `fastact check`: it measures errors, and it finds faults."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_ufuncs
from reference import BY_NAME, FLOATS, exact, samples

from fastact._command import check as check_command
from fastact._command import cli as command
from fastact._command import errors, peers
from fastact._command import exact as exact_results
from fastact._command.check import inputs, measure, sweeps
from fastact._command.check import report as check_report
from fastact._core import operations
from fastact._core import ufuncs as core

NAMES = list(operations.BY_NAME)
ROWS = [operation.name for operation in operations.ROW_OPERATIONS]
WITH_A_ZERO = ("silu_backward", "gelu_backward", "gelu_tanh_backward")
ROW_KEYS = "operation operands dtype by inputs complete error at misrounded bound faults broken"


@pytest.fixture
def quick(monkeypatch):
    """Make a check quick: few inputs besides the hard ones."""
    monkeypatch.setattr(inputs, "EVEN_INPUTS", 1 << 12)
    monkeypatch.setattr(inputs, "HARD_INPUTS", 1 << 14)
    monkeypatch.setattr(inputs, "SLOW_INPUTS", 1 << 6)
    monkeypatch.setattr(inputs, "SLOW_HARD_INPUTS", 1 << 6)
    monkeypatch.setattr(inputs, "NARROW_ROUNDS", 1)
    monkeypatch.setattr(inputs, "NAN_INPUTS", 1 << 9)
    monkeypatch.setattr(sweeps, "NEAR", 2)
    monkeypatch.setattr(core, "make_ufuncs", make_ufuncs)


def check(capsys, *arguments, status=0):
    """Run a check, and return the rows of its table."""
    assert command.main(["check", "--json", *arguments]) == status
    results = json.loads(capsys.readouterr().out)
    assert list(results) == ["machine", "exhaustive", "complete", "rows"]
    return results["rows"]


def install(monkeypatch, *found):
    """Make it seem that these peers are installed, in a source tree."""
    developers = SimpleNamespace(installed=lambda: list(found))
    monkeypatch.setattr(peers, "load_developers", lambda: developers)


def broken_table(monkeypatch, name, change, isas=core.supported):
    """Put a changed ufunc into the tables of some instruction sets."""

    def make(isa):
        ufuncs = dict(make_ufuncs(isa))
        if isa in isas:
            right = ufuncs[name]
            ufuncs[name] = lambda *operands: change(right(*operands), *operands)
        return ufuncs

    monkeypatch.setattr(core, "make_ufuncs", make)


# ------------------------------------------------------------------- what it tells


def test_json(quick, capsys):
    rows = check(capsys)
    assert all(list(row) == ROW_KEYS.split() for row in rows)
    assert {row["by"] for row in rows} == set(core.supported)
    assert {row["dtype"] for row in rows} == set(FLOATS)
    assert {row["operation"] for row in rows} == {*NAMES, *ROWS}
    for name in NAMES:
        operands = {row["operands"] for row in rows if row["operation"] == name}
        assert len(operands) == (1 if len(BY_NAME[name].operands) == 1 else 2)
    for row in rows:
        assert row["complete"]
        assert not row["broken"]
        assert row["faults"] == {}
        assert 0 <= row["error"] <= row["bound"]
        assert 0 <= row["misrounded"] < row["inputs"]
        if row["bound"] <= 0.5:
            assert row["misrounded"] == 0
        if row["operation"] in ROWS:
            assert row["inputs"] > 100_000
        elif row["dtype"].endswith("16") and not BY_NAME[row["operation"]].output_of:
            every = row["operation"] in WITH_A_ZERO and "sampled" in row["operands"]
            assert row["inputs"] == (1 + every * 2 * sweeps.NEAR) << 16


def test_finds_a_fault_in_a_row(quick, capsys, monkeypatch):
    softmax = core.row_ufuncs["softmax"]

    def off(x):
        result = softmax(x)
        if x.shape[1] == 10:
            result[3, 4] *= 1.01
        return result

    tables = {isa: {"softmax": softmax} for isa in core.supported}
    tables[core.supported[-1]]["softmax"] = off
    monkeypatch.setattr(core, "make_row_ufuncs", tables.get)
    assert command.main(["check", "--operation", "softmax", "--json"]) == 1
    for row in json.loads(capsys.readouterr().out)["rows"]:
        wrong = row["by"] == core.supported[-1]
        assert row["broken"] == wrong
        if wrong:
            assert row["error"] > row["bound"]
            assert row["at"] == {"elements": "10", "row": "3"}
            if len(core.supported) > 1:
                assert row["faults"]["bits differ"]["at"] == {"elements": "10", "row": "3"}


def test_text(quick, capsys):
    assert command.main(["check", "--operation", "sigmoid"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    # The instruction sets have the same bits, so they share a line.
    assert lines[0] == f"By {' = '.join(core.supported)}."
    start = lines.index("sigmoid") + 1
    table = lines[start : start + len(FLOATS)]
    assert sorted(line.split()[0] for line in table) == sorted(FLOATS)
    assert all(line.endswith(" ok") for line in table)
    assert lines[-1] == f"ok: {len(FLOATS)} rows are within their bounds."
    assert len(captured.err.splitlines()) == 100


def test_one_instruction_set(quick, capsys):
    rows = check(capsys, "--isa", "baseline", "--operation", "relu")
    assert {(row["by"], row["operation"]) for row in rows} == {("baseline", "relu")}


def test_exhaustive_goes_over_every_pattern(quick, capsys, monkeypatch):
    """Look at both ends, and measure some blocks."""
    parts = []
    real = inputs.patterns
    few = 3 * sweeps.BLOCK + 5

    def ends(dtype, size, step=1):
        every = real(dtype, size, step)
        assert step == 1
        parts.append((str(dtype), size))
        first, last = every.part(0, 3), every.part(size - 3, size + 9)
        kind = f"u{dtype.itemsize}"
        assert np.array_equal(first.view(kind), [0, 1, 2])
        assert np.array_equal(last.view(kind), np.arange(-3, 0).astype(kind))
        return inputs.Inputs(few, lambda start, stop: every.part(start, min(stop, few)))

    monkeypatch.setattr(inputs, "patterns", ends)
    rows = check(capsys, "--exhaustive", "--operation", "relu")
    assert ("float32", 1 << 32) in parts
    assert {row["inputs"] for row in rows if row["dtype"] == "float32"} == {few}


def test_same_results_in_every_run(quick, capsys):
    first, second = (check(capsys, "--operation", "leaky_relu_backward") for _ in range(2))
    assert first == second


# ---------------------------------------------------------------- what it finds


def where(x, value):
    """Find where x is a value, which may be NaN."""
    return np.isnan(x) if np.isnan(value) else x == x.dtype.type(value)


def two_ulp_off(y, x):
    up = np.nextafter(np.nextafter(y, y.dtype.type(2)), y.dtype.type(2))
    return np.where(where(x, 0.0), up, y)


def falling(y, x):
    """Step down by one ULP, which is within the bound."""
    at = where(x, 8.0)
    return np.where(at, np.nextafter(y, y.dtype.type(0)), y)


def nan_lost(y, x):
    return np.where(where(x, np.nan), y.dtype.type(0), y)


def negative_zero(y, x):
    return np.where(where(x, -np.inf), -y, y)


def above_one(y, x):
    return np.where(where(x, np.inf), np.nextafter(y, y.dtype.type(2)), y)


@pytest.mark.parametrize(
    ("change", "error", "x"),
    [
        (two_ulp_off, 2.0, "0.0"),
        (nan_lost, "inf", "nan"),
        (negative_zero, "inf", "-inf"),
        (above_one, 1.0, "inf"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finds_an_error(quick, capsys, monkeypatch, change, error, x, dtype):
    if change is negative_zero and dtype == "float64":
        pytest.skip("the signs of zeros are not compared")
    broken_table(monkeypatch, "sigmoid", change)
    rows = check(capsys, "--operation", "sigmoid", status=1)
    for row in rows:
        if row["dtype"] == dtype:
            assert row["broken"]
            if change is above_one:
                assert row["faults"]["outside [0, 1]"]["at"] == {"x": x}
            else:
                assert row["error"] == error
                assert row["at"] == {"x": x}
    assert command.main(["check", "--operation", "sigmoid"]) == 1
    assert "BROKEN" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--peers"]])
def test_text_fits_into_80_columns(arguments, monkeypatch, capsys):
    """With the longest numbers there are, and with all peers."""
    peers_of_bench = "NumPy", "SciPy", "PyTorch", "numba", "numexpr", "ONNX Runtime", "JAX"
    names = [f"{name} 10.20.30" for name in peers_of_bench]

    def row(case, by):
        tally = measure.Tally()
        row = check_report.place_in_table(case, by, tally, False)
        row |= {"inputs": 1 << 32, "misrounded": 10**8 - 1, "error": 1e9}
        row["broken"] = row["bound"] is not None
        return row | {"at": {"grad": "-6.4517218305453193e-308", "x": "-0.30973510863924936"}}

    def every_case(listed, workers):
        by = names if arguments else ["avx512 = avx2 = baseline"]
        return [row(case, who) for case in listed for who in by], False

    monkeypatch.setattr(check_command, "_check", every_case)
    install(monkeypatch)
    command.main(["check", "--exhaustive", *arguments])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 40
    table = [line for line in lines if not line.startswith("BROKEN")]
    assert max(map(len, table)) <= 80


def test_finds_what_is_not_monotone(quick, capsys, monkeypatch):
    """Even if the error is within the bound."""
    broken_table(monkeypatch, "sigmoid", falling)
    rows = check(capsys, "--operation", "sigmoid", status=1)
    found = [row["faults"].get("not monotone") for row in rows if row["dtype"] == "float32"]
    assert found
    for fault in found:
        assert fault["count"] >= 1
        assert abs(float(fault["at"]["x"]) - 8) < 1e-5
    command.main(["check", "--operation", "sigmoid"])
    assert "not monotone" in capsys.readouterr().out


def test_is_monotone_from_block_to_block(monkeypatch):
    """The last result of a block is compared with the first one of the next."""
    dtype = np.dtype(np.float32)
    x = np.arange(4, dtype=dtype)
    four = inputs.Inputs(4, lambda start, stop: x[start:stop])
    compute = {"a": lambda values: np.where(values["x"] < 2, 0.5, 0.25).astype(dtype)}
    case = sweeps.Sweep(operations.BY_NAME["sigmoid"], dtype, False, four, compute, bound=9e9)
    monkeypatch.setattr(sweeps, "BLOCK", 2)
    (tally,), complete = measure.run_sweep(case, 1, lambda done: None)
    assert complete
    assert tally.faults["not monotone"].values == {"x": 1}
    assert tally.inputs == 4


@pytest.mark.parametrize("dtype", FLOATS)
def test_range_is_rounded_to_the_dtype(dtype):
    dtype = np.dtype(dtype)
    lowest = -0.2784645427610738  # which bfloat16 rounds down
    operation = replace(operations.BY_NAME["relu"], range=(lowest, np.inf))
    one = inputs.Inputs(1, lambda start, stop: np.zeros(1, dtype)[start:stop])
    case = sweeps.Sweep(operation, dtype, False, one, {}, bound=9e9)
    for result, faults in (lowest, []), (-0.5, ["outside [-0.278465, inf]"]):
        case.computes["a"] = lambda values, result=result: np.array([result]).astype(dtype)
        (tally,), _ = measure.run_sweep(case, 1, lambda done: None)
        assert [name for name in tally.faults if name.startswith("outside")] == faults


def off_at_one_gradient(y, grad, x):
    wrong = where(x, -1.2783203125) & where(grad, 3.84765625)
    return np.where(wrong, y * y.dtype.type(1.01), y)


def test_finds_a_wrong_gradient_near_a_zero_of_the_derivative(quick, capsys, monkeypatch):
    broken_table(monkeypatch, "silu_backward", off_at_one_gradient)
    rows = check(capsys, "--operation", "silu_backward", status=1)
    found = {row["dtype"]: row["at"] for row in rows if row["broken"]}
    assert found == {
        "float16": {"grad": "3.848", "x": "-1.278"},
        "bfloat16": {"grad": "3.84375", "x": "-1.28125"},
    }


def canonical_nan(y, *operands):
    return np.where(np.isnan(y), np.array(np.nan, y.dtype), y)


@pytest.mark.parametrize("name", ["sigmoid", "leaky_relu_backward"])
def test_finds_a_lost_payload(quick, capsys, monkeypatch, name):
    broken_table(monkeypatch, name, canonical_nan)
    rows = check(capsys, "--operation", name, status=1)
    for row in rows:
        assert row["faults"]["payload of NaN lost"]["count"] > 100
        assert row["at"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nans_would_become_infinity_by_a_shift(dtype):
    dtype = np.dtype(dtype)
    values = inputs.nans(dtype, 1 << 10)
    assert np.isnan(values).all()
    assert 100 < np.signbit(values).sum() < 1000
    bits = values.view(f"u{dtype.itemsize}")
    shifted = (bits << bits.dtype.type(np.finfo(dtype).nmant)).view(dtype)
    assert np.isinf(shifted).sum() > 100


@pytest.mark.skipif(len(core.supported) == 1, reason="one instruction set only")
def test_finds_different_bits(quick, capsys, monkeypatch):
    *_, last = core.supported
    broken_table(monkeypatch, "relu_backward", one_ulp_up, [last])
    rows = check(capsys, "--operation", "relu_backward", status=1)
    for row in rows:
        assert row["broken"] == bool(row["faults"]) == (row["by"] == last)
    command.main(["check", "--operation", "relu_backward"])
    assert "bits differ" in capsys.readouterr().out


def one_ulp_up(y, grad, x):
    wrong = where(x, 0.0)
    bits = y.view(f"u{y.itemsize}") + wrong.astype(f"u{y.itemsize}")
    return bits.view(y.dtype)


def test_which_of_two_nan_goes_on_is_open():
    nans = np.array([0x7FC00000, 0x7FC00001, 0x7FC00001, 0x3F800000], np.uint32).view(np.float32)
    one, others = np.ones(4, np.float32), nans[[1, 0, 1, 3]]
    assert not measure.different_bits(nans, others, {"grad": nans, "x": nans})[:3].any()
    assert measure.different_bits(nans, others, {"grad": nans, "x": one})[:2].all()
    assert measure.different_bits(nans, others, {"x": nans})[:2].all()


def test_an_exception_is_not_swallowed(quick, monkeypatch):
    def fail(y, x):
        raise ZeroDivisionError

    broken_table(monkeypatch, "relu", fail)
    with pytest.raises(ZeroDivisionError):
        command.main(["check", "--operation", "relu"])


def test_ctrl_c_gives_a_partial_table(quick, capsys, monkeypatch):
    real, calls = measure.wait, []

    def interrupted(futures, timeout):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(futures)

    monkeypatch.setattr(measure, "wait", interrupted)
    rows = check(capsys, "--operation", "leaky_relu", status=130)
    assert [row["complete"] for row in rows] == [
        complete for complete in (True, False) for _ in core.supported
    ]
    calls.clear()
    assert command.main(["check", "--operation", "leaky_relu"]) == 130
    assert "partial" in capsys.readouterr().out.splitlines()[-1]


# --------------------------------------------------------------------- references


@pytest.mark.parametrize("name", NAMES)
def test_bounds_are_those_of_the_tests_or_narrower(name):
    narrow, narrow_sampled, wide = operations.BY_NAME[name].bounds
    bounds = BY_NAME[name].bounds
    assert narrow <= 0.5
    assert narrow_sampled <= bounds["float16"]
    assert wide <= bounds["float32"]
    assert wide <= bounds["float64"]


@pytest.mark.parametrize("name", NAMES)
def test_float64_is_measured_as_in_the_tests(name):
    """Those are measured with mpmath."""
    pytest.importorskip("gmpy2")
    expectation, operation = BY_NAME[name], operations.BY_NAME[name]
    operands = [operand[::49] for operand in samples(expectation, "float64")]
    result = make_ufuncs("baseline")[name](*operands)
    values = dict(zip(operation.operands, operands, strict=True))
    mine = exact_results.ExactInMpfr(operation, values)
    wanted = exact(expectation, operands).error(result)
    np.testing.assert_allclose(mine.error(result), wanted, atol=1e-12)
    assert mine.misrounded(result) <= (wanted > 0.5 - 1e-12).sum()


@pytest.mark.parametrize("wide", [np.longdouble, None])
def test_without_gmpy2(quick, capsys, monkeypatch, wide):
    if wide is not None and errors.wider(np.dtype(np.float64)) is None:
        pytest.skip("nothing wider than float64")
    monkeypatch.setattr(exact_results, "gmpy2", None)
    if wide is None:
        real = errors.wider
        monkeypatch.setattr(
            errors, "wider", lambda dtype: None if dtype == np.float64 else real(dtype)
        )
    rows = check(capsys, "--operation", "sigmoid")
    command.main(["check", "--operation", "sigmoid"])
    found = [row["error"] for row in rows if row["dtype"] == "float64"]
    assert all((error is None) == (wide is None) for error in found)
    assert ("skipped" in capsys.readouterr().out) == (wide is None)


def test_without_ml_dtypes(quick, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    rows = check(capsys, "--operation", "relu")
    assert {row["dtype"] for row in rows} == set(FLOATS) - {"bfloat16"}


@pytest.mark.parametrize("dtype", FLOATS)
def test_random_operands_are_finite_and_of_all_magnitudes(dtype):
    dtype = np.dtype(dtype)
    values = inputs.random_numbers(dtype, 1 << 12, (1, 2))
    assert values.dtype == dtype
    info = errors.float_info(dtype)
    sizes = np.abs(values.astype(np.float64))
    assert np.isfinite(sizes).all()
    assert sizes.max() > float(info.max) / 4
    assert (sizes < float(info.smallest_normal)).any()
    assert np.array_equal(values, inputs.random_numbers(dtype, 1 << 12, (1, 2)))
    assert not np.array_equal(values, inputs.random_numbers(dtype, 1 << 12, (1, 3)))


def test_bfloat16_is_rounded_once():
    dtype = np.dtype("bfloat16")
    # The cast of ml_dtypes rounds the first one to 1.
    values = np.array([1 + 2**-8 + 2**-40, 1 + 2**-8, 1 + 3 * 2**-8, 2.0**-134, 3 * 2.0**-134])
    wanted = np.array([1 + 2**-7, 1, 1 + 2**-6, 0, 2.0**-132])
    rounded = errors.rounded(values, dtype)
    assert rounded.dtype == dtype
    np.testing.assert_array_equal(rounded.astype(np.float64), wanted)
    np.testing.assert_array_equal(
        errors.ulp_error(rounded, values), [0.5 - 2**-33, 0.5, 0.5, 0.5, 0.5]
    )


# ------------------------------------------------------------------------- peers


class Peer:
    """Half of the sigmoid, in float32."""

    name, version = "Half", "1.0"

    def __init__(self):
        self.used = []

    def prepare(self, operation, operands, out):
        x = operands.get("x")
        if operation.name != "sigmoid" or x.dtype != np.float32:
            return None
        return lambda: (operation.exact(np, x.astype(np.float64)) / 2).astype(x.dtype)

    def threads(self, n):
        self.used.append(n)
        return memoryview(b"")  # a context manager that does nothing


def test_peers(quick, capsys, monkeypatch):
    """Errors of peers are reported, and break nothing."""
    peer = Peer()
    install(monkeypatch, peer)
    rows = check(capsys, "--peers")
    assert {row["by"] for row in rows} == {"fastact", "Half 1.0"}
    halves = [row for row in rows if row["by"] != "fastact"]
    for half, operands in zip(halves, ["", "|x| <= 87.3"], strict=True):
        assert (half["operation"], half["dtype"]) == ("sigmoid", "float32")
        assert half["operands"] == operands
        assert half["error"] > 1e6
        assert not half["broken"]
    assert peer.used == [1]
    assert command.main(["check", "--peers", "--operation", "sigmoid"]) == 0
    assert "BROKEN" not in capsys.readouterr().out


def test_no_peers(quick, capsys, monkeypatch):
    install(monkeypatch)
    rows = check(capsys, "--peers", "--operation", "sigmoid")
    assert {row["by"] for row in rows} == {"fastact"}


def test_numpy_is_a_peer(quick, capsys, monkeypatch):
    install(monkeypatch, peers.NumPy())
    rows = check(capsys, "--peers", "--operation", "sigmoid")
    rows = [row for row in rows if row["dtype"] == "float32"]
    assert all(row["error"] < 2 for row in rows if row["by"] == "fastact")
    everywhere, normal = (row["error"] for row in rows if row["by"].startswith("NumPy"))
    assert normal < 4 < 1e6 < everywhere
