"""Costs of the options of a network with choices: every option is run once, without arithmetic, at every place it occurs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from hw_profiles import profile
from orchestrator.spaces.parts.choice import Choice, Conditions, Input, MixedNetwork, Weights, decided
from orchestrator.spaces.parts.inputs import zeros
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
        shared: Further parameters, of modules that operations of different choices share: conditions, and how many.
        sizes: Number of options of each choice.
    """

    def __init__(
        self, listed: Sequence[ConditionalOperation], shared: Sequence[tuple[Conditions, int]], sizes: Sequence[int]
    ) -> None:
        self.listed, self.shared, self.sizes = list(listed), list(shared), list(sizes)
        parameters = [(p.conditions, p.operation.parameters) for p in self.listed]
        self._sums = {"parameters": AdditiveCost([*parameters, *self.shared], sizes), "macs": self.sum(attrgetter("macs"))}

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
        shared = sum(count for conditions, count in self.shared if _hold(conditions, architecture))
        return [
            *(p.operation for p in self.listed if _hold(p.conditions, architecture)),
            *([Operation("shared", (), (), shared, 0)] if shared else []),
        ]

    def varying(self, architecture: Architecture) -> list[Operation]:
        """List the operations of a network that not every network has."""
        return [p.operation for p in self.listed if p.conditions and _hold(p.conditions, architecture)]

    @property
    def varying_parts(self) -> list[str]:
        """Sorted names, as in a device's profile, of the operations that not every network has."""
        return sorted({p.operation.part for p in self.listed if p.conditions})


class CountedCosts(OperationCosts):
    """Costs counted network by network, where what a network consists of is no sum over its options.

    Args:
        operations: Returns the operations of a network.
        sizes: Number of options of each choice.
    """

    def __init__(self, operations: Callable[[Architecture], list[Operation]], sizes: Sequence[int]) -> None:
        self.listed, self.shared, self.sizes = [], [], list(sizes)
        self._operations = operations
        self._sums = {cost: self.sum(attrgetter(cost)) for cost in ("parameters", "macs")}

    def operations(self, architecture: Architecture) -> list[Operation]:
        return self._operations(architecture)

    def varying(self, architecture: Architecture) -> list[Operation]:
        return self._operations(architecture)

    def sum(self, value: Callable[[Operation], float], fixed: float | None = None) -> AdditiveCost:
        return _CountedCost(self._operations, value, fixed or 0)


class _CountedCost(AdditiveCost):
    def __init__(
        self, operations: Callable[[Architecture], list[Operation]], value: Callable[[Operation], float], fixed: float
    ) -> None:
        self._operations, self._value, self._fixed = operations, value, fixed

    def cost(self, architecture: Architecture) -> float:
        return self._fixed + sum(self._value(operation) for operation in self._operations(architecture))

    def additive(self) -> None:
        return None


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

    An option is one operation, and so is every layer outside of choices. Parameters that nothing reads do not count.

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
    with torch.device(device), torch.no_grad(), unfused(device):
        with _Uninitialised() if device == "meta" else torch.random.fork_rng(devices=[]):
            network = MixedNetwork(build(), order).eval()
        with FlopCounterMode(display=False) as counter:
            run = _Run(network, counter)
            with ParameterUse(run.use):
                network(
                    zeros(1, image if isinstance(image, tuple) else tuple(image)),
                    Weights([[1.0] * size for size in sizes], everything=True),
                )
    return OperationCosts(*run.finish(tuple(image)), sizes)


@contextmanager
def unfused(device: str) -> Iterator[None]:
    """Turn off fused kernels of attention and recurrent layers, which hide their products from the counter."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with ExitStack() as stack, warnings.catch_warnings():
        stack.callback(torch.backends.mha.set_fastpath_enabled, before)
        if device == "cpu":
            warnings.simplefilter("ignore")  # of TF32 on Intel's GPUs
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        yield


class _Uninitialised(TorchFunctionMode):
    """Mode that skips torch.nn.init, which means nothing on the meta device and takes half of the time there."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


class ParameterUse(TorchDispatchMode):
    """Mode that tells of every parameter that an operation reads.

    Args:
        use: Called with the parameter.
    """

    def __init__(self, use: Callable[[nn.Parameter], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.use = use

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in (*args, *(kwargs or {}).values()):
            for each in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(each, nn.Parameter):
                    self.use(each)
        return function(*args, **(kwargs or {}))


# Layers from these modules that print alike do alike; a user's module may have a stride that it does not print.
_PLAIN = ("torch.nn.", "orchestrator.spaces.")


@dataclass(eq=False)
class _Entry:
    """An operation that is running or has run, and the parameters that it read, by their ids."""

    name: str
    input: tuple[int, ...]
    conditions: Conditions
    output: tuple[int, ...] = ()
    macs: int = 0
    parameters: int = 0
    used: dict[int, None] = field(default_factory=dict)

    def finished(self) -> ConditionalOperation:
        return ConditionalOperation(Operation(self.name, self.input, self.output, self.parameters, self.macs), self.conditions)


def _with_one_input(run: Callable[[Choice, Input], Tensor], place: Choice, *inputs: Any, **named: Any) -> Tensor:
    """Run a choice, which takes one thing."""
    if len(inputs) != 1 or named:
        raise ValueError(
            f"Choice {place.name!r} is called with {len(inputs) + len(named)} inputs, and takes one tensor; give it a tuple of "
            "tensors, or put what takes several, as attention, into a module of yours that takes one"
        )
    return run(place, inputs[0])


class _Run:
    """Hooks on a network's operations, and what they recorded during one forward pass.

    Costs are counted by use: an operation costs what runs inside it, and a network has the parameters that any of its
    operations reads, each once, however many options share a module.
    """

    def __init__(self, network: MixedNetwork, counter: FlopCounterMode) -> None:
        self.network, self.counter = network, counter
        self.listed: list[_Entry] = []
        self._running: list[_Entry] = []
        self._begun: list[list[int]] = []  # per running part: FLOPs and operations at its start, and FLOPs of parts inside it
        self._skipped_macs = 0  # of places that were not run because an equal one had been
        self._elsewhere = _Entry("elsewhere", (), ())
        self._sizes = {id(parameter): parameter.numel() for parameter in network.parameters()}
        self._known: dict[tuple[str, tuple[int, ...]], tuple[list[tuple[_Entry, list[int]]], tuple[int, ...]]] = {}
        in_places: set[int] = set()
        owners: Counter[int] = Counter()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.forward = partial(self._normalised, module)  # type: ignore[method-assign]
        for place in decided(network):
            for name, part, conditions in place.parts():
                in_places.update(id(m) for m in part.modules() if not any(decided(m)))
                inner = {id(p) for m in decided(part) for p in m.parameters()}
                owners.update(id(p) for p in part.parameters() if id(p) not in inner)
                if type(place) is not Choice:
                    self._watch(part, name, conditions)
        for path, module in network.network.named_modules():
            if id(module) not in in_places:
                owners.update(map(id, module.parameters(recurse=False)))
                if not module._modules:
                    self._watch(module, path, ())
        for place in decided(network):
            if type(place) is Choice:
                plain = all(type(m).__module__.startswith(_PLAIN) for m in place.modules())
                alone = all(owners[id(p)] == 1 for p in place.parameters())  # none of its parameters are used elsewhere, too
                run = self._repeated if plain and alone else self._choose
                place.forward = partial(_with_one_input, run, place)  # type: ignore[method-assign]

    def use(self, parameter: nn.Parameter) -> None:
        """Note that whatever is running reads a parameter."""
        if id(parameter) in self._sizes:
            (self._running[-1] if self._running else self._elsewhere).used[id(parameter)] = None

    def _normalised(self, module: nn.Module, x: Tensor) -> Tensor:
        """Stand in for normalisation, which counts as 0; the meta device takes milliseconds for the real one."""
        for parameter in module.parameters():
            self.use(parameter)
        return x

    def _begin(self, name: str, x: Any, conditions: Conditions) -> None:
        outer = self._running[-1].conditions if self._running else ()
        self._begun.append([self.counter.get_total_flops(), len(self.listed), 0])
        self._running.append(_Entry(name, _shape(x), outer + conditions))

    def _end(self, output: Any) -> None:
        start, position, contained = self._begun.pop()
        spent = self.counter.get_total_flops() - start
        if self._begun:
            self._begun[-1][2] += spent
        entry = self._running.pop()
        # Choices inside it are operations of their own, with their own conditions.
        entry.output, entry.macs = _shape(output), (spent - contained) // 2
        self.listed.insert(position, entry)

    def _watch(self, module: nn.Module, name: str, conditions: Conditions) -> None:
        module.register_forward_pre_hook(lambda module, inputs: self._begin(name, inputs[0] if inputs else None, conditions))
        module.register_forward_hook(lambda module, inputs, output: self._end(output))

    def _choose(self, place: Choice, x: Input) -> Tensor:
        """Run every option of a choice, and return their sum."""
        total: Tensor | None = None
        first = ""
        for name, option, conditions in place.parts():
            self._begin(name, x, conditions)
            y: Tensor = option(x)
            self._end(y)
            if not isinstance(y, Tensor):
                raise ValueError(
                    f"Choice {place.name!r}: option {name!r} returns {type(y).__name__}; an option must return one tensor"
                )
            if total is not None and total.shape != y.shape:
                raise ValueError(
                    f"Choice {place.name!r}: option {first!r} returns the shape {_shape(total)}, {name!r} {_shape(y)}; all "
                    "options of a choice must return the same"
                )
            total, first = (y, name) if total is None else (total + y, first)
        return (x[0] if isinstance(x, tuple) else x).new_zeros(()) if total is None else total

    def _repeated(self, place: Choice, x: Input) -> Tensor:
        """Run a choice of plain layers, or repeat what was recorded of an equal one at this shape of input."""
        # Choices inside it have their own conditions, which are those of another place only if the names agree.
        nested = sum(1 for _ in decided(place)) > 1
        key = (f"{place.name if nested else ''}{place!r}", _shape(x))
        outer: Conditions = self._running[-1].conditions if self._running else ()
        own = [id(parameter) for parameter in place.parameters()]
        if key not in self._known:
            begun = len(self.listed)
            y = self._choose(place, x)
            at = {identity: position for position, identity in enumerate(own)}
            relative = [replace(e, conditions=e.conditions[len(outer) :]) for e in self.listed[begun:]]
            self._known[key] = [(e, [at[i] for i in e.used if i in at]) for e in relative], _shape(y)
            return y
        listed, shape = self._known[key]
        for entry, positions in listed:
            inner = entry.conditions
            conditions = (*outer, (place.index[place.name], *inner[0][1:]), *inner[1:])
            self.listed.append(replace(entry, conditions=conditions, used=dict.fromkeys(own[i] for i in positions)))
        self._skipped_macs += sum(entry.macs for entry, _ in listed)
        return torch.empty(1, *shape)

    def finish(self, image: tuple[int, ...]) -> tuple[list[ConditionalOperation], list[tuple[Conditions, int]]]:
        """List all operations, the last of them whatever happens outside of layers, and the parameters that remain to be added.

        The latter are those of modules that operations of different choices share: a number of parameters, and the conditions
        under which a network has them and no operation has counted them yet.
        """
        rest = self._elsewhere
        rest.input = rest.output = image
        rest.macs = self._skipped_macs + self.counter.get_total_flops() // 2 - sum(entry.macs for entry in self.listed)
        groups: dict[tuple[_Entry, ...], int] = {}
        users: dict[int, list[_Entry]] = {}
        for entry in (*self.listed, rest):
            for identity in entry.used:
                users.setdefault(identity, []).append(entry)
        for identity, entries in users.items():
            groups[tuple(entries)] = groups.get(tuple(entries), 0) + self._sizes[identity]
        shared: list[tuple[Conditions, int]] = []
        for together, count in groups.items():
            counted: list[Conditions] = []
            for entry in sorted(together, key=lambda e: len(e.conditions)):  # the weaker conditions first
                left = [entry.conditions]
                for before in counted:
                    left = [conditions for each in left for conditions in _without(each, before)]
                if left == [entry.conditions]:
                    entry.parameters += count
                else:
                    shared += [(conditions, count) for conditions in left]
                counted.append(entry.conditions)
        if rest.parameters or rest.macs:
            self.listed.append(rest)
        return [entry.finished() for entry in self.listed], shared


def _without(conditions: Conditions, other: Conditions) -> list[Conditions]:
    """Split `conditions` without the networks that `other` holds for into conditions of which one holds at a time."""
    split: list[Conditions] = []
    held = conditions
    for choice, option, taken in other:
        options = {(o, t) for c, o, t in held if c == choice}
        if (option, not taken) in options or any(t and o != option for o, t in options):
            if (option, not taken) in options or taken:
                return [*split, held]  # `other` cannot hold beside it
            continue
        if (option, taken) in options:
            continue
        split.append((*held, (choice, option, not taken)))
        held = (*held, (choice, option, taken))
    return split


def _shape(value: Any) -> tuple[int, ...]:
    first = value[0] if isinstance(value, (tuple, list)) else value
    return tuple(first.shape[1:]) if isinstance(first, Tensor) else ()
