"""Kills of searches on a Ray cluster that all of them share: of the driver, which is resumed, and of the cluster's workers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

from orchestrator.runs.directory import EXPERIMENT
from tests.campaign.kills import Undisturbed
from tests.campaign.process import command, run
from tests.campaign.searches import kinds, records_of
from tests.campaign.tally import Tally
from tests.nodes import HEAD, Nodes, family

OURS = "ray::"
"""Beginning of the title of what Ray runs for us: trials, replicas, tasks."""
SPARE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Titles of what does nothing for a search, and of Ray's own agents."""


class Victims:
    """Kills workers of a cluster, or the driver, at moments of their own while a command runs.

    Args:
        cluster: The cluster.
        moments: Seconds of the command after which there is a kill.
        chance: Decides which worker.
    """

    def __init__(self, cluster: Nodes, moments: list[float], chance: random.Random) -> None:
        self.cluster, self.moments, self.chance = cluster, sorted(moments), chance
        self.killed: list[str] = []

    def __call__(self, seconds: float) -> None:
        """Kill the next one, if it is time and there is one."""
        if not self.moments or seconds < self.moments[0]:
            return
        workers = {pid: title for pid in family(self.cluster.processes[HEAD].pid) if (title := _title(pid)).startswith(OURS)}
        working = [pid for pid, title in sorted(workers.items()) if not title.startswith(SPARE)]
        if not working:
            self.moments[0] = seconds + 0.5  # there may be one then
            return
        self.moments.pop(0)
        victim = self.chance.choice(working)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            self.killed.append(f"{workers[victim]} after {seconds:.0f} s")


def kill_with_ray(
    kind: str, folder: Path, cluster: Nodes, undisturbed: Undisturbed, chance: random.Random, tally: Tally
) -> None:
    """Kill the driver of a search, or workers of it, and let it go on to its end, whose records are to be those without Ray."""
    expected, _ = undisturbed.of(kind)
    directory, log = folder / "run", folder / "run.log"
    there = [f"workers.address={cluster.address}", "workers.ray=true"]
    begin = command("search", *kinds()[kind], "budget.checkpoint=1e-6", *there, "--out", directory)
    said: list[str] = []
    for turn in range(3):
        work = command("resume", directory) if (directory / EXPERIMENT).exists() else begin
        if turn < 2 and chance.random() < 0.5:
            after = chance.uniform(1, 25)
            ended = run(work, log, after=after)
            said.append(f"driver after {after:.0f} s")
            tally.with_ray += ended.code == -9
        else:
            victims = Victims(
                cluster, [chance.uniform(2, 20) for _ in range(0 if turn == 2 else chance.choice((1, 2)))], chance
            )
            ended = run(work, log, meanwhile=victims)
            said += victims.killed
            tally.with_ray += len(victims.killed)
        if ended.hung or (ended.code not in (0, -9) and not ended.clear):
            break
        if ended.code == 0:
            break
        time.sleep(1)  # until Ray has noticed that its driver is gone
    what = f"{kind} with Ray, killed: {', '.join(said)}"
    tally.survived_with_ray += tally.ends_well(what, ended, lambda: records_of(directory) == expected)


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""
