"""Figures of a report, which are also kept as PNG: fronts, the course of the search, the policy, and networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis import choosing, drawing, front_plots, front_table, members, plots
from analysis.curves import hypervolume_curve
from analysis.pareto import attained, violations
from analysis.plots import Picture
from analysis.records import CONFIDENCE, MEMBER, SAMPLE, front_of, margins, samples_of, tested, training
from analysis.run import Run

_PANELS = 28
"""Largest number of choices shown of a policy: those of a pair of cells."""
_NETWORKS = 6
"""Networks whose drawings are kept as PNG."""


def fronts(run: Run) -> list[Picture]:
    """Draw the retrained front, where there is one, the search's, and with three objectives what is attained."""
    titles, trained = run.summary["objectives"], members.retrained(run.members)
    pictures = []
    if len(trained):
        figure = _pairs(run, trained, lambda ax, x, y: front_plots.draw_retrained(ax, trained, x, y, titles), after=True)
        caption = (
            f"Members after {training(run.summary)} by test error ({CONFIDENCE:.0%} intervals); lower left is better. Stars: "
            "the front made anew; the line joins those that are non-dominated in that pair. Grey crosses: beaten by another. "
            "Numbers are those of the table, and the ring is the knee."
        )
        if run.references:
            caption += " Purple diamonds are networks trained separately, with their test errors."
        pictures.append(Picture("front", "The front after retraining, pair by pair", caption, figure))
    named = run.members if len(run.members) <= 40 else run.members.head(0)
    drawn = lambda ax, x, y: front_plots.draw_front(ax, run.evaluations, run.members, x, y, titles, run.searches)  # noqa: E731
    figure = _pairs(run, named, drawn, after=False)
    caption = (
        "What the search measured, without far outliers; lower left is better. The line joins points that are non-dominated "
        "in that pair."
    )
    if run.searches:
        caption += " Members of the merged front, outlined in black, have the colour of the search that found them."
    if margins(run.front, run.error).notna().any():
        caption += f" Bars: {CONFIDENCE:.0%} intervals of the search's estimate."
    title, name = ("The search's front", "front-of-search") if len(trained) else ("The front", "front")
    pictures.append(Picture(name, f"{title}, pair by pair", caption, figure))
    shown = len(titles) == 3 and (len(choosing.candidates(run)) > 1 or (run.searches and not len(trained)))
    return pictures + ([attainment(run)] if shown else [])


def _pairs(run: Run, labelled: pd.DataFrame, draw: Callable[[Axes, str, str], None], *, after: bool) -> Figure:
    """Make a figure with a panel for each pair of objectives, the error on the vertical axis."""
    pairs = [(b, a) for a, b in itertools.combinations(run.summary["objectives"], 2)]
    across = min(3, len(pairs))
    down = math.ceil(len(pairs) / across)
    figure = plots.new_figure(4.0 * across, 3.4 * down + (0.5 if across > 1 else 0.7))
    axes = list(figure.subplots(down, across, squeeze=False).ravel())
    knee = choosing.knee(run) if after or members.retrained(run.members).empty else None
    panels, test = [], tested(run.error).value
    for ax, (x, y) in zip(axes, pairs, strict=False):
        height = test if after and y == run.error else y
        draw(ax, x, y)
        if after and y == run.error:
            front_plots.draw_references(ax, run.references, x)
        for _, row in run.members[run.members[MEMBER] == knee].iterrows():
            front_plots.draw_knee(ax, row, x, height)
        front_plots.draw_limits(ax, run.summary["limits"], x, y)
        panels.append((ax, *_labels(labelled, run.references if height == test else (), x, height)))
    for ax in axes[len(pairs) :]:
        ax.set_axis_off()
    shown = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    # A single panel is narrower than four legend entries side by side.
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=4 if across > 1 else 2, fontsize=8)
    front_plots.write_labels(figure, panels)
    return figure


def _labels(rows: pd.DataFrame, references: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[np.ndarray, list[str]]:
    """Points of a panel that have a text: members with their numbers, references with their names."""
    named = [([row[x], row[y]], str(row[MEMBER])) for _, row in rows.iterrows()]
    named += [([r[x], r[y]], str(r["name"])) for r in references if x in r]
    return np.array([point for point, _ in named], dtype=float).reshape(-1, 2), [text for _, text in named]


def attainment(run: Run) -> Picture:
    """Draw the lowest error within bounds of both costs: of the retrained front, or of the search's, or over a sweep's."""
    error, x, y = run.summary["objectives"]
    titles, trained = dict(run.summary["objectives"]), members.retrained(run.members)
    whose = "of the front"
    if len(trained):
        points, whose = [members.true_costs(members.on_front(trained), [error, x, y])], "of the retrained front"
        titles[error] = front_table.test_title(titles[error])
    elif run.searches:
        limits = [run.summary["limits"].get(c) for c in (error, x, y)]
        tables = [rows for _, rows in run.evaluations.groupby("search")]
        points = [front_of(table, [error, x, y], limits)[[error, x, y]].to_numpy(dtype=float) for table in tables]
        whose = "in half of the searches"
    else:
        points = [run.front[[error, x, y]].to_numpy(dtype=float)]
    xs, ys = (np.unique(np.concatenate([front[:, i] for front in points])) for i in (1, 2))
    surfaces = np.stack([np.nan_to_num(attained(front, xs, ys), nan=np.inf) for front in points])
    surface = np.median(surfaces, axis=0)
    figure = plots.new_figure(6.4, 4.2)
    ax = figure.subplots()
    front_plots.draw_attained(ax, np.where(np.isinf(surface), np.nan, surface), xs, ys, [titles[c] for c in (error, x, y)])
    front_plots.draw_limits(ax, run.summary["limits"], x, y)
    if not run.searches or len(trained):
        rows = members.on_front(run.members)
        ax.scatter(rows[x], rows[y], s=20, color=plots.INK, zorder=3, edgecolors="white", linewidths=0.8)
        front_plots.write_labels(figure, [(ax, *_labels(rows, (), x, y))])
    caption = (
        f"Attainment {whose}: the lowest {front_table.name_of(titles[error])} among networks that cost no more than both axes "
        "say. Blank: no network is within both."
    )
    return Picture("attainment", "What is attained within both costs", caption, figure)


def course(run: Run) -> Picture | None:
    """Draw how the search went on: the values that it sampled, or the hypervolume of what it measured in full."""
    samples = samples_of(run.evaluations)
    if samples.empty:
        return None
    groups = [rows for _, rows in samples.groupby("search")] if "search" in samples else [samples]
    names = run.searches or [""]
    named = list(zip(groups, names, [plots.colour_of(i, len(names)) for i in range(len(names))], strict=False))
    figure = plots.new_figure(8.4, 3.0)
    axes = figure.subplots(1, 2)
    picture = _sampled if (samples["kind"] == SAMPLE).any() else _hypervolume
    title, caption = picture(run, axes, named)
    if len(names) > 1:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return Picture("course", title, caption, figure)


def _sampled(run: Run, axes: Sequence[Axes], named: Sequence[tuple[pd.DataFrame, str, str]]) -> tuple[str, str]:
    """Draw medians of the samples: on single batches, the best of ever more of them would improve by chance alone."""
    titles = run.summary["objectives"]
    for ax, column in zip(axes, list(titles)[:2], strict=True):
        for rows, name, colour in named:
            plots.draw_sampled(ax, rows[column].to_numpy(dtype=float), titles[column], colour, name)
    axes[0].set_ylabel(f"{front_table.name_of(titles[run.error])} on one batch (%)")
    caption = (
        "Median of the samples in the order of the search, with the band from the 10th to the 90th percentile. Each error is "
        "of one batch, so the best of them is partly luck and not shown; where the median falls, the search samples better "
        "networks, or the shared weights have learned."
    )
    return "What the search sampled", caption


def _hypervolume(run: Run, axes: Sequence[Axes], named: Sequence[tuple[pd.DataFrame, str, str]]) -> tuple[str, str]:
    searched = run.summary.get("searched", run.summary)  # samples have no costs that were measured after the search
    columns = list(searched["objectives"])
    reference = [searched["reference_point"][c] for c in columns]
    limits = [searched["limits"].get(c) for c in columns]
    for rows, name, colour in named:
        costs = rows[columns].to_numpy(dtype=float)
        costs[violations(costs, limits) > 0] = reference  # infeasible points must add no volume
        values = hypervolume_curve(costs, reference, rows["step"].to_numpy())
        plots.draw_hypervolume(axes[0], rows["seconds"].to_numpy(), values, "seconds of search", colour, name)
        plots.draw_hypervolume(axes[1], np.arange(1, len(rows) + 1), values, "samples measured", colour, name)
    axes[1].set_ylabel("")
    per_search = ", a line per search" if len(named) > 1 else ""
    caption = f"Hypervolume of all networks measured so far{per_search}. It rises when the search finds something new."
    return "Hypervolume over the search", caption


def policy(run: Run) -> list[Picture]:
    """Draw the probabilities of each choice's options; choices with the same options share a figure and its colours."""
    if run.policy is None or run.policy.empty:
        return []
    shown = dict(list(run.choices.items())[:_PANELS])
    groups: dict[tuple[str, ...], dict[str, Sequence[str]]] = {}
    for choice, options in shown.items():
        groups.setdefault(tuple(options), {})[choice] = options
    caption = "Probability of each option, a panel per choice. Dotted lines: a stage ends and its weakest options are dropped."
    if len(run.choices) > len(shown):
        caption += f" The first {len(shown)} of {len(run.choices)} choices; policy.csv has all."
    pictures = []
    for i, choices in enumerate(groups.values(), 1):
        name, title = ("policy", "The policy over time") if i == 1 else (f"policy-{i}", "")
        pictures.append(Picture(name, title, caption if i == len(groups) else "", _policy(run.policy, choices)))
    return pictures


def _policy(table: pd.DataFrame, choices: Mapping[str, Sequence[str]]) -> Figure:
    across = min(4 if len(choices) > 9 else 3, len(choices))
    down = math.ceil(len(choices) / across)
    colours = plots.option_colours(choices)
    width = 8.4 if across > 1 else 4.2
    figure = plots.new_figure(width, (1.7 if across < 4 else 1.3) * down + 0.5 + 0.2 * math.ceil(len(colours) / 5))
    axes = list(figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel())
    plots.draw_policy(axes[: len(choices)], table, choices)
    for ax in axes[len(choices) :]:
        ax.set_axis_off()
    for ax in axes[max(0, len(choices) - across) : len(choices)]:
        ax.set_xlabel("weight steps")
    for ax in axes[::across]:
        ax.set_ylabel("probability")
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5 if across > 1 else 3, len(handles)), fontsize=8)
    return figure


def networks(run: Run) -> tuple[dict[str, list[Picture]], list[tuple[int, str]]]:
    """Draw the members, by notation, with up to three graphs each; the second result are numbers of others, and why not."""
    numbers = dict(zip(run.front["arch"], run.front[MEMBER], strict=True))
    undrawn = [(int(numbers[arch]), reason) for arch, reason in run.undrawn.items() if arch in numbers]
    drawn: dict[str, list[Picture]] = {}
    for _, row in run.members[run.members["arch"].isin(list(run.drawings))].iterrows():
        graphs = run.drawings[row["arch"]]
        for title, graph in list(graphs.items())[:3]:
            name = f"network-{row[MEMBER]}-{title.replace(' ', '-')}"
            caption = f"{title}{f', one of {len(graphs)} graphs' if len(graphs) > 3 else ''}"
            caption += "; dotted: does not count, as it leads from no image or to no output" if graph.dead else ""
            try:
                picture = Picture(name, title, caption, drawing.figure(graph), graph)
            except Exception as error:  # a graph of any user's network; the page must not fail over a picture
                undrawn.append((int(row[MEMBER]), f"{title}, {type(error).__name__}: {error}"))
            else:
                drawn.setdefault(row["arch"], []).append(picture)
    return drawn, undrawn


def kept(run: Run, drawn: Mapping[str, Sequence[Picture]]) -> list[Picture]:
    """Choose the drawings that are kept as PNG: of the first few members, of those that were retrained where any were."""
    trained = members.retrained(run.members)
    rows = (trained if len(trained) else run.members).head(_NETWORKS)
    return [picture for arch in rows["arch"] for picture in drawn.get(arch, ())]
