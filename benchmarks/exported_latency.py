"""Latency of exported ONNX files in ONNX Runtime against what a device's profile predicts for their networks.

    python benchmarks/exported_latency.py [--device epyc-onnxruntime-1] [--spaces nas-bench-201,proxyless] [--networks 5]

Run it on the device itself. The networks are random ones of the space as it was profiled, with fresh weights, on which latency
does not depend.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from hw_profiles.profile import devices, read
from orchestrator.config.spaces import make_space
from orchestrator.data.preprocessing import Preprocessing
from orchestrator.export.formats import Exporter
from orchestrator.machine import threads
from orchestrator.objectives.predicted import Prediction
from orchestrator.runs.networks import TrainedNetwork
from orchestrator.search.weights import Origin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="epyc-onnxruntime-1")
    parser.add_argument("--spaces", default="nas-bench-201,proxyless")
    parser.add_argument("--networks", type=int, default=5)
    arguments = parser.parse_args()
    profiles = {profile.space: profile for profile in read(devices()[arguments.device]) if profile.cost == "latency"}
    for name in arguments.spaces.split(","):
        profile, errors = profiles[name], []
        space = make_space(name, profile.settings, profile.image, 10)
        prediction, rng = Prediction(profile, space), np.random.default_rng(0)
        print(f"{name}: predicted ms, measured ms (interquartile range)")
        for _ in range(arguments.networks):
            architecture = tuple(int(rng.integers(size)) for size in space.sizes)
            colours = space.image[0]
            prepared = Preprocessing(space.image, (0.5,) * colours, (0.25,) * colours)
            origin = Origin(space.format(architecture), name, {}, prepared, tuple(map(str, range(10))))
            network = TrainedNetwork(space.network(architecture), 1, {"arch": origin.arch}, origin, space, Path())
            with tempfile.TemporaryDirectory() as folder, threads(1):
                facts = Exporter(network, Path(folder), [], _no_images).write("onnx").facts
            predicted = prediction.cost(architecture)
            errors.append(abs(facts["latency_ms"] / predicted - 1))
            measured = f"{facts['latency_ms']:>9.3f} ({facts['latency_iqr_ms']:.3f})"
            print(f"{predicted:>9.3f} {measured}  {origin.arch}", flush=True)
        print(f"{name}: mean difference {100 * float(np.mean(errors)):.1f} %")


def _no_images() -> None:
    raise AssertionError("ONNX needs no images")


if __name__ == "__main__":
    main()
