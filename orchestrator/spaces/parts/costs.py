"""Costs of the options of a network with choices: every option is run once, without arithmetic, at every place it occurs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from hw_profiles import profile
from orchestrator.spaces.parts.choice import Choice, Conditions, Decided, Input, MixedNetwork, Weights, decided
from searchers.base import Architecture


@dataclass(frozen=True)
class Operation:
    """Piece of a network at the shape where it occurs, which device profiles have a cost for.

    Args:
        name: Name of the option, or path of a layer outside of choices.
        input: Shape of the input for one image, without the batch.
        output: Shape of the output, likewise.
        parameters: Number of parameters.
        macs: Multiplications of convolutions, linear layers and matrix products for one image; normalisation, activations,
            pooling and additions count as 0, as is usual.
    """

    name: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    parameters: int
    macs: int

    @property
    def part(self) -> str:
        """Name of the operation in a device's profile."""
        return profile.part(self.name, self.input, self.output)


@dataclass(frozen=True)
class ConditionalOperation:
    """Operation that only some networks have.

    Args:
        operation: The operation.
        conditions: Options that a network must have to have it; empty for a fixed part.
    """

    operation: Operation
    conditions: Conditions


class AdditiveCost:
    """Cost of architectures as a fixed part and the terms whose conditions hold.

    Args:
        terms: Conditions, and the value that is added where all of them hold.
        sizes: Number of options of each choice.
        fixed: Cost of what every network has, besides terms without conditions.
    """

    def __init__(self, terms: Iterable[tuple[Conditions, float]], sizes: Sequence[int], fixed: float = 0) -> None:
        self._fixed, self._single = fixed, [[0.0] * size for size in sizes]
        # By the first option of the conditions, so that only terms of options that are taken are looked at.
        self._by_first: dict[tuple[int, int], dict[Conditions, float]] = {}
        self._others: dict[Conditions, float] = {}
        for conditions, value in terms:
            if not conditions:
                self._fixed += value
            elif not value:
                continue
            elif not conditions[0][2]:
                self._others[conditions] = self._others.get(conditions, 0) + value
            elif len(conditions) == 1:
                self._single[conditions[0][0]][conditions[0][1]] += value
            else:
                table = self._by_first.setdefault(conditions[0][:2], {})
                table[conditions[1:]] = table.get(conditions[1:], 0) + value

    def cost(self, architecture: Architecture) -> float:
        cost = self._fixed + sum([row[option] for row, option in zip(self._single, architecture, strict=True)])
        if self._by_first:
            tables = [self._by_first[taken] for taken in enumerate(architecture) if taken in self._by_first]
            cost += sum(v for table in tables for conditions, v in table.items() if _hold(conditions, architecture))
        if self._others:
            cost += sum(v for conditions, v in self._others.items() if _hold(conditions, architecture))
        return cost

    def additive(self) -> tuple[float, list[list[float]]] | None:
        """Return the fixed part, and what each option of each choice adds; None where choices depend on each other."""
        return None if self._by_first or self._others else (float(self._fixed), [list(row) for row in self._single])


class OperationCosts:
    """Operations that the architectures of a space are made of, and sums of their costs.

    Args:
        listed: The operations, in the order in which they run.
        sizes: Number of options of each choice.
    """

    def __init__(self, listed: Sequence[ConditionalOperation], sizes: Sequence[int]) -> None:
        self.listed, self.sizes = list(listed), list(sizes)
        self._sums = {cost: self.sum(attrgetter(cost)) for cost in ("parameters", "macs")}

    def sum(self, value: Callable[[Operation], float], fixed: float | None = None) -> AdditiveCost:
        """Return the sum of a cost over the operations of a network.

        Args:
            value: Cost of an operation.
            fixed: Cost of all operations that every network has, in place of their values; None to add up those.
        """
        listed = self.listed if fixed is None else [p for p in self.listed if p.conditions]
        return AdditiveCost([(p.conditions, value(p.operation)) for p in listed], self.sizes, fixed or 0)

    def cost(self, name: str, architecture: Architecture) -> int:
        """Return the `parameters` or `macs` of a network."""
        return int(self._sums[name].cost(architecture))

    def additive(self, name: str) -> tuple[float, list[list[float]]] | None:
        """Return `parameters` or `macs` as a sum over the options (see `AdditiveCost.additive`)."""
        return self._sums[name].additive()

    def operations(self, architecture: Architecture) -> list[Operation]:
        """List the operations of a network in the order in which they run."""
        return [p.operation for p in self.listed if _hold(p.conditions, architecture)]

    def varying(self, architecture: Architecture) -> list[Operation]:
        """List the operations of a network that not every network has."""
        return [p.operation for p in self.listed if p.conditions and _hold(p.conditions, architecture)]

    @property
    def varying_parts(self) -> list[str]:
        """Sorted names, as in a device's profile, of the operations that not every network has."""
        return sorted({p.operation.part for p in self.listed if p.conditions})


def _hold(conditions: Conditions, architecture: Architecture) -> bool:
    return all((architecture[choice] == option) is taken for choice, option, taken in conditions)


def cost_operations(
    build: Callable[[], nn.Module],
    order: Mapping[str, int],
    sizes: Sequence[int],
    image: Sequence[int],
    device: str = "meta",
) -> OperationCosts:
    """Build a network with all its options and run it once, to see what its operations cost.

    An option is one operation, and so is every layer outside of choices.

    Args:
        build: Returns the network.
        order: Index of each choice by its name.
        sizes: Number of options of each choice.
        image: Shape of an image, (channels, height, width).
        device: torch's name of the device; "meta" computes shapes only.

    Raises:
        ValueError: Where the options of a choice return different shapes.
        Exception: Whatever the network raises.
    """
    with torch.device(device), torch.no_grad():
        with _Uninitialised() if device == "meta" else torch.random.fork_rng(devices=[]):
            network = MixedNetwork(build(), order).eval()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.forward = _same  # type: ignore[method-assign,assignment]
        with FlopCounterMode(display=False) as counter:
            run = _Run(network, counter)
            network(torch.zeros(1, *image), Weights([[1.0] * size for size in sizes], everything=True))
    return OperationCosts(run.finish(tuple(image)), sizes)


def _same(x: Tensor) -> Tensor:
    """Stand in for normalisation, which counts as 0; the meta device takes milliseconds for the real one."""
    return x


class _Uninitialised(TorchFunctionMode):
    """Mode that skips torch.nn.init, which means nothing on the meta device and takes half of the time there."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


# Layers from these modules that print alike do alike; a user's module may have a stride that it does not print.
_PLAIN = ("torch.nn.", "orchestrator.spaces.")


class _Run:
    """Hooks on a network's operations, and what they recorded during one forward pass."""

    def __init__(self, network: MixedNetwork, counter: FlopCounterMode) -> None:
        self.network, self.counter = network, counter
        self.listed: list[ConditionalOperation] = []
        self._inside: list[Conditions] = []  # of the parts that are running
        self._begun: list[list[int]] = []  # per running part: FLOPs and operations at its start, and FLOPs of parts inside it
        self._shapes: dict[int, tuple[str, tuple[int, ...]]] = {}  # per choice, the first option's name and output
        self._skipped_macs = 0  # of places that were not run because an equal one had been
        self._unclaimed: dict[int, int] = {}  # sizes of the parameters that no operation has claimed yet
        for parameter in network.parameters():
            self._unclaimed[id(parameter)] = parameter.numel()
        self._known: dict[tuple[str, tuple[int, ...]], tuple[list[tuple[Operation, Conditions]], tuple[int, ...]]] = {}
        in_places: set[int] = set()
        for place in decided(network):
            if isinstance(place, Choice) and all(type(m).__module__.startswith(_PLAIN) for m in place.modules()):
                place.forward = partial(self._repeated, place)  # type: ignore[method-assign]
            for name, part, conditions in place.parts():
                in_places.update(id(m) for m in part.modules() if not any(decided(m)))
                self._watch(part, name, conditions, place)
        for path, module in network.network.named_modules():
            if id(module) not in in_places and not module._modules:
                self._watch(module, path, (), None)

    def _watch(self, module: nn.Module, name: str, conditions: Conditions, place: Decided | None) -> None:
        inner = {id(p) for m in decided(module) for p in m.parameters()}
        parameters = [id(p) for p in module.parameters() if id(p) not in inner]

        def before(module: nn.Module, inputs: Any) -> None:
            self._begun.append([self.counter.get_total_flops(), len(self.listed), 0])
            self._inside.append(conditions)

        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            start, position, contained = self._begun.pop()
            spent = self.counter.get_total_flops() - start
            if self._begun:
                self._begun[-1][2] += spent
            if isinstance(place, Choice):
                option, shape = self._shapes.setdefault(id(place), (name, _shape(output)))
                if shape != _shape(output):
                    raise ValueError(
                        f"Choice {place.name!r}: option {option!r} returns the shape {shape}, {name!r} {_shape(output)}; all "
                        "options of a choice must return the same"
                    )
            count = sum(self._unclaimed.pop(p, 0) for p in parameters)  # a module that runs twice holds its parameters once
            # Choices inside it are operations of their own, with their own conditions.
            operation = Operation(name, _shape(inputs[0] if inputs else None), _shape(output), count, (spent - contained) // 2)
            self.listed.insert(position, ConditionalOperation(operation, sum(self._inside, ())))
            self._inside.pop()

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    def _repeated(self, place: Choice, x: Input) -> Tensor:
        """Run a choice of plain layers, or repeat what was recorded of an equal one at this shape of input."""
        # Choices inside it have their own conditions, which are those of another place only if the names agree.
        nested = sum(1 for _ in decided(place)) > 1
        key = (f"{place.name if nested else ''}{place!r}", _shape(x))
        outer: Conditions = sum(self._inside, ())
        if key not in self._known:
            begun = len(self.listed)
            y = Choice.forward(place, x)
            self._known[key] = [(p.operation, p.conditions[len(outer) :]) for p in self.listed[begun:]], _shape(y)
            return y
        listed, shape = self._known[key]
        # A place that is passed a second time holds its parameters once.
        new = [self._unclaimed.pop(id(parameter), None) for parameter in place.parameters()]
        for operation, inner in listed:
            conditions = ((place.index[place.name], *inner[0][1:]), *inner[1:])
            counted = operation if any(new) else replace(operation, parameters=0)
            self.listed.append(ConditionalOperation(counted, outer + conditions))
        self._skipped_macs += sum(operation.macs for operation, _ in listed)
        return torch.empty(1, *shape)

    def finish(self, image: tuple[int, ...]) -> list[ConditionalOperation]:
        """List all operations, the last of them whatever happens outside of layers."""
        parameters = sum(self._unclaimed.values())
        macs = self._skipped_macs + self.counter.get_total_flops() // 2 - sum(entry.operation.macs for entry in self.listed)
        if parameters or macs:
            self.listed.append(ConditionalOperation(Operation("elsewhere", image, image, parameters, macs), ()))
        return self.listed


def _shape(value: Any) -> tuple[int, ...]:
    first = value[0] if isinstance(value, (tuple, list)) else value
    return tuple(first.shape[1:]) if isinstance(first, Tensor) else ()
