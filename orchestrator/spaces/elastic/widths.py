"""Channels that must shrink together, found by torch-pruning's dependency graph."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from orchestrator.spaces.elastic.axes import Axis, Cut, by_importance, counts_of

Claimed = Set[tuple[str, int]]
"""Dimensions of tensors, by name and number, that belong to an axis already."""


class Fixed(Exception):
    """Reason why a layer cannot shrink."""


def width_axes(
    model: nn.Module, example: Tensor, fractions: Sequence[float], multiple: int, claimed: Claimed
) -> tuple[list[Axis], dict[str, str]]:
    """Find the groups of channels of a network that shrink together.

    Args:
        model: The network, in evaluation mode on the CPU.
        example: An input, (1, ...).
        fractions: Fractions of the channels that options keep.
        multiple: Multiple of which the numbers of channels are.
        claimed: Dimensions that belong to other axes.

    Returns:
        An axis for each group, named after the first layer that writes the channels; and the layers whose channels are fixed,
        with the reasons.

    Raises:
        ImportError: Where torch-pruning is not installed.
        Exception: Whatever the network or the graph raises.
    """
    import torch_pruning

    names = {id(module): name for name, module in model.named_modules()}
    parameters = {id(parameter): name for name, parameter in model.named_parameters()}
    position = {name: index for index, name in enumerate(names.values())}
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # of bare parameters, whose last dimension is the one that is wanted
        graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example, verbose=False)
        bare = {id(found[0]): int(found[1]) for found in graph.unwrapped_parameters}
        groups = list(graph.get_all_groups(root_module_types=[_ConvNd, nn.Linear]))
    axes: list[Axis] = []
    fixed: dict[str, str] = {}
    for group in groups:
        root = names[id(group[0].dep.target.module)]
        writers = [root]
        try:
            cuts: dict[tuple[str, int], set[tuple[int, int]]] = {}
            for item in group:
                module = item.dep.target.module
                writes = graph.is_out_channel_pruning_fn(item.dep.handler)
                if isinstance(module, nn.Parameter):
                    tensors = [(parameters[id(module)], bare[id(module)])]
                else:
                    tensors = list(_dimensions(module, names.get(id(module), ""), writes))
                    if writes and isinstance(module, (_ConvNd, nn.Linear)):
                        writers.append(names[id(module)])
                for tensor in tensors:
                    cuts.setdefault(tensor, set()).update(zip(item.root_idxs, item.idxs, strict=True))
            if taken := next((tensor for tensor, _ in cuts.keys() & claimed), None):
                raise Fixed(f"{tensor_owner(taken)} has attention heads, which it shrinks by")
            units = len(group[0].idxs)
            whole = tuple(Cut(name, dim, _positions(pairs, units, name)) for (name, dim), pairs in cuts.items())
        except Fixed as reason:
            fixed[min(writers, key=position.__getitem__)] = str(reason)
            continue
        layer, counts = min(writers, key=position.__getitem__), counts_of(fractions, units, multiple)
        if len(counts) < 2:
            fixed[layer] = f"of its {units} channels, all fractions keep as many"
            continue
        order = by_importance(model, whole, units)
        axes.append(Axis(layer, "width", counts, tuple(map(str, counts)), order, whole))
    return axes, fixed


def tensor_owner(tensor: str) -> str:
    """Return the path of the module that has a tensor."""
    return tensor.rpartition(".")[0]


def _dimensions(module: Any, name: str, writes: bool) -> Iterator[tuple[str, int]]:
    """List the tensors of a module that have channels, and their dimension.

    Raises:
        Fixed: For a layer whose channels cannot be sliced.
    """
    if not isinstance(module, nn.Module) or not any(True for _ in (*module.parameters(), *module.buffers())):
        return  # one of the graph's own operations, as an addition
    if isinstance(module, _ConvNd):
        depthwise = 1 < module.groups == module.in_channels == module.out_channels
        if isinstance(module, _ConvTransposeNd):
            raise Fixed(f"{name} is a transposed convolution")
        if module.groups > 1 and not depthwise:
            raise Fixed(f"{name} is a convolution of {module.groups} groups; of grouped ones, depthwise ones alone shrink")
        writes = writes or depthwise
    if isinstance(module, (_ConvNd, nn.Linear)):
        yield f"{name}.weight", 0 if writes else 1
        if writes and module.bias is not None:
            yield f"{name}.bias", 0
    elif isinstance(module, (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU)):
        if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1:
            raise Fixed(f"{name} normalises over several dimensions")
        if isinstance(module, nn.GroupNorm) and module.num_groups not in (1, module.num_channels):
            raise Fixed(f"{name} normalises groups of channels")
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            return
        for key in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, key, None) is not None:
                yield f"{name}.{key}", 0
    elif isinstance(module, nn.MultiheadAttention):
        raise Fixed(f"{name} is an nn.MultiheadAttention, whose inputs and outputs have one fixed width")
    else:
        raise Fixed(f"{name} is of the type {type(module).__name__}, which is not known how to slice")


def _positions(pairs: set[tuple[int, int]], units: int, tensor: str) -> Tensor:
    """Arrange pairs of a unit and a position as (units, positions of each)."""
    rows: list[list[int]] = [[] for _ in range(units)]
    for unit, position in sorted(pairs):
        rows[unit].append(position)
    if len({len(row) for row in rows}) != 1:
        raise Fixed(f"{tensor_owner(tensor)} does not have equally many entries for each channel")
    return torch.tensor(rows)
