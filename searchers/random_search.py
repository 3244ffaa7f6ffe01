"""Uniform random search over a space, with shared weights trained on uniform paths: the baseline every method must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from searchers.base import Architecture, Evaluation, Mixture, Searcher, Stage
from searchers.categorical import Categorical


class RandomSearch(Searcher):
    """Li and Talwalkar, "Random search and reproducibility for NAS" (UAI 2019), section 3: single paths drawn uniformly
    train the shared weights; then uniform samples are measured with them.

    samples: architectures per round. warmup: share of the rounds that only trains weights, so that no sample is judged by
    weights that have seen nothing yet.
    """

    def __init__(
        self, sizes: Sequence[int], *, rounds: int, costs: int = 1, samples: int = 10, warmup: float = 0.6, seed: int = 0
    ) -> None:
        if samples < 1:
            raise ValueError(f"samples = {samples}; at least 1 is needed")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup = {warmup}; it is a share of the rounds, at least 0 and below 1")
        self.sizes = tuple(sizes)
        self.samples = samples
        self._uniform = Categorical(sizes)
        self._generator = torch.Generator().manual_seed(seed)
        self._stage = Stage(0, self._uniform.options(), rounds, int(warmup * rounds))
        self._round = 0

    @property
    def stage(self) -> Stage:
        return self._stage

    def train_on(self, steps: int) -> list[Mixture]:
        self._round += 1
        return [Mixture.one_hot(a, self.sizes) for a in self._uniform.sample(steps, self._generator)]

    def ask(self, n: int) -> list[Architecture]:
        if self._round <= self._stage.warmup:
            return []
        return self._uniform.sample(min(n, self.samples), self._generator)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"round": self._round, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._round = state["round"]
        self._generator.set_state(state["generator"])
