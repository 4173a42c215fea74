"""What fastact takes besides time: the memory of a call, the time to import it, and disk space."""

import itertools
import statistics
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import fastact
from fastact._command.bench.cases import Case, make_operands, make_out
from fastact._core.operations import OPERATIONS
from fastact._core.ufuncs import ufuncs

MEMORY_ELEMENTS = 1 << 20
IMPORTS = 9


def measure() -> list[dict[str, Any]]:
    """Measure all of it; each has a target."""
    taken = [
        ("a call allocates, beyond its result", _extra_kib(), "KiB", 256),
        ("import, beyond that of numpy", _import_ms(), "ms", 15),
        ("installed", _installed_mib(), "MiB", 5),
    ]
    return [
        {"what": what, "value": value, "unit": unit, "target": target, "met": value <= target}
        for what, value, unit, target in taken
    ]


def _extra_kib() -> float:
    """Find the most that Python and NumPy allocate in a call besides its result.

    What C code puts on its stack is not counted.
    """
    kinds = itertools.product(["contiguous", "stride 2", "transposed"], [False, True])
    return max(
        _extra_bytes(Case(operation, dtype, MEMORY_ELEMENTS, layout, out)) / 1024
        for layout, out in kinds
        for operation, dtype in itertools.product(OPERATIONS, ["float16", "float32", "float64"])
    )


def _extra_bytes(case: Case) -> int:
    values = make_operands(case)
    out = make_out(case, values)
    call = ufuncs[case.operation.name]
    call(*values.values(), out=out)
    tracemalloc.start()
    try:
        result = call(*values.values(), out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak - (0 if case.out else result.nbytes)


def _import_ms() -> float:
    program = (
        "import numpy, time; start = time.perf_counter(); import fastact;"
        "print(time.perf_counter() - start)"
    )
    times = []
    for _ in range(IMPORTS):
        run = subprocess.run(
            [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
        )
        times.append(1e3 * float(run.stdout))
    return statistics.median(times)


def _installed_mib() -> float:
    """Add up the package's files, without those that only a build in place leaves there."""
    folder = Path(fastact.__file__).parent
    files = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".c")
    return sum(p.stat().st_size for p in files if p.parent.name != "__pycache__") / 2**20
