from collections.abc import Iterable

compiler: str

def features(names: Iterable[str]) -> frozenset[str]: ...
