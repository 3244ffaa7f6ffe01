"""Ray Tune, both ways round: our methods propose networks to a user's own Tuner, and a whole search is a trial of one."""

from __future__ import annotations

import inspect
import logging
import math
import operator
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from pymoo.indicators.hv import HV
from ray import tune
from ray.tune.result import AUTO_RESULT_KEYS
from ray.tune.search import Searcher as TuneSearcher
from ray.tune.search.sample import Categorical
from ray.tune.search.variant_generator import parse_spec_vars
from ray.tune.utils import flatten_dict, unflatten_dict
from torch import nn

from analysis.pareto import non_dominated
from orchestrator.api.search import make_plan, searcher_of
from orchestrator.cluster.connection import bundles
from orchestrator.cluster.trials import REPORT_EVERY, resilient
from orchestrator.config.experiment import searcher_component, training_component
from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Problem, space_source
from orchestrator.config.settings import Budget, Workers
from orchestrator.config.spaces import build_space, source_of
from orchestrator.errors import InputError, RunError, blamed
from orchestrator.evaluators.tabular import is_accuracy
from orchestrator.machine import threads
from orchestrator.registry import Component, keywords, nearest
from orchestrator.runs.directory import create
from orchestrator.search.checkpoint import Checkpoints
from orchestrator.search.control import stop_file
from orchestrator.search.coordinator import Coordinator
from orchestrator.search.progress import Progress, Round
from orchestrator.spaces.base import SearchSpace
from searchers import Architecture, Evaluation, SearchContext, Searcher
from searchers.base import check_architecture

Mode = Literal["min", "max"]
SpaceLike = str | SearchSpace | Component | Callable[..., Any]
"""How a space may be given: its name, an object, one of `paretoray.spaces`, or a function `build(image, classes)`."""

FORMAT = 1
"""Of the file that `ParetoSearch.save` writes."""
ENDLESS = 1000
"""Trials that a method plans for where nobody says how many there will be."""
IDLE = 100
"""Rounds without a new network after which a method has nothing more to propose."""
IMAGE, CLASSES = (3, 32, 32), 10
"""Input and output of networks where neither the user nor the space says so."""

logger = logging.getLogger(__name__)


def param_space(space: SpaceLike, *, image: tuple[int, int, int] | None = None, classes: int | None = None) -> dict[str, Any]:
    """Return the choices of a space as a `param_space` of Ray Tune.

    Tune's own search algorithms sample from it; with a `ParetoSearch` of the same space it does no harm. Either way
    `architecture` and `network` understand the trial's config.

    Args:
        space: As for `ParetoSearch`.
        image: (channels, height, width) of the input; by default the space's own, or (3, 32, 32).
        classes: Outputs of the classifier; by default the space's own, or 10.

    Returns:
        `{"choices": {name: tune.choice(options)}}`, nested where names have a slash.

    Raises:
        InputError: For an unknown space, or one that cannot be built.

    Example:
        >>> sorted(param_space("digits-tiny")["choices"])
        ['block1', 'block2', 'block3', 'block4']
    """
    choices = resolve_space(space, image, classes).choices
    return {"choices": unflatten_dict({choice.name: tune.choice(list(choice.options)) for choice in choices})}


def architecture(config: Mapping[str, Any], space: SearchSpace) -> Architecture:
    """Read the architecture off the config of a trial.

    Args:
        config: What Tune gave to the trial: with `arch`, a notation, or else with `choices`, an option by name for each.
        space: The space that was searched.

    Raises:
        InputError: For a config that has no architecture of this space.
    """
    try:
        if "arch" in config:
            return space.parse(config["arch"])
        chosen = flatten_dict(dict(config["choices"]))
        return tuple(choice.options.index(chosen[choice.name]) for choice in space.choices)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the config of this trial has no architecture of {space.name} ({error}); search with ParetoSearch, or with "
            "param_space=paretoray.tune.param_space(space)"
        ) from error


def network(
    config: Mapping[str, Any],
    space: SpaceLike,
    *,
    image: tuple[int, int, int] | None = None,
    classes: int | None = None,
) -> nn.Module:
    """Build the network of a trial as a plain module with fresh weights.

    Args:
        config: What Tune gave to the trial.
        space: The space that was searched, as for `ParetoSearch`.
        image: (channels, height, width) of the input; by default the space's own, or (3, 32, 32).
        classes: Outputs of the classifier; by default the space's own, or 10.

    Raises:
        InputError: For a config that has no architecture of this space.

    Example:
        >>> module = network({"arch": "conv3-skip-sep3-res3"}, "digits-tiny")
        >>> module(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    resolved = resolve_space(space, image, classes)
    return resolved.network(architecture(config, resolved))


def resolve_space(space: SpaceLike, image: tuple[int, int, int] | None = None, classes: int | None = None) -> SearchSpace:
    """Build a space without data: where nobody gives an image or classes, those of its own signature count.

    Raises:
        InputError: For an unknown space, one that cannot be built, or a `SearchSpace` of another image or other classes.
    """
    if isinstance(space, SearchSpace):
        if (image or space.image, classes or space.classes) != (space.image, space.classes):
            raise InputError(
                f"image = {image}, classes = {classes}: the space was built for {space.image} and {space.classes}; leave both out"
            )
        return space
    source = space_source(space)
    own = inspect.signature(source.factory).parameters

    def default(name: str, otherwise: Any) -> Any:
        return own[name].default if name in own and own[name].default is not inspect.Parameter.empty else otherwise

    return build_space(source, tuple(image or default("image", IMAGE)), classes or default("classes", CLASSES))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Goals:
    """Metrics of a trial, and how they become costs.

    Args:
        modes: Every objective, "min" or "max".
        limits: Metric and how high it may be, or how low if it is maximised; not all have to be objectives.
        others: Mode of every limited metric that is no objective.
    """

    modes: Mapping[str, Mode]
    limits: Mapping[str, float]
    others: Mapping[str, Mode]

    @classmethod
    def of(
        cls, objectives: Sequence[str] | Mapping[str, str], limits: Mapping[str, float] | None, modes: Mapping[str, str] | None
    ) -> _Goals:
        """Check what the user wrote. Raises InputError."""
        if isinstance(objectives, str) or not all(isinstance(name, str) and name for name in objectives):
            raise InputError(f'objectives = {objectives!r}; write names of metrics, as in ["error", "latency_ms"]')
        names = list(objectives)
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"objectives = {names}; a trade-off needs at least two metrics, each named once")
        given = dict(objectives) if isinstance(objectives, Mapping) else {}
        given |= modes or {}
        limits = limits or {}
        for name, mode in given.items():
            if mode not in ("min", "max"):
                raise InputError(f'modes[{name!r}] = {mode!r}; write "min" or "max"')
            if name not in names and name not in limits:
                raise InputError(f"modes name {name!r}, which is no objective{nearest(name, names)}")
        for name, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not math.isfinite(limit):
                raise InputError(f"limits[{name!r}] = {limit!r}; write a finite number, in the metric's own unit")
        for name in (*names, *limits):
            if is_accuracy(name) and name not in given:
                raise InputError(f'{name} would be minimised; write modes={{{name!r}: "max"}}')
        return cls(
            {name: given.get(name, "min") for name in names},  # type: ignore[misc]
            {name: float(limit) for name, limit in limits.items()},
            {name: given.get(name, "min") for name in limits if name not in names},  # type: ignore[misc]
        )

    @property
    def metrics(self) -> list[str]:
        """Every metric that a trial has to report, objectives first."""
        return [*self.modes, *self.others]

    def cost(self, name: str, value: float) -> float:
        """Turn a metric into what is minimised; an accuracy as the first objective becomes an error in percent."""
        if (self.modes | self.others)[name] == "min":  # type: ignore[operator]
            return value
        return 100.0 - value if name == next(iter(self.modes)) else -value

    def costs(self, values: Sequence[float]) -> tuple[float, ...]:
        """Turn the objectives' metrics into costs."""
        return tuple(self.cost(name, value) for name, value in zip(self.modes, values, strict=False))

    def violation(self, values: Sequence[float]) -> float:
        """Sum by how much limits are exceeded, each relative to its size."""
        measured = dict(zip(self.metrics, values, strict=True))
        over = ((self.cost(n, measured[n]) - self.cost(n, limit)) / (abs(limit) or 1.0) for n, limit in self.limits.items())
        return sum(max(0.0, excess) for excess in over)

    def caps(self) -> tuple[float | None, ...]:
        """Return the limit of each cost after the first, as the methods that use limits want them."""
        return tuple(self.cost(n, self.limits[n]) if n in self.limits else None for n in [*self.modes][1:])


@dataclass(frozen=True)
class _Outcome:
    """What came of an architecture; `values` of all metrics, None where the trial failed."""

    trial_id: str
    values: tuple[float, ...] | None


class ParetoSearch(TuneSearcher):  # type: ignore[misc]
    """A `search_alg` for a user's own Tuner and trainable: several metrics, limits, any method that proposes networks.

    A trial's config has `arch`, the notation of its network, and `choices`, the option of each choice by name (nested where
    names have a slash); `paretoray.tune.network(config, space)` builds it. The trainable reports the metrics by the names
    given here, in each of its reports. What it reported last counts.

    As many trials run side by side as the method proposes in a round, which is its setting `samples`: the next round begins
    once all of them have ended. What was measured already is answered from memory. A trial that failed, or that reports a
    number that is not finite, is told to the method as breaking the limits.

    Args:
        searcher: A name, a subclass of `paretoray.Searcher`, or one of `paretoray.searchers` with settings. Methods that need
            gradients or shared weights cannot search here.
        space: A name, a `SearchSpace`, one of `paretoray.spaces` with settings, or a function `build(image, classes)`.
        objectives: Names of metrics, at least two, the first of which is an error or an accuracy, in percent for methods that
            scalarise (`tnd-nas`, `proxyless-r`); or a mapping from names to "min" or "max".
        limits: By metric, the most that it may be, or the least if it is maximised. It may limit metrics that are no objective.
        modes: By metric, "min" or "max"; those not named are minimised.
        num_samples: Trials that a method with a schedule plans for, and after which it has finished; the same number as in
            `TuneConfig`. None: it goes on for as long as Tune asks, and plans for 1,000.
        image: (channels, height, width) of the input; by default the space's own, or (3, 32, 32).
        classes: Outputs of the classifier; by default the space's own, or 10.
        seed: Of all chance in the method.

    Attributes:
        space: The resolved `SearchSpace`.

    Raises:
        InputError: For what cannot be searched in this way, with what to write instead.

    Example:
        >>> algorithm = ParetoSearch("nsga2", "digits-tiny", objectives=["error", "latency_ms"], limits={"latency_ms": 5.0})
        >>> algorithm.suggest("first")["arch"].count("-")
        3
    """

    def __init__(
        self,
        searcher: str | type[Searcher] | Component,
        space: SpaceLike,
        objectives: Sequence[str] | Mapping[str, str],
        *,
        limits: Mapping[str, float] | None = None,
        modes: Mapping[str, str] | None = None,
        num_samples: int | None = None,
        image: tuple[int, int, int] | None = None,
        classes: int | None = None,
        seed: int = 0,
    ) -> None:
        # Tune would hold every single report to metrics that it knows of; we look at the last one.
        super().__init__()
        if num_samples is not None and num_samples < 1:
            raise InputError(f"num_samples = {num_samples}; at least 1 is needed, or None for as many as Tune asks for")
        self.space = resolve_space(space, image, classes)
        self._method, self._goals = searcher_of(searcher), _Goals.of(objectives, limits, modes)
        self._num_samples, self._seed = num_samples, seed
        self._searcher = self._build()
        self._rounds = 0
        self._asked: list[Architecture] = []
        self._queue: list[Architecture] = []
        self._trials: dict[str, Architecture] = {}
        self._outcomes: dict[Architecture, _Outcome] = {}
        self._failure: Exception | None = None

    # What Tune calls

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Compare what `TuneConfig` and `param_space` say with what is searched. Raises InputError where they contradict.

        Tune calls this only where `param_space` has something in it.
        """
        ours = self._goals.modes.get(metric) if metric is not None else None
        if ours is not None and mode is not None and mode != ours:
            raise InputError(
                f'TuneConfig says metric={metric!r}, mode={mode!r}, and ParetoSearch says "{ours}"; write '
                f'ParetoSearch(..., modes={{{metric!r}: "{mode}"}}), or TuneConfig(mode="{ours}")'
            )
        known = {f"choices/{choice.name}": list(choice.options) for choice in self.space.choices}
        _, domains, grids = parse_spec_vars(config)
        for path, domain in (*domains, *grids):
            name = "/".join(map(str, path))
            if name not in known:
                raise InputError(f"param_space samples {name}, and ParetoSearch chooses networks alone; give it one value")
            if not isinstance(domain, Categorical) or list(domain.categories) != known[name]:
                raise InputError(
                    f"param_space has other options for {name} than {self.space.name}, which is searched; write "
                    "param_space=paretoray.tune.param_space(space) with the space of ParetoSearch"
                )
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of a new trial, None while a round is still out, and FINISHED after the last.

        Raises:
            InputError: Where an earlier trial has shown that the search cannot go on.
            RunError: For an exception in a method from outside, or a proposal that is not in the space.
        """
        if self._failure is not None:
            raise self._failure
        if self._num_samples is not None and len(self._trials) >= self._num_samples:
            return TuneSearcher.FINISHED  # type: ignore[no-any-return]
        if not self._asked:
            self._next_round()
        if not self._queue:
            return None if self._asked else TuneSearcher.FINISHED
        self._trials[trial_id] = architecture = self._queue.pop(0)
        options = {c.name: c.options[o] for c, o in zip(self.space.choices, architecture, strict=True)}
        return {"arch": self.space.format(architecture), "choices": unflatten_dict(options)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take the last report of a trial, in any order.

        Raises:
            InputError: For a report that lacks a metric, or has one that is no number; `suggest` raises it again, so that
                the Tuner stops.
        """
        architecture = self._trials.get(trial_id)
        if architecture is None:  # Tune gives a failed trial that it starts over another name
            try:
                architecture = self.space.parse(str((result or {})["config/arch"]))
            except (KeyError, ValueError):
                return
        values = None
        try:
            if result and not error:
                values = self._read(trial_id, result)
        except InputError as wrong:
            self._failure = wrong
            raise
        finally:
            if values is not None or architecture not in self._outcomes:
                self._outcomes[architecture] = _Outcome(trial_id, values)
            self._tell()

    def save(self, checkpoint_path: str) -> None:
        """Write all that decides the future to a file, as plain data and tensors. Raises InputError where that is impossible."""
        path = Path(checkpoint_path)
        temporary = path.with_name(f"{path.name}.writing")
        try:
            torch.save(self._state(), temporary)
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a folder that does not exist
            raise InputError(f"cannot write the search to {path}: {error}; choose a file that you may write to") from error

    def restore(self, checkpoint_path: str) -> None:
        """Go on where the file was saved, with the same proposals as without the interruption.

        Raises:
            InputError: For a file that does not exist, or of another search; this one is then as it was.
            RunError: For a damaged file.
        """
        if not Path(checkpoint_path).is_file():
            raise InputError(f"there is no file {checkpoint_path}; give the path that `save` was given")
        try:
            state = torch.load(checkpoint_path, map_location="cpu", weights_only=True)
            saved, version = state["identity"], state["format"]
        except Exception as error:  # zip, pickle, EOF, key and type errors: whatever damage looks like
            raise RunError(
                f"{checkpoint_path} is damaged, or was not saved by ParetoSearch ({type(error).__name__})"
            ) from error
        if version != FORMAT:
            raise RunError(f"{checkpoint_path} has format {version}; this version of paretoray reads format {FORMAT}")
        for name, ours in self._identity().items():
            if saved.get(name) != ours:
                raise InputError(
                    f"{checkpoint_path} was saved with another {name}: {saved.get(name)}, and here it is {ours}; make "
                    "ParetoSearch as it was then"
                )
        self._load(state)

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Restore the newest state in the folder of a Tune experiment, as `Tuner.restore` does. Raises as `restore` does."""
        try:
            super().restore_from_dir(checkpoint_dir)
        except Exception as error:
            self._failure = error  # Tune would only log it, and begin the experiment again
            raise

    # What came out

    @property
    def front(self) -> pd.DataFrame:
        """The non-dominated networks that keep the limits, the best of the first objective first: `trial_id`, `arch`, and a
        column per metric."""
        kept = [
            (architecture, outcome.trial_id, outcome.values)
            for architecture, outcome in self._outcomes.items()
            if outcome.values is not None and self._goals.violation(outcome.values) == 0
        ]
        kept.sort(key=lambda entry: self._goals.costs(entry[2]))
        first = {self._goals.costs(entry[2]): entry for entry in reversed(kept)}
        costs = list(reversed(first))
        rows = [first[costs[i]] for i in non_dominated(costs)] if costs else []
        return pd.DataFrame(
            [(trial_id, self.space.format(a), *values) for a, trial_id, values in rows],
            columns=["trial_id", "arch", *self._goals.metrics],
        )

    def hypervolume(self, reference: Mapping[str, float] | Sequence[float]) -> float:
        """Return the volume between the front and a reference point, in the product of the objectives' units.

        Args:
            reference: For each objective the value from which on it is worth nothing, by name or in their order. A network that
                is not better in every objective adds nothing.

        Raises:
            InputError: For a reference that is not one finite number for each objective.
        """
        names = list(self._goals.modes)
        point = [reference.get(n) for n in names] if isinstance(reference, Mapping) else list(reference)
        if len(point) != len(names) or not all(isinstance(p, (int, float)) and math.isfinite(p) for p in point):
            raise InputError(f"reference = {reference!r}; give a finite number for each of {', '.join(names)}")
        front = self.front[names].to_numpy(dtype=float)
        if not len(front):
            return 0.0
        return float(HV(ref_point=list(self._goals.costs(point)))(  # type: ignore[arg-type]
            torch.tensor([self._goals.costs(row) for row in front.tolist()], dtype=torch.float64).numpy()
        ))  # fmt: skip

    # Inside

    def _build(self) -> Searcher:
        """Make the method. Raises InputError for one that cannot search in this way."""
        method, name = self._method.factory, self._method.name
        assert isinstance(method, type) and issubclass(method, Searcher)
        if method.target_setting is not None and "max" in [*self._goals.modes.values()][1:]:
            raise InputError(
                f"{name} divides costs by their targets, so that every objective but the first has to be minimised; report "
                "one over the metric, or take another method"
            )
        length = self._num_samples or ENDLESS
        searcher = self._of_rounds(method, length)
        if searcher.mixes or searcher.stage.stages > 1:
            raise InputError(
                f"{name} needs the gradients or the shared weights of a supernet, and trials of Tune train each network by "
                "itself; take a method that only asks for networks, as nsga2, surrogate-search and local-search do, or "
                "paretoray.tune.trainable"
            )
        return self._of_rounds(method, math.ceil(length / searcher.samples))

    def _of_rounds(self, method: type[Searcher], rounds: int) -> Searcher:
        context = SearchContext(
            sizes=self.space.sizes,
            rounds=rounds,
            seed=self._seed,
            limits=self._goals.caps(),
            shared_weights=False,
            space=self.space,
        )
        chosen = {name: value for name, value in self._method.settings.items() if name in self._method.chosen}
        try:
            return method.build(context, **chosen)
        except ValueError as error:
            raise InputError(f"[searcher] {error}") from error

    def _next_round(self) -> None:
        """Have the method propose, until there is something that was not measured yet."""
        for _ in range(IDLE):
            if self._num_samples is not None and self._rounds >= self._searcher.stage.rounds:
                return
            self._rounds += 1
            with blamed(self._searcher, "train_on"):
                self._searcher.train_on(1)
            with blamed(self._searcher, "ask"):
                asked = list(self._searcher.ask(self._searcher.samples))
            for architecture in asked:
                try:
                    check_architecture(architecture, self.space.sizes)
                except (ValueError, TypeError) as error:
                    raise RunError(f"{self._method.name} asked for what is not in the space: {error}") from error
            self._asked = asked
            self._queue = [a for a in dict.fromkeys(asked) if a not in self._outcomes]
            if self._queue:
                return
            self._tell()

    def _tell(self) -> None:
        """Tell the method of a round once all of it is known: in one order, so that it does not matter which trial is faster."""
        if not self._asked or any(a not in self._outcomes for a in self._asked):
            return
        known = [o.values for o in self._outcomes.values() if o.values is not None]
        costs = [self._goals.costs(values) for values in known]
        # As a table tells of what it has not: the worst of each cost, and as much broken as anything.
        worst = tuple(map(max, *costs)) if len(costs) > 1 else costs[0] if costs else (1.0,) * len(self._goals.modes)
        broken = max([1.0, *map(self._goals.violation, known)])
        told = []
        for architecture in self._asked:
            values = self._outcomes[architecture].values
            told.append(
                Evaluation(architecture, worst, broken)
                if values is None
                else Evaluation(architecture, self._goals.costs(values), self._goals.violation(values))
            )
        self._asked = []
        with blamed(self._searcher, "tell"):
            self._searcher.tell(told)

    def _read(self, trial_id: str, result: Mapping[str, Any]) -> tuple[float, ...] | None:
        """Return the metrics of a report; None where one of them is not finite. Raises InputError."""
        if missing := [name for name in self._goals.metrics if name not in result]:
            has = [n for n in result if n.partition("/")[0] not in (*AUTO_RESULT_KEYS, "done", "trial_id", "experiment_tag")]
            raise InputError(
                f"trial {trial_id} has not reported {', '.join(missing)}; its last report has {', '.join(has) or 'no metric'}: "
                "put every objective and limit into each tune.report"
            )
        values = []
        for name in self._goals.metrics:
            try:
                values.append(float(result[name]))
            except (TypeError, ValueError) as error:
                raise InputError(f"trial {trial_id} reports {name} = {result[name]!r}; it must be a number") from error
        if not all(map(math.isfinite, values)):
            logger.warning(
                "trial %s counts as failed: it reports %s", trial_id, dict(zip(self._goals.metrics, values, strict=True))
            )
            return None
        return tuple(values)

    def _identity(self) -> dict[str, str]:
        """Describe what must be the same when a search goes on."""
        source = source_of(self.space)
        return {
            "space": f"{source.name} {dict(source.settings)}",
            "choices": str([(choice.name, choice.options) for choice in self.space.choices]),
            "searcher": f"{self._method.name} {dict(self._method.settings)}",
            "objectives": str(dict(self._goals.modes)),
            "limits": str(dict(self._goals.limits)),
            "modes": str(dict(self._goals.others)),
            "num_samples": str(self._num_samples),
            "seed": str(self._seed),
        }

    def _state(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "identity": self._identity(),
            "searcher": self._searcher.state_dict(),
            "rounds": self._rounds,
            "asked": [list(a) for a in self._asked],
            "queue": [list(a) for a in self._queue],
            "trials": {trial_id: list(a) for trial_id, a in self._trials.items()},
            "outcomes": [(list(a), o.trial_id, o.values) for a, o in self._outcomes.items()],
        }

    def _load(self, state: dict[str, Any]) -> None:
        searcher = self._build()
        searcher.load_state_dict(state["searcher"])
        self._searcher, self._rounds, self._failure = searcher, state["rounds"], None
        self._asked, self._queue = ([tuple(a) for a in state[key]] for key in ("asked", "queue"))
        self._trials = {trial_id: tuple(a) for trial_id, a in state["trials"].items()}
        self._outcomes = {tuple(a): _Outcome(trial_id, values) for a, trial_id, values in state["outcomes"]}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles the whole object with the Tuner. Methods hold what cannot be pickled; their state can.
        return {k: v for k, v in vars(self).items() if k != "_searcher"} | {"_searcher": self._searcher.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._searcher = self._build()
        self._searcher.load_state_dict(state["_searcher"])


def trainable(
    problem: Problem,
    searcher: str | type[Searcher] | Component = "tnd-nas",
    *,
    budget: Budget | None = None,
    workers: Workers | None = None,
    training: str | Component | Mapping[str, Any] = "supernet",
    seed: int = 0,
) -> Callable[[dict[str, Any]], None]:
    """Make a whole search the trainable of a user's own Tuner.

    The config of a trial overrides settings of the search: `seed`, and `searcher.KEY`, `training.KEY` and `budget.KEY`, with
    a dot or nested; `searcher.name` takes another method. About once a second it reports `hypervolume` (to be maximised),
    `best_error` in percent (NaN before the first measurement), `evaluations`, `round`, `fraction` of the budget, and
    `finished`. Its checkpoint is a run directory: a trial that Tune starts again goes on from there, with the same records as
    without the interruption, and `paretoray.Result.open` reads what the last one holds.

    Args:
        problem: Space, data and objectives, the same for all trials.
        searcher: A name, a subclass of `Searcher`, or one of `paretoray.searchers` with settings.
        budget: What each search may spend; by default 75 epochs.
        workers: What each search runs on, which is what a trial reserves; by default one CPU in the trial's own process.
        training: The evaluator, as for `paretoray.search`.
        seed: Of all chance but the split of the data.

    Returns:
        A function of the trial's config, for `tune.Tuner`.

    Raises:
        InputError: For what cannot be run, here and in the trial for its config.

    Example:
        >>> import paretoray as pr                                                              # doctest: +SKIP
        >>> problem = pr.Problem("digits-tiny", "digits", ["error", "parameters"])              # doctest: +SKIP
        >>> search = pr.tune.trainable(problem, "random-search", budget=pr.Budget(epochs=4))    # doctest: +SKIP
        >>> tune.Tuner(search, param_space={"seed": tune.grid_search([0, 1, 2])}).fit()         # doctest: +SKIP
    """
    workers = workers or Workers(ray=False, count=1)
    plan = make_plan(problem, searcher, budget=budget, workers=workers, training=training, seed=seed)
    plan.build_searcher()
    alone = [{"CPU": float(workers.cpus)} | ({"GPU": workers.gpus} if workers.gpus else {})]
    # A coordinator over actors mostly waits, so its bundle is empty; then one for each actor.
    resources = tune.PlacementGroupFactory([{}, *bundles(workers)] if workers.ray else alone)
    return tune.with_resources(tune.with_parameters(_paretoray_search, plan=plan), resources)  # type: ignore[no-any-return]


def _paretoray_search(config: dict[str, Any], plan: SearchPlan) -> None:
    plan = _overridden(plan, config)
    with tempfile.TemporaryDirectory(prefix="paretoray-") as folder:
        directory = Path(folder, "search")
        checkpoint = tune.get_checkpoint()
        if checkpoint is None:
            create(plan.experiment, directory)
        else:
            checkpoint.to_directory(str(directory))
        reports = _Reports(directory)
        if plan.workers.ray:
            coordinator, _ = resilient(plan, directory, reports.observe)
        else:
            with threads(plan.workers.cpus):
                coordinator = Coordinator(plan, directory, plan.build_evaluator())
                coordinator.run(stop_file(directory).exists, reports.observe)
        reports.report(coordinator.progress(), finished=True)


class _Reports:
    """What a search in a trial reports to Tune, with a copy of its run directory whenever that has a new checkpoint.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self._latest = directory, Checkpoints(directory / "checkpoints").latest
        self._reported = self._written()
        self._last = -math.inf

    def _written(self) -> int | None:
        return self._latest.stat().st_mtime_ns if self._latest.exists() else None

    def observe(self, happened: Round) -> None:
        """Report about once a second."""
        if time.monotonic() - self._last > REPORT_EVERY:
            self.report(happened.progress, finished=False)
            self._last = time.monotonic()

    def report(self, progress: Progress, *, finished: bool) -> None:
        """Report once; Tune ends the thread here where it has stopped the trial."""
        metrics = {
            "hypervolume": progress.hypervolume,
            "best_error": math.nan if progress.best_error is None else progress.best_error,
            "evaluations": progress.evaluations,
            "round": progress.round,
            "fraction": progress.fraction,
            "finished": finished,
        }
        written = self._written()
        if written == self._reported and not finished:
            tune.report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="paretoray-") as folder:
            copied = Path(folder, "search")
            shutil.copytree(self.directory, copied, ignore=shutil.ignore_patterns("previous.pt", "*.lock"))
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(str(copied)))
        self._reported = written


def _overridden(plan: SearchPlan, config: Mapping[str, Any]) -> SearchPlan:
    """Return the plan with the settings that a trial's config names. Raises InputError."""
    given: dict[str, dict[str, Any]] = {"searcher": {}, "training": {}, "budget": {}}
    seed = plan.seed
    for key, value in flatten_dict(dict(config), delimiter=".").items():
        section, _, setting = key.partition(".")
        if key == "seed":
            try:
                seed = operator.index(value)
            except TypeError as error:
                raise InputError(f"seed = {value!r} in the config of this trial; write a whole number") from error
        elif section in given and setting:
            given[section][setting] = value
        elif section in ("data", "space", "objectives"):
            raise InputError(f"{key} in the config of this trial: all trials share the problem; make a trainable for each")
        elif section == "workers":
            raise InputError(f"{key} in the config of this trial: a trial reserves its workers; write trainable(workers=...)")
        else:
            sections = ("seed", *(f"{name}.KEY" for name in given))
            raise InputError(f"unknown key {key} in the config of this trial; it may have {', '.join(sections)}")
    experiment = plan.experiment
    budget = keywords(Budget, {**asdict(plan.budget), **given["budget"]}, "budget")
    return plan.varied(
        searcher=_varied(experiment.searcher, given["searcher"], searcher_component),
        training=_varied(experiment.training, given["training"], training_component),
        budget=Budget(**budget),
        seed=seed,
    )


def _varied(component: Component, given: dict[str, Any], make: Callable[[str, Mapping[str, Any]], Component]) -> Component:
    name = given.pop("name", component.name)
    if name != component.name:
        return make(name, given)
    if not given:
        return component
    chosen = {key: value for key, value in component.settings.items() if key in component.chosen}
    return make(name, {**chosen, **given})
