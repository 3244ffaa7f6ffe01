"""An experiment: names and keywords of everything, a budget and a seed, read from one TOML file and the command line."""

from __future__ import annotations

import copy
import inspect
import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from orchestrator import data, devices, names
from orchestrator.data import Dataset
from orchestrator.devices import Predicted
from orchestrator.errors import InputError
from orchestrator.evaluators.from_scratch import FromScratch
from orchestrator.evaluators.supernet import Supernet
from orchestrator.objectives.base import Objective, Probe
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.own import OwnSpace
from searchers import SearchContext, Searcher

_GOALS = ("at_most", "target")
"""Keys of every objective: what it may be at most, and the cost that a scalarised method is to aim at."""
# What the orchestrator fills in itself; a file cannot set it.
_SPACE = ("image", "classes")
_OBJECTIVE = ("space", "cost", "device")
_TRAINING = ("space", "data", "probes", "seed", "device", "rank", "world")

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
class Budget:
    """epochs: passes over the train part, over the whole search. interval: weight steps per round; each round asks the
    searcher once. seconds, evaluations: stop sooner, once so much time has passed or so many architectures were measured.
    validate: how many of a stage's best are measured again on the whole validation part at its end. checkpoint: seconds
    between checkpoints."""

    epochs: float = 75.0
    interval: int = 4
    seconds: float | None = None
    evaluations: int | None = None
    validate: int = 32
    checkpoint: float = 20.0

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.interval < 1 or self.validate < 1 or self.checkpoint <= 0:
            raise InputError(
                f"[budget] epochs = {self.epochs}, interval = {self.interval}, validate = {self.validate}, checkpoint = "
                f"{self.checkpoint}; all must be positive"
            )
        for name, limit in (("seconds", self.seconds), ("evaluations", self.evaluations)):
            if limit is not None and limit <= 0:
                raise InputError(f"budget.{name} = {limit}; it must be positive, or be left out")


@dataclass(frozen=True)
class Workers:
    """ray: host the supernets in Ray actors; false runs all in this process. count: replicas. cpus: threads of each. gpus:
    GPUs of each, fractions allowed. address: of a running Ray cluster; without it a private one is started here."""

    ray: bool = True
    count: int = 2
    cpus: int = 1
    gpus: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or self.cpus < 1 or self.gpus < 0:
            raise InputError(f"[workers] count = {self.count}, cpus = {self.cpus}, gpus = {self.gpus}: cannot run with these")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise InputError(f"workers.gpus = {self.gpus}; above 1 it must be a whole number")
        if not self.ray and self.count != 1:
            raise InputError("workers.ray = false runs one replica in this process; write workers.count=1, or use Ray")

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class Retraining:
    """members: how many networks of the front are trained from scratch at the end, on the train and validation parts, and
    tested on the test part; 0 for none. The rest: SGD with a cosine to 0, and the layout of images, as for the supernet."""

    members: int = 5
    epochs: int = 100
    batch: int = 96
    lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    channels_last: bool = True

    def __post_init__(self) -> None:
        positive = self.epochs >= 1 and self.batch >= 1 and self.lr > 0 and self.clip > 0
        if self.members < 0 or not positive or not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise InputError(
                f"[retrain] members = {self.members}, epochs = {self.epochs}, batch = {self.batch}, lr = {self.lr}, clip = "
                f"{self.clip}, momentum = {self.momentum}, weight_decay = {self.weight_decay}: cannot train with these"
            )


@dataclass(frozen=True)
class Experiment:
    """The resolved experiment: every keyword has a value. Keywords are checked here, once."""

    data: dict[str, Any]
    space: dict[str, Any]
    searcher: dict[str, Any]
    objectives: dict[str, dict[str, Any]]
    training: dict[str, Any] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    workers: Workers = field(default_factory=Workers)
    retrain: Retraining = field(default_factory=Retraining)
    seed: int = 0

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Experiment:
        """Raises InputError for whatever cannot be run, and says what to write instead."""
        top = names.keywords(cls, {k: v for k, v in given.items() if k in ("seed",)}, "experiment", supplied=_SECTIONS)
        for key, section in given.items():
            if key not in (*_SECTIONS, "seed"):
                raise InputError(f"unknown section or key {key!r}{names.nearest(key, (*_SECTIONS, 'seed'))}")
            if key in _SECTIONS and not isinstance(section, dict):
                raise InputError(f"{key} = {section!r}; it is a section, write for example {key}.name=...")
        if top["seed"] < 0:
            raise InputError(f"seed = {top['seed']}; seeds count from 0")
        merged = {name: given.get(name, {}) for name in _SECTIONS}
        shape = dict(merged["space"])
        space = _name(shape, "space")
        own = dict(merged["data"])
        dataset = _name(own, "data")
        objectives = {}
        for name, values in merged["objectives"].items():
            if not isinstance(values, dict):
                raise InputError(f"objectives.{name} = {values!r}; write objectives.{name}.KEY=..., or {{}} for the defaults")
            own_values = {key: value for key, value in values.items() if key not in _GOALS}
            file = own_values.get("file")
            # A worker need not have the file, as it prices nothing; where it is needed, reading it says that it is missing.
            if "@" in name and (file is None or Path(file).exists()):
                name, found = devices.resolve(name, file)
                own_values |= found
                if name in objectives:
                    raise InputError(f"objectives name {name} twice; give one of the two files another name")
            checked = names.keywords(_objective(name)[0], own_values, f"objectives.{name}", supplied=_OBJECTIVE)
            objectives[name] = checked | _goals(values, f"objectives.{name}")
        if not objectives or next(iter(objectives)) != "error":
            raise InputError("objectives must begin with error, and name at least one cost, as in error, parameters, latency")
        if len(objectives) < 2:
            raise InputError("objectives names error alone; a trade-off needs a second, as in objectives.macs={}")
        workers = Workers(**names.keywords(Workers, merged["workers"], "workers"))
        trained = dict(merged["training"])
        trainer = trained.pop("name", "supernet")
        if trainer not in EVALUATORS:
            raise InputError(f"unknown training.name {trainer!r}{names.nearest(str(trainer), EVALUATORS)}")
        training = {"name": trainer} | names.keywords(EVALUATORS[trainer], trained, "training", supplied=_TRAINING)
        if trainer == "supernet" and training["batch"] < workers.count:
            raise InputError(f"training.batch = {training['batch']}: {workers.count} workers need an image of each batch")
        chosen = dict(merged["searcher"])
        method = _name(chosen, "searcher")
        cls_searcher = find_searcher(method)
        try:
            chosen = cls_searcher.resolve(chosen, shared_weights=trainer != "from-scratch")
        except ValueError as error:
            raise InputError(f"searcher.{error}") from error
        searcher = names.keywords(cls_searcher, chosen, "searcher", supplied=("sizes", *cls_searcher.needs))
        return cls(
            data={"name": dataset} | data.settings(dataset, own),
            space={"name": space} | names.keywords(find_space(space), shape, "space", supplied=_SPACE),
            searcher={"name": method} | searcher,
            objectives=objectives,
            training=training,
            budget=Budget(**names.keywords(Budget, merged["budget"], "budget")),
            workers=workers,
            retrain=Retraining(**names.keywords(Retraining, merged["retrain"], "retrain")),
            seed=top["seed"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without those that are None: TOML has no such value."""
        plain = _without_none(asdict(self))
        assert isinstance(plain, dict)
        return {"seed": plain.pop("seed")} | plain

    def to_toml(self) -> str:
        return tomli_w.dumps(self.to_dict())

    def load_data(self) -> Dataset:
        return data.load(self.data["name"], _rest(self.data))

    def build_space(self, dataset: Dataset) -> SearchSpace:
        return make_space(self.space["name"], _rest(self.space), dataset.image, len(dataset.classes))

    def build_objectives(self, space: SearchSpace) -> list[Objective]:
        return [self._build_objective(name, space) for name in self.objectives]

    def _build_objective(self, name: str, space: SearchSpace) -> Objective:
        cls, given = _objective(name)
        own = {k: v for k, v in self.objectives[name].items() if k not in _GOALS}
        made = names.build(cls, own, f"objectives.{name}", space, **given)
        assert isinstance(made, Objective)
        return made

    @property
    def limits(self) -> list[float | None]:
        """What each objective may be at most."""
        return [values.get("at_most") for values in self.objectives.values()]

    @property
    def alone(self) -> int | None:
        """Epochs that each candidate is trained for by itself; None where candidates share weights."""
        return int(self.training["epochs"]) if self.training["name"] == "from-scratch" else None

    def build_searcher(self, space: SearchSpace, objectives: Sequence[Objective], rounds: int) -> Searcher:
        """Make the searcher for so many rounds. Raises InputError for a method that cannot search here."""
        cls, own = find_searcher(self.searcher["name"]), _rest(self.searcher)
        context = SearchContext(
            sizes=space.sizes,
            rounds=rounds,
            steps=rounds * self.budget.interval,
            seed=self.seed,
            limits=tuple(self.limits[1:]),
            targets=self._targets(cls),
            shared_weights=self.alone is None,
            space=space,
            cost_models=objectives[1:],
        )
        if self.alone is not None:
            # With any number of rounds, lest it complains of having too few first.
            long = names.build(cls.build, own, "searcher", replace(context, rounds=10_000))
            if long.mixes or long.stage.stages > 1:
                raise InputError(
                    f"searcher.name = {self.searcher['name']!r} needs shared weights; with training.name = 'from-scratch' take "
                    "one that only asks for networks, as nsga-net and random-search do"
                )
        made = names.build(cls.build, own, "searcher", context)
        assert isinstance(made, Searcher)
        if made.mixes and not space.relaxed:
            raise InputError(
                f"searcher.name = {self.searcher['name']!r} mixes operations with weights, and {self.space['name']} has no "
                "mixtures; take one that samples networks, as searcher.name=random-search does"
            )
        return made

    def _targets(self, cls: type[Searcher]) -> tuple[float, ...] | None:
        """The objectives' targets, for a searcher that aims at them. Raises InputError."""
        aims = {name: values["target"] for name, values in self.objectives.items() if "target" in values}
        if not aims:
            return None
        name, key = self.searcher["name"], cls.target_setting
        if key is None:
            raise InputError(f"objectives.{next(iter(aims))}.target: {name} aims at none; a limit is written at_most")
        if self.searcher.get(key) is not None:
            raise InputError(f"searcher.{key} and objectives.{next(iter(aims))}.target say the same; leave one out")
        if list(aims) != list(self.objectives)[1:]:
            raise InputError(f"objectives.*.target: {name} needs one for every objective after the error, or none at all")
        return tuple(aims.values())

    def build_evaluator(self, dataset: Dataset, *, rank: int = 0, world: int = 1) -> Supernet | FromScratch:
        """One replica, on this process's device."""
        space = self.build_space(dataset)
        # A device's file need not be there where a worker runs.
        here = [self._build_objective(name, space) for name in self.objectives if "@" not in name]
        probes = [objective for objective in here if isinstance(objective, Probe)]
        given = _rest(self.training) | {"seed": self.seed, "device": self.workers.device}
        if self.alone is not None:
            return FromScratch(space, dataset, probes, **given)
        if given["statistics"] is None:
            # As the method's authors have it: a network that was just trained has running averages of its own.
            given["statistics"] = "running" if find_searcher(self.searcher["name"]).full_validation else "batch"
        return Supernet(space, dataset, probes, **given, rank=rank, world=world)


EVALUATORS: dict[str, Callable[..., Any]] = {"supernet": Supernet, "from-scratch": FromScratch}
"""What training.name may be: weights that all networks share, or each network by itself."""


def _objective(name: str) -> tuple[Callable[..., Any], dict[str, str]]:
    """The class of an objective, and what its name says of a device. Raises InputError for an unknown one."""
    cost, at, device = name.partition("@")
    return (Predicted, {"cost": cost, "device": device}) if at else (names.find("objective", cost), {})


def _goals(values: dict[str, Any], section: str) -> dict[str, float]:
    """The limit and the target of an objective, as far as they are given. Raises InputError."""
    found = {}
    for key in _GOALS:
        if key in values:
            value = values[key]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise InputError(f"{section}.{key} = {value!r}: write a positive number, in the objective's own unit")
            found[key] = float(value)
    if section == "objectives.error" and "target" in found:
        raise InputError("objectives.error.target: the error is always to be as low as possible; a limit is written at_most")
    return found


_SECTIONS = ("data", "space", "searcher", "objectives", "training", "budget", "workers", "retrain")


def find_searcher(name: str) -> type[Searcher]:
    """The class of a search method. Raises InputError for an unknown name."""
    found = names.find("searcher", name)
    assert isinstance(found, type) and issubclass(found, Searcher)
    return found


def find_space(name: str) -> Callable[..., Any]:
    """The class of a space, or the factory of a network with choices, `module:function`. Raises InputError."""
    if ":" not in name:
        return names.find("space", name)
    factory = names.import_from(name, "space.name")
    takes = inspect.signature(factory).parameters if callable(factory) else {}
    if not {"image", "classes"} <= set(takes):
        raise InputError(f"space.name = {name!r}: write it as a function `def {name.partition(':')[2]}(image, classes, ...)`")
    return factory  # type: ignore[no-any-return]


def make_space(name: str, settings: dict[str, Any], image: tuple[int, int, int], classes: int) -> SearchSpace:
    """The space of that name (see `find_space`) with checked settings. Raises InputError for what it refuses."""
    if ":" in name:
        own = names.build(OwnSpace, {}, f"space.name = {name}", find_space(name), settings, image, classes)
        assert isinstance(own, SearchSpace)
        return own
    made = names.build(find_space(name), settings, "space", image=image, classes=classes)
    assert isinstance(made, SearchSpace)
    return made


def read(path: Path | None, overrides: Sequence[str]) -> Experiment:
    """The experiment of a TOML file (None: the built-in one) with `section.key=value` overrides. Raises InputError."""
    given: dict[str, Any] = copy.deepcopy(DEFAULT) if path is None else {}
    if path is not None:
        try:
            given = tomllib.loads(path.read_text())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not valid TOML: {error}") from error
    if isinstance(given.get("objectives"), list):
        given["objectives"] = {str(name): {} for name in given["objectives"]}
    listed = given.get("objectives")
    for values in listed.values() if path is not None and isinstance(listed, dict) else ():
        if path is not None and isinstance(values, dict) and "file" in values:  # of a device, beside the file that names it
            values["file"] = str(path.parent / str(values["file"]))
    # Names first: naming another searcher, say, drops the keywords of the one before it, not those beside it.
    for override in sorted(overrides, key=lambda o: not o.partition("=")[0].endswith(".name")):
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"{override!r} is not of the form section.key=value, as in searcher.samples=20")
        _set(given, _path(key), parse_value(text), override)
    if isinstance(given.get("objectives"), list):
        given["objectives"] = {str(name): {} for name in given["objectives"]}
    return Experiment.from_dict(given)


def arguments(given: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The TOML file, if there is one, and the overrides of a command line. Raises InputError."""
    files = [s for s in given if "=" not in s]
    if len(files) > 1 or (files and given[0] != files[0]):
        raise InputError(f"expected one RUN.toml, first, then section.key=value; got {' '.join(given)}")
    return Path(files[0]) if files else None, [s for s in given if "=" in s]


def settings(overrides: Sequence[str]) -> dict[str, Any]:
    """From `key=value` strings, values as TOML would read them. Raises InputError."""
    given: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        _set(given, key.split("."), parse_value(text), override)
    return given


def _path(key: str) -> list[str]:
    """The parts of a dotted key; one that has dots itself, as a file's name has, is quoted or stands behind an @."""
    parts = re.findall(r'"[^"]*"|[^."@]*@[^"]*?\.toml|[^."]+', key)
    return [part.strip('"') for part in parts]


def _set(given: dict[str, Any], path: list[str], value: Any, override: str) -> None:
    section, last = given, path[-1]
    for key in path[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise InputError(f"{override!r}: {key} is not a section")
    if last == "name" and section.get("name") != value:
        section.clear()  # the keywords belonged to another name
    section[last] = value


def parse_value(text: str) -> Any:
    """A value as TOML would read it; whatever it cannot read is a string, and a bare comma makes a list."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return [parse_value(part) for part in text.split(",")] if "," in text and text[0] not in "[{\"'" else text


def _name(values: dict[str, Any], section: str) -> str:
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"{section}.name has no value; write {section}.name=..., as `paretoray list` shows them")
    return name


def _rest(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k != "name"}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, (list, tuple)) else value
