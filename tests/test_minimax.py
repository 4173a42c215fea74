"""The coefficients in `fastact/activations/*.pxd` are those that the method gives."""

import re
from pathlib import Path

import minimax
import mpmath
import numpy as np
import pytest
import ties

FOLDER = Path(__file__).parents[1] / "fastact" / "activations"

# Of each fit: file, function, which branch of ``if real is float``, and the bits it has at least.
WRITTEN = {
    "exponential float32": ("exponential", "bend_of", 0, 28),
    "exponential float64": ("exponential", "bend_of", 1, 57),
    "exponential narrow": ("sigmoid", "sigmoid_narrow", None, 23),
    "exponential to float": ("exponential", "exponential_to_float", None, 34),
    "half tanh float32": ("exponential", "twice_tanh_of_half", 0, 32),
    "half tanh float64": ("exponential", "twice_tanh_of_half", 1, 57),
    "tanh float32": ("tanh", "tanh", None, 26),
    "logarithm float32": ("softplus", "bend_of_logarithm", 0, 27),
    "logarithm float64": ("softplus", "bend_of_logarithm", 1, 56),
    "gelu float64": ("gelu", "gelu_in_parts", None, 59),
    "gelu gradient float32": ("gelu", "gelu_slope_to_float", None, 30),
    "gelu gradient float64": ("gelu", "gelu_backward_in_parts", None, 59),
    "gelu quotient float32": ("gelu", "gelu_in_float", None, 26.9),
    "gelu gradient quotient float32": ("gelu", "gelu_backward_in_float", None, 25.8),
    "gelu_tanh exponential": ("gelu_tanh", "gelu_tanh_in_float", None, 28),
}
# From these, `ties.py` finds the ones that are written, and their errors in bits.
MOVED = {"gelu narrow": 21, "gelu narrow exponential": 23, "gelu_tanh narrow exponential": 23}
NUMBER = r"-?\d+\.\d+(?:e-?\d+)?"


def source(file, function):
    """The text of a function."""
    text = (FOLDER / f"{file}.pxd").read_text(encoding="utf-8")
    return re.search(rf"cdef inline \w+ {function}\(.*?(?=\n\n\n|\Z)", text, re.DOTALL)[0]


def coefficients(text):
    """Decimal fractions that `p..`, `q..`, `first`, `second` and `third` are computed from."""
    names = rf"\b(?:[pq]\d\d|first|second|third) = (fma\(.*\)|(?:t \+ )?(?:<\w+> )?{NUMBER})"
    lines = re.findall(names, text)
    return [float(number) for line in lines for number in re.findall(NUMBER, line)]


def test_all_fits_are_written_somewhere():
    assert WRITTEN.keys() | MOVED.keys() == minimax.FITS.keys()


def of_branch(name):
    """The text that a fit is written in, and its fit."""
    file, function, branch, _ = WRITTEN[name]
    text = source(file, function)
    if branch is not None:
        text = re.split(r"    if real is float:|    else:", text)[1 + branch]
    return text, minimax.FITS[name]


@pytest.mark.parametrize("name", WRITTEN)
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


@pytest.mark.parametrize("name", MOVED)
def test_coefficients_are_moved_from_the_best(name):
    fit, exact = minimax.FITS[name], minimax.exact_coefficients(minimax.record()[name])
    bits, level = minimax.error_bits(fit, exact)
    assert bits > MOVED[name]
    assert level > 0.95


@pytest.mark.parametrize("name", ties.FORMULAS)
def test_coefficients_for_16_bits_are_those_of_the_search(name):
    """Whether their results are right is seen by `test_ufuncs`, for all inputs."""
    text = source(name, f"{name}_narrow")
    names = rf"\b(?:[epq]\d\d|u) = (fma\(.*\)|t \+ <float> {NUMBER})"
    written = [float(n) for line in re.findall(names, text) for n in re.findall(NUMBER, line)]
    found, _ = ties.search(name)
    assert sorted(written) == sorted(found.tolist())


@pytest.mark.parametrize("name", minimax.FITS)
def test_recorded_coefficients_come_from_the_method(name, pytestconfig):
    """A fit takes up to half a minute: it is made anew if it has changed, and by --long."""
    fit, recorded = minimax.FITS[name], minimax.record()[name]
    unchanged = recorded["digest"] == minimax.digest(fit)
    if unchanged and not pytestconfig.getoption("long"):
        return
    exact, _ = minimax.best(fit)
    assert minimax.rounded(fit, minimax.exact_coefficients(recorded)) == minimax.rounded(fit, exact)
    assert unchanged, (
        f"{name} has changed: run python tests/minimax.py, which takes its digest anew"
    )


def test_zero_of_the_derivative_of_gelu():
    line = re.search(r"zero_high = .*", source("gelu", "gelu_backward_in_parts"))[0]
    high, low = map(float, re.findall(NUMBER, line))
    with mpmath.workdps(minimax.DIGITS):
        zero = minimax.gelu_zero()
        assert high == float(mpmath.nstr(zero, 40))
        assert low == float(mpmath.nstr(zero - mpmath.mpf(high), 40))


def test_cubic_of_gelu_tanh_in_float():
    """In two floats each. The first of `slope` has 22 bits."""
    text = source("gelu_tanh", "gelu_tanh_in_float")
    with mpmath.workdps(minimax.DIGITS):
        slope = 2 * mpmath.sqrt(2 / mpmath.pi) / mpmath.log(2)
        for name, exact in ("slope", slope), ("cube", slope * mpmath.mpf("0.044715")):
            high, low = map(
                float,
                re.search(
                    rf"{name} = <float> ({NUMBER}), {name}_low = <float> ({NUMBER})", text
                ).groups(),
            )
            assert abs(mpmath.mpf(high) + low - exact) < exact * 2**-44
            assert high == float(np.float32(high))
    assert (
        np.float32(re.search(r"slope = <float> ([\d.]+)", text)[1]).view(np.uint32) % np.uint32(4)
        == 0
    )


def test_constants_of_the_quotient_of_gelu():
    text = source("gelu", "gelu_in_float")
    above, over, shift = (
        float(re.search(rf"{name} = <float> ([\d.e-]+)", text)[1])
        for name in ("above", "over", "shift")
    )
    assert above == minimax.GELU_ABOVE / 2**32
    assert abs(above * over - 1) < 2**-23
    assert shift == minimax.GELU_SHIFT


def test_zero_of_the_derivative_of_gelu_in_float():
    line = re.search(r"zero_high = .*", source("gelu", "gelu_backward_in_float"))[0]
    high, low = map(float, re.findall(NUMBER, line))
    assert abs(minimax.gelu_zero() - high - low) < 2**-50


def test_cubic_of_the_gradient_of_gelu_tanh():
    """`first` has 47 bits."""
    text = source("gelu_tanh", "gelu_tanh_backward_in_parts")
    with mpmath.workdps(minimax.DIGITS):
        first = 2 * mpmath.sqrt(2 / mpmath.pi)
        third = first * mpmath.mpf("0.044715")
        for name, exact in ("first", first), ("third", third):
            pair = rf"{name} = ({NUMBER}), {name}_low = ({NUMBER})"
            high, low = map(float, re.search(pair, text).groups())
            assert abs(mpmath.mpf(high) + low - exact) < exact * mpmath.mpf(2) ** -96
        thrice = re.search(rf"thrice = ({NUMBER})", text)[1]
        assert float(thrice) == float(mpmath.nstr(3 * third, 40))
    bits = np.float64(re.search(rf"first = ({NUMBER})", text)[1]).view(np.uint64)
    assert int(bits) % 2**6 == 0
