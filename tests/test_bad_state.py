"""Layers whose arrays are not what they should be: from a state, or changed in place later."""

import base64
import copy
import pickle

import numpy as np
import pytest
from test_networks import Cube

from fastact._core.networks.dense import Dense
from fastact._core.networks.pools import Pool
from fastact.layers import LeakyReLU, Linear, ReLU, Sequential, Sigmoid
from fastact.losses import MSELoss
from fastact.optimizers import SGD

pytestmark = pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
BIAS = np.ones(3, np.float32)


# ------------------------------------------------------------------------ states


BAD_ARRAYS = {
    "short bias": (WEIGHT, BIAS[:1], ValueError, r"bias has shape \(1,\), weight \(3, 4\)"),
    "long bias": (WEIGHT, np.ones(4, "f4"), ValueError, r"wanted \(3,\)"),
    "bias of two axes": (WEIGHT, BIAS[:, None], ValueError, "bias has shape"),
    "weight of one axis": (WEIGHT[0], BIAS, ValueError, "weight has shape"),
    "weight of three axes": (WEIGHT[None], BIAS, ValueError, "weight has shape"),
    "no axis": (np.array(1.0), np.array(1.0), ValueError, "weight has shape"),
    "no outputs": (np.ones((0, 4)), np.ones(0), ValueError, "none of length 0"),
    "no inputs": (np.ones((3, 0)), np.ones(3), ValueError, "none of length 0"),
    "two dtypes": (WEIGHT, BIAS.astype("f8"), TypeError, "weight has dtype float32, bias float64"),
    "float16": (WEIGHT.astype("f2"), BIAS.astype("f2"), TypeError, "not float16"),
    "integers": (WEIGHT.astype("i4"), BIAS, TypeError, "not int32"),
    "objects": (WEIGHT.astype("O"), BIAS.astype("O"), TypeError, "not object"),
    "lists": (WEIGHT.tolist(), BIAS.tolist(), TypeError, "not list"),
    "None": (WEIGHT, None, TypeError, "bias must be an ndarray, not NoneType"),
    "masked weight": (np.ma.ones((3, 4)), np.ones(3), TypeError, "not MaskedArray"),
    "masked": (WEIGHT, np.ma.masked_array(BIAS, [1, 0, 0]), TypeError, "not MaskedArray"),
}
BAD_STATES = {
    "no tuple": ({"weight": WEIGHT}, TypeError, "not dict"),
    "None": (None, TypeError, "not NoneType"),
    "too short": ((WEIGHT, BIAS), TypeError, "not tuple"),
    "no activation": ((np.tanh, WEIGHT, BIAS), TypeError, "activation must be an activation layer"),
    "a class": ((ReLU, WEIGHT, BIAS), TypeError, "activation must be an activation layer"),
    **{
        name: ((None, weight, bias), error, match)
        for name, (weight, bias, error, match) in BAD_ARRAYS.items()
    },
}


@pytest.mark.parametrize(("state", "error", "match"), BAD_STATES.values(), ids=BAD_STATES)
def test_a_bad_state_changes_nothing(state, error, match):
    layer = Linear(2, 2, ReLU(), seed=0)
    x = np.ones((3, 2), np.float32)
    before = layer.forward(x).copy()
    with pytest.raises(error, match=match):
        layer.__setstate__(state)
    assert np.array_equal(layer(x), before)
    layer.backward(np.ones_like(before))
    empty = Linear.__new__(Linear)
    with pytest.raises(error, match=match):
        empty.__setstate__(state)
    with pytest.raises(RuntimeError, match="has no parameters yet"):
        empty(x)


@pytest.mark.parametrize(("weight", "bias", "error", "match"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_a_dense_pass_refuses_them_too(weight, bias, error, match):
    with pytest.raises(error, match=match):
        Dense(weight, bias)


def test_a_dense_pass_refuses_subclasses():
    with pytest.raises(TypeError, match="not matrix"):
        Dense(WEIGHT.view(np.matrix), BIAS)


@pytest.mark.parametrize(
    "weight",
    [WEIGHT[:, ::-1], WEIGHT.T.copy().T, WEIGHT.astype(">f4"), np.ones((3, 8), "f4")[:, ::2]],
    ids=["reversed", "Fortran", "byte order", "strided"],
)
def test_other_layouts(weight):
    """Which layers copy: see tests/test_stored_models.py."""
    with pytest.raises(ValueError, match="contiguous"):
        Dense(weight, BIAS)


@pytest.mark.parametrize(
    "use",
    [
        lambda layer: layer(np.ones((1, 2))),
        lambda layer: layer.forward(np.ones((1, 2))),
        lambda layer: layer.backward(np.ones((1, 2))),
        lambda layer: layer.weight,
        lambda layer: layer.in_features,
        lambda layer: layer.dtype,
        lambda layer: layer.parameters(),
        repr,
        copy.copy,
        pickle.dumps,
        lambda layer: Sequential(Linear(1, 1), layer),
        lambda layer: SGD(layer, lr=0.1),
    ],
)
def test_a_layer_that_was_never_initialised(use):
    with pytest.raises(RuntimeError, match="this Linear was made without __init__"):
        use(Linear.__new__(Linear))


def test_a_misspelt_attribute():
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'wieght'"):
        _ = Linear(1, 1).wieght


def test_passes_that_were_never_initialised():
    dense, x = Dense.__new__(Dense), np.ones((1, 1))
    for use in (dense, dense.forward, lambda x: dense.backward(x, True)):
        with pytest.raises(ValueError, match="never initialised"):
            use(x)
    with pytest.raises(ValueError, match="backward\\(\\) before forward"):
        Dense(np.ones((2, 2)), np.ones(2)).backward(np.ones((1, 2)), True)
    with pytest.raises(ValueError, match="without dimensions"):
        Dense(np.ones((2, 2)), np.ones(2))(np.array(1.0))
    with pytest.raises(ValueError, match="dimensions"):
        Pool().empty((1,) * 100, np.dtype("f4"))


def test_a_dense_pass_refuses_a_gradient_of_another_size():
    dense = Dense(np.ones((2, 3)), np.ones(2))
    dense.forward(np.ones((4, 3)))
    for grad in (np.ones((5, 2)), np.ones((3, 2)), np.ones((4, 2), "f4"), np.ones((4, 4))[:, ::2]):
        with pytest.raises(ValueError, match=r"gradient of shape|kept"):
            dense.backward(grad, True)
    assert not dense.bias_gradient.any()


# ----------------------------------------------------------- pickles of other commits
#
# Made by the commit 090a1af, in which nothing of a state was checked; by their representation.


OLD = {
    "Linear(in_features=3, out_features=2)": (
        b"gAJjZmFzdGFjdC5sYXllcnMKTGluZWFyCnEAKYFxAU5jbnVtcHkuX2NvcmUubXVsdGlhcnJheQpfcmVjb25zdHJ1"
        b"Y3QKcQJjbnVtcHkKbmRhcnJheQpxA0sAhXEEY19jb2RlY3MKZW5jb2RlCnEFWAEAAABicQZYBgAAAGxhdGluMXEH"
        b"hnEIUnEJh3EKUnELKEsBSwJLA4ZxDGNudW1weQpkdHlwZQpxDVgCAAAAZjRxDomIh3EPUnEQKEsDWAEAAAA8cRFO"
        b"Tk5K/////0r/////SwB0cRJiiWgFWBwAAAAAAADDgAAAwoDCvwAAAAAAAMKAPwAAAEAAAEBAcRNoB4ZxFFJxFXRx"
        b"FmJoAmgDSwCFcRdoCYdxGFJxGShLAUsChXEaaBCJaAVYCQAAAAAAAD8AAMOAP3EbaAeGcRxScR10cR5ih3EfYi4="
    ),
    "Linear(in_features=2, out_features=3, activation=LeakyReLU(negative_slope=0.2))": (
        b"gAJjZmFzdGFjdC5sYXllcnMKTGluZWFyCnEAKYFxAWNmYXN0YWN0LmxheWVycwpMZWFreVJlTFUKcQJHP8mZmZmZ"
        b"mZqFcQNScQRjbnVtcHkuX2NvcmUubXVsdGlhcnJheQpfcmVjb25zdHJ1Y3QKcQVjbnVtcHkKbmRhcnJheQpxBksA"
        b"hXEHY19jb2RlY3MKZW5jb2RlCnEIWAEAAABicQlYBgAAAGxhdGluMXEKhnELUnEMh3ENUnEOKEsBSwNLAoZxD2Nu"
        b"dW1weQpkdHlwZQpxEFgCAAAAZjRxEYmIh3ESUnETKEsDWAEAAAA8cRROTk5K/////0r/////SwB0cRViiWgIWBwA"
        b"AAAAAADDgAAAwoDCvwAAAAAAAMKAPwAAAEAAAEBAcRZoCoZxF1JxGHRxGWJoBWgGSwCFcRpoDIdxG1JxHChLAUsD"
        b"hXEdaBOJaAhYDQAAAAAAAD8AAMOAPwAAIEBxHmgKhnEfUnEgdHEhYodxImIu"
    ),
    "Linear(in_features=1, out_features=2, activation=Sigmoid(save='output'), dtype='float64')": (
        b"gAJjZmFzdGFjdC5sYXllcnMKTGluZWFyCnEAKYFxAWNmYXN0YWN0LmxheWVycwpTaWdtb2lkCnECWAYAAABvdXRw"
        b"dXRxA4VxBFJxBWNudW1weS5fY29yZS5tdWx0aWFycmF5Cl9yZWNvbnN0cnVjdApxBmNudW1weQpuZGFycmF5CnEH"
        b"SwCFcQhjX2NvZGVjcwplbmNvZGUKcQlYAQAAAGJxClgGAAAAbGF0aW4xcQuGcQxScQ2HcQ5ScQ8oSwFLAksBhnEQ"
        b"Y251bXB5CmR0eXBlCnERWAIAAABmOHESiYiHcRNScRQoSwNYAQAAADxxFU5OTkr/////Sv////9LAHRxFmKJaAlY"
        b"EwAAAAAAAAAAAADDgAAAAAAAAMOwwr9xF2gLhnEYUnEZdHEaYmgGaAdLAIVxG2gNh3EcUnEdKEsBSwKFcR5oFIlo"
        b"CVgSAAAAAAAAAAAAw6A/AAAAAAAAw7g/cR9oC4ZxIFJxIXRxImKHcSNiLg=="
    ),
    "Sequential(Linear(in_features=3, out_features=2, activation=ReLU()), "
    "Softmax(axis=0), LeakyReLU(negative_slope=-0.5))": (
        b"gAJjZmFzdGFjdC5sYXllcnMKU2VxdWVudGlhbApxAGNmYXN0YWN0LmxheWVycwpMaW5lYXIKcQEpgXECY2Zhc3Rh"
        b"Y3QubGF5ZXJzClJlTFUKcQMpUnEEY251bXB5Ll9jb3JlLm11bHRpYXJyYXkKX3JlY29uc3RydWN0CnEFY251bXB5"
        b"Cm5kYXJyYXkKcQZLAIVxB2NfY29kZWNzCmVuY29kZQpxCFgBAAAAYnEJWAYAAABsYXRpbjFxCoZxC1JxDIdxDVJx"
        b"DihLAUsCSwOGcQ9jbnVtcHkKZHR5cGUKcRBYAgAAAGY0cRGJiIdxElJxEyhLA1gBAAAAPHEUTk5OSv////9K////"
        b"/0sAdHEVYoloCFgcAAAAAAAAw4AAAMKAwr8AAAAAAADCgD8AAABAAABAQHEWaAqGcRdScRh0cRliaAVoBksAhXEa"
        b"aAyHcRtScRwoSwFLAoVxHWgTiWgIWAkAAAAAAAA/AADDgD9xHmgKhnEfUnEgdHEhYodxImJjZmFzdGFjdC5sYXll"
        b"cnMKU29mdG1heApxI0sAhXEkUnElY2Zhc3RhY3QubGF5ZXJzCkxlYWt5UmVMVQpxJke/4AAAAAAAAIVxJ1JxKIdx"
        b"KVJxKi4="
    ),
}


@pytest.mark.parametrize("text", OLD)
def test_old_pickles(text):
    layer = pickle.loads(base64.b64decode(OLD[text]))
    assert repr(layer) == text
    for part in layer if isinstance(layer, Sequential) else [layer]:
        if isinstance(part, Linear):
            weight = np.arange(part.weight.size, dtype=part.dtype).reshape(part.weight.shape)
            assert np.array_equal(part.weight, weight - 2)
            assert np.array_equal(part.bias, np.arange(part.bias.size) + 0.5)
    width = next((part.in_features for part in [layer] if isinstance(part, Linear)), 3)
    y = layer.forward(np.ones((2, width)))
    layer.backward(np.ones_like(y))


# ------------------------------------------------------------------ changed in place


RESIZES = {
    name: lambda array, size=size: array.resize(size, refcheck=False)
    for name, size in (("smaller", 1), ("larger", 10**6))
}
CHANGES = {
    "shape": lambda array: setattr(array, "shape", (1, -1) if array.ndim == 1 else (-1,)),
    "dtype": lambda array: setattr(array, "dtype", np.int32),
    "wider dtype": lambda array: setattr(array, "dtype", np.float64),
    "byte order": lambda array: setattr(array, "dtype", array.dtype.newbyteorder()),
    "strides": lambda array: setattr(array, "strides", (0,) * array.ndim),
    "other memory": lambda array: array.__setstate__(np.zeros(1, array.dtype).__reduce__()[2]),
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


def layers_of_all_kinds():
    return [Linear(6, 4, f and f(), seed=0) for f in (None, ReLU, LeakyReLU, Sigmoid, Cube)]


@every_change
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_parameters_changed_in_place(name, change):
    x = np.ones((3, 6), np.float32)
    for layer in layers_of_all_kinds():
        y = layer.forward(x)
        optimizer = SGD(layer, lr=0.1, momentum=0.5)
        change(getattr(layer, name))
        for use in (layer, layer.forward, layer.backward):
            with pytest.raises(ValueError, match="changed in place"):
                use(y if use == layer.backward else x)
        assert not any(gradient.any() for gradient in layer.gradients().values())
        if change is not CHANGES["shape"]:
            other = np.array({"weight": layer.bias, "bias": layer.weight}[name])
        with pytest.raises(ValueError, match="changed in place"):
            optimizer.step()
        if change is not CHANGES["shape"]:
            assert np.array_equal(other, {"weight": layer.bias, "bias": layer.weight}[name])


@every_change
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_gradients_changed_in_place(name, change):
    for layer in layers_of_all_kinds():
        y = layer.forward(np.ones((3, 6), np.float32))
        optimizer = SGD(layer, lr=0.1)
        weight = layer.weight.copy()
        change(layer.gradients()[name])
        with pytest.raises(ValueError, match="changed in place"):
            layer.backward(y)
        assert not any(gradient.any() for gradient in layer.gradients().values())
        with pytest.raises(ValueError, match="changed in place"):
            optimizer.step()
        assert np.array_equal(layer.weight, weight)


@pytest.mark.parametrize("change", (CHANGES | RESIZES).values(), ids=CHANGES | RESIZES)
@pytest.mark.parametrize("which", ["input", "output"])
def test_what_is_kept_changed_in_place(which, change):
    for layer in layers_of_all_kinds():
        x = np.ones((3, 6), np.float32)
        y = layer.forward(x)
        grad = np.ones((3, 4), np.float32)
        change(x if which == "input" else y)
        # Not all of these are kept, and another shape of as many elements does no harm.
        try:
            layer.backward(grad)
        except (TypeError, ValueError):
            assert not any(gradient.any() for gradient in layer.gradients().values())


@pytest.mark.parametrize("refcheck", [True, False])
def test_arrays_of_a_layer_cannot_be_resized(refcheck):
    """Not by another thread either, while a product is computed without the GIL."""
    for layer in layers_of_all_kinds():
        for array in (*layer.parameters().values(), *layer.gradients().values()):
            shape = array.shape
            for n in (1, 10**6):
                with pytest.raises(ValueError, match="cannot resize"):
                    array.resize(n, refcheck=refcheck)
            assert array.shape == shape


def test_other_memory_of_the_same_shape():
    layer = Linear(6, 4, seed=0)
    x = np.ones((3, 6), np.float32)
    for array in layer.parameters().values():
        array.__setstate__((2 * array).__reduce__()[2])
    assert np.array_equal(layer(x), x @ layer.weight.T + layer.bias)


def test_an_input_of_three_axes_that_was_resized():
    """It is kept as a matrix, which is a view that the input has left behind."""
    for layer in layers_of_all_kinds():
        x = np.ones((300, 40, 6), np.float32)
        y = layer.forward(x)
        x.resize(1, refcheck=False)
        with pytest.raises(ValueError, match=r"input kept by forward\(\): changed in place"):
            layer.backward(y)
        assert not any(gradient.any() for gradient in layer.gradients().values())


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_read_only_gradients(name):
    for layer in layers_of_all_kinds():
        y = layer.forward(np.ones((3, 6), np.float32))
        gradients = layer.gradients()
        gradients[name].flags.writeable = False
        with pytest.raises(ValueError, match=f"the gradient of the {name} is read-only"):
            layer.backward(np.ones_like(y))
        assert not any(gradient.any() for gradient in gradients.values())
        gradients[name].flags.writeable = True
        layer.backward(np.ones_like(y))
        assert all(gradient.any() for gradient in gradients.values())


def test_an_activation_that_changes_the_arrays():
    class Evil(Cube):
        __slots__ = ("layer",)

        def _gradient(self, grad, kept, out, /):
            self.layer.gradients()["bias"].shape = (1, -1)
            return grad

    activation = Evil()
    activation.layer = layer = Linear(6, 40, activation)
    y = layer.forward(np.ones((3, 6)))
    with pytest.raises(ValueError, match="changed in place"):
        layer.backward(np.ones_like(y))


def test_a_training_step_still_works():
    layer, loss = Linear(6, 1, ReLU(), seed=0), MSELoss()
    optimizer = SGD(layer, lr=0.1, momentum=0.9)
    before = layer.weight.copy()
    loss.forward(layer.forward(np.ones((3, 6), "f4")), np.full((3, 1), 9, "f4"))
    layer.backward(loss.backward(), input_gradient=False)
    optimizer.step()
    assert layer.weight.shape == before.shape
