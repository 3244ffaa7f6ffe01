"""The judge's own process against BoTorch's, on the records of a finished search over NAS-Bench-201.

    python benchmarks/judge_models.py RUN TABLE [--column cifar10_val_accuracy] [--measurements 800]

RUN is a run directory whose search trained networks alone, TABLE the file of NAS-Bench-201's networks. BoTorch is installed
with pip install botorch. Each model is fitted to the same measurements and predicts all different cells. Printed are tau with
the table, tau within levels of equal parameters, tau among the better half, the hypervolume of the best cell of each level, and
the seconds of processor time of fitting and predicting, with one thread.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP, SingleTaskMultiFidelityGP
from botorch.models.transforms.outcome import Standardize
from gpytorch.mlls import ExactMarginalLogLikelihood
from scipy.stats import kendalltau

from analysis import records
from analysis.pareto import relative_hypervolume
from analysis.trust import cost_levels, tau_within
from orchestrator.config.plan import SearchPlan
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.judge.belief import Observation, believe
from orchestrator.judge.selection import best_of_levels
from orchestrator.runs.directory import open_run
from searchers.parts.gaussian_process import Encoding

Predict = Callable[[], np.ndarray]


def observations(plan: SearchPlan, rows: pd.DataFrame) -> list[Observation]:
    """Read rows of evaluations.csv, which are in the order of their steps."""
    first, last = rows["step"].min(), rows["step"].max()
    return [
        Observation(
            plan.problem.space.parse(row["arch"]),
            row["error_percent"],
            256 if row["kind"] == records.SAMPLE else 5000,
            row["step"] if row["kind"] == records.SAMPLE else -1,
            (row["step"] - first) / max(1, last - first),
        )
        for _, row in rows.iterrows()
    ]


def predict_in_parts(model: SingleTaskGP, points: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.cat([model.posterior(part).mean[:, 0] for part in points.split(1000)]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--column", default="cifar10_val_accuracy")
    parser.add_argument("--measurements", type=int, default=800)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = SearchPlan.of(open_run(arguments.run))
    space = plan.problem.space
    table = TabularBenchmark.read(arguments.table, space, [arguments.column, "params"])
    cells = list({space.canonical(a): a for a in itertools.product(*map(range, space.sizes))}.values())
    true = np.array([table.costs[a] for a in cells])
    levels = cost_levels(true[:, 1])
    rows = pd.read_csv(arguments.run / records.EVALUATIONS)
    samples = rows[rows["kind"] == records.SAMPLE]
    spread = samples.iloc[np.linspace(0, len(samples) - 1, min(arguments.measurements, len(samples))).astype(int)]
    shared = observations(plan, spread)
    alone = observations(plan, rows[rows["kind"].isin([records.LANDMARK, records.FINALIST])])
    encoding = Encoding(space.sizes, space.path_encoding)
    features = encoding(cells)
    print(f"{len(shared)} measurements by shared weights, {len(alone)} of networks trained alone; {len(cells)} cells predicted")

    def ours(*sources: list[Observation]) -> Predict:
        *_, belief = believe(encoding, sources)
        return lambda: belief(cells)[0]

    def botorch(columns: slice, *sources: list[Observation]) -> Predict:
        """Fit BoTorch's process to one source, or its multi-fidelity process to two, on features scaled to 0..1."""
        low, width = features.min(axis=0), np.maximum(np.ptp(features, axis=0), 1e-9)

        def scaled(values: np.ndarray, fidelity: float) -> torch.Tensor:
            found = ((values - low) / width)[:, columns]
            return torch.from_numpy(np.column_stack([found, np.full(len(found), fidelity)][: len(sources)]))

        x = torch.cat([scaled(encoding([o.architecture for o in source]), i) for i, source in enumerate(sources)])
        y = [torch.tensor([o.error for o in source], dtype=torch.float64) for source in sources]
        z = torch.cat([(values - values.mean()) / values.std() for values in y])[:, None]
        if len(sources) == 1:
            model = SingleTaskGP(x, z, outcome_transform=Standardize(1))
        else:
            model = SingleTaskMultiFidelityGP(x, z, data_fidelities=[x.shape[1] - 1])
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return lambda: predict_in_parts(model, scaled(features, len(sources) - 1))

    choices, counts = slice(encoding.one_hot), slice(encoding.own)
    models: dict[str, Callable[[], Predict]] = {
        "ours, shared weights": lambda: ours(shared),
        "ours, both": lambda: ours(shared, alone),
        "ours, alone": lambda: ours(alone),
        "BoTorch, choices, shared weights": lambda: botorch(choices, shared),
        "BoTorch, choices and counts, shared weights": lambda: botorch(counts, shared),
        "BoTorch, all features, shared weights": lambda: botorch(slice(None), shared),
        "BoTorch, choices and counts, alone": lambda: botorch(counts, alone),
        "BoTorch, choices and counts, both": lambda: botorch(counts, shared[::4], alone),
    }
    for name, fit in models.items():
        began = time.process_time()
        predict = fit()
        fitted = time.process_time()
        mean = predict()
        ended = time.process_time()
        better = true[:, 0] <= np.median(true[:, 0])
        best = best_of_levels(mean, true[:, 1:], len(set(levels)))
        within = tau_within(mean, true[:, 0], levels).value
        print(
            f"{name:<44} tau {kendalltau(mean, true[:, 0]).statistic:.2f}, within {within:.2f}, "
            f"better half {kendalltau(mean[better], true[better, 0]).statistic:.2f}, best of levels "
            f"{relative_hypervolume(true[best], table.front()):.3f}, {fitted - began:.1f} + {ended - fitted:.1f} s"
        )


if __name__ == "__main__":
    main()
