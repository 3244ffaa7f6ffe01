"""Where a run directory comes from: it says what to import, and only its own user's word is taken for that.

An experiment may name code of the user's, as `data.name = "my_module:load"`, and servers that are told of the run. A run
directory that somebody else made would run, and send to, whatever it names. So each one is signed with a key that stays in the
user's home, and one without this signature is opened only once it is trusted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.files import write_text
from orchestrator.errors import InputError

SIGNATURE = "origin"
"""Name of the file with the signature, in the folder of the checkpoints."""
_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def imported(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """List what an experiment imports by `module:name`, the commands that it runs, and where it sends its results, with all of
    their settings."""
    return dict(_imported(experiment))


def _imported(experiment: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, values in experiment.items():
        if not isinstance(values, Mapping):
            continue
        if section == "logging":
            yield from ((f"logging.{key} = {values[key]}", dict(values)) for key in ("mlflow", "wandb") if values.get(key))
        name = values.get("name")
        if isinstance(name, str) and _REFERENCE.fullmatch(name):
            yield f"{section}.name = {name}", dict(values)
        if section == "objectives":
            for objective, settings in values.items():
                if _REFERENCE.fullmatch(str(objective)) or _runs(str(objective)):
                    yield f"objectives.{objective}", settings


def sign(directory: Path, experiment: Mapping[str, Any]) -> None:
    """Note that this user named what `experiment` imports. Without a home that can be written to, nothing is noted."""
    code = imported(experiment)
    key = _key(make=True) if code else None
    if key is not None:
        (directory / "checkpoints").mkdir(exist_ok=True)
        write_text(directory / "checkpoints" / SIGNATURE, _signature(key, code) + "\n")


def check(directory: Path, experiment: Path) -> None:
    """Raise InputError where a run directory would import what this user never named."""
    code = imported(_read(experiment))
    if code and not _is_signed(directory, code):
        sent = [key for key in code if key.startswith("logging.")]
        named = [key for key in code if key not in sent]
        runs = " or run" if any(_runs(key.removeprefix("objectives.")) for key in named) else ""
        would = [f"import{runs} {', '.join(named)}"] * bool(named) + [f"send results to {', '.join(sent)}"] * bool(sent)
        read = "read that code, and if you trust it," if named else "if that is what you want,"
        raise InputError(
            f"{directory} was not made by you on this computer, or was changed since, and would {' and '.join(would)}; {read} "
            "repeat the command with --trust (in Python, trust=True)"
        )


def _runs(objective: str) -> bool:
    return objective.partition("@")[0] == "command"


def trust(directory: Path, name: str = "experiment.toml") -> None:
    """Sign a run directory that somebody else made, with all searches of a sweep."""
    for path in [directory / name, *sorted(directory.glob(f"searches/*/{name}"))]:
        if path.is_file():
            sign(path.parent, _read(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}  # whoever opens it next says what is wrong


def _is_signed(directory: Path, code: Mapping[str, Any]) -> bool:
    key = _key()
    try:
        found = (directory / "checkpoints" / SIGNATURE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return False
    return key is not None and hmac.compare_digest(found.encode(), _signature(key, code).encode())


def _signature(key: bytes, code: Mapping[str, Any]) -> str:
    return hmac.new(key, json.dumps(code, sort_keys=True, default=str).encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool = False) -> bytes | None:
    """Read the user's key, or make one; None where there is none and none can be kept."""
    home = os.environ.get("XDG_STATE_HOME")
    try:
        path = (Path(home) if home else Path.home() / ".local" / "state") / "paretoray" / "key"
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = path.with_name(f"key-{secrets.token_hex(8)}")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
            try:
                os.link(new, path)  # unless another process was first
            finally:
                new.unlink()
    except FileExistsError:
        pass
    except (OSError, RuntimeError):  # the latter where nobody knows of a home
        return None
    try:
        return path.read_bytes() or None
    except OSError:
        return None
