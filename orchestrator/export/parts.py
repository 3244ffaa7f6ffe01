"""Description of a network's modules, as the expressions and classes that its source is made of."""

from __future__ import annotations

import inspect
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.export.tracing import Call, Trace, Untraceable, trace

_UNUSED = ("self", "device", "dtype")
_SEVERAL = 3
_LONGEST = 36
_SHORT = {
    "ReLU": "Relu",
    "ReLU6": "Relu6",
    "Conv2d": "Conv",
    "BatchNorm2d": "Norm",
    "AdaptiveAvgPool2d": "Pool",
    "Container": "",
}
_RECURRENT = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False, "proj_size": 0}


@dataclass(eq=False)
class Leaf:
    """A module of torch, by its constructor.

    Args:
        function: Name of the constructor, as `nn.Conv2d`.
        given: Values of its parameters that differ from their defaults.
        order: All of its parameters with their defaults, those without one first.
    """

    function: str
    given: Mapping[str, Any] = field(default_factory=dict)
    order: Mapping[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> Any:
        """Return the value of a parameter, given or not."""
        return self.given.get(key, self.order.get(key))


@dataclass(eq=False)
class Container:
    """An `nn.Sequential`, `nn.ModuleList` or `nn.ModuleDict` with what is used of its children."""

    kind: str
    children: dict[str, Part]


@dataclass(eq=False)
class Custom:
    """A module of a class of its own.

    Args:
        name: Name of the class.
        summary: First sentence of its docstring, or nothing.
        sequential: Whether it is an `nn.Sequential` with a constructor of its own.
        children: Children that are used.
        tensors: Parameters, buffers and constants that are used, by name.
        traced: Its forward pass; None where only its children are called.
    """

    name: str
    summary: str
    sequential: bool
    children: dict[str, Part]
    tensors: dict[str, Tensor]
    traced: Trace | None


Part = Leaf | Container | Custom


class Describer:
    """Describes the modules of a network.

    Args:
        network: The network.
        calls: The calls of its modules, as `record_calls` lists them.

    Attributes:
        aliases: Paths of modules and parameters that are another one, with the path of that.

    Raises:
        Untraceable: Where a forward pass cannot be expressed.
    """

    def __init__(self, network: nn.Module, calls: Mapping[nn.Module, Sequence[Call]]) -> None:
        self._calls = calls
        self._traces: dict[nn.Module, Trace] = {}
        self._refused: dict[nn.Module, Untraceable] = {}
        self._inline: set[nn.Module] = set()
        for module in calls:  # those inside return first
            if constructor(module) is None and type(module).forward is not nn.Sequential.forward:
                self._trace(module)
                if module is not network and module in self._traces and _only_picks(self._traces[module]):
                    self._inline.add(module)
        self._used: set[nn.Module] = set()
        self._seen: dict[nn.Module, str] = {}
        self._tensors: dict[int, str] = {}
        self.aliases: dict[str, str] = {}
        self._use(network)
        part = self._describe(network, "")
        assert isinstance(part, (Custom, Container, Leaf))
        self.root = part

    def _use(self, module: nn.Module) -> None:
        """Note a module that is called, and all that it calls."""
        if module in self._used:
            return
        self._used.add(module)
        if constructor(module) is not None:
            return
        if type(module).forward is nn.Sequential.forward:
            for child in module.children():
                self._use(child)
            return
        if module in self._refused:
            raise self._refused[module]
        traced = self._traces[module]
        for node in traced.graph.nodes:
            if node.op == "call_module":
                self._use(module.get_submodule(str(node.target)))
            if node.op == "get_attr" and "." in str(node.target):
                owner = module.get_submodule(str(node.target).rpartition(".")[0])
                if constructor(owner) is None:
                    raise Untraceable(f"{type(module).__name__} reads {node.target}, a tensor of another module")
                self._used.add(owner)

    def _trace(self, module: nn.Module) -> None:
        try:
            first, *others = (trace(module, call, self._inline) for call in self._calls[module])
            if any(str(other.graph) != str(first.graph) for other in others):
                raise Untraceable(f"{type(module).__name__} does different things in different places where it is called")
            self._traces[module] = first
        except Untraceable as error:
            self._refused[module] = error

    def _inside(self, module: nn.Module) -> bool:
        return any(m in self._used for m in module.modules())

    def _describe(self, module: nn.Module, path: str, again: bool = False) -> Part:
        """Describe a module.

        Args:
            module: The module.
            path: Where it is.
            again: Whether it is part of a module that is at another path, too.
        """
        if module in self._seen and not again:
            self.aliases[path] = self._seen[module]
            again = True
        self._seen.setdefault(module, path)
        for name, tensor in module._parameters.items():
            own = f"{path}.{name}".lstrip(".")
            if tensor is not None and self._tensors.setdefault(id(tensor), own) != own and not again:
                self.aliases[own] = self._tensors[id(tensor)]
        leaf = constructor(module)
        if leaf is not None:
            return leaf
        if module in self._used and module in self._traces and _passes_on(self._traces[module]):
            return Leaf("nn.Identity")
        traced = self._traces[module] if module in self._used and module in self._traces else None
        children = {
            name: self._describe(child, f"{path}.{name}".lstrip("."), again)
            for name, child in module._modules.items()
            if child is not None and self._inside(child)
        }
        whole = list(children) == list(module._modules)
        plain = type(module) in (nn.ModuleList, nn.ModuleDict) or (type(module) is nn.Sequential and path)
        if plain or module not in self._used:
            kind = type(module).__name__ if plain else "ModuleDict"
            if kind != "ModuleDict" and not (whole and (module in self._used or kind == "ModuleList")):
                kind = "ModuleDict"
            return Container(kind, children)
        sequential = (
            type(module).forward is nn.Sequential.forward and whole and list(children) == [*map(str, range(len(children)))]
        )
        if traced is None and module in self._used and not sequential:
            traced = trace(module, self._calls[module][0])  # of a Sequential's own forward pass
        return Custom(
            type(module).__name__.lstrip("_") if path else "Network",
            _summary(type(module)) if path else "",
            sequential,
            children,
            _tensors_of(module, traced),
            None if sequential else traced,
        )


def _only_picks(traced: Trace) -> bool:
    """Tell whether a module does nothing but choose among its inputs, and hand one to a child at most."""
    called = [node for node in traced.graph.nodes if node.op == "call_module"]
    picked = (operator.getitem, getattr)
    others = (node.op in ("placeholder", "output", "call_module") or node.target in picked for node in traced.graph.nodes)
    return len(called) <= 1 and all(others)


def _passes_on(traced: Trace) -> bool:
    """Tell whether a module returns its one input as it is."""
    nodes = list(traced.graph.nodes)
    return len(nodes) == 2 and nodes[1].args == (nodes[0],)


def _tensors_of(module: nn.Module, traced: Trace | None) -> dict[str, Tensor]:
    """List the tensors of its own that a forward pass reads."""
    found: dict[str, Tensor] = {}
    for node in traced.graph.nodes if traced else ():
        if node.op == "get_attr":
            name = str(node.target)
            if "." not in name and traced:
                found[name] = traced.values[node]
    return found


def _summary(cls: type[nn.Module]) -> str:
    text = " ".join((cls.__dict__.get("__doc__") or "").partition("\n\n")[0].split())
    sentence = text.partition(". ")[0].rstrip(".")
    return f"{sentence}." if sentence and '"' not in sentence and "\\" not in sentence else ""


def constructor(module: nn.Module) -> Leaf | None:
    """Find the call that makes a module of torch with the same settings; None where there is none to be found."""
    if any(True for _ in module.children()) and not isinstance(module, nn.MultiheadAttention):
        return None
    cls: type[nn.Module] = getattr(type(module), "exported_as", type(module))
    if getattr(nn, cls.__name__, None) is not cls or cls in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        return None
    order = dict(_parameters(cls))
    given: dict[str, Any] = {}
    for name, default in order.items():
        if hasattr(module, name):
            value = _plain(getattr(module, name), default)
            if default is inspect.Parameter.empty or default not in (value, _one(value)):
                given[name] = value
        elif default is inspect.Parameter.empty:
            return None
    simple = {name: _one(value) for name, value in given.items()}
    for values in (simple, given):
        if _literal(values) and _makes(cls, values, module, order):
            return Leaf(f"nn.{cls.__name__}", values, order)
    return None


def _parameters(cls: type[nn.Module]) -> Iterator[tuple[str, Any]]:
    parameters = inspect.signature(cls.__init__).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):  # of recurrent layers, which list them elsewhere
        names = (c for c in getattr(cls, "__constants__", ()) if c != "mode")
        yield from ((name, _RECURRENT.get(name, inspect.Parameter.empty)) for name in names)
        return
    yield from ((p.name, p.default) for p in parameters if p.name not in _UNUSED and p.kind is not p.VAR_KEYWORD)


def _plain(value: Any, default: Any) -> Any:
    """Return an attribute as the constructor takes it: a bias, say, is there or not."""
    if isinstance(value, Tensor) or (value is None and default is True):
        return value is not None
    return tuple(value) if isinstance(value, list) else value


def _one(value: Any) -> Any:
    """Write equal sizes in all dimensions as one number."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _literal(values: Mapping[str, Any]) -> bool:
    def plain(value: Any) -> bool:
        if isinstance(value, tuple):
            return all(map(plain, value))
        return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))

    return all(map(plain, values.values()))


def _makes(cls: Callable[..., nn.Module], values: Mapping[str, Any], module: nn.Module, order: Mapping[str, Any]) -> bool:
    """Tell whether a call makes a module with the settings and tensors of `module`."""
    try:
        with torch.device("meta"):
            made = cls(**values)
    except Exception:  # whatever a constructor says of attributes that are not its parameters
        return False
    shapes = ({k: v.shape for k, v in m.state_dict().items()} for m in (made, module))
    first, second = shapes
    settings = all(_plain(getattr(made, k, None), d) == _plain(getattr(module, k, None), d) for k, d in order.items())
    return first == second and settings and made.extra_repr() == module.extra_repr()


def name_repeats(root: Custom) -> None:
    """Make a class of every `nn.Sequential` of three modules or more that there are several of, but for their numbers."""
    counts: Counter[Any] = Counter()

    def likeness(part: Part) -> Any:
        if isinstance(part, Leaf):
            return part.function
        children = tuple((name, likeness(child)) for name, child in part.children.items())
        return (part.kind if isinstance(part, Container) else part.name), children

    def count(part: Part) -> None:
        for child in () if isinstance(part, Leaf) else part.children.values():
            counts[likeness(child)] += 1
            count(child)

    def replace(part: Part) -> None:
        for name, child in () if isinstance(part, Leaf) else list(part.children.items()):
            replace(child)
            assert not isinstance(part, Leaf)
            if not isinstance(child, Container) or child.kind != "Sequential" or counts[likeness(child)] < 2:
                continue
            if len(child.children) >= _SEVERAL and list(child.children) == [*map(str, range(len(child.children)))]:
                part.children[name] = _named_by_content(child)

    count(root)
    replace(root)


def _named_by_content(sequence: Container) -> Custom:
    words = [_word(child) for child in sequence.children.values()]
    short = "".join(_SHORT.get(word, word) for word in words)
    return Custom(short if len(short) <= _LONGEST else "Block", f"{', '.join(words)}.", True, sequence.children, {}, None)


def _word(part: Part) -> str:
    if isinstance(part, Leaf):
        return part.function.removeprefix("nn.")
    return part.name if isinstance(part, Custom) else part.kind
