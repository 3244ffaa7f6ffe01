"""A number that a program prints, as one over ssh that runs a network on a board."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import signal
import string
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hw_profiles import files
from orchestrator.errors import InputError
from orchestrator.objectives.measured import Direction, MeasuredObjective, NoMeasurement
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.inputs import arguments, repeated
from searchers.base import Architecture

PLACEHOLDERS = {"arch": "", "onnx": "network.onnx", "pt2": "network.pt2", "weights": "weights.pt"}
"""Words that a command may have in braces, and the name of the temporary file that each stands for."""
_SHOWN = 300


class Command(MeasuredObjective):
    """A number that a program prints for a network, as `ssh board measure {onnx}`: write command@NAME, NAME being what it is.

    The command is split as a shell would, and started without one. Words in braces stand for the network: `{arch}` is its
    notation, `{onnx}`, `{pt2}` and `{weights}` are temporary files with it, in ONNX, of torch.export, and its state_dict. Its
    weights are random. It runs in the folder from which the search was started, and prints one number on its last line.

    Args:
        space: Search space of the architectures.
        objective: The objective's name in an experiment.
        command: The program and its arguments.
        unit: Unit of the number.
        column: What the column is named after; None for the NAME of command@NAME.
        maximize: Whether more is better; the cost is then `best` minus the number.
        best: More than any network reaches.
        batch: Images per pass of the files, which is their only size.
        timeout: Seconds after which the program is killed, and the measurement counts as failed.
        retries: How often a measurement that failed is tried again.
        cache: Folder that keeps measurements, and that several runs may share; the run directory keeps them in any case.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        objective: str,
        command: str,
        unit: str = "",
        column: str | None = None,
        maximize: bool = False,
        best: float | None = None,
        batch: int = 1,
        timeout: float = 60.0,
        retries: int = 1,
        cache: str | None = None,
    ) -> None:
        named = column or objective.partition("@")[2]
        if not named:
            raise ValueError("write command@NAME, NAME being what is measured, or column = NAME")
        if batch < 1 or timeout <= 0:
            raise ValueError(f"batch = {batch}, timeout = {timeout}; both must be positive")
        self.arguments, self.used = split(command)
        direction = Direction(f"objectives.{objective}", named, unit, maximize, best)
        super().__init__(space, direction, ["command", command, batch], retries=retries, cache=cache)
        self.batch, self.timeout, self.folder = batch, timeout, str(Path.cwd())

    def check(self, device: str) -> None:
        program = self.arguments[0]
        if shutil.which(program, path=None) is None and not Path(self.folder, program).is_file():
            raise InputError(f"{self.direction.section}.command: there is no program {program!r}; write it with its folder")
        if "onnx" in self.used and not files.has_onnx():
            raise InputError(
                f"{self.direction.section}.command: {{onnx}} needs the package onnx; pip install 'paretoray[onnx]'"
            )

    def measure(self, architecture: Architecture, network: Callable[[], nn.Module], image: Tensor) -> object:
        with tempfile.TemporaryDirectory(prefix="paretoray-") as folder:
            values = {"arch": self.space.format(architecture)}
            values |= {key: str(Path(folder, file)) for key, file in PLACEHOLDERS.items() if file}
            for key in self.used & files.WRITERS.keys():
                args, named = arguments(network(), repeated(image.detach().cpu(), self.batch))
                files.WRITERS[key](network(), args, named, Path(values[key]))
            return self._run([part.format_map(values) for part in self.arguments])

    def _run(self, arguments: list[str]) -> object:
        folder = self.folder if Path(self.folder).is_dir() else None  # another node need not have it
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        try:
            # In a session of its own, so that whatever it starts ends with it.
            process = subprocess.Popen(arguments, cwd=folder, start_new_session=True, text=True, errors="replace", **pipes)
        except OSError as error:
            raise NoMeasurement(f"cannot start {arguments[0]}: {error.strerror}") from error
        with process:
            try:
                printed, said = process.communicate(timeout=self.timeout)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                said = _said(process.communicate()[1])
                raise NoMeasurement(f"the command took more than {self.timeout:g} s, and was ended{said}") from error
        if process.returncode:
            raise NoMeasurement(f"the command ended with status {process.returncode}{_said(said)}")
        last = (printed.strip().splitlines() or [""])[-1].strip()
        try:
            value = float(last)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise NoMeasurement(f"the last line that the command printed is {last[:80]!r}, no finite number{_said(said)}")
        return value


def split(command: str) -> tuple[list[str], frozenset[str]]:
    """Split a command into its words, and find its placeholders. Raises ValueError for what is none."""
    try:
        arguments = shlex.split(command)
        parsed = [piece for part in arguments for piece in string.Formatter().parse(part)]
    except ValueError as error:
        raise ValueError(f"command = {command!r}: {error}; write a brace that is meant twice") from error
    if not arguments:
        raise ValueError("command is empty; write a program that prints a number, as in ssh board measure {onnx}")
    known = ", ".join(f"{{{key}}}" for key in PLACEHOLDERS)
    fields = [
        f"{field}{'!' if how else ''}{how or ''}{':' if spec else ''}{spec}"
        for _, field, spec, how in parsed
        if field is not None
    ]
    if unknown := [field for field in fields if field not in PLACEHOLDERS]:
        raise ValueError(
            f"command: {{{unknown[0]}}} is not known; there are {known}, and a brace that is meant is written twice"
        )
    if not fields:
        raise ValueError(f"command = {command!r} names no network; write one of {known} in it")
    return arguments, frozenset(fields)


def _said(stderr: str) -> str:
    """Return the end of what a program wrote to its standard error, in one line."""
    shown = " ".join(stderr.split())
    return f": {'...' if len(shown) > _SHOWN else ''}{shown[-_SHOWN:]}" if shown else ""
