"""Methods of ours as a search algorithm of Ray Tune, for a user's own trainable."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pymoo.indicators.hv import HV
from ray.tune.result import AUTO_RESULT_KEYS
from ray.tune.search import Searcher as TuneSearcher
from ray.tune.search.sample import Categorical
from ray.tune.search.variant_generator import parse_spec_vars
from ray.tune.utils.util import unflatten_dict

from analysis.files import replacing
from analysis.pareto import non_dominated
from orchestrator.api.search import searcher_of
from orchestrator.api.trial_config import SpaceLike, space_of
from orchestrator.api.trial_config import architecture as architecture_of
from orchestrator.api.trial_metrics import TrialMetrics
from orchestrator.config.spaces import find_architecture, source_of
from orchestrator.errors import InputError, RunError, attributed_to, plugin_packages
from orchestrator.registry import Component
from orchestrator.search.rounds import proposals_of
from searchers import Architecture, Evaluation, GradientSearcher, SearchContext, Searcher

FORMAT = 2
"""Version of the file that `ParetoSearch.save` writes."""
ENDLESS = 1000
"""Trials that a method plans for where nobody says how many there will be."""
IDLE = 20
"""Rounds without a new network after which a method has nothing more to propose."""
_TUNES_OWN = (*AUTO_RESULT_KEYS, "done", "trial_id", "experiment_tag")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Outcome:
    """Outcome of an architecture's trial: `values` of all metrics, None where it failed."""

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
        points_to_evaluate: Networks to run first, in this order: configs of trials, with `arch` or `choices`, or notations or
            published names alone. Methods other than those with a policy learn from them as from their own proposals.
        image: (channels, height, width) of the input; by default the space's own, or (3, 32, 32).
        classes: Outputs of the classifier; by default the space's own, or 10.
        seed: Seed of all that is random in the method.

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
        points_to_evaluate: Sequence[Mapping[str, Any] | str] | None = None,
        image: tuple[int, int, int] | None = None,
        classes: int | None = None,
        seed: int = 0,
    ) -> None:
        # Tune would hold every single report to metrics that it knows of; we look at the last one.
        super().__init__()
        if num_samples is not None and num_samples < 1:
            raise InputError(f"num_samples = {num_samples}; at least 1 is needed, or None for as many as Tune asks for")
        self.space = space_of(space, image, classes)
        self._method, self._metrics = searcher_of(searcher), TrialMetrics.of(objectives, limits, modes)
        self._num_samples, self._seed = num_samples, seed
        self._points = self._read_points(points_to_evaluate or ())
        self._searcher, learns = self._build()
        self._asked: list[Architecture] = []
        self._queue: list[Architecture] = [] if learns else list(self._points)
        self._trials: dict[str, Architecture] = {}
        self._outcomes: dict[Architecture, _Outcome] = {}
        self._failure: Exception | None = None

    # What Tune calls

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Compare what `TuneConfig` and `param_space` say with what is searched. Raises InputError where they contradict.

        Tune calls this only where `param_space` has something in it.
        """
        ours = self._metrics.modes.get(metric) if metric is not None else None
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
        if not self._asked and not self._queue:
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
        """Write all that decides the future to a file, as plain data. Raises InputError where it cannot be written."""
        path = Path(checkpoint_path)
        try:
            with replacing(path) as temporary:
                torch.save(self._state(), temporary)
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
            if outcome.values is not None and self._metrics.violation(outcome.values) == 0
        ]
        kept.sort(key=lambda entry: self._metrics.costs(entry[2]))
        first = {self._metrics.costs(entry[2]): entry for entry in reversed(kept)}
        costs = list(reversed(first))
        rows = [first[costs[i]] for i in non_dominated(costs)] if costs else []
        return pd.DataFrame(
            [(trial_id, self.space.format(a), *values) for a, trial_id, values in rows],
            columns=["trial_id", "arch", *self._metrics.metrics],
        )

    def hypervolume(self, reference: Mapping[str, float] | Sequence[float]) -> float:
        """Return the volume between the front and a reference point, in the product of the objectives' units.

        Args:
            reference: For each objective the value from which on it is worth nothing, by name or in their order. A network that
                is not better in every objective adds nothing.

        Raises:
            InputError: For a reference that is not one finite number for each objective.
        """
        names = list(self._metrics.modes)
        point = [reference.get(n, math.nan) for n in names] if isinstance(reference, Mapping) else list(reference)
        if len(point) != len(names) or not all(isinstance(p, (int, float)) and math.isfinite(p) for p in point):
            raise InputError(f"reference = {reference!r}; give a finite number for each of {', '.join(names)}")
        costs = [list(self._metrics.costs(row)) for row in self.front[names].to_numpy(dtype=float).tolist()]
        return float(HV(ref_point=np.array([*self._metrics.costs(point)]))(np.array(costs))) if costs else 0.0

    # Inside

    def _read_points(self, points: Sequence[Mapping[str, Any] | str]) -> list[Architecture]:
        """Read the networks to run first, each once. Raises InputError for what is no network of the space."""
        if isinstance(points, (str, Mapping)):
            raise InputError(f"points_to_evaluate = {points!r}; write a list of networks")
        read = []
        for number, point in enumerate(points):
            try:
                read.append(
                    find_architecture(self.space, point) if isinstance(point, str) else architecture_of(point, self.space)
                )
            except InputError as error:
                example = self.space.format(self.space.largest())
                raise InputError(
                    f"points_to_evaluate[{number}] = {point!r} is no network of {self.space.name}; write a notation, as in "
                    f"{example!r}, or a config with `arch` or `choices`"
                ) from error
        return list(dict.fromkeys(read))

    def _build(self) -> tuple[Searcher, bool]:
        """Make the method, and tell whether it learns from the points. Raises InputError if it cannot search in this way."""
        method, name = self._method.factory, self._method.name
        assert isinstance(method, type) and issubclass(method, Searcher)
        if method.target_setting is not None and "max" in [*self._metrics.modes.values()][1:]:
            raise InputError(
                f"{name} divides costs by their targets, so that every objective but the first has to be minimised; report "
                "one over the metric, or take another method"
            )
        refusal = InputError(
            f"{name} needs the gradients or the shared weights of a supernet, and trials of Tune train each network by itself; "
            "take a method that only asks for networks, as nsga2, surrogate-search and local-search do, or run a whole search "
            "in a trial with paretoray.tune.trainable"
        )
        if issubclass(method, GradientSearcher):
            raise refusal
        length = self._num_samples or ENDLESS
        searcher = self._of_rounds(method, length)
        if searcher.mixes or searcher.stage.stages > 1:
            raise refusal
        searcher = self._of_rounds(method, math.ceil(length / searcher.samples))
        return searcher, bool(self._points) and searcher.begin_with(self._points)

    def _of_rounds(self, method: type[Searcher], rounds: int) -> Searcher:
        context = SearchContext(
            sizes=self.space.sizes,
            rounds=rounds,
            seed=self._seed,
            limits=self._metrics.caps(),
            shared_weights=False,
            space=self.space,
        )
        chosen = {name: value for name, value in self._method.settings.items() if name in self._method.chosen}
        try:
            with attributed_to(self._plugins, InputError):
                return method.build(context, **chosen)
        except ValueError as error:
            raise InputError(f"[searcher] {error}") from error

    @property
    def _plugins(self) -> frozenset[str]:
        return plugin_packages([self._method.factory])

    def _next_round(self) -> None:
        """Have the method propose, until there is something that was not measured yet."""
        for _ in range(IDLE):
            with attributed_to(self._plugins):
                self._searcher.train_on(1)
                self._asked = proposals_of(self._searcher, self._searcher.samples)
            running = set(self._trials.values())  # of the points, if any
            self._queue = [a for a in dict.fromkeys(self._asked) if a not in self._outcomes and a not in running]
            if any(a not in self._outcomes for a in self._asked):
                return
            self._tell()

    def _tell(self) -> None:
        """Tell the method of a round once all of it is known, in the order of its proposals, whichever trial was faster."""
        if not self._asked or any(a not in self._outcomes for a in self._asked):
            return
        known = [o.values for o in self._outcomes.values() if o.values is not None]
        costs = [self._metrics.costs(values) for values in known]
        # As a table tells of what it has not: the worst of each cost, and as much broken as anything.
        worst = tuple(map(max, zip(*costs, strict=True))) or (1.0,) * len(self._metrics.modes)
        broken = max([1.0, *map(self._metrics.violation, known)])
        told = []
        for architecture in self._asked:
            values = self._outcomes[architecture].values
            told.append(
                Evaluation(architecture, worst, broken, failed=True)
                if values is None
                else Evaluation(architecture, self._metrics.costs(values), self._metrics.violation(values))
            )
        self._asked = []
        with attributed_to(self._plugins):
            self._searcher.tell(told)

    def _read(self, trial_id: str, result: Mapping[str, Any]) -> tuple[float, ...] | None:
        """Return the metrics of a report; None where one of them is not finite. Raises InputError."""
        if missing := [name for name in self._metrics.metrics if name not in result]:
            has = [name for name in result if name.partition("/")[0] not in _TUNES_OWN]
            raise InputError(
                f"trial {trial_id} has not reported {', '.join(missing)}; its last report has {', '.join(has) or 'no metric'}: "
                "put every objective and limit into each tune.report"
            )
        values = []
        for name in self._metrics.metrics:
            try:
                values.append(float(result[name]))
            except (TypeError, ValueError) as error:
                raise InputError(f"trial {trial_id} reports {name} = {result[name]!r}; it must be a number") from error
        if not all(map(math.isfinite, values)):
            logger.warning(
                "trial %s counts as failed: it reports %s", trial_id, dict(zip(self._metrics.metrics, values, strict=True))
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
            "objectives": str(dict(self._metrics.modes)),
            "limits": str(dict(self._metrics.limits)),
            "modes": str(dict(self._metrics.others)),
            "num_samples": str(self._num_samples),
            "points_to_evaluate": str([self.space.format(a) for a in self._points]),
            "seed": str(self._seed),
        }

    def _state(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "identity": self._identity(),
            "searcher": self._searcher.state_dict(),
            "asked": [list(a) for a in self._asked],
            "queue": [list(a) for a in self._queue],
            "trials": {trial_id: list(a) for trial_id, a in self._trials.items()},
            "outcomes": [(list(a), o.trial_id, o.values) for a, o in self._outcomes.items()],
        }

    def _load(self, state: dict[str, Any]) -> None:
        searcher, _ = self._build()
        searcher.load_state_dict(state["searcher"])
        self._searcher, self._failure = searcher, None
        self._asked, self._queue = ([tuple(a) for a in state[key]] for key in ("asked", "queue"))
        self._trials = {trial_id: tuple(a) for trial_id, a in state["trials"].items()}
        self._outcomes = {tuple(a): _Outcome(trial_id, values) for a, trial_id, values in state["outcomes"]}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles the whole object with the Tuner. Methods hold what cannot be pickled; their state can.
        return {k: v for k, v in vars(self).items() if k != "_searcher"} | {"_searcher": self._searcher.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._searcher, _ = self._build()
        self._searcher.load_state_dict(state["_searcher"])
