"""Models from elsewhere: from a file that is mapped to memory, or from another process."""

import copy
import pickle

import numpy as np
import pytest
from layouts import Subclass
from programs import output
from test_networks import DUPLICATES
from test_training import autoencoder

from fastact.layers import LeakyReLU, Linear, LogSoftmax, ReLU, Sequential, Sigmoid
from fastact.losses import CrossEntropyLoss, MSELoss
from fastact.optimizers import SGD

joblib = pytest.importorskip("joblib", reason="joblib is not installed")

X = np.random.default_rng(0).normal(size=(5, 300)).astype("float32")


def models():
    """Make models of more than 1 MB, from which on joblib passes arrays as files."""
    return {
        "Linear": Linear(300, 1000, LeakyReLU(0.2), seed=0),
        "Sequential": Sequential(
            Linear(300, 1000, ReLU(), seed=0), Linear(1000, 2, seed=1), LogSoftmax()
        ),
        "float64": Linear(300, 700, Sigmoid("output"), dtype="float64", seed=0),
    }


def trained(model, x=X):
    """Take a step, and return the new parameters."""
    optimizer = SGD(model, lr=0.1, momentum=0.5)
    y = model.forward(x)
    model.backward(y)
    optimizer.step()
    return [parameter.tobytes() for parameter in model.parameters().values()]


@pytest.mark.parametrize("mode", [None, "r", "r+", "c"])
@pytest.mark.parametrize("name", models())
def test_a_file_that_is_mapped(name, mode, tmp_path):
    model = models()[name]
    joblib.dump(model, tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    loaded = joblib.load(tmp_path / "model", mmap_mode=mode)
    assert repr(loaded) == repr(model)
    assert loaded(X).tobytes() == model(X).tobytes()
    # The parameters are copies, which can be trained, and the file stays as it is.
    assert all(type(parameter) is np.ndarray for parameter in loaded.parameters().values())
    assert trained(loaded) == trained(model)
    assert (tmp_path / "model").read_bytes() == before


def test_an_optimizer_in_a_file_that_is_mapped(tmp_path):
    model = models()["Linear"]
    optimizer = SGD(model, lr=0.1, momentum=0.5)
    model.backward(model.forward(X))
    optimizer.step()
    joblib.dump((model, optimizer, CrossEntropyLoss()), tmp_path / "all")
    twin, twins_optimizer, _ = joblib.load(tmp_path / "all", mmap_mode="r")
    for one, its_optimizer in ((model, optimizer), (twin, twins_optimizer)):
        one.backward(one.forward(X))
        its_optimizer.step()
    assert twin.weight.tobytes() == model.weight.tobytes()


PROGRAM = """
import os
import numpy as np
import joblib
from fastact.layers import Linear, ReLU
from fastact.optimizers import SGD

def work(model, x):
    y = model.forward(x)
    model.backward(y)
    SGD(model, lr=0.1).step()
    return os.getpid(), y, model

if __name__ == "__main__":
    model, x = Linear(300, 1000, ReLU(), seed=0), np.ones((4, 300), "float32")
    run = joblib.Parallel(n_jobs=2, backend=BACKEND, max_nbytes="1M")
    for process, y, trained in run([joblib.delayed(work)(model, x)] * 2):
        assert process != os.getpid()
        assert np.array_equal(y, model(x))
        assert not np.array_equal(trained.weight, model.weight)
    print("done")
"""


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_a_model_sent_to_processes(backend, tmp_path):
    assert output(PROGRAM.replace("BACKEND", repr(backend)), folder=tmp_path) == "done\n"


@pytest.mark.parametrize("name", models())
def test_buffers_beside_the_pickle(name):
    """Protocol 5 leaves the bytes of arrays to others, who may give them back read-only."""
    model, buffers = models()[name], []
    data = pickle.dumps(model, 5, buffer_callback=buffers.append)
    assert len(buffers) == len(model.parameters())
    assert len(data) < 5000
    loaded = pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert loaded(X).tobytes() == model(X).tobytes()
    assert trained(loaded) == trained(model)


VIEWS = {
    "a subclass": lambda a: a.view(Subclass),
    "recarray": lambda a: a.view(np.recarray),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "Fortran": np.asfortranarray,
    "byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "a view": lambda a: a.view(f"{a.dtype.kind}{a.dtype.itemsize}")[::-1][::-1],
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_parameters_of_any_kind_of_array(view):
    model = Linear(300, 20, ReLU(), seed=0)
    loaded = Linear.__new__(Linear)
    loaded.__setstate__((ReLU(), view(model.weight), view(model.bias)))
    assert type(loaded.weight) is type(loaded.bias) is np.ndarray
    assert loaded.weight is not model.weight
    assert loaded.dtype.isnative
    assert loaded.weight.flags.c_contiguous
    assert trained(loaded) == trained(model)


def test_copies_share_nothing():
    for model in models().values():
        for duplicate in (copy.copy, copy.deepcopy):
            twin = duplicate(model)
            if isinstance(model, Sequential) and duplicate is copy.copy:
                continue  # a copy of the sequence, and not of the layers
            before = twin(X).tobytes()
            trained(model)
            assert twin(X).tobytes() == before


def test_operands_that_are_mapped(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model, twin, loss = models()["Linear"], models()["Linear"], MSELoss()
    y = model.forward(mapped)
    assert y.tobytes() == twin.forward(X).tobytes()
    assert model.backward(y).tobytes() == twin.backward(y).tobytes()
    assert loss(mapped, mapped) == 0


# ------------------------------------------------------------------- optimizers


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("duplicate", DUPLICATES.values(), ids=DUPLICATES)
def test_duplicates_of_an_optimizer(duplicate, momentum):
    """The twin steps as the original would, and without it."""
    model, loss = autoencoder(), MSELoss()
    optimizer = SGD(model, lr=0.1, momentum=momentum)
    x = np.random.default_rng(0).normal(size=(8, 6))

    def step(model, optimizer):
        loss.forward(model.forward(x), x)
        model.backward(loss.backward())
        optimizer.step()
        return {name: value.tobytes() for name, value in model.state_dict().items()}

    step(model, optimizer)
    twin_model, twin = duplicate((model, optimizer))
    if duplicate is copy.copy:
        twin_model, twin = model, copy.copy(optimizer)
    assert repr(twin) == repr(optimizer)
    before = model.state_dict()
    wanted = step(model, optimizer)
    if twin_model is model:
        model.load_state_dict(before)
    assert step(twin_model, twin) == wanted


def test_a_state_that_is_not_of_the_optimizer():
    optimizer = SGD(Linear(2, 1, dtype="float64", seed=0), lr=0.1, momentum=0.5)
    for state, error in [
        (None, TypeError),
        ([1, 2], TypeError),
        ([np.zeros((1, 2)), np.zeros(1, complex)], TypeError),
        ([np.zeros((1, 2))], ValueError),
        ([np.zeros((1, 2)), np.zeros(2)], ValueError),
    ]:
        with pytest.raises(error, match=r"list of arrays|shapes|dtypes"):
            optimizer.__setstate__(state)
    assert not any(velocity.any() for velocity in optimizer._descent.velocities)
