"""`Choice`, a place of a network that can be built in several ways, and the networks that have such places.

A network is written once, as an ordinary module with choices in it. Built with all options it is a supernet, whose forward
pass takes a mixture; built with one option each, and the choices taken out, it is a plain network.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.spaces.parts.pointwise import take_strides_first
from searchers.base import Architecture

Made = nn.Module | Callable[[], nn.Module]
Input = Tensor | tuple[Tensor, ...]
Conditions = tuple[tuple[int, int, bool], ...]
"""(choice, option, taken): all must hold; False means that the option must not be taken."""

# Options that choices hold which are created now, by the choice's name; None or a name that is missing: all.
_SURVIVING: ContextVar[Mapping[str, Sequence[int]] | None] = ContextVar("surviving", default=None)
_CREATED: ContextVar[list[Decided] | None] = ContextVar("created", default=None)


class Weights:
    """Mixture as one forward pass of a supernet uses it: plain numbers, or tensors whose gradients are wanted.

    Args:
        rows: Weight per option per choice.
        inactive: Per choice, the options of weight 0 whose cotangent is wanted all the same, with the leaf tensor that receives
            it; None for none.
        everything: Whether to run every option, to see what it costs.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[float | Tensor]],
        inactive: Sequence[tuple[tuple[int, ...], Tensor] | None] | None = None,
        everything: bool = False,
    ) -> None:
        self.rows = rows
        self.inactive = inactive or [None] * len(rows)
        self.everything = everything


class Decided(nn.Module):
    """Part of a network that depends on decisions.

    Args:
        decisions: Names of the decisions, and of the options of each.
    """

    def __init__(self, decisions: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.decisions = {name: tuple(options) for name, options in decisions.items()}
        self.index: dict[str, int] = {}
        self.weights: Weights | None = None
        if (created := _CREATED.get()) is not None:
            created.append(self)

    def row(self, name: str) -> Sequence[float | Tensor]:
        """Return the weights of the options of a decision, in the forward pass that is under way."""
        if self.weights is None:
            raise RuntimeError(f"the choice {name!r} has no weights: call the supernet, not the network inside it")
        return self.weights.rows[self.index[name]]

    def smooth_row(self, name: str) -> list[float | Tensor]:
        """Return `row`, in which options that merely want a cotangent are the leaves that receive it."""
        row = list(self.row(name))
        assert self.weights is not None
        if inactive := self.weights.inactive[self.index[name]]:
            for option, leaf in zip(inactive[0], inactive[1].unbind(), strict=True):
                row[option] = leaf
        return row

    @abstractmethod
    def select(self, architecture: Architecture) -> nn.Module:
        """Return the module that remains in the network that `architecture` stands for."""

    def parts(self) -> Iterator[tuple[str, nn.Module, Conditions]]:
        """Iterate over the modules that not every network has: a name, the module, and the conditions under which it has it.

        There are none where a conjunction of choices cannot express the conditions; a space with such a part counts its
        operations itself (`operation_costs`).
        """
        return iter(())

    def keep(self, options: Sequence[Sequence[int]]) -> None:
        """Forget all options but these, per choice of the space; where weights are not held per option, nothing is done."""


class Choice(Decided):
    """One of several modules, to be decided by a search; in a supernet the weighted sum of all of them.

    An option of weight 0 does not run, so it gets no gradient at all: neither momentum nor weight decay moves it. A weight that
    is the number 1 costs no multiplication, so one path saves no more for the backward pass than a standalone network.

    Args:
        name: Name of the decision. Choices of the same name, at whatever places, are decided together; they need the same
            options.
        options: Modules by name, or functions without arguments that make one (`lambda: nn.Conv2d(...)`), which saves building
            what a network does not use. All take the same input, a tensor or a tuple of tensors, and return tensors of one
            shape.

    Example:
        >>> choice = Choice("block", {"skip": nn.Identity, "conv": lambda: nn.Conv2d(8, 8, 3, padding=1)})
        >>> list(choice.options)
        ['0', '1']
    """

    def __init__(self, name: str, options: Mapping[str, Made]) -> None:
        super().__init__({name: tuple(options)})
        if not options:
            raise ValueError(f"Choice {name!r} has no options")
        self.name = name
        surviving = (_SURVIVING.get() or {}).get(name, range(len(options)))
        held = {i: option for i, option in enumerate(options.values()) if i in surviving}
        # An nn.ModuleDict refuses names such as "keys" or "conv.3"; the index is always a good one.
        self.options = nn.ModuleDict({str(i): m if isinstance(m, nn.Module) else m() for i, m in held.items()})
        self._shapes: dict[tuple[int, ...], torch.Size] = {}
        self._harmless: set[tuple[str, bool]] = set()

    def forward(self, x: Input) -> Tensor:
        """Return the weighted sum; where no option is active, a scalar zero, which adds nothing to whatever it is added to."""
        row = self.row(self.name)
        assert self.weights is not None
        inactive = self.weights.inactive[self.index[self.name]]
        active = sum(isinstance(w, Tensor) or w != 0 for w in row)
        together = active > 1 or inactive is not None
        total: Tensor | None = None
        ours = False  # whether `total` is a tensor that nobody else holds, to which may be added in place
        for index, option in self.options.items():
            weight = row[int(index)]
            if isinstance(option, Zero) or (not isinstance(weight, Tensor) and weight == 0):
                continue
            y = self._apart(index, x) if together else option(x)
            if isinstance(weight, Tensor):
                y = weight * y
                total = y if total is None else total + y
            elif total is None:
                total, ours = (y, False) if weight == 1 else (weight * y, True)
            elif ours:
                total.add_(y, alpha=weight)
            else:
                total = total.add(y, alpha=weight)
        alone = {str(i): self.options[str(i)] for i in inactive[0]} if inactive else {}
        if inactive is not None and not all(isinstance(option, Zero) for option in alone.values()):
            total = self._zeros(x, alone) if total is None else total
            total = _Cotangents.apply(
                total, inactive[1], alone, self._apart, self.weights, *(x if isinstance(x, tuple) else (x,))
            )
        return (x[0] if isinstance(x, tuple) else x).new_zeros(()) if total is None else total

    def _apart(self, index: str, x: Input) -> Tensor:
        """Run an option beside others, which must not see what it may do to its input in place.

        It gets a copy of the input until it is known to leave that alone, in the mode of training or of evaluation.
        """
        option, mode = self.options[index], (index, self.training)
        if mode in self._harmless:
            return option(x)  # type: ignore[no-any-return]
        given = tuple(each.clone() for each in x) if isinstance(x, tuple) else x.clone()
        parts = given if isinstance(given, tuple) else (given,)
        before = [part._version for part in parts]
        y: Tensor = option(given)
        if [part._version for part in parts] == before:
            self._harmless.add(mode)
        return y

    def _zeros(self, x: Input, options: Mapping[str, nn.Module]) -> Tensor:
        """Return zeros of the shape of an output, for the upstream gradient of a choice without active options."""
        first = x[0] if isinstance(x, tuple) else x
        shape = self._shapes.get(tuple(first.shape))
        if shape is None:
            with torch.no_grad():
                y = self._apart(next(i for i, option in options.items() if not isinstance(option, Zero)), x)
            shape = self._shapes[tuple(first.shape)] = y.shape
        return first.new_zeros(()).expand(shape)  # no memory, and no opinion on the layout of what it is added to

    def select(self, architecture: Architecture) -> nn.Module:
        return self.options[str(architecture[self.index[self.name]])]

    def parts(self) -> Iterator[tuple[str, nn.Module, Conditions]]:
        for index, option in self.options.items():
            if not isinstance(option, Zero):
                yield self.decisions[self.name][int(index)], option, ((self.index[self.name], int(index), True),)

    def keep(self, options: Sequence[Sequence[int]]) -> None:
        for index in list(self.options):
            if int(index) not in options[self.index[self.name]]:
                del self.options[index]


class _Cotangents(torch.autograd.Function):
    """Identity of y whose backward pass runs inactive options one at a time, without a graph, for their cotangents.

    ProxylessNAS, section 3.2.1, needs d loss / d gate of every candidate at the memory of one path. It is the inner product
    of the upstream gradient with the candidate's output, so no candidate has to be kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        leaf: Tensor,
        options: dict[str, nn.Module],
        run: Callable[[str, Input], Tensor],
        weights: Weights,
        *x: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*(each.detach() for each in x))
        ctx.options, ctx.run, ctx.weights = options, run, weights
        # Nothing behind a choice could overwrite a view in place. The zeros of a choice without active options have no memory
        # to copy, and nothing can overwrite them either.
        return y.view_as(y) if not any(y.stride()) else y.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = upstream
        x = ctx.saved_tensors if len(ctx.saved_tensors) > 1 else ctx.saved_tensors[0]
        inner = []
        flat: dict[tuple[int, ...], Tensor] = {}
        with torch.no_grad():
            for index, option in ctx.options.items():
                for inside in decided(option):
                    inside.weights = ctx.weights
                y = ctx.run(index, x)
                if not y.dim():  # `none`
                    inner.append(y)
                    continue
                # Not (gradient * y).sum(): writing that product down takes longer than some options do.
                order = _order(y)
                if order not in flat:
                    flat[order] = gradient.permute(order).reshape(-1)
                inner.append(torch.dot(flat[order], y.permute(order).reshape(-1)))
        return gradient, torch.stack(inner), None, None, None, *(None for _ in ctx.saved_tensors)


def _order(y: Tensor) -> tuple[int, ...]:
    """Sort the dimensions as they lie in memory, the slowest first."""
    return tuple(sorted(range(y.dim()), key=lambda d: (-y.stride()[d], d)))


class Zero(nn.Module):
    """`none`: a scalar zero, which adds nothing. `total` and `Choice` leave it out of their sums; its cotangent is 0."""

    def forward(self, x: Input) -> Tensor:
        return (x[0] if isinstance(x, tuple) else x).new_zeros(())


class SkipDropout(nn.Module):
    """Identity whose elements are dropped while weights train, so that early training does not rely on skips alone (P-DARTS,
    arXiv 1904.12760, section 3.3, and TND-NAS)."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0
        self.chance: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        mask = torch.empty_like(x).bernoulli_(1 - self.rate, generator=self.chance)
        return x * mask / (1 - self.rate)


def total(terms: Sequence[Tensor]) -> Tensor:
    """Add up `terms`, of which scalar zeros cost nothing; a scalar zero if there is nothing else."""
    present = [y for y in terms if y.dim()]
    result = present[0] if present else terms[0]
    for y in present[1:]:
        result = result + y
    return result


class MixedNetwork(nn.Module):
    """Network with choices in it, as a function of images and a mixture.

    Args:
        network: The network.
        order: Index of each choice by its name.
    """

    def __init__(self, network: nn.Module, order: Mapping[str, int]) -> None:
        super().__init__()
        self.network = network
        take_strides_first(network)
        for place in decided(network):
            place.index = {name: order[name] for name in place.decisions}
        self._places = list(decided(network))

    def forward(self, x: Any, weights: Weights) -> Tensor:
        for place in self._places:
            place.weights = weights
        return self.network(x)  # type: ignore[no-any-return]

    def compile_parts(self) -> None:
        """Have torch compile every operation by itself, so that another path through the network is not another program."""
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 256)
        # torch keeps compiled code on disk, and does not tell ATEN_CPU_CAPABILITY's settings apart: another one's computes NaN.
        torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
        for place in self._places:
            for part in (part for held in place.children() for part in held.children()):
                if not any(decided(part)) and next(part.parameters(), None) is not None:
                    part.compile(dynamic=False)

    def keep(self, options: Sequence[Sequence[int]]) -> None:
        """Drop all options but these, and their parameters with them; what remains keeps its weights."""
        for place in self._places:
            place.keep(options)


def decided(network: nn.Module) -> Iterator[Decided]:
    """Iterate over the parts of `network` that depend on decisions, in the order of its modules."""
    return (m for m in network.modules() if isinstance(m, Decided))


@contextmanager
def keeping(options: Mapping[str, Sequence[int]] | None) -> Iterator[list[Decided]]:
    """Let choices that are created inside hold only these options; yield the list of all that were created."""
    created: list[Decided] = []
    before = _SURVIVING.set(options), _CREATED.set(created)
    try:
        yield created
    finally:
        _SURVIVING.reset(before[0])
        _CREATED.reset(before[1])


def extract(module: nn.Module, architecture: Architecture) -> nn.Module:
    """Replace every choice of `module`, in place, by the option of `architecture`, and return it; choices may be nested."""
    while isinstance(module, Decided):
        module = module.select(architecture)
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = extract(child, architecture)
    return module
