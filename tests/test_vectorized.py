"""gcc has vectorized every loop over a formula, on every instruction set that is built.

The build keeps its report, by function: a file for each unit of kernels in build/vectorized/.
"""

import re
from pathlib import Path

import pytest

from fastact._core import ufuncs as core

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "build" / "vectorized"
LOOPS = ROOT / "fastact" / "_core" / "kernels" / "loops"
BUILT = [name for name in core.supported if (REPORTS / name).is_dir()]

pytestmark = [
    pytest.mark.compiler,
    pytest.mark.skipif(not BUILT, reason="no report: not built here, or not by gcc"),
]

# Loops that are not vectorized, and why.
EVERYWHERE = {f"relu_u{bits}": "becomes a memcpy" for bits in (8, 16, 32, 64)}
EXCEPTIONS = {
    "baseline": {
        "relu_i64": "SSE2 has no comparison of 64-bit integers",
        "find_top1": "as relu_i64",
        **{f"{name}_backward_f64": "ends with fma of the C library" for name in ("silu", "gelu")},
    },
}
# Functions of the other units in which a loop must be vectorized, of a fused type; the
# number at the end is that of the type.
OTHERS = {
    "copies": {"load_bf16", "store_bf16", "every_second0", "every_second1", "every_second2"},
    "training": {
        f"{name}{kind}"
        for name in ("add_to_rows", "sum_rows", "descend", "descend_with_momentum", "squared_error")
        for kind in (0, 1)
    },
    "rows": {f"{name}{kind}" for name in ("find_top", "sum_row", "scale_row") for kind in (0, 1)},
}


def vectorized(isa, unit):
    """The functions with a vectorized loop."""
    text = (REPORTS / isa / f"{unit}.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^(\w+): loop vectorized", text, re.MULTILINE))


def loops(unit):
    """The loops of a unit in the kernel table."""
    text = (LOOPS / f"{unit}.pyx").read_text(encoding="utf-8")
    return set(re.findall(r'add\(table, b"(\w+)"', text))


ACTIVATIONS = sorted({path.stem for path in LOOPS.glob("*.pyx")} - OTHERS.keys())


@pytest.mark.parametrize("built", BUILT)
def test_every_loop_over_a_formula(built):
    exceptions = EVERYWHERE.keys() | EXCEPTIONS.get(built, {}).keys()
    plain, better = [], []
    for unit in ACTIVATIONS:
        done = vectorized(built, unit)
        plain += loops(unit) - done - exceptions
        better += done & exceptions
    assert not plain, f"{built}: not vectorized: {', '.join(sorted(plain))}"
    assert not better, f"{built}: vectorized, so no exception: {', '.join(sorted(better))}"


@pytest.mark.parametrize("built", BUILT)
@pytest.mark.parametrize("unit", OTHERS)
def test_loops_of_other_units(unit, built):
    lacking = OTHERS[unit] - vectorized(built, unit) - EXCEPTIONS.get(built, {}).keys()
    assert not lacking, f"{built}: not vectorized: {', '.join(sorted(lacking))}"
