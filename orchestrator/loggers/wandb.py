"""Weights & Biases: a run in the cloud, or files in the run directory that are sent later."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator.config.settings import Logging
from orchestrator.errors import InputError, first_line
from orchestrator.loggers.base import FINISHED, Logger, Subject

PATIENCE = 10
"""Seconds for the server to answer the first time."""


def check_wandb(mode: str) -> None:
    """Raise InputError where runs cannot be kept there."""
    try:
        import wandb
    except ImportError as error:
        raise InputError(
            f"logging.wandb needs Weights & Biases ({error}): pip install 'paretoray[wandb]', or leave the key out"
        ) from error
    if mode == "offline":
        return
    other = "or write logging.wandb=offline, and send the run later"
    try:
        key = os.environ.get("WANDB_API_KEY") or wandb.api.api_key
        if key:
            wandb.Api(timeout=PATIENCE, api_key=key).viewer  # noqa: B018, asks the server who this is
    except Exception as error:
        raise InputError(f"logging.wandb = 'online': {first_line(error)}; log in with `wandb login`, {other}") from error
    if not key:
        raise InputError(f"logging.wandb = 'online': nobody is logged in; log in with `wandb login`, {other}")


class WandB(Logger):
    """One run of Weights & Biases.

    Args:
        settings: Mode, project and entity.
        subject: The run; a part of another one is in its group.
    """

    def __init__(self, settings: Logging, subject: Subject) -> None:
        import wandb

        self._wandb = wandb
        self.identifier = subject.known or secrets.token_hex(4)
        self.run: Any = wandb.init(
            project=settings.project,
            entity=settings.entity,
            mode=settings.wandb,
            id=self.identifier,
            resume="allow" if subject.known else None,
            name=subject.name,
            group=subject.parent or (self.identifier if subject.tags.get("kind") == "sweep" else None),
            job_type=subject.tags.get("kind"),
            tags=[text for key, text in subject.tags.items() if key != "kind"],
            dir=str(subject.directory),
            reinit="create_new",  # a sweep has several at a time, and so may whoever calls this
            settings=wandb.Settings(console="off", silent=True),
        )
        self.run.config.update(dict(subject.parameters), allow_val_change=True)
        self._groups: set[str] = set()

    def scalars(self, group: str, axis: str, step: int, values: Mapping[str, float]) -> None:
        # Its own steps count calls, and must ascend over the whole run; those of a group are a metric beside.
        if group not in self._groups:
            self.run.define_metric(f"{group}/{axis}")
            self.run.define_metric(f"{group}/*", step_metric=f"{group}/{axis}")
            self._groups.add(group)
        self.run.log({f"{group}/{axis}": step} | {f"{group}/{name}": value for name, value in values.items()})

    def results(self, values: Mapping[str, float], front: pd.DataFrame, files: Sequence[Path]) -> None:
        self.run.summary.update({f"results/{name}": value for name, value in values.items()})
        if len(front):
            self.run.log({"front": self._wandb.Table(dataframe=front)})
        if files:
            artifact = self._wandb.Artifact(f"run-{self.identifier}", type="run-results")
            for path in files:
                artifact.add_file(str(path))
            self.run.log_artifact(artifact)

    def close(self, state: str) -> None:
        self.run.finish(exit_code=0 if state == FINISHED else 1)
