"""Trained networks of a run directory by the numbers of the front's members, ready to be used."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from analysis import records
from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Problem, make_task, task_component
from orchestrator.config.spaces import build_space, space_component
from orchestrator.errors import InputError
from orchestrator.registry import Component
from orchestrator.runs.directory import EXPERIMENT, check_is_run, open_run
from orchestrator.runs.origin import check as check_trusted
from orchestrator.runs.origin import trust as trust_run
from orchestrator.search.weights import Origin, anew, network_settings, read
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.inputs import Inputs, Shapes
from orchestrator.tasks import Task
from orchestrator.tasks.classification import Classification

NETWORKS = "networks"
"""Folder of a run directory with the weights and results of its retrained members."""


class TrainedNetwork(nn.Module):
    """A member of a front with the weights of its training from scratch, in evaluation mode.

    Args:
        network: The plain network.
        member: Its number.
        row: Its row of front.csv.
        origin: What its weights were trained on.
        space: Its space.
        weights: Its file.
        task: What it was trained for; None for classification.

    Attributes:
        network: The plain module, whose `state_dict` has the keys of `networks/network-N.pt`.
        member: The number of the member.
        arch: Its notation.
        classes: Names of the classes, in the order of the scores; for other tasks those of the targets.
        preprocess: Makes of a Pillow image or a uint8 array a tensor, to be stacked to a batch.
        costs: Its costs by column of front.csv, test error and its interval included.

    Example:
        >>> import paretoray as pr                                     # doctest: +SKIP
        >>> network = pr.load("runs/photos", 3)                        # doctest: +SKIP
        >>> scores = network(network.preprocess(Image.open("1.jpg"))[None])  # doctest: +SKIP
        >>> network.classes[int(scores.argmax())]                      # doctest: +SKIP
        'cat'
    """

    def __init__(
        self,
        network: nn.Module,
        member: int,
        row: Mapping[str, Any],
        origin: Origin,
        space: SearchSpace,
        weights: Path,
        task: Task | None = None,
    ) -> None:
        super().__init__()
        self.task = Classification().restored(origin.classes, {}) if task is None else task
        self.network, self.member, self.arch = network, member, str(row["arch"])
        self.classes, self.preprocess = origin.classes, origin.preprocessing
        self.costs = {k: float(v) for k, v in row.items() if isinstance(v, (int, float)) and k != records.MEMBER}
        self.origin, self.space, self.weights = origin, space, weights
        self.eval()

    def forward(self, *x: Any, **named: Any) -> Tensor:
        """Return a score for each class, (batch, classes), of preprocessed images, (batch, channels, height, width).

        Several inputs are a dict or a tuple of them, as `preprocess` returns, or arguments as the network itself takes them.
        """
        if len(x) == 1 and not named and isinstance(self.preprocess.shape, Shapes) and isinstance(x[0], (Mapping, tuple)):
            x = (Inputs(x[0]),)
        return self.network(*x, **named)  # type: ignore[no-any-return]

    @torch.no_grad()
    def predict(self, *x: Any, **named: Any) -> Tensor:
        """Return predictions in the terms of the targets: numbers of classes, values in their own unit, maps of classes.

        Args:
            x: Preprocessed examples, as `forward` takes them.
            named: Inputs by their names, likewise.
        """
        return self.task.predict(self(*x, **named))

    def __repr__(self) -> str:
        return f"<network {self.member}, {self.origin.network}>"


def read_rows(directory: Path) -> pd.DataFrame:
    """Read front.csv with the numbers of its members, which older runs number by the order of the file. Raises InputError."""
    check_is_run(directory)
    path = directory / records.FRONT
    if not path.exists():
        raise InputError(f"{directory} has no front yet; finish it with: paretoray resume {directory}")
    try:
        rows = records.read(path, ["arch"])
    except ValueError as error:
        raise InputError(f"{error}; write it again with: paretoray resume {directory}") from error
    return rows if records.MEMBER in rows else records.numbered(rows)


def weights_file(directory: Path, member: int, arch: str) -> Path | None:
    """Find the file with the weights of a retrained member; those of older runs have names of their own."""
    networks = directory / NETWORKS
    for path in [networks / f"network-{member}.pt", *sorted(networks.glob("[0-9]*.pt"))]:
        if path.exists() and (path.stem == f"network-{member}" or _trained(path.with_suffix(".json")) == arch):
            return path
    return None


def load_member(directory: Path, member: int, problem: Problem | None = None, *, trust: bool = False) -> TrainedNetwork:
    """Load a member of a front. The images of the run are not read again, except for runs whose files do not describe them.

    Args:
        directory: A run directory.
        member: The member's number.
        problem: What was searched, where a file cannot name its space or its data.
        trust: Whether it may import what it names, though somebody else made it, from now on.

    Raises:
        InputError: For a member that there is not or that was not retrained, for a file that is damaged or belongs to another
            network, and for a run of somebody else's that names code to import.
    """
    if trust:
        trust_run(directory)
    rows = read_rows(directory)
    found = rows[rows[records.MEMBER] == member]
    if found.empty:
        numbers = ", ".join(map(str, sorted(rows[records.MEMBER]))) or "none, as no network keeps the limits"
        raise InputError(f"{directory} has no member {member}; the members of its front are {numbers}")
    row = {str(key): value for key, value in found.iloc[0].items() if not pd.isna(value)}
    arch = str(row["arch"])
    path = weights_file(directory, member, arch)
    if path is None:
        raise InputError(
            f"member {member} of {directory} was not retrained, so it has no weights of its own; train it with: paretoray "
            f"retrain {directory} --member {member}"
        )
    state, origin = read(path)
    if origin is None:
        problem = problem or SearchPlan.of(open_run(directory)).problem
        origin = _told_by_the_data(path, arch, problem)
    space, component = _space(directory, origin) if problem is None else (problem.space, problem.sources.space)
    preprocessing = origin.preprocessing.of_shape(space.image)
    task = _task(directory, origin) if problem is None else problem.task
    expected = replace(
        Origin(arch, component.name, network_settings(component), preprocessing, origin.classes).plain,
        task=task.name,
        learned=origin.learned,
    )
    if origin != expected:
        raise InputError(
            f"{path} does not belong to member {member}: it has the weights of {origin.network}, the member is "
            f"{expected.network}; put the right file back, or {anew(path)}"
        )
    network = space.network(space.parse(arch))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} does not fit member {member}, {expected.network} ({reason}); {anew(path)}") from error
    return TrainedNetwork(network, member, row, origin, space, path, task.restored(origin.classes, origin.learned))


def _space(directory: Path, origin: Origin) -> tuple[SearchSpace, Component]:
    """Return the space of a run, built for the images that weights were trained on, and what the experiment calls it."""
    path = directory / EXPERIMENT
    check_trusted(directory, path)
    try:
        section = tomllib.loads(path.read_text())["space"]
        component = space_component(str(section.pop("name")), section)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error!r}") from error
    return build_space(component, origin.preprocessing.shape, len(origin.classes)), component


def _task(directory: Path, origin: Origin) -> Task:
    """Return what the networks of a run were trained for."""
    try:
        section = tomllib.loads((directory / EXPERIMENT).read_text()).get("task", {})
        return make_task(task_component(str(section.pop("name", origin.task)), section))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError) as error:
        raise InputError(f"{directory / EXPERIMENT} is damaged: {error!r}") from error


def _told_by_the_data(path: Path, arch: str, problem: Problem) -> Origin:
    """Describe a file from before files had an origin by the result beside it, and by the images of the run."""
    if _trained(path.with_suffix(".json")) != arch:
        raise InputError(f"{path} does not say which network it belongs to, nor does {path.stem}.json; {anew(path)}")
    return Origin.of(problem, arch)


def _trained(result: Path) -> str | None:
    """Read the notation of the network that a result is of; None where there is none."""
    try:
        return str(json.loads(result.read_text())["arch"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
