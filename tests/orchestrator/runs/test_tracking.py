"""Trackers of a run: TensorBoard's files read back, MLflow's database, and W&B's offline files; and trackers that fail."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from analysis import records
from orchestrator.config.plan import SearchPlan
from orchestrator.config.settings import Logging
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError, Interrupted
from orchestrator.loggers.tensorboard import FOLDER, RESULTS, TensorBoard
from orchestrator.runs import sweep, tracking
from orchestrator.runs.directory import create
from orchestrator.runs.run import check, go
from orchestrator.runs.tracking import STATE, Tracked, tracked
from orchestrator.runs.training import Training
from orchestrator.runs.watcher import Watcher
from orchestrator.search import retraining
from orchestrator.search.control import stop_file
from orchestrator.search.progress import Progress, Round
from searchers import Evaluation
from tests.helpers import assert_refused, call, table, tiny_plan

RETRAIN = {"members": 1, "epochs": 3, "batch": 50}


@pytest.fixture(autouse=True)
def every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "EVERY", 0.0)
    monkeypatch.setattr(retraining, "TELL_EVERY", 0.0)


def events(folder: Path) -> Iterator[Event]:
    """Read the event files of a folder, which are records of a length, a checksum, the bytes and theirs."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def others(folder: Path, kind: str) -> list[tuple[str, int]]:
    """Tags and steps of histograms (`histo`) or texts (`tensor`)."""
    values = [(event.step, value) for event in events(folder) for value in event.summary.value]
    return [(value.tag, step) for step, value in values if value.WhichOneof("value") == kind]


class StopAfter(Watcher):
    """Asks a run to stop after so many rounds."""

    def __init__(self, directory: Path, rounds: int) -> None:
        self.directory, self.left = directory, rounds

    def search(self, happened: Round) -> None:
        self.left -= 1
        if self.left == 0:
            stop_file(self.directory).touch()


class Warned(Watcher):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def plan(digits: Dataset) -> SearchPlan:
    return tiny_plan(
        digits, searcher={"name": "random-search", "samples": 2}, budget={"epochs": 6.0, "interval": 1}, retrain=RETRAIN
    )


@pytest.fixture
def whole(plan: SearchPlan, tmp_path: Path, no_report: None) -> Path:
    go(plan, tmp_path / "whole", Watcher(), new=True)
    return tmp_path / "whole"


def test_a_run_writes_event_files_without_being_asked(whole: Path, plan: SearchPlan) -> None:
    found, summary = scalars(whole / FOLDER), json.loads((whole / records.SUMMARY).read_text())
    for tag in ("hypervolume", "best_error_percent", "evaluations", "images_per_second", "train_loss"):
        steps = [step for step, _ in found[f"search/{tag}"]]
        assert len(steps) > 3 and steps == sorted(set(steps)), tag
    assert found["search/hypervolume"][-1][1] == pytest.approx(summary["hypervolume_of_samples"])
    assert found["search/evaluations"][-1] == (summary["spent"]["images_trained_on"], summary["spent"]["evaluations"])
    seconds, images = dict(found["search/seconds"]), [step for step, _ in found["search/seconds"]]
    for step, rate in found["search/images_per_second"]:
        before = images[images.index(step) - 1]
        assert rate == pytest.approx((step - before) / (seconds[step] - seconds[before]), rel=0.01)
    assert ("search/front/parameters", found["search/hypervolume"][-1][0]) in others(whole / FOLDER, "histo")
    assert others(whole / FOLDER, "tensor") == [("experiment/text_summary", 0)]
    # The loss of each epoch of the retraining, and the members by their numbers.
    (losses,) = (listed for tag, listed in found.items() if tag.startswith("retrain/"))
    assert [step for step, _ in losses] == [1, 2, 3]
    assert losses[-1][1] == pytest.approx(table(whole, records.RETRAINED)["train_loss"][0])
    results, front = scalars(whole / FOLDER / RESULTS), table(whole, records.FRONT)
    assert dict(results["members/parameters"]) == dict(zip(front[records.MEMBER], front["parameters"], strict=True))
    assert len(results["members/test_error_percent"]) == 1 and "members/seed" not in results


def test_a_run_that_goes_on_doubles_no_step(whole: Path, plan: SearchPlan, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    with pytest.raises(Interrupted):
        go(plan, parts, StopAfter(parts, 6), new=True)
    # As a run that was killed: it has logged more rounds than its checkpoint knows of.
    shutil.rmtree(shutil.move(parts / "checkpoints", tmp_path / "lost"))
    (parts / "checkpoints").mkdir()
    before = scalars(parts / FOLDER)["search/evaluations"]
    assert len(before) == 6
    go(plan, parts, Watcher())
    once, twice = scalars(whole / FOLDER), scalars(parts / FOLDER)
    timed = {"search/seconds", "search/images_per_second"}
    assert {tag: v for tag, v in twice.items() if tag not in timed} == {tag: v for tag, v in once.items() if tag not in timed}
    # A training with other settings is another one, and goes on behind the first.
    again = replace(plan, experiment=replace(plan.experiment, retrain=replace(plan.retraining, lr=0.01)))
    go(again, parts, Watcher())
    (losses,) = (listed for tag, listed in scalars(parts / FOLDER).items() if tag.startswith("retrain/"))
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    assert len(list((parts / FOLDER / RESULTS).iterdir())) == 1, "results take the place of those before"


def test_searches_of_a_sweep_and_a_single_training_have_files_of_their_own(
    plan: SearchPlan, tmp_path: Path, no_report: None
) -> None:
    searches = [({"seed": seed}, plan.varied(seed=seed)) for seed in (0, 1)]
    go(plan, tmp_path / "sweep", Watcher(), new=True, searches=searches)
    for folder in sweep.folders(tmp_path / "sweep"):
        summary = json.loads((folder / records.SUMMARY).read_text())
        assert scalars(folder / FOLDER)["search/evaluations"][-1][1] == summary["spent"]["evaluations"]
        assert scalars(folder / FOLDER / RESULTS)["members/parameters"]
    assert [tag for tag in scalars(tmp_path / "sweep" / FOLDER) if not tag.startswith("retrain/")] == []
    settings = ["space.channels=4", "data.limit=100", "retrain.epochs=2", "retrain.batch=25"]
    result = Training.of("digits-tiny", "conv3-skip-sep3-res3", settings).run(tmp_path / "one", Watcher())
    losses = scalars(tmp_path / "one" / FOLDER)["retrain/network/train_loss"]
    assert [step for step, _ in losses] == [1, 2] and losses[1][1] == pytest.approx(result["train_loss"])
    assert dict(scalars(tmp_path / "one" / FOLDER / RESULTS)["results/test_error_percent"])[0] == pytest.approx(
        result["test_error_percent"]
    )


def test_without_trackers_nothing_is_written(plan: SearchPlan, tmp_path: Path) -> None:
    watcher = Watcher()
    with tracked(tmp_path, Logging(tensorboard=False), watcher, tracking.SEARCH) as watching:
        assert watching is watcher
    assert list(tmp_path.iterdir()) == []


def told(run: Tracked, step: int) -> None:
    run.scalars("search", "images", step, {"hypervolume": 0.5})


def test_a_tracker_that_fails_is_a_warning(plan: SearchPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(plan.experiment, tmp_path / "run")
    watcher = Warned()

    def full(self: TensorBoard, *arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoard, "scalars", full)
    front = tuple(Evaluation((0,) * 6, (50.0, 1.0, 1.0)) for _ in range(2))
    with tracked(tmp_path / "run", Logging(), watcher, tracking.SEARCH, plan.problem.columns) as watching:
        for rounds in range(1, 4):
            progress = Progress(0, "searching", rounds, 3, rounds, 50.0, "", 0.5, rounds / 3, rounds, images=32 * rounds)
            watching.search(Round(progress, front=front))
    (warning,) = watcher.warnings
    assert "tensorboard logs nothing more of run: OSError: [Errno 28] No space left on device; the run goes on" in warning
    # One that cannot even begin.
    monkeypatch.setattr(tracking, "makers", lambda settings: {"tensorboard": full})
    with tracked(tmp_path / "run", Logging(), watcher, tracking.SEARCH):
        pass
    assert len(watcher.warnings) == 2


def test_a_tracker_that_hangs_is_left_behind(plan: SearchPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    create(plan.experiment, tmp_path / "run")
    answered = threading.Event()
    monkeypatch.setattr(TensorBoard, "scalars", lambda self, *arguments: answered.wait())
    monkeypatch.setattr(tracking, "PATIENCE", 0.05)
    watcher = Warned()
    run = Tracked(tmp_path / "run", Logging(), tracking.SEARCH, watcher.warning)
    told(run, 1)
    run.close("finished")
    answered.set()
    assert ["tensorboard has not taken all of run" in text for text in watcher.warnings] == [True]


def test_a_tracker_that_cannot_be_had_is_an_error_before_anything_starts(
    plan: SearchPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    imports = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("mlflow", "wandb"):
            raise ImportError(f"No module named {name!r}")
        return imports(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    for settings, key, extra in (
        (Logging(mlflow="sqlite:///runs.db"), "logging.mlflow", "mlflow"),
        (Logging(wandb="offline"), "logging.wandb", "wandb"),
    ):
        experiment = replace(plan.experiment, logging=settings)
        with pytest.raises(InputError, match=rf"{key} needs .*pip install 'paretoray\[{extra}\]'"):
            check(replace(plan, experiment=experiment))
    result = call("search", "logging.wandb=offline", "--out", tmp_path / "run")
    assert_refused(result, "pip install 'paretoray[wandb]'")
    assert not (tmp_path / "run").exists()


def test_where_results_are_sent_is_trusted_like_code(plan: SearchPlan, tmp_path: Path) -> None:
    create(plan.experiment, tmp_path / "run")
    path = tmp_path / "run" / "experiment.toml"
    path.write_text(path.read_text().replace("tensorboard = true", 'tensorboard = true\nmlflow = "http://elsewhere"'))
    refused = call("resume", tmp_path / "run")
    assert_refused(refused, "would send results to logging.mlflow = http://elsewhere", "--trust")


def flat(name: str) -> dict[str, Any]:
    return dict(tracking.flattened({"data": {"name": name}, "objectives": {"error": {}, "macs": {"at_most": 5}}, "seed": 0}))


def test_settings_are_parameters_with_dotted_keys() -> None:
    assert flat("digits") == {"data.name": "digits", "objectives.macs.at_most": 5, "seed": 0}
    assert dict(tracking.flattened({"searcher": {"exponents": [-0.1, -0.2]}})) == {"searcher.exponents": "[-0.1, -0.2]"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'runs.db'}"


def test_mlflow_keeps_parameters_metrics_files_and_parents(
    plan: SearchPlan, tmp_path: Path, database: str, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)  # where a database without a server keeps files
    logging = Logging(tensorboard=False, mlflow=database, project="digits")
    logged = replace(plan, experiment=replace(plan.experiment, logging=logging))
    check(logged)
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        go(logged, run, StopAfter(run, 4), new=True)
    client = mlflow.MlflowClient(database)
    identifier = json.loads((run / STATE).read_text())["runs"]["mlflow"]
    assert client.get_run(identifier).info.status == "KILLED"
    go(logged, run, Watcher())
    kept = client.get_run(identifier)
    assert kept.info.status == "FINISHED" and kept.info.run_name == "run"
    assert kept.data.params["searcher.name"] == "random-search" and kept.data.params["budget.epochs"] == "6.0"
    assert kept.data.tags["kind"] == "search" and kept.data.tags["space"] == "nas-bench-201"
    history = client.get_metric_history(identifier, "search/hypervolume")
    steps, summary = [metric.step for metric in history], json.loads((run / records.SUMMARY).read_text())
    assert len(steps) > 4 and steps == sorted(set(steps)) and steps[-1] == summary["spent"]["images_trained_on"]
    assert history[-1].value == summary["hypervolume_of_samples"]
    assert kept.data.metrics["results/hypervolume"] == summary["hypervolume"]
    assert {file.path for file in client.list_artifacts(identifier)} >= {"report.html", "front.csv", "experiment.toml"}

    searches = [({"seed": seed}, logged.varied(seed=seed)) for seed in (0, 1)]
    go(logged, tmp_path / "sweep", Watcher(), new=True, searches=searches)
    parent = json.loads((tmp_path / "sweep" / STATE).read_text())["runs"]["mlflow"]
    (experiment,) = [e for e in client.search_experiments() if e.name == "digits"]
    children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {run.data.params["seed"] for run in children} == {"0", "1"} and client.get_run(parent).data.tags["kind"] == "sweep"
    assert {run.info.status for run in children} == {"FINISHED"}


def test_a_server_of_mlflow_that_does_not_answer_is_refused(plan: SearchPlan) -> None:
    pytest.importorskip("mlflow")
    experiment = replace(plan.experiment, logging=Logging(mlflow="http://127.0.0.1:9"))
    with pytest.raises(InputError, match=r"logging.mlflow = 'http://127.0.0.1:9': no server answers"):
        check(replace(plan, experiment=experiment))
    experiment = replace(plan.experiment, logging=Logging(mlflow="nonsense://x"))
    with pytest.raises(InputError, match=r"logging.mlflow = 'nonsense://x'"):
        check(replace(plan, experiment=experiment))


def test_wandb_keeps_a_run_offline(plan: SearchPlan, tmp_path: Path, no_report: None, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    logging = Logging(tensorboard=False, wandb="offline", project="digits")
    logged = replace(plan, experiment=replace(plan.experiment, logging=logging))
    check(logged)
    go(logged, tmp_path / "run", Watcher(), new=True)
    (path,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    config, history, files = offline(path)
    assert config["searcher.name"] == "random-search" and config["seed"] == 0
    images = [row["search/images"] for row in history if "search/images" in row]
    summary = json.loads((tmp_path / "run" / records.SUMMARY).read_text())
    assert len(images) > 4 and images == sorted(set(images)) and images[-1] == summary["spent"]["images_trained_on"]
    assert [row for row in history if any(key.startswith("retrain/") for key in row)]
    assert {"report.html", "front.csv"} <= files
    assert wandb.run is None, "whoever calls this has a run of their own, or none"


def offline(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], set[str]]:
    """Read configuration, history and the names of files of artefacts from a file of W&B."""
    from wandb.proto.wandb_internal_pb2 import Record

    config: dict[str, Any] = {}
    history, files = [], set()
    for data in leveldb(path.read_bytes()[7:], 7):  # after the name of the format and its version
        record = Record()
        record.ParseFromString(data)
        for update in [*record.run.config.update, *record.config.update]:
            config[update.key or ".".join(update.nested_key)] = json.loads(update.value_json)
        if record.history.item:
            history.append({(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item})
        for artifact in (record.artifact, record.request.log_artifact.artifact):
            files |= {entry.path for entry in artifact.manifest.contents}
    return config, history, files


def leveldb(data: bytes, offset: int) -> Iterator[bytes]:
    """Split a log in LevelDB's format, of blocks of 32 KiB: a checksum, a length, and whether more of a record follows."""
    record = b""
    place = 0
    while place < len(data):
        rest = 32768 - (place + offset) % 32768
        if rest < 7:
            place += rest
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""
