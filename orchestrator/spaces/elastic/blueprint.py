"""Plain networks out of a trained one: the same modules with sliced tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from orchestrator.spaces.elastic.axes import Axis
from orchestrator.spaces.elastic.heads import FewerHeads
from orchestrator.spaces.parts.pointwise import take_strides_first
from searchers.base import Architecture

Kept = dict[str, list[tuple[int, Tensor]]]
"""Positions that are left of tensors, by name: dimension, and the positions along it in ascending order."""

REMEMBERED = 64
"""Skeletons that are kept, so that a network that is measured on several batches is built once."""


class Blueprint:
    """Shapes of the networks along some axes of a network.

    Args:
        model: The network.
        axes: The axes.
    """

    def __init__(self, model: nn.Module, axes: Sequence[Axis]) -> None:
        self.axes = tuple(axes)
        self._template = copy.deepcopy(model).to("meta")
        tensors: Iterable[tuple[str, Tensor]] = (*model.named_parameters(), *model.named_buffers())
        self._shapes = {name: tensor.shape for name, tensor in tensors}
        self._skeletons: dict[Architecture, nn.Module] = {}

    def skeleton(self, architecture: Architecture) -> nn.Module:
        """Return what `new_skeleton` builds, from among the last ones where it is there."""
        network = self._skeletons.pop(architecture, None)
        if network is None:
            network = self.new_skeleton(architecture)
            if len(self._skeletons) >= REMEMBERED:
                del self._skeletons[next(iter(self._skeletons))]
        self._skeletons[architecture] = network
        return network

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_skeletons": {}}

    def kept(self, architecture: Architecture, orders: Sequence[Tensor] | None = None) -> Kept:
        """Return the positions that an architecture keeps of the tensors that it does not keep whole.

        Args:
            architecture: Option of each axis.
            orders: Order of the units of each axis, the most important one first; None for that of the axes.
        """
        masks: dict[tuple[str, int], Tensor] = {}
        orders = [axis.order for axis in self.axes] if orders is None else orders
        for axis, option, order in zip(self.axes, architecture, orders, strict=True):
            gone = order[axis.counts[option] :].cpu()
            for cut in axis.cuts if len(gone) else ():
                key = cut.tensor, cut.dim
                if key not in masks:
                    masks[key] = torch.ones(self._shapes[cut.tensor][cut.dim], dtype=torch.bool)
                masks[key][cut.positions[gone].flatten()] = False
        kept: Kept = {}
        for (name, dim), mask in masks.items():
            kept.setdefault(name, []).append((dim, mask.nonzero()[:, 0]))
        return kept

    def new_skeleton(self, architecture: Architecture) -> nn.Module:
        """Build an architecture as a plain module without weights, on the meta device."""
        network = twin(self._template)
        modules = dict(network.named_modules())
        touched: dict[str, None] = {}
        for name, cuts in self.kept(architecture).items():
            path, _, key = name.rpartition(".")
            shape = list(self._shapes[name])
            for dim, positions in cuts:
                shape[dim] = len(positions)
            owner = modules[path]
            empty = torch.empty(shape, device="meta", dtype=getattr(owner, key).dtype)
            if key in owner._parameters:
                owner._parameters[key] = nn.Parameter(empty, requires_grad=getattr(owner, key).requires_grad)
            else:
                owner._buffers[key] = empty
            touched[path] = None
        replaced = {path: _adapted(modules[path]) for path in touched}
        for axis, option in zip(self.axes, architecture, strict=True):
            for path, attribute, each in axis.attributes:
                setattr(modules[path], attribute, each * axis.counts[option])
            replaced |= {axis.blocks[unit]: nn.Identity() for unit in axis.order[axis.counts[option] :] if axis.blocks}
        for path, module in replaced.items():
            if module is not modules[path]:
                parent, _, name = path.rpartition(".")
                modules[parent]._modules[name] = module
        take_strides_first(network)
        return network

    def network(self, architecture: Architecture, tensors: Mapping[str, Tensor], kept: Kept) -> nn.Module:
        """Build an architecture as a plain module with its share of the weights, each a tensor of its own.

        Args:
            architecture: Option of each axis.
            tensors: Parameters and buffers of the whole network, by name.
            kept: Positions that are kept of them.
        """
        network = self.new_skeleton(architecture)
        for path, module in network.named_modules():
            for owned in (module._parameters, module._buffers):
                for key, empty in owned.items():
                    name = f"{path}.{key}".lstrip(".")
                    if empty is None:
                        continue
                    if name not in tensors:  # normalisation that keeps no averages has lost them
                        owned[key] = None
                        continue
                    tensor = sliced(tensors[name].detach(), kept.get(name, ())).clone()
                    owned[key] = nn.Parameter(tensor, empty.requires_grad) if owned is module._parameters else tensor
        return network


def twin(network: nn.Module) -> nn.Module:
    """Copy a network without its tensors, which are replaced rather than changed: several times as fast as a deep copy.

    A network whose modules refer to others by more than their registered names is copied as a whole.
    """
    registered = set(network.modules())
    if any(_refers(value) for module in registered for key, value in vars(module).items() if key != "_modules"):
        return copy.deepcopy(network)
    copies: dict[nn.Module, nn.Module] = {}
    for module in registered:
        copies[module] = new = module.__new__(type(module))
        # The registries, of children and hooks too, are dicts of their own; all other attributes are as they were.
        new.__dict__ = {
            key: copy.copy(value) if isinstance(value, (dict, set)) else value for key, value in vars(module).items()
        }
    for new in copies.values():
        new._modules = {name: child if child is None else copies[child] for name, child in new._modules.items()}
    return copies[network]


def _refers(value: object) -> bool:
    """Tell whether an attribute is, or has in it, a module or a method of one."""
    if isinstance(value, (list, tuple, dict)):
        return any(_refers(each) for each in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, nn.Module) or isinstance(getattr(value, "__self__", None), nn.Module)


def sliced(tensor: Tensor, kept: Iterable[tuple[int, Tensor]]) -> Tensor:
    """Return what is kept of a tensor; the tensor itself where that is all."""
    for dim, positions in kept:
        tensor = tensor.index_select(dim, positions.to(tensor.device))
    return tensor


def _adapted(module: nn.Module) -> nn.Module:
    """Have a module's attributes say what shapes its tensors have, and return it, or what takes its place."""
    if isinstance(module, _ConvNd):
        old, new = module.kernel_size, tuple(module.weight.shape[2:])
        if old != new:
            assert not isinstance(module.padding, str)
            changed = zip(module.padding, old, new, module.dilation, strict=True)
            module.padding = tuple(padding - dilation * (a - b) // 2 for padding, a, b, dilation in changed)
            module._reversed_padding_repeated_twice = [p for p in reversed(module.padding) for _ in range(2)]
            module.kernel_size = new
        depthwise = module.groups > 1
        module.out_channels = len(module.weight)
        module.in_channels = module.out_channels if depthwise else module.weight.shape[1]
        module.groups = module.out_channels if depthwise else 1
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _NormBase):
        module.num_features = next(len(t) for t in (module.weight, module.running_mean) if t is not None)
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(module.weight.shape)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = len(module.weight)
        module.num_groups = module.num_groups if module.num_groups == 1 else module.num_channels
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.MultiheadAttention):
        return FewerHeads(module, module.in_proj_weight, module.in_proj_bias)
    return module
