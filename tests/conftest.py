"""Fixtures, and the settings of hypothesis."""

from functools import cache

import pytest
from hypothesis import settings

from fastact import _ufuncs

# The same examples in every run: a result must not depend on luck. A slow machine is
# no failure either.
settings.register_profile("fastact", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("fastact")

make_ufuncs = cache(_ufuncs.make_ufuncs)


@pytest.fixture(scope="session", params=_ufuncs.supported)
def isa(request):
    """Every instruction set of this machine."""
    return request.param


@pytest.fixture(scope="session")
def ufuncs(isa):
    """The ufuncs over that instruction set, by name."""
    return make_ufuncs(isa)
