"""The config of a Tune trial whose network comes from a search space."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune
from ray.tune.utils.util import flatten_dict, unflatten_dict
from torch import nn

from orchestrator.config.problem import space_source
from orchestrator.config.spaces import build_space
from orchestrator.errors import InputError
from orchestrator.registry import Component
from orchestrator.spaces.base import SearchSpace
from searchers import Architecture

SpaceLike = str | SearchSpace | Component | Callable[..., Any]
"""Ways to give a space: its name, an object, one of `paretoray.spaces`, or a function `build(image, classes)`."""

IMAGE, CLASSES = (3, 32, 32), 10
"""Input and output of networks where neither the user nor the space says so."""


def param_space(space: SpaceLike, *, image: tuple[int, int, int] | None = None, classes: int | None = None) -> dict[str, Any]:
    """Return the choices of a space as a `param_space` of Ray Tune.

    Tune's own search algorithms sample from it; with a `ParetoSearch` of the same space it does no harm. Either way
    `architecture` and `network` understand the trial's config.

    Args:
        space: As for `ParetoSearch`.
        image: (channels, height, width) of the input; by default the space's own, or (3, 32, 32).
        classes: Outputs of the classifier; by default the space's own, or 10.

    Returns:
        A mapping with `choices`, which has a `tune.choice` by name for each choice, nested where names have a slash.

    Raises:
        InputError: For an unknown space, or one that cannot be built.

    Example:
        >>> sorted(param_space("digits-tiny")["choices"])
        ['block1', 'block2', 'block3', 'block4']
    """
    choices = space_of(space, image, classes).choices
    return {"choices": unflatten_dict({choice.name: tune.choice(list(choice.options)) for choice in choices})}


def architecture(config: Mapping[str, Any], space: SearchSpace) -> Architecture:
    """Read the architecture off the config of a trial.

    Args:
        config: What Tune gave to the trial: with `arch`, a notation, or else with `choices`, an option by name for each.
        space: The space that was searched.

    Raises:
        InputError: For a config that has no architecture of this space.
    """
    try:
        if "arch" in config:
            return space.parse(config["arch"])
        chosen = flatten_dict(dict(config["choices"]))
        return tuple(choice.options.index(chosen[choice.name]) for choice in space.choices)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the config of this trial has no architecture of {space.name} ({error}); search with ParetoSearch, or with "
            "param_space=paretoray.tune.param_space(space)"
        ) from error


def network(
    config: Mapping[str, Any],
    space: SpaceLike,
    *,
    image: tuple[int, int, int] | None = None,
    classes: int | None = None,
) -> nn.Module:
    """Build the network of a trial as a plain module with fresh weights.

    Args:
        config: What Tune gave to the trial.
        space: The space that was searched, as for `ParetoSearch`.
        image: (channels, height, width) of the input; by default the space's own, or (3, 32, 32).
        classes: Outputs of the classifier; by default the space's own, or 10.

    Raises:
        InputError: For a config that has no architecture of this space.

    Example:
        >>> module = network({"arch": "conv3-skip-sep3-res3"}, "digits-tiny")
        >>> module(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    resolved = space_of(space, image, classes)
    return resolved.network(architecture(config, resolved))


def space_of(space: SpaceLike, image: tuple[int, int, int] | None = None, classes: int | None = None) -> SearchSpace:
    """Build a space without data: where nobody gives an image or classes, those of its own signature count.

    Raises:
        InputError: For an unknown space, one that cannot be built, or a `SearchSpace` of another image or other classes.
    """
    if isinstance(space, SearchSpace):
        if (image or space.image, classes or space.classes) != (space.image, space.classes):
            raise InputError(
                f"image = {image}, classes = {classes}: the space was built for {space.image} and {space.classes}; leave out "
                "both"
            )
        return space
    source = space_source(space)
    own = inspect.signature(source.factory).parameters

    def default(name: str, otherwise: Any) -> Any:
        return own[name].default if name in own and own[name].default is not inspect.Parameter.empty else otherwise

    return build_space(source, tuple(image or default("image", IMAGE)), classes or default("classes", CLASSES))
