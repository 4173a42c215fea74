"""Losses and gradient descent, and that they train."""

import array
import doctest
import re
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from looped import looped
from test_networks import DUPLICATES

import fastact
from fastact import layers, losses, optimizers
from fastact.layers import Layer, LeakyReLU, Linear, ReLU, Sequential, Sigmoid, Softmax
from fastact.losses import BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss
from fastact.optimizers import SGD


class Row(NamedTuple):
    """A loss, of PyTorch's name; a target for predictions of a shape; its value in plain words."""

    make: type[Loss]
    target: Callable[[np.random.Generator, tuple[int, ...]], Any]
    value: Callable[[np.ndarray, np.ndarray], float]


def cross_entropy(z, p):
    return -(p * np.log(np.exp(z) / np.exp(z).sum(-1, keepdims=True))).sum(-1).mean()


def binary_cross_entropy(z, t):
    y = 1 / (1 + np.exp(-z))
    return -(t * np.log(y) + (1 - t) * np.log(1 - y)).mean()


ROWS = {
    "mse": Row(
        MSELoss, lambda rng, shape: rng.normal(size=shape), lambda p, t: ((p - t) ** 2).mean()
    ),
    "bce": Row(BCEWithLogitsLoss, lambda rng, shape: rng.random(shape), binary_cross_entropy),
    "bce, hard": Row(
        BCEWithLogitsLoss,
        lambda rng, shape: rng.integers(0, 2, shape).astype("float64"),
        binary_cross_entropy,
    ),
    "ce, indices": Row(
        CrossEntropyLoss,
        lambda rng, shape: rng.integers(0, shape[-1], shape[:-1]),
        lambda z, t: cross_entropy(z, np.eye(z.shape[-1])[t]),
    ),
    "ce, probabilities": Row(
        CrossEntropyLoss,
        lambda rng, shape: rng.dirichlet(np.ones(shape[-1]), shape[:-1]),
        cross_entropy,
    ),
    "ce, any weights": Row(CrossEntropyLoss, lambda rng, shape: rng.random(shape), cross_entropy),
}
SHAPES = [(6, 5), (1, 5), (5,), (3, 1), (2, 3, 4)]

every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
every_shape = looped("shape", SHAPES, ids=repr)
every_dtype = looped("dtype", ["float16", "float32", "float64"])


def operands(row, shape, dtype="float64"):
    rng = np.random.default_rng(7)
    prediction = (2 * rng.normal(size=shape)).astype(dtype)
    target = np.asarray(row.target(rng, shape))
    return prediction, target.astype(dtype) if target.dtype.kind == "f" else target


def test_every_loss_has_a_row():
    made = {type(row.make()) for row in ROWS.values()} | {Loss}
    lacking = {name for name in losses.__all__ if getattr(losses, name) not in made}
    assert not lacking, f"ROWS in tests/test_training.py lacks {lacking}"


# ------------------------------------------------------------------------- losses


@every_dtype
@every_shape
@every_row
def test_value_and_gradient(row, shape, dtype):
    prediction, target = operands(row, shape, dtype)
    loss = row.make()
    wide = target.astype("float64") if target.dtype.kind == "f" else target

    def value(array):
        return row.value(array, wide)

    eps = max(float(np.finfo(dtype).eps), 1e-13)
    wanted = value(prediction.astype("float64"))
    result = loss.forward(prediction, target)
    assert type(result) is float
    assert result == loss(prediction, target)
    assert result == pytest.approx(wanted, rel=10 * eps)

    gradient = loss.backward()
    assert gradient.dtype == dtype
    assert gradient.shape == shape
    step, differences = 1e-5, np.zeros(shape)
    for index in np.ndindex(shape):
        up, down = prediction.astype("float64"), prediction.astype("float64")
        up[index] += step
        down[index] -= step
        differences[index] = (value(up) - value(down)) / (2 * step)
    # Truncation: step**2 times third derivatives; rounding: 1e-16 / step.
    np.testing.assert_allclose(gradient, differences, rtol=0, atol=4 * eps + 1e-10)


@looped("dtype", ["float32", "float64"])
@every_shape
@every_row
def test_as_torch_has_it(row, shape, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch, to compare with, is not installed")
    prediction, target = operands(row, shape, dtype)
    theirs = torch.from_numpy(prediction.copy()).requires_grad_()
    # Its classes are the second axis.
    logits, their_target = theirs, torch.tensor(target)
    if row.make is CrossEntropyLoss and len(shape) == 3:
        logits = theirs.movedim(-1, 1)
        their_target = their_target if target.ndim == 2 else their_target.movedim(-1, 1)
    wanted = getattr(torch.nn, row.make.__name__)()(logits, their_target)
    wanted.backward()
    loss = row.make()
    eps = float(np.finfo(dtype).eps)
    assert loss.forward(prediction, target) == pytest.approx(wanted.item(), rel=10 * eps)
    np.testing.assert_allclose(loss.backward(), theirs.grad.numpy(), rtol=0, atol=4 * eps)


INF = np.inf


@looped("dtype", ["float16", "float32", "float64"])
@looped(
    ("loss", "prediction", "target", "value", "gradient"),
    [
        (BCEWithLogitsLoss, [1e4], [0.0], 1e4, [1]),
        (BCEWithLogitsLoss, [1e4], [1.0], 0, [0]),
        (BCEWithLogitsLoss, [1e4], [0.5], 5e3, [0.5]),
        (BCEWithLogitsLoss, [-1e4], [0.0], 0, [0]),
        (BCEWithLogitsLoss, [-1e4], [1.0], 1e4, [-1]),
        (BCEWithLogitsLoss, [INF], [1.0], 0, [0]),
        (BCEWithLogitsLoss, [-INF], [0.0], 0, [0]),
        (BCEWithLogitsLoss, [INF], [0.0], INF, [1]),
        (BCEWithLogitsLoss, [-INF], [0.5], INF, [-0.5]),
        (BCEWithLogitsLoss, [np.nan], [0.5], np.nan, [np.nan]),
        (CrossEntropyLoss, [1e4, -1e4, 0], 0, 0, [0, 0, 0]),
        (CrossEntropyLoss, [1e4, -1e4, 0], 1, 2e4, [1, -1, 0]),
        (CrossEntropyLoss, [6e4, -6e4, 6e4], 1, np.log(2) + 12e4, [0.5, -1, 0.5]),
        (CrossEntropyLoss, [-INF, 0, 0], 1, np.log(2), [0, -0.5, 0.5]),
        (CrossEntropyLoss, [-INF, 0, 0], 0, INF, [-1, 0.5, 0.5]),
        (CrossEntropyLoss, [-INF, 0, 0], [0, 0.5, 0.5], np.log(2), [0, 0, 0]),
        (CrossEntropyLoss, [np.nan, 0, 0], 1, np.nan, [np.nan] * 3),
        (MSELoss, [1e4, 0], [1e4, 0], 0, [0, 0]),
        (MSELoss, [2e4, 0], [1e4, 0], 5e7, [1e4, 0]),
        (MSELoss, [INF, 0], [0, 0], INF, [INF, 0]),
        (MSELoss, [INF, 0], [INF, 0], np.nan, [np.nan, 0]),
    ],
)
def test_extreme_predictions(loss, prediction, target, value, gradient, dtype):
    made, prediction = loss(), np.array(prediction, dtype)
    target = np.array(target) if isinstance(target, int) else np.array(target, dtype)
    with np.errstate(all="raise"):
        assert made.forward(prediction, target) == pytest.approx(value, rel=1e-3, nan_ok=True)
        np.testing.assert_allclose(made.backward(), gradient, rtol=1e-3)


@looped("dtype", ["float32", "float64"])
def test_squared_error_out_of_the_range_of_its_type(dtype):
    largest = np.finfo(dtype).max
    loss = MSELoss()
    with np.errstate(all="raise"):
        value = loss.forward(np.full(4, largest, dtype), np.zeros(4, dtype))
        # The sum is in float64.
        assert value == (INF if dtype == "float64" else pytest.approx(float(largest) ** 2))
        assert np.array_equal(loss.backward(), np.full(4, largest / 2, dtype))
        assert loss.forward(np.full(4, largest, dtype), np.full(4, -largest, dtype)) == INF


@every_row
def test_empty_batches(row):
    prediction = np.zeros((0, 3), "float32")
    target = np.asarray(row.target(np.random.default_rng(0), (0, 3)))
    loss = row.make()
    with np.errstate(all="raise"):
        assert np.isnan(loss.forward(prediction, target))
        assert loss.backward().shape == (0, 3)


@every_row
@looped(
    "view",
    [
        lambda a: np.repeat(a, 2, axis=0)[::2],
        np.asfortranarray,
        lambda a: a.astype(a.dtype.newbyteorder()),
        lambda a: a.tolist(),
        lambda a: np.broadcast_to(a, a.shape),
    ],
    ids=["strided", "fortran", "another byte order", "a list", "read-only"],
)
def test_layouts(row, view):
    prediction, target = operands(row, (4, 3))
    loss = row.make()
    wanted = loss.forward(prediction, target), loss.backward()
    assert loss.forward(view(prediction), view(target)) == pytest.approx(wanted[0], rel=1e-14)
    np.testing.assert_allclose(loss.backward(), wanted[1], rtol=1e-14)


@every_row
def test_integers_and_other_dtypes(row):
    prediction, target = np.array([[1, -2, 3], [0, 4, 1]]), operands(row, (2, 3))[1]
    loss = row.make()
    value = loss.forward(prediction, target)
    assert loss.backward().dtype == "float64"
    assert value == loss(prediction.astype("float64"), target)
    assert loss.forward(prediction.astype("float32"), target) == pytest.approx(value, rel=1e-6)
    assert loss.backward().dtype == "float32"


@looped("dtype", ["float32", "float64"])
def test_cross_entropy_of_a_certain_prediction(dtype):
    """Value and gradient keep their digits, however small they are."""
    eps = float(np.finfo(dtype).eps)
    for distance in (1.0, 5.0, 20.0, 40.0, 80.0):
        prediction = np.array([[0, -distance, -distance - 1]], dtype)
        others = np.exp(-distance) * (1 + np.exp(-1))
        loss = CrossEntropyLoss()
        assert loss.forward(prediction, [0]) == pytest.approx(np.log1p(others), rel=4 * eps)
        wanted = np.array([[-others, np.exp(-distance), np.exp(-distance - 1)]]) / (1 + others)
        np.testing.assert_allclose(loss.backward(), wanted, rtol=4 * eps)


@looped("dtype", ["float32", "float64"])
def test_cross_entropy_is_that_of_log_softmax(dtype):
    """By the functions, for rows of all lengths, one by one and many together."""
    rng = np.random.default_rng(4)
    eps = float(np.finfo(dtype).eps)
    for rows, n in [(1, 1), (1, 10), (50, 10), (9, 64), (3, 129), (4, 1000), (2, 3000)]:
        x = rng.normal(0, 5, (rows, n)).astype(dtype)
        label, weight = rng.integers(0, n, rows), rng.random((rows, n)).astype(dtype)
        log, y = fastact.log_softmax(x).astype("f8"), fastact.softmax(x).astype("f8")
        loss = CrossEntropyLoss()
        wanted = -log[np.arange(rows), label].mean()
        assert loss.forward(x, label) == pytest.approx(wanted, rel=20 * eps, abs=1e-300)
        gradient = (y - np.eye(n)[label]) / rows
        np.testing.assert_allclose(loss.backward(), gradient, rtol=8 * eps, atol=2 * eps / rows)
        assert loss.forward(x, weight) == pytest.approx(-(weight * log).sum() / rows, rel=20 * eps)
        share = weight.astype("f8").sum(-1, keepdims=True)
        gradient = (y * share - weight) / rows
        np.testing.assert_allclose(
            loss.backward(), gradient, rtol=8 * eps, atol=4 * eps * share.max() / rows
        )


@looped("dtype", ["int8", "uint8", "int64", "uint64"])
def test_labels_out_of_range(dtype):
    limits = np.iinfo(dtype)
    for wrong in {limits.min, limits.max, 3} - {0}:
        with pytest.raises(ValueError, match="there are 3 classes"):
            CrossEntropyLoss()(np.ones((2, 3)), np.array([1, wrong], dtype))


@pytest.mark.parametrize("code", "bBhHiIlLqQ")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_labels_of_all_types_of_c(dtype, code):
    """Two of them may be the same, such as long and long long."""
    prediction = operands(ROWS["ce, indices"], (2, 3), dtype)[0]
    loss = CrossEntropyLoss()
    wanted = loss.forward(prediction, [0, 2]), loss.backward().tobytes()
    for labels in (
        array.array(code, [0, 2]),
        np.array([0, 2], code),
        np.array([0, 2], code)[::-1][::-1],
    ):
        assert loss.forward(prediction, np.asarray(labels)) == wanted[0]
        assert loss.backward().tobytes() == wanted[1]


@pytest.mark.parametrize("code", "bBhHiIlLqQ")
def test_integers_in_the_shape_of_the_prediction_are_refused(code):
    """They may be meant as classes, or as probabilities."""
    for shape in ((2, 3), (3,), (0, 3), (2, 3, 1)):
        target = np.ones(shape, code)
        for prediction in (np.zeros(shape), np.zeros(shape, "float16"), np.zeros(shape, int)):
            with pytest.raises(TypeError, match=r"wanted indices of shape .*, or probabilities"):
                CrossEntropyLoss()(prediction, target)
    hot = np.eye(3, dtype=bool)
    loss = CrossEntropyLoss()
    assert loss(np.zeros((3, 3)), hot) == loss(np.zeros((3, 3)), hot.astype("f8"))


def test_labels_are_copied_before_they_are_checked():
    """Another thread may change them after the check. The copy is contiguous."""
    prediction = np.random.default_rng(6).normal(size=(4, 5, 3)).astype("float32")
    labels = np.arange(20).reshape(5, 4).T % 3
    loss = CrossEntropyLoss()
    assert not np.shares_memory(loss._target(labels, prediction), labels)
    wanted = loss(prediction.reshape(20, 3), labels.ravel())
    assert loss(prediction, labels) == wanted


def test_targets_of_other_kinds():
    prediction = np.array([[1.0, -2.0], [0.5, 3.0]])
    loss = BCEWithLogitsLoss()
    wanted = loss(prediction, np.array([[1.0, 0], [0, 1]]))
    assert loss(prediction, np.eye(2, dtype=bool)) == wanted
    assert loss(prediction, np.eye(2, dtype="int8")) == wanted
    loss = CrossEntropyLoss()
    wanted = loss(prediction, np.eye(2))
    assert loss(prediction, [0, 1]) == pytest.approx(wanted, rel=1e-14)
    assert loss(prediction[0], 0) == pytest.approx(loss(prediction[:1], [0]), rel=1e-14)


@every_row
def test_call_keeps_nothing_and_backward_may_be_called_again(row):
    prediction, target = operands(row, (4, 3))
    loss = row.make()
    loss(prediction, target)
    with pytest.raises(RuntimeError, match=r"backward\(\) before forward\(\)"):
        loss.backward()
    loss.forward(prediction, target)
    wanted = loss.backward().copy()
    loss(2 * prediction, target)
    assert np.array_equal(loss.backward(), wanted)


@every_row
def test_operands_are_not_changed_and_results_stay(row):
    prediction, target = operands(row, (40, 30), "float32")
    copies = prediction.copy(), target.copy()
    loss = row.make()
    gradients = []
    for i in range(20):
        loss.forward(prediction * i, target)
        gradients.append(loss.backward())
        wanted = [gradient.copy() for gradient in gradients]
    loss.forward(prediction, target)
    for _ in range(20):
        loss.forward(-prediction, target)
        loss.backward()
    assert all(np.array_equal(a, b) for a, b in zip(gradients, wanted, strict=True))
    assert np.array_equal(prediction, copies[0])
    assert np.array_equal(target, copies[1])


@pytest.mark.gil
@every_row
def test_steps_after_the_second_allocate_no_arrays(row):
    prediction, target = operands(row, (200, 1000), "float32")
    loss = row.make()

    def step():
        return loss.forward(prediction, target), loss.backward()

    held = step(), step()
    held = held[1], step()  # with two results held, one more is made
    tracemalloc.start()
    try:
        for _ in range(5):
            held = held[1], step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The arrays have 800 KB. What remains is NumPy's buffers, and some numbers per sample.
    assert peak < 60_000


@looped("duplicate", DUPLICATES.values(), ids=DUPLICATES)
@every_row
def test_duplicates_and_repr(row, duplicate):
    prediction, target = operands(row, (4, 3))
    loss = row.make()
    loss.forward(prediction, target)
    twin = duplicate(loss)
    assert repr(twin) == repr(loss) == f"{type(loss).__name__}()"
    with pytest.raises(RuntimeError):
        twin.backward()
    assert twin(prediction, target) == loss(prediction, target)


LOGITS = np.zeros((4, 3))


@looped(
    ("make", "prediction", "target", "error", "message"),
    [
        (MSELoss, LOGITS, LOGITS[:3], ValueError, r"\(3, 3\).*\(4, 3\)"),
        (MSELoss, LOGITS, LOGITS[0], ValueError, r"\(3,\).*\(4, 3\)"),
        (MSELoss, LOGITS, 0.0, ValueError, r"\(\).*\(4, 3\)"),
        (MSELoss, LOGITS, LOGITS * 1j, TypeError, "complex128"),
        (MSELoss, LOGITS * 1j, LOGITS, TypeError, "complex128"),
        (MSELoss, LOGITS.astype(object), LOGITS, TypeError, "object"),
        (MSELoss, LOGITS.astype("M8[s]"), LOGITS, TypeError, "datetime64"),
        (MSELoss, np.zeros((4, 3), [("a", "f8")]), LOGITS, TypeError, "'a'"),
        (MSELoss, LOGITS, LOGITS.astype(str), TypeError, "<U"),
        (MSELoss, LOGITS, None, ValueError, r"\(\).*\(4, 3\)"),
        (BCEWithLogitsLoss, LOGITS, LOGITS.T, ValueError, r"\(3, 4\).*\(4, 3\)"),
        (CrossEntropyLoss, LOGITS, LOGITS.T, ValueError, r"\(3, 4\).*\(4, 3\)"),
        (CrossEntropyLoss, LOGITS, [0, 1, 2], ValueError, r"\(3,\).*\(4, 3\).*\(4,\)"),
        (CrossEntropyLoss, LOGITS, 1, ValueError, r"\(\).*\(4, 3\).*\(4,\)"),
        (CrossEntropyLoss, LOGITS, [0.0] * 4, TypeError, "float64, wanted integers"),
        (CrossEntropyLoss, LOGITS, [True] * 4, TypeError, "bool, wanted integers"),
        (CrossEntropyLoss, LOGITS, [0, 1, 2, 3], ValueError, "from 0 to 3, there are 3 classes"),
        (CrossEntropyLoss, LOGITS, [0, -1, 2, 0], ValueError, "from -1 to 2"),
        (CrossEntropyLoss, 1.0, 0, ValueError, "at least one axis"),
        (CrossEntropyLoss, LOGITS[:, :0], [0] * 4, ValueError, "there are 0 classes"),
    ],
)
def test_wrong_operands_change_nothing(make, prediction, target, error, message):
    loss = make()
    loss.forward(LOGITS, LOGITS)
    wanted = loss.backward().copy()
    for call in (loss, loss.forward):
        with pytest.raises(error, match=message):
            call(prediction, target)
    assert np.array_equal(loss.backward(), wanted)


def test_dtypes_wider_than_float64():
    wide = np.zeros(3, np.longdouble)
    if wide.itemsize == 8:
        pytest.skip("long double is float64 on this platform")
    for loss in (MSELoss(), BCEWithLogitsLoss(), CrossEntropyLoss()):
        with pytest.raises(TypeError, match=str(wide.dtype)):
            loss(wide, wide)
        assert loss.forward(np.zeros(3), wide) == loss(np.zeros(3), np.zeros(3))


@looped("name", ["bfloat16", "float8_e4m3fn"])
@every_row
def test_narrow_types_are_computed_in_float32(row, name):
    dtype = getattr(pytest.importorskip("ml_dtypes", reason="no ml_dtypes"), name)
    prediction, target = operands(row, (4, 3), "float32")
    prediction = prediction.astype(dtype)
    loss = row.make()
    value, gradient = loss.forward(prediction, target), loss.backward()
    assert gradient.dtype == dtype
    assert value == loss.forward(prediction.astype("float32"), target)
    assert np.array_equal(gradient, loss.backward().astype(dtype))


def test_numbers():
    loss = MSELoss()
    assert loss.forward(3.0, 1) == 4
    assert loss.backward() == 4
    assert BCEWithLogitsLoss()(0, 1) == pytest.approx(np.log(2), rel=1e-3)


# ------------------------------------------------------------------------- descent


def autoencoder(dtype="float64"):
    return Sequential(
        Linear(6, 5, Sigmoid(), dtype=dtype, seed=0),
        Linear(5, 4, LeakyReLU(0.1), dtype=dtype, seed=1),
        Linear(4, 6, dtype=dtype, seed=2),
    )


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_goes_as_in_torch(dtype, momentum):
    torch = pytest.importorskip("torch", reason="PyTorch, to compare with, is not installed")
    ours, loss = autoencoder(dtype), MSELoss()
    theirs = torch.nn.Sequential(
        *(torch.nn.Linear(6, 5), torch.nn.Sigmoid()),
        *(torch.nn.Linear(5, 4), torch.nn.LeakyReLU(0.1)),
        torch.nn.Linear(4, 6),
    ).to(getattr(torch, dtype))
    with torch.no_grad():
        for to, start in zip(theirs.parameters(), ours.state_dict().values(), strict=True):
            to.copy_(torch.from_numpy(start))
    their_loss = torch.nn.MSELoss()
    their_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=momentum)
    optimizer = SGD(ours, lr=0.05, momentum=momentum)
    for x in np.random.default_rng(0).normal(size=(50, 8, 6)).astype(dtype):
        value = loss.forward(ours.forward(x), x)
        ours.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        their_optimizer.zero_grad()
        batch = torch.from_numpy(x)
        their_value = their_loss(theirs(batch), batch)
        their_value.backward()
        their_optimizer.step()
        tolerance = 200 * float(np.finfo(dtype).eps)
        assert value == pytest.approx(their_value.item(), rel=tolerance)
    for a, b in zip(ours.parameters().values(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=tolerance, atol=tolerance)


def blobs(classes):
    """Points around centres on a circle, and which centre each belongs to."""
    rng = np.random.default_rng(0)
    label = np.arange(300) % classes
    angle = 2 * np.pi * label / classes
    centre = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (centre + 0.2 * rng.normal(size=(300, 2))).astype(np.float32), label


def train(model, loss, x, target, steps=200, lr=0.5):
    optimizer = SGD(model, lr, momentum=0.9)
    values = []
    for _ in range(steps):
        values.append(loss.forward(model.forward(x), target))
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
    return values


@pytest.mark.parametrize("hidden", [ReLU(), LeakyReLU(), Sigmoid(), Sigmoid("output")], ids=repr)
def test_it_learns_to_classify(hidden):
    x, label = blobs(5)
    model = Sequential(Linear(2, 16, hidden, seed=1), Linear(16, 5, seed=2))
    values = train(model, CrossEntropyLoss(), x, label)
    assert values[0] > 1
    assert values[-1] < 0.1
    assert (model(x).argmax(-1) == label).mean() > 0.95
    assert Softmax()(model(x)).max(-1).mean() > 0.9


def test_it_learns_a_yes_or_no():
    x, label = blobs(2)
    model = Sequential(Linear(2, 8, ReLU(), seed=1), Linear(8, 1, seed=2))
    values = train(model, BCEWithLogitsLoss(), x, label[:, None])
    assert values[-1] < 0.05 < 0.3 < values[0]
    assert ((Sigmoid()(model(x))[:, 0] > 0.5) == label).all()


def test_it_learns_what_no_linear_model_can():
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)
    target = np.array([[0], [1], [1], [0]], np.float64)

    def made(activation):
        return Sequential(
            Linear(2, 8, activation, dtype="f8", seed=1), Linear(8, 1, dtype="f8", seed=2)
        )

    assert train(made(LeakyReLU()), MSELoss(), x, target, 500, 0.1)[-1] < 1e-3
    assert train(made(None), MSELoss(), x, target, 500, 0.1)[-1] == pytest.approx(0.25, abs=1e-3)


def test_the_learning_rate_may_be_changed():
    model = Linear(2, 1, dtype="float64", seed=0)
    optimizer = SGD(model, lr=0.5)
    model.forward(np.ones((1, 2)))
    model.backward(np.ones((1, 1)))
    start = model.bias.copy()
    optimizer.step()
    optimizer.lr = Fraction(1, 4)
    optimizer.step()
    assert optimizer.lr == 0.25
    assert model.bias == start - 0.75


def test_a_part_of_a_model_is_trained_alone():
    model = autoencoder()
    before = model.state_dict()
    x = np.ones((3, 6))
    model.backward(model.forward(x))
    SGD(model[1:], lr=0.1).step()
    for name, parameter in model.parameters().items():
        assert np.array_equal(parameter, before[name]) == name.startswith("0.")


def test_a_loaded_state_is_what_is_trained_on():
    model = Linear(2, 1, dtype="float64", seed=0)
    optimizer = SGD(model, lr=1, momentum=0.5)
    model.load_state_dict({"weight": [[3.0, 4.0]], "bias": [5.0]})
    model.forward(np.ones((1, 2)))
    model.backward(np.ones((1, 1)))
    optimizer.step()
    assert model.weight.tolist() == [[2, 3]]
    assert model.bias.tolist() == [4]


def test_steps_allocate_nothing():
    model = Linear(300, 300)
    optimizer = SGD(model, lr=0.1, momentum=0.9)
    optimizer.step()
    tracemalloc.start()
    try:
        optimizer.step()
        assert tracemalloc.get_traced_memory()[1] < 1000
    finally:
        tracemalloc.stop()


class Scale(Layer):
    """A layer of someone's own, with a parameter."""

    __slots__ = ("_gradient", "_x", "scale")

    def __init__(self, scale):
        self.scale, self._gradient = scale, np.zeros_like(scale)

    def __call__(self, x, /, out=None):
        return np.multiply(x, self.scale, out=out)

    def forward(self, x, /, out=None):
        self._x = x
        return self(x, out)

    def backward(self, grad, /, out=None, *, input_gradient=True):
        np.sum(grad * self._x, axis=0, out=self._gradient)
        return np.multiply(grad, self.scale, out=out) if input_gradient else None

    def parameters(self):
        return {"scale": self.scale}

    def gradients(self):
        return {"scale": self._gradient}


def test_a_layer_of_ones_own():
    model = Sequential(Linear(2, 3, dtype="float64", seed=0), Scale(np.ones(3)))
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.scale"]
    x = np.random.default_rng(0).normal(size=(50, 2))
    values = train(model, MSELoss(), x, x @ [[1, 2, 3], [4, 5, 6]], lr=0.05)
    assert values[-1] < 1e-4 * values[0]


@pytest.mark.parametrize(
    "scale",
    [
        np.ones(3, "float16"),
        np.ones(3, ">f8"),
        np.ones(6)[::2],
        np.ones(3, "int64"),
        np.ones((1, 3)).view(np.matrix),
    ],
    ids=["float16", "another byte order", "strided", "integers", "a subclass"],
)
def test_parameters_that_no_step_can_be_done_on(scale):
    with pytest.raises(TypeError, match="contiguous arrays of one shape"):
        SGD(Scale(scale), lr=0.1)


def test_read_only_parameters_are_not_written():
    model = Linear(2, 1, seed=0)
    optimizer = SGD(model, lr=0.1)
    for gradient in model.gradients().values():
        gradient[...] = 1
    model.bias.flags.writeable = False
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"\(1,\) is read-only"):
        optimizer.step()
    for name, parameter in model.parameters().items():
        assert np.array_equal(parameter, before[name])


@looped(
    ("make", "error", "message"),
    [
        (lambda: SGD([np.ones(3)], lr=1), TypeError, "model must be a layer, not list"),
        (lambda: SGD(Linear, lr=1), TypeError, "model must be a layer, not type"),
        (lambda: SGD(ReLU(), lr=1), ValueError, r"ReLU\(\) has no parameters"),
        (lambda: SGD(Linear(1, 1)), TypeError, "lr"),
        (lambda: SGD(Linear(1, 1), lr=-1), ValueError, "lr must be finite and 0 or more, not -1"),
        (lambda: SGD(Linear(1, 1), lr=np.nan), ValueError, "lr must be finite"),
        (lambda: SGD(Linear(1, 1), lr=np.inf), ValueError, "lr must be finite"),
        (lambda: SGD(Linear(1, 1), lr="0.1"), TypeError, "lr must be a real number, not str"),
        (lambda: SGD(Linear(1, 1), lr=True), TypeError, "lr must be a real number, not bool"),
        (lambda: SGD(Linear(1, 1), 1, momentum=1), ValueError, "momentum must be less than 1"),
        (lambda: SGD(Linear(1, 1), 1, momentum=-0.1), ValueError, "momentum must be finite"),
        (lambda: SGD(Linear(1, 1), 1, momentum=None), TypeError, "momentum must be a real"),
        (lambda: setattr(SGD(Linear(1, 1), 1), "lr", -1), ValueError, "lr must be"),
        (lambda: setattr(SGD(Linear(1, 1), 1), "momentum", 0.5), AttributeError, "momentum"),
        (lambda: setattr(SGD(Linear(1, 1), 1), "rate", 0.5), AttributeError, "rate"),
    ],
)
def test_wrong_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_repr():
    assert repr(SGD(Linear(1, 1), 0.1)) == "SGD(lr=0.1, momentum=0.0)"


@pytest.mark.parametrize("module", [layers, losses, optimizers], ids=lambda m: m.__name__)
def test_examples_in_docstrings(module):
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def test_examples_in_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = Path(__file__).parents[1] / "README.md"
    before, _, after = readme.read_text(encoding="utf-8").partition("\n## Calls from other code")
    text = before + after[after.index("\n## ") :]  # that section is for tests/test_pages.py
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["error"] < 0.2
    assert (tmp_path / "model.npz").exists()
