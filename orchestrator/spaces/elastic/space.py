"""Search space of the smaller networks inside a trained one."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from analysis.graphs import Graph
from orchestrator.errors import InputError, first_line
from orchestrator.registry import UNNAMED
from orchestrator.spaces.base import Decision
from orchestrator.spaces.elastic.axes import Axis, chosen
from orchestrator.spaces.elastic.blueprint import Blueprint
from orchestrator.spaces.elastic.costs import Survey, operations_of, single, title_of
from orchestrator.spaces.elastic.depths import depth_axes
from orchestrator.spaces.elastic.heads import head_axes
from orchestrator.spaces.elastic.kernels import kernel_axes
from orchestrator.spaces.elastic.network import ElasticNetwork
from orchestrator.spaces.elastic.widths import width_axes
from orchestrator.spaces.parts.costs import OperationCosts
from orchestrator.spaces.parts.inputs import Shapes, in_words, zeros
from orchestrator.spaces.parts.own import OwnSpace, keep_scores
from searchers.base import Architecture, Statistics


class Elastic:
    """A trained network and the ways in which it may shrink; `elastic` makes one.

    Args:
        model: The network, whose weights are copied.
        width: Fractions of the channels, neurons and attention heads.
        depth: Fractions of the blocks of a stage.
        kernel: Sizes of the kernels of depthwise convolutions.
        layers: Patterns of the layers that may shrink; None for all.
        multiple: Multiple of which the numbers of channels are.
    """

    def __init__(
        self,
        model: nn.Module,
        width: tuple[float, ...],
        depth: tuple[float, ...],
        kernel: tuple[int, ...],
        layers: tuple[str, ...] | None,
        multiple: int,
    ) -> None:
        self.model = copy.deepcopy(model).cpu().train()
        self.width, self.depth, self.kernel, self.layers, self.multiple = width, depth, kernel, layers, multiple

    def build(self, image: tuple[int, ...], classes: int) -> Elastic:
        """Return itself, as the function does that an experiment names."""
        return self


def elastic(
    model: nn.Module,
    width: Sequence[float] | float | None = None,
    depth: Sequence[float] | float | None = None,
    kernel: Sequence[int] | int | None = None,
    *,
    layers: Sequence[str] | str | None = None,
    multiple: int = 1,
) -> Elastic:
    """Make a search space of the smaller networks inside a trained one, which begin with its weights.

    Once-for-all (Cai et al., arXiv 1908.09791) trains such a network for a space of its own; here the space is found in an
    ordinary module: channels that must shrink together by torch-pruning's dependency graph (Fang et al., arXiv 2301.12900),
    blocks with a shortcut by running it. The largest network of the space is the model itself.

    Args:
        model: A trained module that returns a score for each class of the data.
        width: Fractions of channels, hidden neurons and attention heads that may be kept, above 0 and at most 1, as in
            [0.5, 0.75, 1]. Each group of channels that belong together is a choice. None keeps all.
        depth: Fractions of the blocks of each stage that may be kept, as in [0.5, 1]; the last blocks go first. None keeps all.
        kernel: Odd sizes of the kernels of depthwise convolutions, as in [3, 5, 7]; a smaller one is the centre of a larger
            one. None keeps them.
        layers: Paths of the layers and stages that may shrink, with * for any part of them; None for all that can.
        multiple: Multiple of which numbers of channels are, as far as a layer has so many; 8 suits many devices.

    Raises:
        InputError: For an argument out of its range, with what to write instead; what the model itself cannot do is refused
            when the space is built for images.

    Example:
        >>> from torchvision.models import resnet18
        >>> space = elastic(resnet18(num_classes=10), width=[0.5, 1], depth=[0.5, 1])
        >>> space.width, space.depth
        ((0.5, 1.0), (0.5, 1.0))
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"elastic: model is {type(model).__name__}; give a trained nn.Module, as torchvision's resnet18()")
    widths, depths = _fractions("width", width), _fractions("depth", depth)
    sizes = () if kernel is None else tuple(kernel) if isinstance(kernel, Sequence) else (kernel,)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise InputError(f"elastic: kernel = {size!r}; kernels have odd sizes from 1 on, so write kernel=[3, 5, 7]")
    if not widths and not depths and not sizes:
        raise InputError("elastic: nothing may shrink; write width=[0.5, 0.75, 1], depth=[0.5, 1] or kernel=[3, 5, 7]")
    if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
        raise InputError(f"elastic: multiple = {multiple!r}; write a whole number from 1 on")
    patterns = None if layers is None else (layers,) if isinstance(layers, str) else tuple(layers)
    return Elastic(model, widths, depths, sizes, patterns, multiple)


def _fractions(name: str, given: Any) -> tuple[float, ...]:
    """Check fractions. Raises InputError."""
    if given is None:
        return ()
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1 or math.isnan(value):
            raise InputError(
                f"elastic: {name} = {value!r}; it is a fraction of the model, above 0 and at most 1, so write {name}=[0.5, 1]"
            )
    return tuple(sorted({float(value) for value in values}))


class ElasticSpace(OwnSpace):
    """Space of the networks inside a trained one, which `factory(image=..., classes=..., **settings)` returns as `Elastic`.

    Args:
        factory: Returns what `elastic` does.
        settings: Further keywords of the factory.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.

    Attributes:
        fixed: Layers that keep their channels, with the reasons.

    Raises:
        InputError: For a model that cannot be traced or does not fit the data, and where nothing that was asked for can shrink.
    """

    relaxed = False
    pretrained = True
    statistics: Statistics | None = "recalibrated"

    def __init__(self, factory: Callable[..., Any], settings: dict[str, Any], image: tuple[int, ...], classes: int) -> None:
        self.factory, self._settings = factory, settings
        self.image, self.classes = cast(tuple[int, int, int], image), classes
        if isinstance(image, Shapes):
            raise InputError(
                f"elastic: the data are {in_words(image)}, and models of one input can shrink; leave all but one out by "
                "data.inputs, or write the space as a function with choices (docs/own-space.md)"
            )
        self.source: Elastic = factory(image=image, classes=classes, **settings)
        self.model = copy.deepcopy(self.source.model)
        self.fixed: dict[str, str] = {}
        self._device = "meta"
        self._check_model()
        axes = self._axes()
        self.survey = self._checked(axes)
        self.choices = tuple(Decision(axis.name, axis.labels) for axis in self.blueprint.axes)
        self._check_names()

    def _check_model(self) -> None:
        """Run the model on its data. Raises InputError where it cannot, or returns something else than scores."""
        kind, size = type(self.model).__name__, "x".join(map(str, self.image))
        try:
            with torch.no_grad():
                output = self.model.eval()(zeros(2, self.image))
        except Exception as error:
            raise InputError(
                f"elastic: model = {kind} does not take the data, {size} ({type(error).__name__}: {first_line(error)}); adapt "
                "its first layer, or the size of the images"
            ) from error
        if not isinstance(output, Tensor):
            keep_scores(self.model, self.classes)
            with torch.no_grad():
                output = self.model(zeros(2, self.image))
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if not isinstance(output, Tensor) or shape[:2] != (2, self.classes):
            raise InputError(
                f"elastic: model = {kind} returns {shape} for two images, and the data has {self.classes} classes; replace "
                f"its last layer by one of {self.classes} outputs, and train it, before it shrinks"
            )

    def _axes(self) -> list[Axis]:
        """Find all that may shrink, in the order of the modules. Raises InputError where something asked for cannot."""
        source, kind = self.source, type(self.model).__name__
        example = zeros(1, self.image)
        assert isinstance(example, Tensor)
        deep = depth_axes(self.model, example, source.depth) if source.depth else []
        if source.depth and not deep:
            raise InputError(
                f"elastic: depth = {list(source.depth)}: no block of {kind} can be dropped, as no stage has several with "
                "shortcuts around them of which these fractions keep fewer; leave depth out, or write smaller fractions"
            )
        kernels = kernel_axes(self.model, source.kernel) if source.kernel else []
        if source.kernel and not kernels:
            raise InputError(
                f"elastic: kernel = {list(source.kernel)}: {kind} has no depthwise convolution with a larger kernel than "
                "one of these; leave kernel out"
            )
        heads = head_axes(self.model, source.width) if source.width else []
        wide: list[Axis] = []
        if source.width:
            claimed = {(cut.tensor, cut.dim) for axis in heads for cut in axis.cuts}
            try:
                wide, self.fixed = width_axes(self.model, example, source.width, source.multiple, claimed)
            except ImportError as error:
                raise InputError(
                    "elastic: width needs torch-pruning, which finds the channels that shrink together; pip install "
                    "'paretoray[elastic]'"
                ) from error
            except Exception as error:
                raise InputError(
                    f"elastic: model = {kind} cannot be traced for width ({type(error).__name__}: {first_line(error)}); leave "
                    "width out, or write the network with plain layers of torch.nn"
                ) from error
        order = {path: number for number, (path, _) in enumerate(self.model.named_modules())}
        return sorted([*deep, *kernels, *heads, *wide], key=lambda axis: order[axis.layer])

    def _checked(self, axes: list[Axis]) -> Survey:
        """Run each axis at its smallest option, and keep those along which the network still runs.

        Raises:
            InputError: Where nothing remains, and for layers that were asked for by name and cannot shrink.
        """
        axes = list(axes)
        while True:
            self.blueprint = Blueprint(self.model, axes)
            survey = Survey(self._listing, [len(axis.counts) for axis in axes])
            self._shape: tuple[int, ...] | None = None
            try:
                survey[survey.largest]
            except Exception:
                if self._device == "cpu":
                    raise
                self._device = "cpu"  # it reads values
                continue
            refused = None
            for choice, axis in enumerate(axes):
                try:
                    survey[survey.neighbour(choice, 0)]
                except Exception as error:  # whatever a network raises that a layer has become too small for
                    refused, self.fixed[axis.layer] = choice, first_line(error)
                    break
            if refused is None:
                break
            del axes[refused]
        if self.source.layers is not None:
            try:
                wanted = chosen(axes, self.fixed, self.source.layers)
            except ValueError as error:
                raise InputError(f"elastic: {error}") from error
            if len(wanted) < len(axes):
                self.blueprint = Blueprint(self.model, wanted)
                survey = Survey(self._listing, [len(axis.counts) for axis in wanted])
            axes = wanted
        if not axes:
            why = "; ".join(f"{layer}: {reason}" for layer, reason in list(self.fixed.items())[:3])
            raise InputError(f"elastic: nothing of {type(self.model).__name__} can shrink ({why}); write smaller fractions")
        try:
            self._listing((0,) * len(axes))
        except Exception as error:
            raise InputError(
                f"elastic: {type(self.model).__name__} does not run where everything shrinks together ({first_line(error)}); "
                f"name some of its layers, as layers={[axes[0].layer]!r}"
            ) from error
        return survey

    def _listing(self, architecture: Architecture) -> Any:
        """Return the operations of an architecture. Raises ValueError where its output has another shape than the model's."""
        network = self.blueprint.new_skeleton(architecture) if self._device == "meta" else self._sliced(architecture)
        listing, shape = operations_of(network, self.image, self._device)
        self._shape = shape if self._shape is None else self._shape
        if shape != self._shape:
            raise ValueError("its channels are those of the scores")
        return listing

    def _sliced(self, architecture: Architecture) -> nn.Module:
        tensors = dict((*self.model.named_parameters(), *self.model.named_buffers()))
        return self.blueprint.network(architecture, tensors, self.blueprint.kept(architecture))

    @property
    def name(self) -> str:
        return UNNAMED if isinstance(getattr(self.factory, "__self__", None), Elastic) else super().name

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> ElasticSpace:
        return ElasticSpace(self.factory, self._settings | fewer, image, classes)

    @cached_property
    def operation_costs(self) -> OperationCosts:
        """Operations at every size that they occur in."""
        return self.survey.costs()

    @property
    def skips(self) -> tuple[tuple[bool, ...], ...]:
        """Options that pass their input on, of which there are none."""
        return tuple((False,) * size for size in self.sizes)

    def build(self) -> nn.Module:
        return ElasticNetwork(self.model, self.blueprint).train()

    def running(self, architecture: Architecture) -> tuple[Callable[[Any], Any], list[tuple[str, nn.Module]]]:
        network = self.network(architecture).eval()
        return network, [(title_of(module), module) for module in network.modules() if single(module)]

    def extreme(self, options: Sequence[Sequence[int]], largest: bool) -> Architecture:
        return tuple((max if largest else min)(left) for left in options)

    def uniform(self, fraction: float) -> Architecture:
        """Return the network in which each choice of a width keeps the nearest number to a fraction, and all else is whole.

        Args:
            fraction: Fraction of the channels, in 0..1.
        """
        return tuple(
            min(range(len(axis.counts)), key=lambda o: abs(axis.counts[o] / axis.counts[-1] - fraction))
            if axis.kind in ("width", "heads")
            else len(axis.counts) - 1
            for axis in self.blueprint.axes
        )

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the same network with all units in blocks that it does not have."""
        gone = [
            f"{axis.blocks[unit]}."
            for axis, option in zip(self.blueprint.axes, architecture, strict=True)
            for unit in axis.order[axis.counts[option] :].tolist()
            if axis.blocks
        ]
        return tuple(
            len(axis.counts) - 1 if f"{axis.layer}.".startswith(tuple(gone)) else option
            for axis, option in zip(self.blueprint.axes, architecture, strict=True)
        )

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        """Draw what each choice keeps, in the order of the network's modules; layers without a choice are not drawn."""
        self.check(architecture)
        boxes = {"in": "in"}
        for axis, option in zip(self.blueprint.axes, architecture, strict=True):
            what = {"width": "channels", "heads": "heads", "kernel": "kernel", "depth": "blocks"}[axis.kind]
            boxes[axis.name] = f"{axis.layer}\n{what} {axis.labels[option]} of {axis.labels[-1]}"
        boxes["out"] = "out"
        names = list(boxes)
        kinds = {axis.name: axis.kind for axis in self.blueprint.axes}
        return {"network": Graph(boxes, list(itertools.pairwise(names)), kinds)}
