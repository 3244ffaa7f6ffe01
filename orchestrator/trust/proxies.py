"""`paretoray proxies`: how well smaller networks on less data order good networks of one cost, and what they take."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from analysis import plots, records
from analysis.files import replacing, write_text
from analysis.pareto import Floats
from analysis.proxies import TARGET, Judged, advice, judge, levels, picture, plain
from orchestrator.cluster.connection import cluster
from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.config.settings import Proxy
from orchestrator.errors import InputError, RunError
from orchestrator.objectives.base import Probe
from orchestrator.runs.directory import EXPERIMENT, open_run
from orchestrator.runs.display import Display
from orchestrator.runs.process import heeding_ctrl_c
from orchestrator.runs.retraining import retrain_all
from orchestrator.search.checkpoint import alone_in
from orchestrator.search.control import stop_file
from orchestrator.search.logs import logging_to
from orchestrator.search.retraining import FAILURE, Member, check, settings_of
from orchestrator.trust.weights import sample
from searchers import Architecture

TABLE, SUMMARY, PICTURE = "proxies.csv", "proxies.json", "proxies.png"
CANDIDATES = 500
"""Random networks of which the levels are taken, where there is no run."""
SCREENED = 3
"""Candidates for each network that is taken, where there is no run: those that the cheapest proxy finds best."""
_PLAIN: dict[str, Any] = {"highlight": False, "markup": False}
_SCREENING = 1000
"""What screening adds to the seed, so that luck there is not repeated in what is reported."""


@dataclass(frozen=True)
class Attempt:
    """A place to train networks at.

    Args:
        proxy: Networks and data.
        epochs: Passes over the images; None for those of `[retrain]`.
    """

    proxy: Proxy
    epochs: int | None = None

    @classmethod
    def parse(cls, text: str) -> Attempt:
        """Read `size=8,cells=3,epochs=10`. Raises InputError."""
        parts = text.split(",")
        counts = [part.partition("=")[2] for part in parts if part.startswith("epochs=")]
        if len(counts) > 1 or not all(count.isdigit() and int(count) for count in counts):
            raise InputError(f"--proxy {text}: epochs is a whole number, once, as in size=8,cells=3,epochs=10")
        rest = ",".join(part for part in parts if not part.startswith("epochs="))
        return cls(Proxy.parse(rest or TARGET), int(counts[0]) if counts else None)

    def __str__(self) -> str:
        return str(self.proxy) + (f",epochs={self.epochs}" if self.epochs else "")


@dataclass(frozen=True)
class Judgement:
    """A judgement of networks that needs no training here.

    Args:
        merits: Gives what networks are worth: the task's metric, its sign turned round where less of it is better.
        seconds: Cost of a network; NaN where that is not known.
    """

    merits: Callable[[Sequence[Architecture]], Sequence[float]]
    seconds: float


def experiment(path: Path | None, overrides: Sequence[str], *, trust: bool = False) -> tuple[Path | None, SearchPlan]:
    """Read an experiment's file, or the one of a run directory, which is returned, too; `trust` is that of `open_run`.

    Raises InputError.
    """
    if path is None or not path.is_dir():
        return None, SearchPlan.of(read(path, overrides))
    if not (path / records.EVALUATIONS).exists():
        raise InputError(f"{path} is no run directory that has measured anything; name one, or an experiment's file")
    if fixed := [o for o in overrides if o.partition(".")[0] not in ("retrain", "workers", "seed")]:
        raise InputError(f"{fixed[0]!r}: of a run only retrain, workers and seed can be changed; name an experiment instead")
    open_run(path, trust=trust)
    return path, SearchPlan.of(read(path / EXPERIMENT, overrides))


def main(
    console: Console,
    plan: SearchPlan,
    directory: Path,
    proxies: Sequence[str],
    *,
    of_levels: int,
    each: int,
    run: Path | None = None,
    known: Mapping[str, Judgement] | None = None,
    among: Callable[[Architecture], bool] = lambda architecture: True,
) -> tuple[list[Judged], dict[str, Any]]:
    """Train networks at the target and at proxies, and write proxies.csv, proxies.json and proxies.png.

    Each training is a file of its own; the same command goes on with what was interrupted.

    Args:
        console: Where progress is shown.
        plan: The experiment; `[retrain]` says how networks are trained.
        directory: Where results go.
        proxies: As `Attempt.parse` reads them; those of `default` where there are none, unless something is known already.
        of_levels: Number of cost levels.
        each: Networks of each level.
        run: Run directory whose measurements say which networks are good; None screens random ones.
        known: Judgements by name that are compared besides; that of the target, where a table has it, is the truth.
        among: Whether a network may be taken.

    Returns:
        What each proxy is worth, and the content of proxies.json.

    Raises:
        InputError: Before anything starts.
        Interrupted: Once Ctrl-C or SIGTERM was heeded.
    """
    if of_levels < 1 or each < 2:
        raise InputError(f"--levels {of_levels}, --each {each}: at least 1 level, and 2 networks of it to compare")
    target, metric = Attempt(Proxy()), plan.problem.task.metric.name
    higher = plan.problem.task.metric.best is not None
    sign = 1.0 if higher else -1.0
    column = f"{metric}_percent" if plan.problem.task.metric.unit == "%" else metric
    known = known or {}
    attempts = list(dict.fromkeys(Attempt.parse(text) for text in proxies)) or ([] if known else default(plan))
    if not attempts and not known:
        raise InputError(f"{plan.problem.space.name} has nothing that could be halved at these images; name a --proxy")
    if target in attempts:
        raise InputError("--proxy target: the target is trained in any case; leave it out")
    check(plan, [attempt.proxy for attempt in attempts], teaching=False)
    if plan.retraining.parts.distill:
        raise InputError(f"{plan.retraining.named('distill')}: proxies are compared without a teacher; write retrain.distill=0")
    pool = _sampled(plan) if run is None else _measured(plan, run)
    pool = {a: error for a, error in pool.items() if among(a)}
    candidates = _of_levels(plan, pool, of_levels, each * (SCREENED if run is None else 1), each)
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()  # trials change their working directory
    stop = stop_file(directory)
    places = [*([] if TARGET in known else [target]), *attempts]
    training = plan.workers.ray and bool(places)
    clustered = cluster(plan.workers, trainers=plan.retraining.workers) if training else nullcontext()
    with heeding_ctrl_c(stop, console.print), clustered, alone_in(directory, "run.lock"), logging_to(directory):
        stop.unlink(missing_ok=True)

        def trained(wanted: Sequence[tuple[Attempt, Architecture]], seed: int) -> pd.DataFrame:
            members = [_member(plan, directory, attempt, a, seed) for attempt, a in wanted]
            with Display(console) as display:
                return retrain_all(plan, directory, members, display)

        if run is None:
            cheapest = min(attempts, key=lambda attempt: _cost(plan, attempt))
            screened = [a for level in candidates.values() for a in level]
            console.print(f"{len(screened)} networks of {len(candidates)} levels are screened at {cheapest}", highlight=False)
            results = trained([(cheapest, a) for a in screened], plan.seed + _SCREENING)
            worth = {a: sign * v for a, v in zip(screened, _values(results, metric), strict=True) if not math.isnan(v)}
            candidates = {
                k: sorted((a for a in level if a in worth), key=lambda a: -worth[a])[:each] for k, level in candidates.items()
            }
        good = [a for level in candidates.values() for a in level]
        wanted = [(place, a) for place in places for a in good]
        named = [str(place) for place in places] + [name for name in known if name != TARGET]
        console.print(f"{len(good)} good networks of {len(candidates)} levels: {', '.join(named)}", **_PLAIN)
        results = trained(wanted, plan.seed) if wanted else pd.DataFrame()
    cost, price = _price(plan)
    at_level = {a: number for number, level in candidates.items() for a in level}
    judgements = [(name, how.merits(good), how.seconds) for name, how in known.items()]
    table = pd.DataFrame(
        [(a, str(place)) for place, a in wanted] + [(a, name) for name, _, _ in judgements for a in good],
        columns=["arch", "proxy"],
    )
    table[column] = _values(results, metric) + [sign * value for _, merits, _ in judgements for value in merits]
    trainings = results.get("seconds", pd.Series(math.nan, range(len(wanted))))
    table["seconds"] = [*trainings, *(seconds for _, _, seconds in judgements for _ in good)]
    table.insert(1, "level", table["arch"].map(at_level))
    table.insert(2, cost, table["arch"].map(price))
    table["arch"] = table["arch"].map(plan.problem.space.format)
    # A network is compared where it could be trained everywhere.
    incomplete = set(table.loc[table[column].isna(), "arch"])
    table = table[~table["arch"].isin(incomplete)].reset_index(drop=True)
    for arch in sorted(incomplete):
        console.print(f"warning: {arch} could not be judged everywhere, and is left out", **_PLAIN)
    if table.empty:
        reason = f", the last one: {results[FAILURE].iloc[-1]}" if len(results) else ""
        raise RunError(f"not one network could be judged everywhere{reason}")
    records.write(table, directory / TABLE)
    judged, seconds = judge(table, column, higher=higher), float(table.loc[table["proxy"] == TARGET, "seconds"].mean())
    summary = {
        "advice": advice(judged, seconds),
        "target_seconds": None if math.isnan(seconds) else seconds,
        "levels": len(candidates),
        "proxies": [plain(j) for j in judged],
    }
    write_text(directory / SUMMARY, json.dumps(summary, indent=2) + "\n")
    with plots.style(), replacing(directory / PICTURE) as temporary:
        picture(judged, seconds, len(good)).figure.savefig(temporary, dpi=150)
    return judged, summary


def _values(results: pd.DataFrame, metric: str) -> list[float]:
    """Values of the metric of trainings, NaN for one that failed."""
    return [float(v) for v in results[metric]] if metric in results else [math.nan] * len(results)


def default(plan: SearchPlan) -> list[Attempt]:
    """List the proxies to try where nobody names any: the experiment's own, and one for each thing that can be halved."""
    problem = plan.problem
    extent = problem.space.extent
    sizes = [min(problem.data.image[1:]) // by for by in (2, 4)] if problem.data.has_images and not problem.task.maps else []
    halved = [*(f"size={size}" for size in sizes), *(f"{key}={value // 2}" for key, value in extent.items())]
    found = [plan.proxy] if plan.proxy else []
    for text in halved or ["share=0.5", "share=0.25"]:
        with suppress(InputError):  # it cannot be as small
            proxy = Proxy.parse(text)
            problem.at(proxy)
            found.append(proxy)
    return [Attempt(proxy) for proxy in dict.fromkeys(found)]


def _cost(plan: SearchPlan, attempt: Attempt) -> float:
    """Estimate what a training costs, by the multiplications of the largest network and the images that it sees."""
    at = plan.problem.at(attempt.proxy)
    images = len(at.data.train) * (attempt.epochs or plan.retraining.parts.epochs)
    return float(at.space.macs(at.space.largest()) * images)


def _price(plan: SearchPlan) -> tuple[str, Callable[[Architecture], float]]:
    """Return the cost that levels are made of: the first objective after the error that is computed, or else the MACs."""
    computed = [o for o in plan.problem.objectives[1:] if not isinstance(o, Probe)]
    return (computed[0].column, lambda a: float(computed[0].cost(a, {}))) if computed else ("macs", plan.problem.space.macs)


def _sampled(plan: SearchPlan) -> dict[Architecture, float]:
    """Random networks, none of which is known to be better than another."""
    space = plan.problem.space
    return dict.fromkeys(sample(space, [range(n) for n in space.sizes], CANDIDATES, plan.seed), 0.0)


def _measured(plan: SearchPlan, run: Path) -> dict[Architecture, float]:
    """The networks that a run has measured, with their mean error at its own proxy: on the whole validation part where they
    were there."""
    error = plan.problem.columns[0]
    table = records.read(run / records.EVALUATIONS, [error, "arch", "kind"])
    if "proxy" in table:
        table = table[table["proxy"] == str(plan.proxy)]
    judged = table[table["kind"] == records.VALIDATION]
    means = table.groupby("arch")[error].mean().to_dict() | judged.groupby("arch")[error].mean().to_dict()
    networks = records.parsed(run / records.EVALUATIONS, means, plan.problem.space.parse)
    return dict(zip(networks, map(float, means.values()), strict=True))


def _of_levels(
    plan: SearchPlan, pool: dict[Architecture, float], of_levels: int, each: int, least: int
) -> dict[int, list[Architecture]]:
    """Choose levels all over the range of costs, and of each the networks of least error.

    Args:
        plan: Prices networks.
        pool: Networks and what is known of their error.
        of_levels: Number of levels.
        each: Networks of each level, at most.
        least: Networks that a level has to have.

    Raises:
        InputError: Where no level has so many.
    """
    _, price = _price(plan)
    networks = [a for a in pool if price(a) > 0]
    costs: Floats = np.array([price(a) for a in networks])
    members: dict[int, list[Architecture]] = {}
    for number, a in zip(levels(costs), networks, strict=True):
        members.setdefault(int(number), []).append(a)
    full = sorted(number for number, level in members.items() if len(level) >= least)
    if not full:
        most = max(map(len, members.values()), default=0)
        raise InputError(
            f"no cost level has {least} networks, the fullest {most}; lower --each, or take an experiment in place of a run"
        )
    chosen = [full[i] for i in sorted({round(x) for x in np.linspace(0, len(full) - 1, of_levels)})]
    return {number: sorted(members[number], key=lambda a: (pool[a], a))[:each] for number in chosen}


def _member(plan: SearchPlan, directory: Path, attempt: Attempt, architecture: Architecture, seed: int) -> Member:
    """Name a training after all that decides its result, so that another experiment's is not taken for it."""
    arch = plan.problem.space.format(architecture)
    epochs, plain = attempt.epochs or plan.retraining.parts.epochs, plan.experiment.to_dict()
    settings = settings_of(plan, seed) | {"epochs": epochs}
    what = [arch, str(attempt.proxy), settings, plain["data"], plain["space"]]
    name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    folder = directory / "trainings"
    folder.mkdir(exist_ok=True)
    return Member(arch, folder / f"{name}.json", at=attempt.proxy, epochs=attempt.epochs, seed=seed, settings=settings)
