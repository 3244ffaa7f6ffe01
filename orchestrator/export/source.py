"""Readable PyTorch source of one network: a class for each kind of block, and nothing but torch to import."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.export.body import Body, literal, parameter_name
from orchestrator.export.layout import WIDTH, lay_out
from orchestrator.export.parts import Container, Custom, Describer, Leaf, Part, name_repeats
from orchestrator.export.tracing import BATCH, record_calls
from orchestrator.spaces.parts.inputs import arguments, zeros


def network_source(network: nn.Module, image: tuple[int, ...]) -> tuple[str, dict[str, Tensor]]:
    """Write the classes of a network, of which `Network` is the whole, and a function `build`.

    What the network does not use is left out. Names in the `state_dict` and of classes are those of `network`.

    Args:
        network: A network in evaluation mode, on the CPU.
        image: Shape of an image, (channels, height, width), or of another example.

    Returns:
        The source, and the trained `state_dict` of the module that it builds.

    Raises:
        Untraceable: Where no such source can be written.
    """
    calls = record_calls(network, *arguments(network, zeros(BATCH, image)))
    writer = _Writer(Describer(network, calls), [calls[child][0].result for child in network.children() if child in calls])
    return writer.source, writer.state(network)


ROOT = "Network"
_TAKEN = {ROOT, "Any", "Image", "ImageOps", "NDArray", "OrderedDict", "Path", "Tensor", "F", "nn", "np", "torch"}
"""Names of a written file that no class may have."""


@dataclass(eq=False)
class _Slot:
    """A value of a class that its instances may differ in, by instance."""

    name: str
    values: dict[Custom, Any] = field(default_factory=dict)


@dataclass(eq=False)
class _Class:
    """A class, and the modules that are instances of it.

    Args:
        name: Its name in the source.
        instances: Modules that differ in nothing but numbers.
        parameters: Parameters of its constructor.
        written: What stands for each slot: the name of a parameter, or a value.
    """

    name: str
    instances: list[Custom]
    parameters: list[_Slot] = field(default_factory=list)
    written: list[str] = field(default_factory=list)


class _Writer:
    def __init__(self, described: Describer, results: Sequence[Any]) -> None:
        self._aliases, self._results = described.aliases, results
        self._keys: dict[Leaf, list[str]] = {}
        self._classes: dict[Any, _Class] = {}
        self._names: set[str] = set()
        self._of: dict[Custom, _Class] = {}
        root = described.root
        self._wrapped = not isinstance(root, Custom)
        self._root = root if isinstance(root, Custom) else Custom("Network", "", True, {"0": root}, {}, None)
        name_repeats(self._root)
        self._collect(self._root)
        for found in self._classes.values():  # those inside come first
            self._settle(found)
        self.source = "\n\n\n".join([*(self._class(found) for found in self._classes.values()), self._build()])

    def state(self, network: nn.Module) -> dict[str, Tensor]:
        """Return the trained tensors of the source's module, by its own names."""
        own = network.state_dict()
        if self._wrapped:
            own = {f"0.{name}": value for name, value in own.items()}
        found: dict[str, Tensor] = {}
        for name, value in self._tensors(self._root, ""):
            found |= {k: v for k, v in own.items() if k.startswith(f"{name}.")} if value is None else {name: value}
        return {k: v.detach().clone().contiguous() for k, v in found.items()}

    def _tensors(self, part: Part, path: str) -> Iterator[tuple[str, Tensor | None]]:
        if isinstance(part, Leaf):
            yield path, None
            return
        if isinstance(part, Custom):
            yield from ((f"{path}.{name}".lstrip("."), tensor) for name, tensor in part.tensors.items())
        for name, child in part.children.items():
            yield from self._tensors(child, f"{path}.{name}".lstrip("."))

    def _collect(self, part: Part) -> Any:
        """Put every module of a class of its own into a class with its like; returns what makes two parts alike."""
        if isinstance(part, Leaf):
            return part.function
        children = tuple((name, self._collect(child)) for name, child in part.children.items())
        if isinstance(part, Container):
            return part.kind, children
        body = tuple(text for text, _ in self._body(part).statements) if part.traced else None
        tensors = tuple((name, t.dim(), t.dtype, isinstance(t, nn.Parameter)) for name, t in part.tensors.items())
        parameters = tuple(self._typed(part)) if part.traced else ()
        alike = part.name, part.sequential, children, tensors, parameters, body
        if alike not in self._classes:
            self._classes[alike] = _Class(ROOT if part is self._root else self._unique(part.name), [])
        self._classes[alike].instances.append(part)
        self._of[part] = self._classes[alike]
        return self._classes[alike].name

    def _unique(self, stem: str) -> str:
        stem = re.sub(r"\W", "_", stem) or "Block"
        stem = f"{stem}Block" if stem in _TAKEN else stem
        name, number = stem, 2
        while name in self._names:
            name, number = f"{stem}{number}", number + 1
        self._names.add(name)
        return name

    def _settle(self, found: _Class) -> None:
        """Decide which values become parameters: those that differ, one for all that always agree."""
        tensors = [instance.tensors for instance in found.instances]
        slots: list[tuple[str, list[Any]]] = [(f"{name}_shape", [tuple(t[name].shape) for t in tensors]) for name in tensors[0]]
        for parts in zip(*(list(_inner(instance)) for instance in found.instances), strict=True):
            if isinstance(parts[0], Leaf):
                keys = self._keys[parts[0]] = [k for k in parts[0].order if any(k in leaf.given for leaf in parts)]
                slots += [(key, [leaf.value(key) for leaf in parts]) for key in keys]
            elif isinstance(parts[0], Custom):
                slots += [(slot.name, [slot.values[part] for part in parts]) for slot in self._of[parts[0]].parameters]
        for key, values in slots:
            if all(value == values[0] and type(value) is type(values[0]) for value in values):
                found.written.append(literal(values[0]))
                continue
            same = next((p for p in found.parameters if list(p.values.values()) == values), None)
            if same is None:
                same = _Slot(_free(key, {p.name for p in found.parameters}), dict(zip(found.instances, values, strict=True)))
                found.parameters.append(same)
            found.written.append(same.name)
        roles: dict[str, set[str]] = {}
        for (key, _), written in zip(slots, found.written, strict=True):
            roles.setdefault(written, set()).add(key)
        for slot in found.parameters:
            both = {"in_channels", "out_channels"} <= roles[slot.name] or "num_features" in roles[slot.name]
            if both and "channels" not in {p.name for p in found.parameters}:
                _rename(found, slot, "channels")
        for slot in found.parameters:
            if (short := slot.name.removesuffix("_2")) not in {p.name for p in found.parameters}:
                _rename(found, slot, short)

    def _class(self, found: _Class) -> str:
        first = found.instances[0]
        slots = iter(found.written)
        parameters = "".join(f", {p.name}: {_type(p)}" for p in found.parameters)
        base = "nn.Sequential" if first.sequential else "nn.Module"
        lines = [f"class {found.name}({base}):"]
        if first.summary:
            lines += [*_docstring(first.summary, 4), ""]
        lines += lay_out(f"def __init__(self{parameters}) -> None:", 4)
        tensors = [line for name, t in first.tensors.items() for line in lay_out(_declared(name, t, next(slots)), 8)]
        children = {name: self._instance(child, slots) for name, child in first.children.items()}
        if first.sequential:
            lines += self._sequential(found, children)
            return "\n".join(lines)
        lines += ["        super().__init__()", *tensors]
        for name, text in children.items():
            lines += lay_out(f"self.{name} = {text}" if name.isidentifier() else f"self.add_module({literal(name)}, {text})", 8)
        if first.traced is not None:
            signature = ", ".join(["self", *self._typed(first)])
            returned = "Tensor" if isinstance(self._returned(first), Tensor) else "tuple[Tensor, ...]"
            lines += ["", *lay_out(f"def forward({signature}) -> {returned}:", 4)]
            for text, value in self._body(first).statements:
                shown = lay_out(text, 8)
                if first is self._root and isinstance(value, Tensor) and len(shown[-1]) + 18 <= WIDTH and len(shown) == 1:
                    shown[-1] += f"  # {_shape(value)}"
                lines += shown
        return "\n".join(lines)

    def _sequential(self, found: _Class, children: Mapping[str, str]) -> list[str]:
        root = found.instances[0] is self._root
        lines = lay_out(f"super().__init__({', '.join(children.values())})", 8)
        if len(lines) == 1 and not root:
            return lines
        lines = ["        super().__init__("]
        for index, text in enumerate(children.values()):
            shown = lay_out(text, 12, WIDTH - 1)
            shown[-1] += ","
            result = self._results[index] if root and index < len(self._results) else None
            if isinstance(result, Tensor) and len(shown[-1]) + 18 <= WIDTH:
                shown[-1] += f"  # {_shape(result)}"
            lines += shown
        return [*lines, "        )"]

    def _returned(self, part: Custom) -> Any:
        assert part.traced is not None
        output = next(n for n in part.traced.graph.nodes if n.op == "output")
        values = part.traced.values
        return torch.fx.node.map_arg(output.args[0], values.__getitem__)

    def _typed(self, part: Custom) -> list[str]:
        assert part.traced is not None
        values = {str(n.target): part.traced.values[n] for n in part.traced.graph.nodes if n.op == "placeholder"}
        typed = []
        for name, default in part.traced.parameters.items():
            value = values.get(name.lstrip("*"))
            many = isinstance(value, (tuple, list)) and not name.startswith("*") and all(isinstance(v, Tensor) for v in value)
            kind = ": tuple[Tensor, ...]" if many else ": Tensor" if isinstance(value, Tensor) or name.startswith("*") else ""
            kind = ": float" if isinstance(value, float) else kind
            known = default is None or isinstance(default, (bool, int, float, str))
            typed.append(f"{parameter_name(name)}{kind}" + (f" = {literal(default)}" if known else ""))
        return typed

    def _body(self, part: Custom) -> Body:
        assert part.traced is not None
        return Body(part.traced, lambda path: _reach(part, path))

    def _instance(self, part: Part, slots: Iterator[str]) -> str:
        """Write the expression that makes a part, with what stands for its values in the class that it is part of."""
        if isinstance(part, Leaf):
            written = [(key, next(slots)) for key in self._keys[part]]
            needed = [key for key, default in part.order.items() if default is inspect.Parameter.empty]
            listed = [text if key in needed else f"{key}={text}" for key, text in written]
            return f"{part.function}({', '.join(listed)})"
        if isinstance(part, Custom):
            written_for = [(p.name, next(slots)) for p in self._of[part].parameters]
            listed = [text if len(written_for) == 1 else f"{key}={text}" for key, text in written_for]
            return f"{self._of[part].name}({', '.join(listed)})"
        children = {name: self._instance(child, slots) for name, child in part.children.items()}
        if part.kind == "ModuleList":
            return f"nn.ModuleList([{', '.join(children.values())}])"
        if part.kind == "Sequential" and list(children) == [*map(str, range(len(children)))]:
            return f"nn.Sequential({', '.join(children.values())})"
        if part.kind == "Sequential":
            pairs = ", ".join(f"({literal(name)}, {text})" for name, text in children.items())
            return f"nn.Sequential(OrderedDict([{pairs}]))"
        return "nn.ModuleDict({" + ", ".join(f"{literal(name)}: {text}" for name, text in children.items()) + "})"

    def _build(self) -> str:
        lines = ["def build() -> Network:", '    """Build the network with fresh weights; `load` gives it the trained ones."""']
        if not self._aliases:
            return "\n".join([*lines, "    return Network()"])
        lines.append("    network = Network()")
        for path, other in self._aliases.items():
            shared = f"{_reach(self._root, path, 'network')} = {_reach(self._root, other, 'network')}"
            lines.append(f"    {shared}  # shared")
        return "\n".join([*lines, "    return network"])


def _inner(part: Part) -> Iterator[Part]:
    """Iterate over what the constructor of a class makes, containers opened."""
    assert not isinstance(part, Leaf)
    for child in part.children.values():
        if isinstance(child, Container):
            yield from _inner(child)
        else:
            yield child


def _rename(found: _Class, slot: _Slot, name: str) -> None:
    found.written = [name if written == slot.name else written for written in found.written]
    slot.name = name


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def _type(slot: _Slot) -> str:
    names = {f"tuple[{', '.join(type(v).__name__ for v in value)}]" if isinstance(value, tuple) else type(value).__name__
             for value in slot.values.values()}  # fmt: skip
    return " | ".join(sorted("None" if name == "NoneType" else name for name in names))


def _declared(name: str, tensor: Tensor, shape: str) -> str:
    inside = shape.strip("()").rstrip(",") if re.fullmatch(r"\(.+\)", shape) else shape
    kind = "" if tensor.dtype is torch.float32 else f", dtype={tensor.dtype}"
    zeros = f"torch.zeros({inside}{kind})"
    return (
        f"self.{name} = nn.Parameter({zeros})"
        if isinstance(tensor, nn.Parameter)
        else f'self.register_buffer("{name}", {zeros})'
    )


def _docstring(text: str, indent: int) -> list[str]:
    wrapped = textwrap.wrap(f'"""{text}"""', WIDTH - indent)
    return [" " * indent + line for line in wrapped]


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape[1:]))


def _reach(part: Part, path: str, base: str = "self") -> str:
    """Write the expression of what is at a path inside of a part."""
    inside: Part | None = part
    for name in path.split("."):
        listed = isinstance(inside, Container) and inside.kind in ("ModuleList", "Sequential")
        if (listed or (isinstance(inside, Custom) and inside.sequential)) and name.isdigit():
            base += f"[{name}]"
        elif isinstance(inside, Container) and inside.kind == "ModuleDict":
            base += f"[{literal(name)}]"
        else:
            base = f"{base}.{name}" if name.isidentifier() else f"getattr({base}, {literal(name)})"
        inside = None if inside is None or isinstance(inside, Leaf) else inside.children.get(name)
    return base
