"""Files of trained weights that say what network they belong to: plain `state_dict`s, which torch loads like any other."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.config.problem import Problem
from orchestrator.data.preprocessing import Preprocessing
from orchestrator.errors import InputError
from orchestrator.registry import Component
from orchestrator.spaces.parts.inputs import sized

_KEY = "paretoray"
"""Entry of the metadata that torch keeps with a `state_dict`."""


@dataclass(frozen=True)
class Origin:
    """The network that weights belong to, and the preprocessing and classes that they were trained with.

    Args:
        arch: Notation of the network.
        space: Name of its space, as an experiment writes it.
        settings: Settings of the space, as plain values.
        preprocessing: Preprocessing of the images that the weights were trained on.
        classes: Names, in the order of the scores; for other tasks than classification those of the targets.
        task: Name of the task; "classification" in files from before they had one.
        learned: What predictions need of the training targets (`Task.learned`).
    """

    arch: str
    space: str
    settings: Mapping[str, Any]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    task: str = "classification"
    learned: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem, arch: str) -> Origin:
        """Describe a network of a problem's space, trained on its data."""
        data, source, task = problem.data, problem.sources.space, problem.task
        prepared, settings = Preprocessing.of(data), network_settings(source)
        return cls(arch, source.name, settings, prepared, data.classes, task.name, task.learned).plain

    @property
    def plain(self) -> Origin:
        """The same as a file has it, whose lists and numbers are those of JSON."""
        return self.from_json(self.to_json())

    @property
    def network(self) -> str:
        """The network in words."""
        settings = ", ".join(f"{key} = {value}" for key, value in self.settings.items())
        image = sized(self.preprocessing.shape)
        return f"{self.arch} of {self.space} ({settings or 'no settings'}; images of {image}, {len(self.classes)} classes)"

    def to_json(self) -> str:
        """Format as text; what is no plain value among the settings is written as Python shows it."""
        return json.dumps(asdict(self), default=repr)

    @classmethod
    def from_json(cls, text: str) -> Origin:
        """Read what `to_json` writes. Raises ValueError, KeyError or TypeError for anything else."""
        values = json.loads(text)
        prepared = Preprocessing.from_plain(values.pop("preprocessing"))
        return cls(**{**values, "classes": tuple(values["classes"])}, preprocessing=prepared)


def network_settings(space: Component) -> dict[str, Any]:
    """Settings of a space that its networks depend on; those of the supernet alone begin with `supernet_`."""
    return {k: v for k, v in space.settings.items() if v is not None and not k.startswith("supernet_")}


def signed(state: Mapping[str, Tensor], origin: Origin) -> OrderedDict[str, Tensor]:
    """Return a `state_dict` for `torch.save` that has its origin in the metadata that torch keeps with it."""
    found = OrderedDict(state)
    # torch's own metadata is lost where a state_dict was copied; what a module needs of it is its version alone.
    metadata = {name: dict(values) for name, values in getattr(state, "_metadata", {}).items()}
    metadata[""] = {**metadata.get("", {}), _KEY: origin.to_json()}
    found._metadata = metadata  # type: ignore[attr-defined]
    return found


def read(path: Path) -> tuple[OrderedDict[str, Tensor], Origin | None]:
    """Read a file of weights and its origin, which is None for a file from before files had one.

    Raises:
        InputError: For a file that is missing or damaged.
    """
    if not path.exists():
        raise InputError(f"{path} is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:  # torch itself does not look at the checksums
                raise ValueError(f"the checksum of {broken} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("it holds no state_dict")
        signature = getattr(state, "_metadata", {}).get("", {}).get(_KEY)
        return OrderedDict(state), None if signature is None else Origin.from_json(signature)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError) as error:
        raise InputError(_damaged(path, error)) from error
    except (zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise InputError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is damaged ({(str(error).splitlines() or [type(error).__name__])[0]}); put back a copy, or {anew(path)}"


def anew(path: Path) -> str:
    """Say how to have a network of a run trained again."""
    run, name = path.parent.parent, path.stem
    return f"delete {name}.pt and {name}.json, and train it again with: paretoray resume {run}"
