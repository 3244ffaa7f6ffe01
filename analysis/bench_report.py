"""Report of a benchmark: tables, plots and tests, computed from the evaluations alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from analysis import compare, plots, records
from analysis.files import replacing, write_text
from analysis.page.render import inline, render
from analysis.pareto import Floats
from analysis.plots import Picture
from analysis.trust import RANDOM, statistics_of, true_of

COLOURS = (
    "#27618f", "#c0392b", "#1f7a4d", "#e0a458", "#8e6bad", "#4d4d4d",
    "#7fb2d9", "#d98c8c", "#9ac29b", "#a0522d", "#c7b446", "#e3b7d2",
)  # fmt: skip


Cell = str | tuple[str, str]


@dataclass(frozen=True)
class Section:
    """Table of the page.

    Args:
        title: Heading.
        head: Column headings.
        rows: Cells; a pair is a value and an annotation in small print.
        note: Text below the table.
    """

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
    """Write report.html, summary.csv and plots/ of a benchmark on a table into `directory`.

    Args:
        directory: Folder of the benchmark.
        evaluations: Rows in order of evaluation: `searcher`, `seed`, `spent` so far, and the costs in `columns`.
        columns: Names of the cost columns.
        front: The true front, (points, objectives).
        titles: Axis label of each column.
        protocol: Sentences on how it was measured, for the end of the page.
        size: The budget of each run.
        unit: Name of the table's time column in which `spent` is counted; None if it counts architectures.

    Returns:
        The table of `compare.summary`.
    """
    if unit is None:
        marks = [*(b for b in (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0) if b < size), size]
        budgets = sorted({*np.floor(np.geomspace(min(10, size), size, 24)[:-1]).tolist(), *marks})
    else:
        marks = [size / 8, size / 4, size / 2, size]
        budgets = sorted({*np.geomspace(size / 40, size, 24)[:-1].tolist(), *marks})
    scored = compare.scores(evaluations, columns, front, budgets)
    summary = compare.summary(scored)
    written = {**compare.WRITTEN, "budget": f"budget_{unit or 'evaluations'}"}
    records.write(summary.rename(columns=written), directory / "summary.csv")
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
        f"Means over seeds with bootstrap 95 % intervals, by {spent}. The last two columns are for the largest budget.",
    )
    page(
        directory,
        title=f"{' against '.join(titles)}: {len(names)} searchers",
        lead="Evaluations are look-ups in a table of trained networks, so the true front is known and cost is counted exactly.",
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
    searches: pd.DataFrame,
    fronts: pd.DataFrame,
    columns: Sequence[str],
    front: Floats,
    titles: Sequence[str],
    protocol: Sequence[str],
    known: bool,
    inherited: Mapping[tuple[str, int], pd.DataFrame],
) -> None:
    """Write report.html and plots/ of a benchmark of whole searches into `directory`.

    Args:
        directory: Folder of the benchmark.
        searches: A row per search: `searcher`, `seed`, `hypervolume`, `seconds`, `images`, `tau`, `members`, `architectures`,
            `repeated`, `skips`, `skips_by_chance`; where the ranking of shared weights was measured also `ranked` and, for
            each kind of normalisation statistics, `tau_STATISTICS`, `tau_STATISTICS_low` and `tau_STATISTICS_high`.
        fronts: `searcher` and the true costs, in `columns`, of each member of the fronts returned.
        columns: Names of the cost columns.
        front: The true front, (points, objectives), or the front of all members returned.
        titles: Axis label of each column.
        protocol: Sentences on how it was measured, for the end of the page.
        known: True if `front` is the true front.
        inherited: Rows of trust.csv, by searcher and seed.
    """
    scored = searches[["searcher", "seed", "hypervolume"]].assign(budget=1, igd_plus=np.nan, found=np.nan)
    summary = compare.summary(scored).set_index("searcher").sort_values("hypervolume", ascending=False)
    names = summary.index.tolist()
    colours = _colours(names)
    means = searches.groupby("searcher")[["seconds", "images", "tau", "members", "architectures"]].mean()
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
    note = "Means over seeds; hypervolume with bootstrap 95 % intervals. Tau: Kendall's, between the error that the search " + (
        "measured last and the true one." if known else "measured and the true one, over the members of its front."
    )
    head = ["searcher", "relative hypervolume", "seconds", "images", "networks measured", "returned", "tau"]
    with plots.style():
        pictures = [_costs(searches, names, colours)]
        if len(columns) == 2:
            pictures.append(_returned(fronts, columns, front, titles, names, colours, known))
        if inherited:
            pictures.append(_inherited(inherited, names, titles[0].removeprefix("100 - ")))
    seeds = int(searches["seed"].nunique())
    page(
        directory,
        title=f"{' against '.join(titles)}: {len(names)} searches",
        lead="Whole searches at equal cost, each training its own weights, compared by the true values of their fronts.",
        facts=[
            (str(len(names)), "searchers"),
            (str(seeds), "seed" if seeds == 1 else "seeds"),
            (f"{searches['seconds'].mean():,.0f} s", "per search"),
        ],
        sections=[
            Section("True hypervolume of the fronts returned", head, rows, note),
            *wins(compare.pairs(scored, 1), names),
            _trusted(searches, names),
        ],
        pictures=pictures,
        seeds=seeds,
        protocol=protocol,
    )


def _costs(searches: pd.DataFrame, names: Sequence[str], colours: dict[str, str]) -> Picture:
    figure: Figure = plots.new_figure(8.4, 3.8)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, column, label in zip(axes, ("seconds", "images"), ("seconds of search", "images seen"), strict=True):
        for name in names:
            runs = searches[searches["searcher"] == name]
            ax.scatter(runs[column], runs["hypervolume"], color=colours[name], s=26, alpha=0.8, label=name, lw=0)
        ax.set(xlabel=label, xlim=(0, 1.08 * searches[column].max()))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.locator_params(axis="x", nbins=6)
    axes[0].set_ylabel("relative hypervolume")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    caption = "A point per search: the true hypervolume of its front, against the cost of the search in time and in images."
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
        members = fronts[fronts["searcher"] == name]
        ax.scatter(members[x], members[y], color=colours[name], s=14, alpha=0.7, lw=0, label=name)
    span = np.ptp(front[:, 0])
    high = max(front[:, 0].max() + 0.2 * span, float(fronts[y].quantile(0.9)))
    ax.set_ylim(front[:, 0].min() - 0.1 * span, high)
    ax.set(xlabel=titles[1], ylabel=titles[0])
    figure.legend(loc="outside right center", fontsize=8)
    clipped = int((fronts[y] > high).sum())
    note = f" {clipped} lie above the plot." if clipped else ""
    return Picture("fronts", "The fronts returned", f"Every member of every front, by its true values.{note}", figure)


def _trusted(searches: pd.DataFrame, names: Sequence[str]) -> Section:
    """Tabulate how well each method's weights rank networks, its repeats and its skips."""
    judged = [s for s in ("batch", "running", "recalibrated") if f"tau_{s}" in searches and searches[f"tau_{s}"].notna().any()]
    means = searches.groupby("searcher").mean(numeric_only=True)
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
            "Tau: Kendall's, between inherited and true accuracy of random networks, with the mean of the seeds' bootstrap "
            "95 % intervals. Networks are drawn from the surviving options, which are harder to rank than all of them, and "
            "measured on up to 2,000 images of the validation set, with normalisation statistics of each batch, running "
            "averages of training, or statistics recalibrated for each network on training images. "
        )
    note += (
        "Repeats: recorded samples that the same search had sampled before. Skips: their share among the choices that offer "
        "one, in the networks returned; costs favour them."
    )
    head = ["searcher", *(f"tau, {s}" for s in judged), *(["networks ranked"] if judged else [])]
    return Section("Can the weights be trusted?", [*head, "repeats", "skips", "skips by chance"], rows, note)


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
        for statistics, column in statistics_of(table).items():
            plots.draw_inherited(ax, random[column], true_of(random), colours[statistics], statistics)
        ax.set_title(name, fontsize=8)
        ax.set_xlabel("inherited accuracy (%)")
    for ax in axes[len(first) :]:
        ax.set_axis_off()
    for ax in axes[::across]:
        ax.set_ylabel(truth)
    shown = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, fontsize=8)
    caption = (
        "Random networks: the table's first objective against accuracy with each searcher's weights, for its lowest seed. Only "
        "the order matters."
    )
    return Picture("trust", "True against inherited accuracy", caption, figure)


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
    """Write report.html, and the pictures into plots/.

    Args:
        directory: Folder of the benchmark.
        title: Heading.
        lead: Introductory paragraph.
        facts: (value, label) pairs for the top of the page.
        sections: Tables; the first one precedes the pictures.
        pictures: Plots.
        seeds: Number of seeds; below five the page warns that intervals and tests say little.
        protocol: Sentences on how it was measured.
    """
    (directory / "plots").mkdir(exist_ok=True)
    with plots.style():
        for picture in pictures:
            with replacing(directory / "plots" / f"{picture.name}.png") as temporary:
                picture.figure.savefig(temporary, dpi=150)
        figures = inline(pictures)
    text = render(
        "bench.html",
        title=title,
        lead=lead,
        facts=facts,
        notes=[] if seeds > 4 else ["With fewer than five seeds, neither intervals nor tests say much."],
        sections=sections,
        figures=figures,
        protocol=protocol,
    )
    write_text(directory / "report.html", text)


def _colours(names: Sequence[str]) -> dict[str, str]:
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def _dashes(names: Sequence[str], name: str) -> str:
    """Line style of a searcher; from the thirteenth on lines are dashed, because colours repeat."""
    return "-" if names.index(name) < len(COLOURS) else "--"


def _row(summary: pd.DataFrame, name: str, marks: Sequence[float]) -> list[Cell]:
    by_budget = summary[summary["searcher"] == name].set_index("budget")
    last = by_budget.loc[marks[-1]]
    values = [by_budget.loc[mark, ["hypervolume", "low", "high"]].to_numpy(dtype=float) for mark in marks]
    single = last["seeds"] == 1  # one run has no interval
    cells: list[Cell] = [f"{v:.3f}" if single else (f"{v:.3f}", f"{low:.3f}..{high:.3f}") for v, low, high in values]
    return [name, *cells, f"{last['igd_plus']:.4f}", f"{last['found']:.0%}"]


def wins(pairs: pd.DataFrame, names: Sequence[str]) -> list[Section]:
    """Tabulate `compare.pairs`; no section for a single searcher.

    Args:
        pairs: The table of `compare.pairs`.
        names: Searchers in the order of rows and columns.
    """
    shares = {}
    for a, b, share, p in pairs[["first", "second", "wins", "p_holm"]].itertuples(index=False):
        star = "*" if p < 0.05 else ""
        shares[a, b], shares[b, a] = f"{share:.0%}{star}", f"{1 - share:.0%}{star}"
    if len(names) < 2:
        return []
    note = (
        "Share of pairs of runs in which the row has more hypervolume than the column, at the full budget. A star marks a "
        "two-sided Mann-Whitney p below 0.05 after Holm's correction for all pairs."
    )
    numbers = [str(i) for i in range(1, len(names) + 1)]  # a dozen names with their settings would not fit side by side
    rows: list[list[Cell]] = [
        [f"{i}  {a}", *(shares.get((a, b), "") for b in names)] for i, a in zip(numbers, names, strict=True)
    ]
    return [Section("Pairwise comparison", ["row against column", *numbers], rows, note)]


def _curves(summary: pd.DataFrame, scored: pd.DataFrame, names: Sequence[str], colours: dict[str, str], spent: str) -> Picture:
    figure: Figure = plots.new_figure(8.4, 4.2)
    ax = figure.subplots()
    for name in names:
        mean = summary[summary["searcher"] == name]
        ax.plot(mean["budget"], mean["hypervolume"], color=colours[name], ls=_dashes(names, name), lw=1.6, label=name)
        ax.fill_between(mean["budget"], mean["low"], mean["high"], color=colours[name], alpha=0.15, lw=0)
        for _, run in scored[scored["searcher"] == name].groupby("seed"):
            ax.plot(run["budget"], run["hypervolume"], color=colours[name], lw=0.3, alpha=0.25)
    ax.set(xscale="log", xlabel=spent, ylabel="relative hypervolume")
    low, high = summary["budget"].min(), summary["budget"].max()
    shown = [b for k in range(7) for b in (10**k, 2 * 10**k, 5 * 10**k) if low <= b < high / 1.2] + [high]
    ax.set_xticks(shown, [f"{b:,.10g}" for b in shown])
    ax.minorticks_off()
    ax.set_ylim(max(0.0, float(scored["hypervolume"].quantile(0.02))), 1.005)
    figure.legend(loc="outside right center", fontsize=8)
    caption = (
        "Relative hypervolume: objectives are scaled to the true front's ideal and nadir, the reference point is 1.1, and 1 is "
        "the whole front. Bold: means with bootstrap 95 % intervals; thin: single seeds."
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
    # The cheapest members may be networks that learned nothing; an axis that includes them would hide all other differences.
    high = float(np.quantile(front[:, 0], 0.9))
    clipped = int((front[:, 0] > high).sum())
    ax.plot(ordered[:, 1], ordered[:, 0], color="#b8bcc4", lw=4, drawstyle="steps-post", label="true front", zorder=0)
    for name in names:
        rows = evaluations[evaluations["searcher"] == name]
        runs = [run[[x, y]].to_numpy() for _, run in rows.groupby("seed")]
        ax.plot(at, compare.median_attainment(runs, at), color=colours[name], ls=_dashes(names, name), lw=1.1, label=name)
    margin = 0.1 * (high - front[:, 0].min())
    ax.set_ylim(front[:, 0].min() - margin, high + margin)
    ax.set(xlabel=titles[1], ylabel=titles[0])
    figure.legend(loc="outside right center", fontsize=8)
    caption = (
        "What half of the runs attain: for each value of one objective, the median over seeds of the best value of the other. "
        f"The worst tenth of the true front, {clipped} members, lies above the plot."
    )
    return Picture("attainment", "Median attainment", caption, figure)
