"""Searches with a list of proxies: landmarks at each, and finalists that climb over them to the target."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

import paretoray as pr
from analysis import records
from orchestrator.config.plan import Alone, Rung, SearchPlan, Source
from orchestrator.config.settings import Budget, Proxy
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError
from orchestrator.objectives.base import Metrics
from orchestrator.search.coordinator import Coordinator
from searchers import Architecture
from tests.fakes import FAKE, FakeEvaluator, true_accuracy
from tests.helpers import call, timeless, tiny, tiny_plan, write_toml

LADDER = [{"share": 0.3}, {"share": 0.6}]
SECTIONS: dict[str, Any] = {
    **FAKE,
    "training": {"name": f"{__name__}:Biased"},
    "searcher": {"name": "random-search", "samples": 4},
    "budget": {"epochs": 240, "interval": 8, "landmarks": 0.3, "finalists": 0.4, "validate": 4},
}


class Biased(FakeEvaluator):
    """Networks trained alone on few images are overrated for skips, the more the fewer images there are."""

    def __init__(self, space: Any, data: Dataset, *arguments: Any, **settings: Any) -> None:
        super().__init__(space, data, *arguments, **settings)
        self.images = len(data.train)

    def train_alone(self, architectures: Sequence[Architecture], epochs: int) -> list[Metrics]:
        bias = 20.0 * max(0.0, 1 - self.images / 80)
        return [{"accuracy": true_accuracy(a) + bias * sum(option == 0 for option in a)} for a in architectures]


@pytest.fixture(scope="module")
def ladder(digits: Dataset) -> Iterator[SearchPlan]:
    """A search that pays for 32, 16 and 9 finalists at three places, with processes that are fitted in a hurry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.config.plan.FEWEST_STEPS", 1)
        patch.setattr("orchestrator.config.plan.FINALISTS", 8)
        patch.setattr("orchestrator.judge.process.ITERATIONS", 8)
        patch.setattr("orchestrator.search.closing.TOGETHER", 16)
        yield tiny_plan(digits, **SECTIONS, proxy=LADDER)


@pytest.fixture(scope="module")
def straight(ladder: SearchPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("straight")
    assert run(ladder, directory)
    return directory


def run(plan: SearchPlan, directory: Path, stop: Callable[[], bool] = lambda: False) -> bool:
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    return Coordinator(plan, directory, plan.build_evaluator()).run(stop, lambda happened: None)


def test_finalists_climb_to_the_target_and_all_of_it_is_counted(ladder: SearchPlan, straight: Path) -> None:
    places = [str(place) for place in ladder.places]
    assert places == ["share=0.3", "share=0.6", "target"]
    rows = pd.read_csv(straight / records.EVALUATIONS)
    assert set(rows.loc[rows["kind"].isin([records.SAMPLE, records.VALIDATION]), "proxy"]) == {"share=0.3"}
    landmarks, finalists = (rows[rows["kind"] == kind] for kind in (records.LANDMARK, records.FINALIST))
    counts = [len(finalists[finalists["proxy"] == place]) for place in places]
    assert counts == [source.finalists for source in ladder.alone.sources] and counts[0] > counts[1] > counts[2] >= 8
    for below, above in itertools.pairwise(places):
        alone = rows[rows["kind"].isin([records.LANDMARK, records.FINALIST])]
        trained = {place: alone.loc[alone["proxy"] == place, "arch"] for place in (below, above)}
        assert trained[above].is_unique, "a second training would give the same again"
        chosen = finalists.loc[finalists["proxy"] == above]
        lower = alone[(alone["proxy"] == below) & (alone.index < chosen.index[0])]
        assert set(chosen["arch"]) <= set(lower["arch"])
    alone, summary = ladder.alone, json.loads((straight / records.SUMMARY).read_text())
    cost = {str(ladder.places[source.place]): source for source in alone.sources}
    bought = sum(cost[row.proxy].cost for row in landmarks.itertuples())
    whole = ladder.budget.landmarks * ladder.budget.epochs
    assert whole - max(s.cost for s in alone.sources) < bought <= whole + 1e-9, "the landmarks' share is spent, and no more"
    of = {place: len(ladder.problem.at(proxy).data.train) for place, proxy in zip(places, ladder.places, strict=True)}
    trained_on = sum(cost[row.proxy].epochs * of[row.proxy] for row in pd.concat([landmarks, finalists]).itertuples())
    schedule = ladder.schedule
    assert summary["spent"]["images_trained_on"] == schedule.rounds * schedule.interval * schedule.batch + trained_on
    assert [place["finalists"] for place in summary["trained_alone"]] == counts
    ranking = summary["ranking"]
    assert ranking["truth"] == "trained alone at target" and ranking["levels_of"] == "parameters"
    sources = [source["proxy"] for source in ranking["sources"]]
    assert sources[-2:] == ["trained alone at share=0.3", "trained alone at share=0.6"]
    assert all(source["networks"] >= 8 for source in ranking["sources"][-2:])
    front = pd.read_csv(straight / records.FRONT)
    space = ladder.problem.space
    truth = [100 - true_accuracy(space.parse(str(arch))) for arch in front["arch"]]
    assert np.abs(front["error_percent"] - truth).max() < 8, "the error of the front is the target's"
    assert kendalltau(front["error_percent"], truth).statistic > 0.8
    assert "target" in set(front["proxy"])


def test_it_goes_on_where_it_was_stopped(ladder: SearchPlan, straight: Path, tmp_path: Path) -> None:
    stops = 0
    while not run(ladder, tmp_path, after(23)):
        stops += 1
    assert stops >= 3 and timeless(tmp_path) == timeless(straight)
    assert timeless(tmp_path, records.FRONT) == timeless(straight, records.FRONT)


def after(rounds: int) -> Callable[[], bool]:
    count = iter(range(1, 10**6))
    return lambda: next(count) >= rounds


def test_networks_trained_from_scratch_climb_from_the_second_place_on(ladder: SearchPlan) -> None:
    training = {"name": "from-scratch", "epochs": 1, "batch": 32}
    scratch = tiny(space=FAKE["space"], searcher={"name": "random-search"}, training=training)
    plan = SearchPlan(
        replace(scratch, proxy=ladder.proxy, ladder=ladder.experiment.ladder, budget=ladder.budget), ladder.problem
    )
    assert [source.place for source in plan.alone.sources] == [1, 2]
    assert sorted(plan.build_evaluator().elsewhere) == [1, 2]


def test_places_share_the_budget_and_the_dearest_goes_where_it_is_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.config.plan.FEWEST_STEPS", 1000)
    monkeypatch.setattr("orchestrator.config.plan.FINALISTS", 12)
    cheap, dear = Rung(0, 1000, 1.0), Rung(1, 1000, 10.0)
    rich = Alone.climbing(Budget(epochs=4000, landmarks=0.2, finalists=0.5), [cheap, dear])
    assert [(s.place, s.finalists, s.epochs) for s in rich.sources] == [(0, 24, 41), (1, 12, 8)]
    assert [s.landmarks for s in rich.sources] == [8, 0] and rich.teaching == pytest.approx(800 - 8 * 41)
    assert rich.epochs == pytest.approx(800 + 24 * 41 + 12 * 80)
    poor = Alone.climbing(Budget(epochs=100, landmarks=0.2, finalists=0.5), [cheap, dear])
    assert [(s.place, s.finalists) for s in poor.sources] == [(0, 12)]
    assert Alone.climbing(Budget(epochs=4), [cheap, dear]) == Alone()
    taught = Alone.climbing(Budget(epochs=4000, landmarks=0.5, finalists=0.0), [cheap, dear])
    assert not taught.finalists and taught.teaching > 0 and taught.epochs == pytest.approx(2000)
    assert rich.source(records.FINALIST, 1) == rich.sources[1] and rich.source(records.VALIDATION, 0) is None
    assert isinstance(rich.sources[0], Source)


def test_files_command_lines_and_python_name_them_alike(tmp_path: Path, digits: Dataset) -> None:
    path = write_toml(tmp_path, proxy=[{"size": 4, "cells": 1}, {"cells": 1}], searcher={"name": "random-search"})
    assert tomllib.loads(path.read_text())["proxy"] == tomllib.loads("[[proxy]]\nsize=4\ncells=1\n[[proxy]]\ncells=1")["proxy"]
    shown = call("search", path, "budget.epochs=4000", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "images of 4 pixels, 1 cell; then 1 cell; then the target" in shown.output
    assert "finalists of" in shown.output and "at target" in shown.output
    named = call("search", write_toml(tmp_path), "searcher.name=random-search", "proxy=[{size=4},{cells=1}]", "--dry-run")
    assert "images of 4 pixels; then 1 cell; then the target" in named.output, named.output
    read = tiny(proxy=[{"size": 4}, {"cells": 1}])
    assert (read.proxy, read.ladder) == (Proxy(size=4), (Proxy(cells=1), Proxy()))
    problem = pr.Problem(pr.spaces.NasBench201(channels=4, cells=2), digits, ["error", "parameters"])
    from orchestrator.api.search import make_plan

    plan = make_plan(
        problem, "random-search", budget=None, workers=pr.Workers(ray=False, count=1), training="supernet", seed=0,
        proxy=[pr.Proxy(size=4), pr.Proxy(cells=1)],
    )  # fmt: skip
    assert (plan.experiment.proxy, plan.experiment.ladder) == (read.proxy, read.ladder)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"proxy": []}, r"proxy = \[\]: name a proxy"),
        ({"proxy": [{"size": 4}, {}]}, "proxy 2 of 2 is the target, which comes last anyway"),
        ({"proxy": [{"size": 4}, {"size": 4}]}, "proxy 2 of 2, size=4, is there twice"),
        ({"proxy": [{"size": 4}, 3]}, "proxy = .* it is a section"),
        ({"proxy": LADDER, "front": {"judge": False}}, "front.judge = false: it is the judge"),
        ({"proxy": LADDER, "budget": {"landmarks": 0.0, "finalists": 0.0}}, "budget.landmarks and budget.finalists are 0"),
    ],
)
def test_a_list_that_cannot_be_climbed_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny(**sections)


def test_an_evaluator_that_trains_nothing_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FakeEvaluator, "train_alone")
    with pytest.raises(InputError, match=r"training.name = .*FakeEvaluator' does not train networks alone"):
        tiny(**FAKE, proxy=LADDER)
