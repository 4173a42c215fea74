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
settings.load_profile("fastact")

make_ufuncs = cache(core.make_ufuncs)


@pytest.fixture(scope="session", params=core.supported)
def isa(request):
    """Every instruction set of this machine."""
    return request.param


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
