"""`paretoray profile` and `devices`, which measure and compare devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from orchestrator.commands.base import Answer, Command, interruptible
from orchestrator.commands.candidates import Settings, names, words
from orchestrator.errors import InputError


@click.command(
    cls=Command,
    groups={
        "What is measured, and where": (
            "--device", "--dtype", "--batch", "--threads", "--energy", "--address", "--accelerator", "--label", "--hardware",
        ),
        "How precisely": ("--networks", "--validation", "--rounds", "--seconds", "--seed"),
        "From a table, in place of measuring": ("--fit", "--from-table", "--column", "--cost", "--source"),
    },
)  # fmt: skip
@click.argument("settings", nargs=-1, metavar="[key=value ...]", shell_complete=Settings("space", bare="space"))
@click.option(
    "--space",
    required=True,
    shell_complete=names("space"),
    help="The space to measure; key=value are its settings, image and classes among them.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The device's file, NAME.toml.")
@click.option(
    "--device",
    default="cpu",
    shell_complete=words("cpu", "cuda", "onnxruntime"),
    show_default=True,
    help="cpu, cuda, or onnxruntime (on the CPU).",
)
@click.option("--batch", type=int, default=1, show_default=True, help="Images per pass.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads of the CPU.")
@click.option(
    "--dtype",
    default="float32",
    shell_complete=words("float32", "float16", "bfloat16"),
    show_default=True,
    help="float32, float16 or bfloat16.",
)
@click.option("--resolution", type=int, help="Height and width of the images.")
@click.option("--networks", type=int, help="Random networks that costs are fitted to.  [default: 100, or 300 with --fit]")
@click.option(
    "--validation", type=int, default=50, show_default=True, help="Other networks, on which the predictions are tried."
)
@click.option("--rounds", type=int, default=5, show_default=True, help="Measurements of each operation and network.")
@click.option("--seconds", type=float, default=0.02, show_default=True, help="Shortest time of a measurement.")
@click.option("--energy", is_flag=True, help="Read the device's energy counter, too.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice of networks.")
@click.option("--fit", "table", type=click.Path(path_type=Path), help="Measure nothing; fit to a table of measured networks.")
@click.option(
    "--from-table", "operations", type=click.Path(path_type=Path),
    help="Measure nothing; add up a table of single operations, as ProxylessNAS and Once-for-all have them (YAML, JSON, text).",
)  # fmt: skip
@click.option("--column", help="With --fit: the column; in ms (mJ for energy), or with its unit in the name, as latency_us.")
@click.option(
    "--cost",
    default="latency",
    shell_complete=words("latency", "energy"),
    show_default=True,
    help="With --fit: what it is, latency or energy.",
)
@click.option("--hardware", help="The device in words.  [default: what the measured machine says of itself]")
@click.option("--source", help="With --fit and --from-table: where the table is from.")
@click.option(
    "--address", help="Ray cluster of which a node is to be measured; auto finds the one that this machine is part of."
)
@click.option("--accelerator", help="With --address: the node's accelerator type, as H100.")
@click.option("--label", help="With --address: the node's label, KEY=VALUE.")
@click.pass_context
def profile(context: click.Context, /, **given: Any) -> Answer:
    """Measure a device, for latency@NAME and energy@NAME.

    Operations and random networks of a space are measured, a cost for each operation is fitted to them, and its predictions are
    tried on other networks. The same command goes on with a measurement that was interrupted.

    \b
    paretoray profile --space nas-bench-201 channels=16 cells=5 --out me.toml
    paretoray profile --space proxyless --resolution 224 --device onnxruntime --threads 2 --out me.toml
    paretoray profile --space nas-bench-201 --fit measured.csv --column latency_ms --hardware "my phone" --out phone.toml
    paretoray profile --space proxyless --resolution 224 --from-table mobile_trim.yaml --out pixel.toml
    paretoray search objectives.latency@me={} space.channels=16 space.cells=5 data.name=cifar10
    """
    from orchestrator.profiling import command as profiling

    source = click.core.ParameterSource.COMMANDLINE
    said = {option for option in given if context.get_parameter_source(option) is source}
    unused = profiling.unused(said)
    if unused:
        named = sorted("fit" if option == "table" else option for option in unused)
        one = "with --from-table" if given["operations"] else f"with{'' if given['table'] else 'out'} --fit"
        raise InputError(f"{', '.join(f'--{option}' for option in named)} means nothing {one}; leave it out")
    console = Console()
    with interruptible("interrupted; what was measured is kept, and the same command goes on"):
        written = profiling.main(console, **given)
    return Answer({"profiles": [w.to_dict() for w in written]}, [line for w in written for line in w.lines()])


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[DEVICE ...]", shell_complete=names("device"))
@click.option("--space", shell_complete=names("space"), help="Compare only profiles of this space.")
@click.option(
    "--cost", default="latency", shell_complete=words("latency", "energy"), show_default=True, help="latency or energy."
)
@click.option("--out", type=click.Path(path_type=Path), help="Draw how they disagree: a PNG for each kind of networks.")
def devices(names: tuple[str, ...], space: str | None, cost: str, out: Path | None) -> Answer:
    """Compare devices: how well they predict, and how far they agree.

    They agree where the same networks are fast on them. DEVICE is a name that `paretoray list devices` prints, or a file; by
    default all that are shipped are compared.

    \b
    paretoray devices --space nas-bench-201
    paretoray devices pixel3 raspi4 me.toml --out pictures
    """
    from hw_profiles.profile import UNITS
    from orchestrator.profiling import compare

    groups = compare.groups(names, space, cost, out)
    return Answer({"cost": cost, "unit": UNITS[cost], "groups": [group.to_dict() for group in groups]}, compare.text(groups))
