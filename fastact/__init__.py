"""Activation functions for NumPy arrays, forward and backward, as `numpy.ufunc` objects.

The functions are `relu`, `leaky_relu`, `sigmoid`, `tanh`, `silu`, `softplus`, `log_sigmoid`,
`gelu`, `gelu_tanh`, `softmax`, `log_softmax` and their backward passes. The modules
`fastact.layers`, `fastact.losses` and `fastact.optimizers` provide layers that use these functions,
losses and an optimizer. The command ``fastact`` shows information about this machine.
"""

__version__ = "0.1.0"


def _refuse_subinterpreters() -> None:
    """Raise an ImportError before any compiled module is loaded, NumPy's among them.

    They are for one interpreter of a process, the first that loads them: if it were another, the
    main one could not import fastact any more. NumPy imports ctypes, too.
    """
    try:
        from ctypes import PYFUNCTYPE, c_void_p, pythonapi
    except ImportError:  # a Python without it
        return
    this, main = (
        PYFUNCTYPE(c_void_p)((f"PyInterpreterState_{name}", pythonapi))()
        for name in ("Get", "Main")
    )
    if this != main:
        raise ImportError(
            "fastact works in the main interpreter of a process only, and this is a "
            "subinterpreter. With mod_wsgi, set `WSGIApplicationGroup %{GLOBAL}`"
        )


try:
    _refuse_subinterpreters()
    from fastact._core import ufuncs as _ufuncs
except ImportError as error:
    from importlib.util import find_spec

    # Of gcc and of clang.
    for library, package in (("libgomp", "libgomp1"), ("libomp", "libomp5")):
        if library in str(error):
            raise ImportError(
                f"{error}. fastact was built with OpenMP: install its library, on Debian and "
                f"Ubuntu with `apt install {package}`, on Fedora with `dnf install {library}`"
            ) from error
    if find_spec("fastact._core.ufuncs") is not None:
        raise
    from pathlib import Path

    folder = Path(__path__[0])
    if not folder.is_dir():
        raise ImportError(
            f"fastact is in an archive, {__path__[0]!r}, and Python loads compiled modules from "
            "folders only: install fastact into one, or unpack the archive"
        ) from error
    files = sorted((folder / "_core").glob("ufuncs.*"))
    others = [path.name for path in files if path.suffix in (".so", ".pyd")]
    if others:
        raise ImportError(
            f"fastact in {__path__[0]!r} is built for another Python: there is {', '.join(others)}"
        ) from error
    raise ImportError(
        f"fastact is not built in {__path__[0]!r}. If this is its source tree, build and install "
        "it with `pip install .` there and start Python in another folder, or build it in place "
        "with `pip install --editable .`"
    ) from error

from fastact._core.runtime.memory import release_buffers, set_buffer_limit  # noqa: E402
from fastact._core.runtime.threads import get_num_threads, num_threads, set_num_threads  # noqa: E402

globals().update(_ufuncs.ufuncs | _ufuncs.row_ufuncs)


def get_include() -> str:
    """Return the folder of `fastact.h`, the header for C and C++.

    Returns
    -------
    str
        A path to be given to the compiler, such as ``include_dirs=[fastact.get_include()]``.
    """
    return f"{__path__[0]}/cy/include"


__all__ = [
    "get_include",
    "get_num_threads",
    "num_threads",
    "release_buffers",
    "set_buffer_limit",
    "set_num_threads",
    *sorted(_ufuncs.ufuncs | _ufuncs.row_ufuncs),
]
