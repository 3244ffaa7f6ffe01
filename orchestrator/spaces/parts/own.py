"""Search spaces of a user: an ordinary module with `Choice`s in it, from a factory."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from analysis.graphs import Graph
from orchestrator.errors import InputError
from orchestrator.spaces.base import SearchSpace, read_choices
from orchestrator.spaces.parts.choice import Choice, decided, keeping
from orchestrator.spaces.parts.costs import OperationCosts, cost_operations
from orchestrator.spaces.parts.inputs import Shapes, take_several, zeros
from orchestrator.spaces.parts.notation import Reader
from orchestrator.spaces.parts.trace import dataflow
from searchers.base import Architecture


def scores_of(output: Any, classes: int) -> Any:
    """Return the scores among what a network returns: the first tensor (images, classes) of a tuple or a dict.

    Where there is none, it is the first one (images, classes, ...), as networks for segmentation return a map for each class.
    Published networks return those of auxiliary heads behind them in training mode, and features before or behind them; these
    are not used. What has no such tensor is returned as it is.
    """
    parts = list(output.values()) if isinstance(output, Mapping) else output
    if not isinstance(parts, (tuple, list)):
        return output
    fitting = [part for part in parts if isinstance(part, Tensor) and part.dim() >= 2 and part.shape[1] == classes]
    return next((part for part in fitting if part.dim() == 2), fitting[0] if fitting else output)


def keep_scores(network: nn.Module, classes: int) -> None:
    """Have a network return its scores alone (see `scores_of`)."""
    network.register_forward_hook(partial(_only_scores, classes))


def _only_scores(classes: int, module: nn.Module, given: Any, output: Any) -> Any:
    return scores_of(output, classes)


@contextmanager
def from_factory(factory: Callable[..., Any]) -> Iterator[None]:
    """Report what the code of a user's function raises as a ValueError with the line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever a stranger's code may raise
        where = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == factory.__code__.co_filename]
        place = f" ({Path(where[-1].filename).name}, line {where[-1].lineno})" if where else ""
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"cannot search the network of this function{place}: {kind}{error}") from error


class OwnSpace(SearchSpace):
    """Space of the networks that `factory(image=..., classes=..., **settings)` builds.

    Its notation is `choice=option|choice=option|...`. Normalisation keeps its learned scales.

    Args:
        factory: Returns a module with `Choice`s in it.
        settings: Further keywords of the factory.
        image: Shape of an image, (channels, height, width), or of another example; `Shapes` of several inputs, which the
            network takes as arguments, or as keywords by their names.
        classes: Number of classes, or of whatever the task has a number for.

    Raises:
        ValueError: Where the choices cannot be read, or the network does not take the images or does not return a score for
            each class (see `scores_of`), or a map of scores.
    """

    affine = True

    def __init__(
        self, factory: Callable[..., nn.Module], settings: dict[str, Any], image: tuple[int, ...], classes: int
    ) -> None:
        self.factory, self._settings = factory, settings
        self.image, self.classes = cast(tuple[int, int, int], image), classes  # networks of others take what they like
        with from_factory(factory):
            self.choices = read_choices(lambda: self.build())
            self._check_names()
            self._check_building()
            network = self.network((0,) * len(self.choices)).eval()
            with torch.no_grad():
                scores = network(zeros(2, image))
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            if not isinstance(scores, Tensor) or shape[:2] != (2, classes):
                raise ValueError(f"it returns {shape} for two images; it must return (2, {classes}), a score for each class")
            self.operation_costs  # noqa: B018, what fails there should fail now

    @property
    def name(self) -> str:
        return f"{self.factory.__module__}:{self.factory.__name__}"

    @property
    def settings(self) -> dict[str, Any]:
        return self._settings

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        """Return a proxy; the function takes fewer `channels` and `cells` where these are keywords of its own."""
        return OwnSpace(self.factory, self._settings | fewer, image, classes)

    def _check_names(self) -> None:
        for choice in self.choices:
            for name in (choice.name, *choice.options):
                if not name or any(sign in name for sign in "=|"):
                    raise ValueError(f"{name!r} cannot name a choice or an option; it needs letters, none of them = or |")

    def _check_building(self) -> None:
        """Raise ValueError for a network that is another one each time, and for one that is compiled already."""
        with keeping(None), torch.random.fork_rng(devices=[]):
            first, second = (self.factory(image=self.image, classes=self.classes, **self._settings) for _ in range(2))
        shapes = [[(name, tuple(p.shape)) for name, p in network.named_parameters()] for network in (first, second)]
        if shapes[0] != shapes[1]:
            raise ValueError("it builds another network each time it is called; make what it draws at random a setting")
        if scripted := [name for name, module in first.named_modules() if isinstance(module, torch.jit.ScriptModule)]:
            raise ValueError(
                f"its module {scripted[0] or type(first).__name__!r} is scripted; use it as it was before torch.jit"
            )

    @cached_property
    def operation_costs(self) -> OperationCosts:
        """Operations, as in every space; a network that cannot run on the meta device, as it reads values, runs on the CPU."""
        for device in ("meta", "cpu"):
            try:
                return cost_operations(lambda: self.build(), self._order, self.sizes, self.image, device=device)
            except ValueError:
                raise
            except Exception:
                if device == "cpu":
                    raise
        raise AssertionError

    @cached_property
    def skips(self) -> tuple[tuple[bool, ...], ...]:
        """Options that pass their input on, by name or because the module is an `nn.Identity`."""
        with keeping(None), torch.random.fork_rng(devices=[]):
            places = [place for place in decided(self.build()) if isinstance(place, Choice)]
        bare = {(place.name, int(i)) for place in places for i, m in place.options.items() if isinstance(m, nn.Identity)}
        named = super().skips
        return tuple(
            tuple(is_named or (choice.name, i) in bare for i, is_named in enumerate(row))
            for choice, row in zip(self.choices, named, strict=True)
        )

    @cached_property
    def path_encoding(self) -> None:
        """Path encoding, which is None: a graph takes a run of the network, and the encoding would take one of each."""

    def build(self) -> nn.Module:
        network = self.factory(image=self.image, classes=self.classes, **self._settings)
        if isinstance(network, nn.Module):  # whoever reads its choices says so if not
            keep_scores(network, self.classes)
            if isinstance(self.image, Shapes):
                take_several(network)
        return network

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        return "|".join(f"{c.name}={c.options[o]}" for c, o in zip(self.choices, architecture, strict=True))

    def parse(self, text: str) -> Architecture:
        reader = Reader(text, "an architecture of this space", self.format((0,) * len(self.choices)))
        found: list[int] = []
        for choice in self.choices:
            if found:
                reader.expect("|")
            reader.expect(f"{choice.name}=")
            rest = text[reader.position :].partition("|")[0]
            if rest not in choice.options:
                reader.fail(f"one of {', '.join(choice.options)}")
            reader.expect(rest)
            found.append(choice.options.index(rest))
        reader.end()
        return tuple(found)

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        self.check(architecture)
        return {"network": dataflow(self, architecture)}
