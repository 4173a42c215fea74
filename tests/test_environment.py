"""Surroundings that a package does not choose: each works, or is refused in clear words.

Options of the interpreter, locales, one processor, quotas of control groups, an installation that
nobody can write to, environment variables with mistakes, and libraries that are missing. Every
program runs in a process of its own, shows that the surroundings are what they are said to be, and
computes the same bits as any other.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
from programs import imports, run

import fastact
from fastact._core import targets
from fastact._core import ufuncs as core
from fastact._core.runtime import threads

PACKAGE = Path(fastact.__file__).parent

RESULTS = f"""
import sys
sys.path.append({str(PACKAGE.parent)!r})  # where -I leaves PYTHONPATH out
import hashlib, json, os
import numpy as np
import fastact
from fastact.layers import LeakyReLU, Linear, Sequential, Sigmoid

digest = hashlib.sha256()
ufuncs = [u for name in fastact.__all__ if isinstance(u := getattr(fastact, name), np.ufunc)]
for dtype in "efd":
    for length in 5, 1000, 300_000:
        x = np.linspace(-9, 9, length).astype(dtype)
        for ufunc in ufuncs:
            digest.update(ufunc(*[x] * ufunc.nin))
            digest.update(ufunc(*[x[::-2]] * ufunc.nin))
model = Sequential(Linear(8, 4, LeakyReLU(0.5), seed=0), Sigmoid())
digest.update(model.forward(np.ones((3, 8), np.float32)))
digest.update(model.backward(np.ones((3, 4), np.float32)))
facts = {{
    "bits": digest.hexdigest(), "threads": fastact.get_num_threads(), "file": fastact.__file__
}}
"""

COMMANDS = """
from fastact._command import cli, timing
from fastact._command.bench import race
from fastact._command.check import inputs

inputs.EVEN_INPUTS = inputs.HARD_INPUTS = inputs.SLOW_INPUTS = inputs.SLOW_HARD_INPUTS = 64
timing.SAMPLE_SECONDS, timing.ROUNDS, race.ERROR_INPUTS = 0, 1, 64
race.OPERATIONS = race.OPERATIONS[:1]
status = cli.main(["info"]) or cli.main(["bench", "--size", "1600"])
sys.exit(status or cli.main(["check", "--operation", "relu", "--isa", "baseline"]))
"""


def results(folder, *flags, holds="True", before="", after="", **settings):
    """Give the facts of a process in which `holds` is true, and what it prints thereafter."""
    program = f"import os, sys\n{before}\n{RESULTS}\nfacts['holds'] = bool({holds})"
    program = f"{program}\nprint(json.dumps(facts), flush=True)\n{after}"
    done = run(program, *flags, folder=folder, **settings)
    assert done.returncode == 0, done.stderr
    facts, _, rest = done.stdout.partition("\n")
    facts = json.loads(facts)
    assert facts["holds"], holds
    return facts, rest


@cache
def plain():
    """The bits of an ordinary process."""
    with tempfile.TemporaryDirectory() as folder:
        return results(Path(folder))[0]["bits"]


# ------------------------------------------------------- interpreters and locales


def comma(folder):
    """Write a locale with a decimal comma, as the C library of GNU reads it: any system has one.

    A header; the offsets of the fields; two strings, the grouping, two wide characters, and the
    name of the encoding.
    """
    wide = [struct.pack("=I", ord(character)) for character in ",."]
    data, offsets = b"", []
    for field in (b",\0", b".\0", b"\3\3\0", *wide, b"UTF-8\0"):
        data += b"\0" * (-len(data) % 4)
        offsets.append(32 + len(data))
        data += field
    (folder / "comma").mkdir()
    header = struct.pack("=8I", 0x20031115 ^ 1, len(offsets), *offsets)
    (folder / "comma" / "LC_NUMERIC").write_bytes(header + data)
    return {"LOCPATH": str(folder)}


COMMA = "import locale; locale.setlocale(locale.LC_NUMERIC, 'comma')"
SURROUNDINGS = {
    "-O": {"flags": ["-O"], "holds": "sys.flags.optimize == 1"},
    "-OO": {"flags": ["-OO"], "holds": "sys.flags.optimize == 2"},
    "-I": {"flags": ["-I"], "holds": "sys.flags.isolated"},
    "-X dev": {"flags": ["-X", "dev"], "holds": "sys.flags.dev_mode"},
    "-bb": {"flags": ["-bb"], "holds": "sys.flags.bytes_warning == 2"},
    "ASCII": {
        "environment": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        "holds": "sys.stdout.encoding.lower() in ('ascii', 'ansi_x3.4-1968')",
    },
    "decimal comma": {"before": COMMA, "holds": "locale.str(0.5) == '0,5'", "glibc": True},
}


@pytest.fixture(params=SURROUNDINGS.values(), ids=SURROUNDINGS)
def surroundings(request, tmp_path):
    """Arguments of `results` and of `run`."""
    settings = dict(request.param)
    flags, more = settings.pop("flags", []), settings.pop("environment", {})
    if settings.pop("glibc", False):
        if not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
            pytest.skip("the locale is one for the C library of GNU")
        more = comma(tmp_path)
    return flags, settings | more


def test_same_bits_and_commands(surroundings, tmp_path, pytestconfig):
    flags, settings = surroundings
    quick = pytestconfig.getoption("quick")
    facts, said = results(tmp_path, *flags, after="" if quick else COMMANDS, **settings)
    assert facts["bits"] == plain()
    if not quick:
        assert f"version        {fastact.__version__}" in said
        assert said.endswith(" rows are within their bounds.\n")  # the last line of the check
        assert re.search(r"\d\.\d", said)
        assert not re.search(r"\d,\d{1,2}\b", said), "a decimal comma"


# -------------------------------------------------------- processors and threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this platform")
def test_one_processor(tmp_path):
    facts, _ = results(
        tmp_path,
        before="os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
        holds="len(os.sched_getaffinity(0)) == 1",
    )
    assert (facts["bits"], facts["threads"]) == (plain(), 1)


# What a control group says, and how many threads of four are used then.
QUOTAS = {
    "max 100000": 4,
    "900000 100000": 4,
    "300000 100000": 3,
    "150000 100000": 2,
    "100000 100000": 1,
    "50000 100000": 1,
    "1000 1000000": 1,
    "": 4,
    "nonsense": 4,
}
FILE = "/sys/fs/cgroup/cpu.max"
# Before the import, which reads the file once.
OTHER_FILE = f"""
import builtins, io
def open(file, *args, real=builtins.open, **keywords):
    if file == {FILE!r} and "QUOTA" in os.environ:
        return io.StringIO(os.environ["QUOTA"])
    return real("/no/file" if file == {FILE!r} else file, *args, **keywords)
builtins.open = open
"""


def test_quotas():
    """What is asked for goes before the quota, and no file is no quota."""
    cases = [{"QUOTA": f"{quota}\n"} for quota in QUOTAS]
    cases += [{"QUOTA": "50000 100000\n", "FASTACT_NUM_THREADS": "3"}, {}]
    found = imports(cases, before=OTHER_FILE, OMP_NUM_THREADS="4")
    assert [used for _, used, _ in found] == [*QUOTAS.values(), 3, 4]


def namespaces():
    """Whether this user may mount something of their own over /sys/fs/cgroup."""
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"]
    if not shutil.which("unshare") or not os.path.isdir("/sys/fs/cgroup"):
        return False
    return subprocess.run(mount, capture_output=True).returncode == 0


@pytest.mark.skipif(not namespaces(), reason="no mount namespaces here: test_quotas does without")
@pytest.mark.parametrize("quota", ["max 100000", "250000 100000", "50000 100000"])
def test_quotas_where_the_kernel_has_them(tmp_path, quota):
    """In a mount namespace with another /sys/fs/cgroup: the very file is read."""
    script = 'mount -t tmpfs none /sys/fs/cgroup && echo "$0" > "$1" && shift && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, quota, FILE, sys.executable]
    holds = f"open({FILE!r}).read() == {quota!r} + chr(10)"
    program = "-W", "ignore::ResourceWarning"
    facts, _ = results(tmp_path, *program, holds=holds, command=command, OMP_NUM_THREADS="4")
    used = {"max 100000": 4, "250000 100000": 3, "50000 100000": 1}[quota]
    assert (facts["bits"], facts["threads"]) == (plain(), used)


# ------------------------------------------------------------------ installations


@pytest.fixture
def installed(tmp_path):
    """Make a copy of the package, as `pip install` would, and of nothing else."""
    copy = tmp_path / "installed" / "fastact"
    unwanted = shutil.ignore_patterns("__pycache__", "*.c", "*.pyx", "*.pxi", "*.h")
    shutil.copytree(PACKAGE, copy, ignore=unwanted)
    libraries = PACKAGE.parent / "fastact.libs"  # of a wheel that auditwheel has repaired
    if libraries.exists():
        shutil.copytree(libraries, copy.parent / libraries.name)
    yield copy
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755)


# Root may write anywhere, except where the process that starts it has given that up.
GIVE_UP = """
import ctypes, os, sys
DROP, OVERRIDE, SEARCH = 24, 1, 2
prctl = ctypes.CDLL(None, use_errno=True).prctl
if any(prctl(DROP, capability, 0, 0, 0) for capability in (OVERRIDE, SEARCH)):
    sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl")
def test_nobody_can_write_to_the_installation(installed, tmp_path):
    for path in (*installed.rglob("*"), installed):
        path.chmod(0o555)
    command = [sys.executable, "-c", GIVE_UP] if os.geteuid() == 0 else [sys.executable]
    folder = str(installed)
    facts, _ = results(
        tmp_path,
        before=f"sys.path.insert(0, {str(installed.parent)!r})",
        holds=f"not os.access({folder!r}, os.W_OK, effective_ids=True)",
        command=command,
    )
    assert facts["bits"] == plain()
    assert facts["file"] == str(installed / "__init__.py")
    assert not list(installed.rglob("__pycache__"))


@pytest.mark.skipif(
    not (threads.openmp and sys.platform.startswith("linux")), reason="not built with OpenMP"
)
def test_no_openmp_library(installed, tmp_path):
    """A machine without libgomp or libomp, such as a small image with a copied installation."""
    (module,) = (installed / "_core" / "runtime").glob("threads.*.so")
    code = module.read_bytes()
    code, count = re.subn(rb"(\0libg?omp[^\0]*\.so\.[0-9.]*)[0-9](?=\0)", rb"\g<1>9", code)
    assert count
    module.write_bytes(code)
    program = f"import sys\nsys.path.insert(0, {str(installed.parent)!r})\nimport fastact"
    done = run(program, folder=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    missing = re.match(r"ImportError: (libg?omp)\S+9: cannot open shared object file", last)
    assert re.search(f"apt install {missing[1]}[15]`", last)


def test_in_an_archive(installed, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packages"), "zip", installed.parent)
    program = f"import sys\nsys.path.insert(0, {archive!r})\nimport fastact"
    last = run(program, folder=tmp_path).stderr.splitlines()[-1]
    inside = os.path.join(archive, "fastact")
    assert last.startswith(f"ImportError: fastact is in an archive, {inside!r}, and Python loads")


@pytest.mark.parametrize("other", ["ufuncs.cpython-27m-x86_64-linux-gnu.so", "ufuncs.cp27.pyd", ""])
def test_not_built_or_for_another_python(installed, tmp_path, other):
    (module,) = (f for f in (installed / "_core").glob("ufuncs.*") if f.suffix in (".so", ".pyd"))
    if other:
        module.rename(module.with_name(other))
    else:
        module.unlink()
    program = f"import sys\nsys.path.insert(0, {str(installed.parent)!r})\nimport fastact"
    last = run(program, folder=tmp_path).stderr.splitlines()[-1]
    wanted = "built for another Python: there is" if other else "not built in"
    assert last.startswith("ImportError: fastact ")
    assert f"{wanted} {other}" in last
    assert str(installed) in last


# --------------------------------------------------- environment variables with mistakes

MISTAKES = [
    *(("FASTACT_ISA", value, core.supported) for value in ("sse9", "AVX2", "baseline,avx2", " ")),
    *(
        ("FASTACT_ISA", target.name, ("not supported by this processor", *core.supported))
        for target in targets.TARGETS
        if target.name not in core.supported
    ),
    *(
        ("FASTACT_NUM_THREADS", value, ("wanted a number from 1 on",))
        for value in ("0", "-1", "two", "1.5", "1,5", "1 2", "0x2", "²", "inf", "0" * 5000)
    ),
    *(("FASTACT_NUM_THREADS", f, ("wanted a number from 1 on",)) for f in (" ", "+2", " 2", "2,")),
    *(
        ("FASTACT_BUFFER_LIMIT", value, ("wanted a number of bytes",))
        for value in ("1 GB", "-1", "1e9", "0x10", "nan", "1_000", " ", "+2", " 2", "2,", "\udcff")
    ),
]
# What is taken, some of it odd; the instruction set, threads, and bytes to keep.
BEST, LIMIT = core.supported[0], 1 << 28
TAKEN = [
    ({}, BEST, 3, LIMIT),
    ({"FASTACT_ISA": ""}, BEST, 3, LIMIT),
    *(({"FASTACT_ISA": name}, name, 3, LIMIT) for name in core.supported),
    ({"FASTACT_NUM_THREADS": "1"}, BEST, 1, LIMIT),
    ({"FASTACT_NUM_THREADS": "3"}, BEST, 3, LIMIT),
    ({"FASTACT_NUM_THREADS": ""}, BEST, 3, LIMIT),
    ({"FASTACT_NUM_THREADS": "9" * 20}, BEST, 3, LIMIT),
    ({"FASTACT_NUM_THREADS": "1" * 5000}, BEST, 3, LIMIT),
    ({"FASTACT_NUM_THREADS": "0" * 5000 + "2"}, BEST, 2, LIMIT),
    ({"FASTACT_NUM_THREADS": "\uff12"}, BEST, 2, LIMIT),
    ({"FASTACT_BUFFER_LIMIT": ""}, BEST, 3, LIMIT),
    ({"FASTACT_BUFFER_LIMIT": "0"}, BEST, 3, 0),
    ({"FASTACT_BUFFER_LIMIT": "1000"}, BEST, 3, 1000),
    ({"FASTACT_BUFFER_LIMIT": "0" * 5000 + "5"}, BEST, 3, 5),
    *(
        ({"FASTACT_BUFFER_LIMIT": digits}, BEST, 3, sys.maxsize)
        for digits in (str(sys.maxsize), str(2**63), "9" * 22, "9" * 5000)
    ),
]


def test_mistakes_are_import_errors():
    said = imports([{name: value} for name, value, _ in MISTAKES])
    for (name, value, wanted), message in zip(MISTAKES, said, strict=True):
        assert message.startswith(f"{name}={value!r}")
        assert all(words in message for words in wanted), message


def test_what_is_taken():
    found = imports([settings for settings, *_ in TAKEN], OMP_NUM_THREADS="3")
    for (settings, *wanted), got in zip(TAKEN, found, strict=True):
        assert got == wanted, settings


@pytest.mark.skipif(not threads.openmp, reason="built without OpenMP")
@pytest.mark.parametrize(
    ("number", "limit", "used"),
    [("4", "", 4), ("4", "1", 1), ("4", "3", 3), ("2", "3", 2), ("1", "", 1)],
)
def test_threads_are_those_that_openmp_uses(number, limit, used):
    environment = {"OMP_NUM_THREADS": number, **({"OMP_THREAD_LIMIT": limit} if limit else {})}
    ((_, found, _),) = imports([{"FASTACT_NUM_THREADS": "8"}], **environment)
    assert found == used


# What OMP_NUM_THREADS says to a build without OpenMP; None where it says nothing.
LISTS = {
    **{"3": 3, "3,2": 3, " 3 , 2": 3, "+3": 3, "0003": 3, "99999": 65536, "1" * 5000: 65536},
    **dict.fromkeys(("", " ", ",3", "0", "-3", "3.5", "three", "\uff13", "0" * 5000, "\udcff")),
}


def test_lists_of_openmp(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    processors = threads._count_processors()
    for value, wanted in LISTS.items():
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert threads._count_processors() == (wanted or processors), value[:9]
    # A build with OpenMP is imported as well, whatever OpenMP itself makes of the value.
    for value in ("1" * 5000, "\uff13", "\udcff"):
        assert run("import fastact", OMP_NUM_THREADS=value).returncode == 0, value[:9]
