"""Tabular benchmarks: networks that somebody trained, looked up in microseconds, with exact gradients in between."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from analysis.pareto import non_dominated
from orchestrator.errors import InputError
from orchestrator.evaluators.base import Differentiable
from orchestrator.evaluators.columns import Mode, direction, is_share
from orchestrator.evaluators.training_free import Scored
from orchestrator.objectives.base import Metrics
from orchestrator.registry import nearest, similar
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture, Cotangents, Mixture, Stage
from searchers.parts.additive import Additive

SHIPPED = Path(__file__).parents[1] / "tables"
SPARSE = 0.1
"""Share of a space's networks below which a searcher's proposals stand for the nearest network of the table."""
MIXED = 0.02
"""Share of fractions above which a column of percents is taken for a mixture; a collapsed network is below 1 % now and then."""


class TabularBenchmark(Differentiable):
    """Table with a row of numbers per architecture.

    A column that is to be as high as possible, by its name or by `modes`, counts as 100 minus its value, or as the highest
    value minus its own where that is above 100; every other one is minimised. Shares of 1 are turned into percent.

    Between architectures the first column is extended multilinearly: its expectation when every choice draws an option with the
    mixture's weights, over their sum. So the gradient at a mixture is exact, and at an architecture the cotangent of each
    option is the difference that changing that choice alone would make.

    Args:
        space: Search space of the architectures.
        frame: Table with a column `arch` in the notation of the space.
        columns: Columns to use as costs, the error or accuracy first.
        source: Name of the table, for messages.
        time: Column with the cost of an evaluation, in seconds or any other unit; None for 1 each.
        modes: "max" or "min" for columns whose names do not say which way is better, or say it wrongly.

    Attributes:
        maximised: For each column whether it is to be as high as possible.
        costs: Costs by architecture, lower is better.
        takes: Cost of an evaluation by architecture, in the unit of `time`.

    Raises:
        InputError: For a table that lacks a column, names architectures that the space does not have or one of them twice, or
            has values that are missing or not finite, or times that are not positive; for a column of which nobody says which
            way is better, and for one that has fractions among percents.
    """

    def __init__(
        self,
        space: SearchSpace,
        frame: pd.DataFrame,
        columns: Sequence[str],
        source: str = "the table",
        *,
        time: str | None = None,
        modes: Mapping[str, Mode] = MappingProxyType({}),
    ) -> None:
        needed = [*columns, *([time] if time else [])]
        if missing := [c for c in ("arch", *needed) if c not in frame.columns]:
            there = [str(column) for column in frame.columns]
            raise InputError(
                f"{source} has no column {', '.join(missing)}; it has {', '.join(there)}{similar(missing[0], there)}"
            )
        self.maximised = tuple(mode == "max" for mode in modes_of(columns, modes, source))
        if frame.empty:
            raise InputError(f"{source} has no rows")
        self.space, self.columns, self.source, self.time, self.step = space, list(columns), source, time, 0
        values = frame[needed].apply(_numbers).to_numpy(dtype=float, copy=True)
        bad = ~np.isfinite(values)
        if time:
            bad[:, -1] |= ~(values[:, -1] > 0)
        if bad.any():
            at, which = (int(i[0]) for i in np.nonzero(bad))
            kind = "positive" if needed[which] == time else "finite"
            value = frame[needed[which]].iloc[at]
            shown = "" if pd.isna(value) else f" ({value})"
            if isinstance(value, str) and re.search(r"\d[ ,.'\u2019\u00a0\u202f]\d{3}\b", value):
                shown += "; write numbers without separators of thousands"
            raise InputError(f"{source}, row {at + 1}: {needed[which]} is missing, or not a {kind} number{shown}")
        times = values[:, -1].tolist() if time else [1.0] * len(values)
        values = values[:, : len(columns)]
        # From a value to a cost: a factor, and the number that it is taken from; None where it is the cost itself.
        self._scales: list[tuple[float, float | None]] = []
        for i, (column, maximised) in enumerate(zip(columns, self.maximised, strict=True)):
            if maximised and column not in modes and is_share(column) and (values[:, i] < 0).all():
                raise InputError(
                    f"{source}: {column} is below 0 in all rows; if it has minus what its name says, write --minimize "
                    f"{shlex.quote(column)}, otherwise --maximize {shlex.quote(column)}"
                )
            factor = _percent(column, values[:, i], source)
            values[:, i] *= factor
            top = max(100.0, float(values[:, i].max())) if maximised else None
            self._scales.append((factor, top))
            if top is not None:
                values[:, i] = top - values[:, i]
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
        self._places: NDArray[np.int64] | None = None

    @classmethod
    def read(
        cls,
        paths: Path | Sequence[Path],
        space: SearchSpace,
        columns: Sequence[str],
        *,
        time: str | None = None,
        modes: Mapping[str, Mode] = MappingProxyType({}),
    ) -> TabularBenchmark:
        """Read a table from files that are joined by their `arch`.

        JSON is {architecture: {column: number}}, as NAS-Bench-Macro's, {column: numbers} with `arch` among them, or a list (or
        lines) of {column: value}. A list of numbers for an architecture has the results of several trainings, of which the mean
        counts.

        Args:
            paths: Parquet, CSV (separated by commas, semicolons or tabs), JSON or JSON lines files; a path that is no file may
                be the name of a shipped table.
            space: As all that follow, see the class.

        Raises:
            InputError: For files that cannot be read or joined, and as the class does.
        """
        paths = [paths] if isinstance(paths, Path) else list(paths)
        frame = read_frame(paths[0])
        for path in paths[1:]:
            other = read_frame(path)
            if both := sorted(set(frame.columns) & set(other.columns) - {"arch"}):
                raise InputError(f"{path} and the tables before it all have {', '.join(both)}; rename one of them")
            frame = frame.merge(other, on="arch", how="outer")
        return cls(space, frame, columns, " + ".join(path.name for path in paths), time=time, modes=modes)

    @property
    def titles(self) -> list[str]:
        """Titles of the costs, which say what a column that is maximised was taken from."""
        tops = [top for _, top in self._scales]
        return [c if top is None else f"{top:.6g} - {c}" for c, top in zip(self.columns, tops, strict=True)]

    @property
    def complete(self) -> bool:
        """Tell whether the table has every architecture of the space."""
        return len(self.costs) == self.space.architectures

    def named(self, text: str) -> Architecture:
        """Return the architecture that `text` stands for.

        Raises:
            ValueError: For what is no architecture of the space.
            KeyError: For one that the table does not have.
        """
        architecture = self._named.get(text)  # read once: parsing takes longer than looking up
        if architecture is None:
            architecture = self.space.parse(text)
            if architecture not in self.costs:
                raise KeyError(text)
        return architecture

    def front(self) -> list[tuple[float, ...]]:
        """Return the costs of the architectures that nothing in the table dominates."""
        if self._front is None:
            costs = list(self.costs.values())
            self._front = [costs[i] for i in non_dominated(costs)]
        return self._front

    def worst(self) -> tuple[float, ...]:
        """Return the highest value of each cost."""
        return tuple(max(column) for column in zip(*self.costs.values(), strict=True))

    def values(self, costs: Sequence[float]) -> list[float]:
        """Convert costs to values as the table's columns have them."""
        scaled = [(v if top is None else top - v, factor) for (factor, top), v in zip(self._scales, costs, strict=True)]
        return [v if factor == 1 else v / factor for v, factor in scaled]

    @property
    def sparse(self) -> bool:
        """Tell whether the table has so few of the space's networks that proposals hardly ever meet one."""
        return len(self.costs) < SPARSE * self.space.architectures

    def nearest(self, architecture: Architecture) -> Architecture:
        """Return the network of the table that differs from `architecture` in the fewest choices.

        Of several that differ in as many, one is taken by the architecture's own options, so that no row is favoured.
        """
        if architecture in self.costs:
            return architecture
        if self._places is None:
            self._places = np.array(list(self.costs))
        apart = (self._places != np.array(architecture)).sum(axis=1)
        ties = np.flatnonzero(apart == apart.min())
        chosen = zlib.crc32(np.array(architecture, dtype="<i8").tobytes()) % len(ties)
        return tuple(map(int, self._places[ties[chosen]]))

    def additive(self, column: int) -> Additive | None:
        """Return a column as a sum over the options, or None where it is no such sum.

        The terms are fitted by least squares; the column counts as a sum if they reproduce every row of the table.
        """
        if column not in self._additive:
            places = np.array(list(self.costs))
            offsets = np.cumsum([0, *self.space.sizes[:-1]])
            design = np.zeros((len(places), 1 + sum(self.space.sizes)))
            design[:, 0] = 1.0
            design[np.arange(len(places))[:, None], 1 + offsets + places] = 1.0
            values = np.array([costs[column] for costs in self.costs.values()])
            scale = max(1e-12, float(np.abs(values).max()))
            terms = np.linalg.lstsq(design.T @ design, design.T @ (values / scale), rcond=1e-10)[0] * scale
            exact = bool(np.abs(design @ terms - values).max() <= 1e-6 * scale)
            rows = [terms[1 + o : 1 + o + n].tolist() for o, n in zip(offsets, self.space.sizes, strict=True)]
            self._additive[column] = (float(terms[0]), rows) if exact else None
        return self._additive[column]

    @property
    def cost_models(self) -> list[CostColumn]:
        """List the columns after the first, for searchers that use costs which are sums over the options."""
        return [CostColumn(self, i) for i in range(1, len(self.columns))]

    def build(self, stage: Stage, steps: int) -> None:
        pass

    def drop(self, stage: Stage) -> None:
        pass

    def train(self, mixtures: Sequence[Mixture]) -> float:
        self.step += len(mixtures)
        return 0.0

    def measure(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        """Return the costs by column. Raises InputError for an architecture that a partial table does not have."""
        try:
            return [dict(zip(self.columns, self.costs[a], strict=True)) for a in architectures]
        except KeyError as error:
            raise InputError(f"the table has no {self.space.format(error.args[0])}") from error

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        return [{} for _ in architectures]

    def score_each(self, architectures: Sequence[Architecture], names: Sequence[str]) -> list[Scored]:
        """Return no values: a table has no images."""
        reason = "a table has no images"
        return [Scored(dict.fromkeys(names, math.nan), dict.fromkeys(names, reason)) for _ in architectures]

    def differentiate(self, mixture: Mixture, batch: int, unrolled: bool = False) -> tuple[float, Cotangents]:
        """Return the first column, as a share of 1 rather than in percent, and its gradient.

        Raises:
            InputError: For a partial table, which has no gradients.
        """
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
    """Column of a table as a cost model.

    Args:
        table: The table.
        column: Index among its columns.
    """

    table: TabularBenchmark
    column: int

    def additive(self) -> Additive | None:
        """Return the column as a sum over the options, or None where it is none."""
        return self.table.additive(self.column)


def modes_of(columns: Sequence[str], given: Mapping[str, Mode], source: str) -> list[Mode]:
    """Return for each column whether it is to be as high or as low as possible, by what is given or by its name.

    Raises:
        InputError: Where neither says so, and for a mode of another column.
    """
    for name, chosen in given.items():
        if name not in columns:
            raise InputError(
                f"{source}: {name!r} is to be {chosen}imised, and is none of the objectives{nearest(name, columns)}"
            )
        if chosen not in ("max", "min"):
            raise InputError(f'modes[{name!r}] = {chosen!r}; write "max" or "min"')
    modes: list[Mode] = []
    for column in columns:
        mode: Mode | None = given.get(column) or direction(column)
        if mode is None:
            raise InputError(
                f"{source}: the name of column {column!r} does not say whether it is to be maximised or minimised; write "
                f'--maximize {shlex.quote(column)} or --minimize {shlex.quote(column)} (in Python modes={{{column!r}: "max"}})'
            )
        modes.append(mode)
    return modes


def _numbers(column: pd.Series) -> pd.Series:
    """Read numbers, which may have a percent sign; NaN for what is none."""
    if pd.api.types.is_bool_dtype(column):
        return pd.Series(np.nan, column.index)
    if not pd.api.types.is_numeric_dtype(column):
        column = column.astype(str).str.strip().str.removesuffix("%")
    return pd.to_numeric(column, errors="coerce")


def _percent(column: str, values: NDArray[np.float64], source: str) -> float:
    """Return 100 for shares of 1 that are written as fractions, otherwise 1. Raises InputError for fractions among percents."""
    if not is_share(column) or (values < 0).any() or not values.any():
        return 1.0
    fractions = values <= 1.0
    if fractions.all():
        return 100.0
    fractions &= values > 0
    if fractions.mean() > MIXED:
        row = int(fractions.argmax())
        raise InputError(
            f"{source}, row {row + 1}: {column} is {values[row]:g}, in other rows up to {values.max():g}; these are fractions "
            "among percents: write all of them in percent"
        )
    return 1.0


def checksum(path: Path) -> str:
    """Compute the SHA-256 of a table's file, in hexadecimal."""
    with locate(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locate(path: Path) -> Path:
    """Return the file itself, or that of the shipped table of this name. Raises InputError where there is neither."""
    shipped = SHIPPED / f"{path.name}.csv"
    if not path.exists() and shipped.exists() and path.name == str(path):
        return shipped
    if not path.is_file():
        known = sorted(file.stem for file in SHIPPED.glob("*.csv"))
        beside = [file.name for file in path.parent.glob("*") if path.parent.is_dir()]
        raise InputError(
            f"there is no table {path}; shipped with paretoray: {', '.join(known)}{similar(path.name, [*known, *beside])}"
        )
    return path


def read_frame(path: Path) -> pd.DataFrame:
    """Read a table of networks, as it is written, with a column `arch`. Raises InputError."""
    file = locate(path)
    if file.suffix in (".pkl", ".pickle", ".pth", ".pt"):
        raise InputError(f"{path} has to be unpickled, which runs whatever code is in it; export it to Parquet or CSV")
    try:
        suffix = file.suffix.lower()
        if suffix in (".parquet", ".pq"):
            frame = pd.read_parquet(file)
            frame = frame.reset_index() if frame.index.name == "arch" else frame
        elif suffix in (".jsonl", ".ndjson"):
            frame = _from_json([json.loads(line) for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()])
        elif suffix == ".json":
            frame = _from_json(json.loads(file.read_text(encoding="utf-8-sig")))
        else:
            frame = _from_text(file)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as a table: {' '.join(str(error).split())}") from error
    names = [str(column).strip() for column in frame.columns]
    if "arch" not in names and [name.lower() for name in names].count("arch") == 1:
        names = [name.lower() if name.lower() == "arch" else name for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path} has two columns {twice[0]!r}; rename or delete one of them")
    frame.columns = pd.Index(names)
    if "arch" not in names:
        hint = "; separate columns by commas, semicolons or tabs" if len(names) == 1 else ""
        raise InputError(f"{path} has no column arch, with notations of networks; it has {', '.join(names)}{hint}")
    return frame


_THREES = {sign: re.compile(rf"-?[1-9]\d{{0,2}}({re.escape(sign)}\d{{3}})+") for sign in ",."}


def _from_text(file: Path) -> pd.DataFrame:
    """Read CSV with whichever separator puts `arch` into a column of its own, in the encodings that spreadsheets write."""
    opener = gzip.open if file.suffix.lower() == ".gz" else open
    with opener(file, "rb") as raw:
        content = raw.read()
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").lstrip("\r\n")
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=.\s*", first):  # a line for Excel alone
        text, first = rest, rest.partition("\n")[0]
    names = {sep: [name.strip().strip('"').lower() for name in first.split(sep)] for sep in ",;\t"}
    sep = next((sep for sep, found in names.items() if "arch" in found), ",")
    head = pd.read_csv(io.StringIO(text), sep=sep, nrows=1, header=None, dtype=str, skipinitialspace=True).iloc[0]
    written = [str(name).strip() for name in head]
    if twice := sorted({name for name in written if written.count(name) > 1}):  # pandas would number them
        raise ValueError(f"it has two columns {twice[0]!r}; rename or delete one of them")
    frame = pd.read_csv(io.StringIO(text), sep=sep, dtype={"arch": str, "Arch": str}, skipinitialspace=True)
    texts = pd.read_csv(io.StringIO(text), sep=sep, dtype=str, skipinitialspace=True)
    return _with_commas(_with_points(frame, texts), texts)


def _with_points(frame: pd.DataFrame, raw: pd.DataFrame) -> pd.DataFrame:
    """Read points between thousands, where a number has several of them, as 2.178.000.

    A number with one of them may have three decimals as well. Decimals that end in 0 beside numbers without any tell: nothing
    writes 2.170 and 980 but what puts a point between thousands.

    Raises:
        ValueError: For numbers that may have points between thousands, or three decimals.
    """
    found: dict[Any, pd.Series] = {}
    doubtful: dict[Any, str] = {}
    for column in (c for c in frame.columns if str(c).lower() != "arch"):
        values = raw[column].dropna().str.strip()
        pointed = values[values.str.contains(".", regex=False)]
        if pointed.empty or not pointed.map(lambda value: _THREES["."].fullmatch(value) is not None).all():
            continue
        if pointed.str.count(r"\.").gt(1).any():
            found[column] = pd.to_numeric(raw[column].str.replace(".", "", regex=False), errors="coerce")
            continue
        doubtful[column] = pointed.iloc[0]
        ends = pointed[pointed.str.endswith("0")]
        if len(pointed) < len(values) and len(ends):
            whole = values[~values.index.isin(pointed.index)].iloc[0]
            raise ValueError(
                f"{column} has {ends.iloc[0]} beside {whole}, as numbers with points between thousands are written; write "
                f"{ends.iloc[0].replace('.', '')}, or {whole}.000 if these are decimals"
            )
    for column, value in doubtful.items() if found else ():
        other = next(iter(found))
        raise ValueError(
            f"{other} has points between thousands, so {value} of {column} may be {value.replace('.', '')}; write numbers "
            "without separators of thousands"
        )
    return frame.assign(**{str(column): values for column, values in found.items()})


def _with_commas(frame: pd.DataFrame, raw: pd.DataFrame) -> pd.DataFrame:
    """Read decimal commas, which there may be where another sign separates columns, and commas between thousands.

    Raises:
        ValueError: For numbers that may have separators of thousands or decimals.
    """
    numbers = [c for c in frame.columns if str(c).lower() != "arch"]
    swapped = {}
    for column in numbers:
        if pd.api.types.is_numeric_dtype(frame[column]):
            continue
        values = frame[column].astype(str).str.strip()
        decimals = pd.to_numeric(values.str.removesuffix("%").str.strip().str.replace(",", ".", regex=False), errors="coerce")
        grouped = values.str.contains(",", regex=False)
        if grouped.any() and values[grouped].map(lambda value: _THREES[","].fullmatch(value) is not None).all():
            if not values.str.count(",").gt(1).any():
                raise ValueError(
                    f"{column} has {values[grouped].iloc[0]}, which may be a number of thousands or have decimals; write "
                    "numbers without separators of thousands, and decimals with a point"
                )
            swapped[column] = pd.to_numeric(values.str.replace(",", "", regex=False), errors="coerce")
        elif decimals.notna().all():
            swapped[column] = decimals
    if not any((found % 1 != 0).any() for found in swapped.values()):
        return frame.assign(**swapped)
    for column in numbers:  # beside decimal commas a point separates thousands
        points = raw[column].astype(str).str.count(r"\.")
        if column not in swapped and points.gt(0).any() and not points.gt(1).any():
            raise ValueError(
                f"{column} has points and {next(iter(swapped))} has decimal commas; write numbers without separators of "
                "thousands, and decimals in one way"
            )
    return frame.assign(**swapped)


def _from_json(content: Any) -> pd.DataFrame:
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return pd.DataFrame(content)
    if not isinstance(content, dict) or not content:
        raise ValueError("it is no object of architectures, or of columns")
    if "arch" in content:
        return pd.DataFrame(content)
    if not all(isinstance(row, dict) for row in content.values()):
        raise ValueError("write {architecture: {column: number}}, or {column: [numbers]} with arch among them")
    means = {
        arch: {key: float(np.mean(value)) if isinstance(value, list) and value else value for key, value in row.items()}
        for arch, row in content.items()
    }
    return pd.DataFrame.from_dict(means, orient="index").rename_axis("arch").reset_index()
