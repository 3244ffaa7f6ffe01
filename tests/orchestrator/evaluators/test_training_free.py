"""Training-free scores: their definitions by hand, every space, networks of all kinds, and the ways to ask for them."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.config.plan import SearchPlan
from orchestrator.data.dataset import Dataset, Part
from orchestrator.errors import InputError
from orchestrator.evaluators import training_free
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.evaluators.training_free import (
    SCORES,
    Images,
    NoValue,
    TrainingFree,
    feature_maps,
    jacob_cov,
    score_network,
    spectral_entropy,
    zico,
)
from tests.fakes import DIGITS_TINY, FAKE, fake_table
from tests.helpers import call, tiny_plan, write_toml
from tests.orchestrator.spaces.small import SPACES, drawn, small

BATCH = 8


def images(*shape: int) -> Images:
    chance = torch.Generator().manual_seed(0)
    first, second, noise = (torch.randn(BATCH, *shape, generator=chance) for _ in range(3))
    return Images((first, second), (torch.arange(BATCH) % 2, torch.arange(BATCH) % 3 % 2), noise)


def values(network: nn.Module, *names: str, shape: tuple[int, ...] = (3, 6, 6)) -> list[float]:
    scored = score_network(network, images(*shape), names)
    return [scored.values[name] for name in names]


def test_gradients_of_a_linear_network_are_all_alike_and_orthogonal_ones_score_most() -> None:
    k = 1e-5
    alike = -(math.log(BATCH + k) + 1 / (BATCH + k) + (BATCH - 1) * (math.log(k) + 1 / k))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    assert values(linear, "jacob_cov", shape=(3, 2, 2)) == [pytest.approx(alike, rel=1e-6)]
    apart = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]])  # correlations of 0
    assert jacob_cov(apart) == pytest.approx(-2 * (math.log(1 + k) + 1 / (1 + k)))
    with pytest.raises(NoValue, match="the same for all pixels"):
        jacob_cov(np.array([[1.0, 1], [0, 1]]))


def test_naswot_counts_the_relus_in_the_same_state() -> None:
    x = torch.tensor([[1.0, 1, -1, -1, 1], [1, -1, 1, -1, 1]])  # two of five states differ
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 2))
    scored = score_network(network, Images((x, x), (torch.tensor([0, 1]),) * 2, x), ["naswot"])
    assert scored.values["naswot"] == pytest.approx(math.log(5 * 5 - 3 * 3))
    assert x[0, 2] == -1, "images are not overwritten"
    same = x[[0, 0]]
    scored = score_network(network, Images((same, same), (torch.tensor([0, 1]),) * 2, same), ["naswot"])
    assert math.isnan(scored.values["naswot"]) and "states of its ReLUs" in scored.reasons["naswot"]


def test_synflow_of_two_layers_is_twice_the_flow_and_passes_normalisation_by() -> None:
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1, bias=False)
    )
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
        network[4].weight.copy_(torch.tensor([[-5.0, 0.5]]))
    flow = 5 * (1 + 2) + 0.5 * (3 + 4)
    assert values(network, "synflow", shape=(2, 1, 1)) == [pytest.approx(math.log(2 * flow))]
    assert network[1].weight[0, 1] == -2, "the network keeps its weights"


def test_zico_is_mean_over_deviation_of_gradients() -> None:
    two = torch.tensor([[1.0, 2.0], [3.0, 2.0]])  # the second does not differ, and does not count
    three = torch.tensor([[[0.0]], [[4.0]]])
    assert zico([two, three]) == pytest.approx(math.log(2 / 1) + math.log(2 / 2))
    with pytest.raises(NoValue):
        zico([two[:, 1:]])
    given, network = images(3, 2, 2), nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    found = score_network(network, given, ["zico"]).values["zico"]
    weight = network[1].weight.detach().double().numpy()
    gradients = []
    for x, y in zip(given.batches, given.labels, strict=True):
        pixels = x.flatten(1).double().numpy()
        odds = np.exp(pixels @ weight.T)
        wrong = odds / odds.sum(axis=1, keepdims=True) - np.eye(2)[y.numpy()]
        gradients.append(wrong.T @ pixels / BATCH)
    ratio = np.abs(gradients).mean(axis=0) / np.std(gradients, axis=0)
    assert found == pytest.approx(math.log(ratio.sum()), rel=1e-4)


def test_parts_of_az_nas() -> None:
    two = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1]]).view(1, 2, 2, 2)  # channels of equal variance that do not correlate
    assert spectral_entropy(two) == pytest.approx(math.log(2), abs=1e-6)
    assert spectral_entropy(two[:, [0, 0]]) == pytest.approx(0, abs=1e-6)
    x = torch.randn(4, 1, 4, 4, requires_grad=True)
    assert training_free._trainability([x, 3 * x]) == pytest.approx(2 - 3 - 1 / 3, abs=1e-5)
    halved = functional.avg_pool2d(x, 2) * 2  # half of each sign goes to each of four pixels: a vector of norm 1
    assert training_free._trainability([x, halved]) == pytest.approx(0, abs=1e-5)
    odd = torch.randn(4, 1, 5, 5, requires_grad=True)
    assert np.isfinite(training_free._trainability([odd, functional.avg_pool2d(odd, 2, ceil_mode=True)]))
    with pytest.raises(NoValue, match="identity"):
        training_free._trainability([x, x.clone()])


def test_blocks_are_stem_and_cells_and_an_identity_is_none() -> None:
    space = small("nas-bench-201", cells=2)
    convolutions, skips = space.network((3,) * 6), space.network((0, 0, 0, 1, 0, 0))
    x = torch.randn(2, 1, 8, 8)
    assert [f.shape[1] for f in feature_maps(convolutions, x)] == [4, 4, 4, 8, 8, 8, 16, 16, 16]
    assert [f.shape[1] for f in feature_maps(skips, x)] == [4, 8, 16], "cells that return their input are no blocks"
    assert [f.shape[1] for f in feature_maps(nn.Sequential(convolutions), x)] == [4, 4, 4, 8, 8, 8, 16, 16, 16]


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_scores_that_the_seed_decides(name: str, digits: Dataset) -> None:
    space = small(name)
    if space.image != digits.image:
        larger = functional.interpolate(digits.train.images.float(), space.image[1:]).to(torch.uint8)
        digits = replace(digits, train=Part(larger, digits.train.labels))
    (architecture,) = drawn(space, 1)
    first, other = (TrainingFree(space, digits, batch=BATCH, seed=seed).score(architecture) for seed in (0, 1))
    assert not first.reasons and list(first.values) == list(SCORES)
    assert all(first.values[name] != other.values[name] for name in SCORES)


class Own(nn.Module):
    """A network of somebody's own.

    Args:
        functions: Whether its ReLU is a function.
        inplace: Whether its ReLU overwrites its input.
        auxiliary: Whether it returns a second output in training.
    """

    def __init__(self, functions: bool = False, inplace: bool = False, auxiliary: bool = False, relu: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace) if relu and not functions else nn.Identity()
        self.functions, self.inplace, self.auxiliary = functions, inplace, auxiliary
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Any:
        x = self.relu(self.first(x))
        if self.functions:
            x = functional.relu(x, inplace=self.inplace)
        y = self.last(self.dropout(self.second(x).mean(dim=(2, 3))))
        return (y, x.sum()) if self.auxiliary and self.training else y


@pytest.mark.parametrize(
    "kind", [{"inplace": True}, {"functions": True}, {"functions": True, "inplace": True}, {"auxiliary": True}]
)
def test_networks_that_compute_the_same_score_the_same(kind: dict[str, bool]) -> None:
    torch.manual_seed(0)
    plain = Own()
    other = Own(**kind)
    other.load_state_dict(plain.state_dict())
    names = ("jacob_cov", "naswot", "synflow", "zico")
    assert values(other, *names) == pytest.approx(values(plain, *names)) and np.isfinite(values(plain, *SCORES)).all()


def test_relus_that_do_not_reach_the_output_do_not_count() -> None:
    class Dead(Own):
        def forward(self, x: Tensor) -> Any:
            functional.relu(x)
            return super().forward(x)

    torch.manual_seed(0)
    assert values(Dead(), "naswot") == values(Own(), "naswot")


def test_what_has_no_value_is_warned_of_once_and_ends_nothing(
    digits: Dataset, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = small("nas-bench-201")
    dead, alive = (0,) * 6, (3,) * 6
    with caplog.at_level(logging.WARNING):
        found = TrainingFree(space, digits, ["jacob_cov", "synflow", "naswot"], batch=BATCH)([dead, alive, (0,) * 5 + (1,)])
    assert np.isnan(found[[0, 2]]).all() and np.isfinite(found[1]).all()
    warned = [record.message for record in caplog.records]
    assert len(warned) == 3 and all("for 2 of 3 networks" in text and space.format(dead) in text for text in warned)
    assert any("does not depend on the image" in text for text in warned)
    scored = score_network(Own(relu=False), images(3, 6, 6), SCORES)
    assert [name for name, value in scored.values.items() if math.isnan(value)] == ["naswot"]
    scored = score_network(nn.Linear(5, 2), images(3, 6, 6), SCORES)
    assert all(map(math.isnan, scored.values.values())) and "shapes cannot be multiplied" in scored.reasons["zico"]


def test_equal_networks_are_scored_once(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan(digits, space={"name": "nas-bench-macro", "channels": 4, "mix": 8}, searcher={"name": "random-search"})
    evaluator, space = plan.build_evaluator(), plan.problem.space
    a, b, same = (1, 1, 1, 0, 1, 1, 1, 1), (1,) * 8, (1, 1, 1, 1, 0, 1, 1, 1)  # an identity does nothing wherever it stands
    built: list[Any] = []
    network = type(space).network
    monkeypatch.setattr(
        type(space), "network", lambda self, architecture: built.append(architecture) or network(self, architecture)
    )
    found = evaluator.score([a, b, same], ["synflow", "zico"])
    assert built == [a, b] and found[0] == found[2] != found[1] and list(found[0]) == ["synflow", "zico"]
    direct = TrainingFree(space, digits, ["synflow", "zico"], seed=plan.seed)([a])
    assert direct.tolist() == [[found[0]["synflow"], found[0]["zico"]]]
    assert evaluator.score([a], []) == [{}]


def test_scores_that_cannot_be_are_refused(digits: Dataset) -> None:
    with pytest.raises(InputError, match=r"no training-free score 'naswott'; did you mean 'naswot'"):
        TrainingFree(DIGITS_TINY, digits, ["naswott"])
    with pytest.raises(InputError, match="at least 4"):
        TrainingFree(DIGITS_TINY, replace(digits, train=Part(digits.train.images[:3], digits.train.labels[:3])))
    fake = tiny_plan(digits, **FAKE, searcher={"name": "random-search"}).build_evaluator()
    with pytest.raises(InputError, match="FakeEvaluator has no data"):
        fake.score([(0,) * 4], ["zico"])
    table = TabularBenchmark(DIGITS_TINY, fake_table(), ["val_accuracy"])
    assert math.isnan(table.score([(0,) * 4], ["zico"])[0]["zico"])


def test_a_score_is_an_objective_by_name(digits: Dataset, tmp_path: Path) -> None:
    objectives = {"error": {}, "jacob_cov": {}, "trainability": {}}
    budget = {"epochs": 4, "evaluations": 6, "validate": 2}
    sections: Any = {"searcher": {"name": "random-search"}, "space": {"name": "digits-tiny"}, "budget": budget}
    path = write_toml(tmp_path, objectives=objectives, **sections)
    result = call("search", path, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    found = pd.read_csv(tmp_path / "run" / "evaluations.csv")
    space = SearchPlan.of(
        tiny_plan(digits, space={"name": "digits-tiny"}, searcher={"name": "random-search"}).experiment
    ).problem.space
    scores = TrainingFree(space, digits, ["jacob_cov", "trainability"])([space.parse(a) for a in found["arch"]])
    assert np.allclose(found[["minus_jacob_cov", "1_minus_trainability"]], [0, 1] - scores)
    assert "minus jacob_cov (training-free score)" in (tmp_path / "run" / "report.html").read_text()


def test_an_objective_without_a_value_is_named_and_can_be_given_one(digits: Dataset) -> None:
    def cost(**settings: float) -> float:
        plan = tiny_plan(digits, objectives={"error": {}, "naswot": settings})
        objective = plan.problem.objectives[1]
        return objective.cost((0,) * 6, plan.build_evaluator().score([(0,) * 6], plan.problem.scores)[0])

    with pytest.raises(Exception, match=r"\|none~0\|\+.* has no naswot .* objectives.naswot.missing=NUMBER"):
        cost()
    assert cost(missing=20.0) == 480.0
    with pytest.raises(Exception, match=r"objectives.naswot.best=NUMBER"):
        cost(missing=20.0, best=10.0)
