"""`paretoray report` and `watch`, which show run directories."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.commands.base import Answer, Command, Place, told, trusting
from orchestrator.commands.candidates import runs


@click.command(cls=Command)
@click.argument("directories", nargs=-1, required=True, type=Place("page"), metavar="DIR ...", shell_complete=runs)
@click.option(
    "--with", "references", multiple=True, type=Place("page"), metavar="DIR", shell_complete=runs,
    help="Another run, or a network of `paretoray train`, to be shown beside the front; may be given more than once.",
)  # fmt: skip
@trusting
def report(directories: tuple[Path, ...], references: tuple[Path, ...], trusted: bool) -> Answer:
    """Write the report of run directories anew.

    \b
    paretoray report runs/photos
    paretoray report runs/photos --with runs/other --with runs/darts-v2
    """
    from orchestrator.config.plan import SearchPlan
    from orchestrator.runs.directory import open_run
    from orchestrator.runs.mirror import mirrored
    from orchestrator.runs.report import write_report
    from orchestrator.runs.staging import shown

    reports = []
    for directory in directories:
        plan = SearchPlan.of(open_run(directory, trust=trusted))
        with mirrored(directory, told, required=False):
            reports.append({"run": shown(directory), "report": write_report(plan, directory, references, trust=trusted)})
    return Answer({"reports": reports}, [str(report["report"]) for report in reports])


@click.command(cls=Command, answers=False)
@click.argument("directory", type=Place("page"), metavar="RUN|DIR", shell_complete=runs)
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, of loopback.")
def watch(directory: Path, port: int, host: str) -> None:
    """Show a run, or a folder of runs, in a browser while it goes on.

    The page is that of the report, made anew whenever there are results, with progress, time left, workers and the end of the
    log. Nothing is written; Ctrl-C ends it, and not the run. For a run on another machine, forward the port with ssh -L.

    \b
    paretoray watch runs/photos
    paretoray watch runs --port 8000
    """
    from orchestrator.runs.staging import followed, shown
    from orchestrator.runs.watch import Watch

    watching = Watch(directory, host, port)
    click.echo(f"{shown(directory)} is shown at {watching.address} (Ctrl-C ends this)")
    try:
        with followed(directory, told):
            watching.serve()
    except KeyboardInterrupt:
        click.echo("no longer shown")
