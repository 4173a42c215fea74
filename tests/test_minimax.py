"""The coefficients in `fastact/activations/*.pxd` are those that the method gives."""

import re
from pathlib import Path

import minimax
import mpmath
import pytest

FOLDER = Path(__file__).parents[1] / "fastact" / "activations"

# Of each fit: file, function, which branch of ``if real is float``, and the bits it has at least.
WRITTEN = {
    "exponential float32": ("exponential", "bend_of", 0, 28),
    "exponential float64": ("exponential", "bend_of", 1, 57),
    "exponential to float": ("exponential", "exponential_to_float", None, 34),
    "half tanh float32": ("exponential", "twice_tanh_of_half", 0, 32),
    "half tanh float64": ("exponential", "twice_tanh_of_half", 1, 57),
    "tanh float32": ("tanh", "tanh", None, 26),
    "logarithm float32": ("softplus", "bend_of_logarithm", 0, 27),
    "logarithm float64": ("softplus", "bend_of_logarithm", 1, 56),
    "gelu float32": ("gelu", "gelu_to_float", None, 31),
    "gelu float64": ("gelu", "gelu_in_parts", None, 59),
    "gelu gradient float32": ("gelu", "gelu_slope_to_float", None, 30),
    "gelu gradient float64": ("gelu", "gelu_backward_in_parts", None, 59),
    "gelu_tanh float64": ("gelu_tanh", "gelu_tanh_slope_near_zero", None, 67),
}
NUMBER = r"-?\d+\.\d+(?:e-?\d+)?"


def source(file, function):
    """The text of a function."""
    text = (FOLDER / f"{file}.pxd").read_text(encoding="utf-8")
    return re.search(rf"cdef inline \w+ {function}\(.*?(?=\n\n\n|\Z)", text, re.DOTALL)[0]


def coefficients(text):
    """Decimal fractions that `p..`, `first`, `second` and `third` are computed from."""
    names = rf"\b(?:p\d\d|first|second|third) = (fma\(.*\)|(?:<\w+> )?{NUMBER})"
    lines = re.findall(names, text)
    return [float(number) for line in lines for number in re.findall(NUMBER, line)]


def test_all_fits_are_written_somewhere():
    assert WRITTEN.keys() == minimax.FITS.keys()


def of_branch(name):
    """The text that a fit is written in, and its fit."""
    file, function, branch, _ = WRITTEN[name]
    text = source(file, function)
    if branch is not None:
        text = re.split(r"    if real is float:|    else:", text)[1 + branch]
    return text, minimax.FITS[name]


@pytest.mark.parametrize("name", minimax.FITS)
def test_coefficients_are_the_recorded_ones(name):
    """These are the best: their error has as many summits as it can have, of one height."""
    text, fit = of_branch(name)
    assert name in minimax.record(), f"{name}: run python tests/minimax.py"
    exact = minimax.exact_coefficients(minimax.record()[name])
    near, rest = minimax.rounded(fit, exact)
    assert sorted(fit.number(c) for c in coefficients(text)) == sorted(near)
    lows = re.findall(rf"\b(?:first|second|third)_low = ({NUMBER})", text)
    if name == "gelu float64":
        assert len(lows) == 3
    assert [float(low) for low in lows] == rest[: len(lows)]
    bits, level = minimax.error_bits(fit, exact)
    assert bits > WRITTEN[name][3]
    # The summits lie between the points that are looked at.
    assert level > 0.95


@pytest.mark.parametrize("name", minimax.FITS)
def test_recorded_coefficients_come_from_the_method(name, pytestconfig):
    """A fit takes up to half a minute: it is made anew if it has changed, and by --long."""
    fit, recorded = minimax.FITS[name], minimax.record()[name]
    unchanged = recorded["digest"] == minimax.digest(fit)
    if unchanged and not pytestconfig.getoption("long"):
        return
    exact, _ = minimax.minimax(fit)
    assert minimax.rounded(fit, minimax.exact_coefficients(recorded)) == minimax.rounded(fit, exact)
    assert unchanged, (
        f"{name} has changed: run python tests/minimax.py, which takes its digest anew"
    )


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh"])
def test_zero_of_the_derivative_of_gelu(name):
    line = re.search(r"zero_high = .*", source(name, f"{name}_backward_in_parts"))[0]
    high, low = map(float, re.findall(NUMBER, line))
    with mpmath.workdps(minimax.DIGITS):
        zero = getattr(minimax, f"{name}_zero")()
        assert high == float(mpmath.nstr(zero, 40))
        assert low == float(mpmath.nstr(zero - mpmath.mpf(high), 40))
