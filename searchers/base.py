"""The nouns that cross the seam between a search method and whatever evaluates its proposals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Architecture = tuple[int, ...]
"""An option index per choice."""

Cotangents = tuple[tuple[float, ...], ...]
"""d loss / d weight, shaped like `Mixture.weights`; 0 where no cotangent was wanted."""


@dataclass(frozen=True)
class Mixture:
    """A weight per option per choice; one-hot rows are an architecture.

    An option of weight zero is not run. `wanted` marks the options whose cotangent is asked for; an inactive option may be
    marked too, and is then run alone, without a graph. None means: the active ones.
    """

    weights: tuple[tuple[float, ...], ...]
    wanted: tuple[tuple[bool, ...], ...] | None = None

    def __post_init__(self) -> None:
        for choice, row in enumerate(self.weights):
            if not row or not all(math.isfinite(w) for w in row):
                raise ValueError(f"choice {choice} of a mixture has the weights {row}; they must be finite, and at least one")
        if self.wanted is not None and [len(r) for r in self.wanted] != [len(r) for r in self.weights]:
            raise ValueError("`wanted` must have the shape of `weights`")

    @classmethod
    def one_hot(cls, architecture: Architecture, sizes: Sequence[int]) -> Mixture:
        """The mixture that is `architecture` alone. Raises ValueError for an option that a choice does not have."""
        check_architecture(architecture, sizes)
        return cls(tuple(tuple(float(i == k) for i in range(n)) for k, n in zip(architecture, sizes, strict=True)))

    def active(self) -> tuple[tuple[int, ...], ...]:
        """The options of weight other than zero, per choice."""
        return tuple(tuple(i for i, w in enumerate(row) if w != 0) for row in self.weights)


@dataclass(frozen=True)
class Evaluation:
    """An architecture and its costs, lower is better, in the order of the experiment's objectives.

    violation: by how much it breaks the experiment's constraints, as the sum of `cost / limit - 1` over the limits that are
    exceeded; 0 where it keeps them all. Raises ValueError where a number is not finite: pymoo drops such rows without a word,
    so they are stopped here.
    """

    architecture: Architecture
    costs: tuple[float, ...]
    violation: float = 0.0

    def __post_init__(self) -> None:
        if not self.costs or not all(math.isfinite(c) for c in (*self.costs, self.violation)):
            raise ValueError(
                f"architecture {self.architecture} has the costs {self.costs} and the violation {self.violation}; all must be "
                "finite numbers"
            )


@dataclass(frozen=True)
class Stage:
    """The life of one set of shared weights.

    options: the surviving options per choice. rounds: how long the stage lasts. warmup: how many of its first rounds train
    weights only. stages: how many there will be; the last one's supernet has the full depth, so that of a method with a
    single stage does too. A searcher that moves to a stage of another `index` asks for a new supernet over `options`; one that
    has fewer options in a stage of the same index goes on with the weights that are left.
    skips: whether the skip dropout of P-DARTS is to be used, which methods on mixtures in stages need and others have not.
    anneal: how far the learning rate follows its half cosine during the stage; 1 is to the end, at 0.
    """

    index: int
    options: tuple[tuple[int, ...], ...]
    rounds: int
    warmup: int = 0
    stages: int = 1
    skips: bool = False
    anneal: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.stages or not 0 <= self.warmup <= self.rounds:
            raise ValueError(f"stage {self.index} of {self.stages} with {self.warmup} of {self.rounds} rounds of warm-up")


class Searcher(ABC):
    """Proposes architectures and learns from their costs.

    It does not evaluate, log, save or draw, and it does not own the loop. A round is: `train_on`, then `ask`, then `tell`.
    All that is random in it flows from the seed it was built with.
    """

    sizes: tuple[int, ...]
    mixes = False
    """Whether it ever trains on, or asks about, a mixture of several options."""
    full_validation = False
    """Whether what it asks about is to be measured on the whole validation part, as it was just trained, by the running
    statistics of that training; otherwise on one batch, by that batch's own."""

    samples: int = 1
    """How many architectures it asks for in a round."""

    @property
    @abstractmethod
    def stage(self) -> Stage:
        """The stage that the next round belongs to."""

    @abstractmethod
    def train_on(self, steps: int) -> list[Mixture]:
        """The mixtures that the next `steps` weight steps of shared weights train on. Begins a round."""

    @abstractmethod
    def ask(self, n: int) -> list[Architecture]:
        """At most `n` architectures to evaluate; an empty list means "go on without me" (warm-up). May repeat one."""

    @abstractmethod
    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Costs of architectures that were asked, in any order and in any portions."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that decides the future, as numbers, strings, lists, dicts and tensors."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; the searcher must have been built with the same arguments."""

    def expected(self, rounds: int) -> float:
        """About how many architectures it asks for in all, in a search of so many rounds."""
        return (1 - self.stage.warmup / self.stage.rounds) * rounds * self.samples

    def probabilities(self) -> list[list[float]] | None:
        """The probability of each option of each choice, or None for a method without a policy."""
        return None

    def derive(self) -> list[Architecture]:
        """What the method itself returns at its end, beside the archive of all it measured."""
        return []


class GradientSearcher(Searcher):
    """A `Searcher` that asks for derivatives at a mixture of its choosing. What it proposes besides is for the archive; it
    is not told the costs."""

    mixes = True
    unrolled = False
    """Whether it wants the loss after a weight step differentiated, that step included (DARTS's second order)."""

    @abstractmethod
    def relax(self) -> Mixture | None:
        """The mixture at which the validation loss is to be differentiated; None while weights alone are trained."""

    @abstractmethod
    def descend(self, loss: float, cotangents: Cotangents) -> None:
        """The loss and d loss / d weight at the mixture of the last `relax`; the chain rule to the method's own parameters is
        its own."""


def learning_rate(published: float, over: int, steps: float) -> float:
    """The published rate, or proportionally more where a search has fewer than the published steps, up to 0.1.

    Adam moves a parameter by at most about its learning rate a step, so a short search would end where it began.
    """
    return min(0.1, max(published, published * over / max(1, steps)))


def check_architecture(architecture: Architecture, sizes: Sequence[int]) -> None:
    """Raises ValueError unless `architecture` picks one existing option for each choice."""
    if len(architecture) != len(sizes):
        raise ValueError(f"architecture {architecture} makes {len(architecture)} choices; the space has {len(sizes)}")
    for choice, (option, size) in enumerate(zip(architecture, sizes, strict=True)):
        if not 0 <= option < size:
            raise ValueError(f"choice {choice} of architecture {architecture} is {option}; it must be in 0..{size - 1}")
