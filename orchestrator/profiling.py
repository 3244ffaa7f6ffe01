"""Measuring a device: every operation of a space by itself and whole networks, in turn, and what follows from them."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from analysis import plots
from hw_profiles import energy, measure
from hw_profiles.fit import Floats, fit
from hw_profiles.profile import CONSTANT, UNITS, Profile, Validation, part, write
from orchestrator import experiment as experiments
from orchestrator.describe import describe
from orchestrator.devices import left, options, parts_of, read
from orchestrator.errors import InputError, RunError
from orchestrator.evaluators.table import Table
from orchestrator.experiment import make_space
from orchestrator.machine import processor
from orchestrator.progress import Display
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.choice import MixedNetwork, Weights, decided, keeping
from searchers.base import Architecture

LEAVES_OUT = ("nothing", "unused", "constants")
RUNTIMES = ("cpu", "cuda", "onnxruntime")
BUSY = 0.05
"""Relative spread of a network's rounds, in the median over networks, above which a machine counts as busy."""
ROUNDS = 5
LONGER = 3
"""How many times as many rounds a busy machine is given."""
JOULES = 1.0
"""Seconds of passes for each reading of an energy counter, which is renewed a few times a second only."""

Job = str
"""`op` and an operation's name and shapes, or `net` and a network's notation."""
Row = dict[str, Any]
"""round, job, cost (`latency` or `energy`) and value, in the cost's unit for one batch."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how; plain values.

    space, settings, image, classes: which networks. device: one of RUNTIMES. batch, threads, dtype: how they run. networks,
    validation: how many random ones costs are fitted to, and on how many others the prediction is tried. rounds: measurements
    of each. seconds: the least time of one. energy: whether joules are read, too. seed: of the networks.

    Raises InputError for settings that measure nothing.
    """

    space: str
    settings: dict[str, Any]
    image: tuple[int, int, int]
    classes: int
    device: str = "cpu"
    batch: int = 1
    threads: int = 1
    dtype: str = "float32"
    networks: int = 100
    validation: int = 50
    rounds: int = ROUNDS
    seconds: float = 0.02
    energy: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.device not in RUNTIMES or self.dtype not in measure.DTYPES:
            raise InputError(
                f"--device {self.device} --dtype {self.dtype}: known are {', '.join(RUNTIMES)} and {', '.join(measure.DTYPES)}"
            )
        least = {"batch": 1, "threads": 1, "networks": 10, "validation": 2, "rounds": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(f"--{name} {getattr(self, name)}; at least {value} is needed")
        if self.seconds <= 0:
            raise InputError(f"--seconds {self.seconds:g}; it must be above 0")
        if self.device == "onnxruntime" and self.dtype != "float32":
            raise InputError(f"--dtype {self.dtype}: through ONNX Runtime float32 alone can be measured")
        if self.device == "cuda" and self.threads != 1:
            raise InputError(f"--threads {self.threads}: a network on a GPU is launched from one thread")

    def build(self) -> SearchSpace:
        return make_space(self.space, self.settings, self.image, self.classes)

    def choose(self, space: SearchSpace) -> list[Architecture]:
        """Random networks, all different: those to fit, then those to try the prediction on."""
        wanted = self.networks + self.validation
        rng = np.random.default_rng(self.seed)
        found: dict[Any, Architecture] = {}
        for _ in range(50 * wanted):
            architecture = tuple(int(rng.integers(size)) for size in space.sizes)
            found.setdefault(space.canonical(architecture), architecture)
            if len(found) == wanted:
                return list(found.values())
        raise InputError(
            f"--networks {self.networks} --validation {self.validation}: {self.space} has hardly more than {len(found)} "
            "networks; ask for fewer"
        )


class Station:
    """A device that measures: on this machine, or as an actor on another."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = Plan(**plan | {"image": tuple(plan["image"])})
        self.device = "cuda" if self.plan.device == "cuda" else "cpu"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: torch sees no GPU here")
        if self.plan.device == "onnxruntime":
            try:
                import onnx  # noqa: F401, torch's exporter needs it
                import onnxruntime  # noqa: F401
            except ImportError as error:
                raise InputError(
                    f"--device onnxruntime: {error.name} is not installed; pip install 'paretoray[onnx]'"
                ) from error
        torch.set_num_threads(self.plan.threads)
        self.meter = None
        if self.plan.energy:
            try:
                self.meter = energy.meter(self.device)
            except energy.NoMeter as error:
                raise InputError(f"--energy: {error}") from error
        self.space = self.plan.build()
        self.networks = self.plan.choose(self.space)
        self.operations = operations(self.space)
        self._runs: dict[Job, measure.Run] = {}

    def jobs(self) -> list[Job]:
        """Everything that is measured in a round."""
        return [f"op {name}" for name in self.operations] + [f"net {self.space.format(a)}" for a in self.networks]

    def hardware(self) -> dict[str, str]:
        """The device and the software on it, in words."""
        return _hardware(self.device, self.plan.device)

    def round(self, index: int, done: Sequence[Job] = ()) -> Iterator[Row]:
        """Measures every job but those `done`, in an order of this round's own, so that drift does not become a pattern."""
        jobs = self.jobs()
        for place in np.random.default_rng((self.plan.seed, index)).permutation(len(jobs)):
            if (job := jobs[place]) not in done:
                run = self._run(job)
                for _ in range(2):
                    run()
                seconds = float(np.median(measure.timed(run, self.plan.seconds)))
                yield {"round": index, "job": job, "cost": "latency", "value": 1e3 * seconds}
                if self.meter is not None:
                    joules = energy.per_pass(run, self.meter, max(JOULES, self.plan.seconds))
                    yield {"round": index, "job": job, "cost": "energy", "value": 1e3 * joules}

    def _run(self, job: Job) -> measure.Run:
        if job not in self._runs:
            kind, _, name = job.partition(" ")
            plan = self.plan
            shapes: list[tuple[int, ...]] = [plan.image]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(plan.seed)
                if kind == "op":
                    module, shapes = self.operations[name]
                else:
                    module = self.space.network(self.space.parse(name))
                inputs = [torch.randn(plan.batch, *shape) for shape in shapes]
            if plan.device == "onnxruntime":
                self._runs[job] = measure.in_onnxruntime(module, inputs, plan.threads)
            else:
                place: dict[str, Any] = {"device": self.device, "dtype": measure.DTYPES[plan.dtype]}
                self._runs[job] = measure.in_torch(module.to(**place), [x.to(**place) for x in inputs])
        return self._runs[job]


def operations(space: SearchSpace) -> dict[str, tuple[nn.Module, list[tuple[int, ...]]]]:
    """Every operation that not all networks have, as a module and the shapes of its inputs, without the batch.

    They are taken out of whole networks that hold one option of each choice. Those with further choices inside, and those of
    spaces that do not list theirs, cannot be had by themselves and are left out.
    """
    order = {choice.name: i for i, choice in enumerate(space.choices)}
    left = {p.operation.part: p.conditions for p in space.prices.listed if p.conditions}
    found: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {}
    while left:
        allowed = [set(range(size)) for size in space.sizes]
        for conditions in left.values():  # as many of them at once as go together
            narrowed = {choice: allowed[choice] for choice, *_ in conditions}
            for choice, option, taken in conditions:
                narrowed[choice] = narrowed[choice] & {option} if taken else narrowed[choice] - {option}
            if all(narrowed.values()):
                for choice, kept in narrowed.items():
                    allowed[choice] = kept
        before = len(left)
        architecture = [min(options) for options in allowed]
        with keeping({c.name: (o,) for c, o in zip(space.choices, architecture, strict=True)}):
            network = MixedNetwork(space.build(None), order).eval()

        def seen(module: nn.Module, inputs: Any, output: Tensor, title: str) -> None:
            taken = inputs[0] if isinstance(inputs[0], tuple) else inputs
            key = part(title, tuple(taken[0].shape[1:]), tuple(output.shape[1:]))
            if left.pop(key, None) and not any(decided(module)):
                found[key] = module, [tuple(x.shape[1:]) for x in taken]

        hooks = [
            module.register_forward_hook(lambda m, i, o, title=title: seen(m, i, o, title))
            for place in decided(network)
            for title, module, _ in place.parts()
        ]
        with torch.no_grad():
            rows = [[float(o == taken) for o in range(size)] for taken, size in zip(architecture, space.sizes, strict=True)]
            network(torch.zeros(1, *space.image), Weights(rows))
        for hook in hooks:
            hook.remove()
        if len(left) == before:
            break
    return found


def keep(path: Path, plan: Plan) -> pd.DataFrame:
    """The measurements that are there already, of the same plan; the file is made where there is none. Raises RunError."""
    about = json.dumps({k: v for k, v in asdict(plan).items() if k != "rounds"})
    columns = ["round", "job", "cost", "value"]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {about}\n{','.join(columns)}\n")
        return pd.DataFrame(columns=columns)
    text = path.read_text()
    first = text.partition("\n")[0]
    if first != f"# {about}":
        raise RunError(f"{path} has measurements of something else; take another --out, or remove it")
    if not text.endswith("\n"):  # it was cut off in the middle of a row
        path.write_text(text[: text.rindex("\n") + 1])
    try:
        rows = pd.read_csv(path, comment="#", quotechar='"')
        return rows.astype({"round": int, "job": str, "cost": str, "value": float})[columns]
    except (ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}; remove it, or take another --out") from error


def measured(
    plan: Plan, path: Path, station: Any, show: Callable[[int, int, int, int, float | None], None], say: Callable[[str], None]
) -> pd.DataFrame:
    """All measurements, those in the file at `path` and those still to be made, which are added to it one by one.

    station: a Station, or what answers as one. show: told the round, how many there are, what of it is done, of how much, and
    the seconds left. say: told when the machine turns out to be busy, and more rounds are measured than were asked for.
    """
    rows = keep(path, plan)
    jobs = station.jobs()
    each = len(jobs) * (2 if plan.energy else 1)
    began, new = time.monotonic(), 0
    index, wanted = 0, plan.rounds
    with path.open("a") as file:
        while index < wanted:
            done = rows.loc[rows["round"] == index, "job"].value_counts()
            whole = [str(job) for job, count in done.items() if count >= each // len(jobs)]
            rows = rows[(rows["round"] != index) | rows["job"].isin(whole)]
            fresh = []
            for row in station.round(index, whole):
                fresh.append(row)
                new += 1
                pd.DataFrame([row]).to_csv(file, header=False, index=False)
                file.flush()
                at = len(whole) * each // len(jobs) + len(fresh)
                left = (time.monotonic() - began) / new * ((wanted - index) * each - at)
                show(index, wanted, at, each, left if index or new > 20 else None)
            if fresh:
                rows = pd.concat([rows, pd.DataFrame(fresh)], ignore_index=True) if len(rows) else pd.DataFrame(fresh)
            index += 1
            if index == wanted and index < LONGER * plan.rounds and (spread := _spread(rows)) > BUSY:
                if wanted == plan.rounds:
                    longer = f"measuring up to {LONGER} times as long"
                    say(f"the machine is busy: rounds of a network differ by {spread:.0%}; {longer}")
                wanted += 1
    return rows


def _spread(rows: pd.DataFrame) -> float:
    """Interquartile range of a network's rounds over their median, in the median over networks; with more rounds than usual, as
    much less as their median is more certain."""
    taken = rows[rows["cost"] == "latency"]
    steady = measure.steady(taken)
    spread = float(steady["spread"][steady.index.str.startswith("net ")].median())
    return float(spread / max(1.0, taken["round"].nunique() / ROUNDS) ** 0.5)


def conclude(plan: Plan, rows: pd.DataFrame, cost: str, hardware: dict[str, str]) -> tuple[Profile, bool]:
    """The profile that follows from the measurements; and whether the machine was too busy for them to be precise.

    Raises InputError where they are too few.
    """
    space = plan.build()
    steady = measure.steady(rows[rows["cost"] == cost])
    networks = plan.choose(space)
    values = np.array([steady["value"].get(f"net {space.format(a)}", np.nan) for a in networks])
    if np.isnan(values).any():
        raise InputError(f"{int(np.isnan(values).sum())} networks were not measured; run the same command again")
    alone = {str(job)[3:]: float(v) for job, v in steady["value"].items() if str(job).startswith("op ")}
    spread = _spread(rows)
    protocol = {
        "runtime": hardware["runtime"],
        "device": plan.device,
        "batch": plan.batch,
        "dtype": plan.dtype,
        "threads": plan.threads,
        "networks": plan.networks,
        "rounds": int(rows["round"].nunique()),
        "seconds": plan.seconds,
        "spread": round(spread, 4),
        "date": time.strftime("%Y-%m-%d"),
        "method": "after two passes to warm up, the median of passes that take so many seconds, at least five; operations and "
        "networks in turn, in another order every round; the machine's drift divided out by median polish; medians over rounds",
        "software": hardware["software"],
    }
    n = plan.networks
    profile = learn(
        space, cost, "operation", networks[:n], values[:n], networks[n:], values[n:],
        alone=alone, hardware=hardware["device"], protocol=protocol,
    )  # fmt: skip
    return profile, spread > BUSY


def from_table(table: Table, cost: str, networks: int, source: dict[str, Any], hardware: str, seed: int = 0) -> Profile:
    """Costs of options from a table whose only column is what whole networks cost: `networks` random rows, tried on the others.

    Raises InputError for too few of them and for costs that are not above 0.
    """
    known = list(table.costs)
    if len(known) < networks + 50:
        left = f"--networks {networks} leaves fewer than 50 to try the prediction on"
        raise InputError(f"{table.source} has {len(known):,} networks; {left}")
    values = np.array([table.costs[a][0] for a in known])
    if values.min() <= 0:
        row = int(values.argmin())
        raise InputError(f"{table.source}, row {row + 1}: {table.columns[0]} = {values[row]:g}; a cost must be above 0")
    order = np.random.default_rng(seed).permutation(len(known))
    chosen, others = order[:networks], order[networks:]
    protocol = source | {"networks": networks, "method": "regularised least squares on whole networks"}
    return learn(
        table.space, cost, "option", [known[i] for i in chosen], values[chosen], [known[i] for i in others], values[others],
        hardware=hardware, protocol=protocol,
    )  # fmt: skip


def learn(
    space: SearchSpace,
    cost: str,
    by: str,
    networks: Sequence[Architecture],
    values: Floats,
    others: Sequence[Architecture],
    true: Floats,
    *,
    hardware: str,
    protocol: dict[str, Any],
    alone: Mapping[str, float] | None = None,
) -> Profile:
    """The profile that `networks`, which cost `values`, lead to, validated on `others`, which cost `true`.

    What the device leaves out of a network is decided by cross-validation. Where it leaves something out, networks whose output
    does not depend on the image cost next to nothing, of which no share can be told, and are not part of the validation.
    """
    parts = sorted({p.operation.part for p in space.prices.listed if p.conditions}) if by == "operation" else options(space)
    if not parts:  # a space that does not list its operations
        parts = sorted({p for a in (*networks, *others) for p in parts_of(space, by, a)})
    tried = {}
    modes = LEAVES_OUT if type(space).pruned is not SearchSpace.pruned else LEAVES_OUT[:1]
    for leaves_out in modes:
        keys = [*parts, CONSTANT] if leaves_out == "constants" else parts
        counts, alive = _design(space, by, leaves_out, keys, networks)
        kinds = [key.rpartition("=")[2].partition(" ")[0] for key in keys]
        by_itself = np.array([(alone or {}).get(key, np.nan) for key in keys])
        fitted = fit(counts[alive], values[alive], kinds, None if np.isnan(by_itself).all() else by_itself)
        tried[leaves_out] = keys, fitted, alive
    leaves_out = min(tried, key=lambda name: tried[name][1].error)
    keys, fitted, alive = tried[leaves_out]
    counts, shown = _design(space, by, leaves_out, keys, others)
    return Profile(
        cost=cost,  # type: ignore[arg-type]
        space=space.name,
        settings=space.settings,
        image=space.image,
        by=by,  # type: ignore[arg-type]
        hardware=hardware,
        protocol=protocol,
        fixed=_short(fitted.fixed),
        costs={key: _short(v) for key, v in zip(keys, fitted.costs, strict=True)},
        validation=Validation.of(true[shown], fitted.predict(counts[shown])),
        alone={key: _short(v) for key, v in (alone or {}).items()},
        leaves_out=leaves_out,  # type: ignore[arg-type]
        dead=None if alive.all() else _short(float(np.median(values[~alive]))),
    )


def _design(
    space: SearchSpace, by: str, leaves_out: str, keys: Sequence[str], networks: Sequence[Architecture]
) -> tuple[Floats, NDArray[np.bool_]]:
    """How often each network has each part, (networks, parts), and whether its output depends on the image."""
    place = {key: i for i, key in enumerate(keys)}
    counts, alive = np.zeros((len(networks), len(keys))), np.zeros(len(networks), dtype=bool)
    for row, architecture in enumerate(networks):
        kept, constants = left(space, architecture, leaves_out)
        alive[row] = kept is not None
        for key, count in parts_of(space, by, kept).items() if kept is not None else ():
            counts[row, place[key]] += count
        if constants:
            counts[row, place[CONSTANT]] = constants
    return counts, alive


def _short(value: float) -> float:
    """Six digits are more than any measurement has."""
    return float(f"{value:.6g}")


def _hardware(device: str, runtime: str) -> dict[str, str]:
    versions = {"torch": torch.__version__}
    if runtime == "onnxruntime":
        import onnxruntime

        versions["onnxruntime"] = onnxruntime.__version__
    if device == "cuda":
        shown = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, driver {energy.driver()}"
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        shown = f"{processor()}, {cores} cores"
    ran = "onnxruntime" if runtime == "onnxruntime" else "torch"
    return {
        "device": shown,
        "runtime": f"{ran} {versions[ran]}",
        "software": f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        + ", ".join(f"{key} {value}" for key, value in versions.items()),
    }


MEASURING = frozenset(
    ("device", "batch", "threads", "dtype", "validation", "rounds", "seconds", "energy", "address", "accelerator", "label")
)
FITTING = frozenset(("cost", "source"))


def unused(options: Collection[str]) -> set[str]:
    """Those of `paretoray profile`'s options that mean nothing beside the others."""
    return set(options) & (MEASURING if "table" in options else FITTING)


def main(
    console: Console,
    *,
    space: str,
    settings: Sequence[str],
    out: Path,
    resolution: int | None,
    networks: int | None,
    table: Path | None,
    column: str | None,
    cost: str,
    hardware: str | None,
    source: str | None,
    address: str | None,
    accelerator: str | None,
    label: str | None,
    **measuring: Any,
) -> None:
    """`paretoray profile`: writes or completes the device file `out`, and a picture beside it. Raises InputError, RunError."""
    given = experiments.settings(settings)
    if resolution is not None:
        if "image" in given:
            raise InputError("--resolution and image= say the same; leave one out")
        given["image"] = [3, resolution, resolution]
    made = describe(space, None, given).space
    if out.suffix != ".toml" or "@" in out.stem:
        raise InputError(f"--out {out}: the file's name is the device's, and ends in .toml")
    if out.exists():
        read(out)  # better known now than after an hour of measuring
    if (table is None) != (column is None):
        raise InputError("--fit TABLE and --column NAME belong together")
    if table is not None and column is not None:
        if cost not in UNITS:
            raise InputError(f"--cost {cost}; known are {', '.join(UNITS)}")
        about = {"source": source or f"{table.name}, column {column}"}
        read_table = Table.read(table, made, [column])
        profiles = [from_table(read_table, cost, networks or 300, about, hardware or out.stem, measuring["seed"])]
    else:
        plan = Plan(
            space=space,
            settings=made.settings,
            image=made.image,
            classes=made.classes,
            networks=networks or 100,
            **measuring,
        )
        profiles = []
        with station(plan, address, accelerator, label) as there, Display(console) as display:
            plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
            rows = measured(
                plan, out.with_suffix(".measured.csv"), there, display.profile, lambda text: console.print(text, **plain)
            )
            found = there.hardware()
        for kind in ("latency", "energy") if plan.energy else ("latency",):
            profile, busy = conclude(plan, rows, kind, found | ({"device": hardware} if hardware else {}))
            profiles.append(profile)
        if busy:
            differ = f"rounds differ by {profile.protocol['spread']:.0%}"
            console.print(f"warning: the machine was busy all the time ({differ}); these figures are not precise", **plain)
    for profile in profiles:
        write(out, profile)
        picture = out.with_suffix(f".{profile.cost}.{profile.space.replace(':', '-')}.png")
        _draw(profile, out.stem, picture)
        told = f"{profile.cost} of {profile.of}: {profile.validation}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
        if profile.validation.poor:
            console.print("warning: that is a poor prediction; searches that use it will say so", highlight=False)
        use = f"use it as {profile.cost}@{out.stem}"
        console.print(f"written: {out} and {picture.name}; {use}", highlight=False, soft_wrap=True)


def _draw(profile: Profile, device: str, path: Path) -> None:
    found = profile.validation
    with plots.style():
        figure = plots.new_figure(4.2, 4.2)
        unit = UNITS[profile.cost]
        plots.draw_prediction(figure.subplots(), found.measured, found.predicted, f"{profile.cost} on {device} ({unit})")
        figure.suptitle(f"{profile.of}\n{found}".replace(", Kendall", "\nKendall"), fontsize=7)
        figure.savefig(path, dpi=200)


@contextmanager
def station(plan: Plan, address: str | None, accelerator: str | None, label: str | None) -> Iterator[Any]:
    """Where to measure: here, or on a node of a Ray cluster that nothing else gets for so long: a whole GPU, or all of a node's
    CPUs. Raises InputError where there is no such node."""
    if address is None:
        if accelerator or label:
            raise InputError("--accelerator and --label choose a node of a cluster: write --address as well")
        yield Station(asdict(plan))
        return
    from orchestrator import remote

    with remote.station(asdict(plan), address, accelerator, label) as there:
        yield there
