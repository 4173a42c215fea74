"""The order of the rooms: pyproject.toml has it, and Cython's imports keep to it, too.

`lint-imports` checks the imports of Python modules by the same contracts; it reads no Cython.
"""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastact"
IMPORT = re.compile(
    r"^(?:from[ ]+(?P<package>fastact[\w.]*)[ ]+c?import[ ]+(?P<names>\([^)]*\)|[^\n]*)"
    r"|c?import[ ]+(?P<module>fastact[\w.]*))",
    re.MULTILINE,
)
ENTRIES = 12
LINES = 600

pytestmark = pytest.mark.skipif(
    not (PACKAGE / "_core" / "ufuncs.pyx").exists(), reason="not the whole source tree"
)


def contracts():
    """The contracts of layers: lists of sets of modules, the highest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        prefixes = [f"{container}." for container in contract.get("containers", [])] or [""]
        yield [
            {prefix + name.strip(" ()") for prefix in prefixes for name in layer.split("|")}
            for layer in contract["layers"]
        ]


def cython_imports():
    """Pairs of module names, of what the Cython sources import from fastact."""
    for path in PACKAGE.rglob("*.p[yx][xdi]"):
        if path.suffix not in (".pyx", ".pxd", ".pxi"):
            continue
        importer = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for match in IMPORT.finditer(path.read_text(encoding="utf-8")):
            package = match["package"] or match["module"]
            names = re.findall(r"\w+", match["names"] or "")
            submodules = [
                n for n in names if list((ROOT / package.replace(".", "/")).glob(f"{n}.p*"))
            ]
            for name in submodules or [None]:
                yield importer, package if name is None else f"{package}.{name}"


def layer_of(layers, module):
    """The index of the layer that a module is in, and the member of the layer; or None."""
    for i, layer in enumerate(layers):
        for member in layer:
            if module == member or module.startswith(f"{member}."):
                return i, member
    return None


def test_cython_imports_run_one_way_down():
    found = sorted(set(cython_imports()))
    assert len(found) > 20, "the imports are not found"
    wrong = []
    for layers in contracts():
        for importer, imported in found:
            above, below = layer_of(layers, importer), layer_of(layers, imported)
            if above and below and above[1] != below[1] and above[0] >= below[0]:
                wrong.append(f"{importer} imports {imported}")
    assert not wrong, f"against the contracts in pyproject.toml: {', '.join(wrong)}"


def test_every_module_of_the_core_has_a_place():
    *_, core = contracts()
    modules = {p.stem for p in (PACKAGE / "_core").iterdir() if not p.name.startswith(("_", "."))}
    places = {member.removeprefix("fastact._core.") for layer in core for member in layer}
    lacking = {name.partition(".")[0] for name in modules} - places
    assert not lacking, f"pyproject.toml, contract of the core: lacks {sorted(lacking)}"


def test_the_rooms_stay_small():
    entries = {p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    assert len(entries) <= ENTRIES, f"fastact/ has {len(entries)} entries: {sorted(entries)}"
    sources = [p for p in PACKAGE.rglob("*.p[yx]*") if p.suffix in (".py", ".pyx", ".pxd", ".pxi")]
    long = {p.name for p in sources if len(p.read_text(encoding="utf-8").splitlines()) > LINES}
    # The build writes it, a few lines for each function.
    long -= {"_functions.pxi"}
    assert not long, f"longer than {LINES} lines: {long}"
