"""Path encoding: the graphs of networks as numbers that a surrogate can learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.graphs import Graph

LONGEST = 3
"""Longest sequence of operations that is a feature of its own; of longer ones the kinds of operation are counted."""
RARE, MOST = 0.001, 300
"""A sequence is a feature if at least this share of the networks has it, and only the most frequent ones are."""

Row = tuple[str, ...]


def encode_paths(networks: Sequence[Mapping[str, Graph]], skips: Collection[str]) -> tuple[NDArray[np.float64], list[int]]:
    """Return features of the networks, (networks, features), and the group of each feature; those of a group are alike.

    As in the path encoding of BANANAS (White, Neiswanger and Savani, AAAI 2021), the features are counts over the paths from
    input to output through every part of a network: of each sequence of operations, of all paths, and of each kind of operation
    on all paths together and on one path at most; besides, whether there is a path, and one without an operation.

    Args:
        networks: For each network the graph of each of its parts, in the same order for all.
        skips: Kinds that count as no operation, as they pass their input on.

    Returns:
        The features and their groups. Features that are the same for all networks are left out; chains of one length have none.
    """
    found = [[_paths(graph, skips) for graph in parts.values()] for parts in networks]
    every = len(networks)
    columns: list[tuple[int | None, NDArray[np.float64]]] = []
    for part in range(max((len(paths) for paths in found), default=0)):
        rows = [paths[part] if part < len(paths) else _Paths() for paths in found]
        kinds = sorted({kind for path in rows for kind in path.total})
        presence = [[path.count, path.count > 0, path.rows[()] > 0] for path in rows]
        counts = [[path.total[k] for k in kinds] + [path.most.get(k, 0) for k in kinds] for path in rows]
        columns += [
            (None, column) for column in np.array([a + b for a, b in zip(presence, counts, strict=True)], dtype=float).T
        ]
        seen = Counter(row for path in rows for row in path.rows)
        common = [row for row, n in seen.most_common(MOST) if n >= RARE * every]
        for row in sorted(common, key=lambda r: (len(r), r)):
            columns.append((len(row), np.array([path.rows[row] for path in rows], dtype=float)))
    columns = [(group, column) for group, column in columns if np.ptp(column) > 0]
    groups: dict[object, int] = {}
    numbers = [groups.setdefault(i if group is None else ("row", group), len(groups)) for i, (group, _) in enumerate(columns)]
    if not columns:
        return np.zeros((every, 0)), []
    values = np.stack([column for _, column in columns], axis=1)
    wide = np.array([group is None for group, _ in columns])
    values[:, wide] /= 2 * values[:, wide].std(axis=0)
    return values, numbers


class _Paths:
    """Counts over the paths that lead to a box.

    Attributes:
        count: Number of paths.
        rows: Number of paths for each sequence of up to `LONGEST` operations.
        total: Operations by kind, over all paths.
        most: Operations by kind, on the path that has most of them.
    """

    def __init__(self) -> None:
        self.count = 0
        self.rows: Counter[Row] = Counter()
        self.total: Counter[str] = Counter()
        self.most: dict[str, int] = {}

    def join(self, other: _Paths) -> None:
        self.count += other.count
        self.rows.update(other.rows)
        self.total.update(other.total)
        for kind, n in other.most.items():
            self.most[kind] = max(n, self.most.get(kind, 0))

    def through(self, kind: str) -> _Paths:
        """Return the same paths with an operation at their end."""
        longer = _Paths()
        longer.count = self.count
        for row, n in self.rows.items():
            if len(row) < LONGEST:
                longer.rows[(*row, kind)] += n
        longer.total = self.total + Counter({kind: self.count})
        longer.most = self.most | {kind: self.most.get(kind, 0) + 1}
        return longer


def _paths(graph: Graph, skips: Collection[str]) -> _Paths:
    """Count the paths from the boxes without an incoming arrow to those without an outgoing one."""
    feeding: dict[str, list[str]] = {}
    for source, target in graph.arrows:
        feeding.setdefault(target, []).append(source)
    leading = {source for source, _ in graph.arrows}
    known: dict[str, _Paths] = {}

    def to(box: str) -> _Paths:
        if box not in known:
            paths = _Paths()
            if box not in feeding:
                paths.count, paths.rows[()] = 1, 1
            for source in feeding.get(box, ()):
                paths.join(to(source))
            kind = graph.kinds.get(box, "")
            known[box] = paths.through(kind) if kind and kind not in skips else paths
        return known[box]

    total = _Paths()
    for box in feeding:
        if box not in leading:
            total.join(to(box))
    return total
