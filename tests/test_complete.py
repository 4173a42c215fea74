"""A ufunc is complete with its reference, kernels, stub, benchmark and layer.

Each test says which of them is missing; CONTRIBUTING shows how to add it.
"""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import reference

import fastact
from fastact import layers
from fastact._command import bench_peers, check
from fastact._command import reference as command_reference
from fastact._core import operations
from fastact._core import ufuncs as core

UFUNCS = [name for name, value in vars(fastact).items() if isinstance(value, np.ufunc)]
FORWARD = [name for name in UFUNCS if "_backward" not in name]
by_name = pytest.mark.parametrize("name", UFUNCS)


def test_ufuncs_are_all_public():
    assert set(UFUNCS) < set(fastact.__all__)


@pytest.mark.parametrize("name", fastact.__all__)
def test_public_names_have_docstrings_and_stubs(name):
    assert getattr(fastact, name).__doc__
    stub = Path(fastact.__file__).with_name("__init__.pyi").read_text()
    assert f'    "{name}",\n' in stub, f"__all__ in fastact/__init__.pyi lacks {name}"


def test_reference_has_no_row_too_many():
    extra = set(reference.BY_NAME) - set(UFUNCS)
    assert not extra, f"tests/reference.py has rows for {extra} that OPERATIONS lacks"


@by_name
def test_has_a_reference(name):
    assert name in reference.BY_NAME, f"tests/reference.py lacks a row for {name}"
    row = reference.BY_NAME[name]
    assert set(row.bounds) == set(reference.FLOATS), (
        f"{name} lacks an error bound in tests/reference.py"
    )
    assert row.special, f"{name} lacks special values in tests/reference.py"


@by_name
def test_has_an_operation(name):
    known = {operation.name: operation for operation in operations.OPERATIONS}
    assert name in known, f"fastact/_core/operations.py lacks a row for {name}"
    if row := reference.BY_NAME.get(name):
        operands = known[name].operands
        assert len(operands) == len(row.operands), f"{name}: operands in tests/reference.py differ"


@by_name
@pytest.mark.parametrize(
    ("module", "table"),
    [(command_reference, "EXACT"), (command_reference, "NUMPY"), (check, "BOUNDS")],
)
def test_has_its_place_in_the_tables_of_the_command(name, module, table):
    assert name in getattr(module, table), f"{table} in {module.__file__} lacks {name}"


@pytest.mark.parametrize("row", sorted(core.kernel_table("baseline")))
def test_kernel_row_is_used(row):
    stem = re.sub(r"_(narrow|(shared_)?(f|bf|i|u)\d+|\d)$", "", row)
    others = {"load", "store", "every_second", "transpose", "stream"}
    others |= {"add_to_rows", "sum_rows", "descend", "descend_with_momentum", "squared_error"}
    assert stem in others | set(UFUNCS), f"OPERATIONS lacks {stem}, of kernel {row}"


@by_name
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_has_kernels(isa, name, kind):
    table = core.kernel_table(isa)
    assert f"{name}_{kind}" in table, f"_core/kernels/kernels.pxi lacks a row {name}_{kind}"
    operation = next(row for row in operations.OPERATIONS if row.name == name)
    if operation.default is not None:
        assert f"{name}_shared_{kind}" in table, (
            f"_core/kernels/kernels.pxi lacks a row {name}_shared_{kind}"
        )


def test_kernel_tables_are_alike():
    tables = {isa: set(core.kernel_table(isa)) for isa in core.supported}
    assert all(table == tables["baseline"] for table in tables.values()), tables


@by_name
def test_has_a_stub(name):
    stub = Path(fastact.__file__).with_name("__init__.pyi")
    body = ast.parse(stub.read_text(encoding="utf-8")).body
    typed = {node.target.id for node in body if isinstance(node, ast.AnnAssign)}
    assert name in typed, f"fastact/__init__.pyi lacks {name}"
    public = next(
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert name in public, f"__all__ in fastact/__init__.pyi lacks {name}"


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
        assert name in benchmarked[benchmark], f"asv_bench: {benchmark} lacks {name}"


@pytest.mark.parametrize("name", sorted(set(layers.__all__) - {"Layer", "Activation"}))
def test_layer_has_benchmarks(benchmarked, name):
    for benchmark in ("times.Layers.time_forward", "ratios.Layers.track_backward"):
        assert name in benchmarked[benchmark], f"asv_bench: {benchmark} lacks {name}"
    from benchmarks import _cases

    try:
        _cases.make_layer(name, _cases.SMALL)
    except TypeError as error:
        pytest.fail(f"ARGUMENTS in {_cases.__file__} lacks what {name} needs: {error}")


# What is held against peers there has another rival in asv, which has no peers.
BENCHMARKS_OF_TARGETS = {
    "16 elements, out=": "SmallCall.track_over_negative",
    "16 elements, new result": "SmallCall.track_over_negative",
    "relus and their backward, 1,024 and 65,536": "InCache.track_over_memcpy",
    "sigmoid, 1,024": "Sigmoid.track_over_numpy",
    "sigmoid, 65,536": "Sigmoid.track_over_numpy",
    "sigmoid_backward_from_output, 65,536": "InCache.track_over_memcpy",
    "sigmoid_backward, 65,536": "Own.track_sigmoid_backward",
    "16 Mi, out=": "OutOfCache.track_over_memcpy",
    "sigmoid float32, 16 Mi, out=": "OutOfCache.track_over_memcpy",
    "16 Mi, new result, second call on": "OutOfCache.track_over_memcpy",
    "sigmoid, 65,536, stride 2 and transposed": "InCache.track_over_memcpy",
    "relu, 65,536, stride 2 and transposed": "InCache.track_over_memcpy",
    "sigmoid on denormal inputs, 65,536": "Own.track_denormals",
    "in place, 65,536": "InPlace.track_over_out_of_place",
    "16-bit types, 65,536": "InCache.track_over_memcpy",
}


@pytest.mark.parametrize("work", sorted({row.work for row in bench_peers.ROWS}))
def test_target_has_a_benchmark(benchmarked, work):
    assert work in BENCHMARKS_OF_TARGETS, f"asv_bench/benchmarks/ratios.py lacks {work}"
    assert f"ratios.{BENCHMARKS_OF_TARGETS[work]}" in benchmarked


@pytest.mark.parametrize("name", FORWARD)
def test_has_a_layer(name):
    wanted = name.replace("_", "")
    assert wanted in map(str.lower, layers.__all__), f"fastact/layers lacks a layer for {name}"


@pytest.mark.parametrize("name", FORWARD)
def test_has_a_backward(name):
    assert f"{name}_backward" in UFUNCS, f"{name} lacks its backward pass"
