"""Plan of a search: an experiment with its problem resolved. It is made, and can be checked, without a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.config.experiment import Experiment, evaluator_class
from orchestrator.config.problem import Problem
from orchestrator.config.settings import Budget, Front, Proxy, Retraining, Workers
from orchestrator.config.start import KEY, architectures
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError, plugin_packages
from orchestrator.evaluators.base import Evaluator, Schedule
from orchestrator.objectives.base import Probe
from searchers import SearchContext, Searcher

LANDMARKS, FEWEST_LANDMARKS = 24, 8
"""Landmarks that their share of the budget is divided among, and the fewest that teach anything."""
FINALISTS, FEWEST_FINALISTS = 12, 4
"""The same of finalists."""
FEWEST_STEPS = 1000
"""Weight steps below which training a network alone says less of it than shared weights do (docs/figures.md)."""


@dataclass(frozen=True)
class Alone:
    """Networks that a search trains alone, beside its shared weights.

    Args:
        landmarks: Number of networks trained to learn what shared weights get wrong.
        landmark_epochs: Passes over the train part for each of them.
        finalists: Number of networks trained as they may belong to the front.
        finalist_epochs: Passes for each of them.
    """

    landmarks: int = 0
    landmark_epochs: int = 0
    finalists: int = 0
    finalist_epochs: int = 0

    @classmethod
    def of(cls, budget: Budget, steps: int) -> Alone:
        """Divide the budget's shares: whole epochs each, about equally long, and none where they would be too few or too short.

        Args:
            budget: What the search may spend.
            steps: Weight steps of an epoch.
        """

        def divide(share: float, networks: int, fewest: int) -> tuple[int, int]:
            each = max(math.ceil(FEWEST_STEPS / steps), round(share * budget.epochs / networks))
            count = int(share * budget.epochs / each + 1e-9)
            return (count, each) if count >= fewest else (0, 0)

        return cls(
            *divide(budget.landmarks, LANDMARKS, FEWEST_LANDMARKS), *divide(budget.finalists, FINALISTS, FEWEST_FINALISTS)
        )

    def __str__(self) -> str:
        parts = [(self.landmarks, self.landmark_epochs, "landmarks"), (self.finalists, self.finalist_epochs, "finalists")]
        return ", ".join(f"{count} {name} of {each} epochs" for count, each, name in parts if count)

    @property
    def epochs(self) -> int:
        """Passes over the train part of all of them together."""
        return self.landmarks * self.landmark_epochs + self.finalists * self.finalist_epochs


@dataclass(frozen=True)
class SearchPlan:
    """An experiment and the problem that it resolves to.

    Args:
        experiment: Names and settings, as a file has them.
        problem: Space, data and objectives.
    """

    experiment: Experiment
    problem: Problem

    @classmethod
    def of(cls, experiment: Experiment, data: Dataset | None = None) -> SearchPlan:
        """Resolve an experiment; `data` are its images where they are read already. Raises InputError."""
        return cls(experiment, experiment.problem(data))

    def varied(self, **sections: Any) -> SearchPlan:
        """Return the same plan with other sections of the experiment, none of which the problem depends on."""
        return replace(self, experiment=replace(self.experiment, **sections).checked())

    def on(self, data: Dataset) -> SearchPlan:
        """Return the same plan on other data of the same shape and classes, as on a part of it."""
        return replace(self, problem=self.problem.on(data))

    @property
    def proxy(self) -> Proxy:
        """Proxy that the search trains on; false where that is the target. Raises InputError while it is to be chosen."""
        if not isinstance(self.experiment.proxy, Proxy):
            raise InputError(
                'proxy = "auto" is chosen when `paretoray search` or `paretoray.search` begins; here write the one that '
                "`paretoray search --dry-run` shows"
            )
        return self.experiment.proxy

    @property
    def trained(self) -> Problem:
        """The problem on which weights are trained and networks judged: at the proxy, where the experiment has one."""
        return self.problem.at(self.proxy)

    def at_proxy(self) -> SearchPlan:
        """Return a plan whose target is the proxy of this one, to look into weights that were trained there."""
        return SearchPlan(replace(self.experiment, proxy=Proxy()), self.trained)

    @property
    def budget(self) -> Budget:
        """Budget of the search."""
        return self.experiment.budget

    @property
    def workers(self) -> Workers:
        """Workers of the search."""
        return self.experiment.workers

    @property
    def retraining(self) -> Retraining:
        """Settings of the training of the front's members at the end."""
        return self.experiment.retrain

    @property
    def seed(self) -> int:
        """Seed of all randomness but the split of the data."""
        return self.experiment.seed

    @property
    def shares_weights(self) -> bool:
        """Tell whether candidates share weights."""
        return self.experiment.shares_weights

    @property
    def inherits(self) -> bool:
        """Tell whether members of the front are fine-tuned from the shared weights, rather than trained from scratch."""
        return self.shares_weights and self.problem.space.pretrained

    @property
    def plugins(self) -> frozenset[str]:
        """The top-level packages of its components that are not ours, to which their exceptions are attributed."""
        factories = (self.experiment.searcher.factory, self.experiment.training.factory, self.experiment.space.factory)
        return plugin_packages([*factories, *(o.code for o in (*self.problem.objectives, *self.problem.later))])

    @property
    def searcher_class(self) -> type[Searcher]:
        """Class of the method."""
        factory = self.experiment.searcher.factory
        assert isinstance(factory, type) and issubclass(factory, Searcher)
        return factory

    @property
    def front(self) -> Front:
        """Settings of the choice of the front."""
        return self.experiment.front

    @property
    def alone(self) -> Alone:
        """Networks that are trained alone, beside shared weights, for the judge."""
        able = evaluator_class(self.experiment.training).train_alone is not Evaluator.train_alone
        return Alone.of(self.budget, self.steps_of_an_epoch) if able and self.shares_weights and self.front.judge else Alone()

    @property
    def steps_of_an_epoch(self) -> int:
        """Weight steps of one network in a pass over the train part."""
        images = len(self.trained.data.train)
        batch: int = self.experiment.training.settings.get("batch", images)
        return images // min(batch, images)

    @property
    def schedule(self) -> Schedule:
        """Rounds and steps that the budget allows, less what networks trained alone take."""
        return evaluator_class(self.experiment.training).schedule(
            self.experiment.training.settings,
            epochs=self.budget.epochs - self.alone.epochs,
            interval=self.budget.interval,
            images=len(self.trained.data.train),
            workers=self.workers.count,
        )

    def context(self, rounds: int) -> SearchContext:
        """Gather the facts of the problem and the budget for a searcher."""
        return SearchContext(
            sizes=self.problem.space.sizes,
            rounds=rounds,
            steps=rounds * self.budget.interval,
            seed=self.seed,
            limits=tuple(self.problem.limits[1:]),
            targets=self._targets(),
            shared_weights=self.shares_weights,
            mixtures=self.problem.space.relaxed,
            space=self.problem.space,
            cost_models=self.problem.objectives[1:],
        )

    def _targets(self) -> tuple[float, ...] | None:
        """Return the objectives' targets, for a method that aims at them. Raises InputError."""
        targets, method = self.problem.targets, self.searcher_class
        if not targets:
            return None
        name, first, key = self.experiment.searcher.name, next(iter(targets)), method.target_setting
        if key is None:
            raise InputError(f"objectives.{first}.target: {name} aims at none; a limit is written at_most")
        if self.experiment.searcher.settings.get(key) is not None:
            raise InputError(f"searcher.{key} and objectives.{first}.target say the same; leave one out")
        if list(targets) != [goal.name for goal in self.problem.goals][1:]:
            raise InputError(f"objectives.*.target: {name} needs one for every objective after the error, or none at all")
        return tuple(targets.values())

    def build_searcher(self) -> Searcher:
        """Make the searcher. Raises InputError for a method that cannot search this problem in this way."""
        method, name = self.searcher_class, self.experiment.searcher.name
        if not self.shares_weights:
            # With many rounds, so that a method that cannot work here says so rather than that it needs more rounds.
            trial = self._build(method, 10_000)
            if trial.mixes or trial.stage.stages > 1:
                raise InputError(
                    f"searcher.name = {name!r} needs shared weights; with training.name = {self.experiment.training.name!r} "
                    "take one that only asks for networks, as nsga-net and random-search do"
                )
        needs_mixtures = method.mixes  # before it is built, lest something else is wrong with it in such a space
        searcher = None if needs_mixtures and not self.problem.space.relaxed else self._build(method, self.schedule.rounds)
        if searcher is None or (searcher.mixes and not self.problem.space.relaxed):
            raise InputError(
                f"searcher.name = {name!r} mixes operations with weights, and {self.experiment.space.name} has no mixtures; "
                "take one that samples networks, as searcher.name=random-search does"
            )
        first = architectures(self.problem.space, self.experiment.start_from)
        if first and not searcher.begin_with(first):
            raise InputError(
                f"{KEY}: {name} learns from its own samples alone; take a method that learns from any network, as "
                "searcher.name=surrogate-search or nsga2 does"
            )
        return searcher

    def _build(self, method: type[Searcher], rounds: int) -> Searcher:
        try:
            return method.build(self.context(rounds), **self.experiment.searcher.settings)
        except ValueError as error:
            raise InputError(f"[searcher] {error}") from error

    def build_evaluator(self, *, rank: int = 0, world: int = 1, probes: Sequence[Probe] | None = None) -> Evaluator:
        """Make one replica on this process's device. Raises InputError.

        Args:
            rank: Number of the replica.
            world: Number of replicas.
            probes: Objectives that run networks; None for those of the problem.
        """
        at = self.trained
        evaluator = evaluator_class(self.experiment.training).create(
            at.space,
            at.data,
            self.problem.probes if probes is None else probes,
            self.experiment.training.settings,
            seed=self.seed,
            device=self.workers.device,
            rank=rank,
            world=world,
        )
        if at is not self.problem:
            evaluator.target = (self.problem.space, self.problem.data)
        return evaluator

    def in_process(self) -> SearchPlan:
        """Return the same search with one replica in this process."""
        return self.varied(workers=Workers(ray=False, count=1, cpus=self.workers.cpus, gpus=self.workers.gpus))
