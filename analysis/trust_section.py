"""Section of a report on the quality of shared weights: numbers, the meaning of each, and plots."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis import plots
from analysis.front_table import name_of
from analysis.plots import Picture
from analysis.proxies import judged_of, picture, shown
from analysis.records import mean_of_seeds, samples_of, tested_by, training
from analysis.trust import (
    ACCURACY,
    ALL,
    BETTER,
    ENOUGH,
    FRONT,
    RANDOM,
    WITHIN,
    Interval,
    Skips,
    repeated,
    statistics_of,
    tau,
    true_of,
)


@dataclass(frozen=True)
class Finding:
    """A number and its meaning, in the order in which they are unpacked.

    Args:
        name: What it is.
        value: The number, with its interval; several lines where there are several.
        meaning: What it says.
        telling: Whether it says anything; a report only names the others.
    """

    name: str
    value: str
    meaning: str
    telling: bool = True

    def __iter__(self) -> Iterator[str]:
        return iter((self.name, self.value, self.meaning))


COLLAPSED = 0.5
"""Share of skips from which a report warns of a collapse, provided that it is also twice the share by chance."""
_TENTH = 10
_SHOWN = 0.005
"""Least share that is not printed as 0 %."""


@dataclass(frozen=True)
class Known:
    """Knowledge of the space about the architectures in a run's tables.

    Args:
        places: Option index of each choice, by notation.
        same: Canonical form by notation, equal for equal networks; None for a space in which every network has one notation.
        skips: Options that count as skip connections.
    """

    places: Mapping[str, Sequence[int]]
    same: Mapping[str, Hashable] | None
    skips: Skips


@dataclass(frozen=True)
class Trust:
    """Content of the section.

    Args:
        lead: Introductory paragraph.
        flags: Warnings.
        findings: Rows of its table.
        pictures: Plots, without headings of their own.
        silent: Names of findings that say nothing.
    """

    lead: str
    flags: Sequence[str]
    findings: Sequence[Finding]
    pictures: Sequence[Picture]
    silent: Sequence[str] = ()


def section(
    summary: Mapping[str, Any],
    evaluations: pd.DataFrame,
    front: pd.DataFrame,
    retrained: pd.DataFrame | None,
    policy: pd.DataFrame | None,
    known: Known,
    table: pd.DataFrame | None,
    quality: Mapping[str, Any] | None,
    searches: Sequence[str] = (),
) -> Trust:
    """Compose the section from the tables of a run.

    Args:
        summary: Content of summary.json.
        evaluations: Rows of evaluations.csv.
        front: Rows of front.csv.
        retrained: Rows of retrained.csv, or None.
        policy: Rows of policy.csv, or None.
        known: Knowledge of the space about these architectures.
        table: Rows of trust.csv, or None before `paretoray trust` has run.
        quality: Content of trust.json, likewise.
        searches: Names of the searches of a sweep; empty for a single search.
    """
    shared = summary["weights"] == "shared"
    rows: list[Finding] = [*_repeats(evaluations, known)]
    flags: list[str] = []
    pictures = []
    if known.skips.skip.any():
        shares = _Shares(evaluations, front, policy, summary["derived"], known)
        rows += shares.findings()
        flags += shares.flags([name_of(title) for title in summary["objectives"].values()], training(summary))
        pictures.append(shares.picture(searches))
    rows += _picked(summary)
    if shared:
        rows += _front(retrained, training(summary))
    lead = "How often the search repeated itself, and whether it drifted to skip connections."
    if shared:
        lead = (
            "Networks with shared weights are judged by weights that were never trained for them alone. This section shows how "
            "far such judgements can be trusted."
        )
        if quality is None:
            where = "the directory of one of its searches" if "searches" in summary else "this directory"
            lead += f" To measure how well they rank random networks, run paretoray trust on {where}."
    if table is not None and quality is not None:
        rows += findings(quality)
        flags += warnings(quality)
        drawn = (scatter(table, quality), _good_picture(quality), _rankings_picture(quality))
        pictures += [some for some in drawn if some]
        lead += (
            f" Truth: {quality['truth']}. Inherited {_plural(_inherited(quality))} measured on {quality['images']:,} "
            f"{quality.get('examples', 'images')} of the validation set, with normalisation statistics of these kinds: "
            f"{', '.join(quality['statistics'])}."
        )
    return Trust(lead, flags, [r for r in rows if r.telling], pictures, [r.name for r in rows if not r.telling])


def findings(quality: Mapping[str, Any]) -> list[Finding]:
    """Explain the numbers of trust.json; a value has a line for each kind of normalisation statistics."""
    own, kinds_of_statistics = quality["own"], quality["statistics"]
    rows: list[Finding] = []
    groups = dict.fromkeys((a["kind"], a["among"]) for a in quality["agreements"])
    for kind, among in groups:
        by = {a["statistics"]: a for a in quality["agreements"] if (a["kind"], a["among"]) == (kind, among)}
        networks = by[own]["networks"]
        name = f"tau, {networks} members of the front" if kind == FRONT else f"tau, {networks} random networks"
        value = "\n".join(f"{s} {_interval(by[s])}" for s in kinds_of_statistics)
        telling = by[own]["low"] is not None
        rows.append(
            Finding(name if among == ALL else f"{name}, {among}", value, _tau_means(by[own], _inherited(quality)), telling)
        )
    gains = {s: g for s, g in quality["gains"].items() if g["value"] is not None}
    if gains:
        value = "\n".join(f"{s} {_interval(g, 'value', signed=True)}" for s, g in gains.items())
        sides = {s: _side(g, "better", "worse", "neither better nor worse") for s, g in gains.items()}
        comparison = "; ".join(f"{s} statistics rank {side}" for s, side in sides.items())
        meaning = f"On the same random networks, as far as these can show: {comparison}."
        telling = any(_excludes_zero(g) for g in gains.values())
        rows.append(Finding(f"tau, minus that of {own} statistics", value, meaning, telling))
    picks = quality["picked"]
    if picks:
        value = "\n".join(f"{s} {p['rank']:.3g} of {p['of']}" for s, p in picks.items())
        meaning = (
            f"True rank of the random network that {own} statistics rank first; its {quality['unit']} is "
            f"{picks[own]['short']:.2f} from the best. It is a single network, so chance plays a large part."
        )
        rows.append(Finding("true rank of the first", value, meaning))
    overrated = quality["overrated_skips"]
    if overrated is not None and overrated["value"] is not None:
        meaning = _side(
            overrated,
            "The more skips a network has, the further above its true place it is ranked.",
            "The more skips a network has, the further below its true place it is ranked.",
            "Positive where networks with skips are ranked above their true place; no such effect shows here.",
        )
        value = _interval(overrated, "value", signed=True)
        rows.append(Finding("tau of skips with the error in rank", value, meaning, _excludes_zero(overrated)))
    return [*rows, *_good(quality), *_rankings(quality)]


def _picked(summary: Mapping[str, Any]) -> list[Finding]:
    """Rows on networks that the search picked to be trained alone, of which a search without any has none."""
    ranking = summary.get("ranking")
    if not ranking:
        return []
    judged = [judged_of(source) for source in ranking["sources"]]
    lines = "\n".join(f"{j.name} {shown(j.within)}; tau of all {shown(j.tau)}; {j.within.networks} networks" for j in judged)
    meaning = (
        "Of pairs of one cost, among the networks that the search picked itself, the share in the order of "
        f"{ranking['truth']} minus the share in the opposite one: 1 is that order, 0 is guessing. Tau counts pairs of "
        "different cost, too, which are easier to tell apart."
    )
    return [Finding("concordance within cost levels, networks that the search picked", lines, meaning)]


def _good(quality: Mapping[str, Any]) -> list[Finding]:
    """Rows on networks that the search itself found good, of one cost."""
    good = quality.get("good")
    if not good or not good["proxies"]:
        return []
    judged = [judged_of(data) for data in good["proxies"]]
    meaning = (
        "Of pairs of one cost, among the networks that the search found best, the share in the true order minus the share in "
        f"the opposite one: 1 is the true order, 0 is guessing. This is what a search has to tell. {good['advice']}"
    )
    value = "\n".join(f"{j.name} {shown(j.within)}" for j in judged)
    name = f"concordance within cost levels, {judged[0].within.networks} good networks"
    value_of_all = "\n".join(f"{j.name} {shown(j.tau)}" for j in judged)
    return [
        Finding(name, value, meaning),
        Finding(
            f"tau, {judged[0].tau.networks} good networks of all costs",
            value_of_all,
            "The same networks with pairs of different cost, which are easier to tell apart.",
            any(math.isfinite(j.tau.low) for j in judged),
        ),
    ]


def _good_picture(quality: Mapping[str, Any]) -> Picture | None:
    good = quality.get("good")
    if not good or not any(p["within"] is not None for p in good["proxies"]):
        return None
    seconds = math.nan if good["target_seconds"] is None else good["target_seconds"]
    return replace(picture([judged_of(p) for p in good["proxies"]], seconds, good["proxies"][0]["networks"]), title="")


def _rankings(quality: Mapping[str, Any]) -> list[Finding]:
    """Rows on training-free scores, of which a trust.json of an earlier version has none."""
    rows: list[Finding] = []
    for among, meaning in (
        (
            ALL,
            "Training-free scores rank untrained networks, in seconds. Which of them is of use differs from one space and data "
            f"set to another; compare with inherited {_inherited(quality)}, and with parameters, which cost nothing.",
        ),
        (
            WITHIN,
            "The same inside levels of equal parameters, or of nearly equal ones where there are many, averaged over levels. A "
            "score that measures size has about 0 here.",
        ),
    ):
        by = [a for a in quality.get("rankings", []) if a["among"] == among]
        lines = []
        for a in by:
            lacking = f", {a['lacking']} without a value" if a["lacking"] else ""
            lines.append(f"{a['by']} {_interval(a)}{lacking}")
        if lines:
            networks = max(a["networks"] for a in by)
            name = f"tau of training-free scores, {networks} random networks"
            rows.append(Finding(name if among == ALL else f"{name}, {among}", "\n".join(lines), meaning))
    return rows


def _rankings_picture(quality: Mapping[str, Any]) -> Picture | None:
    """Plot tau of each ranking, overall and within levels of cost; None without training-free scores."""
    groups = [[a for a in quality.get("rankings", []) if a["among"] == among] for among in (ALL, WITHIN)]
    if not groups[0]:
        return None
    figure = plots.new_figure(8.4, 0.6 + 0.3 * len(groups[0]))
    ax = figure.subplots()
    names = [a["by"] for a in groups[0]]
    for place, (rows, colour, label) in enumerate(zip(groups, ("#27618f", plots.FRONT), ("all", WITHIN), strict=True)):
        numbers = [[np.nan if a[key] is None else a[key] for key in ("tau", "low", "high")] for a in rows]
        plots.draw_taus(ax, np.array(numbers), 0.15 * (1 - 2 * place), colour, label)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    caption = (
        f"Kendall's tau with the truth of inherited {_inherited(quality)}, parameters and training-free scores, among random "
        "networks, with 95 % intervals; within levels of cost, parameters rank nothing."
    )
    return Picture("training-free", "", caption, figure)


def _side(interval: Mapping[str, Any], above: str, below: str, neither: str) -> str:
    """Choose a text by whether a confidence interval lies above, below or around 0."""
    if not _excludes_zero(interval):
        return neither
    return above if interval["low"] > 0 else below


def _excludes_zero(interval: Mapping[str, Any]) -> bool:
    return interval["low"] is not None and not interval["low"] <= 0 <= interval["high"]


def _inherited(quality: Mapping[str, Any]) -> str:
    """Name what networks inherit with shared weights: accuracy, or what the task has in its place."""
    return name_of(str(quality.get("inherited", ACCURACY)))


def _plural(name: str) -> str:
    return "accuracies are" if name == "accuracy" else f"{name} is"


def _tau_means(a: Mapping[str, Any], name: str) -> str:
    if a["tau"] is None:
        return f"All have the same {name}, or the same truth, so there is no ranking to judge."
    order = f"Given two of them, the one ranked higher is truly better in about {50 * (1 + a['tau']):.0f} of 100 cases"
    few = " Too few for an interval." if a["low"] is None else ""
    if a["kind"] == FRONT:
        return f"{order}. They were selected by this {name}, so it says little about how well others are ranked.{few}"
    if a["among"] != ALL:
        return f"{order}. These are the networks that a search has to tell apart, which is harder.{few}"
    return f"{order}; 100 would be the true order, 50 is guessing.{few}"


def warnings(quality: Mapping[str, Any]) -> list[str]:
    """Warnings that follow from trust.json, as sentences."""
    flags = []
    own = [a for a in quality["agreements"] if (a["kind"], a["among"], a["statistics"]) == (RANDOM, ALL, quality["own"])]
    if not own:
        flags.append("The truth of fewer than two random networks is known, so their ranking is not judged.")
    for a in own:
        few = " Take more networks." if a["networks"] < min(50, quality["surviving"]) else ""
        if a["tau"] is None:
            flags.append(
                f"All random networks have the same inherited {_inherited(quality)}, or the same truth: there is no ranking."
            )
        elif a["low"] is None:
            flags.append(f"The truth of {a['networks']} random networks is known, too few to tell their ranking from guessing.")
        elif a["high"] < 0:
            flags.append("The shared weights rank random networks against their true order: do not trust this front.")
        elif a["low"] <= 0:
            flags.append(
                f"The ranking of random networks cannot be told from guessing: tau is {a['tau']:.2f}, between {a['low']:.2f} "
                f"and {a['high']:.2f}.{few}"
            )
    half = [a for a in quality["agreements"] if (a["among"], a["statistics"]) == (BETTER, quality["own"])]
    if not flags and half and half[0]["low"] is not None and half[0]["low"] <= 0:
        flags.append(
            "The shared weights tell bad networks from good ones, but not the good ones from each other: among the better half "
            f"of the random networks tau is {half[0]['tau']:.2f}, between {half[0]['low']:.2f} and {half[0]['high']:.2f}. "
            "Differences there are small, and the truth itself may be uncertain by as much."
        )
    for statistics, gain in quality["gains"].items():
        if gain["low"] is not None and gain["low"] > 0:
            flags.append(
                f"With {statistics} statistics these weights rank better than with {quality['own']} ones, which the search "
                f"used: consider training.statistics={statistics}."
            )
    overrated = quality["overrated_skips"]
    if overrated is not None and overrated["low"] is not None and overrated["low"] > 0:
        flags.append("Networks with more skips are ranked further above their true place.")
    return flags


def scatter(table: pd.DataFrame, quality: Mapping[str, Any]) -> Picture | None:
    """Plot true against inherited accuracy, a panel per kind of statistics; None if no network has both."""
    known = table[true_of(table).notna()]
    if known.empty:
        return None
    taus = {a["statistics"]: a for a in quality["agreements"] if (a["kind"], a["among"]) == (RANDOM, ALL)}
    figure = plots.new_figure(8.4 if len(quality["statistics"]) < 3 else 10.5, 3.9)
    axes = list(figure.subplots(1, len(quality["statistics"]), sharey=True, squeeze=False)[0])
    for ax, statistics in zip(axes, quality["statistics"], strict=True):
        for kind, colour, label in ((RANDOM, "#27618f", "random networks"), (FRONT, plots.FRONT, "members of the front")):
            networks = known[known["kind"] == kind]
            if len(networks):
                plots.draw_inherited(ax, networks[statistics_of(table)[statistics]], true_of(networks), colour, label)
        a = taus.get(statistics)
        ax.set_title(f"{statistics}: tau {_interval(a)}" if a and a["tau"] is not None else statistics, fontsize=9)
        ax.set_xlabel(f"inherited {quality.get('inherited', ACCURACY)}")
    axes[0].set_ylabel(quality["truth"])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    caption = (
        f"True against inherited {_inherited(quality)}, for each kind of statistics. Only the order matters: shared "
        "weights are far worse than weights trained for one network. Tau is that of the random networks."
    )
    return Picture("trust", "", caption, figure)


def repeats(evaluations: pd.DataFrame, key: Mapping[str, Hashable] | None = None) -> float:
    """Share of the recorded samples that the same search had sampled before; NaN without samples.

    Args:
        evaluations: Rows of evaluations.csv.
        key: Canonical form of each architecture, to count equal networks; by default equal notations are counted.
    """
    samples = samples_of(evaluations)
    groups = samples.groupby("search") if "search" in samples else [(0, samples)]
    flags = [repeated(rows["arch"] if key is None else [key[a] for a in rows["arch"]]) for _, rows in groups]
    return float(np.concatenate(flags).mean()) if len(samples) else float("nan")


def _repeats(evaluations: pd.DataFrame, known: Known) -> list[Finding]:
    samples = samples_of(evaluations)
    if samples.empty:
        return []
    share = repeats(evaluations)
    meaning = (
        f"Of {len(samples):,} recorded samples, those whose architecture the search had sampled before. An architecture drawn "
        "twice in one round is recorded once, so the method itself repeats at least this much. Repeats are normal for methods "
        "that converge, but find nothing new."
    )
    rows = [Finding("repeated samples", f"{share:.0%}", meaning, share >= _SHOWN)]
    if known.same is not None:
        other = repeats(evaluations, known.same) - share
        meaning = "Further samples that are a network sampled before, in another notation."
        rows.append(Finding("the same network, written differently", f"{other:.0%}", meaning, other >= _SHOWN))
    return rows


class _Shares:
    """Shares of skip connections: in the samples, by the policy, on the front, and in the method's final networks."""

    def __init__(
        self,
        evaluations: pd.DataFrame,
        front: pd.DataFrame,
        policy: pd.DataFrame | None,
        derived: Sequence[str],
        known: Known,
    ) -> None:
        skips = known.skips
        self.chance = skips.chance
        samples = samples_of(evaluations)
        shares = skips.shares([known.places[a] for a in samples["arch"]])
        search = samples["search"].to_numpy() if "search" in samples else 0
        self.samples = pd.DataFrame({"step": samples["step"].to_numpy(), "share": shares, "search": search}).dropna()
        self.samples = self.samples.sort_values("step", kind="stable", ignore_index=True)
        self.front = _mean(skips.shares([known.places[a] for a in front["arch"]]))
        self.derived = _mean(skips.shares([known.places[a] for a in derived if a in known.places]))
        self.policy = None
        if policy is not None and not policy.empty:
            columns = [c for c in policy.columns if c not in ("step", "stage")]
            self.policy = pd.DataFrame({"step": policy["step"], "share": skips.share(policy[columns].to_numpy())}).dropna()

    @property
    def ends(self) -> tuple[float, float]:
        """Mean share in the first and in the last tenth of the samples."""
        tenth = -(-len(self.samples) // _TENTH)
        shares = self.samples["share"]
        return float(shares.head(tenth).mean()), float(shares.tail(tenth).mean())

    def findings(self) -> list[Finding]:
        chance = f"By chance it would be {self.chance:.0%}."
        rows = []
        if len(self.samples):
            first, last = self.ends
            meaning = (
                f"Share of skips among the choices that offer one, in the first and the last tenth of the samples. {chance}"
            )
            rows.append(Finding("skips among samples", f"{first:.0%}, then {last:.0%}", meaning))
        if self.policy is not None and len(self.policy):
            value = float(self.policy["share"].iloc[-1])
            rows.append(
                Finding("skips by the policy, at its end", f"{value:.0%}", "Expected share in the method's next sample.")
            )
        if np.isfinite(self.front):
            meaning = "Costs favour skips, and a front has the cheapest networks, so more than chance is no fault by itself."
            rows.append(Finding("skips on the front", f"{self.front:.0%}", meaning))
        if np.isfinite(self.derived):
            rows.append(Finding("skips in the method's final networks", f"{self.derived:.0%}", chance))
        return rows

    def flags(self, objectives: Sequence[str], trained_by: str) -> list[str]:
        groups = {"the last tenth of the samples": self.ends[1] if len(self.samples) else np.nan}
        groups["the method's final networks"] = self.derived
        flags = [
            f"{share:.0%} of the choices in {name} are skips, {share / self.chance:.1f} times as many as by chance. Searches "
            f"with shared weights can collapse to skips; so can one that has to save {' and '.join(objectives[1:])}. Compare "
            f"the errors of such networks after {trained_by}."
            for name, share in groups.items()
            if share >= max(COLLAPSED, 2 * self.chance)
        ]
        return flags[:1]  # a second one would repeat the advice

    def picture(self, searches: Sequence[str]) -> Picture:
        figure = plots.new_figure(8.4, 3.0)
        ax = figure.subplots()
        each = [rows for _, rows in self.samples.groupby("search")]
        names = [searches[int(rows["search"].iloc[0])] for rows in each] if searches else ["samples"] * len(each)
        plots.draw_skips(ax, each, self.policy, self.front, self.chance, names)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", fontsize=8)
        caption = (
            "Share of skips among the choices that offer one. Samples: means of up to 40 equal bins, in order"
            + ("; policy: the expected share in its next sample" if self.policy is not None else "")
            + "."
        )
        return Picture("skips", "", caption, figure)


def _mean(shares: np.ndarray) -> float:
    known = shares[np.isfinite(shares)]
    return float(known.mean()) if len(known) else float("nan")


def _front(retrained: pd.DataFrame | None, trained_by: str) -> list[Finding]:
    """Compare the errors of the front's members during the search with their test errors after retraining."""
    if retrained is None or len(retrained := mean_of_seeds(retrained)) < 2:
        return []
    test = tested_by(retrained).value
    members: Interval = tau(retrained[test.removeprefix("test_")], retrained[test])
    bounds = (("tau", members.value), ("low", members.low), ("high", members.high))
    value = {key: number if np.isfinite(number) else None for key, number in bounds}
    few = " Too few for an interval." if members.networks < ENOUGH else ""
    meaning = (
        f"Kendall's tau of the error during the search with the test error after {trained_by}. The members were "
        f"selected by that error, so it says little about how well others are ranked.{few}"
    )
    return [Finding(f"tau, {members.networks} retrained members of the front", _interval(value), meaning, not few)]


def _interval(a: Mapping[str, Any], key: str = "tau", signed: bool = False) -> str:
    if a[key] is None:
        return "-"
    value = f"{a[key]:{'+' if signed else ''}.2f}"
    return value if a["low"] is None else f"{value} ({a['low']:.2f}..{a['high']:.2f})"
