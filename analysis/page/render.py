"""Pages from templates: one HTML file each, which needs nothing else, neither other files nor a network."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.plots import Picture

FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder; whatever a value contains is text, unless it is `Markup`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(asset=asset, **values)


def asset(name: str) -> Markup:
    """Return the text of a style sheet or script of this folder, to be put into a page as it stands."""
    return Markup((FOLDER / name).read_text())


@cache
def library() -> str:
    """Return Plotly's JavaScript, compressed by gzip, in base 64: a third of its 5 MB. A script in the page unpacks it."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def embedded(data: Mapping[str, Any]) -> Markup:
    """Write plain data as JSON that may stand in a script element, whatever its texts contain.

    Raises:
        ValueError: For a number that is not finite, which JSON lacks.
    """
    return Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def inline(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Render pictures as SVG for the templates."""
    return [{"title": p.title, "caption": p.caption, "svg": svg(p.figure)} for p in pictures]


def svg(figure: Figure) -> Markup:
    """Render a figure as an SVG element without a background."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Markup(text.getvalue()[text.getvalue().index("<svg") :])
