"""Arrays that are more than arrays: masked ones, matrices, scalars, and axes there are not."""

import numpy as np
import pytest

import fastact
from fastact.layers import LeakyReLU, Linear, ReLU, Sequential, Sigmoid, Softmax
from fastact.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss

MASKED = np.ma.masked_array(np.eye(3), [[0, 1, 0]] * 3)
PLAIN = np.ones((3, 3))
LOSSES = [MSELoss(), BCEWithLogitsLoss(), CrossEntropyLoss()]


@pytest.mark.parametrize(
    "layer", [Softmax(), Linear(3, 3), Sequential(Linear(3, 3), Linear(3, 3))], ids=repr
)
def test_layers_that_refuse_a_mask(layer):
    y = layer.forward(PLAIN)
    for use in layer, layer.backward, layer.forward:
        with pytest.raises(TypeError, match="takes no masked array"):
            use(MASKED)
        with pytest.raises(TypeError, match=r"takes no masked array|without a mask"):
            use(PLAIN, np.ma.masked_array(PLAIN.copy(), MASKED.mask))
    if not isinstance(layer, Sequential):  # which drops all if forward() fails on its way
        layer.backward(y)


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(), Sigmoid()], ids=repr)
def test_layers_that_keep_a_mask(layer):
    for result in layer(MASKED), layer.forward(MASKED), layer.backward(MASKED):
        assert np.array_equal(result.mask, MASKED.mask)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_losses_refuse_a_mask(loss):
    kept = loss.forward(PLAIN, PLAIN)
    for use in loss, loss.forward:
        for operands in [(MASKED, PLAIN), (PLAIN, MASKED), (PLAIN.tolist(), MASKED)]:
            with pytest.raises(
                TypeError, match=rf"{type(loss).__name__}\(\) takes no masked array"
            ):
                use(*operands)
    assert kept == loss(PLAIN, PLAIN)
    assert loss.backward().shape == (3, 3)
    with pytest.raises(TypeError, match="masked"):
        CrossEntropyLoss()(PLAIN, np.ma.masked_array([0, 1, 2], [0, 1, 0]))


def test_a_state_with_a_mask():
    layer = Linear(3, 3, seed=0)
    before = layer.state_dict()
    with pytest.raises(TypeError, match="'weight' takes no masked array"):
        layer.load_state_dict({"bias": np.zeros(3), "weight": MASKED})
    assert np.array_equal(layer.weight, before["weight"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_of_a_matrix(axis, dtype):
    layer, x = Softmax(axis), np.arange(6).reshape(2, 3).astype(dtype)
    wanted, x_gradient = layer.forward(x), layer.backward(x)
    assert np.array_equal(layer(x.view(np.matrix)), wanted)
    assert np.array_equal(layer.forward(x.view(np.matrix)), wanted)
    assert np.array_equal(layer.backward(x.view(np.matrix)), x_gradient)
    out = np.empty_like(wanted).view(np.matrix)
    assert layer(x, out) is out
    assert np.array_equal(out, wanted)
    assert layer.backward(x, out) is out
    assert np.array_equal(out, x_gradient)


@pytest.mark.parametrize("scalar", [1, 1.0, np.float32(1), np.array(1.0)], ids=repr)
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_of_a_scalar(axis, scalar):
    layer = Softmax(axis)
    for use in layer, layer.forward:
        with pytest.raises(ValueError, match=rf"shape \(\), and no axis {axis}"):
            use(scalar)


@pytest.mark.parametrize("axis", [2, -3, 2**70])
def test_an_axis_there_is_not(axis):
    layer = Softmax(axis)
    out = np.full((2, 3), 7.0)
    for use in layer, layer.forward, Linear(4, 3, layer):
        x = np.ones((2, 4 if isinstance(use, Linear) else 3))
        with pytest.raises(
            np.exceptions.AxisError, match=rf"Softmax\(axis={axis}\): axis {axis} is"
        ):
            use(x, out)
    assert (out == 7).all()


def test_matrices_elsewhere():
    x = np.eye(3, dtype="f4").view(np.matrix)
    layer = Linear(3, 2, seed=0)
    assert np.array_equal(layer(x), layer(np.eye(3)))
    assert type(fastact.relu(x)) is np.matrix
    for loss in LOSSES:
        assert loss(x, x) == loss(np.asarray(x), np.asarray(x))
