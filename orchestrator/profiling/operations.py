"""Operations of a space, each as a module by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hw_profiles.profile import part
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.choice import decided
from orchestrator.spaces.parts.inputs import zeros


def operations(space: SearchSpace) -> dict[str, tuple[nn.Module, list[tuple[int, ...]]]]:
    """Collect the operations that not all networks have, as modules with the shapes of their inputs, without the batch.

    They are taken out of whole networks that hold one option of each choice. Operations with further choices inside, and those
    of spaces that do not list theirs, do not exist by themselves and are left out.
    """
    missing = {p.operation.part: p.conditions for p in space.operation_costs.listed if p.conditions}
    modules: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {}
    while missing:
        allowed = [set(range(size)) for size in space.sizes]
        for conditions in missing.values():  # as many of them at once as go together
            narrowed = {choice: allowed[choice] for choice, *_ in conditions}
            for choice, option, taken in conditions:
                narrowed[choice] = narrowed[choice] & {option} if taken else narrowed[choice] - {option}
            if all(narrowed.values()):
                for choice, options in narrowed.items():
                    allowed[choice] = options
        before = len(missing)
        architecture = [min(options) for options in allowed]
        network, parts = space.running(tuple(architecture))

        def seen(module: nn.Module, inputs: Any, output: Any, title: str) -> None:
            tensors = inputs[0] if isinstance(inputs[0], tuple) else inputs
            first = output[0] if isinstance(output, tuple) else output
            key = part(title, tuple(tensors[0].shape[1:]), tuple(first.shape[1:]))
            if missing.pop(key, None) and not any(decided(module)):
                modules[key] = module, [tuple(x.shape[1:]) for x in tensors]

        hooks = [module.register_forward_hook(lambda m, i, o, title=title: seen(m, i, o, title)) for title, module in parts]
        with torch.no_grad():
            network(zeros(1, space.image))
        for hook in hooks:
            hook.remove()
        if len(missing) == before:
            break
    return modules
