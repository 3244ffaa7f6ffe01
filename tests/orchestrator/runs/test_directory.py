"""Run directories: made whole or not at all, and opened only where their user named what they import."""

import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.errors import InputError, RunError
from orchestrator.runs import origin, sweep
from orchestrator.runs.directory import EXPERIMENT, check_out, create, fresh, open_run
from orchestrator.search.checkpoint import alone_in
from tests.helpers import TINY, write_toml

SEARCHES = 2


def make_sweep(directory: Path, path: Path) -> None:
    sweep.create(directory, sweep.plan(path, [], ["searcher.samples=2,3"], 1))


def killed(work: Any, at: int) -> bool:
    """Run `work` in a process of its own that dies at its file operation number `at`; tells whether it did."""
    child = os.fork()
    if not child:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link"}:
                seen += 1
                if seen == at:
                    os._exit(9)

        sys.addaudithook(count)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.faults)])
def test_a_kill_at_any_file_operation_leaves_a_whole_run_or_none(tmp_path: Path, every: int) -> None:
    searches = sweep.plan(write_toml(tmp_path), [], ["searcher.samples=2,3"], 1)  # once, as it writes nothing
    points = 0
    for at in range(1, 200, every):
        directory = tmp_path / f"run-{at}"
        if not killed(lambda d=directory: sweep.create(d, searches), at):
            break
        points += 1
        if (directory / EXPERIMENT).exists():
            open_run(directory)
            assert len(sweep.settings_of(directory)) == len(sweep.folders(directory)) == SEARCHES
            for folder in sweep.folders(directory):
                open_run(folder)
            with pytest.raises(InputError, match="exists already"):
                check_out(directory)
        else:
            with pytest.raises(InputError, match=r"never completed.*search again|not a run directory"):
                open_run(directory)
            sweep.create(directory, searches)  # the same folder is taken
            assert len(sweep.folders(directory)) == SEARCHES
    assert points > 20 / every


def test_files_of_others_are_never_cleared(tmp_path: Path) -> None:
    path = write_toml(tmp_path)
    directory = tmp_path / "run"
    (directory / "searches").mkdir(parents=True)
    (directory / "searches" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        make_sweep(directory, path)
    (directory / "checkpoints").mkdir()
    (directory / "checkpoints" / "making.lock").touch()
    (directory / "notes.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        make_sweep(directory, path)
    assert (directory / "searches" / "mine.txt").read_text() == "mine"


def test_two_processes_cannot_make_the_same_directory(tmp_path: Path) -> None:
    experiment = sweep.plan(write_toml(tmp_path), [], [], 1)[0][1]
    (tmp_path / "run").mkdir()
    with alone_in(tmp_path / "run", "making.lock"), pytest.raises(RunError, match="another process"):
        create(experiment, tmp_path / "run")
    create(experiment, tmp_path / "run")


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    assert [fresh(tmp_path / "runs" / "x").name for _ in range(3)] == ["x", "x-2", "x-3"]
    with pytest.raises(InputError, match="cannot write"):
        fresh(write_toml(tmp_path) / "x")


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory that would run somebody's code, which leaves a file behind."""
    (tmp_path / "their_code.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
        "from orchestrator.data.loaders import digits\ndef load(limit: int = 60, **parts):\n    return digits(limit=limit)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the current folder is added
    monkeypatch.delitem(sys.modules, "their_code", raising=False)
    create(sweep.plan(write_toml(tmp_path, data={"name": "their_code:load"}), [], [], 1)[0][1], tmp_path / "run")
    (tmp_path / "ran").unlink()
    sys.modules.pop("their_code")
    return tmp_path / "run"


def test_what_its_own_user_named_is_imported(theirs: Path) -> None:
    assert open_run(theirs).data.name == "their_code:load"
    moved = shutil.move(theirs, theirs.with_name("elsewhere"))
    assert open_run(moved).data.name == "their_code:load"


@pytest.mark.parametrize("command", ["resume", "report", "trust"])
def test_a_run_of_somebody_else_imports_nothing_until_it_is_trusted(
    theirs: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(theirs.parent / "another home"))
    done = CliRunner().invoke(main, [command, str(theirs)])
    assert done.exit_code == 2 and not (theirs.parent / "ran").exists()
    assert "would import data.name = their_code:load" in done.output and "--trust" in done.output
    CliRunner().invoke(main, [command, str(theirs), "--trust"])
    assert (theirs.parent / "ran").exists()
    assert open_run(theirs).data.name == "their_code:load"  # from now on


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("data", {"name": "subprocess:getoutput", "cmd": "touch ran"}),
        ("data", {"name": "their_code:load", "limit": 80}),
        ("space", {"name": "subprocess:getoutput"}),
        ("searcher", {"name": "os.path:join"}),
        ("training", {"name": "os:system"}),
        ("objectives", {"error": {}, "os:system": {}}),
        ("objectives", {"error": {}, "command@x": {"command": "touch ran {arch}"}}),
    ],
)
def test_a_changed_name_or_setting_is_noticed(theirs: Path, section: str, values: dict[str, Any]) -> None:
    import tomli_w

    given = tomllib.loads((theirs / EXPERIMENT).read_text())
    (theirs / EXPERIMENT).write_text(tomli_w.dumps(given | {section: values}))
    with pytest.raises(InputError, match="was changed since, and would import"):
        open_run(theirs)
    assert not (theirs.parent / "ran").exists()


def test_trust_holds_for_all_searches_of_a_sweep(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_sweep(theirs.with_name("sweep"), theirs / EXPERIMENT)
    monkeypatch.setenv("XDG_STATE_HOME", str(theirs.parent / "another home"))
    with pytest.raises(InputError, match="--trust"):
        open_run(theirs.with_name("sweep"))
    open_run(theirs.with_name("sweep"), trust=True)
    for folder in sweep.folders(theirs.with_name("sweep")):
        open_run(folder)


def test_without_a_home_a_run_is_made_and_has_to_be_trusted(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(write_toml(tmp_path) / "no folder"))
    create(sweep.plan(theirs / EXPERIMENT, [], [], 1)[0][1], tmp_path / "second")
    with pytest.raises(InputError, match="--trust"):
        open_run(tmp_path / "second")


def test_what_names_no_code_needs_no_trust() -> None:
    assert origin.imported(TINY) == {}
    assert origin.imported({"data": {"name": "folder", "path": "c:photos"}, "seed": 3}) == {}
