"""Layers whose arrays are not what they should be: from a state, or changed in place later."""

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
# Made by the commit 090a1af, in which nothing of a state was checked.


OLD = [
    (
        "Linear(in_features=3, out_features=2)",
        (
            b"\x80\x02cfastact.layers\nLinear"
            b"\nq\x00)\x81q\x01Ncnumpy._core.mul"
            b"tiarray\n_reconstruct\nq\x02c"
            b"numpy\nndarray\nq\x03K\x00\x85q\x04c_c"
            b"odecs\nencode\nq\x05X\x01\x00\x00\x00bq\x06X"
            b"\x06\x00\x00\x00latin1q\x07\x86q\x08Rq\t\x87q\nRq\x0b"
            b"(K\x01K\x02K\x03\x86q\x0ccnumpy\ndtype\nq"
            b"\rX\x02\x00\x00\x00f4q\x0e\x89\x88\x87q\x0fRq\x10(K\x03X\x01\x00"
            b"\x00\x00<q\x11NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x12b"
            b"\x89h\x05X\x1c\x00\x00\x00\x00\x00\x00\xc3\x80\x00\x00\xc2\x80\xc2\xbf\x00\x00\x00\x00\x00"
            b"\x00\xc2\x80?\x00\x00\x00@\x00\x00@@q\x13h\x07\x86q\x14Rq\x15tq"
            b"\x16bh\x02h\x03K\x00\x85q\x17h\t\x87q\x18Rq\x19(K\x01K\x02"
            b"\x85q\x1ah\x10\x89h\x05X\t\x00\x00\x00\x00\x00\x00?\x00\x00\xc3\x80?q\x1b"
            b"h\x07\x86q\x1cRq\x1dtq\x1eb\x87q\x1fb."
        ),
    ),
    (
        "Linear(in_features=2, out_features=3, activation=LeakyReLU(negative_slope=0.2))",
        (
            b"\x80\x02cfastact.layers\nLinear"
            b"\nq\x00)\x81q\x01cfastact.layers\nL"
            b"eakyReLU\nq\x02G?\xc9\x99\x99\x99\x99\x99\x9a\x85q\x03R"
            b"q\x04cnumpy._core.multiarra"
            b"y\n_reconstruct\nq\x05cnumpy\n"
            b"ndarray\nq\x06K\x00\x85q\x07c_codecs\n"
            b"encode\nq\x08X\x01\x00\x00\x00bq\tX\x06\x00\x00\x00la"
            b"tin1q\n\x86q\x0bRq\x0c\x87q\rRq\x0e(K\x01K\x03K"
            b"\x02\x86q\x0fcnumpy\ndtype\nq\x10X\x02\x00\x00\x00"
            b"f4q\x11\x89\x88\x87q\x12Rq\x13(K\x03X\x01\x00\x00\x00<q\x14N"
            b"NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x15b\x89h\x08X\x1c\x00"
            b"\x00\x00\x00\x00\x00\xc3\x80\x00\x00\xc2\x80\xc2\xbf\x00\x00\x00\x00\x00\x00\xc2\x80?\x00\x00"
            b"\x00@\x00\x00@@q\x16h\n\x86q\x17Rq\x18tq\x19bh\x05h\x06"
            b"K\x00\x85q\x1ah\x0c\x87q\x1bRq\x1c(K\x01K\x03\x85q\x1dh\x13\x89"
            b"h\x08X\r\x00\x00\x00\x00\x00\x00?\x00\x00\xc3\x80?\x00\x00 @q\x1eh\n"
            b'\x86q\x1fRq tq!b\x87q"b.'
        ),
    ),
    (
        "Linear(in_features=1, out_features=2, activation=Sigmoid(save='output'), dtype='float64')",
        (
            b"\x80\x02cfastact.layers\nLinear"
            b"\nq\x00)\x81q\x01cfastact.layers\nS"
            b"igmoid\nq\x02X\x06\x00\x00\x00outputq\x03\x85q"
            b"\x04Rq\x05cnumpy._core.multiar"
            b"ray\n_reconstruct\nq\x06cnump"
            b"y\nndarray\nq\x07K\x00\x85q\x08c_codec"
            b"s\nencode\nq\tX\x01\x00\x00\x00bq\nX\x06\x00\x00\x00"
            b"latin1q\x0b\x86q\x0cRq\r\x87q\x0eRq\x0f(K\x01K"
            b"\x02K\x01\x86q\x10cnumpy\ndtype\nq\x11X\x02\x00"
            b"\x00\x00f8q\x12\x89\x88\x87q\x13Rq\x14(K\x03X\x01\x00\x00\x00<q"
            b"\x15NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x16b\x89h\tX"
            b"\x13\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc3\x80\x00\x00\x00\x00\x00\x00\xc3\xb0\xc2\xbfq"
            b"\x17h\x0b\x86q\x18Rq\x19tq\x1abh\x06h\x07K\x00\x85q\x1bh\r"
            b"\x87q\x1cRq\x1d(K\x01K\x02\x85q\x1eh\x14\x89h\tX\x12\x00\x00\x00"
            b"\x00\x00\x00\x00\x00\x00\xc3\xa0?\x00\x00\x00\x00\x00\x00\xc3\xb8?q\x1fh\x0b\x86q"
            b' Rq!tq"b\x87q#b.'
        ),
    ),
    (
        "Sequential(Linear(in_features=3, out_features=2, activation=ReLU()), "
        "Softmax(axis=0), LeakyReLU(negative_slope=-0.5))",
        (
            b"\x80\x02cfastact.layers\nSequen"
            b"tial\nq\x00cfastact.layers\nL"
            b"inear\nq\x01)\x81q\x02cfastact.lay"
            b"ers\nReLU\nq\x03)Rq\x04cnumpy._c"
            b"ore.multiarray\n_reconstr"
            b"uct\nq\x05cnumpy\nndarray\nq\x06K"
            b"\x00\x85q\x07c_codecs\nencode\nq\x08X\x01"
            b"\x00\x00\x00bq\tX\x06\x00\x00\x00latin1q\n\x86q\x0bRq"
            b"\x0c\x87q\rRq\x0e(K\x01K\x02K\x03\x86q\x0fcnumpy\n"
            b"dtype\nq\x10X\x02\x00\x00\x00f4q\x11\x89\x88\x87q\x12Rq"
            b"\x13(K\x03X\x01\x00\x00\x00<q\x14NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
            b"\xffK\x00tq\x15b\x89h\x08X\x1c\x00\x00\x00\x00\x00\x00\xc3\x80\x00\x00\xc2\x80"
            b"\xc2\xbf\x00\x00\x00\x00\x00\x00\xc2\x80?\x00\x00\x00@\x00\x00@@q\x16h\n\x86"
            b"q\x17Rq\x18tq\x19bh\x05h\x06K\x00\x85q\x1ah\x0c\x87q\x1bR"
            b"q\x1c(K\x01K\x02\x85q\x1dh\x13\x89h\x08X\t\x00\x00\x00\x00\x00\x00?"
            b'\x00\x00\xc3\x80?q\x1eh\n\x86q\x1fRq tq!b\x87q"bc'
            b"fastact.layers\nSoftmax\nq"
            b"#K\x00\x85q$Rq%cfastact.layers"
            b"\nLeakyReLU\nq&G\xbf\xe0\x00\x00\x00\x00\x00\x00\x85q"
            b"'Rq(\x87q)Rq*."
        ),
    ),
]


@pytest.mark.parametrize(("text", "data"), OLD)
def test_old_pickles(text, data):
    layer = pickle.loads(data)
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


def resize(array):
    array.resize(1, refcheck=False)


RESIZES = {
    "smaller": resize,
    "larger": lambda array: array.resize(10**6, refcheck=False),
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
