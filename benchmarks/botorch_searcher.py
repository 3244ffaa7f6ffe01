"""BoTorch's noisy expected hypervolume improvement (qLogNEHVI) as a searcher, to compare with on tables.

    python benchmarks/noisy_table.py TABLE.parquet --searchers surrogate-search,botorch_searcher:NoisyImprovement

BoTorch is installed with pip install botorch. qLogNEHVI is that of Ament, Daulton, Eriksson, Balandat and Bakshy, "Unexpected
improvements to expected improvement for Bayesian optimization" (NeurIPS 2023), which the authors recommend over qNEHVI.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.model import ModelList
from botorch.models.transforms.outcome import Standardize
from botorch.sampling.get_sampler import get_sampler
from gpytorch.mlls import ExactMarginalLogLikelihood
from scipy.stats import qmc

from searchers.base import Architecture
from searchers.parts.additive import Additive
from searchers.parts.gaussian_process import Encoding
from searchers.parts.uniform import UniformPaths

MARGIN = 0.1
"""Distance of the reference point beyond the worst measured costs, as a share of their range (BoTorch's own default)."""
OUTCOMES = 64
"""Quasi-random outcomes over which the improvement is averaged."""


class NoisyImprovement(UniformPaths):
    """Propose the network of the largest qLogNEHVI among all of a space, with BoTorch's defaults for model and acquisition.

    The process sees choices and counts of options, scaled to 0..1, and not the paths that surrogate search sees as well. As
    there, costs in `additive` are computed and not predicted, and the first networks are a Latin hypercube. A round proposes
    one network.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        additive: Each cost after the error as a sum over the options, or None where it has to be learned.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        start: Networks before the first prediction.
        warmup: Share of the rounds that only trains shared weights.
        seed: Seed of all sampling.

    Raises:
        ValueError: where constraints are violated, of which the acquisition would know nothing.
    """

    needs = ("rounds", "additive", "canonical", "seed")

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        additive: Sequence[Additive | None] = (),
        canonical: Callable[[Architecture], Hashable] | None = None,
        start: int = 20,
        warmup: float = 0.6,
        seed: int = 0,
    ) -> None:
        super().__init__(sizes, rounds=rounds, canonical=canonical, samples=1, warmup=warmup, seed=seed)
        self.start, self.seed = start, seed
        different: dict[Hashable, Architecture] = {}
        for architecture in itertools.product(*map(range, sizes)):
            different.setdefault(self._canonical(architecture), architecture)
        self._space = np.array(list(different.values()))
        self._place = {key: i for i, key in enumerate(different)}
        features = Encoding(sizes)(self._space)
        low, high = features.min(axis=0), features.max(axis=0)
        self._points = torch.from_numpy((features - low) / np.where(high > low, high - low, 1.0))
        self._exact = [None if cost is None else self._computed(*cost) for cost in additive]
        design = qmc.LatinHypercube(len(sizes), rng=np.random.default_rng(seed)).random(start)
        self._design = [tuple(a) for a in (design * np.array(sizes)).astype(int).tolist()]

    def _computed(self, constant: float, rows: Sequence[Sequence[float]]) -> np.ndarray:
        return constant + sum(np.array(row)[self._space[:, i]] for i, row in enumerate(rows))

    def _propose(self, n: int) -> list[Architecture]:
        if len(self.told) < self.start:
            return self._new(n, lambda: self._design.pop(0) if self._design else self._random())
        if any(e.violation > 0 for e in self.told):
            raise ValueError("constraints: this searcher has none; leave them out")
        torch.manual_seed(self.seed * 100_003 + len(self.told))
        seen = [self._place[self._canonical(e.architecture)] for e in self.told]
        costs = np.array([e.costs for e in self.told])
        # The last column is the row's number, by which exact costs are looked up.
        numbered = torch.cat([self._points, torch.arange(len(self._points), dtype=torch.double)[:, None]], dim=1)
        models: list[Any] = []
        for i in range(costs.shape[1]):
            exact = self._exact[i - 1] if i and self._exact else None
            models.append(self._process(seen, -costs[:, i]) if exact is None else self._table(-exact))
        with torch.no_grad():
            posterior = ModelList(*models).posterior(numbered[seen])
            told = posterior.mean
        worst = told.min(dim=0).values
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            ModelList(*models),
            (worst - MARGIN * (told.max(dim=0).values - worst)).tolist(),
            numbered[seen],
            sampler=get_sampler(posterior, torch.Size([OUTCOMES]), seed=self.seed),
            prune_baseline=True,
        )
        free = np.setdiff1d(np.arange(len(self._space)), [self._place[key] for key in self._known])
        with torch.no_grad():
            worth = torch.cat([acquisition(part[:, None]) for part in numbered[free].split(512)])
        return [tuple(self._space[free[int(worth.argmax())]].tolist())]

    def _process(self, seen: list[int], values: np.ndarray) -> SingleTaskGP:
        model = _WithoutNumber(self._points[seen], torch.from_numpy(values)[:, None], outcome_transform=Standardize(1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return model

    def _table(self, values: np.ndarray) -> GenericDeterministicModel:
        column = torch.from_numpy(values)
        return GenericDeterministicModel(lambda x: column[x[..., -1].long()][..., None], num_outputs=1)


class _WithoutNumber(SingleTaskGP):
    """A process of all columns but the last."""

    def posterior(self, X: torch.Tensor, *arguments: Any, **settings: Any) -> Any:  # noqa: N803, as BoTorch passes it by name
        return super().posterior(X[..., :-1], *arguments, **settings)
