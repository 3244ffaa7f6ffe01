"""Search spaces by name: ours, those of installed packages, and a user's own network or class."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from orchestrator.config.settings import Proxy
from orchestrator.errors import InputError, attributed_to, plugin_packages
from orchestrator.registry import UNNAMED, Component, build, check_subclass, find, name_of, nearest
from orchestrator.spaces.base import Published, SearchSpace
from orchestrator.spaces.elastic.space import Elastic, ElasticSpace
from orchestrator.spaces.parts.choice import keeping
from orchestrator.spaces.parts.inputs import in_words, noun
from orchestrator.spaces.parts.own import OwnSpace, from_factory
from searchers.base import Architecture

FROM_DATA = ("image", "classes")
"""Keywords of every space that follow from the data."""


def find_space(name: str) -> Callable[..., Any]:
    """Find the class of a space, or the factory of a network with choices, `module:name`. Raises InputError."""
    if name == UNNAMED:
        raise InputError(f"space.name = {name!r}: no file can name it; go on with paretoray.resume(directory, problem)")
    factory = find("space", name)
    if isinstance(factory, type):
        check_subclass(factory, SearchSpace, f"space.name = {name!r}")
        return factory
    takes = inspect.signature(factory).parameters if callable(factory) else {}
    if not set(FROM_DATA) <= set(takes):
        raise InputError(f"space.name = {name!r}: write it as a function `def {name.partition(':')[2]}(image, classes, ...)`")
    return factory


def space_component(name: str, given: Mapping[str, Any]) -> Component:
    """Find a space and check its settings. Raises InputError."""
    return Component.of(name, find_space(name), given, "space", FROM_DATA)


def source_of(space: SearchSpace) -> Component:
    """Say how an experiment would name a space that was made in Python."""
    if isinstance(space, OwnSpace):
        return Component(space.name, space.factory, space.settings)
    return Component(name_of("space", type(space)), type(space), space.settings)


def make_space(name: str, settings: Mapping[str, Any], image: tuple[int, int, int], classes: int) -> SearchSpace:
    """Build the space of that name (see `find_space`) with checked settings. Raises InputError for what it refuses."""
    return build_space(Component(name, find_space(name), settings), image, classes)


def build_space(source: Component, image: tuple[int, ...], classes: int) -> SearchSpace:
    """Build a space for images (channels, height, width), or other examples, of so many classes. Raises InputError."""
    if not isinstance(source.factory, type):
        own = build(own_space, {}, f"space.name = {source.name}", source.factory, dict(source.settings), image, classes)
        assert isinstance(own, SearchSpace)
        return own
    if noun(image) != "image" and not plugin_packages([source.factory]):
        raise InputError(
            f"space.name = {source.name!r} has networks for images, and the data are {in_words(image)}; write "
            "space.name=module:function with a network of your own for them (docs/own-space.md)"
        )
    with attributed_to(plugin_packages([source.factory]), InputError):
        made = source.build("space", image=image, classes=classes)
    assert isinstance(made, SearchSpace)
    return made


def own_space(factory: Callable[..., Any], settings: dict[str, Any], image: tuple[int, ...], classes: int) -> SearchSpace:
    """Build the space of a user's function, which returns a network with choices in it, or what `paretoray.elastic` does.

    Raises:
        InputError: For a model that cannot shrink as was asked.
        ValueError: For whatever else cannot be searched.
    """
    with from_factory(factory), keeping(None), torch.random.fork_rng(devices=[]):
        elastic = isinstance(factory(image=image, classes=classes, **settings), Elastic)
    return (ElasticSpace if elastic else OwnSpace)(factory, settings, image, classes)


def shrunk(space: SearchSpace, proxy: Proxy, classes: int) -> SearchSpace:
    """Return the space of a proxy's networks, which has the same choices, for so many classes.

    Raises:
        InputError: For a proxy that is larger than the space, or smaller than it can be, with the nearest value that works.
    """
    if noun(space.image) != "image":
        if proxy.size is not None:
            raise InputError(f"proxy.size: only images can be smaller, and these are {in_words(space.image)}; leave it out")
        own = dict(space.extent)
    else:
        own = {"size": min(space.image[1:]), **space.extent}

    def made(size: int | None = None, **fewer: int) -> SearchSpace:
        image = space.image
        if size is not None:
            colours, height, width = space.image
            image = (colours, round(height * size / own["size"]), round(width * size / own["size"]))
        smaller = space.smaller(image, classes, **fewer)
        if smaller.choices != space.choices:
            raise ValueError("the space would have other choices")
        return smaller

    def works(**values: int) -> bool:
        try:
            made(**values)
        except ValueError:
            return False
        return True

    values: dict[str, int] = {}
    for key, value in proxy.numbers.items():
        said = f"proxy.{key} = {value}"
        if key not in own:
            only = f"fewer {' and '.join(space.extent)}" if space.extent else "smaller images and less data"
            raise InputError(f"{said}: a proxy of {space.name} cannot have fewer {key}, only {only}; leave it out")
        if value > own[key]:
            raise InputError(f"{said}: the target has {own[key]}; write at most {own[key]}")
        try:
            made(**values, **{key: value})
        except ValueError as error:
            least = next((v for v in range(value + 1, own[key] + 1) if works(**values, **{key: v})), None)
            hint = "leave it out" if least is None else f"write at least {least}"
            raise InputError(f"{said}: {error}; {hint}") from error
        values[key] = value
    return made(**values)


def published(space: str, name: str) -> Published | None:
    """Find the network that ships with a space under this name, in capitals or not."""
    return getattr(find_space(space), "published", {}).get(name.upper().replace("-", "_"))


def find_architecture(space: SearchSpace, text: str) -> Architecture:
    """Read a published name, or the space's notation. Raises InputError."""
    known = space.published.get(text.upper().replace("-", "_"))
    try:
        return space.parse(known.notation if known else text)
    except ValueError as error:
        if re.fullmatch(r"[\w-]+", text) and space.published and not re.search(r"\d{4}", text):
            hint = nearest(text.upper(), space.published)
            raise InputError(f"{space.name} has no network {text!r}{hint}; {error}") from error
        raise InputError(str(error)) from error


def size(space: SearchSpace) -> str:
    """Format the number of architectures: a product of powers where the digits would be unreadable."""
    if space.architectures < 1e9:
        return f"{space.architectures:,}"
    counts: dict[int, int] = {}
    for options in space.sizes:
        counts[options] = counts.get(options, 0) + 1
    product = " * ".join(f"{options}^{count}" if count > 1 else str(options) for options, count in counts.items())
    return f"{product} = 10^{math.log10(space.architectures):.1f}"
