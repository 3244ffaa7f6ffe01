"""Shapes of what networks take: images, signals, rows of tables, or sequences of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor


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


def zeros(count: int, shape: tuple[int, ...], device: str | None = None) -> Tensor:
    """Return examples to run a network on, `(count, *shape)`, of the type that it takes."""
    return torch.zeros(count, *shape, dtype=torch.int64 if isinstance(shape, Tokens) else torch.float32, device=device)


def repeated(example: Tensor, count: int) -> Tensor:
    """Return a batch of `count` times the one example of a batch, `(1, *shape)`."""
    return example.expand(count, *example.shape[1:]).contiguous()


def laid_out(x: Tensor, layout: torch.memory_format) -> Tensor:
    """Return inputs in a memory layout, which only images have."""
    return x.contiguous(memory_format=layout) if x.dim() == 4 else x


def noun(shape: tuple[int, ...]) -> str:
    """Name one example of a shape: image, signal, row or sequence; example for what is none of these."""
    return "sequence" if isinstance(shape, Tokens) else {1: "row", 2: "signal", 3: "image"}.get(len(shape), "example")


def in_words(shape: tuple[int, ...]) -> str:
    """Say what an example of a shape is."""
    size = "x".join(map(str, shape))
    if isinstance(shape, Tokens):
        return f"sequences of {size} tokens out of {shape.vocabulary:,}"
    return {1: f"rows of {size} numbers", 2: f"signals of {size}", 3: f"images of {size}"}.get(len(shape), f"arrays of {size}")
