"""The page of a benchmark: tables, pictures and tests, from the evaluations alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import compare, plots
from analysis.pareto import Floats
from analysis.report import Picture, _svg

COLOURS = (
    "#27618f", "#c0392b", "#1f7a4d", "#e0a458", "#8e6bad", "#4d4d4d",
    "#7fb2d9", "#d98c8c", "#9ac29b", "#a0522d", "#c7b446", "#e3b7d2",
)  # fmt: skip


def write(
    directory: Path,
    evaluations: pd.DataFrame,
    columns: Sequence[str],
    front: Floats,
    titles: Sequence[str],
    protocol: Sequence[str],
) -> pd.DataFrame:
    """Writes report.html, summary.csv and plots/ into `directory`; returns the summary.

    evaluations: `searcher`, `seed`, and costs in `columns`, in order. front: the true one. titles: of the columns.
    """
    size = int(evaluations.groupby(["searcher", "seed"], sort=False).size().max())
    marks = [b for b in (50, 100, 200, 400, 800, 1600) if b < size] + [size]
    along = sorted({*np.unique(np.geomspace(min(10, size), size, 24).astype(int)).tolist(), *marks})
    scored = compare.scores(evaluations, columns, front, along)
    summary = compare.summary(scored)
    summary.to_csv(directory / "summary.csv", index=False)
    best = summary[summary["budget"] == size].sort_values("hypervolume", ascending=False)
    names = best["searcher"].tolist()
    seeds = int(evaluations["seed"].nunique())
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    with plots.style():
        pictures = [_curves(summary, scored, names, colours)]
        if len(columns) == 2:
            pictures.append(_attainment(evaluations, columns, front, titles, names, colours))
        (directory / "plots").mkdir(exist_ok=True)
        for picture in pictures:
            picture.figure.savefig(directory / "plots" / f"{picture.name}.png", dpi=150)
        drawn = [{"title": p.title, "caption": p.caption, "svg": _svg(p.figure)} for p in pictures]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("bench.html").render(
        title=f"{' against '.join(titles)}: {len(names)} searchers",
        lead="Evaluations are looked up in a table of trained networks: the true front is known, and cost is counted exactly.",
        facts=[
            (str(len(names)), "searchers"),
            (str(seeds), "seeds"),
            (f"{size:,}", "architectures each"),
            (str(len(front)), "on the true front"),
        ],
        notes=[] if seeds > 4 else ["With fewer than five seeds neither intervals nor tests say much."],
        budgets=marks,
        rows=[_row(summary, name, marks) for name in names],
        figures=drawn,
        names=names,
        wins=_wins(compare.pairs(scored, size), names),
        protocol=protocol,
    )
    (directory / "report.html").write_text(page)
    return summary


def _row(summary: pd.DataFrame, name: str, marks: Sequence[int]) -> dict[str, object]:
    own = summary[summary["searcher"] == name].set_index("budget")
    last = own.loc[marks[-1]]
    cells = [[f"{v:.3f}" for v in own.loc[mark, ["hypervolume", "low", "high"]].to_numpy(dtype=float)] for mark in marks]
    return {"searcher": name, "cells": cells, "igd_plus": f"{last['igd_plus']:.4f}", "found": f"{last['found']:.0%}"}


def _wins(pairs: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    found = {}
    for a, b, wins, p in pairs[["first", "second", "wins", "p_holm"]].itertuples(index=False):
        star = "*" if p < 0.05 else ""
        found[a, b], found[b, a] = f"{wins:.0%}{star}", f"{1 - wins:.0%}{star}"
    return [(a, [found.get((a, b), "") for b in names]) for a in names] if len(names) > 1 else []


def _curves(summary: pd.DataFrame, scored: pd.DataFrame, names: Sequence[str], colours: dict[str, str]) -> Picture:
    figure: Figure = plots.new_figure(8.4, 4.2)
    ax = figure.subplots()
    for name in names:
        own = summary[summary["searcher"] == name]
        ax.plot(own["budget"], own["hypervolume"], color=colours[name], lw=1.6, label=name)
        ax.fill_between(own["budget"], own["low"], own["high"], color=colours[name], alpha=0.15, lw=0)
        for _, each in scored[scored["searcher"] == name].groupby("seed"):
            ax.plot(each["budget"], each["hypervolume"], color=colours[name], lw=0.3, alpha=0.25)
    ax.set(xscale="log", xlabel="different architectures evaluated", ylabel="relative hypervolume")
    shown = [b for b in (10, 20, 50, 100, 200, 400, 1000, 2000, 5000, 10_000) if b <= summary["budget"].max()]
    ax.set_xticks(shown, [f"{b:,}" for b in shown])
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
    ax.plot(ordered[:, 1], ordered[:, 0], color="#b8bcc4", lw=4, drawstyle="steps-post", label="true front", zorder=0)
    for name in names:
        own = evaluations[evaluations["searcher"] == name]
        runs = [each[[x, y]].to_numpy() for _, each in own.groupby("seed")]
        ax.plot(at, compare.median_attainment(runs, at), color=colours[name], lw=1.1, label=name)
    ax.set_ylim(front[:, 0].min() - 0.05 * span[0], front[:, 0].max() + 0.1 * span[0])
    ax.set(xlabel=titles[1], ylabel=titles[0])
    figure.legend(loc="outside right center", fontsize=8)
    caption = "What half of the runs reach: for each value of one objective, the median over seeds of the best other one."
    return Picture("attainment", "Median attainment", caption, figure)
