"""`paretoray devices`: quality of each device file, and agreement between them on which networks are fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from scipy.stats import rankdata

from analysis import plots
from hw_profiles import profile as profiles
from hw_profiles.profile import UNITS, Profile
from orchestrator.config.spaces import make_space
from orchestrator.errors import InputError
from orchestrator.objectives.predicted import ProfiledCost, read, resolve
from orchestrator.registry import nearest, similar

NETWORKS = 1000
"""Number of random networks that devices are compared on."""


@dataclass(frozen=True)
class Group:
    """Profiles of several devices for the same networks.

    Args:
        cost: "latency" or "energy".
        of: Space, settings and image size, in words.
        devices: Name, file and profile of each device.
        correlation: (devices, devices), Spearman's rank correlation of what they predict; None where it is not known.
        reason: Why it is not known.
        picture: Picture of the predictions, if one was drawn.
    """

    cost: str
    of: str
    devices: list[tuple[str, Path, Profile]]
    correlation: np.ndarray | None = None
    reason: str = ""
    picture: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "networks": self.of,
            "space": self.devices[0][2].space,
            "devices": [
                {
                    "name": name, "file": path, "hardware": profile.hardware, "batch": profile.protocol.get("batch"),
                    "validation": None if profile.validation is None else profile.validation.to_dict(),
                }
                for name, path, profile in self.devices
            ],
            "rank_correlation": self.correlation,
            "not_compared_because": self.reason or None,
            "picture": self.picture,
        }  # fmt: skip


def groups(chosen: Sequence[str], space: str | None, cost: str, out: Path | None) -> list[Group]:
    """Find profiles with their validation, and the rank correlation of those for the same networks.

    Args:
        chosen: Names or files of devices; empty for all.
        space: Name of a space; None for all.
        cost: "latency" or "energy".
        out: Folder for a picture of each group of profiles for the same networks; None for no pictures.

    Raises:
        InputError: For an unknown device or cost, and where there is no profile.
    """
    if cost not in UNITS:
        raise InputError(f"--cost {cost}{nearest(cost, UNITS)}")
    found: dict[str, list[tuple[str, Path, Profile]]] = {}
    spaces: set[str] = set()
    for device in chosen or profiles.devices():
        objective, given = resolve(f"{cost}@{device}")
        name = objective.partition("@")[2]
        path = Path(given["file"]) if given else profiles.devices()[name]
        for profile in read(path):
            spaces.add(profile.space)
            if profile.cost == cost and space in (None, profile.space):
                found.setdefault(profile.of, []).append((name, path, profile))
    if not found:
        near = similar(space, spaces) if space else ""
        raise InputError(f"no profile of {cost}{f' of {space}' if space else ''}; `paretoray profile` makes one{near}")
    return [_compared(Group(cost, of, devices), number, out) for number, (of, devices) in enumerate(found.items(), 1)]


def _compared(group: Group, number: int, out: Path | None) -> Group:
    """Add to a group how far its devices agree; the picture is named after its number."""
    first = group.devices[0][2]
    if len(group.devices) == 1:
        return group
    if ":" in first.space:  # a device file is data, and nothing that it names is imported
        return replace(group, reason="networks of somebody's own")
    try:
        resolved = make_space(first.space, dict(first.settings), first.image, 10)
    except InputError as error:
        return replace(group, reason=str(error))
    costs = predictions(
        [ProfiledCost(resolved, cost=group.cost, device=name, file=str(path)) for name, path, _ in group.devices]
    )
    correlation = np.corrcoef(rankdata(costs, axis=0), rowvar=False)
    if out is None:
        return replace(group, correlation=correlation)
    out.mkdir(parents=True, exist_ok=True)
    picture = out / f"devices-{number}-{first.space.replace(':', '-')}.png"
    with plots.style():
        titles = [name for name, *_ in group.devices]
        title = f"{group.cost} ({UNITS[group.cost]}) of {group.of}"
        plots.disagreement(titles, costs, correlation, title).savefig(picture, dpi=150)
    return replace(group, correlation=correlation, picture=picture)


def text(found: Sequence[Group]) -> list[str | Table]:
    """Say for people what was found: a table of devices for each group, and one of their agreement."""
    parts: list[str | Table] = []
    for group in found:
        listed = Table("", "device", "hardware", "batch", "Spearman", "MAPE %")
        for i, (name, _, profile) in enumerate(group.devices, 1):
            validation = profile.validation
            figures = ("-", "-") if validation is None else (f"{validation.spearman:.3f}", f"{validation.mape:.1f}")
            listed.add_row(str(i), name, profile.hardware, str(profile.protocol.get("batch", "")), *figures)
        parts += [f"\n{group.cost} of {group.of}: how well the profiles predict", listed]
        if group.reason:
            parts.append(f"not compared: {group.reason}")
        if group.correlation is not None:
            table = Table("", *map(str, range(1, len(group.devices) + 1)))
            for i, row in enumerate(group.correlation, 1):
                table.add_row(str(i), *(f"{value:.2f}".removeprefix("0") for value in row))
            parts += [f"rank correlation (Spearman) of what they predict for {NETWORKS:,} random networks", table]
        if group.picture is not None:
            parts.append(f"drawn: {group.picture}")
    return parts


def predictions(group: Sequence[ProfiledCost], networks: int = NETWORKS) -> np.ndarray:
    """Predict costs of the same random networks on each device, (networks, devices)."""
    space = group[0].space
    rng = np.random.default_rng(0)
    architectures = [tuple(int(rng.integers(size)) for size in space.sizes) for _ in range(networks)]
    return np.array([[device.cost(architecture, {}) for device in group] for architecture in architectures])
