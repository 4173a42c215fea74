"""The table of instruction sets, from which build flags and the run-time check are derived.

Each row has a name and the processor features that its kernels are compiled for. `setup.py`
builds one extension per row. At import, `cpu.pyx` queries the features of the processor, and the
best supported row is selected.
"""

import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One instruction set.

    Attributes
    ----------
    name : str
        The name in ``FASTACT_ISA``. With an underscore before it, the extension module in
        `fastact._core.kernels`.
    features : tuple of str
        Features that the processor must have, by their GCC names (``-m<feature>``).
    gcc_flags : tuple of str
        Additional flags for GCC and Clang.
    msvc_flags : tuple of str
        All flags for MSVC.
    """

    name: str
    features: tuple[str, ...] = ()
    gcc_flags: tuple[str, ...] = ()
    msvc_flags: tuple[str, ...] = ()


BASELINE = Target("baseline")
AVX2 = Target("avx2", ("avx2", "fma", "f16c"), (), ("/arch:AVX2",))
AVX512 = Target(
    "avx512",
    (*AVX2.features, "avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
    # Without this flag, GCC and Clang use 32-byte vectors.
    ("-mprefer-vector-width=512",),
    ("/arch:AVX512",),
)

IS_X86_64 = platform.machine().lower() in ("x86_64", "amd64")

# Best first.
TARGETS = (AVX512, AVX2, BASELINE) if IS_X86_64 else (BASELINE,)


def supported(features: frozenset[str]) -> tuple[str, ...]:
    """Names of the instruction sets that a processor with `features` supports, best first."""
    return tuple(t.name for t in TARGETS if features.issuperset(t.features))


def choose(names: tuple[str, ...], forced: str | None = None) -> str:
    """Name of the instruction set to use.

    Parameters
    ----------
    names : tuple of str
        The supported instruction sets, best first.
    forced : str, optional
        The name requested by the user. An empty string counts as None.

    Raises
    ------
    ImportError
        If `forced` is not the name of a supported instruction set, or if there is none.
    """
    if not names:
        raise ImportError(
            "fastact was built for instruction sets that this processor does not have; "
            "build it again without FASTACT_TARGETS"
        )
    if not forced:
        return names[0]
    if forced not in names:
        known = forced in [t.name for t in TARGETS]
        reason = "is not supported by this processor" if known else "is no instruction set"
        raise ImportError(f"FASTACT_ISA={forced!r} {reason}; choose one of: {', '.join(names)}")
    return forced
