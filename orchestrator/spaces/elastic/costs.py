"""Costs of the operations of elastic networks: each is run at every size that it occurs in, without arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.spaces.elastic.heads import FewerHeads
from orchestrator.spaces.parts.costs import (
    ConditionalOperation,
    CountedCosts,
    Operation,
    OperationCosts,
    ParameterUse,
    unfused,
)
from orchestrator.spaces.parts.inputs import zeros
from searchers.base import Architecture

MOST_COMBINATIONS = 500
"""Combinations of options that an operation's size may depend on; beyond them, networks are counted one by one."""

Key = tuple[str, int]
"""Path of a module, and the number of its call."""
Listing = dict[Key, Operation]


def title_of(module: nn.Module) -> str:
    """Name an operation by all that decides what it computes besides the shapes of its input and output."""
    kind = type(module).__name__
    if isinstance(module, _ConvNd):
        size = "x".join(map(str, module.kernel_size))
        stride = f"/{module.stride[0]}" if max(module.stride) > 1 else ""
        dilation = f" dilated {module.dilation[0]}" if max(module.dilation) > 1 else ""
        return f"{kind} {size}{stride}{dilation}" + (" depthwise" if module.groups > 1 else "")
    if isinstance(module, (nn.MultiheadAttention, FewerHeads)):
        return f"attention of {module.num_heads} heads"
    plain = next(module.parameters(), None) is None and type(module).__module__.startswith("torch.nn.")
    return f"{kind}({module.extra_repr()})" if plain and module.extra_repr() else kind


def single(module: nn.Module) -> bool:
    """Tell whether a module is one operation, rather than a container of several."""
    return not module._modules or isinstance(module, (nn.MultiheadAttention, FewerHeads))


@dataclass(eq=False)
class _Running:
    path: str
    name: str
    single: bool
    input: tuple[int, ...]
    flops: int
    inner: int = 0
    parameters: dict[int, int] = field(default_factory=dict)


class _Counter:
    """Hooks that list the operations of a network while it runs, with what each of them costs by itself."""

    def __init__(self, network: nn.Module) -> None:
        self.listed: Listing = {}
        self.flops = FlopCounterMode(display=False)
        self._running: list[_Running] = []
        self._calls: dict[str, int] = {}
        self._counted: set[int] = set()
        within: set[nn.Module] = set()
        for path, module in network.named_modules():
            if module in within:
                continue
            if single(module):
                within.update(module.modules())
            if isinstance(module, _BatchNorm):
                module.forward = partial(self._normalised, module)  # type: ignore[method-assign]
            module.register_forward_pre_hook(partial(self._begin, path))
            module.register_forward_hook(lambda m, given, output: self._end(output))

    def use(self, parameter: nn.Parameter) -> None:
        """Note that whatever is running reads a parameter, which counts where it is read first."""
        if self._running and id(parameter) not in self._counted:
            self._counted.add(id(parameter))
            self._running[-1].parameters[id(parameter)] = parameter.numel()

    def _normalised(self, module: nn.Module, x: Tensor) -> Tensor:
        """Stand in for normalisation, which counts as 0; the meta device takes milliseconds for the real one."""
        for parameter in module.parameters():
            self.use(parameter)
        return x

    def _begin(self, path: str, module: nn.Module, given: Any) -> None:
        alone = single(module)
        name = title_of(module) if alone else path or "network"
        self._running.append(_Running(path, name, alone, _shape(given), self.flops.get_total_flops()))

    def _end(self, output: Any) -> None:
        ended = self._running.pop()
        spent = self.flops.get_total_flops() - ended.flops
        if self._running:
            self._running[-1].inner += spent
        call = self._calls[ended.path] = self._calls.get(ended.path, -1) + 1
        macs, parameters = (spent - ended.inner) // 2, sum(ended.parameters.values())
        if ended.single or macs or parameters:
            self.listed[ended.path, call] = Operation(ended.name, ended.input, _shape(output), parameters, macs)


def operations_of(network: nn.Module, image: tuple[int, ...], device: str) -> tuple[Listing, tuple[int, ...]]:
    """Run a network once, and return its operations and the shape of its output for one input.

    Args:
        network: The network; hooks are left on it.
        image: Shape of an input.
        device: "meta", where it has no weights, or "cpu".
    """
    counter = _Counter(network.eval())
    with torch.device(device), torch.no_grad(), unfused(device), counter.flops, ParameterUse(counter.use):
        output = network(zeros(1, image))
    return counter.listed, _shape(output)


def _shape(value: Any) -> tuple[int, ...]:
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    if isinstance(value, Mapping):
        return _shape(list(value.values()))
    return tuple(value.shape[1:]) if isinstance(value, Tensor) else ()


class Survey:
    """Networks that were run to see what their operations cost.

    Args:
        run: Returns the operations of an architecture.
        sizes: Number of options of each choice.
    """

    def __init__(self, run: Callable[[Architecture], Listing], sizes: Sequence[int]) -> None:
        self._run, self.sizes = run, tuple(sizes)
        self.known: dict[Architecture, Listing] = {}

    def __getitem__(self, architecture: Architecture) -> Listing:
        if architecture not in self.known:
            self.known[architecture] = self._run(architecture)
        return self.known[architecture]

    @property
    def largest(self) -> Architecture:
        """The whole network."""
        return tuple(size - 1 for size in self.sizes)

    def neighbour(self, choice: int, option: int) -> Architecture:
        """Return the network that differs from the whole one in one choice."""
        return (*self.largest[:choice], option, *self.largest[choice + 1 :])

    def costs(self) -> OperationCosts:
        """List every operation at every size, under the conditions that it has it.

        Choices that an operation depends on are those whose smallest option, alone, changes it. Then networks are run until
        each combination of the options of these has been seen.
        """
        whole = self[self.largest]
        places = {key: number for number, key in enumerate(whole)}
        depends: dict[Key, list[int]] = {key: [] for key in whole}
        for choice in range(len(self.sizes)):
            other = self[self.neighbour(choice, 0)]
            for key, operation in whole.items():
                if other.get(key) != operation:
                    depends[key].append(choice)
        if max(math.prod(self.sizes[c] for c in on) for on in depends.values()) > MOST_COMBINATIONS:
            return CountedCosts(lambda architecture: list(self._run(architecture).values()), self.sizes)
        seen: dict[Key, dict[Architecture, Operation | None]] = {key: {} for key in whole}

        def look(architecture: Architecture) -> None:
            listing = self[architecture]
            for key, on in depends.items():
                seen[key][tuple(architecture[c] for c in on)] = listing.get(key)

        for architecture in list(self.known):
            look(architecture)
        missing = {
            (key, options): None
            for key, on in depends.items()
            for options in itertools.product(*(range(self.sizes[c]) for c in on))
            if options not in seen[key]
        }
        while missing:
            wanted: dict[int, int] = {}
            for key, options in missing:  # as many of them at once as go together
                pairs = dict(zip(depends[key], options, strict=True))
                if all(wanted.get(choice, option) == option for choice, option in pairs.items()):
                    wanted |= pairs
            look(tuple(wanted.get(choice, size - 1) for choice, size in enumerate(self.sizes)))
            missing = {place: None for place in missing if place[1] not in seen[place[0]]}
        listed = [
            ConditionalOperation(operation, tuple((c, o, True) for c, o in zip(depends[key], options, strict=True)))
            for key in sorted(whole, key=places.__getitem__)
            for options, operation in sorted(seen[key].items())
            if operation is not None
        ]
        self.known = {}
        return OperationCosts(listed, [], self.sizes)
