"""The compiled functions: what the table of operations gives, with the bits of the ufuncs."""

from pathlib import Path

import numpy as np
import pointers
import pytest
import reference
from clients import python
from looped import looped

import fastact
import fastact.cy

NAMES = sorted(reference.BY_NAME)


@pytest.mark.parametrize("name", NAMES)
def test_every_ufunc_has_its_functions(name):
    arrays, number = pointers.operands_of(name)
    for kind, real in ("f32", "float"), ("f64", "double"):
        types = [f"{real} const *"] * len(arrays) + [real] * number + [f"{real} *", "Py_ssize_t"]
        assert pointers.signature(f"{name}_{kind}") == f"void ({', '.join(types)})"
    types = ["double"] * (len(arrays) + number)
    assert pointers.signature(f"{name}_scalar") == f"double ({', '.join(types)})"


def test_there_are_no_others():
    kinds = "f32", "f64", "scalar"
    expected = {f"{name}_{kind}" for name in NAMES for kind in kinds}
    assert set(fastact.cy.__pyx_capi__) == expected | {"activated_sum"}


@looped("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", NAMES)
def test_arrays(name, kind):
    pointers.compare(name, kind)


@pytest.mark.parametrize("name", NAMES)
def test_scalars(name):
    pointers.compare_scalar(name)


def test_every_instruction_set(isa):
    program = str(Path(__file__).with_name("pointers.py"))
    run = python(program, folder=Path(program).parent, FASTACT_ISA=isa)
    assert run.stdout.strip() == isa


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0, 3])
def test_large_arrays(shift):
    """Of more than 32 MiB, which are written past the cache."""
    n = (1 << 23) + 11
    x = np.linspace(-9, 9, n + shift, dtype=np.float32)[shift:]
    expected, out = fastact.sigmoid(x), np.empty_like(x)
    call = pointers.function("sigmoid", "f32")
    call(x.ctypes.data, out.ctypes.data, n)
    assert pointers.same_bits(out, expected)
    call(x.ctypes.data, x.ctypes.data, n)
    assert pointers.same_bits(x, expected)


@looped("n", [0, -1, -(2**62)])
@pytest.mark.parametrize("name", NAMES)
def test_no_elements(name, n):
    for kind in "f32", "f64":
        arrays, number = pointers.operands_of(name)
        pointers.function(name, kind)(*[None] * len(arrays), *[0.5] * number, None, n)
