"""Objects that the build keeps: each C file is compiled once for all that its object depends on.

The name of an object is a digest of the code, of the headers that it includes, of the compiler and
its flags, and of the versions of Python and NumPy. So an object that is out of date is never
linked, and what has changed back is not compiled again. What gcc says of vectorization is kept
beside it, by function. `setup.py` loads this module by its path: it imports nothing from fastact.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

# What compilers take from the environment. Distutils puts other variables into the command.
VARIABLES = ("CPATH", "C_INCLUDE_PATH", "CL", "INCLUDE", "MACOSX_DEPLOYMENT_TARGET")
# Options for warnings. -Wa, -Wl and -Wp, are for other programs.
WARNING = re.compile("-W(?![alp],)")
# An object that no build has used for so many days is deleted.
DAYS = 30

_INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)
_COMMENT = re.compile(r'^ */\* "[^"\n]+":\d+\n(?: \*[^\n]*\n)*?\s?\*/\n', re.MULTILINE)
_HEAD = r"^static CYTHON_INLINE [^\n;]*?\b(__pyx_f\w+)\("
_INLINE = re.compile(_HEAD + r"[^\n;]*\) \{\n.*?^\}\n", re.MULTILINE | re.DOTALL)
_DECLARED = re.compile(_HEAD, re.MULTILINE)


def essence(code: str) -> str:
    """C code of Cython without quotations of the source and inline functions that nothing calls.

    Cython writes all functions of a `.pxd` file into each module that takes one of them. A change
    of another one would otherwise change the digest.
    """
    code = _COMMENT.sub("", code)
    before = ""
    while code != before:
        before = code
        uses = Counter(re.findall(r"\b__pyx_f\w+", code))
        uses.subtract(_DECLARED.findall(code))
        code = _INLINE.sub(lambda function: function[0] if uses[function[1]] else "", code)  # noqa: B023
    return code


class Objects:
    """Compiles C files with one compiler of distutils, and keeps the objects.

    Parameters
    ----------
    compiler : distutils.ccompiler.CCompiler
    folder : path
        Where the objects are kept.
    versions : str
        Versions of what the code is compiled with, besides the compiler.
    reports : bool
        Whether the compiler, gcc, writes which loops it has vectorized. What it writes is kept
        beside an object, in lines that start with the name of a function.
    """

    def __init__(
        self, compiler: Any, folder: str | os.PathLike[str], versions: str, reports: bool
    ) -> None:
        self.reports = reports
        self.compiler = compiler
        self.folder = Path(folder)
        self.compiled = self.kept = 0
        command = getattr(compiler, "compiler_so", None)
        if command:
            said = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
        else:  # MSVC has its version in its path
            command, said = [], str(getattr(compiler, "cc", ""))
        settings = [f"{name}={os.environ.get(name)}" for name in VARIABLES]
        # Warnings do not change the code: what was compiled with them is linked without.
        command = [word for word in command if not WARNING.match(word)]
        self.identity = repr((command, said, sys.version, versions, settings))

    def get(
        self,
        source: str,
        flags: list[str],
        macros: list[tuple[str, str | None]],
        folders: list[str],
    ) -> str:
        """Return the path of the object of a C file, which is compiled unless there is one.

        Parameters
        ----------
        source : str
        flags : list of str
        macros : list of tuple
            Names and values.
        folders : list of str
            Where the compiler looks for headers. Only what is found there matters, and not the
            paths: builds in isolation have another one each time.
        """
        path = self.folder / f"{Path(source).stem}-{self.digest(source, flags, macros, folders)}.o"
        if path.exists():
            os.utime(path)
            self.kept += 1
            return str(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as room:
            said = Path(room, "said.txt")
            report = [f"-fopt-info-vec-optimized={said}"] if self.reports else []
            made = self.compiler.compile(
                [source], room, macros=macros, include_dirs=folders, extra_postargs=flags + report
            )
            if said.exists():
                path.with_suffix(".txt").write_text(_by_function(source, said.read_text()))
            os.replace(made[0], path)
        self.compiled += 1
        return str(path)

    def digest(
        self,
        source: str,
        flags: list[str],
        macros: list[tuple[str, str | None]],
        folders: list[str],
    ) -> str:
        """The digest of all that an object depends on."""
        code = Path(source).read_text(encoding="utf-8")
        total = hashlib.sha256(repr((self.identity, flags, macros)).encode())
        total.update(essence(code).encode())
        for header in sorted(_headers(source, tuple(folders))):
            total.update(hashlib.sha256(Path(header).read_bytes()).digest())
        return total.hexdigest()[:32]

    def tidy(self) -> None:
        """Delete what no build has used for long."""
        for path in self.folder.glob("*.o"):
            if time.time() - path.stat().st_mtime > DAYS * 86400:
                path.with_suffix(".txt").unlink(missing_ok=True)
                path.unlink(missing_ok=True)


def _by_function(source: str, report: str) -> str:
    """A report of gcc on a module of Cython, with names of functions in place of line numbers.

    A function of fused types has the number of the type behind its name.
    """
    module = Path(source).stem
    mangled = f"{len(module)}{module}"
    defined = re.compile(rf"^\w.*?\b__pyx_(?:fuse_(\d+)__pyx_)?f_{mangled}_(\w+)\(.*\{{$")
    names = [""]
    for line in Path(source).read_text(encoding="utf-8").splitlines():
        found = defined.match(line)
        names.append(f"{found[2]}{found[1] or ''}" if found else "" if line == "}" else names[-1])
    lines = re.findall(rf"^{re.escape(source)}:(\d+):\d+: optimized: +(.+)", report, re.MULTILINE)
    return "".join(sorted({f"{names[int(number)]}: {what}\n" for number, what in lines}))


def _headers(source: str, folders: tuple[str, ...]) -> set[str]:
    """The headers that a file includes, and those that they include: what is found in `folders`.

    Conditions are not looked at, so there may be more. Those of the system belong to the compiler.
    """
    found: set[str] = set()
    left = [source]
    while left:
        new = _included(left.pop(), folders) - found
        found |= new
        left += new
    return found


def _find_included(source: str, folders: tuple[str, ...]) -> frozenset[str]:
    text = Path(source).read_text(encoding="utf-8", errors="replace")
    own = os.path.dirname(source)
    paths = (
        os.path.normpath(os.path.join(folder, name))
        for name in _INCLUDE.findall(text)
        for folder in (own, *folders)
    )
    return frozenset(path for path in paths if os.path.isfile(path))


# Not as a decorator: stubtest would compare the two signatures.
_included = cache(_find_included)
