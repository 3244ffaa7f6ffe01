"""Trained network whose smaller networks run with slices of its weights: the supernet of an elastic space."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from orchestrator.spaces.elastic.blueprint import Blueprint, sliced
from orchestrator.spaces.parts.choice import Decided
from searchers.base import Architecture

_AVERAGES = ("running_mean", "running_var", "num_batches_tracked")


class ElasticNetwork(Decided):
    """Network that runs as any of its smaller networks.

    The order in which units go is kept with the weights, so that whoever loads them slices them alike.

    Args:
        model: The trained network; its weights are copied.
        blueprint: Its axes.
    """

    def __init__(self, model: nn.Module, blueprint: Blueprint) -> None:
        super().__init__({axis.name: axis.labels for axis in blueprint.axes})
        self.model, self.blueprint = copy.deepcopy(model), blueprint
        for number, axis in enumerate(blueprint.axes):
            self.register_buffer(f"order_{number}", axis.order.clone())

    def __deepcopy__(self, memo: dict[int, Any]) -> ElasticNetwork:
        copied = ElasticNetwork(self.model, self.blueprint)
        copied.load_state_dict(self.state_dict())
        copied.index = dict(self.index)
        return copied.to(next(self.model.parameters()).device)

    @property
    def orders(self) -> list[Tensor]:
        """Units of each axis, the most important one first."""
        return [getattr(self, f"order_{number}") for number in range(len(self.blueprint.axes))]

    def forward(self, x: Tensor) -> Any:
        """Run the one network that the weights stand for.

        Raises:
            ValueError: For a mixture of several.
        """
        rows = [self.row(name) for name in self.decisions]
        if any(isinstance(w, Tensor) or w not in (0, 1) for row in rows for w in row) or any(sum(row) != 1 for row in rows):
            raise ValueError(
                "networks of an elastic space have other shapes each, so that they run one at a time, not as a mixture; take a "
                "searcher that samples networks, such as random-search"
            )
        return self._run(tuple(list(row).index(1) for row in rows), x)

    def _run(self, architecture: Architecture, x: Tensor) -> Any:
        network = self.blueprint.skeleton(architecture)
        self._agree(network)
        kept = self.blueprint.kept(architecture, self.orders)
        whole = self._tensors()
        names = [name for name, _ in (*network.named_parameters(), *network.named_buffers())]
        tensors = {name: sliced(whole[name], kept.get(name, ())) for name in names}
        output = functional_call(network, tensors, (x,))
        if self._averaging:
            with torch.no_grad():  # averages of slices, which are copies
                for name, _ in network.named_buffers():
                    for dim, positions in kept.get(name, ()):
                        whole[name].index_copy_(dim, positions.to(x.device), tensors[name])
        return output

    @property
    def _averaging(self) -> bool:
        return any(module.training for module in self.model.modules() if isinstance(module, _BatchNorm))

    def _tensors(self) -> dict[str, Tensor]:
        return dict((*self.model.named_parameters(), *self.model.named_buffers()))

    def _agree(self, network: nn.Module) -> None:
        """Have a skeleton train or evaluate, and average, as the modules of this network do now."""
        network.train(self.training)
        ours = dict(self.model.named_modules())
        for path, module in network.named_modules():
            if not isinstance(module, _BatchNorm):
                continue
            norm = ours[path]
            assert isinstance(norm, _BatchNorm)
            module.training, module.momentum = norm.training, norm.momentum
            module.track_running_stats = norm.track_running_stats
            for key in _AVERAGES:
                held = norm._buffers[key]
                if held is None or module._buffers[key] is None:
                    module._buffers[key] = None if held is None else torch.empty((), device="meta")

    def select(self, architecture: Architecture) -> nn.Module:
        """Return an architecture as a plain network with its share of the weights."""
        own = tuple(architecture[self.index[name]] for name in self.decisions)
        network = self.blueprint.network(own, self._tensors(), self.blueprint.kept(own, self.orders))
        return network.train(self.training)
