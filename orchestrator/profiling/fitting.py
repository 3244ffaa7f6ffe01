"""Fit of a profile to measured networks: costs of operations or options, and how well they predict other networks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles import measure
from hw_profiles.fit import Floats, fit, least
from hw_profiles.profile import COLUMNS, CONSTANT, Profile, Validation
from orchestrator.errors import InputError
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.objectives.predicted import executed_part, options, parts_of
from orchestrator.profiling.measurements import BUSY, spread_of
from orchestrator.profiling.plan import MeasurementPlan
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture

LEAVES_OUT = ("nothing", "unused", "constants")


def conclude(plan: MeasurementPlan, rows: pd.DataFrame, cost: str, hardware: dict[str, str]) -> tuple[Profile, bool]:
    """Fit a profile to measurements.

    Args:
        plan: Plan of the measurements.
        rows: Measurements, with the columns of `Row`.
        cost: "latency" or "energy".
        hardware: Device, runtime and software, as `MeasurementWorker.hardware` describes them.

    Returns:
        The profile, and whether the machine was too busy for the measurements to be precise.

    Raises:
        InputError: Where networks were not measured.
    """
    space = plan.build()
    steady = measure.steady(rows[rows["cost"] == COLUMNS[cost]])
    networks = plan.choose(space)
    values = np.array([steady["value"].get(f"net {space.format(a)}", np.nan) for a in networks])
    if np.isnan(values).any():
        raise InputError(f"{int(np.isnan(values).sum())} networks were not measured; run the same command again")
    alone = {str(job)[3:]: float(v) for job, v in steady["value"].items() if str(job).startswith("op ")}
    spread = spread_of(rows)
    protocol = {
        "runtime": hardware["runtime"],
        "device": plan.device,
        "batch": plan.batch,
        "dtype": plan.dtype,
        "threads": plan.threads,
        "networks": plan.networks,
        "rounds": int(rows["round"].nunique()),
        "seconds": plan.seconds,
        "spread": round(spread, 4),
        "date": time.strftime("%Y-%m-%d"),
        "method": "after two passes to warm up, the median of passes that take so many seconds, at least five; operations and "
        "networks in turn, in another order every round; the machine's drift divided out by median polish; medians over rounds",
        "software": hardware["software"],
    }
    n = plan.networks
    profile = learn(
        space, cost, "operation", networks[:n], values[:n], networks[n:], values[n:],
        alone=alone, hardware=hardware["device"], protocol=protocol,
    )  # fmt: skip
    return profile, spread > BUSY


def from_table(
    table: TabularBenchmark, cost: str, networks: int, source: dict[str, Any], hardware: str, seed: int = 0
) -> Profile:
    """Fit costs of options to random rows of a table, and validate them on the others.

    Args:
        table: Table whose only column is the cost of whole networks.
        cost: "latency" or "energy".
        networks: Number of rows to fit to.
        source: Origin of the table, for the profile's protocol.
        hardware: Description of the device.
        seed: Seed of the choice of rows.

    Raises:
        InputError: For too few rows, and for costs that are not above 0.
    """
    known = list(table.costs)
    if len(known) < networks + 50:
        hint = f"--networks {networks} leaves fewer than 50 to try the prediction on"
        raise InputError(f"{table.source} has {len(known):,} networks; {hint}")
    values = np.array([table.costs[a][0] for a in known])
    if values.min() <= 0:
        row = int(values.argmin())
        raise InputError(f"{table.source}, row {row + 1}: {table.columns[0]} = {values[row]:g}; a cost must be above 0")
    order = np.random.default_rng(seed).permutation(len(known))
    fitted, others = order[:networks], order[networks:]
    protocol = source | {"networks": networks, "method": "regularised least squares on whole networks"}
    return learn(
        table.space, cost, "option", [known[i] for i in fitted], values[fitted], [known[i] for i in others], values[others],
        hardware=hardware, protocol=protocol,
    )  # fmt: skip


def learn(
    space: SearchSpace,
    cost: str,
    by: str,
    networks: Sequence[Architecture],
    values: Floats,
    others: Sequence[Architecture],
    true: Floats,
    *,
    hardware: str,
    protocol: dict[str, Any],
    alone: Mapping[str, float] | None = None,
) -> Profile:
    """Fit a profile to networks, and validate it on others.

    What the device leaves out of a network is decided by cross-validation. Where it leaves something out, networks whose output
    does not depend on the image cost next to nothing, so that a relative error means nothing; they are not part of the
    validation.

    Args:
        space: Search space of the architectures.
        cost: "latency" or "energy".
        by: "operation" or "option": what has a cost of its own.
        networks: Networks to fit to.
        values: Their costs.
        others: Networks to validate on.
        true: Their costs.
        hardware: Description of the device.
        protocol: How the costs were measured.
        alone: Costs of operations that were measured by themselves, which the fit is regularised towards.
    """
    parts = space.operation_costs.varying_parts if by == "operation" else options(space)
    if not parts:  # a space that does not list its operations
        parts = sorted({p for a in (*networks, *others) for p in parts_of(space, by, a)})
    fits = {}
    modes = LEAVES_OUT if type(space).pruned is not SearchSpace.pruned else LEAVES_OUT[:1]
    for leaves_out in modes:
        keys = [*parts, CONSTANT] if leaves_out == "constants" else parts
        counts, alive = _design(space, by, leaves_out, keys, networks)
        kinds = [key.rpartition("=")[2].partition(" ")[0] for key in keys]
        by_itself = np.array([(alone or {}).get(key, np.nan) for key in keys])
        fitted = fit(counts[alive], values[alive], kinds, None if np.isnan(by_itself).all() else by_itself)
        fits[leaves_out] = keys, fitted, alive
    leaves_out = least({name: fitted.error for name, (_, fitted, _) in fits.items()})
    keys, fitted, alive = fits[leaves_out]
    counts, shown = _design(space, by, leaves_out, keys, others)
    return Profile(
        cost=cost,  # type: ignore[arg-type]
        space=space.name,
        settings=space.settings,
        image=space.image,
        by=by,  # type: ignore[arg-type]
        hardware=hardware,
        protocol=protocol,
        fixed=_short(fitted.fixed),
        costs={key: _short(v) for key, v in zip(keys, fitted.costs, strict=True)},
        validation=Validation.of(true[shown], fitted.predict(counts[shown])),
        alone={key: _short(v) for key, v in (alone or {}).items()},
        leaves_out=leaves_out,  # type: ignore[arg-type]
        dead=None if alive.all() else _short(float(np.median(values[~alive]))),
    )


def _design(
    space: SearchSpace, by: str, leaves_out: str, keys: Sequence[str], networks: Sequence[Architecture]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Count how often each network has each part, (networks, parts), and tell whether its output depends on the image."""
    place = {key: i for i, key in enumerate(keys)}
    counts, alive = np.zeros((len(networks), len(keys))), np.zeros(len(networks), dtype=bool)
    for row, architecture in enumerate(networks):
        executed, constants = executed_part(space, architecture, leaves_out)
        alive[row] = executed is not None
        for key, count in parts_of(space, by, executed).items() if executed is not None else ():
            counts[row, place[key]] += count
        if constants:
            counts[row, place[CONSTANT]] = constants
    return counts, alive


def _short(value: float) -> float:
    """Round to six digits, which are more than any measurement has."""
    return float(f"{value:.6g}")
