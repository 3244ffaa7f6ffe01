"""Activation memory and time of training one path of a supernet, relative to the same network alone.

    python benchmarks/one_path.py [--repeats 7] [--threads 1]

Both take the same training step (forward, cross-entropy, backward, SGD with momentum) on the same random images, in turn, so
that a drifting machine meets both. Bytes are those of all tensors that autograd keeps for the backward pass
(torch.autograd.graph.saved_tensors_hooks), each storage once, parameters left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.spaces.nas_bench_201 import NasBench201
from orchestrator.spaces.parts.choice import Weights
from searchers import Mixture


def saved_bytes(forward: Callable[[], Tensor], module: nn.Module) -> int:
    """Count the bytes that autograd keeps for the backward pass, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward()  # held, so that no storage is freed and its address used again
    del loss
    return sum(sizes.values())


def loss_of(network: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(network(x), y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--architectures", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{'space':<34}{'architecture':<14}{'saved MB':>10}{'ratio':>8}{'step ms':>10}{'ratio':>8}")
    rng = np.random.default_rng(0)
    for title, space, batch in (
        ("C=16, 1 cell, 32x32, batch 32", NasBench201(cells=1, supernet_cells=[1]), 32),
        ("C=16, 5 cells, 32x32, batch 16", NasBench201(supernet_cells=[5]), 16),
    ):
        x, y = torch.randn(batch, *space.image), torch.randint(0, space.classes, (batch,))
        supernet = space.supernet(0, [list(range(5))] * 6)
        architectures = [(3,) * 6, *(tuple(row) for row in rng.integers(1, 5, (arguments.architectures - 1, 6)).tolist())]
        for architecture in architectures:
            weights = Weights(Mixture.one_hot(architecture, space.sizes).weights)
            modules = {"path": supernet, "alone": space.network(architecture)}
            forwards = {
                "path": partial(loss_of, partial(supernet, weights=weights), x, y),
                "alone": partial(loss_of, modules["alone"], x, y),
            }
            saved = {name: saved_bytes(forward, modules[name]) for name, forward in forwards.items()}
            optimizers = {name: torch.optim.SGD(m.parameters(), 0.01, 0.9) for name, m in modules.items()}
            seconds: dict[str, list[float]] = {"path": [], "alone": []}
            for repeat in range(arguments.repeats + 1):
                for name, forward in forwards.items():
                    began = time.perf_counter()
                    optimizers[name].zero_grad(set_to_none=True)
                    forward().backward()  # type: ignore[no-untyped-call]
                    optimizers[name].step()
                    if repeat:  # the first pass allocates
                        seconds[name].append(time.perf_counter() - began)
            ratio = statistics.median(a / b for a, b in zip(seconds["path"], seconds["alone"], strict=True))
            print(
                f"{title:<34}{''.join(map(str, architecture)):<14}{saved['path'] / 1e6:>10.2f}"
                f"{saved['path'] / saved['alone']:>8.3f}"
                f"{1e3 * statistics.median(seconds['path']):>10.1f}{ratio:>8.3f}"
            )


if __name__ == "__main__":
    main()
