"""Independent categorical distributions over choices that differ in their number of options."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from searchers.base import Architecture
from searchers.parts.ties import level

LEAST = -700.0
"""Log probability below which options count as equally improbable, so that sums of them stay finite."""


class Categorical:
    """Logits of independent choices, (choices, most options), padded; dropped and padding options have probability 0 exactly.

    Searchers hold it as a part. In float64, so that a policy restored from a checkpoint continues to the last bit and gradients
    can be checked against finite differences.

    Args:
        sizes: Number of options of each choice.

    Raises:
        ValueError: for a choice without options.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"every choice needs an option; the sizes are {tuple(sizes)}")
        self.sizes = tuple(sizes)
        self.alive = torch.arange(max(sizes)).expand(len(sizes), -1) < torch.tensor(self.sizes)[:, None]
        self.logits = torch.zeros(self.alive.shape, dtype=torch.float64, requires_grad=True)

    def initialise(self, scale: float, generator: torch.Generator) -> None:
        """Draw the logits from scale * N(0, 1)."""
        with torch.no_grad():
            self.logits.copy_(scale * torch.randn(self.logits.shape, dtype=torch.float64, generator=generator))

    def log_probabilities(self) -> Tensor:
        """Log-softmax over the surviving options, (choices, most options); -inf where there is none."""
        return self.logits.masked_fill(~self.alive, -torch.inf).log_softmax(dim=-1)

    def probabilities(self) -> Tensor:
        """Return probabilities, (choices, most options); rows sum to 1."""
        return self.log_probabilities().exp()

    def rows(self) -> list[list[float]]:
        """Return the probabilities as lists of the choices' own lengths, with 0 for dropped options."""
        return [row[:n] for row, n in zip(self.probabilities().tolist(), self.sizes, strict=True)]

    def sample(self, n: int, generator: torch.Generator) -> list[Architecture]:
        """Draw `n` independent architectures."""
        if n == 0:
            return []
        samples = torch.multinomial(self.probabilities().detach(), n, replacement=True, generator=generator)
        return [tuple(column) for column in samples.T.tolist()]

    def log_prob(self, architectures: Sequence[Architecture]) -> Tensor:
        """Return log probabilities, (architectures,), differentiable in the logits."""
        picked = torch.tensor(architectures, dtype=torch.long)
        return self.log_probabilities().gather(1, picked.T).sum(dim=0)

    def entropy(self) -> Tensor:
        """Return the entropy summed over the choices, in nats, differentiable in the logits."""
        log_p = self.log_probabilities()
        return -(log_p.exp() * log_p.masked_fill(~self.alive, 0.0)).sum()

    def mode(self) -> Architecture:
        """Return the most probable option of each choice, the first among equals."""
        return tuple(level(self.probabilities()).argmax(dim=-1).tolist())

    def scores(self) -> list[list[float]]:
        """Return log probabilities, rounded and finite, so that sums of them compare networks."""
        return level(self.log_probabilities().detach().clamp(min=LEAST)).tolist()

    def state_dict(self) -> dict[str, Tensor]:
        return {"logits": self.logits.detach().clone(), "alive": self.alive.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self.alive = state["alive"].clone()

    def options(self) -> tuple[tuple[int, ...], ...]:
        """List the surviving options per choice."""
        return tuple(tuple(row.nonzero().flatten().tolist()) for row in self.alive)

    def keep(self, counts: Sequence[int]) -> None:
        """Drop the least probable options of each choice until `counts` survive; among equals the later one goes first.

        Raises:
            ValueError: for a count of 0, or of more options than survive.
        """
        for row, count in enumerate(counts):
            if not 1 <= count <= int(self.alive[row].sum()):
                raise ValueError(f"choice {row} has {int(self.alive[row].sum())} options; cannot keep {count}")
        order = level(self.probabilities().detach()).argsort(dim=-1, descending=True, stable=True)
        for row, count in enumerate(counts):
            self.alive[row] = False
            self.alive[row, order[row, :count]] = True
