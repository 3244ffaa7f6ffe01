"""Parts that a recipe of training consists of, with the checks that need neither images nor a network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

OptimizerName = Literal["sgd", "adamw", "rmsprop"]
ScheduleName = Literal["cosine", "linear", "step", "constant"]


@dataclass(frozen=True)
class Parts:
    """Settings of one network's training. The defaults are those of the recipe `plain`.

    What each one does is said by `Retraining`, whose keys have the same names; there None stands for what the recipe has.

    Example:
        >>> Parts(cutout=16).changed
        {'cutout': 16}
    """

    epochs: int = 100
    batch: int = 96
    optimizer: OptimizerName = "sgd"
    lr: float = 0.025
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 3e-4
    decay_norm: bool = True
    clip: float = 5.0
    schedule: ScheduleName = "cosine"
    warmup: float = 0.0
    step_epochs: int = 1
    step_factor: float = 0.97
    label_smoothing: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.0
    auxiliary: float = 0.0
    cutout: int = 0
    resized_crop: float = 0.0
    jitter: tuple[float, ...] = ()
    randaugment: int = 0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    distill: float = 0.0
    temperature: float = 4.0
    amp: bool = False
    compile: bool = False
    channels_last: bool = True

    @property
    def changed(self) -> dict[str, Any]:
        """Plain values of the parts that differ from their defaults, which parts that are added later leave as it is."""
        differing = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in differing.items()}

    @property
    def words(self) -> str:
        """The parts as a line for people: the optimisation, then whatever else is switched on."""
        parts = asdict(self)
        said = [f"{self.epochs} epochs of {self.batch} images", f"{self.optimizer} from {self.lr:g}", self.schedule]
        shown = {"momentum", "nesterov", "weight_decay", "decay_norm", "clip", *_OPTIMISATION, *_UNSHOWN}
        for key, value in self.changed.items():
            if key not in shown:
                said.append(key.replace("_", " ") if value is True else f"{key.replace('_', ' ')} {_text(value)}")
        said.append(f"weight decay {parts['weight_decay']:g}" + ("" if self.decay_norm else ", none on normalisation"))
        return ", ".join(said)


_OPTIMISATION = ("epochs", "batch", "optimizer", "lr", "schedule")
_UNSHOWN = ("channels_last", "temperature", "step_epochs", "step_factor")


def _text(value: Any) -> str:
    return "/".join(f"{v:g}" for v in value) if isinstance(value, list) else f"{value:g}"


def contradiction(parts: Parts, given: frozenset[str]) -> tuple[str, str] | None:
    """Find a part that contradicts another one, or that nothing would read.

    Args:
        parts: All parts, completed.
        given: Names of those that the user gave, rather than the recipe.

    Returns:
        The part and what is wrong with it; None where all go together.
    """
    sgd, adamw = parts.optimizer == "sgd", parts.optimizer == "adamw"
    found = (
        ("nesterov", parts.nesterov and not sgd, f"optimizer = {parts.optimizer} has none; write nesterov = false"),
        ("nesterov", parts.nesterov and not parts.momentum, "it needs a momentum above 0"),
        ("momentum", adamw and "momentum" in given, "AdamW has none; leave it out"),
        ("warmup", parts.warmup >= parts.epochs, f"it leaves nothing of {parts.epochs} epochs; lower it, or raise epochs"),
        ("jitter", len(parts.jitter) not in (0, 4), "write four: brightness, contrast, saturation, hue; [] for none"),
        ("jitter", len(parts.jitter) == 4 and parts.jitter[3] > 0.5, "the last one, hue, is 0.5 at most"),
        *(
            (key, key in given and parts.schedule != "step", f"schedule = {parts.schedule} has no steps; write schedule = step")
            for key in ("step_epochs", "step_factor")
        ),
        ("temperature", "temperature" in given and not parts.distill, "it belongs to distill, which is 0"),
    )
    return next(((key, why) for key, wrong, why in found if wrong), None)
