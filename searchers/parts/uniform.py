"""What methods that learn from costs alone have in common: shared weights, if there are any, train on uniform paths."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

import torch

from searchers.base import Architecture, Evaluation, Mixture, Searcher, Stage
from searchers.parts.categorical import Categorical

TRIES = 20


class UniformPaths(Searcher):
    """A method that says what to propose and what it learns. Everything it was ever told is in `told`, in one order whatever
    the order of arrival; nothing is proposed twice, in whatever notation.

    rounds, canonical, seed: given by the budget, the space and the experiment. canonical: equal for architectures that are the
        same network.
    samples: architectures of a generation, which is asked in portions where there is less room. warmup: share of the rounds
        that only train the shared weights, so that nothing is judged by weights that have seen nothing yet (as in Guo et al.,
        "Single path one-shot", ECCV 2020).

    Raises ValueError for settings outside these bounds.
    """

    needs: ClassVar[tuple[str, ...]] = ("rounds", "canonical", "seed")
    warmup_setting = "warmup"

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        canonical: Callable[[Architecture], Hashable] | None,
        samples: int,
        warmup: float,
        seed: int,
    ) -> None:
        if samples < 1:
            raise ValueError(f"samples = {samples}; at least 1 is needed")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup = {warmup}; it is a share of the rounds, at least 0 and below 1")
        self.sizes = tuple(sizes)
        self.samples = samples
        self.told: list[Evaluation] = []
        self._canonical = canonical or tuple
        self._known: set[Hashable] = set()
        self._uniform = Categorical(sizes)
        self._generator = torch.Generator().manual_seed(seed)
        self._stage = Stage(0, self._uniform.options(), rounds, int(warmup * rounds))
        self._round = 0
        self._generation: list[Architecture] = []
        self._queue: list[Architecture] = []
        self._arrived: list[Evaluation] = []

    @abstractmethod
    def _propose(self, n: int) -> list[Architecture]:
        """At most `n` architectures, none of which was proposed before (see `_new`)."""

    def _learn(self, told: list[Evaluation]) -> None:
        """What was proposed together, all at once, in the order of the proposals; it is in `told` already."""

    @property
    def stage(self) -> Stage:
        return self._stage

    def train_on(self, steps: int) -> list[Mixture]:
        self._round += 1
        return [Mixture.one_hot(a, self.sizes) for a in self._uniform.sample(steps, self._generator)]

    def ask(self, n: int) -> list[Architecture]:
        if self._round <= self._stage.warmup or n < 1:
            return []
        if not self._generation:
            self._generation = self._propose(self.samples)
            self._queue = list(self._generation)
            self._known.update(map(self._canonical, self._generation))
        asked, self._queue = self._queue[:n], self._queue[n:]
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._arrived += evaluations
        if len(self._arrived) < len(self._generation):
            return
        place = {a: i for i, a in enumerate(self._generation)}
        told = sorted(self._arrived, key=lambda e: place[e.architecture])
        self._generation, self._arrived = [], []
        self.told += told
        self._learn(told)

    def _new(self, n: int, make: Callable[[], Architecture]) -> list[Architecture]:
        """Up to `n` architectures from `make` that are new; uniform ones where it finds none in 20 tries, and fewer where
        there is nothing left."""
        found: dict[Hashable, Architecture] = {}
        for _ in range(n):
            for attempt in range(2 * TRIES):
                made = make() if attempt < TRIES else self._uniform.sample(1, self._generator)[0]
                key = self._canonical(made)
                if key not in self._known and key not in found:
                    found[key] = made
                    break
        return list(found.values())

    def _random(self) -> Architecture:
        return self._uniform.sample(1, self._generator)[0]

    def _draw(self, n: int) -> int:
        """One of 0..n-1."""
        return int(torch.randint(n, (), generator=self._generator))

    def _chance(self) -> float:
        """A number in 0..1."""
        return float(torch.rand((), dtype=torch.float64, generator=self._generator))

    def _mutated(self, architecture: Architecture, choice: int) -> Architecture:
        """With another option at `choice`, any of them as likely; where there is no other, as it was."""
        others = [o for o in range(self.sizes[choice]) if o != architecture[choice]]
        if not others:
            return architecture
        return (*architecture[:choice], others[self._draw(len(others))], *architecture[choice + 1 :])

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "generation": [list(a) for a in self._generation],
            "queue": [list(a) for a in self._queue],
            "arrived": [_plain(e) for e in self._arrived],
            "told": [_plain(e) for e in self.told],
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._round = state["round"]
        self._generation, self._queue = ([tuple(a) for a in state[k]] for k in ("generation", "queue"))
        self._arrived, self.told = ([Evaluation(tuple(a), tuple(c), v) for a, c, v in state[k]] for k in ("arrived", "told"))
        self._known = {self._canonical(a) for a in (*self._generation, *(e.architecture for e in self.told))}
        self._generator.set_state(state["generator"])


def _plain(evaluation: Evaluation) -> tuple[list[int], list[float], float]:
    return list(evaluation.architecture), list(evaluation.costs), evaluation.violation
