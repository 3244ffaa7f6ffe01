"""What the graphs of networks say of them, as numbers that a surrogate can learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.graphs import Graph

LONGEST = 3
"""Operations in a row that are told apart; of longer ones only how many of each kind there are."""
RARE, MOST = 0.001, 300
"""A row of operations counts if at least this share of the networks has it, and at most so many of them do."""

Row = tuple[str, ...]


def encode_paths(drawings: Sequence[Mapping[str, Graph]], skips: Collection[str]) -> tuple[NDArray[np.float64], list[int]]:
    """(networks, features), and to which group each feature belongs; those of a group are alike.

    Looked at are the ways from input to output through every part of a network, as in the path encoding of BANANAS (White,
    Neiswanger and Savani, AAAI 2021): what operations lie on each, in a row, where `skips` count for nothing, as they do
    nothing. Besides how many ways there are, whether one of them has no operation, and of each kind of operation how many there
    are on all ways together and on one at most.

    Features that are the same for all are left out; where nothing is left, as for chains of one length, there are none.
    """
    found = [[_ways(graph, skips) for graph in parts.values()] for parts in drawings]
    every = len(drawings)
    columns: list[tuple[int | None, NDArray[np.float64]]] = []
    for part in range(max((len(ways) for ways in found), default=0)):
        rows = [ways[part] if part < len(ways) else _Ways() for ways in found]
        kinds = sorted({kind for way in rows for kind in way.total})
        plain = [[way.count, way.count > 0, way.rows[()] > 0] for way in rows]
        counts = [[way.total[k] for k in kinds] + [way.most.get(k, 0) for k in kinds] for way in rows]
        columns += [(None, column) for column in np.array([a + b for a, b in zip(plain, counts, strict=True)], dtype=float).T]
        seen = Counter(row for way in rows for row in way.rows)
        common = [row for row, n in seen.most_common(MOST) if n >= RARE * every]
        for row in sorted(common, key=lambda r: (len(r), r)):
            columns.append((len(row), np.array([way.rows[row] for way in rows], dtype=float)))
    columns = [(group, column) for group, column in columns if np.ptp(column) > 0]
    groups: dict[object, int] = {}
    numbers = [groups.setdefault(i if group is None else ("row", group), len(groups)) for i, (group, _) in enumerate(columns)]
    if not columns:
        return np.zeros((every, 0)), []
    values = np.stack([column for _, column in columns], axis=1)
    wide = np.array([group is None for group, _ in columns])
    values[:, wide] /= 2 * values[:, wide].std(axis=0)
    return values, numbers


class _Ways:
    """Those that lead to a box.

    count: how many. rows: of up to `LONGEST` operations, how many ways have them, in this order. total: operations by kind,
    over all ways. most: on one way.
    """

    def __init__(self) -> None:
        self.count = 0
        self.rows: Counter[Row] = Counter()
        self.total: Counter[str] = Counter()
        self.most: dict[str, int] = {}

    def join(self, other: _Ways) -> None:
        self.count += other.count
        self.rows.update(other.rows)
        self.total.update(other.total)
        for kind, n in other.most.items():
            self.most[kind] = max(n, self.most.get(kind, 0))

    def through(self, kind: str) -> _Ways:
        """The same, with an operation at their end."""
        made = _Ways()
        made.count = self.count
        for row, n in self.rows.items():
            if len(row) < LONGEST:
                made.rows[(*row, kind)] += n
        made.total = self.total + Counter({kind: self.count})
        made.most = self.most | {kind: self.most.get(kind, 0) + 1}
        return made


def _ways(graph: Graph, skips: Collection[str]) -> _Ways:
    """From the boxes into which nothing leads to those out of which nothing does."""
    feeding: dict[str, list[str]] = {}
    for source, target in graph.arrows:
        feeding.setdefault(target, []).append(source)
    leading = {source for source, _ in graph.arrows}
    known: dict[str, _Ways] = {}

    def to(box: str) -> _Ways:
        if box not in known:
            ways = _Ways()
            if box not in feeding:
                ways.count, ways.rows[()] = 1, 1
            for source in feeding.get(box, ()):
                ways.join(to(source))
            kind = graph.kinds.get(box, "")
            known[box] = ways.through(kind) if kind and kind not in skips else ways
        return known[box]

    whole = _Ways()
    for box in feeding:
        if box not in leading:
            whole.join(to(box))
    return whole
