"""Networks as files for a device, without checks: ONNX, torch.export, weights."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn


def has_onnx() -> bool:
    """Tell whether the package is installed that an ONNX file takes."""
    return find_spec("onnx") is not None


def onnx_bytes(network: nn.Module, inputs: Sequence[Tensor], named: Mapping[str, Tensor] | None = None) -> bytes:
    """Return a network in ONNX, for inputs of this size.

    Args:
        network: The network.
        inputs: Its arguments.
        named: Its keywords, which name inputs of the file.
    """
    file = io.BytesIO()
    names = [*(f"input{i}" for i in range(len(inputs))), *(named or {})]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, but ten times as fast as its successor
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        kwargs = dict(named or {})
        torch.onnx.export(network.eval(), tuple(inputs), file, kwargs=kwargs, input_names=names, dynamo=False)  # type: ignore[arg-type]
    return file.getvalue()


def _on_cpu(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).cpu()


def _onnx(network: nn.Module, inputs: Sequence[Tensor], named: Mapping[str, Tensor], path: Path) -> None:
    path.write_bytes(onnx_bytes(_on_cpu(network), inputs, named))


def _pt2(network: nn.Module, inputs: Sequence[Tensor], named: Mapping[str, Tensor], path: Path) -> None:
    with torch.no_grad():
        torch.export.save(torch.export.export(_on_cpu(network).eval(), tuple(inputs), dict(named)), path)


def _weights(network: nn.Module, inputs: Sequence[Tensor], named: Mapping[str, Tensor], path: Path) -> None:
    torch.save({key: value.cpu() for key, value in network.state_dict().items()}, path)


Writer = Callable[[nn.Module, Sequence[Tensor], Mapping[str, Tensor], Path], None]
WRITERS: dict[str, Writer] = {"onnx": _onnx, "pt2": _pt2, "weights": _weights}
"""Functions that write a network, given examples of its arguments and keywords, by the name of the format."""
