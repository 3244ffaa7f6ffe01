"""Plan of a search: an experiment with its problem resolved. It is made, and can be checked, without a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from analysis import records
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
OF_RETRAINING, FEWEST_OF_SHORT = 0.2, 150
"""The share of retraining's steps that is enough where that is fewer, and how many are needed all the same."""


@dataclass(frozen=True)
class Source:
    """A place where networks are trained alone, for so long: a source of the judge, of which it knows the cost.

    Args:
        place: Its number among `SearchPlan.places`, which is its rank.
        epochs: Passes over the images there, for each network.
        cost: What a network costs, in passes of the search.
        landmarks: Number of networks trained to learn what less faithful sources get wrong.
        finalists: Number of networks trained as they may belong to the front; of a later place, of those of the one before.
    """

    place: int
    epochs: int
    cost: float
    landmarks: int = 0
    finalists: int = 0


@dataclass(frozen=True)
class Alone:
    """Networks that a search trains alone, beside its shared weights.

    Args:
        sources: Where and how long, the most faithful last.
        teaching: Passes of the search for further landmarks, each at the source where it teaches most for its cost.
    """

    sources: tuple[Source, ...] = ()
    teaching: float = 0.0

    @classmethod
    def of(cls, budget: Budget, steps: int, least: int = FEWEST_STEPS) -> Alone:
        """Divide the budget's shares: whole epochs each, about equally long, and none where they would be too few or too short.

        Args:
            budget: What the search may spend.
            steps: Weight steps of an epoch.
            least: Fewest weight steps that each network is trained for.
        """

        def divide(share: float, networks: int, fewest: int) -> tuple[int, int]:
            each = max(math.ceil(least / steps), round(share * budget.epochs / networks))
            count = int(share * budget.epochs / each + 1e-9)
            return (count, each) if count >= fewest else (0, 0)

        landmarks, briefly = divide(budget.landmarks, LANDMARKS, FEWEST_LANDMARKS)
        finalists, longer = divide(budget.finalists, FINALISTS, FEWEST_FINALISTS)
        sources = (Source(0, briefly, briefly, landmarks=landmarks), Source(0, longer, longer, finalists=finalists))
        return cls(tuple(source for source in sources if source.epochs))

    @classmethod
    def climbing(cls, budget: Budget, rungs: Sequence[Rung]) -> Alone:
        """Divide the budget's shares among places: successive halving by finalists, and landmarks at all of them.

        Each place gets an equal part of the finalists' share, and has half as many networks as the one before. A place at which
        that buys fewer than 8, or trainings that are too short, is left out, the dearest first. Landmarks are trained as long
        as finalists. The first 8 of a place are bought from the first half of their share, from the cheapest place on; the rest
        of it is for further ones.

        Args:
            budget: What the search may spend.
            rungs: Places in order.
        """
        left = list(rungs)
        while left:
            found = [
                rung.source((budget.finalists or budget.landmarks) * budget.epochs / len(left), FINALISTS * 2**above)
                for above, rung in zip(reversed(range(len(left))), left, strict=True)
            ]
            poor = [source for source in found if source.finalists < FEWEST_LANDMARKS]
            if not poor:
                break
            dearest = max(poor, key=lambda source: source.cost)
            left = [rung for rung in left if rung.place != dearest.place]
        else:
            return cls()
        if not budget.finalists:
            found = [replace(source, finalists=0) for source in found]
        whole = budget.landmarks * budget.epochs
        spent, taught = 0.0, []
        for source in sorted(found, key=lambda source: source.cost):
            if spent + FEWEST_LANDMARKS * source.cost <= whole / 2:
                spent += FEWEST_LANDMARKS * source.cost
                taught.append(source.place)
        sources = tuple(replace(s, landmarks=FEWEST_LANDMARKS) if s.place in taught else s for s in found)
        return cls(sources, whole - spent if taught else 0.0)

    def words(self, places: Sequence[Proxy] = ()) -> str:
        """Say what is trained, at places that are named where there are several."""
        said = [
            f"{count} {name} of {source.epochs} epochs" + (f" at {places[source.place]}" if len(places) > 1 else "")
            for source in self.sources
            for count, name in ((source.landmarks, "landmarks"), (source.finalists, "finalists"))
            if count
        ]
        said += [f"further landmarks where they teach most, for {self.teaching:.3g} epochs of the search"] * (self.teaching > 0)
        return ", ".join(said)

    @property
    def landmarks(self) -> int:
        """Number of landmarks that are planned one by one, further ones by `teaching` aside."""
        return sum(source.landmarks for source in self.sources)

    @property
    def finalists(self) -> int:
        """Number of finalists, as often as they are trained."""
        return sum(source.finalists for source in self.sources)

    @property
    def epochs(self) -> float:
        """Passes of the search that all of them cost together."""
        return self.teaching + sum((source.landmarks + source.finalists) * source.cost for source in self.sources)

    def source(self, kind: str, place: int) -> Source | None:
        """Return the source of measurements of a kind at a place; None where networks there are judged by shared weights."""
        here = [source for source in self.sources if source.place == place]
        if not here or kind not in (records.LANDMARK, records.FINALIST):
            return None
        return here[0] if kind == records.LANDMARK else here[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, of a search at one place as earlier versions kept them in checkpoints."""
        if any(source.place for source in self.sources):
            return {"sources": [asdict(source) for source in self.sources], "teaching": self.teaching}
        found = {"landmarks": 0, "landmark_epochs": 0, "finalists": 0, "finalist_epochs": 0}
        for source in self.sources:
            kind = "landmark" if source.landmarks else "finalist"
            found |= {f"{kind}s": source.landmarks + source.finalists, f"{kind}_epochs": source.epochs}
        return found


@dataclass(frozen=True)
class Rung:
    """A place that networks climb to.

    Args:
        place: Its number among `SearchPlan.places`.
        steps: Weight steps of a pass over its images.
        cost: What such a pass costs, in passes of the search.
        least: Fewest weight steps that each network is trained for.
    """

    place: int
    steps: int
    cost: float
    least: int = FEWEST_STEPS

    def source(self, budget: float, networks: int) -> Source:
        """Divide a budget, in passes of the search, among so many networks, or fewer that are trained for long enough."""
        epochs = max(math.ceil(self.least / self.steps), int(budget / networks / self.cost))
        each = epochs * self.cost
        return Source(self.place, epochs, each, finalists=int(budget / each + 1e-9))


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

    @property
    def places(self) -> tuple[Proxy, ...]:
        """Places where networks are trained, the search's own first; with a list of proxies the target is the last."""
        return (self.proxy, *self.experiment.ladder)

    def at_proxy(self, proxy: Proxy | None = None) -> SearchPlan:
        """Return a plan whose target is a proxy of this one, by default the one that weights were trained at."""
        at = self.trained if proxy is None else self.problem.at(proxy)
        return SearchPlan(replace(self.experiment, proxy=Proxy(), ladder=()), at)

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
        if self.experiment.ladder:
            # What the search itself trains from scratch at the first place needs no training there again.
            return Alone.climbing(self.budget, [self._rung(i) for i in range(not self.shares_weights, len(self.places))])
        able = evaluator_class(self.experiment.training).train_alone is not Evaluator.train_alone
        if not (able and self.shares_weights and self.front.judge):
            return Alone()
        return Alone.of(self.budget, self.steps_of_an_epoch(), self._least_steps())

    def steps_of_an_epoch(self, place: int = 0) -> int:
        """Count the weight steps of one network in a pass over the train part at a place."""
        images = len(self.problem.at(self.places[place]).data.train)
        batch: int = self.experiment.training.settings.get("batch", images)
        return images // min(batch, images)

    def _least_steps(self) -> int:
        """Count the weight steps below which a network trained alone says too little of how it will do once it is retrained."""
        data, parts = self.problem.data, self.retraining.parts
        images = len(data.train) + len(data.valid)
        whole = parts.epochs * (images // min(parts.batch, images))
        return min(FEWEST_STEPS, max(FEWEST_OF_SHORT, round(OF_RETRAINING * whole)))

    @property
    def networks_per_step(self) -> int:
        """Count the networks that a weight step of the search trains, several by the sandwich rule."""
        training = self.experiment.training
        return evaluator_class(training).networks_per_step(training.settings, self.trained.space)

    def _rung(self, place: int) -> Rung:
        at = self.problem.at(self.places[place])
        cost = epoch_cost(at) / epoch_cost(self.trained) if place else 1.0
        return Rung(place, self.steps_of_an_epoch(place), cost, self._least_steps())

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
        evaluator.elsewhere = {
            place: self.at_proxy(self.places[place]).build_evaluator(rank=rank, world=world, probes=())
            for place in range(1, len(self.places))
        }
        return evaluator

    def in_process(self) -> SearchPlan:
        """Return the same search with one replica in this process."""
        return self.varied(workers=Workers(ray=False, count=1, cpus=self.workers.cpus, gpus=self.workers.gpus))


def epoch_cost(problem: Problem) -> float:
    """Estimate the cost of a pass over the train part: multiplications of the largest network, on all images."""
    return float(problem.space.macs(problem.space.largest()) * len(problem.data.train))
