"""The ranking by inherited accuracies against what networks are truly worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import records
from analysis.files import write_text
from analysis.trust import FRONT, RANDOM, TRUE, Skips, ranking_quality, statistics_of
from orchestrator.errors import InputError
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.spaces.parts.inputs import noun
from orchestrator.tasks.base import merit_title
from orchestrator.trust.weights import SharedWeights, Show
from searchers import Architecture

NETWORKS, TRAINED = 100, 8


@dataclass(frozen=True)
class Truth:
    """True values of networks.

    Args:
        title: What they are, in words.
        column: The same as a part of a column's name, with its unit.
        unit: What they count.
        higher: Whether more is better.
        values: The values, as far as they are known.
        first: Number of random networks that count; None for all. Of a later one the truth is known only if it was good enough
            for the front, and with such networks a sample is not random any more.
    """

    title: str
    column: str
    unit: str
    higher: bool
    values: dict[Architecture, float]
    first: int | None = None


def table_truth(table: TabularBenchmark, column: str, needed: Sequence[Architecture], ranked: Sequence[Architecture]) -> Truth:
    """Read true values from the table's first column.

    Raises InputError where it lacks one of the `needed`, or is the same for all `ranked`.
    """
    lacking = [a for a in needed if a not in table.costs]
    if lacking:
        raise InputError(
            f"{table.source} lacks {len(lacking)} of the {len(needed)} networks, {table.space.format(lacking[0])} among them; "
            "take a table that has every network, or leave --table out and let some be retrained"
        )
    values = {a: table.values(table.costs[a])[0] for a in needed}
    if len({values[a] for a in ranked}) < 2:
        raise InputError(f"{table.source}: {column} is the same for all {len(ranked)} networks; nothing can be ranked by it")
    return Truth(f"{column} of {table.source}", column, column, table.maximised[0], values)


def assess(
    weights: SharedWeights,
    random: Sequence[Architecture],
    front: Sequence[Architecture],
    truth: Truth,
    images: int | None,
    show: Show,
    stop: Callable[[], bool],
    scores: pd.DataFrame | None = None,
    good: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Writes trust.csv and trust.json into the run directory, and returns the former: a row for each random network and each
    member of the front, with its inherited accuracy under each statistics and what it is truly worth, if that is known.

    scores: as `SharedWeights.scores` has them, for further columns; None for none. good: what `proxies.main` found of networks
    that the search itself found good; None for nothing.

    Raises Interrupted as `SharedWeights.accuracies` does.
    """
    measured = weights.accuracies([*random, *front], images, show, stop)
    measured.insert(1, "kind", [RANDOM] * len(random) + [FRONT] * len(front))
    counted = len(random) if truth.first is None else truth.first
    true = [truth.values.get(a, np.nan) if i < counted else np.nan for i, a in enumerate(random)]
    found = measured.assign(**{f"{TRUE}_{truth.column}": true + [truth.values.get(a, np.nan) for a in front]})
    if scores is not None:
        found = found.join(scores, on="arch")
    skips = Skips.of(weights.space.skips, weights.space.none_option)
    shares = dict(zip(found["arch"], skips.shares([*random, *front]), strict=True)) if skips.skip.any() else {}
    # Networks that fail with these weights have nothing to be ranked by.
    found = found.dropna(subset=list(statistics_of(measured).values())).reset_index(drop=True)
    records.write(found, weights.directory / records.TRUST)
    inherited = merit_title(weights.data.task.metric)
    facts = {
        "truth": truth.title,
        "unit": truth.unit,
        "higher_is_better": truth.higher,
        "inherited": inherited,
        "own": weights.own,
        "statistics": weights.statistics,
        "examples": f"{noun(weights.data.image)}s",
        "images": len(weights.data.valid) if images is None else images,
        "recalibration_batches": weights.plan.experiment.training.settings["recalibration"],
        "surviving": weights.surviving,
        "seed": weights.plan.seed,
        "checkpoint": weights.checksum,
        **({} if good is None else {"good": dict(good)}),
    }
    path = weights.directory / records.RANKING_QUALITY
    write_text(path, json.dumps(facts | ranking_quality(found, weights.own, truth.higher, shares, inherited), indent=2) + "\n")
    return found
