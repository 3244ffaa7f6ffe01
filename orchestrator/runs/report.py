"""Report of a run directory, from its tables and what the space knows of its architectures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis import records, report
from analysis.graphs import Graph
from analysis.trust import Skips
from analysis.trust_section import Known
from orchestrator.config.plan import SearchPlan
from orchestrator.config.spaces import size
from orchestrator.errors import InputError, RunError, in_a_line
from orchestrator.runs.retraining import read_retrained
from orchestrator.spaces.base import SearchSpace

log = logging.getLogger(__name__)


def write_report(plan: SearchPlan, directory: Path, references: Sequence[Path] = ()) -> Path:
    """Write report.html of a run.

    Args:
        plan: The search.
        directory: Its run directory.
        references: Directories of networks that `paretoray train` made, to be shown beside the front.

    Raises:
        InputError: Where the run has no results yet.
        RunError: Where its tables are damaged.
    """
    if not (directory / records.SUMMARY).exists():
        raise InputError(f"{directory} has no results yet; finish it with: paretoray resume {directory}")
    space, experiment = plan.problem.space, plan.experiment
    try:
        summary = json.loads((directory / records.SUMMARY).read_text())
        columns = list(summary["objectives"])
        searched = list(summary.get("searched", summary)["objectives"])
        evaluations = records.read(directory / records.EVALUATIONS, [*searched, "step", "seconds", "kind", "arch"])
        front = records.read_front(directory / records.FRONT, columns)
        for column in columns[len(searched) :]:  # measured after the search, of members alone
            evaluations[column] = evaluations["arch"].map(dict(zip(front["arch"], front[column], strict=True)))
        policy = directory / records.POLICY
        drawings, undrawn = _drawings(space, [str(arch) for arch in front["arch"]])
        trust, quality = (directory / records.TRUST, directory / records.RANKING_QUALITY)
        run = report.Run(
            title=f"{experiment.searcher.name} on {experiment.space.name}, {experiment.data.name}",
            lead=f"Trade-off of {', '.join(experiment.objectives)} among {size(space)} architectures.",
            summary=summary,
            evaluations=evaluations,
            front=front,
            retrained=read_retrained(plan, directory),
            policy=records.read(policy, ["step", "stage"]) if policy.exists() else None,
            choices={choice.name: choice.options for choice in space.choices},
            drawings=drawings,
            failures=records.read_failures(directory / records.FAILURES),
            undrawn=undrawn,
            known=known(space, [*evaluations["arch"], *front["arch"], *summary["derived"]]),
            experiment=experiment.to_toml(),
            trust=records.read(trust, ["arch", "kind"]) if quality.exists() else None,
            ranking_quality=json.loads(quality.read_text()) if quality.exists() else None,
            references=[_reference(path) for path in references],
        )
        return report.write(run, directory)
    except (ValueError, KeyError, TypeError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else error
        raise RunError(f"cannot make a report of {directory}, its files are damaged: {problem}") from error


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


def known(space: SearchSpace, archs: Sequence[str]) -> Known:
    """Gather what the space knows of these notations. Raises ValueError for one that is not its own."""
    places = {arch: space.parse(arch) for arch in dict.fromkeys(archs)}
    tells = type(space).canonical is not SearchSpace.canonical
    same = {arch: space.canonical(place) for arch, place in places.items()} if tells else None
    return Known(places, same, Skips.of(space.skips, space.none_option))


def _reference(directory: Path) -> dict[str, float | str]:
    try:
        found = json.loads((directory / "result.json").read_text())
        return {"name": str(found["name"])} | {key: float(found[key]) for key in ("parameters", "macs", "test_error_percent")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--with {directory}: there is no network of `paretoray train` there ({error})") from error
