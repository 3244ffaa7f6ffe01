"""Several trade-offs in one search: the costs that they aim at, and what an architecture is worth to each.

A reward that multiplies accuracy and costs, as MnasNet's, has one best network, and no choice of its exponents finds the whole
front. So several targets are searched at once with the same shared weights: under a target T an architecture is better the more
accurate it is, and costs above T count against it. All of it is ours; `targets = 1` is each method as it was published.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import rankdata
from torch import Tensor

from searchers.base import Evaluation
from searchers.parts.additive import Additive
from searchers.parts.ties import ROUNDING, levels

TARGETS = 9
"""Targets of a search whose settings do not say otherwise; on the tables of docs/figures.md, 5 and 15 do as well."""

PENALTY = 2.0
"""Deviations of accuracy that an architecture loses for each deviation of log cost above a target; 1 to 4 do as well."""

EXPLORATION = 0.3
"""Share of the first rounds with proposals in which policies stay as they are. Until then rewards say which options train fast
rather than which are good, and one round in which everything is measured moves all policies at once."""

Targets = int | list[float] | list[list[float]]
"""A number of targets to be chosen, or the targets: a cost for each objective after the error, or a list of such lists. A flat
list of another length than that is one of several targets for the only cost."""


def read_targets(targets: Targets | None, costs: int, *, single: bool = False) -> int | list[list[float]]:
    """Return the number of targets, or the targets that were given, each a cost for each objective after the error.

    Args:
        targets: The user's setting; None for `TARGETS`, and for 1 where there is no cost or another setting asks for that.
        costs: Number of objectives after the error.
        single: Whether another setting says which single trade-off is meant.

    Raises:
        ValueError: for a number below 1, several targets without a cost, and lists that do not fit the costs.
    """
    if targets is None:
        return 1 if single or not costs else TARGETS
    if isinstance(targets, int):
        if targets < 1:
            raise ValueError(f"targets = {targets}; at least 1 is needed")
        if targets > 1 and not costs:
            raise ValueError(f"targets = {targets}: there is no objective after the error to aim at; write targets = 1")
        return targets
    flat = all(isinstance(t, (int, float)) for t in targets)
    if not targets or (flat and costs != 1 and len(targets) != costs):
        raise ValueError(f"targets = {targets}; the {costs} objectives after the error need one cost each")
    rows: list[list[float]] = [list(t) if isinstance(t, (list, tuple)) else [t] for t in targets]
    if flat and costs != 1:
        rows = [[t for (t,) in rows]]
    if any(len(row) != costs for row in rows):
        raise ValueError(f"targets = {targets}; each needs a cost for each of the {costs} objectives after the error")
    if any(t <= 0 for row in rows for t in row):
        raise ValueError(f"targets = {targets}; costs are compared with them, so they must be positive")
    return rows


def cost_range(
    cost: Additive, node_inputs: Sequence[Sequence[int]] = (), none_option: Sequence[int | None] | None = None
) -> tuple[float, float]:
    """Return the lowest and the highest value of an additive cost.

    Args:
        cost: A sum over the options.
        node_inputs: The choices that feed each node, for methods whose cells keep two of them; empty for all others.
        none_option: Per choice the option that stands for no edge, or None.
    """
    fixed, prices = cost
    ends = []
    for end, sign in ((min, 1), (max, -1)):
        rows = [
            [p for o, p in enumerate(row) if none_option is None or not node_inputs or o != none_option[c]]
            for c, row in enumerate(prices)
        ]
        meeting = {choice for node in node_inputs for choice in node}
        total = fixed + sum(end(row) for c, row in enumerate(rows) if c not in meeting)
        for node in node_inputs:
            absent = [prices[c][o] if none_option and (o := none_option[c]) is not None else 0.0 for c in node]
            gains = sorted((end(rows[c]) - a for c, a in zip(node, absent, strict=True)), key=lambda gain: sign * gain)
            total += sum(absent) + sum(gains[:2])
        ends.append(total)
    return ends[0], ends[1]


def spread_targets(ranges: Sequence[tuple[float, float]], count: int) -> list[list[float]]:
    """Return `count` targets, evenly spaced in the logarithm of each cost, from its lowest to its highest value.

    With several costs they are a regular grid of as many levels as fit, and what is left over lies on its diagonal. A range
    that does not begin above 0 is divided evenly. A cost that is constant is warned of, and one target stands for all.

    Args:
        ranges: Lowest and highest value of each cost.
        count: Number of targets; fewer are returned where some would be equal.
    """

    def at(share: float) -> list[float]:
        return [low ** (1 - share) * high**share if 0 < low < high else low + share * (high - low) for low, high in ranges]

    for number, (low, high) in enumerate(ranges, 1):
        if high - low <= ROUNDING * max(abs(low), abs(high)):
            warnings.warn(
                f"cost {number} after the error is {high:g} for all architectures, so no targets can be spread over it; leave "
                "that objective out",
                stacklevel=2,
            )
    if count == 1:
        return [at(1.0)]
    steps = int(count ** (1 / len(ranges)) + ROUNDING)
    shares = [i / (steps - 1) for i in range(steps)] if steps > 1 else []
    rows = [[at(s)[i] for i, s in enumerate(point)] for point in itertools.product(shares, repeat=len(ranges))]
    rest = count - len(rows)
    rows += [at((i + 1) / (rest + 1)) for i in range(rest)]
    return [list(row) for row in dict.fromkeys(tuple(row) for row in rows)]


def check_targets(targets: Sequence[Sequence[float]], ranges: Sequence[tuple[float, float] | None]) -> None:
    """Raise ValueError for a target that every network, or none, of the space lies within.

    Args:
        targets: A cost for each objective after the error, for each target.
        ranges: Lowest and highest value of each cost; None where it is not known.
    """
    for row in targets:
        for target, known in zip(row, ranges, strict=True):
            if known is not None and not known[0] * (1 - ROUNDING) <= target <= known[1] * (1 + ROUNDING):
                raise ValueError(
                    f"targets: {target:g} lies outside what networks of this space cost, which is {known[0]:g} to {known[1]:g}"
                )


def additive_bounds(
    targets: int | list[float] | None,
    additive: Sequence[Additive | None],
    node_inputs: Sequence[Sequence[int]] = (),
    none_option: Sequence[int | None] | None = None,
) -> list[float] | None:
    """Return the bounds on the first additive cost that a method searches within; None for the method as it was published.

    Args:
        targets: The user's setting: a number of bounds, or the bounds; None for `TARGETS`, or 1 where no cost is additive.
        additive: Each cost after the error as a sum over the options, or None.
        node_inputs: As for `cost_range`, as is `none_option`.

    Raises:
        ValueError: for several targets where no cost is a sum over the options, and for targets outside what networks cost.
    """
    cost = next((cost for cost in additive if cost is not None), None)
    aims = read_targets(targets, int(cost is not None)) if targets is None else read_targets(targets, 1)
    if aims == 1:
        return None
    if cost is None:
        raise ValueError(
            f"targets = {targets}: no objective after the error is a sum over operations, as parameters and macs are, so there "
            "is nothing to bound; add one, or write targets = 1"
        )
    known = cost_range(cost, node_inputs, none_option)
    if isinstance(aims, int):
        return [row[0] for row in spread_targets([known], aims)]
    check_targets(aims, [known])
    return [row[0] for row in aims]


def normal_scores(errors: Sequence[float]) -> np.ndarray:
    """Return the accuracies' normal scores, (errors,): 0 in the middle, about 1 at the best sixth.

    Ranks do not depend on the scale of accuracies, which changes with every supernet, nor on networks that learn nothing.
    """
    values = levels(np.asarray(errors, dtype=np.float64))
    return np.asarray(ndtri((rankdata(-values) - 0.5) / max(1, len(values))))


class TradeOffs:
    """What architectures are worth under each of several targets, by everything that was measured so far.

    The worth under target T is `z - PENALTY * sum(max(0, log cost - log T) / deviation) - violation`. z is the normal score of
    the accuracy among all evaluations, and the deviation is that of the first evaluations' log costs, so that both terms have
    about the same spread whatever their units. The penalty is one-sided: being cheaper than T earns nothing.

    Args:
        targets: Number of targets, or the targets (see `read_targets`).
        additive: Each cost after the error as a sum over the options, or None. Where one is not known, its targets are spread
            over what the first evaluations cost.

    Raises:
        ValueError: for targets outside what the space can cost.

    Example:
        >>> trade_offs = TradeOffs([[2.0], [4.0]], [None])
        >>> trade_offs.history = [Evaluation((0,), (10.0, 2.0)), Evaluation((1,), (30.0, 4.0))]
        >>> trade_offs.begin()
        >>> (trade_offs.worth() > 0).tolist()
        [[True, True], [False, False]]
    """

    def __init__(self, targets: int | list[list[float]], additive: Sequence[Additive | None]) -> None:
        self.count = targets if isinstance(targets, int) else len(targets)
        self._ranges = [None if cost is None else cost_range(cost) for cost in additive]
        self.targets: list[list[float]] | None = None
        if not isinstance(targets, int):
            check_targets(targets, self._ranges)
            self.targets = targets
        self.deviations: list[float] = []
        self.history: list[Evaluation] = []

    @property
    def begun(self) -> bool:
        """Whether targets and deviations are known."""
        return bool(self.deviations)

    def begin(self) -> None:
        """Fix targets and deviations by the history so far."""
        columns = np.array([e.costs[1:] for e in self.history]).T
        if self.targets is None:
            ranges = [known or (column.min(), column.max()) for known, column in zip(self._ranges, columns, strict=True)]
            spread = spread_targets(ranges, self.count)
            self.targets = [
                list(map(float, costs)) for costs in (spread * self.count)[: self.count]
            ]  # a controller each, even where targets are equal
        spreads = (float(np.log(np.maximum(column, 1e-12)).std()) for column in columns)
        self.deviations = [spread if spread > ROUNDING else 1.0 for spread in spreads]

    def worth(self) -> Tensor:
        """Return what each evaluation of the history is worth under each target, (evaluations, targets)."""
        assert self.targets is not None
        accuracy = torch.from_numpy(normal_scores([e.costs[0] for e in self.history]))
        costs = torch.tensor([e.costs[1:] for e in self.history], dtype=torch.float64).clamp(min=1e-12).log()
        targets = torch.tensor(self.targets, dtype=torch.float64).clamp(min=1e-12).log()
        deviations = torch.tensor(self.deviations, dtype=torch.float64)
        above = ((costs[:, None] - targets[None]).clamp(min=0) / deviations).sum(dim=-1)
        violations = torch.tensor([[e.violation] for e in self.history], dtype=torch.float64)
        return accuracy[:, None] - PENALTY * above - violations

    def state_dict(self) -> dict[str, Any]:
        return {
            "targets": self.targets,
            "deviations": list(self.deviations),
            "history": [e.to_data() for e in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.targets, self.deviations = state["targets"], list(state["deviations"])
        self.history = [Evaluation.from_data(e) for e in state["history"]]
