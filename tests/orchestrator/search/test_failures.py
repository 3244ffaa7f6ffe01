"""Searches in which some networks fail: they are recorded, told to the method as infeasible, and not tried again."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis import records
from orchestrator import registry
from orchestrator.cluster import trials
from orchestrator.data.dataset import Dataset
from orchestrator.errors import Interrupted, RunError
from orchestrator.evaluators.base import Failure, Measured, attempt
from orchestrator.runs.report import write_report
from orchestrator.runs.run import go
from orchestrator.runs.watcher import Watcher
from orchestrator.search.coordinator import Coordinator
from orchestrator.search.progress import Round
from searchers import Architecture, Evaluation
from searchers.random_search import RandomSearch
from tests.fakes import FAKE, FakeEvaluator
from tests.helpers import call, run, table, timeless, tiny_plan, write_toml

OWN: dict[str, Any] = {
    "space": {"name": "tests.failing:build"},
    "objectives": {"error": {}, "parameters": {}},
    "searcher": {"name": "random-search"},
    "training": {"name": "from-scratch", "epochs": 1, "batch": 50},
}
BAD = ("nan", "serving", "hungry")


class Picky(FakeEvaluator):
    """Networks with a large first block cannot be measured, and those with a large second one not be trained alone."""

    def _picked(self, architectures: Sequence[Architecture], metrics: Sequence[Measured], choice: int) -> list[Measured]:
        return [Failure("too large") if a[choice] == 3 else m for a, m in zip(architectures, metrics, strict=True)]

    def measure(self, architectures: Sequence[Architecture]) -> list[Measured]:  # type: ignore[override]
        self.calls += [f"measure {a}" for a in architectures]
        return self._picked(architectures, super().measure(architectures), 0)

    def measure_on_batch(self, architectures: Sequence[Architecture], batch: int) -> list[Measured]:  # type: ignore[override]
        self.calls += [f"measure {a}" for a in architectures]
        return self._picked(architectures, super().measure_on_batch(architectures, batch), 0)

    def train_alone(self, architectures: Sequence[Architecture], epochs: int) -> list[Measured]:  # type: ignore[override]
        self.calls += [f"train {a}" for a in architectures]
        return self._picked(architectures, super().train_alone(architectures, epochs), 1)


PICKY = FAKE | {"training": {"name": f"{__name__}:Picky"}}


def test_a_search_goes_on_without_the_networks_that_fail(digits: Dataset, tmp_path: Path) -> None:
    seen: list[Round] = []
    (tmp_path / "checkpoints").mkdir()
    plan = tiny_plan(digits, **OWN, budget={"epochs": 24})
    assert Coordinator(plan, tmp_path, plan.build_evaluator()).run(lambda: False, seen.append)
    evaluations, failures, front = (table(tmp_path, n) for n in (records.EVALUATIONS, records.FAILURES, records.FRONT))
    assert len(evaluations) + len(failures) == seen[-1].progress.evaluations == 24
    assert seen[-1].progress.failed == len(failures) == json.loads((tmp_path / records.SUMMARY).read_text())["failed"]
    for arch in [*evaluations["arch"], *front["arch"]]:
        assert not any(option in arch for option in BAD)
    for arch, reason in zip(failures["arch"], failures["reason"], strict=True):
        assert any(option in arch for option in BAD)
        if "nan" not in arch and "hungry" not in arch:
            assert reason.startswith("ValueError: only for serving (failing.py, line ") and "more lines" not in reason
    assert failures["arch"].is_unique and len(front) and front["error_percent"].notna().all()
    write_report(plan, tmp_path)
    assert "Networks that failed" in (page := (tmp_path / "report.html").read_text()) and "only for serving" in page


def test_records_are_equal_when_interrupted_and_with_actors(digits: Dataset, cluster: None, tmp_path: Path) -> None:
    plan = tiny_plan(digits, **OWN, budget={"epochs": 12})
    run(plan, tmp_path / "whole")
    for stop in (2, 5, 9):
        run(plan, tmp_path / "parts", stop)
    run(plan, tmp_path / "parts")
    (tmp_path / "ray" / "checkpoints").mkdir(parents=True)
    ray = tiny_plan(digits, **OWN, budget={"epochs": 12}, workers={"ray": True, "count": 1})
    assert trials.resilient(ray, tmp_path / "ray", lambda happened: None)[1]
    for other in ("parts", "ray"):
        for name in (records.EVALUATIONS, records.FAILURES):
            assert timeless(tmp_path / other, name) == timeless(tmp_path / "whole", name)


@pytest.mark.long
def test_replicas_leave_out_the_same_steps(digits: Dataset, cluster: None, tmp_path: Path) -> None:
    sections = OWN | {"training": {"batch": 32}, "budget": {"epochs": 6, "landmarks": 0.0, "finalists": 0.0}}
    (tmp_path / "checkpoints").mkdir()
    plan = tiny_plan(digits, **sections, workers={"ray": True, "count": 2})
    assert trials.resilient(plan, tmp_path, lambda happened: None)[1]
    summary = json.loads((tmp_path / records.SUMMARY).read_text())
    assert 0 < summary["spent"]["weight_steps_skipped"] < summary["spent"]["weight_steps"]
    assert not table(tmp_path)["arch"].str.contains("nan").any() and summary["failed"] > 0


@pytest.mark.parametrize("name", ["tnd-nas", "random-search", "ddpnas", "proxyless-g", "darts", "preference-policy"])
def test_every_kind_of_method_is_told_and_no_failure_is_tried_again(digits: Dataset, tmp_path: Path, name: str) -> None:
    sections = PICKY | {
        "searcher": {"name": name},
        "budget": {"epochs": 16, "interval": 1},
        "front": {"judge": name == "random-search"},
    }
    plan = tiny_plan(digits, **sections)
    coordinator = run(plan, tmp_path)
    failures = table(tmp_path, records.FAILURES)
    assert coordinator.finished and failures["arch"].is_unique
    assert not set(failures["arch"]) & set(table(tmp_path, records.FRONT)["arch"])
    assert not table(tmp_path)["arch"].str.startswith("large").any()
    evaluator = coordinator.evaluator
    assert isinstance(evaluator, Picky)
    for arch in failures["arch"]:
        tried = plan.problem.space.parse(arch)
        assert evaluator.calls.count(f"measure {tried}") <= 1 or tried[0] != 3
        assert evaluator.calls.count(f"train {tried}") <= 1


def test_networks_that_fail_alone_take_their_turn_and_no_more(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.config.plan.FEWEST_STEPS", 1)
    shares = {"landmarks": 0.3, "finalists": 0.3, "validate": 4}
    sections = PICKY | {"searcher": {"name": "random-search"}, "budget": {"epochs": 30, "interval": 4} | shares}
    plan = tiny_plan(digits, **sections)
    alone = plan.alone
    coordinator = run(plan, tmp_path / "whole")
    for stop in (7, 4, 3):
        run(plan, tmp_path / "parts", stop)
    run(plan, tmp_path / "parts")
    for name in (records.EVALUATIONS, records.FAILURES):
        assert timeless(tmp_path / "parts", name) == timeless(tmp_path / "whole", name)
    assert isinstance(coordinator.evaluator, Picky)
    trained = [c for c in coordinator.evaluator.calls if c.startswith("train (")]
    failed = table(tmp_path / "whole", records.FAILURES)
    assert (failed["kind"] == records.LANDMARK).any() and alone.landmarks
    assert len(trained) == alone.landmarks + alone.finalists
    assert not table(tmp_path / "whole", records.FRONT)["arch"].str.contains("^[a-z]+-large", regex=True).any()


class Hearing(RandomSearch):
    """Remembers what it was told."""

    heard: list[Evaluation]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self.heard = [*getattr(self, "heard", []), *evaluations]
        super().tell(evaluations)


def test_a_failure_is_told_as_the_worst_error_and_a_broken_limit(digits: Dataset, tmp_path: Path) -> None:
    sections = OWN | {"searcher": {"name": f"{__name__}:Hearing"}, "budget": {"epochs": 12}}
    plan = tiny_plan(digits, **sections)
    searcher = run(plan, tmp_path).searcher
    assert isinstance(searcher, Hearing)
    failed = [e for e in searcher.heard if e.failed]
    assert failed and len(failed) < len(searcher.heard)
    for evaluation in failed:
        assert evaluation.costs == (100.0, plan.problem.space.parameters(evaluation.architecture))
        assert evaluation.violation >= 1.0
    assert all(e.violation == 0 for e in searcher.heard if not e.failed)


def test_failures_survive_in_a_searchers_state() -> None:
    evaluation = Evaluation((1, 2), (100.0, 5.0), 1.0, failed=True)
    assert Evaluation.from_data(evaluation.to_data()) == evaluation
    assert Evaluation.from_data([[1, 2], [3.0, 5.0], 0.0]) == Evaluation((1, 2), (3.0, 5.0))
    with pytest.raises(ValueError, match="must be above 0"):
        Evaluation((1, 2), (100.0, 5.0), failed=True)


def test_a_search_in_which_everything_fails_is_an_error(digits: Dataset, tmp_path: Path) -> None:
    sections = OWN | {"training": OWN["training"] | {"lr": 1e30, "clip": 1e30}}
    with pytest.raises(RunError, match=r"^all of the first 10 networks failed; the last one was .*"):
        run(tiny_plan(digits, **sections, budget={"epochs": 30}), tmp_path / "many")
    with pytest.raises(RunError, match=r"^all 3 networks that the budget paid for failed; .*"):
        run(tiny_plan(digits, **sections, budget={"epochs": 3}), tmp_path / "few")


def test_a_search_whose_weights_were_never_trained_is_an_error(digits: Dataset, tmp_path: Path) -> None:
    sections = OWN | {"searcher": {"name": "tnd-nas"}, "training": {"name": "supernet", "batch": 32}}
    with pytest.raises(RunError, match=r"^not one of \d+ weight steps could be taken .* remove the option"):
        run(tiny_plan(digits, **sections, budget={"epochs": 10}), tmp_path)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, Interrupted, RunError])
def test_what_stops_a_run_is_no_failure_of_a_network(stop: type[BaseException]) -> None:
    def stopped() -> None:
        raise stop("stop")

    with pytest.raises(stop):
        attempt(stopped)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), OSError("x" * 999), ZeroDivisionError("by 0\nlines")])
def test_a_reason_is_a_short_line(error: Exception) -> None:
    def raising() -> None:
        raise error

    failure = attempt(raising)
    assert isinstance(failure, Failure) and failure.reason.startswith(type(error).__name__)
    assert "\n" not in failure.reason and len(failure.reason) < 400


def test_members_that_cannot_be_retrained_are_reported_and_the_others_go_on(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.search import retraining

    sections = OWN | {"budget": {"epochs": 16}, "front": {"judge": False}, "retrain": {"members": 3, "epochs": 1}}
    plan = tiny_plan(digits, **sections)
    retrain, tried = retraining.retrain, []

    def failing(network: Any, architecture: Architecture, *arguments: Any, **settings: Any) -> dict[str, float]:
        tried.append(architecture)
        if len(tried) == 2:
            raise MemoryError
        return retrain(network, architecture, *arguments, **settings)

    monkeypatch.setattr(retraining, "retrain", failing)
    go(plan, tmp_path / "run", Watcher(), new=True)
    summary, front = json.loads((tmp_path / "run" / records.SUMMARY).read_text()), table(tmp_path / "run", records.FRONT)
    arch = plan.problem.space.format(tried[1])
    assert summary[records.RETRAINING_FAILED] == {arch: summary[records.RETRAINING_FAILED][arch]} and len(tried) == 2
    assert front.set_index("arch")["standing"][arch] == "training failed" and front["arch"].iloc[-1] == arch
    assert len(table(tmp_path / "run", records.RETRAINED)) == 1 and (front["standing"] == "front").any()
    assert "MemoryError" in (tmp_path / "run" / "report.html").read_text()
    go(plan, tmp_path / "run", Watcher())
    assert len(tried) == 2, "neither is trained again"
    go(tiny_plan(digits, **sections | {"retrain": {"members": 3, "epochs": 1, "lr": 0.01}}), tmp_path / "run", Watcher())
    assert sorted(tried[2:]) == sorted(tried[:2]), "with other settings all are trained anew, to be comparable"
    assert not json.loads((tmp_path / "run" / records.SUMMARY).read_text())[records.RETRAINING_FAILED]


def test_a_run_whose_members_all_fail_to_be_retrained_is_an_error(tmp_path: Path) -> None:
    settings = OWN | {"budget": {"epochs": 12}, "retrain": {"members": 2, "epochs": 1, "lr": 1e30, "clip": 1e30}}
    result = call("search", write_toml(tmp_path, **settings), "--out", tmp_path / "run")
    assert result.exit_code == 1 and "not one of" in result.output and "lower retrain.lr" in result.output
    front = table(tmp_path / "run", records.FRONT)
    assert (front["standing"] != "front").all() and (tmp_path / "run" / "report.html").exists()
    assert call("resume", tmp_path / "run").exit_code == 1


def test_a_drawing_that_raises_is_left_out_of_the_report(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis import drawing
    from orchestrator.spaces.parts.own import OwnSpace

    plan = tiny_plan(digits, **OWN, budget={"epochs": 12})
    run(plan, tmp_path)
    front = table(tmp_path, records.FRONT)
    drawn = OwnSpace.graph

    def graph(self: OwnSpace, architecture: Architecture) -> Any:
        if self.format(architecture) == front["arch"][0]:
            raise ZeroDivisionError("no picture of this")
        return drawn(self, architecture)

    monkeypatch.setattr(OwnSpace, "graph", graph)
    write_report(plan, tmp_path)
    assert "Network 1 could not be drawn: ZeroDivisionError: no picture of this" in (tmp_path / "report.html").read_text()
    monkeypatch.setattr(OwnSpace, "graph", drawn)
    monkeypatch.setattr(drawing, "figure", lambda graph: math.log(0))
    write_report(plan, tmp_path)
    assert "math domain error" in (tmp_path / "report.html").read_text()


def test_sampled_methods_learn_from_failures(digits: Dataset, tmp_path: Path) -> None:
    """All of them end, and by its end a method that learns asks for fewer networks that fail than chance does."""
    shares = {}
    for name in ("nsga2", "surrogate-search", "aging-evolution", "local-search", "nsga-net", "pymoo-algorithm"):
        assert name in registry.known("searcher")
        sections = PICKY | {
            "searcher": {"name": name, "warmup": 0.1},
            "budget": {"epochs": 60, "interval": 8},
            "front": {"judge": False},
        }
        coordinator = run(tiny_plan(digits, **sections), tmp_path / name)
        failed = len(table(tmp_path / name, records.FAILURES))
        shares[name] = failed / coordinator.spending.evaluations
        assert coordinator.finished, name
    assert sum(shares.values()) / len(shares) < 0.25, shares
