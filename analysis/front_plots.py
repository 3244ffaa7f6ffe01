"""Plots of fronts: networks by pairs of objectives, with limits, searches in colours of their own, and readable numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import Bbox

from analysis import plots
from analysis.front_table import test_title
from analysis.members import FRONT as ON_FRONT
from analysis.plots import BEATEN, FAINT, FRONT, HONEST, INK, OUTSIDE, colour_of, needs_log, use_log
from analysis.records import COUNTS, SAMPLE, STANDING, VALIDATION, margins, tested, tested_by


def draw_front(
    ax: Axes,
    evaluations: pd.DataFrame,
    members: pd.DataFrame,
    x: str,
    y: str,
    titles: Mapping[str, str],
    searches: Sequence[str] = (),
) -> None:
    """Plot the search's front in two objectives: proxy evaluations, full-validation ones, and members.

    The line is the staircase of the members that are non-dominated in these two columns alone.

    Args:
        ax: Axes to draw on.
        evaluations: Rows of evaluations.csv.
        members: Rows as `analysis.members.table` returns them.
        x: Column on the horizontal axis.
        y: Column on the vertical axis; intervals are shown if it is the error.
        titles: Axis label of each column, that of the error first.
        searches: Names of the searches of a sweep, each of which gets a colour; empty for a single search.
    """
    if searches:
        _draw_searches(ax, evaluations, members, x, y, searches)
    else:
        for kind, size, colour, alpha, label in (
            (SAMPLE, 9, FAINT, 0.5, "sample, one batch"),
            (VALIDATION, 14, "#6a8fb5", 1.0, "full validation set"),
        ):
            rows = evaluations[evaluations["kind"] == kind]
            if len(rows):
                ax.scatter(rows[x], rows[y], s=size, color=colour, alpha=alpha, linewidths=0, label=label, rasterized=True)
        ax.scatter(members[x], members[y], s=26, color=FRONT, zorder=3, linewidths=0, label="front of the search")
    _stairs(ax, members, x, y, INK if searches else FRONT)
    half = margins(members, y) if y == next(iter(titles)) else pd.Series(np.nan, members.index)
    if half.notna().any():
        ax.errorbar(members[x], members[y], half, fmt="none", ecolor=FRONT, elinewidth=0.9, capsize=2, zorder=2)
    _scale(ax, members, x, y)
    if y == next(iter(titles)):
        _zoom(ax, [*members[y], *(members[y] - half).dropna(), *(members[y] + half).dropna()])
    for column, reach in ((x, ax.set_xlim), (y, ax.set_ylim)):
        if column != next(iter(titles)):
            _without_outliers(reach, evaluations[column], members[column])
    _label(ax, x, y, titles)


def _without_outliers(reach: Callable[[float, float], object], evaluations: pd.Series, members: pd.Series) -> None:
    """Limit an axis where a disturbed timing would squeeze all others into a corner."""
    high = 1.1 * max(evaluations.quantile(0.95), members.max())
    if evaluations.max() > 2 * high:
        reach(0.9 * min(evaluations.min(), members.min()), high)


def _draw_searches(ax: Axes, evaluations: pd.DataFrame, members: pd.DataFrame, x: str, y: str, searches: Sequence[str]) -> None:
    for i, name in enumerate(searches):
        colour, label = colour_of(i, len(searches)), name
        if colour == FAINT:
            label = f"one of {len(searches)} searches" if i == 0 else ""
        rows, own = (table[table["search"] == i] for table in (evaluations, members))
        ax.scatter(rows[x], rows[y], s=10, color=colour, alpha=0.45, linewidths=0, label=label, rasterized=True)
        ax.scatter(own[x], own[y], s=34, color=colour, edgecolors=INK, linewidths=0.9, zorder=3)


def draw_retrained(ax: Axes, members: pd.DataFrame, x: str, y: str, titles: Mapping[str, str]) -> None:
    """Plot the members that were trained from scratch in two objectives: the front made anew, and those that it beats.

    The line is the staircase of the front's members that are non-dominated in these two columns alone.

    Args:
        ax: Axes to draw on.
        members: Rows of retrained members, as `analysis.members.table` returns them.
        x: Column on the horizontal axis.
        y: Column on the vertical axis; in the place of the error it is the test error, with its interval.
        titles: Axis label of each column, that of the error first.
    """
    error, test = next(iter(titles)), tested(next(iter(titles)))
    height = test.value if y == error else y
    on_front = members[STANDING] == ON_FRONT
    groups = ((members[on_front], HONEST, "*", 90, "front"), (members[~on_front], BEATEN, "X", 45, "beaten"))
    for rows, colour, marker, size, label in groups:
        if len(rows):
            ax.scatter(rows[x], rows[height], s=size, marker=marker, color=colour, zorder=4, linewidths=0, label=label)
        if len(rows) and y == error:
            interval = [rows[height] - rows[test.low], rows[test.high] - rows[height]]
            ax.errorbar(rows[x], rows[height], interval, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2, zorder=3)
    _stairs(ax, members[on_front], x, height, HONEST)
    ax.margins(0.12)
    _scale(ax, members, x, height)
    _label(ax, x, y, {**titles, error: test_title(titles[error])})


def draw_limits(ax: Axes, limits: Mapping[str, float], x: str, y: str) -> None:
    """Draw the limits of a search, and shade what lies beyond; the view reaches a little further than them."""
    for column, span, line, reach in ((x, ax.axvspan, ax.axvline, ax.set_xlim), (y, ax.axhspan, ax.axhline, ax.set_ylim)):
        if column in limits:
            low, high = ax.get_xlim() if column == x else ax.get_ylim()
            end = max(high, limits[column] * 1.05)
            span(limits[column], end, color=OUTSIDE, alpha=0.07, lw=0)
            line(limits[column], color=OUTSIDE, lw=1.1, ls="--", label="limit")
            reach(low, end)


def draw_knee(ax: Axes, row: pd.Series, x: str, y: str) -> None:
    """Ring the knee of the front."""
    ax.scatter(row[x], row[y], s=190, facecolors="none", edgecolors=INK, linewidths=1.2, zorder=5, label="knee")


def draw_references(ax: Axes, references: Sequence[Mapping[str, float | str]], x: str) -> None:
    """Add reference networks to a plot of the test error, with their names.

    Args:
        ax: Axes to draw on.
        references: `name`, the test error and costs of each network; one that lacks the cost `x` is left out.
        x: Column on the horizontal axis.
    """
    shown = [r for r in references if x in r]
    if shown:
        points = np.array([[float(r[x]), float(r[tested_by(r).value])] for r in shown])
        ax.scatter(points[:, 0], points[:, 1], s=40, marker="D", color=OUTSIDE, zorder=5, linewidths=0, label="reference")
        ax.autoscale_view()


def write_labels(figure: Figure, panels: Sequence[tuple[Axes, np.ndarray, Sequence[str]]]) -> None:
    """Write a text beside each point where it covers no other text or point, inside its panel.

    Args:
        figure: The figure, complete but for these.
        panels: Axes, their (points, 2) array, and a text for each; points of the same place share one text.
    """
    plots.lay_out(figure)  # texts are placed in pixels, which the layout decides
    scale = figure.dpi / 72
    for ax, points, texts in panels:
        places: dict[tuple[int, int], list[int]] = {}
        for i, (x, y) in enumerate(ax.transData.transform(points)):
            places.setdefault((round(x), round(y)), []).append(i)
        taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in places]
        for (x, y), same in places.items():
            text = ", ".join(texts[i] for i in same)
            box, shift = _free(ax.bbox, x, y, (4.6 * len(text) + 2) * scale, 8 * scale, taken)
            taken.append(box)
            far = np.hypot(*shift) > 18 * scale
            ax.annotate(
                text,
                tuple(points[same[0]]),
                (shift[0] / scale, shift[1] / scale),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=7,
                color=INK,
                zorder=6,
                path_effects=[withStroke(linewidth=2, foreground="white", alpha=0.8)],  # on dark parts of a map
                arrowprops={"arrowstyle": "-", "lw": 0.5, "color": BEATEN} if far else None,
            )


def _free(panel: Bbox, x: float, y: float, width: float, height: float, taken: Sequence[Bbox]) -> tuple[Bbox, np.ndarray]:
    """Find the nearest place for a text of that size that nothing has taken; the last one tried where there is none."""
    box, shift = Bbox.null(), np.zeros(2)
    for distance in (1.1, 1.8, 2.6, 4.0, 6.0, 8.0):
        for angle in np.radians((45, 135, -45, -135, 90, -90, 0, 180, 65, 115, -65, -115, 20, 160, -20, -160)):
            shift = np.array([np.cos(angle), np.sin(angle)]) * distance * height + [np.cos(angle) * width / 2, 0]
            box = Bbox.from_bounds(x + shift[0] - width / 2, y + shift[1] - height / 2, width, height)
            inside = panel.x0 <= box.x0 and box.x1 <= panel.x1 and panel.y0 <= box.y0 and box.y1 <= panel.y1
            if inside and not any(box.overlaps(other) for other in taken):
                return box, shift
    return box, shift


def draw_attained(ax: Axes, surface: np.ndarray, x: np.ndarray, y: np.ndarray, titles: Sequence[str]) -> None:
    """Draw the lowest error that is attained within two costs, as a map.

    Args:
        ax: Axes to draw on.
        surface: (y, x), NaN where nothing is within both.
        x: Values of the first cost, ascending.
        y: Values of the second cost, ascending.
        titles: Of the error and both costs.
    """
    # One hue from dark to light, which a dark page turns round together with the background.
    shades = ListedColormap(colormaps["Blues_r"](np.linspace(0, 0.8, 256)))
    mesh = ax.pcolormesh(_edges(x), _edges(y), surface, cmap=shades, rasterized=True)
    ax.figure.colorbar(mesh, ax=ax, label=titles[0])
    ax.use_sticky_edges = False  # or half of the marks on the border would be cut off
    ax.margins(0.04)
    for values, axis in ((x, ax.xaxis), (y, ax.yaxis)):
        if needs_log(values):
            use_log(axis)
    ax.set_xlabel(titles[1])
    ax.set_ylabel(titles[2])
    ax.grid(False)


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of cells that begin at each value: what is attained from there on; the last one is a tenth wide."""
    return np.append(values, values[-1] + 0.1 * (np.ptp(values) or abs(values[-1]) or 1.0))


def _stairs(ax: Axes, rows: pd.DataFrame, x: str, y: str, colour: str) -> None:
    points = _staircase(rows[[x, y]].to_numpy(dtype=float))
    ax.plot(points[:, 0], points[:, 1], color=colour, lw=1.2, drawstyle="steps-post", zorder=2)


def _staircase(points: np.ndarray) -> np.ndarray:
    ordered = points[np.lexsort([points[:, 1], points[:, 0]])]
    best = np.minimum.accumulate(ordered[:, 1])
    keep = np.r_[True, best[1:] < best[:-1]] if len(ordered) else np.zeros(0, dtype=bool)
    return ordered[keep]


def _scale(ax: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    """Take a logarithmic axis where a linear one would pile up most of the members."""
    for column, axis in ((x, ax.xaxis), (y, ax.yaxis)):
        if needs_log(rows[column].to_numpy(dtype=float)):
            use_log(axis)


def _label(ax: Axes, x: str, y: str, titles: Mapping[str, str]) -> None:
    ax.set_xlabel(titles[x])
    ax.set_ylabel(titles[y])
    for axis, column in ((ax.xaxis, x), (ax.yaxis, y)):
        if column in COUNTS:
            axis.set_major_formatter(EngFormatter(sep=" "))


def _zoom(ax: Axes, values: Sequence[float]) -> None:
    """Limit the vertical axis to the front and its extent again above it; barely trained weights reach up to chance level."""
    if values and ax.get_yscale() == "linear":
        low, high = min(values), max(values)
        extent = max(high - low, 1.0)
        ax.set_ylim(max(-0.05 * extent, low - 0.15 * extent), min(high + extent, 102.0))
