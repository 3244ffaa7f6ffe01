"""Workers that do not fit, tokens, what is started, and what listens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from orchestrator.cluster.connection import _without_helpers, cluster
from orchestrator.config.settings import Workers
from orchestrator.errors import InputError
from tests.nodes import nodes


@pytest.mark.usefixtures("cluster")
def test_workers_that_do_not_fit_the_cluster_are_refused() -> None:
    with pytest.raises(InputError, match=r"3 workers of 1 CPUs need 3; there are 2"), cluster(Workers(count=3)):
        raise AssertionError


LISTENERS = """
import json, ray  # which has psutil in it
import psutil
from orchestrator.cluster.connection import cluster
from orchestrator.cluster.replicas import Replicas
from orchestrator.cluster.room import Room
from tests.helpers import tiny_plan

plan = tiny_plan(workers={"ray": True, "count": 2, "min": 1})
with cluster(plan.workers):
    room = Room(plan.workers)
    replicas = Replicas(plan, room.reserve(), room.sharing)
    me = psutil.Process()
    family = (me, *me.children(recursive=True))
    sockets = [c for p in family for c in p.net_connections() if c.status == "LISTEN"]
    nice = max(p.nice() for p in family) - me.nice()
    print(json.dumps([[c.laddr.ip for c in sockets], [" ".join(p.cmdline()) for p in family], nice]))
    replicas.close()
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere others' sockets cannot be listed without rights")
def test_a_private_cluster_and_its_replicas_listen_on_loopback_only_and_are_no_nicer_than_the_driver(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", LISTENERS], env=os.environ | {"HOME": str(tmp_path)}, capture_output=True)
    addresses, commands, nice = json.loads(run.stdout.splitlines()[-1])
    assert len(addresses) > 5, run.stderr.decode()
    assert {address.removeprefix("::ffff:") for address in addresses} <= {"127.0.0.1", "::1"}
    assert any("gcs_server" in command for command in commands)
    assert not [command for command in commands if "dashboard.py" in command or "monitor.py" in command]
    assert nice == 0


def test_what_is_left_out_of_a_private_cluster_is_back_for_others() -> None:
    class Node(ray._private.node.Node):
        def __init__(self) -> None:  # without any process
            pass

    start = Node.start_api_server
    with _without_helpers():
        Node().start_api_server(include_dashboard=False, raise_on_failure=True)
        Node().start_monitor()
        Node().start_log_monitor()
    assert Node.start_api_server is start


@pytest.mark.faults
def test_a_cluster_with_a_token_takes_those_who_have_it_and_others_are_told(tmp_path: Path) -> None:
    with nodes(tmp_path / "home", count=1, token=True) as cluster:
        search = ["search", "data.limit=200", "workers.count=1", f"workers.address={cluster.address}", "--dry-run"]
        has_token = cluster.command(*search, RAY_AUTH_MODE=None)
        assert has_token.wait(180) == 0, has_token.output
        assert "room for 1" in has_token.output
        has_none = cluster.command(*search, RAY_AUTH_MODE=None, HOME=str(tmp_path))
        assert has_none.wait(180) == 2
        assert "no Ray cluster answers there" in has_none.output
        assert "if it asks for a token, copy ~/.ray/auth_token" in has_none.output
