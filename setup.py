"""Builds one extension per row of the table of instruction sets. Metadata: pyproject.toml."""

import runpy
import sys
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
TARGETS = runpy.run_path(str(ROOT / "fastact" / "_core" / "targets.py"))["TARGETS"]

# No fast-math: every operation in activations.pxd is meant as it stands. Errno and traps,
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

# gcc only. The first two: it would trade the selects in the formulas for jumps and copies of what
# follows, before it vectorises; up to a fifth more instructions (gcc 12). The others: the formulas
# are long chains, and steps of four vectors whose instructions are mixed before registers are
# assigned take a sixth less time; the simple loops win where operands are not aligned alike.
KERNEL_FLAGS = [
    "-fno-thread-jumps",
    "-fno-tree-pre",
    "-funroll-loops",
    "--param=max-unrolled-insns=280",
    "--param=max-average-unrolled-insns=280",
    "-fschedule-insns",
    "-fsched-pressure",
]

# A formula that is not inlined into its loop is a loop that is not vectorised.
ALWAYS_INLINE = ("CYTHON_INLINE", "inline __attribute__((always_inline))")
FEATURES = sorted({feature for target in TARGETS for feature in target.features} - {"f16c"})
NUMPY_API = [
    ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
    ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
]


KERNEL_SOURCES = ["fastact/_core/kernels/kernels.pxi", "fastact/_core/kernels/vectors.h"]
KERNELS = {f"fastact._core.kernels.{target.name}": target for target in TARGETS}


def extension(name, depends=(), **options):
    """An extension module; it is built anew when the flags may have changed."""
    return Extension(
        name,
        [name.replace(".", "/") + ".pyx"],
        include_dirs=[numpy.get_include()],
        depends=["setup.py", "fastact/_core/targets.py", *depends],
        **options,
    )


class Build(build_ext):
    """Chooses flags by compiler, and says what is missing before it starts."""

    def build_extensions(self):
        empty = "int main(void) { return 0; }"
        self.require(empty, "a C compiler")
        self.require("#include <Python.h>\nint main(void) { return 0; }", "Python's headers")
        msvc = self.compiler.compiler_type == "msvc"
        openmp = ["/openmp"] if msvc else ["-fopenmp"]
        program = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }"
        if self.compiles(program, openmp):
            linked = [] if msvc else openmp
        else:
            print("fastact: this compiler has no OpenMP; building without threads", file=sys.stderr)
            openmp = linked = []
        kernel_flags = [flag for flag in KERNEL_FLAGS if not msvc and self.compiles(empty, [flag])]
        for ext in self.extensions:
            ext.extra_compile_args += MSVC_FLAGS if msvc else GCC_FLAGS
            if ext.name == "fastact._core.engine":
                ext.extra_compile_args += openmp
                ext.extra_link_args += linked
            elif target := KERNELS.get(ext.name):
                if msvc:
                    ext.extra_compile_args += target.msvc_flags
                else:
                    ext.extra_compile_args += [f"-m{f}" for f in target.features]
                    ext.extra_compile_args += [*target.gcc_flags, *kernel_flags]
                    ext.define_macros.append(ALWAYS_INLINE)
        super().build_extensions()

    def compiles(self, source, flags=()):
        """Whether a C program compiles and links."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.c"
            path.write_text(source)
            options = {"output_dir": folder, "extra_postargs": [*flags]}
            try:
                objects = self.compiler.compile(
                    [str(path)], include_dirs=self.include_dirs, **options
                )
                self.compiler.link_executable(objects, "probe", **options)
            except Exception:  # each class of compiler has errors of its own
                return False
        return True

    def require(self, source, what):
        """End the build with advice if a program does not compile for want of `what`."""
        if not self.compiles(source):
            raise SystemExit(
                f"fastact cannot be built: {what} is missing. Install it: on Debian and Ubuntu "
                "`apt install gcc python3-dev`, on Fedora `dnf install gcc python3-devel`, on "
                "macOS `xcode-select --install`, on Windows the Build Tools for Visual Studio."
            )


setup(
    ext_modules=cythonize(
        [
            extension(
                "fastact._core.cpu",
                define_macros=[("FASTACT_FEATURES", " ".join(f"FEATURE({f})" for f in FEATURES))],
            ),
            extension("fastact._core.engine"),
            extension("fastact._core.memory", define_macros=NUMPY_API),
            extension("fastact._core.dense", define_macros=NUMPY_API),
            extension("fastact._core.ufuncs", define_macros=NUMPY_API),
            *(extension(name, depends=KERNEL_SOURCES) for name in KERNELS),
        ],
        language_level=3,
        compiler_directives={"binding": False},
    ),
    cmdclass={"build_ext": Build},
)
