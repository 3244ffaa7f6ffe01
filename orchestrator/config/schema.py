"""JSON Schema of experiment files, made from the signatures and docstrings that check them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

from orchestrator.config.experiment import EVALUATORS, Experiment, find_searcher
from orchestrator.config.problem import CLASSIFY, GOALS, Goal, objective_class, supplied_of
from orchestrator.config.settings import AUTO, Budget, Front, Logging, Proxy, Retraining, Sweep, Workers
from orchestrator.config.spaces import FROM_DATA, find_space
from orchestrator.data import loaders
from orchestrator.data.dataset import Split
from orchestrator.errors import InputError
from orchestrator.evaluators.base import Evaluator
from orchestrator.registry import argument_texts, find, first_sentence, known, user_parameters
from orchestrator.tasks import Task
from orchestrator.training.recipe import names as recipe_names

Schema = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
"""Version of JSON Schema that editors of TOML know."""
_OWN = {"type": "string", "pattern": ":", "description": "module:name of your own"}


def experiment_schema() -> Schema:
    """Return the schema of an experiment file: all sections with the settings of whatever they can name.

    No section is required, as some may be left to the command line.
    Components of installed packages are in it; what is written `module:name` may have any settings.
    """
    about = argument_texts(Experiment)
    sections: dict[str, Schema] = {
        "data": _named("data", {name: _loader(name) for name in loaders.LOADERS}),
        "task": {"anyOf": [{"enum": _findable("task", _task)}, _OWN, _named("task", _tasks(), CLASSIFY)]},
        "space": _named("space", {name: settings(find_space(name), FROM_DATA) for name in _findable("space", find_space)}),
        "proxy": {"anyOf": [settings(Proxy), {"type": "array", "items": settings(Proxy), "minItems": 1}, {"const": AUTO}]},
        "searcher": _named(
            "searcher",
            {name: _searcher(name) for name in _findable("searcher", find_searcher)},
            shared={"start_from": _value(str | tuple[str, ...]) | {"description": about["start_from"]}},
        ),
        "objectives": _objectives(),
        "training": _training(),
        "budget": settings(Budget),
        "front": settings(Front),
        "sweep": settings(Sweep),
        "workers": settings(Workers),
        "retrain": settings(Retraining),
        "logging": settings(Logging),
    }
    sections["retrain"]["properties"]["recipe"] |= {"enum": recipe_names()}
    for name, section in sections.items():
        section["description"] = about[name]
    seed = {"type": "integer", "minimum": 0, "default": 0, "description": about["seed"]}
    return {
        "$schema": DIALECT,
        "title": f"experiment of paretoray {version('paretoray')}",
        "type": "object",
        "properties": {"seed": seed, **sections},
        "additionalProperties": False,
    }


def settings(factory: Callable[..., Any], supplied: Iterable[str] = (), more: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of the settings of a class or function: types, bounds, defaults, and descriptions.

    Args:
        factory: The class or function.
        supplied: Parameters that are not for the user to set.
        more: Further settings.
    """
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    texts, properties, needed = argument_texts(factory), {}, []
    for name, parameter in user_parameters(factory, set(supplied)).items():
        properties[name] = _value(hints.get(name, Any)) | ({"description": texts[name]} if texts.get(name) else {})
        if parameter.default is parameter.empty:
            needed.append(name)
        elif parameter.default is not None and (default := _plain(parameter.default)) is not None:
            properties[name]["default"] = default
    found: Schema = {"type": "object", "properties": {**properties, **(more or {})}, "additionalProperties": False}
    found |= {"required": needed} if needed else {}
    if about := first_sentence(inspect.getdoc(factory) or ""):
        found["description"] = about
    return found


def _value(hint: Any) -> Schema:
    """Return the schema of a type, without None, which TOML does not have; of what JSON does not know, anything."""
    try:
        schema = TypeAdapter(hint).json_schema()
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):
        return {}
    options = schema.get("anyOf")
    if options is not None:
        options = [option for option in options if option != {"type": "null"}]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        schema = rest | (options[0] if len(options) == 1 else {"anyOf": options})
    return dict(schema)


def _plain(default: Any) -> Any:
    try:
        return json.loads(json.dumps(default, allow_nan=False))
    except (TypeError, ValueError):
        return None


def _findable(kind: str, finder: Callable[[str], Any]) -> list[str]:
    """List the names of a kind whose code can be imported."""
    found = []
    for name in known(kind):
        with suppress(InputError):  # of an installed package that is broken
            finder(name)
            found.append(name)
    return found


def _named(
    section: str, options: Mapping[str, Schema], default: str | None = None, shared: Mapping[str, Schema] | None = None
) -> Schema:
    """Return the schema of a section whose `name` decides which settings it takes, besides those that are shared by all."""
    branches = []
    for name, schema in options.items():
        key = {"const": name, "description": schema.get("description", "")}
        needed = ([] if name == default else ["name"]) + schema.get("required", [])
        branches.append({**schema, "properties": {"name": key, **schema["properties"], **(shared or {})}, "required": needed})
    branches.append(
        {"type": "object", "properties": {"name": _OWN}, "required": ["name"], "description": f"a {section} of your own"}
    )
    return {"type": "object", "oneOf": branches}


def _loader(name: str) -> Schema:
    loader = loaders.LOADERS[name]
    return settings(loader, (), settings(Split)["properties"])


def _searcher(name: str) -> Schema:
    method = find_searcher(name)
    return settings(method, ("sizes", *method.needs))


def _task(name: str) -> Callable[..., Any]:
    return find("task", name, Task)


def _tasks() -> dict[str, Schema]:
    return {name: settings(_task(name)) for name in _findable("task", _task)}


def _training() -> Schema:
    found: dict[str, Callable[..., Any]] = dict(EVALUATORS)
    for name in known("evaluator"):
        with suppress(InputError):  # of an installed package that is broken
            found[name] = find("evaluator", name, Evaluator)
    return _named("training", {name: settings(cls, Evaluator.SUPPLIED) for name, cls in found.items()}, "supernet")


def _objectives() -> Schema:
    texts = argument_texts(Goal)
    positive = {"type": "number", "exclusiveMinimum": 0}
    goals = {
        "at_most": positive | {"description": texts["at_most"]},
        "target": positive | {"description": texts["target"]},
        "dear": {"type": "boolean", "default": False, "description": texts["dear"]},
    }
    assert set(goals) == set(GOALS)

    def of(name: str) -> Schema:
        factory = objective_class(name)
        return settings(factory, supplied_of(factory), goals)

    names = [name for name in _findable("objective", objective_class) if name != "command"]  # which has a name of its own
    listed = {written: of(name) for name in names for written in {name, name.replace("-", "_")}}
    patterns = {"^(latency|energy)@": of("latency@device"), "^command@": of("command@name")}
    return {
        "type": "object",
        "properties": listed,
        "patternProperties": patterns | {"^[^@]*:": {"type": "object", "description": "an objective of your own"}},
        "required": ["error"],
        "minProperties": 2,
        "additionalProperties": False,
    }
