"""Networks that a search begins with: their notations, from a list, an earlier run, or a table."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pandas as pd

from analysis import records
from orchestrator.config.spaces import find_architecture
from orchestrator.errors import InputError, first_line
from orchestrator.evaluators.tabular import read_frame
from orchestrator.spaces.base import SearchSpace
from searchers import Architecture

KEY = "searcher.start_from"
MOST = 1000
"""Networks that a search may begin with; beyond that it would be a list to evaluate, and no search."""


def notations(source: Any) -> tuple[str, ...]:
    """Return the notations of the networks to begin with, each once.

    A run directory or table is read here, so that a run that began with it can be resumed without.

    Args:
        source: Notations in a list, or a path: of a run directory, whose front is taken, or of a table with a column `arch`.
            Either may be at a URL of a store, as s3://bucket/run.

    Raises:
        InputError: For a path where there is neither, for too many networks, and for what is no notation.
    """
    if isinstance(source, str) and "://" in source:
        listed = _fetched(source)
    elif isinstance(source, (str, Path)):
        listed = _read(Path(source))
    elif isinstance(source, Sequence) and all(isinstance(item, str) and item for item in source):
        listed = list(source)
    else:
        raise InputError(f"{KEY} = {str(source)[:80]!r}; write a list of notations, or the path or URL of a run or table")
    unique = tuple(dict.fromkeys(listed))
    if len(unique) > MOST:
        raise InputError(f"{KEY}: {len(unique):,} networks are too many to begin with; keep the best, at most {MOST:,}")
    return unique


def _read(path: Path) -> list[str]:
    if path.is_dir():
        front = path / records.FRONT
        if not front.is_file():
            raise InputError(f"{KEY}: {path} has no {records.FRONT}; it is no run directory, or its search has no front yet")
        return [str(arch) for arch in pd.read_csv(front, dtype={"arch": str})["arch"]]
    if not path.exists():
        raise InputError(
            f"{KEY}: there is no run directory or table {path}; a notation is written in a list, as [{str(path)!r}]"
        )
    return [str(arch) for arch in read_frame(path)["arch"]]


def _fetched(url: str) -> list[str]:
    """Read the notations of a run or table in a store, of which one file is copied here for the time being."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            store, root = fsspec.url_to_fs(url)
            front = f"{str(root).rstrip('/')}/{records.FRONT}"
            name = front if store.isfile(front) else root
            local = Path(folder) / PurePosixPath(name).name
            if found := store.isfile(name):
                store.get_file(name, str(local))
        except Exception as error:  # the libraries of stores have no base of errors in common
            raise InputError(f"{KEY}: cannot read {url}: {type(error).__name__}: {first_line(error)}") from error
        if not found:
            raise InputError(f"{KEY}: there is no run with a front and no table at {url}")
        try:
            return _read(local)
        except InputError as error:
            raise InputError(str(error).replace(str(local), url)) from error


def architectures(space: SearchSpace, written: Sequence[str]) -> list[Architecture]:
    """Read notations. Raises InputError for the first that is no network of the space, with an example of one that is."""
    read = []
    for notation in written:
        try:
            read.append(find_architecture(space, notation))
        except InputError as error:
            example = space.format(space.largest())
            raise InputError(
                f"{KEY}: {notation!r} is no network of {space.name}; one is written {example!r} ({error})"
            ) from error
    return list(dict.fromkeys(read))
