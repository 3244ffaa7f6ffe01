"""`paretoray train`: one network trained from scratch, as a reference point for fronts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.files import write_text
from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.config.spaces import find_architecture, published
from orchestrator.errors import InputError, attributed_to
from orchestrator.runs.directory import EXPERIMENT, check_out
from orchestrator.runs.watcher import Watcher
from orchestrator.search.retraining import Member, retrain_member
from searchers import Architecture


@dataclass(frozen=True)
class Training:
    """One network, and how it is to be trained.

    Args:
        name: Name of the network, or of its space.
        plan: Data, space and settings.
        architecture: The network.
    """

    name: str
    plan: SearchPlan
    architecture: Architecture

    @classmethod
    def of(cls, space: str, text: str, overrides: Sequence[str]) -> Training:
        """Read a notation or published name, and `section.key=value` overrides. Raises InputError."""
        if other := [o for o in overrides if re.split("[.=]", o)[0] not in ("data", "space", "retrain", "seed")]:
            raise InputError(f"{other[0]!r}: a training has the sections data, space and retrain, and a seed")
        known = published(space, text)
        shape = {k: v for k, v in (known.settings if known else {}).items() if k not in ("image", "classes")}
        fixed = [f"space.{key}={json.dumps(value)}" for key, value in shape.items()]
        plan = SearchPlan.of(read(None, [f"space.name={space}", *fixed, *overrides]))
        return cls(text.upper() if known else space, plan, find_architecture(plan.problem.space, text))

    @property
    def counts(self) -> dict[str, int]:
        """Parameters and MACs of the network."""
        space = self.plan.problem.space
        return {"parameters": space.parameters(self.architecture), "macs": space.macs(self.architecture)}

    def run(self, directory: Path, watcher: Watcher, started: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Train in this process; writes network.pt, result.json and experiment.toml, and returns the result."""
        check_out(directory)
        directory.mkdir(parents=True, exist_ok=True)
        arch = self.plan.problem.space.format(self.architecture)
        member = Member(arch, directory / "result.json", directory / "network.pt")
        started()
        with watcher.phase(), attributed_to(self.plan.plugins):
            watcher.retrain(arch, 0.0, 1)
            retrain_member(self.plan, member, lambda fraction: watcher.retrain(arch, fraction, 1))
        write_text(directory / EXPERIMENT, self.plan.experiment.to_toml())
        result: dict[str, Any] = {"name": self.name} | json.loads(member.result.read_text()) | self.counts
        write_text(member.result, json.dumps(result) + "\n")
        return result
