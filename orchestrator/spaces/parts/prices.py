"""What the options of a network with choices cost: every option is run once, without arithmetic, at every place it occurs."""

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
    """A piece of network at the shape where it occurs: what a device profile prices.

    Shapes are those of one image, without the batch. `macs` counts multiplications of convolutions, linear layers and
    matrix products for one image; normalisation, activations, pooling and additions count as 0, as the field does.
    """

    name: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    parameters: int
    macs: int

    @property
    def part(self) -> str:
        """How a device's profile names it."""
        return profile.part(self.name, self.input, self.output)


@dataclass(frozen=True)
class Priced:
    """An operation, and what a network must have chosen to have it; nothing for a fixed part."""

    operation: Operation
    conditions: Conditions


class Sum:
    """A cost of every architecture: what is fixed, and what each term adds where its conditions hold."""

    def __init__(self, terms: Iterable[tuple[Conditions, float]], sizes: Sequence[int], fixed: float = 0) -> None:
        self._fixed, self._single = fixed, [[0.0] * size for size in sizes]
        # Under the option that comes first in the conditions, so that only what is taken is looked at.
        self._under: dict[tuple[int, int], dict[Conditions, float]] = {}
        self._besides: dict[Conditions, float] = {}
        for conditions, value in terms:
            if not conditions:
                self._fixed += value
            elif not value:
                continue
            elif not conditions[0][2]:
                self._besides[conditions] = self._besides.get(conditions, 0) + value
            elif len(conditions) == 1:
                self._single[conditions[0][0]][conditions[0][1]] += value
            else:
                table = self._under.setdefault(conditions[0][:2], {})
                table[conditions[1:]] = table.get(conditions[1:], 0) + value

    def cost(self, architecture: Architecture) -> float:
        cost = self._fixed + sum([row[option] for row, option in zip(self._single, architecture, strict=True)])
        if self._under:
            tables = [self._under[taken] for taken in enumerate(architecture) if taken in self._under]
            cost += sum(v for table in tables for conditions, v in table.items() if _hold(conditions, architecture))
        if self._besides:
            cost += sum(v for conditions, v in self._besides.items() if _hold(conditions, architecture))
        return cost

    def additive(self) -> tuple[float, list[list[float]]] | None:
        """What is fixed, and what each option of each choice adds; None where choices depend on each other."""
        return None if self._under or self._besides else (float(self._fixed), [list(row) for row in self._single])


class Prices:
    """The operations that architectures of a space are made of, and what those cost in sum."""

    def __init__(self, listed: Sequence[Priced], sizes: Sequence[int]) -> None:
        self.listed, self.sizes = list(listed), list(sizes)
        self._sums = {cost: self.sum(attrgetter(cost)) for cost in ("parameters", "macs")}

    def sum(self, value: Callable[[Operation], float], fixed: float | None = None) -> Sum:
        """The cost of which each operation adds its `value`; fixed: what those of every network add together instead."""
        listed = self.listed if fixed is None else [p for p in self.listed if p.conditions]
        return Sum([(p.conditions, value(p.operation)) for p in listed], self.sizes, fixed or 0)

    def cost(self, name: str, architecture: Architecture) -> int:
        """`parameters` or `macs` of the network."""
        return int(self._sums[name].cost(architecture))

    def additive(self, name: str) -> tuple[float, list[list[float]]] | None:
        """See `Sum.additive`."""
        return self._sums[name].additive()

    def operations(self, architecture: Architecture) -> list[Operation]:
        """In the order in which they run."""
        return [p.operation for p in self.listed if _hold(p.conditions, architecture)]

    def varying(self, architecture: Architecture) -> list[Operation]:
        """Those of them that not every network has."""
        return [p.operation for p in self.listed if p.conditions and _hold(p.conditions, architecture)]


def _hold(conditions: Conditions, architecture: Architecture) -> bool:
    return all((architecture[choice] == option) is taken for choice, option, taken in conditions)


def priced(
    build: Callable[[], nn.Module],
    order: Mapping[str, int],
    sizes: Sequence[int],
    image: Sequence[int],
    device: str = "meta",
) -> Prices:
    """Builds a network with all its options and runs it once: by default on torch's meta device, which computes shapes only.

    An option is one operation, and so is every layer outside of choices. Raises ValueError where the options of a choice
    return different shapes, and whatever the network raises.
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
    return Prices(run.finish(tuple(image)), sizes)


def _same(x: Tensor) -> Tensor:
    """Normalisation, as far as shapes and multiplications go; the meta device takes milliseconds for the real one."""
    return x


class _Uninitialised(TorchFunctionMode):
    """Leaves out what torch.nn.init does, which means nothing on the meta device and takes half of the time there."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


# What layers from here do can be read off how they print themselves; a user's module may keep a stride to itself.
_PLAIN = ("torch.nn.", "orchestrator.spaces.")


class _Run:
    """Hooks on a network's operations, and what they saw during one forward pass."""

    def __init__(self, network: MixedNetwork, counter: FlopCounterMode) -> None:
        self.network, self.counter = network, counter
        self.listed: list[Priced] = []
        self._inside: list[Conditions] = []  # those of the parts that are being run
        self._begun: list[list[int]] = []  # FLOPs and operations at the start of each, and FLOPs spent in those it contains
        self._shapes: dict[int, tuple[str, tuple[int, ...]]] = {}  # per choice, the first option's name and output
        self._spared = 0  # MACs of what was not run because its like had been
        self._own: dict[int, int] = {}  # parameters that no operation has claimed yet
        for parameter in network.parameters():
            self._own[id(parameter)] = parameter.numel()
        self._known: dict[tuple[str, tuple[int, ...]], tuple[list[tuple[Operation, Conditions]], tuple[int, ...]]] = {}
        taken: set[int] = set()
        for place in decided(network):
            if isinstance(place, Choice) and all(type(m).__module__.startswith(_PLAIN) for m in place.modules()):
                place.forward = partial(self._repeated, place)  # type: ignore[method-assign]
            for name, part, conditions in place.parts():
                taken.update(id(m) for m in part.modules() if not any(decided(m)))
                self._watch(part, name, conditions, place)
        for path, module in network.network.named_modules():
            if id(module) not in taken and not module._modules:
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
            own = sum(self._own.pop(p, 0) for p in parameters)  # a module that runs twice holds its parameters once
            # What choices inside it cost is theirs, under conditions of their own.
            operation = Operation(name, _shape(inputs[0] if inputs else None), _shape(output), own, (spent - contained) // 2)
            self.listed.insert(position, Priced(operation, sum(self._inside, ())))
            self._inside.pop()

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    def _repeated(self, place: Choice, x: Input) -> Tensor:
        """A choice of plain layers that was run before, at this shape of input, need not be run again."""
        # Choices inside it have conditions of their own, which are those of another place only if the names agree.
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
        new = [self._own.pop(id(parameter), None) for parameter in place.parameters()]
        for operation, inner in listed:
            own = ((place.index[place.name], *inner[0][1:]), *inner[1:])
            counted = operation if any(new) else replace(operation, parameters=0)
            self.listed.append(Priced(counted, outer + own))
        self._spared += sum(operation.macs for operation, _ in listed)
        return torch.empty(1, *shape)

    def finish(self, image: tuple[int, ...]) -> list[Priced]:
        """All operations, the last of them whatever happens outside of layers."""
        parameters = sum(self._own.values())
        macs = self._spared + self.counter.get_total_flops() // 2 - sum(priced.operation.macs for priced in self.listed)
        if parameters or macs:
            self.listed.append(Priced(Operation("elsewhere", image, image, parameters, macs), ()))
        return self.listed


def _shape(value: Any) -> tuple[int, ...]:
    first = value[0] if isinstance(value, (tuple, list)) else value
    return tuple(first.shape[1:]) if isinstance(first, Tensor) else ()
