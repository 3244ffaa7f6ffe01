"""Streams of images: images a second beside plain DataLoaders, memory at 100,000 files, and seconds to list 1.3 million.

`python benchmarks/streaming.py FOLDER` makes synthetic JPEG files of 500x375 in FOLDER, which has to be new, and removes them
in the end. A few hundred are distinct; all others are copies, not links, which a search would read once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

import paretoray as pr
from orchestrator.data.dataset import Batches
from orchestrator.data.feed import Feed
from orchestrator.data.folders import understand
from orchestrator.evaluators.supernet import Supernet
from searchers import Mixture, Stage

SIZE, BATCH, SHARE, CLASSES = 224, 64, 0.08, 100


def photograph(rng: np.random.Generator) -> Image.Image:
    """Noise at several scales, which compresses about as photographs do."""
    layers = []
    for cells, weight in ((4, 60), (12, 40), (40, 25), (200, 12)):
        grid = rng.normal(size=(cells * 3 // 4, cells, 3)) * weight
        planes = [
            Image.fromarray(grid[..., c].astype(np.float32)).resize((500, 375), Image.Resampling.BICUBIC) for c in range(3)
        ]
        layers.append(np.stack([np.asarray(plane) for plane in planes], axis=-1))
    return Image.fromarray((sum(layers) + 128).clip(0, 255).astype(np.uint8))


def fill(root: Path, images: int, distinct: int) -> float:
    """Write the files, and return their mean size in bytes."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(distinct):
        path = root / "distinct" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(rng).save(path, quality=85)
        made.append(path.read_bytes())
    shutil.rmtree(root / "distinct")
    for c in range(CLASSES):
        (root / f"class{c:03}").mkdir()
    for i in range(images):
        (root / f"class{i % CLASSES:03}" / f"{i:07}.jpg").write_bytes(made[i % distinct])
    return float(np.mean([len(contents) for contents in made]))


def resident(pid: int | str = "self", key: str = "VmRSS") -> float:
    """Resident memory of a process in MB; `VmHWM` is the most so far."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1000


def own(pid: int) -> float:
    """Memory of a process in MB, of what it shares with others its part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1000


def busy(pids: Sequence[int]) -> float:
    """Seconds of processor time that processes have taken."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(f[11]) + int(f[12]) for f in fields) / os.sysconf("SC_CLK_TCK")


def plain(root: Path, decoders: int, transforms: list[Any], loader: Callable[[str], Any] | None = None) -> Iterator[Any]:
    data = ImageFolder(str(root), v2.Compose(transforms), **({} if loader is None else {"loader": loader}))
    return iter(DataLoader(data, BATCH, shuffle=True, num_workers=decoders, drop_last=True))


def ours(data: pr.Dataset, seed: int) -> Iterator[Any]:
    feed = Feed(data.train, Batches(len(data.train), BATCH, (seed,)), crop=SHARE, seed=(seed,))
    rng = np.random.default_rng(0)
    for step in range(10**9):
        images, labels = feed[step]
        yield data.augment(images, rng), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--distinct", type=int, default=300)
    parser.add_argument("--listed", type=int, default=1_300_000, help="empty files to list")
    parser.add_argument("--decoders", type=int, default=2)
    parser.add_argument("--batches", type=int, default=12, help="batches in each turn")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = arguments.folder
    root.mkdir()
    try:
        if arguments.listed:
            list_files(root / "listed", arguments.listed)
        if arguments.images:
            stream(root / "images", arguments)
    finally:
        shutil.rmtree(root)


def list_files(root: Path, count: int) -> None:
    for c in range(1000):
        (root / f"n{c:08}").mkdir(parents=True)
    for i in range(count):
        (root / f"n{i % 1000:08}" / f"n{i % 1000:08}_{i:08}.JPEG").touch()
    before, began = resident(), time.perf_counter()
    found = understand(root)
    seconds = time.perf_counter() - began
    most, after = resident(key="VmHWM") - before, resident() - before
    print(f"listing {len(found.parts['train'][0]):,} files in {len(found.classes)} folders: {seconds:.1f} s", flush=True)
    print(f"memory: {most:.0f} MB more at most, {after:.0f} MB more afterwards", flush=True)
    del found
    shutil.rmtree(root)


def stream(root: Path, arguments: argparse.Namespace) -> None:
    mean = fill(root, arguments.images, arguments.distinct)
    print(f"{arguments.images:,} files of 500x375, {mean / 1000:.0f} KB each, {arguments.distinct} distinct", flush=True)
    began, before = time.perf_counter(), resident()
    settings = {"size": SIZE, "resized_crop": SHARE, "decoders": arguments.decoders}
    data = pr.Problem("nas-bench-201", pr.data.folder(path=str(root), **settings)).data
    print(f"read in {time.perf_counter() - began:.1f} s: {data.notes['memory']}; {resident():.0f} MB resident, "
          f"{before:.0f} MB before, {resident(key='VmHWM'):.0f} MB at most", flush=True)  # fmt: skip

    crop, flip = v2.RandomResizedCrop(SIZE, scale=(SHARE, 1), antialias=True), v2.RandomHorizontalFlip()
    normal = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(data.mean, data.std)]
    fast = partial(decode_image, mode=ImageReadMode.RGB)
    made: dict[str, Callable[[], Iterator[Any]]] = {
        "Feed of paretoray, uint8": lambda: ours(data, 0),
        "ImageFolder and DataLoader, Pillow, uint8": lambda: plain(root, arguments.decoders, [crop, flip, v2.PILToTensor()]),
        "the same, normalised floats": lambda: plain(root, arguments.decoders, [crop, flip, v2.PILToTensor(), *normal]),
        "the same, torchvision's decoder, uint8": lambda: plain(root, arguments.decoders, [crop, flip], fast),
    }
    contenders = {name: started(make) for name, make in made.items()}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(arguments.turns):
        for name, (batches, pids) in contenders.items():
            for _ in range(2 * arguments.decoders + 1):  # what was decoded ahead while others had their turn
                next(batches)
            began, used = time.perf_counter(), busy(pids)
            for _ in range(arguments.batches):
                next(batches)
            images = arguments.batches * BATCH
            rates[name].append((images / (time.perf_counter() - began), images / (busy(pids) - used)))
    first = next(iter(rates.values()))
    for name, measured in rates.items():
        wall, processor = (", ".join(f"{rate[i]:.0f}" for rate in measured) for i in range(2))
        ratios = [median(a[i] / b[i] for a, b in zip(first, measured, strict=True)) for i in range(2)]
        print(f"{name}: {wall} images/s with {arguments.decoders} processes, {processor} a second of their processor time; "
              f"paretoray's over these, medians {ratios[0]:.2f} and {ratios[1]:.2f}", flush=True)  # fmt: skip
    contenders.clear()

    space = pr.Problem(pr.spaces.NasBench201(channels=4, cells=1), data).space
    supernet = Supernet(space, data, batch=64, valid_batch=256)
    supernet.build(Stage(0, tuple(tuple(range(n)) for n in space.sizes), rounds=10), 2)
    path = tuple(3 for _ in space.sizes)
    supernet.train([Mixture.one_hot(path, space.sizes)] * 2)
    supernet.measure_on_batch([path], 2)
    children = [own(child.pid) for child in active_children() if child.pid]
    print(f"a worker that has trained: {resident():.0f} MB resident, {resident(key='VmHWM'):.0f} MB at most; "
          f"{len(children)} processes that decode, {sum(children):.0f} MB together", flush=True)  # fmt: skip
    supernet.rest()


def started(make: Callable[[], Iterator[Any]]) -> tuple[Iterator[Any], list[int]]:
    """Start decoding, and return the batches with the processes that decode them."""
    before = {child.pid for child in active_children()}
    batches = make()
    next(batches)
    return batches, [child.pid for child in active_children() if child.pid and child.pid not in before]


if __name__ == "__main__":
    main()
