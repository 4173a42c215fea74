"""Builds the kernels once per instruction set, and the modules around them."""

import importlib.util
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import Cython
import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The public address of the repository, such as https://github.com/NAME/fastact. A release sets it.
REPOSITORY = os.environ.get("FASTACT_REPOSITORY", "").rstrip("/")

ROOT = Path(__file__).parent
CORE = ROOT / "fastact" / "_core"
LOOPS = CORE / "kernels" / "loops"
API = ROOT / "fastact" / "cy"


def load(name, folder=CORE):
    """Import a module or package of fastact by its path: `fastact` itself is not built yet."""
    path = folder / name
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    folders = [str(path.parent)] if path.stem == "__init__" else None
    spec = importlib.util.spec_from_file_location(
        f"fastact_{name}", path, submodule_search_locations=folders
    )
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path, text):
    """Write a file unless it has this text already: its time tells what to compile anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def asked(targets):
    """The instruction sets to build: all, or those that FASTACT_TARGETS names: ``avx2,baseline``.

    For developers, who wait less; a package so built runs on processors that have one of them.
    """
    names = os.environ.get("FASTACT_TARGETS", "").replace(",", " ").split()
    known = [target.name for target in targets]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(
            f"FASTACT_TARGETS names {', '.join(unknown)}, which is no instruction set for this "
            f"machine; wanted some of: {', '.join(known)}"
        )
    return [target for target in targets if not names or target.name in names]


TARGETS = asked(load("targets").TARGETS)
records = load("operations")
OPERATIONS, ROW_OPERATIONS = records.OPERATIONS, records.ROW_OPERATIONS
UNITS = load("generate").units(OPERATIONS, ROW_OPERATIONS)
# Units of activations with an exponential, and without.
LONG = {operation.name for operation in OPERATIONS if operation.costly} & UNITS.keys()
SHORT = {operation.name for operation in OPERATIONS} & UNITS.keys() - LONG
for unit, text in UNITS.items():
    write(LOOPS / f"{unit}.pyx", text)
write(ROOT / "fastact" / "__init__.pyi", load("generate").stub(OPERATIONS, ROW_OPERATIONS))

VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "fastact/__init__.py").read_text("utf-8"))[1]
compiled = load("_generate", API)
FUNCTIONS = compiled.functions(OPERATIONS, (API / "functions.txt").read_text(encoding="utf-8"))
write(API / "__init__.pxd", compiled.pxd(FUNCTIONS, "The compiled API: see docs/compiled.md."))
write(API / "_functions.pxd", compiled.pxd(FUNCTIONS, "The compiled API."))
write(API / "_functions.pxi", compiled.pxi(FUNCTIONS))
write(API / "include" / "fastact.h", compiled.header(FUNCTIONS, VERSION))

# No fast-math: every operation in fastact/activations is meant as it stands. Errno and traps,
# which nobody reads, would keep the loops from being vectorised.
GCC_FLAGS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-g0",  # Python's own flags may have -g: the modules would be five times as large
]
MSVC_FLAGS = ["/O2", "/fp:precise"]
# Modules in which no call spends time that depends on how they are compiled. Compiling takes half
# as long so. Layers, losses, SGD and large calls took 1.007 of the time (median of 21 cases).
COLD = {
    f"fastact._core.{name}"
    for name in ("cpu", "networks.dense", "networks.training", "runtime.threads", "ufuncs")
}

# What makes a memory error harder to exploit, where compiler and linker accept it. Not for the
# modules through which a small call goes: there the stack protector took 2 % of the time.
# _FORTIFY_SOURCE would change no call of the C library here.
PROTECTION = ["-fstack-protector-strong"]
UNPROTECTED = {
    f"fastact.{name}"
    for name in (
        "_core.calls.bfloat16",
        "_core.calls.fast",
        "_core.calls.general",
        "_core.driver.engine",
        "_core.driver.plans",
        "cy._functions",
    )
}
# For all modules: a frame of more than a page must not step over the guard page of a small stack.
# A smaller frame has no instruction more.
PROBED = ["-fstack-clash-protection"]
LINKED_PROTECTION = ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"]

# Each where the compiler knows it.
KERNEL_FLAGS = [
    # For gcc. The first two: it would trade the selects in the formulas for jumps and copies of
    # what follows, before it vectorises; up to a fifth more instructions (gcc 12). The others:
    # steps of up to eight vectors; the simple loops win where operands are not aligned alike.
    "-fno-thread-jumps",
    "-fno-tree-pre",
    "-funroll-loops",
    "--param=max-unrolled-insns=280",
    "--param=max-average-unrolled-insns=280",
    # For clang: steps of two vectors, and the end of a loop by vectors of four instead of number by
    # number. Gradients take an eighth less time (clang 14 and 19).
    "-mllvm -force-vector-interleave=2",
    "-mllvm -epilogue-vectorization-force-VF=4",
]
# For gcc, besides: steps whose instructions are mixed before registers are assigned. Long chains
# take a sixth less time so.
MIXING_FLAGS = ["-fschedule-insns", "-fsched-pressure"]
# Steps of no more than four vectors for formulas with an exponential. Where eight would fit into
# 280 instructions, they only spill registers: a sixth to a quarter more instructions.
LIMITING_FLAGS = ["--param=max-unroll-times=4"]
# Formulas without one are short, and little but loads and stores. These have to stay in the order
# of their addresses: relu for AVX2 took up to 1.5 times as long with mixed ones, and leaky_relu
# with slopes in an array too, without this flag.
ORDERING_FLAGS = ["-fno-sched-critical-path-heuristic"]

# A formula that is not inlined into its loop is a loop that is not vectorised.
ALWAYS_INLINE = ("CYTHON_INLINE", "inline __attribute__((always_inline))")
FEATURES = sorted(
    {feature for target in load("targets").TARGETS for feature in target.features} - {"f16c"}
)
NUMPY_API = [
    ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
    ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
]
# Whether the modules declare that they need no GIL. Before Cython 3.3, a thread could read an
# attribute while another one replaces it, and get an object that is freed already.
FREE_THREADED = tuple(map(int, Cython.__version__.split(".")[:2])) >= (3, 3)

KERNELS = {f"fastact._core.kernels._{target.name}": target for target in TARGETS}


def extension(name, include=()):
    """An extension module made of one Cython file."""
    return Extension(
        f"fastact.{name}",
        [f"fastact/{name.replace('.', '/')}.pyx"],
        include_dirs=[numpy.get_include(), *include],
        define_macros=list(NUMPY_API),
    )


def kernels(target):
    """The extension module of an instruction set, without the units of kernels."""
    units = " ".join(f"UNIT({name})" for name in UNITS)
    return Extension(
        f"fastact._core.kernels._{target.name}",
        ["fastact/_core/kernels/table.c"],
        define_macros=[("FASTACT_TARGET", f"_{target.name}"), ("FASTACT_UNITS", units)],
    )


def description():
    """The README, with links that work on an index page: there, relative ones are dead."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if not REPOSITORY:
        return text
    pages, files = f"{REPOSITORY}/blob/v{VERSION}/", f"{REPOSITORY}/raw/v{VERSION}/"
    relative = r"\]\((?!\w+:|#)"
    text = re.sub(rf"(!\[[^]]*){relative}", rf"\1]({files}", text)
    return re.sub(relative, f"]({pages}", text)


def addresses():
    """The links of the index page."""
    if not REPOSITORY:
        return {}
    return {
        "Source": REPOSITORY,
        "Issues": f"{REPOSITORY}/issues",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Documentation": f"{REPOSITORY}/tree/main/docs",
    }


EMPTY_PROGRAM = "int main(void) { return 0; }"


class Build(build_ext):
    """Chooses flags by compiler, and says what is missing before it starts."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        self.require_compiler()
        self.require_headers("#include <Python.h>\nint main(void) { return 0; }")
        for target in TARGETS:
            self.require_flags(target)
        msvc = self.compiler.compiler_type == "msvc"
        openmp = ["/openmp"] if msvc else ["-fopenmp"]
        program = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }"
        linked = [] if msvc else openmp
        if self.problem(program, openmp, linked):
            print("fastact: this compiler has no OpenMP; building without it", file=sys.stderr)
            openmp = linked = []
        general = [*(MSVC_FLAGS if msvc else GCC_FLAGS), *self.accepted(PROBED)]
        kernel_flags = self.accepted(KERNEL_FLAGS)
        mixing, limiting = self.accepted(MIXING_FLAGS), self.accepted(LIMITING_FLAGS)
        ordering = self.accepted(ORDERING_FLAGS)
        protection = self.accepted(PROTECTION)
        linked_protection = self.accepted(LINKED_PROTECTION, linking=True)
        tasks = []
        for ext in self.extensions:
            flags = [*general, *(["-O1"] if ext.name in COLD and not msvc else [])]
            if ext.name not in KERNELS.keys() | UNPROTECTED:
                flags += protection
            ext.extra_link_args += linked_protection
            if ext.name == "fastact._core.runtime.threads":
                flags += openmp
                ext.extra_link_args += linked
            folders = [*ext.include_dirs, *self.include_dirs]
            tasks += [(ext, source, flags, ext.define_macros, folders) for source in ext.sources]
            if target := KERNELS.get(ext.name):
                flags = [*general, *self.flags_of(target), *kernel_flags]
                macros = [] if msvc else [ALWAYS_INLINE]
                folders = [str(LOOPS.parent.relative_to(ROOT)), *self.include_dirs]
                for unit in UNITS:
                    source = str((LOOPS / unit).relative_to(ROOT)) + ".c"
                    more = ordering if unit in SHORT else mixing
                    more = more + limiting if unit in LONG else more
                    tasks.append((ext, source, flags + more, macros, folders))
            ext.sources = []
        versions = f"NumPy {numpy.__version__}, Cython {Cython.__version__}"
        # gcc says which loops it has vectorized: tests/test_vectorized.py reads it.
        reports = bool(self.accepted(["-fopt-info-vec-optimized"]))
        objects = load("objects").Objects(self.compiler, OBJECTS, versions, reports)
        with ThreadPoolExecutor(self.parallel) as pool:
            made = list(pool.map(lambda task: objects.get(*task[1:]), tasks))
        for (ext, source, *_), path in zip(tasks, made, strict=True):
            ext.extra_objects.append(path)
            report = Path(path).with_suffix(".txt")
            if reports and ext.name in KERNELS and report.exists():
                text = report.read_text(encoding="utf-8")
                write(REPORTS / KERNELS[ext.name].name / f"{Path(source).stem}.txt", text)
        objects.tidy()
        print(f"fastact: {objects.compiled} objects compiled, {objects.kept} kept in {OBJECTS}")
        self.force = True  # all modules are linked: distutils looks at times, not at flags
        super().build_extensions()

    def flags_of(self, target):
        """The flags of an instruction set."""
        if self.compiler.compiler_type == "msvc":
            return target.msvc_flags
        return [*(f"-m{feature}" for feature in target.features), *target.gcc_flags]

    def accepted(self, flags, linking=False):
        """The words of those flags that this compiler, or its linker, knows."""
        if self.compiler.compiler_type == "msvc":
            return []
        # clang only warns about a flag that it does not know.
        strict = [] if self.problem(EMPTY_PROGRAM, ["-Werror"]) else ["-Werror"]

        def known(words):
            compiled, linked = ([], words) if linking else ([*strict, *words], [])
            return self.problem(EMPTY_PROGRAM, compiled, linked) is None

        groups = [flag.split() for flag in flags]
        if not known([word for words in groups for word in words]):
            groups = [words for words in groups if known(words)]
        return [word for words in groups for word in words]

    def problem(self, source, flags=(), linked=()):
        """What compiler and linker say of a C program; None where it is built."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.c"
            path.write_text(source)
            said = Path(folder) / "said.txt"
            options = {"output_dir": folder, "extra_postargs": [*linked]}
            try:
                with output_to(said):
                    objects = self.compiler.compile(
                        [str(path)], folder, include_dirs=self.include_dirs, extra_postargs=[*flags]
                    )
                    # The modules are linked so, LDFLAGS included; a program minds missing symbols.
                    self.compiler.link_shared_object(objects, "probe.so", **options)
                    self.compiler.link_executable(objects, "probe", **options)
            except Exception as error:  # each class of compiler has errors of its own
                return f"{said.read_text(errors='replace')}{error}"
        return None

    def require_compiler(self):
        """End the build with advice if an empty program is not built."""
        problem = self.problem(EMPTY_PROGRAM)
        if problem is None:
            return
        command = getattr(self.compiler, "compiler_so", None)  # MSVC has none
        if command and shutil.which(command[0]):
            names = "CC", "CFLAGS", "CPPFLAGS", "LDSHARED", "LDFLAGS"
            setting = [f"{name}={os.environ[name]!r}" for name in names if os.environ.get(name)]
            raise SystemExit(
                f"fastact cannot be built: {command[0]!r} does not compile and link an empty "
                f"program.\n\n{problem}\n\n"
                f"The environment has {', '.join(setting) or 'no flags for it'}."
            )
        raise SystemExit(missing("a C compiler", problem))

    def require_flags(self, target):
        """End the build with advice if the compiler does not know an instruction set."""
        problem = self.problem(EMPTY_PROGRAM, self.flags_of(target))
        if problem is not None:
            others = ",".join(other.name for other in TARGETS if other is not target)
            raise SystemExit(
                f"fastact cannot be built for {target.name}: this compiler does not know "
                f"{' '.join(self.flags_of(target))}.\n\n{problem}\n\n"
                f"Use a newer compiler, or build without it: FASTACT_TARGETS={others or 'baseline'}"
            )

    def require_headers(self, source):
        """End the build with advice if a program that includes Python.h is not built."""
        problem = self.problem(source)
        if problem is not None:
            raise SystemExit(missing("Python's headers", problem, verb="are"))


def missing(what, problem, verb="is"):
    """Return an error message: what is missing, what shows that, and how to install it."""
    return (
        f"fastact cannot be built: {what} {verb} missing.\n\n{problem}\n\n"
        "Install it: on Debian and Ubuntu `apt install gcc python3-dev`, on Fedora `dnf install "
        "gcc python3-devel`, on macOS `xcode-select --install`, on Windows the Build Tools for "
        "Visual Studio."
    )


@contextmanager
def output_to(path):
    """Collect what this process and those it starts print."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(path, "wb") as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(kept, 1):
                os.dup2(copy, number)
                os.close(copy)


# What an earlier build has compiled is taken from here, even by another copy of the source tree.
OBJECTS = os.environ.get("FASTACT_OBJECTS") or str(Path("build", "objects"))
REPORTS = ROOT / "build" / "vectorized"


def translated(extensions):
    """Translate Cython to C, where a file or the settings have changed."""
    directives = {
        "autotestdict": False,
        "binding": False,
        "freethreading_compatible": FREE_THREADED,
    }
    # Elsewhere, a process for each file would run this file anew.
    parallel = sys.platform == "linux"
    if parallel:
        multiprocessing.set_start_method("fork", force=True)
    # Cython looks at times only, not at these.
    stamp = ROOT / "build" / "cython.txt"
    settings = repr((sorted(directives.items()), numpy.__version__, sys.version))
    force = not stamp.exists() or stamp.read_text(encoding="utf-8") != settings
    modules = cythonize(
        extensions,
        nthreads=os.cpu_count() if parallel else 0,
        force=force or None,
        language_level=3,
        compiler_directives=directives,
    )
    write(stamp, settings)
    return modules


HEADERS = "fastact/cy/include"
MODULES = [
    extension(".".join(path.relative_to(ROOT / "fastact").with_suffix("").parts))
    for path in sorted(CORE.rglob("*.pyx"))
    if path.stem != "cpu" and LOOPS not in path.parents
]
MODULES.append(extension("cy._functions", [HEADERS]))
CPU = extension("_core.cpu")
CPU.define_macros.append(("FASTACT_FEATURES", " ".join(f"FEATURE({name})" for name in FEATURES)))
SHARED = [Extension(unit, [f"{LOOPS.relative_to(ROOT)}/{unit}.pyx"]) for unit in UNITS]

setup(
    # What takes longest is started first: the baseline, whose fused multiply-add is software.
    ext_modules=[
        module
        for module in translated([*SHARED, *map(kernels, reversed(TARGETS)), *MODULES, CPU])
        if module.name not in UNITS
    ],
    cmdclass={"build_ext": Build},
    long_description=description(),
    long_description_content_type="text/markdown",
    project_urls=addresses(),
)
