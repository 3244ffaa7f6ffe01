"""Stages of residual blocks, the last of which can go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.spaces.elastic.axes import Axis, counts_of
from orchestrator.spaces.parts.trace import Mark

PASSING = ("Relu", "Hardswish", "Silu", "Gelu", "Hardtanh", "LeakyRelu", "Elu", "Mark", "Clone", "Alias", "Contiguous")
"""Operations that a shortcut may meet on its way through a block; ResNet's goes through the block's last activation."""


def depth_axes(model: nn.Module, example: Tensor, fractions: Sequence[float]) -> list[Axis]:
    """List the stages of a network whose last blocks can go.

    A stage is a run of blocks in an `nn.Sequential` or `nn.ModuleList` that return the shape they are given and have a shortcut
    around them, with the block before them where it is of the same class; that one is always kept, and so is the first one.

    Args:
        model: The network, in evaluation mode on the CPU.
        example: An input, (1, ...).
        fractions: Fractions of the blocks of a stage that options keep, rounded.
    """
    residual = _residual(model, example)
    axes = []
    for path, parent in model.named_modules():
        if not isinstance(parent, (nn.Sequential, nn.ModuleList)):
            continue
        stage: list[tuple[str, nn.Module]] = []
        for name, child in [*parent.named_children(), ("", nn.Identity())]:
            if name and child in residual:
                stage.append((f"{path}.{name}".lstrip("."), child))
                continue
            axes += _axis(path, stage, fractions)
            stage = [(f"{path}.{name}".lstrip("."), child)]
    return axes


def _axis(parent: str, stage: Sequence[tuple[str, nn.Module]], fractions: Sequence[float]) -> list[Axis]:
    blocks = [name for name, block in stage if type(block) is type(stage[-1][1])]
    counts = counts_of(fractions, len(blocks))
    if len(counts) < 2:
        return []
    whole = parent if len(blocks) == len(stage) and parent and blocks[0].endswith(".0") else blocks[0]
    return [Axis(whole, "depth", counts, tuple(map(str, counts)), torch.arange(len(blocks)), blocks=tuple(blocks))]


def _residual(model: nn.Module, example: Tensor) -> set[nn.Module]:
    """Find the modules in lists that return their input, or an activation of it, plus something of the same shape."""
    found: set[nn.Module] = set()
    marks: dict[nn.Module, tuple[Any, torch.Size]] = {}

    def enter(module: nn.Module, given: Any) -> Any:
        if len(given) == 1 and isinstance(given[0], Tensor):
            marked: Tensor = Mark.apply(given[0])
            marks[module] = marked.grad_fn, marked.shape
            return (marked,)
        return None

    def leave(module: nn.Module, given: Any, output: Any) -> None:
        node, shape = marks.pop(module, (None, None))
        if node is not None and isinstance(output, Tensor) and output.shape == shape and _has_shortcut(output.grad_fn, node):
            found.add(module)

    hooks = []
    for parent in model.modules():
        if isinstance(parent, (nn.Sequential, nn.ModuleList)):
            for child in parent.children():
                if not isinstance(child, (nn.Sequential, nn.ModuleList)):  # a stage, which has blocks of its own
                    hooks += [child.register_forward_pre_hook(enter), child.register_forward_hook(leave)]
    try:
        with torch.enable_grad():
            model(example.clone().requires_grad_() if example.is_floating_point() else example)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _has_shortcut(node: Any, target: Any, added: bool = False) -> bool:
    """Tell whether a path of additions, at least one, and activations leads from a node of autograd's graph to another."""
    waiting = [(node, added)]
    while waiting:
        at, added = waiting.pop()
        if at is target:
            if added:
                return True
            continue
        name = type(at).__name__
        if name.startswith("Add") and not name.startswith("Addmm"):
            waiting += [(following, True) for following, _ in at.next_functions]
        elif name.lstrip("_").startswith(PASSING):
            waiting += [(following, added) for following, _ in at.next_functions]
    return False
