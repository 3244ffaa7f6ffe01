"""Formats of an export: each writes its file into a folder, and tries what it wrote against the network."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from analysis import records
from hw_profiles.measure import runtime_session, timed
from orchestrator.data.dataset import Dataset, Part
from orchestrator.data.feed import Feed, in_order
from orchestrator.errors import InputError
from orchestrator.export.files import network_file
from orchestrator.export.source import network_source
from orchestrator.export.tracing import Untraceable
from orchestrator.runs.networks import TrainedNetwork
from orchestrator.spaces.parts.inputs import Examples, Inputs, Shapes, Tokens, arguments, filled, mapped, noun, tensors_of
from orchestrator.training.scoring import gathered

FORMATS = ("network", "onnx", "pt2", "torchscript", "int8")
DEFAULT = ("network", "onnx", "pt2")
NEEDED = {
    "network": ("safetensors",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "int8": ("onnx", "onnxruntime", "onnxscript"),
}
"""Packages of each format that only the extra `export` installs."""
TOLERANCE = 1e-5
"""Largest difference to the network's scores, relative to the largest score where that is above 1."""
CALIBRATION = 256
"""Training images that the ranges of an INT8 network are taken from."""
METADATA = "preprocessing.json"
_SECONDS = 0.5


Run = Callable[[Any], NDArray[np.float32]]
"""An exported network, from examples, an array or `Inputs` of arrays, to outputs."""


class NotWritten(Exception):
    """A format that cannot express this network; the message says why."""


@dataclass(frozen=True)
class Written:
    """A file that was written and tried.

    Args:
        files: Names of the files.
        difference: Largest difference to the network's scores; None where it is another network on purpose.
        facts: Further measurements, by name.
    """

    files: tuple[str, ...]
    difference: float | None
    facts: Mapping[str, Any]


def check_installed(formats: Sequence[str]) -> None:
    """Raise InputError where a package is missing that a format needs."""
    for name in formats:
        missing = [package for package in NEEDED.get(name, ()) if find_spec(package) is None]
        if missing:
            raise InputError(
                f"--formats {name} needs {', '.join(missing)}; pip install 'paretoray[export]', or choose other formats"
            )


class Exporter:
    """Writes a network in several formats.

    Args:
        network: The network.
        directory: Folder for the files.
        facts: Lines that describe the network, for the comment of its source.
        data: Reads the examples, which an INT8 network is calibrated and tested with.
    """

    def __init__(self, network: TrainedNetwork, directory: Path, facts: Sequence[str], data: Callable[[], Dataset]) -> None:
        self.network, self.directory, self._facts, self._data = network, directory, facts, data
        self._program: tuple[torch.export.ExportedProgram, bool] | None = None
        self._examples = _random(3, network.preprocess.shape)
        self._inputs = input_names(network.preprocess.shape)

    def write(self, name: str) -> Written:
        """Write one of `FORMATS`. Raises NotWritten where it cannot express the network."""
        writers = {
            "network": self._network,
            "onnx": self._onnx,
            "pt2": self._pt2,
            "torchscript": self._torchscript,
            "int8": self._int8,
        }
        with torch.no_grad(), _quiet():
            return writers[name]()

    def _network(self) -> Written:
        from safetensors.torch import save_file

        try:
            classes, state = network_source(self.network.network, self.network.preprocess.shape)
        except Untraceable as error:
            raise NotWritten(str(error)) from error
        source = self.directory / "network.py"
        source.write_text(network_file(self.network, classes, self._facts), encoding="utf-8")
        save_file(state, self.directory / "network.safetensors", {METADATA: self._metadata()})
        try:
            difference = self._difference(_loaded(source))
        except Exception as error:  # whatever the written code raises
            message = (str(error).splitlines() or [type(error).__name__])[0]
            for name in ("network.py", "network.safetensors"):
                (self.directory / name).unlink()
            raise NotWritten(f"its source does not do what the network does ({message})") from error
        return Written(("network.py", "network.safetensors"), difference, {})

    def _pt2(self) -> Written:
        program, dynamic = self._exported()
        path = self.directory / "network.pt2"
        torch.export.save(program, path, extra_files={METADATA: self._metadata()})
        loaded = torch.export.load(path).module()
        return Written((path.name,), self._difference(loaded, dynamic), self._said(dynamic))

    def _torchscript(self) -> Written:
        path = self.directory / "network.torchscript"
        try:
            args, kwargs = self._arguments(self._examples)
            given: dict[str, Any] = {"example_kwarg_inputs": kwargs} if kwargs else {"example_inputs": args}
            traced = torch.jit.trace(self.network.network, check_trace=False, **given)  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever a user's code raises
            raise NotWritten(_first_line(error)) from error
        torch.jit.save(traced, str(path), _extra_files={METADATA: self._metadata()})
        loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        return Written((path.name,), self._difference(loaded), {})

    def _onnx(self) -> Written:
        path = self.directory / "network.onnx"
        dynamic = self._write_onnx(path)
        run = _session(path, self._inputs)
        difference = self._difference(lambda x: torch.from_numpy(run(_arrays(x))), dynamic, as_it_is=True)
        return Written((path.name,), difference, self._said(dynamic) | _latency(run, _arrays(self._examples[:1])))

    def _int8(self) -> Written:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        try:
            data = self._data()
        except InputError as error:
            kind = f"{noun(self.network.preprocess.shape)}s"
            raise NotWritten(f"the {kind} that it is to be tried on cannot be read: {error}") from error
        whole, prepared = self.directory / ".float.onnx", self.directory / ".prepared.onnx"
        path = self.directory / "network.int8.onnx"
        dynamic = self._write_onnx(whole)
        try:
            quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
            spread = np.arange(0, len(data.train), max(1, len(data.train) // CALIBRATION))[:CALIBRATION]
            examples = data.normalise(data.train.images[torch.from_numpy(spread)])
            reader = _Reader(examples, self._inputs)
            # Weights of 7 bits: processors without VNNI add pairs of products in 16 bits, which those of 8 bits overflow.
            quantization.quantize_static(str(prepared), str(path), reader, per_channel=True, reduce_range=True)
            run, exact = _session(path, self._inputs), _session(whole, self._inputs)
            costs = [_tested(session, data, data.test, dynamic) for session in (exact, run)]
        finally:
            for left in (whole, prepared):
                left.unlink(missing_ok=True)
        column = records.tested(data.task.metric.column).value
        facts = {column: costs[1], f"float_{column}": costs[0], records.TEST_IMAGES: len(data.test)}
        facts["bytes"] = path.stat().st_size
        return Written((path.name,), None, facts | self._said(dynamic) | _latency(run, _arrays(self._examples[:1])))

    def _write_onnx(self, path: Path) -> bool:
        import onnx

        program, dynamic = self._exported()
        try:
            written = torch.onnx.export(
                program, input_names=self._inputs, output_names=["scores"], dynamo=True, verbose=False, optimize=True
            )
        except Exception as error:  # of the exporter, which has its own for each of its steps
            raise NotWritten(_missing_operation(error)) from error
        assert written is not None
        written.save(str(path), external_data=False)
        model = onnx.load(str(path))
        values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
        for size in (size for value in values for size in value.type.tensor_type.shape.dim if size.dim_param):
            size.dim_param = "batch"
        onnx.helper.set_model_props(model, {METADATA: self._metadata()})
        onnx.save(model, str(path))
        return dynamic

    def _exported(self) -> tuple[torch.export.ExportedProgram, bool]:
        """Export with torch: for any number of images, or for one where that is all that the network takes."""
        if self._program is None:
            args, kwargs = self._arguments(self._examples)
            shapes: Any = tree_map(lambda _: {0: torch.export.Dim("batch")}, kwargs or args)
            try:
                self._program = torch.export.export(self.network.network, args, kwargs, dynamic_shapes=shapes), True
            except Exception:  # whatever a user's code raises
                try:
                    self._program = torch.export.export(self.network.network, *self._arguments(self._examples[:1])), False
                except Exception as error:
                    raise NotWritten(f"torch.export cannot express it: {_first_line(error)}") from error
        return self._program

    def _arguments(self, examples: Examples) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return arguments(self.network.network, examples)

    def _said(self, dynamic: bool) -> dict[str, Any]:
        return {} if dynamic else {"batch": f"one {noun(self.network.preprocess.shape)} at a time"}

    def _difference(self, loaded: Callable[..., Tensor], dynamic: bool = True, *, as_it_is: bool = False) -> float:
        """Return the largest difference to the network, for one image and, where it takes several, three.

        Args:
            loaded: What was read back, to be called as the network is.
            dynamic: Whether it takes several images.
            as_it_is: Whether it takes several inputs together instead.
        """
        found = 0.0
        for images in (self._examples[:1], self._examples) if dynamic else (self._examples[:1],):
            args, kwargs = ((images,), {}) if as_it_is else self._arguments(images)
            wanted, scores = self.network(images), loaded(*args, **kwargs)
            if scores.shape != wanted.shape:
                raise NotWritten(f"it returns {tuple(scores.shape)} for {len(images)} images, not {tuple(wanted.shape)}")
            largest = float((scores - wanted).abs().max())
            if not largest <= TOLERANCE * max(1.0, float(wanted.abs().max())):
                raise NotWritten(f"its scores differ from the network's by {largest:.1e}")
            found = max(found, largest)
        return found

    def _metadata(self) -> str:
        preprocess = self.network.preprocess
        return json.dumps(
            {
                **asdict(preprocess),
                self.network.task.named: self.network.classes,
                "task": self.network.task.name,
                "learned": self.network.task.learned,
                "arch": self.network.arch,
                "space": self.network.origin.space,
            }
        )


def input_names(shape: tuple[int, ...]) -> list[str]:
    """Name the inputs of an ONNX file: images, signals, rows, sequences or examples; several by their own names."""
    if isinstance(shape, Shapes):
        return list(shape.names or (f"input{number}" for number in range(len(shape))))
    return [f"{noun(shape)}s"]


def _random(count: int, shape: tuple[int, ...]) -> Examples:
    """Draw examples to try a network on: tokens out of the vocabulary, or normal numbers."""
    generator = torch.Generator().manual_seed(0)

    def of(each: tuple[int, ...]) -> Tensor:
        if isinstance(each, Tokens):
            return torch.randint(each.vocabulary, (count, *each), generator=generator)
        return torch.randn(count, *each, generator=generator)

    return filled(shape, of)


def _arrays(examples: Examples) -> Any:
    return mapped(Tensor.numpy, examples)


class _Reader:
    """Examples one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, examples: Examples, names: Sequence[str]) -> None:
        self._batches: Iterator[Examples] = (examples[i : i + 1] for i in range(len(examples)))
        self._names = names

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {n: x.numpy() for n, x in zip(self._names, tensors_of(batch), strict=True)}


def _loaded(source: Path) -> nn.Module:
    """Load the weights into the module of a written file, as its user would."""
    spec = spec_from_file_location("exported_network", source)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded: nn.Module = module.load()
    return loaded


def _session(path: Path, names: Sequence[str]) -> Run:
    session = runtime_session(path.read_bytes(), threads=1)

    def run(examples: Any) -> Any:
        parts = examples.parts if isinstance(examples, Inputs) else (examples,)
        return session.run(None, dict(zip(names, parts, strict=True)))[0]

    return run


def _latency(run: Run, example: Any) -> dict[str, float]:
    for _ in range(3):
        run(example)
    times = 1e3 * np.array(timed(lambda: run(example), _SECONDS))
    low, median, high = np.percentile(times, [25, 50, 75])
    return {"latency_ms": float(median), "latency_iqr_ms": float(high - low)}


def _tested(run: Run, data: Dataset, part: Part, dynamic: bool) -> float:
    """Return what the task minimises, on all of a part."""
    size = 256 if dynamic else 1
    with closing(Feed(part, in_order(len(part), size))) as feed:
        outputs = ((torch.from_numpy(run(_arrays(data.normalise(x)))), y) for x, y in feed)
        return data.task.metric.cost_of(gathered(outputs, data.task))


def _missing_operation(error: BaseException) -> str:
    """Say which operation ONNX lacks, as far as the exporter tells."""
    cause: BaseException | None = error
    while cause is not None:
        if found := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(cause)):
            return f"ONNX has no operation {found[1]}"
        cause = cause.__cause__
    return f"torch.onnx cannot express it: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    text = re.sub(r"\x1b\[\d+m", "", str(error)).strip()
    return f"{type(error).__name__}: {(text.splitlines() or [''])[0]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what exporters say of themselves, which is not for who exports a network."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "root", "")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
