"""`paretoray schema`, by which editors check and complete experiment files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from orchestrator.commands.base import Answer, Command


@click.command(cls=Command)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it into a file, which is replaced.")
def schema(out: Path | None) -> Answer:
    """Print the JSON Schema of experiment files, for editors.

    It has the settings of all searchers, spaces, objectives and so on that are shipped or installed. In VS Code with Even
    Better TOML, begin a file with `#:schema experiment.schema.json`, the path of the schema from there.

    \b
    paretoray schema --out experiment.schema.json
    """
    from analysis.files import write_text
    from orchestrator.config.schema import experiment_schema

    found = experiment_schema()
    if out is None:
        return Answer(found, [json.dumps(found, indent=2)])
    write_text(out, json.dumps(found, indent=2) + "\n")
    return Answer({"schema": out}, [f"schema: {out}; begin experiment files with: #:schema {out.name}"])
