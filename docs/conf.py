"""Sphinx configuration of the documentation site: `make docs` builds it into build/docs."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from importlib.util import find_spec
from inspect import isclass, ismodule, isroutine
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "paretoray"
copyright = "the paretoray authors"
extensions = ["myst_parser", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["api/*/modules.rst"]  # tables of contents that api.rst has already

myst_heading_anchors = 3  # the same anchors as on GitHub, so that links work in both places
highlight_language = "text"  # blocks without a language are commands and their output

html_theme = "furo"
html_title = "paretoray"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_theme_options = {"navigation_with_keys": True}

default_role = "code"  # docstrings put code into single backticks, as Markdown does
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 100
autodoc_member_order = "bysource"
autodoc_default_options = {"ignore-module-all": True}  # packages re-export what their modules document

apidoc_max_depth = 1
apidoc_modules = [
    {
        "path": f"../{package}",
        "destination": f"api/{package}",  # a folder each, because apidoc removes files that it did not write
        "module_first": True,
        "automodule_options": {"members", "show-inheritance"},
    }
    for package in ("searchers", "hw_profiles", "analysis", "orchestrator")
]


def public_names(module: ModuleType, name: str) -> list[str]:
    """Compose the reference of everything in the `__all__` of a module; modules among these get sections of their own."""
    lines = [name, "-" * len(name), "", f".. automodule:: {name}", "   :no-members:", ""]
    exported = [(key, getattr(module, key)) for key in module.__all__ if not key.startswith("__")]
    for key, value in exported:
        if not ismodule(value):
            kind = "class" if isclass(value) else "function" if isroutine(value) else "data"
            # The pages of the packages have the targets that references lead to.
            lines += [f".. auto{kind}:: {name}.{key}", "   :no-index:", *(["   :members:"] if kind == "class" else []), ""]
    for key, value in exported:
        if ismodule(value) and hasattr(value, "__all__"):
            lines += public_names(value, f"{name}.{key}")
    return lines


def write_public_names(app: Sphinx) -> None:
    """Write the part of api.rst on `paretoray`, which is empty where that package does not exist."""
    names = public_names(import_module("paretoray"), "paretoray") if find_spec("paretoray") else []
    part = Path(app.srcdir, "api", "paretoray.inc")
    part.parent.mkdir(exist_ok=True)
    part.write_text("\n".join(names))


def separate_suffixes(app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """Separate code from a suffix, as in "`Choice`s", which reStructuredText does not allow."""
    lines[:] = [re.sub(r"(?<![`:])(`[^`]+`)(?=\w)", r"\1\\ ", line) for line in lines]


def keep_sentences_whole(app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """Keep Napoleon from reading what precedes a colon as the type of an attribute; types come from annotations."""
    if what in ("attribute", "data", "property") and lines:
        lines[0] = f": {lines[0]}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the hooks above."""
    app.connect("builder-inited", write_public_names)
    app.connect("autodoc-process-docstring", keep_sentences_whole, priority=400)  # before Napoleon
    app.connect("autodoc-process-docstring", separate_suffixes)
    return {"parallel_read_safe": True}
