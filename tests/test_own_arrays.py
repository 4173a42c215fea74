"""Arrays of a layer, a loss or an optimizer, given to it as operands.

A result is the same as with copies of the operands, whichever of its own arrays they are:
parameters, gradients, what it keeps, and what it has returned. It may write to all of these.
"""

import itertools

import numpy as np
import pytest

from fastact import layers, losses
from fastact.layers import Layer, LeakyReLU, Linear, ReLU, Sequential, Sigmoid, Softmax, Tanh
from fastact.optimizers import SGD

N = 4  # rows and features alike, so that a weight may be an input
rng = np.random.default_rng(0)
X, GRAD = rng.normal(size=(2, N, N))


class Flat(Layer):
    """A layer that passes its operands on, as one for reshaping or dropout does."""

    __slots__ = ()

    def __call__(self, x, /, out=None):
        if out is None:
            return x
        out[...] = x
        return out

    forward = __call__

    def backward(self, grad, /, out=None, *, input_gradient=True):
        return grad


def linear(activation=None, seed=0):
    return Linear(N, N, activation, dtype="float64", seed=seed)


MADE = {
    **{
        f"Linear, {name}": lambda activation=activation: linear(activation and activation())
        for name, activation in {
            "no activation": None,
            "keeps the output": ReLU,
            "keeps the input": Sigmoid,
            "a slope": LeakyReLU,
            "not fused": Softmax,
        }.items()
    },
    "ReLU": ReLU,
    "LeakyReLU": lambda: LeakyReLU(-0.5),
    "Tanh": Tanh,
    "Softmax": Softmax,
    "LogSoftmax": layers.LogSoftmax,
    "Sequential": lambda: Sequential(
        Tanh(), Sequential(linear(ReLU())), linear(Sigmoid(), 1), linear(None, 2), Flat()
    ),
}
VIEWS = {
    "itself": lambda a: a,
    "reversed": lambda a: a[::-1, ::-1],
    "transposed": lambda a: a.T if len(a) > 1 else a,
    "a row of it": lambda a: a[-1:],
    "from a buffer": lambda a: np.frombuffer(memoryview(a)).reshape(a.shape),
}


def trained(make):
    """Make a layer that has seen a batch, and its own arrays by name."""
    layer = make()
    for parameter in layer.parameters().values():
        parameter += 0.25
    x = X.copy()
    y = layer.forward(x)
    x_gradient = layer.backward(GRAD)
    own = {"the kept input": x, "the output": y, "the input gradient": x_gradient}
    own |= {f"parameter {name}": array for name, array in layer.parameters().items()}
    own |= {f"gradient {name}": array for name, array in layer.gradients().items()}
    return layer, own


def results(layer, x, *gradients):
    """Go forward, and backward with each gradient, and return all that comes of it."""
    found = [layer(x).copy(), layer.forward(x).copy()]
    for grad in gradients:
        found += [layer.backward(grad).copy(), *(g.copy() for g in layer.gradients().values())]
    return found


def assert_equal(found, wanted, said):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13, err_msg=str(said))


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_inputs_and_gradients(make, view):
    for name in trained(make)[1]:
        for slot in ("x", "grad"):
            layer, own = trained(make)
            twin = trained(make)[0]
            array = own[name]
            operand = view(array if array.ndim == 2 else array[None])
            copy, n = np.array(operand), len(operand)
            if slot == "x":
                found = results(layer, operand, GRAD[:n], GRAD[:n])
                wanted = results(twin, copy, GRAD[:n], GRAD[:n])
            else:
                found, wanted = results(layer, X[:n], operand), results(twin, X[:n], copy)
            assert_equal(found, wanted, (name, slot))


@pytest.mark.parametrize(
    "view", [VIEWS["itself"], VIEWS["transposed"]], ids=["itself", "transposed"]
)
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_out(make, view):
    """The result is written to `out`, and what follows is as if it were written after the call."""
    names = [name for name, array in trained(make)[1].items() if array.ndim == 2]
    for name, method in itertools.product(names, ("__call__", "forward", "backward")):
        layer, own = trained(make)
        twin, twins_own = trained(make)
        operand = GRAD if method == "backward" else X[::-1].copy()
        out = view(own[name])
        assert getattr(layer, method)(operand, out=out) is out
        wanted = getattr(twin, method)(operand.copy()).copy()
        np.testing.assert_allclose(out, wanted, rtol=1e-13, err_msg=f"{name}, {method}")
        if name.startswith("gradient") and method == "backward":
            continue
        view(twins_own[name])[...] = wanted
        # forward() may keep its output, which is `out` or not.
        if method == "forward" and getattr(twin, "save", None) == "output":
            twin.forward(operand, out=view(twins_own[name]))
        if method != "backward" or name != "the output":
            assert_equal([layer.backward(GRAD)], [twin.backward(GRAD)], (name, method))


LOSSES = [losses.MSELoss, losses.BCEWithLogitsLoss, losses.CrossEntropyLoss]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("make", LOSSES)
def test_losses(make, view):
    loss, twin = make(), make()
    loss.forward(X, GRAD)
    own = loss.backward()
    own_copy = own.copy()
    for prediction, target in ((own, GRAD), (X, own), (own, own), (own, own[::-1].copy())):
        for call in ("__call__", "forward"):
            operands = view(prediction), view(target)
            copies = [np.array(operand) for operand in operands]
            assert getattr(loss, call)(*operands) == getattr(twin, call)(*copies)
        assert np.array_equal(loss.backward(), twin.backward())
        assert np.array_equal(own, own_copy)


@pytest.mark.parametrize("make", LOSSES)
def test_losses_of_arrays_that_nothing_else_refers_to(make):
    loss, twin = make(), make()
    large = np.tile(X, (300, 1))
    loss.forward(large, large)
    for _ in range(5):
        gradient = loss.backward().copy()
        assert loss.forward(loss.backward(), loss.backward()) == twin.forward(gradient, gradient)
        assert np.array_equal(loss.backward(), twin.backward())


class Tied(Layer):
    """A layer of someone's own, whose gradients are memory of its parameters."""

    __slots__ = ("memory", "pairs")

    def __init__(self, pairs):
        self.memory = np.arange(1.0, 3001)
        self.pairs = pairs

    def parameters(self):
        return {str(i): self.memory[p] for i, (p, _) in enumerate(self.pairs)}

    def gradients(self):
        return {str(i): self.memory[g] for i, (_, g) in enumerate(self.pairs)}


@pytest.mark.parametrize("momentum", [0, 0.5])
@pytest.mark.parametrize(
    "pairs",
    [
        [(np.s_[:1000], np.s_[:1000])],
        [(np.s_[:1000], np.s_[1:1001])],
        [(np.s_[1:1001], np.s_[:1000])],
        [(np.s_[:1000], np.s_[2000:]), (np.s_[1000:2000], np.s_[:1000])],
        [(np.s_[:1000], np.s_[1000:2000]), (np.s_[1000:2000], np.s_[500:1500])],
    ],
    ids=["equal", "ahead", "behind", "of another", "of both"],
)
def test_descent(pairs, momentum):
    layer = Tied(pairs)
    optimizer = SGD(layer, lr=0.5, momentum=momentum)
    parameters = list(layer.parameters().values())
    velocities = [np.zeros(1000) for _ in pairs]
    for _ in range(3):
        gradients = [gradient.copy() for gradient in layer.gradients().values()]
        wanted = []
        for parameter, gradient, velocity in zip(parameters, gradients, velocities, strict=True):
            velocity[...] = momentum * velocity + gradient
            wanted.append(parameter - 0.5 * velocity)
        optimizer.step()
        assert all(map(np.array_equal, parameters, wanted))


def test_state_of_own_arrays():
    layer = linear()
    wanted = layer.bias.copy() + 1, layer.weight.T.copy()
    layer.gradients()["bias"][...] = wanted[0]
    layer.load_state_dict({"weight": layer.weight.T, "bias": layer.gradients()["bias"]})
    assert np.array_equal(layer.bias, wanted[0])
    assert np.array_equal(layer.weight, wanted[1])
    layer.__setstate__((None, layer.weight, layer.bias))
    assert np.array_equal(layer.weight, wanted[1])
