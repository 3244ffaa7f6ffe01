"""`paretoray data`."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.commands.base import Answer, Command
from orchestrator.commands.candidates import Settings, datasets


@click.command(cls=Command)
@click.argument("source", metavar="PATH|module:function|NAME", shell_complete=datasets)
@click.argument("settings", nargs=-1, metavar="[data.KEY=value | task.KEY=value ...]", shell_complete=Settings("data", "task"))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Draw examples of every class or range of a target: a PNG, or a folder for one.",
)
def data(source: str, settings: tuple[str, ...], out: Path | None) -> Answer:
    """Print how data is understood, and what looks wrong with it.

    Data is a folder of images, your own function, or a data set by name, as `paretoray list datasets` shows them. Targets other
    than classes are named by their task.

    \b
    paretoray data photos data.size=32 --out photos.png
    paretoray data scans:load data.part=left
    paretoray data patients:stay task=regression --out patients.png
    """
    from orchestrator.config.overrides import task_of
    from orchestrator.data import inspection, loaders

    task = task_of([s for s in settings if s.partition("=")[0].partition(".")[0] == "task"])
    own = [s for s in settings if s.partition("=")[0].partition(".")[0] != "task"]
    images = loaders.load(inspection.source_of(source, own), task)
    doubts = inspection.doubts_about(images)
    text = [f"{key:<11} {value}" for key, value in inspection.words(images).items()]
    text += [f"{'warning':<11} {doubt}" for doubt in doubts]
    facts = {**inspection.facts(images), "warnings": doubts}
    if out is not None:
        drawn = inspection.draw(images, out)
        facts["examples"] = drawn[0] if len(drawn) == 1 else drawn
        text.append(f"{'examples':<11} {', '.join(map(str, drawn))}")
    return Answer(facts, text)
