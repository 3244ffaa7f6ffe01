"""Costs on devices elsewhere: `latency@DEVICE` and `energy@DEVICE`, predicted from a device's profile."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from hw_profiles import profile as profiles
from hw_profiles.profile import COLUMNS, CONSTANT, UNITS, Profile
from orchestrator.errors import InputError
from orchestrator.objectives.base import Metrics, Objective
from orchestrator.registry import nearest, similar
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.costs import AdditiveCost, Operation
from orchestrator.spaces.parts.inputs import in_words, noun
from searchers.base import Architecture


class ProfiledCost(Objective):
    """Latency or energy of a network on a device according to its profile, in milliseconds or millijoules per batch.

    Args:
        space: Search space of the architectures.
        cost: "latency" or "energy", from the objective's name.
        device: Name of the device, likewise.
        file: Device file; None for one that is shipped.
    """

    def __init__(self, space: SearchSpace, *, cost: str, device: str, file: str | None = None) -> None:
        super().__init__(space)
        path = Path(file) if file else profiles.devices()[device]
        profile = profile_for(path, space, cost)
        batch = profile.protocol.get("batch")
        self.device, self.profile, self.prediction = device, profile, Prediction(profile, space, f"the device file {path}")
        self.column = f"{COLUMNS[cost]}@{device}"
        self.title = f"{cost} on {device} ({UNITS[cost]}{f', batch {batch}' if batch else ''}, predicted)"
        self.warning = None
        if profile.validation is None:
            self.warning = f"{cost}@{device}: the profile adds up single operations, and was not compared with whole networks"
        elif profile.validation.poor:
            self.warning = (
                f"{cost}@{device}: the profile predicts poorly ({profile.validation}); what is close by it may not be in "
                "truth, so measure the members of the front on the device"
            )

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        return self.prediction.cost(architecture)

    def additive(self) -> tuple[float, list[list[float]]] | None:
        return self.prediction.additive()


class Prediction:
    """Costs that a profile predicts for the networks of a space.

    Args:
        profile: The profile.
        space: Search space of the architectures.
        source: Origin of the profile, for messages.

    Raises:
        InputError: Where the profile lacks parts of the networks.
    """

    def __init__(self, profile: Profile, space: SearchSpace, source: str = "the profile") -> None:
        self.profile, self.space, self._sum = profile, space, cost_of(profile, space, source)

    def cost(self, architecture: Architecture) -> float:
        executed, constants = executed_part(self.space, architecture, self.profile.leaves_out)
        if executed is None:
            return self.profile.fixed if self.profile.dead is None else self.profile.dead
        return self._sum.cost(executed) + (constants * self.profile.costs[CONSTANT] if constants else 0.0)

    def additive(self) -> tuple[float, list[list[float]]] | None:
        """Return the cost as a sum (see `Objective.additive`); None where other choices decide whether an option is run."""
        return self._sum.additive() if self.profile.leaves_out == "nothing" else None


def executed_part(space: SearchSpace, architecture: Architecture, leaves_out: str) -> tuple[Architecture | None, int]:
    """Return what a device executes of a network, and the number of options that it folds into constants.

    Args:
        space: Search space of the architecture.
        architecture: The network.
        leaves_out: "nothing", "unused" or "constants" (see `Profile`).

    Returns:
        The architecture without what is left out, or None where the output does not depend on the image; and the number.
    """
    if leaves_out == "nothing":
        return architecture, 0
    used = space.pruned(architecture, constants=False)
    if leaves_out == "unused" or used is None:
        return used, 0
    live = space.pruned(architecture, constants=True)
    assert live is not None
    return live, sum(a != b for a, b in zip(used, live, strict=True))


def options(space: SearchSpace) -> list[str]:
    """List the names of every option of every choice in a profile."""
    return [f"{choice.name}={option}" for choice in space.choices for option in choice.options]


def parts_of(space: SearchSpace, by: str, architecture: Architecture) -> Counter[str]:
    """Count the parts of a network, of those that not every one has.

    Args:
        space: Search space of the architecture.
        by: "operation" or "option".
        architecture: The network.
    """
    if by == "operation":
        return Counter(operation.part for operation in space.operation_costs.varying(architecture))
    return Counter(f"{c.name}={c.options[o]}" for c, o in zip(space.choices, architecture, strict=True))


def resolve(name: str, file: str | None = None) -> tuple[str, dict[str, str]]:
    """Resolve `latency@DEVICE` to the objective's name and the keywords that find its profile again from anywhere.

    Args:
        name: `COST@DEVICE`, where DEVICE is a name of `profiles.devices`, or a file with or without its ending.
        file: Device file, which takes precedence; None to look for DEVICE.

    Raises:
        InputError: For a cost that is not profiled, and for an unknown device.
    """
    cost, _, device = name.partition("@")
    if cost not in UNITS:
        raise InputError(
            f"objectives.{name}: no device is profiled for {cost}; {', '.join(UNITS)} are, as in latency@pixel3"
            f"{similar(cost, UNITS)}"
        )
    known = profiles.devices()
    path = Path(file or (device if device.endswith(".toml") else f"{device}.toml"))
    if path.is_file():
        return f"{cost}@{path.stem}", {"file": str(path.resolve())}
    if file or device not in known:
        absent, hint = (f"file {file}", "") if file else (f"device {device!r}", nearest(device, known))
        raise InputError(
            f"objectives.{name}: there is no {absent} (your own is {cost}@me, for the file me.toml that "
            f"`paretoray profile --out me.toml` writes){hint}"
        )
    return name, {}


def profile_for(path: Path, space: SearchSpace, cost: str) -> Profile:
    """Find the profile of `cost` for the networks of `space` in a device file. Raises InputError."""
    if noun(space.image) != "image":
        raise InputError(
            f"objectives.{cost}@{path.stem}: profiles of devices are of networks for images, and the data are "
            f"{in_words(space.image)}; measure with objectives.latency instead, or with a command on the device"
        )
    listed = read(path)
    matching = [p for p in listed if p.matches(space.name, space.settings, space.image)]
    wanted = profiles.describe(space.name, space.settings, space.image)
    if not matching:
        has = "; ".join(sorted({p.of for p in listed}))
        raise InputError(f"{path.stem} has no profile of {wanted}; it has: {has}. Measure one with {command(space)}")
    if not (of_cost := [p for p in matching if p.cost == cost]):
        raise InputError(f"{path.stem} has no {cost} of {wanted}, only {', '.join(p.cost for p in matching)}")
    return of_cost[0]


def read(path: Path) -> list[Profile]:
    """Read all profiles of a device file. Raises InputError."""
    try:
        return profiles.read(path)
    except ValueError as error:
        raise InputError(str(error)) from error


def command(space: SearchSpace) -> str:
    """Write the command that profiles this space."""
    image = ",".join(map(str, space.image))
    plain = {k: v for k, v in space.settings.items() if not isinstance(v, (list, dict))}
    settings = "".join(f" {k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in plain.items())
    return f"paretoray profile --space {space.name}{settings} image={image} classes={space.classes} --out me.toml"


def cost_of(profile: Profile, space: SearchSpace, source: str) -> AdditiveCost:
    """Return the cost of each network of the space by a profile. Raises InputError where it lacks a part."""
    needed = [CONSTANT] if profile.leaves_out == "constants" else []
    if profile.by == "option":
        _complete(profile, [*options(space), *needed], source)
        terms = [
            (((c, o, True),), profile.costs[f"{choice.name}={option}"])
            for c, choice in enumerate(space.choices)
            for o, option in enumerate(choice.options)
        ]
        return AdditiveCost(terms, space.sizes, profile.fixed)
    _complete(profile, [*space.operation_costs.varying_parts, *needed], source)

    # A space that does not list its operations may have some that no measured network had; they get the mean of their kind.
    kinds: dict[str, list[float]] = {}
    for key, cost in profile.costs.items():
        kinds.setdefault(key.partition(" ")[0], []).append(cost)

    def value(operation: Operation) -> float:
        known = profile.costs.get(operation.part)
        return float(np.mean(kinds.get(operation.name, [0.0]))) if known is None else known

    return space.operation_costs.sum(value, fixed=profile.fixed)


def _complete(profile: Profile, needed: list[str], source: str) -> None:
    if missing := sorted({key for key in needed if key not in profile.costs}):
        rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(f"{source} lacks, of {profile.of}: {', '.join(missing[:3])}{rest}; measure it again")
