"""The coefficients in `fastact/activations.pxd` are those that the method gives."""

import re
from pathlib import Path

import minimax
import numpy as np
import pytest

import fastact


@pytest.fixture(scope="module")
def written():
    """Decimal fractions in the lines ``p.. = fma(...)`` of the source, by type."""
    text = Path(fastact.__file__).with_name("activations.pxd").read_text(encoding="utf-8")
    lines = [m.span() for m in re.finditer(r"p\d\d = fma\(.*\)", text)]
    branches = text[lines[0][0] : lines[-1][1]].split("else:")
    numbers = [re.findall(r"-?\d+\.\d+(?:e-?\d+)?", branch) for branch in branches]
    return dict(zip(minimax.DEGREES, numbers, strict=True))


@pytest.mark.parametrize("dtype", minimax.DEGREES)
def test_coefficients_come_from_the_method(written, dtype):
    found = sorted(np.dtype(dtype).type(number) for number in written[dtype])
    assert found == sorted(minimax.rounded(dtype))


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 28), ("float64", 57)])
def test_polynomial_is_good_enough(dtype, bits):
    _, error = minimax.minimax(minimax.DEGREES[dtype])
    assert error < 2.0**-bits
