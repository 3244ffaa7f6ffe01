"""An experiment that was edited, or damaged, since its run wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.runs import edits, extension
from orchestrator.runs.directory import EXPERIMENT, create, open_run
from tests.helpers import tiny


@pytest.fixture
def run(tmp_path: Path) -> Path:
    create(tiny(), tmp_path / "run")
    return tmp_path / "run"


def edit(run: Path, old: str, new: str) -> None:
    text = (run / EXPERIMENT).read_text()
    assert old in text
    (run / EXPERIMENT).write_text(text.replace(old, new))


def test_another_valid_experiment_is_refused_until_it_is_trusted(run: Path) -> None:
    edit(run, "epochs = ", "epochs = 1")
    with pytest.raises(InputError, match=r"experiment\.toml is not as the run wrote it.*--trust.*resume RUN KEY=VALUE"):
        open_run(run)
    trusted = open_run(run, trust=True)
    assert open_run(run) == trusted


def test_comments_and_runs_of_earlier_versions_are_taken(run: Path) -> None:
    edit(run, "[space]", "# mine\n[space]")
    open_run(run)
    edit(run, "epochs = ", "epochs = 1")
    (run / "checkpoints" / edits.NOTE).unlink()
    open_run(run)


def test_a_change_by_resume_is_none_by_hand(run: Path) -> None:
    extension.apply(run, {"budget": {"epochs": 40.0}})
    assert open_run(run).budget.epochs == 40
    assert len(json.loads((run / "checkpoints" / edits.NOTE).read_text())["sha256"]) == 1


def test_a_process_that_dies_while_it_writes_leaves_a_run_that_opens(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text, experiment = extension.write_text, run / EXPERIMENT

    def dying(path: Path, text: str) -> None:
        if after:
            write_text(path, text)
        raise KeyboardInterrupt

    monkeypatch.setattr(extension, "write_text", dying)
    before = experiment.read_text()
    for after in (False, True):
        with pytest.raises(KeyboardInterrupt):
            extension.apply(run, {"budget": {"epochs": 50.0}})
        assert (experiment.read_text() == before) is not after
        assert open_run(run).budget.epochs == (50 if after else open_run(run).budget.epochs)
