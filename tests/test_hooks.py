"""Code of others that runs within a call: what NumPy's warnings call, and other threads.

Whatever it does to the arrays of a layer, a call reads and writes its own memory only. Where the
modules are built with AddressSanitizer, anything else ends the process.
"""

import itertools
import sys
import threading
import warnings
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from programs import in_threads, meanwhile

from fastact import losses
from fastact.layers import Linear, LogSoftmax, ReLU, Sequential, Sigmoid
from fastact.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from fastact.optimizers import SGD

pytestmark = pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")

WIDE = 3000


def overflowing(activation, ndim, width=WIDE):
    """Make a layer whose products overflow, forward and backward, and its operands."""
    layer = Linear(4, width, activation and activation(), dtype="float64", seed=0)
    layer.weight[0, 0] = 1e308
    layer.bias[...] = np.arange(width)
    return layer, np.full((1, 2, 4)[-ndim:], 1e10)


def under_errstate(hook, call, *operands):
    with np.errstate(over="call", invalid="ignore", call=lambda *_: hook()):
        return call(*operands)


def under_warnings(hook, call, *operands):
    with warnings.catch_warnings(), np.errstate(over="warn", invalid="ignore"):
        warnings.simplefilter("always")
        warnings.showwarning = lambda *_: hook()
        return call(*operands)


WAYS = {"np.errstate": under_errstate, "warnings.showwarning": under_warnings}
CHANGES = {
    "resize": lambda array: array.resize(1, refcheck=False),
    "enlarge": lambda array: array.resize(10**7, refcheck=False),
    "shape": lambda array: setattr(array, "shape", (-1, 1)),
    "dtype": lambda array: setattr(array, "dtype", "float32"),
    "other memory": lambda array: array.__setstate__(np.ones(1).__reduce__()[2]),
    "read-only": lambda array: array.setflags(write=False),
    "values": lambda array: array.fill(7),
}


NAMES = ["weight", "bias", "weight gradient", "bias gradient", "x", "output", "grad"]
METHODS = ["__call__", "forward", "backward"]


def check_a_change(made, name, change, method, way):
    """Change an array while a call computes, which must raise an error or give a result."""
    layer, x = made
    with np.errstate(all="ignore"):
        y = layer.forward(x)
    grad = np.full(y.shape, 1e10)
    own = {"weight": layer.weight, "bias": layer.bias, "x": x, "output": y, "grad": grad}
    own |= {f"{name} gradient": gradient for name, gradient in layer.gradients().items()}
    shape = x.shape if method == "backward" else y.shape
    # These two leave one element of float64.
    same = change in ("resize", "other memory") and own[name].shape == (1,)
    called = []

    def hook():
        called.append(change)
        CHANGES[change](own[name])

    try:
        result = way(hook, getattr(layer, method), grad if method == "backward" else x)
    except (ValueError, TypeError):
        result = None
    if result is not None:
        assert result.shape == shape
    if same or not called:  # the pass has no product that overflows, or NumPy is older
        return
    said = name, change, method
    if change in ("resize", "enlarge") and name.startswith(("weight", "bias")):
        assert result is None, said
    if name == "bias" and method != "backward" and change not in ("read-only", "values"):
        assert result is None, said


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("activation", [None, ReLU, Sigmoid, LogSoftmax])
def test_arrays_changed_within_a_product(activation, ndim, way):
    for name, change, method in itertools.product(NAMES, CHANGES, METHODS):
        check_a_change(overflowing(activation, ndim), name, change, method, way)


def test_numpy_runs_hooks_within_products():
    """The test above tests something."""
    layer, x = overflowing(None, 2)
    called = []
    for way in WAYS.values():
        way(lambda: called.append(1), layer, x)
        with np.errstate(all="ignore"):
            layer.forward(x)
        way(lambda: called.append(1), layer.backward, np.full((2, WIDE), 1e300))
    if np.lib.NumpyVersion(np.__version__) < "2.3.0":
        pytest.skip("this NumPy does not tell of overflows in products")
    assert len(called) >= 4


@pytest.mark.parametrize("method", ["__call__", "forward"])
def test_a_layer_used_within_its_own_call(method):
    layer, x = overflowing(ReLU, 2)
    with np.errstate(all="ignore"):
        wanted, other = layer(x).copy(), layer(-x).copy()
    within = []

    def hook():
        with np.errstate(all="ignore"):
            within.append(getattr(layer, method)(-x))

    result = under_errstate(hook, getattr(layer, method), x)
    np.testing.assert_array_equal(result, wanted)
    for found in within:
        np.testing.assert_array_equal(found, other)


# What converts an operand tells of overflows as well.


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("make", [MSELoss, BCEWithLogitsLoss, CrossEntropyLoss])
def test_operands_of_losses_changed_within_a_conversion(make, change, way):
    for first in (True, False):
        large, plain = np.full((50, 60), 1e300), np.ones((50, 60), "float32")
        loss = make()
        operands = (plain, large)
        array = plain if first else large
        with suppress(TypeError, ValueError):
            value = way(lambda array=array: change(array), loss.forward, *operands)
            assert isinstance(value, float)
            assert loss.backward().shape == (50, 60)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_layers_changed_within_a_conversion(change, way):
    for name, method in itertools.product(("weight", "bias"), ("__call__", "forward", "backward")):
        layer = Linear(4, 600, ReLU(), seed=0)
        layer.forward(np.ones((3, 4), "float32"))
        operand = np.full((3, 600 if method == "backward" else 4), 1e300)
        for array in (layer.parameters()[name], layer.gradients()[name], operand):
            with suppress(TypeError, ValueError):
                way(lambda array=array: change(array), getattr(layer, method), operand)


def test_a_prediction_that_changes_after_its_labels_were_taken():
    """Labels are checked for the classes that the prediction has when the gradient is written."""
    prediction, labels = np.zeros((4, 300), "float32"), np.full(4, 299)

    def profile(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "_value":
            sys.setprofile(None)
            prediction.resize((4, 1), refcheck=False)

    sys.setprofile(profile)
    try:
        with pytest.raises(ValueError, match="there are 1 classes"):
            CrossEntropyLoss()(prediction, labels)
    finally:
        sys.setprofile(None)


# ------------------------------------------------------------------- other threads


def runs_meanwhile(call):
    """Whether another thread runs while a call computes.

    Threads that want to run must wait until another one lets them, as the interval is endless. So
    the other thread runs if the call releases the GIL, and never otherwise. The call is repeated,
    because the other thread may get no processor for some time.
    """
    may_run, ran = threading.Lock(), []
    may_run.acquire()

    def other():
        with may_run:
            ran.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10_000)
    try:
        may_run.release()
        for _ in range(300):
            call()
            if ran:
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        thread.join()


N = 1 << 20
LARGE = {dtype: np.ones((N // 4, 4), dtype) for dtype in ("float32", "float64")}
LABELS = np.zeros(N // 4, np.intp)
PASSES = {
    "MSELoss": (losses._squared_error, None),
    "BCEWithLogitsLoss": (losses._logistic_loss, None),
    "CrossEntropyLoss of labels": (losses._softmax_loss, LABELS),
    "CrossEntropyLoss of probabilities": (losses._softmax_loss, None),
}


@pytest.mark.gil
@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize(("compute", "target"), PASSES.values(), ids=PASSES)
def test_losses_let_other_threads_run(compute, target, dtype):
    prediction = LARGE[dtype]
    target = prediction if target is None else target
    gradient = np.empty_like(prediction)
    assert runs_meanwhile(lambda: compute(prediction, target, gradient))


@pytest.mark.gil
def test_a_step_lets_other_threads_run():
    optimizer = SGD(Linear(512, 512), lr=0.1, momentum=0.5)
    assert runs_meanwhile(optimizer.step)


@pytest.mark.gil
def test_a_call_that_holds_the_gil_is_told():
    """The test above would fail: a small loss lets nobody run."""
    small = np.ones((4, 4))
    gradient = np.empty_like(small)
    assert not runs_meanwhile(lambda: losses._squared_error(small, small, gradient))


@pytest.mark.parametrize("make", [MSELoss, BCEWithLogitsLoss, CrossEntropyLoss])
def test_threads_may_share_a_loss(make):
    """Values are right, and a gradient has the dtype and the shape of one of the predictions."""
    loss = make()
    cases = [np.linspace(-2, 2, n * 64).reshape(n, 64).astype(t) for n in (3, 70) for t in "efd"]
    wanted = [make()(case, abs(case)) for case in cases]
    shapes = {(case.shape, case.dtype) for case in cases}

    def work(case, value):
        for _ in range(60):
            assert loss.forward(case, abs(case)) == value
            gradient = loss.backward()
            assert (gradient.shape, gradient.dtype) in shapes

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(*(partial(work, *pair) for pair in zip(cases, wanted, strict=True)))
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("refcheck", [True, False])
def test_another_thread_resizes_the_arrays_of_a_layer(refcheck):
    """It is refused, so that the layer never sees it."""
    model = Sequential(Linear(64, 2000, ReLU(), seed=0), Linear(2000, 8, seed=1))
    optimizer = SGD(model, lr=0.0, momentum=0.5)
    x = np.ones((20, 64), np.float32)
    wanted = model(x).tobytes()
    refused = threading.Event()

    def disturb():
        for layer in model:
            for array in (layer.bias, layer.weight, *layer.gradients().values()):
                with pytest.raises(ValueError, match="resize"):
                    array.resize(1, refcheck=refcheck)
                refused.set()

    with meanwhile(disturb):
        for _ in range(100):
            y = model.forward(x)
            assert y.tobytes() == wanted
            model.backward(y)
            optimizer.step()
        assert refused.wait(60)
    assert model.state_dict()["0.bias"].shape == (2000,)
