"""Bayesian optimisation by expected hypervolume improvement over Gaussian processes.

The expected hypervolume improvement is that of Emmerich, Giannakoglou and Naujoks (IEEE Transactions on Evolutionary
Computation 10, 2006); the hypervolume is a mean over directions, as in Zhang and Golovin (ICML 2020), for any number of
objectives.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from scipy.stats import norm, qmc

from searchers.base import Architecture, PathEncoding
from searchers.parts.additive import Additive
from searchers.parts.breeding import bred
from searchers.parts.gaussian_process import Encoding, Kernel, Posterior, Scale
from searchers.parts.ranking import ranked
from searchers.parts.ties import coarse, extent
from searchers.parts.uniform import UniformPaths

MAX_LISTED = 20_000
"""Largest number of architectures of a space that is predicted as a whole."""
GENERATIONS = 4
"""Generations in which candidates of a larger space are bred for each proposal."""
REFIT_GROWTH = 1.15
"""Growth in the number of evaluations after which hyperparameters are fitted again."""
MAX_EVALUATIONS = 1000
"""Largest number of evaluations that models are conditioned on, the best of them; the time grows with its square."""
DIRECTIONS = 128
"""Directions over which the hypervolume is averaged."""
OUTCOMES = 16
"""Quasi-random outcomes of a measurement over which the improvement is averaged."""
OPTIMISM = 2.5
"""Deviations below the mean of the optimistic bound by which candidates are screened."""
MAX_ESTIMATED = 500
"""Number of best candidates by the optimistic bound that get a full estimate of the expected improvement."""
MARGIN = 0.1
"""Distance of the reference point beyond the worst costs, as a share of their range."""
VIOLATION = -1
"""Key of the model of constraint violations, beside the indices of costs."""


class SurrogateSearch(UniformPaths):
    """Propose the architecture of the largest expected hypervolume improvement, times the probability that it is feasible.

    Costs in `additive` are computed; every other one is predicted by a Gaussian process from all evaluations (see
    `parts/gaussian_process.py`). The improvement includes the noise of a measurement: an entry of a table that came out well is
    worth having, and one of a supernet is judged again at the end. Within a round, each proposal assumes that those before it
    cost what was predicted (kriging believer).

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        additive: Each cost after the error as a sum over the options, or None where it has to be learned.
        path_encoding: Features of the graphs of all architectures, from the space; None where it is too large to list.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        start: Networks before the first prediction, a Latin hypercube: random, with each option about equally often (McKay,
            Beckman and Conover, Technometrics 21, 1979).
        candidates: Networks that are predicted for each proposal where the space is too large to predict all of it: mutants of
            the front, then of those that look best.
        samples: Architectures per round, whose costs are learned before the next round.
        warmup: Share of the rounds that only trains shared weights.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds, and for additive costs over other options than `sizes`.

    Example:
        >>> searcher = SurrogateSearch((3, 4), rounds=5, start=2, warmup=0.0)
        >>> searcher.train_on(0)
        []
        >>> len(searcher.ask(10))
        1
    """

    needs = ("rounds", "additive", "path_encoding", "canonical", "seed")
    models_noise = True

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        additive: Sequence[Additive | None] = (),
        path_encoding: PathEncoding | None = None,
        canonical: Callable[[Architecture], Hashable] | None = None,
        start: int = 20,
        candidates: int = 2000,
        samples: int = 1,
        warmup: float = 0.6,
        seed: int = 0,
    ) -> None:
        super().__init__(sizes, rounds=rounds, canonical=canonical, samples=samples, warmup=warmup, seed=seed)
        if start < 2 or candidates < 10 * GENERATIONS:
            raise ValueError(f"start = {start}, candidates = {candidates}; at least 2 and {10 * GENERATIONS}")
        if any([len(row) for row in cost[1]] != list(sizes) for cost in additive if cost):
            raise ValueError(f"a cost in `additive` has other options than the choices, which have {tuple(sizes)}")
        self.start, self.candidates = start, candidates
        self._exact = {i: cost for i, cost in enumerate(additive, 1) if cost}
        self._encoding = Encoding(sizes, path_encoding)
        self._space: np.ndarray | None = None
        self._features: np.ndarray | None = None
        if math.prod(sizes) <= MAX_LISTED:
            self._space = np.array(list(itertools.product(*map(range, sizes))))
            self._features = self._encoding(self._space)
        design = qmc.LatinHypercube(len(sizes), rng=np.random.default_rng(seed)).random(start)
        self._design: list[Architecture] = [tuple(a) for a in (design * np.array(sizes)).astype(int).tolist()]
        self._fitted = 0
        self._models: dict[int, _Model] = {}

    def _propose(self, n: int) -> list[Architecture]:
        if len(self.told) < self.start:
            return self._new(n, self._spread)
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=self._generator)))
        self._update_models()
        measured = np.array([e.costs for e in self.told if e.violation <= 0]).reshape(-1, len(self.told[0].costs))
        proposals: list[Architecture] = []
        while len(proposals) < n:
            proposal = self._best(_Improvement(measured, rng), {self._canonical(a) for a in proposals}, rng)
            if proposal is None:
                break
            proposals.append(proposal)
            if len(proposals) < n:
                measured = np.vstack([measured, self._suppose(proposal)])
        self._known.update(map(self._canonical, proposals))
        return [*proposals, *self._new(n - len(proposals), self._random)]

    def _spread(self) -> Architecture:
        """Return the next network of the initial design, and a random one once that is used up."""
        return self._design.pop(0) if self._design else self._random()

    def _update_models(self) -> None:
        """Fit the models if it is time, and condition them on all evaluations.

        Everything here is a function of `told` and of when the models were last fitted, so that a restored search has the same
        ones.
        """
        values = self._values()
        if not self._fitted or len(self.told) >= REFIT_GROWTH * self._fitted or set(values) != set(self._values(self._fitted)):
            self._fitted, self._models = len(self.told), {}
        used = list(range(self._fitted))
        if self._fitted > MAX_EVALUATIONS:
            keys = ranked(self.told[: self._fitted])
            used = sorted(sorted(used, key=keys.__getitem__)[:MAX_EVALUATIONS])
        if not self._models:
            x = self._encoding([self.told[i].architecture for i in used])
            room = math.ceil(REFIT_GROWTH * self._fitted) - self._fitted + 2 * self.samples
            for i, column in self._values(self._fitted).items():
                self._models[i] = _Model(self._encoding, x, column[used], i != VIOLATION, self._features, room)
        used += range(self._fitted, len(self.told))
        x = self._encoding([self.told[i].architecture for i in used])
        for i, model in self._models.items():
            model.condition(x, values[i][used])

    def _values(self, n: int | None = None) -> dict[int, np.ndarray]:
        """Return what is learned from the first `n` evaluations: each unknown cost, and the violation if there was any."""
        costs = np.array([e.costs for e in self.told[:n]])
        violation = np.array([e.violation for e in self.told[:n]])
        # What could not be measured at all is told as the worst, which says nothing of its costs.
        unmeasured = np.array([e.failed for e in self.told[:n]])
        if unmeasured.any() and not unmeasured.all():
            costs[unmeasured] = np.median(costs[~unmeasured], axis=0)
        values = {i: costs[:, i] for i in range(costs.shape[1]) if i not in self._exact}
        if (violation > 0).any():
            values[VIOLATION] = np.where(violation > 0, np.minimum(violation / violation[violation > 0].mean(), 2.0), -1.0)
        return values

    def _best(self, improvement: _Improvement, besides: set[Hashable], rng: np.random.Generator) -> Architecture | None:
        """Return the best candidate, of the whole space or of those bred, that is neither known nor in `besides`."""
        pool = self._space
        if pool is None:
            size = self.candidates // GENERATIONS
            kept = [e.architecture for e, key in zip(self.told, ranked(self.told), strict=True) if key[0] == 0]
            pool = bred(np.array(kept or [e.architecture for e in self.told]), size, self.sizes, rng)
            for _ in range(GENERATIONS - 1):
                parents = pool[np.argsort(-self._score(pool, improvement, rng), kind="stable")[: size // 10]]
                pool = np.unique(np.vstack([parents, bred(parents, size, self.sizes, rng)]), axis=0)
        score = self._score(pool, improvement, rng)
        for i in np.lexsort([rng.random(len(pool)), -score]):
            architecture = tuple(pool[i].tolist())
            key = self._canonical(architecture)
            if key not in self._known and key not in besides:
                return architecture
        return None

    def _score(self, pool: np.ndarray, improvement: _Improvement, rng: np.random.Generator) -> np.ndarray:
        """Return the expected improvement times the probability of feasibility, (pool,)."""
        features = self._features if pool is self._space else self._encoding(pool)
        assert features is not None
        predicted = {i: model.predict(features) for i, model in self._models.items() if i != VIOLATION}
        known = {i: fixed + features[:, : self._encoding.one_hot] @ np.concatenate(r) for i, (fixed, r) in self._exact.items()}

        def costs(chosen: np.ndarray | slice, normal: np.ndarray) -> np.ndarray:
            """(outcomes, chosen, costs). normal: (outcomes, predicted), in deviations."""
            found = np.empty((len(normal), len(features[chosen]), len(known) + len(predicted)))
            for i, values in known.items():
                found[:, :, i] = values[chosen]
            for (i, (mean, deviation)), z in zip(predicted.items(), normal.T, strict=True):
                outcome = mean[chosen] + z[:, None] * deviation[chosen]
                found[:, :, i] = self._models[i].scale.back(outcome.ravel()).reshape(outcome.shape)
            return found

        keeps = self._models[VIOLATION].below_zero(features) if VIOLATION in self._models else np.ones(len(pool))
        # What comes of float32 is compared by as many digits as it has; among equals the seed decides, not the processor.
        score = coarse(keeps * improvement(costs(slice(None), np.full((1, len(predicted)), -OPTIMISM))[0]))
        closer = np.argsort(-score, kind="stable")[:MAX_ESTIMATED]
        closer = closer[score[closer] > 0]
        score *= 1e-9  # where no improvement is expected any more, the optimistic bound decides
        if len(closer) and predicted:
            normal = norm.ppf(qmc.Sobol(len(predicted), rng=rng).random(OUTCOMES))
            outcomes = costs(closer, np.clip(normal, -OPTIMISM, OPTIMISM))
            added = improvement(outcomes.reshape(-1, outcomes.shape[2])).reshape(outcomes.shape[:2])
            score[closer] += keeps[closer] * added.mean(axis=0)
        return coarse(score)

    def _suppose(self, architecture: Architecture) -> np.ndarray:
        """Condition the models on their own predictions for an architecture (kriging believer); return its predicted costs."""
        x = self._encoding([architecture])
        supposed = {i: model.suppose(x) for i, model in self._models.items()}
        hot = x[0, : self._encoding.one_hot]
        for i, (fixed, rows) in self._exact.items():
            supposed[i] = float(fixed + hot @ np.concatenate(rows))
        return np.array([supposed[i] for i in range(len(self.told[0].costs))])

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"fitted": self._fitted, "design": [list(a) for a in self._design]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._fitted, self._models = state["fitted"], {}
        self._design = [tuple(a) for a in state["design"]]


class _Model:
    """A Gaussian process of one cost, or of the violation.

    Args:
        encoding: Features of architectures.
        x: Features of the evaluations that hyperparameters are fitted to, (evaluations, features).
        values: Their values, (evaluations,).
        skewed: Whether values are transformed to be about normal.
        space: Features of the whole space, if it is small; predictions for it are then updated from proposal to proposal.
        room: Number of evaluations that will be added before the next fit.
    """

    def __init__(
        self, encoding: Encoding, x: np.ndarray, values: np.ndarray, skewed: bool, space: np.ndarray | None, room: int
    ) -> None:
        self.scale = Scale(values, skewed)
        self._kernel = Kernel(encoding, x, self.scale.to(values))
        self._space = space
        self._whole = None if space is None else Posterior(self._kernel, space, x, room)

    def condition(self, x: np.ndarray, values: np.ndarray) -> None:
        """Condition on these evaluations, the first of which may be known; those do not change."""
        self._x, self._z = x, self.scale.to(values)
        if self._whole is not None:
            for row in x[len(self._whole) :]:
                self._whole.add(row)

    def suppose(self, x: np.ndarray) -> float:
        """Condition on the predicted mean at `x`, (1, features), and return it."""
        z = Posterior(self._kernel, x, self._x).predict(self._z)[0]
        self._x, self._z = np.vstack([self._x, x]), np.append(self._z, z)
        if self._whole is not None:
            self._whole.add(x[0])
        return float(self.scale.back(z)[0])

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and deviations of measurements, noise included, on the scale of the model, (features' rows,) each."""
        whole = self._whole if features is self._space else None
        mean, deviation = (whole or Posterior(self._kernel, features, self._x)).predict(self._z)
        return mean, np.hypot(deviation, math.sqrt(self._kernel.noise))

    def below_zero(self, features: np.ndarray) -> np.ndarray:
        """Return the probability that a measurement is below 0, (features' rows,)."""
        mean, deviation = self.predict(features)
        zero = self.scale.to(np.zeros(1))[0]
        return np.asarray(norm.cdf((zero - mean) / deviation))


class _Improvement:
    """The gain in hypervolume that each of some costs would add to the measured ones.

    The hypervolume is, up to a factor, the mean over directions of the positive orthant of how far along each direction the
    front dominates, to the power of the number of objectives. With nothing measured, all costs gain the same.

    Args:
        measured: Costs of feasible evaluations, (evaluations, objectives).
        rng: Source of the directions.
    """

    def __init__(self, measured: np.ndarray, rng: np.random.Generator) -> None:
        self._front = None
        if not len(measured):
            return
        self._best, self._extent = measured.min(axis=0), extent(measured)
        count = measured.shape[1]
        if count == 2:
            angle = (np.arange(DIRECTIONS) + rng.random(DIRECTIONS)) / DIRECTIONS * np.pi / 2
            directions = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        else:
            directions = np.abs(rng.standard_normal((DIRECTIONS, count)))
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self._directions = np.maximum(directions, 1e-6).astype(np.float32)
        self._front = self._scaled(measured[NonDominatedSorting().do(measured, only_non_dominated_front=True)])
        # As far as float32 can tell, a point that reaches no farther than this is on the front already.
        self._reached = self._reach(self._front).max(axis=0) * np.float32(1 + 1e-6)
        self._front = self._front[np.argsort(-self._front.prod(axis=1))]  # those that dominate most come first

    def _scaled(self, costs: np.ndarray) -> np.ndarray:
        """Return the distance below the reference point, in extents of the measured costs."""
        return np.asarray(1 + MARGIN - (costs - self._best) / self._extent, dtype=np.float32)

    def _reach(self, scaled: np.ndarray) -> np.ndarray:
        """Return how far points dominate along each direction, to the power of the objectives' number, (points, directions)."""
        reach = scaled[:, :1] / self._directions[:, 0]
        for i in range(1, scaled.shape[1]):
            np.minimum(reach, scaled[:, i : i + 1] / self._directions[:, i], out=reach)
        return np.asarray(np.maximum(reach, 0.0) ** scaled.shape[1])

    def __call__(self, costs: np.ndarray) -> np.ndarray:
        """Return the gain of each of `costs`, (points, objectives), as (points,)."""
        if self._front is None:
            return np.ones(len(costs))
        scaled = self._scaled(costs)
        left = np.flatnonzero((scaled > 0).all(axis=1))
        for point in self._front:  # most are dominated, and checking that is faster than computing their gain
            left = left[(scaled[left] > point).any(axis=1)]
        improvement = np.zeros(len(costs))
        improvement[left] = np.maximum(self._reach(scaled[left]) - self._reached, 0.0).mean(axis=1)
        return improvement
