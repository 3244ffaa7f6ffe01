"""Drawing of graphs, in layers or as a chain of boxes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx  # type: ignore[import-untyped]
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

from analysis.graphs import Graph, colour
from analysis.plots import INK

LINE, STATE, DEAD = "#8a8f98", "#f3efe6", "#a9adb5"
_HEIGHT, _GAP, _CHARACTER = 0.27, 0.13, 0.067
"""Height of a box, gap between boxes and width of a character, in inches."""


def figure(graph: Graph, title: str = "") -> Figure:
    """Draw a graph on a figure that is as large as the graph needs."""
    chain = _chain(graph)
    if chain:
        return _chain_figure(graph, chain, title)
    places = layout(graph)
    xs, ys, _ = np.array(list(places.values())).T
    canvas, ax = _figure(np.ptp(xs) + 1.2, np.ptp(ys) + 0.6, title)
    _draw(ax, graph, places)
    return canvas


def _figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Create a figure that its axes fill, apart from a title; sizes are in inches."""
    header = 0.25 if title else 0.0
    canvas = Figure(figsize=(width, height + header))
    if title:
        canvas.text(0.5, 1 - 0.05 / (height + header), title, ha="center", va="top", fontsize=9, color=INK)
    ax = canvas.add_axes((0.0, 0.0, 1.0, height / (height + header)))
    ax.set_axis_off()
    return canvas, ax


def layout(graph: Graph) -> dict[str, tuple[float, float, float]]:
    """Lay out a graph in layers from left to right (Sugiyama, Tagawa and Toda, 1981).

    A state goes into the earliest layer that its inputs allow, an operation into the layer before its output; within a layer,
    boxes are ordered by their neighbours.

    Returns:
        (x, y, width) of each box in inches, with x and y of the centre. Points where a long arrow passes another layer are
        included, under the name `SOURCE>TARGET#LAYER`.
    """
    network: nx.DiGraph = nx.DiGraph()
    network.add_nodes_from(graph.boxes)
    network.add_edges_from(graph.arrows)
    layer: dict[str, int] = {}
    for name in nx.topological_sort(network):
        layer[name] = max((layer[source] + 1 for source in network.predecessors(name)), default=0)
    for name in reversed(list(nx.topological_sort(network))):
        if name in graph.kinds and network.out_degree(name):
            layer[name] = min(layer[target] for target in network.successors(name)) - 1
    layered: nx.DiGraph = nx.DiGraph()
    layered.add_nodes_from(graph.boxes)
    for source, target in graph.arrows:
        path = [source, *(f"{source}>{target}#{i}" for i in range(layer[source] + 1, layer[target])), target]
        for i, bend in enumerate(path[1:-1], layer[source] + 1):
            layer[bend] = i
        nx.add_path(layered, path)
    columns = [[n for n in layered if layer[n] == i] for i in range(max(layer.values()) + 1)]
    height = {n: (_HEIGHT + 0.13 * graph.boxes[n].count("\n") if n in graph.boxes else 0.08) for n in layered}
    y: dict[str, float] = {}
    for column in columns:
        y |= _spread({n: float(i) for i, n in enumerate(column)}, height)
    for sweep in range(24):
        forward = sweep % 2 == 0
        for column in columns if forward else columns[::-1]:
            wanted = {}
            for name in column:
                neighbours = list(layered.predecessors(name) if forward else layered.successors(name)) or [name]
                wanted[name] = float(np.mean([y[n] for n in neighbours]))
            y |= _spread(wanted, height)
    x, places = 0.0, {}
    for i, column in enumerate(columns):
        width = max((_width(graph, n) for n in column if n in graph.boxes), default=0.3)
        x += width / 2 + (0.35 if i else 0.0)
        for name in column:
            places[name] = (x, -y[name], _width(graph, name) if name in graph.boxes else width)
        x += width / 2
    return places


def _spread(wanted: Mapping[str, float], height: Mapping[str, float]) -> dict[str, float]:
    """Positions as close as possible to the wanted ones, in the same order, at which no two boxes touch."""
    order = sorted(wanted, key=wanted.__getitem__)
    # Boxes that would overlap form a block, which is centred on the mean of the positions that its members want.
    blocks: list[tuple[list[str], float]] = []
    for name in order:
        members, centre = [name], wanted[name]
        while blocks and blocks[-1][1] + _extent(blocks[-1][0], height) / 2 + _GAP > centre - _extent(members, height) / 2:
            previous, previous_centre = blocks.pop()
            merged = previous + members
            # The centre that each block would give the merged one, weighted by its number of boxes.
            shift = (
                (_extent(previous, height) - _extent(merged, height)) / 2,
                (_extent(merged, height) - _extent(members, height)) / 2,
            )
            centre = (len(previous) * (previous_centre - shift[0]) + len(members) * (centre - shift[1])) / len(merged)
            members = merged
        blocks.append((members, centre))
    placed = {}
    for members, centre in blocks:
        top = centre - _extent(members, height) / 2
        for name in members:
            placed[name] = top + height[name] / 2
            top += height[name] + _GAP
    return placed


def _extent(names: Sequence[str], height: Mapping[str, float]) -> float:
    return sum(height[n] for n in names) + _GAP * (len(names) - 1)


def _width(graph: Graph, name: str) -> float:
    longest = max(len(line) for line in graph.boxes[name].split("\n"))
    return max(0.3, 0.16 + _CHARACTER * longest)


def _draw(ax: Axes, graph: Graph, places: Mapping[str, tuple[float, float, float]]) -> None:
    for source, target in graph.arrows:
        bends = [place for name, place in places.items() if name.startswith(f"{source}>{target}#")]
        (x0, y0, width0), (x1, y1, width1) = places[source], places[target]
        points = [(x0 + width0 / 2, y0)]
        for x, y, width in bends:
            points += [(x - width / 2, y), (x + width / 2, y)]  # horizontally past the boxes of that layer
        points.append((x1 - width1 / 2 - 0.07, y1))
        vertices, codes = [points[0]], [Path.MOVETO]
        for (xa, ya), (xb, yb) in itertools.pairwise(points):
            middle = (xa + xb) / 2
            vertices += [(middle, ya), (middle, yb), (xb, yb)]
            codes += [Path.CURVE4] * 3
        dead = bool({source, target} & graph.dead)
        line, style = (DEAD, ":") if dead else (LINE, "-")
        ax.add_patch(PathPatch(Path(vertices, codes), fill=False, edgecolor=line, lw=0.9, ls=style, zorder=0.9 if dead else 1))
        tip = points[-1]
        ax.add_patch(Polygon([(tip[0] + 0.07, tip[1]), (tip[0], tip[1] + 0.035), (tip[0], tip[1] - 0.035)], color=line, lw=0))
    for name, text in graph.boxes.items():
        x, y, width = places[name]
        height = _HEIGHT + 0.13 * text.count("\n")
        dead, operation = name in graph.dead, name in graph.kinds
        fill = "#ffffff" if dead else colour(graph.kinds[name]) if operation else STATE
        edge, ink = (DEAD, DEAD) if dead else ("#6b7078" if operation else INK, INK)
        look: dict[str, Any] = {"facecolor": fill, "edgecolor": edge, "lw": 0.7, "ls": ":" if dead else "-", "zorder": 2}
        if operation:
            corner, size = (x - width / 2 + 0.05, y - height / 2 + 0.05), (width - 0.1, height - 0.1)
            ax.add_patch(FancyBboxPatch(corner, *size, "round,pad=0.05,rounding_size=0.07", **look))
        else:
            ax.add_patch(Ellipse((x, y), width, height, **look))
        ax.text(x, y, _typeset(text), parse_math="_{" in text, ha="center", va="center", fontsize=7.5, color=ink, zorder=3)
    xs = [x + side * width / 2 for x, _, width in places.values() for side in (-1, 1)]
    ys = [y for _, y, _ in places.values()]
    ax.set_xlim(min(xs) - 0.1, max(xs) + 0.1)
    ax.set_ylim(min(ys) - 0.3, max(ys) + 0.3)
    ax.set_aspect("equal")


def _typeset(text: str) -> str:
    return f"${text}$" if "_{" in text else text


def _chain(graph: Graph) -> list[str]:
    """Names of the boxes in order if the graph is a single chain, otherwise an empty list."""
    after = dict(graph.arrows)
    before = {target: source for source, target in graph.arrows}
    if not len(after) == len(before) == len(graph.arrows) == len(graph.boxes) - 1 or len(graph.kinds) < 2:
        return []
    name = next(n for n in graph.boxes if n not in before)
    order = [name]
    while name in after:
        name = after[name]
        order.append(name)
    return order if len(order) == len(graph.boxes) else []


def _chain_figure(graph: Graph, order: Sequence[str], title: str) -> Figure:
    """Draw boxes side by side with rotated text, as papers draw networks of many blocks."""
    height = max(_width(graph, n) for n in order)
    step = 0.44
    canvas, ax = _figure(step * len(order) + 0.2, height + 0.3, title)
    for i, name in enumerate(order):
        x = i * step
        box = FancyBboxPatch(
            (x - 0.09, -height / 2 + 0.05), 0.18, height - 0.1, "round,pad=0.05,rounding_size=0.06",
            facecolor=colour(graph.kinds.get(name, "")), edgecolor="#6b7078", lw=0.7, zorder=2,
        )  # fmt: skip
        ax.add_patch(box)
        ax.text(x, 0, graph.boxes[name].replace("\n", ": "), rotation=90, ha="center", va="center", fontsize=7.5, color=INK)
        if i:
            tip = x - 0.15
            ax.plot([x - step + 0.14, tip - 0.06], [0, 0], color=LINE, lw=0.9, zorder=1)
            ax.add_patch(Polygon([(tip, 0), (tip - 0.06, 0.035), (tip - 0.06, -0.035)], color=LINE, lw=0))
    ax.set_xlim(-0.32, (len(order) - 1) * step + 0.32)
    ax.set_ylim(-height / 2 - 0.1, height / 2 + 0.1)
    ax.set_aspect("equal")
    return canvas
