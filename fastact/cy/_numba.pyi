# numba is untyped and may be missing, so type checkers are to read this instead of the source.
SYMBOL: str

def init() -> None: ...
