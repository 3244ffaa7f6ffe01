"""Objectives that are a function of a user's, written `module:function`: of the architecture, or of its network."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.errors import InputError, NetworkFailed
from orchestrator.objectives.base import Metrics, Objective
from orchestrator.objectives.measured import Direction, MeasuredObjective, NoMeasurement, number
from orchestrator.registry import import_from, keywords
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.inputs import repeated
from searchers.base import Architecture

GIVEN = ("network", "example", "architecture", "arch", "space")
"""Parameters of a function that are filled in; all others are settings."""


def own(
    space: SearchSpace,
    *,
    objective: str,
    unit: str = "",
    column: str | None = None,
    maximize: bool = False,
    best: float | None = None,
    arguments: dict[str, Any] | None = None,
    batch: int = 1,
    resources: dict[str, float] | None = None,
    timeout: float | None = None,
    retries: int = 0,
    cache: str | None = None,
) -> Objective:
    """A number that a function of yours returns for a network or an architecture: write `module:function`.

    The names of its parameters say what it gets: `network` (a module in evaluation mode, with random weights), `example` (a
    batch for it), `architecture` (the index of the option of each choice), `arch` (its notation) and `space`. One that asks
    for no network is called wherever a cost is needed, unless it has `resources`; it should be quick.

    Args:
        space: Search space of the architectures.
        objective: The objective's name in an experiment.
        unit: Unit of the number.
        column: What the column is named after; None for the function's name.
        maximize: Whether more is better; the cost is then `best` minus the number.
        best: More than any network reaches.
        arguments: Values of the function's other parameters.
        batch: Images of `example`.
        resources: Resources of Ray, as `{phone = 1}`, with which the function runs as a task; None for the worker's process.
        timeout: Seconds after which a task counts as failed, from its start; needs `resources`.
        retries: How often a measurement that failed is tried again.
        cache: Folder that keeps measurements, and that several runs may share; the run directory keeps them in any case.
    """
    function = import_from(objective, f"objectives.{objective}")
    asks, settings = _checked(function, arguments or {}, f"objectives.{objective}")
    direction = Direction(f"objectives.{objective}", column or function.__name__.lstrip("_"), unit, maximize, best)
    _check_task(resources, timeout)
    if batch < 1:
        raise ValueError(f"batch = {batch}; it must be positive")
    if resources is None and not {"network", "example"} & asks:
        if retries or cache:
            raise ValueError("retries and cache are for what is measured: of a network, or with resources; leave them out")
        return ArchitectureFunction(space, direction, function, settings, asks)
    how = {"batch": batch, "resources": resources, "timeout": timeout, "retries": retries, "cache": cache}
    return NetworkFunction(space, direction, function, settings, asks, **how)  # type: ignore[arg-type]


def _checked(function: Any, arguments: Mapping[str, Any], section: str) -> tuple[set[str], dict[str, Any]]:
    """Return which of `GIVEN` a function asks for, and the values of its other parameters. Raises InputError."""
    if not callable(function) or isinstance(function, type):
        raise InputError(
            f"{section}: it is {type(function).__name__}; write a function, or a class that extends paretoray.Objective"
        )
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise InputError(f"{section}: {error}; wrap it in a function of your own") from error
    asks = {key for key in parameters if key in GIVEN}
    if not {"network", "architecture", "arch"} & asks:
        raise InputError(
            f"{section}: the function has the parameters ({', '.join(parameters)}); write def {function.__name__}(network, "
            "example) or (architecture), by these names"
        )
    if parameters.keys() & arguments.keys() & set(GIVEN):
        raise InputError(f"{section}.arguments: {', '.join(GIVEN)} are filled in; leave them out")
    return asks, keywords(function, arguments, f"{section}.arguments", supplied=GIVEN)


def _check_task(resources: Mapping[str, float] | None, timeout: float | None) -> None:
    if timeout is not None and timeout <= 0:
        raise ValueError(f"timeout = {timeout}; write seconds above 0")
    if timeout is not None and resources is None:
        raise ValueError("timeout needs resources, as a function in this process cannot be ended; write resources = {CPU = 1}")
    for key, amount in (resources or {}).items():
        if amount <= 0 or not key.strip():
            raise ValueError(f"resources: {key!r} = {amount}; write how much of it a measurement takes, above 0")


class ArchitectureFunction(Objective):
    """A cost that a function works out from the architecture alone (see `own`)."""

    def __init__(
        self, space: SearchSpace, direction: Direction, function: Callable[..., Any], settings: dict[str, Any], asks: set[str]
    ) -> None:
        super().__init__(space)
        self.direction, self.function, self._settings, self._asks = direction, function, settings, asks
        self.column, self.title = direction.column, direction.title

    @property
    def code(self) -> Callable[..., object]:
        return self.function

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        given = _given(self.space, architecture, self._asks)
        try:
            value = number(self.function(**given, **self._settings))
        except NoMeasurement as error:
            raise NetworkFailed(f"{self.direction.section}: {error}") from error
        return self.direction.cost(value)


class NetworkFunction(MeasuredObjective):
    """A cost that a function measures with the network at hand, in the worker's process or as a task of Ray (see `own`).

    Attributes:
        elsewhere: Calls a function with keywords, holding resources, for so many seconds at most; None without a cluster.
    """

    elsewhere: Callable[[Callable[..., Any], dict[str, Any], dict[str, float], float | None], object] | None = None

    def __init__(
        self,
        space: SearchSpace,
        direction: Direction,
        function: Callable[..., Any],
        settings: dict[str, Any],
        asks: set[str],
        *,
        batch: int,
        resources: dict[str, float] | None,
        timeout: float | None,
        retries: int,
        cache: str | None,
    ) -> None:
        # By its text, so that a function that was changed is not taken for the one before.
        try:
            text = inspect.getsource(function)
        except (OSError, TypeError):
            text = ""
        what = [f"{function.__module__}:{function.__qualname__}", hashlib.sha256(text.encode()).hexdigest(), settings, batch]
        super().__init__(space, direction, what, retries=retries, cache=cache)
        self.function, self._settings, self._asks, self.batch = function, settings, asks, batch
        self.resources, self.timeout = resources, timeout

    @property
    def code(self) -> Callable[..., object]:
        return self.function

    def measure(self, architecture: Architecture, network: Callable[[], nn.Module], image: Tensor) -> object:
        given = _given(self.space, architecture, self._asks)
        if "network" in self._asks:
            # A copy, as other objectives measure the same one.
            module = copy.deepcopy(network())
            given["network"] = (module if self.resources is None else module.cpu()).eval()
        if "example" in self._asks:
            example = repeated(image, self.batch)
            given["example"] = example if self.resources is None else example.cpu()
        if self.resources is None:
            with torch.no_grad():
                return self.function(**given, **self._settings)
        if self.elsewhere is None:
            raise InputError(f"{self.direction.section}.resources need Ray; leave them out, or workers.ray = false")
        return self.elsewhere(self.function, given | self._settings, self.resources, self.timeout)


def _given(space: SearchSpace, architecture: Architecture, asks: set[str]) -> dict[str, Any]:
    given: dict[str, Any] = {"architecture": architecture, "space": space}
    if "arch" in asks:
        given["arch"] = space.format(architecture)
    return {key: value for key, value in given.items() if key in asks}
