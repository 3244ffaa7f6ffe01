"""Per-operation latency tables as ProxylessNAS and Once-for-all publish them, made into a device's profile.

A table has a latency for each operation at its shapes, height x width x channels, under a key such as
`expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:3-stride:2-idskip:0`, and their code adds up those of a network
(`LatencyEstimator` of ProxylessNAS, `ProxylessNASLatencyTable` and `MBv3LatencyTable` of Once-for-all).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from hw_profiles.profile import Profile, part
from orchestrator.errors import InputError
from orchestrator.evaluators.columns import factor
from orchestrator.objectives.predicted import cost_of
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.choice import Choice, MixedNetwork
from orchestrator.spaces.parts.depthwise import DepthwiseConv2d
from orchestrator.spaces.parts.layers import MBConv, Shortcut

Key = Callable[..., str]

_OPERATIONS = ("Conv", "Conv_1", "Conv_2", "AvgPool2D", "Logits", "expanded_conv")
_KEY = re.compile(rf"({'|'.join(_OPERATIONS)})-input:\d+(x\d+)*-output:\d+(x\d+)*(-\w+:\d+)*")
_SHOWN = 5


def from_operations(path: Path, space: SearchSpace, hardware: str, source: str | None) -> Profile:
    """Make a profile of a per-operation table, whose predictions are the sums that the authors' code gives.

    Args:
        path: The table: YAML, JSON, or text with a key and a latency on each line.
        space: A chain of MBConv blocks.
        hardware: Description of the device.
        source: Origin of the table; None for its name.

    Raises:
        InputError: For a table that cannot be read, a space of another kind, and operations that the table lacks.
    """
    table, unit = read(path)
    expanded = [key for key in table if key.startswith("expanded_conv")]
    once_for_all = bool(expanded) and all("-se:" in key for key in expanded)
    fixed, varying = _keys(space, _mobilenet_v3 if once_for_all else _proxyless)
    wanted = [*fixed, *varying.values()]
    if missing := sorted({key for key in wanted if key not in table}):
        rest = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise InputError(
            f"{path} lacks {len(missing)} of the {len(set(wanted))} operations of {space.name} with images of "
            f"{'x'.join(map(str, space.image))} and {space.classes} classes: {', '.join(missing[:_SHOWN])}{rest}; give the "
            "space the shapes of the table, as by --resolution 224 classes=1000, or measure the device"
        )
    profile = Profile(
        cost="latency",
        space=space.name,
        settings=space.settings,
        image=space.image,
        by="operation",
        hardware=hardware,
        protocol={
            "source": source or path.name,
            "unit": unit,
            "format": "Once-for-all" if once_for_all else "ProxylessNAS",
            "method": "sum of operations that were measured alone",
        },
        fixed=math.fsum(table[key] for key in fixed),
        costs={name: table[key] for name, key in varying.items()},
    )
    cost_of(profile, space, str(path))
    return profile


def _proxyless(
    kind: str, before: tuple[int, ...], after: tuple[int, ...], block: MBConv | None = None, skip: bool = False
) -> str:
    """Write a key as ProxylessNAS does: `expand` is a ratio."""
    key = f"{kind}-input:{_shape(before)}-output:{_shape(after)}"
    if block is None:
        return key
    depthwise = _depthwise(block)
    ratio = depthwise.in_channels // before[0]
    return f"{key}-expand:{ratio}-kernel:{depthwise.kernel_size[0]}-stride:{depthwise.stride[0]}-idskip:{int(skip)}"


def _mobilenet_v3(
    kind: str, before: tuple[int, ...], after: tuple[int, ...], block: MBConv | None = None, skip: bool = False
) -> str:
    """Write a key as Once-for-all does for MobileNetV3: `expand` is a number of channels, and blocks have further parts."""
    if block is None:
        return _proxyless(kind, before, after)
    channels = _depthwise(block).in_channels
    key = _proxyless(kind, before, after, block, skip)
    return re.sub(r"-expand:\d+", f"-expand:{channels}", key) + "-se:0-hs:0"


def _depthwise(block: MBConv) -> nn.Conv2d:
    return next(module for module in block if isinstance(module, DepthwiseConv2d))


def _shape(shape: tuple[int, ...]) -> str:
    """Write (channels, height, width) as height x width x channels."""
    return "x".join(map(str, (*shape[1:], shape[0])))


def _keys(space: SearchSpace, key: Key) -> tuple[list[str], dict[str, str]]:
    """Return the keys of the operations that every network has, and by the name in a profile those of the others.

    An option that runs nothing has no key, as the authors' code skips it.
    """
    with torch.device("meta"):
        # The wrapper tells each choice its number, without which it does not name its options.
        network = MixedNetwork(space.build(), {choice.name: i for i, choice in enumerate(space.choices)}).network
    named = dict(network.named_children())
    if list(named) != ["stem", "blocks", "mix", "classifier"]:
        raise InputError(
            f"{space.name} is no chain of MBConv blocks, as proxyless and ddpnas-mobile are, of which such tables are; fit "
            "measured networks with --fit, or measure the device"
        )
    shape: tuple[int, ...] = space.image
    after = _after(shape, named["stem"][0])  # type: ignore[index]
    fixed, varying = [key("Conv", shape, after)], {}
    shape = after
    for child in named["blocks"].children():
        inside = child.inside if isinstance(child, Shortcut) else child
        for name, block, after in _options(inside, shape, space):
            found = key("expanded_conv", shape, after, block, isinstance(child, Shortcut))
            if name is None:
                fixed.append(found)
            else:
                varying[part(name, shape, after)] = found
        shape = after
    mixed = _after(shape, named["mix"][0])  # type: ignore[index]
    fixed.append(key("Conv_1", shape, mixed))
    if key is _mobilenet_v3:
        fixed.append(key("AvgPool2D", mixed, (mixed[0], 1, 1)))
        mixed = (mixed[0], 1, 1)
    fixed.append(f"Logits-input:{_shape(mixed)}-output:{space.classes}")
    return fixed, varying


def _options(
    inside: nn.Module, shape: tuple[int, ...], space: SearchSpace
) -> Iterator[tuple[str | None, MBConv, tuple[int, ...]]]:
    """Yield name, block and output's shape of each option of a place; of a block that every network has, without a name."""
    places = [(None, inside)] if not isinstance(inside, Choice) else [(name, option) for name, option, _ in inside.parts()]
    for name, option in places:
        if not isinstance(option, MBConv):
            raise InputError(f"{space.name} has a {type(option).__name__} among its blocks, which such tables know nothing of")
        after = shape
        for module in option:
            after = _after(after, module) if isinstance(module, nn.Conv2d) else after
        yield name, option, after


def _after(shape: tuple[int, ...], conv: nn.Conv2d) -> tuple[int, ...]:
    """Return the shape of a convolution's output, whose padding keeps the size but for its stride."""
    return (conv.out_channels, *((size - 1) // conv.stride[0] + 1 for size in shape[1:]))


def read(path: Path) -> tuple[dict[str, float], str]:
    """Read the latency of each operation of a table in milliseconds, and say which unit the table has them in.

    A unit is taken from the name of the value, as in `mean_us`, or of the column; `mean` alone is in milliseconds, as in the
    authors' tables.

    Raises:
        InputError: For a file that cannot be read, and for an entry that is no latency.
    """
    readers = {".yaml": _yaml, ".yml": _yaml, ".json": _json, ".txt": _text, ".csv": _text, ".tsv": _text}
    if path.suffix.lower() not in readers:
        raise InputError(f"--from-table {path}: its name must end in {', '.join(readers)}")
    try:
        content, column = readers[path.suffix.lower()](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, Mapping) or not any(_KEY.fullmatch(str(key)) for key in content):
        raise InputError(f"{path} has no operations; keys are written as in Conv-input:224x224x3-output:112x112x32")
    table, units = {}, set()
    for key, entry in content.items():
        if not _KEY.fullmatch(str(key)):
            raise InputError(f"{path}: {str(key)[:120]!r} is no operation, as Conv-input:224x224x3-output:112x112x32 is")
        name, value = _value(entry, column, f"{path}: {key}")
        units.add(name)
        table[str(key)] = value * (factor(name, "latency") or 1.0)
    if len(units) > 1:
        raise InputError(f"{path} has its latencies as {' and '.join(sorted(units))}; write all of them in one way")
    return table, units.pop()


def _value(entry: Any, column: str, where: str) -> tuple[str, float]:
    name, value = column, entry
    if isinstance(entry, Mapping):
        names = [str(key) for key in entry if re.match(r"(mean|avg|average|median|latency)(?![a-z])", str(key), re.IGNORECASE)]
        if len(names) != 1:
            raise InputError(f"{where} has {', '.join(map(str, entry)) or 'nothing'}; write its latency as mean: NUMBER")
        name, value = names[0], entry[names[0]]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise InputError(f"{where} = {value!r}; a latency is a number of at least 0")
    return name, float(value)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Loader that refuses a key that is written twice, of which YAML would take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        pairs = [(self.construct_object(key, deep=True), value) for key, value in node.value]
        _check_once([key for key, _ in pairs])
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> tuple[Any, str]:
    return yaml.load(text, _Loader), "mean"


def _json(text: str) -> tuple[Any, str]:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_once([key for key, _ in found])
        return dict(found)

    return json.loads(text, object_pairs_hook=pairs), "mean"


def _text(text: str) -> tuple[Any, str]:
    """Read a key and a number from each line, and from the first line, where it has no key, the name of the number."""
    column = "mean"
    rows: list[tuple[str, float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = re.fullmatch(r"\s*[\"']?(\S+?)[\"']?\s*(?:[,;=\t ]|:\s)\s*(\S.*?)\s*", line)
        if fields is None:
            raise ValueError(f"line {number} has no key and latency: {line.strip()[:80]}")
        key, value = fields[1], fields[2]
        if not rows and not _KEY.fullmatch(key):
            column = value
            continue
        try:
            rows.append((key, float(value)))
        except ValueError as error:
            raise ValueError(f"line {number}: {value!r} is no number") from error
    _check_once([key for key, _ in rows])
    return dict(rows), column


def _check_once(keys: list[Any]) -> None:
    if twice := sorted({str(key) for key in keys if keys.count(key) > 1} if len(set(map(str, keys))) < len(keys) else ()):
        raise ValueError(f"{twice[0]} is written twice")
