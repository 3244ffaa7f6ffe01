"""A whole search as the trainable of a user's own Tuner."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray import tune

import paretoray as pr
from orchestrator.api.search import make_plan
from orchestrator.api.search_trial import overridden
from orchestrator.cluster import trials
from searchers.random_search import RandomSearch
from tests.helpers import tiny


class Slow(RandomSearch):
    """Leaves time for reports, and for being killed between them."""

    def train_on(self, steps: int) -> list[Any]:
        time.sleep(0.1)
        return super().train_on(steps)


SLOW = f"{__name__}:Slow"
BUDGET = pr.Budget(epochs=6, interval=2, validate=4, checkpoint=0.01)


@pytest.fixture(scope="module")
def problem() -> pr.Problem:
    return pr.Problem("digits-tiny", pr.data.digits(limit=200), ["error", "parameters"])


def run(trainable: Any, folder: Path, config: dict[str, Any], **settings: Any) -> Any:
    run_config = tune.RunConfig(name="run", storage_path=str(folder), verbose=0, **settings)
    return tune.Tuner(trainable, param_space=config, run_config=run_config).fit()


def records(result: pr.Result) -> pd.DataFrame:
    return result.evaluations.drop(columns="seconds")


def opened(result: Any, folder: Path) -> pr.Result:
    result.checkpoint.to_directory(str(folder))
    return pr.Result.open(folder)


@pytest.mark.usefixtures("cluster")
class TestInATuner:
    @pytest.mark.long
    def test_a_killed_trial_goes_on_with_the_same_records(self, problem: pr.Problem, tmp_path: Path) -> None:
        class KillOnce(tune.Callback):  # type: ignore[misc]
            evaluations = 0

            def on_checkpoint(self, iteration: int, trials: Any, trial: Any, checkpoint: Any, **info: Any) -> None:
                if trial.last_result["evaluations"] and not self.evaluations:
                    self.evaluations = trial.last_result["evaluations"]
                    os.kill(trial.last_result["pid"], signal.SIGKILL)

            def __getstate__(self) -> dict[str, Any]:
                return {"evaluations": 1}  # the restored one kills nobody

        kill = KillOnce()
        budget = pr.Budget(epochs=60, interval=2, validate=4, checkpoint=0.01)
        search = pr.tune.trainable(problem, pr.searchers(SLOW, samples=8), budget=budget)
        config = {"seed": 1, "searcher": {"samples": 2, "warmup": 0.1}}
        assert run(search, tmp_path, config, callbacks=[kill]).num_errors == 1 and kill.evaluations
        results = tune.Tuner.restore(str(tmp_path / "run"), search, resume_errored=True).fit()
        assert not results.errors
        last = results[0].metrics
        assert last["finished"] and last["fraction"] == 1.0 and last["evaluations"] > kill.evaluations
        found = opened(results[0], tmp_path / "found")
        straight = pr.search(
            problem,
            pr.searchers(SLOW, samples=2, warmup=0.1),
            budget=budget,
            workers=pr.Workers(ray=False, count=1),
            retrain=pr.Retraining(members=0),
            seed=1,
            out=tmp_path / "straight",
        )
        assert records(found).equals(records(straight))
        assert found.front.equals(straight.front) and found.finished
        assert last["hypervolume"] == straight.hypervolume
        assert last["best_error"] == straight.front["error_percent"].min()

    def test_actors_of_a_search_lie_in_the_trial(self, problem: pr.Problem, tmp_path: Path) -> None:
        search = pr.tune.trainable(problem, "random-search", budget=BUDGET, workers=pr.Workers(count=2))
        results = run(search, tmp_path, {"searcher.samples": 2})
        assert not results.errors and results[0].metrics["finished"]
        found = opened(results[0], tmp_path / "found")
        assert len(found.front) and found.network(1)(problem.data.valid.images[:2].float()).shape == (2, 10)
        assert not list(tmp_path.rglob("search-*"))  # no Tuner in the Tuner

    def test_our_own_tuner_on_a_path_that_cannot_be_written(self, tmp_path: Path) -> None:
        plan = make_plan(
            pr.Problem("digits-tiny", "digits", ["error", "parameters"]),
            "random-search",
            budget=BUDGET,
            workers=pr.Workers(count=1),
            training="supernet",
            seed=0,
        )
        (tmp_path / "tune").write_text("something else")
        with pytest.raises(pr.RunError, match=r"Ray Tune cannot write to .*tune: .*then resume"):
            trials.search(plan, tmp_path, lambda happened: None)
        assert (tmp_path / "tune").read_text() == "something else"


@pytest.fixture(scope="module")
def plan(problem: pr.Problem) -> Any:
    return make_plan(
        problem,
        pr.searchers.RandomSearch(samples=8),
        budget=BUDGET,
        workers=pr.Workers(ray=False, count=1),
        training={"batch": 16},
        seed=3,
    )


def test_the_config_of_a_trial_overrides_settings(plan: Any) -> None:
    assert overridden(plan, {}).experiment == plan.experiment
    changed = overridden(plan, {"seed": 7, "searcher.warmup": 0.5, "budget": {"epochs": 2}, "training.lr": 0.05}).experiment
    assert changed.searcher.settings == {"samples": 8, "warmup": 0.5}
    assert (changed.seed, changed.budget.epochs, changed.budget.interval) == (7, 2.0, 2)
    assert (changed.training.settings["lr"], changed.training.settings["batch"]) == (0.05, 16)
    other = overridden(plan, {"searcher.name": "nsga2", "searcher.population": 4}).experiment.searcher
    assert (other.name, other.settings["population"], other.settings["samples"]) == ("nsga2", 4, 20)
    assert overridden(plan, {"training.name": "from-scratch", "training.epochs": 1}).experiment.shares_weights is False


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"searcher.power": 0.1}, "unknown key searcher.power; known are samples, warmup"),
        ({"searcher.samples": "many"}, "searcher.samples = 'many'"),
        ({"searcher.name": "nsga3"}, "unknown searcher 'nsga3'"),
        ({"budget": {"hours": 1}}, "unknown key budget.hours"),
        ({"seed": 0.5}, "seed = 0.5 in the config of this trial; write a whole number"),
        ({"seed": -1}, "seeds count from 0"),
        ({"power": 0.1}, "unknown key power in the config of this trial; it may have seed, searcher.KEY"),
        ({"searcher": 3}, "unknown key searcher in the config"),
        ({"space.channels": 4}, "space.channels in the config of this trial: all trials share the problem"),
        ({"workers.count": 4}, "a trial reserves its workers"),
    ],
)
def test_a_config_that_says_something_else_is_refused(plan: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(pr.InputError, match=message):
        overridden(plan, config)


def test_what_cannot_be_run_is_refused_before_there_is_a_trial(problem: pr.Problem) -> None:
    with pytest.raises(pr.InputError, match=r"write paretoray\.Problem"):
        pr.tune.trainable(tiny(), "random-search")  # type: ignore[arg-type]
    with pytest.raises(pr.InputError, match="cannot be shared out over 3 stages"):
        pr.tune.trainable(problem, "tnd-nas", budget=pr.Budget(epochs=0.1, interval=100))
