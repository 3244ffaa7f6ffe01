"""DDPNAS: dynamic distribution pruning (Zheng et al., arXiv 1905.13543, both versions).

Details are from the authors' search code (distribution/Category_DDPNAS.py, train_search.py, network_generator.py). The mean
validation accuracy of the networks that an operation was in becomes a distribution, which loses the least probable operation of
every choice at fixed intervals, without any gradient. Afterwards networks are generated under constraints: a family from one
search.

Where sources are silent: with choices of different sizes (the paper's have the same), a pool that empties first is refilled,
and an operation that was used several times in a pass counts with its mean; a choice whose options are of one kind is pruned
down to `survivors` as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from searchers.base import Architecture, Evaluation, Mixture, Searcher, Stage, Statistics
from searchers.parts.additive import Additive, Item, best_within, front, network_groups
from searchers.parts.categorical import Categorical
from searchers.parts.targets import additive_bounds, normal_scores
from searchers.parts.ties import ROUNDING, level

SAMPLED = 0.8
"""Share of the epochs of a search for several targets that sample; in the others, networks are generated."""

RIDGE = 1.0
"""Weight of the squared credits, in evaluations of one network."""


class Ddpnas(Searcher):
    """Train one sampled network for an epoch at a time, and credit its validation accuracy to each of its operations.

    The architecture distribution is the softmax of those credits; at fixed intervals every choice loses its least probable
    operation. That is the method as published (`targets = 1`).

    With several targets, which is ours, the credits of operations are the main effects on the normal score of the accuracy, by
    ridge regression on everything that was measured; of the networks that this makes the best within each target, by an exact
    knapsack, none loses an operation; and networks are generated for the targets in turn, each with the credits of all before.
    An epoch is then a round.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget. An epoch of the method takes as many of them as the budget has for it.
        additive: Each cost after the error as a sum over the options, or None where it is no such sum.
        limits: Upper limit of each cost, or None. The limit of the first additive cost bounds the generated networks.
        parameter_free: Per choice and option, whether it is an operation without parameters, such as pooling or a skip. The
            last option of either kind is never pruned while there are both.
        node_inputs: For cells that keep two edges into each node: the choices that feed each node, node by node and cell by
            cell, in the order of the cell's states.
        none_option: Per choice the option that stands for no edge, or None.
        targets: Number of bounds on the first additive cost, spread evenly over the logarithm of what networks cost, or a list
            of bounds. 1 for the method as published; None for 9, or for 1 where no cost is additive or `sharpness`, `momentum`,
            `family`, `plain_edges` or `heights` are set, which belong to it.
        cycles: Passes over all surviving operations between two prunings; each pass uses every one of them once. 3 in the
            paper; fewer where the budget has too few rounds for the published schedule.
        survivors: Operations per choice at which pruning ends; 2 in the paper. With 8 operations and 3 cycles that makes
            3 * (8 + 7 + ... + 3) = 99 epochs.
        sharpness: Inverse temperature of the softmax over accuracies, which are fractions. None for 100, where one percentage
            point is a factor of e.
        momentum: Weight of the previous distribution in the new one. None for 0.5, as in the code.
        family: At most so many networks are generated after the last pruning; None for 20. Each is trained for an epoch and
            measured like the samples before it, which takes as many epochs more (the authors train theirs from scratch).
            Smaller where the budget has few rounds.
        plain_edges: For cells, the numbers of parameter-free operations that are generated, the same in all cells of a network;
            None for the 0, 2, 4, 6, 8 of the authors' script. In other spaces, or where the list is empty, the family is the
            front of summed probability against the first additive cost, solved exactly.
        heights: For cells, the heights that are generated; None for the script's 1, 2, 3, 4.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds, and for fewer rounds than a schedule of one cycle has epochs.

    Example:
        >>> searcher = Ddpnas((3, 4), rounds=20, cycles=1)
        >>> (mixture,) = searcher.train_on(1)
        >>> searcher.ask(1) == [tuple(row.index(1.0) for row in mixture.weights)]
        True
    """

    full_validation = True
    needs = ("rounds", "additive", "limits", "parameter_free", "node_inputs", "none_option", "seed")

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        additive: Sequence[Additive | None] = (),
        limits: Sequence[float | None] = (),
        parameter_free: Sequence[Sequence[bool]] | None = None,
        node_inputs: Sequence[Sequence[int]] = (),
        none_option: Sequence[int | None] | None = None,
        targets: int | list[float] | None = None,
        cycles: int = 3,
        survivors: int = 2,
        sharpness: float | None = None,
        momentum: float | None = None,
        family: int | None = None,
        plain_edges: list[int] | None = None,
        heights: list[int] | None = None,
        seed: int = 0,
    ) -> None:
        published = {
            "sharpness": sharpness, "momentum": momentum, "family": family, "plain_edges": plain_edges, "heights": heights
        }  # fmt: skip
        given = [name for name, value in published.items() if value is not None]
        if given and targets is None:
            targets = 1
        sharpness = 100.0 if sharpness is None else sharpness
        momentum = 0.5 if momentum is None else momentum
        family = 20 if family is None else family
        if cycles < 1 or survivors < 1 or sharpness <= 0 or not 0 <= momentum < 1 or family < 1:
            raise ValueError(
                f"cycles = {cycles}, survivors = {survivors}, sharpness = {sharpness}, momentum = {momentum}, family = "
                f"{family}: at least 1, at least 1, positive, at least 0 and below 1, at least 1"
            )
        self.sizes = tuple(sizes)
        self.parameter_free = (
            [list(row) for row in parameter_free] if parameter_free is not None else [[False] * n for n in self.sizes]
        )
        self.node_inputs = [list(node) for node in node_inputs]
        self.none_option = list(none_option) if none_option is not None else [None] * len(self.sizes)
        self.additive = next((cost for cost in additive if cost is not None), None)
        capped = [limit for cost, limit in zip(additive, limits, strict=False) if cost is not None]
        self.budget = capped[0] if capped and capped[0] is not None else math.inf
        self.bounds = additive_bounds(targets, additive, self.node_inputs, none_option)
        if given and self.bounds is not None:
            raise ValueError(f"{given[0]} belongs to the method as published; leave it out, or write targets = 1")
        self.survivors, self.sharpness, self.momentum = survivors, sharpness, momentum
        self.heights = [1, 2, 3, 4] if heights is None else heights
        self.plain_edges = [0, 2, 4, 6, 8] if plain_edges is None else plain_edges
        if self.bounds is None:
            cycle = sum(range(max(survivors, 1) + 1, max(self.sizes) + 1)) or 1
            if rounds <= cycle:
                raise ValueError(
                    f"pruning {max(self.sizes)} options to {survivors}, one at a time, takes at least {cycle} epochs, a family "
                    f"one more, and the budget has {rounds} rounds; raise budget.epochs or lower budget.interval"
                )
            self.cycles = max(1, min(cycles, (rounds - family) // cycle))
            self.epochs = self.cycles * cycle
            self.family = min(family, rounds - self.epochs)
        else:
            self.cycles, self.epochs = cycles, max(1, int(SAMPLED * rounds))
            self.family = rounds - self.epochs
        self.rounds = rounds
        self._generator = torch.Generator().manual_seed(seed)
        self.policy = Categorical(sizes)
        self.theta = level(self.policy.probabilities().detach())  # so that sums of it are exact, and ties are ties
        self._credit: list[Tensor] = []  # of each cycle since the last pruning
        self._sum, self._uses = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self._pools: list[list[int]] = [[] for _ in self.sizes]
        self._round = self._epoch = self._in_cycle = 0
        self._sample: Architecture | None = None
        self._measured: list[Evaluation] = []

    @property
    def stage(self) -> Stage:
        # The authors' learning rate goes through a quarter of its half cosine: T_max = 200, a step every second epoch.
        # A network that was trained for an epoch has running averages of its own; after a round they are partly others'.
        statistics: Statistics = "running" if self.bounds is None else "recalibrated"
        return Stage(0, self._at_hand(), self.rounds, anneal=0.25, statistics=statistics)

    def _at_hand(self) -> tuple[tuple[int, ...], ...]:
        """List the surviving options; in cells all parameter-free ones, too, as generation replaces a `none` that survives."""
        meeting = {choice for node in self.node_inputs for choice in node if self.none_option[choice] is not None}
        return tuple(
            tuple(o for o in range(len(row)) if o in surviving or (choice in meeting and row[o]))
            for choice, (surviving, row) in enumerate(zip(self.policy.options(), self.parameter_free, strict=True))
        )

    def train_on(self, steps: int) -> list[Mixture]:
        self._round += 1
        if self._sample is None:
            self._sample = self._draw()
        return [Mixture.one_hot(self._sample, self.sizes)] * steps

    def _draw(self) -> Architecture:
        """Draw the next network: at every choice uniformly among the operations that this pass has not used yet.

        A choice without any such operation begins again with all that survive. After the last pruning it is one of the family
        at a time.
        """
        if self._epoch >= self.epochs and self.bounds is not None:
            return self._generate_next()
        if self._epoch >= self.epochs and (family := self.derive()):
            return family[(self._epoch - self.epochs) % len(family)]
        options = []
        for pool, surviving in zip(self._pools, self.policy.options(), strict=True):
            if not pool:
                pool.extend(surviving)
            options.append(pool.pop(int(torch.randint(len(pool), (), generator=self._generator))))
        return tuple(options)

    def ask(self, n: int) -> list[Architecture]:
        """Return the network that was trained, once its epoch is over."""
        total = self.epochs + self.family
        over = self._round * total // self.rounds > self._epoch
        return [self._sample] if n and over and self._sample is not None and self._epoch < total else []

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        (evaluation,) = evaluations
        self._sample = None
        self._epoch += 1
        if self.bounds is not None:
            self._measured.append(evaluation)
            self._credit_main_effects()
        if self._epoch > self.epochs:
            return  # one of the family
        picked = torch.tensor(evaluation.architecture)[:, None]
        accuracy = torch.full(picked.shape, 1 - evaluation.costs[0] / 100, dtype=torch.float64)
        self._sum.scatter_add_(1, picked, accuracy)
        self._uses.scatter_add_(1, picked, torch.ones_like(accuracy))
        self._in_cycle += 1
        if self._in_cycle < max(len(options) for options in self.policy.options()):
            return
        self._credit.append(self._sum / self._uses.clamp(min=1))
        self._sum, self._uses = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self._pools = [[] for _ in self.sizes]
        self._in_cycle = 0
        if len(self._credit) == self.cycles:
            self._prune()

    def _credit_main_effects(self) -> None:
        """Set `theta` to how much each operation adds to the normal score of the accuracy, by ridge regression."""
        offsets = np.cumsum([0, *self.sizes[:-1]])
        design = np.zeros((len(self._measured), sum(self.sizes)))
        design[np.arange(len(design))[:, None], offsets + np.array([e.architecture for e in self._measured])] = 1.0
        scores = normal_scores([e.costs[0] for e in self._measured])
        effects = np.linalg.solve(design.T @ design + RIDGE * np.eye(design.shape[1]), design.T @ scores)
        self.theta = torch.zeros_like(self.theta)
        for choice, (start, size) in enumerate(zip(offsets, self.sizes, strict=True)):
            self.theta[choice, :size] = torch.from_numpy(effects[start : start + size])
        self.theta = level(self.theta)

    def _within(self, bound: float) -> Architecture:
        """Return the network of surviving operations with the largest sum of credits within a cost."""
        assert self.additive is not None
        fixed, _ = self.additive
        return tuple(option for _, option in sorted(best_within(self._groups(), min(bound, self.budget) - fixed)))

    def _generate_next(self) -> Architecture:
        """Return the next target's network, or of its neighbours within that cost the best one that was not measured yet."""
        assert self.bounds is not None
        bound = self.bounds[(self._epoch - self.epochs) % len(self.bounds)]
        best, known = self._within(bound), {e.architecture for e in self._measured}
        if best not in known:
            return best
        meeting = {choice for node in self.node_inputs for choice in node}
        neighbours = [
            (*best[:choice], option, *best[choice + 1 :])
            for choice, left in enumerate(self.policy.options())
            for option in left
            # An edge that a cell has stays one.
            if choice not in meeting or self.none_option[choice] not in (best[choice], option)
        ]
        limit = min(bound, self.budget) * (1 + ROUNDING)
        new = [a for a in neighbours if a not in known and self._cost(a) <= limit]
        return max(new, key=self._credit_of, default=best)

    def _credit_of(self, architecture: Architecture) -> float:
        """Return the sum of the credits of a network's operations."""
        return sum(float(self.theta[choice, option]) for choice, option in enumerate(architecture))

    def _prune(self) -> None:
        """Update the distribution, and drop one operation of every choice."""
        needed: set[tuple[int, int]] = set()
        if self.bounds is not None:
            needed = {item for bound in self.bounds for item in enumerate(self._within(bound))}
        else:
            self._update_distribution()
        for choice, left in enumerate(self.policy.options()):
            if len(left) <= self.survivors:
                continue
            kinds = [self.parameter_free[choice][o] for o in left]
            # The last operation of its kind stays, as long as there is another kind; so does one that a target needs.
            may_go = [o for o in left if kinds.count(self.parameter_free[choice][o]) > 1 or len(set(kinds)) == 1]
            may_go = [o for o in may_go if (choice, o) not in needed]
            if may_go:
                worst = min(may_go, key=lambda o: float(self.theta[choice, o]))
                self.policy.alive[choice, worst] = False
        if self.bounds is None:
            self.theta = self.theta.masked_fill(~self.policy.alive, 0.0)
            self.theta = level(self.theta / self.theta.sum(dim=1, keepdim=True))
        self._credit = []

    def _update_distribution(self) -> None:
        alive = self.policy.alive
        evidence = torch.stack([(self.sharpness * c).masked_fill(~alive, -torch.inf).softmax(dim=1) for c in self._credit])
        # Masked before and after, where the code leaves operations that were pruned a trace of exp(-100 * accuracy).
        self.theta = level(evidence.mean(dim=0) + self.momentum * self.theta).masked_fill(~alive, 0.0)

    def expected(self, rounds: int) -> float:
        return float(self.epochs + self.family)

    def probabilities(self) -> list[list[float]]:
        """Return the distribution; with several targets, the share of their best networks that have an option."""
        if self.bounds is None:
            return [row[:n] for row, n in zip(self.theta.tolist(), self.sizes, strict=True)]
        if not self._measured:
            return self.policy.rows()
        chosen = list(zip(*(self._within(bound) for bound in self.bounds), strict=True))
        return [[row.count(o) / len(row) for o in range(n)] for row, n in zip(chosen, self.sizes, strict=True)]

    def derive(self) -> list[Architecture]:
        """Generate the family: networks along the constraint, spread out evenly to at most `family`.

        With several targets, it is the network with the largest sum of credits within each, of all that were measured.
        """
        if self.bounds is not None:
            known = [e.architecture for e in self._measured] or [self._within(bound) for bound in self.bounds]
            found = [[a for a in known if self._cost(a) <= min(bound, self.budget) * (1 + ROUNDING)] for bound in self.bounds]
            return list(dict.fromkeys(max(within, key=self._credit_of) for within in found if within))
        if self.node_inputs and self.plain_edges and any(any(row) for row in self.parameter_free):
            networks = [a for h in self.heights for s in self.plain_edges for a in [self.generate(h, s)] if a is not None]
        elif self.additive is not None:
            networks = self.knapsack()
        else:
            networks = [self._best()]
        unique = [a for a in dict.fromkeys(networks) if self._cost(a) <= self.budget * (1 + ROUNDING)]
        if len(unique) > self.family:
            places = [round(i * (len(unique) - 1) / max(1, self.family - 1)) for i in range(self.family)]
            unique = [unique[i] for i in dict.fromkeys(places)]
        return unique

    def _cost(self, architecture: Architecture) -> float:
        """Return the first additive cost."""
        if self.additive is None:
            return 0.0
        fixed, prices = self.additive
        return fixed + sum(row[option] for row, option in zip(prices, architecture, strict=True))

    def _best(self) -> Architecture:
        return tuple(self.theta.argmax(dim=1).tolist())

    def generate(self, height: int, parameter_free: int) -> Architecture | None:
        """Return the most probable network with cells of at most this height, or None where there is none.

        Cells are independent, so each is optimised by itself: over all graphs, and exactly for each graph.

        Args:
            height: Most operations between an input and a node; a node is one higher than the higher of its sources, and the
                inputs of the cell have height 0 (network_generator.py).
            parameter_free: Number of operations without parameters among the edges of each cell, two into each node.
        """
        option = [-1 if none is None else none for none in self.none_option]
        kinds = self._kinds()
        for cell in self._cells():
            best: tuple[float, list[tuple[int, int]]] | None = None
            for graph in graphs(cell, height):
                found = _filled(graph, kinds, parameter_free)
                if found is not None and (best is None or found[0] > best[0]):
                    best = found
            if best is None:
                return None
            for choice, taken in best[1]:
                option[choice] = taken
        for choice, taken in enumerate(option):  # choices outside of cells
            if taken < 0:
                option[choice] = int(self.theta[choice].argmax())
        return tuple(option)

    def _cells(self) -> Iterator[list[list[int]]]:
        """Yield the nodes of each cell; a node has one source more than the one before it."""
        cell: list[list[int]] = []
        for node in self.node_inputs:
            if cell and len(node) != len(cell[-1]) + 1:
                yield cell
                cell = []
            cell.append(node)
        if cell:
            yield cell

    def _kinds(self) -> list[tuple[tuple[float, int] | None, tuple[float, int] | None]]:
        """Return per choice the best operation with parameters and the best one without, each with its probability.

        Where `none` is what survives of its kind, it is the best other one, of those that were pruned.
        """
        theta, found = self.theta.tolist(), []
        for choice, left in enumerate(self.policy.options()):
            kinds: list[tuple[float, int] | None] = []
            for kind in (False, True):
                alike = [
                    o
                    for o in range(self.sizes[choice])
                    if self.parameter_free[choice][o] is kind and o != self.none_option[choice]
                ]
                options = [(theta[choice][o], -o) for o in alike if o in left] or [(theta[choice][o], -o) for o in alike]
                best = max(options, default=None)
                kinds.append(None if best is None else (best[0], -best[1]))
            found.append((kinds[0], kinds[1]))
        return found

    def knapsack(self, budget: float | None = None) -> list[Architecture]:
        """Return the networks of surviving operations on the front of summed probability against the first additive cost.

        Args:
            budget: None for the whole front within the limit, the cheapest first; otherwise only the most probable network
                within this cost, if there is one.
        """
        assert self.additive is not None
        fixed, _ = self.additive
        combinations = front(self._groups(), (self.budget if budget is None else budget) - fixed)
        networks = [tuple(option for _, option in sorted(options)) for _, _, options in combinations]
        return networks if budget is None else networks[-1:]

    def _groups(self) -> list[list[Item]]:
        """Return what a network of surviving operations is made of, scored by `theta`."""
        assert self.additive is not None
        _, prices = self.additive
        return network_groups(self.theta.tolist(), prices, self.policy.options(), self.node_inputs, self.none_option)

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "epoch": self._epoch,
            "in_cycle": self._in_cycle,
            "theta": self.theta.clone(),
            "alive": self.policy.alive.clone(),
            "credit": [c.clone() for c in self._credit],
            "sum": self._sum.clone(),
            "uses": self._uses.clone(),
            "measured": [e.to_data() for e in self._measured],
            "pools": [list(pool) for pool in self._pools],
            "sample": None if self._sample is None else list(self._sample),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._round, self._epoch, self._in_cycle = state["round"], state["epoch"], state["in_cycle"]
        self.theta = state["theta"].clone()
        self.policy.alive = state["alive"].clone()
        self._credit = [c.clone() for c in state["credit"]]
        self._sum, self._uses = state["sum"].clone(), state["uses"].clone()
        self._measured = [Evaluation.from_data(e) for e in state["measured"]]
        self._pools = [list(pool) for pool in state["pools"]]
        self._sample = None if state["sample"] is None else tuple(state["sample"])
        self._generator.set_state(state["generator"])


def graphs(cell: Sequence[Sequence[int]], height: int) -> Iterator[list[int]]:
    """Yield each choice of two edges into every node that stays within `height`, as a list of edges: 180 for four nodes."""
    for pairs in itertools.product(*(itertools.combinations(range(len(node)), 2) for node in cell)):
        inputs = len(cell[0])
        heights = [0] * inputs
        for pair in pairs:
            heights.append(1 + max(heights[source] for source in pair))
        if max(heights) <= height:
            yield [node[source] for node, pair in zip(cell, pairs, strict=True) for source in pair]


def _filled(
    edges: Sequence[int], kinds: Sequence[tuple[tuple[float, int] | None, tuple[float, int] | None]], parameter_free: int
) -> tuple[float, list[tuple[int, int]]] | None:
    """Return the most probable operations of these edges with exactly `parameter_free` ones, and their summed probability.

    None where the edges cannot have so many.
    """
    # With the rest given, each edge adds the difference between its kinds: the largest ones are taken.
    gains = []
    for choice in edges:
        one, other = kinds[choice]
        gains.append(math.inf if one is None else -math.inf if other is None else other[0] - one[0])
    chosen = set(sorted(range(len(edges)), key=lambda i: (-gains[i], i))[:parameter_free])
    score, taken = 0.0, []
    for i, choice in enumerate(edges):
        best = kinds[choice][i in chosen]
        if best is None:
            return None
        score += best[0]
        taken.append((choice, best[1]))
    return (score, taken) if len(chosen) == parameter_free else None
