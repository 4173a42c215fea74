"""The choice of the instruction set, and threads: what is settled once per process."""

import contextlib
import os

import pytest
from programs import output

from fastact._core import targets
from fastact._core import ufuncs as core
from fastact._core.runtime import threads

CHOSEN = """
import sys, fastact
from fastact._core import ufuncs as core
prefix = "fastact._core.kernels._"
print(core.isa, *sorted(m.removeprefix(prefix) for m in sys.modules if m.startswith(prefix)))
"""


@pytest.mark.parametrize("name", core.supported)
def test_forced_choice_imports_that_module_only(name):
    assert output(CHOSEN, FASTACT_ISA=name).split() == [name, name]


def test_baseline_is_always_supported_and_last():
    assert targets.supported(frozenset())[-1] == "baseline"
    assert core.supported[-1] == "baseline"


@pytest.mark.parametrize("target", targets.TARGETS, ids=[t.name for t in targets.TARGETS])
def test_supported_wants_every_feature(target):
    assert target.name in targets.supported(frozenset(target.features) | {"more"})
    for feature in target.features:
        assert target.name not in targets.supported(frozenset(target.features) - {feature})


def test_choose():
    names = ("fast", "slow")
    assert targets.choose(names) == "fast"
    assert targets.choose(names, "") == "fast"
    assert targets.choose(names, "slow") == "slow"
    with pytest.raises(
        ImportError, match="'other' is no instruction set; choose one of: fast, slow"
    ):
        targets.choose(names, "other")


def test_built_for_other_processors_only():
    with pytest.raises(ImportError, match="build it again without FASTACT_TARGETS"):
        targets.choose(())


@pytest.mark.skipif(len(targets.TARGETS) == 1, reason="one instruction set only")
def test_choice_that_the_processor_lacks():
    best = targets.TARGETS[0].name
    with pytest.raises(
        ImportError, match=r"not supported by this processor; choose one of: baseline$"
    ):
        targets.choose(targets.supported(frozenset()), best)


# ------------------------------------------------------------------- threads


def test_set_num_threads():
    first = threads.set_num_threads(1)
    try:
        assert threads.get_num_threads() == 1
        assert threads.set_num_threads(2) == 1
        for bad in 0, -1:
            with pytest.raises(ValueError, match=f"{bad} given"):
                threads.set_num_threads(bad)
        for bad in 1.5, "2", None:
            with pytest.raises(TypeError):
                threads.set_num_threads(bad)
        assert threads.set_num_threads(1) == 2
    finally:
        threads.set_num_threads(first)


def test_threads_of_a_block_are_put_back():
    first = threads.set_num_threads(2)
    try:
        with contextlib.suppress(KeyError), threads.num_threads(1):
            assert threads.get_num_threads() == 1
            raise KeyError
        assert threads.set_num_threads(2) == 2
    finally:
        threads.set_num_threads(first)


FORK = """
import os, signal, warnings
import numpy as np
import fastact
from fastact._core.runtime import threads

# Python 3.12 sees the threads and warns: what is tested is that they do no harm.
warnings.filterwarnings("ignore", r".*fork\\(\\) may lead to deadlocks", DeprecationWarning)
x = np.linspace(-9, 9, 500_000, dtype=np.float32)
expected = fastact.sigmoid(x).tobytes()
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        right = fastact.sigmoid(x).tobytes() == expected and threads.get_num_threads() == 1
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    # The parent goes on with all of its threads.
    assert fastact.sigmoid(x).tobytes() == expected
print(threads.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_computes():
    assert output(FORK, OMP_NUM_THREADS="2", FASTACT_NUM_THREADS="2") == "2\n"


def test_import_leaves_floating_point_modes_alone():
    code = """
import numpy as np
def modes():
    pairs = [1.0, 3.0], [-1.0, 3.0], [1e-308, 8.0], [5e-324, 1.0]
    return [float(np.float64(a) / np.float64(b)).hex() for a, b in pairs]
before = modes()
import fastact
print(modes() == before and float.fromhex(before[2]) > 0 and float.fromhex(before[3]) > 0)
"""
    assert output(code) == "True\n"
