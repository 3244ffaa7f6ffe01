"""Results of a search, read from its run directory."""

from __future__ import annotations

import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from torch import nn

from analysis import members, records
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError
from orchestrator.runs.directory import is_finished
from orchestrator.runs.mirror import mirrored
from orchestrator.runs.networks import load_member, read_rows, weights_file
from orchestrator.runs.report import write_report
from orchestrator.runs.retraining import read_retrained
from orchestrator.runs.staging import opened

UNITS = {"percent": "%", "ms": "ms", "mj": "mJ", "mib": "MiB", "mb": "MB"}
"""Units as the ends of column names have them."""


class Result:
    """A run directory, read when it is asked.

    Args:
        plan: The search.
        directory: Its run directory.

    Attributes:
        directory: The run directory.
        problem: What was searched.

    Example:
        >>> result = Result.open("runs/photos")          # doctest: +SKIP
        >>> result.front[["error_percent", "parameters"]]  # doctest: +SKIP
        >>> network = result.network(1)                  # doctest: +SKIP
    """

    def __init__(self, plan: SearchPlan, directory: Path) -> None:
        self.plan, self.problem, self.directory = plan, plan.problem, directory

    @classmethod
    def open(cls, directory: str | Path, *, trust: bool = False) -> Result:
        """Open the directory of a run, finished or not.

        Args:
            directory: The run directory, or its URL in a store, of which a local copy is made.
            trust: Whether to import the code that it names, though somebody else made it.

        Raises:
            InputError: For a folder that is no run directory, and for one of somebody else's that names code to import.
        """
        from orchestrator.runs.directory import open_run

        path = opened(directory)
        return cls(SearchPlan.of(open_run(path, trust=trust)), path.resolve())

    def __repr__(self) -> str:
        return f"<Result of {self.directory}: {'finished' if self.finished else 'not finished'}>"

    @property
    def finished(self) -> bool:
        """Tell whether the search has spent its budget."""
        return is_finished(self.directory)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The contents of summary.json: hypervolume, cost, hardware, versions. Raises InputError before there are results."""
        return json.loads(self._existing(records.SUMMARY).read_text())  # type: ignore[no-any-return]

    @property
    def front(self) -> pd.DataFrame:
        """The networks of the front in the order of front.csv, the lowest error first: their numbers (`member`), `arch`, a
        column per objective with its unit in its name, and `error_deviation_percent` where the search worked it out.

        Once members were trained from scratch the front made anew comes first, the lowest test error at its top, with
        `standing`, `beaten_by`, and `test_error_percent` with the bounds of its interval. `attrs["units"]` has the units by
        column.
        """
        columns = list(self.summary["objectives"])
        searched = records.read_front(self._existing(records.FRONT), columns)
        front = members.of_run(searched, read_retrained(self.plan, self.directory), self.summary)
        shown = [records.MEMBER, "arch", *records.afterwards(columns[0]), *columns, *map(records.deviation_of, columns)]
        front = front[[column for column in shown if column in front]]
        front.attrs["units"] = {column: _unit(column) for column in front.columns if column != "arch"}
        return front

    @property
    def evaluations(self) -> pd.DataFrame:
        """Every measurement of the search, in order."""
        return records.read(self._existing(records.EVALUATIONS), self.problem.columns)

    @property
    def hypervolume(self) -> float:
        """Hypervolume of the search's front by its own errors, relative to the box between 0 and the reference point."""
        return float(self.summary["hypervolume"])

    def network(self, member: int, weights: Literal["retrained", "inherited"] | None = None) -> nn.Module:
        """Return a member of the front as a plain module in evaluation mode, on the CPU.

        `paretoray.load` also gives the classes and the preprocessing of a retrained member.

        Args:
            member: Its number, as `front["member"]` and file names have it.
            weights: From training from scratch, or inherited from the shared weights that the search ended with, with the
                statistics of normalisation fitted to this network. None: the former where the member was retrained, the latter
                otherwise.

        Raises:
            InputError: For a number that no member has, for weights that were not kept or are not this member's, and for
                inherited ones of a search at a proxy, whose networks are other ones.
        """
        rows = read_rows(self.directory)
        found = rows.loc[rows[records.MEMBER] == member, "arch"]
        if weights == "retrained" or found.empty or (weights is None and self._trained(member, str(found.iloc[0]))):
            return load_member(self.directory, member, self.problem).network
        return self._inherited(str(found.iloc[0]))

    def _trained(self, member: int, arch: str) -> bool:
        return weights_file(self.directory, member, arch) is not None

    def _inherited(self, arch: str) -> nn.Module:
        from orchestrator.trust.weights import SharedWeights

        if self.plan.proxy:
            raise InputError(
                f"the shared weights of {self.directory} are those of a proxy ({self.plan.proxy.words}) and do not fit this "
                "network; raise retrain.members, and resume"
            )
        architecture = self.problem.space.parse(arch)
        shared = SharedWeights(self.plan, self.directory)
        if not shared.has(architecture):
            raise InputError(f"{arch} has options that were dropped later, so shared weights know nothing of it; retrain it")
        return shared.network(architecture).eval()

    def report(self) -> Path:
        """Write report.html anew, and return its path. Raises InputError before there are results."""
        with mirrored(self.directory, warnings.warn, required=False):
            return write_report(self.plan, self.directory)

    def _existing(self, name: str) -> Path:
        path = self.directory / name
        if not path.exists():
            raise InputError(f"{self.directory} has no results yet; go on with paretoray.resume({str(self.directory)!r})")
        return path


def _unit(column: str) -> str:
    """Read the unit off a column's name, as in `latency_ms@pixel3`; counts have none."""
    return UNITS.get(column.partition("@")[0].rpartition("_")[2], "")
