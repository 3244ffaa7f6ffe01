"""From measured networks to a profile: what each operation or option costs, and how well that predicts other networks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles import measure
from hw_profiles.fit import Floats, fit, least
from hw_profiles.profile import CONSTANT, Profile, Validation
from orchestrator.errors import InputError
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.objectives.predicted import left, options, parts_of
from orchestrator.profiling.measurements import BUSY, spread_of
from orchestrator.profiling.plan import MeasurementPlan
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture

LEAVES_OUT = ("nothing", "unused", "constants")


def conclude(plan: MeasurementPlan, rows: pd.DataFrame, cost: str, hardware: dict[str, str]) -> tuple[Profile, bool]:
    """The profile that follows from the measurements; and whether the machine was too busy for them to be precise.

    Raises InputError where they are too few.
    """
    space = plan.build()
    steady = measure.steady(rows[rows["cost"] == cost])
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
    """Costs of options from a table whose only column is what whole networks cost: `networks` random rows, tried on the others.

    Raises InputError for too few of them and for costs that are not above 0.
    """
    known = list(table.costs)
    if len(known) < networks + 50:
        left = f"--networks {networks} leaves fewer than 50 to try the prediction on"
        raise InputError(f"{table.source} has {len(known):,} networks; {left}")
    values = np.array([table.costs[a][0] for a in known])
    if values.min() <= 0:
        row = int(values.argmin())
        raise InputError(f"{table.source}, row {row + 1}: {table.columns[0]} = {values[row]:g}; a cost must be above 0")
    order = np.random.default_rng(seed).permutation(len(known))
    chosen, others = order[:networks], order[networks:]
    protocol = source | {"networks": networks, "method": "regularised least squares on whole networks"}
    return learn(
        table.space, cost, "option", [known[i] for i in chosen], values[chosen], [known[i] for i in others], values[others],
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
    """The profile that `networks`, which cost `values`, lead to, validated on `others`, which cost `true`.

    What the device leaves out of a network is decided by cross-validation. Where it leaves something out, networks whose output
    does not depend on the image cost next to nothing, of which no share can be told, and are not part of the validation.
    """
    parts = space.operation_costs.varying_parts if by == "operation" else options(space)
    if not parts:  # a space that does not list its operations
        parts = sorted({p for a in (*networks, *others) for p in parts_of(space, by, a)})
    tried = {}
    modes = LEAVES_OUT if type(space).pruned is not SearchSpace.pruned else LEAVES_OUT[:1]
    for leaves_out in modes:
        keys = [*parts, CONSTANT] if leaves_out == "constants" else parts
        counts, alive = _design(space, by, leaves_out, keys, networks)
        kinds = [key.rpartition("=")[2].partition(" ")[0] for key in keys]
        by_itself = np.array([(alone or {}).get(key, np.nan) for key in keys])
        fitted = fit(counts[alive], values[alive], kinds, None if np.isnan(by_itself).all() else by_itself)
        tried[leaves_out] = keys, fitted, alive
    leaves_out = least({name: fitted.error for name, (_, fitted, _) in tried.items()})
    keys, fitted, alive = tried[leaves_out]
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
    """How often each network has each part, (networks, parts), and whether its output depends on the image."""
    place = {key: i for i, key in enumerate(keys)}
    counts, alive = np.zeros((len(networks), len(keys))), np.zeros(len(networks), dtype=bool)
    for row, architecture in enumerate(networks):
        kept, constants = left(space, architecture, leaves_out)
        alive[row] = kept is not None
        for key, count in parts_of(space, by, kept).items() if kept is not None else ():
            counts[row, place[key]] += count
        if constants:
            counts[row, place[CONSTANT]] = constants
    return counts, alive


def _short(value: float) -> float:
    """Six digits are more than any measurement has."""
    return float(f"{value:.6g}")
