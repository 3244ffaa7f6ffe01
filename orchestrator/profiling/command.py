"""`paretoray profile`: measure a device, or fit one to measured networks, and write its file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis import plots
from hw_profiles.profile import UNITS, Profile, Validation, write
from orchestrator.config import overrides
from orchestrator.describe import describe
from orchestrator.errors import InputError, doing
from orchestrator.evaluators.columns import factor
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.objectives.predicted import read
from orchestrator.profiling.fitting import conclude, from_table
from orchestrator.profiling.lookup import from_operations
from orchestrator.profiling.measurements import measured
from orchestrator.profiling.plan import MeasurementPlan
from orchestrator.profiling.worker import MeasurementWorker
from orchestrator.registry import nearest
from orchestrator.runs.display import Display
from orchestrator.spaces.base import SearchSpace

MEASURING = frozenset(
    ("device", "batch", "threads", "dtype", "validation", "rounds", "seconds", "energy", "address", "accelerator", "label")
)
FITTING = frozenset(("cost", "source"))
LOOKED_UP = frozenset(("hardware", "source"))
"""Options that a table of operations leaves a meaning to."""
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}


@dataclass(frozen=True)
class WrittenProfile:
    """Profile that was written into a device file.

    Args:
        profile: The profile.
        file: The device file.
        picture: Picture of its predictions; None where they were compared with no network.
    """

    profile: Profile
    file: Path
    picture: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; costs are in `unit`, and MAPE in percent."""
        profile, tried = self.profile, self.profile.validation
        facts = {
            "objective": f"{profile.cost}@{self.file.stem}", "file": self.file, "picture": self.picture, "cost": profile.cost,
            "unit": UNITS[profile.cost], "space": profile.space, "settings": profile.settings, "image": list(profile.image),
            "hardware": profile.hardware, "operations": len(profile.costs), "fixed": profile.fixed,
        }  # fmt: skip
        return facts | {"validation": None if tried is None else {**tried.to_dict(), "poor": tried.poor}}

    def lines(self) -> list[str]:
        """Say what was written, and how good its predictions are."""
        profile, tried = self.profile, self.profile.validation
        if tried is None or self.picture is None:
            counts = f"{len(profile.costs)} operations, and {profile.fixed:.6g} {UNITS[profile.cost]} of all networks"
            files, warnings = f"{self.file}", []
        else:
            counts, files = str(tried), f"{self.file} and {self.picture.name}"
            poor = "warning: that is a poor prediction; searches that use it will say so"
            warnings = [poor] if tried.poor else []
        use = f"written: {files}; use it as {profile.cost}@{self.file.stem}"
        return [f"{profile.cost} of {profile.of}: {counts}", *warnings, use]


def unused(options: Collection[str]) -> set[str]:
    """Find the options of `paretoray profile` that mean nothing beside the others."""
    if "operations" in options:
        return set(options) & (MEASURING | FITTING | {"table", "column", "networks", "seed"}) - LOOKED_UP
    return set(options) & (MEASURING if "table" in options else FITTING)


def main(
    console: Console,
    *,
    space: str,
    settings: Sequence[str],
    out: Path,
    resolution: int | None,
    table: Path | None,
    column: str | None,
    operations: Path | None = None,
    **options: Any,
) -> list[WrittenProfile]:
    """Write or complete the device file `out`, and a picture beside it. Raises InputError, RunError.

    Args:
        console: Where messages go.
        space: Name of the space.
        settings: `key=value` settings of the space.
        out: Device file, whose name is the device's.
        resolution: Side of the images in pixels; None for the space's.
        table: Table of measured networks to fit to; None to measure.
        column: Column of the table.
        operations: Table of single operations to add up; None to fit or measure.
        options: Further arguments of `_fitted` and of `_measured`, of which those of the other one are ignored.
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
    if operations is not None:
        with doing(f"reading {operations}, for {out}"):
            found = from_operations(operations, described, options["hardware"] or out.stem, options["source"])
        return [_write(found, out)]
    chosen = {name: value for name, value in options.items() if name not in (FITTING if table is None else MEASURING)}
    if table is not None and column is not None:
        profiles = [_fitted(described, out, table, column, **chosen)]
    else:
        profiles = _measured(console, space, described, out, **chosen)
    return [_write(profile, out) for profile in profiles]


def _fitted(
    space: SearchSpace,
    out: Path,
    table: Path,
    column: str,
    *,
    cost: str,
    source: str | None,
    networks: int | None,
    hardware: str | None,
    seed: int,
) -> Profile:
    """Fit a profile to a table of measured networks.

    Args:
        space: The space.
        out: Device file, for messages.
        table: Table of measured networks.
        column: Column of the table; a unit in its name, as in latency_us or "time (s)", is converted.
        cost: "latency" or "energy", of the column.
        source: Origin of the table; None for its name.
        networks: Networks to fit to; None for 300.
        hardware: Description of the device; None for the file's name.
        seed: Seed of the choice of networks.
    """
    if cost not in UNITS:
        raise InputError(f"--cost {cost}{nearest(cost, UNITS)}")
    about = {"source": source or f"{table.name}, column {column}"}
    benchmark = TabularBenchmark.read(table, space, [column], modes={column: "min"})
    scale = factor(column, cost)
    if scale is not None and scale != 1:
        benchmark.costs = {a: (scale * value,) for a, (value,) in benchmark.costs.items()}
        about["converted"] = f"times {scale:g}, to {UNITS[cost]}"
    with doing(f"fitting costs to {table}, column {column}, for {out}"):
        return from_table(benchmark, cost, networks or 300, about, hardware or out.stem, seed)


def _measured(
    console: Console,
    name: str,
    space: SearchSpace,
    out: Path,
    *,
    networks: int | None,
    hardware: str | None,
    address: str | None,
    accelerator: str | None,
    label: str | None,
    **measuring: Any,
) -> list[Profile]:
    """Measure operations and networks, and fit a profile of each kind of cost.

    Args:
        console: Where messages go.
        name: Name of the space.
        space: The space.
        out: Device file; the measurements are kept beside it.
        networks: Networks to fit to; None for 100.
        hardware: Description of the device; None for what the machine says of itself.
        address: Ray cluster to measure on; None for this machine.
        accelerator: Type of GPU that the node must have.
        label: `KEY=VALUE` that the node must have.
        measuring: Further fields of `MeasurementPlan`.
    """
    plan = MeasurementPlan(
        space=name,
        settings=space.settings,
        image=space.image,
        classes=space.classes,
        networks=networks or 100,
        **measuring,
    )
    kept = out.with_suffix(".measured.csv")
    with station(plan, address, accelerator, label) as worker, Display(console) as display:
        rows = measured(plan, kept, worker, display.profile, lambda text: console.print(text, **PLAIN))
        machine = worker.hardware()
    profiles = []
    for kind in ("latency", "energy") if plan.energy else ("latency",):
        with doing(f"fitting costs to the {kind} in {kept}, for {out}"):
            profile, busy = conclude(plan, rows, kind, machine | ({"device": hardware} if hardware else {}))
        profiles.append(profile)
    if busy:
        differ = f"rounds differ by {profile.protocol['spread']:.0%}"
        console.print(f"warning: the machine was busy all the time ({differ}); these figures are not precise", **PLAIN)
    return profiles


def _write(profile: Profile, out: Path) -> WrittenProfile:
    """Write a profile into the device file, and draw its predictions."""
    write(out, profile)
    if profile.validation is None:
        return WrittenProfile(profile, out, None)
    picture = out.with_suffix(f".{profile.cost}.{profile.space.replace(':', '-')}.png")
    _draw(profile, profile.validation, out.stem, picture)
    return WrittenProfile(profile, out, picture)


def _draw(profile: Profile, validation: Validation, device: str, path: Path) -> None:
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
