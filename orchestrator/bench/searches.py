"""Whole searches at equal cost, weights trained from nothing, and what their fronts are truly worth."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from scipy.stats import kendalltau

from analysis import bench_report, front_table, records
from analysis.files import write_text
from analysis.pareto import as_costs, non_dominated, relative_hypervolume, spread_out
from analysis.trust import ALL, ENOUGH, RANDOM, Skips, tau_within
from analysis.trust_section import repeats
from orchestrator.bench.entries import claim
from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Problem
from orchestrator.errors import InputError, RunError
from orchestrator.evaluators.columns import Mode
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.judge.selection import levels
from orchestrator.machine import threads
from orchestrator.runs.directory import EXPERIMENT, reopen, share_spent
from orchestrator.runs.display import Display
from orchestrator.runs.estimate import estimate
from orchestrator.runs.halving import Found, Halving, found_by
from orchestrator.runs.run import check, go
from orchestrator.search.control import stop_file
from orchestrator.trust import assessment, weights

Heed = Callable[[Path], AbstractContextManager[object]]
SEARCHES = "searches.csv"
FRONTS = "fronts.csv"
_SHARED = ("data", "space", "objectives", "sweep", "workers")
"""Sections of an experiment that all searches of a benchmark have in common."""
FEWER = 5
"""Members, well separated by a search's own costs, whose hypervolume is reported beside that of all."""
JUDGED = 2000
"""Images of the validation set, at most, that random networks are ranked on; a tenth of CIFAR-10's takes minutes a search."""
PILOT, PILOT_SECONDS = 0.08, 8.0
"""Share of the seconds that a trial run is meant to take, and seconds at least; the length of the searches follows from it."""


@dataclass(frozen=True)
class Cost:
    """Cost of each search: `seconds` of this machine, or `images` to train weights on; one of them."""

    seconds: float | None = None
    images: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.seconds, self.images) if v is not None]
        if len(given) != 1 or not given[0] > 0:
            raise InputError("whole searches are compared at equal cost: say --seconds S or --images N, not both, above 0")


@dataclass(frozen=True)
class Truth:
    """Table of all networks of the space that fronts are judged by.

    Args:
        paths: Its files.
        columns: A column for each objective.
        modes: As for `TabularBenchmark`.
    """

    paths: Sequence[Path]
    columns: Sequence[str]
    modes: Mapping[str, Mode]


def run(
    plans: Mapping[str, SearchPlan],
    seeds: int,
    cost: Cost,
    out: Path,
    truth: Truth | None,
    console: Console,
    heed: Heed = lambda stop: nullcontext(),
) -> pd.DataFrame:
    """Search with every searcher under every seed, and write searches.csv, fronts.csv and report.html; returns the first.

    With a table, the weights of each search are tried on random networks besides (see `trust`), which is not its cost either.
    Each search is a run directory below `searches/`; one that is finished is not made again, and one that was interrupted goes
    on.

    Args:
        plans: The searches by the name that they go by; they share their problem and workers.
        seeds: Number of seeds.
        cost: What each search may cost.
        out: The benchmark's folder.
        truth: Table of all networks of the space; None has the fronts' members retrained, and their test errors count.
        console: Where progress is shown.
        heed: Surrounds each search, whose stop file it is given: a command lets Ctrl-C touch it.

    Raises:
        InputError: Before anything starts.
        Interrupted: Once Ctrl-C has been heeded.
    """
    if not plans or seeds < 1:
        raise InputError(f"searchers: {', '.join(plans) or 'none'}, seeds = {seeds}; name each once, at least one of both")
    first = next(iter(plans.values()))
    base, problem = first.experiment, first.problem
    for text, plan in plans.items():
        other = plan.experiment
        if any(getattr(other, section) != getattr(base, section) for section in _SHARED):
            raise InputError(f"{text}: searches that are compared agree in their {', '.join(_SHARED)}")
        check(plan)
    if base.sweep.halving is not None and len(plans) == 1:
        raise InputError(f"sweep.halving = {base.sweep.halving} compares methods, and this is one; name more, or leave it out")
    if not truth and base.retrain.members < 1:
        raise InputError("retrain.members = 0: without --table the fronts are judged by retraining their members")
    space, columns = problem.space, problem.columns
    table = None
    if truth:
        table = TabularBenchmark.read(truth.paths, space, truth.columns, modes=truth.modes)
        if len(truth.columns) != len(columns):
            raise InputError(f"--objectives {','.join(truth.columns)}: name a column for each of {', '.join(columns)}")
        if not table.complete:
            raise InputError(
                f"{table.source} has {len(table.costs):,} of {space.architectures:,} architectures; all are needed"
            )
    shared = base.to_dict()
    for section in ("searcher", "training", "budget", "seed"):
        shared.pop(section)  # of the searchers
    for key in ("address", "min", "patience"):
        shared.get("workers", {}).pop(key, None)  # where it runs, which may change
    what = {"experiment": shared, "seconds": cost.seconds, "images": cost.images, "table": table.source if table else None}
    claim(out, what)
    (out / "searches").mkdir(exist_ok=True)
    halving = Halving(out, base.sweep)

    def search(until: float = math.inf) -> list[tuple[str, int, Path]]:
        """Search with every method that was not stopped, as far as `until`, and return these searches."""
        jobs = [(text, seed, _folder(out, text, seed)) for seed in range(seeds) for text in halving.going(list(plans))]
        for i, (text, seed, folder) in enumerate(jobs, 1):
            if (folder / "report.html").exists() or share_spent(folder) >= until:
                continue
            console.print(f"search {i} of {len(jobs)}: {text}, seed {seed}", highlight=False)
            if (folder / EXPERIMENT).exists():
                _go(reopen(folder, problem), folder, console, heed, until=until)
            else:
                epochs = _epochs(plans[text], text, cost, out, heed)
                longer = plans[text].varied(seed=base.seed + seed, budget=replace(plans[text].budget, epochs=epochs))
                _go(longer, folder, console, heed, new=True, until=until)
        return jobs

    while (share := halving.next(list(plans))) is not None:
        found: dict[str, list[Found]] = {text: [] for text in halving.going(list(plans))}
        for text, _, folder in search(share):
            found[text] += found_by(reopen(folder, problem), folder)
        compared = halving.compare(share, {text: f if len(f) == seeds else [] for text, f in found.items()}, together=False)
        console.print(compared.words, highlight=False, markup=False, soft_wrap=True)
    stopped = [f"{text} was stopped {compared.why(text)}." for text, compared in halving.stopped.items()]
    return report(out, search(), problem, table, console, stopped)


def _go(plan: SearchPlan, folder: Path, console: Console, heed: Heed, *, new: bool = False, until: float = math.inf) -> None:
    """Run or continue one search."""
    with heed(stop_file(folder)):
        go(plan, folder, Display(console), new=new, until=until)


def _folder(out: Path, text: str, seed: int) -> Path:
    return out / "searches" / f"{re.sub(r'[^A-Za-z0-9.=-]', '-', text)}-{seed}"


def _epochs(plan: SearchPlan, text: str, cost: Cost, out: Path, heed: Heed) -> float:
    """Return the epochs of a search of that cost; for seconds by a trial run, once for each searcher."""
    if cost.images is not None:
        return cost.images / (len(plan.trained.data.train) * plan.networks_per_step)
    assert cost.seconds is not None
    path = out / "epochs.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    if text not in known:
        search = plan.varied(retrain=replace(plan.retraining, members=0))
        guessed = search.budget.epochs * cost.seconds / estimate(search).seconds
        known[text] = _timed(search, guessed, cost.seconds, out / "pilots" / _folder(out, text, 0).name, heed)
        write_text(path, json.dumps(known, indent=2) + "\n")
    return known[text]


def _timed(plan: SearchPlan, guessed: float, seconds: float, folder: Path, heed: Heed) -> float:
    """Epochs that take so many seconds, from a trial run of about `PILOT` of them, or longer where the method has to."""
    share = min(0.5, max(PILOT, PILOT_SECONDS / seconds))
    while share < 1:
        trial = plan.varied(budget=replace(plan.budget, epochs=share * guessed))
        directory = folder.with_name(f"{folder.name}-{share:g}")
        try:
            if not (directory / "report.html").exists():
                if (directory / EXPERIMENT).exists():
                    _go(reopen(directory, plan.problem), directory, Console(quiet=True), heed)
                else:
                    check(trial)
                    _go(trial, directory, Console(quiet=True), heed, new=True)
        except (InputError, RunError):
            share *= 2  # too short for the stages it has
            continue
        spent = json.loads((directory / records.SUMMARY).read_text())["spent"]
        # At the end of each stage and of the search, however long these were.
        fixed = spent["seconds_validating"] + spent["seconds_timing"]
        if fixed > 0.7 * seconds:
            raise InputError(
                f"--seconds {seconds:g}: measuring the best again takes {fixed:.0f} of them; allow "
                "more, or lower budget.validate or data.valid"
            )
        # Not those of the budget: candidates that are trained alone get all of their epochs, however few the budget has.
        epochs = spent["images_trained_on"] / (len(plan.trained.data.train) * plan.networks_per_step)
        return float(epochs * (seconds - fixed) / max(spent["seconds"] - fixed, 1e-3))
    return guessed


def report(
    out: Path,
    jobs: Sequence[tuple[str, int, Path]],
    problem: Problem,
    table: TabularBenchmark | None,
    console: Console,
    stopped: Sequence[str] = (),
) -> pd.DataFrame:
    """Write searches.csv, fronts.csv and report.html from finished run directories, and return the first.

    Args:
        out: The benchmark's folder.
        jobs: Searcher, seed and run directory of each search.
        problem: What they searched.
        table: Table of all networks of the space; None where fronts were judged by retraining.
        console: Where progress is shown.
        stopped: Sentences about methods that were stopped early, which are in no table.
    """
    columns = problem.columns
    inherited: dict[tuple[str, int], pd.DataFrame] = {}
    for text, seed, folder in jobs:
        ranked = None if table is None else _inherited(folder, problem, table, console)
        if ranked is not None:
            inherited[text, seed] = ranked
    fronts, rows, predicted = [], [], {}
    for text, seed, folder in jobs:
        summary = json.loads((folder / records.SUMMARY).read_text())
        spent = summary["spent"]
        front = _truth(folder, columns, table).assign(searcher=text, seed=seed)
        fronts.append(front)
        judged = records.read(folder / records.EVALUATIONS, columns)
        if (judged["kind"] == records.VALIDATION).any():
            judged = judged[judged["kind"] == records.VALIDATION]
        predicted[text, seed] = judged.drop_duplicates("arch", keep="last")
        rows.append(
            {
                "searcher": text,
                "seed": seed,
                "seconds": spent["seconds"],
                "images": spent["images_trained_on"] + spent["images_judged_on"],
                "images_trained_on": spent["images_trained_on"],
                "evaluations": spent["evaluations"],
                "architectures": spent["architectures"],
                "members": len(front),
                **_drift(folder, front["arch"].tolist(), problem),
                **_taus(folder, (text, seed) in inherited),
            }
        )
    everything = pd.concat(fronts, ignore_index=True)
    true = [f"true {column}" for column in columns]
    best = np.array(table.front()) if table else as_costs(everything[true].to_numpy())
    best = best[non_dominated(best)]
    if not np.ptp(best, axis=0).all():
        raise RunError("all fronts together are a single value in some objective; search longer, or retrain more members")
    for row in rows:
        own = everything[(everything["searcher"] == row["searcher"]) & (everything["seed"] == row["seed"])]
        row["hypervolume"] = relative_hypervolume(own[true].to_numpy(), best)
        row["tau"] = _tau(predicted[row["searcher"], row["seed"]], own, columns[0], table)
        if table is not None:
            row |= _of_measured(predicted[row["searcher"], row["seed"]], own, columns[0], table)
    found = pd.DataFrame(rows)
    records.write(found, out / SEARCHES)
    records.write(everything[["searcher", "seed", "arch", *columns, *true]], out / FRONTS)
    against = f"the table {table.source}" if table else "all fronts together, as the true one is not known"
    judge = (
        f"the columns {', '.join(table.columns)} of {table.source}" if table else "retraining from scratch, and the test set"
    )
    protocol = [
        f"Each search trains its weights from nothing. Its front is what it measured best on the validation set; the true "
        f"values of the front's members are from {judge}. Costs of finding out are not the search's.",
        f"Hypervolume is relative to {against}: scaled to that front's ideal and nadir, reference point 1.1.",
        "Seconds are those of the search on this machine, one after the other. Images are those that weights were trained on "
        "and those that networks or gradients were judged on.",
        "The length of the searches was set in advance, for equal cost; what was measured is shown.",
        *stopped,
    ]
    error, *costs = summary["objectives"].values()
    titles = [front_table.test_title(error), *costs]
    if table is not None:
        titles = table.titles
    bench_report.write_searches(out, found, everything, true, best, titles, protocol, table is not None, inherited)
    return found


def _truth(folder: Path, columns: Sequence[str], table: TabularBenchmark | None) -> pd.DataFrame:
    """`arch`, the search's own costs and the true ones of its front."""
    if table is not None:
        front = records.read(folder / records.FRONT, [*columns, "arch"])
        costs = np.array([table.costs[table.named(str(a))] for a in front["arch"]]).reshape(len(front), len(columns))
        return front[["arch", *columns]].assign(**{f"true {c}": costs[:, i] for i, c in enumerate(columns)})
    path = folder / records.RETRAINED
    if not path.exists():
        return pd.DataFrame(columns=["arch", *columns, *(f"true {c}" for c in columns)])
    front = records.mean_of_seeds(records.read(path, [*columns, "arch", records.tested(columns[0]).value]))
    known = {f"true {c}": front[records.tested(columns[0]).value] if i == 0 else front[c] for i, c in enumerate(columns)}
    return front[["arch", *columns]].assign(**known)


def _inherited(folder: Path, problem: Problem, table: TabularBenchmark, console: Console) -> pd.DataFrame | None:
    """trust.csv of a search, made if it is not there; None for networks that inherited nothing, or are too few to rank."""
    plan = reopen(folder, problem)
    if not plan.shares_weights:
        return None
    try:
        shared = weights.SharedWeights(plan, folder)
        random = shared.random(assessment.NETWORKS)
        if len(random) < 3:
            return None
        path = folder / records.FRONT
        front = records.parsed(path, records.read(path, ["arch"])["arch"], table.space.parse)
        kept = [a for a in front if shared.has(a)]
        truth = assessment.table_truth(table, table.columns[0], [*random, *kept], random)
        path = folder / records.RANKING_QUALITY
        said = json.loads(path.read_text()) if path.exists() else {}
        if (said.get("checkpoint"), said.get("truth")) == (shared.checksum, truth.title):
            return pd.read_csv(folder / records.TRUST)
        console.print(f"ranking {len(random)} random networks by the weights of {folder.name}", highlight=False, markup=False)
        with Display(console) as display, threads(plan.workers.cpus):
            images = JUDGED if len(shared.data.valid) > JUDGED else None
            return assessment.assess(shared, random, kept, truth, images, display.trust, lambda: False)
    except InputError as error:
        # What its weights are worth is not what is compared; a checkpoint that somebody deleted should not cost the page.
        console.print(f"{folder.name}: its weights are not judged: {error}", highlight=False, soft_wrap=True, markup=False)
        return None


def _taus(folder: Path, judged: bool) -> dict[str, float]:
    """Return the rank correlations of random networks under each statistics, from trust.json, and the number of networks."""
    if not judged:
        return {}
    said = json.loads((folder / records.RANKING_QUALITY).read_text())
    of = [a for a in said["agreements"] if (a["kind"], a["among"]) == (RANDOM, ALL)]
    taus = {f"tau_{a['statistics']}{end}": a[key] for a in of for key, end in (("tau", ""), ("low", "_low"), ("high", "_high"))}
    return {key: float("nan") if value is None else value for key, value in taus.items()} | {"ranked": of[0]["networks"]}


def _drift(folder: Path, front: Sequence[str], problem: Problem) -> dict[str, float]:
    """The shares of samples that repeat one before, and of skips in what was returned and by chance."""
    space = problem.space
    skips = Skips.of(space.skips, space.none_option)
    shares = skips.shares([space.parse(a) for a in front])
    kept = shares[np.isfinite(shares)]
    return {
        "repeated": repeats(records.read(folder / records.EVALUATIONS, ["arch", "kind"])),
        "skips": float(kept.mean()) if len(kept) else float("nan"),
        "skips_by_chance": skips.chance,
    }


def _of_measured(measured: pd.DataFrame, front: pd.DataFrame, error: str, table: TabularBenchmark) -> dict[str, float]:
    """Return what a table says of the networks that were measured last, and of fewer members than a search returned.

    The difference of `hypervolume_measured` to the front's is what choosing has lost; that to 1 is what sampling has.
    """
    true = np.array([table.costs[table.named(str(a))] for a in measured["arch"]])
    found = {"hypervolume_measured": relative_hypervolume(true, table.front())}
    own = front[[c for c in front.columns if c.startswith("true ")]].to_numpy()
    fewer = spread_out(front[[c.removeprefix("true ") for c in front.columns if c.startswith("true ")]].to_numpy(), FEWER)
    found[f"hypervolume_{FEWER}"] = relative_hypervolume(own[fewer], table.front())
    here = measured[error].to_numpy()
    if len(here) >= ENOUGH:
        better = true[:, 0] <= np.median(true[:, 0])
        found["tau_within"] = tau_within(here, true[:, 0], levels(true[:, 1:])).value
        found["tau_better_half"] = float(kendalltau(here[better], true[better, 0]).statistic)
    return found


def _tau(measured: pd.DataFrame, front: pd.DataFrame, error: str, table: TabularBenchmark | None) -> float:
    """Kendall's tau-b of the search's error with the true one, over what it measured last (of a table), or its front."""
    if table is not None:
        here = measured[error].tolist()
        true = [table.costs[table.named(str(a))][0] for a in measured["arch"]]
    else:
        here, true = front[error].tolist(), front[f"true {error}"].tolist()
    return float(kendalltau(here, true).statistic) if len(here) > 1 else float("nan")
