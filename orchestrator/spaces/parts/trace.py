"""Dataflow between the choices of a network, read off the graph that autograd builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from analysis.graphs import Graph
from orchestrator.spaces.parts.choice import Choice, MixedNetwork, Weights, keeping
from orchestrator.spaces.parts.inputs import mapped, tensors_of, zeros
from searchers.base import Architecture

if TYPE_CHECKING:
    from orchestrator.spaces.base import SearchSpace


class Mark(torch.autograd.Function):
    """Identity that leaves a node in autograd's graph, even behind a choice that is an identity itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return a copy of `x`."""
        return x.clone()  # not a view, which nothing behind it might overwrite in place

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        """Return the gradient of the copy."""
        return upstream[0]


def dataflow(space: SearchSpace, architecture: Architecture) -> Graph:
    """Draw a box for each place of a choice, and an arrow wherever the output of one reaches the input of another.

    Layers between choices are not drawn. A place whose output goes nowhere is left out.
    """

    order = {choice.name: i for i, choice in enumerate(space.choices)}
    with torch.random.fork_rng(devices=[]), keeping({c.name: (o,) for c, o in zip(space.choices, architecture, strict=True)}):
        network = MixedNetwork(space.build(), order).eval()
    boxes, kinds = {"in": "in"}, {}
    names: dict[Any, str] = {}
    times: dict[str, int] = {}

    def hook(place: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        assert isinstance(place, Choice)
        option = space.choices[order[place.name]].options[architecture[order[place.name]]]
        times[place.name] = times.get(place.name, 0) + 1
        box = place.name if times[place.name] == 1 else f"{place.name} ({times[place.name]})"
        boxes[box], kinds[box] = f"{place.name}\n{option}", option
        marked: Tensor = Mark.apply(output)
        names[marked.grad_fn] = box
        return marked

    for place in network.modules():
        if isinstance(place, Choice):
            place.register_forward_hook(hook)

    def marked(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        found: Tensor = Mark.apply(x if x.requires_grad else x.requires_grad_())
        names[found.grad_fn] = "in"
        return found

    start = mapped(marked, zeros(1, space.image))
    # Nothing is differentiated by tokens: what they are looked up as stands for them.
    if not all(x.is_floating_point() for x in tensors_of(start)):

        def looked_up(place: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return marked(output)

        for table in (module for module in network.modules() if isinstance(module, nn.Embedding)):
            table.register_forward_hook(looked_up)
    rows = [[float(i == o) for i in range(n)] for o, n in zip(architecture, space.sizes, strict=True)]
    scores = network(start, Weights(rows))
    boxes["out"] = "out"
    arrows: list[tuple[str, str]] = []
    done: set[str] = set()
    waiting = [("out", scores.grad_fn)]
    while waiting:
        target, node = waiting.pop()
        seen = set()
        front = [node]
        while front:
            function = front.pop()
            if function is None or function in seen:
                continue
            seen.add(function)
            source = names.get(function)
            if source is None or (function is node and target == source):
                front += [f for f, _ in function.next_functions]
                continue
            if (source, target) not in arrows:
                arrows.append((source, target))
            if source not in done:
                done.add(source)
                waiting.append((source, function))
    reached = {name for arrow in arrows for name in arrow}
    return Graph(
        {n: t for n, t in boxes.items() if n in reached}, arrows[::-1], {n: k for n, k in kinds.items() if n in reached}
    )
