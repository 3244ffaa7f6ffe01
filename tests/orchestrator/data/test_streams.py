"""Streams: the images and records of memory, in any order, from any process, and processes that end."""

import io
import json
import os
import pickle
import signal
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from orchestrator.config.plan import SearchPlan
from orchestrator.data import dataset, images, inspection, loaders
from orchestrator.data.dataset import Batches, Dataset
from orchestrator.data.feed import Feed
from orchestrator.data.folders import Folder, Listing
from orchestrator.data.images import Form, Paths
from orchestrator.data.stream import Encoded
from orchestrator.errors import InputError, RunError
from orchestrator.runs.estimate import estimate
from orchestrator.training.parts import Parts
from orchestrator.training.trainer import retrain
from tests.helpers import run, timeless, tiny_plan

EACH = 24


def photograph(rng: np.random.Generator) -> Image.Image:
    """An image that is smooth, not square, and different from all others."""
    corners = rng.integers(0, 255, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(corners).resize((40, 30), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for i in range(EACH):
            photograph(rng).save(root / name / f"{i}.jpg")
    photograph(rng).convert("L").save(root / "cat" / "grey.jpg")
    photograph(rng).convert("P").save(root / "cat" / "palette.png")
    exif = Image.Exif()
    exif[274] = 6
    photograph(rng).save(root / "dog" / "turned.jpg", exif=exif)
    return root


def load(name: str = "folder", /, **keywords: Any) -> Dataset:
    return loaders.load(loaders.component(name, {"size": 16, "decoders": 1, **keywords}))


@pytest.fixture(autouse=True)
def all_ended() -> Iterator[None]:
    yield
    for child in active_children():
        child.join(5)
    assert not active_children()


def test_a_stream_has_the_images_of_memory_in_any_order(photos: Path) -> None:
    memory, stream = load(path=str(photos), stream=False), load(path=str(photos), stream=True)
    assert stream.train.streamed and not memory.train.streamed
    assert (memory.mean, memory.std, memory.image) == (stream.mean, stream.std, stream.image)
    for size in (None, 8):
        kept, shown = (d.smaller(size, 0.5) if size else d for d in (memory, stream))
        for name in ("train", "valid", "test"):
            assert torch.equal(getattr(kept, name).images, getattr(shown, name).images[:]), name
            assert torch.equal(getattr(kept, name).labels, getattr(shown, name).labels)
    order = Batches(len(memory.train), 4, (1,))
    ahead, gathered = Feed(stream.train, order), Feed(memory.train, order)
    for step in (0, 1, 2, 3, 6, 9, 12, 2, 2, 40):
        for decoded, expected in zip(ahead[step], gathered[step], strict=True):
            assert torch.equal(decoded, expected), step
    halves = [Feed(stream.train, order, (rank, 2))[5] for rank in range(2)]
    assert torch.equal(halves[1][0], gathered[5][0][1::2]) and torch.equal(halves[0][1], gathered[5][1][::2])
    joined = stream.train.joined(stream.valid)
    assert torch.equal(joined.images[:], torch.cat([memory.train.images, memory.valid.images]))  # type: ignore[list-item]


def test_random_crops_depend_on_seed_batch_and_share_alone(photos: Path) -> None:
    data = load(path=str(photos), resized_crop=0.1)
    assert data.train.streamed and data.crop == 0 and data.resized_crop == 0.1
    order, images = Batches(len(data.train), 6, (1,)), data.train.images
    here = replace(data.train, images=replace(images, decoders=0))  # type: ignore[type-var]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, other = Feed(data.train, order, crop=0.1, seed=(5,)), Feed(here, order, crop=0.1, seed=(5,))
    for step in (4, 5, 1):
        assert torch.equal(one[step][0], other[step][0]) and one[step][0].shape == (6, 3, 16, 16)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(one[1][0], Feed(here, order, crop=0.1, seed=(6,))[1][0])
    assert not torch.equal(one[1][0], Feed(here, order)[1][0])


@pytest.mark.parametrize(("most", "streamed"), [(10**9, False), (1000, True)])
def test_what_does_not_fit_is_streamed_and_said_to_be(
    photos: Path, monkeypatch: pytest.MonkeyPatch, most: int, streamed: bool, tmp_path: Path
) -> None:
    monkeypatch.setattr(dataset, "memory", lambda: most)
    data = load(path=str(photos))
    assert data.train.streamed == streamed
    said = inspection.words(data)["memory"]
    assert said.startswith("streamed" if streamed else "39.2 KB, read into memory")
    assert all(path.exists() for path in inspection.draw(data, tmp_path)) and not inspection.doubts_about(data)


SEARCH: dict[str, Any] = {
    "training": {"batch": 6, "valid_batch": 8, "valid_images": 16, "statistics": "recalibrated", "recalibration": 2},
    "searcher": {"name": "random-search", "samples": 2},
    "budget": {"epochs": 4, "interval": 3, "validate": 2},
}


def plan_of(photos: Path, **keywords: Any) -> SearchPlan:
    data = {"name": "folder", "path": str(photos), "size": 8, "limit": None, "decoders": 1, **keywords}
    return tiny_plan(data={k: v for k, v in data.items() if v is not None}, **SEARCH)


@pytest.mark.long
def test_a_killed_search_on_a_stream_goes_on_to_the_records_of_memory(photos: Path, tmp_path: Path) -> None:
    records = {}
    for name, stopped, keywords in (
        ("memory", False, {"stream": False}),
        ("stream", True, {"stream": True}),
        ("crops", False, {"resized_crop": 0.2}),
        ("crops, stopped", True, {"resized_crop": 0.2}),
    ):
        if stopped:
            run(plan_of(photos, **keywords), tmp_path / name, 2)  # nothing is left of it but its files
            records["first rounds"] = timeless(tmp_path / name)
        run(plan_of(photos, **keywords), tmp_path / name)
        records[name] = timeless(tmp_path / name)
    assert records["memory"] == records["stream"]
    assert records["memory"] != records["crops"] == records["crops, stopped"] != records["first rounds"]


def test_retraining_and_dry_run_on_a_stream(photos: Path) -> None:
    results = []
    for keywords in ({"stream": False}, {"stream": True}):
        plan = plan_of(photos, **keywords)
        network = plan.problem.space.network((3,) * 6)
        results.append(retrain(network, (3,) * 6, plan.problem.data, Parts(epochs=1, batch=8), seed=1))
    assert results[0] == results[1]
    network = plan.problem.space.network((3,) * 6)
    cropped = retrain(network, (3,) * 6, plan.problem.data, Parts(epochs=1, batch=8, resized_crop=0.3), seed=1)
    assert cropped["train_loss"] != results[0]["train_loss"]
    assert "streamed from where it lies" in estimate(plan).words["memory"]


def test_a_damaged_file_ends_the_search_with_its_name(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "LOOKED_AT", 1)  # or it would be found while the data is looked at
    root = tmp_path / "photos"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for file in (photos / name).iterdir():
            (root / name / file.name).write_bytes(file.read_bytes())
    plan = plan_of(root, resized_crop=0.2)
    for file in root.glob("*/*1.jpg"):
        file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match=r"1\.jpg is not a readable image .*; repair it or take it away"):
        run(plan, tmp_path / "run")
    with pytest.raises(InputError, match=r"1\.jpg is not a readable image"):
        Feed(plan.problem.data.train, [np.arange(len(plan.problem.data.train))])[0]


def test_decoders_outlive_signals_and_end_with_their_feed(photos: Path) -> None:
    data = load(path=str(photos), stream=True)
    feed = Feed(data.train, Batches(len(data.train), 2, (0,)))
    first = feed[0][0]
    (child,) = active_children()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child.pid, number)  # type: ignore[arg-type]  # as Ctrl-C and batch systems send them to a whole group
    assert torch.equal(feed[0][0], first) and len(feed[7][1]) == 2 and child.is_alive()
    os.kill(child.pid, signal.SIGKILL)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"a process that decodes images died .*; if memory or /dev/shm is short"):
        for step in range(8, 30):
            feed[step]
    assert not active_children()
    assert torch.equal(feed[0][0], first)  # it begins again
    del feed
    assert not active_children()


def encoded(root: Path) -> list[tuple[str, bytes, str]]:
    return [(f"{f.parent.name}-{f.stem}", f.read_bytes(), f.parent.name) for f in sorted(root.rglob("*.jpg"))]


def as_shards(photos: Path, root: Path, kind: str) -> Path:
    (root / "shards").mkdir()
    for part, which in (("train", slice(0, None, 2)), ("val", slice(1, None, 2))):
        with tarfile.open(root / "shards" / f"{part}-0000.tar", "w") as tar:
            for key, contents, label in encoded(photos)[which]:
                text = label if kind == "cls" else json.dumps({"label": label})
                for suffix, data in (("jpg", contents), (kind, text.encode())):
                    member = tarfile.TarInfo(f"./{key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return root / "shards"


def as_table(photos: Path, root: Path, suffix: str) -> Path:
    (root / "tables").mkdir()
    for part, which in (("train", slice(0, None, 2)), ("val", slice(1, None, 2))):
        keys, contents, labels = zip(*encoded(photos)[which], strict=True)
        images = [{"bytes": data, "path": key} for key, data in zip(keys, contents, strict=True)]
        table = pa.table({"image": images, "label": [int(label == "dog") for label in labels]})
        features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        file = root / "tables" / f"{part}-00000-of-00001.{suffix}"
        if suffix == "parquet":
            pq.write_table(table, file, row_group_size=7)
        else:
            with pa.ipc.new_stream(str(file), table.schema) as writer:
                writer.write_table(table, max_chunksize=5)
    return root / "tables"


@pytest.mark.parametrize("kind", ["cls", "json", "parquet", "arrow"])
def test_archives_and_tables_hold_the_images_of_a_folder(photos: Path, tmp_path: Path, kind: str) -> None:
    if kind in ("cls", "json"):
        path, name, more = as_shards(photos, tmp_path, kind), "webdataset", {"label": kind if kind == "cls" else "label"}
    else:
        path, name = as_table(photos, tmp_path, kind), "parquet"
        more = {"cache": str(tmp_path / "cache")} if kind == "parquet" else {}
    memory, stream = (load(name, path=str(path), stream=s, **more) for s in (False, True))
    assert memory.classes == ("cat", "dog") and len(memory.train) + len(memory.valid) + len(memory.test) == 2 * EACH + 2
    folder = load(path=str(photos), stream=False)
    expected = {bytes(i.numpy()) for p in (folder.train, folder.valid, folder.test) for i in p.images[:]}
    for part in ("train", "valid", "test"):
        images = getattr(memory, part).images
        assert torch.equal(images, getattr(stream, part).images[:])
        assert {bytes(image.numpy()) for image in images} <= expected
    feed = Feed(stream.valid, Batches(len(stream.valid), 4, (0,)))
    assert feed[1][0].shape == (4, 3, 16, 16)
    stored = stream.train.images.source.store  # type: ignore[union-attr]
    assert "cat-" in stored.name(0) if name == "webdataset" else stored.name(3).endswith("row 3")


def empty_tar(root: Path) -> dict[str, Any]:
    tarfile.open(root / "a.tar", "w").close()
    return {"name": "webdataset", "path": str(root)}


def compressed(root: Path) -> dict[str, Any]:
    with tarfile.open(root / "a.tar.gz", "w:gz") as tar:
        tar.add(__file__, "a.jpg")
    return {"name": "webdataset", "path": str(root)}


def unlabelled(root: Path) -> dict[str, Any]:
    with tarfile.open(root / "a.tar", "w") as tar:
        tar.add(__file__, "a.jpg")
    return {"name": "webdataset", "path": str(root)}


def broken(root: Path) -> dict[str, Any]:
    (root / "a.parquet").write_bytes(b"x" * 99)
    return {"name": "parquet", "path": str(root), "cache": str(root / "cache")}


def columns(root: Path) -> dict[str, Any]:
    pq.write_table(pa.table({"photo_file": ["a.jpg"], "label": [1]}), root / "a.parquet")
    return {"name": "parquet", "path": str(root), "cache": str(root / "cache")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty_tar, r"a\.tar has no images with a label; members of an example are named KEY\.jpg and KEY\.cls"),
        (compressed, r"a\.tar\.gz is not a plain tar file .*; images in a compressed one cannot be read in any order"),
        (unlabelled, r"a has an image and no label; add a member a\.cls"),
        (broken, r"a\.parquet cannot be read .*; repair it or take it away"),
        (columns, r"has the columns photo_file, label; write data\.image=COLUMN"),
        (lambda root: {"name": "parquet", "path": str(root)}, r"there is no file \*\.parquet or"),
        (lambda root: {"name": "webdataset", "path": "/nowhere"}, r"'/nowhere': there is no file \*\.tar"),
        (lambda root: {"name": "digits", "stream": True}, "data.stream = true: this data is in memory as it comes"),
        (lambda root: {"name": "digits", "resized_crop": 0.1}, r"data\.resized_crop = 0\.1: this data is in memory"),
        (lambda root: {"name": "digits", "resized_crop": 1.5}, r"data\.resized_crop = 1\.5: it is a share"),
        (lambda root: {"name": "digits", "decoders": -1}, r"data\.decoders = -1; it is a number of processes"),
        (lambda root: {"name": "digits", "resized_crop": 0.1, "stream": False}, "leave one of them out"),
    ],
)
def test_what_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    given = make(tmp_path)
    with pytest.raises(InputError, match=message):
        loaders.load(loaders.component(given.pop("name"), given))


def test_what_depends_on_all_images_is_not_streamed(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.channels = 'auto' looks at every image.*; write data\.channels=1 or"):
        load(path=str(photos), stream=True, channels="auto")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(np.full((8, 8), 1000 * i, dtype=np.uint16)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(InputError, match=r"more than 8 bits a channel; .* so write data\.stream=false"):
        load(path=str(tmp_path), stream=True)


def test_a_listing_is_the_list_of_its_paths() -> None:
    names = [["b.jpg", "é.png"], [], ["a.jpg", os.fsdecode(b"\xff.png"), "c.jpg"]]
    listing = Listing(Folder((str(i),), f"/x/{i}", n) for i, n in enumerate(names))
    paths = [Path("/x", str(i), name) for i, listed in enumerate(names) for name in listed]
    assert list(listing) == paths and listing[-1] == paths[-1] and listing[1:3] == paths[1:3] and len(listing) == 5
    with pytest.raises(IndexError):
        listing[5]


def test_hugging_face_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the package datasets: pip install 'paretoray\[datasets\]'"):
        load("huggingface", path="/nowhere")


def test_a_data_set_of_hugging_face(photos: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = encoded(photos)
    columns = {"image": [{"bytes": data, "path": None} for _, data, _ in rows], "label": [label for _, _, label in rows]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "hub"))
    memory, stream = (load("huggingface", path=str(tmp_path / "hub"), stream=s) for s in (False, True))
    assert memory.classes == ("cat", "dog") and torch.equal(memory.train.images, stream.train.images[:])  # type: ignore[arg-type]
    assert len(Feed(stream.train, Batches(len(stream.train), 4, (0,)))[0][1]) == 4
    with pytest.raises(InputError, match="is not what save_to_disk writes"):
        load("huggingface", path=str(tmp_path))


class Counted(torch.utils.data.Dataset[Any]):
    """People's own data set, which counts how often each item was read."""

    classes = ("cat", "dog")
    read: dict[int, int] = {}  # noqa: RUF012

    def __init__(self, form: str, targets: bool) -> None:
        rng = np.random.default_rng(1)
        self.images = [photograph(rng) for _ in range(60)]
        self.form = form
        if targets:
            self.targets = [i % 2 for i in range(60)]

    def __len__(self) -> int:
        return 60

    def __getitem__(self, number: int) -> Any:
        self.read[number] = self.read.get(number, 0) + 1
        image = self.images[number]
        array = torch.from_numpy(np.array(image))
        forms = {"pillow": image, "bytes": array, "unit": array.permute(2, 0, 1) / 255, "normal": array / 100 - 1}
        return forms[self.form], number % 2


def counted(form: str = "pillow", targets: bool = True) -> Counted:
    Counted.read = {}
    return Counted(form, targets)


def give(**keywords: Any) -> Dataset:
    return loaders.load(loaders.component(f"{__name__}:counted", {"decoders": 1, **keywords}))


@pytest.mark.parametrize("targets", [True, False])
def test_a_limit_reads_no_more_items_than_it_keeps(targets: bool) -> None:
    data = give(targets=targets, limit=8)
    kept = len(data.train) + len(data.valid)
    assert not data.train.streamed and (kept == 8 if targets else 4 <= kept <= 8)  # those that are drawn may be of one class
    # Those that tell the shape, three that check labels; without these, the share that is drawn before classes are known.
    assert len(Counted.read) <= 32 + len(data.test) + 8 + 3
    assert torch.bincount(torch.cat([data.train.labels, data.valid.labels])).min() >= 2
    assert ("limit" in data.notes) != targets


@pytest.mark.parametrize("form", ["pillow", "bytes", "unit"])
@pytest.mark.parametrize("targets", [True, False])
def test_a_data_set_of_a_function_is_streamed(form: str, targets: bool) -> None:
    memory, stream = (give(form=form, targets=targets, stream=s) for s in (False, True))
    assert stream.train.streamed and stream.classes == ("cat", "dog") and memory.std == stream.std
    for part in ("train", "valid", "test"):
        assert torch.equal(getattr(memory, part).images, getattr(stream, part).images[:])
        assert torch.equal(getattr(memory, part).labels, getattr(stream, part).labels)
    assert torch.equal(
        Feed(stream.train, Batches(len(stream.train), 4, (0,)))[3][0],
        Feed(memory.train, Batches(len(stream.train), 4, (0,)))[3][0],
    )


def test_a_streamed_data_set_is_made_again_in_another_process() -> None:
    data = give(stream=True)
    sent = pickle.dumps(data.train)
    assert len(sent) < 5000  # without its items
    assert torch.equal(pickle.loads(sent).images[:], data.train.images[:])


def test_arrays_whose_scale_is_unknown_are_not_streamed() -> None:
    with pytest.raises(InputError, match=r"not uint8, nor fractions from 0 to 1; .* or write data\.stream=false"):
        give(form="normal", stream=True)


PHOTO = np.random.default_rng(3).integers(0, 255, (6, 9, 3)).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def turned(orientation: int) -> bytes:
    note = Image.Exif()
    note[0x0112] = orientation
    return jpeg(exif=note)


def jpeg(mode: str = "RGB", **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PHOTO).convert(mode).save(file, "JPEG", quality=95, **how)
    return file.getvalue()


def png(mode: str = "RGBA") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.dstack([PHOTO, PHOTO[..., 0]])).convert(mode).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("contents", "plain"),
    [
        *((turned(orientation), True) for orientation in range(1, 9)),
        (jpeg(progressive=True), True), (jpeg("L"), True), (jpeg(comment=b"x" * 60_000), True),
        (jpeg("CMYK"), False), (png(), False), (png("RGB"), False), (jpeg()[:2] + b"\xff" + jpeg()[2:], False),
        (jpeg()[:2] + b"\xff\xd0" + jpeg()[2:], False),
    ],
)  # fmt: skip
def test_files_are_cropped_as_pillow_reads_them(contents: bytes, plain: bool, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(contents)
    source = Encoded(Paths([tmp_path / "a.jpg"]), Form(8, channels=3))
    with images.opened(source.store, 0) as (image, encoded):
        wanted = images.decode(image, Form(channels=3), encoded).pixels.transpose(2, 0, 1).astype(int)
    assert images.is_plain_jpeg(contents) == plain
    found = source.full(0).numpy()
    assert found.shape == (3, *wanted.shape[1:]) and np.abs(found - wanted).max() <= 3  # decoders may round differently


HEADER = jpeg().index(b"\xff\xc0") + 5
WRONG = {
    "cut.jpg": (jpeg()[:-400], "not a readable image"),
    "noise.jpg": (jpeg()[:HEADER] + bytes(200), "not a readable image"),
    "bomb.jpg": (
        jpeg()[:HEADER] + b"\xff\xff\xff\xff" + jpeg()[HEADER + 4 :],
        "too many pixels|not a readable image .*exceeds limit",
    ),
    "no.jpg": (b"\xff\xd8\xff", "not a readable image"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_cannot_be_cropped_are_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WRONG[name][0])
    source = Encoded(Paths([tmp_path / name]), Form(8, channels=3))
    with images.strictly(), pytest.raises(InputError, match=f"{name} .*({WRONG[name][1]})"):
        source.full(0)
