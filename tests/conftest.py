"""Fixtures, and the settings of hypothesis."""

import gc
import importlib
import os
import pkgutil
import shutil
import sys
import sysconfig
from collections import namedtuple
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, settings

import fastact
from fastact._command.peers import DEVELOPERS, load_package
from fastact._core import ufuncs as core

try:
    import fcntl
except ImportError:  # Windows: there, each worker builds for itself
    fcntl = None

# The same examples in every run: a result must not depend on luck. A slow machine is
# no failure either.
settings.register_profile("fastact", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("quick", settings.get_profile("fastact"), max_examples=10)
# New examples in every run, for an hour or so of `pytest tests/test_fuzz.py --long`.
settings.register_profile(
    "long", deadline=None, max_examples=5_000, database=None, phases=(Phase.generate, Phase.shrink)
)

make_ufuncs = cache(core.make_ufuncs)
needs_signatures = pytest.mark.skipif(
    not hasattr(np.add, "__dict__"), reason="ufuncs have no attributes before NumPy 2.2"
)


def load_developers():
    """Import `asv_bench/peers`, as the command does; None if this is not the whole source tree."""
    folder = Path(__file__).parents[1] / "asv_bench" / "peers"
    if DEVELOPERS not in sys.modules and folder.exists():
        load_package(folder, DEVELOPERS)
    return sys.modules.get(DEVELOPERS)


def pytest_addoption(parser, pluginmanager):
    parser.addoption(
        "--quick",
        action="store_true",
        help="test one instruction set only, leave out the slow tests, and try fewer examples",
    )
    parser.addoption(
        "--long",
        action="store_true",
        help="run the tests that take minutes or gigabytes too, and try many new examples",
    )
    parser.addoption(
        "--no-compiler", action="store_true", help="leave out the tests that need a C compiler"
    )
    if not pluginmanager.hasplugin("xdist"):  # pyproject.toml gives them in every run
        for name in "--numprocesses", "--dist":
            parser.addoption(name, help="as in pytest-xdist, which is not in use: nothing")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Start no workers for a few tests, nor for those that take gigabytes each.

    A worker imports and collects everything, which takes longer than most tests.
    """
    few = config.option.keyword or any("::" in argument for argument in config.args)
    return 0 if few or config.getoption("long") else None


def pytest_configure(config):
    quick, long = config.getoption("quick"), config.getoption("long")
    if quick and long:
        raise pytest.UsageError("--quick and --long exclude each other")
    settings.load_profile("quick" if quick else "long" if long else "fastact")


def pytest_collection_modifyitems(config, items):
    left_out = {"slow"} if config.getoption("quick") else set()
    left_out |= set() if config.getoption("long") else {"large"}
    left_out |= {"compiler"} if config.getoption("no_compiler") else set()
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        left_out.add("gil")
    out = [item for item in items if any(map(item.get_closest_marker, left_out))]
    if out:
        items[:] = [item for item in items if item not in set(out)]
        config.hook.pytest_deselected(items=out)


def pytest_collection_finish():
    """Keep what is there by now out of the collections of garbage that tests ask for."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc):
    """Run a test that asks for an instruction set with every one of this machine.

    One after the other, because the next one takes the same operands and exact results.
    """
    if "isa" in metafunc.fixturenames:
        names = [core.isa] if metafunc.config.getoption("quick") else core.supported
        metafunc.parametrize("isa", names)


@pytest.fixture
def ufuncs(isa):
    """The ufuncs over that instruction set, by name."""
    return make_ufuncs(isa)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory):
    """``built_once(name, build)`` calls ``build(folder)`` once for all workers: the folder."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name, build):
        folder, done = base / name, base / f"{name}.done"
        with open(base / f"{name}.lock", "w") as lock:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                build(folder)
                done.touch()
        return folder

    return get


@pytest.fixture
def nothing_kept():
    """Start with no buffers kept, and a limit of 64 MiB."""
    previous = fastact.set_buffer_limit(64 << 20)
    gc.collect()
    fastact.release_buffers()
    yield
    fastact.release_buffers()
    fastact.set_buffer_limit(previous)


Benchmark = namedtuple("Benchmark", "name suite kind")


@pytest.fixture(scope="session")
def benchmarks():
    """Every benchmark of asv_bench: its name, its class, and "time", "track" and so on."""
    folder = Path(__file__).parents[1] / "asv_bench"
    if not folder.exists():
        pytest.skip("no asv_bench beside the tests: not the whole source tree")
    sys.path.insert(0, str(folder))
    package = importlib.import_module("benchmarks")
    modules = [
        importlib.import_module(f"benchmarks.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    sys.path.remove(str(folder))
    return [
        Benchmark(f"{module.__name__.partition('.')[2]}.{suite.__name__}.{name}", suite, kind)
        for module in modules
        for suite in vars(module).values()
        if getattr(suite, "__module__", None) == module.__name__ and hasattr(suite, "version")
        for name in dir(suite)
        if (kind := name.partition("_")[0]) in ("peakmem", "time", "timeraw", "track")
        if not suite.__name__.startswith("_")
    ]
