"""Can the ranking of a finished search be trusted? What its shared weights say of random networks, against the truth."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from analysis import records
from analysis.trust import FRONT, RANDOM, SUFFIX, Skips, verdict
from analysis.trust_section import findings, warnings
from orchestrator import run as runs
from orchestrator import sweep, tune
from orchestrator.checkpoint import Checkpoints
from orchestrator.coordinator import Coordinator, alone_in
from orchestrator.data import Dataset, Part
from orchestrator.errors import InputError, Interrupted, RunError
from orchestrator.evaluators.supernet import Supernet, stage_of
from orchestrator.evaluators.table import Table, is_accuracy
from orchestrator.experiment import Workers
from orchestrator.machine import threads
from orchestrator.progress import Display
from orchestrator.reporting import write_report
from orchestrator.spaces.base import LISTED, SearchSpace
from searchers import Architecture

FOLDER = "trust"
"""Below a run directory: what is measured and trained for this, each kept as soon as it is done."""
NETWORKS, TRAINED = 100, 8
RETRAINED = "test accuracy (%) after training from scratch"
_TOGETHER = 8  # networks measured between two looks at the clock and at Ctrl-C
_SAMPLE, _IMAGES = 101, 102  # streams of chance, apart from the search's own

Show = Callable[[int, int, float | None], None]


class SharedWeights:
    """The weights that the finished search in `directory` ended with, and the options that survive in them.

    data: of the experiment, where it is read already. Raises InputError for a directory that is no finished search with shared
    weights, and for a checkpoint that is missing, damaged, or of another experiment.
    """

    def __init__(self, directory: Path, data: Dataset | None = None) -> None:
        self.directory, self.experiment = directory, runs.open_run(directory)
        if sweep.settings_of(directory):
            first = sweep.folders(directory)[0]
            raise InputError(f"{directory} holds several searches, each with weights of its own; name one, as {first}")
        if self.experiment.alone is not None:
            raise InputError(f"{directory}: its networks were trained from scratch one by one, so nothing was inherited")
        try:
            finished = bool(json.loads((directory / records.SUMMARY).read_text())["finished"])
        except (OSError, ValueError, KeyError):
            finished = False
        if not finished:
            raise InputError(f"{directory} is not finished; finish it with: paretoray resume {directory}")
        self.data = self.experiment.load_data() if data is None else data
        self.space = self.experiment.build_space(self.data)
        checkpoints = Checkpoints(directory / "checkpoints")
        alone = replace(self.experiment, workers=Workers(ray=False, count=1)).build_evaluator(self.data)
        assert isinstance(alone, Supernet)
        self.own: str = alone.statistics
        try:
            state = checkpoints.load()
            if state is None:
                raise InputError(f"{directory} has no checkpoint any more, and the weights were in it; search again")
            Coordinator(self.experiment, directory, self.data, alone).check(state)
            self._state: dict[str, Any] = state["evaluator"]
            self.options = stage_of(self._state).options
        except RunError as error:
            raise InputError(str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the checkpoint {checkpoints.latest} is damaged: {error!r}") from error
        with checkpoints.latest.open("rb") as file:
            self.checksum = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        model = self._supernet("recalibrated", self.data)
        self.statistics = list(dict.fromkeys([self.own, "batch", "recalibrated"])) if model.averages else ["batch"]
        if not model.averages:
            self.own = "batch"

    def has(self, architecture: Architecture) -> bool:
        """Whether all its options survive, so that these weights can say something of it."""
        return all(option in kept for option, kept in zip(architecture, self.options, strict=True))

    @property
    def surviving(self) -> int:
        """How many architectures the surviving options make."""
        return math.prod(map(len, self.options))

    def random(self, count: int) -> list[Architecture]:
        """Random networks of the surviving options (see `sample`), by the run's seed."""
        return sample(self.space, self.options, count, self.experiment.seed)

    def accuracies(
        self, architectures: Sequence[Architecture], images: int | None, show: Show, stop: Callable[[], bool]
    ) -> pd.DataFrame:
        """`arch` and, for each of `statistics`, the inherited accuracy in percent of the whole validation part, or of
        `images` of it drawn by the seed. What was measured before with these weights is read from the run's folder.

        Raises Interrupted once `stop` says so; what is measured by then is kept.
        """
        data = self.data if images is None else _fewer(self.data, images, self.experiment.seed)
        names = {a: self.space.format(a) for a in architectures}
        path = self.directory / FOLDER / "measured.csv"
        known = _measured(path, self.checksum, len(data.valid))
        left = {s: [a for a in names if (names[a], s) not in known] for s in self.statistics}
        whole = len(names) * len(self.statistics)
        done = at_first = whole - sum(map(len, left.values()))
        began = time.monotonic()
        path.parent.mkdir(exist_ok=True)
        for statistics, missing in left.items():
            supernet = self._supernet(statistics, data) if missing else None
            for start in range(0, len(missing), _TOGETHER):
                if stop():
                    raise Interrupted
                assert supernet is not None
                part = missing[start : start + _TOGETHER]
                found = [m["accuracy"] for m in supernet.measure(part, None)]
                rows = [[self.checksum, len(data.valid), statistics, names[a], v] for a, v in zip(part, found, strict=True)]
                pd.DataFrame(rows, columns=_COLUMNS).to_csv(path, mode="a", header=not path.exists(), index=False)
                known |= {(names[a], statistics): v for a, v in zip(part, found, strict=True)}
                done += len(part)
                show(done, whole, (time.monotonic() - began) / (done - at_first) * (whole - done))
        columns = {f"{s}{SUFFIX}": [known[names[a], s] for a in architectures] for s in self.statistics}
        return pd.DataFrame({"arch": [names[a] for a in architectures]} | columns)

    def _supernet(self, statistics: str, data: Dataset) -> Supernet:
        """In this process. Compiling takes longer than measuring, and nothing is probed."""
        workers = Workers(ray=False, count=1, gpus=self.experiment.workers.gpus if torch.cuda.is_available() else 0.0)
        training = self.experiment.training | {"statistics": statistics, "compile": False}
        made = replace(self.experiment, workers=workers, training=training, objectives={"error": {}}).build_evaluator(data)
        assert isinstance(made, Supernet)
        try:
            made.inherit(self._state)
        except RunError as error:
            raise InputError(f"the checkpoint of {self.directory} does not fit its experiment: {error}") from error
        return made


def sample(space: SearchSpace, options: Sequence[Sequence[int]], count: int, seed: int) -> list[Architecture]:
    """At most `count` different networks of these options per choice, uniform among notations; fewer where there are fewer.

    The first are the same for every count. Of notations that are the same network the first one drawn stands for all.
    """
    rng = np.random.default_rng([seed, _SAMPLE])
    sizes = [len(kept) for kept in options]
    places: Iterable[tuple[int, ...]]
    if math.prod(sizes) <= LISTED:
        places = (_digits(int(i), sizes) for i in rng.permutation(math.prod(sizes)))
    else:
        places = (tuple(rng.integers(sizes)) for _ in range(100 * count))
    found: dict[Hashable, Architecture] = {}
    for place in places:
        architecture = tuple(int(kept[p]) for kept, p in zip(options, place, strict=True))
        found.setdefault(space.canonical(architecture), architecture)
        if len(found) == count:
            break
    return list(found.values())


def _digits(number: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """An option of each choice, for a number below the product of the sizes (NumPy's own stops at 64 of them)."""
    found = []
    for size in sizes:
        number, place = divmod(number, size)
        found.append(place)
    return tuple(found)


_COLUMNS = ["checkpoint", "images", "statistics", "arch", "accuracy"]


def _measured(path: Path, checksum: str, images: int) -> dict[tuple[str, str], float]:
    """By notation and statistics; a line that was cut off is left out, and ended."""
    if not path.exists():
        return {}
    if not path.read_bytes().endswith(b"\n"):
        with path.open("a") as file:
            file.write("\n")  # or what is appended would be part of the line that was cut off
    try:
        rows = pd.read_csv(path, on_bad_lines="skip", dtype={"checkpoint": str, "arch": str}).dropna()
        rows = rows[(rows["checkpoint"] == checksum) & (rows["images"] == images)]
        return {(str(a), str(s)): float(v) for a, s, v in zip(rows["arch"], rows["statistics"], rows["accuracy"], strict=True)}
    except (ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}; delete it, and the same command measures anew") from error


def _fewer(data: Dataset, images: int, seed: int) -> Dataset:
    """With so many images of the validation part, drawn by the seed."""
    order = np.random.default_rng([seed, _IMAGES]).permutation(len(data.valid))
    kept = torch.from_numpy(np.sort(order[:images]))
    return replace(data, valid=Part(data.valid.images[kept], data.valid.labels[kept]))


@dataclass(frozen=True)
class Truth:
    """What networks are truly worth. title: in words. unit: what it counts. higher: whether more is better. values: as far as
    they are known. first: of the random networks only so many count; None for all. Of a later one the truth is known only if
    it was good enough for the front, and with such networks a sample is not random any more."""

    title: str
    unit: str
    higher: bool
    values: dict[Architecture, float]
    first: int | None = None


def table_truth(table: Table, column: str, needed: Sequence[Architecture], ranked: Sequence[Architecture]) -> Truth:
    """From the table's first column. Raises InputError where it lacks one of the `needed`, or is the same for all `ranked`."""
    lacking = [a for a in needed if a not in table.costs]
    if lacking:
        raise InputError(
            f"{table.source} lacks {len(lacking)} of the {len(needed)} networks, {table.space.format(lacking[0])} among them; "
            "take a table that has every network, or leave --table out and let some be retrained"
        )
    values = {a: table.values(table.costs[a])[0] for a in needed}
    if len({values[a] for a in ranked}) < 2:
        raise InputError(f"{table.source}: {column} is the same for all {len(ranked)} networks; nothing can be ranked by it")
    return Truth(f"{column} of {table.source}", column, is_accuracy(column), values)


def assess(
    weights: SharedWeights,
    random: Sequence[Architecture],
    front: Sequence[Architecture],
    truth: Truth,
    images: int | None,
    show: Show,
    stop: Callable[[], bool],
) -> pd.DataFrame:
    """Writes trust.csv and trust.json into the run directory, and returns the former: a row for each random network and each
    member of the front, with its inherited accuracy under each statistics and what it is truly worth, if that is known.

    Raises Interrupted as `SharedWeights.accuracies` does.
    """
    measured = weights.accuracies([*random, *front], images, show, stop)
    measured.insert(1, "kind", [RANDOM] * len(random) + [FRONT] * len(front))
    counted = len(random) if truth.first is None else truth.first
    true = [truth.values.get(a, np.nan) if i < counted else np.nan for i, a in enumerate(random)]
    found = measured.assign(true=true + [truth.values.get(a, np.nan) for a in front])
    found.to_csv(weights.directory / records.TRUST, index=False)
    skips = Skips.of(weights.space.skips, weights.space.absent)
    shares = dict(zip(found["arch"], skips.shares([*random, *front]), strict=True)) if skips.skip.any() else {}
    facts = {
        "truth": truth.title,
        "unit": truth.unit,
        "higher_is_better": truth.higher,
        "own": weights.own,
        "statistics": weights.statistics,
        "images": len(weights.data.valid) if images is None else images,
        "recalibration_batches": weights.experiment.training["recalibration"],
        "surviving": weights.surviving,
        "seed": weights.experiment.seed,
        "checkpoint": weights.checksum,
    }
    path = weights.directory / records.VERDICT
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(facts | verdict(found, weights.own, truth.higher, shares), indent=2) + "\n")
    os.replace(temporary, path)
    return found


def main(
    console: Console,
    directory: Path,
    *,
    tables: Sequence[Path],
    column: str | None,
    networks: int,
    members: int | None,
    images: int | None,
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Does what `paretoray trust` says, going on where it was interrupted; returns the findings (what, value, meaning) and what
    is wrong.

    tables, column: where the truth is from; without them `members` of the random networks are retrained. images: of the
    validation part to measure on; None for all. Raises InputError before anything starts, and Interrupted once Ctrl-C was
    heeded.
    """
    if bool(tables) != (column is not None):
        raise InputError(
            "--table and --column say together where the truth is from, as --column test_accuracy; give both, or neither"
        )
    if tables and members is not None:
        raise InputError("--retrain means nothing with --table, which has the truth of all networks; leave one out")
    if networks < 3 or (members is not None and not 0 <= members <= networks):
        raise InputError(f"--networks {networks}, --retrain {members}: at least 3 are ranked, and at most those are retrained")
    weights = SharedWeights(directory)
    valid = len(weights.data.valid)
    if images is not None and not 1 <= images <= valid:
        raise InputError(f"--images {images}: the validation part has {valid}; write 1 to {valid}, or leave it out for all")
    random = weights.random(networks)
    if len(random) < 3:
        raise InputError(f"only {len(random)} networks survive in these weights; there is nothing to rank")
    space, experiment = weights.space, weights.experiment
    listed = [space.parse(str(a)) for a in records.read(directory / records.FRONT, ["arch"])["arch"]]
    front = [a for a in listed if weights.has(a)]
    truth, jobs, trained = None, [], 0
    if tables:
        assert column is not None
        truth = table_truth(Table.read(list(tables), space, [column]), column, list(dict.fromkeys([*random, *front])), random)
        judge = truth.title
    else:
        known = _retrained(directory, space)
        trained = min(TRAINED, len(random)) if members is None else members
        jobs = [a for a in random[:trained] if a not in known]
        if len(known) + len(jobs) < 2:
            raise InputError(f"nothing says what networks are truly worth; write --retrain {TRAINED}, or --table and --column")
        judge = f"retraining: {len(known)} of the front are retrained, and {len(jobs)} random ones will be"
    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    console.print(
        f"{len(random)} random networks of {weights.surviving:,}, and {len(front)} of the front, on {images or valid:,} images "
        f"of the validation part, statistics {' and '.join(weights.statistics)}; truth: {judge}",
        **plain,
    )
    if len(front) < len(listed):
        gone = len(listed) - len(front)
        console.print(
            f"{gone} of the front have options that were dropped later, so these weights know nothing of them", **plain
        )
    if (earlier := _earlier(directory)) not in (None, truth.title if truth else RETRAINED):
        console.print(f"this replaces what {records.TRUST} and the report say against {earlier}", **plain)
    stop = tune.stop_file(directory)
    clustered = tune.cluster(experiment.workers) if jobs and experiment.workers.ray else nullcontext()
    with runs.heeding_ctrl_c(stop, console), clustered, alone_in(directory, "run.lock"):
        stop.unlink(missing_ok=True)
        with Display(console) as display, threads(experiment.workers.cpus):
            weights.accuracies([*random, *front], images, display.trust, stop.exists)
        if truth is None:
            values = _retrained(directory, space)
            if jobs:
                absolute = directory.resolve()  # trials change their working directory
                wanted = [{"arch": space.format(a), "result": str(_result(absolute, space.format(a)))} for a in jobs]
                with Display(console) as display:
                    results = runs.retrain_all(experiment, absolute, weights.data, wanted, display)
                errors = zip(results["arch"], results["test_error_percent"], strict=True)
                values |= {space.parse(str(arch)): 100.0 - float(error) for arch, error in errors}
            truth = Truth(RETRAINED, "test accuracy (%)", True, values, trained)
        assess(weights, random, front, truth, images, display.trust, stop.exists)
        write_report(experiment, directory, weights.data)
    said = json.loads((directory / records.VERDICT).read_text())
    return findings(said), warnings(said)


def _earlier(directory: Path) -> str | None:
    """What the last verdict was against."""
    try:
        return str(json.loads((directory / records.VERDICT).read_text())["truth"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is none that could be read, so none is lost


def _retrained(directory: Path, space: SearchSpace) -> dict[Architecture, float]:
    """Test accuracies in percent of what the run itself has retrained."""
    path = directory / records.RETRAINED
    if not path.exists():
        return {}
    found = records.read(path, ["arch", "test_error_percent"])
    return {space.parse(str(a)): 100.0 - float(e) for a, e in zip(found["arch"], found["test_error_percent"], strict=True)}


def _result(directory: Path, arch: str) -> Path:
    """Named after the network, so that it is found again whatever else is drawn."""
    return directory / FOLDER / f"{hashlib.sha256(arch.encode()).hexdigest()[:16]}.json"
