"""What layers and losses keep of their results: little, within a limit, and freed when asked."""

import gc
import weakref

import numpy as np
import pytest
from programs import output, resident

import fastact
from fastact._core.networks.pools import Pool
from fastact.layers import Linear, ReLU, Sequential, Sigmoid, Tanh
from fastact.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss

pytestmark = [pytest.mark.gil, pytest.mark.usefixtures("nothing_kept")]

MIB = 1 << 20
FLOAT = np.dtype("float32")


USES = {
    "Linear": lambda: (lambda layer: lambda x: layer(x))(Linear(256, 256, seed=0)),
    "Linear.forward": lambda: (lambda layer: lambda x: layer.backward(layer.forward(x)))(
        Linear(256, 256, Sigmoid(), seed=0)
    ),
    "Tanh.forward": lambda: (lambda layer: lambda x: layer.backward(layer.forward(x)))(Tanh()),
    **{
        f"{loss.__name__}{method}": lambda loss=loss, method=method: (
            lambda made: lambda x: getattr(made, method or "__call__")(x, x)
        )(loss())
        for loss in (MSELoss, BCEWithLogitsLoss, CrossEntropyLoss)
        for method in ("", "forward")
    },
}


def use_many_sizes():
    """Each in turn, with 16 sizes of 16 MiB each, of which nobody keeps anything but the last."""
    fastact.set_buffer_limit(64 * MIB)
    for name, make in USES.items():
        use = make()
        before = resident()
        for k in range(16):
            use(np.ones((16 * 1024 + k, 256), FLOAT))
        # The limit, and what is kept for `backward`: the input, the output and a gradient.
        limited = resident() - before
        assert limited < (64 + 4 * 17) * MIB, (name, limited)
        fastact.release_buffers()
        released = resident() - before
        assert released < 4 * 17 * MIB, (name, released)
        del use
        gc.collect()


def test_results_of_many_sizes_do_not_add_up():
    """In a process of its own, where the C library gives arrays of this size back to the system.

    Where larger ones have been freed before, it keeps them.
    """
    output("import test_kept_results as t; t.use_many_sizes()", MALLOC_MMAP_THRESHOLD_=str(MIB))


def test_small_results_are_within_the_limit():
    pools = [Pool() for _ in range(60)]
    for pool in pools:
        for n in range(12):
            pool.empty((MIB // 4 + n,), FLOAT)
    assert MIB < fastact.release_buffers() <= 64 * MIB
    assert fastact.release_buffers() == 0


@pytest.mark.parametrize("make", USES.values(), ids=USES)
def test_release_buffers_frees_small_results(make):
    use = make()
    use(np.ones((1000, 256), FLOAT))
    fastact.release_buffers()  # not what is kept for `backward`
    use(np.ones((1001, 256), FLOAT))
    use(np.ones((1002, 256), FLOAT))
    released = fastact.release_buffers()
    assert released >= 1001 * 256 * 4 or make is USES["Linear"]
    assert fastact.release_buffers() == 0
    use(np.ones((1002, 256), FLOAT))


def test_what_is_referred_to_is_not_freed():
    pool = Pool()
    held = pool.empty((1000,), FLOAT)
    held[...] = 7
    pool.empty((2000,), FLOAT)
    assert fastact.release_buffers() == 8000
    assert (held == 7).all()
    del held
    assert fastact.release_buffers() == 0


def test_a_limit_of_nothing_keeps_nothing():
    pool = Pool()
    reference = weakref.ref(pool.empty((1000,), FLOAT))
    assert reference() is not None
    fastact.set_buffer_limit(0)
    assert reference() is None
    reference = weakref.ref(pool.empty((1000,), FLOAT))
    assert reference() is None
    assert fastact.release_buffers() == 0


def test_a_lower_limit_frees_at_once():
    pool = Pool()
    for n in range(12):
        pool.empty((MIB // 4 + n,), FLOAT)
    fastact.set_buffer_limit(4 * MIB)
    assert fastact.release_buffers() <= 4 * MIB


def test_the_limit_is_for_small_and_large_results_together():
    large = np.ones(8 * MIB // 4, FLOAT)
    pools = [Pool() for _ in range(5)]
    for _ in range(3):
        results = [fastact.relu(large) for _ in range(8)]
        del results
        for pool in pools:
            for n in range(12):
                pool.empty((MIB // 4 + n,), FLOAT)
    assert 32 * MIB < fastact.release_buffers() <= 64 * MIB


def test_a_pool_that_is_gone_counts_no_more():
    for _ in range(200):
        Pool().empty((MIB // 2,), FLOAT)
    pool = Pool()
    for n in range(12):
        pool.empty((MIB // 2 + n,), FLOAT)
    assert fastact.release_buffers() >= 12 * 2 * MIB


def test_a_callback_that_uses_the_pool_meanwhile():
    pool = Pool()
    references = []

    def again(_):
        pool.empty((7,), FLOAT)

    for n in range(40):
        references.append(weakref.ref(pool.empty((100 + n,), FLOAT), again))
    references += [weakref.ref(pool.empty((5,), FLOAT), again)]
    fastact.release_buffers()
    pool.empty((9,), FLOAT)
    assert fastact.release_buffers() >= 36


def test_memory_of_training_with_another_last_batch_is_used_again():
    """As before: from the third epoch on, results lie where those of earlier epochs did."""
    model, loss = (
        Sequential(Linear(64, 300, ReLU(), seed=0), Linear(300, 64, Tanh(), seed=1)),
        MSELoss(),
    )
    epochs = []
    for _ in range(6):
        places = set()
        for rows in (2000, 2000, 2000, 1300):
            x = np.ones((rows, 64), FLOAT)
            y = model.forward(x)
            loss.forward(y, x)
            gradient = model.backward(loss.backward())
            places |= {array.ctypes.data for array in (y, gradient, loss.backward())}
        epochs.append(places)
    assert epochs[-1] <= epochs[2] | epochs[3] | epochs[4]
