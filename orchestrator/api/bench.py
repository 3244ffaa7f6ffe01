"""Benchmarks from Python: searchers at equal cost, on a table of trained networks or as whole searches."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd
from rich.console import Console

from orchestrator.api.search import make_plan, searcher_of
from orchestrator.bench import searches, tables
from orchestrator.bench.entries import parse
from orchestrator.config.problem import Problem
from orchestrator.config.settings import Retraining, Workers
from orchestrator.config.spaces import make_space
from orchestrator.evaluators.columns import Mode
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.registry import Component
from orchestrator.runs.directory import fresh
from orchestrator.runs.mirror import mirrored
from orchestrator.runs.staging import placed_or_opened
from searchers import Searcher

SearcherLike = str | type[Searcher] | Component


@dataclass(frozen=True)
class Benchmark:
    """Results of a benchmark.

    Args:
        directory: Its folder.
        summary: On a table a row per searcher and budget, with mean hypervolume and interval; of whole searches a row per
            searcher and seed, with true hypervolume and cost.
    """

    directory: Path
    summary: pd.DataFrame

    @property
    def report(self) -> Path:
        """The page with pictures."""
        return self.directory / "report.html"

    @property
    def evaluations(self) -> pd.DataFrame:
        """Every evaluation on a table, in order; of whole searches the members of their fronts, with their true costs."""
        on_table = self.directory / "evaluations.csv"
        return pd.read_csv(on_table if on_table.exists() else self.directory / searches.FRONTS)


def bench(
    searchers: Sequence[str | type[Searcher]] | Mapping[str, SearcherLike] = ("random-search", "nsga2", "surrogate-search"),
    *,
    table: str | Path | Sequence[Path] | None = None,
    space: str = "digits-tiny",
    objectives: Sequence[str] = ("valid_accuracy", "parameters"),
    modes: Mapping[str, Mode] = MappingProxyType({}),
    budget: float = 200,
    problem: Problem | None = None,
    seconds: float | None = None,
    images: float | None = None,
    workers: Workers | None = None,
    seeds: int = 5,
    out: str | Path | None = None,
) -> Benchmark:
    """Compare searchers at equal cost.

    Without `problem` each searcher evaluates the same number of networks of a table. With one, whole searches are compared that
    each train their own weights for so many `seconds`, or on so many `images`; their fronts are judged by the table, if it is
    named, and by retraining otherwise. The same call with the same `out` goes on with what was interrupted.

    Args:
        searchers: Names, with settings as in `"nsga2:population=40"`, or classes; a mapping takes components, too.
        table: Files of trained networks, or the name of a shipped table; by default `digits-tiny`.
        space: The space that the table is written in, where there is no problem.
        objectives: The table's columns; for whole searches one for each objective of the problem.
        modes: "max" or "min" for columns whose names do not say which way is better, or say it wrongly.
        budget: Different networks that each searcher may evaluate on a table.
        problem: What whole searches solve.
        seconds: What each whole search may take.
        images: Images that each whole search may train its weights on.
        workers: What whole searches run on; on a table `count` runs at a time, by default one in this process.
        seeds: Number of seeds.
        out: The benchmark's folder, or its URL in a store; by default below `runs/`.

    Raises:
        InputError: For what cannot be compared, before anything starts.

    Example:
        >>> import paretoray as pr                                                             # doctest: +SKIP
        >>> pr.bench(["random-search", "nsga2"], budget=50, seeds=2).summary                   # doctest: +SKIP
    """
    named = searchers if isinstance(searchers, Mapping) else {s if isinstance(s, str) else s.__name__: s for s in searchers}
    directory = placed_or_opened(out) if out is not None else fresh(Path("runs") / f"bench-{time.strftime('%Y%m%d-%H%M%S')}")
    paths = [Path(table)] if isinstance(table, (str, Path)) else list(table or ())
    if problem is None:
        entries = {name: entry_of(searcher) for name, searcher in named.items()}
        made = make_space(space, {}, (3, 32, 32), 10)
        rows = TabularBenchmark.read(paths or [Path("digits-tiny")], made, objectives, modes=modes)
        count = workers.count if workers else 1
        with mirrored(directory, warnings.warn):
            return Benchmark(directory, tables.run(rows, entries, budget, seeds, directory, count, lambda done, of: None))
    cost = searches.Cost(seconds, images)
    retrain = Retraining(members=0) if paths else Retraining()
    plans = {
        name: make_plan(
            problem,
            entry_of(searcher),
            budget=None,
            workers=workers or Workers(),
            training="supernet",
            retrain=retrain,
            seed=0,
        )
        for name, searcher in named.items()
    }
    truth = searches.Truth(paths, objectives, modes) if paths else None
    with mirrored(directory, warnings.warn):
        return Benchmark(directory, searches.run(plans, seeds, cost, directory, truth, Console(quiet=True)))


def entry_of(searcher: SearcherLike) -> Component:
    """Read a searcher: a name with settings, a class, or a component. Raises InputError."""
    return parse(searcher) if isinstance(searcher, str) else searcher_of(searcher)
