"""Members of a front after the search: which of them stay non-dominated once trained from scratch, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest
from scipy.stats import t as student

from analysis import pareto, records
from analysis.pareto import ROUNDING, Floats
from analysis.records import BEATEN_BY, CONFIDENCE, MEMBER, STANDING, TIED_WITH, tested, tested_by
from analysis.trust import Interval, tau

FRONT, BEATEN, OUTSIDE, UNTRAINED, FAILED = "front", "beaten", "over a limit", "not retrained", "training failed"
"""Standings: non-dominated among the networks that were trained from scratch, or not, or not to be compared."""


def table(
    front: pd.DataFrame,
    retrained: pd.DataFrame | None,
    objectives: Sequence[str],
    spreads: Mapping[str, str],
    limits: Mapping[str, float],
    failed: Collection[str] = (),
) -> pd.DataFrame:
    """Make the front anew from the members that were trained from scratch.

    Args:
        front: The search's front, as `records.read_front` returns it.
        retrained: A row for each training, as `records.read_retrained` returns it, or None.
        objectives: Names of the cost columns, the error first.
        spreads: Column of the interquartile range of each timed objective.
        limits: Upper bound of each objective that has one; that of the error counts for the test error.
        failed: Notations of members whose training from scratch failed.

    Returns:
        The rows of `front` with further columns: `tied_with` where something was timed, and after retraining `standing`,
        `beaten_by`, and the test error with its interval, images, epochs and seeds. The retrained front comes first, the lowest
        test error at its top; then the members that another one beats; then those that were not retrained, or could not be.
    """
    test = tested(objectives[0])
    trained = _tested(retrained, objectives[0])
    members = front.copy() if trained is None else front.merge(trained, on="arch", how="left")
    judged = pd.Series(False, members.index) if trained is None else members[test.value].notna()
    if spreads:
        members[TIED_WITH] = pd.array([None] * len(members), dtype="Int64")
        # Errors of different kinds do not compare.
        for rows, error in ((members[judged], test.value), (members[~judged], objectives[0])):
            if len(rows):
                noise = np.stack([rows[spreads[c]] if c in spreads else np.zeros(len(rows)) for c in objectives], axis=1)
                others = ties(rows[[error, *objectives[1:]]].to_numpy(dtype=float), noise)
                numbers = [pd.NA if other is None else rows[MEMBER].iloc[other] for other in others]
                members.loc[rows.index, TIED_WITH] = pd.array(numbers, dtype="Int64")
    lost = members["arch"].isin(failed) & ~judged
    if not judged.any() and not lost.any():
        return members
    if not judged.any():
        members[STANDING] = np.where(lost, FAILED, UNTRAINED)
        members[BEATEN_BY] = pd.array([None] * len(members), dtype="Int64")
        return members
    costs = true_costs(members[judged], objectives)
    over = pareto.violations(costs, [limits.get(c) for c in objectives]) > 0
    kept = np.flatnonzero(~over)
    best = kept[pareto.non_dominated(costs[kept])]
    standing, beaten_by = np.where(over, OUTSIDE, BEATEN).astype(object), [pd.NA] * len(costs)
    standing[best] = FRONT
    for i in set(kept) - set(best):
        beaten_by[i] = next(members.loc[judged, MEMBER].iloc[j] for j in best if (costs[j] <= costs[i]).all())
    members[STANDING] = np.where(lost, FAILED, UNTRAINED)
    members[BEATEN_BY] = pd.array([None] * len(members), dtype="Int64")
    members.loc[judged, STANDING], members.loc[judged, BEATEN_BY] = standing, pd.array(beaten_by, dtype="Int64")
    rank = members[STANDING].map({FRONT: 0, BEATEN: 1, OUTSIDE: 2, UNTRAINED: 3, FAILED: 4})
    by = members.assign(**{STANDING: rank}).sort_values([STANDING, test.value, MEMBER]).index
    afterwards = records.afterwards(objectives[0])
    first = [c for c in (MEMBER, *afterwards) if c in members]
    return members.loc[by, [*first, *members.columns.drop(first)]].reset_index(drop=True)


def of_run(front: pd.DataFrame, retrained: pd.DataFrame | None, summary: Mapping[str, Any]) -> pd.DataFrame:
    """Call `table` with what summary.json says of objectives, spreads and limits."""
    failed = summary.get(records.RETRAINING_FAILED, {})
    return table(front, retrained, list(summary["objectives"]), records.spreads_of(summary), summary["limits"], failed)


def foretold(members: pd.DataFrame, summary: Mapping[str, Any]) -> tuple[int, int] | None:
    """Count the retrained members whose test error is in the interval that was forecast for it, and those that had a forecast.

    A forecast is of the epochs that retraining was to have when the search ended, and says nothing of a longer or shorter one.

    Args:
        members: Rows as `table` returns them.
        summary: Content of summary.json.

    Returns:
        None where nothing was forecast, or nothing retrained as it was to be.
    """
    error = next(iter(summary["objectives"]))
    value, low, high = records.forecast_of(error)
    if value not in members:
        return None
    known = retrained(members).dropna(subset=value)
    if records.FORECAST_EPOCHS in summary and len(known):
        known = known[known[records.EPOCHS] == summary[records.FORECAST_EPOCHS]]
    if known.empty:
        return None
    return int(known[tested(error).value].between(known[low], known[high]).sum()), len(known)


def ties(costs: Floats, spreads: Floats) -> list[int | None]:
    """Find points that are on a front by noise alone: another one is no worse but for differences within their spreads.

    Two measurements differ by noise where their difference is below the root of the sum of their squared interquartile ranges.

    Args:
        costs: (points, objectives).
        spreads: (points, objectives), interquartile ranges of repeated timings; 0 for what is computed.

    Returns:
        For each point the index of the first such other one, or None.
    """
    size = ROUNDING * np.abs(costs).max(axis=0, initial=0.0)
    found: list[int | None] = []
    for point, spread in zip(costs, spreads, strict=True):
        noise = np.hypot(spread, spreads)
        ahead = costs - point > size  # where the point is better
        within = (ahead & (costs - point < noise)) | ~ahead
        others = np.flatnonzero(within.all(axis=1) & ahead.any(axis=1))
        found.append(int(others[0]) if len(others) else None)
    return found


def beaten(costs: Floats, noise: Floats) -> NDArray[np.bool_]:
    """Tell which points another one dominates by more than the noise of each objective.

    Args:
        costs: (points, objectives).
        noise: (points, objectives), half-widths or spreads that add in quadrature; 0 for what is computed.
    """
    gap = costs + np.hypot(noise, noise[:, None]) - costs[:, None]  # of others to a point: (points, others, objectives)
    dominated: NDArray[np.bool_] = np.all(gap <= 0, axis=2) & np.any(gap < 0, axis=2)
    return np.asarray(np.any(dominated, axis=1), dtype=np.bool_)


def true_costs(members: pd.DataFrame, objectives: Sequence[str]) -> Floats:
    """Costs of retrained members, (members, objectives), with the test error in the place of the search's."""
    return pareto.as_costs(members[[tested(objectives[0]).value, *objectives[1:]]].to_numpy())


def hypervolume(members: pd.DataFrame, summary: Mapping[str, Any]) -> float | None:
    """Hypervolume of the retrained front by its test errors, relative to the search's reference point; None without one.

    Args:
        members: Rows as `table` returns them.
        summary: Content of summary.json.
    """
    if retrained(members).empty:
        return None
    reference = summary["reference_point"]
    return pareto.hypervolume(true_costs(on_front(members), list(reference)), list(reference.values()))


def wilson(error: float, images: int) -> tuple[float, float]:
    """Wilson's interval of an error rate, in percent.

    Args:
        error: Share of the images that were classified wrongly, in percent.
        images: Number of test images.
    """
    wrong = min(images, max(0, round(error * images / 100)))
    interval = binomtest(wrong, images).proportion_ci(CONFIDENCE, method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


def _tested(retrained: pd.DataFrame | None, error: str) -> pd.DataFrame | None:
    """Combine the trainings of each architecture: the mean test error with its interval, and the deviation of several seeds."""
    if retrained is None or retrained.empty:
        return None
    rows, test = [], tested(error)
    for arch, trainings in retrained.groupby("arch", sort=False):
        errors, images = trainings[test.value].to_numpy(dtype=float), int(trainings[records.TEST_IMAGES].iloc[0])
        known = test.low in trainings and bool(trainings[[test.low, test.high]].notna().all(axis=None))
        ends = trainings[[test.low, test.high]].to_numpy(dtype=float) if known else None
        low, high = interval(errors, images, ends)
        rows.append(
            {
                "arch": arch,
                test.value: float(errors.mean()),
                test.low: low,
                test.high: high,
                test.deviation: float(errors.std(ddof=1)) if len(errors) > 1 else np.nan,
                records.TEST_IMAGES: images,
                records.EPOCHS: int(trainings[records.EPOCHS].iloc[0]),
                records.SEEDS: len(trainings),
            }
        )
    counts = (records.TEST_IMAGES, records.EPOCHS, records.SEEDS)
    found = pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64"))
    return found if found[test.deviation].notna().any() else found.drop(columns=test.deviation)


def interval(errors: Floats, images: int, ends: Floats | None = None) -> tuple[float, float]:
    """Interval of the mean test error of a network's trainings.

    Seeds share their test images, so more seeds do not narrow Wilson's interval. Student's interval of their mean comes on
    top, in quadrature.

    Args:
        errors: (trainings,), in percent, or in the unit of `ends`.
        images: Number of test images.
        ends: (trainings, 2), the ends of each one's bootstrap interval, for what is no share of the images; None for Wilson's.
    """
    mean = float(errors.mean())
    between = _of_the_mean(errors) if len(errors) > 1 else 0.0
    if ends is not None:
        below, above = np.maximum(0, [(errors - ends[:, 0]).mean(), (ends[:, 1] - errors).mean()])
        return mean - float(np.hypot(below, between)), mean + float(np.hypot(above, between))
    low, high = wilson(mean, images)
    return max(0.0, mean - float(np.hypot(mean - low, between))), min(100.0, mean + float(np.hypot(high - mean, between)))


def _of_the_mean(values: Floats) -> float:
    """Half of Student's interval of the mean."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    return float(student.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * error)


def on_front(members: pd.DataFrame) -> pd.DataFrame:
    """Rows of the retrained front; of the search's where nothing was retrained."""
    return members if retrained(members).empty else members[members[STANDING] == FRONT]


def retrained(members: pd.DataFrame) -> pd.DataFrame:
    """Rows of the members that were trained from scratch."""
    test = tested_by(members).value
    return members[members[test].notna()] if test in members else members.head(0)


def agreement(members: pd.DataFrame, error: str) -> Interval:
    """Kendall's tau of the search's error, column `error`, and the test error, over the retrained members."""
    known = retrained(members)
    return tau(known[error], known[tested(error).value] if len(known) else known[error])


def noisy(members: pd.DataFrame, summary: Mapping[str, Any]) -> list[str]:
    """Warn of timings whose interquartile range is above their value, as sentences without a full stop.

    Args:
        members: Rows as `table` returns them.
        summary: Content of summary.json.
    """
    warnings = []
    for column, spread in records.spreads_of(summary).items():
        wide = members[members[spread] > members[column]]
        if len(wide):
            name = summary["objectives"][column].partition(" (")[0]
            listed = ", ".join(
                f"{row[MEMBER]} ({row[column]:.3g} \N{PLUS-MINUS SIGN} {row[spread]:.3g})" for _, row in wide.iterrows()
            )
            warnings.append(
                f"the interquartile range of the {name} is above its value for network{'s' * (len(wide) > 1)} {listed}: "
                "something else ran on the device; time such networks on a quiet machine"
            )
    return warnings


def words(row: pd.Series) -> str:
    """Say how a member stands: "front", "beaten by 2", "front, tie with 3"; "" where there is nothing to say."""
    said = [str(row[STANDING])] if STANDING in row else []
    if STANDING in row and not pd.isna(row[BEATEN_BY]):
        said = [f"{BEATEN} by {int(row[BEATEN_BY])}"]
    if said in ([], [FRONT]) and not pd.isna(row.get(TIED_WITH)):
        said.append(f"tie with {int(row[TIED_WITH])}")
    return ", ".join(said)


def protocol(members: pd.DataFrame, summary: Mapping[str, Any]) -> str:
    """Say how the retrained members were trained and tested, as a clause.

    Args:
        members: Rows as `table` returns them.
        summary: Content of summary.json.
    """
    known = retrained(members)

    def listed(column: str, unit: str) -> str:
        values = sorted({int(value) for value in known[column]})
        return f"{' or '.join(f'{value:,}' for value in values)} {unit}{'s' * (values != [1])}"

    return (
        f"{records.trained(summary)} for {listed(records.EPOCHS, 'epoch')} with {listed(records.SEEDS, 'seed')} and tested on "
        f"{listed(records.TEST_IMAGES, 'image')}"
    )
