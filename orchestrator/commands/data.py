"""`paretoray data`."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.commands.base import Command


@click.command(cls=Command)
@click.argument("source", metavar="PATH|module:function|NAME")
@click.argument("settings", nargs=-1, metavar="[data.KEY=value ...]")
@click.option("--out", type=click.Path(path_type=Path), help="Draw examples of every class: a PNG, or a folder for one.")
def data(source: str, settings: tuple[str, ...], out: Path | None) -> None:
    """Print how data is understood, and what looks wrong: a folder of images, your own function, or a data set by name.

    \b
    paretoray data photos data.size=32 --out photos.png
    paretoray data scans:load data.part=left
    """
    from orchestrator.data import inspection, loaders

    images = loaders.load(inspection.source_of(source, settings))
    for key, value in inspection.facts(images).items():
        click.echo(f"{key:<11} {value}")
    for doubt in inspection.doubts_about(images):
        click.echo(f"{'warning':<11} {doubt}")
    if out is not None:
        click.echo(f"{'examples':<11} {inspection.draw(images, out)}")
