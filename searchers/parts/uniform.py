"""The common part of methods that learn from costs alone: uniform training of shared weights, and generations of proposals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

import torch

from searchers.base import Architecture, Evaluation, Mixture, Searcher, Stage
from searchers.parts.categorical import Categorical
from searchers.parts.packing import pack, unpack

TRIES = 20
"""Attempts to propose a new network before uniform sampling takes over."""


class UniformPaths(Searcher):
    """A method that implements `_propose`, and `_learn` if it learns. Shared weights train on uniformly drawn single paths.

    Evaluations are in `told`, in the order of the proposals, whatever the order of arrival; no network is proposed twice.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        samples: Architectures of a generation, which is asked for in portions where there is less room.
        warmup: Share of the rounds that only train the shared weights, so that nothing is judged by untrained weights (as in
            Guo et al., "Single path one-shot", ECCV 2020).
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.
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
        self._warmup = warmup
        self._round = self._began = 0
        self._plan_rounds(rounds)
        self._generation: list[Architecture] = []
        self._queue: list[Architecture] = []
        self._arrived: list[Evaluation] = []
        self._first: list[Architecture] = []

    def _plan_rounds(self, rounds: int) -> None:
        """Plan the next `rounds` rounds."""
        self._began = self._round
        self._stage = Stage(0, self._uniform.options(), rounds, int(self._warmup * rounds))

    def extend(self, rounds: int) -> None:
        """Go on for so many more rounds; shared weights, whose learning rate starts anew, are trained alone first again."""
        self._plan_rounds(rounds)

    @abstractmethod
    def _propose(self, n: int) -> list[Architecture]:
        """Return at most `n` architectures, none of which was proposed before (see `_new`)."""

    def _learn(self, evaluations: list[Evaluation]) -> None:
        """Learn from a whole generation, in the order of the proposals; it is in `told` already."""

    @property
    def stage(self) -> Stage:
        return self._stage

    def begin_with(self, architectures: Sequence[Architecture]) -> bool:
        self._first = list({self._canonical(a): a for a in reversed(architectures)}.values())[::-1]
        return True

    def train_on(self, steps: int) -> list[Mixture]:
        self._round += 1
        return [Mixture.one_hot(a, self.sizes) for a in self._uniform.sample(steps, self._generator)]

    def ask(self, n: int) -> list[Architecture]:
        if self._round - self._began <= self._stage.warmup or n < 1:
            return []
        if not self._generation:
            self._generation = self._first if self._first and not self.told else self._propose(self.samples)
            self._queue = list(self._generation)
            self._known.update(map(self._canonical, self._generation))
        asked, self._queue = self._queue[:n], self._queue[n:]
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._arrived += evaluations
        if len(self._arrived) < len(self._generation):
            return
        place = {a: i for i, a in enumerate(self._generation)}
        generation = sorted(self._arrived, key=lambda e: place[e.architecture])
        self._generation, self._arrived = [], []
        self.told += generation
        self._learn(generation)

    def _new(self, n: int, make: Callable[[], Architecture]) -> list[Architecture]:
        """Return up to `n` new architectures.

        Each is the first new one of 20 tries of `make`, then of 20 uniform ones; fewer come where there is nothing left.
        """
        new: dict[Hashable, Architecture] = {}
        for _ in range(n):
            for attempt in range(2 * TRIES):
                architecture = make() if attempt < TRIES else self._uniform.sample(1, self._generator)[0]
                key = self._canonical(architecture)
                if key not in self._known and key not in new:
                    new[key] = architecture
                    break
        return list(new.values())

    def _random(self) -> Architecture:
        return self._uniform.sample(1, self._generator)[0]

    def _draw(self, n: int) -> int:
        """Draw an integer in 0..n-1."""
        return int(torch.randint(n, (), generator=self._generator))

    def _chance(self) -> float:
        """Draw a number in [0, 1)."""
        return float(torch.rand((), dtype=torch.float64, generator=self._generator))

    def _mutated(self, architecture: Architecture, choice: int) -> Architecture:
        """Return the architecture with another option at `choice`, all equally likely; unchanged where there is no other."""
        others = [o for o in range(self.sizes[choice]) if o != architecture[choice]]
        if not others:
            return architecture
        return (*architecture[:choice], others[self._draw(len(others))], *architecture[choice + 1 :])

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "began": [self._began, self._stage.rounds],
            "generation": [list(a) for a in self._generation],
            "queue": [list(a) for a in self._queue],
            "arrived": [e.to_data() for e in self._arrived],
            "told": pack(self.told),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "began" in state:
            self._round, rounds = state["began"]
            self._plan_rounds(rounds)
        self._round = state["round"]
        self._generation, self._queue = ([tuple(a) for a in state[k]] for k in ("generation", "queue"))
        self._arrived, self.told = [Evaluation.from_data(e) for e in state["arrived"]], unpack(state["told"])
        self._known = {self._canonical(a) for a in (*self._generation, *(e.architecture for e in self.told))}
        self._generator.set_state(state["generator"])
