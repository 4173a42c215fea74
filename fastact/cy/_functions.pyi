from typing import Any

__pyx_capi__: dict[str, Any]
_C_API: Any
RUN_ARRAYS: Any
NO_OPERATION: int
MEMBERS: list[tuple[str | None, str | None]]
POSITIONS: dict[str, int]
