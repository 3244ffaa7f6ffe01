"""Local copies of runs in a store. A run at a URL works in one, which `mirror.py` keeps the store like.

Each has a folder below `root()`, with `store.json`, which says what is known of either side, and the run directory beside it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from analysis.files import replacing, write_text
from orchestrator.errors import InputError, RunError
from orchestrator.runs.store import Store, StoreError, as_url, is_url, local_path

STAGING = "PARETORAY_STAGING"
"""Environment variable that names the folder with the local copies."""
OWNER = "checkpoints/owner.json"
"""File of a store that says which process writes to a run there."""
MARKS = ("experiment.toml", "bench.json", "result.json", "proxies.json")
"""Files that tell folders of ours from others: of a run, a benchmark, a training, a study of proxies."""
STATE = "store.json"
FOLLOWING = 15.0
"""Seconds between two looks at a run in a store that is watched."""
WRITING = "writing"
"""Name of the lock of the process that writes to the store."""

Say = Callable[[str], object]


@dataclass
class State:
    """State of a run in a store, and of its local copy.

    Args:
        url: URL of the run.
        token: Name of this copy, by which a store knows who wrote last.
        dirty: Whether the copy may have what the store has not: a process writes to it, or was killed while it did.
        new: Whether nothing is in the store yet but what an earlier attempt left, which is replaced.
        files: Size and time of the local file, and version in the store, of each file when both were last equal.
    """

    url: str
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    dirty: bool = False
    new: bool = False
    files: dict[str, tuple[list[int], str]] = field(default_factory=dict)


class Stage:
    """Local copy of a run in a store.

    Args:
        folder: The folder with the copy and its state.
        state: What is known of both.
        store: The run in its store; by default opened by the state's URL.
    """

    def __init__(self, folder: Path, state: State, store: Store | None = None) -> None:
        self.folder, self.state, self.store = folder, state, store or Store(state.url)
        self.directory = folder / _name(state.url)

    @classmethod
    def at(cls, url: str) -> Stage:
        """Return the copy of the run at a URL, of which there may be nothing yet. Raises InputError as `Store` does."""
        store = Store(url)
        folder = root() / hashlib.sha256(store.url.encode()).hexdigest()[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InputError(
                f"{url} needs a folder for its local copy, and {folder} cannot be made ({error.strerror}); set {STAGING} "
                "to one on a local disk"
            ) from error
        return cls(folder, _read(folder) or State(store.url), store)

    @classmethod
    def of(cls, directory: Path) -> Stage | None:
        """Return the copy that a run directory is; None for one that is no copy."""
        state = _state_of(directory)
        return cls(directory.resolve().parent, state) if state else None

    def reload(self) -> None:
        """Read again what is known, which another process of this machine may have changed."""
        self.state = _read(self.folder) or self.state

    def save(self) -> None:
        """Write down what is known."""
        write_text(self.folder / STATE, json.dumps(asdict(self.state)))

    @contextmanager
    def alone(self, name: str = "fetching", *, wait: bool = True) -> Iterator[None]:
        """Hold a lock of that name, so that no second process of this machine does the same. Raises RunError."""
        with (self.folder / f"{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                raise RunError(f"another process of this machine is writing to {self.state.url}; wait for it to end") from error
            yield

    def owner(self) -> dict[str, Any]:
        """Read who writes to the store, or died while it did; empty for nobody."""
        try:
            found = json.loads(self.store.read(OWNER) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def changed(self) -> list[str]:
        """List the local files that are not as they were when they were last equal to the store's."""
        return [name for name in local_names(self.directory) if self._stamp(name) != self.known(name)]

    def known(self, name: str) -> list[int] | None:
        """Return size and time that a local file had when it was last equal to the store's; None for one that never was."""
        return list(self.state.files[name][0]) if name in self.state.files else None

    def _stamp(self, name: str) -> list[int] | None:
        return stamp(self.directory / name)

    def differs(self, listing: dict[str, str]) -> bool:
        """Tell whether the store is not as it was when the copy was last made like it; weights that were left out aside."""
        known = {name: version for name, (_, version) in self.state.files.items()}
        there = {name: version for name, version in listing.items() if name != OWNER and (name in known or name[-3:] != ".pt")}
        return there != known

    def fetch(self, listing: dict[str, str], *, weights: bool = True) -> None:
        """Make the copy like the store, as far as it is not.

        Args:
            listing: As of the store.
            weights: Whether checkpoints and weights are needed.
        """
        wanted = {name: v for name, v in listing.items() if name != OWNER and (weights or not name.endswith(".pt"))}
        for name, (_, version) in list(self.state.files.items()):
            if name not in wanted and version != listing.get(name):  # an old checkpoint must not be taken for a new one
                (self.directory / name).unlink(missing_ok=True)
                del self.state.files[name]
        for name, version in wanted.items():
            path = self.directory / name
            if name in self.state.files and self.state.files[name][1] == version and stamp(path) == self.known(name):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                self.store.get(name, temporary)
            found = stamp(path)
            assert found is not None
            self.state.files[name] = (found, version)
        self.save()

    def set_aside(self) -> Path | None:
        """Rename the run directory, if there is one, and forget what was known; returns its new path."""
        self.state.files, self.state.dirty = {}, False
        self.save()
        if not self.directory.exists():
            return None
        aside = self.directory.with_name(f"{self.directory.name}.{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
        self.directory.rename(aside)
        return aside


def root() -> Path:
    """Return the folder with the local copies: that of the environment, or one below the user's home."""
    if named := os.environ.get(STAGING):
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".local" / "state") / "paretoray" / "stores"
    except RuntimeError as error:
        raise InputError(f"there is no home for local copies of runs in a store; set {STAGING} to a folder") from error


def _state_of(directory: Path) -> State | None:
    """Read what is known of the copy that a directory is; None for one that is no copy.

    Only folders below `root()` are: a file beside somebody else's run must not say where yours is sent to.
    """
    path = directory.resolve()
    if path.parent.parent != root().resolve():
        return None
    state = _read(path.parent)
    return state if state and _name(state.url) == path.name else None


def _name(url: str) -> str:
    """Return the name of a run directory for a URL."""
    return re.sub(r"[^\w.-]", "-", url.rpartition("/")[2]).lstrip(".") or "run"


def _read(folder: Path) -> State | None:
    try:
        return State(**json.loads((folder / STATE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def stamp(path: Path) -> list[int] | None:
    """Return size and time of a file, which differ once it was written again; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


_LEFT_OUT = re.compile(r"^\.|\.lock$|\.new(\.\w+)?$|^writing\.pt$")


def local_names(directory: Path) -> list[str]:
    """List the files of a run directory that belong into a store: all but locks, temporary and hidden ones, and Tune's own."""
    found = []
    for folder, below, names in os.walk(directory):
        below[:] = [name for name in below if not name.startswith(".") and name != "tune"]
        inside = Path(folder).relative_to(directory)
        found += [(inside / name).as_posix() for name in names if not _LEFT_OUT.search(name)]
    return sorted(found)


def opened(run: str | Path, *, weights: bool = True, say: Say = warnings.warn) -> Path:
    """Return the directory of a run, which is fetched first where it is in a store.

    Args:
        run: A path, or a URL.
        weights: Whether checkpoints and weights are needed.
        say: Told of a local copy that was set aside.

    Raises:
        InputError: For a URL where there is no run, or that cannot be opened.
        RunError: Where the store does not answer.

    Example:
        >>> opened("runs/photos")
        PosixPath('runs/photos')
    """
    if (path := local_path(run)) is not None:
        return path
    found = _fetched(as_url(run), weights, say)
    if found is None:
        raise InputError(f"there is no run at {as_url(run)}: it has none of {', '.join(MARKS)}")
    return found


def _fetched(url: str, weights: bool, say: Say) -> Path | None:
    """Return the local copy of what is at a URL; None where nothing of ours is there."""
    stage = Stage.at(url)
    with ExitStack() as locks:
        locks.enter_context(stage.alone())
        try:
            locks.enter_context(stage.alone(WRITING, wait=False))
        except RunError:
            return stage.directory  # a process of this machine writes to it
        stage.reload()
        state = stage.state
        stage.save()
        kept = stage.directory.is_dir()
        try:
            listing, owner = stage.store.listing(), stage.owner()
        except StoreError as error:
            raise StoreError(f"{error}" + (f"; a local copy of earlier is in {stage.directory}" if kept else "")) from error
        if kept and state.dirty and (owner.get("token") == state.token or not stage.differs(listing)):
            return stage.directory  # nobody else has written since: what is here is newer
        if kept and state.dirty and not {*listing} - {OWNER}:  # a store that was emptied, or lost what it had
            state.files, state.new = {}, True
            stage.save()
            return stage.directory
        if not any(mark in listing for mark in MARKS):
            return None
        if kept and state.dirty and stage.changed() and (aside := stage.set_aside()):
            say(f"{url} has been written to from elsewhere; what was found here meanwhile is kept in {aside}")
        state.dirty = state.new = False
        stage.fetch(listing, weights=weights)
    return stage.directory


def placed(out: str | Path) -> Path:
    """Return the directory for a new run: the path itself, or for a URL a local copy that is to be made.

    Raises:
        InputError: For a URL where there is something, or that cannot be opened.
    """
    if (path := local_path(out)) is not None:
        return path
    url, stage = as_url(out), Stage.at(as_url(out))
    listing = stage.store.listing()
    begun = any((stage.directory / mark).exists() for mark in MARKS)
    if any(mark in listing for mark in MARKS) or (stage.state.dirty and begun):
        raise InputError(f"--out {url} exists already; choose another name, or continue it with: paretoray resume {url}")
    if listing and OWNER not in listing:
        raise InputError(f"--out {url} exists already; choose another name, or it is not empty")
    with stage.alone():
        if begun:
            stage.set_aside()  # of a run that was deleted in the store
        stage.state.new = True
        stage.save()
    return stage.directory


def placed_or_opened(out: str | Path, say: Say = warnings.warn) -> Path:
    """Return the directory for what goes on where it is there and begins where it is not, as a benchmark. Raises InputError."""
    if not is_url(out) or local_path(out) is not None:
        return local_path(out) or Path(out)
    return _fetched(as_url(out), True, say) or placed(out)


@contextmanager
def followed(directory: Path, say: Say) -> Iterator[None]:
    """Fetch what is new meanwhile, weights aside, where a directory is the local copy of a run in a store.

    Args:
        directory: The run directory.
        say: Told of a store that fails.
    """
    ended, state = threading.Event(), _state_of(directory)

    def follow(url: str) -> None:
        failing = False
        while not ended.wait(FOLLOWING):
            try:
                opened(url, weights=False, say=say)
                failing = False
            except (InputError, RunError) as error:
                if not failing:
                    say(f"{error}; it is tried again from time to time")
                failing = True

    if state is not None:
        threading.Thread(target=follow, args=(state.url,), name="followed", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def shown(directory: Path) -> str:
    """Return what to call a run directory by: its URL where it is the local copy of one in a store."""
    state = _state_of(directory)
    return state.url if state else str(directory)
