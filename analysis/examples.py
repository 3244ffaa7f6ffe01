"""A sheet of example images: a row for each class, a block of columns for each part of the data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Images = NDArray[np.uint8]
EACH = 4
"""Examples of a class in a part."""
ROWS = 100
"""Classes on a sheet; of more, as many are spread evenly over all."""
_LINES, _COLUMNS = 24, 36
"""Classes of signals, and columns of a table, on a picture; of more, as many are spread evenly over all."""
_PALETTE = 20
_GAP = 2
_INCH = 0.55


def sheet(parts: Mapping[str, tuple[Images, NDArray[np.int64]]], classes: Sequence[int], each: int = EACH) -> Images:
    """Lay images out as rows of classes and blocks of parts, on white.

    Args:
        parts: Images, (n, channels, height, width), and labels, (n,), of each part.
        classes: Labels in the order of the rows.
        each: Images of a class in a part.

    Returns:
        (height, width, 3). Three channels are red, green and blue; of any other number, the mean is shown in grey.
    """
    _, _, height, width = next(iter(parts.values()))[0].shape
    across = len(parts) * (each + 1) - 1  # an empty column between parts
    canvas = np.full((len(classes) * (height + _GAP), across * (width + _GAP), 3), 255, dtype=np.uint8)
    for block, (images, labels) in enumerate(parts.values()):
        for row, label in enumerate(classes):
            found = np.flatnonzero(labels == label)
            chosen = found[np.linspace(0, len(found) - 1, min(each, len(found))).astype(int)]
            for column, image in enumerate(images[chosen]):
                shown = image if len(image) == 3 else np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
                top, left = row * (height + _GAP), (block * (each + 1) + column) * (width + _GAP)
                canvas[top : top + height, left : left + width] = shown.transpose(1, 2, 0)
    return canvas


def classes_shown(classes: int) -> NDArray[np.int64]:
    """Return the classes that are on a sheet: all, or `ROWS` of them."""
    return np.unique(np.linspace(0, classes - 1, min(classes, ROWS)).astype(np.int64))


def beside(images: Images, maps: NDArray[np.integer[Any]]) -> Images:
    """Set each image beside the map of its pixels' classes, in colours; classes beyond a palette of twenty are black.

    Args:
        images: Images, (n, channels, height, width).
        maps: A class for each pixel, (n, height, width).

    Returns:
        (n, 3, height, twice the width).
    """
    from matplotlib import colormaps

    palette = np.zeros((_PALETTE + 1, 3), dtype=np.uint8)
    palette[:_PALETTE] = np.rint(255 * colormaps["tab20"](np.arange(_PALETTE))[:, :3])
    coloured = palette[np.where((maps >= 0) & (maps < _PALETTE), maps, _PALETTE)].transpose(0, 3, 1, 2)
    grey = images if images.shape[1] == 3 else images.mean(axis=1, keepdims=True).repeat(3, axis=1).astype(np.uint8)
    return np.concatenate([grey, coloured], axis=3)


def draw_lines(parts: Mapping[str, tuple[NDArray[Any], NDArray[np.int64]]], names: Sequence[str], path: Path) -> None:
    """Write signals or sequences as a PNG, a row for each class and a column for each part; channels lie over one another.

    Args:
        parts: Signals, (n, channels, length), or sequences, (n, length), and labels, (n,), of each part.
        names: Names of the classes.
        path: The file.
    """
    from matplotlib.figure import Figure

    known = classes_shown(len(names))
    rows = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), _LINES)).astype(int))]
    figure = Figure(figsize=(2.6 * len(parts) + 1.5, 0.9 * len(rows) + 0.8), dpi=120, layout="constrained")
    axes = figure.subplots(len(rows), len(parts), squeeze=False, sharex=True, sharey=True)
    for column, (part, (signals, labels)) in enumerate(parts.items()):
        axes[0, column].set_title(part, fontsize=9)
        for row, label in enumerate(rows):
            found = np.flatnonzero(labels == label)
            for number in found[:2]:
                drawn = np.atleast_2d(signals[number]).T
                axes[row, column].plot(drawn, lw=0.8, alpha=0.8, drawstyle="default" if signals.ndim == 3 else "steps-mid")
            axes[row, column].tick_params(labelsize=6)
    for row, label in enumerate(rows):
        axes[row, 0].set_ylabel(_short(names[label], 14), fontsize=7, rotation=0, ha="right", va="center")
    _save(figure, path)


def draw_columns(parts: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write the distributions of a table's columns as a PNG.

    Args:
        parts: Rows, (n, columns), of each part.
        path: The file.
    """
    from matplotlib.figure import Figure

    count = next(iter(parts.values())).shape[1]
    shown = np.unique(np.linspace(0, count - 1, min(count, _COLUMNS)).astype(int))
    across = min(6, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(1.9 * across + 0.4, 1.5 * down + 0.8), dpi=120, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, column in zip(axes, shown, strict=False):
        every = np.concatenate([rows[:, column] for rows in parts.values()])
        edges = np.histogram_bin_edges(every, 24)
        for part, rows in parts.items():
            axis.hist(rows[:, column], edges, density=True, histtype="step", lw=1.0, label=part)
        axis.set_title(f"column {column}", fontsize=7)
        axis.tick_params(labelsize=6)
        axis.set_yticks([])
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(parts), fontsize=7)
    figure.suptitle(f"{count} columns" if len(shown) == count else f"{len(shown)} of {count} columns", fontsize=9)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that no font here has
        figure.savefig(path)


def draw(
    parts: Mapping[str, tuple[Images, NDArray[np.int64]]], names: Sequence[str], path: Path, named: str = "classes"
) -> None:
    """Write a sheet as a PNG.

    Args:
        parts: Images, (n, channels, height, width), and labels, (n,), of each part.
        names: Names of the classes, or of whatever the rows are.
        path: The file.
        named: What these are.
    """
    from matplotlib.figure import Figure

    rows = classes_shown(len(names))
    canvas = sheet(parts, rows.tolist())
    channels, height, width = next(iter(parts.values()))[0].shape[1:]
    across = len(parts) * (EACH + 1) - 1
    size = (across * _INCH * width / max(height, width), len(rows) * _INCH * height / max(height, width))
    figure = Figure(figsize=(size[0] + 2.2, size[1] + 1.0), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(canvas, interpolation="nearest")
    axes.set_yticks([(row + 0.5) * (height + _GAP) for row in range(len(rows))], [_short(names[c]) for c in rows])
    middles = [(block * (EACH + 1) + EACH / 2) * (width + _GAP) for block in range(len(parts))]
    axes.set_xticks(middles, list(parts))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    rows_are = "ranges of the target" if named == "targets" else named
    words = [f"{len(names)} {rows_are}" if len(rows) == len(names) else f"{len(rows)} of {len(names)} {rows_are}"]
    words += [f"{channels} channels, their mean" if channels not in (1, 3) else f"{height}x{width}"]
    axes.set_title(", ".join(words), fontsize=9)
    _save(figure, path)


def _short(name: str, most: int = 24) -> str:
    """Shorten a name, without signs that would be read as mathematics."""
    return (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")
