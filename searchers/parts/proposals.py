"""Networks that a method with several targets proposes for the archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from searchers.base import Architecture


class Proposals:
    """Propose networks of several targets in turn: a target's best network once it has changed, otherwise another one.

    Args:
        targets: Number of targets.

    Example:
        >>> proposals = Proposals(2)
        >>> proposals(3, [(0,), (1,)], lambda target: (9,))
        [(0,), (1,), (9,)]
    """

    def __init__(self, targets: int) -> None:
        self._turn = 0
        self._last: list[Architecture | None] = [None] * targets

    def __call__(self, n: int, best: Sequence[Architecture], other: Callable[[int], Architecture]) -> list[Architecture]:
        """Return `n` networks.

        Args:
            n: How many.
            best: The best network of each target by what the method knows now.
            other: Returns another network for the target of that number.
        """
        asked = []
        for _ in range(n):
            target = self._turn
            asked.append(best[target] if best[target] != self._last[target] else other(target))
            self._last[target] = best[target]
            self._turn = (target + 1) % len(self._last)
        return asked

    def state_dict(self) -> dict[str, Any]:
        return {"proposer": self._turn, "proposed": [None if a is None else list(a) for a in self._last]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._turn = state["proposer"]
        self._last = [None if a is None else tuple(a) for a in state["proposed"]]


def neighbour(
    here: Architecture,
    options: Sequence[Sequence[int]],
    generator: torch.Generator,
    none_option: Sequence[int | None] | None = None,
) -> Architecture:
    """Return a network that differs in a random choice; the same one where that choice has no other option.

    Args:
        here: The network.
        options: The options that may be taken at each choice.
        generator: Source of chance.
        none_option: Per choice the option that stands for no edge, or None; the edges of `here` stay as they are.
    """
    choice = int(torch.randint(len(options), (), generator=generator))
    none = none_option[choice] if none_option is not None else None
    others = [o for o in options[choice] if o not in (here[choice], none)]
    if (none is not None and here[choice] == none) or not others:
        return here
    option = others[int(torch.randint(len(others), (), generator=generator))]
    return (*here[:choice], option, *here[choice + 1 :])
