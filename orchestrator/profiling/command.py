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
    """Those of `paretoray profile`'s options that mean nothing beside the others."""
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
    """`paretoray profile`: writes or completes the device file `out`, and a picture beside it. Raises InputError, RunError."""
    given = overrides.settings(settings)
    if resolution is not None:
        if "image" in given:
            raise InputError("--resolution and image= say the same; leave one out")
        given["image"] = [3, resolution, resolution]
    made = describe(space, None, given).space
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
        read_table = TabularBenchmark.read(table, made, [column])
        with doing(f"fitting costs to {table}, column {column}, for {out}"):
            profiles = [from_table(read_table, cost, networks or 300, about, hardware or out.stem, measuring["seed"])]
    else:
        plan = MeasurementPlan(
            space=space,
            settings=made.settings,
            image=made.image,
            classes=made.classes,
            networks=networks or 100,
            **measuring,
        )
        profiles = []
        with station(plan, address, accelerator, label) as there, Display(console) as display:
            plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
            rows = measured(
                plan, out.with_suffix(".measured.csv"), there, display.profile, lambda text: console.print(text, **plain)
            )
            found = there.hardware()
        for kind in ("latency", "energy") if plan.energy else ("latency",):
            with doing(f"fitting costs to the {kind} in {out.with_suffix('.measured.csv')}, for {out}"):
                profile, busy = conclude(plan, rows, kind, found | ({"device": hardware} if hardware else {}))
            profiles.append(profile)
        if busy:
            differ = f"rounds differ by {profile.protocol['spread']:.0%}"
            console.print(f"warning: the machine was busy all the time ({differ}); these figures are not precise", **plain)
    for profile in profiles:
        write(out, profile)
        picture = out.with_suffix(f".{profile.cost}.{profile.space.replace(':', '-')}.png")
        _draw(profile, out.stem, picture)
        told = f"{profile.cost} of {profile.of}: {profile.validation}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
        if profile.validation.poor:
            console.print("warning: that is a poor prediction; searches that use it will say so", highlight=False)
        use = f"use it as {profile.cost}@{out.stem}"
        console.print(f"written: {out} and {picture.name}; {use}", highlight=False, soft_wrap=True)


def _draw(profile: Profile, device: str, path: Path) -> None:
    found = profile.validation
    with plots.style():
        figure = plots.new_figure(4.2, 4.2)
        unit = UNITS[profile.cost]
        plots.draw_prediction(figure.subplots(), found.measured, found.predicted, f"{profile.cost} on {device} ({unit})")
        figure.suptitle(f"{profile.of}\n{found}".replace(", Kendall", "\nKendall"), fontsize=7)
        figure.savefig(path, dpi=200)


@contextmanager
def station(plan: MeasurementPlan, address: str | None, accelerator: str | None, label: str | None) -> Iterator[Any]:
    """Where to measure: here, or on a node of a Ray cluster that nothing else gets for so long: a whole GPU, or all of a node's
    CPUs. Raises InputError where there is no such node."""
    if address is None:
        if accelerator or label:
            raise InputError("--accelerator and --label choose a node of a cluster: write --address as well")
        yield MeasurementWorker(asdict(plan))
        return
    from orchestrator.profiling import remote

    with remote.station(asdict(plan), address, accelerator, label) as there:
        yield there
