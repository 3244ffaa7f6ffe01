"""`paretoray devices`: quality of each device file, and agreement between them on which networks are fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from analysis import plots
from hw_profiles import profile as profiles
from hw_profiles.profile import UNITS, Profile
from orchestrator.config.spaces import make_space
from orchestrator.errors import InputError
from orchestrator.objectives.predicted import ProfiledCost, read, resolve

NETWORKS = 1000
"""Number of random networks that devices are compared on."""


def show(console: Console, chosen: Sequence[str], space: str | None, cost: str, out: Path | None) -> None:
    """List profiles with their validation, and the rank correlation of those for the same networks.

    Args:
        console: Where the tables go.
        chosen: Names or files of devices; empty for all.
        space: Name of a space; None for all.
        cost: "latency" or "energy".
        out: Folder for a picture of each group of profiles for the same networks; None for no pictures.

    Raises:
        InputError: For an unknown device or cost, and where there is no profile.
    """
    if cost not in UNITS:
        raise InputError(f"--cost {cost}; known are {', '.join(UNITS)}")
    groups: dict[str, list[tuple[str, Path, Profile]]] = {}
    for device in chosen or profiles.devices():
        objective, given = resolve(f"{cost}@{device}")
        name = objective.partition("@")[2]
        path = Path(given["file"]) if given else profiles.devices()[name]
        for profile in read(path):
            if profile.cost == cost and space in (None, profile.space):
                groups.setdefault(profile.of, []).append((name, path, profile))
    if not groups:
        raise InputError(f"no profile of {cost}{f' of {space}' if space else ''}; `paretoray profile` makes one")
    for number, (of, group) in enumerate(groups.items(), 1):
        listed = Table("", "device", "hardware", "batch", "Spearman", "MAPE %")
        for i, (name, _, profile) in enumerate(group, 1):
            validation = profile.validation
            figures = ("-", "-") if validation is None else (f"{validation.spearman:.3f}", f"{validation.mape:.1f}")
            listed.add_row(str(i), name, profile.hardware, str(profile.protocol.get("batch", "")), *figures)
        console.print(f"\n{cost} of {of}: how well the profiles predict", highlight=False, soft_wrap=True)
        console.print(listed)
        if len(group) == 1:
            continue
        if ":" in group[0][2].space:  # a device file is data, and nothing that it names is imported
            console.print("not compared: networks of somebody's own", highlight=False, soft_wrap=True)
            continue
        try:
            resolved = make_space(group[0][2].space, dict(group[0][2].settings), group[0][2].image, 10)
        except InputError as error:
            console.print(f"not compared: {error}", highlight=False, soft_wrap=True)
            continue
        costs = predictions([ProfiledCost(resolved, cost=cost, device=name, file=str(path)) for name, path, _ in group])
        correlation = np.corrcoef(rankdata(costs, axis=0), rowvar=False)
        table = Table("", *map(str, range(1, len(group) + 1)))
        for i, row in enumerate(correlation, 1):
            table.add_row(str(i), *(f"{value:.2f}".removeprefix("0") for value in row))
        console.print(f"rank correlation (Spearman) of what they predict for {len(costs):,} random networks", highlight=False)
        console.print(table)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            picture = out / f"devices-{number}-{group[0][2].space.replace(':', '-')}.png"
            with plots.style():
                titles = [name for name, *_ in group]
                plots.disagreement(titles, costs, correlation, f"{cost} ({UNITS[cost]}) of {of}").savefig(picture, dpi=150)
            console.print(f"drawn: {picture}", highlight=False, soft_wrap=True)


def predictions(group: Sequence[ProfiledCost], networks: int = NETWORKS) -> np.ndarray:
    """Predict costs of the same random networks on each device, (networks, devices)."""
    space = group[0].space
    rng = np.random.default_rng(0)
    architectures = [tuple(int(rng.integers(size)) for size in space.sizes) for _ in range(networks)]
    return np.array([[device.cost(architecture, {}) for device in group] for architecture in architectures])
