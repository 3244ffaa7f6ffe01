"""Model card of an exported network: what it is, how good, what it costs, and how to use it."""

from __future__ import annotations

import json
import platform
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis import front_table, records
from orchestrator.data.preprocessing import Preprocessing
from orchestrator.export.body import literal
from orchestrator.export.formats import Written, input_names
from orchestrator.machine import processor
from orchestrator.runs.directory import EXPERIMENT
from orchestrator.runs.networks import TrainedNetwork
from orchestrator.spaces.parts.inputs import Shapes, Tokens, arguments, in_words, noun, zeros
from orchestrator.tasks.classification import Classification

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
import network

model = network.load()
outputs = model({call})
print({reading})""",
    "onnx": """\
import onnxruntime, preprocess

session = onnxruntime.InferenceSession("network.onnx")
(outputs,) = session.run(None, {call})
print({reading})""",
    "pt2": """\
import torch, preprocess

model = torch.export.load("network.pt2").module()
outputs = model({call})
print({reading})""",
}
"""Ways to use each format, to be completed by `_used`."""


def facts(network: TrainedNetwork, titles: Mapping[str, str]) -> list[str]:
    """Describe a network and its costs in a few lines.

    Args:
        network: The network.
        titles: Title of each objective, with its unit, by column.
    """
    return [*description(network), *(f"{title[:1].upper()}{title[1:]}: {text}" for title, text in costs(network, titles))]


def description(network: TrainedNetwork) -> list[str]:
    """Describe a network: notation, shapes and size."""
    settings = ", ".join(f"{key} = {value}" for key, value in network.origin.settings.items())
    architecture, shape = network.space.parse(network.arch), network.preprocess.shape
    parameters, macs = network.space.parameters(architecture), network.space.macs(architecture)
    outputs = (len(network.classes), *(shape[1:] if network.task.maps else ()))
    return [
        f"Architecture: {network.arch}",
        f"Space: {network.origin.space}{f' with {settings}' if settings else ''}",
        f"Input: {_shaped(shape)}, from `preprocess`",
        f"Output: (batch, {', '.join(map(str, outputs))}) {network.task.meaning}",
        f"Size: {parameters:,} parameters, {macs:,} multiplications (MACs) for one {noun(shape)}",
    ]


def _shaped(shape: tuple[int, ...]) -> str:
    """Write the shape and the type of a batch."""
    if isinstance(shape, Shapes):
        return " and ".join(f"{title} {_shaped(each)}" for title, each in zip(shape.titles, shape, strict=True))
    return f"(batch, {', '.join(map(str, shape))}) {'int64' if isinstance(shape, Tokens) else 'float32'}"


def costs(network: TrainedNetwork, titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """List the costs of a member, test error first, as titles and values."""
    row = network.costs
    listed: list[tuple[str, str]] = []
    test = records.tested_by(row)
    if test.value in row:
        low, high, images = (row.get(key) for key in (test.low, test.high, records.TEST_IMAGES))
        text = front_table.number(test.value, row[test.value])
        if low is not None and high is not None:
            ends = " to ".join(front_table.number(test.value, end) for end in (low, high))
            text += f" ({ends}, {records.CONFIDENCE:.0%} interval)"
        listed.append(
            (
                front_table.test_title(next(iter(titles.values()), "error (%)")),
                text + (f" on {images:,.0f} {examples_of(network)}" if images is not None else ""),
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
        f"{_kind(network)}, found by a search over {network.origin.space} and then {_how(network)[0]}.",
        "",
        "## Use",
        "",
        *(text for name in _USE if name in written for text in (_used(name, network), "")),
        "## Figures",
        "",
        "| figure | value |",
        "| --- | --- |",
        *(f"| {_cell(title)} | {value} |" for title, value in costs(network, titles)),
        *_trained(network),
        "",
        f"The test {examples_of(network)} were used for this test alone. A figure holds for {examples_of(network)} like them.",
        "",
        "## Files",
        "",
        "| file | tried against the trained network |",
        "| --- | --- |",
        *(
            f"| {', '.join(f'`{file}`' for file in found.files)} | {tried(found, network, titles)} |"
            for found in written.values()
        ),
        f"| `preprocess.py` | preprocessing and names of {network.task.named} without torch |",
        *(f"| ({name}) | not written: {_cell(reason)} |" for name, reason in refused.items()),
        "",
        "## Network",
        "",
        *(f"- {line}" for line in description(network)),
        "",
        f"## Preprocessing and {network.task.named}",
        "",
        *_preprocessing(network),
        "",
        "## Data",
        "",
        *_data(section, directory, examples_of(network)),
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
    said = ((records.EPOCHS, f"epochs of {_how(network)[1]}"), (records.SEEDS, "seeds of this training"))
    return [f"| {title} | {row[key]:,.0f} |" for key, title in said if key in row]


def _how(network: TrainedNetwork) -> tuple[str, str]:
    """Say how a network was trained: a participle, and a name."""
    summary = {records.FINE_TUNED: network.space.pretrained}
    return records.trained(summary), records.training(summary)


def examples_of(network: TrainedNetwork) -> str:
    """Name what a network takes: images, signals, rows or sequences."""
    return f"{noun(network.preprocess.shape)}s"


def _kind(network: TrainedNetwork) -> str:
    """Say what a network does."""
    count, task = len(network.classes), network.task
    if isinstance(task, Classification):
        return f"A classifier of {examples_of(network)} into {count} classes"
    of = "one target" if (count, task.named) == (1, "targets") else f"{count} {task.named}"
    return f"A network for {task.name} of {in_words(network.preprocess.shape)}, with {of}"


def _used(name: str, network: TrainedNetwork) -> str:
    """Write how a format is used, as a block of Python."""
    shape, task = network.preprocess.shape, network.task
    module = "network" if name == "network" else "preprocess"
    reading = "outputs" if task.formula is None else f"{module}.predict(outputs)[0]"
    if isinstance(task, Classification):
        reading = f"{module}.CLASSES[int(outputs.argmax())]"
    example = _example(shape)
    read = f"{module}.preprocess({example})"
    if isinstance(shape, Shapes):
        text = _USE[name].format(call=_call(name, network, "example"), reading=reading)
        text = re.sub(r"^(?=\(?outputs)", f"example = {read}\n", text, count=1, flags=re.MULTILINE)
    else:
        text = _USE[name].format(call=_call(name, network, read), reading=reading)
    imports = [line for word, line in (("np.", "import numpy as np"), ("Image.", "from PIL import Image")) if word in example]
    return "\n".join(["```python", *imports, text, "```"])


def _example(shape: tuple[int, ...], name: str = "") -> str:
    """Write how an example is read."""
    if isinstance(shape, Shapes):
        parts = [_example(each, title) for title, each in zip(shape.titles, shape, strict=True)]
        pairs = (f"{literal(title)}: {part}" for title, part in zip(shape.titles, parts, strict=True))
        return f"({', '.join(parts)})" if shape.names is None else f"{{{', '.join(pairs)}}}"
    name = name or noun(shape)
    return f'Image.open("{name}.png")' if noun(shape) == "image" else f'np.load("{name}.npy")'


def _call(name: str, network: TrainedNetwork, example: str) -> str:
    """Write the argument of a network in a format that makes a batch of a preprocessed example."""
    shape, names = network.preprocess.shape, input_names(network.preprocess.shape)
    each = "torch.from_numpy(x[None])" if name == "pt2" else "x[None]"
    if not isinstance(shape, Shapes):
        batch = each.replace("x", example, 1) if name != "pt2" else f"torch.from_numpy({example}[None])"
        return f'{{"{names[0]}": {batch}}}' if name == "onnx" else batch
    if shape.names is not None:
        batch = f"{{name: {each} for name, x in {example}.items()}}"
    elif name == "onnx":
        batch = f'{{f"input{{i}}": {each} for i, x in enumerate({example})}}'
    else:
        batch = f"({each} for x in {example})"
    if name == "onnx":
        return batch
    args, kwargs = arguments(network.network, zeros(1, shape))
    alone = not kwargs and len(args) == 1
    return (f"tuple{batch}" if shape.names is None else batch) if alone else f"{'**' if kwargs else '*'}{batch}"


def tried(found: Written, network: TrainedNetwork, titles: Mapping[str, str]) -> str:
    """Say how a file did against the network, as a clause."""
    said = [] if found.difference is None else [f"{_outputs(network)} differ by {found.difference:.1e} at most"]
    values, test = found.facts, records.tested_by(found.facts).value
    if test in values:
        title = front_table.test_title(next(iter(titles.values()), "error (%)"))
        unit, exact = front_table.unit_of(title), values[f"float_{test}"]
        numbers = [" ".join(filter(None, [front_table.number(test, value), unit])) for value in (values[test], exact)]
        said.append(
            f"{front_table.name_of(title)} {numbers[0]} in place of {numbers[1]}, on {values[records.TEST_IMAGES]:,} "
            f"{examples_of(network)}"
        )
    if "latency_ms" in values:
        said.append(
            f"{values['latency_ms']:.3g} ms for one {noun(network.preprocess.shape)} (interquartile range "
            f"{values['latency_iqr_ms']:.2g}) in ONNX Runtime with one thread on {processor()}"
        )
    return "; ".join([*said, *([values["batch"]] if "batch" in values else [])])


def _outputs(network: TrainedNetwork) -> str:
    return "scores" if network.task.named in ("classes", "labels") else "outputs"


def _preprocessing(network: TrainedNetwork) -> list[str]:
    preprocess, task = network.preprocess, network.task
    learned = [f"- {key} of the training targets: {json.dumps(value, default=repr)}" for key, value in task.learned.items()]
    each = [(f"{title}: ", one) for title, (_, one) in zip(_titles(preprocess), preprocess.inputs, strict=True)]
    return [
        *(line for title, one in each or [("", preprocess)] for line in _prepared(title, one)),
        f"- {task.named}, in the order of the {_outputs(network)}: {', '.join(map(_cell, network.classes))}",
        *learned,
        *_predictions(network),
        "",
        "The same is in the metadata of the files as `preprocessing.json`.",
    ]


def _titles(preprocess: Preprocessing) -> Sequence[str]:
    return preprocess.shape.titles if isinstance(preprocess.shape, Shapes) else ()


def _prepared(title: str, preprocess: Preprocessing) -> list[str]:
    """Say what becomes of one input, after its title."""
    shape = preprocess.shape
    if isinstance(shape, Tokens):
        said = f"A sequence of {shape[0]} tokens from 0 to {shape.vocabulary - 1}, as they are."
    elif noun(shape) != "image":
        over = "channel" if len(shape) == 2 else "column"
        size = " x ".join(map(str, shape))
        said = f"Numbers of shape {size} in their own unit are normalised: minus the {over}'s mean, over its deviation."
    else:
        channels, height, width = shape
        kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
        fit = _FITS.get(preprocess.fit, preprocess.fit)
        said = (
            f"An image is turned upright by its EXIF tag, converted to {kind} of 8 bits a channel, resized to {width} x "
            f"{height} pixels (bilinear; {fit}), divided by 255, and normalised: minus the mean, over the deviation."
        )
    moments = [f"- mean: {json.dumps(preprocess.mean)}", f"- deviation: {json.dumps(preprocess.std)}"]
    end = [""] if title and not isinstance(shape, Tokens) else []
    return [f"{title}{said}", "", *([] if isinstance(shape, Tokens) else moments), *end]


def _predictions(network: TrainedNetwork) -> list[str]:
    """Say how outputs become predictions, where that is not in the files."""
    if network.task.formula is not None:
        return []
    return [f"- predictions: `{network.task.name}` computes them from the outputs, in its method `predict`"]


def _data(section: Mapping[str, Any], directory: Path, examples: str) -> list[str]:
    name = str(section.get("name"))
    settings = ", ".join(f"{key} = {value}" for key, value in section.items() if key != "name")
    lines = [f"- {examples}: {name} ({settings})", f"- licence: {_licence(name, section)}"]
    try:
        counts = json.loads((directory / records.SUMMARY).read_text())["data"]
        lines.insert(1, f"- trained on {counts['train'] + counts['valid']:,} {examples}, tested on {counts['test']:,} others")
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return lines


def _licence(name: str, section: Mapping[str, Any]) -> str:
    """Name the licence of the data: a known one, or the file beside the images."""
    if name in LICENCES:
        return LICENCES[name]
    folder = Path(str(section.get("path", "")))
    found = sorted(folder.glob("LICEN[CS]E*")) if "path" in section and folder.is_dir() else []
    return f"see {found[0].name} in the folder of the images" if found else "not known; ask who made the data"


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
