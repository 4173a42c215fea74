"""Checks that a wheel and an sdist hold what they should and nothing else."""

import sys
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

TREE = Path(__file__).parent.parent

# Patterns of what must be there, and of all that may be.
WHEEL_MUST = [
    "fastact/__init__.py",
    "fastact/__init__.pyi",
    "fastact/__main__.py",
    "fastact/_command/cli.py",
    "fastact/activations/sigmoid.pxd",
    "fastact/layers/__init__.py",
    "fastact/losses.py",
    "fastact/optimizers.py",
    "fastact/py.typed",
    "fastact/_core/dense.*.so",
    "fastact/_core/ufuncs.*.so",
    "fastact/_core/kernels/baseline.*.so",
    "fastact-*.dist-info/licenses/LICENSE",
]
WHEEL_MAY = ["fastact/*.py", "fastact/*.pyi", "fastact/activations/*.pxd", "fastact/py.typed"]
WHEEL_MAY += ["fastact/*.so", "fastact-*.dist-info/*"]
WHEEL_BYTES = 5 << 20
# Written by setup.py in every build: an sdist has what they are made of.
GENERATED = ["fastact/__init__.pyi", "fastact/_core/kernels/loops.pxi"]


def wheel_problems(path: Path) -> list[str]:
    """What is wrong with a wheel."""
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
        size = sum(entry.file_size for entry in wheel.infolist())
    found = [f"lacks {m}" for m in WHEEL_MUST if not any(fnmatch(n, m) for n in names)]
    found += [f"holds {n}" for n in names if not any(fnmatch(n, m) for m in WHEEL_MAY)]
    if size > WHEEL_BYTES:
        found.append(f"is {size} bytes when installed; at most {WHEEL_BYTES}")
    return found


def sdist_problems(path: Path) -> list[str]:
    """What is wrong with an sdist: it is to hold the source tree, less the results of asv."""
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = [TREE / name for name in ("LICENSE", "setup.py", "pyproject.toml")]
    wanted += [*TREE.glob("*.md"), *TREE.glob("docs/*.md"), *TREE.glob("examples/*.md")]
    wanted.append(TREE / "CITATION.cff")
    for folder in ("fastact", "tests", "asv_bench", "examples"):
        for pattern in ("*.py", "*.pyi", "*.pyx", "*.pxd", "*.pxi", "py.typed", "*.json"):
            wanted += (TREE / folder).rglob(pattern)
    wanted = [str(path.relative_to(TREE)) for path in wanted if "results" not in path.parts]
    found = [f"lacks {n}" for n in wanted if n not in names and n not in GENERATED]
    return found + [f"holds {n}" for n in names if n.endswith((".c", ".so")) or n in GENERATED]


def main() -> int:
    """Checks the files given as arguments."""
    problems, kinds = [], set()
    for path in map(Path, sys.argv[1:]):
        check = wheel_problems if path.suffix == ".whl" else sdist_problems
        kinds.add(check)
        problems += [f"{path.name} {problem}" for problem in check(path)]
    if len(kinds) < 2:
        problems.append("a wheel and an sdist are wanted")
    print("\n".join(problems) or "wheel and sdist hold what they should")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
