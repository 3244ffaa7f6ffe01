"""A table of architectures that somebody trained: exact answers in microseconds, and exact gradients in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.pareto import non_dominated
from orchestrator.errors import InputError
from orchestrator.evaluators.base import Differentiable
from orchestrator.objectives.base import Metrics
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture, Cotangents, Mixture, Stage
from searchers.parts.additive import Additive

SHIPPED = Path(__file__).parents[1] / "tables"


class TabularBenchmark(Differentiable):
    """Columns of numbers by architecture. A column whose name ends in "accuracy" counts as 100 minus its value; every other
    one is minimised. time: the column of what an evaluation takes, in seconds or whatever else; without one each takes 1.

    Between architectures the first column is extended multilinearly: its expectation when every choice draws an option with the
    mixture's weights, over their sum. So the gradient of a mixture is exact, and at an architecture the cotangent of each
    option is the difference that changing that choice alone would make.

    Raises InputError for a table that lacks a column, names architectures that the space does not have or one of them twice, or
    has values that are missing or not finite, or times that are not positive.
    """

    def __init__(
        self,
        space: SearchSpace,
        frame: pd.DataFrame,
        columns: Sequence[str],
        source: str = "the table",
        *,
        time: str | None = None,
    ) -> None:
        needed = [*columns, *([time] if time else [])]
        if missing := [c for c in ("arch", *needed) if c not in frame.columns]:
            raise InputError(f"{source} has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}")
        if frame.empty:
            raise InputError(f"{source} has no rows")
        self.space, self.columns, self.source, self.time, self.step = space, list(columns), source, time, 0
        values = frame[needed].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float, copy=True)
        bad = ~np.isfinite(values)
        if time:
            bad[:, -1] |= ~(values[:, -1] > 0)
        if bad.any():
            at, which = (int(i[0]) for i in np.nonzero(bad))
            kind = "positive" if needed[which] == time else "finite"
            found = frame[needed[which]].iloc[at]
            said = "" if pd.isna(found) else f" ({found})"
            raise InputError(f"{source}, row {at + 1}: {needed[which]} is missing, or not a {kind} number{said}")
        times = values[:, -1].tolist() if time else [1.0] * len(values)
        values = values[:, : len(columns)]
        for i, column in enumerate(columns):
            if is_accuracy(column):
                values[:, i] = 100.0 - values[:, i]
        self.costs: dict[Architecture, tuple[float, ...]] = {}
        self.takes: dict[Architecture, float] = {}
        self._named: dict[str, Architecture] = {}
        for row, (text, costs, takes) in enumerate(zip(frame["arch"], values.tolist(), times, strict=True), 1):
            try:
                architecture = space.parse(str(text))
            except ValueError as error:
                raise InputError(f"{source}, row {row}: {error}") from error
            if architecture in self.costs:
                raise InputError(f"{source}, row {row}: {text} is in the table twice")
            self.costs[architecture], self.takes[architecture] = tuple(costs), takes
            self._named[str(text)] = architecture
        self._additive: dict[int, Additive | None] = {}
        self._grid: torch.Tensor | None = None
        self._front: list[tuple[float, ...]] | None = None

    @classmethod
    def read(
        cls, paths: Path | Sequence[Path], space: SearchSpace, columns: Sequence[str], *, time: str | None = None
    ) -> TabularBenchmark:
        """From Parquet, CSV or JSON files, joined by their `arch`; a path that is no file may be the name of a shipped table.

        JSON is {architecture: {column: number}}, as NAS-Bench-Macro's, or {column: numbers} with `arch` among them. Where an
        architecture has a list of numbers they are of several trainings, which count with their mean.
        """
        paths = [paths] if isinstance(paths, Path) else list(paths)
        frame = _frame(paths[0])
        for path in paths[1:]:
            other = _frame(path)
            if both := sorted(set(frame.columns) & set(other.columns) - {"arch"}):
                raise InputError(f"{path} and the tables before it all have {', '.join(both)}; rename one of them")
            frame = frame.merge(other, on="arch", how="outer")
        return cls(space, frame, columns, " + ".join(path.name for path in paths), time=time)

    @property
    def complete(self) -> bool:
        """Whether it has every architecture of the space."""
        return len(self.costs) == self.space.architectures

    def named(self, text: str) -> Architecture:
        """The architecture of that notation. Raises ValueError for what is none of the space, KeyError for one it has not."""
        architecture = self._named.get(text)  # read once: parsing takes longer than looking up
        if architecture is None:
            architecture = self.space.parse(text)
            if architecture not in self.costs:
                raise KeyError(text)
        return architecture

    def front(self) -> list[tuple[float, ...]]:
        """The costs of what nothing in the table dominates."""
        if self._front is None:
            costs = list(self.costs.values())
            self._front = [costs[i] for i in non_dominated(costs)]
        return self._front

    def worst(self) -> tuple[float, ...]:
        """The highest of each cost."""
        return tuple(max(column) for column in zip(*self.costs.values(), strict=True))

    def values(self, costs: Sequence[float]) -> list[float]:
        """Costs as the table's columns have them."""
        return [100.0 - v if is_accuracy(c) else v for c, v in zip(self.columns, costs, strict=True)]

    def additive(self, column: int) -> Additive | None:
        """That column as a sum over the options, or None where it is none.

        Read off the architectures by least squares; it counts as a sum if it reproduces every row of the table.
        """
        if column not in self._additive:
            places = np.array(list(self.costs))
            offsets = np.cumsum([0, *self.space.sizes[:-1]])
            design = np.zeros((len(places), 1 + sum(self.space.sizes)))
            design[:, 0] = 1.0
            design[np.arange(len(places))[:, None], 1 + offsets + places] = 1.0
            values = np.array([costs[column] for costs in self.costs.values()])
            scale = max(1e-12, float(np.abs(values).max()))
            found = np.linalg.lstsq(design.T @ design, design.T @ (values / scale), rcond=1e-10)[0] * scale
            exact = bool(np.abs(design @ found - values).max() <= 1e-6 * scale)
            rows = [found[1 + o : 1 + o + n].tolist() for o, n in zip(offsets, self.space.sizes, strict=True)]
            self._additive[column] = (float(found[0]), rows) if exact else None
        return self._additive[column]

    @property
    def cost_models(self) -> list[CostColumn]:
        """The columns after the first, for searchers that use costs which are sums over the options."""
        return [CostColumn(self, i) for i in range(1, len(self.columns))]

    def build(self, stage: Stage, steps: int) -> None:
        pass

    def drop(self, stage: Stage) -> None:
        pass

    def train(self, mixtures: Sequence[Mixture]) -> float:
        self.step += len(mixtures)
        return 0.0

    def measure(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        """Raises InputError for an architecture that a partial table has not."""
        try:
            return [dict(zip(self.columns, self.costs[a], strict=True)) for a in architectures]
        except KeyError as error:
            raise InputError(f"the table has no {self.space.format(error.args[0])}") from error

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        return [{} for _ in architectures]

    def differentiate(self, mixture: Mixture, batch: int, unrolled: bool = False) -> tuple[float, Cotangents]:
        """Raises InputError for a partial table, which has no gradients. The first column counts as a share, not in percent."""
        if self._grid is None:
            if not self.complete:
                raise InputError(
                    f"{self.source} has {len(self.costs):,} of {self.space.architectures:,} architectures; gradients need all: "
                    "take a complete table, or a method without them, as surrogate-search or nsga2"
                )
            self._grid = torch.empty(self.space.sizes, dtype=torch.float64)
            index = torch.tensor(list(self.costs)).T
            self._grid[tuple(index)] = torch.tensor([c[0] / 100 for c in self.costs.values()], dtype=torch.float64)
        raw = [torch.tensor(row, dtype=torch.float64) for row in mixture.weights]
        sums = [max(float(row.sum()), 1e-12) for row in raw]
        rows = [row / s for row, s in zip(raw, sums, strict=True)]
        cotangents = []
        for choice in range(len(rows)):
            rest = self._grid
            for other in reversed(range(len(rows))):
                if other != choice:
                    rest = torch.tensordot(rest, rows[other], dims=([other], [0]))
            value = float(rest @ rows[choice])
            cotangents.append(tuple(((rest - value) / sums[choice]).tolist()))
        return value, tuple(cotangents)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


@dataclass(frozen=True)
class CostColumn:
    """A column of a table as a cost."""

    table: TabularBenchmark
    column: int

    def additive(self) -> Additive | None:
        """Return the column as a sum over the options, or None where it is none."""
        return self.table.additive(self.column)


def is_accuracy(column: str) -> bool:
    """Whether it counts as 100 minus its value."""
    return column.endswith(("accuracy", "_acc"))


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with locate(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locate(path: Path) -> Path:
    """The file itself, or that of the shipped table of this name. Raises InputError where there is neither."""
    shipped = SHIPPED / f"{path.name}.csv"
    if not path.exists() and shipped.exists() and path.name == str(path):
        return shipped
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.csv")))
        raise InputError(f"there is no table {path}; shipped with paretoray: {known}")
    return path


def _frame(path: Path) -> pd.DataFrame:
    file = locate(path)
    if file.suffix in (".pkl", ".pickle", ".pth", ".pt"):
        raise InputError(f"{path} has to be unpickled, which runs whatever code is in it; export it to Parquet or CSV")
    try:
        if file.suffix == ".parquet":
            frame = pd.read_parquet(file)
        elif file.suffix == ".json":
            frame = _from_json(json.loads(file.read_text()))
        else:
            frame = pd.read_csv(file, dtype={"arch": str})
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as a table: {error}") from error
    if "arch" not in frame.columns:
        raise InputError(f"{path} has no column arch; it has {', '.join(map(str, frame.columns))}")
    return frame


def _from_json(found: Any) -> pd.DataFrame:
    if not isinstance(found, dict) or not found:
        raise ValueError("it is no object of architectures, or of columns")
    if "arch" in found:
        return pd.DataFrame(found)
    if not all(isinstance(row, dict) for row in found.values()):
        raise ValueError("write {architecture: {column: number}}, or {column: [numbers]} with arch among them")
    means = {
        arch: {c: float(np.mean(v)) if isinstance(v, list) and v else v for c, v in row.items()} for arch, row in found.items()
    }
    return pd.DataFrame.from_dict(means, orient="index").rename_axis("arch").reset_index()
