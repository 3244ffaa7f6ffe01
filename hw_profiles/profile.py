"""A device's file: what the parts of a space's networks cost there, how that was found, and how far it can be trusted.

`devices/` holds those that are shipped. A file is TOML, with a profile for each space and cost.
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
CONSTANT = "constant"
POOR_SPEARMAN, POOR_MAPE = 0.95, 10.0
SHOWN = 100
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Cost = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=_STRICT)
class Validation:
    """How a prediction did on `networks` networks that had no part in the fit: see `fit.agreement`. measured, predicted: of up
    to `SHOWN` of them, in the profile's unit."""

    networks: Annotated[int, Field(ge=2)]
    mape: float
    r2: float
    spearman: float
    kendall: float
    measured: list[Positive]
    predicted: list[Cost]

    @classmethod
    def of(cls, measured: Floats, predicted: Floats) -> Validation:
        """Both (networks,)."""
        shown = slice(SHOWN)
        return cls(
            len(measured), **agreement(measured, predicted),
            measured=[float(f"{v:.6g}") for v in measured[shown]], predicted=[float(f"{v:.6g}") for v in predicted[shown]],
        )  # fmt: skip

    @property
    def poor(self) -> bool:
        """Whether the prediction is too far off to be believed unseen."""
        return self.spearman < POOR_SPEARMAN or self.mape > POOR_MAPE

    def __str__(self) -> str:
        return (
            f"Spearman {self.spearman:.3f}, Kendall {self.kendall:.3f}, R2 {self.r2:.3f}, MAPE {self.mape:.1f} % on "
            f"{self.networks:,} networks not used for it"
        )


@dataclass(frozen=True, config=_STRICT)
class Profile:
    """What networks of one space cost on one device: `fixed`, and for each part that a network has its entry of `costs`.

    cost: `latency` or `energy`, per batch, in the unit of `UNITS`. space, settings, image: which networks, (channels, height,
    width). by: `operation`, parts are operations at the shapes where they occur, as `part` writes them; or `option`, parts are
    options, as in `choice=option`. alone: what operations cost by themselves, where measured. leaves_out: what a network has
    and the device does not run: `unused`, what does not reach the output, or `constants`, also what does not depend on the
    image; each option that was folded into a constant counts as a part `constant`. dead: what a network costs then whose output
    does not depend on the image. hardware: the device in words. protocol: how it was measured, or the source. validation: of
    the prediction.
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
    validation: Validation
    alone: dict[str, Positive] = field(default_factory=dict)
    leaves_out: Literal["nothing", "unused", "constants"] = "nothing"
    dead: Cost | None = None

    @property
    def of(self) -> str:
        """Which networks, in words."""
        return describe(self.space, self.settings, self.image)

    def matches(self, space: str, settings: dict[str, Any], image: tuple[int, int, int]) -> bool:
        """Whether it is of these networks."""
        return (self.space, self.settings, self.image) == (space, settings, tuple(image))


def describe(space: str, settings: dict[str, Any], image: tuple[int, int, int]) -> str:
    """A space and its settings, in words."""
    shaped = "".join(f", {key} = {value}" for key, value in settings.items())
    return f"{space}{shaped}, images of {image[0]}x{image[1]}x{image[2]}"


def part(name: str, input: tuple[int, ...], output: tuple[int, ...]) -> str:
    """How a file names an operation: what it is, and the shapes of one image before and after it."""
    return f"{name} {'x'.join(map(str, input)) or '-'} -> {'x'.join(map(str, output)) or '-'}"


def devices(folder: Path | None = None) -> dict[str, Path]:
    """The device files that are shipped, or those of a folder, by name."""
    return {path.stem: path for path in sorted((folder or Path(__file__).parent / "devices").glob("*.toml"))}


def read(path: Path) -> list[Profile]:
    """All profiles of a device file. Raises ValueError for one that is damaged, of a newer format, or has impossible costs."""
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
        raise ValueError(f"the device file {path} has format {version}, this version reads up to {FORMAT}; update paretoray")
    try:
        return TypeAdapter(list[Profile]).validate_python(content["profile"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"][1:])
        number = f"profile {int(first['loc'][0]) + 1}, " if first["loc"] else ""
        given = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
        raise ValueError(f"the device file {path}, {number}{where}{given}: {in_words([first])}") from error


def write(path: Path, profile: Profile) -> None:
    """Adds `profile` to the file at `path`, which is made where there is none; one of the same cost and networks goes."""
    same = (profile.space, profile.settings, profile.image)
    others = [p for p in (read(path) if path.exists() else []) if p.cost != profile.cost or not p.matches(*same)]
    listed = [{k: v for k, v in asdict(p).items() if v is not None} for p in (*others, profile)]
    temporary = path.with_name(path.name + ".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(tomli_w.dumps({"format": FORMAT, "profile": listed}))
    temporary.replace(path)
