"""Folders of images: which files lie in them, which folders are classes, and which are parts."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from orchestrator.data.images import SUFFIXES
from orchestrator.errors import InputError

PARTS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev", "eval", "evaluation", "holdout"), "valid"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""The usual names of parts, in lower case."""
_HIDDEN = frozenset(
    ("__macosx", "__pycache__", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found", "system volume information")
)
"""Files and folders of operating systems and of programs, in lower case; those that begin with a dot are hidden, too."""
Where = tuple[str, ...]


def part_of(name: str) -> str | None:
    """Return the part that a name stands for, train, valid or test; None for any other name."""
    return PARTS.get(name.casefold())


@dataclass(frozen=True)
class Folder:
    """A folder, and the names of the images that lie in it.

    Args:
        where: Names of the folders on the way to it, and its own.
        path: Its path.
        images: Names of its images.
    """

    where: Where
    path: str
    images: list[str] = field(default_factory=list)


@dataclass
class Scan:
    """Files below a folder.

    Args:
        folders: All folders, the uppermost one included.
        left_out: Number of files that are left out, by the folders on the way to them and by the reason.
    """

    folders: list[Folder] = field(default_factory=list)
    left_out: Counter[tuple[Where, str]] = field(default_factory=Counter)

    def below(self, where: Where) -> Scan:
        """Return what lies in one of its folders."""
        deep = len(where)
        return Scan(
            [replace(folder, where=folder.where[deep:]) for folder in self.folders if folder.where[:deep] == where],
            Counter({(w[deep:], reason): count for (w, reason), count in self.left_out.items() if w[:deep] == where}),
        )

    @property
    def top(self) -> list[str]:
        """Names of the folders directly below."""
        return sorted({folder.where[0] for folder in self.folders if folder.where})

    @property
    def loose(self) -> int:
        """Number of images that lie in no folder below."""
        return sum(len(folder.images) for folder in self.folders if not folder.where)


class Listing(Sequence[Path]):
    """Paths of files in the order of their folders, packed: a million of them take some thirty bytes each.

    Processes that decode share it with the one that started them, as no count of references is written into it.

    Args:
        folders: Folders with files.
    """

    def __init__(self, folders: Iterable[Folder]) -> None:
        filled = [folder for folder in folders if folder.images]
        encoded = [os.fsencode(name) for folder in filled for name in folder.images]
        self._folders = [folder.path for folder in filled]
        self._firsts = np.cumsum([0, *(len(folder.images) for folder in filled)])
        self._ends = np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
        self._names = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> Path: ...

    @overload
    def __getitem__(self, number: slice) -> list[Path]: ...

    def __getitem__(self, number: int | slice) -> Path | list[Path]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        begin = self._ends[number - 1] if number else 0
        folder = self._folders[int(np.searchsorted(self._firsts, number, side="right")) - 1]
        return Path(folder, os.fsdecode(self._names[begin : self._ends[number]]))


class _Scanner:
    """Walks through folders, and takes each file once.

    Args:
        root: The uppermost folder.
    """

    def __init__(self, root: Path) -> None:
        self.found = Scan()
        self.links = deque[tuple[Folder, str]]()
        self.seen: dict[int, set[int]] = defaultdict(set)
        """Numbers of what was read already, by device."""
        self.real = root.resolve()

    def is_new(self, device: int, inode: int) -> bool:
        """Tell whether a file or folder was not read yet, and note that it is now."""
        seen = self.seen[device]
        before = len(seen)
        seen.add(inode)
        return len(seen) > before

    def leave_out(self, where: Where, reason: str) -> None:
        self.found.left_out[where, reason] += 1

    def take(self, name: str, folder: Folder) -> None:
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122, a path takes as long as all the rest
        if suffix in SUFFIXES:
            folder.images.append(name)
        else:
            self.leave_out(folder.where, f"{suffix or 'no suffix'} files")

    def walk(self, root: str, where: Where) -> None:
        waiting = [Folder(where, root)]
        while waiting:
            folder = waiting.pop()
            self.found.folders.append(folder)
            try:
                device = os.stat(folder.path).st_dev  # noqa: PTH116
                with os.scandir(folder.path) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError as error:
                raise InputError(
                    f"{folder.path} cannot be read ({error.strerror}); change its permissions or take it away"
                ) from error
            for entry in entries:
                if entry.name.startswith(".") or entry.name.casefold() in _HIDDEN:
                    self.leave_out(folder.where, "hidden files and folders")
                elif entry.is_symlink():
                    self.links.append((folder, entry.name))
                elif not (is_folder := entry.is_dir()) and not entry.is_file():
                    self.leave_out(folder.where, "devices and pipes")
                elif not self.is_new(device, entry.inode()):
                    self.leave_out(folder.where, "links to what is read already")
                elif is_folder:
                    waiting.append(Folder((*folder.where, entry.name), entry.path))
                else:
                    self.take(entry.name, folder)

    def follow(self, folder: Folder, name: str) -> None:
        """Read what a link leads to."""
        path = Path(folder.path, name)
        try:
            status = path.stat()
        except OSError:
            return self.leave_out(folder.where, "links that lead nowhere")
        is_folder = stat.S_ISDIR(status.st_mode)
        known = status.st_ino in self.seen[status.st_dev]
        if known or (is_folder and self.real.is_relative_to(path.resolve())):
            return self.leave_out(folder.where, "links to what is read already")
        if not is_folder and not stat.S_ISREG(status.st_mode):
            return self.leave_out(folder.where, "devices and pipes")
        self.is_new(status.st_dev, status.st_ino)
        return self.walk(str(path), (*folder.where, name)) if is_folder else self.take(name, folder)


def scan(root: Path) -> Scan:
    """List the image files below a folder, each once, and what is left out.

    Links are followed after everything else, unless they lead to what was read already or to a folder around this one, so that
    none leads in circles. Only regular files are taken; nothing is opened. A million files take seconds, and some hundred bytes
    each meanwhile.
    """
    scanner = _Scanner(root)
    status = root.stat()
    scanner.is_new(status.st_dev, status.st_ino)
    scanner.walk(str(root), ())
    while scanner.links:
        scanner.follow(*scanner.links.popleft())
    found = scanner.found
    found.folders.sort(key=lambda folder: folder.path)
    for folder in found.folders:
        folder.images.sort()
    return found


@dataclass(frozen=True)
class ImageFolder:
    """A folder as it was understood.

    Args:
        classes: Names, sorted.
        parts: Paths and labels, (n,) int64, of `train`, and of `valid` and `test` where there are such folders.
        understood: How it was understood, in a sentence.
        left_out: Number of files that are left out, by reason.
        warnings: What may be wrong.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, tuple[Listing, NDArray[np.int64]]]
    understood: str
    left_out: Mapping[str, int]
    warnings: tuple[str, ...]


def understand(root: Path, divided: bool | None = None) -> ImageFolder:
    """Find out which folders are classes, and which are parts that hold the classes.

    Args:
        root: The folder.
        divided: Whether its folders are parts; None to find out by their names and contents.

    Raises:
        InputError: For a folder that cannot be understood, with the names and what to change.
    """
    found = scan(root)
    folders, said = _parts(root, found, divided)
    left_out: Counter[str] = Counter()
    for (_, reason), count in found.left_out.items():
        left_out[reason] += count
    classes: dict[str, list[str]] = {}
    parts: dict[str, tuple[Listing, NDArray[np.int64]]] = {}
    for part, folder in folders.items():
        inside = found.below(() if folder is None else (folder,))
        images = _by_class(root if folder is None else root / folder, inside)
        left_out["images outside of a class's folder"] += inside.loose
        classes[part] = list(images)
        counts = [sum(len(folder.images) for folder in inside) for inside in images.values()]
        parts[part] = Listing(chain.from_iterable(images.values())), np.repeat(np.arange(len(counts)), counts)
        if classes[part] != classes["train"]:
            lacking = _listed(set(classes["train"]) - set(images))
            more = _listed(set(images) - set(classes["train"]))
            raise InputError(
                f"{root / str(folders['train'])} has the classes {_listed(classes['train'])}; {root / str(folder)} has "
                f"{_listed(images)}{f'; it lacks {lacking}' if lacking else ''}{f'; {more} is not trained on' if more else ''}"
            )
    if "valid" in parts and "test" not in parts:
        parts["test"] = parts.pop("valid")
        said += f"; there is no test folder, so {folders['valid']} is the final test, and a share of {folders['train']} decides"
    if folders["train"] is not None:  # what lies beside the parts, and in those that are of no use
        left_out["images outside of a class's folder"] += found.loose
        for one in found.folders:
            if one.where and one.where[0] not in folders.values():
                left_out[f"images of {one.where[0]}/, which has no folders of classes"] += len(one.images)
    left_out = Counter({reason: count for reason, count in left_out.items() if count})
    strange = {reason: count for reason, count in left_out.items() if not reason.startswith("hidden")}
    warnings = [f"left out: {_counted(strange)}"] if strange else []
    if divided is None and folders["train"] is None:
        taken = [name for name in found.top if part_of(name) is not None]
        warnings += [f"{name}/ is taken for a class, as it holds images and no folders" for name in taken]
    return ImageFolder(tuple(classes["train"]), parts, said, left_out, tuple(warnings))


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(numbers.items(), key=lambda n: (-n[1], n[0])))


def counted(folder: ImageFolder) -> str:
    """Say how many files are left out of a folder, and why."""
    return _counted(folder.left_out) or "nothing"


def _listed(names: Iterable[str], most: int = 8) -> str:
    ordered = sorted(map(_shown, names))
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _shown(name: str) -> str:
    """Return a folder's name as text that can be printed and compared: composed characters, and no stray bytes."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))


def _parts(root: Path, found: Scan, divided: bool | None) -> tuple[dict[str, str | None], str]:
    """Return the folder of each part, None for the root itself, and a sentence about it."""
    alone: dict[str, str | None] = {"train": None}
    named = [name for name in found.top if part_of(name) is not None]
    filled = [folder.where for folder in found.folders if folder.images]
    holding = {where[0] for where in filled if where}
    nested = {where[0] for where in filled if len(where) > 1}
    others = [name for name in found.top if name not in named and name in holding]
    said = "one folder for each class"
    if divided is False or (not named and divided is None):
        return alone, said
    whole = "write data.divided=false if all of them are classes"
    usual = [name for name in named if name in nested]
    if not usual and divided is None:
        if others and {part_of(name) for name in named} == {"train"}:
            return alone, said  # vehicles, say
        beside = f" beside {_listed(others)}" if others else ""
        raise InputError(
            f"{root}: {_listed(named)} hold{'s' if len(named) == 1 else ''} no folder of images per class{beside}; put the "
            f"images into {named[0]}/CLASS/, or {whole}"
        )
    if others:
        raise InputError(
            f"{root}: {_listed(named)} looks like a part of the data, as it holds folders of images, and {_listed(others)} "
            f"lies beside it; move that away, or write data.path={root / named[0]} for that folder alone; {whole}"
        )
    parts: dict[str, str | None] = {}
    for name in usual:
        part = part_of(name)
        assert part is not None
        if part in parts:
            raise InputError(f"{root}: {parts[part]} and {name} are both named like the same part; join them or move one away")
        parts[part] = name
    if "train" not in parts:
        there = f"has the folders {_listed(named)}" if named else "has no folder that is named like a part"
        raise InputError(f"{root} {there}, and none with classes to train on; name one train/, or {whole}")
    ordered: dict[str, str | None] = {part: parts[part] for part in ("train", "valid", "test") if part in parts}
    return ordered, f"{', '.join(str(name) for name in ordered.values())}, each with one folder for each class"


def _by_class(root: Path, found: Scan) -> dict[str, list[Folder]]:
    """Return the folders of each class. Raises InputError for one without images, and where there are fewer than two."""
    classes: dict[str, list[Folder]] = {}
    folders: dict[str, list[str]] = {name: [] for name in found.top}
    images: dict[str, list[Folder]] = {name: [] for name in folders}
    for folder in found.folders:
        if folder.where:
            folders[folder.where[0]] += folder.where[1:2]
            images[folder.where[0]] += [folder] if folder.images else []
    for name in sorted(folders, key=_shown):
        _check_undivided(root / name, sorted(set(folders[name])))
        if _shown(name) in classes:
            raise InputError(f"{root} has two folders that are both called {_shown(name)!r}; rename one of them")
        classes[_shown(name)] = images[name]
    empty = [name for name, inside in classes.items() if not inside]
    if not any(classes.values()):
        loose = f"; it has {found.loose} images and no folders" if found.loose else ""
        raise InputError(f"{root} does not hold one folder of images per class{loose}" + _why_empty(found, empty))
    if empty:
        raise InputError(
            f"{root}: no images in {_listed(empty)}{_why_empty(found, empty)}; a class needs some, and what is no class must "
            "lie elsewhere"
        )
    if len(classes) < 2:
        ((only, inside),) = folders.items()
        within = sorted(set(inside))
        hint = f"; if {_listed(within)} are the classes, write data.path={root / only}" if len(within) > 1 else ""
        raise InputError(f"{root} holds one class only ({_shown(only)}); a classifier needs two or more{hint}")
    return classes


def _why_empty(found: Scan, names: Sequence[str]) -> str:
    reasons: Counter[str] = Counter()
    for (where, reason), count in found.left_out.items():
        if where and _shown(where[0]) in names:
            reasons[reason] += count
    return f" ({_counted(reasons)})" if reasons else ""


def _check_undivided(folder: Path, inside: Sequence[str]) -> None:
    parts = {part_of(name) for name in inside} - {None}
    if "train" in parts and len(parts) > 1:
        raise InputError(
            f"{folder} is divided itself, into {_listed(n for n in inside if part_of(n))}; put the parts first, as in "
            f"train/{folder.name}/ and test/{folder.name}/"
        )
