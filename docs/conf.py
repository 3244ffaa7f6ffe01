"""Sphinx configuration of the documentation site: `make docs` builds it into build/docs."""

from __future__ import annotations

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

myst_heading_anchors = 3  # the anchors that GitHub gives to headings, so that links work in both places
highlight_language = "text"  # blocks without a language are commands and their output
suppress_warnings = ["toc.empty_glob"]  # of pages that later packages and tutorials add

exclude_patterns = ["api/*/modules.rst"]  # contents that api.md has already

html_theme = "furo"
html_title = "paretoray"
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

# Docstrings put code in single backticks, as Markdown does.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 100
autodoc_member_order = "bysource"

PACKAGES = ("searchers", "hw_profiles", "analysis", "orchestrator")
apidoc_modules = [
    {
        "path": f"../{package}",
        "destination": f"api/{package}",  # one each: what apidoc did not write, it removes
        "module_first": True,
        "automodule_options": {"members", "undoc-members", "show-inheritance", "ignore-module-all"},
    }
    for package in PACKAGES
]


def public_names(module: ModuleType, name: str, underline: str = "=") -> list[str]:
    """Reference of what `module` exports, in the order of its `__all__`; a module among these gets a section of its own."""
    lines = [name, underline * len(name), "", f".. automodule:: {name}", "   :no-members:", ""]
    exported = [(key, getattr(module, key)) for key in module.__all__ if not key.startswith("__")]
    for key, value in exported:
        if not ismodule(value):
            kind = "class" if isclass(value) else "function" if isroutine(value) else "data"
            lines += [f".. auto{kind}:: {name}.{key}", *(["   :members:"] if kind == "class" else []), ""]
    for key, value in exported:
        if ismodule(value):
            lines += public_names(value, f"{name}.{key}", "-") if hasattr(value, "__all__") else []
    return lines


def write_public_names(app: Sphinx) -> None:
    """Write api/paretoray.rst if there is a package of that name to import."""
    page = Path(app.srcdir, "api", "paretoray.rst")
    page.parent.mkdir(exist_ok=True)
    if find_spec("paretoray") is None:
        page.unlink(missing_ok=True)
    else:
        page.write_text("\n".join(public_names(import_module("paretoray"), "paretoray")))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the generation of the reference of public names."""
    app.connect("builder-inited", write_public_names)
    return {"parallel_read_safe": True}
