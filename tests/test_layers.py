"""Elementwise layers: values, kinds of operands, settings, and what they keep.

Their table is in tests/reference.py. tests/test_networks.py has what they share with other layers.
"""

from fractions import Fraction

import numpy as np
import pytest
from elementwise import LAYERS
from looped import looped

from fastact.layers import LeakyReLU, Sigmoid

every_layer = pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)


def operands(dtype="float64", shape=(3, 5)):
    """Return inputs and gradients of both signs, not near 0 and small enough for float16."""
    rng = np.random.default_rng(2)
    x = rng.uniform(0.1, 6, shape) * rng.choice([-1, 1], shape)
    return x.astype(dtype), rng.uniform(-2, 2, shape).astype(dtype)


def tolerances(dtype):
    # A few roundings of the type. In sigmoid's derivative from the output, a rounding is as large
    # as an ULP of the output, which is at most 1, however small the derivative is.
    eps = float(np.finfo(dtype).eps)
    return {"rtol": 4 * eps, "atol": 2 * eps}


# ------------------------------------------------------------------- values


@looped("dtype", ["float16", "float32", "float64"])
@every_layer
def test_values(case, dtype):
    x, grad = operands(dtype)
    layer = case.make()
    y = layer.forward(x)
    wanted = case.function(x.astype("float64"))
    np.testing.assert_allclose(y, wanted, **tolerances(dtype))
    gradient = layer.backward(grad)
    wanted = grad.astype("float64") * case.derivative(x.astype("float64"))
    np.testing.assert_allclose(gradient, wanted, **tolerances(dtype))
    assert y.dtype == gradient.dtype == dtype
    assert y.shape == gradient.shape == x.shape
    assert np.array_equal(layer(x), y)


@every_layer
@looped("value", [0.0, -0.0, np.inf, -np.inf, np.nan])
def test_special_values_as_the_functions_have_them(case, value):
    layer = case.make()
    x, grad = np.full(3, value, "float32"), np.float32([1, -2, 0])
    with np.errstate(all="raise"):
        layer.forward(x)
        gradient = layer.backward(grad)
    np.testing.assert_array_equal(gradient, case.gradient(grad, x))


def test_sigmoid_from_the_input_is_right_where_the_output_has_nothing_left():
    x, grad = np.float32([-20, 20]), np.ones(2, "float32")
    accurate, cheap = Sigmoid(), Sigmoid(save="output")
    accurate.forward(x)
    cheap.forward(x)
    wanted = LAYERS["sigmoid"].derivative(x.astype("float64"))
    np.testing.assert_allclose(accurate.backward(grad), wanted, rtol=1e-6)
    assert cheap.backward(grad)[1] == 0


# ---------------------------------------------------------- kinds of operands


@every_layer
@looped("scalar", [-2.0, np.float32(1.5), np.array(-0.5)], ids=repr)
def test_scalars(case, scalar):
    layer = case.make()
    y = layer.forward(scalar)
    assert np.shape(y) == ()
    assert y == pytest.approx(case.function(np.float64(scalar)), rel=1e-6)
    gradient = layer.backward(2.0)
    assert gradient == pytest.approx(2 * case.derivative(np.float64(scalar)), rel=1e-6)


@every_layer
@looped("dtype", ["int8", "uint8", "int64"])
def test_integers(case, dtype):
    x = np.array([0, 1, 100], dtype)
    layer = case.make()
    # The same as the function: relu keeps the type, and the others promote it.
    y, tolerance = layer.forward(x), 1e-3
    # An int8 is promoted to float16, in which log_sigmoid(100) is -0.
    least = 0 if y.dtype.kind in "iu" else np.finfo(y.dtype).smallest_subnormal
    np.testing.assert_allclose(
        y, case.function(x.astype("float64")), rtol=tolerance, atol=float(least)
    )
    gradient = layer.backward(np.ones(3, "float32"))
    np.testing.assert_allclose(
        gradient, case.derivative(x.astype("float64")), rtol=tolerance, atol=1e-3
    )


@every_layer
def test_subclasses(case):
    class Tagged(np.ndarray):
        pass

    x, grad = operands()
    layer = case.make()
    assert type(layer(x.view(Tagged))) is Tagged
    assert type(layer.forward(x.view(Tagged))) is Tagged
    assert type(layer.backward(grad)) is Tagged


# ---------------------------------------------------------------------- out=


@every_layer
def test_an_input_that_is_overwritten(case):
    """By an output over a part of it, or through a buffer."""
    buffer, grad = operands(shape=12)
    x, grad = buffer[:8], grad[:8]
    layer = case.make()
    y = layer.forward(x.copy())
    wanted = layer.backward(grad)
    for given, out in (x, buffer[4:]), (memoryview(x), x):
        x[...] = operands(shape=12)[0][:8]
        assert np.array_equal(layer.forward(given, out=out), y)
        assert np.array_equal(layer.backward(grad), wanted)


# ------------------------------------------------------------- what is kept


@every_layer
def test_keeps_one_array_and_no_copy(case):
    x, _ = operands()
    out = np.empty_like(x)
    layer = case.make()
    assert layer.save == case.keeps
    for keywords in ({}, {"out": out}):
        y = layer.forward(x, **keywords)
        assert layer._kept is (x if case.keeps == "input" else y)
    # An input between the elements of the output is not overwritten, so it is not copied either.
    pair = np.stack([x, x], axis=-1)
    x, out = pair[..., 0], pair[..., 1]
    y = layer.forward(x, out=out)
    assert layer._kept is (x if case.keeps == "input" else y)


@every_layer
def test_copies_only_what_is_overwritten(case):
    x, _ = operands()
    layer = case.make()
    layer.forward(x, out=x)
    assert np.shares_memory(layer._kept, x) == (case.keeps == "output")


# --------------------------------------------------------------- wrong calls


@every_layer
@looped("dtype", ["complex128", "object", "S3", "datetime64[s]"])
def test_wrong_dtype(case, dtype):
    layer = case.make()
    x = np.zeros(3, dtype)
    for call in (layer, layer.forward):
        with pytest.raises(TypeError):
            call(x)
    with pytest.raises(RuntimeError):
        layer.backward(np.ones(3))
    layer.forward(np.ones(3))
    with pytest.raises(TypeError):
        layer.backward(x)


@every_layer
def test_misspelt_names(case):
    layer = case.make()
    for call in (layer, layer.forward, layer.backward):
        with pytest.raises(TypeError):
            call(np.ones(3), outt=None)
    with pytest.raises(AttributeError):
        layer.slope = 0.3


# ------------------------------------------------------------------ settings


@looped(
    "slope",
    [0, 1, -3, 0.2, np.float64(0.2), np.float32(0.25), np.int8(-2), Fraction(1, 4)],
    ids=repr,
)
def test_slopes(slope):
    layer = LeakyReLU(slope)
    assert layer.negative_slope == slope
    assert type(layer.negative_slope) is float
    # The type of the slope does not affect the dtype of the result.
    assert layer(np.ones(3, "float32")).dtype == "float32"


@looped(
    ("slope", "error"),
    [
        (np.nan, ValueError),
        (np.inf, ValueError),
        (np.float32("-inf"), ValueError),
        (10**400, ValueError),
        (True, TypeError),
        (np.True_, TypeError),
        ("0.1", TypeError),
        (None, TypeError),
        (0.1j, TypeError),
        ([0.1], TypeError),
        (np.array([0.1, 0.2]), TypeError),
    ],
)
def test_wrong_slopes(slope, error):
    with pytest.raises(error, match="negative_slope must be") as caught:
        LeakyReLU(slope)
    assert repr(slope) in str(caught.value)
