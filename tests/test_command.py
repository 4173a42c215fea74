"""The command `fastact`, and the errors that it reports."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from looped import looped
from programs import output, run

import fastact
from fastact._command import cli as command
from fastact._command import console
from fastact._command.bench import race
from fastact._command.errors import exact, ulp_error, wider
from fastact._command.exact import MpfrFunctions
from fastact._command.samples import operands, sample
from fastact._core import ufuncs as core
from fastact._core.operations import BY_NAME, OPERATIONS
from fastact._core.runtime import threads

INFO_KEYS = "version compiler openmp threads isa_built isa_supported isa numpy python platform"
INFO_KEYS = [*INFO_KEYS.split(), "processor"]


# ------------------------------------------------------------------------- info


def test_info_json(capsys):
    assert command.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == INFO_KEYS
    assert facts["version"] == fastact.__version__
    assert facts["numpy"] == np.__version__
    assert facts["isa"] == core.isa
    assert facts["isa"] in facts["isa_supported"]
    assert facts["threads"] == threads.get_num_threads()
    assert set(facts["isa_supported"]) <= set(facts["isa_built"])
    assert facts["processor"]


def test_info_text(capsys):
    assert command.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(INFO_KEYS)
    assert lines[0].split() == ["version", fastact.__version__]


def test_info_tells_what_is_built(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "baseline" in name else find(name)
    )
    command.main(["info", "--json"])
    assert "baseline" not in json.loads(capsys.readouterr().out)["isa_built"]


def test_as_a_module(tmp_path):
    """It does the same in a new process, started in another folder."""
    program = "import runpy; runpy.run_module('fastact', run_name='__main__')"
    said = output(f"import sys; sys.argv[1:] = 'info', '--json'; {program}", folder=tmp_path)
    assert list(json.loads(said)) == INFO_KEYS


def test_import_leaves_the_command_out():
    program = (
        "import sys, fastact; print([m for m in sys.modules if m.startswith('fastact._command')],"
        " 'argparse' in sys.modules)"
    )
    assert output(program) == "[] False\n"


# ------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bnch"],
        ["info", "x"],
        ["info", "--size", "3"],
        ["bench", "--size"],
        ["bench", "--size", "0"],
        ["bench", "--size", "-1"],
        ["bench", "--size", "1.5"],
        ["bench", "--size", "many"],
        ["bench", "--size", str(10**12)],
        ["bench", "--size", "9" * 5000],
        ["bench", "--plot"],
        ["bench", "--epoch", "--peers"],
        ["bench", "--size", "16", "--epoch"],
        ["bench", "--size", "16", "--plot", "speed.svg"],
        ["bench", "--peers", "--epoch", "--plot", "speed.svg"],
        ["bench", "--hold", "avx2"],
        ["bench", "--hold", "avx2", "--plot", "speed.svg"],
        ["bench", "--peers", "--hold", "avx512"],
        ["check", "--isa", "none"],
        ["check", "--operation", "none"],
        ["check", "--exhaustive", "x"],
    ],
)
def test_bad_arguments(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    # rich-argparse writes "Usage".
    assert captured.err.lower().startswith("usage: fastact")


def test_options_that_do_not_go_together_are_named(capsys):
    with pytest.raises(SystemExit):
        command.main(["bench", "--plot", "speed.svg", "--size", "16"])
    assert "--size and --plot do not go together" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", ["bench --size", "bench --plot", "bench --format", "check --isa", "check --operation"]
)
def test_empty_values_are_refused(capsys, option):
    with pytest.raises(SystemExit) as stop:
        command.main([*option.split(), ""])
    assert stop.value.code == 2
    assert re.search(rf"argument {option.split()[1]}: .*''", capsys.readouterr().err)


# The commands, with hardly any work to do.
QUICK = """
import sys
from fastact._command import cli, timing
from fastact._command.bench import race

timing.SAMPLE_SECONDS, timing.ROUNDS, race.ERROR_INPUTS = 0, 1, 64
race.OPERATIONS = race.OPERATIONS[:1]
sys.exit(cli.main(ARGUMENTS))
"""
CLOSED = "fastact: error: stdout is closed"
FULL = "fastact: error: [Errno 28] No space left on device"
BENCH, CHECK = "bench --size 16 --json", "check --operation relu --isa baseline --json"
# The last line of stderr, if anything was written at all, and the exit status.
STREAMS = [
    *((arguments, ">&-", CLOSED, 1) for arguments in ("info", BENCH, CHECK)),
    *((arguments, ">/dev/full", FULL, 1) for arguments in ("info", BENCH, "--help")),
    ("--version", ">/dev/full", FULL, 1),
    ("--version", ">&-", f"fastact {fastact.__version__}", 0),
    *((arguments, "2>&-", "", 0) for arguments in ("info --json", BENCH, CHECK)),
    (BENCH, "2>/dev/full", "", 1),
    ("info --json", "<&-", "", 0),
    ("info", ">&- 2>&- <&-", "", 1),
    ("info", ">/dev/full 2>/dev/full", "", 1),
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
@pytest.mark.parametrize(("arguments", "redirection", "last", "status"), STREAMS)
def test_closed_streams_and_full_disks(arguments, redirection, last, status):
    command = "sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable
    done = run(QUICK.replace("ARGUMENTS", repr(arguments.split())), command=command)
    assert done.returncode == status, done.stderr
    assert done.stderr.splitlines()[-1:] == ([last] if last else [])
    if status == 0 and "--json" in arguments:
        assert json.loads(done.stdout)  # and no progress among it


@pytest.mark.parametrize("arguments", [[], ["info"], ["bench"], ["check"]])
@pytest.mark.parametrize("colors", ["terminal", "plain", "no rich-argparse"])
def test_help(capsys, monkeypatch, arguments, colors):
    """In colors on a terminal, if rich-argparse is there; in 80 columns and without else."""
    if colors == "terminal":
        pytest.importorskip("rich_argparse")
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
    else:
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "PYTHON_COLORS"):
            monkeypatch.delenv(name, raising=False)
        if colors == "no rich-argparse":
            monkeypatch.setitem(sys.modules, "rich_argparse", None)
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        command.main([*arguments, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert ("\x1b[" in text) == (colors == "terminal")
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert plain.lower().startswith(f"usage: {' '.join(['fastact', *arguments])} ")
    assert max(map(len, plain.splitlines())) <= 80
    if arguments:
        assert "\nexamples:\n  fastact " in plain.lower()


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fastact {fastact.__version__}\n"


def test_infinite_errors():
    """They are shown in the table. JSON lacks infinity, and must stay valid."""
    said = [console.ulp(error) for error in (None, 0.0, 1.234, 1e6, np.inf)]
    assert said == ["-", "0.00", "1.23", "1e6", "inf"]
    assert console.finite({"a": [np.inf, 1.5, None]}) == {"a": ["inf", 1.5, None]}


# ------------------------------------------------------------------- references


def test_operations_have_a_record_each():
    names = [operation.name for operation in OPERATIONS]
    assert list(BY_NAME) == names
    for operation in OPERATIONS:
        assert callable(operation.exact)
        assert callable(operation.numpy)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_exact_formula_takes_arrays_of_mpfr(operation):
    """The same formula gives the same values with NumPy and with MPFR."""
    gmpy2 = pytest.importorskip("gmpy2", reason="gmpy2 is not installed")
    values = operands(operation, np.array([-3.0, -0.5, 0.0, 0.25, 20.0]))
    numbers = [np.broadcast_to(value, 5) for value in values.values()]
    wide = [np.array([gmpy2.mpfr(v) for v in array.tolist()]) for array in numbers]
    results = operation.exact(MpfrFunctions(), *wide)
    np.testing.assert_allclose(
        [float(result) for result in results], operation.exact(np, *numbers), rtol=1e-14
    )


def test_functions_of_mpfr_have_the_names_of_numpy():
    gmpy2 = pytest.importorskip("gmpy2", reason="gmpy2 is not installed")
    functions = MpfrFunctions()
    x = np.array([gmpy2.mpfr(value) for value in (-0.5, 0.25)])
    for name in ("exp", "expm1", "log1p", "tanh", "abs", "sign", "sqrt"):
        operand = np.abs(x) if name == "sqrt" else x
        wanted = getattr(np, name)(operand.astype(float))
        np.testing.assert_allclose(getattr(functions, name)(operand).astype(float), wanted)
    assert functions.where(x < 0, 1, x).tolist() == [1, 0.25]
    with pytest.raises(AttributeError, match="NumPy has no function erf"):
        functions.erf(x)


@looped(
    ("dtype", "result", "value", "error"),
    [
        ("float32", 1, 1, 0),
        ("float32", 1, 1 + 2**-24, 0.5),
        ("float32", 1, 1 - 2**-25, 0.5),  # in the binade below, where the unit is half
        ("float32", 1 + 2**-23, 1, 1),
        ("float32", -1, 1, 2**24),
        ("float32", 0, 2**-149, 1),
        ("float32", 2**-149, 0, 1),
        ("float32", 2**-126, 2**-126 + 2**-151, 0.25),
        ("float32", 0, 2**-126, 2**23),
        ("float32", 0, 0, 0),
        ("float32", -0.0, 0, 0),
        ("float32", 0, 1e-300, 1e-300 * 2.0**149),
        ("float16", 1, 1 + 2**-10, 1),
        ("float16", 0, 2**-24, 1),
        ("float16", 65504, 65520 - 2**-10, 0.5 - 2**-15),
        ("float16", np.inf, 65520, 0),  # a tie, rounded to infinity
        ("float16", np.inf, 65519, np.inf),
        ("float16", 65504, 65520, 0.5),
        ("float32", np.inf, np.inf, 0),
        ("float32", np.inf, -np.inf, np.inf),
        ("float32", 1, np.inf, np.inf),
        ("float32", np.nan, np.nan, 0),
        ("float32", np.nan, 1, np.inf),
        ("float32", 1, np.nan, np.inf),
    ],
)
def test_ulp_error(dtype, result, value, error):
    assert ulp_error(np.array([result], dtype), np.array([value], np.float64)) == [error]


@pytest.mark.skipif(wider(np.dtype(np.float64)) is None, reason="nothing wider than float64")
def test_ulp_error_of_float64():
    one = np.longdouble(1)
    values = np.array([one + one / 2**53, one / 2**1074 / 2 / 2**537, 0 * one])
    tiny = 2.0**-1074
    errors = ulp_error(np.array([1, 0, tiny]), values)
    assert errors.tolist() == [0.5, 2.0**-538, 1]


def test_ulp_error_keeps_the_shape():
    assert ulp_error(np.ones((2, 3), np.float32), np.ones((2, 3))).shape == (2, 3)
    assert ulp_error(np.float32(1), np.float64(1)).shape == ()


def test_exact_sigmoid_in_both_tails():
    x = np.array([-745.0, -100.0, 0.0, 40.0, 800.0, -np.inf, np.inf])
    with np.errstate(all="raise", under="ignore"):
        s = BY_NAME["sigmoid"].exact(np, x)
        slope = BY_NAME["sigmoid_backward"].exact(np, np.ones_like(x), x)
    np.testing.assert_array_equal(s[2:], [0.5, 1, 1, 0, 1])
    np.testing.assert_allclose(s[:2], np.exp(x[:2]), rtol=1e-15)
    np.testing.assert_allclose(slope[:4], [*np.exp(x[:2]), 0.25, np.exp(-40.0)], rtol=1e-15)
    np.testing.assert_array_equal(slope[4:], 0)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
@looped("dtype", race.DTYPES)
def test_numpy_is_right_where_it_is_easy(operation, dtype):
    """The exact formula and NumPy's agree, apart from the tails."""
    dtype = np.dtype(dtype)
    x = np.linspace(-4, 4, 801).astype(dtype)
    values = operands(operation, x)
    out = np.empty_like(x)
    operation.numpy(*values.values(), out=out)
    wide = exact(operation, values, dtype)
    if wide is None:
        pytest.skip("nothing wider")
    assert ulp_error(out, wide).max() < operation.numpy_ulp


def test_sample():
    half = sample(np.dtype(np.float16), 1 << 20)
    assert np.unique(half.view(np.uint16)).size == 2 * 0x7C00  # all finite ones
    for dtype in race.DTYPES:
        values = sample(np.dtype(dtype), 1 << 12)
        assert values.dtype == dtype
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, sample(np.dtype(dtype), 1 << 12))
        # Every bit differs somewhere, the low ones too.
        bits = values.view(f"u{values.itemsize}")
        assert np.bitwise_or.reduce(bits) == np.iinfo(bits.dtype).max
