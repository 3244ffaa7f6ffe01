"""`paretoray trust`: whether inherited accuracies rank the networks of a finished search as they truly are."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from analysis import records
from analysis.proxies import TARGET
from orchestrator.cluster.connection import cluster
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, RunError
from orchestrator.evaluators.columns import modes_of_options
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.machine import threads
from orchestrator.runs.directory import open_run
from orchestrator.runs.display import Display
from orchestrator.runs.process import heeding_ctrl_c
from orchestrator.runs.report import write_report
from orchestrator.runs.retraining import retrain_all
from orchestrator.search.checkpoint import alone_in
from orchestrator.search.control import stop_file
from orchestrator.search.retraining import FAILURE, Member, check, settings_of
from orchestrator.spaces.base import SearchSpace
from orchestrator.tasks.base import Metric, merit, merit_column, merit_title
from orchestrator.trust import proxies
from orchestrator.trust.assessment import TRAINED, Truth, assess, table_truth
from orchestrator.trust.weights import FOLDER, SharedWeights
from searchers import Architecture


def main(
    console: Console,
    directory: Path,
    *,
    tables: Sequence[Path],
    column: str | None,
    maximize: Sequence[str],
    minimize: Sequence[str],
    networks: int,
    members: int | None,
    of_levels: int,
    each: int | None,
    images: int | None,
    trusted: bool,
) -> dict[str, Any]:
    """Does what `paretoray trust` says, going on where it was interrupted; returns what it writes into trust.json.

    tables, column: where the truth is from; without them `members` of the random networks are retrained. maximize, minimize:
    the column, where its name does not say which way is better. of_levels, each: number of cost levels, and of the networks in
    each that the search found best, which are judged at the target and at its proxies, too; None for 3, or none where they
    cannot be compared. images: of the validation set to measure on; None for all.
    trusted: whether to import what the run names, though somebody else made it.
    Raises InputError before anything starts, and Interrupted once Ctrl-C was heeded.
    """
    if bool(tables) != (column is not None):
        raise InputError(
            "--table and --column say together where the truth is from, as --column test_accuracy; give both, or neither"
        )
    if tables and members is not None:
        raise InputError("--retrain means nothing with --table, which has the truth of all networks; leave one out")
    if networks < 3 or (members is not None and not 0 <= members <= networks):
        raise InputError(f"--networks {networks}, --retrain {members}: at least 3 are ranked, and at most those are retrained")
    plan = SearchPlan.of(open_run(directory, trust=trusted))
    weights = SharedWeights(plan, directory)
    valid = len(weights.data.valid)
    if images is not None and not 1 <= images <= valid:
        raise InputError(f"--images {images}: the validation set has {valid}; write 1 to {valid}, or leave it out for all")
    random = weights.random(networks)
    if len(random) < 3:
        raise InputError(f"only {len(random)} networks survive in these weights; there is nothing to rank")
    space = weights.space
    found = records.read(directory / records.FRONT, ["arch"])["arch"]
    listed = records.parsed(directory / records.FRONT, found, space.parse)
    front = [a for a in listed if weights.has(a)]
    truth, table, jobs, trained = None, None, [], 0
    if tables:
        assert column is not None
        table = TabularBenchmark.read(list(tables), space, [column], modes=modes_of_options(maximize, minimize))
        truth = table_truth(table, column, list(dict.fromkeys([*random, *front])), random)
        judge = truth.title
    else:
        known = _retrained(directory, space, plan.problem.task.metric)
        trained = min(TRAINED, len(random)) if members is None else members
        jobs = [a for a in random[:trained] if a not in known]
        if len(known) + len(jobs) < 2:
            raise InputError(f"nothing says what networks are truly worth; write --retrain {TRAINED}, or --table and --column")
        if jobs:
            check(plan, teaching=False)
        judge = f"retraining: {len(known)} of the front are retrained, and {len(jobs)} random ones will be"
    comparable = plan.problem.task.metric.name == "accuracy" and not plan.retraining.parts.distill
    asked, each = each is not None, (3 if comparable else 0) if each is None else each
    good = None
    if each:
        try:
            good = _good(console, plan, weights, table, directory, of_levels, each, images)
        except InputError as error:
            if asked:
                raise
            console.print(f"networks of one cost are not compared: {error}", highlight=False, markup=False, soft_wrap=True)
    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    console.print(
        f"{len(random)} random networks of {weights.surviving:,}, and {len(front)} of the front, on {images or valid:,} images "
        f"of the validation set, statistics {' and '.join(weights.statistics)}; truth: {judge}",
        **plain,
    )
    if len(front) < len(listed):
        gone = len(listed) - len(front)
        console.print(
            f"{gone} of the front have options that were dropped later, so these weights know nothing of them", **plain
        )
    metric = plan.problem.task.metric
    label = "test accuracy (%)" if metric.name == "accuracy" else f"test {merit_title(metric)}"
    title = f"{label} after {records.training({records.FINE_TUNED: plan.problem.space.pretrained})}"
    if (earlier := _earlier(directory)) not in (None, truth.title if truth else title):
        console.print(f"this replaces what {records.TRUST} and the report say against {earlier}", **plain)
    stop = stop_file(directory)
    clustered = cluster(plan.workers, trainers=plan.retraining.workers) if jobs and plan.workers.ray else nullcontext()
    with heeding_ctrl_c(stop, console.print), clustered, alone_in(directory, "run.lock"):
        stop.unlink(missing_ok=True)
        with Display(console) as display, threads(plan.workers.cpus):
            weights.accuracies([*random, *front], images, display.trust, stop.exists)
        if truth is None:
            values = _retrained(directory, space, metric)
            if jobs:
                absolute = directory.resolve()  # trials change their working directory
                teacher = Path(plan.retraining.teacher) if plan.retraining.teacher is not None else None
                how: dict[str, Any] = {"settings": settings_of(plan, teacher=teacher), "teacher": teacher}
                wanted = [Member(space.format(a), _result(absolute, space.format(a)), **how) for a in jobs]
                with Display(console) as display:
                    results = retrain_all(plan, absolute, wanted, display)
                results = _without_failures(results, console)
                errors = zip(results["arch"], results.get(records.tested(metric.column).value, ()), strict=True)
                values |= {space.parse(str(arch)): merit(metric, float(error)) for arch, error in errors}
            if len(values) < 2:
                raise RunError("fewer than two networks could be trained, so nothing can be ranked; lower retrain.lr")
            truth = Truth(title, merit_column(metric), label, True, values, trained)
        judged = [a for a in [*random, *front] if a in truth.values]
        with Display(console) as display, threads(plan.workers.cpus):
            scores = weights.scores(judged, display.scores, stop.exists)
        assess(weights, random, front, truth, images, display.trust, stop.exists, scores, good)
        write_report(plan, directory)
    quality: dict[str, Any] = json.loads((directory / records.RANKING_QUALITY).read_text())
    return quality


def _good(
    console: Console,
    plan: SearchPlan,
    weights: SharedWeights,
    table: TabularBenchmark | None,
    directory: Path,
    of_levels: int,
    each: int,
    images: int | None,
) -> dict[str, Any]:
    """Judge networks that the search found good within cost levels by its shared weights, at its proxies and at the target.

    Without a table they are trained at the target, and every training is kept in the folder of `paretoray proxies`.
    """
    folder = directory / "proxies"
    spent = json.loads((directory / records.SUMMARY).read_text())["spent"]

    def inherited(networks: Sequence[Architecture]) -> list[float]:
        with Display(console) as display, threads(plan.workers.cpus):
            measured = weights.accuracies(networks, images, display.trust, stop_file(folder).exists)
        return [float(value) for value in measured[f"{weights.own}_{merit_column(plan.problem.task.metric)}"]]

    known = {"shared weights": proxies.Judgement(inherited, spent["seconds"] / spent["architectures"])}
    if table is not None:
        sign, rows = 1.0 if table.maximised[0] else -1.0, table
        known[TARGET] = proxies.Judgement(lambda some: [sign * rows.values(rows.costs[a])[0] for a in some], math.nan)
    named = [str(place) for place in plan.places if place]
    found = proxies.main(
        console, plan, folder, named,
        of_levels=of_levels, each=each, run=directory, known=known,
        among=lambda a: weights.has(a) and (table is None or a in table.costs),
    )  # fmt: skip
    return found[1]


def _without_failures(results: pd.DataFrame, console: Console) -> pd.DataFrame:
    """Return the trainings that worked, and warn of the others."""
    failed = results[results[FAILURE].notna()]
    for arch, reason in zip(failed["arch"], failed[FAILURE], strict=True):
        console.print(f"warning: {arch} could not be trained: {reason}", highlight=False, markup=False, soft_wrap=True)
    return results[results[FAILURE].isna()]


def _earlier(directory: Path) -> str | None:
    """Truth that ranking quality was last measured against."""
    try:
        return str(json.loads((directory / records.RANKING_QUALITY).read_text())["truth"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is none that could be read, so none is lost


def _retrained(directory: Path, space: SearchSpace, metric: Metric) -> dict[Architecture, float]:
    """Test accuracies in percent, or what the task has in their place, of what the run itself has retrained."""
    path = directory / records.RETRAINED
    if not path.exists():
        return {}
    test = records.tested(metric.column).value
    found = records.mean_of_seeds(records.read(path, ["arch", test]))
    networks = records.parsed(path, found["arch"], space.parse)
    return {a: merit(metric, float(e)) for a, e in zip(networks, found[test], strict=True)}


def _result(directory: Path, arch: str) -> Path:
    """Named after the network, so that it is found again whatever else is drawn."""
    return directory / FOLDER / f"{hashlib.sha256(arch.encode()).hexdigest()[:16]}.json"
