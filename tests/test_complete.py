"""A ufunc is complete with its record, expectation, kernels, stub, benchmarks and layer.

Each message starts with the file in which something is missing. CONTRIBUTING shows how to add an
activation.
"""

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import reference
from conftest import load_developers, needs_signatures
from looped import looped

import fastact
from fastact._core import operations
from fastact._core import ufuncs as core

PACKAGE = Path(fastact.__file__).parent
UFUNCS = [
    name
    for name, value in vars(fastact).items()
    if isinstance(value, np.ufunc) and value.signature is None
]
ROWS = [operation.name for operation in operations.ROW_OPERATIONS]
FORWARD = [name for name in UFUNCS if "_backward" not in name]
FILES = sorted(
    path.stem
    for path in (PACKAGE / "_core" / "operations").glob("*.py")
    if path.stem not in ("__init__", "record")
)
# Read from the source: a layer whose ufunc is missing cannot even be imported.
LAYERS = [
    name
    for path in sorted((PACKAGE / "layers").glob("*.py"))
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    for name in ast.literal_eval(node.value)
]
by_name = pytest.mark.parametrize("name", UFUNCS)


def test_ufuncs_are_all_public():
    assert set(UFUNCS) < set(fastact.__all__)


@pytest.mark.parametrize("name", fastact.__all__)
def test_public_names_have_docstrings_and_stubs(name):
    assert getattr(fastact, name).__doc__
    stub = (PACKAGE / "__init__.pyi").read_text()
    assert f'    "{name}",\n' in stub, f"fastact/__init__.pyi: add {name} to __all__"


# -------------------------------------------------------------------------- records


@pytest.mark.parametrize("file", FILES)
def test_file_of_operations_is_collected(file):
    module = importlib.import_module(f"fastact._core.operations.{file}")
    records = getattr(module, "OPERATIONS", ())
    if set(getattr(module, "ROW_OPERATIONS", ())) & set(operations.ROW_OPERATIONS):
        return
    assert records, f"fastact/_core/operations/{file}.py: add a tuple OPERATIONS of its records"
    lacking = [record.name for record in records if record not in operations.OPERATIONS]
    assert not lacking, (
        f"fastact/_core/operations/__init__.py: add *{file}.OPERATIONS to OPERATIONS; "
        f"{', '.join(lacking)} are not in it"
    )


def test_every_record_is_in_a_tuple():
    for file in FILES:
        module = importlib.import_module(f"fastact._core.operations.{file}")
        found = {v.name for v in vars(module).values() if isinstance(v, operations.Operation)}
        lacking = sorted(found - {record.name for record in getattr(module, "OPERATIONS", ())})
        assert not lacking, (
            f"fastact/_core/operations/{file}.py: add {', '.join(lacking)} to OPERATIONS"
        )


@pytest.mark.parametrize(
    "record", [*operations.OPERATIONS, *operations.ROW_OPERATIONS], ids=lambda record: record.name
)
def test_record_refers_to_records(record):
    file = "fastact/_core/operations"
    for name in record.see.split(", "):
        assert name in {*operations.BY_NAME, *ROWS}, f"{file}: see of {record.name} names {name}"
    if record.output_of:
        if record.output_of in ROWS:
            return
        activation = operations.BY_NAME.get(record.output_of)
        assert activation, f"{file}: output_of of {record.name} names {record.output_of}"
        assert activation.range, f"{file}: add the range of {activation.name}, for its outputs"


@by_name
def test_has_an_operation(name):
    assert name in operations.BY_NAME, f"fastact/_core/operations: add a record for {name}"


# ------------------------------------------------------------------------- formulas

FORMULAS = Path(__file__).parents[1] / "fastact" / "activations"
HEAD = re.compile(r'"""[^\n]+\.\n\nMethod: .+[.]\nError: (.+[.])\nRange: .+[.]\n(?="""|\n)')


@pytest.mark.parametrize("file", sorted(path.name for path in FORMULAS.glob("*.pxd")))
def test_formulas_begin_with_three_lines(file):
    head = HEAD.match((FORMULAS / file).read_text(encoding="utf-8"))
    assert head, (
        f"fastact/activations/{file}: begin with a title, and lines for Method:, Error: and Range:"
    )
    records = [*operations.OPERATIONS, *operations.ROW_OPERATIONS]
    bounds = [r.bounds.wide for r in records if r.name.partition("_backward")[0] == file[:-4]]
    errors = [float(figure) for figure in re.findall(r"(?<![\d*-])\d+\.\d+", head[1])]
    assert not bounds or max(errors, default=0) <= max(bounds), (
        f"fastact/activations/{file}: an error is above the bounds of the record, {bounds}"
    )


# --------------------------------------------------------------------- expectations


def test_there_is_no_expectation_too_many():
    extra = sorted(set(reference.BY_NAME) - set(UFUNCS))
    assert not extra, f"fastact/_core/operations: add records for {', '.join(extra)}"


@by_name
def test_has_an_expectation(name):
    expectation = reference.BY_NAME.get(name)
    assert expectation, f"tests/reference.py: add an Expectation for {name}"
    assert set(expectation.bounds) == set(reference.FLOATS), (
        f"tests/reference.py: add error bounds for {name}"
    )
    assert expectation.special, f"tests/reference.py: add special values for {name}"
    if expectation.output_of:
        activation = reference.BY_NAME.get(expectation.output_of)
        assert activation, f"tests/reference.py: add an Expectation for {expectation.output_of}"
        assert activation.range, f"tests/reference.py: add the range of {activation.name}"


@looped("field", ["integers", "range", "monotone", "output_of", "peers"])
@by_name
def test_expectation_agrees_with_the_record(name, field):
    expectation, record = reference.BY_NAME.get(name), operations.BY_NAME.get(name)
    assert expectation, f"tests/reference.py: add an Expectation for {name}"
    assert len(record.operands) == len(expectation.operands), (
        f"tests/reference.py: operands of {name} differ from those of its record"
    )
    expected, recorded = getattr(expectation, field), getattr(record, field)
    if field == "peers":
        expected, recorded = sorted(expected), sorted(recorded)
    assert expected == recorded, (
        f"tests/reference.py: {field} of {name} is {expected}, and {recorded} in its record"
    )


# -------------------------------------------------------------------------- kernels


@looped("kernel", sorted(core.kernel_table("baseline")))
def test_kernel_is_used(kernel):
    stem = re.sub(r"_(narrow|(shared_)?(f|bf|i|u)\d+|\d)$", "", kernel)
    others = {"load", "store", "every_second", "transpose", "stream"}
    others |= {"add_to_rows", "sum_rows", "descend", "descend_with_momentum"}
    others |= {"squared_error", "logistic_loss", "softmax_loss"}
    others |= {f"{name}_{form}" for name in ROWS for form in ("rows", "columns")}
    assert stem in others | set(UFUNCS), (
        f"fastact/_core/operations: add a record for {stem}, of the kernel {kernel}"
    )


@by_name
def test_kernels_are_those_that_the_record_asks_for(isa, name):
    record, table = operations.BY_NAME[name], core.kernel_table(isa)
    wanted = {
        "f32": True,
        "f64": True,
        "shared_f32": bool(record.parameter),
        "shared_f64": bool(record.parameter),
        "narrow": record.narrow == "own",
        "f16": record.narrow == "bits",
        "bf16": record.narrow == "bits",
        "i32": record.integers,
    }
    for kernel, asked in wanted.items():
        said = f"{'add' if asked else 'remove'} a kernel {name}_{kernel}, or change its record: "
        assert (f"{name}_{kernel}" in table) == asked, (
            f"fastact/_core/generate.py: {said}{record.narrow=}, {record.integers=}"
        )


def test_kernel_tables_are_alike():
    tables = {isa: set(core.kernel_table(isa)) for isa in core.supported}
    assert all(table == tables["baseline"] for table in tables.values()), tables


# ------------------------------------------------------ stub, benchmarks and layers


@cache
def stub():
    return ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body


@by_name
def test_has_a_stub(name):
    body = stub()
    typed = {node.target.id for node in body if isinstance(node, ast.AnnAssign)}
    assert name in typed, f"fastact/__init__.pyi: add the type of {name}"
    public = next(
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert name in public, f"fastact/__init__.pyi: add {name} to __all__"


@needs_signatures
@pytest.mark.parametrize("name", [*UFUNCS, *ROWS])
def test_stub_has_the_operands_of_the_signature(name):
    """Those by position only, and those by position or name. `out` may be either in both."""
    wanted = next(node for node in stub() if getattr(node, "name", "") == f"_{name}").body[0].args
    parameters = inspect.signature(getattr(fastact, name)).parameters.values()
    only = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    either = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert ["self", *only] == [argument.arg for argument in wanted.posonlyargs]
    assert either == [argument.arg for argument in wanted.args]


@pytest.fixture(scope="module")
def benchmarked(benchmarks):
    """Parameters of every benchmark, by its name."""
    return {
        benchmark.name: {
            str(v)
            for values in getattr(benchmark.suite, "params", ())
            for v in np.atleast_1d(values)
        }
        for benchmark in benchmarks
    }


@by_name
def test_has_benchmarks(benchmarked, name):
    for benchmark in ("times.Ufuncs.time_call", "ratios.InCache.track_over_memcpy"):
        assert name in benchmarked[benchmark], f"asv_bench/benchmarks: add {name} to {benchmark}"


@pytest.mark.parametrize("name", ROWS)
def test_operation_on_rows_is_complete(benchmarked, name):
    stub = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")
    assert f"{name}: _{name} | ufunc" in stub
    for form in ("rows", "columns"):
        for kind in ("f32", "f64"):
            assert f"{name}_{form}_{kind}" in core.kernel_table("baseline")
    for benchmark in ("times.Rows.time_call", "ratios.Rows.track_over_numpy"):
        assert name in benchmarked[benchmark], f"asv_bench/benchmarks: add {name} to {benchmark}"
    if "_backward" not in name:
        assert name.replace("_", "") in map(str.lower, LAYERS)
        assert f"{name}_backward" in ROWS


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"Layer", "Activation"}))
def test_layer_has_benchmarks(benchmarked, name):
    for benchmark in ("times.Layers.time_forward", "ratios.Layers.track_backward"):
        assert name in benchmarked[benchmark], f"asv_bench/benchmarks: add {name} to {benchmark}"
    from benchmarks import _cases

    try:
        _cases.make_layer(name, _cases.SMALL)
    except TypeError as error:
        pytest.fail(f"asv_bench/benchmarks/_cases.py: add {name} to ARGUMENTS: {error}")


# A benchmark of asv for each goal. asv has no peers, so the rival may be another one.
BENCHMARKS_OF_GOALS = {
    "16 elements, out=": "SmallCall.track_over_negative",
    "16 elements, new result": "SmallCall.track_over_negative",
    "no exponential, 1,024 and 65,536": "InCache.track_over_memcpy",
    "sigmoid, 1,024": "Sigmoid.track_over_numpy",
    "sigmoid, 65,536": "Sigmoid.track_over_numpy",
    "gradient from the output, 65,536": "InCache.track_over_memcpy",
    "other exponentials, 65,536": "InCache.track_over_memcpy",
    "sigmoid_backward, 65,536": "Own.track_sigmoid_backward",
    "16 Mi, out=": "OutOfCache.track_over_memcpy",
    "exponential, float32, 16 Mi, out=": "OutOfCache.track_over_memcpy",
    "16 Mi, new result, second call on": "OutOfCache.track_over_memcpy",
    "sigmoid, 65,536, stride 2 and transposed": "InCache.track_over_memcpy",
    "relu, 65,536, stride 2 and transposed": "InCache.track_over_memcpy",
    "sigmoid on denormal inputs, 65,536": "Own.track_denormals",
    "in place, 65,536": "InPlace.track_over_out_of_place",
    "16-bit types, 65,536": "InCache.track_over_memcpy",
    "slope that is a NumPy scalar or an array of one, 16, out=": "Beside.track_over_the_plain_call",
    "slope that is a float64 scalar, 16, new result": "Beside.track_over_the_plain_call",
    "gradient with a slope that is a NumPy scalar, 1,024": "Beside.track_over_the_plain_call",
    "slope per column, channel and row, new result": "Beside.track_over_the_plain_call",
    "view of columns, new result": "Beside.track_over_the_plain_call",
    "images with the channels last, out=": "Beside.track_over_the_plain_call",
    "images with the channels last, new result": "Beside.track_over_the_plain_call",
    "sigmoid of a number": "Beside.track_over_the_plain_call",
    "sigmoid of integers, 16, new result": "Beside.track_over_the_plain_call",
    "relu float64, 65,536, stride 2": "InCache.track_over_memcpy",
    "softmax of rows, out=": "Rows.track_over_numpy",
    "logarithm and gradients of softmax of rows, out=": "Rows.track_over_numpy",
    "a row, 65,536, out=": "Rows.track_over_numpy",
    "4 Mi on all threads, over one": "Threads.track_over_one_thread",
    "4 Mi on all threads, over one, other processors busy": "Threads.track_over_one_thread",
}


def test_goals_have_benchmarks(benchmarked):
    goals = importlib.import_module(f"{load_developers().__name__}.goals").GOALS
    for work in {goal.work for goal in goals}:
        assert work in BENCHMARKS_OF_GOALS, f"tests/test_complete.py: add a benchmark for {work!r}"
        assert f"ratios.{BENCHMARKS_OF_GOALS[work]}" in benchmarked


@pytest.mark.parametrize("name", FORWARD)
def test_activation_has_a_backward_and_a_layer(name):
    assert f"{name}_backward" in UFUNCS, (
        f"fastact/_core/operations/{name}.py: add a record for {name}_backward"
    )
    # A form of gelu is a setting of its layer.
    wanted = name.replace("_", "") if name != "gelu_tanh" else "gelu"
    assert wanted in map(str.lower, LAYERS), (
        f"fastact/layers/_activations.py: add a layer for {name}"
    )
    expectation = reference.BY_NAME.get(name)
    assert expectation, f"tests/reference.py: add an Expectation for {name}"
    assert expectation.layers, f"tests/reference.py: add a LayerExpectation for {name}"
