"""Stores of run directories: whatever fsspec reaches by a URL, as s3://bucket/run, with the few operations that a run needs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from orchestrator.errors import InputError, RunError, first_line
from orchestrator.registry import similar

KNOWN = ("s3", "gs", "abfs", "file", "hdfs", "sftp", "smb", "webdav", "oss", "oci", "tos")
"""Schemes that an error about an unknown one names; fsspec knows more, most of which are no stores, or can only be read."""
WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"})
"""Protocols whose stores take a file as a whole or not at all; on others it gets its name once it is there."""
_VERSIONS = ("ETag", "etag", "md5Hash"), ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


class StoreError(RunError):
    """Failure of a store, which may be over the next time."""


def is_url(place: str | Path) -> bool:
    """Tell whether a place is a URL, even one that was a path meanwhile and lost a slash of its two."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(place)) is not None


def as_url(place: str | Path) -> str:
    """Return a URL in the form in which equal ones are written equally."""
    scheme, _, rest = str(place).partition(":")
    return f"{scheme.lower()}://{rest.lstrip('/') if scheme.lower() != 'file' else '/' + rest.lstrip('/')}".rstrip("/")


def local_path(place: str | Path) -> Path | None:
    """Return the path of a place on this machine's file system; None for a URL of a store."""
    if not is_url(place):
        return Path(place)
    return Path(LocalFileSystem._strip_protocol(as_url(place))) if as_url(place).startswith("file:") else None


class Store:
    """Folder of a store.

    Args:
        url: Its URL. Credentials and endpoints are those of the environment, as the store's own tools read them.

    Raises:
        InputError: For a scheme that is not known, a package that is missing, and credentials in the URL.

    Example:
        >>> store = Store("memory://bucket/run")
        >>> store.write("a.txt", b"1")
        >>> sorted(store.listing())
        ['a.txt']
    """

    def __init__(self, url: str) -> None:
        self.url, parts = as_url(url), urlsplit(as_url(url))
        if ":" in parts.netloc.rpartition("@")[0]:
            raise InputError(
                f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}{parts.path} has a password in it, which would be "
                "written wherever the run is named; leave it out, and set what the store's own tools read"
            )
        try:
            cls = fsspec.get_filesystem_class(parts.scheme)
        except ValueError:
            raise InputError(
                f"{self.url}: {parts.scheme}:// is no known store; known are {', '.join(f'{s}://' for s in KNOWN)}"
                f"{similar(parts.scheme, KNOWN)}"
            ) from None
        except ImportError as error:
            raise InputError(f"{self.url} needs a package that is missing: {error}") from error
        with self._failing("open"):
            self._fs = cls(use_listings_cache=False)  # which would not notice what others write
        self._root = str(cls._strip_protocol(self.url)).rstrip("/")
        protocols = {cls.protocol} if isinstance(cls.protocol, str) else {*cls.protocol}
        self._whole = bool(protocols & WHOLE)

    def listing(self) -> dict[str, str]:
        """Map the names of all files to their versions, which are equal for files that have not changed."""
        with self._failing("list"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._root, detail=True)
            except FileNotFoundError:
                return {}
        names = {str(path).removeprefix(f"{self._root}/"): details for path, details in found.items()}
        return {name: _version(details) for name, details in names.items() if _is_safe(name)}

    def read(self, name: str) -> bytes | None:
        """Read a file; None where there is none."""
        with self._failing(f"read {name} of"):
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file."""
        with self._failing(f"write {name} to"), self._replacing(name) as path:
            self._fs.pipe_file(path, content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file that does not exist; tells whether that was so."""
        with self._failing(f"write {name} to"):
            try:
                self._make_folder(name)
                self._fs.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
        return True

    def put(self, local: Path, name: str) -> None:
        """Copy a file of this machine there, as a whole or not at all."""
        with self._failing(f"write {name} to"), self._replacing(name) as path:
            self._fs.put_file(str(local), path)

    def get(self, name: str, local: Path) -> None:
        """Copy a file from there."""
        with self._failing(f"read {name} of"):
            self._fs.get_file(self._path(name), str(local))

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with self._failing(f"delete {name} of"), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    @contextmanager
    def _replacing(self, name: str) -> Iterator[str]:
        """Yield the path to write a file to so that nobody sees a part of it."""
        path = self._path(name)
        if self._whole:
            yield path
            return
        self._make_folder(name)
        yield f"{path}.part"
        self._fs.mv(f"{path}.part", path)

    def _make_folder(self, name: str) -> None:
        if not self._whole:  # which have no folders
            self._fs.makedirs(self._fs._parent(self._path(name)), exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Convert whatever a store's library raises, which have no base in common, to a StoreError."""
        try:
            yield
        except Exception as error:
            raise StoreError(f"cannot {what} {self.url}: {type(error).__name__}: {first_line(error)}") from error


def _version(details: dict[str, Any]) -> str:
    """Return what tells one version of a file from another: the store's own checksum, or else the time."""
    marks, times = ([str(details[key]) for key in keys if details.get(key)] for keys in _VERSIONS)
    return hashlib.sha256(json.dumps([details.get("size"), *(marks or times)]).encode()).hexdigest()


def _is_safe(name: str) -> bool:
    """Tell whether a name stays inside of the folder that it is copied to; markers of folders are left out, too."""
    return not name.endswith(".part") and not {"", ".", ".."} & {*name.split("/")}
