from typing import Any

import numpy as np

from fastact._core.operations import OPERATIONS as OPERATIONS
from fastact._core.operations import ROW_OPERATIONS as ROW_OPERATIONS

__pyx_capi__: dict[str, Any]
features: frozenset[str]
supported: tuple[str, ...]
isa: str
ufuncs: dict[str, np.ufunc]
row_ufuncs: dict[str, np.ufunc]

def kernel_table(isa: str) -> dict[str, Any]: ...
def make_ufuncs(isa: str) -> dict[str, np.ufunc]: ...
def make_row_ufuncs(isa: str) -> dict[str, np.ufunc]: ...
