"""Hypervolume of the front of an elastic space against that of uniform width scaling, both fine-tuned from one model.

    python benchmarks/elastic.py FOLDER [--model resnet18] [--images 3000] [--seeds 0,1]

FOLDER holds images as `train/CLASS/*` and `test/CLASS/*`. For each seed the model of torchvision is trained at 32 pixels on a
part of them. Its space (channels and blocks, and of MobileNet the kernels, too) is searched by NSGA-II for the error and the
multiplications, and members of the front are fine-tuned from the shared weights. Then networks that have one fraction of the
channels everywhere, by the same importance, are fine-tuned from the trained model, for as many epochs as a member and their
share of the search's, of which each counts three times for the three networks of its steps. Printed are multiplications and
test errors, and the hypervolumes below the whole model's multiplications and an error of 90 %.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torchvision

import paretoray as pr
from analysis.pareto import hypervolume, non_dominated
from orchestrator.data.dataset import Part
from orchestrator.spaces.elastic.space import ElasticSpace
from orchestrator.training.parts import Parts
from orchestrator.training.trainer import fit, retrain

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
KERNELS = {"mobilenet_v3_small": [3, 5], "resnet18": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", choices=KERNELS, default="resnet18")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--pretrain", type=int, default=10, help="epochs of the model")
    parser.add_argument("--epochs", type=float, default=4, help="epochs of the search")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    parser.add_argument("--tune", type=int, default=2, help="epochs of each network")
    parser.add_argument("--seeds", default="0")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in map(int, given.seeds.split(",")):
        compare(given, seed)


def compare(given: argparse.Namespace, seed: int) -> None:
    data = pr.Problem("digits-tiny", pr.data.folder(path=given.folder, size=32, limit=given.images)).data
    few = torch.from_numpy(np.random.default_rng(0).permutation(len(data.test))[: given.test])
    data = replace(data, test=Part(data.test.images[few], data.test.labels[few]))
    torch.manual_seed(seed)
    model = getattr(torchvision.models, given.model)(num_classes=len(data.classes))
    began = time.monotonic()
    fit(model, (), data, data.train, Parts(epochs=given.pretrain, batch=64, lr=0.05), seed=seed)
    print(f"{given.model}, seed {seed}: {len(data.train)} images, trained in {time.monotonic() - began:.0f} s", flush=True)
    elastic = pr.elastic(model, width=FRACTIONS, depth=[0.5, 1], kernel=KERNELS[given.model])
    problem = pr.Problem(elastic, data, ["error", "macs"])
    space = problem.space
    assert isinstance(space, ElasticSpace)
    tuning = Parts(epochs=given.tune, batch=64, lr=0.02)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = pr.search(
            problem,
            "nsga2",
            budget=pr.Budget(epochs=given.epochs, landmarks=0, finalists=0),
            training={"batch": 64, "lr": 0.02, "valid_batch": 128, "valid_images": 384, "recalibration": 2, "sandwich": 1},
            retrain=pr.Retraining(members=len(FRACTIONS), epochs=tuning.epochs, batch=tuning.batch, lr=tuning.lr),
            workers=pr.Workers(ray=False, count=1),
            seed=seed,
            out=Path(folder) / "run",
        )
        rows = result.front.dropna(subset=["test_error_percent"])
        found = rows[["test_error_percent", "macs"]].to_numpy()
    print(f"searched and fine-tuned in {time.monotonic() - began:.0f} s", flush=True)
    longer = replace(tuning, epochs=tuning.epochs + round(3 * given.epochs / len(FRACTIONS)))
    alike = np.array([uniform(space, problem, fraction, longer, seed) for fraction in FRACTIONS])
    fronts = {"elastic": found, f"uniform, {longer.epochs} epochs": alike}
    whole = space.macs(space.largest())
    for name, points in fronts.items():
        kept = points[non_dominated(points)]
        shown = ", ".join(f"{macs / 1e6:.3g} M {error:.1f} %" for error, macs in sorted(kept.tolist(), key=lambda p: p[1]))
        volume = hypervolume(kept / [90.0, whole], [1.0, 1.0])
        print(f"  {name}: hypervolume {volume:.4f}; {shown}", flush=True)


def uniform(space: ElasticSpace, problem: pr.Problem, fraction: float, parts: Parts, seed: int) -> tuple[float, float]:
    """Return test error and multiplications of a network of one fraction of the channels, fine-tuned."""
    architecture = space.uniform(fraction)
    result = retrain(space.network(architecture), architecture, problem.data, parts, seed=seed, fresh=False)
    return result["test_error_percent"], float(space.macs(architecture))


if __name__ == "__main__":
    main()
