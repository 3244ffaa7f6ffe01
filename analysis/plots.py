"""Plots. Each function draws arrays or tables that have been computed already on axes that the caller provides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.graphs import Graph

INK, FAINT, FRONT, HONEST, BEATEN, OUTSIDE = "#222222", "#b8bcc4", "#c0392b", "#1f7a4d", "#8a8f98", "#7d3c98"
OPTIONS = (
    "#c9ccd1", "#e0a458", "#7fb2d9", "#27618f", "#9ac29b", "#8e6bad", "#d98c8c", "#5b7a70",
    "#c7b446", "#a0522d", "#e3b7d2", "#4d4d4d", "#b5d3e7", "#6a994e", "#f2cc8f", "#3d405b",
)  # fmt: skip
SEARCHES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6d31", "#6a51a3")
"""Colours of searches and runs over one another, the first six after Okabe and Ito (2008), who chose them for all eyes."""

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#ececec",
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "legend.frameon": False,
    "figure.dpi": 110,
    "svg.fonttype": "none",
    "svg.hashsalt": "paretoray",
    "text.parse_math": False,  # titles of objectives are a user's own; a price in $ is no formula
}


@dataclass(frozen=True)
class Picture:
    """Figure of a page, with the name of its file, its heading and its caption.

    Args:
        name: File name without suffix.
        title: Heading on the page; empty for a figure that continues the one before it.
        caption: Text below the figure.
        figure: The figure itself.
        graph: The graph that the figure draws, if it draws one; it is also written in Graphviz's language.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    graph: Graph | None = None


def style() -> AbstractContextManager[None]:
    """Context in which figures are created, drawn and saved in the style of our reports."""
    return mpl.rc_context(STYLE)  # type: ignore[arg-type]


def new_figure(width: float, height: float) -> Figure:
    """Create a figure outside pyplot, so that no global state changes; sizes are in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def lay_out(figure: Figure) -> None:
    """Lay out a figure for good, which takes as long as drawing it, and would be done again each time that it is saved."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def colour_of(search: int, searches: int) -> str:
    """Colour of one of several searches; beyond as many as there are colours, all have the same."""
    return SEARCHES[search] if searches <= len(SEARCHES) else FAINT


def use_log(axis: Axis) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 of each decade: in `STYLE`, powers would be shown as TeX."""
    (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def needs_log(values: np.ndarray) -> bool:
    """Tell whether values reach so far apart, by a factor of 20, that a linear axis would pile up most of them."""
    return bool(len(values)) and float(values.min()) > 0 and float(values.max()) >= 20 * float(values.min())


def draw_hypervolume(ax: Axes, spent: np.ndarray, values: np.ndarray, label: str, colour: str, name: str = "") -> None:
    """Plot the hypervolume of all samples so far against the budget spent.

    Args:
        ax: Axes to draw on.
        spent: (samples,).
        values: (samples,), shares of the reference box.
        label: Axis label of `spent`.
        colour: Colour of the line.
        name: Its name in the legend.
    """
    ax.plot(spent, values, color=colour, lw=1.6, drawstyle="steps-post", label=name)
    ax.set_xlabel(label)
    ax.set_ylabel("hypervolume of samples (share of box)")
    ax.set_xlim(left=0)


def draw_sampled(ax: Axes, values: np.ndarray, title: str, colour: str, name: str = "") -> None:
    """Plot how the values of samples change over a search: median, and the band from the 10th to the 90th percentile.

    Args:
        ax: Axes to draw on.
        values: (samples,), in the order of the search; they are put into up to 20 equal bins.
        title: Axis label.
        colour: Colour of the line and the band.
        name: Its name in the legend.
    """
    bins = np.array_split(np.arange(len(values)), max(1, min(20, len(values) // 10)))
    middle = [float(rows.mean()) + 1 for rows in bins]
    low, median, high = (np.array([np.quantile(values[rows], q) for rows in bins]) for q in (0.1, 0.5, 0.9))
    ax.fill_between(middle, low, high, color=colour, alpha=0.15, lw=0)
    ax.plot(middle, median, color=colour, lw=1.6, marker=".", label=name)
    ax.set_xlabel("samples measured")
    ax.set_ylabel(title)
    if needs_log(values):
        use_log(ax.yaxis)


def draw_prediction(ax: Axes, measured: Sequence[float], predicted: Sequence[float], title: str) -> None:
    """Plot predictions against measurements, a point per network; on the line they agree.

    Args:
        ax: Axes to draw on.
        measured: (networks,).
        predicted: (networks,), in the same unit.
        title: The quantity and its unit, for both axis labels.
    """
    low, high = min(*measured, *predicted), max(*measured, *predicted)
    margin = 0.05 * (high - low)
    ax.axline((low, low), slope=1, color=INK, lw=0.8, zorder=1)
    ax.scatter(measured, predicted, s=14, color="#27618f", alpha=0.8, linewidths=0, zorder=2)
    ax.set_xlim(low - margin, high + margin)
    ax.set_ylim(low - margin, high + margin)
    ax.set_aspect("equal")
    ax.set_xlabel(f"measured {title}")
    ax.set_ylabel(f"predicted {title}")


def draw_inherited(ax: Axes, inherited: pd.Series, true: pd.Series, colour: str, label: str) -> None:
    """Plot the true accuracy of networks against that with inherited weights."""
    ax.scatter(inherited, true, s=18, color=colour, alpha=0.7, linewidths=0, label=label)


def draw_taus(ax: Axes, taus: np.ndarray, offset: float, colour: str, label: str) -> None:
    """Plot rank correlations with their intervals, a line each.

    Args:
        ax: Axes to draw on.
        taus: (lines, 3): value, lower and upper bound; NaN where there is none.
        offset: Height above the middle of a line.
        colour: Colour of the points.
        label: Their name in the legend.
    """
    lines = np.arange(len(taus)) - offset
    ax.hlines(lines, taus[:, 1], taus[:, 2], color=colour, lw=1.2, alpha=0.6)
    ax.scatter(taus[:, 0], lines, s=20, color=colour, linewidths=0, label=label, zorder=3)
    ax.axvline(0.0, color=INK, lw=0.6)
    ax.set_xlabel("tau")


def draw_skips(
    ax: Axes, samples: Sequence[pd.DataFrame], policy: pd.DataFrame | None, front: float, chance: float, names: Sequence[str]
) -> None:
    """Plot the share of skip connections over the weight steps.

    Args:
        ax: Axes to draw on.
        samples: Of each search the columns `step` and `share`, in order; shown as means of up to 40 equal bins.
        names: Names of the searches in the legend.
        policy: Columns `step` and `share`, or None.
        front: Share on the front; NaN for none.
        chance: Share in uniformly random networks.
    """
    for i, (rows, name) in enumerate(zip(samples, names, strict=True)):
        bins = np.array_split(np.arange(len(rows)), min(40, len(rows))) if len(rows) else []
        means = [rows.iloc[chosen].mean() for chosen in bins]
        colour = INK if len(samples) == 1 else colour_of(i, len(samples))
        ax.plot([m["step"] for m in means], [m["share"] for m in means], color=colour, lw=1.2, marker=".", ms=4, label=name)
    if policy is not None:
        ax.plot(policy["step"], policy["share"], color="#27618f", lw=1.4, label="policy")
    if np.isfinite(front):
        ax.axhline(front, color=FRONT, lw=1.0, label="the front")
    ax.axhline(chance, color="#888888", lw=1.0, ls=":", label="by chance")
    ax.set_xlabel("weight steps")
    ax.set_ylabel("share of skips")
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlim(left=0)


def disagreement(names: Sequence[str], costs: np.ndarray, correlation: np.ndarray, title: str) -> Figure:
    """Draw how far devices disagree: a map of rank correlations, and the two that agree least, network by network.

    Args:
        names: Names of the devices.
        costs: (networks, devices).
        correlation: (devices, devices).
        title: Title of the figure.
    """
    size = max(3.2, 0.45 * len(names) + 1.6)
    figure = new_figure(size + 4.2, size)
    left, right = figure.subplots(1, 2, width_ratios=[size, 4])
    left.imshow(correlation, cmap="RdYlGn", vmin=0, vmax=1)
    left.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    left.set_yticks(range(len(names)), names, fontsize=7)
    left.grid(False)
    for i, row in enumerate(correlation):
        for j, value in enumerate(row):
            colour = "white" if value > 0.93 else INK
            left.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=6 if len(names) > 6 else 8)
    left.set_title("rank correlation of costs", fontsize=9)
    a, b = divmod(int(np.argmin(correlation)), len(names))
    right.scatter(costs[:, a], costs[:, b], s=8, color="#27618f", alpha=0.5, linewidths=0)
    right.set_xlabel(names[a])
    right.set_ylabel(names[b])
    right.set_title(f"least agreement: {correlation[a, b]:.2f}", fontsize=9)
    figure.suptitle(title, fontsize=9)
    return figure


def draw_proxies(ax: Axes, names: Sequence[str], seconds: np.ndarray, within: np.ndarray, target: float) -> None:
    """Draw concordance within cost levels over the cost of a training; the dotted line is the target's cost.

    Args:
        ax: Where to draw.
        names: Names of the proxies.
        seconds: (proxies,), cost of training a network.
        within: (proxies, 3), concordance and the bounds of its interval, NaN where there is none.
        target: Cost of training a network at the target; NaN where it is not known.
    """
    errors = np.nan_to_num(np.abs(within[:, 1:] - within[:, :1])).T
    ax.errorbar(seconds, within[:, 0], yerr=errors, fmt="o", color=FRONT, ecolor=FAINT, ms=5, capsize=2)
    ax.axhline(0, color=INK, lw=0.8)
    if np.isfinite(target):
        ax.axvline(target, color=HONEST, lw=1.0, ls=":")
        ax.text(target, 1.0, "target ", color=HONEST, fontsize=8, ha="right", va="top", transform=ax.get_xaxis_transform())
    ax.set_xlim(0.5 * np.nanmin([*seconds, target]), 1.4 * np.nanmax([*seconds, target]))
    use_log(ax.xaxis)
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
    for name, x, y in zip(names, seconds, within[:, 0], strict=True):
        ax.annotate(name, (x, y), (-6, 4), textcoords="offset points", ha="right", fontsize=8, bbox=behind)
    ax.set_xlabel("seconds a network")
    ax.set_ylabel("concordance within cost levels")


def option_colours(choices: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Colour of each option's name, the same in all choices; colours repeat beyond sixteen names.

    Args:
        choices: Names of the options of each choice.
    """
    names = dict.fromkeys(option for options in choices.values() for option in options)
    return {name: OPTIONS[i % len(OPTIONS)] for i, name in enumerate(names)}


def draw_policy(axes: Sequence[Axes], policy: pd.DataFrame, choices: Mapping[str, Sequence[str]]) -> None:
    """Stack the probabilities of each choice's options over the weight steps; dotted lines mark new stages.

    Args:
        axes: A panel per choice.
        policy: Rows of policy.csv: `step`, `stage` and a column `CHOICE/OPTION` per option.
        choices: Names of the options of each choice.
    """
    colours = option_colours(choices)
    boundaries = policy["step"][policy["stage"].diff() > 0]
    for ax, (choice, options) in zip(axes, choices.items(), strict=True):
        shares = [policy[f"{choice}/{option}"].to_numpy() for option in options]
        ax.stackplot(policy["step"], shares, colors=[colours[o] for o in options], linewidth=0)
        for step in boundaries:
            ax.axvline(step, color=INK, lw=0.8, ls=":")
        ax.set_title(choice, fontsize=9)
        ax.set_xlim(policy["step"].min(), policy["step"].max())
        ax.set_ylim(0, 1)
        ax.grid(False)
