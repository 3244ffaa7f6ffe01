"""Holds behaviour fixed while code moves: records what the command line writes, and checks later that the same bytes come out.

    python benchmarks/behaviour.py record runs/behaviour/before.json     # once, before a change
    python benchmarks/behaviour.py check runs/behaviour/before.json      # after every step; exits with 1 on any difference

Every case is a few commands of `paretoray` in an empty folder, each in a process of its own, so nothing here depends on how the
code is arranged; the one exception is CHOICE, the line by which a user's own space imports `Choice`. What the commands write is
kept without wall-clock times, versions and hardware in a folder beside FILE.json, and what a check finds in FILE-now, so that
`diff -r` shows a difference in full. The same processor and versions are needed for both: rounding differs between machines,
hence a record is not to be committed.

A change that is meant to alter something is recorded again for the cases it alters, with --only; all others stay as they are.
`--quick` runs the cases that cover most for their time. A case that kills a search and resumes it also fails when the records
are not those of the same search straight through.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("paretoray")
CHOICE = "from orchestrator.spaces import Choice"
PATIENCE = 600.0
"""Seconds that a command may take."""

SAMPLED = (
    "aging-evolution,local-search,nsga-net,nsga2,optuna-sampler,preference-policy,pymoo-algorithm,random-search,"
    "surrogate-search"
)
TRAINED = "darts,ddpnas,nasp,proxyless-g,proxyless-r,tnd-nas"
"""Searchers whose own parameters, or choice of a network, train the shared weights."""

EXPERIMENT = """\
data = { name = "digits", limit = 200 }
space = { name = "nas-bench-201", channels = 4, cells = 2, supernet_cells = [1, 1, 2] }
searcher = { name = "tnd-nas", samples = 4 }
objectives = { error = {}, parameters = {}, macs = {} }
training = { batch = 32 }
budget = { epochs = 8, interval = 1, validate = 6 }
workers = { ray = false, count = 1 }
retrain = { members = 0, epochs = 2 }
"""
"""The run.toml of every case: a search of a second or two on real scans, whose objectives are computed rather than timed."""

OWN = f"""\
from sklearn.datasets import load_digits
from torch import nn

{CHOICE}


def load(images: int):
    digits = load_digits()
    return (digits.images[:images] * 15).astype("uint8")[:, None], digits.target[:images]


def build(image, classes, width: int = 4):
    def block(number, channels):
        options = {{
            "conv3": lambda: nn.Conv2d(channels, width, 3, padding=1),
            "conv1": lambda: nn.Conv2d(channels, width, 1),
            "pooled": lambda: nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(channels, width, 1)),
        }}
        return nn.Sequential(Choice(f"block{{number}}", options), nn.BatchNorm2d(width), nn.ReLU())

    blocks = [block(number, width if number else image[0]) for number in range(4)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
"""

KEPT = (
    "evaluations.csv", "policy.csv", "front.csv", "retrained.csv", "summary.csv", "searches.csv", "fronts.csv", "trust.csv",
    "summary.json", "trust.json", "result.json", "experiment.toml", "sweep.toml", "fitted.toml", "output-*.txt",
)  # fmt: skip
ELSEWHERE = ("checkpoints", "plots", "tune", "devices", "networks")
TIMED = re.compile(r"(^|_)seconds(_|$)|^(hardware|machines|versions|checkpoint)$")
"""Columns of a table and keys of a JSON file that another run on another day may change; the checkpoint that paretoray trust
names by its hash holds the seconds of the search."""


@dataclass(frozen=True)
class Case:
    """Commands that run one after the other in a folder with run.toml and what `write` puts there.

    printed: standard output counts, too, except for lines that begin with `time`. killed: the last command but one is killed
    while it searches, and the last resumes it; what is in the folders `straight` and `killed` must then be equal. quick: one of
    the cases of --quick.
    """

    name: str
    commands: Sequence[str]
    write: Callable[[Path], object] = lambda folder: None
    printed: bool = False
    killed: bool = False
    quick: bool = False


def own(folder: Path) -> None:
    (folder / "own.py").write_text(OWN)


def measured(folder: Path) -> None:
    """Writes latencies of all networks of digits-tiny: a sum over blocks, and an interaction that is none."""
    cost = {"skip": 0.0, "conv1": 1.1, "conv3": 3.7, "sep3": 2.9, "res3": 7.1}
    lines = ["arch,latency_ms"]
    for blocks in itertools.product(cost, repeat=4):
        late = sum(cost[block] * (1.0 if place < 2 else 0.7) for place, block in enumerate(blocks))
        lines.append(f"{'-'.join(blocks)},{5.0 + late + 0.4 * (blocks[0] == blocks[1]):.6f}")
    (folder / "measured.csv").write_text("\n".join(lines) + "\n")


def killed(name: str, settings: str, quick: bool = False) -> Case:
    search = f"search run.toml {settings} budget.checkpoint=0.2"
    return Case(name, [f"{search} --out straight", f"{search} --out killed", "resume killed"], killed=True, quick=quick)


CASES = (
    Case("ray", ["search run.toml workers.ray=true workers.count=2 budget.epochs=4 retrain.members=1 --out actors",
        "search run.toml workers.ray=true budget.epochs=4 --seeds 2 --out sweep"]),
    Case("supernet/sampled", [f"search run.toml --sweep searcher.name={SAMPLED} --out run"], quick=True),
    Case("supernet/trained", [f"search run.toml --sweep searcher.name={TRAINED} --out run"], quick=True),
    killed("killed/tnd-nas", "budget.epochs=12", quick=True),
    killed("killed/surrogate-search", "searcher.name=surrogate-search budget.epochs=8"),
    killed("killed/from-scratch", "searcher.name=nsga2 searcher.population=4 searcher.samples=4 training.name=from-scratch "
        "training.epochs=2 budget.epochs=28"),
    Case("table", [f"bench --table digits-tiny --objectives valid_accuracy,parameters --searchers {SAMPLED},{TRAINED} "
        "--budget 60 --seeds 2 --workers 1 --out bench"], quick=True),
    Case("table/time", ["bench --table digits-tiny --objectives test_accuracy,macs,latency_ms --time train_seconds "
        "--budget 100 --searchers nsga2:population=10,pymoo-algorithm:algorithm=NSGA3,surrogate-search --seeds 1 --workers 1 "
        "--out bench"]),
    Case("bench/searches", ["bench run.toml space.name=digits-tiny space.channels=4 objectives.macs.at_most=1e9 --images 1200 "
        "--searchers tnd-nas,nsga-net:training.name=from-scratch:training.epochs=2:population=4 --seeds 1 --table digits-tiny "
        "--objectives test_accuracy,parameters,macs --out bench"]),
    Case("trust", ["search run.toml data.test=0.25 space.name=digits-tiny searcher.name=random-search --out run",
        "trust run --table digits-tiny --column test_accuracy --networks 30 --images 100"]),
    Case("fit", ["profile --space digits-tiny --fit measured.csv --column latency_ms --hardware simulated --out fitted.toml",
        "search run.toml space.name=digits-tiny searcher.name=proxyless-g objectives.latency@fitted.at_most=20 "
        "--out run"], write=measured, quick=True),
    Case("limits", ["search run.toml objectives.parameters.at_most=8000 "
        "--sweep searcher.name=ddpnas,nsga2,proxyless-g,surrogate-search,tnd-nas --out run"]),
    Case("targets", ["search run.toml searcher.name=proxyless-r objectives.parameters.target=8000 objectives.macs.target=60000 "
        "budget.evaluations=60 --out run"]),
    Case("spaces/cells", ["search run.toml searcher.name=nasp space.name=darts space.channels=4 space.cells=3 budget.epochs=2 "
        "--out run"]),
    Case("spaces/phases", ["search run.toml searcher.name=nsga-net searcher.population=8 space.name=nsga-net-macro "
        "space.channels=4,4 space.nodes=4 budget.epochs=3 --out run"]),
    Case("spaces/own", ["search run.toml space.name=own:build space.width=6 data.name=own:load data.images=300 "
        "searcher.name=nsga2 searcher.population=6 objectives.memory={} retrain.members=2 --out run"], write=own, quick=True),
    Case("train", ["train digits-tiny conv3-skip-sep3-res3 data.limit=200 retrain.epochs=2 --out run"]),
    Case("describe/own", ["describe own:build image=1,8,8"], write=own, printed=True),
    Case("describe/network", ["describe darts DARTS_V2 channels=8 cells=5 --json"], printed=True),
    Case("plan", ["search run.toml workers.count=1 --dry-run"], printed=True),
    Case("devices", ["devices"], printed=True),
    Case("list", ["list searchers"], printed=True, quick=True),
)  # fmt: skip


class Failed(Exception):
    """A command that did not end as it should, with the end of its output."""


def environment() -> dict[str, str]:
    """One thread, as the order of a sum depends on their number; a width of lines that does not depend on the terminal."""
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}


def call(command: str, folder: Path) -> str:
    done = subprocess.run(
        [PROGRAM, *command.split()], cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise Failed(f"paretoray {command}\nexit code {done.returncode}\n{end}")
    return done.stdout


def kill(command: str, folder: Path, run: Path) -> None:
    """Starts the command and kills it, without a chance to save, once the search in `run` has saved and measured something."""
    process = subprocess.Popen(
        [PROGRAM, *command.split()], cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (_rows(run / "evaluations.csv") > 6 and (run / "checkpoints" / "latest.pt").exists()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"paretoray {command}\nended, or waited too long, before it could be killed")
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    if (run / "summary.json").exists():
        raise Failed(f"paretoray {command}\nhad finished before it was killed; give it a longer search")


def _rows(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.read_text().count("\n")
    return 0


def run(case: Case) -> dict[str, str]:
    """Run a case, and return what it writes by path, without what differs from run to run. Raises Failed."""
    with tempfile.TemporaryDirectory(prefix="behaviour-") as made:
        folder = Path(made)
        (folder / "run.toml").write_text(EXPERIMENT)
        case.write(folder)
        for number, command in enumerate(case.commands):
            if case.killed and number == len(case.commands) - 2:
                kill(command, folder, folder / "killed")
                continue
            printed = call(command, folder)
            if case.printed:
                (folder / f"output-{number}.txt").write_text(printed)
        found = {str(path.relative_to(folder)): timeless(path) for path in sorted(folder.rglob("*")) if _kept(path, folder)}
    if not found:
        raise Failed(f"{case.name} wrote none of {', '.join(KEPT)}")
    if case.killed:
        _, difference = next(differences(_below(found, "straight/"), _below(found, "killed/")), ("", ""))
        if difference:
            raise Failed(f"killed and resumed, the search gives other records than straight through:\n{difference}")
    return found


def _kept(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder)
    return any(fnmatch(path.name, name) for name in KEPT) and not set(inside.parts) & set(ELSEWHERE)


def _below(files: dict[str, str], start: str) -> dict[str, str]:
    return {name.removeprefix(start): text for name, text in files.items() if name.startswith(start)}


def timeless(path: Path) -> str:
    """The file's text without columns, keys and lines that tell time, versions or hardware."""
    text = path.read_text()
    if path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(text)))
        left = [place for place, column in enumerate(rows[0]) if not TIMED.search(column)]
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows([row[place] for place in left] for row in rows)
        return written.getvalue()
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(text)), indent=1) + "\n"
    if path.suffix == ".txt":
        return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("time "))
    return text


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if not TIMED.search(key)}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def differences(before: dict[str, str], now: dict[str, str]) -> Iterator[tuple[str, str]]:
    """List each file that differs, with the first of its lines that does."""
    for name in sorted({*before, *now}):
        if before.get(name) == now.get(name):
            continue
        if name not in before or name not in now:
            yield name, f"{name}: only {'before' if name in before else 'now'}"
            continue
        lines = itertools.zip_longest(before[name].splitlines(True), now[name].splitlines(True), fillvalue="(no line)")
        number, (old, new) = next((i, pair) for i, pair in enumerate(lines, 1) if pair[0] != pair[1])
        yield name, f"{name}, line {number}\n  before: {old.rstrip()[:300]}\n  now:    {new.rstrip()[:300]}"


def keep(files: dict[str, str], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, newline="")


def described(files: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "rows": text.count("\n")} for name, text in files.items()
    }


def outcomes(cases: Sequence[Case], jobs: int) -> Iterator[tuple[Case, dict[str, str] | Failed, float]]:
    """Run the cases; return what each wrote or why it failed, and its seconds, in their order."""

    def outcome(case: Case) -> tuple[Case, dict[str, str] | Failed, float]:
        began = time.monotonic()
        try:
            return case, run(case), time.monotonic() - began
        except (Failed, subprocess.TimeoutExpired) as error:
            return case, Failed(str(error)), time.monotonic() - began

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(outcome, cases)


def say(text: str) -> None:
    print(text, flush=True)


def record(file: Path, cases: Sequence[Case], jobs: int) -> int:
    """Replaces the records of these cases, and keeps those of others. Returns how many failed."""
    recorded = json.loads(file.read_text()) if file.exists() else {}
    failures = 0
    for case, found, seconds in outcomes(cases, jobs):
        recorded.pop(case.name, None)
        shutil.rmtree(file.with_suffix("") / case.name, ignore_errors=True)
        if isinstance(found, Failed):
            failures += 1
            say(f"FAILED     {case.name}\n{found}")
            continue
        keep(found, file.with_suffix("") / case.name)
        recorded[case.name] = described(found)
        say(f"recorded   {case.name:<26}{len(found):>4} files{seconds:>7.1f} s")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(recorded, indent=1) + "\n")
    return failures


def check(file: Path, cases: Sequence[Case], jobs: int) -> int:
    """Says for each case whether it still writes what was recorded. Returns how many do not."""
    recorded = json.loads(file.read_text())
    unknown = [case.name for case in cases if case.name not in recorded]
    failures = 0
    for case, found, seconds in outcomes([case for case in cases if case.name in recorded], jobs):
        folder = file.with_suffix("") / case.name
        before = {name: (folder / name).read_bytes().decode() for name in recorded[case.name] if (folder / name).exists()}
        if described(before) != recorded[case.name]:
            found = Failed(f"what was recorded in {folder} has been altered since; record {case.name} again from the old code")
        if isinstance(found, Failed):
            failures += 1
            say(f"FAILED     {case.name}\n{found}")
            continue
        keep(found, file.with_name(f"{file.stem}-now") / case.name)
        different = [text for _, text in differences(before, found)]
        failures += bool(different)
        say(f"{'DIFFERENT' if different else 'same':<11}{case.name:<26}{len(found):>4} files{seconds:>7.1f} s")
        for text in different:
            say(text)
    if unknown:
        say(f"not recorded, so not checked: {', '.join(unknown)}")
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "check"])
    parser.add_argument("file", type=Path, metavar="FILE.json")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="cases by name, as in 'killed/*'")
    parser.add_argument("--quick", action="store_true", help="only the cases that cover most for their time")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    given = parser.parse_args(arguments)
    if given.file.suffix != ".json":
        parser.error(f"{given.file}: write {given.file.with_suffix('.json')}; the folder without .json has what was recorded")
    cases = [case for case in CASES if fnmatch(case.name, given.only) and (case.quick or not given.quick)]
    if not cases:
        parser.error(f"--only {given.only}: no case has such a name; there are {', '.join(case.name for case in CASES)}")
    if given.what == "check" and not given.file.exists():
        parser.error(f"{given.file} does not exist; make it with: python benchmarks/behaviour.py record {given.file}")
    began = time.monotonic()
    failures = (record if given.what == "record" else check)(given.file, cases, given.jobs)
    worked = os.times()
    spent = (
        f"{time.monotonic() - began:.0f} s, {worked.children_user + worked.children_system:.0f} s of CPU without Ray's workers"
    )
    say(f"{len(cases)} cases in {spent}: {f'{failures} not as they should be' if failures else 'all well'}")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
