"""Search spaces, a file each; and what it takes to write one of your own."""

from collections.abc import Callable
from typing import Any

from torch import nn

from orchestrator.spaces.parts.choice import Choice, Zero

__all__ = ["Choice", "Zero", "network"]


def network(
    factory: Callable[..., nn.Module], notation: str, *, image: tuple[int, int, int], classes: int, **settings: Any
) -> nn.Module:
    """The plain network that `notation` stands for in the space of `factory`, with fresh weights.

    Raises ValueError where the notation does not fit the factory's choices.
    """
    from orchestrator.spaces.parts.own import OwnSpace

    space = OwnSpace(factory, settings, image, classes)
    return space.network(space.parse(notation))
