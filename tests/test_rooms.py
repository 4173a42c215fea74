"""The order of the rooms: pyproject.toml has it, and Cython's imports keep to it, too.

`lint-imports` checks the imports of Python modules by the same contracts; it reads no Cython.
"""

import ast
import re
import tomllib
from collections import Counter
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
FILES = 15
SUFFIXES = (".h", ".py", ".pyi", ".pyx", ".pxd", ".pxi")
# These have a file for each activation.
FAMILIES = ("activations", "operations")
LINES = 600

pytestmark = pytest.mark.skipif(
    not (PACKAGE / "_core" / "ufuncs.pyx").exists(), reason="not the whole source tree"
)


def contracts():
    """The contracts: a container, or None, and a list of sets of modules, the highest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        container = contract.get("containers", [None])[0]
        prefix = f"{container}." if container else ""
        layers = [layer.split("|") for layer in contract["layers"]]
        yield container, [{prefix + name.strip(" ()") for name in layer} for layer in layers]


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
    for _, layers in contracts():
        for importer, imported in found:
            above, below = layer_of(layers, importer), layer_of(layers, imported)
            if above and below and above[1] != below[1] and above[0] >= below[0]:
                wrong.append(f"{importer} imports {imported}")
    assert not wrong, f"against the contracts in pyproject.toml: {', '.join(wrong)}"


def test_every_module_of_the_core_has_a_place():
    lacking = []
    for container, layers in contracts():
        places = {member for layer in layers for member in layer}
        for path in Path(PACKAGE, *container.split(".")[1:]).iterdir() if container else ():
            name = f"{container}.{path.name.partition('.')[0]}"
            if not path.name.startswith(("_", ".")) and name not in places:
                lacking.append(name)
    assert not lacking, f"pyproject.toml: no contract has {sorted(set(lacking))}"


def test_the_rooms_stay_small():
    entries = {p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    assert len(entries) <= ENTRIES, f"fastact/ has {len(entries)} entries: {sorted(entries)}"
    files = Counter(
        p.parent.relative_to(ROOT).as_posix()
        for p in PACKAGE.rglob("*")
        if p.suffix in SUFFIXES and p.parent.name not in FAMILIES and "loops" not in p.parts
    )
    full = {folder: count for folder, count in files.items() if count > FILES}
    assert not full, f"more than {FILES} files: {full}"
    sources = [p for p in PACKAGE.rglob("*.p[yx]*") if p.suffix in (".py", ".pyx", ".pxd", ".pxi")]
    long = {p.name for p in sources if len(p.read_text(encoding="utf-8").splitlines()) > LINES}
    # The build writes it, a few lines for each function.
    long -= {"_functions.pxi"}
    assert not long, f"longer than {LINES} lines: {long}"


def test_the_life_of_relu_is_true():
    """The docstring of `fastact._core` names a file or folder, and then what stands there."""
    life = ast.get_docstring(ast.parse((PACKAGE / "_core" / "__init__.py").read_text("utf-8")))
    text, wrong = "", []
    for name in re.findall(r"`([^`]+)`", life.partition("The life of relu")[2]):
        place = PACKAGE / name
        if "/" in name or place.is_file():
            files = place.glob("*.p*") if place.is_dir() else [place] if place.is_file() else []
            text = "".join(file.read_text(encoding="utf-8") for file in files)
            found = bool(text)
        else:
            found = re.search(rf"\b{re.escape(name)}\b", text)
        wrong += [] if found else [name]
    assert not wrong, f"fastact/_core/__init__.py: the life of relu has {wrong}, which is not there"
