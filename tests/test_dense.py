"""Below the layers: dense passes, bit by bit; the pool of arrays; steps of descent."""

import gc
import weakref

import numpy as np
import pytest
from looped import looped
from reference import bits

import fastact
from fastact._core import ufuncs as core
from fastact._core.networks.dense import Dense
from fastact._core.networks.pools import Pool, alike
from fastact._core.networks.training import Descent, MeanLoss

# Names of both ufuncs, their last operand, and whether backward goes by the input.
PASSES = {
    "none": (None, None, None, False),
    "relu": ("relu", "relu_backward", None, False),
    "leaky relu": ("leaky_relu", "leaky_relu_backward", 0.2, False),
    "leaky relu, flat": ("leaky_relu", "leaky_relu_backward", 0.0, True),
    "sigmoid": ("sigmoid", "sigmoid_backward", None, True),
    "sigmoid, from output": ("sigmoid", "sigmoid_backward_from_output", None, False),
}
# Odd ones, none, one; rows longer than a tile; enough to be split over threads.
SHAPES = [(1, 1), (1, 7), (3, 1), (5, 3), (33, 17), (2, 5000), (0, 4), (4, 33000), (2100, 64)]

every_pass = pytest.mark.parametrize("names", PASSES.values(), ids=PASSES)
every_shape = looped("shape", SHAPES, ids=repr)
every_dtype = looped("dtype", ["float32", "float64"])


def dense(ufuncs, table, names, dtype, inputs, columns):
    """Make a dense layer over the ufuncs and kernels of an instruction set."""
    rng = np.random.default_rng(columns)
    weight, bias = rng.normal(size=(columns, inputs)), rng.normal(size=columns)
    function, gradient, operand, keeps_input = names
    return Dense(
        weight.astype(dtype),
        bias.astype(dtype),
        function and ufuncs[function],
        gradient and ufuncs[gradient],
        operand,
        keeps_input=keeps_input,
        table=table,
    )


def operands(shape, dtype, inputs=3):
    rng = np.random.default_rng(1)
    x, grad = rng.normal(size=(shape[0], inputs)), rng.normal(size=shape)
    return x.astype(dtype), grad.astype(dtype)


@every_dtype
@every_shape
@every_pass
def test_bits_are_those_of_the_ufuncs(isa, ufuncs, names, shape, dtype):
    layer = dense(ufuncs, core.kernel_table(isa), names, dtype, 3, shape[1])
    x, grad = operands(shape, dtype)
    function, gradient, operand, keeps_input = names
    last = () if operand is None else (operand,)

    z = np.dot(x, layer.weight.T) + layer.bias
    wanted = ufuncs[function](z, *last) if function else z
    assert np.array_equal(bits(layer(x)), bits(wanted))
    y = layer.forward(x)
    assert np.array_equal(bits(y), bits(wanted))

    kept = z if keeps_input else wanted
    dz = ufuncs[gradient](grad, kept, *last) if gradient else grad
    total = np.zeros_like(layer.bias)
    for row in dz:
        total += row
    x_gradient = layer.backward(grad, True)
    assert np.array_equal(bits(layer.bias_gradient), bits(total))
    assert np.array_equal(bits(layer.weight_gradient), bits(np.dot(dz.T, x)))
    assert np.array_equal(bits(x_gradient), bits(np.dot(dz, layer.weight)))
    assert layer.backward(grad, False) is None


@every_pass
def test_bits_do_not_depend_on_threads(ufuncs, names):
    results = []
    x, grad = operands((3000, 128), "float32")
    for threads in (1, 2, 3):
        layer = dense(ufuncs, None, names, "float32", 3, 128)
        with fastact.num_threads(threads):
            results.append((layer.forward(x).copy(), layer.backward(grad, True).copy()))
            results[-1] += (layer.bias_gradient,)
    for result in results[1:]:
        assert all(
            np.array_equal(bits(a), bits(b)) for a, b in zip(result, results[0], strict=True)
        )


def test_ufuncs_that_are_not_ours_are_left_alone():
    weight, bias = np.ones((2, 3)), np.zeros(2)
    assert Dense(weight, bias, fastact.relu, fastact.relu_backward).fused
    for function, gradient in [
        (np.tanh, np.multiply),
        (fastact.relu, np.multiply),
        (fastact.relu_backward, fastact.relu_backward),
        (fastact.relu, fastact.leaky_relu_backward),
    ]:
        layer = Dense(weight, bias, function, gradient)
        assert not layer.fused
        assert np.array_equal(layer(-np.ones((1, 3))), [[-3, -3]])


# ------------------------------------------------------------------------ the pool


HOLD = {
    "itself": lambda array: array,
    "a view": lambda array: array[1:, ::2],
    "a view of a view": lambda array: array.reshape(-1)[3:][::2],
    "a memoryview": memoryview,
    "by the buffer protocol": lambda array: np.frombuffer(array, array.dtype),
    "by DLPack": np.from_dlpack,
    "an iterator": lambda array: array.flat,
    "a weak reference": weakref.ref,
    "a closure": lambda array: lambda: array,
}


@pytest.mark.gil
@pytest.mark.parametrize("hold", HOLD.values(), ids=HOLD)
def test_an_array_that_is_held_is_not_handed_out_again(hold):
    pool = Pool()
    array = pool.empty((4, 5), np.dtype("float32"))
    address = array.ctypes.data
    held = hold(array)
    del array
    gc.collect()
    second = pool.empty((4, 5), np.dtype("float32"))
    assert second.ctypes.data != address
    del held
    gc.collect()
    assert pool.empty((4, 5), np.dtype("float32")).ctypes.data == address


@pytest.mark.gil
def test_arrays_are_handed_out_by_shape_and_type():
    pool = Pool()
    dtype = np.dtype("float32")
    address = pool.empty((4, 5), dtype).ctypes.data
    for shape, other in [((5, 4), dtype), ((20,), dtype), ((4, 5), np.dtype("int32"))]:
        array = pool.empty(shape, other)
        assert array.shape == shape
        assert array.dtype == other
        assert array.ctypes.data != address
    assert pool.empty((4, 5), dtype).ctypes.data == address


CHANGE = {
    "shape": lambda array: setattr(array, "shape", (5, 4)),
    "read-only": lambda array: array.setflags(write=False),
    "resized": lambda array: array.resize((2, 2), refcheck=False),
}


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
@pytest.mark.parametrize("change", CHANGE.values(), ids=CHANGE)
def test_an_array_whose_holder_changed_it_is_not_handed_out_again(change):
    pool = Pool()
    change(pool.empty((4, 5), np.dtype("float64")))
    array = pool.empty((4, 5), np.dtype("float64"))
    assert array.shape == (4, 5)
    array[...] = 1


def test_a_pool_does_not_grow_without_end():
    pool = Pool()
    arrays = [pool.empty((100,), np.dtype("float32")) for _ in range(50)]
    references = [weakref.ref(array) for array in arrays]
    for i, array in enumerate(arrays):
        array[...] = i
    assert [array[0] for array in arrays] == list(range(50))
    del arrays, array
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 12


# ------------------------------------------------------------- descent and losses


@every_dtype
@looped("momentum", [0.0, 0.9])
@looped("size", [0, 1, 13, 1000, 300_000])
def test_a_step_of_descent(isa, dtype, momentum, size):
    rng = np.random.default_rng(3)
    parameter = rng.normal(size=size).astype(dtype)
    gradient = rng.normal(size=size).astype(dtype)
    descent = Descent([parameter], [gradient], momentum > 0, core.kernel_table(isa))
    wanted, velocity = parameter.copy(), np.zeros_like(parameter)
    rate, kept = parameter.dtype.type(0.1), parameter.dtype.type(momentum)
    for _ in range(3):
        velocity = kept * velocity + gradient
        wanted = wanted - rate * velocity
        descent.step(0.1, momentum)
        assert np.array_equal(bits(parameter), bits(wanted))


@every_dtype
def test_a_velocity_does_not_stay_subnormal(isa, dtype):
    parameter, gradient = np.zeros((2, 40), dtype)
    gradient[...] = np.finfo(dtype).tiny * 3
    descent = Descent([parameter], [gradient], True, core.kernel_table(isa))
    descent.step(1, 0.9)
    gradient[...] = 0
    for _ in range(30):
        descent.step(1, 0.9)
    assert not descent.velocities[0].any()


def squared_error(ufuncs, z, t):
    difference = z - t
    wide = difference.astype("float64")
    return wide * wide, difference * z.dtype.type(2 / z.size)


def logistic_loss(ufuncs, z, t):
    wide, target = z.astype("float64"), t.astype("float64")
    value = np.log1p(np.exp(-abs(wide))) + wide * ((wide > 0) - target)
    return value, (ufuncs["sigmoid"](z) - t) / z.dtype.type(z.size)


@every_dtype
@looped("size", [1, 15, 16, 17, 511, 512, 513, 1000, 3000])
@pytest.mark.parametrize("exact", [squared_error, logistic_loss])
def test_losses(isa, ufuncs, exact, dtype, size):
    rng = np.random.default_rng(5)
    prediction, target = rng.normal(0, 8, size).astype(dtype), rng.uniform(size=size).astype(dtype)
    target[::3] = prediction[::3] > 0
    gradient = np.empty_like(prediction)
    value = MeanLoss(exact.__name__, core.kernel_table(isa))(prediction, target, gradient)
    values, wanted = exact(ufuncs, prediction, target)
    accuracy = 1e-14 if exact is squared_error else float(np.finfo(dtype).eps)
    assert value == pytest.approx(values.mean(), rel=accuracy)
    assert np.array_equal(gradient, wanted)
    baseline = MeanLoss(exact.__name__, core.kernel_table("baseline"))
    assert baseline(prediction, target, np.empty_like(prediction)) == value


def test_alike():
    x = np.ones((4, 6), "float32")
    assert alike(x, x.copy())
    for other in (
        x[:3],
        x.ravel(),
        x.astype("float64"),
        x.astype(">f4"),
        np.ones((6, 4), "float32").T,
        np.ones((4, 12), "float32")[:, ::2],
        x.tolist(),
        x.view(np.matrix),
    ):
        assert not alike(x, other)
        assert not alike(other, x)
    assert not alike(x.astype("int32"), x.astype("int32"))
