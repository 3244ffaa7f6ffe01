"""A Ray cluster of several nodes on this machine, each with an address of its own, that can be killed and come back."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster.connection import NICENESS

RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--object-store-memory=80000000"]
RAY += ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"]
HEAD = 2
"""Last number of the head's address; further nodes follow."""


class Nodes:
    """Nodes by the last number of their address 127.0.0.N: the head is 2.

    Args:
        home: Folder of this cluster: the home of all its processes.
        token: Whether it asks for a token.
    """

    def __init__(self, home: Path, token: bool = False) -> None:
        if sys.platform != "linux":
            pytest.skip("only Linux has further addresses of loopback by itself")
        self.home, self.processes = home, dict[int, subprocess.Popen[bytes]]()
        with socket.create_server(("", 0)) as free:
            self.address = f"127.0.0.{HEAD}:{free.getsockname()[1]}"
        # Ray's sockets have paths of 107 characters at most.
        self.temporary = Path(f"/tmp/paretoray-{os.getpid()}-{free.fileno() % 1000}-{time.time_ns() % 10**6}")
        keep = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self.environment = keep | {"HOME": str(home), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token" if token else "disabled"}
        self.environment[NICENESS] = "0"
        self.environment["XDG_STATE_HOME"] = str(home / "state")
        if token:
            (home / ".ray").mkdir()
            (home / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)

    def start(self, number: int, *before: str, cpus: int = 1) -> None:
        """Start a node, with a command before Ray's, and wait until it has joined."""
        where = [f"--node-ip-address=127.0.0.{number}", f"--num-cpus={cpus}"]
        if number == HEAD:
            port = self.address.partition(":")[2]
            where += ["--head", f"--port={port}", f"--temp-dir={self.temporary}", "--include-dashboard=false"]
        else:
            where += [f"--address={self.address}"]
        log = (self.home / f"node-{number}.log").open("ab")
        self.processes[number] = subprocess.Popen([*before, *RAY, *where], env=self.environment, stdout=log, stderr=log)
        until(lambda: "--block" in (self.home / f"node-{number}.log").read_text(errors="replace"), 60)

    def kill(self, number: int) -> None:
        """Kill all processes of a node at once, as if its power had failed."""
        process = self.processes.pop(number)
        for one in list(family(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.wait()
        (self.home / f"node-{number}.log").unlink()

    def command(self, *arguments: str | int | Path, **environment: str | None) -> Command:
        """Start the command line as a process of its own, with these variables, or without those that are None."""
        chosen = {key: value for key, value in (self.environment | environment).items() if value is not None}
        return Command([str(argument) for argument in arguments], chosen, self.home / "command.log")


class Command:
    """A command of ours that runs, and what it has printed so far."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", *arguments], env=environment, stdout=out, stderr=out
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float) -> int:
        """Return the exit code; a command that takes longer is killed, and fails the test with what it printed."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"not ended after {timeout} s: {self.output[-3000:]}")

    def until(self, reached: Callable[[], Any], timeout: float = 240) -> None:
        """Wait until something is so, while the command runs."""
        try:
            until(lambda: reached() or self.process.poll() is not None, timeout)
        except TimeoutError:
            self.process.kill()
            pytest.fail(f"not reached: {self.output[-3000:]}")
        assert self.process.poll() is None or reached(), self.output[-3000:]


def family(process: int) -> Iterator[int]:
    """Yield a process and all that it started, directly or through others."""
    yield process
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in thread.read_text().split():
                yield from family(int(child))


def until(reached: Callable[[], Any], timeout: float) -> None:
    """Wait until something is so. Raises TimeoutError."""
    end = time.monotonic() + timeout
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)


@contextlib.contextmanager
def nodes(home: Path, count: int = 3, cpus: int = 1, token: bool = False) -> Iterator[Nodes]:
    """Start a cluster of so many nodes of so many CPUs, and end all of its processes."""
    home.mkdir(parents=True, exist_ok=True)
    cluster = Nodes(home, token)
    try:
        for number in range(HEAD, HEAD + count):
            cluster.start(number, cpus=cpus)
        yield cluster
    finally:
        for number in list(cluster.processes):
            cluster.kill(number)
        subprocess.run(["rm", "-rf", str(cluster.temporary)], check=False)
