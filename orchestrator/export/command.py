"""`paretoray export`: a trained network of a run as files that need no paretoray."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Problem
from orchestrator.errors import InputError, attributed_to, plugin_packages
from orchestrator.export import card
from orchestrator.export.files import preprocess_file
from orchestrator.export.formats import DEFAULT, FORMATS, Exporter, NotWritten, Written, check_installed
from orchestrator.machine import threads
from orchestrator.registry import nearest
from orchestrator.runs.directory import open_run
from orchestrator.runs.networks import TrainedNetwork, load_member


@dataclass(frozen=True)
class Export:
    """Outcome of an export.

    Args:
        directory: Folder with the files.
        member: Number of the network.
        arch: Its notation.
        written: What was written, by format.
        refused: Why a format was not written, by format.
        tried: How each format did against the network, in words.
    """

    directory: Path
    member: int
    arch: str
    written: dict[str, Written]
    refused: dict[str, str]
    tried: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        written = {
            name: {"files": list(found.files), "difference": found.difference, **found.facts}
            for name, found in self.written.items()
        }
        facts = {"directory": str(self.directory), "member": self.member, "arch": self.arch}
        return {**facts, "written": written, "not_written": self.refused}

    def lines(self) -> list[str]:
        """Say for the console what was written."""
        lines = [f"member {self.member}: {self.arch}"]
        lines += [f"{' and '.join(found.files)}: {self.tried[name]}" for name, found in self.written.items()]
        lines += [f"not written: {name}, as {reason}" for name, reason in self.refused.items()]
        return [*lines, f"files: {self.directory}"]


def parse_formats(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """Read names of formats, separated by commas; None for the usual ones. Raises InputError."""
    if text is None:
        return DEFAULT
    names = [part.strip() for part in (text.split(",") if isinstance(text, str) else text)]
    for name in names:
        if name not in FORMATS:
            raise InputError(f"--formats {name!r}{nearest(name, FORMATS)}")
    return tuple(dict.fromkeys(names))


def check_free(directory: Path) -> None:
    """Raise InputError where an export cannot have `directory`: there is something in it, or it may not be made."""
    try:
        taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        parent = next(p for p in directory.absolute().parents if p.exists())
        allowed = parent.is_dir() and os.access(parent, os.W_OK)
    except OSError as error:
        raise InputError(f"cannot write to --out {directory}: {error.strerror}; choose another folder") from error
    if taken:
        raise InputError(
            f"--out {directory} exists already and is not empty; an export overwrites nothing, so choose another name"
        )
    if not allowed:
        raise InputError(f"cannot write to --out {directory}: choose a folder that you may write to")


def export_member(
    run: Path,
    member: int,
    out: Path,
    formats: Sequence[str] = DEFAULT,
    *,
    problem: Problem | None = None,
    trust: bool = False,
    command: str = "",
    say: Callable[[str], object] = lambda text: None,
) -> Export:
    """Write a member of a front into a folder, which has its name only once everything is in it.

    Args:
        run: The run directory.
        member: Number of the member.
        out: The folder, which must be empty or not exist.
        formats: Some of `FORMATS`.
        problem: What was searched, where a file cannot name its space or its data.
        trust: As for `load_member`.
        command: The command that does this, for the card.
        say: Told of every format that is begun.

    Raises:
        InputError: For a member without weights, a folder that is taken, and a package that is missing.
    """
    check_free(out)
    check_installed(formats)
    network = load_member(run, member, problem, trust=trust)
    titles = card.titles_of(run)
    facts = card.facts(network, titles)

    def plan() -> Problem:
        return problem or SearchPlan.of(open_run(run)).problem

    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    try:
        exporter = Exporter(network, temporary, facts, lambda: plan().data)
        written: dict[str, Written] = {}
        refused: dict[str, str] = {}
        with threads(1), attributed_to(_plugins(network)):
            for name in formats:
                say(name)
                try:
                    written[name] = exporter.write(name)
                except NotWritten as error:
                    refused[name] = str(error)
                    _remove(temporary, name)
        (temporary / "preprocess.py").write_text(preprocess_file(network, facts), encoding="utf-8")
        text = card.card(
            network,
            run.resolve(),
            command or f"paretoray export {run} --member {member} --out {out}",
            titles,
            written,
            refused,
        )
        (temporary / "card.md").write_text(text, encoding="utf-8")
        mask = _umask()  # a temporary folder, and files of some writers, are their owner's alone
        temporary.chmod(0o777 & ~mask)
        for path in temporary.iterdir():
            path.chmod(0o666 & ~mask)
        os.replace(temporary, out)  # atomic, and refused where something was put there meanwhile
    except OSError as error:
        raise InputError(f"cannot write to --out {out}: {error.strerror or error}; choose another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    tried = {name: card.tried(found, network, titles) for name, found in written.items()}
    return Export(out, member, network.arch, written, refused, tried)


def _remove(directory: Path, name: str) -> None:
    """Take away what a format left that could not be written."""
    left = {"network": ("network.py", "network.safetensors"), "int8": ("network.int8.onnx",)}.get(name, (f"network.{name}",))
    for file in left:
        (directory / file).unlink(missing_ok=True)


def _plugins(network: TrainedNetwork) -> frozenset[str]:
    return plugin_packages([getattr(network.space, "factory", type(network.space))])


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
