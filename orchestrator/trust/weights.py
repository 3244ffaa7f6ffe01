"""The weights that a finished search ended with, and what they say of networks."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from analysis.files import write_text
from analysis.trust import PARAMETERS
from orchestrator.config.plan import SearchPlan
from orchestrator.config.settings import Workers
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError, Interrupted, RunError
from orchestrator.evaluators.base import Failure
from orchestrator.evaluators.supernet import Supernet, stage_of
from orchestrator.evaluators.training_free import SCORES, TrainingFree, unscored
from orchestrator.runs import sweep
from orchestrator.runs.directory import is_finished
from orchestrator.search.checkpoint import Checkpoints
from orchestrator.search.coordinator import check_identity
from orchestrator.spaces.base import LISTED, SearchSpace
from orchestrator.tasks.base import merit_column
from searchers import Architecture

log = logging.getLogger(__name__)

FOLDER = "trust"
"""Below a run directory: what is measured and trained for this, each kept as soon as it is done."""
_TOGETHER = 8  # networks measured between two looks at the clock and at Ctrl-C
_SAMPLE, _IMAGES = 101, 102  # streams of chance, apart from the search's own

Show = Callable[[int, int, float | None], None]


class SharedWeights:
    """The weights that a finished search ended with, and the options that survive in them.

    Args:
        plan: The search.
        directory: Its run directory.

    Raises:
        InputError: For a directory that is no finished search with shared weights, and for a checkpoint that is missing,
            damaged, or of another experiment.
    """

    def __init__(self, plan: SearchPlan, directory: Path) -> None:
        self.directory, self.plan = directory, plan
        if sweep.settings_of(directory):
            first = sweep.folders(directory)[0]
            raise InputError(f"{directory} holds several searches, each with weights of its own; name one, as {first}")
        if not plan.shares_weights:
            raise InputError(f"{directory}: its networks were trained from scratch one by one, so nothing was inherited")
        if not is_finished(directory):
            raise InputError(f"{directory} is not finished; finish it with: paretoray resume {directory}")
        self.data, self.space = plan.trained.data, plan.problem.space
        checkpoints = Checkpoints(directory / "checkpoints")
        alone = plan.varied(workers=Workers(ray=False, count=1)).build_evaluator()
        if not isinstance(alone, Supernet):
            raise InputError(
                f"{directory}: its weights are those of training.name = {plan.experiment.training.name!r}; only weights of the "
                "evaluator supernet, or of a class that extends it, can be looked into"
            )
        try:
            state = checkpoints.load()
            if state is None:
                raise InputError(f"{directory} has no checkpoint any more, and the weights were in it; search again")
            check_identity(plan, state)
            self._state: dict[str, Any] = state["evaluator"]
            stage = stage_of(self._state)
            self.options, self.own = stage.options, alone.measured_with(stage)
        except RunError as error:
            raise InputError(str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the checkpoint {checkpoints.latest} is damaged: {error!r}") from error
        with checkpoints.latest.open("rb") as file:
            self.checksum = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        model = self.supernet("recalibrated", self.data)
        self.statistics = list(dict.fromkeys([self.own, "batch", "recalibrated"])) if model.averages else ["batch"]
        if not model.averages:
            self.own = "batch"

    def has(self, architecture: Architecture) -> bool:
        """Tell whether all options of a network survive, so that these weights can judge it."""
        return all(option in kept for option, kept in zip(architecture, self.options, strict=True))

    @property
    def surviving(self) -> int:
        """Number of architectures of the surviving options."""
        return math.prod(map(len, self.options))

    def random(self, count: int) -> list[Architecture]:
        """Random networks of the surviving options (see `sample`), by the run's seed."""
        return sample(self.space, self.options, count, self.plan.seed)

    def accuracies(
        self, architectures: Sequence[Architecture], images: int | None, show: Show, stop: Callable[[], bool]
    ) -> pd.DataFrame:
        """`arch` and, for each of `statistics`, the inherited accuracy in percent of the whole validation set, or of
        `images` of it drawn by the seed; NaN for a network that fails. What was measured before with these weights is read from
        the run's folder.

        Raises Interrupted once `stop` says so; what is measured by then is kept.
        """
        data = self.data if images is None else _fewer(self.data, images, self.plan.seed)
        names = {a: self.space.format(a) for a in architectures}
        path = self.directory / FOLDER / "measured.csv"
        metric = data.task.metric
        column = merit_column(metric)
        known = _measured(path, column, self.checksum, len(data.valid))
        left = {s: [a for a in names if (names[a], s) not in known] for s in self.statistics}
        whole = len(names) * len(self.statistics)
        done = at_first = whole - sum(map(len, left.values()))
        began = time.monotonic()
        path.parent.mkdir(exist_ok=True)
        for statistics, missing in left.items():
            supernet = self.supernet(statistics, data) if missing else None
            for start in range(0, len(missing), _TOGETHER):
                if stop():
                    raise Interrupted
                assert supernet is not None
                part = missing[start : start + _TOGETHER]
                measured = supernet.measure(part)
                if failed := [m.reason for m in measured if isinstance(m, Failure)]:
                    log.warning("%d networks cannot be measured with these weights, the first: %s", len(failed), failed[0])
                found = [
                    math.nan if isinstance(m, Failure) else m[metric.name] if metric.best is not None else -m[metric.name]
                    for m in measured
                ]
                rows = [[self.checksum, len(data.valid), statistics, names[a], v] for a, v in zip(part, found, strict=True)]
                pd.DataFrame(rows, columns=["checkpoint", "images", "statistics", "arch", column]).to_csv(
                    path, mode="a", header=not path.exists(), index=False
                )
                known |= {(names[a], statistics): v for a, v in zip(part, found, strict=True)}
                done += len(part)
                show(done, whole, (time.monotonic() - began) / (done - at_first) * (whole - done))
            if supernet is not None:
                supernet.rest()
        columns = {f"{s}_{column}": [known[names[a], s] for a in architectures] for s in self.statistics}
        return pd.DataFrame({"arch": [names[a] for a in architectures]} | columns)

    def scores(self, architectures: Sequence[Architecture], show: Show, stop: Callable[[], bool]) -> pd.DataFrame:
        """`parameters` and the training-free scores of each, by `arch`; what was computed before is read from the run's folder.

        Of data that do not allow scores, `parameters` alone.

        Raises Interrupted as `accuracies` does.
        """
        names = {self.space.format(a): a for a in architectures}
        if unscored(self.data):
            counts = [self.space.parameters(a) for a in names.values()]
            return pd.DataFrame({PARAMETERS: counts}, index=pd.Index(list(names), name="arch"))
        path = self.directory / FOLDER / "scores.csv"
        known = _scored(path)
        missing = [arch for arch in names if arch not in known.index]
        score = TrainingFree(self.plan.trained.space, self.data, seed=self.plan.seed, device=self.plan.workers.device)
        began = time.monotonic()
        for done, arch in enumerate(missing, 1):
            if stop():
                raise Interrupted
            row = [arch, self.space.parameters(names[arch]), *score.score(names[arch]).values.values()]
            pd.DataFrame([row], columns=_SCORED).to_csv(path, mode="a", header=not path.exists(), index=False)
            show(done, len(missing), (time.monotonic() - began) / done * (len(missing) - done))
        return _scored(path).loc[list(names)]

    def network(self, architecture: Architecture) -> nn.Module:
        """Return a network as a plain module with these weights, on the CPU."""
        return self.supernet("recalibrated", self.data).standalone(architecture)

    def supernet(self, statistics: str, data: Dataset) -> Supernet:
        """Plan the measurement in this process. Compiling takes longer than measuring, and nothing is probed."""
        workers = Workers(ray=False, count=1, gpus=self.plan.workers.gpus if torch.cuda.is_available() else 0.0)
        training = self.plan.experiment.training
        settings = {**training.settings, "statistics": statistics, "compile": False, "valid_images": len(data.valid)}
        plan = self.plan.at_proxy().varied(workers=workers, training=replace(training, settings=settings)).on(data)
        made = plan.build_evaluator(probes=())
        assert isinstance(made, Supernet)
        try:
            made.inherit(self._state)
        except RunError as error:
            raise InputError(f"the checkpoint of {self.directory} does not fit its experiment: {error}") from error
        return made


def sample(space: SearchSpace, options: Sequence[Sequence[int]], count: int, seed: int) -> list[Architecture]:
    """Draw up to `count` different networks of these options, uniform among notations; all of them where there are fewer.

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


_SCORED = ["arch", PARAMETERS, *SCORES]


def _scored(path: Path) -> pd.DataFrame:
    """Rows of scores.csv by notation; a line that was cut off is left out, and ended."""
    if not path.exists():
        return pd.DataFrame(columns=_SCORED).set_index("arch")
    if not path.read_bytes().endswith(b"\n"):
        write_text(path, path.read_bytes().rpartition(b"\n")[0].decode() + "\n")
    try:
        return pd.read_csv(path, dtype={"arch": str}).set_index("arch")[_SCORED[1:]]
    except (ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}; delete it, and the same command scores anew") from error


def _measured(path: Path, column: str, checksum: str, images: int) -> dict[tuple[str, str], float]:
    """Read accuracies by notation and statistics; a line that was cut off is left out, and ended."""
    if not path.exists():
        return {}
    if not path.read_bytes().endswith(b"\n"):
        with path.open("a") as file:
            file.write("\n")  # or what is appended would be part of the line that was cut off
    try:
        rows = pd.read_csv(path, on_bad_lines="skip", dtype={"checkpoint": str, "arch": str}).dropna()
        rows = rows[(rows["checkpoint"] == checksum) & (rows["images"] == images)]
        return {(str(a), str(s)): float(v) for a, s, v in zip(rows["arch"], rows["statistics"], rows[column], strict=True)}
    except (ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}; delete it, and the same command measures anew") from error


def _fewer(data: Dataset, images: int, seed: int) -> Dataset:
    """Return the data with so many images of the validation set, drawn by the seed."""
    order = np.random.default_rng([seed, _IMAGES]).permutation(len(data.valid))
    return replace(data, valid=data.valid.select(np.sort(order[:images])))
