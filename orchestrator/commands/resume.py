"""`paretoray resume` and `retrain`, which go on with a run directory."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from orchestrator.commands.base import Answer, Command, Place, told, trusting
from orchestrator.commands.candidates import Settings, names, runs
from orchestrator.commands.front import answer, go
from orchestrator.errors import InputError

CHANGES = Settings("budget", "retrain", "front", "workers", "logging", "objectives")


@click.command(cls=Command)
@click.argument("directory", type=Place(), shell_complete=runs)
@click.argument("settings", nargs=-1, metavar="[section.key=value ...]", shell_complete=CHANGES)
@trusting
def resume(directory: Path, settings: tuple[str, ...], trusted: bool) -> Answer:
    """Continue a run, or a finished one with a larger budget.

    The run in DIRECTORY goes on from its last checkpoint; of a finished one nothing is started unless a setting changes. What
    can change is the budget, retrain.*, front.members and workers.*; the rest is what was searched, and stays. Objectives can
    be added; they are measured for the members of the front.

    \b
    paretoray resume runs/photos
    paretoray resume runs/photos budget.epochs=150 retrain.members=8
    paretoray resume runs/photos objectives.latency@me={}
    """
    from orchestrator.config import overrides
    from orchestrator.config.plan import SearchPlan
    from orchestrator.runs import extension, run
    from orchestrator.runs.directory import open_run
    from orchestrator.runs.mirror import settle
    from orchestrator.runs.staging import shown

    if settings:
        plan = extension.apply(directory, overrides.changes(settings), trust=trusted)
    else:
        plan = SearchPlan.of(open_run(directory, trust=trusted))
    if run.is_done(plan, directory):
        settle(directory, told)
        known = answer(plan, directory)
        said = [f"{shown(directory)} is finished: {directory / 'report.html'}", extension.how_to_go_on(plan, directory)]
        return Answer({**known.facts, "started": False}, said)
    run.check(plan)
    return go(plan, directory)


@click.command(cls=Command)
@click.argument("directory", type=Place(), metavar="RUN", shell_complete=runs)
@click.argument("settings", nargs=-1, metavar="[key=value ...]", shell_complete=Settings("retrain", bare="retrain"))
@click.option("--members", type=int, help="Number of networks of the front that are trained, spread over it.")
@click.option(
    "--member", "numbers", type=int, multiple=True, metavar="N",
    help="Number of a network, as on the report, that is trained besides; may be given more than once.",
)  # fmt: skip
@click.option("--epochs", type=int, help="Passes over the images, for each of them.")
@click.option("--recipe", shell_complete=names("recipe"), help="Recipe of training, as `paretoray list recipes` shows them.")
@trusting
def retrain(
    directory: Path,
    settings: tuple[str, ...],
    members: int | None,
    numbers: tuple[int, ...],
    epochs: int | None,
    recipe: str | None,
    trusted: bool,
) -> Answer:
    """Train more members of a front from scratch, or longer.

    RUN is the directory of a finished run. Further settings are keys of [retrain]. Networks that were trained with other
    settings are trained anew, so that all of them are comparable; whatever is not given stays as it was.

    \b
    paretoray retrain runs/photos --members 8
    paretoray retrain runs/photos --member 4 --member 7
    paretoray retrain runs/photos --recipe darts --epochs 100 cutout=8 seeds=3
    """
    from orchestrator.config import overrides
    from orchestrator.config.plan import SearchPlan
    from orchestrator.runs import extension, run
    from orchestrator.runs.directory import open_run
    from orchestrator.runs.networks import read_rows

    options = {"members": members, "epochs": epochs, "recipe": recipe}
    given = [f"retrain.{key}={value}" for key, value in options.items() if value is not None]
    given += [text if text.startswith("retrain.") else f"retrain.{text}" for text in settings]
    if not given and not numbers:
        raise InputError("nothing to change; write --members 8, --member 4, --epochs 100 or --recipe darts, say")
    plan = SearchPlan.of(open_run(directory, trust=trusted))
    if numbers:
        given.append(f"retrain.also={sorted({*plan.retraining.also, *numbers})}")
    if not run.is_searched(plan, directory):
        more = " ".join(map(shlex.quote, given))
        raise InputError(f"the search of {directory} is not finished; go on with: paretoray resume {directory} {more}")
    known = read_rows(directory)["member"].tolist()
    if unknown := [number for number in numbers if number not in known]:
        listed = ", ".join(map(str, sorted(known))) or "none, as no network keeps the limits"
        raise InputError(f"--member {unknown[0]}: the members of the front of {directory} are {listed}")
    plan = extension.apply(directory, overrides.changes(given), trust=trusted)
    run.check(plan)
    return go(plan, directory)
