"""`paretoray bench`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from orchestrator.commands.base import Answer, Command, Place, interruptible, told
from orchestrator.commands.candidates import Settings, names, searchers, tables

PLAYED = "random-search,nsga2,pymoo-algorithm:algorithm=SMSEMOA,aging-evolution,local-search,tnd-nas,surrogate-search"


@click.command(
    cls=Command,
    groups={
        "On a table of trained networks": (
            "--table", "--space", "--objectives", "--maximize", "--minimize", "--sha256", "--budget", "--time", "--workers",
        ),
        "Whole searches": ("--seconds", "--images"),
    },
)  # fmt: skip
@click.argument("settings", nargs=-1, metavar="[RUN.toml] [section.key=value ...]", shell_complete=Settings(files=True))
@click.option(
    "--table", "paths", multiple=True, type=click.Path(path_type=Path), shell_complete=tables,
    help="Trained networks: Parquet, CSV or JSON with a column arch, or a shipped table's name; several are joined by arch.",
)  # fmt: skip
@click.option("--space", shell_complete=names("space"), help="The space that arch is written in.")
@click.option("--objectives", metavar="A,B,...", help="Columns of the table, an accuracy or error first.")
@click.option(
    "--maximize", multiple=True, metavar="A", help="A column of which more is better, where its name does not say so."
)
@click.option("--minimize", multiple=True, metavar="A", help="A column of which less is better, likewise.")
@click.option(
    "--searchers",
    multiple=True,
    metavar="X,Y,...",
    shell_complete=searchers,
    help=f"Names, with settings as nsga2:population=40; may be given more than once.  [default: {PLAYED}]",
)
@click.option("--budget", type=float, help="Different architectures for each to evaluate.  [default: 400]")
@click.option("--time", "column", help="Column with the time of an evaluation; --budget is then in its unit.")
@click.option("--sha256", multiple=True, help="Expected SHA-256 of the table's file; one for each --table.")
@click.option("--seconds", type=float, help="Compare whole searches: seconds for each.")
@click.option("--images", type=float, help="Compare whole searches: images for each to train its weights on.")
@click.option("--seeds", type=int, help="Repetitions of each searcher.  [default: 20, or 3 of whole searches]")
@click.option("--workers", type=int, help="With a table: runs at a time, each on a CPU; by default as many as there are CPUs.")
@click.option(
    "--out", type=Place("either"), help="Folder, or its URL in a store; the default is runs/bench and the time of day."
)
def bench(settings: tuple[str, ...], **given: Any) -> Answer:
    """Compare searchers at equal cost.

    On a table of trained networks the cost is evaluations, and the default is the table that is shipped: every network of
    digits-tiny, trained on scikit-learn's digits. Whole searches train their own weights; they need an experiment, as
    `paretoray search` does, and --seconds or --images. With --table and --objectives their fronts are judged by it, otherwise
    by retraining.

    The same command goes on with a benchmark that was interrupted, or adds searchers and seeds to it, given its --out.

    \b
    paretoray bench
    paretoray bench --table nas-bench-201.parquet --space nas-bench-201 --objectives cifar10_val_accuracy,params \\
        --searchers random-search,nsga2,nsga2:population=40,tnd-nas --budget 200 --seeds 10
    paretoray bench space.name=digits-tiny objectives=error,parameters --seconds 60 \\
        --searchers tnd-nas,random-search,nsga-net:training.name=from-scratch:training.epochs=10
    """
    from orchestrator.bench import command as bench
    from orchestrator.runs.directory import fresh
    from orchestrator.runs.mirror import mirrored
    from orchestrator.runs.staging import shown

    console = Console()
    given["searchers"] = ",".join(given["searchers"]) or PLAYED
    directory = given.pop("out") or fresh(Path("runs") / f"bench-{time.strftime('%Y%m%d-%H%M%S')}")
    again = f"interrupted; what is finished is kept, and the same command with --out {shown(directory)} goes on"
    with interruptible(again), mirrored(directory, told):
        compared = bench.main(console, settings, directory, **given)
    table = Table()
    for head in compared.heads:
        table.add_column(head, overflow="fold")  # settings of a searcher are part of its name
    for row in compared.rows:
        table.add_row(*row)
    report = directory / "report.html"
    return Answer({"directory": directory, "report": report, **compared.facts}, [table, f"report: {report}"])
