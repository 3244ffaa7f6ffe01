"""Pages of runs that may still be going on, made from their files alone, which are only read."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import pareto, records, report
from analysis.page.render import render
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, RunError, in_a_line
from orchestrator.runs import sweep
from orchestrator.runs.directory import EXPERIMENT, open_run
from orchestrator.runs.display import duration
from orchestrator.runs.halving import stopped
from orchestrator.runs.report import Found, read_run
from orchestrator.runs.status import RUNNING, read_status
from orchestrator.search.logs import LOG

log = logging.getLogger(__name__)
LINES = 40
"""Lines of the log that are shown."""
REST = 5.0
"""Times as long as a page took to make, before it is made anew: the search needs the processor more."""
QUIET = 60.0
"""Seconds without news from which a page says since when."""
_RESULTS = (records.EVALUATIONS, records.FRONT, records.RETRAINED, records.SUMMARY, records.FAILURES)


class LiveRun:
    """A run directory as it is now.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._plan: SearchPlan | None = None
        self._page: tuple[str, str] | None = None
        self._rest_until = 0.0

    def status(self) -> dict[str, Any]:
        """Return how far the run is, in words, with the end of its log and a version that changes with its results."""
        told = read_status(self.directory)
        fraction = float(told.get("fraction", 0.0))
        return {
            "fraction": 1.0 if told.get("state") == "finished" else fraction,
            "state": told.get("state", "unknown"),
            "said": _said(told, fraction),
            "facts": list(told.get("facts", {}).items()),
            "log": _tail(self.directory / LOG),
            "version": self._version(),
        }

    def page(self) -> str:
        """Return the page of the results so far; the one before where the files are just being written."""
        version = self._version()
        if self._page is None or self._page[0] != version:
            began = time.monotonic()
            try:
                self._page = version, self._render(version)
                self._rest_until = time.monotonic() + REST * (time.monotonic() - began)
            except (RunError, InputError, OSError) as error:
                log.debug("%s: %s", self.directory, error)
                if self._page is None:
                    return self._waiting(str(error), version)
        return self._page[1]

    def _waiting(self, error: str, version: str) -> str:
        measured = any(True for _ in self._tables())
        message = error if measured else "Nothing was measured yet. The page fills as soon as there is a result."
        return render("waiting.html", title=str(self.directory), lead="", version=version, message=message)

    def _render(self, version: str) -> str:
        if self._plan is None:
            self._plan = SearchPlan.of(open_run(self.directory))
        running = read_status(self.directory).get("state") == RUNNING
        summary = self.directory / records.SUMMARY
        newest = max((path.stat().st_mtime_ns for path in self._tables()), default=0)
        if summary.exists() and not (running and newest > summary.stat().st_mtime_ns):
            return report.live(read_run(self._plan, self.directory), version, complete=not running)
        return report.live(read_run(self._plan, self.directory, self._found_so_far(self._plan)), version, complete=False)

    def _tables(self) -> list[Path]:
        """Tables of evaluations that exist: the run's own, or one of each search of a sweep."""
        swept = (self.directory / sweep.SWEEP).exists()
        folders = sweep.folders(self.directory) if swept else [self.directory]
        return [path for path in (folder / records.EVALUATIONS for folder in folders) if path.exists()]

    def _found_so_far(self, plan: SearchPlan) -> Found:
        """Make a front of the evaluations so far, as the search does at its end. Raises RunError where there are none."""
        problem, columns = plan.problem, plan.problem.columns
        spreads = [o.spread for o in problem.objectives if o.spread is not None]
        limits = list(problem.limits)
        settings = sweep.settings_of(self.directory)
        tables, fronts = [], []
        for path in self._tables():
            try:
                rows = records.read(path, [*columns, "step", "seconds", "kind", "arch"])
            except ValueError as error:  # perhaps the last row is only half written
                raise RunError(in_a_line(error)) from error
            if len(rows):
                rows = rows.assign(search=int(path.parent.name.partition("-")[0])) if settings else rows
                tables.append(rows)
                fronts.append(records.front_of(rows, columns, limits, spreads))
        if not tables:
            raise RunError("nothing was measured yet")
        evaluations, merged = (pd.concat(parts, ignore_index=True) for parts in (tables, fronts))
        best = merged.iloc[pareto.non_dominated(merged[columns].to_numpy())].sort_values(columns)
        reference = {c: 1.1 * float(evaluations[c].max()) or 1.0 for c in columns}
        summary: dict[str, Any] = {
            "finished": False,
            "running": True,
            "hypervolume": pareto.hypervolume(best[columns].to_numpy(), list(reference.values())),
            "weights": "shared" if plan.shares_weights else "own",
            "reference_point": reference,
            "objectives": {o.column: o.title for o in problem.objectives},
            "limits": {c: limit for c, limit in zip(columns, limits, strict=True) if limit is not None},
            "spreads": {o.column: o.spread for o in problem.objectives if o.spread is not None},
            "warnings": problem.warnings,
            "derived": [],
            "spent": {
                "evaluations": len(evaluations),
                "architectures": int(evaluations["arch"].nunique()),
                "seconds": float(evaluations["seconds"].max()),
            },
        }
        if settings:
            summary["searches"] = [self._search(i, own, evaluations, best, reference) for i, own in enumerate(settings)]
            for name, compared in stopped(self.directory).items():
                summary["searches"][int(name.partition("-")[0])]["stopped"] = compared.why(name)
        return Found(summary, evaluations, records.numbered(best))

    def _search(
        self, index: int, settings: dict[str, Any], evaluations: pd.DataFrame, best: pd.DataFrame, reference: dict[str, float]
    ) -> dict[str, Any]:
        rows = evaluations[evaluations["search"] == index]
        return {
            "settings": settings,
            "hypervolume": pareto.hypervolume(rows[list(reference)].to_numpy(), list(reference.values())),
            "on_merged_front": int((best["search"] == index).sum()),
            "evaluations": len(rows),
            "seconds": float(rows["seconds"].max()) if len(rows) else 0.0,
        }

    def _version(self) -> str:
        """Return a text that changes whenever a table of the run does, but not before the page has rested."""
        if self._page is not None and time.monotonic() < self._rest_until:
            return self._page[0]
        files = [*self._tables(), *(self.directory / name for name in _RESULTS)]
        seen = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.exists()]
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def runs_in(directory: Path) -> dict[str, Path]:
    """List the run directories in a folder, the newest first, by their names."""
    found = [path for path in directory.iterdir() if (path / EXPERIMENT).is_file()]
    return {path.name: path for path in sorted(found, key=lambda path: -path.stat().st_mtime)}


def _said(told: dict[str, Any], fraction: float) -> str:
    if not told:
        return "this run has recorded no progress; the results below are what its files have"
    if told["state"] != RUNNING:
        return str(told["state"])
    left = told.get("seconds_left")
    said = f"{told['part']}: {fraction:.0%}, " + ("time left unknown" if left is None else f"about {duration(left)} left")
    age = time.time() - float(told.get("at", 0))
    return f"{said}; no news for {duration(age)}" if age > QUIET else said


def _tail(path: Path) -> str:
    """Return the last lines of a log, of which only the end is read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200 * LINES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-LINES:])
    except OSError:
        return ""
