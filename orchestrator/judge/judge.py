"""The judge of a search: what it has measured so far, what that says of every network, and what follows from it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis import records
from analysis.pareto import violations
from orchestrator.config.plan import Alone, SearchPlan, Source
from orchestrator.judge.belief import FEWEST, Belief, Observation, believe, normal_scores
from orchestrator.judge.evidence import Evidence, Key, Measurement
from orchestrator.judge.forecast import Forecast, forecast
from orchestrator.judge.process import Floats
from orchestrator.judge.selection import (
    best_of_levels,
    best_of_others,
    choose,
    least_visited,
    levels,
    likely,
    outgrown,
    promise,
    sizes_of,
    teaching,
)
from orchestrator.objectives.base import Metrics
from orchestrator.spaces.base import LISTED
from searchers import Architecture, Evaluation, Stage
from searchers.parts.breeding import bred
from searchers.parts.gaussian_process import Encoding

GROWTH = 1.3
"""Growth in the number of measurements after which the belief is formed anew while searching."""
SHORTLIST = 1000
"""Networks, the most promising of each cost level, among which the front is looked for once the search has ended; beside them
come as many of those that were measured on more than a batch."""
DRAWS = 64
"""Possible truths that decisions are averaged over."""
GENERATIONS, CHILDREN = 4, 1000
"""Generations of candidates that are bred in a space too large to list, and the size of each."""
_DRAWS, _BREEDING = range(2)  # streams of chance

Price = Callable[[Architecture], tuple[float, ...] | None]
"""Costs after the error of a network; None where they are only known of networks that were run on the device."""
Score = Callable[[Sequence[Architecture], Sequence[str]], list[Metrics]]
"""Training-free scores of networks by name."""


@dataclass(frozen=True)
class Verdict:
    """What the judge says of a network.

    Args:
        architecture: The network, in the notation in which it was measured last on more than a batch.
        notations: All notations in which it was measured.
        costs: Its costs, the first of which is the error that it expects.
        deviation: Of that error, in its unit.
        forecast: Its test error after retraining; None where nothing can be said of that.
    """

    architecture: Architecture
    notations: frozenset[Architecture]
    costs: tuple[float, ...]
    deviation: float
    forecast: Forecast | None = None


class Judge:
    """Gathers the measurements of one search, and decides by all of them together.

    Args:
        plan: The search.
        price: Tells costs of networks that were never measured.
        score: Tells training-free scores, which `front.scores` names.
    """

    def __init__(self, plan: SearchPlan, price: Price, score: Score) -> None:
        self.plan, self._price, self._score = plan, price, score
        self._alone, self._leg_began = plan.alone, 0
        space, settings = plan.problem.space, plan.experiment.training.settings
        valid = [len(plan.problem.at(place).data.valid) for place in plan.places]
        images = [min(settings.get("valid_images", count), count) for count in valid]
        self._task = plan.trained.task
        self.evidence = Evidence(min(settings.get("valid_batch", images[0]), valid[0]), images, self._task.chance)
        # What is measured is the error after the whole training only where networks are trained by themselves at the target.
        whole = not plan.shares_weights and len(plan.places) == 1 and not plan.proxy
        self._unfinished = not whole or settings.get("epochs", math.inf) < plan.retraining.parts.epochs
        self._space = space
        self._encoding: Encoding | None = None
        self._formed = 0  # measurements that the belief rests on
        self._belief: Belief | None = None
        self._beliefs: dict[Key, Belief] = {}  # of each source
        self._expected: dict[Architecture, tuple[float, float]] = {}  # error and deviation by the belief
        self._settled: int | None = None  # measurements when the search itself had ended
        self._stage: Stage | None = None
        self._pool: list[Architecture] = []
        self._costs: Floats = np.zeros((0, 0))
        self._scores: Floats | None = None
        self._prices: dict[Architecture, tuple[float, ...] | None] = {}
        self._failed: list[Hashable] = []  # keys, in order
        self._left_out = 0  # failures when the search itself had ended
        self._same: NDArray[np.int64] | None = None  # number of the network, by the place of a notation in the whole space

    def _key(self, architecture: Architecture) -> Hashable:
        """Return a key that is equal for notations of one network: the same paths through its graph, the same parameters."""
        space = self._space
        if self._same is None and space.path_encoding is not None and (additive := space.additive("parameters")) is not None:
            fixed, rows = additive
            every = np.array(list(itertools.product(*map(range, space.sizes))))
            parameters = fixed + np.sum([np.array(row)[every[:, c]] for c, row in enumerate(rows)], axis=0)
            paths = np.column_stack([space.path_encoding[0], parameters]).round(9)
            self._same = np.unique(paths, axis=0, return_inverse=True)[1].ravel()
        if self._same is None:
            return space.canonical(architecture)
        return int(self._same[np.ravel_multi_index(architecture, space.sizes)])

    def observe(self, evaluations: Sequence[Evaluation], *, kind: str, place: int = 0, stage: int, step: int) -> None:
        """Take note of measurements of errors at a place by its number; timings made after the search are none."""
        if kind == records.TIMED:
            return
        source = self._alone.source(kind, place)
        epochs = 0 if source is None else source.epochs
        self.evidence.measurements += [
            Measurement(kind, epochs, place, stage, step, e.architecture, self._task.to_share(float(e.costs[0])))
            for e in evaluations
        ]
        if self._settled is None:
            self._prices |= {e.architecture: e.costs[1:] for e in evaluations}

    def begin_leg(self, alone: Alone) -> None:
        """Begin a leg of the search, in which networks trained alone are trained as `alone` says."""
        self.reopen()
        self._alone, self._leg_began = alone, len(self.evidence.measurements)
        self._belief, self._beliefs, self._scores, self._formed = None, {}, None, 0

    @property
    def of_leg(self) -> Sequence[Measurement]:
        """Measurements of this leg of the search."""
        return self.evidence.measurements[self._leg_began :]

    def fail(self, architecture: Architecture) -> None:
        """Take note of a network that cannot be trained, measured or run, which is neither chosen nor returned from here on."""
        self._failed.append(self._key(architecture))

    def smooth(self, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Replace errors that were just observed by what all measurements together make of them, for the searcher."""
        measured = [e for e in evaluations if not e.failed]
        before = len(self.evidence.measurements) - len({e.architecture for e in measured})  # each was noted once
        if not measured or not self.evidence.enough(before):
            return list(evaluations)
        # Another stage has weights of its own, and errors of another size.
        if before >= GROWTH * self._formed or not self.evidence.enough(self._formed):
            self._form(before)
        assert self._belief is not None
        observations = [
            Observation(e.architecture, self._task.to_share(float(e.costs[0])), self.evidence.batch) for e in measured
        ]
        errors = iter(self._belief.shrink(observations))
        smoothed = []
        for evaluation in evaluations:
            if evaluation.failed:
                smoothed.append(evaluation)
                continue
            error = self._task.from_share(float(next(errors)))
            costs = (error, *evaluation.costs[1:])
            violation = float(violations([costs], self.plan.problem.limits)[0])
            smoothed.append(replace(evaluation, costs=costs, violation=violation))
        return smoothed

    def _form(self, count: int) -> None:
        """Form the belief on the first `count` measurements."""
        if self._encoding is None:
            self._encoding = Encoding(self._space.sizes, self._space.path_encoding)
        self._formed = count
        # What shared weights get right or wrong says nothing of what a score is worth; networks with their own weights do.
        faithful = not self.plan.shares_weights or self.evidence.trained_alone(count) >= FEWEST
        scored = self._scored if self._scores is not None and faithful else None
        sources = {key: some for key, some in self.evidence.sources(count).items() if len(some) >= FEWEST}
        beliefs = believe(self._encoding, list(sources.values()), scored, [place for place, *_ in sources])
        self._beliefs = dict(zip(sources, beliefs, strict=True))
        self._belief = beliefs[-1] if beliefs else None
        self._expected = {}

    def _expect(self, pool: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Return mean and deviation of the error of each network, as the belief does, which is asked of each network once."""
        assert self._belief is not None
        new = [a for a in pool if a not in self._expected]
        if new:
            self._expected.update(zip(new, zip(*self._belief(new), strict=True), strict=True))
        mean, deviation = np.array([self._expected[a] for a in pool], dtype=float).reshape(-1, 2).T
        return mean, deviation

    def settle(self, stage: Stage) -> None:
        """End a stage of the search: from here on, decide among a shortlist, which earlier stages' networks may be on, too."""
        self._settled, self._stage, self._left_out = len(self.evidence.measurements), stage, len(self._failed)
        self._shortlist()

    def reopen(self) -> None:
        """Begin another stage of the search."""
        self._settled, self._stage, self._pool = None, None, []

    def _shortlist(self) -> None:
        assert self._settled is not None and self._stage is not None
        self._scores = None
        self._form(self._settled)
        pool, costs = self._candidates()
        self._pool, self._costs = [], np.zeros((0, len(self.plan.problem.objectives) - 1))
        if self._belief is None or not pool:
            return
        mean, deviation = self._expect(pool)
        self._expected = {}
        hopes = mean - deviation
        kept = best_of_levels(hopes, costs, SHORTLIST)
        before = self.evidence.measurements[: self._settled]
        measured = {self._key(m.architecture) for m in before if m.kind != records.SAMPLE}
        further = [i for i in sorted(set(range(len(pool))) - set(kept)) if self._key(pool[i]) in measured]
        if len(further) > SHORTLIST:  # all errors are drawn together, which takes a cube of time
            further = [further[i] for i in best_of_levels(hopes[further], costs[further], SHORTLIST)]
        kept = sorted(kept + further)
        self._pool, self._costs = [pool[i] for i in kept], costs[kept]
        names = self.plan.front.scores
        if names:
            found = self._score(self._pool, names)
            self._scores = normal_scores(np.array([[m.get(n, math.nan) for n in names] for m in found]))

    def _candidates(self) -> tuple[list[Architecture], Floats]:
        """Return different networks that keep the limits on costs, and their costs after the error.

        What has operations that do not take part is no candidate, but the network without them, which is equally good and costs
        less: it would be the best of a cost level where its operations do not belong.
        """
        space = self._space
        found: dict[Hashable, Architecture] = {}
        for measurement in self.evidence.measurements[: self._settled]:
            found.setdefault(self._key(measurement.architecture), measurement.architecture)
        if not self.plan.problem.probes and not self.plan.problem.scores:
            if space.architectures <= LISTED:
                for architecture in itertools.product(*map(range, space.sizes)):
                    found.setdefault(self._key(architecture), architecture)
            elif self._belief is not None:
                self._breed(found)
        used = {key: space.pruned(architecture, constants=True) for key, architecture in found.items()}
        for left in used.values():
            if left is not None:  # otherwise the output would not depend on the example
                found.setdefault(self._key(left), left)
        found = {key: a for key, a in found.items() if used.get(key, a) == a}
        pool, costs = [], []
        failed = set(self._failed[: self._left_out])
        for key, architecture in found.items():
            if key in failed:
                continue
            if architecture not in self._prices:
                self._prices[architecture] = self._price(architecture)
            price = self._prices[architecture]
            if price is not None:
                pool.append(architecture)
                costs.append(price)
        if not pool:
            return [], np.zeros((0, 0))
        array = np.array(costs, dtype=float)
        keeps = violations(array, self.plan.problem.limits[1:]) <= 0
        if not keeps.any():
            return [], np.zeros((0, 0))
        return [a for a, kept in zip(pool, keeps, strict=True) if kept], array[keeps]

    def _breed(self, found: dict[Hashable, Architecture]) -> None:
        """Add candidates that are bred from the most promising ones so far, generation by generation."""
        assert self._belief is not None and self._settled is not None
        rng = np.random.default_rng([self.plan.seed, _BREEDING, self._settled])
        for _ in range(GENERATIONS):
            pool = list(found.values())
            for architecture in pool:
                self._prices.setdefault(architecture, self._price(architecture))
            pool = [a for a in pool if self._prices[a] is not None]
            costs = np.array([self._prices[a] for a in pool], dtype=float)
            mean, deviation = self._expect(pool)
            parents = np.array([pool[i] for i in best_of_levels(mean - deviation, costs, CHILDREN // 10)])
            for child in bred(parents, CHILDREN, self._space.sizes, rng):
                architecture = tuple(map(int, child))
                found.setdefault(self._key(architecture), architecture)

    def _scored(self, architectures: Sequence[Architecture]) -> Floats:
        assert self._scores is not None
        place = {self._key(a): i for i, a in enumerate(self._pool)}
        rows = [place.get(self._key(a)) for a in architectures]
        return np.array([np.zeros(self._scores.shape[1]) if row is None else self._scores[row] for row in rows])

    def next(
        self,
        count: int,
        kind: str,
        besides: Sequence[Architecture] = (),
        since: int = 0,
        source: Source | None = None,
        below: Source | None = None,
    ) -> list[Architecture]:
        """Choose networks of the shortlist to be measured next.

        Args:
            count: How many at most.
            kind: How they will be measured. Finalists are those that are expected to add most to the front; landmarks those
                that may well be on it, and every other one the best of a cost level that has few yet.
            besides: Networks that are measured in any case.
            since: Step of the shared weights before which their measurements do not count as made.
            source: Where they will be trained alone; None for shared weights.
            below: Source from which they climb there: only networks that were measured by it are chosen; None for any.
        """
        if not self._pool:
            return []
        draws = self._draws()
        if draws is None:
            return []
        # Shared weights judge anew once they were trained further; a training alone would give the same again.
        if source is None:
            stage = -1 if self._stage is None else self._stage.index
            done = {self._key(m.architecture) for m in self.of_leg if (m.kind, m.stage) == (kind, stage) and m.step >= since}
        else:
            done = self._measured_by(source)
        done |= {self._key(a) for a in besides} | set(self._failed)
        taken = [i for i, a in enumerate(self._pool) if self._key(a) in done]
        can: Sequence[int] = range(len(self._pool))
        if below is not None:
            climbing = self._measured_by(below)
            can = [i for i in can if self._key(self._pool[i]) in climbing]
        if kind == records.VALIDATION and self._stage is not None:  # shared weights have nothing to say of other options
            options = self._stage.options
            can = [i for i in can if all(o in kept for o, kept in zip(self._pool[i], options, strict=True))]
        if kind == records.FINALIST:
            return [self._pool[i] for i in choose(draws, self._costs, count, taken, can)]
        # Half of them as the belief has it, half the best of every cost level in turn: what it is wrong about is found there.
        if kind == records.LANDMARK:
            others = set(range(len(self._pool))) - set(can)
            picked = likely(draws, self._costs, math.ceil(count / 2), [*taken, *others])
        else:
            picked = choose(draws, self._costs, math.ceil(count / 2), taken, can)
        left = sorted(set(can) - {*taken, *picked})
        if left:
            seen = levels(self._costs)
            visits = Counter(int(seen[i]) for i in (*taken, *picked))
            picked += [left[i] for i in least_visited(draws.mean(axis=0)[left], visits, seen[left], count - len(picked))]
        return [self._pool[i] for i in picked]

    def _measured_by(self, source: Source) -> set[Hashable]:
        """Return the keys of the networks that were trained alone there."""
        at = (source.place, source.epochs)
        return {self._key(m.architecture) for m in self.evidence.measurements if (m.place, m.epochs) == at}

    def teach(self, count: int, budget: float, sources: Sequence[Source]) -> list[tuple[int, Architecture]]:
        """Choose the trainings alone that teach most about the networks that may be on the front, for what they cost.

        A training teaches the expected fall of the variance of these networks' errors, as the most faithful source so far
        measures them. Each choice counts with those before it.

        Args:
            count: How many at most.
            budget: What they may cost together, in passes of the search.
            sources: Where they can be trained, and what that costs.

        Returns:
            Numbers of sources with networks to be trained there, by source.
        """
        draws = self._draws() if self._pool else None
        if draws is None or self._belief is None:
            return []
        reach = self._belief.reach()
        known = [(n, s, belief) for n, s in enumerate(sources) if (belief := self._beliefs.get((s.place, s.epochs, 0)))]
        done = [self._measured_by(source) | set(self._failed) for _, source, _ in known]
        keys = [self._key(a) for a in self._pool]
        chosen = teaching(
            [belief.covariance(self._pool) for *_, belief in known],
            np.array([reach.get(belief, 0.0) for *_, belief in known]),
            np.array([belief.noise for *_, belief in known]),
            np.array([source.cost for _, source, _ in known]),
            promise(draws, self._costs),
            np.array([[key in some for key in keys] for some in done], dtype=bool).reshape(len(known), len(keys)),
            count,
            budget,
        )
        return sorted((known[source][0], self._pool[network]) for source, network in chosen)

    def _draws(self, among: Sequence[int] | None = None) -> Floats | None:
        """Draw possible errors of the shortlist, or some of it, once trained to the end, by all measurements so far.

        (draws, networks).
        """
        count = len(self.evidence.measurements)
        if self._formed != count or self._belief is None:
            self._form(count)
        if self._belief is None:
            return None
        rng = np.random.default_rng([self.plan.seed, _DRAWS, count])
        chosen = list(range(len(self._pool))) if among is None else list(among)
        draws = self._belief.draws([self._pool[i] for i in chosen], DRAWS, rng)
        return outgrown(draws, sizes_of(self._costs)[chosen], rng) if self._unfinished else draws

    def front(self) -> list[Verdict]:
        """Return the members of the front, of those networks that were measured on more than a batch; empty where nothing can
        be said.

        They are those that add most expected hypervolume. Where fewer than `front.members` add any, the best of further cost
        levels follow: what a search sees of dear networks, which a short training favours least, is the worst that they can do,
        and training the members to the end decides.
        """
        measured: dict[Hashable, Architecture] = {}
        notations: dict[Hashable, set[Architecture]] = {}
        for measurement in self.evidence.measurements:
            key = self._key(measurement.architecture)
            notations.setdefault(key, set()).add(measurement.architecture)
            if measurement.kind != records.SAMPLE:
                measured[key] = measurement.architecture
        among = [i for i, a in enumerate(self._pool) if self._key(a) in measured.keys() - set(self._failed)]
        draws = self._draws(among) if among else None
        if draws is None or self._belief is None:
            return []
        mean, deviation = self._belief([self._pool[i] for i in among])
        costs = self._costs[among]
        limit = self.plan.problem.limits[0]
        if limit is not None:
            keeps = [i for i in range(len(among)) if self._task.from_share(float(mean[i])) <= limit]
            among, mean, deviation, costs = [among[i] for i in keeps], mean[keeps], deviation[keeps], costs[keeps]
            draws = draws[:, keeps]
        if not among:
            return []
        members = self.plan.front.members
        chosen = choose(draws, costs, members)
        chosen += best_of_others(mean, costs, chosen, members - len(chosen))
        chosen.sort(key=lambda i: (mean[i], *costs[i]))
        found = []
        for i in chosen:
            key = self._key(self._pool[among[i]])
            error, above, below = (self._task.from_share(float(mean[i] + d * deviation[i])) for d in (0, 1, -1))
            spread = float(deviation[i]) if self._task.from_share(50.0) == 50 else (above - below) / 2
            expected = (error, *map(float, costs[i]))
            found.append(Verdict(measured[key], frozenset(notations[key]), expected, spread, self._forecast(error, spread)))
        return found

    def _forecast(self, error: float, deviation: float) -> Forecast | None:
        """Forecast the test error of a network from what the most faithful source says of it.

        Nothing is said of it where that source is shared weights, or trains something else than the network at the target from
        scratch.
        """
        place, epochs, _ = list(self._beliefs)[-1]
        if not self.plan.shares_weights and not epochs:
            epochs = self.plan.experiment.training.settings.get("epochs", 0)
        at = self.plan.places[place]
        if not epochs or at or self.plan.problem.space.pretrained:
            return None
        data, task = self.plan.problem.data, self._task
        longer = self.plan.retraining.parts.epochs * (len(data.train) + len(data.valid)) / (epochs * len(data.train))

        def chance(error: float) -> float:
            share = task.to_share(error)
            by = math.sqrt(task.chance(share, len(data.test))) if len(data.test) else 0.0
            return (task.from_share(share + by) - task.from_share(share - by)) / 2

        worst = 100.0 if task.metric.unit == "%" else math.inf
        return forecast(error, deviation, longer, worst, chance)

    def expected(self, architectures: Sequence[Architecture]) -> list[float] | None:
        """Return the errors that networks are expected to have by all measurements so far; None where these are too few.

        What the judge decides later stays the same.
        """
        encoding = self._encoding or Encoding(self._space.sizes, self._space.path_encoding)
        sources = self.evidence.sources()
        beliefs = believe(encoding, list(sources.values()), places=[place for place, *_ in sources])
        return [self._task.from_share(float(error)) for error in beliefs[-1](architectures)[0]] if beliefs else None

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint; measurements are read back from the records."""
        return {"formed": self._formed, "settled": self._settled, "left_out": self._left_out}

    def load_state_dict(self, state: dict[str, Any], stage: Stage) -> None:
        """Go on where `state` was taken, once all measurements are back."""
        if state["settled"] is not None:
            self._settled, self._stage, self._left_out = state["settled"], stage, state.get("left_out", 0)
            self._shortlist()
        elif state["formed"]:
            self._form(state["formed"])
