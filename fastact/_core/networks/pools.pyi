from typing import Any
from weakref import WeakSet

from numpy.typing import NDArray
from typing_extensions import disjoint_base

__pyx_capi__: dict[str, Any]

@disjoint_base
class Pool:
    def empty(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]: ...
    def like(self, first: Any, second: Any) -> NDArray[Any]: ...
    def release(self) -> int: ...

pools: WeakSet[Pool]

def release_pools() -> int: ...
def alike(first: Any, second: Any) -> bool: ...
