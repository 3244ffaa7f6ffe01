"""Searchers on a table: what each proposes, evaluation by evaluation, within a budget of different architectures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analysis import bench_report, records
from orchestrator.bench.entries import claim
from orchestrator.errors import InputError, RunError, attributed_to, plugin_packages
from orchestrator.evaluators.columns import disagrees
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.registry import Component
from orchestrator.search.rounds import checked, rounds
from searchers import Architecture, Evaluation, GradientSearcher, SearchContext, Searcher

Job = tuple[str, int]
"""A searcher with its settings as it was written, and a seed."""


def run(
    table: TabularBenchmark,
    entries: Mapping[str, Component],
    budget: float,
    seeds: int,
    out: Path,
    workers: int,
    show: Callable[[int, int], None],
    checksums: Sequence[str] = (),
) -> pd.DataFrame:
    """Run every searcher under every seed, and write evaluations.csv, summary.csv and report.html; returns the summary.

    Args:
        table: Trained networks.
        entries: Searchers with their settings, by the name that they go by.
        budget: Different architectures, or what the table's `time` says that they take.
        seeds: Number of seeds.
        out: The benchmark's folder; what it has already is not run again.
        workers: Ray tasks at a time; 1 for none, in this process.
        show: Told how many runs are done, of how many.
        checksums: Of the table's files.

    Raises:
        InputError: Before anything starts.
        RunError: For a folder of another benchmark.
    """
    if not entries:
        raise InputError("searchers: none; name at least one")
    space = table.space.name
    whole = sum(table.takes.values())
    if seeds < 1:
        raise InputError(f"seeds = {seeds}; at least 1 is needed")
    least = 2 * whole / len(table.takes)
    if not least <= budget <= whole:
        unit = f", which take {whole:,.0f} by {table.time}" if table.time else ""
        raise InputError(
            f"budget = {budget:g}; the table has {len(table.costs):,} architectures{unit}: write {least:,.4g} to {whole:,.10g}"
        )
    front = np.array(table.front())
    constant = np.ptp(np.array(list(table.costs.values())), axis=0) == 0
    if constant.any():
        raise InputError(f"{table.source}: {table.columns[int(constant.argmax())]} is the same for all; leave it out")
    if not np.ptp(front, axis=0).all():
        raise InputError(f"{table.source}: {' and '.join(table.columns)} are best together, so there is no trade-off to search")
    for entry in entries.values():
        try:  # what it cannot do here, a gradient on a partial table, shows now
            with attributed_to(plugin_packages([entry.factory]), InputError):
                run_on_table(table, entry, budget, 0, only=3)
        except RunError as error:
            raise InputError(str(error)) from error
    what = {"table": table.source, "columns": table.columns, "budget": budget, "space": space}
    what |= {"time": table.time} if table.time else {}
    what |= {"maximised": list(table.maximised)} if any(map(disagrees, table.columns, table.maximised)) else {}
    what |= {"sha256": list(checksums)} if checksums else {}
    claim(out, what)
    path = out / "evaluations.csv"
    jobs = [(text, seed) for seed in range(seeds) for text in entries]
    done = _kept(path, jobs, table, budget)
    left = [job for job in jobs if job not in done]
    show(len(done), len(jobs))
    began = time.monotonic()
    with path.open("a", newline="") as file:
        if not file.tell():
            pd.DataFrame(columns=["searcher", "seed", "arch", *table.columns]).to_csv(file, index=False)
        for i, ((text, seed), found) in enumerate(_in_turn(table, entries, left, budget, workers), 1):
            rows = [(text, seed, table.space.format(e.architecture), *table.values(e.costs)) for e in found]
            pd.DataFrame(rows).to_csv(file, index=False, header=False)
            file.flush()
            show(len(done) + i, len(jobs))
    played = pd.read_csv(path, dtype={"arch": str})
    played = played[[job in set(jobs) for job in zip(played["searcher"], played["seed"], strict=True)]].copy()
    architectures = [table.named(arch) for arch in played["arch"]]
    played[table.columns] = [table.costs[a] for a in architectures]
    played["spent"] = [table.takes[a] for a in architectures]
    played["spent"] = played.groupby(["searcher", "seed"])["spent"].cumsum()
    titles = table.titles
    asked = (
        f"{budget:g} different architectures" if table.time is None else f"architectures that take {budget:g} by {table.time}"
    )
    protocol = [
        f"{table.source}: {len(table.costs):,} of the {table.space.architectures:,} architectures of {space}; "
        f"objectives {', '.join(titles)}, all minimised.",
        f"Every searcher, under seeds 0 to {seeds - 1}, until it had asked for {asked}; repeats cost nothing. Methods "
        "with a schedule have one that fits, without warm-up, and begin again when it ends early.",
    ]
    if table.sparse:
        protocol.append(
            "A proposal that the table does not have stands for the network of the table that differs in fewest choices."
        )
    methods = [entry.factory for entry in entries.values()]
    if any(isinstance(method, type) and issubclass(method, GradientSearcher) for method in methods):
        protocol.append("Gradients of the table's multilinear extension cost nothing, which favours methods that use them.")
    protocol += [f"{len(left)} runs took {time.monotonic() - began:.0f} s with {workers} workers."] if left else []
    protocol += [f"SHA-256 of the table: {', '.join(checksums)}."] if checksums else []
    return bench_report.write(out, played, table.columns, front, titles, protocol, budget, table.time)


def _kept(path: Path, jobs: Sequence[Job], table: TabularBenchmark, budget: float) -> set[Job]:
    """Runs that are whole; the others' rows are taken out of the file."""
    if not path.exists():
        return set()
    try:
        rows = pd.read_csv(path, on_bad_lines="skip", dtype={"arch": str})
        rows = rows[rows.notna().all(axis=1)]
        takes = pd.Series([_takes(table, arch) for arch in rows["arch"]], rows.index, dtype=float)
        spent = takes.groupby([rows["searcher"], rows["seed"]]).transform("sum")
    except (ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}; take another --out") from error
    whole = rows[spent >= budget * (1 - 1e-9)]
    records.write(whole, path)
    return {(str(s), int(seed)) for s, seed in zip(whole["searcher"], whole["seed"], strict=True)} & set(jobs)


def _takes(table: TabularBenchmark, arch: str) -> float:
    try:
        return table.takes[table.named(arch)]
    except (ValueError, KeyError):
        return 0.0  # of a line that was cut off


def _in_turn(
    table: TabularBenchmark, entries: Mapping[str, Component], jobs: Sequence[Job], budget: float, workers: int
) -> Iterator[tuple[Job, list[Evaluation]]]:
    """Yield the runs as they finish."""

    def run_job(table: TabularBenchmark, job: Job) -> tuple[Job, list[Evaluation]]:
        entry = entries[job[0]]
        with attributed_to(plugin_packages([entry.factory])):
            return job, run_on_table(table, entry, budget, job[1])

    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield run_job(table, job)
        return
    import ray

    from orchestrator.cluster.connection import cluster
    from orchestrator.config.settings import Workers

    with cluster(Workers(count=workers, cpus=1)):
        shared = ray.put(table)

        @ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
        def task(table: TabularBenchmark, job: Job) -> tuple[Job, list[Evaluation]]:
            torch.set_num_threads(1)
            return run_job(table, job)

        waiting = [task.remote(shared, job) for job in jobs]
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1)
            try:
                yield ray.get(ready[0])
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)
                if isinstance(cause, RunError):
                    raise cause from None  # Ray's own version of it would print the task's whole traceback
                raise RunError(f"a run was lost: {str(error).strip().splitlines()[-1]}; the same command goes on") from error


def run_on_table(
    table: TabularBenchmark, entry: Component, budget: float, seed: int, *, only: int | None = None
) -> list[Evaluation]:
    """Return the different architectures that a searcher asks for, in their order, until they have taken `budget` together.

    A method with a schedule is given one that fits the budget, without warm-up, as a table has no weights to train. One that
    has finished, or asks for nothing new any more, begins again with another seed.

    A proposal that a partial table does not have costs nothing and is told to break a constraint. Of a sparse table searchers
    would hardly ever meet a network, so there it stands for the nearest one that the table has.

    Args:
        table: Trained networks.
        entry: The searcher and its settings.
        budget: Different architectures, or what the table's time column says that they take.
        seed: Of the searcher.
        only: Stop after so many architectures; None for all of the budget.
    """
    found: dict[Architecture, Evaluation] = {}
    left = budget

    def assess(architectures: Sequence[Architecture]) -> list[Evaluation]:
        nonlocal left
        evaluations = []
        for a in architectures:
            played = table.nearest(a) if table.sparse else a
            costs = table.costs.get(played)
            if costs is not None and played not in found and left > 0:
                found[played] = Evaluation(played, costs)
                left = 0.0 if len(found) == only else left - table.takes[played]
            evaluations.append(
                Evaluation(a, table.worst(), violation=1.0, failed=True) if costs is None else Evaluation(a, costs)
            )
        return evaluations

    length = expected_evaluations(table, budget)
    for attempt in range(length):
        before = len(found)
        again = seed + 1_000_003 * attempt
        searcher = build(table, entry, length, again)  # how many rounds it has depends on how much a round asks for
        searcher = build(table, entry, math.ceil(length / searcher.samples), again)
        endless = rounds(searcher, table, assess, 1, lambda: length)
        for _ in range(searcher.stage.rounds * searcher.stage.stages):
            next(endless)
            if left <= 0:
                return list(found.values())
        assess(checked(searcher, "derive", searcher.derive()))
        if left <= 0 or len(found) == before:
            break
    return list(found.values())


def expected_evaluations(table: TabularBenchmark, budget: float) -> int:
    """Estimate how many evaluations the budget allows."""
    return max(2, round(budget * len(table.takes) / sum(table.takes.values())))


def build(table: TabularBenchmark, entry: Component, length: int, seed: int) -> Searcher:
    """Make the searcher for `length` rounds on the table. Raises InputError for what it does not take."""
    context = SearchContext(
        sizes=table.space.sizes,
        rounds=length,
        seed=seed,
        limits=(None,) * (len(table.columns) - 1),
        shared_weights=False,
        space=table.space,
        cost_models=table.cost_models,
    )
    method = entry.factory
    assert isinstance(method, type) and issubclass(method, Searcher)
    chosen = {name: value for name, value in entry.settings.items() if name in entry.chosen}
    try:
        return method.build(context, **chosen)
    except ValueError as error:
        raise InputError(f"[searcher] {error}") from error
