"""What the documentation site has that nobody writes: the API reference, and pictures.

Everything is written into `docs/api`, `docs/pictures` and `docs/inventories`, which git ignores.
"""

import io
import os
import shutil
import zlib
from contextlib import redirect_stdout, suppress
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

import fastact
from fastact import layers, losses, optimizers
from fastact._command import cli
from fastact._command.errors import exact, ulp_error
from fastact._core.operations import BY_NAME

DOCS = Path(__file__).parent
COLORS = ("#3b7dd8", "#d9822b", "#2f9e6e", "#b5568f")  # legible on white and on black
INK = {"light": "#222222", "dark": "#d0d0d0"}


def make():
    """Make all of it."""
    for name in ("api", "pictures"):
        (DOCS / name).mkdir(exist_ok=True)
    (DOCS / "api" / "index.rst").write_text(api(), encoding="utf-8")
    (DOCS / "api" / "command.rst").write_text(command(), encoding="utf-8")
    for draw in (activations, gradients, errors):
        for theme, ink in INK.items():
            save(draw, DOCS / "pictures" / f"{draw.__name__}-{theme}.svg", ink)


# ----------------------------------------------------------------- API reference


def api():
    """Write the page that lists every public name."""
    ufuncs = [name for name in fastact.__all__ if isinstance(getattr(fastact, name), np.ufunc)]
    order = [name for name in vars(fastact) if name in ufuncs]  # of addition
    forward = [name for name in order if "_backward" not in name]
    backward = [name for name in order if "_backward" in name]
    others = [name for name in fastact.__all__ if name not in ufuncs]
    of_layers = sorted(name for name, value in vars(layers).items() if is_public(name, value))
    functions = (DOCS.parent / "fastact" / "cy" / "functions.txt").read_text(encoding="utf-8")
    return f"""\
API reference
=============

This page lists every public name. Names that start with an underscore, and modules that are not
listed here, are private.

Activation functions
--------------------

All are :class:`numpy.ufunc` objects. :doc:`/functions` describes their dtypes and special values,
:doc:`/accuracy` their errors.

{summary("fastact", forward)}

Backward passes
---------------

Each returns the gradient with respect to the input of the activation. :doc:`/gradients` explains
the choice between input and output.

{summary("fastact", backward)}

Threads, memory and the C header
--------------------------------

:doc:`/runtime` describes these settings.

{summary("fastact", others)}

Layers
------

:doc:`/layers` shows how they work together.

{summary("fastact.layers", of_layers)}

Losses
------

{summary("fastact.losses", losses.__all__)}

Optimizers
----------

{summary("fastact.optimizers", optimizers.__all__)}

Compiled functions
------------------

``fastact.cy`` declares these functions for Cython, and ``fastact.h`` for C and C++, with the prefix
``fastact_``. :doc:`/compiled` says how to call them.

.. code-block:: c

{indented("".join(f"{line};{chr(10)}" for line in functions.splitlines() if "(" in line))}

Command line
------------

.. toctree::

   command
"""


def is_public(name, value):
    """Tell a public class from other members of a module."""
    return isinstance(value, type) and not name.startswith("_")


def summary(module, names):
    """Write a table of names, with a page for each."""
    return f"""\
.. currentmodule:: {module}

.. autosummary::
   :toctree: .

{indented(chr(10).join(names))}"""


def indented(text):
    """Indent by three columns."""
    return "".join(f"   {line}\n" for line in text.splitlines())


def command():
    """Write the page of the command line: what `--help` says."""
    page = "The command ``fastact``\n=======================\n"
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    for arguments in ([], ["info"], ["bench"], ["check"]):
        shown = io.StringIO()
        with redirect_stdout(shown), suppress(SystemExit):
            cli.main([*arguments, "--help"])
        title = " ".join(["fastact", *arguments])
        page += f"\n{title}\n{'-' * len(title)}\n\n.. code-block:: text\n\n"
        page += indented(f"$ {title} --help\n{shown.getvalue()}")
    os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    return page


def inventory_of_numpy():
    """Write where NumPy's pages are, for builds without a network; returns the path.

    It is an inventory for `sphinx.ext.intersphinx`.
    """
    classes = ("ndarray", "ufunc", "dtype", "exceptions.AxisError")
    functions = ("exp", "load", "savez", "maximum", "negative", "copyto", "finfo", "errstate")
    roles = dict.fromkeys(classes, "class") | dict.fromkeys(functions, "function")
    roles["random.default_rng"] = "function"
    lines = [
        f"numpy.{name} py:{role} 1 reference/generated/numpy.{name}.html#$ -\n"
        for name, role in roles.items()
    ]
    header = "# Sphinx inventory version 2\n# Project: NumPy\n# Version: \n"
    header += "# The remainder of this file is compressed using zlib.\n"
    path = DOCS / "inventories" / "numpy.inv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(header.encode() + zlib.compress("".join(lines).encode()))
    return str(path)


# ---------------------------------------------------------------------- pictures


def saved_pictures(block, block_vars, gallery_conf):
    """Find the pictures that an example has saved; a scraper of sphinx-gallery."""
    folder = Path(block_vars["src_file"]).parent
    pictures = []
    for found in sorted(folder.glob("*.png")):
        path = next(block_vars["image_path_iterator"])
        shutil.move(found, path)
        pictures.append(path)
    return figure_rst(pictures, gallery_conf["src_dir"])


def save(draw, path, ink):
    """Save a picture with a transparent background, for a page with that color of text."""
    settings = {
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 11,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "fastact",
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(6.2, 3.1), layout="constrained")
        draw(figure)
        for panel in figure.axes:
            panel.grid(True)
        figure.savefig(path, transparent=True, metadata={"Date": None})


def activations(figure):
    """Draw the activations, and their slopes."""
    x = np.linspace(-5, 5, 401)
    one = np.ones_like(x)
    left, right = figure.subplots(1, 2)
    names = ("relu", "gelu", "silu", "softplus", "tanh", "sigmoid")
    colors = (*COLORS[:4], "#8a6fd1", "#9a7b4f")
    for name, color in zip(names, colors, strict=True):
        style = {"color": color, "label": name}
        left.plot(x, getattr(fastact, name)(x), **style)
        right.plot(x, getattr(fastact, f"{name}_backward")(one, x), **style)
    left.set(title="activation", xlabel="x", ylim=(-1.3, 3))
    right.set(title="its slope", xlabel="x", ylim=(-0.2, 1.2))
    left.legend(loc="upper left")


def gradients(figure):
    """Draw what a gradient of sigmoid from its output loses."""
    x = np.linspace(-30, 30, 2401, dtype=np.float32)
    one = np.ones_like(x)
    true = fastact.sigmoid_backward(1.0, x.astype(np.float64))
    computed = {
        "from the output": fastact.sigmoid_backward_from_output(one, fastact.sigmoid(x)),
        "from the input": fastact.sigmoid_backward(one, x),
    }
    left, right = figure.subplots(1, 2)
    for (name, gradient), color in zip(computed.items(), (COLORS[1], COLORS[0]), strict=True):
        shown = np.where(gradient > 0, gradient, np.nan)
        left.semilogy(x, shown, color=color, label=name, linewidth=1.6)
        error = np.maximum(np.abs(gradient / true - 1), 1e-9)
        right.semilogy(x, error, color=color, linewidth=1)
    left.set(title="gradient of sigmoid, float32", xlabel="x")
    right.set(title="its relative error", xlabel="x", ylim=(1e-9, 5))
    left.legend(loc="lower center")


def errors(figure):
    """Draw the error of sigmoid over x, here and by NumPy's expression."""
    panel = figure.subplots()
    edges = np.linspace(-110, 30, 561)
    x = np.linspace(-110, 30, 561 * 400, dtype=np.float32)
    operation = BY_NAME["sigmoid"]
    right = exact(operation, {"x": x}, x.dtype)
    with np.errstate(all="ignore"):
        computed = {
            "1 / (1 + np.exp(-x))": operation.numpy(x, np.empty_like(x)),
            "fastact.sigmoid(x)": fastact.sigmoid(x),
        }
    place = np.digitize(x, edges)
    for (name, result), color in zip(computed.items(), (COLORS[1], COLORS[0]), strict=True):
        error = np.zeros(edges.size + 1)
        np.maximum.at(error, place, ulp_error(result, right))
        panel.semilogy(edges, error[1:], color=color, label=name, linewidth=1.2)
    panel.set(xlabel="x", ylabel="error, ULP", title="largest error of sigmoid in float32")
    panel.legend(loc="upper right")
