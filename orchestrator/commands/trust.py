"""`paretoray trust` and `proxies`, which measure how far cheap judgements of networks are right."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.commands.base import Answer, Command, Place, interruptible, told, trusting
from orchestrator.commands.candidates import Settings, runs, tables

if TYPE_CHECKING:
    from analysis.proxies import Judged


@click.command(cls=Command)
@click.argument("directory", type=Place(), metavar="DIR", shell_complete=runs)
@click.option(
    "--table", "tables", multiple=True, type=click.Path(path_type=Path), shell_complete=tables,
    help="Trained networks: Parquet, CSV or JSON with a column arch, or a shipped table's name; several are joined by arch.",
)  # fmt: skip
@click.option("--column", help="The table's column that is the truth.")
@click.option(
    "--maximize", multiple=True, metavar="COLUMN", help="Column of which more is better, where its name does not say so."
)
@click.option("--minimize", multiple=True, metavar="COLUMN", help="Column of which less is better, likewise.")
@click.option("--networks", type=int, default=100, show_default=True, help="Random networks to rank.")
@click.option(
    "--retrain", "members", type=int, help="Without --table: number of them that are trained from scratch.  [default: 8]"
)
@click.option("--levels", "of_levels", type=int, default=4, show_default=True, help="Cost levels of good networks.")
@click.option(
    "--each", type=int,
    help="Networks of each level that are judged at the target and the proxies, too; 0 for none.  [default: 3]",
)  # fmt: skip
@click.option("--images", type=int, help="Images of the validation set to measure inherited accuracies on; all by default.")
@trusting
def trust(directory: Path, **given: Any) -> Answer:
    """Measure whether shared weights rank networks as they truly are.

    DIR is the run directory of a finished search. The truth is a table, or training from scratch with the search's own
    [retrain] settings. Random networks are ranked, and networks that the search itself found good, within levels of one cost:
    by the shared weights, and trained alone at each of the search's proxies, with what each judgement costs. The same
    command goes on with what was interrupted. Writes trust.csv, trust.json, and report.html anew.

    \b
    paretoray trust runs/photos --retrain 12
    paretoray trust runs/tiny --table digits-tiny --column test_accuracy
    """
    from analysis.proxies import judged_of
    from analysis.trust_section import findings, warnings
    from orchestrator.runs.mirror import mirrored
    from orchestrator.trust import command as trust

    console = Console()
    with (
        interruptible("interrupted; what was measured and trained is kept, and the same command goes on"),
        mirrored(directory, told),
    ):
        quality = trust.main(console, directory, **given)
    table = Table("what", "value", "what it means")
    for row in findings(quality):
        table.add_row(*map(escape, row))
    report, flags, good = directory / "report.html", warnings(quality), quality.get("good")
    facts = {"run": directory, "report": report, **quality, "warnings": flags}
    compared = [_compared(map(judged_of, good["proxies"])), good["advice"]] if good else []
    return Answer(facts, [table, *compared, *(f"warning: {flag}" for flag in flags), f"report: {report}"])


def _compared(judged: Iterable[Judged]) -> Table:
    """Put what judgements of good networks are worth into a table."""
    from analysis.proxies import shown

    table = Table("proxy", "seconds a network", "tau, all", "concordance within cost levels")
    for row in judged:
        table.add_row(escape(row.name), f"{row.seconds:.3g}", shown(row.tau), shown(row.within))
    return table


@click.command(cls=Command)
@click.argument("settings", nargs=-1, metavar="[RUN | RUN.toml] [section.key=value ...]", shell_complete=Settings(files=True))
@click.option(
    "--proxy", "named", multiple=True, metavar="key=V,key=V,...",
    help="A proxy to try, as size=8,cells=3,epochs=10; may be given more than once.  [default: pixels, cells, channels halved]",
)  # fmt: skip
@click.option("--levels", "of_levels", type=int, default=5, show_default=True, help="Cost levels.")
@click.option("--each", type=int, default=4, show_default=True, help="Good networks of each level.")
@click.option(
    "--out", type=Place("either"), help="Folder, or its URL; by default RUN/proxies, or runs/proxies and the time of day."
)
@trusting
def proxies(
    settings: tuple[str, ...], named: tuple[str, ...], of_levels: int, each: int, out: Path | None, trusted: bool
) -> Answer:
    """Measure whether networks rank the same with less of everything.

    A proxy has smaller networks or less data than the target, the experiment itself. Some networks, chosen within cost levels
    and among good ones, are trained at the target and at every proxy with the experiment's [retrain] settings: on the train
    part, judged on the validation part. Which ones are good is said by the measurements of a run directory, or else by the
    cheapest proxy. The same command with the same --out goes on with what was interrupted. Writes proxies.csv, proxies.json and
    proxies.png.

    \b
    paretoray proxies runs/photos --proxy size=16,cells=1 --proxy size=8,cells=3
    paretoray proxies run.toml retrain.epochs=12 --proxy size=8,epochs=6 --levels 6 --each 5 --out runs/proxies
    """
    from orchestrator.config.overrides import arguments
    from orchestrator.runs.directory import fresh
    from orchestrator.runs.mirror import mirrored
    from orchestrator.runs.staging import opened, shown
    from orchestrator.trust import proxies as study

    path, overrides = arguments(settings)
    path = None if path is None else opened(path, say=told)
    run, plan = study.experiment(path, overrides, trust=trusted)
    directory = out or (run / "proxies" if run else fresh(Path("runs") / f"proxies-{time.strftime('%Y%m%d-%H%M%S')}"))
    console = Console()
    again = f"interrupted; what was trained is kept, and the same command with --out {shown(directory)} goes on"
    with interruptible(again), mirrored(out or run or directory, told):
        judged, summary = study.main(console, plan, directory, named, of_levels=of_levels, each=each, run=run)
    picture = directory / study.PICTURE
    facts = {"directory": directory, "table": directory / study.TABLE, "picture": picture, **summary}
    return Answer(facts, [_compared(judged), summary["advice"], f"picture: {picture}"])
