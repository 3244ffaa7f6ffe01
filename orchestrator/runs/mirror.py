"""Keeping a run in a store like its local copy while it goes on: at every checkpoint, and at the end."""

from __future__ import annotations

import getpass
import json
import logging
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from analysis import records
from orchestrator.errors import RunError
from orchestrator.runs.staging import MARKS, OWNER, WRITING, Say, Stage, local_names, stamp
from orchestrator.runs.status import STATUS
from orchestrator.runs.store import StoreError

log = logging.getLogger(__name__)

PAUSE, LONGER = 3.0, 30.0
"""Seconds between two looks at what has changed, and those after one at which the store failed."""
RENEWAL, LEASE = 60.0, 300.0
"""Seconds after which a process says again that it writes to a run, and after which another one may, if it does not."""
RETRIES = (2.0, 10.0)
"""Seconds to wait before each further attempt at the end of a run."""
TABLES = frozenset({records.EVALUATIONS, records.POLICY, records.FAILURES})
"""Files that rows are appended to. A checkpoint says how many count, so they may be ahead of it, and must not be behind."""


class TakenOver(RunError):
    """Another process has begun to write to the run."""


@dataclass
class Mirror:
    """Uploads of a local copy to its store, by the one process that may.

    A kill between any two operations leaves a run in the store that resumes: files are put whole, tables first, everything
    else in the order in which it was written here, and what is gone is deleted last.

    Args:
        stage: The local copy.
        say: Told of a store that fails, and of one that can be reached again.
    """

    stage: Stage
    say: Say
    _renewed: float = 0.0
    _failing: bool = False
    _lost: TakenOver | None = None

    def acquire(self) -> None:
        """Become the one process that writes to the run.

        Raises:
            RunError: Where another one does, or has written since the copy was fetched.
        """
        state, store = self.stage.state, self.stage.store
        if not store.create(OWNER, self._claim()):
            other = self.stage.owner()
            age = time.time() - float(other.get("renewed", 0))
            if other.get("token") != state.token and age < LEASE:
                raise RunError(
                    f"{state.url} is being written to by {other.get('who')}, which was last seen {max(0, age):.0f} s ago; wait "
                    f"for it to end, or stop it. If it has died, try again in {LEASE - age:.0f} s"
                )
            taken = other.get("token") != state.token
            store.write(OWNER, self._claim())
            self._check()
        else:
            taken = True
        if taken and not state.new and self.stage.differs(store.listing()):
            store.delete(OWNER)
            raise RunError(f"{state.url} has been written to from elsewhere meanwhile; repeat the command")
        self._renewed = time.monotonic()
        state.dirty = True
        self.stage.save()

    def release(self) -> None:
        """Let others write to the run, which is in the store as it is here."""
        self.stage.state.dirty = False
        self.stage.save()
        self.stage.store.delete(OWNER)

    def push(self) -> None:
        """Copy to the store what has changed. Raises StoreError where it fails, and TakenOver."""
        stage, state = self.stage, self.stage.state
        if not any((stage.directory / mark).exists() for mark in MARKS):
            return  # killed now, it would not be a run here either
        self._renew(at_once=True)
        if state.new:
            for name in stage.store.listing():
                if name != OWNER:
                    stage.store.delete(name)
            state.new = False
        snapshot = stage.folder / "snapshot"
        try:
            for name, stamped in _snapshot(stage.directory, snapshot, stage.changed()).items():
                self._renew()
                stage.store.put(snapshot / name, name)
                state.files[name] = (stamped, "")
            here = set(local_names(stage.directory))
            for name in [name for name in state.files if name not in here]:
                stage.store.delete(name)
                del state.files[name]
            listing = stage.store.listing()
            for name, (stamped, version) in state.files.items():
                state.files[name] = (stamped, version or listing.get(name, ""))
        finally:  # what came through need not be put again
            stage.save()
            shutil.rmtree(snapshot, ignore_errors=True)

    def due(self) -> bool:
        """Tell whether something has changed besides what always does, or it has to be said that this process lives."""
        if time.monotonic() - self._renewed > RENEWAL:
            return True
        return any(not _changes_always(name) for name in self.stage.changed())

    def attempt(self) -> StoreError | None:
        """Push, or warn and return why not; the local copy has everything in any case."""
        if self._lost:
            return None
        try:
            self.push()
        except TakenOver as error:
            self._lost = error
            self._warn(f"{error}; nothing more is uploaded, and what this one finds is kept in {self.stage.directory}")
        except StoreError as error:
            if not self._failing:
                self._warn(
                    f"{error}; the run goes on, and what it finds is kept in {self.stage.directory}. The store is "
                    "tried again from time to time"
                )
            self._failing = True
            return error
        else:
            if self._failing:
                self._warn(f"{self.stage.state.url} can be written to again, and has everything")
            self._failing = False
        return None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Push whenever that is due, in a thread of its own."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,), name="mirror", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(LONGER if self._failing else PAUSE):
            try:
                if self.due():
                    self.attempt()
            except OSError as error:  # of the local disk, which the run itself will complain of
                log.warning("cannot upload from %s: %s", self.stage.directory, error)

    def finish(self, retries: Sequence[float]) -> None:
        """Push what is left, again after so many seconds each. Raises RunError where it does not come through."""
        for pause in (*retries, None):
            error = self.attempt()
            if error is None or pause is None:
                break
            time.sleep(pause)
        if self._lost:
            raise RunError(f"{self._lost}; what this process found is in {self.stage.directory}") from self._lost
        if error is not None:
            raise RunError(
                f"{error}; nothing is lost: all of the run is in {self.stage.directory} on this machine, and is uploaded by: "
                f"paretoray resume {self.stage.state.url}"
            ) from error
        with suppress(StoreError):  # then it is released by time, or by the next process here
            self.release()

    def _claim(self) -> bytes:
        who = f"{_user()} on {platform.node()}, process {os.getpid()}"
        return json.dumps({"token": self.stage.state.token, "who": who, "renewed": time.time()}).encode()

    def _renew(self, *, at_once: bool = False) -> None:
        """Say again that this process writes to the run, from time to time."""
        if at_once or time.monotonic() - self._renewed > RENEWAL:
            self._check()
            self.stage.store.write(OWNER, self._claim())
            self._renewed = time.monotonic()

    def _check(self) -> None:
        """Raise TakenOver where the run is another process's."""
        if (other := self.stage.owner()) and other.get("token") != self.stage.state.token:
            raise TakenOver(f"{self.stage.state.url} is now written to by {other.get('who')}")

    def _warn(self, text: str) -> None:
        log.warning(text)
        self.say(text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f"user {os.getuid()}"


def _changes_always(name: str) -> bool:
    file = name.rpartition("/")[2]
    return file in TABLES or file == STATUS or file.endswith(".log") or file.startswith("events.")


def _snapshot(directory: Path, snapshot: Path, names: list[str]) -> dict[str, list[int]]:
    """Copy files that a run goes on to change, so that they fit each other; returns their stamps in the order of upload.

    That is tables, then everything else in the order in which it was written, as a file may rely on those before it. Copies are
    made in the opposite order, so that each finds these as new as it needs them. Checkpoints and weights, which are never
    written to but replaced, are linked rather than copied.
    """
    shutil.rmtree(snapshot, ignore_errors=True)
    found = {name: stamped for name in names if (stamped := stamp(directory / name))}
    order = sorted(found, key=lambda name: (name.rpartition("/")[2] not in TABLES, found[name][1], name))
    copied = {}
    for name in reversed(order):
        target = snapshot / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # deleted meanwhile
            stamped = stamp(directory / name)
            _link(directory / name, target) if name.endswith(".pt") else shutil.copyfile(directory / name, target)
            copied[name] = (stamp(target) if name.endswith(".pt") else stamped) or found[name]
    return {name: copied[name] for name in order if name in copied}


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copy2(path, target)


@contextmanager
def mirrored(directory: Path, say: Say, *, required: bool = True) -> Iterator[None]:
    """Keep the store of a run like its directory meanwhile, where that is the local copy of one in a store.

    Args:
        directory: The run directory.
        say: Told of a store that fails.
        required: Whether to fail where another process writes to the run; otherwise what is written here stays here.

    Raises:
        RunError: Where another process writes to the run, and where at the end the store still has not everything.
    """
    stage = Stage.of(directory)
    if stage is None:
        yield
        return
    mirror = Mirror(stage, say)
    with ExitStack() as held:
        busy = None
        try:
            with stage.alone():  # by itself, whoever fetches seems to write
                held.enter_context(stage.alone(WRITING, wait=False))
            stage.reload()
            mirror.acquire()
        except RunError as error:
            if required:
                raise
            busy = error
        if busy is not None:
            say(f"{busy}. What is written now stays in {directory}")
            yield
            return
        try:
            with mirror.watching():
                yield
        except KeyboardInterrupt:  # the second one: whoever waits for a store wants to get away
            raise
        except BaseException:
            try:
                mirror.finish(())
            except RunError as error:
                say(str(error))
            raise
        mirror.finish(RETRIES)


def settle(directory: Path, say: Say) -> None:
    """Upload what a process left here that could not reach the store, or was killed. Raises RunError as `mirrored` does."""
    stage = Stage.of(directory)
    if stage is not None and stage.state.dirty:
        with mirrored(directory, say):
            pass
