"""A whole search in process: what it records, when it stops, and that stopping changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import records
from analysis.pareto import non_dominated
from orchestrator import registry as names
from orchestrator.config.experiment import Experiment
from orchestrator.errors import InputError, RunError
from orchestrator.runs.report import write_report
from orchestrator.search.checkpoint import alone_in
from orchestrator.search.coordinator import Coordinator
from orchestrator.search.progress import Progress, Round
from searchers import Cotangents, GradientSearcher, Mixture
from searchers.random_search import RandomSearch
from tests.conftest import plan_of, tiny, tiny_plan


def start(experiment: Experiment, directory: Path) -> Coordinator:
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    plan = plan_of(experiment)
    return Coordinator(plan, directory, plan.build_evaluator())


def run(experiment: Experiment, directory: Path, stop: Any = lambda: False) -> tuple[bool, list[Progress]]:
    seen: list[Progress] = []
    return start(experiment, directory).run(stop, lambda happened: seen.append(happened.progress)), seen


def table(directory: Path) -> pd.DataFrame:
    return pd.read_csv(directory / records.EVALUATIONS)


def timeless(directory: Path) -> str:
    return table(directory).drop(columns="seconds").to_csv()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    directory = tmp_path_factory.mktemp("whole")
    finished, seen = run(tiny(), directory)
    assert finished
    return directory, seen


def test_every_sample_is_recorded_with_true_costs(whole: tuple[Path, list[Progress]]) -> None:
    directory, seen = whole
    rows = table(directory)
    assert list(rows.columns) == ["seed", "step", "stage", "kind", "arch", "error_percent", "parameters", "macs", "seconds"]
    assert sum(rows["kind"] == records.SAMPLE) == seen[-1].evaluations > 10
    assert rows["stage"].unique().tolist() == [0, 1, 2] and rows["step"].is_monotonic_increasing
    space = tiny_plan().problem.space
    for _, row in rows.iterrows():
        assert row["parameters"] == sum(o.parameters for o in space.operations(space.parse(row["arch"])))
        assert 0 <= row["error_percent"] <= 100


def test_warm_up_measures_nothing_and_each_stage_ends_with_validation(whole: tuple[Path, list[Progress]]) -> None:
    directory, seen = whole
    rows = table(directory)
    assert {p.evaluations for p in seen if p.warming_up and p.stage == 0} == {0}
    for _, stage in rows.groupby("stage"):
        kinds = stage["kind"].tolist()
        assert kinds[0] == records.SAMPLE and kinds[-1] == records.VALIDATION
        validated = stage[stage["kind"] == records.VALIDATION]
        assert len(validated) <= 7 and validated["arch"].is_unique  # six, and the derived one at the end


def test_progress_never_goes_back(whole: tuple[Path, list[Progress]]) -> None:
    _, seen = whole
    for name in ("round", "evaluations", "hypervolume", "fraction", "seconds"):
        values = [getattr(p, name) for p in seen]
        assert values == sorted(values), name
    assert seen[-1].fraction == 1 and seen[-1].round == seen[-1].rounds == len(seen)


def test_the_front_is_the_non_dominated_set_of_what_was_validated(whole: tuple[Path, list[Progress]]) -> None:
    directory, _ = whole
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


def test_same_seed_same_records_and_another_seed_others(whole: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    run(tiny(), tmp_path / "again")
    assert timeless(tmp_path / "again") == timeless(whole[0])
    run(tiny(seed=1), tmp_path / "other")
    assert timeless(tmp_path / "other") != timeless(whole[0])


@pytest.mark.parametrize("rounds", [1, 3, 5])
def test_stopped_and_continued_it_is_as_if_never_stopped(
    whole: tuple[Path, list[Progress]], tmp_path: Path, rounds: int
) -> None:
    """Stopped again and again, each time in another process's memory."""
    directory, continued = tmp_path, 0
    while True:
        count = iter(range(10**6))
        finished, _ = run(tiny(), directory, lambda count=count: next(count) + 1 >= rounds)
        if finished:
            break
        continued += 1
    assert continued >= 2
    assert timeless(directory) == timeless(whole[0])
    assert (directory / records.POLICY).read_text() == (whole[0] / records.POLICY).read_text()
    assert (directory / records.FRONT).read_text().count("\n") == (whole[0] / records.FRONT).read_text().count("\n")


def test_a_finished_search_is_left_as_it_is(whole: tuple[Path, list[Progress]]) -> None:
    before = timeless(whole[0])
    finished, seen = run(tiny(), whole[0])
    assert finished and not seen and timeless(whole[0]) == before


@pytest.mark.parametrize(("budget", "limit"), [({"evaluations": 9}, 9), ({"seconds": 1e-9}, 0)])
def test_other_budgets_stop_sooner(tmp_path: Path, budget: dict[str, Any], limit: int) -> None:
    if limit == 0:
        with pytest.raises(RunError, match=r"before anything was measured; raise budget\.seconds"):
            run(tiny(budget=budget), tmp_path)
    else:
        finished, seen = run(tiny(budget=budget), tmp_path)
        assert finished and seen[-1].evaluations == limit


def test_a_checkpoint_of_another_experiment_is_refused(tmp_path: Path) -> None:
    count = iter(range(100))
    run(tiny(), tmp_path, lambda: next(count) > 5)
    before = timeless(tmp_path)
    for section, change in (("space", {"channels": 5}), ("searcher", {"samples": 5}), ("data", {"limit": 100})):
        with pytest.raises(RunError, match="the checkpoint was made with another"):
            run(tiny(**{section: change}), tmp_path)
    assert timeless(tmp_path) == before


def test_records_without_a_checkpoint_are_put_aside_not_overwritten(whole: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    kept = (whole[0] / records.EVALUATIONS).read_text()
    (tmp_path / records.EVALUATIONS).write_text(kept)
    run(tiny(), tmp_path, lambda: True)
    assert (tmp_path / "evaluations-without-checkpoint.csv").read_text() == kept


def test_records_that_do_not_fit_the_checkpoint(tmp_path: Path) -> None:
    count = iter(range(100))
    run(tiny(), tmp_path, lambda: next(count) > 10)
    (tmp_path / records.EVALUATIONS).write_text("seed\n")
    with pytest.raises(RunError, match="records do not fit the checkpoint"):
        run(tiny(), tmp_path)


def test_two_processes_cannot_search_in_one_directory(tmp_path: Path) -> None:
    import fcntl

    held = start(tiny(), tmp_path)
    with (tmp_path / "checkpoints" / "search.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is working"), alone_in(tmp_path, "search.lock", 0.3):
            raise AssertionError
    assert held.run(lambda: True, lambda progress: None) is False


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


def test_a_gradient_searcher_gets_cotangents_over_the_same_seam(tmp_path: Path) -> None:
    coordinator = start(tiny(), tmp_path)
    searcher = Descent(coordinator.plan.problem.space.sizes, coordinator.plan.schedule.rounds)
    coordinator.searcher = searcher
    assert coordinator.run(lambda: False, lambda progress: None)
    assert len(searcher.slopes) == coordinator.plan.schedule.rounds * coordinator.plan.budget.interval
    assert len(searcher.slopes[0]) == 6 and any(s != 0 for row in searcher.slopes[0] for s in row)
    rows = table(tmp_path)
    validated = rows[rows["kind"] == records.VALIDATION]
    assert validated["arch"].iloc[0] == coordinator.plan.problem.space.format(searcher.derive()[0])


@pytest.mark.parametrize("name", names.known("searcher"))
def test_every_method_searches_real_images(name: str, tmp_path: Path) -> None:
    if name == "optuna-sampler":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    few = {"cycles": 1} if name == "ddpnas" else {"samples": 2}
    plain = tiny(budget={"epochs": 6, "interval": 1}).to_dict() | {"searcher": {"name": name} | few}
    coordinator = start(Experiment.from_dict(plain), tmp_path)
    before = coordinator.searcher.probabilities()
    assert coordinator.run(lambda: False, lambda progress: None)
    assert before is None or coordinator.searcher.probabilities() != before
    rows = table(tmp_path)
    assert set(rows["kind"]) == ({records.VALIDATION} if name == "ddpnas" else {records.SAMPLE, records.VALIDATION})
    derived = {coordinator.plan.problem.space.format(a) for a in coordinator.searcher.derive()}
    assert derived <= set(rows["arch"][rows["kind"] == records.VALIDATION])
    front = pd.read_csv(tmp_path / "front.csv")
    assert len(front) and set(front["arch"]) <= set(rows["arch"])


def test_the_space_tells_what_a_method_must_know_of_it(tmp_path: Path) -> None:
    cells = {"name": "darts", "channels": 4, "cells": 3, "supernet_channels": 2}
    given = {"data": {"name": "digits", "limit": 64}, "space": cells, "objectives": {"error": {}, "macs": {}}}
    data = tiny().load_data()
    for name in ("nasp", "darts"):
        plan = plan_of(Experiment.from_dict({**given, "searcher": {"name": name}}), data)
        space, searcher = plan.problem.space, plan.build_searcher()
        for architecture in [*searcher.derive(), *searcher.ask(1)]:
            assert "[[" not in space.format(architecture)  # two edges into each node
    plan = plan_of(Experiment.from_dict({**given, "searcher": {"name": "proxyless-g"}}), data)
    space, objectives = plan.problem.space, plan.problem.objectives
    assert plan.build_searcher().stage.rounds == plan.schedule.rounds
    fixed, rows = objectives[1].additive() or (0.0, [])
    assert fixed + sum(row[o] for row, o in zip(rows, space.largest(), strict=True)) == space.macs(space.largest())


def test_a_distribution_is_pruned_in_place_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    plain = tiny(space={"cells": 1}, budget={"epochs": 8, "interval": 1}).to_dict()
    experiment = Experiment.from_dict(plain | {"searcher": {"name": "ddpnas", "cycles": 1}})
    straight = start(experiment, tmp_path / "straight")
    left: list[int] = []
    weights: list[int] = []

    def look(happened: Round) -> None:
        progress = happened.progress
        left.append(max(len(o) for o in straight.assessor.stage.options))
        weights.append(sum(p.numel() for p in straight.evaluator.model.parameters()))  # type: ignore[attr-defined]
        assert progress.fraction == 1 or straight.evaluator.stage.options == straight.searcher.stage.options  # type: ignore[attr-defined]

    assert straight.run(lambda: False, look)
    assert sorted(set(left), reverse=True) == [5, 4, 3, 2]
    assert weights == sorted(weights, reverse=True) and weights[-1] < weights[0]
    assert straight.evaluator.statistics == "running"  # type: ignore[attr-defined]
    rows = table(tmp_path / "straight")
    assert len(rows) == 5 + 4 + 3 + straight.searcher.family  # type: ignore[attr-defined]
    # Measured on the whole part: errors are whole numbers of images.
    images = len(experiment.load_data().valid)
    wrong = rows["error_percent"] * images / 100
    assert (wrong - wrong.round()).abs().max() < 1e-6 and rows["stage"].eq(0).all()
    assert set(rows["kind"]) == {records.VALIDATION}
    derived = {straight.plan.problem.space.format(a) for a in straight.searcher.derive()}
    assert derived == set(rows["arch"][12:])
    rounds = iter(range(10**6))
    stopped, _ = run(experiment, tmp_path / "stopped", lambda: next(rounds) == 9)
    assert not stopped
    assert run(experiment, tmp_path / "stopped")[0]
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "straight")


def test_limits_rule_out_what_is_recorded_all_the_same(tmp_path: Path) -> None:
    plain = tiny(budget={"epochs": 16, "interval": 2}, searcher={"name": "nsga2"}).to_dict()
    objectives = {"error": {}, "parameters": {"at_most": 9000.0}}
    experiment = Experiment.from_dict(plain | {"objectives": objectives, "searcher": {"name": "nsga2", "warmup": 0.2}})
    coordinator = start(experiment, tmp_path)
    coordinator.run(lambda: False, lambda progress: None)
    front, rows = pd.read_csv(tmp_path / "front.csv"), table(tmp_path)
    assert len(front) and (front["parameters"] <= 9000).all()
    samples = rows[rows["kind"] == records.SAMPLE]
    assert 0 < (samples["parameters"] > 9000).mean() < 1
    assert all(e.costs[1] <= 9000 for e in coordinator.archive.front)
    told = coordinator.searcher.told  # type: ignore[attr-defined]
    assert all(e.violation == pytest.approx(max(0, e.costs[1] / 9000 - 1)) for e in told)
    # What keeps the limit is measured again first, and there is enough of it.
    assert (rows.loc[rows["kind"] == records.VALIDATION, "parameters"] <= 9000).all()


def test_nothing_keeps_the_limits(tmp_path: Path) -> None:
    plain = tiny(searcher={"name": "random-search"}).to_dict()
    experiment = Experiment.from_dict({**plain, "objectives": {"error": {}, "parameters": {"at_most": 10}, "macs": {}}})
    finished, seen = run(experiment, tmp_path / "r")
    assert finished and seen[-1].hypervolume == 0
    assert pd.read_csv(tmp_path / "r/front.csv").empty
    write_report(plan_of(experiment), tmp_path / "r")
    assert "No network that was measured keeps the limits" in (tmp_path / "r/report.html").read_text()


def scratch(**searcher: Any) -> Experiment:
    plain = tiny().to_dict()
    plain |= {"training": {"name": "from-scratch", "epochs": 2, "batch": 32}, "budget": {"epochs": 24}}
    return Experiment.from_dict(plain | {"searcher": {"name": "nsga-net", "population": 4} | searcher})


def test_candidates_trained_from_scratch(tmp_path: Path) -> None:
    experiment = scratch()
    assert run(experiment, tmp_path / "straight")[0]
    rows = table(tmp_path / "straight")
    assert len(rows) == 12 and rows["arch"].is_unique and set(rows["kind"]) == {"validation"}  # 24 epochs, 2 each
    data = experiment.load_data()
    assert rows["step"].tolist() == [2 * (len(data.train) // 32) * (i + 1) for i in range(12)]
    # By itself, whatever came before: the same network has the same error.
    plan = plan_of(experiment, data)
    again, space = plan.build_evaluator(), plan.problem.space
    (found,) = again.measure([space.parse(rows["arch"][7])])
    assert 100 - found["accuracy"] == pytest.approx(rows["error_percent"][7])
    rounds = iter(range(10**6))
    run(experiment, tmp_path / "stopped", lambda: next(rounds) == 4)
    assert run(experiment, tmp_path / "stopped")[0]
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "straight")


@pytest.mark.parametrize(
    ("searcher", "says"), [({"warmup": 0.5}, "share nothing"), ({"name": "darts"}, "gradients|shared weights")]
)
def test_what_needs_shared_weights_is_refused_from_scratch(tmp_path: Path, searcher: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        plain = scratch().to_dict()
        run(Experiment.from_dict(plain | {"searcher": {"name": "nsga-net"} | searcher}), tmp_path / "r")


@pytest.mark.parametrize(
    ("searcher", "objectives", "says"),
    [
        ("nsga2", {"parameters": {"target": 5000}}, "aims at none"),
        ("proxyless-r", {"parameters": {"target": 5000}, "macs": {}}, "every objective"),
        ("tnd-nas", {"parameters": {"at_most": -1}}, "positive number"),
        ("tnd-nas", {"parameters": {"atmost": 1}}, "unknown key"),
    ],
)
def test_goals_that_cannot_be_met_are_refused(searcher: str, objectives: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        start(
            Experiment.from_dict(tiny().to_dict() | {"searcher": {"name": searcher}, "objectives": {"error": {}} | objectives}),
            tmp_path,
        )


def test_targets_reach_the_searcher(tmp_path: Path) -> None:
    objectives = {"error": {}, "parameters": {"target": 5000}, "macs": {"target": 7e5}}
    for name, key in (("proxyless-r", "targets"), ("proxyless-g", "targets"), ("tnd-nas", "bases")):
        experiment = Experiment.from_dict(tiny().to_dict() | {"searcher": {"name": name}, "objectives": objectives})
        found = getattr(start(experiment, tmp_path / name).searcher, key)
        assert found in ([5000, 7e5], [[5000, 7e5]] * 3)


def test_cells_are_generated_though_what_survives_is_no_edge(tmp_path: Path) -> None:
    given = {
        "space": {"name": "darts", "channels": 4, "cells": 3, "supernet_channels": 2},
        "budget": {"epochs": 53, "interval": 1},
    }
    plain = tiny().to_dict() | given | {"searcher": {"name": "ddpnas", "cycles": 1}}
    plain |= {"objectives": {"error": {}, "parameters": {}}, "data": {"name": "digits", "limit": 64}}
    coordinator = start(Experiment.from_dict(plain), tmp_path)

    def none_is_best(architectures: Any) -> Any:
        """Networks of no edges at all look best, so that `none` survives everywhere."""
        return [{"accuracy": 2.0 * a.count(0)} for a in architectures]

    coordinator.evaluator.measure = none_is_best  # type: ignore[method-assign]
    assert coordinator.run(lambda: False, lambda progress: None)
    made = coordinator.searcher.derive()
    survivors = coordinator.searcher.policy.options()  # type: ignore[attr-defined]
    assert sum(0 in left for left in survivors) > 8
    rows = table(tmp_path)
    validated = set(rows.loc[rows["kind"] == records.VALIDATION, "arch"])
    assert len(made) > 8 and {coordinator.plan.problem.space.format(a) for a in made} <= validated
    assert all(sum(o != 0 for o in a) == 16 for a in made)  # two edges into each of eight nodes
