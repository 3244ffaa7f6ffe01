"""A sheet of example images: a row for each class, a block of columns for each part of the data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
EACH = 4
"""Examples of a class in a part."""
ROWS = 100
"""Classes on a sheet; of more, as many are spread evenly over all."""
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


def draw(parts: Mapping[str, tuple[Images, NDArray[np.int64]]], names: Sequence[str], path: Path) -> None:
    """Write a sheet as a PNG.

    Args:
        parts: Images, (n, channels, height, width), and labels, (n,), of each part.
        names: Names of the classes.
        path: The file.
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
    words = [f"{len(names)} classes" if len(rows) == len(names) else f"{len(rows)} of {len(names)} classes"]
    words += [f"{channels} channels, their mean" if channels not in (1, 3) else f"{height}x{width}"]
    axes.set_title(", ".join(words), fontsize=9)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that no font here has
        figure.savefig(path)


def _short(name: str, most: int = 24) -> str:
    """Shorten a name, without signs that would be read as mathematics."""
    return (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")
