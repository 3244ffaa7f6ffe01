"""Device files: the costs of operations on a device, how they were measured, and the accuracy of predictions from them.

A file is TOML, with a profile per space and kind of cost. The folder `devices/` has those that are shipped.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hw_profiles.fit import Floats, agreement
from hw_profiles.wording import in_words

FORMAT = 1
UNITS = {"latency": "ms", "energy": "mJ"}
COLUMNS = {cost: f"{cost}_{unit.lower()}" for cost, unit in UNITS.items()}
"""Names of the costs with their units, in tables."""
CONSTANT = "constant"
POOR_SPEARMAN, POOR_MAPE = 0.95, 10.0
SHOWN = 100
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Cost = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=_STRICT)
class Validation:
    """Accuracy of the predictions on networks that were held out of the fit, as `fit.agreement` computes it.

    Args:
        networks: Number of held-out networks.
        mape: Mean absolute percentage error.
        r2: Coefficient of determination.
        spearman: Spearman's rank correlation.
        kendall: Kendall's tau-b.
        measured: Measured costs of up to `SHOWN` of them, in the profile's unit.
        predicted: Predicted costs of the same networks.
    """

    networks: Annotated[int, Field(ge=2)]
    mape: float
    r2: float
    spearman: float
    kendall: float
    measured: list[Positive]
    predicted: list[Cost]

    @classmethod
    def of(cls, measured: Floats, predicted: Floats) -> Validation:
        """Compare measured and predicted costs, both (networks,)."""
        shown = slice(SHOWN)
        return cls(
            len(measured), **agreement(measured, predicted),
            measured=[float(f"{v:.6g}") for v in measured[shown]], predicted=[float(f"{v:.6g}") for v in predicted[shown]],
        )  # fmt: skip

    @property
    def poor(self) -> bool:
        """True if predictions are too inaccurate to be used without a warning."""
        return self.spearman < POOR_SPEARMAN or self.mape > POOR_MAPE

    def to_dict(self) -> dict[str, float]:
        """Plain values, for programs."""
        known = {"mape_percent": self.mape, "r2": self.r2, "spearman": self.spearman, "kendall": self.kendall}
        return {"networks": self.networks, **known}

    def __str__(self) -> str:
        return (
            f"Spearman {self.spearman:.3f}, Kendall {self.kendall:.3f}, R2 {self.r2:.3f}, MAPE {self.mape:.1f} % on "
            f"{self.networks:,} networks not used for it"
        )


@dataclass(frozen=True, config=_STRICT)
class Profile:
    """Additive cost model of one space's networks on one device: `fixed` plus the entry of `costs` for each part of a network.

    Args:
        cost: `latency` or `energy`, per batch, in the unit of `UNITS`.
        space: Name of the space.
        settings: Settings of the space.
        image: (channels, height, width) of one image.
        by: What a part is: an `operation` at the shapes where it occurs, named by `part`; or an `option`, named
            `choice=option`.
        hardware: The device, in words.
        protocol: How it was measured, or the source of the measurements.
        fixed: Cost that all networks have.
        costs: Cost of each part.
        validation: Accuracy of the predictions; None for sums of single operations that were compared with no network.
        alone: Cost of operations measured alone; empty where only whole networks were measured.
        leaves_out: What the runtime removes from a network: `nothing`; `unused` operations, which do not reach the output; or
            also `constants`, which do not depend on the image. Each option folded into a constant then counts as a part
            `constant`.
        dead: Cost of a network whose output does not depend on the image, where the runtime removes something.
    """

    cost: Literal["latency", "energy"]
    space: str
    settings: dict[str, Any]
    image: tuple[int, int, int]
    by: Literal["operation", "option"]
    hardware: str
    protocol: dict[str, Any]
    fixed: Cost
    costs: dict[str, Cost]
    validation: Validation | None = None
    alone: dict[str, Positive] = field(default_factory=dict)
    leaves_out: Literal["nothing", "unused", "constants"] = "nothing"
    dead: Cost | None = None

    @property
    def of(self) -> str:
        """Space, settings and image size, in words."""
        return describe(self.space, self.settings, self.image)

    def matches(self, space: str, settings: dict[str, Any], image: tuple[int, int, int]) -> bool:
        """True if the profile is of this space with these settings and images of (channels, height, width)."""
        return (self.space, self.settings, self.image) == (space, settings, tuple(image))


def describe(space: str, settings: dict[str, Any], image: tuple[int, ...]) -> str:
    """Describe a space, its settings and (channels, height, width) of its images in words."""
    shaped = "".join(f", {key} = {value}" for key, value in settings.items())
    return f"{space}{shaped}, images of {'x'.join(map(str, image))}"


def part(name: str, input: tuple[int, ...], output: tuple[int, ...]) -> str:
    """Name of an operation in a device file: what it is, and the shapes of its input and output for one image."""
    return f"{name} {'x'.join(map(str, input)) or '-'} -> {'x'.join(map(str, output)) or '-'}"


def devices(folder: Path | None = None) -> dict[str, Path]:
    """List device files by name: those in `folder`, by default the shipped ones."""
    return {path.stem: path for path in sorted((folder or Path(__file__).parent / "devices").glob("*.toml"))}


def read(path: Path) -> list[Profile]:
    """Read the profiles of a device file.

    Raises:
        ValueError: For a file that cannot be read, is damaged, has a newer format, or holds impossible costs.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read the device file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the device file {path} is damaged: {error}; measure the device again, or take a copy") from error
    version = content.get("format")
    if not isinstance(version, int) or "profile" not in content:
        raise ValueError(f"{path} is no device file: it has no format or no [[profile]]; `paretoray profile` writes one")
    if version > FORMAT:
        raise ValueError(f"the device file {path} has format {version}; this version reads up to {FORMAT}: update paretoray")
    try:
        return TypeAdapter(list[Profile]).validate_python(content["profile"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"][1:])
        number = f"profile {int(first['loc'][0]) + 1}, " if first["loc"] else ""
        value = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
        raise ValueError(f"the device file {path}, {number}{where}{value}: {in_words([first])}") from error


def write(path: Path, profile: Profile) -> None:
    """Write a profile into a device file, creating the file or replacing the profile of the same cost and networks."""
    same = (profile.space, profile.settings, profile.image)
    others = [p for p in (read(path) if path.exists() else []) if p.cost != profile.cost or not p.matches(*same)]
    listed = [{k: v for k, v in asdict(p).items() if v is not None} for p in (*others, profile)]
    temporary = path.with_name(path.name + ".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(tomli_w.dumps({"format": FORMAT, "profile": listed}))
    temporary.replace(path)
