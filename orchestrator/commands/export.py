"""`paretoray export`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from orchestrator.commands.base import Answer, Command, Place, interruptible, trusting
from orchestrator.commands.candidates import formats, runs


@click.command(cls=Command)
@click.argument("directory", type=Place(), metavar="RUN", shell_complete=runs)
@click.option("--member", type=int, help="Number of the network, as on the report and in front.csv.")
@click.option("--knee", is_flag=True, help="The knee of the front, which the report recommends.")
@click.option(
    "--under", multiple=True, metavar="OBJECTIVE=LIMIT",
    help="The lowest test error within a limit, as latency=5; may be given more than once.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the files; it must be empty or new.")
@click.option(
    "--formats",
    metavar="A,B,...",
    shell_complete=formats,
    help="Some of network, onnx, pt2, torchscript, int8.  [default: network,onnx,pt2]",
)
@trusting
def export(
    directory: Path,
    member: int | None,
    knee: bool,
    under: tuple[str, ...],
    out: Path,
    formats: str | None,
    trusted: bool,
) -> Answer:
    """Write a network of a run as files that need no paretoray.

    RUN is a run directory. Each file is tried against the network. network.py is readable PyTorch source of this network alone,
    whose weights are in network.safetensors; network.onnx runs in ONNX Runtime, network.pt2 with torch.export.load.
    Preprocessing and classes are in all of them, and in preprocess.py; card.md says what the network is, how good, and how to
    use it.

    \b
    paretoray export runs/photos --member 3 --out cats
    paretoray export runs/photos --under latency=5 --formats onnx,int8 --out cats
    """
    from orchestrator.export import command
    from orchestrator.export.choice import choose

    chosen = command.parse_formats(formats)
    command.check_free(out)
    number = choose(directory, member, knee, under)
    invocation = shlex.join(["paretoray", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "paretoray" else ""

    def say(name: str) -> None:
        if sys.stderr.isatty():  # torch's exporters take minutes with large networks
            click.echo(f"writing {name}", err=True)

    with interruptible("interrupted; nothing was kept"):
        done = command.export_member(directory, number, out, chosen, trust=trusted, command=invocation, say=say)
    return Answer(done.to_dict(), done.lines(), code=1 if done.refused else 0)
