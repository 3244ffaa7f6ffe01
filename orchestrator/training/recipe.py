"""Recipes by name: a TOML file each in `recipes/`, with the parts that differ from the plain one and where they are from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError
from orchestrator.registry import nearest
from orchestrator.training.parts import Parts

FOLDER = Path(__file__).with_name("recipes")
PLAIN = "plain"
"""The recipe where none is named."""


@dataclass(frozen=True)
class Recipe:
    """Training as a paper describes it.

    Args:
        name: Name of its file.
        about: One sentence.
        source: Paper and section, or the authors' code.
        ours: Where it departs from the source, or the source is silent; "" for nowhere.
        parts: All parts.
    """

    name: str
    about: str
    source: str
    ours: str
    parts: Parts


def names() -> list[str]:
    """List the recipes, the plain one first."""
    found = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return sorted(found, key=lambda name: name != PLAIN)


@cache
def recipe(name: str) -> Recipe:
    """Read a recipe. Raises InputError for an unknown name."""
    if name not in names():
        raise InputError(f"unknown recipe retrain.recipe = {name!r}{nearest(name, names())}")
    values = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.get("parts", {}).items()
    }
    return Recipe(name, values["about"], values["source"], values.get("ours", ""), Parts(**given))
