"""Modules that are not what their name says, as documentation builders make them."""

from programs import output

HEAD = """
import sys, types
from unittest.mock import MagicMock
import numpy as np
import fastact
import fastact._core.ufuncs as core


class Raises(types.ModuleType):
    def __getattr__(self, name):
        raise RuntimeError("broken")


def calls():
    assert fastact.relu([-1, 2]).tolist() == [0, 2]
    assert fastact.leaky_relu(np.ones(8)[::2], 2**70).tolist() == [1, 1, 1, 1]
    assert fastact.sigmoid(0.0) == 0.5
    try:
        fastact.relu("text")
    except TypeError as error:
        assert "dtype" in str(error), error
    else:
        raise AssertionError


def module(**members):
    made = types.ModuleType("ml_dtypes")
    vars(made).update(members)
    return made

"""
# As Sphinx's autodoc_mock_imports has it: a class of its own for every name.
MOCKS = {
    "MagicMock": "MagicMock()",
    "Sphinx": "module(bfloat16=type('bfloat16', (), {'__call__': lambda self: self})())",
    "a class": "module(bfloat16=type('bfloat16', (), {}))",
    "a subclass of generic": "module(bfloat16=type('bfloat16', (np.float64,), {}))",
    "NumPy's own": "module(bfloat16=np.float16)",
    "void": "module(bfloat16=type('bfloat16', (np.void,), {}))",
    "generic": "module(bfloat16=np.generic)",
    "a name": "module(bfloat16='bfloat16')",
    "None": "module(bfloat16=None)",
    "no module": "None",
    "empty": "module()",
    "raises": "Raises('ml_dtypes')",
}


TAIL = """
for name, mock in mocks.items():
    sys.modules["ml_dtypes"] = mock
    try:
        calls()
    except BaseException as error:
        error.add_note(f"with the mock {name!r}")
        raise
    del sys.modules["ml_dtypes"]
# The real one comes later, and is found then.
import ml_dtypes
calls()
x = np.ones(3, ml_dtypes.bfloat16)
assert fastact.relu(x).dtype == ml_dtypes.bfloat16
"""


def test_mocks_of_ml_dtypes():
    """One after the other, since none may leave a trace."""
    mocks = ", ".join(f"{name!r}: {mock}" for name, mock in MOCKS.items())
    output(f"{HEAD}\nmocks = {{{mocks}}}\n{TAIL}")
