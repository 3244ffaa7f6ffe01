"""Searchers on a table: what each proposes, evaluation by evaluation, within a budget of different architectures."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis import bench_report
from orchestrator import names
from orchestrator.bench import claim, parse
from orchestrator.errors import InputError, RunError
from orchestrator.evaluators.table import Table, is_accuracy
from orchestrator.experiment import find_searcher
from orchestrator.rounds import rounds
from searchers import Architecture, Evaluation, GradientSearcher, SearchContext, Searcher
from searchers.parts.additive import Additive

Job = tuple[str, int]
"""A searcher with its settings as it was written, and a seed."""


def run(
    table: Table,
    space: str,
    searchers: Sequence[str],
    budget: float,
    seeds: int,
    out: Path,
    workers: int,
    show: Callable[[int, int], None],
    checksums: Sequence[str] = (),
) -> pd.DataFrame:
    """Plays every searcher under every seed, and writes evaluations.csv, summary.csv, report.html; returns the summary.

    budget: of different architectures, or of what the table's `time` says that they take. checksums: of the table's files.
    workers: Ray tasks at a time; 1 for none, in this process. What a folder has already is not played again. Raises InputError
    before anything starts, RunError for a folder of another benchmark.
    """
    if not searchers or len(set(searchers)) != len(searchers):
        raise InputError(f"searchers: {', '.join(searchers) or 'none'}; name each once, at least one")
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
    for text in searchers:
        name, settings = parse(text)
        play(table, name, settings, budget, 0, only=3)  # what it cannot do here, a gradient on a partial table, shows now
    what = {"table": table.source, "columns": table.columns, "budget": budget, "space": space}
    what |= {"time": table.time} if table.time else {}
    what |= {"sha256": list(checksums)} if checksums else {}
    claim(out, what)
    path = out / "evaluations.csv"
    jobs = [(text, seed) for seed in range(seeds) for text in searchers]
    done = _kept(path, jobs, table, budget)
    left = [job for job in jobs if job not in done]
    show(len(done), len(jobs))
    began = time.monotonic()
    with path.open("a", newline="") as file:
        if not file.tell():
            pd.DataFrame(columns=["searcher", "seed", "arch", *table.columns]).to_csv(file, index=False)
        for i, ((text, seed), found) in enumerate(_played(table, left, budget, workers), 1):
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
    titles = [f"100 - {c}" if is_accuracy(c) else c for c in table.columns]
    asked = (
        f"{budget:g} different architectures" if table.time is None else f"architectures that take {budget:g} by {table.time}"
    )
    protocol = [
        f"{table.source}: {len(table.costs):,} of the {table.space.architectures:,} architectures of {space}; "
        f"objectives {', '.join(titles)}, all minimised.",
        f"Every searcher, under seeds 0 to {seeds - 1}, until it had asked for {asked}; repeats cost nothing. Methods "
        "with a schedule have one that fits, without warm-up, and begin again when it ends early.",
    ]
    methods = [names.find("searcher", parse(text)[0]) for text in searchers]
    if any(isinstance(method, type) and issubclass(method, GradientSearcher) for method in methods):
        protocol.append("Gradients of the table's multilinear extension cost nothing, which favours methods that use them.")
    protocol += [f"{len(left)} runs took {time.monotonic() - began:.0f} s with {workers} workers."] if left else []
    protocol += [f"SHA-256 of the table: {', '.join(checksums)}."] if checksums else []
    return bench_report.write(out, played, table.columns, front, titles, protocol, budget, table.time)


def _kept(path: Path, jobs: Sequence[Job], table: Table, budget: float) -> set[Job]:
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
    temporary = path.with_suffix(".tmp")
    whole.to_csv(temporary, index=False)
    os.replace(temporary, path)
    return {(str(s), int(seed)) for s, seed in zip(whole["searcher"], whole["seed"], strict=True)} & set(jobs)


def _takes(table: Table, arch: str) -> float:
    try:
        return table.takes[table.named(arch)]
    except (ValueError, KeyError):
        return 0.0  # of a line that was cut off


def _played(table: Table, jobs: Sequence[Job], budget: float, workers: int) -> Iterator[tuple[Job, list[Evaluation]]]:
    """As they finish."""
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, play(table, *parse(job[0]), budget, job[1])
        return
    import ray

    from orchestrator.experiment import Workers
    from orchestrator.tune import cluster

    with cluster(Workers(count=workers, cpus=1)):
        shared = ray.put(table)

        @ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
        def task(table: Table, job: Job) -> tuple[Job, list[Evaluation]]:
            torch.set_num_threads(1)
            return job, play(table, *parse(job[0]), budget, job[1])

        waiting = [task.remote(shared, job) for job in jobs]
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1)
            try:
                yield ray.get(ready[0])
            except ray.exceptions.RayError as error:
                raise RunError(f"a run was lost: {str(error).strip().splitlines()[-1]}; the same command goes on") from error


def play(
    table: Table, name: str, settings: dict[str, Any], budget: float, seed: int, *, only: int | None = None
) -> list[Evaluation]:
    """The different architectures that a searcher asks for, in their order, until they have taken `budget` together; or the
    first `only`.

    A method with a schedule is given one that fits the budget, without warm-up, as a table has no weights to train. One that
    has finished, or asks for nothing new any more, begins again with another seed.
    """
    found: dict[Architecture, Evaluation] = {}  # what a partial table has not costs nothing, and is told to break a constraint
    left = budget

    def assess(asked: Sequence[Architecture]) -> list[Evaluation]:
        nonlocal left
        told = []
        for a in asked:
            costs = table.costs.get(a)
            evaluation = Evaluation(a, table.worst(), violation=1.0) if costs is None else Evaluation(a, costs)
            if costs is not None and a not in found and left > 0:
                found[a] = evaluation
                left = 0.0 if len(found) == only else left - table.takes[a]
            told.append(evaluation)
        return told

    length = evaluations(table, budget)
    for attempt in range(length):
        before = len(found)
        again = seed + 1_000_003 * attempt
        searcher = build(table, name, settings, length, again)  # how many rounds it has depends on how much a round asks for
        searcher = build(table, name, settings, math.ceil(length / searcher.samples), again)
        endless = rounds(searcher, table, assess, 1, lambda: length)
        for _ in range(searcher.stage.rounds * searcher.stage.stages):
            next(endless)
            if left <= 0:
                return list(found.values())
        assess(searcher.derive())
        if left <= 0 or len(found) == before:
            break
    return list(found.values())


def evaluations(table: Table, budget: float) -> int:
    """About how many are made within the budget."""
    return max(2, round(budget * len(table.takes) / sum(table.takes.values())))


def build(table: Table, name: str, settings: dict[str, Any], length: int, seed: int) -> Searcher:
    """The searcher for `length` rounds on the table. Raises InputError for what it does not take."""
    cls, columns = find_searcher(name), range(1, len(table.columns))
    context = SearchContext(
        sizes=table.space.sizes,
        rounds=length,
        seed=seed,
        limits=(None,) * len(columns),
        shared_weights=False,
        space=table.space,
        cost_models=[_Column(table, i) for i in columns],
    )
    chosen = names.build(cls.resolve, {}, "searcher", settings, shared_weights=False)
    checked = names.keywords(cls, chosen, "searcher", supplied=("sizes", *cls.needs))
    made = names.build(cls.build, checked, "searcher", context)
    assert isinstance(made, Searcher)
    return made


@dataclass(frozen=True)
class _Column:
    """A column of the table as a cost."""

    table: Table
    index: int

    def additive(self) -> Additive | None:
        """See `Table.additive`."""
        return self.table.additive(self.index)
