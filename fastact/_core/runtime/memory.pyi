from collections.abc import Callable
from typing import Any, SupportsIndex

__pyx_capi__: dict[str, Any]
others: list[Callable[[], int]]

def release_buffers() -> int: ...
def set_buffer_limit(n: SupportsIndex) -> int: ...
