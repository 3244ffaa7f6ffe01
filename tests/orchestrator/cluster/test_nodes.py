"""Searches, sweeps, benchmarks and trainings on several nodes that are lost and come back: the records stay the same."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray

from orchestrator.cluster import trials
from orchestrator.cluster.connection import room_in_words
from orchestrator.cluster.room import NoRoom, Room, on_node
from orchestrator.config.settings import Workers
from orchestrator.errors import InputError
from orchestrator.runs.status import STATUS
from orchestrator.search.progress import Round
from orchestrator.search.retraining import Member, retrain_member
from tests.helpers import run as searched_here
from tests.helpers import timeless, tiny_plan, write_toml
from tests.nodes import HEAD, Nodes, nodes, until

SECOND, THIRD = HEAD + 1, HEAD + 2
LONG = {"epochs": 40, "checkpoint": 0.5}
"""Some ten seconds of search."""


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Nodes]:
    with nodes(tmp_path / "home") as started:
        yield started


def undisturbed(directory: Path, **sections: Any) -> str:
    """The records of a search whose replicas share this machine."""
    (directory / "checkpoints").mkdir(parents=True)
    workers = {"ray": True, "count": 3, "min": 1} | sections.pop("workers", {})
    plan = tiny_plan(workers=workers, **sections)
    assert trials.resilient(plan, directory, lambda happened: None, room=Room(plan.workers))[1]
    return timeless(directory)


@pytest.fixture(scope="module")
def expected(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The records of three replicas, of which nobody was lost."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed") / "run", budget=LONG)


def rows(run: Path) -> int:
    table = run / "evaluations.csv"
    return table.read_text().count("\n") if table.exists() else 0


def begin(cluster: Nodes, folder: Path, *arguments: str, workers: dict[str, Any], **sections: Any) -> Any:
    """Start a search of a few seconds, and return it once it has measured something."""
    path = write_toml(folder, workers={"ray": True, "address": cluster.address} | workers, **sections)
    command = cluster.command("search", path, "--out", folder / "run", *arguments)
    command.until(lambda: rows(folder / "run") > 5)
    return command


def logged(run: Path, words: str) -> Callable[[], bool]:
    return lambda: words in (run / "run.log").read_text()


@pytest.mark.parametrize(
    ("workers", "resources", "expected"),
    [
        ({"cpus": 2}, {"CPU": 5.0}, 2),
        ({"cpus": 1, "gpus": 0.25}, {"CPU": 64.0, "GPU": 2.0}, 8),
        ({"cpus": 1, "gpus": 0.3}, {"CPU": 64.0, "GPU": 2.0}, 6),  # a GPU has room for three, and what is left of two is no GPU
        ({"cpus": 1, "gpus": 2.0}, {"CPU": 64.0, "GPU": 5.0}, 2),
        ({"cpus": 1, "gpus": 1.0}, {"CPU": 64.0}, 0),
    ],
)
def test_workers_that_fit_on_a_node_are_counted(workers: dict[str, Any], resources: dict[str, float], expected: int) -> None:
    assert on_node(Workers(**workers), resources) == expected


def test_replicas_that_share_a_worker_fit_into_it() -> None:
    workers = Workers(count=7, cpus=2, gpus=1.0, min=3)
    assert workers.most_on_one == 3
    for sharing in (1, 2, 3):
        bundle = workers.bundle(sharing)
        assert sharing * bundle["CPU"] <= 2 and sharing * bundle["GPU"] <= 1
        assert bundle["CPU"] == pytest.approx(2 / sharing, abs=1e-4)
    with pytest.raises(InputError, match=r"workers\.min = 8; it is at most workers\.count, which is 7"):
        Workers(count=7, min=8)


def test_a_dry_run_says_how_many_workers_fit_and_what_sharing_costs() -> None:
    assert room_in_words(Workers(count=3, address="head:1"), [2, 0, 2]) == "room for 4 on 3 nodes of the cluster (2, 0, 2)"
    shared = room_in_words(Workers(count=6, min=2), [4])
    assert shared == "room for 4 on this machine, which 6 replicas share: equal records in about 1.5 times the time"
    assert "too little: lower workers.count" in room_in_words(Workers(count=6), [4])


@pytest.mark.usefixtures("cluster")
class TestRoom:
    @pytest.mark.long
    def test_replicas_share_what_room_there_is_and_take_back_the_rest(self, tmp_path: Path) -> None:
        expected = undisturbed(tmp_path / "whole", workers={"count": 2})
        plan = tiny_plan(workers={"ray": True, "count": 2, "min": 1, "patience": 1}, budget={"checkpoint": 1e-6})
        directory = tmp_path / "shared"
        (directory / "checkpoints").mkdir(parents=True)
        occupied = ray.util.placement_group([{"CPU": 1}])
        assert occupied.wait(10)
        seen: list[int] = []
        room = Room(plan.workers)

        def look(happened: Round) -> None:
            seen.append(room.sharing)
            if len(seen) == 3:
                ray.util.remove_placement_group(occupied)
                until(room.has_grown, 20)

        monkey = pytest.MonkeyPatch()
        with monkey.context() as patch:
            patch.setattr(trials, "LOOK_EVERY", 0.0)
            assert trials.resilient(plan, directory, look, room=room)[1]
        assert seen[:3] == [2, 2, 2] and seen[-1] == 1
        assert timeless(directory) == expected

    def test_too_little_room_is_an_error_after_the_patience_not_a_wait(self) -> None:
        said: list[str] = []
        began = time.monotonic()
        room = Room(Workers(count=6, min=3, patience=7), said.append)
        with pytest.raises(
            NoRoom, match=r"^3 workers of 1 CPU found no room on the cluster within 7 s: 1 node with 2 CPUs in all"
        ):
            room.reserve()
        assert time.monotonic() - began < 30
        assert said[0].startswith("room for ") and "gives up" in said[-1]


@pytest.mark.long
def test_a_search_goes_on_on_the_node_that_replaces_a_lost_one(tmp_path: Path) -> None:
    with nodes(tmp_path / "home", count=1, cpus=0) as cluster:
        cluster.start(SECOND)
        command = begin(cluster, tmp_path, workers={"count": 1}, budget={"checkpoint": 1e-6})
        cluster.kill(SECOND)
        cluster.start(THIRD)
        assert command.wait(240) == 0, command.output
    searched_here(tiny_plan(), tmp_path / "here")
    assert timeless(tmp_path / "run") == timeless(tmp_path / "here")
    assert "starting again from the last checkpoint" in (tmp_path / "run" / "run.log").read_text()


@pytest.mark.faults
class TestSearch:
    def test_a_node_that_comes_back_in_time_is_waited_for(self, three: Nodes, expected: str, tmp_path: Path) -> None:
        command = begin(three, tmp_path, workers={"count": 3}, budget=LONG)
        three.kill(THIRD)
        command.until(lambda: "waiting: for room for 3 workers of 1 CPU" in command.output)
        assert "waiting for" in json.loads((tmp_path / "run" / STATUS).read_text())["facts"]
        three.start(THIRD)
        assert command.wait(240) == 0, command.output
        assert timeless(tmp_path / "run") == expected

    def test_a_node_that_comes_back_late_is_taken_back(self, three: Nodes, expected: str, tmp_path: Path) -> None:
        command = begin(three, tmp_path, workers={"count": 3, "min": 2, "patience": 2}, budget=LONG)
        three.kill(THIRD)
        command.until(logged(tmp_path / "run", "3 replicas go on with the room of 2 workers"))
        three.start(THIRD)
        command.until(logged(tmp_path / "run", "room for all workers again"))
        assert command.wait(240) == 0, command.output
        assert timeless(tmp_path / "run") == expected

    def test_a_node_that_never_comes_back_ends_the_search_which_resumes(
        self, three: Nodes, expected: str, tmp_path: Path
    ) -> None:
        command = begin(three, tmp_path, workers={"count": 3, "patience": 8}, budget=LONG)
        three.kill(THIRD)
        assert command.wait(120) == 1
        assert "error: 3 workers of 1 CPU found no room on the cluster within 8 s: " in command.output
        assert "Traceback" not in command.output
        three.start(THIRD + 1)
        assert three.command("resume", tmp_path / "run").wait(240) == 0
        assert timeless(tmp_path / "run") == expected

    def test_a_lost_head_ends_the_search_which_resumes_elsewhere(self, three: Nodes, expected: str, tmp_path: Path) -> None:
        command = begin(three, tmp_path, workers={"count": 3}, budget=LONG)
        three.kill(HEAD)
        assert command.wait(120) == 1
        assert "error: waited for the head of the Ray cluster" in command.output
        with nodes(tmp_path / "second") as others:
            others.environment["XDG_STATE_HOME"] = three.environment["XDG_STATE_HOME"]
            again = others.command("resume", tmp_path / "run", f"workers.address={others.address}")
            assert again.wait(240) == 0, again.output
        assert timeless(tmp_path / "run") == expected


@pytest.mark.faults
def test_searches_of_a_sweep_go_on_where_there_is_room(three: Nodes, tmp_path: Path) -> None:
    arguments = ("--seeds", "3")
    path = write_toml(tmp_path, workers={"ray": True, "address": three.address, "patience": 5}, budget=LONG)
    command = three.command("search", path, "--out", tmp_path / "run", *arguments)
    folders = lambda: sorted((tmp_path / "run" / "searches").glob("*"))  # noqa: E731
    command.until(lambda: len(folders()) == 3 and all(rows(folder) > 5 for folder in folders()))
    three.kill(THIRD)
    assert command.wait(180) == 0, command.output
    for seed, folder in enumerate(folders()):
        searched_here(tiny_plan(seed=seed, budget=LONG), tmp_path / f"alone-{seed}")
        assert timeless(folder) == timeless(tmp_path / f"alone-{seed}")


@pytest.mark.faults
def test_searches_of_a_bench_survive_a_lost_node(three: Nodes, tmp_path: Path) -> None:
    shared = ["data.limit=200", "space.name=digits-tiny", "objectives={error={},parameters={}}", "retrain.members=6"]
    shared += ["retrain.epochs=8", "budget.interval=2", "budget.checkpoint=0.5", "training.batch=32"]
    what = ["--images", "2000", "--searchers", "random-search,nsga2", "--seeds", "1"]
    workers = [f"workers.address={three.address}", "workers.count=3", "workers.min=2", "workers.patience=3"]
    command = three.command("bench", *shared, *workers, *what, "--out", tmp_path / "bench")
    command.until(lambda: any(rows(f.parent) > 5 for f in (tmp_path / "bench").glob("searches/*/evaluations.csv")), 120)
    three.kill(THIRD)
    assert command.wait(400) == 0, command.output
    with nodes(tmp_path / "second", count=1) as alone:
        workers[0] = f"workers.address={alone.address}"
        quiet = alone.command("bench", *shared, *workers, "workers.min=1", *what, "--out", tmp_path / "quiet")
        assert quiet.wait(400) == 0, quiet.output
    for folder in (tmp_path / "quiet" / "searches").iterdir():
        assert timeless(tmp_path / "bench" / "searches" / folder.name) == timeless(folder)


@pytest.mark.faults
def test_trainings_of_a_lost_node_go_on_elsewhere(three: Nodes, tmp_path: Path) -> None:
    retrain = {"members": 3, "epochs": 60}
    path = write_toml(tmp_path, workers={"ray": True, "address": three.address, "count": 3, "min": 2}, retrain=retrain)
    command = three.command("search", path, "--out", tmp_path / "run")
    command.until(lambda: "retrain:" in command.output)
    three.kill(THIRD)
    assert command.wait(180) == 0, command.output
    plan = tiny_plan(retrain=retrain)
    results = pd.read_csv(tmp_path / "run" / "retrained.csv")
    assert len(results) == 3
    member = Member(results["arch"][0], tmp_path / "alone.json", tmp_path / "alone.pt")
    retrain_member(plan, member, lambda share: None)
    assert json.loads(member.result.read_text())["test_error_percent"] == results["test_error_percent"][0]


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[tuple[Nodes, Path]]:
    """A cluster of three nodes, and a folder of which each has one of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    alone = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {disk} && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a file system of its own takes the rights of an administrator")
    with nodes(tmp_path / "home", count=0) as cluster:
        cluster.environment["PYTHONPATH"] = str(disk)
        cluster.start(HEAD)
        cluster.start(SECOND, *alone)
        cluster.start(THIRD, *alone)
        yield cluster, disk


@pytest.mark.faults
@pytest.mark.usefixtures("cluster")
def test_a_run_needs_no_shared_disk_and_says_what_it_cannot_do_then(disks: tuple[Nodes, Path], tmp_path: Path) -> None:
    cluster, disk = disks
    sections = {"budget": {"epochs": 10}, "retrain": {"members": 2, "epochs": 2}}
    path = write_toml(tmp_path, workers={"ray": True, "address": cluster.address, "count": 3}, **sections)
    command = cluster.command("search", path, "--out", disk / "run")
    assert command.wait(240) == 0, command.output
    assert f"warning: 127.0.0.{SECOND}, 127.0.0.{THIRD} cannot see {disk / 'run'}" in command.output
    assert len(pd.read_csv(disk / "run" / "retrained.csv")) == 2
    assert timeless(disk / "run") == undisturbed(tmp_path / "shared", budget={"epochs": 10})


@pytest.mark.faults
@pytest.mark.usefixtures("cluster")
def test_a_run_in_a_store_needs_no_shared_disk(disks: tuple[Nodes, Path], tmp_path: Path) -> None:
    cluster, disk = disks
    files = pytest.importorskip("s3fs").S3FileSystem
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    cluster.environment |= {**credentials, "PARETORAY_STAGING": str(disk / "copies")}
    store = files(key="a", secret="b", endpoint_url=f"http://{host}:{port}", use_listings_cache=False)
    store.mkdir("runs")
    sections = {"budget": {"epochs": 10}, "retrain": {"members": 2, "epochs": 2}}
    path = write_toml(tmp_path, workers={"ray": True, "address": cluster.address, "count": 3}, **sections)
    try:
        command = cluster.command("search", path, "--out", "s3://runs/one")
        assert command.wait(240) == 0, command.output
        assert "cannot see" in command.output and "in the store: s3://runs/one" in command.output
        store.get("runs/one", str(tmp_path / "run"), recursive=True)
    finally:
        server.stop()
    assert len(pd.read_csv(tmp_path / "run" / "retrained.csv")) == 2
    assert not list((tmp_path / "run").rglob("tune")) and not (tmp_path / "run" / "checkpoints" / "owner.json").exists()
    assert timeless(tmp_path / "run") == undisturbed(tmp_path / "shared", budget={"epochs": 10})


@pytest.mark.faults
def test_a_node_without_the_code_of_a_searcher_is_named_at_once(disks: tuple[Nodes, Path], tmp_path: Path) -> None:
    cluster, disk = disks
    (disk / "my_methods.py").write_text("from searchers.random_search import RandomSearch as R\n\n\nclass Mine(R):\n    pass\n")
    path = write_toml(tmp_path, workers={"ray": True, "address": cluster.address, "count": 3})
    chosen = ["searcher.name=my_methods:Mine", "budget.epochs=4"]
    command = cluster.command("search", path, *chosen, "--out", disk / "run")
    assert command.wait(120) == 2, command.output
    assert re.search(rf"error: node 127\.0\.0\.[{SECOND}{THIRD}] has no module my_methods: install it there", command.output)
    assert "Traceback" not in command.output
