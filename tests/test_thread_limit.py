"""The number of threads is what OpenMP will use."""

import subprocess
import sys

import pytest

from fastact._core.runtime import threads

PROGRAM = """
import numpy as np, fastact
print(fastact.get_num_threads())
fastact.relu(np.ones(1 << 20, np.float32))
"""


def threads_of(**environment):
    run = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env={"PYTHONPATH": ":".join(sys.path), "FASTACT_NUM_THREADS": "8", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


@pytest.mark.skipif(not threads.openmp, reason="built without OpenMP")
def test_omp_thread_limit():
    assert threads_of(OMP_NUM_THREADS="4") == 4
    assert threads_of(OMP_NUM_THREADS="4", OMP_THREAD_LIMIT="1") == 1
    assert threads_of(OMP_NUM_THREADS="4", OMP_THREAD_LIMIT="3") == 3
    assert threads_of(OMP_NUM_THREADS="2", OMP_THREAD_LIMIT="3") == 2
