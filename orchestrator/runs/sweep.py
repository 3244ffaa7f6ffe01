"""Several searches that differ in some settings, in parallel as one Tune grid, and their merged front.

A sweep's directory is itself a run directory with the merged results. In it, `searches/` has a run directory for each search,
and `sweep.toml` the settings in which they differ. So the same commands report on it and resume it.
"""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w

from analysis import members, pareto, records
from analysis.files import write_text
from orchestrator.config.experiment import Experiment
from orchestrator.config.overrides import read
from orchestrator.config.settings import Sweep
from orchestrator.errors import InputError
from orchestrator.machine import unique
from orchestrator.registry import similar
from orchestrator.runs.directory import create as create_run
from orchestrator.runs.halving import Halving
from orchestrator.search import sums

SWEEP = "sweep.toml"
MOST = 1000
"""Searches of a sweep, at most: each is a trial of one Tune grid."""
_VARIED = ("searcher", "training", "budget", "seed")


Search = tuple[dict[str, Any], Experiment]
"""Settings that a search of a sweep has of its own, and its whole experiment."""


def plan(path: Path | None, overrides: Sequence[str], varied: Sequence[str], seeds: int) -> list[Search]:
    """List the searches of a sweep: every combination of the varied settings, under each seed.

    Args:
        path: The experiment's file; None for the built-in one.
        overrides: Settings of all searches, as `section.key=value`.
        varied: `section.key=value,value,...` strings.
        seeds: Number of seeds.

    Raises:
        InputError: For what cannot be varied or merged.
    """
    if seeds < 1:
        raise InputError(f"--seeds {seeds}; at least 1 is needed")
    axes = [_axis(text) for text in varied]
    keys = [key for key, _ in axes]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise InputError(f"--sweep {repeated.pop()} is given twice; write its values in one, separated by commas")
    experiment = read(path, overrides)
    first = experiment.seed
    if seeds > 1:
        if "seed" in keys:
            raise InputError("--sweep seed=... and --seeds say the same; leave one out")
        if seeds > MOST:
            raise InputError(f"--seeds {seeds}; at most {MOST:,} searches make a sweep")
        axes.append(("seed", [first + i for i in range(seeds)]))
    if (count := math.prod(len(options) for _, options in axes)) > MOST:
        raise InputError(f"--sweep and --seeds ask for {count:,} searches; at most {MOST:,} make a sweep")
    if experiment.sweep.halving is not None:
        _check_halving(experiment, keys, count)
    found = []
    for values in itertools.product(*(options for _, options in axes)):
        settings = dict(zip((key for key, _ in axes), values, strict=True))
        found.append((settings, read(path, [*overrides, *(f"{key}={_written(value)}" for key, value in settings.items())])))
    return found


def _check_halving(experiment: Experiment, keys: Sequence[str], count: int) -> None:
    """Raise InputError where searches cannot be halved: there is only one, or they would not be compared at equal cost."""
    halving = f"sweep.halving = {experiment.sweep.halving}"
    if count == 1:
        raise InputError(f"{halving} compares the searches of a sweep, and this is one; add --seeds 9, say, or leave it out")
    if unequal := [key for key in keys if key.partition(".")[0] == "budget"]:
        raise InputError(
            f"{halving} compares searches that have spent as much as each other, and --sweep {unequal[0]} gives them "
            "budgets of their own; leave one of the two out"
        )


def _axis(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not equals or not key or not values:
        raise InputError(f"--sweep {text!r} is not of the form section.key=value,value,..., as in searcher.power=0.03,0.1,0.3")
    if key.partition(".")[0] not in _VARIED:
        raise InputError(
            f"--sweep {key}: searches whose fronts are merged must agree in their data, space, objectives and workers; what "
            f"may differ is {', '.join(_VARIED)}{similar(key.partition('.')[0], _VARIED)}"
        )
    try:
        options = tomllib.loads(f"values = [{values}]")["values"]
    except tomllib.TOMLDecodeError:
        options = [value.strip() for value in values.split(",")]
    return key, list(options)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else tomli_w.dumps({"v": value}).removeprefix("v = ").strip().replace("\n", "")


def folders(directory: Path) -> list[Path]:
    """List the run directories of a sweep's searches, in their order."""
    return sorted((directory / "searches").iterdir(), key=lambda path: int(path.name.partition("-")[0]))


def create(directory: Path, searches: Sequence[Search]) -> None:
    """Make the directory of a sweep, as a whole or not at all."""

    def lay_out() -> None:
        for index, (settings, experiment) in enumerate(searches):
            name = "-".join(str(value) for value in settings.values())
            clean = "".join(c if c.isalnum() or c in "-._" else "_" for c in name)[:60]
            create_run(experiment, directory / "searches" / f"{index}-{clean}")
        write_text(directory / SWEEP, tomli_w.dumps({"searches": [settings for settings, _ in searches]}))

    create_run(searches[0][1], directory, lay_out)


def settings_of(directory: Path) -> list[dict[str, Any]]:
    """Read how the searches of a sweep differ; an empty list for any other run. Raises InputError."""
    path = directory / SWEEP
    if not path.exists():
        return []
    try:
        return list(tomllib.loads(path.read_text())["searches"])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def merge(directory: Path) -> None:
    """Write what all searches found as if one search had found it: evaluations.csv, front.csv, summary.json.

    The front is the non-dominated set of the searches' fronts. Each search has weights of its own, so errors of different
    searches are comparable only as far as these are equally good; training from scratch decides.
    """
    parts = [(i, folder) for i, folder in enumerate(folders(directory)) if (folder / records.SUMMARY).exists()]
    if not parts:
        return
    summaries = [json.loads((folder / records.SUMMARY).read_text()) for _, folder in parts]
    columns = list(summaries[0]["objectives"])

    def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        tables = [table.assign(search=i) for (i, _), table in zip(parts, tables, strict=True)]
        return pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True)

    evaluations = together([records.read(folder / records.EVALUATIONS, [*columns, "arch"]) for _, folder in parts])
    found = [records.read_front(folder / records.FRONT, columns) for _, folder in parts]
    fronts = together(found)
    front = fronts.iloc[pareto.non_dominated(fronts[columns].to_numpy())]
    front = records.numbered(front.drop_duplicates(columns).sort_values(columns))
    reference = np.max([[s["reference_point"][c] for c in columns] for s in summaries], axis=0)
    differ = settings_of(directory)
    spent = {key: sum(s["spent"].get(key, 0) for s in summaries) for key in summaries[0]["spent"]}
    halving = Halving(directory, Sweep())
    left_out = halving.stopped
    failures = together([records.read_failures(folder / records.FAILURES) for _, folder in parts])
    merged = summaries[0] | {
        "finished": len(parts) == len(differ) and all(s["finished"] for s in summaries),
        records.SHARE: sum(s.get(records.SHARE, 0.0) for s in summaries) / max(1, len(differ)),
        "hypervolume": pareto.hypervolume(front[columns].to_numpy(), reference.tolist()),
        "hypervolume_of_samples": max(s["hypervolume_of_samples"] for s in summaries),
        "reference_point": dict(zip(columns, reference.tolist(), strict=True)),
        "derived": [],
        "failed": sum(s.get("failed", 0) for s in summaries),
        "timed_again": all(s.get("timed_again", False) for s in summaries),
        "machines": unique(m for s in summaries for m in s.get("machines", [])),
        "spent": spent | {"architectures": int(evaluations["arch"].nunique())},
        **({"halving": [compared.words for compared in halving.comparisons]} if halving.comparisons else {}),
        "searches": [
            {
                "settings": differ[i],
                "folder": folder.name,
                "hypervolume": pareto.hypervolume(own[columns].to_numpy(), reference.tolist()),
                "on_merged_front": int((front["search"] == i).sum()),
                "evaluations": s["spent"]["evaluations"],
                "seconds": s["spent"]["seconds"],
                **({"stopped": left_out[folder.name].why(folder.name)} if folder.name in left_out else {}),
            }
            for (i, folder), own, s in zip(parts, found, summaries, strict=True)
        ],
    }
    if len(failures):
        records.write(failures, directory / records.FAILURES)
    records.write(evaluations, directory / records.EVALUATIONS)
    records.write(members.of_run(front, None, merged), directory / records.FRONT)
    write_text(directory / records.SUMMARY, json.dumps(merged, indent=2) + "\n")
    sums.note(directory, records.EVALUATIONS, records.FRONT, records.SUMMARY)
