"""Shapes of what networks take: images, signals, rows of tables, sequences of tokens, or several of these together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils import _pytree


class Tokens(tuple[int, ...]):
    """Shape of a sequence of tokens, (length,), which are whole numbers; every other shape is one of floating-point numbers.

    Args:
        shape: The shape.
        vocabulary: Number of different tokens; they count from 0.

    Example:
        >>> shape = Tokens((64,), vocabulary=1000)
        >>> shape, shape.vocabulary
        ((64,), 1000)
    """

    vocabulary: int

    def __new__(cls, shape: Iterable[int], vocabulary: int = 1) -> Self:
        made = super().__new__(cls, shape)
        made.vocabulary = vocabulary
        return made


class Shapes(tuple[Any, ...]):
    """Shapes of the several inputs of a network, in their order, and by their names where they have some.

    Args:
        shapes: Shape of each input, by name, or in their order.

    Example:
        >>> shapes = Shapes({"photo": (3, 32, 32), "columns": (5,)})
        >>> shapes["columns"], shapes[0]
        ((5,), (3, 32, 32))
    """

    names: tuple[str, ...] | None

    def __new__(cls, shapes: Mapping[str, tuple[int, ...]] | Iterable[tuple[int, ...]]) -> Self:
        made = super().__new__(cls, shapes.values() if isinstance(shapes, Mapping) else shapes)
        made.names = tuple(shapes) if isinstance(shapes, Mapping) else None
        return made

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if self.names is None or key not in self.names:
                raise KeyError(key)
            key = self.names.index(key)
        return super().__getitem__(key)

    @property
    def titles(self) -> tuple[str, ...]:
        """Name of each input, or its number."""
        return self.names or tuple(map(str, range(len(self))))


class Inputs:
    """Several inputs of a batch of examples, which is sliced, moved and counted as one tensor is.

    Args:
        parts: A tensor or an array for each input, `(examples, *shape)`, by name or in their order.

    Example:
        >>> batch = Inputs({"left": torch.zeros(4, 3), "right": torch.ones(4, 2)})
        >>> len(batch), batch[:2].plain["right"].shape
        (4, torch.Size([2, 2]))
    """

    def __init__(self, parts: Mapping[str, Any] | Sequence[Any]) -> None:
        self.names = tuple(map(str, parts)) if isinstance(parts, Mapping) else None
        self.parts: tuple[Any, ...] = tuple(parts.values() if isinstance(parts, Mapping) else parts)

    @property
    def titles(self) -> tuple[str, ...]:
        """Name of each input, or its number."""
        return self.names or tuple(map(str, range(len(self.parts))))

    @property
    def plain(self) -> Any:
        """The inputs as a dict by their names, or as a tuple where they have none."""
        return self.parts if self.names is None else dict(zip(self.names, self.parts, strict=True))

    def like(self, parts: Iterable[Any]) -> Inputs:
        """Return other values under the same names."""
        made = Inputs(tuple(parts))
        made.names = self.names
        return made

    def map(self, function: Callable[[Any], Any]) -> Inputs:
        """Do the same with every input."""
        return self.like(map(function, self.parts))

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, indices: Any) -> Inputs:
        """Choose examples of all inputs alike."""
        return self.map(lambda part: part[indices])

    def to(self, device: Any, non_blocking: bool = False) -> Inputs:
        """Move all inputs to a device."""
        return self.map(lambda part: part.to(device, non_blocking=non_blocking))

    def cpu(self) -> Inputs:
        """Move all inputs to the CPU."""
        return self.map(Tensor.cpu)

    def detach(self) -> Inputs:
        """Return the inputs without their history."""
        return self.map(Tensor.detach)

    @property
    def device(self) -> torch.device:
        """Device that the inputs are on."""
        found: torch.device = self.parts[0].device
        return found

    def __repr__(self) -> str:
        shown = (f"{title}: {'x'.join(map(str, part.shape))}" for title, part in zip(self.titles, self.parts, strict=True))
        return f"<inputs {', '.join(shown)}>"


Examples = Tensor | Inputs
"""A batch of examples: `(examples, *shape)`, or several inputs of each."""

# So that whatever of torch walks through arguments, as gradients across processes, finds the tensors.
_pytree.register_pytree_node(
    Inputs,
    lambda inputs: (list(inputs.parts), inputs.names),
    lambda parts, names: Inputs(tuple(parts)) if names is None else Inputs(dict(zip(names, parts, strict=True))),
    serialized_type_name="paretoray.Inputs",
)


def mapped(function: Callable[[Any], Any], examples: Any) -> Any:
    """Do something with a batch, of several inputs with each of them."""
    return examples.map(function) if isinstance(examples, Inputs) else function(examples)


def tensors_of(examples: Examples) -> tuple[Tensor, ...]:
    """Return the tensors of a batch."""
    return examples.parts if isinstance(examples, Inputs) else (examples,)


def joined(batches: Sequence[Examples]) -> Examples:
    """Return the examples of several batches in one."""
    first = batches[0]
    if isinstance(first, Inputs):
        return first.like(map(torch.cat, zip(*map(tensors_of, batches), strict=True)))
    return torch.cat([batch for batch in batches if isinstance(batch, Tensor)])


def arguments(network: nn.Module, examples: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments and the keywords by which a network takes a batch.

    Several inputs with names are keywords, and those without are arguments in their order. A `forward` of one parameter that
    has no such name takes the dict or the tuple as a whole.

    Args:
        network: The network.
        examples: A tensor, or `Inputs`.

    Raises:
        ValueError: For an input that `forward` does not name.
    """
    if not isinstance(examples, Inputs):
        return (examples,), {}
    parameters = inspect.signature(network.forward).parameters
    kinds = [parameter.kind for parameter in parameters.values()]
    alone = len(kinds) == 1 and kinds[0] in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if examples.names is None:
        return ((examples.parts,) if alone else examples.parts), {}
    unknown = [name for name in examples.names if name not in parameters]
    if not unknown or inspect.Parameter.VAR_KEYWORD in kinds:
        return (), examples.plain
    if alone:
        return (examples.plain,), {}
    raise ValueError(
        f"{type(network).__name__}.forward takes {', '.join(parameters)}, and no {unknown[0]!r}, an input of the data; "
        "call its parameters as the data calls its inputs"
    )


def take_several(network: nn.Module) -> None:
    """Have a network that is called with `Inputs` take them as its `forward` asks for (see `arguments`)."""
    network.register_forward_pre_hook(_taken_apart, with_kwargs=True)


def _taken_apart(network: nn.Module, args: Any, kwargs: Any) -> Any:
    return arguments(network, args[0]) if len(args) == 1 and isinstance(args[0], Inputs) else None


def filled(shape: tuple[int, ...], make: Callable[[tuple[int, ...]], Tensor]) -> Examples:
    """Make a batch of a shape, of several inputs each by its own shape."""
    if not isinstance(shape, Shapes):
        return make(shape)
    made = [make(each) for each in shape]
    return Inputs(made if shape.names is None else dict(zip(shape.names, made, strict=True)))


def zeros(count: int, shape: tuple[int, ...], device: str | None = None) -> Examples:
    """Return examples to run a network on, `(count, *shape)`, of the type that it takes."""

    def of(each: tuple[int, ...]) -> Tensor:
        return torch.zeros(count, *each, dtype=torch.int64 if isinstance(each, Tokens) else torch.float32, device=device)

    return filled(shape, of)


def repeated(example: Examples, count: int) -> Any:
    """Return a batch of `count` times the one example of a batch, `(1, *shape)`."""
    return mapped(lambda x: x.expand(count, *x.shape[1:]).contiguous(), example)


def laid_out(x: Examples, layout: torch.memory_format) -> Any:
    """Return inputs in a memory layout, which only images have."""
    return mapped(lambda each: each.contiguous(memory_format=layout) if each.dim() == 4 else each, x)


def noun(shape: tuple[int, ...]) -> str:
    """Name one example of a shape: image, signal, row or sequence; example for what is none of these."""
    if isinstance(shape, Shapes):
        return "example"
    return "sequence" if isinstance(shape, Tokens) else {1: "row", 2: "signal", 3: "image"}.get(len(shape), "example")


def sized(shape: tuple[int, ...]) -> str:
    """Write a shape, as 3x32x32; of several inputs each with its name."""
    if isinstance(shape, Shapes):
        return " + ".join(f"{title} {sized(each)}" for title, each in zip(shape.titles, shape, strict=True))
    return "x".join(map(str, shape))


def in_words(shape: tuple[int, ...]) -> str:
    """Say what an example of a shape is."""
    if isinstance(shape, Shapes):
        listed = [f"{title} ({in_words(each)})" for title, each in zip(shape.titles, shape, strict=True)]
        return f"examples of several inputs, {' and '.join(listed)}"
    size = sized(shape)
    if isinstance(shape, Tokens):
        return f"sequences of {size} tokens out of {shape.vocabulary:,}"
    return {1: f"rows of {size} numbers", 2: f"signals of {size}", 3: f"images of {size}"}.get(len(shape), f"arrays of {size}")
