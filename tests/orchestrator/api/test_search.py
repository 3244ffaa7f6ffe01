"""Searches from Python: what they return, whom they call, and what a library must not do."""

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import paretoray as pr
from analysis import records
from tests.helpers import tiny_plan

pytestmark = pytest.mark.usefixtures("no_report")
HERE = pr.Workers(ray=False, count=1)
FEW: dict[str, Any] = {"budget": pr.Budget(epochs=8, interval=1), "workers": HERE, "retrain": pr.Retraining(members=0)}


@pytest.fixture(scope="module")
def problem() -> pr.Problem:
    return pr.Problem("digits-tiny", pr.data.digits(limit=200), ["error", "parameters"])


@pytest.fixture(scope="module")
def result(problem: pr.Problem, tmp_path_factory: pytest.TempPathFactory) -> pr.Result:
    retrain = pr.Retraining(members=1, epochs=2, batch=20)
    return pr.search(problem, "random-search", out=tmp_path_factory.mktemp("api") / "run", **{**FEW, "retrain": retrain})


def test_a_result_has_the_front_with_units_and_every_evaluation(result: pr.Result) -> None:
    assert result.finished and 0 < result.hypervolume <= 1
    front = result.front
    assert {"member", "arch", "standing", "error_percent", "parameters", "test_error_percent"} <= set(front.columns)
    units = front.attrs["units"]
    assert [units[c] for c in ("error_percent", "parameters", "test_error_percent", "test_error_low_percent")] == [
        "%",
        "",
        "%",
        "%",
    ]
    assert front["test_error_percent"].notna().tolist() == [True] + [False] * (len(front) - 1)
    assert front["error_percent"].iloc[1:].is_monotonic_increasing
    assert set(front["arch"]) <= set(result.evaluations["arch"])
    assert result.report().read_text().startswith("<!")


def test_a_member_is_a_plain_module_with_its_weights(result: pr.Result, problem: pr.Problem) -> None:
    front = result.front
    (row,) = np.flatnonzero(front["test_error_percent"].notna())
    network = result.network(int(front["member"].iloc[row]))
    assert not any(type(m).__module__.startswith("orchestrator.spaces.parts.choice") for m in network.modules())
    test = problem.data.test
    with torch.no_grad():
        wrong = (network(problem.data.normalise(test.images)).argmax(dim=1) != test.labels).float().mean()
    assert 100 * float(wrong) == pytest.approx(front["test_error_percent"].iloc[row], abs=1e-4)
    for number in (0, len(front) + 1):
        with pytest.raises(pr.InputError, match=f"no member {number}; the members of its front are 1, 2"):
            result.network(number)


def test_other_members_come_with_inherited_weights(result: pr.Result, problem: pr.Problem) -> None:
    from orchestrator.trust.weights import SharedWeights

    row = int(np.flatnonzero(result.front["test_error_percent"].isna())[0])
    other = int(result.front["member"].iloc[row])
    with pytest.raises(pr.InputError, match="was not retrained"):
        result.network(other, "retrained")
    network = result.network(other)
    images = problem.data.normalise(problem.data.valid.images)
    architecture = problem.space.parse(result.front["arch"].iloc[row])
    # The same as the supernet itself measures with recalibrated statistics.
    supernet = SharedWeights(result.plan, result.directory).supernet("recalibrated", problem.data)
    (measured,) = supernet.measure([architecture])
    with torch.no_grad():
        right = (network(images).argmax(dim=1) == problem.data.valid.labels).float().mean()
    assert 100 * float(right) == pytest.approx(measured["accuracy"], abs=1e-4)


def test_objects_give_the_records_that_names_give(tmp_path: Path, result: pr.Result) -> None:
    from orchestrator.spaces.digits_tiny import DigitsTiny
    from searchers.random_search import RandomSearch

    data = pr.Problem("digits-tiny", pr.data.digits(limit=200), ["error", "parameters"]).data
    objects = pr.Problem(DigitsTiny(image=data.image, classes=10), data, {"error": {}, "parameters": {}})
    again = pr.search(objects, RandomSearch, out=tmp_path / "objects", **FEW)
    pd.testing.assert_frame_equal(again.evaluations.drop(columns="seconds"), result.evaluations.drop(columns="seconds"))
    assert pr.Result.open(tmp_path / "objects").front["arch"].tolist() == again.front["arch"].tolist()


def build(image: tuple[int, int, int], classes: int, width: int = 4) -> nn.Module:
    options = {
        "conv3": lambda: nn.Conv2d(width, width, 3, padding=1),
        "conv1": lambda: nn.Conv2d(width, width, 1),
        "skip": nn.Identity,
    }
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
    return nn.Sequential(
        nn.Conv2d(image[0], width, 3, padding=1), pr.Choice("a", options), nn.ReLU(), pr.Choice("b", options), *head
    )


def test_objects_that_no_file_can_name_are_resumed_with_the_problem(tmp_path: Path) -> None:
    class Depth(pr.Objective):
        column = title = "depth"

        def cost(self, architecture: pr.Architecture, metrics: dict[str, float]) -> float:
            return 1.0 + sum(architecture)

    named = tiny_plan().problem.data
    data = pr.Dataset(named.train, named.valid, named.test, named.classes, named.mean, named.std, named.flip, named.crop)
    problem = pr.Problem(build, data, ["error", "macs", Depth])
    stopped = pr.search(problem, "random-search", out=tmp_path / "run", callbacks=[StopAfter(2)], **FEW)
    assert not stopped.finished
    with pytest.raises(pr.InputError, match="resume"):
        pr.resume(tmp_path / "run")
    assert pr.resume(tmp_path / "run", problem).finished


class StopAfter(pr.Callback):
    """Notes what it is told, and stops after some rounds with news."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.measured, self.fronts, self.stages = rounds, [], [], []  # type: ignore[var-annotated]

    def on_evaluation(self, evaluations: Any) -> None:
        self.measured += evaluations

    def on_front(self, front: Any) -> None:
        self.fronts.append(front)

    def on_stage(self, stage: int) -> None:
        self.stages.append(stage)

    def on_progress(self, progress: pr.Progress) -> None:
        self.rounds -= 1
        if not self.rounds:
            raise pr.StopSearch


def test_callbacks_are_told_of_everything(problem: pr.Problem, tmp_path: Path) -> None:
    told = StopAfter(-1)
    method = pr.searchers.TndNas(samples=3, keep=(0.6, 0.5))
    result = pr.search(
        problem, method, out=tmp_path / "run", callbacks=[told], **{**FEW, "budget": pr.Budget(epochs=8, interval=2)}
    )
    rows = result.evaluations
    samples = rows[rows["kind"] == records.SAMPLE]
    assert [m.arch for m in told.measured] == samples["arch"].tolist()
    assert [m.costs["error_percent"] for m in told.measured] == samples["error_percent"].tolist()
    assert told.stages == [0, 1, 2] and len(told.fronts) >= 1
    best = told.fronts[-1]
    assert [m.costs["error_percent"] for m in best] == sorted(m.costs["error_percent"] for m in best)


def test_a_callback_stops_a_search_that_goes_on_to_the_same_records(
    problem: pr.Problem, tmp_path: Path, result: pr.Result
) -> None:
    stopped = pr.search(problem, "random-search", out=tmp_path / "run", callbacks=[StopAfter(7)], **FEW)
    assert not stopped.finished and len(stopped.evaluations) < len(result.evaluations)
    with pytest.raises(pr.InputError, match="resume"):
        pr.search(problem, "random-search", out=tmp_path / "run", **FEW)
    resumed = pr.resume(tmp_path / "run")
    pd.testing.assert_frame_equal(resumed.evaluations.drop(columns="seconds"), result.evaluations.drop(columns="seconds"))


def test_an_error_in_a_callback_is_raised_once_the_state_is_saved(problem: pr.Problem, tmp_path: Path) -> None:
    class Broken(pr.Callback):
        def on_evaluation(self, evaluations: Any) -> None:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pr.search(problem, "random-search", out=tmp_path / "run", callbacks=[Broken()], **FEW)
    assert pr.resume(tmp_path / "run").finished


def test_nothing_of_the_process_is_changed(problem: pr.Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search in a thread, where signal handlers cannot be set at all."""
    monkeypatch.chdir(tmp_path)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = (signal.getsignal(signal.SIGINT), Path.cwd(), torch.get_num_threads())
    expected = (random.random(), float(np.random.rand()), float(torch.rand(())))
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    done: list[pr.Result] = []
    thread = threading.Thread(target=lambda: done.append(pr.search(problem, "nsga2", out="run", **FEW)))
    thread.start()
    thread.join()
    assert done[0].finished
    assert (signal.getsignal(signal.SIGINT), Path.cwd(), torch.get_num_threads()) == before
    assert (random.random(), float(np.random.rand()), float(torch.rand(()))) == expected


@pytest.mark.usefixtures("cluster")
def test_actors_in_a_search_from_python(problem: pr.Problem, tmp_path: Path, result: pr.Result) -> None:
    told = StopAfter(-1)
    actors = pr.search(
        problem, "random-search", out=tmp_path / "run", callbacks=[told], **{**FEW, "workers": pr.Workers(count=1)}
    )
    pd.testing.assert_frame_equal(actors.evaluations.drop(columns="seconds"), result.evaluations.drop(columns="seconds"))
    samples = actors.evaluations[actors.evaluations["kind"] == records.SAMPLE]
    assert [m.arch for m in told.measured] == samples["arch"].tolist() and told.stages == [0]


@pytest.mark.usefixtures("cluster")
def test_a_search_inside_a_ray_task(tmp_path: Path) -> None:
    import ray

    @ray.remote(num_cpus=1)
    def task(out: str) -> list[str]:
        problem = pr.Problem("digits-tiny", pr.data.digits(limit=200), ["error", "parameters"])
        front = pr.search(problem, "random-search", out=out, **FEW).front
        return list(front["arch"])

    assert len(ray.get(task.remote(str(tmp_path / "run")))) >= 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pr.Problem("digits-tyni"), "did you mean 'digits-tiny'"),
        (lambda: pr.Problem("digits-tiny", "digit"), "did you mean 'digits'"),
        (lambda: pr.Problem("digits-tiny", 3), "data is int"),  # type: ignore[arg-type]
        (lambda: pr.Problem(3), "space is int"),  # type: ignore[arg-type]
        (lambda: pr.Problem("digits-tiny", "digits", ["parameters"]), "must begin with error"),
        (lambda: pr.Problem("digits-tiny", "digits", ["error", int]), "it is no Objective"),  # type: ignore[list-item]
        (lambda: pr.Budget(epochs=0), "budget.epochs = 0"),
        (lambda: pr.Budget(evaluations=2.5), "budget.evaluations"),  # type: ignore[arg-type]
        (lambda: pr.spaces.DigitsTiny(chanels=3), "did you mean 'channels'"),
        (lambda: pr.searchers.TndNas(samples="many"), "searcher.samples = 'many'"),
        (lambda: pr.search("digits-tiny"), "problem is str"),  # type: ignore[arg-type]
        (lambda: pr.Result.open("nowhere"), "not a run directory"),
    ],
)
def test_wrong_input_is_one_clear_error(make: Any, says: str) -> None:
    with pytest.raises(pr.InputError, match=says):
        make()


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"known are .*TndNas"):
        pr.searchers.TnDnAs  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        pr.serch  # type: ignore[attr-defined]  # noqa: B018
    assert "TndNas" in dir(pr.searchers) and "search" in dir(pr)


def test_import_is_light_and_every_name_is_there() -> None:
    code = (
        "import sys, paretoray as pr; print(sorted({'torch', 'ray', 'pandas'} & set(sys.modules)));"
        "[getattr(pr, name) for name in pr.__all__]"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.returncode == 0 and out.stdout.strip() == "[]", out.stdout + out.stderr


@pytest.mark.parametrize("file", ["analysis/__init__.py", "searchers/__init__.py", "analysis/notes.txt"])
def test_a_folder_that_shadows_ours_is_named(file: str, tmp_path: Path) -> None:
    (shadow := (tmp_path / file).parent).mkdir()
    (tmp_path / file).touch()
    out = subprocess.run([sys.executable, "-c", "import paretoray"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert out.returncode == 1 and str(shadow.resolve()) in out.stderr and "shadows" in out.stderr
