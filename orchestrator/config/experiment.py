"""Schema of an experiment: every section with its keywords checked and completed, and nothing built yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import tomli_w

from orchestrator.config.problem import CLASSIFY, Goal, Problem, Sources, goals_of, make_task, task_component
from orchestrator.config.settings import AUTO, Budget, Front, Logging, Proxy, Retraining, Sweep, Workers
from orchestrator.config.spaces import space_component
from orchestrator.config.start import notations
from orchestrator.data import loaders
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError
from orchestrator.evaluators.base import Evaluator
from orchestrator.evaluators.from_scratch import FromScratch
from orchestrator.evaluators.supernet import Supernet
from orchestrator.evaluators.training_free import SCORES
from orchestrator.registry import Component, find, keywords, known, name_of, nearest, similar
from searchers import Searcher

SECTIONS = (
    "data", "task", "space", "proxy", "searcher", "objectives", "training", "budget", "front", "sweep", "workers", "retrain",
    "logging",
)  # fmt: skip
_FIRST = {
    "proxy": "size", "budget": "epochs", "front": "judge", "sweep": "halving", "workers": "count", "retrain": "members",
    "logging": "mlflow",
}  # fmt: skip
"""A key of the sections that have no name."""
EVALUATORS: dict[str, type[Evaluator]] = {"supernet": Supernet, "from-scratch": FromScratch}
"""Our evaluators by name: shared weights, or each network trained from scratch."""

DEFAULT: dict[str, Any] = {
    "data": {"name": "digits"},
    "space": {"name": "nas-bench-201", "channels": 4, "cells": 2},
    "searcher": {"name": "tnd-nas"},
    "objectives": {"error": {}, "parameters": {}, "latency": {}},
    "training": {"batch": 32, "lr": 0.1},
    "budget": {"epochs": 90.0, "interval": 8},
    "retrain": {"epochs": 20, "batch": 32, "lr": 0.1},
}
"""The built-in experiment: real scans that scikit-learn ships, small enough for two cores and a few minutes."""


@dataclass(frozen=True)
class Experiment:
    """Names and settings of everything, a budget and a seed.

    Args:
        data: Loader of the images.
        space: Search space.
        searcher: Method.
        objectives: Objectives by name; the first is the error.
        training: Evaluator with its settings.
        budget: Budget of the search.
        front: Settings of how the front is chosen.
        sweep: Settings of several searches that run as one sweep or benchmark.
        workers: Workers of the search.
        retrain: Settings of the training of the front's members at the end.
        logging: Trackers of experiments that are told of the run.
        proxy: Smaller networks and data, on which the search trains and judges; "auto" for those that the time allows. A list
            has the first of them for that, and networks climb from it over the others to the target.
        ladder: Those others, the most faithful last, and the target; empty without a list.
        task: What networks are trained for, and the metric that they are judged by.
        seed: Seed of all randomness but the split of the data.
        start_from: Notations of the networks that the search begins with, `searcher.start_from` in a file.
    """

    data: Component
    space: Component
    searcher: Component
    objectives: Mapping[str, Goal]
    training: Component
    budget: Budget = field(default_factory=Budget)
    front: Front = field(default_factory=Front)
    sweep: Sweep = field(default_factory=Sweep)
    workers: Workers = field(default_factory=Workers)
    retrain: Retraining = field(default_factory=Retraining)
    logging: Logging = field(default_factory=Logging)
    proxy: Proxy | Literal["auto"] = field(default_factory=Proxy)
    ladder: tuple[Proxy, ...] = ()
    task: Component = field(default_factory=lambda: task_component(CLASSIFY, {}))
    seed: int = 0
    start_from: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], sources: Sources | None = None) -> Experiment:
        """Check the sections of a file.

        Args:
            given: The sections.
            sources: Sources of a problem that was made in Python, which replace the file's data, space and objectives.

        Raises:
            InputError: For whatever cannot be run, with what to write instead.
        """
        given = {key: {"name": value} if key == "task" and isinstance(value, str) else value for key, value in given.items()}
        for key, section in given.items():
            if key not in (*SECTIONS, "seed"):
                raise InputError(f"unknown section or key {key!r}{nearest(key, (*SECTIONS, 'seed'))}")
            listed = key == "proxy" and isinstance(section, list) and all(isinstance(place, dict) for place in section)
            if key in SECTIONS and not isinstance(section, dict) and not listed and (key, section) != ("proxy", AUTO):
                hint = similar(str(section), [AUTO]) if key == "proxy" else ""
                raise InputError(
                    f"{key} = {section!r}; it is a section, write for example {key}.{_FIRST.get(key, 'name')}=...{hint}"
                )
        seed = keywords(_seed, {k: given[k] for k in ("seed",) if k in given}, "experiment")["seed"]
        merged: dict[str, dict[str, Any]] = {name: dict(given.get(name, {})) for name in SECTIONS if name != "proxy"}
        proxy, ladder = _proxies(given.get("proxy", {}))
        task = merged["task"]
        asked = task_component(task.pop("name", CLASSIFY), task) if sources is None else sources.task
        objectives = goals_of(merged["objectives"], asked) if sources is None else sources.objectives
        workers = Workers(**keywords(Workers, merged["workers"], "workers"))
        training = training_component(merged["training"].pop("name", "supernet"), merged["training"])
        shape, images, method = (merged[section] for section in ("space", "data", "searcher"))
        start_from = notations(method.pop("start_from", ()))
        experiment = cls(
            data=loaders.component(_name(images, "data"), images) if sources is None else sources.data,
            space=space_component(_name(shape, "space"), shape) if sources is None else sources.space,
            searcher=searcher_component(_name(method, "searcher"), method),
            objectives=objectives,
            training=training,
            budget=Budget(**keywords(Budget, merged["budget"], "budget")),
            front=Front(**keywords(Front, merged["front"], "front")),
            sweep=Sweep(**keywords(Sweep, merged["sweep"], "sweep")),
            workers=workers,
            retrain=Retraining(**keywords(Retraining, merged["retrain"], "retrain")),
            logging=Logging(**keywords(Logging, merged["logging"], "logging")),
            proxy=proxy,
            ladder=ladder,
            task=asked,
            seed=seed,
            start_from=start_from,
        )
        return experiment.checked()

    def checked(self) -> Experiment:
        """Return the experiment with the settings that follow from other sections. Raises InputError where two contradict."""
        if self.seed < 0:
            raise InputError(f"seed = {self.seed}; seeds count from 0")
        if self.ladder:
            self._check_ladder()
        for name in self.front.scores:
            if name not in SCORES:
                raise InputError(f"front.scores: there is no training-free score {name!r}{nearest(name, SCORES)}")
        batch = self.training.settings.get("batch")
        if self.shares_weights and batch is not None and batch < self.workers.count:
            raise InputError(f"training.batch = {batch}: {self.workers.count} workers need an image of each batch")
        method = self.searcher.factory
        assert isinstance(method, type) and issubclass(method, Searcher)
        asked = {name: value for name, value in self.searcher.settings.items() if name in self.searcher.chosen}
        try:
            resolved = method.resolve(asked, shared_weights=self.shares_weights)
        except ValueError as error:
            raise InputError(f"searcher.{error}") from error
        return replace(self, searcher=replace(self.searcher, settings={**self.searcher.settings, **resolved}))

    def _check_ladder(self) -> None:
        """Raise InputError where proxies of a list are the same, or nothing would be trained at those after the first."""
        places = [self.proxy, *self.ladder[:-1]]
        for number, place in enumerate(places, 1):
            if not place:
                raise InputError(f"proxy {number} of {len(places)} is the target, which comes last anyway; leave it out")
            if place in places[: number - 1]:
                raise InputError(f"proxy {number} of {len(places)}, {place}, is there twice; leave one out")
        if not self.front.judge:
            raise InputError(
                "front.judge = false: it is the judge that weighs a list of proxies; write true, or a single [proxy]"
            )
        if not self.budget.landmarks + self.budget.finalists:
            raise InputError(
                "budget.landmarks and budget.finalists are 0, so nothing climbs the list of proxies; write "
                "budget.finalists=0.25, or a single [proxy]"
            )
        if evaluator_class(self.training).train_alone is Evaluator.train_alone:
            raise InputError(
                f"training.name = {self.training.name!r} does not train networks alone, as a list of proxies needs it to; "
                "override train_alone, or write a single [proxy]"
            )

    @property
    def shares_weights(self) -> bool:
        """Tell whether candidates share weights, rather than being trained each by itself."""
        return evaluator_class(self.training).shares_weights

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without those that are None: TOML has no such value."""
        return _without_none(  # type: ignore[no-any-return]
            {
                "seed": self.seed,
                "data": self.data.to_dict(),
                **({} if self.task == task_component(CLASSIFY, {}) else {"task": self.task.to_dict()}),
                "space": self.space.to_dict(),
                **({"proxy": self._proxy()} if self.proxy else {}),
                "searcher": self.searcher.to_dict() | ({"start_from": list(self.start_from)} if self.start_from else {}),
                "objectives": {name: goal.to_dict() for name, goal in self.objectives.items()},
                "training": self.training.to_dict(),
                "budget": asdict(self.budget),
                "front": asdict(self.front),
                **({"sweep": halved} if (halved := self.sweep.to_dict()) else {}),
                "workers": asdict(self.workers),
                "retrain": asdict(self.retrain),
                "logging": asdict(self.logging),
            }
        )

    def _proxy(self) -> Any:
        if not isinstance(self.proxy, Proxy):
            return AUTO
        return [place.to_dict() for place in (self.proxy, *self.ladder[:-1])] if self.ladder else self.proxy.to_dict()

    def to_toml(self) -> str:
        """Format as a file."""
        return tomli_w.dumps(self.to_dict())

    def load_data(self) -> Dataset:
        """Read the images. Raises InputError."""
        return loaders.load(self.data, make_task(self.task))

    def problem(self, data: Dataset | None = None) -> Problem:
        """Resolve space, data and objectives. Raises InputError.

        Args:
            data: The images, where they are read already.
        """
        return Problem(self.space, self.load_data() if data is None else data, self.objectives)


def _proxies(given: Any) -> tuple[Proxy | Literal["auto"], tuple[Proxy, ...]]:
    """Read the section of the proxy, or a list of such sections. Raises InputError."""
    if given == AUTO:
        return "auto", ()
    if isinstance(given, Mapping):
        return Proxy(**keywords(Proxy, given, "proxy")), ()
    return listed([Proxy(**keywords(Proxy, place, "proxy")) for place in given])


def listed(proxies: Sequence[Proxy]) -> tuple[Proxy, tuple[Proxy, ...]]:
    """Divide a list of proxies into the search's own and those that networks climb over. Raises InputError for none."""
    if not proxies:
        raise InputError("proxy = []: name a proxy, as proxy=[{size=8},{size=16}], or leave it out")
    return proxies[0], (*proxies[1:], Proxy())


def _seed(seed: int = 0) -> None:
    """Declare the type of the one key that is in no section."""


def evaluator_class(training: Component) -> type[Evaluator]:
    """Return the class that a training section names."""
    factory = training.factory
    assert isinstance(factory, type) and issubclass(factory, Evaluator)
    return factory


def training_component(name: Any, given: Mapping[str, Any]) -> Component:
    """Find an evaluator by name, entry point or `module:Class`, and check its settings. Raises InputError."""
    if isinstance(name, str) and name in EVALUATORS:
        factory: Callable[..., Any] = EVALUATORS[name]
    elif isinstance(name, str) and (":" in name or name in known("evaluator")):
        factory = find("evaluator", name, Evaluator)
    else:
        listed = [*EVALUATORS, *known("evaluator")]
        raise InputError(f"unknown training.name {name!r}{nearest(str(name), listed)}")
    return Component.of(name, factory, given, "training", Evaluator.SUPPLIED)


def find_searcher(name: str) -> type[Searcher]:
    """Find the class of a search method by name, entry point or `module:Class`. Raises InputError."""
    found = find("searcher", name, Searcher)
    assert isinstance(found, type) and issubclass(found, Searcher)
    return found


def searcher_component(method: str | type[Searcher], given: Mapping[str, Any]) -> Component:
    """Find a search method, and check its settings. Raises InputError."""
    name, cls = (method, find_searcher(method)) if isinstance(method, str) else (name_of("searcher", method), method)
    return Component.of(name, cls, given, "searcher", ("sizes", *cls.needs))


def _name(values: dict[str, Any], section: str) -> str:
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"{section}.name has no value; write {section}.name=..., as `paretoray list` shows them")
    return name


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, (list, tuple)) else value
