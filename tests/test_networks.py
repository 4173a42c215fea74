"""Layers that are composed: gradients, parameters, what is kept, and how they compose."""

import copy
import io
import pickle
import re
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from elementwise import LAYERS
from looped import looped

import fastact
from fastact import layers
from fastact.layers import (
    Activation,
    Layer,
    LeakyReLU,
    Linear,
    LogSoftmax,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
)
from fastact.layers._sequential import simple_layers
from fastact.losses import MSELoss
from fastact.optimizers import SGD

IN, OUT = 5, 4


class Cube(Activation):
    """An activation that a user wrote, without ufuncs or kernels."""

    __slots__ = ()

    def __init__(self):
        super().__init__(save="input")

    def __call__(self, x, /, out=None):
        return x * x * x  # ignores `out`

    def _gradient(self, grad, kept, out, /):
        return grad * (3 * kept * kept)


class NumPyTanh(Activation):
    """An activation over ufuncs of NumPy."""

    __slots__ = ()

    __call__ = staticmethod(np.tanh)

    def __init__(self):
        super().__init__(save="output")

    def _gradient(self, grad, kept, out, /):
        return np.multiply(grad, 1 - kept * kept, out=out)


def torch_cube(torch):
    class Module(torch.nn.Module):
        def forward(self, x):
            return x**3

    return Module()


class Network(NamedTuple):
    """A layer for inputs of IN features, by its dtype, and the same as PyTorch modules."""

    make: Callable[[str], Layer]
    peers: Callable[[Any], list[Any]]


def alone(case):
    """Make a network of an activation layer alone."""
    return Network(lambda dtype: case.make(), lambda torch: [case.torch(torch)])


def linear(activation, peer=None, out_features=OUT):
    """Make a network of a dense layer with an activation."""
    return Network(
        lambda dtype: Linear(IN, out_features, activation and activation(), dtype=dtype, seed=10),
        lambda torch: [torch.nn.Linear(IN, out_features), *([peer(torch)] if peer else [])],
    )


NETWORKS = {
    **{name: alone(case) for name, case in LAYERS.items()},
    **{f"linear, {name}": linear(case.make, case.torch) for name, case in LAYERS.items()},
    "softmax": Network(lambda dtype: Softmax(), lambda torch: [torch.nn.Softmax(-1)]),
    "softmax, first axis": Network(lambda dtype: Softmax(0), lambda torch: [torch.nn.Softmax(0)]),
    "log softmax": Network(lambda dtype: LogSoftmax(), lambda torch: [torch.nn.LogSoftmax(-1)]),
    "linear": linear(None),
    "linear, one unit": linear(ReLU, lambda torch: torch.nn.ReLU(), 1),
    "linear, softmax": linear(Softmax, lambda torch: torch.nn.Softmax(-1)),
    "linear, someone's own": linear(Cube, torch_cube),
    "linear, not our ufuncs": linear(NumPyTanh, lambda torch: torch.nn.Tanh()),
    "sequential": Network(
        lambda dtype: Sequential(
            Linear(IN, 7, Sigmoid(), dtype=dtype, seed=1),
            LeakyReLU(0.3),
            Linear(7, 6, ReLU(), dtype=dtype, seed=2),
            Linear(6, 3, dtype=dtype, seed=3),
            Softmax(),
        ),
        lambda torch: [
            torch.nn.Linear(IN, 7),
            torch.nn.Sigmoid(),
            torch.nn.LeakyReLU(0.3),
            torch.nn.Linear(7, 6),
            torch.nn.ReLU(),
            torch.nn.Linear(6, 3),
            torch.nn.Softmax(-1),
        ],
    ),
    "nested": Network(
        lambda dtype: Sequential(
            Sequential(Linear(IN, 7, dtype=dtype, seed=1), ReLU()),
            Sequential(Sequential(Linear(7, 2, Sigmoid(), dtype=dtype, seed=2))),
        ),
        lambda torch: [
            torch.nn.Linear(IN, 7),
            torch.nn.ReLU(),
            torch.nn.Linear(7, 2),
            torch.nn.Sigmoid(),
        ],
    ),
}
WITH_LINEAR = [name for name in NETWORKS if name.startswith(("linear", "sequential", "nested"))]
SHAPES = [(7, IN), (1, IN), (0, IN), (IN,), (2, 3, IN), (2, 0, IN), (1, 2, 1, 2, IN)]
DTYPES = ["float32", "float64"]

every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
every_linear = pytest.mark.parametrize(
    "network", [NETWORKS[n] for n in WITH_LINEAR], ids=WITH_LINEAR
)
every_shape = looped("shape", SHAPES, ids=repr)
every_dtype = looped("dtype", DTYPES)


def operands(layer, shape, dtype="float64"):
    """Return an input and a gradient with respect to the output."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=shape).astype(dtype)
    return x, rng.normal(size=layer(x).shape).astype(dtype)


def tolerances(dtype):
    """Allow for sums of some ten products of numbers around 1, in three layers."""
    eps = float(np.finfo(dtype).eps)
    return {"rtol": 40 * eps, "atol": 40 * eps}


def unchanged(arrays, copies):
    return all(np.array_equal(a, b) for a, b in zip(arrays, copies, strict=True))


def kept_count(layer):
    """Count the parts of a layer that have kept something."""
    parts = simple_layers((layer,))
    return sum((p._dense.x if isinstance(p, Linear) else p._kept) is not None for p in parts)


def test_every_layer_is_in_a_network():
    made = set()
    for network in NETWORKS.values():
        layer = network.make("float64")
        made |= {type(layer), *map(type, simple_layers((layer,)))}
    lacking = {
        name
        for name, value in vars(layers).items()
        if isinstance(value, type) and value not in made | {Layer, Activation}
    }
    names = ", ".join(sorted(lacking))
    assert not lacking, (
        f"tests/reference.py: add a LayerExpectation for {names}; or, if it is not elementwise, "
        "tests/test_networks.py: add it to NETWORKS"
    )


# --------------------------------------------------------------- gradient checks


@every_dtype
@every_shape
@every_network
def test_as_torch_has_it(network, shape, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch, to compare with, is not installed")
    layer = network.make(dtype)
    rival = torch.nn.Sequential(*network.peers(torch)).to(getattr(torch, dtype))
    with torch.no_grad():
        for theirs, ours in zip(rival.parameters(), layer.parameters().values(), strict=True):
            theirs.copy_(torch.from_numpy(ours))
    x, grad = operands(layer, shape, dtype)
    their_x = torch.from_numpy(x.copy()).requires_grad_()
    their_y = rival(their_x)
    their_y.backward(torch.from_numpy(grad))

    y = layer.forward(x)
    x_gradient = layer.backward(grad)
    assert y.dtype == x_gradient.dtype == dtype
    scale = 1 + len(x.reshape(-1, IN))
    for ours, theirs in [
        (y, their_y.detach()),
        (layer(x), their_y.detach()),
        (x_gradient, their_x.grad),
        *zip(layer.gradients().values(), (p.grad for p in rival.parameters()), strict=True),
    ]:
        assert ours.dtype == dtype
        np.testing.assert_allclose(
            ours / scale, theirs.numpy() / scale, **tolerances(dtype), strict=True
        )


@every_dtype
@every_shape
@every_network
def test_gradients_are_central_differences(network, shape, dtype):
    """Gradients of both dtypes agree with differences in float64, with the same parameters."""
    layer, exact = network.make(dtype), network.make("float64")
    exact.load_state_dict(layer.state_dict())
    x, grad = operands(layer, shape, dtype)
    layer.forward(x)
    wide_x, wide_grad = x.astype("float64"), grad.astype("float64")

    def difference(array):
        """Compute the derivative of sum(grad * y) with respect to every element of an array."""
        slopes, step = np.zeros(array.shape), 1e-6
        for index in np.ndindex(array.shape):
            value, sums = array[index], []
            for moved in (value + step, value - step):
                array[index] = moved
                sums.append(np.vdot(wide_grad, exact(wide_x)))
            array[index] = value
            slopes[index] = (sums[0] - sums[1]) / (2 * step)
        return slopes

    # The rounding of differences: 1e-16 of sums of up to 30, divided by 2e-6.
    tolerance = {"rtol": 0, "atol": 2e-8 if dtype == "float64" else 2e-5}
    np.testing.assert_allclose(layer.backward(grad), difference(wide_x), **tolerance, strict=False)
    gradients = layer.gradients()
    assert list(gradients) == list(layer.parameters())
    for name, parameter in exact.parameters().items():
        np.testing.assert_allclose(gradients[name], difference(parameter), **tolerance)


@looped("dtype", ["float16", "float32", "float64", "bfloat16", "int64", "bool", "uint8"])
@looped("shape", [(2, 3, 4), (2, 0, 0), (3, 1, 1), (2, 1, 1000)])
@looped("axis", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_is_the_function(name, axis, shape, dtype):
    """Whose values are tested in tests/test_rows.py."""
    x = np.random.default_rng(6).integers(0, 9, shape).astype(dtype)
    layer = {"softmax": Softmax, "log_softmax": LogSoftmax}[name](axis)
    y, wanted = layer.forward(x), getattr(fastact, name)(x, axis=axis)
    grad = np.linspace(-2, 2, x.size).reshape(shape).astype(y.dtype)
    gradient, backward = layer.backward(grad), getattr(fastact, f"{name}_backward")
    for result, expected in (y, wanted), (gradient, backward(grad, y, axis=axis)):
        assert result.dtype == expected.dtype
        assert result.tobytes() == expected.tobytes()


# ---------------------------------------------------------------- special values


@every_dtype
@every_linear
def test_no_floating_point_warning(network, dtype):
    layer = network.make(dtype)
    limits = np.finfo(dtype)
    for value in (np.nan, limits.tiny, limits.smallest_subnormal, 1e3, -1e3):
        x = np.full((2, IN), value, dtype)
        y = layer.forward(x)
        layer.backward(np.full_like(y, value))
        layer(x)


@every_dtype
def test_a_product_that_overflows(dtype):
    # Whether there is a warning depends on NumPy's version and settings.
    layer = Linear(2, 1, ReLU(), dtype=dtype)
    layer.load_state_dict({"weight": [[2, 2]], "bias": [1]})
    with np.errstate(over="ignore"):
        assert layer.forward(np.full((1, 2), np.finfo(dtype).max)) == np.inf
    layer.backward(np.ones((1, 1)), input_gradient=False)
    assert layer.gradients()["bias"] == 1


# ------------------------------------------------------------ kinds of operands


LAYOUTS = {
    "empty": lambda a: a[:0],
    "one row": lambda a: np.broadcast_to(a[:1], a.shape),
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "fortran": np.asfortranarray,
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "another byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": lambda a: unaligned(a),
    "a list": lambda a: a.tolist(),
    "a subclass": lambda a: a.view(np.recarray),
    "a memoryview": memoryview,
}


def unaligned(array):
    buffer = np.zeros(array.nbytes + 1, "u1")[1:]
    view = np.ndarray(array.shape, array.dtype, buffer)
    view[...] = array
    assert not view.flags.aligned
    return view


@looped("layout", LAYOUTS.values(), ids=LAYOUTS)
@every_network
def test_layouts(network, layout):
    layer, twin = network.make("float64"), network.make("float64")
    x, grad = map(layout, operands(layer, (6, IN)))
    plain = np.array(x, "float64", order="C")
    y, x_gradient = layer.forward(plain), layer.backward(np.array(grad, "float64", order="C"))
    # The bits may differ, because BLAS may sum in another order.
    for result, wanted in [
        (twin.forward(x), y),
        (twin.backward(grad), x_gradient),
        (twin(x), y),
        *zip(twin.gradients().values(), layer.gradients().values(), strict=True),
    ]:
        np.testing.assert_allclose(result, wanted, rtol=1e-12, atol=1e-14)


@looped("given", ["float16", "float32", "float64", "int8", "uint16", "bool"])
@every_dtype
def test_operands_are_converted_to_the_dtype_of_the_layer(dtype, given):
    layer = Linear(IN, OUT, ReLU(), dtype=dtype, seed=0)
    x = (np.arange(3 * IN).reshape(3, IN) % 2).astype(given)
    y = layer.forward(x)
    assert y.dtype == dtype
    assert np.array_equal(y, layer(x.astype(dtype)))
    gradient = layer.backward(np.ones((3, OUT), given))
    assert gradient.dtype == dtype
    assert np.array_equal(gradient, layer.backward(np.ones((3, OUT), dtype)))


@every_network
def test_out(network):
    layer = network.make("float64")
    x, grad = operands(layer, (3, IN))
    y, x_gradient = layer.forward(x).copy(), layer.backward(grad).copy()
    for call, operand, wanted in [
        (layer.backward, grad, x_gradient),
        (layer.forward, x, y),
        (layer, x, y),
    ]:
        for out in (
            np.empty(wanted.shape),
            np.empty(wanted.shape, order="F"),
            np.empty((*wanted.shape, 2))[..., 0],
            np.empty(wanted.shape, "float32"),
        ):
            assert call(operand, out=out) is call(operand, out) is out
            np.testing.assert_allclose(out, wanted, rtol=1e-6)
    # If the output is kept, it is the rounded output.
    layer.forward(x, out=np.empty(y.shape, "float32"))
    np.testing.assert_allclose(layer.backward(grad), x_gradient, rtol=1e-4)


SQUARE = {
    **{name: case.make for name, case in LAYERS.items()},
    "softmax": Softmax,
    "linear": lambda: Linear(IN, IN, dtype="float64", seed=0),
    "linear, sigmoid": lambda: Linear(IN, IN, Sigmoid(), dtype="float64", seed=0),
    "linear, softmax": lambda: Linear(IN, IN, Softmax(), dtype="float64", seed=0),
    "sequential": lambda: Sequential(Linear(IN, IN, ReLU(), dtype="float64", seed=0), Softmax()),
}


@pytest.mark.parametrize("make", SQUARE.values(), ids=SQUARE)
def test_in_place(make):
    layer, twin = make(), make()
    x, grad = operands(layer, (4, IN))
    y, x_gradient = twin.forward(x.copy()), twin.backward(grad.copy())
    assert layer.forward(x, out=x) is x
    np.testing.assert_array_equal(x, y)
    assert layer.backward(grad, out=grad) is grad
    np.testing.assert_array_equal(grad, x_gradient)
    for ours, theirs in zip(layer.gradients().values(), twin.gradients().values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # The gradient is stored in the output, which may be what is kept.
    y = layer.forward(operands(layer, (4, IN))[0])
    grad = operands(layer, (4, IN))[1]
    np.testing.assert_array_equal(layer.backward(grad, out=np.asarray(y)), x_gradient)


# -------------------------------------------------------------------- what is kept


@every_network
def test_call_keeps_nothing(network):
    layer = network.make("float64")
    x, grad = operands(layer, (3, IN))
    with pytest.raises(RuntimeError, match=r"backward\(\) before forward\(\)"):
        layer.backward(grad)
    layer.forward(x)
    wanted = layer.backward(grad)
    layer(np.ones((9, IN)))
    assert np.array_equal(layer.backward(grad), wanted)


@every_network
def test_backward_may_be_called_again_and_writes_anew(network):
    layer, twin = network.make("float64"), network.make("float64")
    x, grad = operands(layer, (3, IN))
    arrays = layer.gradients()

    def backward(layer, grad):
        return [layer.backward(grad), *(gradient.copy() for gradient in layer.gradients().values())]

    layer.forward(x)
    wanted = backward(layer, grad)
    assert not any(map(np.array_equal, backward(layer, 2 * grad), wanted))
    assert unchanged(backward(layer, grad), wanted)
    assert all(array is arrays[name] for name, array in layer.gradients().items())
    # By the last input alone.
    layer.forward(-x)
    twin.forward(-x)
    assert unchanged(backward(layer, grad), backward(twin, grad))


@every_linear
def test_gradients_are_zero_before_backward(network):
    layer = network.make("float32")
    for name, gradient in layer.gradients().items():
        assert gradient.shape == layer.parameters()[name].shape
        assert not gradient.any()


@every_network
def test_without_the_gradient_of_the_input(network):
    layer = network.make("float64")
    x, grad = operands(layer, (3, IN))
    layer.forward(x)
    layer.backward(grad)
    wanted = [gradient.copy() for gradient in layer.gradients().values()]
    layer.backward(0 * grad)
    assert layer.backward(grad, input_gradient=False) is None
    assert unchanged(layer.gradients().values(), wanted)


@every_dtype
@every_network
def test_results_handed_out_stay_as_they_are(network, dtype):
    layer = network.make(dtype)
    x, grad = operands(layer, (3, IN), dtype)
    arrays = []
    for i in range(20):
        # A view, and a view of a view, hold the array as well.
        arrays += [layer.forward(x * i), layer.backward(grad * i)]
        arrays += [layer.forward(-x * i)[1:], layer(x * i), layer.backward(grad)[:, ::2][::2]]
        arrays += [x, grad]
        copies = [array.copy() for array in arrays]
    assert unchanged(arrays, copies)
    for i in range(20):
        layer.forward(x / (i + 1))
        layer.backward(grad / (i + 1))
        assert unchanged(arrays, copies)


@pytest.mark.gil
@looped("shape", [(256, IN), (8, 32, IN)], ids=repr)
@every_dtype
@every_linear
def test_steps_after_the_second_allocate_next_to_nothing(network, dtype, shape):
    # Softmax has sums along its axis. The ufuncs of Cube and NumPyTanh are not of fastact.
    layer = network.make(dtype)
    x, _ = operands(layer, shape, dtype)
    model, loss = Sequential(layer, Linear(layer(x).shape[-1], 64, dtype=dtype)), MSELoss()
    target = np.zeros((*shape[:-1], 64), dtype)
    optimizer = SGD(model, lr=0.01, momentum=0.9)

    def step():
        y = model.forward(x)
        value = loss.forward(y, target)
        grad = loss.backward()
        model.backward(grad, input_gradient=True)
        optimizer.step()
        return value, y, grad

    held = step(), step()
    tracemalloc.start()
    try:
        for _ in range(3):
            held = held[1], step()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(5):
            held = held[1], step()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    other = any(isinstance(part, (Cube, NumPyTanh, Softmax)) for part in activations(layer))
    # One more array of 256 rows would be 64 KiB. A temporary of an activation is up to 8 KiB.
    assert peak < (20 if other else 4) * 1024


def activations(layer):
    for part in simple_layers((layer,)):
        yield part.activation if isinstance(part, Linear) else part


def test_a_large_result_of_a_call_is_not_kept():
    layer = Linear(2, 3, ReLU(), seed=0)
    x = np.ones((100_000, 2), np.float32)
    tracemalloc.start()
    try:
        layer(x)
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------ the parameters


def test_names_are_those_of_torch():
    model = NETWORKS["nested"].make("float32")
    assert list(model.parameters()) == ["0.0.weight", "0.0.bias", "1.0.0.weight", "1.0.0.bias"]
    assert list(model.gradients()) == list(model.state_dict()) == list(model.parameters())
    assert not Softmax().parameters()
    assert not Softmax().gradients()
    assert not Softmax().state_dict()


@every_linear
def test_parameters_are_the_arrays_themselves(network):
    layer = network.make("float64")
    x, _ = operands(layer, (3, IN))
    y = layer(x)
    state = layer.state_dict()
    for parameter in layer.parameters().values():
        parameter += 0.5
    assert not np.array_equal(layer(x), y)
    layer.load_state_dict(state)
    assert np.array_equal(layer(x), y)
    for array in state.values():
        array[...] = 0
    assert np.array_equal(layer(x), y)


@every_dtype
@every_linear
def test_saved_and_loaded(network, dtype, tmp_path):
    layer = network.make(dtype)
    twin = network.make(dtype)
    for file in (tmp_path / "model.npz").open("w+b"), io.BytesIO():
        np.savez(file, **layer.state_dict())
        file.seek(0)
        for parameter in twin.parameters().values():
            parameter[...] = 7
        with file, np.load(file) as state:
            twin.load_state_dict(state)
        assert unchanged(twin.parameters().values(), layer.parameters().values())


def test_a_state_of_torch_loads_as_it_is():
    torch = pytest.importorskip("torch", reason="PyTorch, to compare with, is not installed")
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    ours = Sequential(Linear(5, 3), ReLU(), Linear(3, 2))
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    wanted = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(x), wanted, rtol=1e-5, atol=1e-6)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})


def test_floats_of_another_width_are_rounded():
    layer = Linear(2, 1)
    layer.load_state_dict({"weight": [[0.1, 3]], "bias": np.array([2], "int64")})
    assert layer.weight.tolist() == np.float32([[0.1, 3]]).tolist()
    assert layer.bias.tolist() == [2]


WEIGHT, BIAS = np.ones((OUT, IN)), np.ones(OUT)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"weight": WEIGHT}, ValueError, r"missing in the state: \['bias'\]"),
        (
            {"weight": WEIGHT, "bias": BIAS, "scale": BIAS, "0": 1},
            ValueError,
            r"unexpected: \['0', 'scale'\]",
        ),
        ({"weight": WEIGHT, "biass": BIAS}, ValueError, r"\['bias'\].*\['biass'\]"),
        ({}, ValueError, r"\['bias', 'weight'\]"),
        ({"weight": WEIGHT.T, "bias": BIAS}, ValueError, r"weight: .*\(5, 4\), wanted \(4, 5\)"),
        ({"weight": WEIGHT, "bias": BIAS[:1]}, ValueError, r"bias: .*\(1,\), wanted \(4,\)"),
        ({"weight": WEIGHT, "bias": 1.0}, ValueError, r"bias: .*\(\), wanted \(4,\)"),
        ({"weight": WEIGHT, "bias": BIAS * 1j}, TypeError, "bias: .*complex128"),
        ({"weight": WEIGHT, "bias": BIAS.astype(str)}, TypeError, "bias: .*<U"),
        ({"weight": WEIGHT, "bias": BIAS.astype(object)}, TypeError, "bias: .*object"),
        ({"weight": WEIGHT, "bias": BIAS > 0}, TypeError, "bias: .*bool"),
        ([("weight", WEIGHT), ("bias", BIAS)], TypeError, "mapping"),
        (None, TypeError, "mapping"),
    ],
)
def test_wrong_states_change_nothing(state, error, message):
    layer = Linear(IN, OUT, seed=0)
    before = layer.state_dict()
    with pytest.raises(error, match=message):
        layer.load_state_dict(state)
    assert unchanged(layer.parameters().values(), before.values())


def test_a_read_only_parameter_is_not_loaded():
    layer = Linear(2, 1, seed=0)
    layer.bias.flags.writeable = False
    before = layer.state_dict()
    with pytest.raises(ValueError, match="bias is read-only"):
        layer.load_state_dict({"weight": [[1, 2]], "bias": [3]})
    assert unchanged(layer.parameters().values(), before.values())


def test_layers_without_parameters_have_an_empty_state():
    ReLU().load_state_dict({})
    with pytest.raises(ValueError, match="unexpected"):
        ReLU().load_state_dict({"weight": 1})


# ------------------------------------------------------------------ initialisation


@pytest.mark.parametrize(
    ("activation", "variance", "normal"),
    [
        (ReLU(), 2 / 400, True),
        (LeakyReLU(0.5), 2 / (1.25 * 400), True),
        (LeakyReLU(-2), 2 / (5 * 400), True),
        (Sigmoid(), 2 / 700, False),
        (Softmax(), 2 / 700, False),
        (None, 2 / 700, False),
    ],
    ids=repr,
)
def test_initial_weights(activation, variance, normal):
    layer = Linear(400, 300, activation, dtype="float64", seed=1)
    assert not layer.bias.any()
    # With 120,000 samples, the standard error of the variance is at most 0.4 per cent.
    assert layer.weight.var() == pytest.approx(variance, rel=0.02)
    assert abs(layer.weight.mean()) < 5 * np.sqrt(variance / layer.weight.size)
    # The kurtosis is 3 for a normal distribution, and 9/5 for a uniform one.
    fourth = (layer.weight**4).mean() / layer.weight.var() ** 2
    assert fourth == pytest.approx(3 if normal else 1.8, rel=0.05)
    assert (np.abs(layer.weight).max() <= np.sqrt(3 * variance)) == (not normal)


def test_seeds():
    def weight(seed, **settings):
        return Linear(6, 5, ReLU(), seed=seed, **settings).weight

    assert np.array_equal(weight(3), weight(3))
    assert not np.array_equal(weight(3), weight(4))
    assert not np.array_equal(weight(None), weight(None))
    generator = np.random.default_rng(3)
    assert np.array_equal(weight(generator), weight(3))
    assert not np.array_equal(weight(generator), weight(3))
    assert np.array_equal(weight(np.random.SeedSequence(3)), weight(3))
    # A float32 layer is a rounded float64 layer.
    assert np.array_equal(weight(3), weight(3, dtype="float64").astype("float32"))


# ---------------------------------------------------------------- pickle, copy, repr


DUPLICATES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {p}": lambda layer, p=p: pickle.loads(pickle.dumps(layer, p))
        for p in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@looped("duplicate", DUPLICATES.values(), ids=DUPLICATES)
@every_network
def test_duplicates_have_the_parameters_and_nothing_kept(network, duplicate):
    layer = network.make("float64")
    x, grad = operands(layer, (3, IN))
    y, x_gradient = layer.forward(x), layer.backward(grad)
    twin = duplicate(layer)
    assert type(twin) is type(layer)
    assert repr(twin) == repr(layer)
    assert np.array_equal(twin(x), y)
    if isinstance(layer, Sequential) and duplicate is copy.copy:
        assert list(twin) == list(layer)  # shallow
        return
    with pytest.raises(RuntimeError):
        twin.backward(grad)
    twin.forward(x)
    assert np.array_equal(twin.backward(grad), x_gradient)
    for parameter in twin.parameters().values():
        parameter[...] = 0
    assert np.array_equal(layer(x), y)


@looped(("layer", "most"), [(Linear(10, 10), 110 * 4 + 700), (Sigmoid(), 200)])
def test_pickle_holds_the_parameters_alone(layer, most):
    layer.backward(np.ones_like(layer.forward(np.ones((1000, 10)))))
    assert len(pickle.dumps(layer)) < most


@looped(
    "text",
    [
        "ReLU()",
        "LeakyReLU()",
        "LeakyReLU(negative_slope=-1.0)",
        "Sigmoid()",
        "Sigmoid(save='output')",
        "Linear(in_features=3, out_features=2)",
        "Linear(in_features=3, out_features=2, activation=LeakyReLU(negative_slope=0.2))",
        "Linear(in_features=3, out_features=2, activation=ReLU(), dtype='float64')",
        "Softmax()",
        "Softmax(axis=1)",
        "Sequential(Linear(in_features=3, out_features=2), Softmax())",
    ],
)
def test_repr(text):
    assert repr(eval(text)) == text


def test_repr_shows_only_what_is_not_default():
    assert repr(LeakyReLU(negative_slope=0.01)) == "LeakyReLU()"
    assert repr(Sigmoid(save="input")) == "Sigmoid()"


def test_settings():
    activation = Sigmoid()
    layer = Linear(np.int64(3), 2, activation, dtype=float)
    assert (layer.in_features, layer.out_features) == (3, 2)
    assert type(layer.in_features) is int
    assert layer.activation is activation
    assert layer.dtype == "float64"
    # They were validated when the layer was made, and what is kept depends on them.
    settings = [(layer, name) for name in ("in_features", "activation", "dtype", "weight", "bias")]
    settings += [(layer, "misspelt"), (activation, "save"), (LeakyReLU(), "negative_slope")]
    for part, name in settings:
        with pytest.raises(AttributeError):
            setattr(part, name, getattr(part, name, None))


# ---------------------------------------------------------------------- sequential


def test_sequential_is_a_sequence():
    parts = [Linear(4, 3, seed=0), ReLU(), Linear(3, 2, seed=1)]
    model = Sequential(*parts)
    assert len(model) == 3
    assert list(model) == parts
    assert model[0] is parts[0]
    assert model[-1] is parts[2]
    assert model[np.int64(1)] is parts[1]
    tail = model[1:]
    assert type(tail) is Sequential
    assert list(tail) == parts[1:]
    x = np.ones((2, 4), np.float32)
    assert np.array_equal(tail(model[:1](x)), model(x))
    with pytest.raises(IndexError):
        model[3]
    with pytest.raises(ValueError, match="at least one"):
        model[3:]


def test_an_activation_may_be_that_of_many():
    shared = Sigmoid()
    x, grad = np.ones((2, 3)), np.ones((2, 3))
    models = [
        Sequential(*(Linear(3, 3, activation, dtype="float64", seed=i) for i, activation in pair))
        for pair in (enumerate([shared, shared]), enumerate([Sigmoid(), Sigmoid()]))
    ]
    gradients = [(model.forward(x), model.backward(grad))[1] for model in models]
    assert np.array_equal(*gradients)
    with pytest.raises(RuntimeError):
        shared.backward(grad)  # settings only: it keeps nothing


def test_layers_of_different_dtypes():
    model = Sequential(Linear(3, 2, dtype="float64"), Linear(2, 3, dtype="float32"))
    y = model.forward(np.ones((4, 3)))
    assert y.dtype == "float32"
    assert model.backward(y).dtype == "float64"


@looped(
    ("make", "error", "message"),
    [
        (lambda: Sequential(), ValueError, "at least one"),
        (lambda: Sequential(ReLU), TypeError, "not <class"),
        (lambda: Sequential([ReLU()]), TypeError, "must be a Layer"),
        (lambda: Sequential(*[ReLU()] * 2), ValueError, "twice"),
        (lambda: Sequential(*[Linear(2, 2)] * 2), ValueError, "twice"),
        (lambda: Sequential(s := ReLU(), Sequential(ReLU(), s)), ValueError, "twice"),
        (
            lambda: Sequential(Linear(2, 3), ReLU(), Sequential(Linear(4, 1))),
            ValueError,
            "in_features=4.* does not fit behind .*out_features=3",
        ),
        (lambda: Linear(0, 1), ValueError, "in_features must be 1 or more, not 0"),
        (lambda: Linear(1, -1), ValueError, "out_features must be 1 or more, not -1"),
        (lambda: Linear(1.0, 1), TypeError, "in_features must be an integer, not float: 1.0"),
        (lambda: Linear(1, True), TypeError, "out_features must be an integer, not bool"),
        (lambda: Linear(1, "2"), TypeError, "out_features must be an integer, not str: '2'"),
        (lambda: Linear(1, 1, ReLU), TypeError, "activation must be an activation layer such as"),
        (lambda: Linear(1, 1, "relu"), TypeError, "not 'relu'"),
        (lambda: Linear(1, 1, fastact.relu), TypeError, "not <ufunc 'relu'>"),
        (
            lambda: Linear(1, 1, Linear(1, 1)),
            TypeError,
            "activation must be an activation layer such as",
        ),
        (lambda: Linear(1, 1, dtype="float16"), TypeError, "float32 or float64, not float16"),
        (lambda: Linear(1, 1, dtype="int64"), TypeError, "float32 or float64, not int64"),
        (lambda: Linear(1, 1, dtype=">f4"), TypeError, "float32 or float64, not >f4"),
        (lambda: Linear(1, 1, seed="x"), TypeError, "SeedSequence"),
        (lambda: Linear(1, 1, seed=-1), ValueError, "non-negative"),
        (lambda: Sigmoid("both"), ValueError, "save must be .*'both'"),
        (lambda: Sigmoid(""), ValueError, "save must be .*''"),
        (lambda: Sigmoid(None), TypeError, "save must be .*None"),
        (lambda: Sigmoid(1), TypeError, "save must be .*1"),
        (lambda: Softmax(1.0), TypeError, "axis must be an integer, not float: 1.0"),
        (lambda: Softmax(None), TypeError, "axis must be an integer"),
        (lambda: Softmax((0, 1)), TypeError, "axis must be an integer"),
    ],
)
def test_wrong_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


# -------------------------------------------------------------------- wrong calls


@looped(
    ("x", "error", "message"),
    [
        (np.ones((3, IN + 1)), ValueError, r"shape \(3, 6\), wanted \(\.\.\., 5\)"),
        (np.ones(()), ValueError, r"shape \(\)"),
        (1.0, ValueError, r"shape \(\)"),
        (np.ones((IN, 0)), ValueError, r"shape \(5, 0\)"),
        (np.ones((3, IN), complex), TypeError, "complex128"),
        (np.ones((3, IN), object), TypeError, "object"),
        (np.ones((3, IN), str), TypeError, "<U1"),
        (np.ones((3, IN), "m8[s]"), TypeError, "timedelta64"),
        ([[1, 2], [3]], ValueError, "inhomogeneous"),
        (None, TypeError, "object"),
    ],
)
@every_linear
def test_wrong_inputs_change_nothing(network, x, error, message):
    layer = network.make("float64")
    good, grad = operands(layer, (3, IN))
    layer.forward(good)
    wanted = layer.backward(grad)
    for call in (layer, layer.forward):
        with pytest.raises(error, match=message):
            call(x)
    if kept_count(layer):  # a Sequential drops what it had
        assert np.array_equal(layer.backward(grad), wanted)


@every_network
def test_wrong_gradients_change_nothing(network):
    layer = network.make("float64")
    x, grad = operands(layer, (3, IN))
    layer.forward(x)
    wanted = layer.backward(grad)
    out = np.full(x.shape, 7.0)
    arrays = [x, out, *layer.gradients().values()]
    before = [array.copy() for array in arrays]
    shapes = [grad[:2], grad[0], grad[None], np.ones((3, grad.shape[1] + 1)), grad[:, :0], 1.0]
    for wrong in shapes:
        given, wanted_shape = (re.escape(str(np.shape(array))) for array in (wrong, grad))
        with pytest.raises(ValueError, match=f"gradient has shape {given}.*{wanted_shape}"):
            layer.backward(wrong, out=out)
    for wrong in grad * 1j, grad.astype(str):
        with pytest.raises(TypeError):
            layer.backward(wrong, out=out)
    assert unchanged(arrays, before)
    assert np.array_equal(layer.backward(grad), wanted)


WRONG_OUT = [
    (lambda shape: np.full((*shape[:-1], shape[-1] + 1), 7.0), ValueError, "shape"),
    (lambda shape: np.broadcast_to(7.0, shape), ValueError, "read-only"),
    (lambda shape: np.full(shape, 7), TypeError, "int64"),
    (lambda shape: np.full(shape, 7.0).tolist(), TypeError, "list"),
]


@looped(("make", "error", "message"), WRONG_OUT)
@every_network
def test_wrong_out_changes_nothing(network, make, error, message):
    layer = network.make("float64")
    x, grad = operands(layer, (3, IN))
    y = layer.forward(x)
    wanted = layer.backward(grad)
    for call, operand, result in [
        (layer.backward, 2 * grad, x),
        (layer, 2 * x, y),
        (layer.forward, 2 * x, y),
    ]:
        out = make(result.shape)
        with pytest.raises(error, match=message):
            call(operand, out=out)
        assert np.unique(out).tolist() == [7]
    if kept_count(layer):  # a Sequential drops what it had
        assert np.array_equal(layer.backward(grad), wanted)


def test_a_sequential_that_failed_on_its_way_has_nothing_kept():
    model = Sequential(ReLU(), Linear(IN, OUT, seed=0))
    x = np.ones((3, IN), np.float32)
    model.forward(x)
    with pytest.raises(ValueError, match="wanted"):
        model.forward(np.ones((3, IN + 1), np.float32))  # relu takes it
    with pytest.raises(RuntimeError, match=r"backward\(\) before forward\(\)"):
        model.backward(np.ones((3, OUT), np.float32))
