"""Text of the Python files of an export: the network, and its preprocessing for runtimes other than torch."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Sequence

from orchestrator.data.preprocessing import pixels
from orchestrator.export.body import literal
from orchestrator.export.layout import WIDTH, lay_out
from orchestrator.runs.networks import TrainedNetwork

_MAPPING = "from collections.abc import Mapping"
_TORCH = '''
def preprocess(image: Any) -> Tensor:
    """Turn, resize and normalise an image as the training images were; stack several to a batch."""
    mean, std = (np.array(value, np.float32)[:, None, None] for value in (MEAN, STD))
    values = pixels(image, SHAPE, FIT, BACKGROUND, SCALES)
    return torch.from_numpy((values.astype(np.float32) / np.float32(255) - mean) / std)
'''
_NUMPY = '''
def preprocess(image: Any) -> NDArray[np.float32]:
    """Turn, resize and normalise an image as the training images were; stack several to a batch."""
    mean, std = (np.array(value, np.float32)[:, None, None] for value in (MEAN, STD))
    values = pixels(image, SHAPE, FIT, BACKGROUND, SCALES)
    return (values.astype(np.float32) / np.float32(255) - mean) / std
'''
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
    imports = [_MAPPING, "from pathlib import Path", "from typing import Any", "", "import numpy as np", "import torch"]
    if re.search(r"\bF\.", code):
        imports.append("import torch.nn.functional as F")
    if "OrderedDict(" in code:
        imports.insert(0, "from collections import OrderedDict")
    imports += ["from numpy.typing import NDArray", "from PIL import Image, ImageOps", "from torch import Tensor, nn"]
    needs = "It needs torch, NumPy and Pillow; `load` reads the weights with safetensors."
    parts = [_head(network, [*facts, "", needs]), *imports, "", *_constants(network)]
    return "\n".join(parts) + f"\n\n\n{inspect.getsource(pixels)}\n{_TORCH}\n\n{code}"


def preprocess_file(network: TrainedNetwork, facts: Sequence[str]) -> str:
    """Return the text of `preprocess.py`, which needs no torch."""
    imports = [_MAPPING, "from typing import Any", "", "import numpy as np", "from numpy.typing import NDArray"]
    parts = [_head(network, [*facts, "", "It needs NumPy and Pillow."], "Preprocessing for network"), *imports]
    return "\n".join([*parts, "from PIL import Image, ImageOps", "", *_constants(network)]) + (
        f"\n\n\n{inspect.getsource(pixels)}\n{_NUMPY}"
    )


def _head(network: TrainedNetwork, facts: Sequence[str], title: str = "Network") -> str:
    lines = [f"{title} {network.member} of a search over {network.origin.space}.", "", *facts]
    safe = [line.replace("\\", "\\\\").replace('"""', "'''") for line in lines]
    wrapped = [part for line in safe for part in textwrap.wrap(line, WIDTH, subsequent_indent="    ") or [""]]
    return '"""' + "\n".join(wrapped) + '\n"""\n\nfrom __future__ import annotations\n'


def _constants(network: TrainedNetwork) -> list[str]:
    preprocess = network.preprocess
    values = (
        ("SHAPE", preprocess.shape, "channels, height and width of an image"),
        ("MEAN", preprocess.mean, "of each channel of the training images, in 0..1"),
        ("STD", preprocess.std, "their standard deviation"),
        ("FIT", preprocess.fit, "what becomes of an image of other proportions"),
        ("BACKGROUND", preprocess.background, "colour behind transparent pixels; None leaves them as they are stored"),
        ("SCALES", dict(preprocess.scales), "values that become 0 and 255 in grey images of more than 8 bits"),
        ("CLASSES", tuple(network.classes), "in the order of the scores"),
    )
    lines: list[str] = []
    for name, value, meaning in values:
        broken = lay_out(f"{name} = {literal(value)}")
        lines += [*broken[:-1], f"{broken[-1]}  # {meaning}"] if len(broken[-1]) + len(meaning) < WIDTH - 4 else broken
    return lines
