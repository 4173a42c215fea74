"""dask on a cluster: workers are processes, and the ufuncs travel to them by name."""

import numpy as np
import pytest
import reference

import fastact

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask.array")

pytestmark = [
    pytest.mark.slow,
    # Of distributed itself, when sockets and loops are closed; and of its dependencies.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        distributed.LocalCluster(**options, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        yield client


def test_workers_are_processes(client):
    import os

    pids = client.run(os.getpid)
    assert len(set(pids.values()) | {os.getpid()}) == 3


@pytest.mark.parametrize("name", sorted(reference.BY_NAME))
def test_ufuncs(client, name):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(0, 4, (1000, 300)).astype("f4") for _ in reference.BY_NAME[name].operands]
    chunks = [dask.from_array(array, chunks=(128, 300)) for array in arrays]
    result = getattr(fastact, name)(*chunks).compute()
    assert result.tobytes() == getattr(fastact, name)(*arrays).tobytes()


def test_work_is_on_both_workers(client):
    x = dask.random.default_rng(0).normal(size=(64, 100_000), chunks=(4, 100_000))
    y = fastact.sigmoid(x).persist()
    distributed.wait(y)
    holders = {worker for workers in client.who_has(y).values() for worker in workers}
    assert len(holders) == 2
    # The chunks come out as on this machine.
    expected = fastact.sigmoid(x.blocks[7].compute(scheduler="synchronous"))
    assert y.blocks[7].compute().tobytes() == expected.tobytes()


def test_one_thread_per_worker(client):
    """Dask sets OMP_NUM_THREADS=1 for its workers, which fastact respects."""
    assert set(client.run(fastact.get_num_threads).values()) == {1}


def test_networks_travel(client):
    from fastact.layers import Linear, ReLU, Sequential

    model = Sequential(Linear(8, 5, ReLU(), seed=0), Linear(5, 2, seed=1))
    batches = np.random.default_rng(0).normal(size=(6, 10, 8)).astype("f4")
    results = client.gather(client.map(model, list(batches)))
    for result, batch in zip(results, batches, strict=True):
        np.testing.assert_allclose(result, model(batch), rtol=1e-6)
