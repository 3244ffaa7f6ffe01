"""`paretoray describe` and `list`, which say what can be written into an experiment."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from orchestrator.commands.base import Answer, Command, Word
from orchestrator.commands.candidates import Settings, names
from orchestrator.errors import InputError


@click.command(cls=Command)
@click.argument(
    "space",
    metavar="SPACE|SEARCHER|OBJECTIVE|RECIPE",
    shell_complete=names("space", "searcher", "objective", "recipe"),
)
@click.argument(
    "arguments",
    nargs=-1,
    metavar="[ARCHITECTURE or published name] [key=value ...]",
    shell_complete=Settings("space", bare="space"),
)
@click.option("--kind", type=Word(["space", "searcher", "objective", "recipe"]), help="Kind of the name, if several have it.")
@click.option("--out", type=click.Path(path_type=Path), help="Draw the architecture: a PNG and a DOT file for each part.")
def describe(space: str, arguments: tuple[str, ...], kind: str | None, out: Path | None) -> Answer:
    """Describe a space, one of its networks, or anything else by name.

    Of a space it prints choices, size and published networks; of a network its notation, parameters, MACs and structure; of a
    searcher or an objective what it does, and its settings; of a recipe of training its parts.

    A name that a space, a searcher and a recipe share is the space's; --kind describes the others.

    \b
    paretoray describe nsga2
    paretoray describe darts --kind searcher
    paretoray describe darts --kind recipe
    paretoray describe darts
    paretoray describe darts DARTS_V2 channels=36 cells=20 --json
    paretoray describe proxyless PROXYLESS_GPU --out pictures
    paretoray describe my_network:build image=1,8,8 classes=10
    """
    from orchestrator import describe as descriptions
    from orchestrator.config import overrides
    from orchestrator.config.spaces import find_space
    from orchestrator.registry import known, nearest, user_parameters
    from orchestrator.training.recipe import names as recipe_names

    kinds = [k for k in ("space", "searcher", "objective") if space in known(k)]
    kinds += ["recipe"] if space in recipe_names() else []
    if not kinds and kind is None and ":" not in space and "@" not in space:
        everything = [*known("space"), *known("searcher"), *known("objective"), *recipe_names()]
        raise InputError(f"there is no space, searcher, objective or recipe {space!r}{nearest(space, everything)}")
    kind = kind or (kinds[0] if kinds else "objective" if "@" in space else "space")
    if kind != "space":
        if arguments or out is not None:
            raise InputError(f"{space} is a {kind}, which has no architectures; write its name alone, or --kind space")
        facts = descriptions.describe_component(kind, space)
        return Answer(facts, descriptions.component_lines(facts))
    # A notation may hold an equals sign itself, as a genotype does; a setting begins with its name and one.
    keys = user_parameters(find_space(space), ())
    settings = [a for a in arguments if a.partition("=")[0] in keys and "=" in a]
    wrong = [a for a in arguments if a not in settings and re.match(r"[A-Za-z_]\w*=", a) and "|" not in a]
    if wrong and ":" not in space:  # only notations of users' own spaces begin like that
        settings += wrong
    named = [a for a in arguments if a not in settings]
    if len(named) > 1:
        raise InputError(f"expected one architecture and settings as key=value; got {' '.join(map(shlex.quote, named))}")
    described = descriptions.describe(space, named[0] if named else None, overrides.settings(settings))
    if out is not None and described.architecture is None:
        raise InputError("--out draws an architecture: name one, or write its notation")
    pictures = descriptions.write(described, out) if out is not None else []
    text = [*descriptions.lines(described), *(f"drawn: {path}" for path in pictures)]
    others = [k for k in kinds if k != "space"]
    if others:
        text.append(f"\n{space} is a {others[0]}, too: paretoray describe {space} --kind {others[0]}")
    return Answer({**described.facts, "pictures": pictures, "other_kinds": others}, text)


@click.command("list", cls=Command)
@click.argument(
    "what", type=Word(["searchers", "spaces", "objectives", "evaluators", "tasks", "devices", "datasets", "recipes"])
)
def list_names(what: str) -> Answer:
    """Print the names that an experiment may use.

    On a terminal each comes with a sentence, otherwise they come alone, one per line.

    `paretoray describe` has the settings of searchers, objectives and spaces, and the parts of recipes.

    \b
    paretoray list searchers
    paretoray list recipes --json
    """
    described = _listed(what)
    facts = {what: [{"name": name, "about": text} for name, text in described.items()]}
    if not sys.stdout.isatty():
        return Answer(facts, list(described))
    table = Table.grid(padding=(0, 2))
    for name, text in described.items():
        table.add_row(escape(name), escape(text))
    return Answer(facts, [table])


def _listed(what: str) -> dict[str, str]:
    from orchestrator import registry

    if what == "devices":
        from hw_profiles import profile

        def measured(path: Path) -> str:
            first = profile.read(path)[0]
            threads = first.protocol.get("threads")
            how = [first.protocol["runtime"].split()[0], f"{threads} thread{'s' * (threads > 1)}"] if threads else []
            return ", ".join([first.hardware, *how])

        return {name: measured(path) for name, path in profile.devices().items()}
    if what == "datasets":
        from orchestrator.data import loaders

        return {name: registry.first_sentence(load.__doc__ or "") for name, load in loaders.LOADERS.items()}
    if what == "recipes":
        from orchestrator.training.recipe import names, recipe

        return {name: recipe(name).about for name in names()}
    if what == "evaluators":
        from orchestrator.config.experiment import EVALUATORS

        ours = {name: registry.first_sentence(cls.__doc__ or "") for name, cls in EVALUATORS.items()}
        return ours | registry.summaries("evaluator")
    return registry.summaries(what.removesuffix("s"))
