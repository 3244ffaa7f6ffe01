"""MLflow, by its client: a server, or a database on this machine."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from orchestrator.errors import InputError, first_line
from orchestrator.loggers.base import FAILED, FINISHED, STOPPED, Logger, Plain, Subject

PATIENCE = 10.0
"""Seconds for a server to answer the first time."""
_STATES = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}
_MOST = 100
"""Parameters that MLflow takes at once."""
_LONGEST = 500
"""Characters of a parameter that all of its databases take."""


def check_mlflow(uri: str, project: str) -> None:
    """Raise InputError where runs cannot be kept there."""
    try:
        from mlflow import MlflowClient  # noqa: F401
    except ImportError as error:
        raise InputError(f"logging.mlflow needs MLflow ({error}): pip install 'paretoray[mlflow]', or leave it out") from error
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        _knock(uri, parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme])
    try:
        found = _client(uri).get_experiment_by_name(project)
    except Exception as error:  # of a database's driver, of requests, or MLflow's own
        raise InputError(f"logging.mlflow = {uri!r}: {first_line(error)}") from error
    if found is not None and found.lifecycle_stage == "deleted":
        raise InputError(f"logging.project = {project!r}: this experiment is deleted in {uri}; restore it, or name another")


def _knock(uri: str, host: str, port: int) -> None:
    """Try whether anything answers, without the minutes in which MLflow tries again."""
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except OSError as error:
        raise InputError(f"logging.mlflow = {uri!r}: no server answers ({error}); start it, or leave the key out") from error


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # which tell of every step of making a database
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri)


class Mlflow(Logger):
    """One run of MLflow.

    Args:
        uri: Where runs are kept.
        project: Name of MLflow's experiment, which is made if there is none.
        subject: The run.
    """

    def __init__(self, uri: str, project: str, subject: Subject) -> None:
        self.client = _client(uri)
        run = self._found(subject.known) or self._made(project, subject)
        self.identifier = run.info.run_id
        self.client.update_run(self.identifier, status="RUNNING")
        self._set_parameters(subject.parameters, run.data.params)

    def _found(self, known: str | None) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return None if known is None else self.client.get_run(known)
        except MlflowException:  # another store than before, or a run that was removed
            return None

    def _made(self, project: str, subject: Subject) -> Any:
        experiment = self.client.get_experiment_by_name(project)
        number = self.client.create_experiment(project) if experiment is None else experiment.experiment_id
        parent = {} if subject.parent is None else {"mlflow.parentRunId": subject.parent}
        return self.client.create_run(number, run_name=subject.name, tags={**subject.tags, **parent})

    def _set_parameters(self, parameters: Mapping[str, Plain], before: Mapping[str, str]) -> None:
        """Log parameters; what has changed since the run began becomes a tag, as MLflow changes no parameter."""
        from mlflow.entities import Param

        texts = {_name(key): str(value)[:_LONGEST] for key, value in parameters.items()}
        new = [Param(key, value) for key, value in texts.items() if key not in before]
        for begin in range(0, len(new), _MOST):
            self.client.log_batch(self.identifier, params=new[begin : begin + _MOST])
        for key, value in texts.items():
            if before.get(key, value) != value:
                self.client.set_tag(self.identifier, f"changed.{key}", value)

    def scalars(self, group: str, axis: str, step: int, values: Mapping[str, float]) -> None:
        self._log({f"{group}/{name}": value for name, value in values.items()}, step)

    def results(self, values: Mapping[str, float], front: pd.DataFrame, files: Sequence[Path]) -> None:
        self._log({f"results/{name}": value for name, value in values.items()}, 0)
        for path in files:
            self.client.log_artifact(self.identifier, str(path))

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_name(name), value, now, step) for name, value in values.items()]
        self.client.log_batch(self.identifier, metrics=metrics)

    def close(self, state: str) -> None:
        self.client.set_terminated(self.identifier, _STATES[state])


def _name(text: str) -> str:
    """Replace what MLflow takes in no name, as the @ of latency@pixel3."""
    return re.sub(r"[^/\w.\- :]", "_", text)
