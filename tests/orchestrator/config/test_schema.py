"""The JSON Schema of experiment files agrees with what the program accepts, and refuses what it refuses."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator.config.experiment import DEFAULT, EVALUATORS, Experiment
from orchestrator.config.schema import experiment_schema
from orchestrator.errors import InputError
from orchestrator.registry import known
from orchestrator.training.recipe import names as recipes
from tests.helpers import TINY, call, tiny

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    schema = experiment_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def changed(key: str, value: Any) -> dict[str, Any]:
    """The built-in experiment with one key more or another one."""
    experiment = json.loads(json.dumps(DEFAULT))
    *sections, name = key.split("/")
    place = experiment
    for section in sections:
        place = place.setdefault(section, {})
    place[name] = value
    return experiment


def of_docs() -> list[dict[str, Any]]:
    """Experiment files of the pages: those that name data and a space."""
    blocks = [
        b for page in sorted(DOCS.glob("*.md")) for b in re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.M | re.S)
    ]
    return [read for block in blocks if {"data", "space"} <= (read := tomllib.loads(block)).keys()]


def test_shipped_examples_pass(validator: jsonschema.Draft7Validator) -> None:
    documented = of_docs()
    assert documented, "docs/experiment.md has one"
    for experiment in (DEFAULT, TINY, tomllib.loads(tiny().to_toml()), *documented):
        validator.validate(experiment)
    Experiment.from_dict(documented[0])


@pytest.mark.parametrize("kind", ["searcher", "space", "objective", "training", "recipe"])
def test_whatever_is_shipped_passes_with_all_of_its_defaults(validator: jsonschema.Draft7Validator, kind: str) -> None:
    names = {"training": list(EVALUATORS), "recipe": recipes()}.get(kind) or known(kind)
    for name in names:
        if name == "command":  # is written command@NAME
            continue
        if kind == "objective":
            given = changed("objectives", {"error": {}, "parameters": {}, name: {}})
        elif kind == "recipe":
            given = changed("retrain", {"recipe": name})
        else:
            given = changed(kind, {"name": name})
        if kind == "training" and name != "supernet":
            given["searcher"] = {"name": "random-search"}
        validator.validate(given)
        validator.validate(tomllib.loads(Experiment.from_dict(given).to_toml()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("budgets/epochs", 5),
        ("budget/epoch", 5),
        ("budget/epochs", -1),
        ("budget/interval", 1.5),
        ("data/valdi", 0.5),
        ("data/name", "cifar11"),
        ("space/chanels", 4),
        ("searcher/sampels", 4),
        ("searcher/samples", "many"),
        ("searcher/population", 40),  # of another method
        ("objectives/latency/at_mots", 5.0),
        ("objectives/latency/at_most", -5.0),
        ("objectives/latensy", {}),
        ("objectives/latency@pixel3/batches", 2),
        ("training/btach", 32),
        ("proxy/sise", 8),
        ("workers/counts", 2),
        ("front/judge", "yes, please"),
        ("retrain/recipe", "dats"),
        ("retrain/schedule", "cosinus"),
        ("logging/wandb", "sometimes"),
        ("logging/tensorbord", False),
        ("task", "regresion"),
        ("task/metrc", "top5"),
        ("seed", -1),
    ],
)
def test_what_the_program_refuses_does_not_pass(validator: jsonschema.Draft7Validator, key: str, value: Any) -> None:
    given = changed(key, value)
    assert not validator.is_valid(given)
    with pytest.raises(InputError):
        Experiment.from_dict(given)


def test_what_is_named_by_module_and_device_passes(validator: jsonschema.Draft7Validator) -> None:
    for key, value in (
        ("searcher", {"name": "my_module:Mine", "anything": 1}),
        ("searcher/start_from", "runs/photos"),
        ("searcher/start_from", ["conv3-skip-sep3-res3"]),
        ("data", {"name": "scans:load", "part": "left"}),
        ("objectives/my_module:cost", {"unit": "ms"}),
        ("objectives/latency@pixel3", {"at_most": 20.0}),
        ("objectives/command@board", {"command": "ssh board measure {onnx}", "unit": "ms"}),
        ("task", "regression"),
        ("task", "my_module:Counting"),
        ("task", {"name": "multi-label", "metric": "f1"}),
        ("task/class_weights", "balanced"),
        ("front/scores", "naswot"),
        ("retrain/also", 4),
        ("proxy", "auto"),
        ("proxy", {"without": "cat"}),
    ):
        errors = [error.message for error in validator.iter_errors(changed(key, value))]
        assert not errors, (key, errors)


def test_settings_have_descriptions_bounds_and_defaults(validator: jsonschema.Draft7Validator) -> None:
    properties = validator.schema["properties"]
    epochs = properties["budget"]["properties"]["epochs"]
    assert epochs["exclusiveMinimum"] == 0 and epochs["default"] == 75.0 and "training set" in epochs["description"]
    (nsga2,) = [o for o in properties["searcher"]["oneOf"] if o["properties"]["name"].get("const") == "nsga2"]
    assert nsga2["properties"]["population"]["type"] == "integer" and nsga2["properties"]["population"]["description"]
    assert "sizes" not in nsga2["properties"], "what the program supplies is not for users"
    undescribed = [
        (section, key)
        for section in ("budget", "front", "sweep", "workers", "retrain", "logging")
        for key, value in properties[section]["properties"].items()
        if not value.get("description")
    ]
    assert not undescribed


def test_the_command_writes_it(validator: jsonschema.Draft7Validator, tmp_path: Path) -> None:
    assert json.loads(call("schema").stdout) == validator.schema
    result = call("schema", "--out", tmp_path / "experiment.schema.json")
    assert result.exit_code == 0 and "#:schema experiment.schema.json" in result.output
    assert json.loads((tmp_path / "experiment.schema.json").read_text()) == validator.schema
