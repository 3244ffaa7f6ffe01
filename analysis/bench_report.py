"""The page of a benchmark: tables, pictures and tests, from the evaluations alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from analysis import compare, plots
from analysis.pareto import Floats
from analysis.plots import Picture
from analysis.report import inline
from analysis.trust import RANDOM, SUFFIX, statistics_of

COLOURS = (
    "#27618f", "#c0392b", "#1f7a4d", "#e0a458", "#8e6bad", "#4d4d4d",
    "#7fb2d9", "#d98c8c", "#9ac29b", "#a0522d", "#c7b446", "#e3b7d2",
)  # fmt: skip


Cell = str | tuple[str, str]


@dataclass(frozen=True)
class Section:
    """A table of the page. rows: cells, of which a pair is a value and what stands small beside it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str


def write(
    directory: Path,
    evaluations: pd.DataFrame,
    columns: Sequence[str],
    front: Floats,
    titles: Sequence[str],
    protocol: Sequence[str],
    size: float,
    unit: str | None = None,
) -> pd.DataFrame:
    """Writes report.html, summary.csv and plots/ into `directory`; returns the summary.

    evaluations: `searcher`, `seed`, `spent` so far, and costs in `columns`, in order. front: the true one. titles: of the
    columns. size: the budget. unit: the table's column that `spent` is of; without one it counts architectures.
    """
    if unit is None:
        marks = [*(b for b in (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0) if b < size), size]
        along = sorted({*np.floor(np.geomspace(min(10, size), size, 24)[:-1]).tolist(), *marks})
    else:
        marks = [size / 8, size / 4, size / 2, size]
        along = sorted({*np.geomspace(size / 40, size, 24)[:-1].tolist(), *marks})
    scored = compare.scores(evaluations, columns, front, along)
    summary = compare.summary(scored)
    summary.to_csv(directory / "summary.csv", index=False)
    best = summary[summary["budget"] == size].sort_values("hypervolume", ascending=False)
    names = best["searcher"].tolist()
    seeds = int(evaluations["seed"].nunique())
    colours = _colours(names)
    spent = "different architectures evaluated" if unit is None else f"spent, by {unit}"
    with plots.style():
        pictures = [_curves(summary, scored, names, colours, spent)]
        if len(columns) == 2:
            pictures.append(_attainment(evaluations, columns, front, titles, names, colours))
    ranking = Section(
        "Relative hypervolume",
        ["searcher", *(f"{mark:,.4g}" for mark in marks), "IGD+", "share of the front found"],
        [_row(summary, name, marks) for name in names],
        f"Means over seeds with bootstrap 95 % intervals, by {spent}. The last two columns are at the largest budget.",
    )
    page(
        directory,
        title=f"{' against '.join(titles)}: {len(names)} searchers",
        lead="Evaluations are looked up in a table of trained networks: the true front is known, and cost is counted exactly.",
        facts=[
            (str(len(names)), "searchers"),
            (str(seeds), "seed" if seeds == 1 else "seeds"),
            (f"{size:,.0f}", "architectures each" if unit is None else f"{unit} each"),
            (str(len(front)), "on the true front"),
        ],
        sections=[ranking, *wins(compare.pairs(scored, size), names)],
        pictures=pictures,
        seeds=seeds,
        protocol=protocol,
    )
    return summary


def write_searches(
    directory: Path,
    found: pd.DataFrame,
    fronts: pd.DataFrame,
    columns: Sequence[str],
    front: Floats,
    titles: Sequence[str],
    protocol: Sequence[str],
    known: bool,
    inherited: Mapping[tuple[str, int], pd.DataFrame],
) -> None:
    """Writes report.html and plots/ of whole searches into `directory`.

    found: a row for each, with `searcher`, `seed`, `hypervolume`, `seconds`, `images`, `tau`, `members`, `architectures`,
    `repeated`, `skips`, `skips_by_chance`, and of those with shared weights that were judged `ranked` and, for each statistics,
    `tau_STATISTICS` with `_low` and `_high`. inherited: trust.csv of these, by searcher and seed.
    fronts: true costs, in `columns`, of the members that each returned. front: the true one, if it is `known`, or that of all
    members. titles: of the columns.
    """
    scored = found[["searcher", "seed", "hypervolume"]].assign(budget=1, igd_plus=np.nan, found=np.nan)
    summary = compare.summary(scored).set_index("searcher").sort_values("hypervolume", ascending=False)
    names = summary.index.tolist()
    colours = _colours(names)
    means = found.groupby("searcher")[["seconds", "images", "tau", "members", "architectures"]].mean()
    rows: list[list[Cell]] = []
    for name in names:
        value, low, high = summary.loc[name, ["hypervolume", "low", "high"]].to_numpy(dtype=float)
        mean = means.loc[name]
        tau = f"{mean['tau']:.2f}" if np.isfinite(mean["tau"]) else ""
        counts = [
            f"{mean['seconds']:,.0f}",
            f"{mean['images']:,.0f}",
            f"{mean['architectures']:,.0f}",
            f"{mean['members']:.1f}",
        ]
        shown: Cell = (f"{value:.3f}", f"{low:.3f}..{high:.3f}") if summary.loc[name, "seeds"] > 1 else f"{value:.3f}"
        rows.append([name, shown, *counts, tau])
    note = (
        "Means over seeds, of the hypervolume with bootstrap 95 % intervals. Tau: Kendall's, between the error that the search "
        + ("measured last and the true one." if known else "measured and the true one, over the members of its front.")
    )
    head = ["searcher", "relative hypervolume", "seconds", "images", "networks measured", "returned", "tau"]
    with plots.style():
        pictures = [_costs(found, names, colours)]
        if len(columns) == 2:
            pictures.append(_returned(fronts, columns, front, titles, names, colours, known))
        if inherited:
            pictures.append(_inherited(inherited, names, titles[0].removeprefix("100 - ")))
    seeds = int(found["seed"].nunique())
    page(
        directory,
        title=f"{' against '.join(titles)}: {len(names)} searches",
        lead="Whole searches, their weights trained from nothing, at equal cost; what their fronts are truly worth.",
        facts=[
            (str(len(names)), "searchers"),
            (str(seeds), "seed" if seeds == 1 else "seeds"),
            (f"{found['seconds'].mean():,.0f} s", "a search"),
        ],
        sections=[
            Section("True hypervolume of what they return", head, rows, note),
            *wins(compare.pairs(scored, 1), names),
            _trusted(found, names),
        ],
        pictures=pictures,
        seeds=seeds,
        protocol=protocol,
    )


def _costs(found: pd.DataFrame, names: Sequence[str], colours: dict[str, str]) -> Picture:
    figure: Figure = plots.new_figure(8.4, 3.8)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, column, label in zip(axes, ("seconds", "images"), ("seconds of search", "images seen"), strict=True):
        for name in names:
            own = found[found["searcher"] == name]
            ax.scatter(own[column], own["hypervolume"], color=colours[name], s=26, alpha=0.8, label=name, lw=0)
        ax.set(xlabel=label, xlim=(0, 1.08 * found[column].max()))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.locator_params(axis="x", nbins=6)
    axes[0].set_ylabel("relative hypervolume")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    caption = "A point for every search: what its front is truly worth, by what the search cost in time and in images."
    return Picture("cost", "Hypervolume against measured cost", caption, figure)


def _returned(
    fronts: pd.DataFrame,
    columns: Sequence[str],
    front: Floats,
    titles: Sequence[str],
    names: Sequence[str],
    colours: dict[str, str],
    known: bool,
) -> Picture:
    figure: Figure = plots.new_figure(8.4, 4.4)
    ax = figure.subplots()
    y, x = columns
    ordered = front[np.argsort(front[:, 1])]
    label = "true front" if known else "best of all"
    ax.plot(ordered[:, 1], ordered[:, 0], color="#b8bcc4", lw=4, drawstyle="steps-post", label=label, zorder=0)
    for name in names:
        own = fronts[fronts["searcher"] == name]
        ax.scatter(own[x], own[y], color=colours[name], s=14, alpha=0.7, lw=0, label=name)
    span = np.ptp(front[:, 0])
    high = max(front[:, 0].max() + 0.2 * span, float(fronts[y].quantile(0.9)))
    ax.set_ylim(front[:, 0].min() - 0.1 * span, high)
    ax.set(xlabel=titles[1], ylabel=titles[0])
    figure.legend(loc="outside right center", fontsize=8)
    left_out = int((fronts[y] > high).sum())
    beyond = f" {left_out} lie above the picture." if left_out else ""
    return Picture("fronts", "What they return", f"Every member of every front, by its true values.{beyond}", figure)


def _trusted(found: pd.DataFrame, names: Sequence[str]) -> Section:
    """Whether their weights rank networks, and whether they repeat themselves or drift to skips."""
    judged = [s for s in ("batch", "running", "recalibrated") if f"tau_{s}" in found and found[f"tau_{s}"].notna().any()]
    means = found.groupby("searcher").mean(numeric_only=True)
    rows: list[list[Cell]] = []
    for name in names:
        mean = means.loc[name]
        taus: list[Cell] = []
        for s in judged:
            value, low, high = (mean[f"tau_{s}{end}"] for end in ("", "_low", "_high"))
            shown = f"{value:.2f}" if np.isfinite(value) else ""
            taus.append((shown, f"{low:.2f}..{high:.2f}") if np.isfinite(low) else shown)
        counted = [f"{mean['ranked']:.0f}" if np.isfinite(mean["ranked"]) else ""] if judged else []
        shares = [f"{mean[c]:.0%}" if np.isfinite(mean[c]) else "" for c in ("repeated", "skips", "skips_by_chance")]
        rows.append([name, *taus, *counted, *shares])
    note = "Means over seeds. "
    if judged:
        note += (
            "Tau: Kendall's, of the inherited and the true accuracy of random networks of the options that survive, and the "
            "mean of the seeds' bootstrap 95 % intervals; by the statistics of each batch, or by statistics of each network's "
            "own, recalibrated on training images; on up to 2,000 images of the validation part. What a method has dropped is "
            "not among them, which makes ranking harder. "
        )
    note += (
        "Repeats: recorded samples that the same search had sampled before. Skips: their share among the choices that could be "
        "one, in what was returned; costs favour them."
    )
    head = ["searcher", *(f"tau, {s}" for s in judged), *(["networks ranked"] if judged else [])]
    return Section("Can their weights be trusted?", [*head, "repeats", "skips", "skips by chance"], rows, note)


def _inherited(inherited: Mapping[tuple[str, int], pd.DataFrame], names: Sequence[str], truth: str) -> Picture:
    first = {name: min(seed for n, seed in inherited if n == name) for name in names if any(n == name for n, _ in inherited)}
    across = min(3, len(first))
    down = math.ceil(len(first) / across)
    figure: Figure = plots.new_figure(2.8 * across if across > 1 else 4.2, 2.6 * down + 0.5)
    axes = list(figure.subplots(down, across, squeeze=False, sharey=True).ravel())
    colours = {"batch": COLOURS[0], "recalibrated": COLOURS[3], "running": COLOURS[4]}
    for ax, (name, seed) in zip(axes, first.items(), strict=False):
        table = inherited[name, seed]
        random = table[table["kind"] == RANDOM]
        for statistics in statistics_of(table):
            plots.draw_inherited(ax, random, statistics + SUFFIX, "true", colours[statistics], statistics)
        ax.set_title(name, fontsize=8)
        ax.set_xlabel("inherited accuracy (%)")
    for ax in axes[len(first) :]:
        ax.set_axis_off()
    for ax in axes[::across]:
        ax.set_ylabel(truth)
    shown = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, fontsize=8)
    caption = (
        "Random networks: what they inherit from each searcher's weights under its lowest seed, against the table's first "
        "objective; only the order matters."
    )
    return Picture("trust", "Inherited against true", caption, figure)


def page(
    directory: Path,
    *,
    title: str,
    lead: str,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    pictures: Sequence[Picture],
    seeds: int,
    protocol: Sequence[str],
) -> None:
    """Writes report.html, and the pictures into plots/; the first section stands before them."""
    (directory / "plots").mkdir(exist_ok=True)
    with plots.style():
        for picture in pictures:
            picture.figure.savefig(directory / "plots" / f"{picture.name}.png", dpi=150)
        drawn = inline(pictures)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template("bench.html").render(
        title=title,
        lead=lead,
        facts=facts,
        notes=[] if seeds > 4 else ["With fewer than five seeds neither intervals nor tests say much."],
        sections=sections,
        figures=drawn,
        protocol=protocol,
    )
    (directory / "report.html").write_text(text)


def _colours(names: Sequence[str]) -> dict[str, str]:
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def _dashes(names: Sequence[str], name: str) -> str:
    """Lines of the second dozen are dashed, as they have the colours of the first."""
    return "-" if names.index(name) < len(COLOURS) else "--"


def _row(summary: pd.DataFrame, name: str, marks: Sequence[float]) -> list[Cell]:
    own = summary[summary["searcher"] == name].set_index("budget")
    last = own.loc[marks[-1]]
    values = [own.loc[mark, ["hypervolume", "low", "high"]].to_numpy(dtype=float) for mark in marks]
    alone = last["seeds"] == 1  # one run has no interval
    cells: list[Cell] = [f"{v:.3f}" if alone else (f"{v:.3f}", f"{low:.3f}..{high:.3f}") for v, low, high in values]
    return [name, *cells, f"{last['igd_plus']:.4f}", f"{last['found']:.0%}"]


def wins(pairs: pd.DataFrame, names: Sequence[str]) -> list[Section]:
    """The table of `compare.pairs`, where there are any."""
    found = {}
    for a, b, share, p in pairs[["first", "second", "wins", "p_holm"]].itertuples(index=False):
        star = "*" if p < 0.05 else ""
        found[a, b], found[b, a] = f"{share:.0%}{star}", f"{1 - share:.0%}{star}"
    if len(names) < 2:
        return []
    note = (
        "How often a run of the row has more hypervolume than one of the column, at the whole budget. A star: Mann-Whitney, "
        "two-sided, p below 0.05 after Holm's correction for all pairs."
    )
    numbers = [str(i) for i in range(1, len(names) + 1)]  # a dozen names with their settings would not fit side by side
    rows: list[list[Cell]] = [
        [f"{i}  {a}", *(found.get((a, b), "") for b in names)] for i, a in zip(numbers, names, strict=True)
    ]
    return [Section("Who beats whom", ["row against column", *numbers], rows, note)]


def _curves(summary: pd.DataFrame, scored: pd.DataFrame, names: Sequence[str], colours: dict[str, str], spent: str) -> Picture:
    figure: Figure = plots.new_figure(8.4, 4.2)
    ax = figure.subplots()
    for name in names:
        own = summary[summary["searcher"] == name]
        ax.plot(own["budget"], own["hypervolume"], color=colours[name], ls=_dashes(names, name), lw=1.6, label=name)
        ax.fill_between(own["budget"], own["low"], own["high"], color=colours[name], alpha=0.15, lw=0)
        for _, each in scored[scored["searcher"] == name].groupby("seed"):
            ax.plot(each["budget"], each["hypervolume"], color=colours[name], lw=0.3, alpha=0.25)
    ax.set(xscale="log", xlabel=spent, ylabel="relative hypervolume")
    low, high = summary["budget"].min(), summary["budget"].max()
    shown = [b for k in range(7) for b in (10**k, 2 * 10**k, 5 * 10**k) if low <= b < high / 1.2] + [high]
    ax.set_xticks(shown, [f"{b:,.10g}" for b in shown])
    ax.minorticks_off()
    ax.set_ylim(max(0.0, float(scored["hypervolume"].quantile(0.02))), 1.005)
    figure.legend(loc="outside right center", fontsize=8)
    caption = (
        "Relative hypervolume: objectives scaled to the true front's ideal and nadir, reference point 1.1, 1 for the whole "
        "front. Bold: means, with bootstrap 95 % intervals; thin: every seed."
    )
    return Picture("hypervolume", "Hypervolume against cost", caption, figure)


def _attainment(
    evaluations: pd.DataFrame,
    columns: Sequence[str],
    front: Floats,
    titles: Sequence[str],
    names: Sequence[str],
    colours: dict[str, str],
) -> Picture:
    figure: Figure = plots.new_figure(8.4, 4.2)
    ax = figure.subplots()
    ordered = front[np.argsort(front[:, 1])]
    x, y = columns[1], columns[0]
    span = np.ptp(front, axis=0)
    at = np.linspace(ordered[0, 1], ordered[-1, 1] + 0.05 * span[1], 400)
    # The cheapest members may be networks that learned nothing; with them in the picture nothing else could be told apart.
    high = float(np.quantile(front[:, 0], 0.9))
    beyond = int((front[:, 0] > high).sum())
    ax.plot(ordered[:, 1], ordered[:, 0], color="#b8bcc4", lw=4, drawstyle="steps-post", label="true front", zorder=0)
    for name in names:
        own = evaluations[evaluations["searcher"] == name]
        runs = [each[[x, y]].to_numpy() for _, each in own.groupby("seed")]
        ax.plot(at, compare.median_attainment(runs, at), color=colours[name], ls=_dashes(names, name), lw=1.1, label=name)
    margin = 0.1 * (high - front[:, 0].min())
    ax.set_ylim(front[:, 0].min() - margin, high + margin)
    ax.set(xlabel=titles[1], ylabel=titles[0])
    figure.legend(loc="outside right center", fontsize=8)
    caption = (
        "What half of the runs reach: for each value of one objective, the median over seeds of the best other one. "
        f"The worst tenth of the true front, {beyond} members, lies above the picture."
    )
    return Picture("attainment", "Median attainment", caption, figure)
