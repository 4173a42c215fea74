"""`scipy.LowLevelCallable` over the capsules of the compiled functions."""

import numpy as np
import pytest
import reference

import fastact
import fastact.cy

scipy = pytest.importorskip("scipy")
integrate = pytest.importorskip("scipy.integrate")
ndimage = pytest.importorskip("scipy.ndimage")

UNARY = [name for name, e in reference.BY_NAME.items() if e.operands == ("x",)]


@pytest.mark.parametrize("name", UNARY)
def test_quad(name):
    compiled = scipy.LowLevelCallable.from_cython(fastact.cy, f"{name}_scalar")
    value, error = integrate.quad(compiled, -3, 2)
    # The same points, through the ufunc; and the integral of the reference.
    assert (value, error) == integrate.quad(getattr(fastact, name), -3, 2)
    expected = float(reference.EXACT_CONTEXT.quad(lambda x: exact(name, x), [-3, 0, 2]))
    assert value == pytest.approx(expected, abs=1e-7)


def exact(name, x):
    return reference.BY_NAME[name].exact(reference.EXACT_CONTEXT, x)


@pytest.mark.parametrize("name", UNARY)
def test_generic_filter(name):
    activation = fastact.cy.__pyx_capi__[f"{name}_scalar"]
    compiled = scipy.LowLevelCallable.from_cython(fastact.cy, "activated_sum", activation)
    image = np.random.default_rng(0).normal(size=(20, 30))
    out = ndimage.generic_filter(image, compiled, size=3)
    expected = ndimage.generic_filter(image, lambda window: getattr(fastact, name)(sum(window)), 3)
    assert out.tobytes() == expected.tobytes()


def test_signature_is_checked():
    compiled = scipy.LowLevelCallable.from_cython(fastact.cy, "sigmoid_f32")
    with pytest.raises(ValueError, match="signature"):
        integrate.quad(compiled, 0, 1)
