# numba is untyped and may be missing, so type checkers are to read this instead of the source.
SYMBOL: str
UNKNOWN: int

def init() -> None: ...
