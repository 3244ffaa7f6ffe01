"""Members of a front that are trained again: by a recipe, with several seeds, from a teacher, after an interruption."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import paretoray as pr
from analysis import records
from orchestrator.errors import Interrupted
from orchestrator.runs import training
from orchestrator.runs.training import Training
from orchestrator.runs.watcher import Watcher
from orchestrator.search import retraining
from orchestrator.search.progress import TrainingProgress
from tests.helpers import assert_refused, call, table, write_toml


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a fast space with two networks retrained for an epoch."""
    folder = tmp_path_factory.mktemp("finished")
    settings = {
        "space": {"name": "digits-tiny", "channels": 4},
        "searcher": {"name": "random-search"},
        "budget": {"epochs": 6, "interval": 2},
        "objectives": {"error": {}, "parameters": {}},
        "front": {"judge": False},
        "retrain": {"members": 2, "epochs": 1, "batch": 40},
    }
    result = call("search", write_toml(folder, **settings), "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path, no_report: None) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def weights(run: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(run / "networks" / f"{name}.pt", weights_only=True)
    return found


def test_seeds_give_a_mean_and_a_deviation(run: Path) -> None:
    result = call("retrain", run, "--epochs", 2, "seeds=3")
    assert result.exit_code == 0, result.output
    assert "have other settings than [retrain] now" in result.output
    trained, front = table(run, records.RETRAINED), table(run, records.FRONT).set_index("arch")
    assert trained.groupby("arch")["retrain_seed"].apply(list).tolist() == [[0, 1, 2]] * 2
    assert (trained["retrain_epochs"] == 2).all()
    for arch, errors in trained.groupby("arch")[records.TEST_ERROR]:
        row = front.loc[arch]
        assert row[records.TEST_ERROR] == pytest.approx(errors.mean()) and row[records.SEEDS] == 3
        assert row[records.TEST_DEVIATION] == pytest.approx(np.std(errors, ddof=1))
    number = int(front.loc[trained["arch"][0], records.MEMBER])
    assert not torch.equal(*(next(iter(weights(run, f"network-{number}{s}").values())) for s in ("", "-seed-1")))
    assert not (run / "networks" / retraining.UNFINISHED).exists()
    again = call("resume", run)
    assert again.exit_code == 0 and "is finished" in again.output


def test_the_largest_member_teaches_the_others(run: Path) -> None:
    result = call("retrain", run, "distill=0.5", "--members", 3)
    assert result.exit_code == 0, result.output
    front, space = table(run, records.FRONT), pr.load(run, int(table(run, records.RETRAINED)["member"][0])).space
    chosen = front[front["standing"] != "not retrained"]
    largest = max(chosen["arch"], key=lambda arch: space.macs(space.parse(arch)))
    settings = {row.arch: json.loads((run / "networks" / f"network-{row.member}.json").read_text())["settings"] for row in
                chosen.itertuples()}  # fmt: skip
    assert "distill" not in settings[largest] and len(settings) == len(chosen) > 1
    assert all(s["distill"] == 0.5 and s["teacher"] for arch, s in settings.items() if arch != largest)


def test_an_interrupted_training_goes_on_to_the_same_files(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path(shutil.copytree(run, run.with_name("other")))
    assert call("retrain", other, "--epochs", 4).exit_code == 0
    retrained, told = retraining.try_member, []
    monkeypatch.setattr(retraining, "TELL_EVERY", 0.0)

    def stopping(plan: Any, member: Any, progress: Any, **more: Any) -> None:
        def once(progressed: TrainingProgress) -> None:
            told.append(progressed.fraction)
            if len(told) == 6:  # in the middle of the second epoch
                raise Interrupted
            progress(progressed)

        retrained(plan, member, once, **more)

    monkeypatch.setattr("orchestrator.runs.retraining.try_member", stopping)
    assert call("retrain", run, "--epochs", 4).exit_code == 130
    saved = list((run / "networks" / retraining.UNFINISHED).glob("*/latest.pt"))
    assert len(saved) == 1 and told[-1] % 0.25
    assert call("resume", run).exit_code == 0
    assert told[6] > told[5], "it goes on where it stopped"
    assert not saved[0].exists() and "goes on from step 6" in (run / "run.log").read_text()
    for path in sorted((other / "networks").glob("*.pt")):
        assert all(torch.equal(v, weights(other, path.stem)[k]) for k, v in weights(run, path.stem).items())
    assert table(run, records.FRONT).equals(table(other, records.FRONT))


def small(*settings: str) -> Training:
    given = ["space.channels=4", "data.limit=100", "retrain.epochs=4", "retrain.batch=25", *settings]
    return Training.of("digits-tiny", "conv3-skip-sep3-res3", given)


def stopped_after(monkeypatch: pytest.MonkeyPatch, directory: Path, steps: int, *settings: str) -> None:
    class Stop(Watcher):
        told = 0

        def retrain(self, arch: str, fraction: float, members: int) -> None:
            self.told += 1
            if self.told == steps:
                (directory / ".stop").touch()

    monkeypatch.setattr(retraining, "TELL_EVERY", 0.0)
    with pytest.raises(Interrupted):
        small(*settings).run(directory, Stop())


def test_a_single_training_goes_on_by_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small().run(tmp_path / "whole", Watcher())
    stopped_after(monkeypatch, tmp_path / "parts", 8)
    with pytest.raises(pr.InputError, match="exists already"):
        small("retrain.lr=0.5").run(tmp_path / "parts", Watcher())
    parts = small().run(tmp_path / "parts", Watcher())
    assert parts["test_error_percent"] == whole["test_error_percent"] and parts["train_loss"] == whole["train_loss"]
    with pytest.raises(pr.InputError, match="exists already"):
        small().run(tmp_path / "parts", Watcher())
    assert (tmp_path / "parts" / training.RESULT).exists()


@pytest.mark.parametrize("damage", ["bytes", "settings"])
def test_a_checkpoint_that_is_damaged_or_of_another_training_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    whole = small().run(tmp_path / "whole", Watcher())
    stopped_after(monkeypatch, tmp_path / "parts", 8)
    path = tmp_path / "parts" / retraining.UNFINISHED / "network" / "latest.pt"
    if damage == "bytes":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        stopped_after(monkeypatch, tmp_path / "others", 8, "retrain.lr=0.5")
        shutil.copy(tmp_path / "others" / retraining.UNFINISHED / "network" / "latest.pt", path)
    assert small().run(tmp_path / "parts", Watcher())["train_loss"] == whole["train_loss"]
    log = (tmp_path / "parts" / "run.log").read_text()
    assert ("damaged" if damage == "bytes" else "of a training with other settings") in log and "goes on from" not in log


def test_a_teacher_may_come_from_another_training(tmp_path: Path, run: Path) -> None:
    small("retrain.seeds=2").run(tmp_path / "teacher", Watcher())
    result = json.loads((tmp_path / "teacher" / training.RESULT).read_text())
    assert (
        result["test_error_percent"] == pytest.approx(np.mean(result["test_errors_percent"])) and result["retrain_seeds"] == 2
    )
    teacher = tmp_path / "teacher" / "network.pt"
    alone, taught = (
        small(*more).run(tmp_path / name, Watcher())
        for name, more in (("alone", []), ("taught", ["retrain.distill=0.9", f"retrain.teacher={teacher}"]))
    )
    assert taught["train_loss"] != alone["train_loss"]
    before = (run / "experiment.toml").read_bytes()
    assert_refused(call("retrain", run, "cutout=16"), "retrain.cutout = 16", "leaves nothing of images of 8x8")
    assert_refused(call("retrain", run, "--recipe", "dart"), "did you mean 'darts'")
    assert_refused(call("retrain", run), "--members 8")
    assert_refused(call("retrain", run, "distill=0.5", f"teacher={tmp_path / 'none.pt'}"), "none.pt is missing")
    assert (run / "experiment.toml").read_bytes() == before
