"""Peak memory of a network."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_memory(network: nn.Module, example: Any, *, training: bool = False) -> int:
    """Measure the peak memory of a pass in bytes: weights, input and activations.

    On CUDA it is read from the allocator (`torch.cuda.max_memory_allocated`), without the workspace that libraries keep
    between passes. On the CPU it is the largest sum of live tensor storages, which leaves out temporary buffers within an
    operation.

    Args:
        network: The network; its mode is restored and its gradients are cleared.
        example: (batch, channels, height, width), or what else the network takes, in which torch finds the tensors.
        training: Measure a forward and a backward pass, with saved activations and gradients, instead of inference.
    """
    mode = network.training
    network.train(training)
    try:
        return _on_cuda(network, example, training) if tree_leaves(example)[0].is_cuda else _on_cpu(network, example, training)
    finally:
        network.train(mode)
        network.zero_grad(set_to_none=True)


def _pass(network: nn.Module, example: Any, training: bool) -> None:
    with torch.inference_mode(not training):
        y = network(example)
        if training:
            y.sum().backward()


def _on_cuda(network: nn.Module, example: Any, training: bool) -> int:
    _pass(network, example, training)  # workspaces that libraries allocate once do not count
    network.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    static = _held(network, example)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    _pass(network, example, training)
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated()) - before + static


def _on_cpu(network: nn.Module, example: Any, training: bool) -> int:
    with _Storages(_held(network, example)) as storages:
        _pass(network, example, training)
    return int(storages.peak)


def _held(network: nn.Module, example: Any) -> int:
    """Bytes of weights, buffers and input; storages that are shared count once."""
    tensors = [*network.parameters(), *network.buffers(), *tree_leaves(example)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


class _Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks the total size of the storages that operations create, until they are freed."""

    def __init__(self, held: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = held
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        inputs = {t.untyped_storage()._cdata for t in _tensors(args)}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known and storage._cdata not in inputs:
                self._known.add(storage._cdata)
                size = storage.nbytes()
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._dropped, storage._cdata, size)
        return result

    def _dropped(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for each in value for t in _tensors(each)]
    return []
