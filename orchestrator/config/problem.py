"""Problem that a search solves: space, data and objectives, resolved once and passed down."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from analysis.records import RESERVED
from orchestrator.config.settings import Proxy
from orchestrator.config.spaces import FROM_DATA, build_space, shrunk, source_of, space_component
from orchestrator.data import loaders
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError, attributed_to, plugin_packages
from orchestrator.objectives import predicted
from orchestrator.objectives.base import Metrics, Objective, Probe, TrainingFreeScore
from orchestrator.objectives.command import Command
from orchestrator.objectives.error import Error
from orchestrator.objectives.own import own
from orchestrator.objectives.predicted import ProfiledCost
from orchestrator.registry import UNNAMED, Component, check_magnitude, check_subclass, find, name_of
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.elastic.space import Elastic
from orchestrator.spaces.parts.inputs import sized
from orchestrator.spaces.parts.own import OwnSpace
from orchestrator.tasks import Metric, Task

CLASSIFY = "classification"
"""The task where none is named."""
_LOOKED_AT = 32
"""Examples that a user's network is run on, to look at its outputs."""
GOALS = ("at_most", "target", "dear")
"""Keys of every objective besides those of its class."""
_SUPPLIED: dict[Callable[..., Any], tuple[str, ...]] = {
    Error: ("task",),
    ProfiledCost: ("cost", "device"),
    Command: ("objective",),
    own: ("objective",),
}

ObjectiveLike = str | type[Objective] | Component
"""Ways to give an objective: its name, its class, or a class with settings."""


@dataclass(frozen=True)
class Goal:
    """An objective as an experiment names it.

    Args:
        objective: Its class and settings.
        at_most: The limit that a network has to keep, in the objective's unit; None for none.
        target: The cost that a scalarised method is to aim at, in the objective's unit; None for none.
        dear: Whether it is measured only for those networks that survive the others, the members of the front, after the
            search. The method does not know of it.
    """

    objective: Component
    at_most: float | None = None
    target: float | None = None
    dear: bool = False

    @classmethod
    def of(cls, name: str, given: Mapping[str, Any]) -> Goal:
        """Check an objective's settings, limit and target. Raises InputError."""
        section = f"objectives.{name}"
        settings = {key: value for key, value in given.items() if key not in GOALS}
        limits: dict[str, Any] = {
            key: _positive(given[key], f"{section}.{key}") for key in ("at_most", "target") if key in given
        }
        if "dear" in given:
            limits["dear"] = _dear(name, given)
        if name == "error" and "target" in limits:
            raise InputError(
                "objectives.error.target: the error is always to be as low as possible; a limit is written at_most"
            )
        file = settings.get("file")
        # A worker need not have the file, as it computes no costs; where it is needed, reading it says that it is missing.
        if _is_profiled(name) and (file is None or Path(file).exists()):
            name, found = predicted.resolve(name, file)
            settings |= found
        factory = objective_class(name)
        return cls(Component.of(name, factory, settings, section, supplied_of(factory), GOALS), **limits)

    @property
    def name(self) -> str:
        """The objective's key in an experiment."""
        return self.objective.name

    def build(self, space: SearchSpace, task: Task | None = None) -> Objective:
        """Make the objective for the networks of `space`, which are trained for `task`, or classify. Raises InputError."""
        cost, _, device = self.name.partition("@")
        supplied = {"cost": cost, "device": device, "objective": self.name, "task": task}
        from_name = {key: supplied[key] for key in supplied_of(self.objective.factory) if key in supplied}
        section = f"objectives.{self.name}"
        with attributed_to(plugin_packages([self.objective.factory]), InputError):
            made = self.objective.build(section, space, **from_name)
        assert isinstance(made, Objective)
        for attribute in ("column", "title"):
            text = getattr(made, attribute, None)
            if not isinstance(text, str) or not text.strip() or not text.isprintable():
                raise InputError(f"{section}: its {attribute} is {text!r}; write its name and unit, in one line")
        return made

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a section of an experiment file."""
        limits = {key: value for key in GOALS if (value := getattr(self, key)) not in (None, False)}
        return {**self.objective.settings, **limits}


def objective_class(name: str) -> Callable[..., Any]:
    """Find the class of an objective by name, entry point or `module:Class`. Raises InputError."""
    if _is_profiled(name):
        return ProfiledCost
    if name.partition("@")[0] == "command":
        return Command
    if ":" in name and not isinstance(find("objective", name), type):
        return own
    return find("objective", name, Objective)


def supplied_of(factory: Callable[..., Any]) -> tuple[str, ...]:
    """Name the keywords of an objective that follow from its name or from the space, and are not for the user to set."""
    return ("space", *_SUPPLIED.get(factory, ()))


def _is_profiled(name: str) -> bool:
    return "@" in name and ":" not in name and name.partition("@")[0] != "command"


def _dear(name: str, given: Mapping[str, Any]) -> bool:
    section = f"objectives.{name}"
    if not isinstance(given["dear"], bool):
        raise InputError(f"{section}.dear = {given['dear']!r}: write true or false")
    if given["dear"] and name == "error":
        raise InputError("objectives.error.dear: every network is judged by its error; it cannot be left for the front")
    if given["dear"] and "target" in given:
        raise InputError(f"{section}.target: the method does not know of a dear objective; write at_most, or dear = false")
    return bool(given["dear"])


def _positive(value: Any, setting: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(f"{setting} = {value!r}: write a positive number, in the objective's own unit")
    check_magnitude(value, setting)
    return float(value)


def goals_of(objectives: Mapping[str, Any] | Iterable[ObjectiveLike], task: Component | None = None) -> dict[str, Goal]:
    """Check a problem's objectives, which begin with the error and have at least one cost besides.

    Args:
        objectives: As `Problem` takes them.
        task: The task, whose metric may stand for the error.

    Raises:
        InputError: For whatever cannot be searched.
    """
    listed: Iterable[tuple[Any, Any]] = objectives.items() if isinstance(objectives, Mapping) else [(o, {}) for o in objectives]
    found: dict[str, Goal] = {}
    metric = "error" if task is None else make_task(task).metric.name
    for number, (objective, values) in enumerate(listed):
        if not number and objective == metric:
            objective = "error"
        goal = _goal(objective, values)
        if goal.name in found:
            raise InputError(f"objectives name {goal.name} twice; give one of the two files another name")
        found[goal.name] = goal
    if not found or next(iter(found)) != "error":
        alias = f" (or {metric}, the task's metric)" if metric not in ("error", "accuracy") else ""
        raise InputError(
            f"objectives must begin with error{alias}, and name at least one cost, as in error, parameters, latency"
        )
    if len(found) < 2:
        raise InputError("objectives names error alone; a trade-off needs a second, as in objectives.macs={}")
    if all(goal.dear for goal in list(found.values())[1:]):
        raise InputError(
            f"objectives.{list(found)[1]}.dear: the search itself needs a cost besides the error; add one that is quick to "
            "tell, as parameters, or write dear = false"
        )
    return found


def _goal(objective: Any, values: Any) -> Goal:
    if isinstance(values, Goal):
        return values
    if isinstance(objective, str):
        if not isinstance(values, Mapping):
            raise InputError(
                f"objectives.{objective} = {values!r}; write objectives.{objective}.KEY=..., or {{}} for the defaults"
            )
        return Goal.of(objective, values)
    if isinstance(objective, Component):
        return Goal.of(objective.name, {**objective.settings, **values})
    check_subclass(objective, Objective, f"objectives: {objective!r}")
    return Goal(Component.of(name_of("objective", objective), objective, values, "objectives", supplied_of(objective)))


def _check_columns(objectives: Mapping[str, Objective]) -> None:
    """Raise InputError where two objectives, or an objective and the tables of every run, have the same column."""
    owners = dict.fromkeys(RESERVED, "every run")
    for name, objective in objectives.items():
        for column in (objective.column, *([objective.spread] if objective.spread else [])):
            if column in owners:
                raise InputError(
                    f"objectives.{name}: its column {column!r} is one of {owners[column]} already; give it another `column`"
                )
            owners[column] = name


@dataclass(frozen=True, init=False)
class Problem:
    """A space, data and objectives, resolved from names or given as objects.

    Args:
        space: A name (`"nas-bench-201"`, `"module:function"`), a `SearchSpace`, one of `paretoray.spaces` with settings, what
            `paretoray.elastic` makes of a trained model, or a function `build(image, classes)` that returns a module with a
            `Choice` in it or an elastic one.
        data: A name (`"digits"`), one of `paretoray.data` with settings, or a `Dataset`, which has its own task.
        objectives: Names, classes of `Objective`, or a mapping from names to settings, in which `at_most` is a limit and
            `target` what a scalarised method aims at. The first one is `error`, or the name of the task's metric.
        task: A name (`"regression"`, `"module:Class"`), or one of `paretoray.tasks` with settings; None for classification, or
            the task of a `Dataset`.

    Attributes:
        space: The resolved `SearchSpace`.
        data: The resolved `Dataset`.
        objectives: The resolved objectives that a search knows of, in their order.
        later: The dear ones, which are measured for the members of the front alone.
        sources: How an experiment file names the four.

    Raises:
        InputError: For whatever cannot be searched, with what to write instead.

    Example:
        >>> problem = Problem("digits-tiny", "digits", {"error": {}, "parameters": {"at_most": 20_000}})
        >>> problem.columns, problem.limits
        (['error_percent', 'parameters'], [None, 20000.0])
    """

    space: SearchSpace
    data: Dataset
    objectives: tuple[Objective, ...]
    later: tuple[Objective, ...]
    sources: Sources

    def __init__(
        self,
        space: str | SearchSpace | Component | Elastic | Callable[..., Any] = "nas-bench-201",
        data: str | Dataset | Component = "digits",
        objectives: Mapping[str, Any] | Iterable[ObjectiveLike] = ("error", "parameters"),
        task: str | type[Task] | Component | None = None,
    ) -> None:
        asked = _task_source(task, data)
        goals = goals_of(objectives, asked)
        images = data if isinstance(data, Dataset) else loaders.load(_data_source(data), make_task(asked))
        source = source_of(space) if isinstance(space, SearchSpace) else space_source(space)
        resolved = space
        if not isinstance(space, SearchSpace):
            resolved = build_space(source, images.image, images.task.outputs[0])
        assert isinstance(resolved, SearchSpace)
        if (resolved.image, resolved.classes) != (images.image, images.task.outputs[0]):
            raise InputError(
                f"the space is for images of {sized(resolved.image)} and {resolved.classes} classes; the data has "
                f"{sized(images.image)} and {images.task.outputs[0]}"
            )
        if images.task.outputs[1:] and not isinstance(resolved, OwnSpace):
            raise InputError(
                f"task.name = {images.task.name!r} needs a map of the pixels for each class, and networks of {resolved.name} "
                "return a number for each; write space.name=module:function with a network of your own (docs/own-space.md)"
            )
        named = images.source or Component(UNNAMED, lambda: images)
        object.__setattr__(self, "space", resolved)
        object.__setattr__(self, "data", images)
        object.__setattr__(self, "sources", Sources(named, source, goals, asked))
        built = {name: goal.build(resolved, images.task) for name, goal in goals.items()}
        object.__setattr__(self, "objectives", tuple(o for name, o in built.items() if not goals[name].dear))
        object.__setattr__(self, "later", tuple(o for name, o in built.items() if goals[name].dear))
        _check_columns(built)

    def on(self, data: Dataset) -> Problem:
        """Return the same problem on other data of the same shape and classes, as on a part of it."""
        changed = copy.copy(self)
        changed.__dict__.update(data=data, _proxies={})
        return changed

    def at(self, proxy: Proxy) -> Problem:
        """Return the problem on which weights are trained at a proxy: the same choices, networks that are smaller, less data.

        An architecture means the same in both, and objectives are still those of this problem: of its own networks.

        Raises:
            InputError: For a proxy that is larger than this problem, or smaller than it can be, with the nearest value that
                works.
        """
        if not proxy:
            return self
        known: dict[Proxy, Problem] = self.__dict__.setdefault("_proxies", {})  # images are averaged once
        if proxy not in known:
            left = len(self.data.remaining(proxy.without)) if proxy.without else self.task.outputs[0]
            space = shrunk(self.space, proxy, left)
            data = self.data.smaller(proxy.size, proxy.share, proxy.without)
            known[proxy] = copy.copy(self)
            known[proxy].__dict__.update(space=space, data=data, _proxies={})
        return known[proxy]

    @property
    def task(self) -> Task:
        """Return what networks are trained for, with the metric that they are judged by."""
        return self.data.task

    def quality(self, cost: float) -> Metrics:
        """Return what an evaluator would measure of a network whose error, or what the task has in its place, is `cost`."""
        return {self.task.metric.name: self.task.metric.to_value(cost)}

    @property
    def goals(self) -> list[Goal]:
        """The objectives that a search knows of, with their limits and targets."""
        return [goal for goal in self.sources.objectives.values() if not goal.dear]

    @property
    def later_goals(self) -> list[Goal]:
        """The dear objectives, with their limits."""
        return [goal for goal in self.sources.objectives.values() if goal.dear]

    @property
    def limits(self) -> list[float | None]:
        """Upper bound of each objective, None for no bound."""
        return [goal.at_most for goal in self.goals]

    @property
    def targets(self) -> dict[str, float]:
        """The costs that a scalarised method is to aim at, by the objective's name, where they are given."""
        return {goal.name: goal.target for goal in self.goals if goal.target is not None}

    @property
    def columns(self) -> list[str]:
        """Names of the objectives' columns, with their units."""
        return [objective.column for objective in self.objectives]

    @property
    def probes(self) -> list[Probe]:
        """The objectives that run a network on the device where the search runs."""
        return [objective for objective in self.objectives if isinstance(objective, Probe)]

    @property
    def scores(self) -> list[str]:
        """Names of the training-free scores among the objectives."""
        return [objective.score for objective in self.objectives if isinstance(objective, TrainingFreeScore)]

    @property
    def warnings(self) -> list[str]:
        """Warnings about the reliability of some objectives' figures, and about a user's network."""
        return [*(objective.warning for objective in self.objectives if objective.warning), *self._doubts]

    @cached_property
    def _doubts(self) -> list[str]:
        """Say what is odd with the outputs of a user's network on a few examples; what fails there is said before a search."""
        if not isinstance(self.space, OwnSpace):
            return []
        try:
            network = self.space.network((0,) * len(self.space.choices)).eval()
            with torch.no_grad():
                said = self.task.doubt(network(self.data.normalise(self.data.train.images[:_LOOKED_AT])))
        except Exception:  # of the user's code
            return []
        return [f"{self.space.name} {said}"] if said else []


@dataclass(frozen=True)
class Sources:
    """Names of a problem's parts in an experiment file."""

    data: Component
    space: Component
    objectives: Mapping[str, Goal]
    task: Component = field(default_factory=lambda: task_component(CLASSIFY, {}))


def task_component(name: Any, given: Mapping[str, Any]) -> Component:
    """Find a task by name, entry point or `module:Class`, and check its settings. Raises InputError."""
    if not isinstance(name, str):
        raise InputError(f"task.name = {name!r}: write the name of a task, as `paretoray list tasks` shows them")
    found = Component.of(name, find("task", name, Task), given, "task")
    make_task(found)
    return found


def make_task(source: Component) -> Task:
    """Make a task with its settings, before it has seen any data. Raises InputError."""
    try:
        with attributed_to(plugin_packages([source.factory]), InputError):
            made = source.factory(**source.settings)
    except ValueError as error:
        raise InputError(f"task.{error}") from error
    if not isinstance(getattr(made, "metric", None), Metric):
        raise InputError(f"task.name = {source.name!r}: it has no `metric`; call super().__init__(metric) in its __init__")
    assert isinstance(made, Task)
    return made


def _task_source(task: str | type[Task] | Component | None, data: object) -> Component:
    if isinstance(data, Dataset):
        own = Component(data.task.name, type(data.task), data.task.settings)
        if task is not None:
            raise InputError("task: a Dataset has its own; give it there, as Dataset(..., task=...)")
        return own
    if task is None or isinstance(task, str):
        return task_component(CLASSIFY if task is None else task, {})
    if isinstance(task, Component):
        make_task(task)
        return task
    check_subclass(task, Task, f"task = {task!r}")
    return task_component(name_of("task", task), {})


def _data_source(data: str | Component) -> Component:
    if isinstance(data, Component):
        return data
    if not isinstance(data, str):
        raise InputError(f"data is {type(data).__name__}; give a name, one of paretoray.data, or a Dataset")
    return loaders.component(data, {})


def space_source(space: str | Component | Elastic | Callable[..., Any]) -> Component:
    """Say how an experiment would name a space that is not built yet. Raises InputError."""
    if isinstance(space, Component):
        return space
    if isinstance(space, str):
        return space_component(space, {})
    if isinstance(space, Elastic):
        return Component(UNNAMED, space.build)
    if isinstance(space, type) and issubclass(space, SearchSpace):
        return Component.of(name_of("space", space), space, {}, "space", FROM_DATA)
    if callable(space):
        name = f"{getattr(space, '__module__', '?')}:{getattr(space, '__qualname__', '?')}"
        return Component.of(name, space, {}, "space", FROM_DATA)
    raise InputError(f"space is {type(space).__name__}; give a name, a SearchSpace, or a function build(image, classes)")
