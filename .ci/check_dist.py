"""Checks that a wheel and an sdist hold what they should and nothing else.

The modules of a wheel are checked for what protects a process that loads them.
"""

import io
import re
import sys
import sysconfig
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

from elftools.elf.constants import P_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_DT_FLAGS, ENUM_DT_FLAGS_1

TREE = Path(__file__).parent.parent

# Patterns of what must be there, and of all that may be.
WHEEL_MUST = [
    "fastact/__init__.py",
    "fastact/__init__.pyi",
    "fastact/__main__.py",
    "fastact/_command/cli.py",
    "fastact/cy/__init__.pxd",
    "fastact/cy/include/fastact.h",
    "fastact/cy/_functions.*.so",
    "fastact/layers/__init__.py",
    "fastact/losses.py",
    "fastact/optimizers.py",
    "fastact/py.typed",
    "fastact/_core/networks/dense.*.so",
    "fastact/_core/ufuncs.*.so",
    "fastact/_core/kernels/_baseline.*.so",
    "fastact-*.dist-info/licenses/LICENSE",
]
WHEEL_MAY = ["fastact/*.py", "fastact/*.pyi", "fastact/py.typed"]
WHEEL_MAY += ["fastact/cy/__init__.pxd", "fastact/cy/include/fastact.h"]
WHEEL_MAY += ["fastact/*.so", "fastact-*.dist-info/*"]
# What auditwheel adds: OpenMP's library.
WHEEL_MAY += ["fastact.libs/libgomp-*.so*"]
WHEEL_BYTES = 5 << 20
# Written by setup.py in every build: an sdist has what they are made of.
GENERATED = ["fastact/__init__.pyi", "fastact/_core/kernels/loops/*"]
GENERATED += ["fastact/cy/__init__.pxd", "fastact/cy/_functions.pxd", "fastact/cy/_functions.pxi"]
GENERATED += ["fastact/cy/include/fastact.h"]


def module_problems(name: str, content: bytes) -> list[str]:
    """What is wrong with an extension module, if it is an ELF file (Linux)."""
    if not content.startswith(b"\x7fELF"):
        return []
    elf = ELFFile(io.BytesIO(content))
    flags = {segment["p_type"]: segment["p_flags"] for segment in elf.iter_segments()}
    loaded = [segment["p_flags"] for segment in elf.iter_segments("PT_LOAD")]
    tags = {tag.entry.d_tag: tag for tag in elf.get_section_by_name(".dynamic").iter_tags()}
    values = {name: tag.entry.d_val for name, tag in tags.items()}
    at_once = (
        "DT_BIND_NOW" in tags
        or values.get("DT_FLAGS", 0) & ENUM_DT_FLAGS["DF_BIND_NOW"]
        or values.get("DT_FLAGS_1", 0) & ENUM_DT_FLAGS_1["DF_1_NOW"]
    )
    found = []
    if "PT_GNU_RELRO" not in flags or not at_once:
        found.append("is without full RELRO (-Wl,-z,relro,-z,now)")
    if flags.get("PT_GNU_STACK", P_FLAGS.PF_X) & P_FLAGS.PF_X:
        found.append("wants an executable stack")
    if any(bits & P_FLAGS.PF_W and bits & P_FLAGS.PF_X for bits in loaded):
        found.append("has memory that is both writable and executable")
    if "DT_TEXTREL" in tags or values.get("DT_FLAGS", 0) & ENUM_DT_FLAGS["DF_TEXTREL"]:
        found.append("has text relocations")
    # Python's own flags for modules may have paths. These are up to whoever built that Python.
    known = sysconfig.get_config_var("LDSHARED").replace("-Wl,-rpath,", " ").split()
    paths = [tags["DT_RPATH"].rpath] if "DT_RPATH" in tags else []
    paths += [tags["DT_RUNPATH"].runpath] if "DT_RUNPATH" in tags else []
    above = "/".join([".."] * name.count("/"))
    known.append(f"$ORIGIN/{above}/fastact.libs")  # as auditwheel sets it
    if ours := {part for path in paths for part in path.split(":")} - {*known}:
        found.append(f"searches for libraries in {sorted(ours)}")
    symbols = {
        symbol.name
        for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
        if symbol["st_info"]["bind"] != "STB_LOCAL" and symbol["st_shndx"] != "SHN_UNDEF"
    }
    wanted = f"PyInit_{Path(name).name.partition('.')[0]}"
    if symbols != {wanted}:
        found.append(f"exports {sorted(symbols)}, wanted {wanted} alone")
    return [f"{name} {problem}" for problem in found]


def wheel_problems(path: Path) -> list[str]:
    """What is wrong with a wheel."""
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
        size = sum(entry.file_size for entry in wheel.infolist())
        modules = {name: wheel.read(name) for name in names if fnmatch(name, "fastact/*.so")}
    found = [f"lacks {m}" for m in WHEEL_MUST if not any(fnmatch(n, m) for n in names)]
    found += [f"holds {n}" for n in names if not any(fnmatch(n, m) for m in WHEEL_MAY)]
    found += [problem for name in modules for problem in module_problems(name, modules[name])]
    if size > WHEEL_BYTES:
        found.append(f"is {size} bytes when installed; at most {WHEEL_BYTES}")
    return found


def release_problems(path: Path) -> list[str]:
    """What an index page would lack: the address of the repository, and links that work."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            (name,) = (n for n in wheel.namelist() if fnmatch(n, "*.dist-info/METADATA"))
            metadata = wheel.read(name).decode()
    else:
        with tarfile.open(path) as sdist:
            name = min((n for n in sdist.getnames() if n.endswith("/PKG-INFO")), key=len)
            metadata = sdist.extractfile(name).read().decode()
    found = re.findall(r"\]\((?!\w+:|#)([^)]+)", metadata)
    problems = [f"links to {link}, which is dead on an index page" for link in found]
    if "\nProject-URL: Source, https://" not in metadata:
        problems.append("has no address of the repository: set FASTACT_REPOSITORY")
    return problems


def sdist_problems(path: Path) -> list[str]:
    """What is wrong with an sdist: it is to hold the source tree, less the results of asv."""
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = [TREE / name for name in ("LICENSE", "setup.py", "pyproject.toml")]
    wanted += [*TREE.glob("*.md"), *TREE.glob("docs/*.md"), *TREE.glob("examples/*.md")]
    wanted.append(TREE / "CITATION.cff")
    wanted += [*TREE.glob("docs/*.py"), *TREE.glob("docs/_*/**/*.*")]
    for folder in ("fastact", "tests", "asv_bench", "examples"):
        for kind in ["py", "pyi", "pyx", "pxd", "pxi", "h", "txt", "json", "typed"]:
            wanted += (TREE / folder).rglob(f"*.{kind}")
    wanted = [str(path.relative_to(TREE)) for path in wanted if "results" not in path.parts]
    wanted.append("fastact/_core/kernels/table.c")
    made = {n for n in {*names, *wanted} if any(fnmatch(n, pattern) for pattern in GENERATED)}
    made |= {n for n in names if fnmatch(n, "*.so") or fnmatch(n, "fastact/*.c")}
    made.discard("fastact/_core/kernels/table.c")  # the only one that is not made of Cython
    found = [f"lacks {n}" for n in wanted if n not in names and n not in made]
    return found + [f"holds {n}" for n in made if n in names]


def main() -> int:
    """Checks the files given as arguments; with --release, also what an index page needs."""
    release = "--release" in sys.argv
    problems, kinds = [], set()
    for path in (Path(argument) for argument in sys.argv[1:] if argument != "--release"):
        check = wheel_problems if path.suffix == ".whl" else sdist_problems
        kinds.add(check)
        problems += [f"{path.name} {problem}" for problem in check(path)]
        problems += [f"{path.name} {problem}" for problem in release_problems(path) if release]
    if len(kinds) < 2:
        problems.append("a wheel and an sdist are wanted")
    print("\n".join(problems) or "wheel and sdist hold what they should")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
