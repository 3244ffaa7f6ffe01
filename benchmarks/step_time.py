"""Time and memory of one search step in each method, on one supernet: an architecture step and a weight step.

    python benchmarks/step_time.py [--threads 2] [--repeats 3] [--batch 32] [--device cpu] [--amp]

The DARTS space, 16 channels, 8 cells, random images of CIFAR's size. An architecture step is what the method asks of the
weights before it moves its distribution: derivatives on one validation batch (darts, nasp, proxyless-g), ten sampled networks
on one validation batch (proxyless-r, tnd-nas), one network on as many validation images as it has just trained on (ddpnas).
Every repeat runs all methods in turn, so the ratios hold on a machine that is busy with other things.

Saved MB: the most that autograd keeps at any time of the step for backward passes, each storage once, parameters left out;
beside it the same over that of a training step of the standalone network that NASP's projection is. On a GPU also the peak of
memory that torch allocated, less what it held before the step.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import paretoray as pr
from orchestrator.config.experiment import find_searcher
from orchestrator.data.dataset import Dataset, Part
from orchestrator.evaluators.supernet import Supernet
from orchestrator.objectives.parameters import Parameters
from orchestrator.spaces.darts import Darts

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "darts, second order": ("darts", {"order": 2}),
    "darts, first order": ("darts", {"order": 1}),
    "nasp": ("nasp", {}),
    "proxyless-g, two paths": ("proxyless-g", {"gates": "two", "every": 1, "warmup": 0.0}),
    "proxyless-g, all gates": ("proxyless-g", {"gates": "all", "every": 1, "warmup": 0.0}),
    "proxyless-r": ("proxyless-r", {"warmup": 0.0}),
    "ddpnas": ("ddpnas", {}),
    "tnd-nas, mixture": ("tnd-nas", {"warmup": 0.0}),
}


class Saved:
    """Counter of the bytes that autograd holds for backward passes; `peak` is the most at any time."""

    def __init__(self, parameters: set[int]) -> None:
        self.parameters, self.live, self.peak = parameters, 0, 0
        self.holders: Counter[int] = Counter()

    def measure(self, step: Callable[[], object]) -> int:
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: Held(self, tensor), lambda held: held.tensor):
            step()
        return self.peak


class Held:
    """A tensor saved for a backward pass, counted for as long as it is saved."""

    def __init__(self, saved: Saved, tensor: Tensor) -> None:
        self.tensor, self.saved = tensor, saved
        storage = tensor.untyped_storage()
        self.key, self.bytes = storage.data_ptr(), storage.nbytes()
        if self.key not in saved.parameters:
            saved.holders[self.key] += 1
            if saved.holders[self.key] == 1:
                saved.live += self.bytes
                saved.peak = max(saved.peak, saved.live)

    def __del__(self) -> None:
        if self.key not in self.saved.parameters:
            self.saved.holders[self.key] -= 1
            if not self.saved.holders[self.key]:
                self.saved.live -= self.bytes


def step(searcher: pr.Searcher, net: Supernet) -> None:
    """Take an architecture step and a weight step."""
    if isinstance(searcher, pr.GradientSearcher):
        relaxed = searcher.relax()
        assert relaxed is not None
        searcher.descend(*net.differentiate(relaxed, net.step, searcher.unrolled))
        net.train(searcher.train_on(1))
        return
    net.train(searcher.train_on(1))
    net.measure_on_batch(searcher.ask(1000), net.step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space, device, batch = Darts(channels=16, cells=8), arguments.device, arguments.batch
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8 * batch, 3, 32, 32), generator=draw, dtype=torch.uint8)
    part = Part(pixels, torch.randint(0, 10, (8 * batch,), generator=draw))
    data = Dataset(part, part, part, tuple("0123456789"), (0.5,) * 3, (0.25,) * 3, flip=True, crop=4)

    context = pr.SearchContext(space.sizes, rounds=99, steps=1000, space=space, cost_models=[Parameters(space)])
    searchers: dict[str, tuple[pr.Searcher, Supernet]] = {}
    for title, (name, settings) in METHODS.items():
        searcher = find_searcher(name).build(context, **settings)
        net = Supernet(space, data, batch=batch, valid_batch=batch, device=device, amp=arguments.amp)
        net.build(searcher.stage, 1000)
        searchers[title] = (searcher, net)

    path = pr.Mixture.one_hot(searchers["nasp"][0].ask(1)[0], space.sizes)
    one_path = searchers["nasp"][1]
    alone = space.network(searchers["nasp"][0].ask(1)[0]).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = data.normalise(part.images[:batch].to(device)), part.labels[:batch].to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(alone.parameters(), 0.025, 0.9, weight_decay=3e-4)

    def train_alone() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=arguments.amp):
            loss = nn.functional.cross_entropy(alone(images).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def saved(module: nn.Module, run: Callable[[], object]) -> float:
        gc.collect()
        return Saved({p.untyped_storage().data_ptr() for p in module.parameters()}).measure(run) / 1e6

    runs: dict[str, Callable[[], object]] = {"the network alone, weight step": train_alone}
    runs["a path of the supernet, weight step"] = lambda: one_path.train([path])
    memory = {"the network alone, weight step": saved(alone, train_alone)}
    memory["a path of the supernet, weight step"] = saved(one_path.model, runs["a path of the supernet, weight step"])
    for title, (searcher, net) in searchers.items():
        runs[title] = _bound(searcher, net)
        memory[title] = saved(net.model, runs[title])
    seconds: dict[str, list[float]] = {title: [] for title in runs}
    peaks: dict[str, float] = dict.fromkeys(runs, math.nan)
    for _ in range(arguments.repeats):
        for title, run in runs.items():
            if device != "cpu":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
            began = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
                peaks[title] = (torch.cuda.max_memory_allocated() - held) / 1e6
            seconds[title].append(time.perf_counter() - began)

    base, small = seconds["nasp"], memory["the network alone, weight step"]
    gpu = "" if device == "cpu" else f"{'GPU MB':>9}"
    print(f"{'':<38}{'seconds':>9}{'over NASP':>11}   {'(each repeat)':<24}{'saved MB':>9}{'over alone':>12}{gpu}")
    for title, spent in seconds.items():
        ratios = [a / b for a, b in zip(spent, base, strict=True)]
        each = ", ".join(f"{r:.2f}" for r in ratios[:4])
        gpu = "" if device == "cpu" else f"{peaks[title]:>9.0f}"
        print(
            f"{title:<38}{statistics.median(spent):>9.2f}{statistics.median(ratios):>11.2f}   {each:<24}{memory[title]:>9.0f}"
            f"{memory[title] / small:>12.2f}{gpu}"
        )


def _bound(searcher: pr.Searcher, net: Supernet) -> Callable[[], None]:
    return lambda: step(searcher, net)


if __name__ == "__main__":
    main()
