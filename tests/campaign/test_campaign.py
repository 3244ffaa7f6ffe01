"""A short part of the campaign of faults; `make faults` has the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.campaign.process import Outcome, operations, run
from tests.campaign.tally import Tally


def test_a_process_is_killed_at_an_operation_and_its_end_is_judged(tmp_path: Path) -> None:
    def write() -> None:
        for i in range(5):
            (tmp_path / "in" / str(i)).write_text("x")
        print("error: all of them")
        raise SystemExit(2)

    (tmp_path / "in").mkdir()
    assert run(write, tmp_path / "log", within=tmp_path / "in", operation=3).code == -9
    assert len(list((tmp_path / "in").iterdir())) == 2, "the third one was not begun"
    ended = run(write, tmp_path / "log", within=tmp_path / "in")
    assert ended.code == 2 and ended.clear and operations(tmp_path / "log") == 5
    tally = Tally()
    tally.judge("settings", "x", ended)
    tally.judge("settings", "y", Outcome(1, "Traceback (most recent call last):\nKeyError: 1"))
    tally.judge("settings", "z", Outcome(0, ""), wrong=True)
    assert tally.refused["settings"] == 1 and [kind for kind, _, _ in tally.faults] == ["traceback", "silence"]


def test_a_few_kills_and_inputs_are_survived() -> None:
    few = ["--kills", "1", "--ray", "0", "--disks", "0", "--flips", "0", "--inputs", "5", "--minutes", "3", "--seed", "3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaign", *few],
        cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs that went on to equal records: 1" in done.stdout and "images: 1" in done.stdout
