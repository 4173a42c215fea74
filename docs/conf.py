"""The settings of the documentation site. CONTRIBUTING.md says how to build it.

Some pages are files of the repository that are also read elsewhere, such as CONTRIBUTING.md. The
API reference and the pictures are made here, before Sphinx looks for pages: see `generate.py`.
"""

import inspect
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

import generate  # noqa: E402
import numpy as np  # noqa: E402

import fastact  # noqa: E402

project = "fastact"
author = "The fastact developers"
project_copyright = author
version = release = fastact.__version__
# The public address of the repository, as for setup.py.
REPOSITORY = os.environ.get("FASTACT_REPOSITORY", "").rstrip("/")
# Examples draw without a window.
os.environ.setdefault("MPLBACKEND", "agg")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["build", "README.md"]
templates_path = ["_templates"]
nitpicky = True
default_role = "autolink"

# ------------------------------------------------------------------------- pages

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
# Pages whose text stands elsewhere.
BORROWED = {
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "examples": "examples/README.md",
    "history": "asv_bench/README.md",
    "security": "SECURITY.md",
}
LINK = re.compile(r"\[([^]\[]*)\]\(([^)\s]+)\)")
TITLED = re.compile(r'^```(\w+) title="([^"]+)"$', re.MULTILINE)
CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"[\w./]+\.md")


def read_page(app, name, source):
    """Take the text of a borrowed page, and turn links between files into links of the site."""
    if not (DOCS / f"{name}.md").exists():
        return
    origin = ROOT / BORROWED[name] if name in BORROWED else DOCS / f"{name}.md"
    text = origin.read_text(encoding="utf-8") if name in BORROWED else source[0]

    def link(match):
        words, target = match.groups()
        parts = urlsplit(target)
        if parts.scheme or not parts.path:
            return match[0]
        place = os.path.relpath((origin.parent / parts.path).resolve(), ROOT)
        page = {path: f"{page}.md" for page, path in BORROWED.items()}.get(place)
        if example := re.fullmatch(r"examples/(\w+)\.py", place):
            page = f"gallery/{example[1]}.rst"
        target = page or os.path.relpath(place, "docs")
        # Links that are named after a file get the title of the page.
        words = "" if FILE_NAME.fullmatch(words) else words
        return f"[{words}]({target}{'#' if parts.fragment else ''}{parts.fragment})"

    pieces = CODE.split(text)
    pieces[::2] = [LINK.sub(link, piece) for piece in pieces[::2]]
    source[0] = TITLED.sub(r"```{code-block} \1\n:caption: \2\n", "".join(pieces))
    if name == "examples":
        source[0] += "\n```{toctree}\n:hidden:\n\ngallery/index\n```\n"


# ----------------------------------------------------------------- API reference

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
# All checks, except for: sections that a short text does without (ES01, EX01, SA01), types and
# descriptions that a link has (PR04, SA04), and summaries that are formulas or nouns (SS02, SS05).
# Methods without a docstring of their own show the inherited one (GL08); ruff finds others. Cython
# strips the last line of a docstring that it gives a signature (GL02).
numpydoc_validation_checks = {
    "all",
    *("ES01", "EX01", "GL02", "GL08", "PR04", "SA01", "SA04", "SS02", "SS05"),
}
# Its __new__ takes what __init__ does.
numpydoc_validation_exclude = {r"\.Linear$"}
# NumPy's own list of its pages is taken where there is a network.
intersphinx_mapping = {
    "numpy": ("https://numpy.org/doc/stable/", (None, generate.inventory_of_numpy())),
}
intersphinx_timeout = 10

# ----------------------------------------------------------------------- gallery

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": "shared",
    "image_scrapers": ["generate.saved_pictures"],
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
}

# -------------------------------------------------------------------------- HTML

html_theme = "pydata_sphinx_theme"
html_title = f"fastact {release}"
html_static_path = ["_static"]
html_css_files = ["fastact.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "fastact"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    **({"github_url": REPOSITORY} if REPOSITORY.startswith("https://github.com/") else {}),
}
# Copied without prompts and output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def sign(app, what, name, found, options, args, returned):
    """Correct signatures, before numpydoc looks at them."""
    if what in ("data", "attribute") and isinstance(found, np.ufunc):
        return (None,)  # no signature that could be replaced
    if what == "class" and args == "(*args, **settings)":  # those of __new__
        parameters = list(inspect.signature(found.__init__).parameters.values())[1:]
        bare = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
        return str(inspect.Signature(bare)), ""
    return None


def left_out(app, what, name, found, skip, options):
    """Leave out ufuncs that are members of layers: their pages are elsewhere."""
    return True if isinstance(found, np.ufunc) else None


def setup(app):
    """Make what is made, and let pages be read as above."""
    generate.make()
    app.connect("autodoc-process-signature", sign, priority=100)
    app.connect("autodoc-skip-member", left_out)
    app.connect("source-read", read_page)
