"""Search spaces, a file each, and the parts to write one of your own."""

from collections.abc import Callable
from typing import Any

from torch import nn

from orchestrator.spaces.parts.choice import Choice, Zero

__all__ = ["Choice", "Zero", "network"]


def network(
    factory: Callable[..., nn.Module], notation: str, *, image: tuple[int, int, int], classes: int, **settings: Any
) -> nn.Module:
    """Build the plain network that `notation` stands for in the space of `factory`, with fresh weights.

    Args:
        factory: Function that returns a module with `Choice`s in it.
        notation: Architecture, `choice=option|choice=option|...`.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
        settings: Further keywords of the factory.

    Raises:
        ValueError: Where the notation does not fit the factory's choices.
    """
    from orchestrator.spaces.parts.own import OwnSpace

    space = OwnSpace(factory, settings, image, classes)
    return space.network(space.parse(notation))
