"""`paretoray search`."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.commands.base import Answer, Command, Place
from orchestrator.commands.candidates import Settings
from orchestrator.commands.front import go

if TYPE_CHECKING:
    from orchestrator.runs.estimate import Estimate


@click.command(cls=Command)
@click.argument("settings", nargs=-1, metavar="[RUN.toml] [section.key=value ...]", shell_complete=Settings(files=True))
@click.option(
    "--out", type=Place("new"), help="Run directory, or its URL in a store; the default is runs/ and the time of day."
)
@click.option(
    "--sweep",
    "varied",
    multiple=True,
    metavar="section.key=V,V,...",
    shell_complete=Settings("searcher", "training", "budget", "seed"),
    help="Search once for each value, side by side, and merge the fronts; several of them make a grid.",
)
@click.option("--seeds", type=int, default=1, show_default=True, help="Number of seeds; each is a separate search.")
@click.option("--dry-run", is_flag=True, help="Check everything, print what would run and for about how long; start nothing.")
def search(settings: tuple[str, ...], out: Path | None, varied: tuple[str, ...], seeds: int, dry_run: bool) -> Answer:
    """Search for a front, retrain some of it, and write a report.

    Without RUN.toml it is the built-in experiment: TND-NAS over NAS-Bench-201 cells on scikit-learn's digits.

    \b
    paretoray search
    paretoray search data.name=folder data.path=photos data.size=32 --out runs/photos
    paretoray search objectives.macs={} searcher.exponents=-0.07,-0.1,-0.07
    paretoray search searcher.name=proxyless-r --sweep searcher.power=0.02,0.05,0.1 --seeds 2
    paretoray search objectives.latency.at_most=2.5 workers.ray=false workers.count=1 --dry-run
    """
    from orchestrator.config.overrides import arguments
    from orchestrator.config.plan import SearchPlan
    from orchestrator.runs import run, sweep
    from orchestrator.runs.directory import check_out, fresh
    from orchestrator.runs.estimate import estimate
    from orchestrator.runs.proxy import settled

    path, overrides = arguments(settings)
    experiments = sweep.plan(path, overrides, varied, seeds)
    first = experiments[0][1]
    if out is not None:
        check_out(out)
    plan, why = settled(SearchPlan.of(first))
    if dry_run:
        return _answer(estimate(plan), len(experiments), why)
    if why:
        click.echo(f"proxy = auto: {why}")
    # A sweep's searches agree in their data, space, proxy and objectives.
    searches = [
        (differs, SearchPlan(replace(experiment, proxy=plan.proxy), plan.problem)) for differs, experiment in experiments
    ]
    for _, chosen in searches:
        run.check(chosen)
    name = re.sub(r"[^\w.-]", "-", f"{first.searcher.name}-{first.data.name}")
    directory = out or fresh(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    return go(plan, directory, new=True, searches=searches if len(searches) > 1 else ())


def _answer(expected: Estimate, searches: int, why: str | None) -> Answer:
    """Answer what would run.

    Args:
        expected: Estimate of one search.
        searches: Number of searches of a sweep.
        why: Why a proxy was chosen; None where it was not chosen.
    """
    from orchestrator.runs.display import duration

    words = expected.words | ({"proxy": f"auto: {why}"} if why else {})
    words["time"] = f"about {duration(expected.seconds)} on this machine, start-up excluded; nothing was started"
    text = [f"{searches} searches; the first of them:"] if searches > 1 else []
    facts = {**expected.facts, "proxy_chosen_because": why, "searches": searches, "seconds": expected.seconds}
    return Answer(facts, [*text, *(f"{title:<11} {said}" for title, said in words.items())])
