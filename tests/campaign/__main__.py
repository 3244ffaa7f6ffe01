"""A seeded campaign of faults against runs: kills, full disks, flipped bits and wrong inputs, counted.

    python -m tests.campaign [--kills 40] [--operations 0] [--ray 2] [--disks 6] [--flips 60] [--inputs 160]
                             [--minutes 6] [--seed 0]

Every kind of disturbance takes turns until its number is reached, or the minutes are over, whichever is first. Ends with the
counts, and with 1 where a run did not go on to equal records, or a wrong input had a traceback, a hang or a silent wrong end.
What the reports' pictures do is left out. Kills of nodes are in tests/orchestrator.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.campaign import flips, inputs, kills, rays
from tests.campaign.process import command, import_what_is_imported_late
from tests.campaign.searches import draw_nothing, kinds
from tests.campaign.tally import Tally
from tests.nodes import Nodes, nodes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="runs that are killed at random")
    parser.add_argument(
        "--operations",
        type=int,
        default=0,
        help="kill every kind of run at every so many file operations, each kind from another one on; 0: none",
    )
    parser.add_argument("--ray", type=int, default=2, help="runs on a shared Ray cluster, whose driver or workers are killed")
    parser.add_argument("--disks", type=int, default=6)
    parser.add_argument("--flips", type=int, default=60)
    parser.add_argument("--inputs", type=int, default=160)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw_nothing()
    chance, tally = random.Random(arguments.seed), Tally()
    with tempfile.TemporaryDirectory(prefix="paretoray-campaign-") as name, contextlib.ExitStack() as ends:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        (folder / "whole").mkdir()
        undisturbed = kills.Undisturbed(folder / "whole")
        names = list(kinds())
        first = command("search", *kinds()["surrogate-search"], "--out", folder / "first")
        import_what_is_imported_late(first, folder / "first.log")

        @functools.cache
        def cluster() -> Nodes:
            os.environ["RAY_AUTH_MODE"] = "disabled"
            return ends.enter_context(nodes(folder / "ray", count=1, cpus=2))

        @functools.cache
        def base(kind: str, finished: bool) -> Path:
            if finished:
                return undisturbed.directory(kind)
            (folder / f"{kind}-begun").mkdir()
            return flips.interrupted(kind, folder / f"{kind}-begun", undisturbed, chance)

        def kill(i: int, at: Path) -> None:
            kills.kill_and_resume(names[i % len(names)], at, undisturbed, chance, tally)

        def kill_ray(i: int, at: Path) -> None:
            rays.kill_with_ray(names[i % len(names)], at, cluster(), undisturbed, chance, tally)

        def fill(i: int, at: Path) -> None:
            kills.fill_the_disk(names[i % len(names)], at, undisturbed, chance, tally)

        def flip(i: int, at: Path) -> None:
            kind, finished = [("random-search", False), ("random-search", True), ("sweep", False)][i % 3]
            flips.flip_and_resume(kind, base(kind, finished), at, undisturbed, chance, tally)

        def give(i: int, at: Path) -> None:
            inputs.one(i, at / "input", lambda finished: base("random-search", finished), chance, tally)

        wanted = {
            kill: arguments.kills,
            kill_ray: arguments.ray,
            fill: arguments.disks,
            flip: arguments.flips,
            give: arguments.inputs,
        }
        done = dict.fromkeys(wanted, 0)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):  # the counts so far are told
            if arguments.operations:
                for number, kind in enumerate(names):
                    (folder / "every").mkdir()
                    kills.kill_at_operations(kind, folder / "every", undisturbed, number, arguments.operations, tally)
                    shutil.rmtree(folder / "every")
            end = time.monotonic() + 60 * arguments.minutes
            while time.monotonic() < end and any(done[k] < wanted[k] for k in wanted):
                # What has the smallest share of its number behind it comes next.
                work = min((k for k in wanted if done[k] < wanted[k]), key=lambda k: done[k] / wanted[k])
                place = folder / "now"
                place.mkdir()
                work(done[work], place)
                shutil.rmtree(place)
                done[work] += 1
    print("\n".join(tally.lines()), flush=True)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
