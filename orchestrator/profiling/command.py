"""`paretoray profile`: measure a device, or fit one to measured networks, and write its file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis import plots
from hw_profiles.profile import UNITS, Profile, write
from orchestrator.config import overrides
from orchestrator.describe import describe
from orchestrator.errors import InputError, doing
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.objectives.predicted import read
from orchestrator.profiling.fitting import conclude, from_table
from orchestrator.profiling.measurements import measured
from orchestrator.profiling.plan import MeasurementPlan
from orchestrator.profiling.worker import MeasurementWorker
from orchestrator.runs.display import Display

MEASURING = frozenset(
    ("device", "batch", "threads", "dtype", "validation", "rounds", "seconds", "energy", "address", "accelerator", "label")
)
FITTING = frozenset(("cost", "source"))


def unused(options: Collection[str]) -> set[str]:
    """Find the options of `paretoray profile` that mean nothing beside the others."""
    return set(options) & (MEASURING if "table" in options else FITTING)


def main(
    console: Console,
    *,
    space: str,
    settings: Sequence[str],
    out: Path,
    resolution: int | None,
    networks: int | None,
    table: Path | None,
    column: str | None,
    cost: str,
    hardware: str | None,
    source: str | None,
    address: str | None,
    accelerator: str | None,
    label: str | None,
    **measuring: Any,
) -> None:
    """Write or complete the device file `out`, and a picture beside it. Raises InputError, RunError.

    Args:
        console: Where messages go.
        space: Name of the space.
        settings: `key=value` settings of the space.
        out: Device file, whose name is the device's.
        resolution: Side of the images in pixels; None for the space's.
        networks: Networks to fit to; None for 100 to measure, or 300 of a table.
        table: Table of measured networks to fit to; None to measure.
        column: Column of the table.
        cost: "latency" or "energy", of the column.
        hardware: Description of the device; None for what the machine says of itself, or the file's name.
        source: Origin of the table; None for its name.
        address: Ray cluster to measure on; None for this machine.
        accelerator: Type of GPU that the node must have.
        label: `KEY=VALUE` that the node must have.
        measuring: Further fields of `MeasurementPlan`.
    """
    space_settings = overrides.settings(settings)
    if resolution is not None:
        if "image" in space_settings:
            raise InputError("--resolution and image= say the same; leave one out")
        space_settings["image"] = [3, resolution, resolution]
    described = describe(space, None, space_settings).space
    if out.suffix != ".toml" or "@" in out.stem:
        raise InputError(f"--out {out}: the file's name is the device's, and ends in .toml")
    if out.exists():
        read(out)  # better known now than after an hour of measuring
    if (table is None) != (column is None):
        raise InputError("--fit TABLE and --column NAME belong together")
    if table is not None and column is not None:
        if cost not in UNITS:
            raise InputError(f"--cost {cost}; known are {', '.join(UNITS)}")
        about = {"source": source or f"{table.name}, column {column}"}
        benchmark = TabularBenchmark.read(table, described, [column])
        with doing(f"fitting costs to {table}, column {column}, for {out}"):
            profiles = [from_table(benchmark, cost, networks or 300, about, hardware or out.stem, measuring["seed"])]
    else:
        plan = MeasurementPlan(
            space=space,
            settings=described.settings,
            image=described.image,
            classes=described.classes,
            networks=networks or 100,
            **measuring,
        )
        profiles = []
        with station(plan, address, accelerator, label) as worker, Display(console) as display:
            plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
            rows = measured(
                plan, out.with_suffix(".measured.csv"), worker, display.profile, lambda text: console.print(text, **plain)
            )
            machine = worker.hardware()
        for kind in ("latency", "energy") if plan.energy else ("latency",):
            with doing(f"fitting costs to the {kind} in {out.with_suffix('.measured.csv')}, for {out}"):
                profile, busy = conclude(plan, rows, kind, machine | ({"device": hardware} if hardware else {}))
            profiles.append(profile)
        if busy:
            differ = f"rounds differ by {profile.protocol['spread']:.0%}"
            console.print(f"warning: the machine was busy all the time ({differ}); these figures are not precise", **plain)
    for profile in profiles:
        write(out, profile)
        picture = out.with_suffix(f".{profile.cost}.{profile.space.replace(':', '-')}.png")
        _draw(profile, out.stem, picture)
        quality = f"{profile.cost} of {profile.of}: {profile.validation}"
        console.print(quality, highlight=False, markup=False, soft_wrap=True)
        if profile.validation.poor:
            console.print("warning: that is a poor prediction; searches that use it will say so", highlight=False)
        use = f"use it as {profile.cost}@{out.stem}"
        console.print(f"written: {out} and {picture.name}; {use}", highlight=False, soft_wrap=True)


def _draw(profile: Profile, device: str, path: Path) -> None:
    validation = profile.validation
    with plots.style():
        figure = plots.new_figure(4.2, 4.2)
        unit = UNITS[profile.cost]
        title = f"{profile.cost} on {device} ({unit})"
        plots.draw_prediction(figure.subplots(), validation.measured, validation.predicted, title)
        figure.suptitle(f"{profile.of}\n{validation}".replace(", Kendall", "\nKendall"), fontsize=7)
        figure.savefig(path, dpi=200)


@contextmanager
def station(plan: MeasurementPlan, address: str | None, accelerator: str | None, label: str | None) -> Iterator[Any]:
    """Open a worker on this machine, or on a node of a Ray cluster, where it has a whole GPU or all CPUs to itself.

    Args:
        plan: Plan of the measurements.
        address: Ray cluster; None for this machine.
        accelerator: Type of GPU that the node must have.
        label: `KEY=VALUE` that the node must have.

    Raises:
        InputError: Where there is no such node.
    """
    if address is None:
        if accelerator or label:
            raise InputError("--accelerator and --label choose a node of a cluster: write --address as well")
        yield MeasurementWorker(asdict(plan))
        return
    from orchestrator.profiling import remote

    with remote.station(asdict(plan), address, accelerator, label) as worker:
        yield worker
