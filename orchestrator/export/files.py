"""Text of the Python files of an export: the network, and its preprocessing for runtimes other than torch."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.data import preprocessing
from orchestrator.data.preprocessing import Preprocessing
from orchestrator.export.body import literal
from orchestrator.export.layout import WIDTH, lay_out
from orchestrator.runs.networks import TrainedNetwork
from orchestrator.spaces.parts.inputs import Tokens, noun

_MAPPING = "from collections.abc import Mapping"
_PILLOW = "from PIL import Image, ImageOps"
_LOAD = '''
def load(weights: str | Path = Path(__file__).with_name("network.safetensors")) -> Network:
    """Build the network with its trained weights, in evaluation mode."""
    from safetensors.torch import load_file

    network = build()
    network.load_state_dict(load_file(weights))
    return network.eval()
'''


def network_file(network: TrainedNetwork, classes: str, facts: Sequence[str]) -> str:
    """Return the text of `network.py`.

    Args:
        network: The network.
        classes: Source of its classes and of `build`, as `network_source` returns it.
        facts: Lines of the comment on top, after its title.
    """
    code = f"{classes}\n\n{_LOAD}"
    mapping, pillow = ([_MAPPING], [_PILLOW]) if _of_images(network) else ([], [])  # `pixels` alone needs either
    imports = [*mapping, "from pathlib import Path", "from typing import Any", "", "import numpy as np", "import torch"]
    if re.search(r"\bF\.", code):
        imports.append("import torch.nn.functional as F")
    if "OrderedDict(" in code:
        imports.insert(0, "from collections import OrderedDict")
    imports += ["from numpy.typing import NDArray", *pillow, "from torch import Tensor, nn"]
    needs = f"It needs torch and NumPy{' and Pillow' if pillow else ''}; `load` reads the weights with safetensors."
    parts = [_head(network, [*facts, "", needs]), *imports, "", *_constants(network)]
    return "\n".join(parts) + f"\n\n\n{_functions(network, torch=True)}\n\n{code}"


def preprocess_file(network: TrainedNetwork, facts: Sequence[str]) -> str:
    """Return the text of `preprocess.py`, which needs no torch."""
    mapping, pillow = ([_MAPPING], [_PILLOW]) if _of_images(network) else ([], [])
    imports = [*mapping, "from typing import Any", "", "import numpy as np", "from numpy.typing import NDArray", *pillow]
    needs = f"It needs NumPy{' and Pillow' if pillow else ''}."
    parts = [_head(network, [*facts, "", needs], "Preprocessing for network"), *imports, "", *_constants(network)]
    return "\n".join(parts) + f"\n\n\n{_functions(network, torch=False)}"


def _inputs(network: TrainedNetwork) -> list[tuple[str, Preprocessing]]:
    """List the preprocessing of each input with what the names of its constants and of its function end with."""
    preprocess = network.preprocess
    if not preprocess.inputs:
        return [("", preprocess)]
    titles = (str(number) if name is None else re.sub(r"\W", "_", name) for number, (name, _) in enumerate(preprocess.inputs))
    return [(f"_{title}", one) for title, (_, one) in zip(titles, preprocess.inputs, strict=True)]


def _of_images(network: TrainedNetwork) -> bool:
    return any(noun(one.shape) == "image" for _, one in _inputs(network))


def _preprocess(end: str, one: Preprocessing, *, torch: bool) -> str:
    """Write the function that preprocesses examples, or one of their inputs."""
    shape, ours = one.shape, end.upper()
    kind = "int64" if isinstance(shape, Tokens) else "float32"
    image = noun(shape) == "image"
    if isinstance(shape, Tokens):
        does, lines = "Check a sequence of tokens", [f"tokens(example, SHAPE{ours}, VOCABULARY{ours})"]
    elif not image:
        does = f"Normalise a {noun(shape)} as those of the training were"
        lines = [f"numbers(example, SHAPE{ours}, MEAN{ours}, STD{ours})"]
    else:
        does = "Turn, resize and normalise an image as the training images were"
        lines = [
            f"mean, std = (np.array(value, np.float32)[:, None, None] for value in (MEAN{ours}, STD{ours}))",
            f"values = pixels(image, SHAPE{ours}, FIT{ours}, BACKGROUND{ours}, SCALES{ours})",
            "(values.astype(np.float32) / np.float32(255) - mean) / std",
        ]
    *before, value = lines
    written = [
        f"def preprocess{end}({'image' if image else 'example'}: Any) -> {'Tensor' if torch else f'NDArray[np.{kind}]'}:",
        f'    """{does}; stack several to a batch."""',
        *(f"    {line}" for line in before),
        f"    return torch.from_numpy({value})" if torch else f"    return {value}",
    ]
    return "\n".join(written) + "\n"


def _preprocess_each(network: TrainedNetwork, *, torch: bool) -> str:
    """Write the function that preprocesses all of several inputs."""
    names = [name for name, _ in network.preprocess.inputs]
    named = names[0] is not None
    array = "Tensor" if torch else "NDArray[Any]"
    keys = names if named else range(len(names))
    parts = [f"preprocess{end}(example[{literal(key)}])" for key, (end, _) in zip(keys, _inputs(network), strict=True)]
    pairs = ", ".join(f"{literal(name)}: {part}" for name, part in zip(names, parts, strict=True))
    returned = f"dict[str, {array}]" if named else f"tuple[{array}, ...]"
    written = [
        f"def preprocess(example: Any) -> {returned}:",
        '    """Preprocess every input of an example; stack those of several to a batch."""',
        *lay_out(f"return {{{pairs}}}" if named else f"return ({', '.join(parts)})", 4),
    ]
    return "\n".join(written) + "\n"


def _functions(network: TrainedNetwork, *, torch: bool) -> str:
    """Write `preprocess`, what it calls, and `predict` where a line says what that is."""
    readers: dict[str, Callable[..., Any]] = {"sequence": preprocessing.tokens, "image": preprocessing.pixels}
    called = dict.fromkeys(readers.get(noun(one.shape), preprocessing.numbers) for _, one in _inputs(network))
    parts = [*map(inspect.getsource, called), *(_preprocess(end, one, torch=torch) for end, one in _inputs(network))]
    text = "\n\n".join([*parts, *([_preprocess_each(network, torch=torch)] if network.preprocess.inputs else [])])
    if (formula := network.task.formula) is None:
        return text
    formula = formula.replace("constant(", "outputs.new_tensor(" if torch else "np.float32(")
    array = "Tensor" if torch else "NDArray[Any]"
    said = {"classes": "numbers of classes", "labels": "0 and 1 for each label"}.get(
        network.task.named, "values in their own unit"
    )
    written = [
        f"def predict(outputs: {array}) -> {array}:",
        f'    """Turn outputs of the network into predictions: {said}."""',
        *lay_out(f"return {formula}", 4),
    ]
    return f"{text}\n\n" + "\n".join(written) + "\n"


def _head(network: TrainedNetwork, facts: Sequence[str], title: str = "Network") -> str:
    lines = [f"{title} {network.member} of a search over {network.origin.space}.", "", *facts]
    safe = [line.replace("\\", "\\\\").replace('"""', "'''") for line in lines]
    wrapped = [part for line in safe for part in textwrap.wrap(line, WIDTH, subsequent_indent="    ") or [""]]
    return '"""' + "\n".join(wrapped) + '\n"""\n\nfrom __future__ import annotations\n'


def _constants(network: TrainedNetwork) -> list[str]:
    listed = [
        (f"{name}{end.upper()}", value, meaning) for end, one in _inputs(network) for name, value, meaning in _values(one)
    ]
    names = (network.task.named.upper(), tuple(network.classes), "in the order of the outputs")
    lines: list[str] = []
    for name, value, meaning in (*listed, names):
        broken = lay_out(f"{name} = {literal(value)}")
        lines += [*broken[:-1], f"{broken[-1]}  # {meaning}"] if len(broken[-1]) + len(meaning) < WIDTH - 4 else broken
    return lines


def _values(preprocess: Preprocessing) -> list[tuple[str, Any, str]]:
    """List the constants of the preprocessing of one input: name, value, meaning."""
    shape = preprocess.shape
    if isinstance(shape, Tokens):
        return [
            ("SHAPE", tuple(shape), "length of a sequence"),
            ("VOCABULARY", shape.vocabulary, "number of different tokens"),
        ]
    if noun(shape) != "image":
        parts = "channels and length of a signal" if len(shape) == 2 else "columns of a row"
        return [
            ("SHAPE", shape, parts),
            ("MEAN", preprocess.mean, f"of each {'channel' if len(shape) == 2 else 'column'} of the training examples"),
            ("STD", preprocess.std, "their standard deviation"),
        ]
    return [
        ("SHAPE", shape, "channels, height and width of an image"),
        ("MEAN", preprocess.mean, "of each channel of the training images, in 0..1"),
        ("STD", preprocess.std, "their standard deviation"),
        ("FIT", preprocess.fit, "what becomes of an image of other proportions"),
        ("BACKGROUND", preprocess.background, "colour behind transparent pixels; None leaves them as they are stored"),
        ("SCALES", dict(preprocess.scales), "values that become 0 and 255 in grey images of more than 8 bits"),
    ]
