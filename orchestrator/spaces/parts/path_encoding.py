"""Path encoding: the graphs of networks as numbers that a surrogate can learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.graphs import Graph

LONGEST = 3
"""Longest sequence of operations that is a feature of its own; of longer ones the kinds of operation are counted."""
RARE, MOST = 0.001, 300
"""A sequence is a feature if at least this share of the networks has it, and only the most frequent ones are."""

NOWHERE = 0
"""Number of what has no paths."""

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
    count = _Counting(skips)
    once: dict[int, list[int]] = {}  # by identity, as a network of several notations is the same object in every place
    for network in networks:
        if id(network) not in once:
            once[id(network)] = [count.paths(graph) for graph in network.values()]
    parts = [once[id(network)] for network in networks]
    every = len(networks)
    columns: list[tuple[int | None, NDArray[np.float64]]] = []
    for part in range(max((len(of) for of in parts), default=0)):
        found = [of[part] if part < len(of) else NOWHERE for of in parts]
        different, which, often = np.unique(found, return_inverse=True, return_counts=True)
        rows = [count.known[number] for number in different]
        kinds = sorted({kind for path in rows for kind in path.total})
        presence = [[path.count, path.count > 0, path.rows[()] > 0] for path in rows]
        counts = [[path.total[k] for k in kinds] + [path.most.get(k, 0) for k in kinds] for path in rows]
        both = [a + b for a, b in zip(presence, counts, strict=True)]
        columns += [(None, column[which]) for column in np.array(both, dtype=float).T]
        seen: Counter[Row] = Counter()
        for path, n in zip(rows, often.tolist(), strict=True):
            for row in path.rows:
                seen[row] += n
        common = [row for row, n in seen.most_common(MOST) if n >= RARE * every]
        for row in sorted(common, key=lambda r: (len(r), r)):
            columns.append((len(row), np.array([path.rows.get(row, 0) for path in rows], dtype=float)[which]))
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


class _Counting:
    """Counts over the paths of many graphs, where parts that graphs have in common are counted once.

    Args:
        skips: Kinds that count as no operation.

    Attributes:
        known: What was counted, by number; boxes of a number have the same operations and paths before them.
    """

    def __init__(self, skips: Collection[str]) -> None:
        self.known = [_Paths()]
        self._skips = skips
        self._numbers: dict[tuple[str | None, tuple[int, ...]], int] = {(None, ()): NOWHERE}

    def paths(self, graph: Graph) -> int:
        """Count the paths from the boxes without an incoming arrow to those without an outgoing one; return their number."""
        feeding: dict[str, list[str]] = {}
        for source, target in graph.arrows:
            feeding.setdefault(target, []).append(source)
        leading = {source for source, _ in graph.arrows}
        boxes: dict[str, int] = {}

        def to(box: str) -> int:
            if box not in boxes:
                kind = graph.kinds.get(box, "")
                boxes[box] = self._number("" if kind in self._skips else kind, map(to, feeding.get(box, ())))
            return boxes[box]

        return self._number(None, (to(box) for box in feeding if box not in leading))

    def _number(self, kind: str | None, before: Iterable[int]) -> int:
        """Return the number of a box of a kind, "" for no operation; None is what lies behind the boxes before."""
        key = kind, tuple(sorted(before))
        if key not in self._numbers:
            paths = _Paths()
            if not key[1]:
                paths.count, paths.rows[()] = 1, 1
            for number in key[1]:
                paths.join(self.known[number])
            self._numbers[key] = len(self.known)
            self.known.append(paths.through(kind) if kind else paths)
        return self._numbers[key]
