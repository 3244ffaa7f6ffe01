"""Descriptions of searchers, objectives, spaces and single architectures."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import docstring_parser

from orchestrator.config.experiment import find_searcher
from orchestrator.config.problem import objective_class, supplied_of
from orchestrator.config.settings import Retraining
from orchestrator.config.spaces import find_architecture, find_space, make_space, published, size
from orchestrator.errors import InputError
from orchestrator.objectives.predicted import ProfiledCost, resolve
from orchestrator.registry import argument_texts, keywords, user_parameters
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.own import OwnSpace
from orchestrator.training.recipe import recipe
from searchers.base import Architecture

_OWN_IMAGE, _OWN_CLASSES = (3, 32, 32), 10


@dataclass(frozen=True)
class Described:
    """A space and perhaps an architecture in it; `facts` are plain values, for JSON."""

    space: SearchSpace
    architecture: Architecture | None
    facts: dict[str, Any]


def describe_component(kind: str, name: str) -> dict[str, Any]:
    """Describe a searcher or an objective by its docstring and its settings, or a recipe by its parts; plain values, for JSON.

    Args:
        kind: `searcher`, `objective` or `recipe`.
        name: As an experiment writes it.

    Raises:
        InputError: For an unknown name.
    """
    if kind == "recipe":
        return _recipe(name)
    cls = find_searcher(name) if kind == "searcher" else objective_class(name)
    if cls is ProfiledCost:
        resolve(name)  # which refuses a device that there is not
    supplied = ("sizes", *getattr(cls, "needs", ())) if kind == "searcher" else supplied_of(cls)
    parsed = docstring_parser.parse(inspect.getdoc(cls) or "", docstring_parser.DocstringStyle.GOOGLE)
    about = argument_texts(cls)
    settings = [
        {
            "name": key,
            "type": str(parameter.annotation).replace("typing.", ""),
            "default": None if parameter.default is parameter.empty else parameter.default,
            "needed": parameter.default is parameter.empty,
            "about": about.get(key, ""),
        }
        for key, parameter in user_parameters(cls, supplied).items()
    ]
    told = [parsed.short_description or "", *(parsed.long_description or "").split("\n\n")]
    paragraphs = [" ".join(text.split()) for text in told if text.strip()]
    return {"kind": kind, "name": name, "about": paragraphs, "settings": settings}


def _recipe(name: str) -> dict[str, Any]:
    """Describe a recipe: its parts are settings of [retrain], whose defaults it sets."""
    found = recipe(name)
    about = [found.about, f"Source: {found.source}"] + ([f"Ours: {found.ours}"] if found.ours else [])
    words = argument_texts(Retraining)
    settings = [
        {
            "name": f"retrain.{field.name}",
            "type": str(field.type),
            "default": getattr(found.parts, field.name),
            "needed": False,
            "about": words[field.name],
        }
        for field in fields(found.parts)
    ]
    return {"kind": "recipe", "name": name, "about": about, "settings": settings}


def component_lines(facts: dict[str, Any]) -> list[str]:
    """Format what `describe_component` returns for people."""
    told = [f"{facts['kind']} {facts['name']}", ""]
    for paragraph in facts["about"]:
        told += [*textwrap.wrap(paragraph, 100), ""]
    if not facts["settings"]:
        return [*told, "It has no settings."]
    for setting in facts["settings"]:
        default = "needed" if setting["needed"] else f"default {setting['default']!r}"
        told.append(f"  {setting['name']}: {setting['type']}, {default}")
        told += [f"      {line}" for line in textwrap.wrap(setting["about"], 94)]
    return told


def describe(space: str, text: str | None, given: dict[str, Any]) -> Described:
    """Describe a space, or its architecture `text`.

    Settings that are not `given` are those of a published architecture, or the defaults. Raises InputError for an unknown name
    or setting, and for a text that is no architecture.
    """
    known = published(space, text) if text else None
    settings = (dict(known.settings) if known else {}) | given
    factory = find_space(space)
    if ":" in space:
        settings = {"image": _OWN_IMAGE, "classes": _OWN_CLASSES} | settings
    checked = keywords(factory, settings, "space")
    image, classes = tuple(checked.pop("image")), checked.pop("classes")
    if len(image) != 3 or min(image) < 1 or classes < 1:
        raise InputError(
            f"image = {list(image)}, classes = {classes}; write image=channels,height,width and a number of classes"
        )
    made = make_space(space, checked, image, classes)
    architecture = find_architecture(made, text) if text is not None else None
    shape = {field.name: getattr(made, field.name) for field in fields(made)} if is_dataclass(made) else checked
    facts: dict[str, Any] = {"space": space, "settings": {**shape, "image": list(image), "classes": classes}}
    if architecture is None:
        facts |= {
            "proxy": {"size": min(image[1:]), **made.extent},
            "choices": [{"name": c.name, "options": list(c.options)} for c in made.choices],
            "architectures": made.architectures,
            "published": {name: dict(p.settings) for name, p in made.published.items()},
        }
    else:
        facts |= {
            "architecture": list(architecture),
            "notation": made.format(architecture),
            "parameters": made.parameters(architecture),
            "macs": made.macs(architecture),
            "drawings": {title: graph.dot(title) for title, graph in made.drawing(architecture).items()},
        }
        if known:
            facts["source"] = known.source
    return Described(made, architecture, facts)


def lines(described: Described) -> list[str]:
    """Format a description for people."""
    space, facts = described.space, described.facts
    settings = ", ".join(f"{key} = {_plain(value)}" for key, value in facts["settings"].items() if value is not None)
    told = [f"{facts['space']}: {settings}", ""]
    if described.architecture is None:
        doc = (space.factory if isinstance(space, OwnSpace) else type(space)).__doc__ or ""
        told += [" ".join(line.strip() for line in doc.split("\n\n")[0].splitlines()), ""]
        told.append(f"{size(space)} architectures")
        groups: dict[tuple[str, ...], list[str]] = {}
        for choice in space.choices:
            groups.setdefault(choice.options, []).append(choice.name)
        for options, choices in groups.items():
            named = ", ".join(choices) if len(choices) <= 6 else f"{', '.join(choices[:3])}, ... {choices[-1]}"
            told.append(f"  {len(choices)} of {len(options)}: {', '.join(options)}")
            told.append(f"      {named}")
        shrinks = ", ".join(f"{key} from {value}" for key, value in facts["proxy"].items())
        told += ["", f"a proxy can go down with {shrinks}"]
        if space.published:
            told += ["", f"published: {', '.join(space.published)}"]
        return told
    told += [facts["notation"], ""]
    told += [f"parameters  {facts['parameters']:>15,}", f"MACs        {facts['macs']:>15,}   for one image", ""]
    if "source" in facts:
        told += [f"source: {facts['source']}", ""]
    drawings = space.drawing(described.architecture)
    for title, graph in list(drawings.items())[:4]:
        told += [title, *(f"  {line}" for line in graph.lines())]
    if len(drawings) > 4:
        told.append(f"... and {len(drawings) - 4} more parts; --out writes pictures of all")
    return told


def write(described: Described, folder: Path) -> list[Path]:
    """Write a PNG and a DOT file of each part of an architecture."""
    from analysis import drawing, plots

    assert described.architecture is not None
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with plots.style():
        for title, graph in described.space.drawing(described.architecture).items():
            path = folder / f"{title.replace(' ', '-')}.png"
            drawing.figure(graph).savefig(path, dpi=200)
            path.with_suffix(".dot").write_text(graph.dot(title))
            written.append(path)
    return written


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
