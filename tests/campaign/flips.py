"""Single flipped bits in the files of interrupted and finished runs: told, made good, without effect, or taken in silence."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from orchestrator.runs.directory import EXPERIMENT
from tests.campaign.kills import Undisturbed
from tests.campaign.process import command, run
from tests.campaign.searches import kinds, records_of
from tests.campaign.tally import Tally

UNREAD = ("run.log", "progress.json", ".lock", "report.html", ".dot", ".png")
"""Ends of names of files that no run reads back."""


def interrupted(kind: str, folder: Path, undisturbed: Undisturbed, chance: random.Random) -> Path:
    """Return a run directory of a search that was killed after its first checkpoint."""
    _, seconds = undisturbed.of(kind)
    while True:
        directory = folder / "interrupted"
        shutil.rmtree(directory, ignore_errors=True)
        begin = command("search", *kinds()[kind], "budget.checkpoint=1e-6", "--out", directory)
        run(begin, folder / "begin.log", after=chance.uniform(0.3, 0.9) * seconds)
        if (directory / EXPERIMENT).exists() and list(directory.glob("**/latest.pt")):
            return directory


def flip(directory: Path, chance: random.Random) -> str:
    """Flip a bit of one of the files, and say which."""
    files = [p for p in sorted(directory.rglob("*")) if p.is_file() and p.stat().st_size and not p.name.endswith(UNREAD)]
    path = chance.choice(files)
    content = bytearray(path.read_bytes())
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(bytes(content))
    return f"bit {bit} of byte {place} of {path.relative_to(directory)}"


def flip_and_resume(kind: str, base: Path, folder: Path, undisturbed: Undisturbed, chance: random.Random, tally: Tally) -> None:
    """Flip a bit of a copy of `base`, resume it, and compare its records."""
    expected, _ = undisturbed.of(kind)
    directory = folder / "run"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(base, directory)
    where = flip(directory, chance)
    tally.flips += 1
    ended = run(command("resume", directory), folder / "run.log")
    what = f"{kind}, {base.name}, {where}"
    if ended.clear:
        tally.told["told"] += 1
    elif ended.code or ended.traceback:
        tally.fault(what, ended)
    elif records_of(directory) == expected:
        tally.told["made good or without effect"] += 1
    else:
        tally.fault(f"{what}: other records", ended)
