"""The most memory that a network holds while it runs."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def peak_memory(network: nn.Module, example: Tensor, *, training: bool = False) -> int:
    """Bytes held at most during a pass over `example`, (batch, channels, height, width): weights, input and activations.

    training: a forward and a backward pass, with what is kept for it and the gradients; else inference. On CUDA it is what the
    allocator measures (`torch.cuda.max_memory_allocated`, without the workspace that libraries keep between passes); on the CPU
    the sum of all live tensor storages, as operations make and drop them, which leaves out what an operation takes and returns
    within itself.
    """
    mode = network.training
    network.train(training)
    try:
        return _on_cuda(network, example, training) if example.is_cuda else _on_cpu(network, example, training)
    finally:
        network.train(mode)
        network.zero_grad(set_to_none=True)


def _pass(network: nn.Module, example: Tensor, training: bool) -> None:
    with torch.inference_mode(not training):
        y = network(example)
        if training:
            y.sum().backward()


def _on_cuda(network: nn.Module, example: Tensor, training: bool) -> int:
    _pass(network, example, training)  # what libraries set up once is not the network's
    network.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    own = _held(network, example)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    _pass(network, example, training)
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated()) - before + own


def _on_cpu(network: nn.Module, example: Tensor, training: bool) -> int:
    with _Storages(_held(network, example)) as storages:
        _pass(network, example, training)
    return int(storages.peak)


def _held(network: nn.Module, example: Tensor) -> int:
    """Weights, buffers and input."""
    tensors = [*network.parameters(), *network.buffers(), example]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


class _Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations make, for as long as something holds them."""

    def __init__(self, held: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = held
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        taken = {t.untyped_storage()._cdata for t in _tensors(args)}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known and storage._cdata not in taken:
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
