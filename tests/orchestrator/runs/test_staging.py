"""Runs in a store: whatever kills a process, or the store refuses, the run goes on here or elsewhere, to equal records."""

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from analysis import records
from orchestrator.bench.command import Compared
from orchestrator.bench.entries import claim
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, RunError
from orchestrator.runs import mirror, staging
from orchestrator.runs import run as running
from orchestrator.runs.directory import EXPERIMENT, check_out, create, open_run
from orchestrator.runs.mirror import Mirror, mirrored, settle
from orchestrator.runs.staging import OWNER, Stage, followed, opened, placed, placed_or_opened, shown
from orchestrator.runs.store import Store, StoreError
from orchestrator.runs.watcher import Watcher
from tests.helpers import assert_refused, call, run, timeless, tiny, write_toml

SHORT: dict[str, Any] = {
    "searcher": {"name": "random-search", "samples": 2},
    "space": {"name": "digits-tiny"},
    "objectives": {"error": {}, "parameters": {}},
    "budget": {"epochs": 4, "interval": 1},
    "data": {"name": "digits", "limit": 60},
}
OPERATIONS = ("listing", "read", "write", "create", "put", "get", "delete")


class Killed(BaseException):
    """End of a process, as far as a store sees it."""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Moves to another machine, by its name: one with local copies of its own."""

    def move(name: str) -> None:
        monkeypatch.setenv(staging.STAGING, str(tmp_path / name))

    move("first")
    return move


@pytest.fixture
def url(request: pytest.FixtureRequest, elsewhere: object) -> Iterator[str]:
    place = f"memory://{request.node.name.replace('[', '-').strip(']')}"
    yield f"{place}/run"
    fsspec.filesystem("memory").rm(place, recursive=True)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Makes operations of stores fail from number `at` on, as often as `times`; `seen` counts them."""
    told: dict[str, Any] = {"at": float("inf"), "times": float("inf"), "seen": 0, "error": StoreError("503 Slow Down")}

    def counting(operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            told["seen"] += 1
            if told["at"] <= told["seen"] < told["at"] + told["times"]:
                raise told["error"]
            return operation(*arguments)

        return counted

    for name in OPERATIONS:
        monkeypatch.setattr(Store, name, counting(getattr(Store, name)))
    return told


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchPlan, list[Path]]:
    """A search, and its run directory when it began, half-way, and at its end."""
    folder, plan = tmp_path_factory.mktemp("states"), SearchPlan.of(tiny(**SHORT))
    create(plan.experiment, folder / "run")
    found = []
    for rounds in (0, 2, 10**6):
        if rounds:
            run(plan, folder / "run", rounds)
        found.append(Path(shutil.copytree(folder / "run", folder / f"after-{rounds}")))
    return plan, found


def bring(state: Path, directory: Path) -> None:
    """Make a run directory like a state of it, in the order in which its files were written."""
    files = [path for path in state.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
        target = directory / path.relative_to(state)
        if not target.exists() or target.read_bytes() != path.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def holding(directory: Path, said: list[str] | None = None) -> Mirror:
    stage = Stage.of(directory)
    assert stage is not None
    held = Mirror(stage, (said if said is not None else []).append)
    held.acquire()
    return held


def upload(url: str, states: list[Path]) -> None:
    """Run a search in a store from its beginning, uploading each of its states."""
    directory = placed(url)
    held = holding(directory)
    for state in states:
        bring(state, directory)
        held.push()
    held.finish(())


def goes_on(url: str, plan: SearchPlan) -> Path:
    """Resume a run in a store, or begin it again where it never was one, and return its directory at the end."""
    try:
        directory = opened(url)
    except InputError:
        directory = placed(url)
        check_out(directory)
    held = holding(directory)
    if not (directory / EXPERIMENT).exists():
        create(plan.experiment, directory)
    open_run(directory)
    run(plan, directory)
    held.finish(())
    return directory


def content(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in staging.local_names(directory)}


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.faults)])
@pytest.mark.parametrize("machine", ["first", "second"])
def test_a_kill_at_any_operation_of_the_store_resumes_to_equal_records(
    url: str, states: Any, failing: dict[str, Any], elsewhere: Any, machine: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, course = states
    monkeypatch.setattr(mirror, "LEASE", 0.0)  # the dead process is known to be dead
    failing["error"] = Killed()
    points = 0
    for at in range(1, 200, every):
        elsewhere(f"first-{at}")
        failing.update(at=at, seen=0)
        try:
            upload(f"{url}/{at}", course)
        except Killed:
            points += 1
        else:
            break
        finally:
            failing["at"] = float("inf")
        elsewhere(f"{machine}-{at}")
        directory = goes_on(f"{url}/{at}", plan)
        assert timeless(directory) == timeless(course[-1])
        elsewhere(f"third-{at}")
        assert content(opened(f"{url}/{at}")) == content(directory)
        assert Store(f"{url}/{at}").read(OWNER) is None
    assert points > 25 / every


def test_a_store_that_fails_for_a_while_gets_everything_later(url: str, states: Any, failing: dict[str, Any]) -> None:
    _, course = states
    directory, said = placed(url), list[str]()
    held = holding(directory, said)
    for operation, (state, fails) in enumerate([(0, True), (1, True), (1, False), (2, False)]):
        failing.update(at=failing["seen"] + 1 + operation if fails else float("inf"), times=100)
        bring(course[state], directory)
        assert (held.attempt() is not None) == fails
    held.finish(())
    assert len(said) == 2 and "503 Slow Down" in said[0] and str(directory) in said[0] and "again" in said[1]
    assert sorted(Store(url).listing()) == sorted(content(directory))


def test_a_store_that_never_comes_back_fails_the_run_which_is_uploaded_later(
    url: str, states: Any, failing: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = states
    monkeypatch.setattr(mirror, "RETRIES", (0.0,))
    monkeypatch.setattr(running, "write_report", lambda plan, directory: (directory / "report.html").touch())
    directory = placed(url)

    class Cut(Watcher):
        def search(self, happened: object) -> None:
            failing["at"] = 0

    with pytest.raises(RunError, match=r"503 Slow Down; nothing is lost: all of the run is in .*paretoray resume memory://"):
        running.go(plan, directory, Cut(), new=True)
    failing["at"] = float("inf")
    assert opened(url) == directory and running.is_searched(plan, directory)
    settle(directory, print)
    assert sorted(Store(url).listing()) == sorted(content(directory))
    settled = failing["seen"]
    settle(directory, print)  # nothing is left to do
    assert failing["seen"] == settled


def test_a_store_that_lost_an_unfinished_run_gets_all_of_it_again(url: str, states: Any) -> None:
    _, course = states
    directory = placed(url)
    held = holding(directory)
    bring(course[1], directory)
    held.push()
    fsspec.filesystem("memory").rm(url.removeprefix("memory:/"), recursive=True)
    assert opened(url) == directory
    settle(directory, print)
    assert sorted(Store(url).listing()) == sorted(content(directory)) == sorted(content(course[1]))
    fsspec.filesystem("memory").rm(url.removeprefix("memory:/"), recursive=True)
    with pytest.raises(InputError, match="there is no run at"):  # finished, and deleted since
        opened(url)
    assert placed(url) == directory and not directory.exists()


def test_two_machines_cannot_write_to_one_run(url: str, states: Any, elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, course = states
    upload(url, course[:2])
    first = opened(url)
    said: list[str] = []
    held = holding(first, said)
    elsewhere("second")
    second = opened(url)
    with pytest.raises(RunError, match=rf"is being written to by .*process {os.getpid()}, .*try again in \d+ s"):
        holding(second)
    with mirrored(second, said.append, required=False):  # as a report, which then stays there
        pass
    assert "is being written to by" in said.pop()
    monkeypatch.setattr(mirror, "LEASE", 0.0)  # as after that time
    theirs = holding(second)
    bring(course[2], second)
    theirs.push()
    elsewhere("first")
    (first / "mine.txt").touch()
    assert held.attempt() is None and "is now written to by" in said.pop()
    with pytest.raises(RunError, match="is now written to by"):
        held.finish(())
    assert "mine.txt" not in Store(url).listing()
    theirs.release()
    fresh = opened(url, say=said.append)
    assert content(fresh) == content(second)
    aside = Path(said.pop().rpartition(" ")[2])
    assert (aside / "mine.txt").exists()


def test_what_was_written_after_the_fetch_is_noticed(url: str, states: Any, elsewhere: Any) -> None:
    _, course = states
    upload(url, course[:2])
    elsewhere("second")
    second = opened(url)
    elsewhere("first")
    held = holding(opened(url))
    bring(course[2], opened(url))
    held.finish(())
    elsewhere("second")
    with pytest.raises(RunError, match="written to from elsewhere meanwhile; repeat"):
        holding(second)
    assert Store(url).read(OWNER) is None
    assert content(opened(url)) == content(course[2])


def test_two_processes_of_a_machine_cannot_write_to_one_run(url: str, states: Any) -> None:
    upload(url, states[1])
    directory = opened(url)
    with mirrored(directory, print):
        with pytest.raises(RunError, match="another process of this machine"), mirrored(directory, print):
            pass
        (directory / "note.txt").touch()
        assert (opened(url) / "note.txt").exists()  # read, without fetching over what is being written
    assert "note.txt" in Store(url).listing()


def test_only_what_changed_is_copied_and_what_is_gone_is_deleted(url: str, states: Any, failing: dict[str, Any]) -> None:
    upload(url, states[1])
    directory, put = opened(url), list[str]()
    (directory / "policy.csv").unlink()
    (directory / "summary.json").write_text("{}")
    for name in ("a.lock", ".stop", "summary.new.json", "origin.new", "checkpoints/writing.pt", "tune/trial.pkl"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).touch()
    held = holding(directory)
    plain = held.stage.store.put
    held.stage.store.put = lambda local, name: (put.append(name), plain(local, name))[1]  # type: ignore[method-assign]
    held.finish(())
    assert put == ["summary.json"]
    assert sorted(Store(url).listing()) == sorted(content(directory)) and "policy.csv" not in content(directory)


def test_checkpoints_go_up_while_the_run_goes_on(url: str, states: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, course = states
    monkeypatch.setattr(mirror, "PAUSE", 0.01)
    directory = placed(url)
    with mirrored(directory, print):
        bring(course[1], directory)
        deadline = time.monotonic() + 20
        while "checkpoints/latest.pt" not in Store(url).listing():
            assert time.monotonic() < deadline
    assert Store(url).read("checkpoints/latest.pt") == (course[1] / "checkpoints" / "latest.pt").read_bytes()


def test_a_report_needs_no_weights_and_a_resume_gets_them_then(url: str, states: Any, elsewhere: Any) -> None:
    upload(url, states[1])
    elsewhere("second")
    assert not list(opened(url, weights=False).rglob("*.pt"))
    holding(opened(url, weights=False)).finish(())
    assert content(opened(url)) == content(states[1][-1])


def test_a_report_neither_keeps_nor_uploads_a_checkpoint_that_is_old(url: str, states: Any, elsewhere: Any) -> None:
    _, course = states
    upload(url, course[:2])
    elsewhere("second")
    opened(url)
    elsewhere("first")
    held = holding(opened(url))
    bring(course[2], opened(url))
    held.finish(())
    elsewhere("second")
    assert not list(opened(url, weights=False).rglob("*.pt"))
    holding(opened(url, weights=False)).finish(())
    assert Store(url).read("checkpoints/latest.pt") == (course[2] / "checkpoints" / "latest.pt").read_bytes()
    assert content(opened(url)) == content(course[2])


def test_a_run_that_is_watched_is_fetched_again_and_again(
    url: str, states: Any, elsewhere: Any, failing: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, course = states
    upload(url, course[:2])
    first, said = opened(url), list[str]()
    held = holding(first)
    elsewhere("second")
    second = opened(url, weights=False)
    monkeypatch.setattr(staging, "FOLLOWING", 0.01)
    with followed(second, said.append):
        bring(course[2], first)
        held.finish(())
        deadline = time.monotonic() + 20
        while (second / "evaluations.csv").read_bytes() != (course[2] / "evaluations.csv").read_bytes():
            assert time.monotonic() < deadline
        failing["at"] = 0
        while not said:
            assert time.monotonic() < deadline
    assert "503 Slow Down" in said[0] and "tried again" in said[0]


def test_names_that_lead_out_of_the_folder_are_not_fetched(url: str, states: Any, elsewhere: Any, tmp_path: Path) -> None:
    upload(url, states[1])
    files = fsspec.filesystem("memory")
    root = url.removeprefix("memory:/")
    for name in ("../outside", "a/../../outside", "/outside", "a//b"):
        files.store[f"{root}/{name}"] = files.store[f"{root}/{EXPERIMENT}"]
    elsewhere("second")
    assert sorted(content(opened(url))) == sorted(content(states[1][-1]))
    assert not list(tmp_path.rglob("outside"))
    for name in ("../outside", "a/../../outside", "/outside", "a//b"):
        del files.store[f"{root}/{name}"]


def test_a_run_from_elsewhere_needs_trust_as_a_folder_does(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = placed(url)
    create(tiny(**SHORT), directory)
    text = (directory / EXPERIMENT).read_text().replace('name = "digits"', 'name = "their_code:load"')
    (directory / EXPERIMENT).write_text(text)
    holding(directory).finish(())
    for command in ("resume", "report", "trust"):
        assert_refused(call(command, url), "would import data.name = their_code:load", "--trust")


def test_only_copies_below_the_folder_of_copies_know_a_store(url: str, states: Any, tmp_path: Path) -> None:
    upload(url, states[1])
    theirs = shutil.copytree(opened(url).parent, tmp_path / "a" / "theirs") / "run"
    assert Stage.of(theirs) is None and shown(theirs) == str(theirs)
    assert Stage.of(opened(url)) is not None and shown(opened(url)) == url


def test_places_that_cannot_be_used_are_refused_before_anything_starts(
    url: str, states: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(known_implementations, "nowhere", {"class": "no_such_package.Files", "err": "Install nowherefs"})
    path = write_toml(tmp_path)
    upload(url, states[1])
    Store(f"{url}-2").write("notes.txt", b"")
    for out, said in {
        "s4://bucket/run": "s4:// is no known store; known are s3://",
        "nowhere://bucket/run": "needs a package that is missing: Install nowherefs",
        "sftp://me:secret@host/run": "has a password in it",
        url: f"continue it with: paretoray resume {url}",
        f"{url}-2": "it is not empty",
    }.items():
        result = call("search", path, "--out", out)
        assert_refused(result, said)
        assert "secret" not in result.output
    assert_refused(call("resume", f"{url}-2"), f"there is no run at {url}-2")
    monkeypatch.setenv(staging.STAGING, str(path / "below a file"))
    assert_refused(call("search", path, "--out", f"{url}-3"), staging.STAGING)


def test_a_benchmark_goes_on_at_its_url(url: str, elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(console: object, settings: object, out: Path, **options: object) -> Compared:
        claim(out, {"kind": "table"})
        with (out / "evaluations.csv").open("a") as file:
            file.write("a row\n")
        return Compared({}, ["searcher"], [])

    monkeypatch.setattr("orchestrator.bench.command.main", compare)
    for machine in ("first", "second"):
        elsewhere(machine)
        assert call("bench", "--out", url).exit_code == 0
    assert Store(url).read("evaluations.csv") == b"a row\na row\n"


@pytest.mark.faults
def test_a_real_benchmark_goes_on_at_its_url(url: str, elsewhere: Any) -> None:
    arguments = ("bench", "--searchers", "random-search,nsga2", "--budget", "20", "--workers", "1", "--out", url)
    assert call(*arguments, "--seeds", "1").exit_code == 0
    elsewhere("second")
    assert call(*arguments, "--seeds", "2").exit_code == 0
    rows = Store(url).read("evaluations.csv")
    assert rows is not None and rows.count(b"\n") == 1 + 2 * 2 * 20


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    for written in (f"file://{tmp_path}/run", f"file:{tmp_path}/run"):
        assert opened(written) == placed(written) == placed_or_opened(written) == tmp_path / "run"
    assert placed("runs/one") == Path("runs/one")


class Shelf(LocalFileSystem):  # type: ignore[misc]
    """Store on this disk, whose files are written bit by bit."""

    protocol = "shelf"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("shelf:/")


def test_other_stores_name_a_file_once_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    store = Store(f"shelf:/{tmp_path}/b")
    (tmp_path / "a").write_text("whole")
    monkeypatch.setattr(Shelf, "mv", lambda *paths: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(StoreError):
        store.put(tmp_path / "a", "c/d")
    assert store.listing() == {}
    monkeypatch.undo()
    store.put(tmp_path / "a", "c/d")
    assert store.read("c/d") == b"whole" and list(store.listing()) == ["c/d"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Bucket of an S3 server on this machine, with the environment that leads to it."""
    files = pytest.importorskip("s3fs").S3FileSystem
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for key, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(key, value)
        files.clear_instance_cache()
        files().mkdir("runs")
        yield "s3://runs"
    files.clear_instance_cache()
    server.stop()


def test_a_run_on_s3_is_fetched_taken_over_and_finished(
    bucket: str, states: Any, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, course = states
    url = f"{bucket}/one"
    directory = placed(url)
    bring(course[1], directory)
    holding(directory).push()  # and then the machine is lost
    elsewhere("second")
    with pytest.raises(RunError, match="is being written to by"):
        holding(opened(url))
    monkeypatch.setattr(mirror, "LEASE", 0.0)
    finished = goes_on(url, plan)
    assert timeless(finished) == timeless(course[-1])
    elsewhere("third")
    assert content(opened(url)) == content(finished)
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/x: .*bucket"):
        Store("s3://no-such-bucket/x").write("a", b"")


def test_only_one_of_several_takes_a_file_of_s3(bucket: str) -> None:
    stores = [Store(f"{bucket}/two") for _ in range(3)]
    assert [store.create("owner", str(i).encode()) for i, store in enumerate(stores)] == [True, False, False]
    assert stores[2].read("owner") == b"0" and stores[2].read("nothing") is None
    stores[1].delete("owner")
    stores[1].delete("owner")
    assert stores[0].listing() == {}


@pytest.mark.faults
def test_a_server_that_is_gone_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    files = pytest.importorskip("s3fs").S3FileSystem
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    files.clear_instance_cache()  # of other tests' servers
    with pytest.raises(StoreError, match=r"cannot list s3://runs/one: .*127\.0\.0\.1:9"):
        Store("s3://runs/one").listing()


def told_apart(directory: Path) -> list[str]:
    """The tables of a run, without the columns that a clock wrote."""
    trained = pd.read_csv(directory / records.RETRAINED).drop(columns=["seconds", "retrain_seconds"])
    return [timeless(directory), trained.to_csv()]


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchPlan, list[str]]:
    """A search that trains two members of its front, and the tables of an undisturbed run."""
    plan = SearchPlan.of(tiny(**SHORT, retrain={"members": 2, "epochs": 2}))
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(running, "write_report", lambda plan, directory: None)
        running.go(plan, directory, Watcher(), new=True)
    return plan, told_apart(directory)


@pytest.mark.faults
@pytest.mark.parametrize("at", range(5, 150, 10))
def test_a_process_that_dies_while_it_uploads_in_the_background_loses_nothing(
    at: int, retrained: Any, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, undisturbed = retrained
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    monkeypatch.setattr(running, "write_report", lambda plan, directory: None)
    monkeypatch.setattr(mirror, "PAUSE", 0.001)
    url = f"shelf:/{tmp_path}/store/run"
    child = os.fork()
    if not child:
        count = itertools.count(1)

        def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments: os._exit(9) if next(count) == at else operation(*arguments)

        for name in OPERATIONS:
            setattr(Store, name, counted(getattr(Store, name)))
        try:
            running.go(plan, placed(url), Watcher(), new=True)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, 9)
    monkeypatch.setattr(mirror, "LEASE", 0.0)
    elsewhere("second")
    try:
        running.go(plan, opened(url), Watcher())
    except InputError:
        running.go(plan, placed(url), Watcher(), new=True)
    assert told_apart(opened(url)) == undisturbed
