"""Encoded images in archives and tables: shards of WebDataset, Parquet and Arrow files, data sets of Hugging Face."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.files import replacing
from orchestrator.data.folders import part_of
from orchestrator.data.images import SUFFIXES, Store
from orchestrator.errors import InputError

IMAGES = ("image", "img", "picture", "photo", "pixel_values", "jpg", "jpeg", "png", "webp", "bytes", "data")
"""Names of columns that hold images, the likeliest first."""
LABELS = ("label", "labels", "target", "class", "cls", "category", "y", "fine_label")
"""Names of columns that hold labels, likewise."""
Found = dict[str, tuple[Store, NDArray[Any]]]
"""The images of each part, and their labels of any type."""
_BLOCK = 512
_ROWS = 64
"""Rows of an Arrow file that are read together."""


def files_below(path: str, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """List files by their part: what their name begins with, as in `train-0000.tar`, or the folder that they lie in.

    Args:
        path: A file, or a folder with files.
        suffixes: Suffixes of the files, in lower case.

    Raises:
        InputError: Where there are none, or none to train on.
    """
    root = Path(path).expanduser()
    listed = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not listed:
        raise InputError(f"data.path = {path!r}: there is no file {' or '.join(f'*{s}' for s in suffixes)}")
    found: dict[str, list[Path]] = {}
    for file in listed:
        words = [re.split(r"[\W_]", file.name)[0], *(parent.name for parent in file.parents if parent.is_relative_to(root))]
        found.setdefault(next(filter(None, map(part_of, words)), "train") if len(listed) > 1 else "train", []).append(file)
    if "train" not in found:
        raise InputError(
            f"data.path = {path!r}: all files are named like {' and '.join(found)}, and none like training; name those that "
            "are to train on train-*"
        )
    return found


@dataclass(frozen=True)
class Members:
    """Store of members of tar files, which are read where they lie.

    Args:
        files: The tar files.
        file: File of each image, (n,).
        offset: Byte at which it begins, (n,).
        size: Number of its bytes, (n,).
    """

    files: tuple[str, ...]
    file: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.file)

    def encoded(self, number: int) -> bytes:
        return self._read(number, int(self.offset[number]), int(self.size[number]))

    def name(self, number: int) -> str:
        try:
            header = self._read(number, int(self.offset[number]) - _BLOCK, _BLOCK)
            member = tarfile.TarInfo.frombuf(header, "utf-8", "replace").name
        except (OSError, tarfile.TarError):
            member = f"the member at byte {self.offset[number]}"
        return f"{self.files[self.file[number]]}: {member}"

    def _read(self, number: int, offset: int, size: int) -> bytes:
        with Path(self.files[self.file[number]]).open("rb") as file:
            file.seek(offset)
            return file.read(size)


def shards(path: str, label: str) -> Found:
    """Index shards of WebDataset: members that share a name up to its first dot are one example.

    Args:
        path: A tar file, or a folder with such files.
        label: Suffix of the members with the class, as `cls`; or a key in members `json`.

    Raises:
        InputError: For a file that is no tar file or is compressed, and for an example without a label.
    """
    found: Found = {}
    for part, files in files_below(path, (".tar", ".tgz", ".gz")).items():
        rows: list[tuple[int, int, int]] = []
        labels: list[Any] = []
        for number, file in enumerate(files):
            for offset, size, value in _examples(file, label):
                rows.append((number, offset, size))
                labels.append(value)
        if not rows:
            raise InputError(f"{files[0]} has no images with a label; members of an example are named KEY.jpg and KEY.{label}")
        table = np.array(rows, dtype=np.int64)
        store = Members(tuple(map(str, files)), table[:, 0].astype(np.int32), table[:, 1].copy(), table[:, 2].copy())
        found[part] = store, np.array(labels)
    return found


def _examples(file: Path, label: str) -> Iterator[tuple[int, int, Any]]:
    """Return place and size of each image in a shard, and its label."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, Any] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # or it keeps them all
                folder, _, name = member.name.rpartition("/")
                key, _, suffix = name.partition(".")
                key = f"{folder}/{key}"
                if not member.isfile() or not key:
                    continue
                if f".{suffix.lower().rpartition('.')[2]}" in SUFFIXES:
                    images.setdefault(key, (member.offset_data, member.size))
                elif suffix.lower() in (label, "json"):
                    contents = tar.extractfile(member)
                    assert contents is not None
                    value = _label(contents.read(), suffix.lower(), label, f"{file}: {member.name}")
                    if value is not None:
                        labels[key] = value
    except tarfile.TarError as error:
        raise InputError(
            f"{file} is not a plain tar file ({error}); images in a compressed one cannot be read in any order, so unpack it"
        ) from error
    lacking = [key for key in images if key not in labels]
    if lacking:
        raise InputError(
            f"{file}: {lacking[0].lstrip('/')} has an image and no label; add a member {lacking[0].lstrip('/')}.{label}, or "
            "name another one with data.label"
        )
    return ((*place, labels[key]) for key, place in images.items())


def _label(contents: bytes, suffix: str, label: str, name: str) -> Any:
    text = contents.decode("utf-8", "replace").strip()
    if suffix == label != "json":
        return int(text) if text.isdecimal() else text
    try:
        return json.loads(text).get(label)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{name} is no JSON object ({error})") from error


@dataclass(frozen=True)
class Rows:
    """Store of a column with encoded images in Arrow files, which are mapped into memory.

    Args:
        files: The files.
        column: Name of the column: bytes, or a struct of `bytes` and `path`, as Hugging Face has them.
        firsts: Number of the first row of each file, and the number of all.
    """

    files: tuple[str, ...]
    column: str
    firsts: tuple[int, ...]

    def __len__(self) -> int:
        return self.firsts[-1]

    def encoded(self, number: int) -> bytes:
        file, row = self._place(number)
        column, firsts = _column(self.files[file], self.column)
        chunk = int(np.searchsorted(firsts, row, side="right")) - 1
        value = column.chunk(chunk)[row - int(firsts[chunk])].as_py()
        if isinstance(value, dict):
            value = value.get("bytes") or (Path(value["path"]).read_bytes() if value.get("path") else None)
        if not isinstance(value, bytes):
            raise ValueError(f"{'nothing' if value is None else type(value).__name__} in the place of an encoded image")
        return value

    def name(self, number: int) -> str:
        file, row = self._place(number)
        return f"{self.files[file]}: row {row}"

    def _place(self, number: int) -> tuple[int, int]:
        file = int(np.searchsorted(self.firsts, number, side="right")) - 1
        return file, number - self.firsts[file]


@lru_cache(maxsize=4096)
def _table(file: str) -> pa.Table:
    """Map an Arrow file into memory, in its format of files or of streams."""
    source = pa.memory_map(file)
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


@lru_cache(maxsize=4096)
def _column(file: str, name: str) -> tuple[pa.ChunkedArray, NDArray[np.int64]]:
    column = _table(file).column(name)
    return column, np.cumsum([0, *map(len, column.chunks)])


def tables(path: str, image: str | None, label: str | None, cache: str) -> tuple[Found, Sequence[str] | None, str]:
    """Read Parquet and Arrow files with a column of encoded images and one of labels.

    Args:
        path: A file, or a folder with files.
        image: Name of the column with images; None to find it.
        label: Name of the column with labels; None to find it.
        cache: Folder for Arrow copies of Parquet files, whose rows cannot be read in any order.

    Returns:
        The parts; names of the classes where the files have them, as those of Hugging Face do; and the two columns in words.

    Raises:
        InputError: For a file that cannot be read, and for columns that are not there.
    """
    found: Found = {}
    names: Sequence[str] | None = None
    for part, files in files_below(path, (".parquet", ".arrow", ".feather", ".ipc")).items():
        mapped, labels, counts = [], [], [0]
        for file in files:
            try:
                arrow = str(_as_arrow(file, Path(cache).expanduser()) if file.suffix.lower() == ".parquet" else file.absolute())
                table = _table(arrow)
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{file} cannot be read ({error}); repair it or take it away") from error
            image = _named(table.schema.names, image, IMAGES, "image", file)
            label = _named(table.schema.names, label, LABELS, "label", file)
            names = names or _class_names(table.schema, label)
            mapped.append(arrow)
            labels.append(table.column(label).to_numpy())
            counts.append(counts[-1] + table.num_rows)
        assert image is not None
        found[part] = Rows(tuple(mapped), image, tuple(counts)), np.concatenate(labels)
    return found, names, f"images in {image}, labels in {label}"


def _named(columns: Sequence[str], name: str | None, usual: Sequence[str], key: str, file: Path) -> str:
    lowered = {column.lower(): column for column in columns}
    found = next((lowered[word] for word in usual if word in lowered), None) if name is None else name
    if found is None or found not in columns:
        wrong = f"data.{key} = {name!r}: " if name is not None else ""
        raise InputError(f"{wrong}{file} has the columns {', '.join(columns)}; write data.{key}=COLUMN, that of the {key}s")
    return found


def _class_names(schema: pa.Schema, label: str) -> Sequence[str] | None:
    """Return the names of classes that Hugging Face writes into a file's schema."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        names: Sequence[str] = described["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return names


def _as_arrow(file: Path, cache: Path) -> Path:
    """Copy a Parquet file to an Arrow file once, as a row of the former is read with many thousand others only."""
    status = file.stat()
    identity = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
    copy = cache / f"{file.stem}-{hashlib.sha256(os.fsencode(identity)).hexdigest()[:16]}.arrow"
    if not copy.exists():
        cache.mkdir(parents=True, exist_ok=True)
        source = pq.ParquetFile(file)
        with replacing(copy) as temporary:
            _write_arrow(source, temporary)
    return copy


def _write_arrow(source: pq.ParquetFile, file: Path) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, source.schema_arrow) as writer:
        for batch in source.iter_batches(_ROWS):
            writer.write_batch(batch)


@dataclass(frozen=True)
class HubRows:
    """Store of a data set of Hugging Face, whose images are left encoded.

    Args:
        data: The data set.
        column: Name of the column with images.
        where: Where it lies, for messages.
    """

    data: Any
    column: str
    where: str

    def __len__(self) -> int:
        return len(self.data)

    def encoded(self, number: int) -> bytes:
        value = self.data[number][self.column]
        return value["bytes"] or Path(value["path"]).read_bytes()

    def name(self, number: int) -> str:
        return f"{self.where}: row {number}"


def hub(path: str, image: str | None, label: str | None) -> tuple[Found, Sequence[str] | None, str]:
    """Open what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` of Hugging Face's datasets wrote.

    Args:
        path: The folder.
        image: Name of the column with images; None for the first one of that type.
        label: Name of the column with labels; None for the first one of classes.

    Returns:
        As `tables`.

    Raises:
        InputError: Where the package is missing, the folder is no such data set, or a column is not there.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "data.name = 'huggingface' needs the package datasets: pip install 'paretoray[datasets]'; Parquet files are read "
            "without it, with data.name=parquet"
        ) from error
    root = Path(path).expanduser()
    try:
        opened = datasets.load_from_disk(str(root))
    except Exception as error:  # the package raises many kinds for what is no data set
        raise InputError(
            f"data.path = {path!r} is not what save_to_disk writes ({error}); files may be data.name=parquet"
        ) from error
    parts = dict(opened) if isinstance(opened, Mapping) else {"train": opened}
    found: Found = {}
    names: Sequence[str] | None = None
    for split, data in parts.items():
        if (part := part_of(str(split)) if len(parts) > 1 else "train") is None:
            continue
        features = data.features
        image = image or next((c for c, f in features.items() if isinstance(f, datasets.Image)), None)
        label = label or next((c for c, f in features.items() if isinstance(f, datasets.ClassLabel)), None)
        image = _named(list(features), image, IMAGES, "image", root)
        label = _named(list(features), label, LABELS, "label", root)
        names = names or getattr(features[label], "names", None)
        labels = np.asarray(data.with_format("numpy", columns=[label])[label])
        raw = data.cast_column(image, datasets.Image(decode=False)).with_format(None)
        found[part] = HubRows(raw.select_columns([image]), image, f"{root}/{split}" if len(parts) > 1 else str(root)), labels
    if "train" not in found:
        raise InputError(f"data.path = {path!r} has the splits {', '.join(map(str, parts))}, and none to train on")
    return found, names, f"images in {image}, labels in {label}"
