"""A ufunc is complete with its reference, kernels, stub, benchmark and layer.

Each test says which of them is missing; CONTRIBUTING shows how to add it.
"""

import ast
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import reference

import fastact
from fastact import _check, _operations, _reference, _ufuncs, layers

SOURCE = Path(__file__).parents[1]
BENCHMARKS = SOURCE / "asv_bench" / "benchmarks" / "ufuncs.py"

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
    assert not extra, f"tests/reference.py has rows for {extra}, fastact/_operations.py has not"


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
    operations = {operation.name: operation for operation in _operations.OPERATIONS}
    assert name in operations, f"fastact/_operations.py lacks a row for {name}"
    if row := reference.BY_NAME.get(name):
        operands = operations[name].operands
        assert len(operands) == len(row.operands), f"{name}: operands in tests/reference.py differ"


@by_name
@pytest.mark.parametrize(
    ("module", "table"), [(_reference, "EXACT"), (_reference, "NUMPY"), (_check, "BOUNDS")]
)
def test_has_its_place_in_the_tables_of_the_command(name, module, table):
    assert name in getattr(module, table), f"{table} in {module.__file__} lacks {name}"


@pytest.mark.parametrize("row", sorted(_ufuncs.kernel_table("baseline")))
def test_kernel_row_is_used(row):
    stem = re.sub(r"_(narrow|(shared_)?(f|bf|i|u)\d+|\d)$", "", row)
    others = {"load", "store", "every_second", "transpose"}
    others |= {"add_to_rows", "sum_rows", "descend", "descend_with_momentum", "squared_error"}
    assert stem in others | set(UFUNCS), f"fastact/_operations.py lacks {stem}, of kernel {row}"


@by_name
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_has_kernels(isa, name, kind):
    table = _ufuncs.kernel_table(isa)
    assert f"{name}_{kind}" in table, f"_kernels/kernels.pxi lacks a row {name}_{kind}"
    operation = next(row for row in _operations.OPERATIONS if row.name == name)
    if operation.default is not None:
        assert f"{name}_shared_{kind}" in table, (
            f"_kernels/kernels.pxi lacks a row {name}_shared_{kind}"
        )


def test_kernel_tables_are_alike():
    tables = {isa: set(_ufuncs.kernel_table(isa)) for isa in _ufuncs.supported}
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
def benchmarked():
    """Names among the parameters of the benchmarks."""
    if not BENCHMARKS.parent.parent.exists():
        pytest.skip("no asv_bench beside the tests: not the whole source tree")
    spec = importlib.util.spec_from_file_location("fastact_benchmarks", BENCHMARKS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    suites = [suite for suite in vars(module).values() if isinstance(suite, type)]
    parameters = [values for suite in suites for values in getattr(suite, "params", ())]
    return {str(value) for values in parameters for value in values}


@by_name
def test_has_a_benchmark(benchmarked, name):
    assert name in benchmarked, f"asv_bench/benchmarks/ufuncs.py lacks {name}"


@pytest.mark.parametrize("name", FORWARD)
def test_has_a_layer(name):
    wanted = name.replace("_", "")
    assert wanted in map(str.lower, layers.__all__), f"fastact/layers.py lacks a layer for {name}"


@pytest.mark.parametrize("name", FORWARD)
def test_has_a_backward(name):
    assert f"{name}_backward" in UFUNCS, f"{name} lacks its backward pass"
