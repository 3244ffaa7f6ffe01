"""Kills at random moments and at file operations, and a disk that is full; then a resume, and equal records or not."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
from pathlib import Path

from orchestrator.runs.directory import EXPERIMENT
from tests.campaign.process import Outcome, command, operations, run
from tests.campaign.searches import kinds, records_of
from tests.campaign.tally import Tally

CHECKPOINTS = ("1e-6", "0.2", "20")
"""Seconds between checkpoints: after every round, now and then, and never before the end."""


class Undisturbed:
    """Runs without a disturbance, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, tuple[dict[str, str], float]] = {}

    def directory(self, kind: str) -> Path:
        """Return the run directory of a kind, which is finished."""
        self.of(kind)
        return self.folder / kind.replace(" ", "-")

    def of(self, kind: str) -> tuple[dict[str, str], float]:
        """Return its records, and the seconds that it took."""
        if kind not in self._known:
            directory, log = self.folder / kind.replace(" ", "-"), self.folder / f"{kind.replace(' ', '-')}.log"
            done = run(command("search", *kinds()[kind], "--out", directory), log)
            if done.code:
                raise SystemExit(f"{kind} fails undisturbed: {done.output}")
            self._known[kind] = records_of(directory), done.seconds
        return self._known[kind]


def kill_and_resume(kind: str, folder: Path, undisturbed: Undisturbed, chance: random.Random, tally: Tally) -> None:
    """Kill a run up to three times, at moments or file operations, and let it go on to its end."""
    expected, seconds = undisturbed.of(kind)
    directory, log = folder / "run", folder / "run.log"
    every = f"budget.checkpoint={chance.choice(CHECKPOINTS)}"
    said: list[str] = []
    kills = chance.choice((1, 1, 1, 2, 3))
    for turn in range(kills + 1):
        begun = (directory / EXPERIMENT).exists()
        work = command("resume", directory) if begun else command("search", *kinds()[kind], every, "--out", directory)
        if turn == kills:
            break
        if chance.random() < 0.5:
            after = chance.uniform(0.02, 1.1) * seconds
            said.append(f"after {after:.2f} s")
            ended = run(work, log, after=after)
        else:
            at = int(10 ** chance.uniform(0, 2.3))  # most operations are in the beginning and the end
            said.append(f"at operation {at}")
            ended = run(work, log, within=directory, operation=at)
        tally.kills += ended.code == -9
        if ended.code not in (-9, 0):
            tally.fault(f"{kind}, killed {', '.join(said)}", ended)
            return
    ended = run(work, log)
    what = f"{kind}, killed {', '.join(said)}, {every}"
    tally.survived += tally.ends_well(what, ended, lambda: records_of(directory) == expected)


def kill_at_operations(kind: str, folder: Path, undisturbed: Undisturbed, first: int, stride: int, tally: Tally) -> None:
    """Kill runs of a kind at every so many of their file operations in turn, and let each go on to its end.

    Kinds of run do nearly the same operations, so that all of them are tried where each kind has another `first`.
    """
    expected, _ = undisturbed.of(kind)
    begin = command("search", *kinds()[kind], "budget.checkpoint=1e-6", "--out", folder / "counted")
    counted = run(begin, folder / "counted.log", within=folder / "counted")
    assert counted.code == 0, counted.output
    for at in range(1 + first % stride, operations(folder / "counted.log") + 1, stride):
        directory, log = folder / f"at-{at}", folder / f"at-{at}.log"
        begin = command("search", *kinds()[kind], "budget.checkpoint=1e-6", "--out", directory)
        tally.kills += run(begin, log, within=directory, operation=at).code == -9
        ended = run(command("resume", directory) if (directory / EXPERIMENT).exists() else begin, log)
        records = records_of(directory) if not ended.code else None
        tally.survived += tally.ends_well(f"{kind}, killed at operation {at}", ended, lambda r=records: r == expected)
        shutil.rmtree(directory)


def fill_the_disk(kind: str, folder: Path, undisturbed: Undisturbed, chance: random.Random, tally: Tally) -> None:
    """Run on a disk that is too small, which is to be said, and then on one that was made larger."""
    expected, _ = undisturbed.of(kind)
    disk, result = folder / "disk", folder / "result"
    disk.mkdir()
    size = int(10 ** chance.uniform(4.1, 6.3))

    def work() -> None:
        library = ctypes.CDLL(None, use_errno=True)
        if library.unshare(0x00020000) or library.mount(b"none", b"/", None, 0x44000, None):  # a private namespace
            raise SystemExit(99)
        library.mount(b"none", str(disk).encode(), b"tmpfs", 0, f"size={size}".encode())
        try:
            command("search", *kinds()[kind], "budget.checkpoint=1e-6", "--out", disk / "run")()
        except SystemExit as ended:
            print(f"small disk: {ended.code}")
            if ended.code not in (0, 1, 2) or (ended.code == 0 and not (disk / "run" / "report.html").exists()):
                raise SystemExit(71) from None
        library.mount(b"none", str(disk).encode(), b"tmpfs", 0x20, b"size=64m")
        again = (disk / "run" / EXPERIMENT).exists()
        begin = command("search", *kinds()[kind], "budget.checkpoint=1e-6", "--out", disk / "run")
        try:
            (command("resume", disk / "run") if again else begin)()
        except SystemExit as ended:
            if ended.code:
                raise
        shutil.copytree(disk / "run", result)

    ended = run(work, folder / "disk.log")
    if ended.code == 99:
        tally.skipped["full disk"] = "a file system of its own takes the rights of an administrator"
        return
    tally.disks += 1
    what = f"{kind}, a disk of {size} bytes"
    if ended.code or ended.traceback:
        tally.fault(what, Outcome(ended.code, ended.output, ended.seconds))
    elif records_of(result) != expected:
        tally.fault(f"{what}: other records", ended)
    elif os.environ.get("CAMPAIGN_VERBOSE"):
        print(f"{what}: {ended.output.splitlines()[-1]}")
