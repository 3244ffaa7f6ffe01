"""`paretoray bench`: which kind of comparison is meant, and what both kinds have in common."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.errors import InputError
from orchestrator.evaluators.columns import Mode, modes_of_options

LINE = 5.0
"""Seconds between lines of progress."""
SHIPPED = "digits-tiny"
SHIPPED_OBJECTIVES = "valid_accuracy,parameters"


@dataclass(frozen=True)
class Compared:
    """Outcome of a comparison.

    Args:
        facts: What was compared, and a row for each searcher, the best first.
        heads: Heads of a table of the same for people.
        rows: Its rows.
    """

    facts: dict[str, Any]
    heads: list[str]
    rows: list[list[str]]


def main(
    console: Console,
    settings: Sequence[str],
    out: Path,
    *,
    paths: Sequence[Path],
    space: str | None,
    objectives: str | None,
    searchers: str,
    budget: float | None,
    column: str | None,
    maximize: Sequence[str],
    minimize: Sequence[str],
    sha256: Sequence[str],
    seconds: float | None,
    images: float | None,
    seeds: int | None,
    workers: int | None,
) -> Compared:
    """Compare. Raises InputError for options that do not fit together."""
    from orchestrator.evaluators.tabular import checksum

    checksums = [checksum(path) for path in paths]
    if sha256 and [s.lower() for s in sha256] != checksums:
        found = ", ".join(f"{path} has {s}" for path, s in zip(paths, checksums, strict=True))
        raise InputError(f"--sha256: {found or 'there is no --table'}, which is not what was given; get the file again")
    named = [s.strip() for s in searchers.split(",")]
    # A name with a comma in it is quoted, as in a CSV file.
    columns = [c.strip() for c in next(csv.reader([objectives], skipinitialspace=True))] if objectives else []
    modes = modes_of_options(maximize, minimize)
    if modes and not columns and (paths or settings):
        raise InputError("--maximize and --minimize are about columns of a --table; name them with --objectives")
    if settings or seconds is not None or images is not None:
        unused = {"--space": space, "--budget": budget, "--time": column, "--workers": workers}
        if said := [flag for flag, value in unused.items() if value is not None]:
            raise InputError(
                f"{', '.join(said)}: means nothing for whole searches; write space.name=..., workers.count=..., --seconds"
            )
        if bool(paths) != bool(columns):
            raise InputError("--table and --objectives judge whole searches together: give both, or neither")
        return _searches(console, settings, named, seconds, images, 3 if seeds is None else seeds, out, paths, columns, modes)
    if not paths:
        if space not in (None, SHIPPED):
            raise InputError(f"--space {space} needs a --table; the one that is shipped is of {SHIPPED}")
        paths, checksums = [Path(SHIPPED)], []
        columns = columns or SHIPPED_OBJECTIVES.split(",")
    space = SHIPPED if space is None and list(paths) == [Path(SHIPPED)] else space
    if space is None or not columns:
        raise InputError("--table needs --space, whose notation its column arch has, and --objectives, two of its columns")
    return _table(
        console, paths, space, columns, named, budget, column, 20 if seeds is None else seeds, workers, out, checksums,
        modes,
    )  # fmt: skip


def _table(
    console: Console,
    paths: Sequence[Path],
    space: str,
    columns: Sequence[str],
    searchers: Sequence[str],
    budget: float | None,
    column: str | None,
    seeds: int,
    workers: int | None,
    out: Path,
    checksums: Sequence[str],
    modes: Mapping[str, Mode],
) -> Compared:
    from analysis.compare import WRITTEN
    from orchestrator.bench import tables as bench_table
    from orchestrator.bench.entries import entries_of
    from orchestrator.cluster.connection import local_resources
    from orchestrator.config.spaces import make_space
    from orchestrator.evaluators.tabular import TabularBenchmark

    if len(columns) < 2:
        raise InputError(f"--objectives {','.join(columns)}: a trade-off has two or more; name further columns")
    table = TabularBenchmark.read(paths, make_space(space, {}, (3, 32, 32), 10), columns, time=column, modes=modes)
    cpus = int(local_resources()["CPU"])
    count = cpus if workers is None else workers
    if not 1 <= count <= cpus:
        raise InputError(f"--workers {count}: each has a CPU, of which there are {cpus}; write 1 to {cpus}, or leave it out")
    if column and budget is None:
        raise InputError(f"--time {column}: say how much of it each searcher has, --budget")
    shown = -LINE

    def show(done: int, whole: int) -> None:
        nonlocal shown
        if done == whole or time.monotonic() - shown > LINE:
            console.print(f"bench: {done} of {whole} runs done", highlight=False)
            shown = time.monotonic()

    if budget is None:  # a searcher need not come across every network of a sparse table
        budget = min(400, max(2, len(table.costs) // 2) if table.sparse else len(table.costs))
    summary = bench_table.run(table, entries_of(searchers), budget, seeds, out, count, show, checksums)
    last = summary[summary["budget"] == summary["budget"].max()].sort_values("hypervolume", ascending=False)
    rows = [
        [
            str(row["searcher"]),
            f"{row['hypervolume']:.3f}",
            f"{row['low']:.3f} .. {row['high']:.3f}" if row["seeds"] > 1 else "",
            f"{row['igd_plus']:.4f}",
            f"{row['found']:.0%}",
        ]
        for row in last.to_dict("records")
    ]
    facts = {
        "kind": "table", "space": space, "objectives": list(columns), "budget": budget, "budget_in": column or "evaluations",
        "searchers": last.drop(columns="budget").rename(columns=WRITTEN),
    }  # fmt: skip
    return Compared(facts, ["searcher", "relative hypervolume", "95 % interval", "IGD+", "front found"], rows)


def _searches(
    console: Console,
    settings: Sequence[str],
    searchers: Sequence[str],
    seconds: float | None,
    images: float | None,
    seeds: int,
    out: Path,
    paths: Sequence[Path],
    columns: Sequence[str],
    modes: Mapping[str, Mode],
) -> Compared:
    from orchestrator.bench import searches as bench_searches
    from orchestrator.bench.entries import plans_of
    from orchestrator.config.overrides import arguments
    from orchestrator.runs.process import heeding_ctrl_c

    path, overrides = arguments(settings)
    cost = bench_searches.Cost(seconds, images)
    truth = bench_searches.Truth(paths, columns, modes) if paths else None
    plans = plans_of(path, overrides, searchers, retrained=truth is None)
    found = bench_searches.run(plans, seeds, cost, out, truth, console, lambda stop: heeding_ctrl_c(stop, console.print))
    taus = {"tau, measured last": "tau", "tau, random networks": "tau_batch"}  # the former are chosen by what is in question
    taus = {title: column for title, column in taus.items() if column in found}
    means = found.groupby("searcher")[["hypervolume", "seconds", "images", *taus.values()]].mean().sort_values("hypervolume")
    rows = [
        [str(name), f"{row['hypervolume']:.3f}", f"{row['seconds']:,.0f}", f"{row['images']:,.0f}"]
        + ["" if math.isnan(row[column]) else f"{row[column]:.2f}" for column in taus.values()]
        for name, row in means.iloc[::-1].iterrows()
    ]
    facts = {
        "kind": "searches", "seconds": seconds, "images": images, "seeds": seeds,
        "searchers": means.iloc[::-1].reset_index().rename(columns={"tau": "tau_measured_last", "tau_batch": "tau_random"}),
    }  # fmt: skip
    return Compared(facts, ["searcher", "true hypervolume", "seconds", "images", *taus], rows)
