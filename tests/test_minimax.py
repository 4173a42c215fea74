"""The coefficients in `fastact/activations.pxd` are those that the method gives."""

import re
from pathlib import Path

import minimax
import pytest

import fastact

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written():
    """Decimal fractions in the lines ``p.. = fma(...)`` of the source, by name."""
    folder = Path(fastact.__file__).with_name("activations")
    text = "".join(path.read_text(encoding="utf-8") + "\n\n\n" for path in folder.glob("*.pxd"))
    both, narrow = (
        re.search(rf"cdef inline \w+ {function}\(.*?\n\n\n", text, re.DOTALL)[0]
        for function in ("reduce_argument", "sigmoid_narrow")
    )
    _, single, double = re.split(
        r"# Estrin's order.*?if real is float:|else:\n        t4", both, flags=re.DOTALL
    )
    return {
        name: re.findall(r"-?\d+\.\d+(?:e-?\d+)?", "".join(re.findall(r"p\d\d = fma\(.*\)", part)))
        for name, part in (("float32", single), ("float64", double), ("narrow", narrow))
    }


@pytest.mark.parametrize("name", minimax.DEGREES)
def test_coefficients_come_from_the_method(written, name):
    wanted = minimax.rounded(name)
    found = sorted(type(wanted[0])(number) for number in written[name])
    assert found == sorted(wanted)


@pytest.mark.parametrize(("name", "bits"), [("float32", 28), ("float64", 57), ("narrow", 23)])
def test_polynomial_is_good_enough(name, bits):
    _, error = minimax.minimax(minimax.DEGREES[name])
    assert error < 2.0**-bits
