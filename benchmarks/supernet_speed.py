"""Time and memory of a training step of the DARTS supernet, relative to the same network written as its authors' code has it.

Batch 32, 16 channels, 8 cells, random images of CIFAR's size, random paths. The reference runs every operation by itself and
multiplies and adds the results, `none` included, in torch's usual layout and with torch's own depthwise convolutions. Both
take their steps in turn, so the ratios hold on a machine that is busy with other things. Saved MB: what the forward pass keeps
for the backward pass.

    python benchmarks/supernet_speed.py --threads 2
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from one_path import saved_bytes
from torch import Tensor, nn

from orchestrator.evaluators.supernet import _normalisation
from orchestrator.spaces.darts import Darts
from orchestrator.spaces.parts.choice import Choice, MixedNetwork, Weights
from orchestrator.spaces.parts.depthwise import DepthwiseConv2d

Rows = Sequence[Sequence[float]]


class Plain(nn.Module):
    """Choice that runs like DARTS's MixedOp; a path runs its operation alone."""

    def __init__(self, place: Choice, stride: int, mixture: bool) -> None:
        super().__init__()
        self.options, self.stride, self.mixture = place.options, stride, mixture
        self.place = [place]  # in a list, so that it is not a module of this one

    def forward(self, x: Tensor) -> Tensor:
        place = self.place[0]
        row = place.row(place.name)
        if not self.mixture:
            chosen = next(i for i, w in enumerate(row) if w)
            return self._none(x) if chosen == 0 else self.options[str(chosen)](x)
        return sum(w * (self.options[str(i)](x) if i else self._none(x)) for i, w in enumerate(row))  # type: ignore[return-value]

    def _none(self, x: Tensor) -> Tensor:
        return (x if self.stride == 1 else x[:, :, ::2, ::2]).mul(0.0)


def reference(ours: MixedNetwork, mixture: bool) -> MixedNetwork:
    """Return the same weights and modules, run the plain way."""
    for cell in ours.network.cells:  # type: ignore[union-attr]
        places = [edge for edge in cell.edges if isinstance(edge, Choice)]
        for place in places:
            stride = cell.stride if int(place.name.split("/")[1][0]) < 2 else 1
            place.forward = Plain(place, stride, mixture).forward  # type: ignore[method-assign,assignment]
    for module in ours.modules():
        if isinstance(module, DepthwiseConv2d):
            module.forward = super(DepthwiseConv2d, module).forward  # type: ignore[method-assign,assignment]
    return ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space = Darts()
    rng = np.random.default_rng(0)
    images, labels = torch.randn(arguments.batch, 3, 32, 32), torch.randint(0, 10, (arguments.batch,))
    paths = [
        [[float(o == k) for o in range(8)] for k in rng.integers(1, 8, len(space.sizes))] for _ in range(arguments.repeats + 1)
    ]
    mixtures = [[rng.dirichlet(np.ones(8)).tolist() for _ in space.sizes] for _ in range(arguments.repeats + 1)]

    def supernet() -> MixedNetwork:
        torch.manual_seed(0)
        network = space.supernet(0, [range(size) for size in space.sizes])
        _normalisation(network, affine=False, tracked=False)
        return network

    print(f"{'step':<10}{'ours MB':>10}{'plain MB':>10}{'ratio':>8}{'ours s':>10}{'plain s':>10}{'ratio':>8}   per step")
    medians = {}
    for title, rows in (("one path", paths), ("mixture", mixtures)):
        nets = {
            "ours": (supernet().to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)),
            "plain": (reference(supernet(), title == "mixture"), images),
        }

        def loss(name: str, weights: Rows, nets: dict[str, tuple[MixedNetwork, Tensor]] = nets) -> Tensor:
            network, x = nets[name]
            return nn.functional.cross_entropy(network(x, Weights(weights)), labels)

        with torch.no_grad():
            difference = abs(float(loss("ours", rows[0])) - float(loss("plain", rows[0])))
        assert difference < 1e-3, "the two are not the same network"
        saved = {name: saved_bytes(_bound(loss, name, rows[0]), nets[name][0]) / 1e6 for name in nets}
        optimizers = {name: torch.optim.SGD(net.parameters(), 0.025, 0.9, weight_decay=3e-4) for name, (net, _) in nets.items()}
        seconds: dict[str, list[float]] = {name: [] for name in nets}
        for repeat, weights in enumerate(rows):
            for name, (network, _) in nets.items():
                began = time.perf_counter()
                optimizers[name].zero_grad(set_to_none=True)
                loss(name, weights).backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimizers[name].step()
                if repeat:  # the first pass allocates
                    seconds[name].append(time.perf_counter() - began)
        ratios = [a / b for a, b in zip(seconds["ours"], seconds["plain"], strict=True)]
        ours, plain = medians[title] = [statistics.median(seconds[name]) for name in ("ours", "plain")]
        memory = f"{saved['ours']:>10.0f}{saved['plain']:>10.0f}{saved['ours'] / saved['plain']:>8.2f}"
        print(f"{title:<10}{memory}{ours:>10.2f}{plain:>10.2f}{statistics.median(ratios):>8.2f}   ", end="")
        print(", ".join(f"{ratio:.2f}" for ratio in ratios), flush=True)
    print(f"mixture over one path: ours {medians['mixture'][0] / medians['one path'][0]:.1f}, "
          f"plain {medians['mixture'][1] / medians['one path'][1]:.1f}")  # fmt: skip


def _bound(loss: Callable[[str, Rows], Tensor], name: str, weights: Rows) -> Callable[[], Tensor]:
    return lambda: loss(name, weights)


if __name__ == "__main__":
    main()
