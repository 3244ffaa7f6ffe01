"""`paretoray watch`: the page of a run as it goes on, by its files alone, for this machine alone."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from analysis import records
from orchestrator.errors import InputError, Interrupted
from orchestrator.runs import live
from orchestrator.runs.directory import create
from orchestrator.runs.live import LiveRun
from orchestrator.runs.status import STATUS, Recording, read_status
from orchestrator.runs.watch import Watch
from orchestrator.runs.watcher import Watcher
from orchestrator.search.progress import Progress, Round
from tests.helpers import assert_refused, call, run, table, tiny_plan

HALF = Progress(1, "searching", 5, 10, 1234, 12.5, "one batch", 0.25, 0.5, 60.0, [{"processor": "x86"}], 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs: `half`, which goes on, with results so far, and `begun`, which has none yet."""
    folder = tmp_path_factory.mktemp("runs")
    plan = tiny_plan()
    for name in ("half", "begun"):
        create(plan.experiment, folder / name)
    run(plan, folder / "half", rounds=8)
    for name in (records.SUMMARY, records.FRONT):
        (folder / "half" / name).unlink()  # as before the end of a search
    Recording(Watcher(), folder / "half", "2 Ray actors").search(Round(HALF))
    (folder / "half" / "run.log").write_text("".join(f"line {i} <b>\n" for i in range(1, 101)))
    return folder


@contextmanager
def watching(directory: Path) -> Iterator[str]:
    """Serve a directory, and yield the page's address."""
    watch = Watch(directory)
    thread = threading.Thread(target=watch.serve)
    thread.start()
    try:
        yield watch.address
    finally:
        watch.server.shutdown()
        thread.join()


def get(address: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
        return str(answer.read().decode())


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_a_run_is_shown_while_it_goes_on_and_nothing_is_written(folder: Path) -> None:
    before = files(folder)
    with watching(folder / "half") as address:
        assert address.startswith("http://127.0.0.1:")
        status = json.loads(get(f"{address}status.json"))
        page = get(address)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{address}run/half/")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(address, Host="paretoray.example")
    assert files(folder) == before
    assert status["fraction"] == 0.5 and status["said"] == "search: 50%, about 1 min 00 s left"
    facts = dict(status["facts"])
    assert facts["workers"] == "2 Ray actors" and facts["machines"] == "processor x86"
    assert facts["measured"] == "1,234 samples, 2 networks failed" and facts["round"] == "5 of 10"
    assert status["log"].splitlines() == [f"line {i} <b>" for i in range(61, 101)]
    assert f'data-version="{status["version"]}"' in page and "DecompressionStream" in page
    data = json.loads(page.partition('<script id="data" type="application/json">')[2].partition("</script>")[0])
    columns = ["error_percent", "parameters", "macs"]
    expected = records.front_of(table(folder / "half"), columns)
    assert [network["arch"] for network in data["runs"][0]["networks"]] == expected["arch"].tolist()


def test_a_folder_lists_its_runs(folder: Path) -> None:
    with watching(folder) as address:
        listed = get(address)
        assert 'href="run/half/"' in listed and "search: 50%" in listed and 'href="run/begun/"' in listed
        assert "Nothing was measured yet" in get(f"{address}run/begun/")
        assert json.loads(get(f"{address}run/begun/status.json"))["facts"] == []
        for wrong in ("run/../half/", "run/nowhere/", "half/", "run/half/experiment.toml"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(f"{address}{wrong}")


def test_the_page_is_made_anew_when_there_are_results_but_rests_between(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(LiveRun, "_render", lambda self, version: made.append(version) or version)  # type: ignore[func-returns-value]
    monkeypatch.setattr(live, "REST", 1e6)
    shown = LiveRun(tmp_path)
    (tmp_path / records.EVALUATIONS).write_text("a\n")
    first = shown.page()
    (tmp_path / records.EVALUATIONS).write_text("a\n1\n")
    assert shown.status()["version"] == first and shown.page() == first and made == [first]
    shown._rest_until = 0.0
    assert shown.status()["version"] != first and shown.page() == made[1] != first


def test_a_table_that_is_being_written_leaves_the_page_as_it_was(folder: Path) -> None:
    shown = LiveRun(folder / "half")
    page = shown.page()
    evaluations = folder / "half" / records.EVALUATIONS
    text = evaluations.read_text()
    shown._rest_until = 0.0
    try:
        evaluations.write_text(text + "0,99,0,sample")
        assert shown.page() == page
    finally:
        evaluations.write_text(text)


def test_progress_is_recorded_and_passed_on(tmp_path: Path) -> None:
    passed: list[Any] = []

    class Seen(Watcher):
        detailed = True

        def search(self, happened: Round) -> None:
            passed.append(happened)

        def retrain(self, arch: str, fraction: float, members: int) -> None:
            passed.append((arch, fraction, members))

    recording = Recording(Seen(), tmp_path, "one process")
    with recording.until_the_end():
        assert read_status(tmp_path)["state"] == "running"
        recording.search(Round(HALF))
        recording._written = 0.0
        recording.retrain("a", 1.0, 2)
        told = read_status(tmp_path)
        assert told["part"] == "retraining" and told["fraction"] == 0.5
        assert told["facts"]["retrained"] == "1 of 2" and told["facts"]["workers"] == "one process"
    assert passed == [Round(HALF), ("a", 1.0, 2)] and recording.detailed
    assert read_status(tmp_path)["state"] == "finished"
    for error, state in ((Interrupted(), "stopped"), (ValueError(), "failed")):
        with pytest.raises(type(error)), recording.until_the_end():
            raise error
        assert read_status(tmp_path)["state"] == state
    (tmp_path / STATUS).write_text("{")
    assert read_status(tmp_path) == {}


def test_a_run_without_news_says_since_when(tmp_path: Path) -> None:
    told = {"state": "running", "part": "search", "fraction": 0.1, "seconds_left": 9.0, "at": time.time() - 180, "facts": {}}
    (tmp_path / STATUS).write_text(json.dumps(told))
    assert LiveRun(tmp_path).status()["said"] == "search: 10%, about 9 s left; no news for 3 min 00 s"


def test_it_listens_on_loopback_alone(folder: Path, tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.168.0.1", "example.org"):
        with pytest.raises(InputError, match=r"on loopback alone.*ssh -L"):
            Watch(folder, host)
    assert_refused(call("watch", tmp_path / "none"), "there is no directory")
    first = Watch(folder)
    assert_refused(call("watch", folder, "--port", first.server.server_port), "cannot listen", "choose another --port")
    first.server.server_close()


def test_ctrl_c_ends_it_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Watch) -> None:
        self.server.server_close()
        raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "serve", interrupted)
    result = call("watch", folder)
    assert result.exit_code == 0 and "is shown at http://127.0.0.1:" in result.output
