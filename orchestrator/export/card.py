"""Model card of an exported network: what it is, how good, what it costs, and how to use it."""

from __future__ import annotations

import json
import platform
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis import front_table, records
from orchestrator.export.formats import Written
from orchestrator.machine import processor
from orchestrator.runs.directory import EXPERIMENT
from orchestrator.runs.networks import TrainedNetwork

LICENCES = {  # of data whose authors state one
    "digits": "that of UCI's Optical Recognition of Handwritten Digits, see archive.ics.uci.edu/dataset/80",
    "fashion-mnist": "MIT, copyright Zalando SE",
}
_FITS = {
    "squash": "the sides are not kept in proportion",
    "crop": "the longer side is cut",
    "letterbox": "with a border of the background",
}
_PACKAGES = ("paretoray", "torch", "torchvision", "numpy", "pillow", "safetensors", "onnx", "onnxruntime", "onnxscript")
_USE = {
    "network": """\
```python
from PIL import Image
import network

model = network.load()
scores = model(network.preprocess(Image.open("image.png"))[None])
print(network.CLASSES[int(scores.argmax())])
```""",
    "onnx": """\
```python
from PIL import Image
import onnxruntime, preprocess

session = onnxruntime.InferenceSession("network.onnx")
(scores,) = session.run(None, {"images": preprocess.preprocess(Image.open("image.png"))[None]})
print(preprocess.CLASSES[scores.argmax()])
```""",
    "pt2": """\
```python
import torch, preprocess
from PIL import Image

model = torch.export.load("network.pt2").module()
scores = model(torch.from_numpy(preprocess.preprocess(Image.open("image.png"))[None]))
print(preprocess.CLASSES[int(scores.argmax())])
```""",
}


def facts(network: TrainedNetwork, titles: Mapping[str, str]) -> list[str]:
    """Describe a network and its costs in a few lines.

    Args:
        network: The network.
        titles: Title of each objective, with its unit, by column.
    """
    return [*description(network), *(f"{title[:1].upper()}{title[1:]}: {text}" for title, text in costs(network, titles))]


def description(network: TrainedNetwork) -> list[str]:
    """Describe a network: notation, shapes and size."""
    channels, height, width = network.preprocess.shape
    settings = ", ".join(f"{key} = {value}" for key, value in network.origin.settings.items())
    architecture = network.space.parse(network.arch)
    parameters, macs = network.space.parameters(architecture), network.space.macs(architecture)
    return [
        f"Architecture: {network.arch}",
        f"Space: {network.origin.space}{f' with {settings}' if settings else ''}",
        f"Input: (batch, {channels}, {height}, {width}) float32, from `preprocess`",
        f"Output: (batch, {len(network.classes)}) scores before softmax, in the order of CLASSES",
        f"Size: {parameters:,} parameters, {macs:,} multiplications (MACs) for one image",
    ]


def costs(network: TrainedNetwork, titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """List the costs of a member, test error first, as titles and values."""
    row = network.costs
    listed: list[tuple[str, str]] = []
    test = records.tested_by(row)
    if test.value in row:
        low, high, images = (row.get(key) for key in (test.low, test.high, records.TEST_IMAGES))
        text = f"{row[test.value]:.2f}"
        if low is not None and high is not None:
            text += f" ({low:.2f} to {high:.2f}, {records.CONFIDENCE:.0%} interval)"
        listed.append(
            (
                front_table.test_title(next(iter(titles.values()), "error (%)")),
                text + (f" on {images:,.0f} images" if images is not None else ""),
            )
        )
    for index, (column, title) in enumerate(titles.items()):
        if column not in row:
            continue
        value = f"{row[column]:,.0f}" if column in records.COUNTS else f"{row[column]:.4g}"
        listed.append((f"{title}, as the search saw it" if not index else title, value))
    return listed


def card(
    network: TrainedNetwork,
    directory: Path,
    command: str,
    titles: Mapping[str, str],
    written: Mapping[str, Written],
    refused: Mapping[str, str],
) -> str:
    """Write the card.

    Args:
        network: The network.
        directory: Its run directory.
        command: The command that exports it.
        titles: Title of each objective, with its unit, by column.
        written: What was written, by format.
        refused: Why a format was not written, by format.
    """
    experiment = (directory / EXPERIMENT).read_text()
    section = tomllib.loads(experiment)["data"]
    lines = [
        f"# Network {network.member} of {directory.name}",
        "",
        f"A classifier of images into {len(network.classes)} classes, found by a search over {network.origin.space} and then "
        "trained from scratch.",
        "",
        "## Use",
        "",
        *(text for name, use in _USE.items() if name in written for text in (use, "")),
        "## Figures",
        "",
        "| figure | value |",
        "| --- | --- |",
        *(f"| {_cell(title)} | {value} |" for title, value in costs(network, titles)),
        *_trained(network),
        "",
        "The test images were used for this test alone. A figure holds for images like them.",
        "",
        "## Files",
        "",
        "| file | tried against the trained network |",
        "| --- | --- |",
        *(f"| {', '.join(f'`{file}`' for file in found.files)} | {tried(found)} |" for found in written.values()),
        "| `preprocess.py` | preprocessing and class names without torch |",
        *(f"| ({name}) | not written: {_cell(reason)} |" for name, reason in refused.items()),
        "",
        "## Network",
        "",
        *(f"- {line}" for line in description(network)),
        "",
        "## Preprocessing and classes",
        "",
        *_preprocessing(network),
        "",
        "## Data",
        "",
        *_data(section, directory),
        "",
        "## Made by",
        "",
        f"`{command}`",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {text} |" for name, text in _versions().items()),
        "",
        "from a search with these settings:",
        "",
        "```toml",
        experiment.rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _trained(network: TrainedNetwork) -> list[str]:
    row = network.costs
    said = ((records.EPOCHS, "epochs of training from scratch"), (records.SEEDS, "seeds of this training"))
    return [f"| {title} | {row[key]:,.0f} |" for key, title in said if key in row]


def tried(found: Written) -> str:
    """Say how a file did against the network, as a clause."""
    said = [] if found.difference is None else [f"scores differ by {found.difference:.1e} at most"]
    values = found.facts
    if "test_error_percent" in values:
        said.append(
            f"test error {values['test_error_percent']:.2f} % in place of {values['float_test_error_percent']:.2f} %, on "
            f"{values['test_images']:,} images"
        )
    if "latency_ms" in values:
        said.append(
            f"{values['latency_ms']:.3g} ms for one image (interquartile range {values['latency_iqr_ms']:.2g}) in ONNX Runtime "
            f"with one thread on {processor()}"
        )
    return "; ".join([*said, *([values["batch"]] if "batch" in values else [])])


def _preprocessing(network: TrainedNetwork) -> list[str]:
    channels, height, width = network.preprocess.shape
    kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    fit = _FITS.get(network.preprocess.fit, network.preprocess.fit)
    return [
        f"An image is turned upright by its EXIF tag, converted to {kind} of 8 bits a channel, resized to {width} x {height} "
        f"pixels (bilinear; {fit}), divided by 255, and normalised: minus the mean, over the deviation.",
        "",
        f"- mean: {json.dumps(network.preprocess.mean)}",
        f"- deviation: {json.dumps(network.preprocess.std)}",
        f"- classes, in the order of the scores: {', '.join(map(_cell, network.classes))}",
        "",
        "The same is in the metadata of the files as `preprocessing.json`.",
    ]


def _data(section: Mapping[str, Any], directory: Path) -> list[str]:
    name = str(section.get("name"))
    settings = ", ".join(f"{key} = {value}" for key, value in section.items() if key != "name")
    lines = [f"- images: {name} ({settings})", f"- licence: {_licence(name, section)}"]
    try:
        counts = json.loads((directory / records.SUMMARY).read_text())["data"]
        lines.insert(1, f"- trained on {counts['train'] + counts['valid']:,} images, tested on {counts['test']:,} others")
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return lines


def _licence(name: str, section: Mapping[str, Any]) -> str:
    """Name the licence of the data: a known one, or the file beside the images."""
    if name in LICENCES:
        return LICENCES[name]
    folder = Path(str(section.get("path", "")))
    found = sorted(folder.glob("LICEN[CS]E*")) if "path" in section and folder.is_dir() else []
    return f"see {found[0].name} in the folder of the images" if found else "not known; ask who made the images"


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cell(text: str) -> str:
    """Write text for a cell of a table, with nothing that Markdown reads as its own."""
    escaped = "".join(f"\\{c}" if c in "|<>*_`[]\\" else c for c in text)
    return " ".join(escaped.split())


def titles_of(directory: Path) -> dict[str, str]:
    """Read the objectives' titles by column; none where there is no summary."""
    try:
        return dict(json.loads((directory / records.SUMMARY).read_text())["objectives"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
