import re
import sys
from dataclasses import fields, replace
from typing import Any

import pytest

from orchestrator.config.overrides import read
from orchestrator.config.settings import Retraining
from orchestrator.data.dataset import Dataset, Part
from orchestrator.errors import InputError
from orchestrator.search.retraining import check
from orchestrator.training.parts import Parts
from orchestrator.training.recipe import names, recipe
from tests.helpers import call, tiny_plan


def test_recipes_have_the_numbers_of_their_sources() -> None:
    darts = recipe("darts").parts
    cells = {"epochs": 600, "drop_path": 0.2, "auxiliary": 0.4, "cutout": 16}
    assert darts.changed == cells == recipe("nasp").parts.changed == recipe("ddpnas").parts.changed
    assert recipe("nsga-net").parts == darts
    assert recipe("tnd-nas").parts == replace(darts, epochs=800, batch=128, drop_path=0.3)
    assert recipe("nsga-net-macro").parts.changed == {"epochs": 350, "batch": 128, "cutout": 16}
    proxyless = recipe("proxyless").parts
    assert (proxyless.epochs, proxyless.lr, proxyless.weight_decay, proxyless.label_smoothing) == (300, 0.05, 4e-5, 0.1)
    assert proxyless.nesterov and not proxyless.decay_norm and not proxyless.clip
    imagenet = recipe("imagenet").parts
    assert (imagenet.schedule, imagenet.step_factor, imagenet.batch, imagenet.auxiliary) == ("step", 0.97, 128, 0.4)
    assert recipe("plain").parts == Parts() and names()[0] == "plain"


@pytest.mark.parametrize("name", names())
def test_every_recipe_is_described(name: str) -> None:
    result = call("describe", name, "--kind", "recipe")
    assert result.exit_code == 0 and recipe(name).about in result.output.replace("\n", " "), result.output
    assert "Source:" in result.output and f"retrain.epochs: int, default {recipe(name).parts.epochs}" in result.output
    assert name in call("list", "recipes").output.splitlines()


def test_a_key_for_every_part() -> None:
    assert {f.name for f in fields(Parts)} == {f.name for f in fields(Retraining)} - {
        "members", "also", "seeds", "workers", "recipe", "teacher",
    }  # fmt: skip


def test_a_recipe_replaces_the_parts_that_were_set_before_it_and_not_those_beside_it() -> None:
    parts = read(None, ["retrain.cutout=2", "retrain.recipe=darts"]).retrain.parts
    assert (parts.epochs, parts.batch, parts.cutout) == (600, 96, 2), "the built-in experiment has 20 epochs of 32"
    assert read(None, ["retrain.recipe=plain"]).retrain.parts == Parts()
    assert read(None, []).retrain.parts.epochs == 20
    again = read(None, ["retrain.recipe=darts", "retrain.cutout=0"])
    assert again.retrain.parts.cutout == 0 and again.to_dict()["retrain"]["recipe"] == "darts"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "dart"}, "did you mean 'darts'?"),
        ({"nesterov": True, "momentum": 0}, "retrain.nesterov = True: it needs a momentum"),
        ({"recipe": "proxyless", "optimizer": "adamw"}, "retrain.nesterov = True (of the recipe proxyless): optimizer = adamw"),
        ({"optimizer": "adamw", "momentum": 0.9}, "retrain.momentum = 0.9: AdamW has none"),
        ({"warmup": 100}, "leaves nothing of 100 epochs"),
        ({"jitter": [0.4]}, "write four"),
        ({"jitter": [0.4, 0.4, 0.4, 0.6]}, "hue, is 0.5 at most"),
        ({"step_factor": 0.5}, "write schedule = step"),
        ({"temperature": 2}, "it belongs to distill"),
        ({"teacher": "network.pt"}, "nothing is distilled from it"),
        ({"cutout": -1}, "retrain.cutout = -1: must be at least 0"),
        ({"drop_path": 1}, "retrain.drop_path = 1: must be below 1"),
        ({"batch": 9, "workers": 2}, "2 workers take equal shares; write 8"),
        ({"schedule": "cosin"}, "must be 'cosine', 'linear', 'step' or 'constant'"),
    ],
)
def test_parts_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Retraining(**given)


TINY_SPACE = {"name": "nsga-net-macro"}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"retrain": {"recipe": "darts"}}, "retrain.cutout = 16 (of the recipe darts): a square of 16 pixels leaves nothing"),
        ({"retrain": {"auxiliary": 0.4}, "space": {"name": "digits-tiny"}}, "digits-tiny has no place for a second classifier"),
        ({"retrain": {"drop_path": 0.2}, "space": TINY_SPACE}, "have no paths beside others"),
        ({"retrain": {"workers": 2}}, "retrain.workers = 2 needs Ray"),
        ({"retrain": {"distill": 0.5}}, "no larger network here to distil from"),
        ({"retrain": {"distill": 0.5, "teacher": "nowhere.pt"}}, "nowhere.pt is missing"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused_before_anything_starts(
    digits: Dataset, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check(tiny_plan(digits, searcher={"name": "random-search", "samples": 4}, **sections), teaching=False)


def test_compiling_needs_a_compiler(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan(digits, retrain={"compile": True})
    monkeypatch.setenv("CXX", sys.executable)
    check(plan)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"there is no no-such-compiler; .* or write retrain\.compile=false"):
        check(plan)


def test_colours_are_changed_of_colours_only(digits: Dataset) -> None:
    two = [Part(part.images.repeat(1, 2, 1, 1), part.labels) for part in (digits.train, digits.valid, digits.test)]
    data = replace(digits, train=two[0], valid=two[1], test=two[2], mean=digits.mean * 2, std=digits.std * 2)
    with pytest.raises(InputError, match=r"these images have 2 channels; write retrain\.randaugment=0"):
        check(tiny_plan(data, retrain={"randaugment": 9}))
