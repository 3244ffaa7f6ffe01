"""Results and cost of a search: front.csv and summary.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, astuple
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import members, pareto, proxies, records
from analysis.files import write_text
from orchestrator.config.plan import SearchPlan
from orchestrator.evaluators.base import Evaluator
from orchestrator.judge.judge import Verdict
from orchestrator.machine import Machine, processor
from orchestrator.search import sums
from orchestrator.search.archive import Archive
from orchestrator.search.budget import Leg, Spending
from orchestrator.search.recorder import Recorder, writing
from orchestrator.spaces.parts.inputs import noun
from searchers import Architecture


def write_results(
    directory: Path,
    plan: SearchPlan,
    recorder: Recorder,
    archive: Archive,
    spending: Spending,
    evaluator: Evaluator,
    *,
    finished: bool,
    front: Sequence[Verdict],
    derived: list[Architecture],
    machines: list[Machine],
    legs: Sequence[Leg],
) -> None:
    """Write front.csv and summary.json; neither, where nothing has been measured yet.

    Args:
        directory: The run directory.
        plan: The search.
        recorder: Its tables.
        archive: The front of its samples, and the reference point.
        spending: Account of its budget.
        evaluator: Source of its weight steps.
        finished: Whether the budget is spent.
        front: The judge's choice; empty for the non-dominated networks by their own measurements.
        derived: What the method itself returns.
        machines: Kinds of machines that took part.
        legs: Parts of the search that were planned at once, more than one where its budget was raised.

    Raises:
        RunError: Where the disk is full.
    """
    problem, columns = plan.problem, recorder.columns
    table = records.read(recorder.evaluations_path, columns)
    if table.empty:
        return
    chosen = records.numbered(front_of_search(plan, recorder, front))
    summary: dict[str, Any] = {
        "finished": finished,
        records.SHARE: spending.fraction,
        "hypervolume": pareto.hypervolume(chosen[columns].to_numpy(), archive.reference),
        "hypervolume_of_samples": archive.hypervolume,
        "judged": bool(front),
        **({records.FORECAST_EPOCHS: plan.retraining.parts.epochs} if any(v.forecast for v in front) else {}),
        "weights": "shared" if plan.shares_weights else "own",
        **({records.FINE_TUNED: True} if problem.space.pretrained else {}),
        **({"proxy": {"words": plan.proxy.words, **plan.proxy.to_dict()}} if plan.proxy else {}),
        **({"trained_alone": _trained_alone(plan, table)} if len(plan.places) > 1 else {}),
        "reference_point": dict(zip(columns, archive.reference, strict=True)),
        "objectives": {o.column: o.title for o in problem.objectives},
        "limits": {c: limit for c, limit in zip(columns, problem.limits, strict=True) if limit is not None},
        "targets": {c: g.target for c, g in zip(columns, problem.goals, strict=True) if g.target is not None},
        "spreads": {o.column: o.spread for o in problem.objectives if o.spread is not None},
        "timed_again": not records.timings(table).empty,
        "warnings": problem.warnings,
        "failed": len(records.read_failures(recorder.failures_path)),
        "derived": [problem.space.format(a) for a in derived],
        **_ranking(plan, recorder, table),
        "spent": _spent(plan, table, spending, evaluator),
        "data": images_of(plan),
        "examples": f"{noun(problem.space.image)}s",
        "seed": plan.seed,
        **({"raised_after": [{"epochs": g.epochs, "rounds": g.rounds} for g in legs[1:]]} if len(legs) > 1 else {}),
        "workers": asdict(plan.workers),
        "machines": machines,
        "hardware": {"cpu": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {name: version(name) for name in ("torch", "torchvision", "ray", "pymoo", "numpy")}
        | {"python": platform.python_version()},
    }
    with writing(directory):
        records.write(members.of_run(chosen, None, summary), directory / records.FRONT)
        write_text(directory / records.SUMMARY, json.dumps(summary, indent=2) + "\n")
        sums.note(directory, records.FRONT, records.SUMMARY)


def front_of_search(plan: SearchPlan, recorder: Recorder, front: Sequence[Verdict], *, timed: bool = True) -> pd.DataFrame:
    """Return a row of evaluations.csv per member of the front, with costs that were timed again where they were.

    Members of a judged front may be dominated in expectation, but not by more than the noise once they are timed again.

    Args:
        plan: The search.
        recorder: Its tables.
        front: The judge's choice; empty for the non-dominated networks by their own measurements.
        timed: Whether timings after the search count; otherwise costs are those from the search.
    """
    columns, spreads, limits = recorder.columns, recorder.spreads, plan.problem.limits
    table = records.read(recorder.evaluations_path, columns)
    # What could be measured once, and failed in a longer training or on the device, is not returned.
    table = table[~table["arch"].isin(records.read_failures(recorder.failures_path)["arch"])]
    if not timed:
        table = table[table["kind"] != records.TIMED]
    if not front:
        return records.front_of(table, columns, limits, spreads)
    judged = _judged(plan, table[table["kind"] != records.TIMED], front)
    if records.timings(table).empty:
        return judged
    again = records.timed_again(judged, table, [*columns[1:], *spreads])
    again = again[pareto.violations(again[columns].to_numpy(), limits) <= 0].reset_index(drop=True)
    noise = [again[o.spread] if o.spread else pd.Series(0.0, again.index) for o in plan.problem.objectives]
    noise[0] = records.margins(again, columns[0])
    beaten = members.beaten(again[columns].to_numpy(dtype=float), np.stack(noise, axis=1))
    return again[~beaten].reset_index(drop=True)


def _judged(plan: SearchPlan, table: pd.DataFrame, front: Sequence[Verdict]) -> pd.DataFrame:
    """Return the judge's members, each with the last of its own measurements, its mean and the number of them."""
    error, *costs = plan.problem.columns
    space, rows = plan.problem.space, []
    for verdict in front:
        name = space.format(verdict.architecture)
        same = table[table["arch"].isin([space.format(a) for a in verdict.notations])]
        own = same[same["kind"] != records.SAMPLE]
        if len(plan.places) > 1:
            order = own["proxy"].map([str(place) for place in plan.places].index)
            own = own[order == order.max()]
        last = own.iloc[-1]
        judged = dict(zip([error, *costs], verdict.costs, strict=True))
        measured = float(own[(own["kind"] == last["kind"]) & (own["stage"] == last["stage"])][error].mean())
        rows.append({
            **last, "arch": name, **judged, records.deviation_of(error): verdict.deviation,
            records.measured_of(error): measured, records.MEASUREMENTS: len(same),
            **(dict(zip(records.forecast_of(error), astuple(verdict.forecast), strict=True)) if verdict.forecast else {}),
        })  # fmt: skip
    return pd.DataFrame(rows).astype({c: table[c].dtype for c in costs if c in records.COUNTS})


def _ranking(plan: SearchPlan, recorder: Recorder, table: pd.DataFrame) -> dict[str, Any]:
    """Say how each source of the search orders the networks that it picked, by the most faithful one; empty without any."""
    timed = {o.column for o in plan.problem.objectives if o.spread}
    costs = [column for column in recorder.columns[1:] if column not in timed]
    truth, judged = proxies.of_search(table, recorder.columns[0], costs[0]) if costs else ("", [])
    if not judged:
        return {}
    sources = [{key: value for key, value in proxies.plain(j).items() if key != "seconds"} for j in judged]
    return {"ranking": {"truth": truth, "levels_of": costs[0], "sources": sources}}


def _trained_alone(plan: SearchPlan, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the networks that were trained alone at each place, and say what one costs there in passes of the search."""
    found = []
    for source in plan.alone.sources:
        kinds = table.loc[table["proxy"] == str(plan.places[source.place]), "kind"].value_counts()
        counts = {f"{kind}s": int(kinds.get(kind, 0)) for kind in (records.LANDMARK, records.FINALIST)}
        place = plan.places[source.place]
        found.append({"proxy": str(place), "words": place.words, "epochs": source.epochs, "cost": source.cost, **counts})
    return found


def images_of(plan: SearchPlan) -> dict[str, int]:
    """Count the images of each part that the search sees, those of the final test, and those of a batch."""
    data, test = plan.trained.data, plan.problem.data.test
    return {"train": len(data.train), "valid": len(data.valid), "test": len(test), "batch": plan.schedule.batch}


def images_trained_on(plan: SearchPlan, spending: Spending, evaluator: Evaluator) -> int:
    """Count the images that weights were trained on, each as often as it was, by each network that a step trains."""
    return evaluator.step * plan.schedule.batch * plan.networks_per_step + spending.images_alone


def _spent(plan: SearchPlan, table: pd.DataFrame, spending: Spending, evaluator: Evaluator) -> dict[str, Any]:
    images, kinds = images_of(plan), table["kind"].value_counts()
    on_batches = int(kinds.get(records.SAMPLE, 0)) + evaluator.asked
    on_all = int(sum(kinds.get(k, 0) for k in (records.VALIDATION, records.LANDMARK, records.FINALIST))) * plan.schedule.passes
    settings = plan.experiment.training.settings
    batch = min(settings.get("valid_batch", 0), images["valid"])
    judged = min(settings.get("valid_images", images["valid"]), images["valid"])
    return {
        "rounds": spending.rounds,
        "weight_steps": evaluator.step,
        "weight_steps_skipped": evaluator.skipped_steps(),
        "images_trained_on": images_trained_on(plan, spending, evaluator),
        "images_judged_on": batch * on_batches + judged * on_all,
        "evaluations": spending.evaluations,
        "architectures": int(table["arch"].nunique()),
        "seconds": round(spending.seconds, 2),
        "seconds_validating": round(spending.validating, 2),
        "seconds_timing": round(spending.timing, 2),
    }
