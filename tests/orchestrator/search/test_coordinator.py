"""Whole searches in this process: what they record, when they stop, and that stopping changes nothing."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import records
from analysis.pareto import hypervolume, non_dominated
from orchestrator import registry
from orchestrator.config.plan import Alone, SearchPlan, Source
from orchestrator.config.settings import Front
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError, RunError
from orchestrator.objectives.base import Metrics
from orchestrator.runs.directory import timing_is_due
from orchestrator.runs.report import write_report
from orchestrator.search.checkpoint import alone_in
from orchestrator.search.coordinator import Coordinator
from orchestrator.search.progress import Progress, Round
from searchers import Architecture, Cotangents, GradientSearcher, Mixture
from searchers.random_search import RandomSearch
from tests.fakes import FAKE, FakeEvaluator, true_accuracy
from tests.helpers import timeless, tiny_plan


def start(plan: SearchPlan, directory: Path) -> Coordinator:
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    return Coordinator(plan, directory, plan.build_evaluator())


def run(plan: SearchPlan, directory: Path, stop: Callable[[], bool] = lambda: False) -> tuple[bool, list[Progress]]:
    seen: list[Round] = []
    finished = start(plan, directory).run(stop, seen.append)
    return finished, [happened.progress for happened in seen]


def after(rounds: int) -> Callable[[], bool]:
    """Stop a search after so many rounds."""
    count = iter(range(1, 10**6))
    return lambda: next(count) >= rounds


def ignore(happened: Round) -> None:
    pass


def table(directory: Path) -> pd.DataFrame:
    return pd.read_csv(directory / records.EVALUATIONS)


@pytest.fixture(scope="module")
def whole(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    directory = tmp_path_factory.mktemp("whole")
    finished, seen = run(tiny_plan(digits), directory)
    assert finished
    return directory, seen


@pytest.fixture
def fake(digits: Dataset) -> SearchPlan:
    return tiny_plan(digits, **FAKE)


def test_every_sample_is_recorded_with_true_costs(whole: tuple[Path, list[Progress]], digits: Dataset) -> None:
    directory, seen = whole
    rows = table(directory)
    assert list(rows.columns) == ["seed", "step", "stage", "kind", "arch", "error_percent", "parameters", "macs", "seconds"]
    assert sum(rows["kind"] == records.SAMPLE) == seen[-1].evaluations > 10
    assert rows["stage"].unique().tolist() == [0, 1, 2] and rows["step"].is_monotonic_increasing
    space = tiny_plan(digits).problem.space
    for _, row in rows.iterrows():
        assert row["parameters"] == sum(o.parameters for o in space.operations(space.parse(row["arch"])))
        assert 0 <= row["error_percent"] <= 100


def test_warm_up_measures_nothing_and_each_stage_ends_with_validation(whole: tuple[Path, list[Progress]]) -> None:
    directory, seen = whole
    rows = table(directory)
    assert {p.evaluations for p in seen if p.phase == "weights only" and p.stage == 0} == {0}
    for _, stage in rows.groupby("stage"):
        kinds = stage["kind"].tolist()
        assert kinds[0] == records.SAMPLE and kinds[-1] == records.VALIDATION
        validated = stage[stage["kind"] == records.VALIDATION]
        assert len(validated) <= 15 and validated["arch"].is_unique  # six, and the derived ones of nine targets at the end


def test_progress_never_goes_back(whole: tuple[Path, list[Progress]]) -> None:
    _, seen = whole
    for name in ("round", "evaluations", "hypervolume", "fraction", "seconds"):
        values = [getattr(p, name) for p in seen]
        assert values == sorted(values), name
    assert seen[-1].fraction == 1 and seen[-1].round == seen[-1].rounds == len(seen)


def test_the_front_is_chosen_by_all_measurements(whole: tuple[Path, list[Progress]], digits: Dataset) -> None:
    directory, _ = whole
    rows, front = table(directory), pd.read_csv(directory / records.FRONT)
    assert 2 <= len(front) <= 10
    assert set(front["arch"]) <= set(rows["arch"][rows["kind"] == records.VALIDATION])
    deviation, measured = front["error_deviation_percent"], front["error_measured_percent"]
    assert (deviation > 0).all() and (front["measurements"] >= 1).all()
    chance = np.sqrt(measured * (100 - measured) / len(digits.valid))  # of the images that the networks were measured on
    assert (np.abs(front["error_percent"] - measured) < 4 * np.hypot(deviation, chance) + 1).all()
    assert not np.allclose(front["error_percent"], measured)


def test_without_a_judge_the_front_is_the_non_dominated_set_of_what_was_validated(digits: Dataset, tmp_path: Path) -> None:
    directory = tmp_path
    run(tiny_plan(digits, front={"judge": False}, searcher={"name": "random-search"}), directory)
    columns = ["error_percent", "parameters", "macs"]
    rows = table(directory)
    pool = rows[rows["kind"] == records.VALIDATION].drop_duplicates("arch", keep="last")
    front = pd.read_csv(directory / records.FRONT)
    best = pool.iloc[non_dominated(pool[columns].to_numpy())]
    assert set(front["arch"]) <= set(best["arch"])
    assert {tuple(r) for r in front[columns].to_numpy()} == {tuple(r) for r in best[columns].to_numpy()}
    assert not front.duplicated(columns).any()
    assert len(front) >= 2


def test_policy_rows_are_probabilities(whole: tuple[Path, list[Progress]]) -> None:
    directory, seen = whole
    policy = pd.read_csv(directory / records.POLICY)
    assert len(policy) == len(seen)
    options = policy.drop(columns=["step", "stage"]).to_numpy()
    assert np.allclose(options.reshape(len(policy), 6, 5).sum(axis=2), 1, atol=1e-4)


def test_same_seed_same_records_and_another_seed_others(
    whole: tuple[Path, list[Progress]], digits: Dataset, tmp_path: Path
) -> None:
    run(tiny_plan(digits), tmp_path / "again")
    assert timeless(tmp_path / "again") == timeless(whole[0])
    run(tiny_plan(digits, seed=1), tmp_path / "other")
    assert timeless(tmp_path / "other") != timeless(whole[0])


def stopped_and_continued_is_as_straight(plan: SearchPlan, rounds: int, straight: Path, directory: Path) -> None:
    """Stopped again and again, each time in another process's memory."""
    stops = 0
    while not run(plan, directory, after(rounds))[0]:
        stops += 1
    assert stops >= 2
    assert timeless(directory) == timeless(straight)
    assert (directory / records.POLICY).read_text() == (straight / records.POLICY).read_text()
    assert timeless(directory, records.FRONT) == timeless(straight, records.FRONT)


def test_stopped_and_continued_it_is_as_if_never_stopped(
    whole: tuple[Path, list[Progress]], digits: Dataset, tmp_path: Path
) -> None:
    stopped_and_continued_is_as_straight(tiny_plan(digits), 3, whole[0], tmp_path)


@pytest.mark.parametrize("rounds", [1, 3, 5])
def test_it_may_be_stopped_after_any_round(fake: SearchPlan, tmp_path: Path, rounds: int) -> None:
    run(fake, tmp_path / "straight")
    stopped_and_continued_is_as_straight(fake, rounds, tmp_path / "straight", tmp_path / "stopped")


def test_a_finished_search_is_left_as_it_is(whole: tuple[Path, list[Progress]], digits: Dataset) -> None:
    before = timeless(whole[0])
    finished, seen = run(tiny_plan(digits), whole[0])
    assert finished and not seen and timeless(whole[0]) == before


def test_it_finds_what_is_truly_good_by_evaluations_that_are_off(fake: SearchPlan, tmp_path: Path) -> None:
    """Costs of the front are those of the whole validation set, and its hypervolume nears that of the best networks."""
    plan = fake.varied(budget=replace(fake.budget, epochs=60.0, validate=32), front=Front(judge=False))
    coordinator = start(plan, tmp_path)
    assert coordinator.run(lambda: False, ignore)
    evaluator = coordinator.evaluator
    assert isinstance(evaluator, FakeEvaluator) and evaluator.calls == ["build 0", "build 1", "build 2"]
    front, problem = pd.read_csv(tmp_path / records.FRONT), plan.problem
    last = front[front["step"] == evaluator.step]
    for arch, error in zip(last["arch"], last["error_percent"], strict=True):
        assert error == pytest.approx(100 - true_accuracy(problem.space.parse(arch)), abs=0.1)
    every = list(itertools.product(range(4), repeat=4))
    best = [tuple(o.cost(a, {"accuracy": true_accuracy(a)}) for o in problem.objectives) for a in every]
    reference = coordinator.archive.reference
    found = json.loads((tmp_path / records.SUMMARY).read_text())["hypervolume"]
    assert found == pytest.approx(hypervolume(front[problem.columns].to_numpy(), reference))
    assert found > 0.9 * hypervolume(best, reference)


@pytest.fixture
def alone(fake: SearchPlan, monkeypatch: pytest.MonkeyPatch) -> SearchPlan:
    """A search that trains eight landmarks, and then six finalists twice as long."""
    monkeypatch.setattr("orchestrator.config.plan.FEWEST_STEPS", 1)
    monkeypatch.setattr("orchestrator.config.plan.FINALISTS", 6)
    chosen = fake.varied(budget=replace(fake.budget, epochs=40.0, landmarks=0.2, finalists=0.3))
    assert chosen.alone == Alone((Source(0, 1, 1, landmarks=8), Source(0, 2, 2, finalists=6)))
    return chosen


def test_networks_are_trained_alone_at_the_end_and_decide(alone: SearchPlan, tmp_path: Path) -> None:
    finished, seen = run(alone, tmp_path)
    assert finished and seen[-1].fraction == 1
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions) and fractions[alone.schedule.rounds - 1] == pytest.approx(0.5)
    rows, front = table(tmp_path), pd.read_csv(tmp_path / records.FRONT)
    kinds = rows["kind"].tolist()
    assert kinds[-14:] == [records.LANDMARK] * 8 + [records.FINALIST] * 6
    finalists = rows[rows["kind"] == records.FINALIST]
    assert finalists["arch"].is_unique and set(finalists["arch"]) & set(front["arch"])
    images = json.loads((tmp_path / records.SUMMARY).read_text())["spent"]["images_trained_on"]
    assert images == (alone.schedule.rounds * 2 * 32) + 20 * len(alone.problem.data.train)


@pytest.mark.parametrize("rounds", [4, pytest.param(1, marks=pytest.mark.long)])
def test_trainings_alone_go_on_where_they_were_stopped(alone: SearchPlan, tmp_path: Path, rounds: int) -> None:
    run(alone, tmp_path / "straight")
    stopped_and_continued_is_as_straight(alone, rounds, tmp_path / "straight", tmp_path / "stopped")


def test_shares_are_left_to_the_search_where_they_buy_too_little(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tiny_plan(digits).alone == Alone()  # eight epochs of three steps
    plan = tiny_plan(digits, budget={"epochs": 20_000})
    landmarks, finalists = plan.alone.sources
    assert landmarks.epochs >= finalists.epochs / 3 > 0
    steps = len(digits.train) // 32
    a_fifth = 200 * ((len(digits.train) + len(digits.valid)) // 32) // 5
    for epochs, each in [(200, [math.ceil(a_fifth / steps)] * 2), (1, [math.ceil(150 / steps)] * 2), (10_000, [])]:
        short = tiny_plan(digits, budget={"epochs": 2400}, retrain={"epochs": epochs, "batch": 32})
        assert [source.epochs for source in short.alone.sources] == each
    assert plan.schedule.rounds == pytest.approx((20_000 - plan.alone.epochs) * steps / 2, abs=1)
    assert tiny_plan(digits, budget={"epochs": 20_000}, front={"judge": False}).alone == Alone()
    monkeypatch.delattr(FakeEvaluator, "train_alone")  # as an evaluator of somebody's own that cannot
    assert tiny_plan(digits, **FAKE, budget={"epochs": 20_000}).alone == Alone()
    with pytest.raises(InputError, match=r"budget\.landmarks = 0\.6 and budget\.finalists = 0\.4"):
        tiny_plan(digits, budget={"landmarks": 0.6, "finalists": 0.4})


@pytest.mark.parametrize(("budget", "limit"), [({"evaluations": 9}, 9), ({"seconds": 1e-9}, 0)])
def test_other_budgets_stop_sooner(digits: Dataset, tmp_path: Path, budget: dict[str, Any], limit: int) -> None:
    plan = tiny_plan(digits, **FAKE, budget=budget)
    if limit == 0:
        with pytest.raises(RunError, match=r"before anything was measured; raise budget\.seconds"):
            run(plan, tmp_path)
    else:
        finished, seen = run(plan, tmp_path)
        assert finished and seen[-1].evaluations == limit


def test_a_checkpoint_of_another_experiment_is_refused(digits: Dataset, tmp_path: Path) -> None:
    run(tiny_plan(digits), tmp_path, after(7))
    before = timeless(tmp_path)
    for section, change in (("space", {"channels": 5}), ("searcher", {"samples": 5}), ("data", {"limit": 100})):
        with pytest.raises(RunError, match="the checkpoint was made with another"):
            run(tiny_plan(**{section: change}), tmp_path)
    assert timeless(tmp_path) == before


def test_records_without_a_checkpoint_are_put_aside_not_overwritten(
    whole: tuple[Path, list[Progress]], digits: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    kept = (whole[0] / records.EVALUATIONS).read_text()
    (tmp_path / records.EVALUATIONS).write_text(kept)
    run(tiny_plan(digits), tmp_path, lambda: True)
    assert (tmp_path / "evaluations-without-checkpoint.csv").read_text() == kept


def test_records_that_do_not_fit_the_checkpoint(fake: SearchPlan, tmp_path: Path) -> None:
    run(fake, tmp_path, after(12))
    (tmp_path / records.EVALUATIONS).write_text("seed\n")
    with pytest.raises(RunError, match="records do not fit the checkpoint"):
        run(fake, tmp_path)


def test_a_full_disk_on_resume_is_no_record_that_does_not_fit(
    fake: SearchPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(fake, tmp_path, after(12))
    before = timeless(tmp_path)

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_text", full)
        with pytest.raises(RunError, match=r"^cannot write to .*: No space left on device; .* make room, then resume"):
            run(fake, tmp_path)
    assert timeless(tmp_path) == before
    run(fake, tmp_path)


def test_two_processes_cannot_search_in_one_directory(fake: SearchPlan, tmp_path: Path) -> None:
    import fcntl

    held = start(fake, tmp_path)
    with (tmp_path / "checkpoints" / "search.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is working"), alone_in(tmp_path, "search.lock", 0.3):
            raise AssertionError
    assert held.run(lambda: True, ignore) is False


class Descent(GradientSearcher):
    """The plainest gradient method, to see that the seam carries it: weights on the simplex, moved down the slope."""

    needs = ("rounds",)

    def __init__(self, sizes: tuple[int, ...], rounds: int) -> None:
        self._random = RandomSearch(sizes, rounds=rounds, warmup=0.0)
        self.sizes, self.stage_, self.slopes = tuple(sizes), self._random.stage, []  # type: ignore[var-annotated]
        self.rows = [np.full(n, 1 / n) for n in sizes]

    @property
    def stage(self) -> Any:
        return self.stage_

    def relax(self) -> Mixture:
        return Mixture(tuple(tuple(row.tolist()) for row in self.rows))

    def descend(self, loss: float, cotangents: Cotangents) -> None:
        self.slopes.append(cotangents)
        for row, slope in zip(self.rows, cotangents, strict=True):
            row *= np.exp(-np.clip(slope, -1, 1))
            row /= row.sum()

    def train_on(self, steps: int) -> list[Mixture]:
        return [self.relax()] * steps

    def ask(self, n: int) -> list[tuple[int, ...]]:
        return [tuple(int(row.argmax()) for row in self.rows)][:n]

    def tell(self, evaluations: Any) -> None:
        pass

    def derive(self) -> list[tuple[int, ...]]:
        return self.ask(1)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [row.tolist() for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = [np.array(row) for row in state["rows"]]


def test_a_gradient_searcher_gets_cotangents_over_the_same_seam(digits: Dataset, tmp_path: Path) -> None:
    plan = tiny_plan(digits, budget={"epochs": 4}, searcher={"name": f"{__name__}:Descent"})
    coordinator = start(plan, tmp_path)
    assert coordinator.run(lambda: False, ignore)
    searcher = coordinator.searcher
    assert isinstance(searcher, Descent) and len(searcher.slopes) == plan.schedule.rounds * plan.budget.interval
    assert len(searcher.slopes[0]) == 6 and any(s != 0 for row in searcher.slopes[0] for s in row)
    rows = table(tmp_path)
    validated = rows[rows["kind"] == records.VALIDATION]
    assert validated["arch"].iloc[0] == plan.problem.space.format(searcher.derive()[0])


@pytest.mark.parametrize("name", registry.known("searcher"))
def test_every_method_searches_real_images(name: str, digits: Dataset, tmp_path: Path) -> None:
    if name == "optuna-sampler":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    few = {"cycles": 1} if name == "ddpnas" else {"samples": 2}
    plan = tiny_plan(digits, budget={"epochs": 6, "interval": 1}, searcher={"name": name} | few)
    coordinator, space = start(plan, tmp_path), plan.problem.space
    before = coordinator.searcher.probabilities()
    assert coordinator.run(lambda: False, ignore)
    assert before is None or coordinator.searcher.probabilities() != before
    rows = table(tmp_path)
    assert set(rows["kind"]) == ({records.VALIDATION} if name == "ddpnas" else {records.SAMPLE, records.VALIDATION})
    derived = {space.format(a) for a in coordinator.searcher.derive()}
    assert derived <= set(rows["arch"][rows["kind"] == records.VALIDATION])
    front = pd.read_csv(tmp_path / "front.csv")
    assert len(front) and set(front["arch"]) <= set(rows["arch"])


@pytest.mark.parametrize("name", registry.known("searcher"))
def test_every_method_goes_on_where_it_was_stopped(name: str, digits: Dataset, tmp_path: Path) -> None:
    if name == "optuna-sampler":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    few = {"cycles": 1} if name == "ddpnas" else {"samples": 2}
    plan = tiny_plan(digits, **FAKE, budget={"epochs": 6, "interval": 1}, searcher={"name": name} | few)
    assert run(plan, tmp_path / "straight")[0]
    assert not run(plan, tmp_path / "stopped", after(10))[0]
    assert run(plan, tmp_path / "stopped")[0]
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "straight")


def test_the_space_tells_what_a_method_must_know_of_it(digits: Dataset) -> None:
    cells = {"name": "darts", "channels": 4, "cells": 3, "supernet_channels": 2}

    def plan(name: str) -> SearchPlan:
        return tiny_plan(digits, space=cells, objectives={"error": {}, "macs": {}}, searcher={"name": name})

    for name in ("nasp", "darts"):
        searcher, space = plan(name).build_searcher(), plan(name).problem.space
        for architecture in [*searcher.derive(), *searcher.ask(1)]:
            assert "[[" not in space.format(architecture)  # two edges into each node
    chosen = plan("proxyless-g")
    assert chosen.build_searcher().stage.rounds == chosen.schedule.rounds
    space = chosen.problem.space
    fixed, rows = chosen.problem.objectives[1].additive() or (0.0, [])
    assert fixed + sum(row[o] for row, o in zip(rows, space.largest(), strict=True)) == space.macs(space.largest())


PUBLISHED = {"name": "ddpnas", "cycles": 1, "targets": 1}


@pytest.mark.parametrize(
    "settings, training, statistics",
    [({}, {}, "recalibrated"), ({}, {"statistics": "running"}, "running"), (PUBLISHED, {}, "running")],
)
def test_normalisation_is_fitted_where_networks_train_for_a_round_only(
    digits: Dataset, settings: dict[str, Any], training: dict[str, Any], statistics: str
) -> None:
    method = {"name": "ddpnas"} | settings
    plan = tiny_plan(digits, budget={"epochs": 20, "interval": 1}, searcher=method, training=training)
    evaluator = plan.build_evaluator()
    evaluator.build(plan.build_searcher().stage, 10)
    assert evaluator.statistics == statistics  # type: ignore[attr-defined]


def test_a_plateau_of_hypervolume_ends_a_search_and_the_same_one_where_it_was_stopped(digits: Dataset, tmp_path: Path) -> None:
    def plan(**budget: Any) -> SearchPlan:
        return tiny_plan(
            digits,
            **FAKE,
            budget={"epochs": 60, "interval": 2} | budget,
            searcher={"name": "nsga2", "warmup": 0.1},
            front={"judge": False},
        )

    (_, whole), (_, less) = run(plan(), tmp_path / "all"), run(plan(plateau=0.2), tmp_path / "less")
    assert less[-1].fraction == 1 and less[-1].round < 0.7 * whole[-1].round
    grown = [i for i, (a, b) in enumerate(itertools.pairwise(less), 1) if b.hypervolume > 1.01 * a.hypervolume]
    assert less[-1].round - less[grown[-1]].round >= 0.2 * whole[-1].round
    # Nothing else is different, and the best were validated all the same.
    every, rows = table(tmp_path / "all"), table(tmp_path / "less")
    samples = rows[rows["kind"] == records.SAMPLE]
    assert samples["arch"].tolist() == every["arch"][: len(samples)].tolist() and len(rows) > len(samples)
    assert not run(plan(plateau=0.2), tmp_path / "parts", after(less[-1].round - 3))[0]
    assert run(plan(plateau=0.2), tmp_path / "parts")[0]
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "less")


def test_a_distribution_is_pruned_in_place_and_goes_on_from_a_checkpoint(digits: Dataset, tmp_path: Path) -> None:
    plan = tiny_plan(digits, space={"cells": 1}, budget={"epochs": 8, "interval": 1}, searcher=PUBLISHED)
    straight = start(plan, tmp_path / "straight")
    left: list[int] = []
    weights: list[int] = []

    def look(happened: Round) -> None:
        left.append(max(len(o) for o in straight.assessor.stage.options))
        weights.append(sum(p.numel() for p in straight.evaluator.model.parameters()))  # type: ignore[attr-defined]
        fraction = happened.progress.fraction
        assert fraction == 1 or straight.evaluator.stage.options == straight.searcher.stage.options  # type: ignore[attr-defined]

    assert straight.run(lambda: False, look)
    assert sorted(set(left), reverse=True) == [5, 4, 3, 2]
    assert weights == sorted(weights, reverse=True) and weights[-1] < weights[0]
    assert straight.evaluator.statistics == "running"  # type: ignore[attr-defined]
    rows = table(tmp_path / "straight")
    asked = 5 + 4 + 3 + straight.searcher.family  # type: ignore[attr-defined]
    assert asked < len(rows) <= asked + straight.searcher.family + plan.budget.validate  # type: ignore[attr-defined]
    # Measured on the whole part: errors are whole numbers of images.
    wrong = rows["error_percent"] * len(digits.valid) / 100
    assert (wrong - wrong.round()).abs().max() < 1e-6 and rows["stage"].eq(0).all()
    assert set(rows["kind"]) == {records.VALIDATION}
    derived = {plan.problem.space.format(a) for a in straight.searcher.derive()}
    assert derived == set(rows["arch"][12:asked]) <= set(rows["arch"][asked:])
    # The judge has the best measured again, once each, by the weights that the search ends with.
    again = rows[asked:]
    assert again["arch"].is_unique and again["step"].nunique() == 1 and set(again["arch"]) & set(rows["arch"][:12])
    stopped, _ = run(plan, tmp_path / "stopped", after(10))
    assert not stopped
    assert run(plan, tmp_path / "stopped")[0]
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "straight")


def test_limits_rule_out_what_is_recorded_all_the_same(digits: Dataset, tmp_path: Path) -> None:
    plan = tiny_plan(
        digits,
        **FAKE,
        budget={"epochs": 16, "interval": 2},
        objectives={"error": {}, "parameters": {"at_most": 20_000.0}},
        searcher={"name": "nsga2", "warmup": 0.2},
    )
    coordinator = start(plan, tmp_path)
    coordinator.run(lambda: False, ignore)
    front, rows = pd.read_csv(tmp_path / "front.csv"), table(tmp_path)
    assert len(front) and (front["parameters"] <= 20_000).all()
    samples = rows[rows["kind"] == records.SAMPLE]
    assert 0 < (samples["parameters"] > 20_000).mean() < 1
    front_of_samples = coordinator.archive.front
    assert front_of_samples and all(e.costs[1] <= 20_000 for e in front_of_samples)
    told = coordinator.searcher.told  # type: ignore[attr-defined]
    assert told and all(e.violation == pytest.approx(max(0, e.costs[1] / 20_000 - 1)) for e in told)
    # What keeps the limit is measured again first, and there is enough of it.
    assert (rows.loc[rows["kind"] == records.VALIDATION, "parameters"] <= 20_000).all()


def test_nothing_keeps_the_limits(digits: Dataset, tmp_path: Path) -> None:
    objectives = {"error": {}, "parameters": {"at_most": 10}, "macs": {}}
    plan = tiny_plan(digits, **FAKE, searcher={"name": "random-search"}, objectives=objectives)
    finished, seen = run(plan, tmp_path / "r")
    assert finished and seen[-1].hypervolume == 0
    assert pd.read_csv(tmp_path / "r/front.csv").empty
    write_report(plan, tmp_path / "r")
    assert "No network that was measured keeps the limits" in (tmp_path / "r/report.html").read_text()


class Timed(FakeEvaluator):
    """Networks take a millisecond per thousand parameters, alone; while others run some take three times as long."""

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        alone = self.measure_alone(architectures)
        return [{key: (1 + 2 * (sum(a) % 2)) * m[key] for key in m} for a, m in zip(architectures, alone, strict=True)]

    def measure_alone(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        self.calls.append("alone")
        return [{"latency_ms": self.space.parameters(a) / 1000, "latency_iqr_ms": 0.1} for a in architectures]


def timed_plan(data: Dataset) -> SearchPlan:
    sections = FAKE | {"training": {"name": f"{__name__}:Timed"}}
    return tiny_plan(data, **sections, objectives={"error": {}, "macs": {}, "latency": {}})


def test_members_are_timed_again_alone_and_the_front_is_made_of_these_times(digits: Dataset, tmp_path: Path) -> None:
    plan = timed_plan(digits)
    assert run(plan, tmp_path / "straight")[0]
    rows, front = table(tmp_path / "straight"), pd.read_csv(tmp_path / "straight" / records.FRONT)
    again = rows[rows["kind"] == records.TIMED]
    assert len(again) and (rows.index[-len(again) :] == again.index).all() and again["arch"].is_unique
    assert set(front["arch"]) <= set(again["arch"]), "a network that was not timed again does not compare"
    assert (front["latency_ms"] * 4096 * 1000).tolist() == pytest.approx(front["macs"].tolist())
    searched = rows[(rows["kind"] != records.TIMED) & rows["arch"].isin(front["arch"])]
    assert searched["latency_ms"].max() > front["latency_ms"].max(), "the search's own timings stay in its records"
    summary = json.loads((tmp_path / "straight" / records.SUMMARY).read_text())
    assert summary["timed_again"] and 0 <= summary["spent"]["seconds_timing"] < summary["spent"]["seconds"]
    stopped_and_continued_is_as_straight(plan, 3, tmp_path / "straight", tmp_path / "stopped")
    before = timeless(tmp_path / "straight")
    assert run(plan, tmp_path / "straight")[0] and timeless(tmp_path / "straight") == before


def test_timing_can_wait_and_an_interruption_of_it_leaves_no_trace(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = timed_plan(digits)
    run(plan, tmp_path / "straight")
    (tmp_path / "later" / "checkpoints").mkdir(parents=True)
    assert Coordinator(plan, tmp_path / "later", plan.build_evaluator(), timing=False).run(lambda: False, ignore)
    assert timing_is_due(tmp_path / "later") and not timing_is_due(tmp_path / "straight")
    with monkeypatch.context() as patched:
        patched.setattr(Coordinator, "state_dict", lambda self: 1 / 0)  # after the rows, before the checkpoint
        with pytest.raises(ZeroDivisionError):
            run(plan, tmp_path / "later")
    assert run(plan, tmp_path / "later")[0] and not timing_is_due(tmp_path / "later")
    assert timeless(tmp_path / "later") == timeless(tmp_path / "straight")


def scratch(data: Dataset, **searcher: Any) -> SearchPlan:
    training = {"name": "from-scratch", "epochs": 2, "batch": 32}
    method = {"name": "nsga-net", "population": 4} | searcher
    return tiny_plan(data, training=training, budget={"epochs": 24}, searcher=method)


def test_candidates_trained_from_scratch(digits: Dataset, tmp_path: Path) -> None:
    plan = scratch(digits)
    assert run(plan, tmp_path / "straight")[0]
    rows = table(tmp_path / "straight")
    assert len(rows) == 12 and rows["arch"].is_unique and set(rows["kind"]) == {"validation"}  # 24 epochs, 2 each
    assert rows["step"].tolist() == [2 * (len(digits.train) // 32) * (i + 1) for i in range(12)]
    # By itself, whatever came before: the same network has the same error.
    (found,) = plan.build_evaluator().measure([plan.problem.space.parse(rows["arch"][7])])
    assert 100 - found["accuracy"] == pytest.approx(rows["error_percent"][7])
    run(plan, tmp_path / "stopped", after(5))
    assert run(plan, tmp_path / "stopped")[0]
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "straight")


@pytest.mark.parametrize(
    ("searcher", "says"), [({"warmup": 0.5}, "share nothing"), ({"name": "darts"}, "gradients|shared weights")]
)
def test_what_needs_shared_weights_is_refused_from_scratch(digits: Dataset, searcher: dict[str, Any], says: str) -> None:
    training = {"name": "from-scratch", "epochs": 2, "batch": 32}
    with pytest.raises(InputError, match=says):
        tiny_plan(digits, training=training, searcher={"name": "nsga-net"} | searcher).build_searcher()


@pytest.mark.parametrize(
    ("searcher", "objectives", "says"),
    [
        ("nsga2", {"parameters": {"target": 5000}}, "aims at none"),
        ("proxyless-r", {"parameters": {"target": 5000}, "macs": {}}, "every objective"),
        ("tnd-nas", {"parameters": {"at_most": -1}}, "positive number"),
        ("tnd-nas", {"parameters": {"atmost": 1}}, "unknown key"),
    ],
)
def test_goals_that_cannot_be_met_are_refused(searcher: str, objectives: dict[str, Any], says: str, digits: Dataset) -> None:
    with pytest.raises(InputError, match=says):
        tiny_plan(digits, searcher={"name": searcher}, objectives={"error": {}} | objectives).build_searcher()


def test_targets_reach_the_searcher(digits: Dataset) -> None:
    objectives = {"error": {}, "parameters": {"target": 5000}, "macs": {"target": 7e5}}
    for name, key in (("proxyless-r", "target"), ("proxyless-g", "targets"), ("tnd-nas", "bases")):
        searcher = tiny_plan(digits, searcher={"name": name}, objectives=objectives).build_searcher()
        assert getattr(searcher, key) in ([5000, 7e5], [[5000, 7e5]] * 3)


class NoneIsBest(FakeEvaluator):
    """Networks of no edges at all look best, so that `none` survives everywhere."""

    def measure(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        return [{"accuracy": 2.0 * a.count(0)} for a in architectures]

    def measure_on_batch(self, architectures: Sequence[Architecture], batch: int) -> list[Metrics]:
        raise AssertionError("networks that have just been trained are measured on everything")


def test_cells_are_generated_though_what_survives_is_no_edge(tmp_path: Path) -> None:
    plan = tiny_plan(
        data={"name": "digits", "limit": 64},
        space={"name": "darts", "channels": 4, "cells": 3, "supernet_channels": 2},
        training={"name": f"{__name__}:NoneIsBest"},
        budget={"epochs": 53, "interval": 1},
        searcher=PUBLISHED,
        objectives={"error": {}, "parameters": {}},
    )
    coordinator, space = start(plan, tmp_path), plan.problem.space
    assert coordinator.run(lambda: False, ignore)
    made = coordinator.searcher.derive()
    survivors = coordinator.searcher.policy.options()  # type: ignore[attr-defined]
    assert sum(0 in left for left in survivors) > 8
    rows = table(tmp_path)
    validated = set(rows.loc[rows["kind"] == records.VALIDATION, "arch"])
    assert len(made) > 8 and {space.format(a) for a in made} <= validated
    assert all(sum(o != 0 for o in a) == 16 for a in made)  # two edges into each of eight nodes
