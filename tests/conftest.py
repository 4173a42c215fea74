"""Fixtures, and the settings of hypothesis."""

import importlib
import pkgutil
import sys
from collections import namedtuple
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from fastact._core import ufuncs as core

# The same examples in every run: a result must not depend on luck. A slow machine is
# no failure either.
settings.register_profile("fastact", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("quick", settings.get_profile("fastact"), max_examples=10)

make_ufuncs = cache(core.make_ufuncs)


def pytest_addoption(parser):
    parser.addoption(
        "--quick",
        action="store_true",
        help="test one instruction set only, leave out the slow tests, and try fewer examples",
    )


def pytest_configure(config):
    settings.load_profile("quick" if config.getoption("quick") else "fastact")


def pytest_collection_modifyitems(config, items):
    if config.getoption("quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in set(slow)]
        config.hook.pytest_deselected(items=slow)


def pytest_generate_tests(metafunc):
    """Run a test that asks for an instruction set with every one of this machine."""
    if "isa" in metafunc.fixturenames:
        names = [core.isa] if metafunc.config.getoption("quick") else core.supported
        metafunc.parametrize("isa", names, scope="session")


@pytest.fixture(scope="session")
def ufuncs(isa):
    """The ufuncs over that instruction set, by name."""
    return make_ufuncs(isa)


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
