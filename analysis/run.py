"""Tables of a run, and what a space knows of its networks: all that a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from analysis import members
from analysis.graphs import Graph
from analysis.trust_section import Known


@dataclass(frozen=True)
class Run:
    """Tables of a finished, interrupted or running run.

    Args:
        title: Heading of the page.
        lead: Introductory paragraph.
        summary: Content of summary.json.
        evaluations: Rows of evaluations.csv.
        front: Rows of front.csv, as `records.read_front` returns them.
        retrained: Rows of retrained.csv, as `records.read_retrained` returns them, or None.
        policy: Rows of policy.csv, or None for a method without a policy.
        choices: Names of the options of each choice.
        drawings: For each architecture of the front its graphs, by title.
        known: Knowledge of the space about all architectures in these tables.
        experiment: Text of experiment.toml, for the appendix.
        place: The run directory, as commands that name it are to be typed.
        devices: Costs of each architecture of the front by the title of a quantity, predicted for devices that were not
            searched for.
        trust: Rows of trust.csv, or None before `paretoray trust` has run.
        ranking_quality: Content of trust.json, likewise.
        references: Networks to compare with: `name`, `test_error_percent`, `parameters` and `macs`.
        others: Runs to compare with, which have the same objectives.
        failures: Rows of failures.csv, or None where there are none.
        undrawn: Architectures of the front without a drawing, and why.
    """

    title: str
    lead: str
    summary: dict[str, Any]
    evaluations: pd.DataFrame
    front: pd.DataFrame
    retrained: pd.DataFrame | None
    policy: pd.DataFrame | None
    choices: Mapping[str, Sequence[str]]
    drawings: Mapping[str, Mapping[str, Graph]]
    known: Known
    experiment: str
    place: str
    devices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trust: pd.DataFrame | None = None
    ranking_quality: dict[str, Any] | None = None
    references: Sequence[Mapping[str, float | str]] = ()
    others: Sequence[Run] = ()
    failures: pd.DataFrame | None = None
    undrawn: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def members(self) -> pd.DataFrame:
        """The front, made anew from the members that were retrained."""
        return members.of_run(self.front, self.retrained, self.summary)

    @property
    def error(self) -> str:
        """Column of the error."""
        return str(next(iter(self.summary["objectives"])))

    @property
    def searches(self) -> list[str]:
        """Names of the searches of a sweep, by their settings; empty for a single search."""
        return [
            ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in search["settings"].items())
            for search in self.summary.get("searches", [])
        ]
