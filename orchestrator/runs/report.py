"""Report of a run directory, from its tables and what the space knows of its architectures."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import front_table, records, report
from analysis.graphs import Graph
from analysis.run import Run
from analysis.trust import Skips
from analysis.trust_section import Known
from hw_profiles import profile as profiles
from orchestrator.config.plan import SearchPlan
from orchestrator.config.spaces import size
from orchestrator.errors import InputError, RunError, in_a_line
from orchestrator.objectives import predicted as predictions
from orchestrator.objectives.predicted import ProfiledCost
from orchestrator.runs.directory import EXPERIMENT, open_run
from orchestrator.runs.retraining import read_retrained
from orchestrator.runs.staging import shown
from orchestrator.spaces.base import SearchSpace

log = logging.getLogger(__name__)


def write_report(plan: SearchPlan, directory: Path, compared: Sequence[Path] = (), *, trust: bool = False) -> Path:
    """Write report.html of a run.

    Args:
        plan: The search.
        directory: Its run directory.
        compared: Other run directories, and directories of networks that `paretoray train` made, to be shown beside the front.
        trust: Whether the former may import what they name, though somebody else made them, from now on.

    Raises:
        InputError: Where the run has no results yet, or another one has other objectives.
        RunError: Where its tables are damaged.
    """
    run = read_run(plan, directory)
    runs = [path for path in compared if (path / EXPERIMENT).exists() and not (path / "result.json").exists()]
    others = [_other(path, run, trust) for path in runs]
    references = [_reference(path) for path in compared if path not in runs]
    with _damage_told(directory):
        return report.write(replace(run, others=others, references=references), directory)


@dataclass(frozen=True)
class Found:
    """Results of a search so far.

    Args:
        summary: Content of summary.json, or as much of it as is known.
        evaluations: Rows of evaluations.csv.
        front: Rows of front.csv, as `records.read_front` returns them.
    """

    summary: dict[str, Any]
    evaluations: pd.DataFrame
    front: pd.DataFrame

    @classmethod
    def by(cls, directory: Path) -> Found:
        """Read what a search has written at its end, or when it was interrupted."""
        summary = json.loads((directory / records.SUMMARY).read_text())
        columns = list(summary["objectives"])
        searched = list(summary.get("searched", summary)["objectives"])
        evaluations = records.read(directory / records.EVALUATIONS, [*searched, "step", "seconds", "kind", "arch"])
        front = records.read_front(directory / records.FRONT, columns)
        for column in columns[len(searched) :]:  # measured after the search, of members alone
            evaluations[column] = evaluations["arch"].map(dict(zip(front["arch"], front[column], strict=True)))
        return cls(summary, evaluations, front)


def read_run(plan: SearchPlan, directory: Path, found: Found | None = None) -> Run:
    """Read the tables of a run.

    Args:
        plan: The search.
        directory: Its run directory.
        found: What a search has found that is still going on; by default what it has written at its end.

    Raises:
        InputError: Where the run has no results yet.
        RunError: Where its tables are damaged.
    """
    if found is None and not (directory / records.SUMMARY).exists():
        raise InputError(f"{directory} has no results yet; finish it with: paretoray resume {shown(directory)}")
    space, experiment = plan.problem.space, plan.experiment
    with _damage_told(directory):
        complete = found is None
        found = found or Found.by(directory)
        archs = [str(arch) for arch in found.front["arch"]]
        policy = directory / records.POLICY
        drawings, undrawn = _drawings(space, archs)
        table, quality = (directory / records.TRUST, directory / records.RANKING_QUALITY)
        return Run(
            title=f"{experiment.searcher.name} on {experiment.space.name}, {experiment.data.name}",
            lead=f"Trade-off of {', '.join(experiment.objectives)} among {size(space)} architectures.",
            summary=found.summary,
            evaluations=found.evaluations,
            front=found.front,
            retrained=read_retrained(plan, directory) if complete else None,
            policy=records.read(policy, ["step", "stage"]) if policy.exists() else None,
            choices={choice.name: choice.options for choice in space.choices},
            drawings=drawings,
            failures=records.read_failures(directory / records.FAILURES),
            undrawn=undrawn,
            known=known(space, [*found.evaluations["arch"], *archs, *found.summary["derived"]]),
            experiment=experiment.to_toml(),
            place=_place(directory),
            devices=_predicted(space, archs, list(found.summary["objectives"])),
            trust=records.read(table, ["arch", "kind"]) if quality.exists() else None,
            ranking_quality=json.loads(quality.read_text()) if quality.exists() else None,
        )


@contextmanager
def _damage_told(directory: Path) -> Iterator[None]:
    """Turn errors over the content of a run's files into a RunError that names the run."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else error
        raise RunError(f"cannot make a report of {directory}, its files are damaged: {problem}") from error


def _place(directory: Path) -> str:
    """Return what to type for a run: its URL in a store, or the path from the present directory where that is above it."""
    whole = directory.resolve()
    if shown(whole) != str(whole):
        return shown(whole)
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)


def _drawings(space: SearchSpace, archs: Sequence[str]) -> tuple[dict[str, Mapping[str, Graph]], dict[str, str]]:
    """Return the graphs of each architecture, and the reasons of those that cannot be drawn."""
    drawings: dict[str, Mapping[str, Graph]] = {}
    undrawn: dict[str, str] = {}
    for arch in archs:
        architecture = space.parse(arch)
        try:
            drawings[arch] = space.drawing(architecture)
        except Exception as error:  # it runs the network, which may be code of a user
            undrawn[arch] = in_a_line(error)
            log.warning("%s cannot be drawn: %s", arch, undrawn[arch])
    return drawings, undrawn


def _predicted(space: SearchSpace, archs: Sequence[str], objectives: Sequence[str]) -> dict[str, dict[str, float]]:
    """Predict costs on the shipped devices that have a profile of this space, by title; those that were searched for aside."""
    predicted: dict[str, dict[str, float]] = {}
    for device, path in profiles.devices().items():
        for profile in predictions.read(path):
            if profile.matches(space.name, space.settings, space.image):
                objective = ProfiledCost(space, cost=profile.cost, device=device)
                if objective.column not in objectives:
                    predicted[objective.title] = {arch: objective.cost(space.parse(arch), {}) for arch in archs}
    return predicted


def known(space: SearchSpace, archs: Sequence[str]) -> Known:
    """Gather what the space knows of these notations. Raises ValueError for one that is not its own."""
    places = {arch: space.parse(arch) for arch in dict.fromkeys(archs)}
    tells = type(space).canonical is not SearchSpace.canonical
    same = {arch: space.canonical(place) for arch, place in places.items()} if tells else None
    return Known(places, same, Skips.of(space.skips, space.none_option))


def _other(directory: Path, run: Run, trust: bool) -> Run:
    """Read a run to compare with, which needs the same objectives."""
    other = read_run(SearchPlan.of(open_run(directory, trust=trust)), directory)
    if list(other.summary["objectives"]) != list(run.summary["objectives"]):
        names = (", ".join(front_table.name_of(t) for t in r.summary["objectives"].values()) for r in (other, run))
        raise InputError("--with {}: it has the objectives {}, not {}; only like compares with like".format(directory, *names))
    return other


def _reference(directory: Path) -> dict[str, float | str]:
    """Read the result of `paretoray train`; its name says for how many epochs it was trained, where that is known."""
    try:
        found = json.loads((directory / "result.json").read_text())
        epochs = f", {found[records.EPOCHS]} epochs" if records.EPOCHS in found else ""
        costs = {key: float(found[key]) for key in ("parameters", "macs", records.tested_by(found).value)}
        return {"name": f"{found['name']}{epochs}"} | costs
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--with {directory}: there is neither a run nor a network of `paretoray train` there ({error})"
        ) from error
