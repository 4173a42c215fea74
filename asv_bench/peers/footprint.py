"""What fastact takes besides time, as the benchmarks of asv measure it, with a target for each."""

from importlib import import_module
from pathlib import Path
from typing import Any

from fastact._command.peers import load_package

BENCHMARKS = "fastact_benchmarks"


def measure() -> list[dict[str, Any]]:
    """Measure the memory of a call, the time to import fastact, and disk space."""
    load_package(Path(__file__).parents[1] / "benchmarks", BENCHMARKS)
    footprint = import_module(f"{BENCHMARKS}.footprint")
    names, dtypes = footprint.Memory.params
    kinds = [(name, dtype) for name in names for dtype in dtypes if dtype != "bfloat16"]
    extra = max(max(footprint.extra_bytes(*kind)) for kind in kinds)
    taken = [
        ("a call allocates, beyond its result", extra / 2**10, "KiB", 256),
        ("import, beyond that of numpy", footprint.import_seconds("fastact")[1] * 1e3, "ms", 15),
        ("installed", sum(map(len, footprint.contents())) / 2**20, "MiB", 5),
    ]
    return [
        {"what": what, "value": value, "unit": unit, "target": target, "met": value <= target}
        for what, value, unit, target in taken
    ]
