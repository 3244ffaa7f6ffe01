"""Wrong inputs by mutation: settings, tables, devices, image folders, checkpoints, and the files of run directories."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from PIL import Image

from hw_profiles import profile as profiles
from orchestrator.evaluators.tabular import SHIPPED
from orchestrator.runs.directory import EXPERIMENT
from orchestrator.search.checkpoint import FORMAT, SEAL, Checkpoints
from tests.campaign.process import command, run
from tests.campaign.searches import COMMON
from tests.campaign.tally import Tally
from tests.helpers import TINY

WRONG: list[Any] = [
    -1, 0, 1, 2, 10**9, 10**30, int("9" * 600), -0.0, 0.5, 1e-320, 1e308, float("nan"), float("inf"), -float("inf"), "", " ",
    "x", "x" * 5000, "../..", "/dev/null", "a:b", ":", "campaign_trap:run", "é\u202e", "\x1b[31m", True, False, [], [[]],
    ["x"], [1, "x"], [0] * 3000, {}, {"a": 1}, {"name": "x"}, [float("nan")],
]  # fmt: skip
TRAP = "campaign_trap"
"""Module that no command may import because a file of somebody else names it."""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values in nested dicts and lists, those of dicts and lists included."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in list(items)[:40]:
        yield from leaves(item, (*path, key))


def mutate(value: Any, chance: random.Random, wrong: list[Any] = WRONG) -> str:
    """Replace, drop or add a value somewhere in nested dicts and lists, in place, and say what."""
    path = chance.choice(list(leaves(value)))
    place = value
    for key in path[:-1]:
        place = place[key]
    if isinstance(place, tuple):
        return mutate(value, chance, wrong)
    name, how = ".".join(map(str, path)), chance.random()
    if how < 0.15:
        del place[path[-1]]
        return f"without {name}"
    replacement = chance.choice(wrong)
    if how < 0.25 and isinstance(place, dict):
        place[f"{path[-1]}x"] = replacement
        return f"with {name}x = {str(replacement)[:40]!r}"
    place[path[-1]] = replacement
    return f"{name} = {str(replacement)[:40]!r}"


def damage(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Cut, repeat, overwrite or replace bytes."""
    at = chance.randrange(max(1, len(content)))
    how = chance.choice(("cut", "repeat", "overwrite", "empty", "noise", "null"))
    written = chance.choice((b"nan", b"-1", b"1e999", b'"', b",", b"\n", b"\xff\xfe", b"9" * 400))
    pieces = {
        "cut": content[:at],
        "repeat": content[:at] + content[at : at + 200] + content[at:],
        "overwrite": content[:at] + written + content[at + 3 :],
        "empty": b"",
        "noise": chance.randbytes(300),
        "null": content[:at] + b"\0" * 20 + content[at + 20 :],
    }
    return pieces[how], f"{how} at byte {at}"


def settings(folder: Path, chance: random.Random, tally: Tally) -> None:
    """Check an experiment with a wrong value, or a damaged file of one."""
    experiment = json.loads(json.dumps(TINY)) | {"seed": 0}
    experiment["searcher"]["name"] = chance.choice(("tnd-nas", "nsga2", "surrogate-search", "proxyless-r"))
    path = folder / "run.toml"
    if chance.random() < 0.2:
        content, what = damage(tomli_w.dumps(experiment).encode(), chance)
        path.write_bytes(content)
    else:
        what = mutate(experiment, chance)
        try:
            path.write_text(tomli_w.dumps(experiment))
        except (TypeError, ValueError):
            return
    tally.judge("settings", what, run(command("search", path, "--dry-run"), folder / "log"))


def options(folder: Path, chance: random.Random, tally: Tally) -> None:
    """Check an experiment with a wrong value on the command line."""
    key = chance.choice([f"{section}.{k}" for section, values in TINY.items() for k in values])
    value = chance.choice([w for w in WRONG if not isinstance(w, str) or "\0" not in w])
    said = f"{key}={value}"
    tally.judge("options", said[:120], run(command("search", *COMMON, said, "--dry-run"), folder / "log"))


def table(folder: Path, chance: random.Random, tally: Tally) -> None:
    """Compare searchers on a table with damaged bytes, cells, columns or rows."""
    lines = (SHIPPED / "digits-tiny.csv").read_text().splitlines()
    path, what = folder / "table.csv", ""
    how = chance.random()
    if how < 0.3:
        content, what = damage("\n".join(lines).encode(), chance)
        path.write_bytes(content)
    else:
        row = chance.randrange(len(lines))
        cells = lines[row].split(",")
        column = chance.randrange(len(cells))
        if how < 0.8:
            cells[column] = chance.choice(("", "nan", "inf", "-1", "x", "1e400", '"', "9" * 500, "0", "\x00", "é"))
            what = f"row {row}, column {column} = {cells[column][:20]!r}"
        else:
            cells.pop(column)
            what = f"row {row} without column {column}"
        lines[row] = ",".join(cells)
        path.write_text("\n".join([*lines, lines[row]] if how > 0.95 else lines))
    arguments = ["--table", path, "--space", "digits-tiny", "--objectives", "valid_accuracy,parameters", "--searchers"]
    done = run(
        command("bench", *arguments, "random-search", "--budget", "5", "--seeds", "1", "--workers", "1", "--out", folder / "b"),
        folder / "log",
    )
    tally.judge("tables", what, done)


def device(folder: Path, chance: random.Random, tally: Tally) -> None:
    """Compare a device file with a wrong value."""
    source = chance.choice(sorted(profiles.devices().values()))
    path = folder / "device.toml"
    if chance.random() < 0.3:
        content, what = damage(source.read_bytes(), chance)
        path.write_bytes(content)
    else:
        content_of = tomllib.loads(source.read_text())
        what = mutate(content_of, chance)
        try:
            path.write_text(tomli_w.dumps(content_of))
        except (TypeError, ValueError):
            return
    tally.judge("devices", f"{source.stem}, {what}", run(command("devices", path, "pixel3"), folder / "log"))


def images(folder: Path, chance: random.Random, tally: Tally) -> None:
    """Read a folder of images, one of which is damaged or of another kind."""
    photos = folder / "photos"
    rng = np.random.default_rng(chance.randrange(10**6))
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(photos / name / f"{i}.png")
    path = (
        photos
        / chance.choice(("cat", "dog"))
        / f"{chance.randrange(7)}{chance.choice(('.png', '.jpg', '.gif', '.tif', '.webp', '.txt'))}"
    )
    how = chance.choice(("damaged", "mode", "large", "link", "empty class", "name", "folder", "part"))
    whole = (photos / "cat" / "0.png").read_bytes()
    if how == "damaged":
        path.write_bytes(damage(whole, chance)[0])
    elif how == "mode":
        mode = chance.choice(("1", "L", "P", "RGBA", "CMYK", "I", "F", "LAB"))
        with path.with_suffix(".tif").open("wb") as file:
            Image.new(mode, (chance.choice((1, 9, 300)), 7)).save(file, "TIFF")
    elif how == "large":
        Image.new("L", (6000, 3)).save(path.with_suffix(".png"))
    elif how == "link":
        path.unlink(missing_ok=True)
        path.symlink_to(chance.choice((photos, path, Path("/nowhere"))))
    elif how == "empty class":
        (photos / "bird").mkdir()
    elif how == "name":
        shutil.copy(photos / "cat" / "0.png", photos / "cat" / "a\nb\x1b[31m.png")
    elif how == "folder":
        (photos / "cat" / "more" / "1.png").mkdir(parents=True)
    else:
        shutil.move(photos / "dog", photos / "test")
    what = f"{how} {path.name}"
    tally.judge("images", what, run(command("data", photos, "data.size=8"), folder / "log"))


def checkpoint(base: Path, folder: Path, chance: random.Random, tally: Tally) -> None:
    """Resume a run whose checkpoint is whole and has a wrong value."""
    directory = folder / "run"
    shutil.copytree(base, directory)
    path = chance.choice(sorted(directory.glob("**/latest.pt")))
    state = Checkpoints(path.parent).load()
    assert state is not None
    wrong = [*WRONG[:24], torch.zeros(3), torch.full((2, 2), float("nan")), None]
    what = mutate(state, chance, wrong)
    state.setdefault("format", FORMAT)
    with path.open("wb") as file:
        torch.save(state, file)
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.write(SEAL + digest)
    tally.judge("checkpoints", what, run(command("resume", directory), folder / "log"))


def run_files(base: Path, folder: Path, chance: random.Random, tally: Tally) -> None:
    """Resume, report or export a finished run of which a file is damaged, has a wrong value, or is missing."""
    directory = folder / "run"
    shutil.copytree(base, directory)
    files = [p for p in sorted(directory.rglob("*")) if p.is_file() and p.suffix in (".json", ".csv", ".toml", ".pt")]
    path = chance.choice(files)
    what = str(path.relative_to(directory))
    how = chance.random()
    if how < 0.1:
        path.unlink()
        what += " is missing"
    elif how < 0.2:
        path.unlink()
        path.mkdir()
        what += " is a folder"
    elif path.suffix in (".json", ".toml") and how < 0.7:
        content = json.loads(path.read_text()) if path.suffix == ".json" else tomllib.loads(path.read_text())
        what += f": {mutate(content, chance)}" if isinstance(content, dict) and content else ""
        try:
            path.write_text(json.dumps(content) if path.suffix == ".json" else tomli_w.dumps(content))
        except (TypeError, ValueError):
            return
    else:
        content, said = damage(path.read_bytes(), chance)
        path.write_bytes(content)
        what += f": {said}"
    words = chance.choice(
        (
            ["resume"],
            ["report"],
            ["resume"],
            ["retrain", "--members", "1"],
            ["trust", "--networks", "4", "--table", "digits-tiny", "--column", "test_accuracy"],
            ["export"],
        )
    )
    arguments: list[str | Path] = [words[0], directory, *words[1:]]
    if words[0] == "export":
        arguments += ["--out", folder / "exported", "--formats", "network"]
    tally.judge("run directories", f"{words[0]}: {what}", run(command(*arguments), folder / "log"))


def trap(base: Path, folder: Path, chance: random.Random, tally: Tally) -> None:
    """Open a run directory that names a module which its user never named: nothing may be imported."""
    directory, marker = folder / "run", folder / "imported"
    shutil.copytree(base, directory)
    content = tomllib.loads((directory / EXPERIMENT).read_text())
    section = chance.choice(("space", "searcher", "data", "training", "task"))
    content.setdefault(section, {})["name"] = f"{TRAP}:run"
    (directory / EXPERIMENT).write_text(tomli_w.dumps(content))
    (folder / f"{TRAP}.py").write_text(f"open({str(marker)!r}, 'w').close()\n\n\ndef run(**given):\n    pass\n")
    verb = chance.choice(("report", "resume", "trust", "retrain", "export"))
    more = {"retrain": ["--members", "1"], "export": ["--out", folder / "e"]}.get(verb, [])

    def work() -> None:
        import os
        import sys

        os.chdir(folder)
        sys.path.insert(0, str(folder))
        command(verb, directory, *more)()

    ended = run(work, folder / "log")
    tally.judge("code of others", f"{verb}, {section}", ended, wrong=True)
    if marker.exists():
        tally.fault(f"{verb} imported what {section}.name names", ended)


def one(number: int, folder: Path, base: Callable[[bool], Path], chance: random.Random, tally: Tally) -> None:
    """Try an input of one kind, each in turn.

    Args:
        number: Of the input.
        folder: For its files.
        base: Returns a run directory that is finished, or one that is not.
        chance: Decides what is wrong with it.
        tally: Counts it.
    """
    folder.mkdir()
    kinds = [
        lambda: settings(folder, chance, tally),
        lambda: options(folder, chance, tally),
        lambda: table(folder, chance, tally),
        lambda: device(folder, chance, tally),
        lambda: images(folder, chance, tally),
        lambda: checkpoint(base(False), folder, chance, tally),
        lambda: run_files(base(True), folder, chance, tally),
        lambda: trap(base(True), folder, chance, tally),
    ]
    kinds[number % len(kinds)]()
    shutil.rmtree(folder)
