"""What a report says on whether its search can be trusted: numbers, what each of them means, and pictures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import plots
from analysis.plots import Picture
from analysis.records import VALIDATION, samples_of
from analysis.trust import ALL, BETTER, ENOUGH, FRONT, RANDOM, SUFFIX, Interval, Skips, repeated, tau

Finding = tuple[str, str, str]
"""What it is, its value, and what that means."""

COLLAPSED = 0.5
"""From this share of skips on, if it is twice that of chance, too, a page asks whether the search has collapsed."""
_TENTH = 10


@dataclass(frozen=True)
class Known:
    """What the space knows of the architectures in a run's tables.

    places: by notation, the index of the option of each choice. same: by notation, what is equal for equal networks, or None
    for a space that knows no two notations of one. skips: what counts as a skip.
    """

    places: Mapping[str, Sequence[int]]
    same: Mapping[str, Hashable] | None
    skips: Skips


@dataclass(frozen=True)
class Trust:
    """The section. flags: what is wrong. findings: its table. pictures: without titles of their own."""

    lead: str
    flags: Sequence[str]
    findings: Sequence[Finding]
    pictures: Sequence[Picture]


def section(
    summary: Mapping[str, Any],
    evaluations: pd.DataFrame,
    front: pd.DataFrame,
    retrained: pd.DataFrame | None,
    policy: pd.DataFrame | None,
    known: Known,
    table: pd.DataFrame | None,
    verdict: Mapping[str, Any] | None,
) -> Trust:
    """From the tables of a run; `table` and `verdict` are trust.csv and trust.json, where `paretoray trust` has been."""
    shared = summary["weights"] == "shared"
    found: list[Finding] = [*_repeats(evaluations, known)]
    flags: list[str] = []
    pictures = []
    if known.skips.skip.any():
        shares = _Shares(evaluations, front, policy, summary["derived"], known)
        found += shares.findings()
        flags += shares.flags(list(summary["objectives"]))
        pictures.append(shares.picture())
    if shared:
        found += _front(retrained)
    lead = "How often the search repeated itself, and whether it drifted to skips."
    if shared:
        lead = (
            "Networks that share weights are judged by weights that were never trained for them alone. What follows says how "
            "far that can be trusted."
        )
        if verdict is None:
            where = "the directory of one of its searches" if "searches" in summary else "this directory"
            lead += f" How well they rank random networks has not been measured: paretoray trust, with {where}, does it."
    if table is not None and verdict is not None:
        found += findings(verdict)
        flags += warnings(verdict)
        picture = scatter(table, verdict)
        pictures += [picture] if picture else []
        lead += (
            f" Truth: {verdict['truth']}. Inherited accuracies are of {verdict['images']:,} images of the validation part, by "
            f"the statistics that normalisation went by: {' or '.join(verdict['statistics'])}."
        )
    return Trust(lead, flags, found, pictures)


def findings(verdict: Mapping[str, Any]) -> list[Finding]:
    """What trust.json says, in words; a line of the value for each kind of statistics."""
    own, of = verdict["own"], verdict["statistics"]
    found: list[Finding] = []
    groups = dict.fromkeys((a["kind"], a["among"]) for a in verdict["agreements"])
    for kind, among in groups:
        by = {a["statistics"]: a for a in verdict["agreements"] if (a["kind"], a["among"]) == (kind, among)}
        networks = by[own]["networks"]
        name = f"tau, {networks} members of the front" if kind == FRONT else f"tau, {networks} random networks"
        value = "\n".join(f"{s} {_interval(by[s])}" for s in of)
        found.append((name if among == ALL else f"{name}, {among}", value, _tau_means(by[own])))
    gains = {s: g for s, g in verdict["gains"].items() if g["value"] is not None}
    if gains:
        value = "\n".join(f"{s} {_interval(g, 'value', signed=True)}" for s, g in gains.items())
        sides = {s: _side(g, "better", "worse", "neither better nor worse") for s, g in gains.items()}
        says = "; ".join(f"{s} statistics rank {side}" for s, side in sides.items())
        means = f"Of the same random networks, as far as they can show: {says}."
        found.append((f"tau, minus that of {own} statistics", value, means))
    picks = verdict["picked"]
    if picks:
        value = "\n".join(f"{s} {p['rank']:.3g} of {p['of']}" for s, p in picks.items())
        means = (
            f"The place, by its truth, of the random network that is first by {own} statistics; it is "
            f"{picks[own]['short']:.2f} from the best in {verdict['unit']}. Of one network, so much of it is chance."
        )
        found.append(("true rank of the first", value, means))
    over = verdict["overrated_skips"]
    if over is not None and over["value"] is not None:
        means = _side(
            over,
            "The more skips a network has, the further ahead of its true place it is put.",
            "The more skips a network has, the further behind its true place it is put.",
            "Positive where networks with skips are put further ahead than they deserve; these networks show no such thing.",
        )
        found.append(("tau of skips with the error in rank", _interval(over, "value", signed=True), means))
    return found


def _side(interval: Mapping[str, Any], above: str, below: str, neither: str) -> str:
    """By where the interval lies to 0."""
    if interval["low"] is None or interval["low"] <= 0 <= interval["high"]:
        return neither
    return above if interval["low"] > 0 else below


def _tau_means(a: Mapping[str, Any]) -> str:
    if a["tau"] is None:
        return "They all have the same accuracy, or the same truth, so there is no ranking to judge."
    order = f"Of two of them, the one put ahead is truly ahead in about {50 * (1 + a['tau']):.0f} of 100 cases"
    few = " Too few for an interval." if a["low"] is None else ""
    if a["kind"] == FRONT:
        return f"{order}. They were chosen by that very accuracy, so this is not how well others are ranked.{few}"
    if a["among"] != ALL:
        return f"{order}. Those are the networks that a search has to tell from each other, which is harder.{few}"
    return f"{order}; 100 would be the true order, 50 is guessing.{few}"


def warnings(verdict: Mapping[str, Any]) -> list[str]:
    """What is wrong, in sentences, by trust.json."""
    flags = []
    own = [a for a in verdict["agreements"] if (a["kind"], a["among"], a["statistics"]) == (RANDOM, ALL, verdict["own"])]
    if not own:
        flags.append("The truth of fewer than two random networks is known, so their ranking is not judged.")
    for a in own:
        few = " Take more networks." if a["networks"] < min(50, verdict["surviving"]) else ""
        if a["tau"] is None:
            flags.append("All random networks have the same inherited accuracy, or the same truth: nothing is ranked.")
        elif a["low"] is None:
            flags.append(f"The truth of {a['networks']} random networks is known, too few to tell their ranking from guessing.")
        elif a["high"] < 0:
            flags.append("The shared weights rank random networks against their true order: do not trust this front.")
        elif a["low"] <= 0:
            flags.append(
                f"The ranking of random networks cannot be told from guessing: tau is {a['tau']:.2f}, between {a['low']:.2f} "
                f"and {a['high']:.2f}.{few}"
            )
    half = [a for a in verdict["agreements"] if (a["among"], a["statistics"]) == (BETTER, verdict["own"])]
    if not flags and half and half[0]["low"] is not None and half[0]["low"] <= 0:
        flags.append(
            "The shared weights tell bad networks from good ones, but not the good ones from each other: among the better half "
            f"of the random networks tau is {half[0]['tau']:.2f}, between {half[0]['low']:.2f} and {half[0]['high']:.2f}. The "
            "truth may be as uncertain there as the differences are small."
        )
    for statistics, gain in verdict["gains"].items():
        if gain["low"] is not None and gain["low"] > 0:
            flags.append(
                f"With {statistics} statistics these weights rank better than with {verdict['own']} ones, which the search "
                f"went by: consider training.statistics={statistics}."
            )
    over = verdict["overrated_skips"]
    if over is not None and over["low"] is not None and over["low"] > 0:
        flags.append("Networks with more skips are put further ahead than they deserve.")
    return flags


def scatter(table: pd.DataFrame, verdict: Mapping[str, Any]) -> Picture | None:
    """Inherited against true, a panel for each statistics; None where no network has both."""
    known = table[table["true"].notna()]
    if known.empty:
        return None
    taus = {a["statistics"]: a for a in verdict["agreements"] if (a["kind"], a["among"]) == (RANDOM, ALL)}
    figure = plots.new_figure(8.4 if len(verdict["statistics"]) < 3 else 10.5, 3.9)
    axes = list(figure.subplots(1, len(verdict["statistics"]), sharey=True, squeeze=False)[0])
    for ax, statistics in zip(axes, verdict["statistics"], strict=True):
        for kind, colour, label in ((RANDOM, "#27618f", "random networks"), (FRONT, plots.FRONT, "members of the front")):
            own = known[known["kind"] == kind]
            if len(own):
                plots.draw_inherited(ax, own, statistics + SUFFIX, "true", colour, label)
        a = taus.get(statistics)
        ax.set_title(f"{statistics}: tau {_interval(a)}" if a and a["tau"] is not None else statistics, fontsize=9)
        ax.set_xlabel("inherited accuracy (%)")
    axes[0].set_ylabel(verdict["truth"])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    caption = (
        "What networks inherit against what they are truly worth, by each kind of statistics. Only the order matters: shared "
        "weights are far less accurate than weights of a network's own. Tau is of the random networks."
    )
    return Picture("trust", "", caption, figure)


def repeats(evaluations: pd.DataFrame, key: Mapping[str, Hashable] | None = None) -> float:
    """The share of the recorded samples whose architecture had been sampled before in the same search; with `key`, whose
    network (equal for equal ones) had. nan without samples."""
    samples = samples_of(evaluations)
    groups = samples.groupby("search") if "search" in samples else [(0, samples)]
    found = [repeated(own["arch"] if key is None else [key[a] for a in own["arch"]]) for _, own in groups]
    return float(np.concatenate(found).mean()) if len(samples) else float("nan")


def _repeats(evaluations: pd.DataFrame, known: Known) -> list[Finding]:
    samples = samples_of(evaluations)
    if samples.empty:
        return []
    share = repeats(evaluations)
    means = (
        f"Of {len(samples):,} recorded samples, those whose architecture the search had sampled before. One drawn twice "
        "in a round is recorded once and counts once, so the method itself repeats at least as much. Methods that settle on "
        "something do; what they spend on it finds nothing new."
    )
    found = [("repeated samples", f"{share:.0%}", means)]
    if known.same is not None:
        other = repeats(evaluations, known.same) - share
        means = "Further samples that are a network sampled before in another notation."
        found.append(("the same network, written differently", f"{other:.0%}", means))
    return found


class _Shares:
    """Skips among what was sampled, by the policy, and among what came out."""

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
        self.samples = pd.DataFrame({"step": samples["step"].to_numpy(), "share": shares}).dropna()
        self.samples = self.samples.sort_values("step", kind="stable", ignore_index=True)  # those of a sweep lie side by side
        self.whole = bool((samples["kind"] == VALIDATION).all())
        self.front = _mean(skips.shares([known.places[a] for a in front["arch"]]))
        self.derived = _mean(skips.shares([known.places[a] for a in derived if a in known.places]))
        self.policy = None
        if policy is not None and not policy.empty:
            columns = [c for c in policy.columns if c not in ("step", "stage")]
            self.policy = pd.DataFrame({"step": policy["step"], "share": skips.share(policy[columns].to_numpy())}).dropna()

    @property
    def ends(self) -> tuple[float, float]:
        """The mean share in the first and in the last tenth of the samples."""
        tenth = -(-len(self.samples) // _TENTH)
        shares = self.samples["share"]
        return float(shares.head(tenth).mean()), float(shares.tail(tenth).mean())

    def findings(self) -> list[Finding]:
        chance = f"Drawn at random it would be {self.chance:.0%}."
        found = []
        if len(self.samples):
            first, last = self.ends
            means = (
                f"Share of skips among the choices that could be one, in the first and the last tenth of the samples. {chance}"
            )
            found.append(("skips among samples", f"{first:.0%}, then {last:.0%}", means))
        if self.policy is not None and len(self.policy):
            value = float(self.policy["share"].iloc[-1])
            found.append(("skips by the policy, at its end", f"{value:.0%}", "What the method would draw next."))
        if np.isfinite(self.front):
            means = "Costs favour skips, and a front has the cheapest networks, too, so more than chance is no fault by itself."
            found.append(("skips on the front", f"{self.front:.0%}", means))
        if np.isfinite(self.derived):
            found.append(("skips in what the method itself ended at", f"{self.derived:.0%}", chance))
        return found

    def flags(self, objectives: Sequence[str]) -> list[str]:
        named = {"the last tenth of the samples": self.ends[1] if len(self.samples) else np.nan}
        named["the networks that the method itself ended at"] = self.derived
        flags = [
            f"{share:.0%} of the choices in {name} are skips, {share / self.chance:.1f} times as many as by chance. Searches "
            f"with shared weights can collapse to skips; so can one that has to save {' and '.join(objectives[1:])}. Compare "
            "the errors of such networks after training from scratch."
            for name, share in named.items()
            if share >= max(COLLAPSED, 2 * self.chance)
        ]
        return flags[:1]  # they say the same

    def picture(self) -> Picture:
        figure = plots.new_figure(8.4, 3.0)
        ax = figure.subplots()
        plots.draw_skips(ax, self.samples, self.policy, self.front, self.chance)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", fontsize=8)
        caption = (
            "Share of skips among the choices that could be one. Samples: the mean of each of up to 40 equal parts in turn"
            + ("; policy: what it expects of its next sample" if self.policy is not None else "")
            + "."
        )
        return Picture("skips", "", caption, figure)


def _mean(shares: np.ndarray) -> float:
    known = shares[np.isfinite(shares)]
    return float(known.mean()) if len(known) else float("nan")


def _front(retrained: pd.DataFrame | None) -> list[Finding]:
    """The front as the search measured it against its members' tests, which are there without more work."""
    if retrained is None or len(retrained) < 2:
        return []
    found: Interval = tau(retrained["error_percent"], retrained["test_error_percent"])
    value = {k: v if np.isfinite(v) else None for k, v in (("tau", found.value), ("low", found.low), ("high", found.high))}
    few = " Too few for an interval." if found.networks < ENOUGH else ""
    means = (
        "The error as the search measured it against the test error after training from scratch. They were chosen by that very "
        f"error, so this is not how well others are ranked.{few}"
    )
    return [(f"tau, {found.networks} retrained members of the front", _interval(value), means)]


def _interval(a: Mapping[str, Any], key: str = "tau", signed: bool = False) -> str:
    if a[key] is None:
        return "-"
    value = f"{a[key]:{'+' if signed else ''}.2f}"
    return value if a["low"] is None else f"{value} ({a['low']:.2f}..{a['high']:.2f})"
