"""Folders of images: which files lie in them, which folders are classes, and which are parts."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass
class Scan:
    """Files below a folder.

    Args:
        images: Folders on the way to each image, and its path.
        folders: All folders, in the same notation.
        left_out: Folders on the way to each file that is left out, and the reason.
    """

    images: list[tuple[Where, Path]] = field(default_factory=list)
    folders: list[Where] = field(default_factory=list)
    left_out: list[tuple[Where, str]] = field(default_factory=list)

    def below(self, where: Where) -> Scan:
        """Return what lies in one of its folders."""
        deep = len(where)
        return Scan(
            [(w[deep:], path) for w, path in self.images if w[:deep] == where],
            [w[deep:] for w in self.folders if w[:deep] == where and len(w) > deep],
            [(w[deep:], reason) for w, reason in self.left_out if w[:deep] == where],
        )

    @property
    def top(self) -> list[str]:
        """Names of the folders directly below."""
        return sorted({where[0] for where in self.folders})


def scan(root: Path) -> Scan:
    """List the image files below a folder, each once, and what is left out.

    Links are followed after everything else, unless they lead to what was read already or to a folder around this one, so that
    none leads in circles. Only regular files are taken; nothing is opened.
    """
    found, links = Scan(), deque[tuple[Where, Path]]()
    status = root.stat()
    seen = {(status.st_dev, status.st_ino)}
    _walk(root, (), found, links, seen)
    real = root.resolve()
    while links:
        where, path = links.popleft()
        try:
            status = path.stat()
        except OSError:
            found.left_out.append((where, "links that lead nowhere"))
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in seen or (stat.S_ISDIR(status.st_mode) and real.is_relative_to(path.resolve())):
            found.left_out.append((where, "links to what is read already"))
        elif stat.S_ISDIR(status.st_mode):
            seen.add(identity)
            found.folders.append((*where, path.name))
            _walk(path, (*where, path.name), found, links, seen)
        elif stat.S_ISREG(status.st_mode):
            seen.add(identity)
            _take(path, where, found)
        else:
            found.left_out.append((where, "devices and pipes"))
    found.images.sort(key=lambda image: (str(image[1].parent), image[1].name))
    return found


def _walk(root: Path, where: Where, found: Scan, links: deque[tuple[Where, Path]], seen: set[tuple[int, int]]) -> None:
    waiting = [(root, where)]
    while waiting:
        folder, here = waiting.pop()
        try:
            device = folder.stat().st_dev
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{folder} cannot be read ({error.strerror}); change its permissions or take it away") from error
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name.casefold() in _HIDDEN:
                found.left_out.append((here, "hidden files and folders"))
            elif entry.is_symlink():
                links.append((here, path))
            elif (identity := (device, entry.inode())) in seen:
                found.left_out.append((here, "links to what is read already"))
            elif entry.is_dir():
                seen.add(identity)
                found.folders.append((*here, entry.name))
                waiting.append((path, (*here, entry.name)))
            elif entry.is_file():
                seen.add(identity)
                _take(path, here, found)
            else:
                found.left_out.append((here, "devices and pipes"))


def _take(path: Path, where: Where, found: Scan) -> None:
    if path.suffix.lower() in SUFFIXES:
        found.images.append((where, path))
    else:
        found.left_out.append((where, f"{path.suffix.lower() or 'no suffix'} files"))


@dataclass(frozen=True)
class ImageFolder:
    """A folder as it was understood.

    Args:
        classes: Names, sorted.
        parts: Paths and labels of `train`, and of `valid` and `test` where there are such folders.
        understood: How it was understood, in a sentence.
        left_out: Number of files that are left out, by reason.
        warnings: What may be wrong.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, tuple[list[Path], list[int]]]
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
    left_out = Counter(reason for _, reason in found.left_out)
    classes: dict[str, list[str]] = {}
    parts: dict[str, tuple[list[Path], list[int]]] = {}
    for part, folder in folders.items():
        inside = found.below(() if folder is None else (folder,))
        images = _by_class(root if folder is None else root / folder, inside)
        left_out["images outside of a class's folder"] += sum(not where for where, _ in inside.images)
        classes[part] = list(images)
        parts[part] = (
            [path for paths in images.values() for path in paths],
            [label for label, paths in enumerate(images.values()) for _ in paths],
        )
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
        for where, _ in found.images:
            if not where:
                left_out["images outside of a class's folder"] += 1
            elif where[0] not in folders.values():
                left_out[f"images of {where[0]}/, which has no folders of classes"] += 1
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
    holding = {where[0] for where, _ in found.images if where}
    nested = {where[0] for where, _ in found.images if len(where) > 1}
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


def _by_class(root: Path, found: Scan) -> dict[str, list[Path]]:
    """Return the images of each class. Raises InputError for one without any, and where there are fewer than two."""
    classes: dict[str, list[Path]] = {}
    folders: dict[str, list[str]] = {name: [] for name in found.top}
    images: dict[str, list[Path]] = {name: [] for name in folders}
    for where in found.folders:
        folders[where[0]] += where[1:2]
    for where, path in found.images:
        if where:
            images[where[0]].append(path)
    for name in sorted(folders, key=_shown):
        _check_undivided(root / name, sorted(set(folders[name])))
        if _shown(name) in classes:
            raise InputError(f"{root} has two folders that are both called {_shown(name)!r}; rename one of them")
        classes[_shown(name)] = images[name]
    empty = [name for name, paths in classes.items() if not paths]
    if not any(classes.values()):
        loose = f"; it has {len(found.images)} images and no folders" if found.images else ""
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
    reasons = Counter(reason for where, reason in found.left_out if where and _shown(where[0]) in names)
    return f" ({_counted(reasons)})" if reasons else ""


def _check_undivided(folder: Path, inside: Sequence[str]) -> None:
    parts = {part_of(name) for name in inside} - {None}
    if "train" in parts and len(parts) > 1:
        raise InputError(
            f"{folder} is divided itself, into {_listed(n for n in inside if part_of(n))}; put the parts first, as in "
            f"train/{folder.name}/ and test/{folder.name}/"
        )
