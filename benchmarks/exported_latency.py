"""Latency of exported ONNX files in ONNX Runtime against what a device's profile predicts for their networks.

    python benchmarks/exported_latency.py [--device epyc-onnxruntime-1] [--spaces nas-bench-201,proxyless] [--networks 5]

Run it on the device itself. The networks are random ones of the space as it was profiled, with fresh weights, on which latency
does not depend. Three numbers are printed for each: what the profile predicts; the latency of the network as profiles are
measured, today; and that of the exported file. The last two are taken in turn, over several rounds, so that a machine that is
faster or slower than when it was profiled changes both alike. They are the processor time of the one thread that a pass has,
which other work on the machine hardly touches, and which is the latency on an idle one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from hw_profiles.measure import Run, in_onnxruntime, runtime_session
from hw_profiles.profile import devices, read
from orchestrator.config.spaces import make_space
from orchestrator.data.preprocessing import Preprocessing
from orchestrator.export.formats import Exporter
from orchestrator.machine import threads
from orchestrator.objectives.predicted import Prediction
from orchestrator.runs.networks import TrainedNetwork
from orchestrator.search.weights import Origin
from orchestrator.spaces.base import SearchSpace

SECONDS = 0.1
"""Least processor time of the passes of a round."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="epyc-onnxruntime-1")
    parser.add_argument("--spaces", default="nas-bench-201,proxyless")
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    profiles = {profile.space: profile for profile in read(devices()[arguments.device]) if profile.cost == "latency"}
    for name in arguments.spaces.split(","):
        profile, rows = profiles[name], []
        space = make_space(name, profile.settings, profile.image, 10)
        prediction, rng = Prediction(profile, space), np.random.default_rng(0)
        print(f"{name}, ms: predicted, as profiled (interquartile range), exported (interquartile range)")
        for _ in range(arguments.networks):
            architecture = tuple(int(rng.integers(size)) for size in space.sizes)
            with threads(1):
                low, middle, high = in_turn(prepared(space, name, architecture), arguments.rounds)
            predicted = prediction.cost(architecture)
            rows.append((predicted, *middle))
            (as_profiled, exported), (spread, own) = middle, high - low
            print(
                f"{predicted:>9.3f} {as_profiled:>9.3f} ({spread:.3f}) {exported:>9.3f} ({own:.3f})",
                space.format(architecture),
                flush=True,
            )
        predicted, as_profiled, exported = np.array(rows).T
        for what, one, other in (
            ("exported to predicted", exported, predicted),
            ("as profiled to predicted", as_profiled, predicted),
            ("exported to as profiled", exported, as_profiled),
        ):
            ratio = one / other
            scaled = ratio / np.exp(np.log(ratio).mean())
            print(
                f"{name}, {what}: ratio {ratio.mean():.3f} ({ratio.min():.3f} to {ratio.max():.3f}), mean difference "
                f"{100 * np.abs(ratio - 1).mean():.1f} %, {100 * np.abs(scaled - 1).mean():.1f} % once the mean ratio is "
                f"divided out, Spearman {spearmanr(one, other).statistic:.2f}"
            )


def prepared(space: SearchSpace, name: str, architecture: tuple[int, ...]) -> list[Run]:
    """Prepare passes of one image through a network: as profiles are measured, and through its exported file."""
    colours = space.image[0]
    preprocessing = Preprocessing(space.image, (0.5,) * colours, (0.25,) * colours)
    origin = Origin(space.format(architecture), name, {}, preprocessing, tuple(map(str, range(10))))
    network, image = space.network(architecture), torch.randn(1, *space.image)
    trained = TrainedNetwork(network, 1, {"arch": origin.arch}, origin, space, Path())
    with tempfile.TemporaryDirectory() as folder:
        written = Exporter(trained, Path(folder), [], _no_images).write("onnx")
        session = runtime_session(Path(folder, *written.files).read_bytes(), 1)
    feed = {"images": image.numpy()}
    return [in_onnxruntime(network, (image,), 1), lambda: session.run(None, feed)]


def in_turn(runs: list[Run], rounds: int) -> np.ndarray:
    """Return the quartiles of each one's medians over the rounds, in ms: (quartiles, runs)."""
    for run in runs:
        for _ in range(3):
            run()
    medians = [[1e3 * float(np.median(processor_times(run))) for run in runs] for _ in range(rounds)]
    return np.percentile(medians, [25, 50, 75], axis=0)


def processor_times(run: Run) -> list[float]:
    """Return the seconds of processor time that passes take, each in this thread alone."""
    times: list[float] = []
    while sum(times) < SECONDS:
        began = time.thread_time()
        run()
        times.append(time.thread_time() - began)
    return times


def _no_images() -> None:
    raise AssertionError("ONNX needs no images")


if __name__ == "__main__":
    main()
