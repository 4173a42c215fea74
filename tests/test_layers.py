"""Elementwise layers: what every one of them must do. Their table is in tests/reference.py."""

import copy
import pickle
from fractions import Fraction

import numpy as np
import pytest
from elementwise import LAYERS
from looped import looped

from fastact import layers
from fastact.layers import Activation, LeakyReLU, LogSoftmax, Sigmoid, Softmax

DTYPES = ["float16", "float32", "float64"]

every_layer = pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)
every_dtype = looped("dtype", DTYPES)


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


def snapshot(*arrays):
    """Return copies, to find out whether a call that failed has changed anything."""
    return [array.copy() for array in arrays]


def unchanged(arrays, copies):
    return all(np.array_equal(a, b) for a, b in zip(arrays, copies, strict=True))


def test_every_layer_is_in_the_table():
    made = {type(case.make()) for case in LAYERS.values()}
    elementwise = {
        value
        for value in vars(layers).values()
        if isinstance(value, type)
        and issubclass(value, Activation)
        and value not in (Activation, LogSoftmax, Softmax)  # tests/test_networks.py
    }
    lacking = sorted(layer.__name__ for layer in elementwise - made)
    assert not lacking, f"tests/reference.py: add a LayerExpectation for {', '.join(lacking)}"


# ------------------------------------------------------------------- values


@every_dtype
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
def test_gradient_is_the_central_difference(case):
    x, grad = operands()
    layer = case.make()
    layer.forward(x)
    step = 1e-5
    difference = (layer(x + step) - layer(x - step)) / (2 * step)
    # The truncation error is step**2 times a third derivative below 1. Rounding adds
    # eps * 15 / step.
    np.testing.assert_allclose(layer.backward(grad), grad * difference, rtol=0, atol=2e-9)


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
@looped(
    "view",
    [
        lambda a: a[::-1, ::2],
        lambda a: a.T,
        lambda a: np.asfortranarray(a),
        lambda a: np.broadcast_to(a[:1], a.shape),
        lambda a: a[:, :0],
    ],
    ids=["strided", "transposed", "fortran", "broadcast", "empty"],
)
def test_layouts(case, view):
    x, grad = map(view, operands())
    layer = case.make()
    np.testing.assert_allclose(layer.forward(x), case.function(x), **tolerances("float64"))
    wanted = grad * case.derivative(x)
    np.testing.assert_allclose(layer.backward(grad), wanted, **tolerances("float64"))


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
def test_lists(case):
    layer = case.make()
    np.testing.assert_allclose(layer([[-1.0, 2.0]]), case.function(np.array([[-1.0, 2.0]])))
    layer.forward([[-1.0, 2.0]])
    wanted = case.derivative(np.array([[-1.0, 2.0]]))
    np.testing.assert_allclose(layer.backward([[1.0, 1.0]]), wanted)


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
def test_out(case):
    x, grad = operands()
    layer = case.make()
    wanted = layer(x)
    for call in (layer, layer.forward):
        out = np.empty_like(x)
        assert call(x, out=out) is out
        assert np.array_equal(out, wanted)
        out = np.empty_like(x)
        assert call(x, out) is out
    wanted = layer.backward(grad)
    out = np.empty_like(x)
    assert layer.backward(grad, out=out) is out
    assert np.array_equal(out, wanted)
    assert layer.backward(grad, out=grad) is grad
    assert np.array_equal(grad, wanted)


@every_layer
def test_in_place(case):
    x, grad = operands()
    layer = case.make()
    y = layer.forward(x.copy())
    wanted = layer.backward(grad)
    assert layer.forward(x, out=x) is x
    assert np.array_equal(x, y)
    assert np.array_equal(layer.backward(grad), wanted)
    assert np.array_equal(layer.backward(grad, out=grad), wanted)


@every_layer
def test_output_over_a_part_of_the_input(case):
    buffer, grad = operands(shape=12)
    x, out, grad = buffer[:8], buffer[4:], grad[:8]
    layer = case.make()
    y = layer.forward(x.copy())
    wanted = layer.backward(grad)
    assert np.array_equal(layer.forward(x, out=out), y)
    assert np.array_equal(layer.backward(grad), wanted)


@every_layer
def test_in_place_through_a_memoryview(case):
    x, grad = operands()
    layer = case.make()
    layer.forward(x.copy())
    wanted = layer.backward(grad)
    layer.forward(memoryview(x), out=x)
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


@every_layer
def test_call_keeps_nothing(case):
    x, grad = operands()
    layer = case.make()
    layer(x)
    with pytest.raises(RuntimeError):
        layer.backward(grad)
    layer.forward(x)
    kept, wanted = layer._kept, layer.backward(grad)
    layer(-2 * x)
    assert layer._kept is kept
    assert np.array_equal(layer.backward(grad), wanted)


@every_layer
def test_backward_may_be_called_again(case):
    x, grad = operands()
    layer = case.make()
    layer.forward(x)
    first = layer.backward(grad)
    assert np.array_equal(layer.backward(grad), first)
    layer.forward(-x)
    np.testing.assert_allclose(layer.backward(grad), grad * case.derivative(-x), rtol=1e-12)


@every_layer
@looped(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        *(
            lambda layer, protocol=protocol: pickle.loads(pickle.dumps(layer, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_duplicates_have_the_settings_and_nothing_kept(case, duplicate):
    x, grad = operands()
    layer = case.make()
    layer.forward(x)
    twin = duplicate(layer)
    assert type(twin) is type(layer)
    assert repr(twin) == repr(layer)
    with pytest.raises(RuntimeError):
        twin.backward(grad)
    assert np.array_equal(twin(x), layer(x))
    twin.forward(x)
    assert twin.save == layer.save
    assert np.array_equal(twin.backward(grad), layer.backward(grad))


def test_pickle_holds_no_array():
    layer = Sigmoid()
    layer.forward(np.zeros(10_000))
    assert len(pickle.dumps(layer)) < 200


# --------------------------------------------------------------- wrong calls


@every_layer
def test_backward_before_forward(case):
    layer = case.make()
    with pytest.raises(RuntimeError, match=r"backward\(\) before forward\(\)"):
        layer.backward([1.0])


@every_layer
@looped("shape", [(5,), (3, 1), (5, 3), (1, 3, 5), (), (3, 0)], ids=repr)
def test_gradient_of_a_wrong_shape(case, shape):
    x, grad = operands()
    layer = case.make()
    layer.forward(x)
    wanted = layer.backward(grad)
    wrong, out = np.ones(shape), np.full((3, 5), 7.0)
    before = snapshot(x, out, wrong)
    with pytest.raises(ValueError, match="gradient has shape") as caught:
        layer.backward(wrong, out=out)
    assert str(shape) in str(caught.value)
    assert "(3, 5)" in str(caught.value)
    assert unchanged((x, out, wrong), before)
    assert np.array_equal(layer.backward(grad), wanted)


def read_only(array):
    array.flags.writeable = False
    return array


@every_layer
@looped(
    ("out", "error"),
    [
        (np.full((4, 5), 7.0), ValueError),
        (read_only(np.full((3, 5), 7.0)), ValueError),
        (np.full((3, 5), 7), TypeError),
        ([[7.0] * 5] * 3, TypeError),
    ],
    ids=["shape", "read-only", "integer", "list"],
)
def test_wrong_out(case, out, error):
    x, grad = operands()
    layer = case.make()
    layer.forward(x)
    kept, wanted = layer._kept, layer.backward(grad)
    before = snapshot(x, grad, np.asarray(out))
    for call, operand in ((layer, x), (layer.forward, x), (layer.backward, grad)):
        with pytest.raises(error):
            call(operand, out=out)
        assert unchanged((x, grad, np.asarray(out)), before)
    # A forward pass that fails leaves what the one before it has kept.
    assert layer._kept is kept
    assert np.array_equal(layer.backward(grad), wanted)


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
    ids=lambda value: type(value).__name__ if not isinstance(value, type) else value.__name__,
)
def test_wrong_slopes(slope, error):
    with pytest.raises(error, match="negative_slope must be") as caught:
        LeakyReLU(slope)
    assert repr(slope) in str(caught.value)


@looped(
    ("save", "error"), [("both", ValueError), ("", ValueError), (None, TypeError), (1, TypeError)]
)
def test_wrong_save(save, error):
    with pytest.raises(error, match="save must be") as caught:
        Sigmoid(save)
    assert repr(save) in str(caught.value)


def test_settings_cannot_be_changed():
    # They were validated when the layer was made, and what is kept depends on them.
    for layer, name in ((LeakyReLU(), "negative_slope"), (Sigmoid(), "save")):
        with pytest.raises(AttributeError):
            setattr(layer, name, getattr(layer, name))


@looped(
    "text",
    [
        "ReLU()",
        "LeakyReLU()",
        "LeakyReLU(negative_slope=0.2)",
        "LeakyReLU(negative_slope=-1.0)",
        "Sigmoid()",
        "Sigmoid(save='output')",
    ],
)
def test_repr(text):
    assert repr(eval(text, vars(layers).copy())) == text


def test_repr_shows_only_what_is_not_default():
    assert repr(LeakyReLU(negative_slope=0.01)) == "LeakyReLU()"
    assert repr(Sigmoid(save="input")) == "Sigmoid()"
