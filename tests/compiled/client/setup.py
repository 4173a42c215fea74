"""A package that uses fastact from Cython, C and C++, as anybody might write it."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastact

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
INCLUDE = [fastact.get_include()]


def plain(name, source, standard):
    return Extension(
        name, [source], include_dirs=INCLUDE, extra_compile_args=[f"-std={standard}", *WARNINGS]
    )


EXTENSIONS = {
    "cython": lambda: cythonize("cython_client.pyx", language_level=3),
    "c": lambda: [plain("c_client", "c_client.c", "c11")],
    "cpp": lambda: [plain("cpp_client", "cpp_client.cpp", "c++17")],
}

if __name__ == "__main__":
    import os

    names = os.environ["CLIENT"].split()
    setup(name="client", ext_modules=[module for name in names for module in EXTENSIONS[name]()])
