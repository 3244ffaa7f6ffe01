"""Trace of a module's forward pass, with its children as calls, on real inputs: a graph of what it computes.

Sizes are the numbers that they are, except for the number of images in a batch, so that loops and conditions on shapes run as
they stand. Conditions on values, which another image would decide otherwise, are refused.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.nn import functional

BATCH = 5
"""Images of the batch that is traced: a first dimension that is a multiple of it counts as that of the batch."""
_FACTORIES = ("zeros", "ones", "empty", "full", "arange", "eye", "linspace")


class Untraceable(Exception):
    """A forward pass that no straight list of operations can stand for; the message says why."""


@dataclass(frozen=True)
class Trace:
    """Computation of a module.

    Args:
        graph: Operations in their order; `call_module` nodes are calls of children by their path.
        values: Value of each node, for the inputs that were traced.
        parameters: Parameters of the forward pass with their defaults; those that gather several have their stars.
        constants: Tensors that the forward pass makes or holds, by the names that the graph has for them.
    """

    graph: fx.Graph
    values: Mapping[fx.Node, Any]
    parameters: Mapping[str, Any]
    constants: Mapping[str, Tensor]


@dataclass(frozen=True)
class Call:
    """Arguments and result of a call of a module."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any


def record_calls(network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[nn.Module, list[Call]]:
    """Run a network once with these arguments, and list the calls of each of its modules."""
    calls: dict[nn.Module, list[Call]] = {}

    def noted(original: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(module, *args, **kwargs)
        calls.setdefault(module, []).append(Call(args, kwargs, result))
        return result

    with torch.no_grad(), _calling(noted):
        network(*args, **kwargs)
    return calls


def trace(module: nn.Module, call: Call, inline: Collection[nn.Module] = ()) -> Trace:
    """Trace the forward pass of a module on the arguments of a call.

    Args:
        module: The module.
        call: Arguments that it was called with.
        inline: Modules whose own forward pass is written in the place of a call of them.

    Raises:
        Untraceable: Where its control flow depends on values, or it does what no graph can express.
    """
    tracer = _Tracer(module, inline)
    signature = inspect.signature(module.forward)
    bound = signature.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    parameters: dict[str, Any] = {}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind, starred = signature.parameters[name].kind, signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        if (starred or kind is inspect.Parameter.VAR_KEYWORD) and not value:
            continue
        if kind is inspect.Parameter.VAR_KEYWORD:
            raise Untraceable(f"{_named(module)} takes any keywords (**{name})")
        parameters[f"*{name}" if starred else name] = signature.parameters[name].default
        proxy = tracer.placeholder(name, value)
        given: Any = proxy if _has(value, Tensor) or isinstance(value, float) else value
        if starred:
            args += list(given)
        elif kind is inspect.Parameter.KEYWORD_ONLY:
            kwargs[name] = given
        else:
            args.append(given)
    try:
        with torch.no_grad(), _calling(tracer.call), _factories(tracer):
            result = module.forward(*args, **kwargs)
        tracer.create_node("output", "output", (tracer.create_arg(result),), {})
    except Untraceable as error:
        raise Untraceable(f"{_named(module)}: {error}") from error
    except Exception as error:  # whatever code that is not made for this raises
        line = (str(error).splitlines() or [""])[0]
        raise Untraceable(f"{_named(module)} cannot be traced ({type(error).__name__}: {line})") from error
    _drop_dead(tracer.graph)
    return Trace(tracer.graph, tracer.values, parameters, tracer.constants)


def _named(module: nn.Module) -> str:
    return f"the forward pass of {type(module).__name__}"


def _has(value: Any, kind: type) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_has(v, kind) for v in value)
    if isinstance(value, Mapping):
        return any(_has(v, kind) for v in value.values())
    return isinstance(value, kind)


def _drop_dead(graph: fx.Graph) -> None:
    """Remove operations whose result nothing reads, from the end; those that change a tensor in place stay."""
    for node in reversed(list(graph.nodes)):
        if node.op not in ("placeholder", "output") and not node.users and not changes_in_place(node):
            graph.erase_node(node)


def changes_in_place(node: fx.Node) -> bool:
    """Tell whether an operation changes one of its inputs."""
    if node.op == "call_method":
        return str(node.target).endswith("_")
    return node.target is operator.setitem or bool(node.kwargs.get("inplace"))


@contextmanager
def _calling(call: Callable[..., Any]) -> Iterator[None]:
    """Send every call of a module to `call(original, module, ...)`."""
    original = nn.Module.__call__
    nn.Module.__call__ = lambda module, *args, **kwargs: call(original, module, *args, **kwargs)  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]


@contextmanager
def _factories(tracer: _Tracer) -> Iterator[None]:
    """Let functions that make a tensor of a given size take sizes that the number of images is part of."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}

    def patched(function: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            if _has([*args, *kwargs.values()], fx.Proxy):
                return tracer.create_proxy("call_function", function, args, kwargs)
            return function(*args, **kwargs)

        return make

    for name, function in originals.items():
        setattr(torch, name, patched(function))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(torch, name, function)


class _Tracer(fx.Tracer):
    """Makes a node of every operation on what stands for a tensor, and computes its value at once."""

    def __init__(self, root: nn.Module, inline: Collection[nn.Module]) -> None:
        super().__init__()
        self.root, self.graph, self._inline = root, fx.Graph(), inline
        self.values: dict[fx.Node, Any] = {}
        self.constants: dict[str, Tensor] = {}
        self._paths: dict[nn.Module, str] = {}
        for path, module in root.named_modules(remove_duplicate=False):
            self._paths.setdefault(module, path)
        self._tensors: dict[int, str] = {}
        for name, tensor in (*root.named_parameters(remove_duplicate=False), *root.named_buffers(remove_duplicate=False)):
            self._tensors.setdefault(id(tensor), name)

    def placeholder(self, name: str, value: Any) -> fx.Proxy:
        node = self.create_node("placeholder", name, (), {}, name)
        self.values[node] = value
        return _Proxy(node, self)

    def call(self, original: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not _has([*args, *kwargs.values()], fx.Proxy):
            return original(module, *args, **kwargs)
        if type(module) is nn.Identity:
            return args[0]
        if module in self._inline:
            return module.forward(*args, **kwargs)
        if module not in self._paths:
            raise Untraceable(f"it calls a {type(module).__name__} that is not one of its modules; keep it as an attribute")
        return self.create_proxy("call_module", self._paths[module], args, kwargs)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Proxy:
        if target is functional.pad and not any(args[1]):
            return args[0]  # type: ignore[no-any-return]
        node = self.create_node(kind, target, self.create_arg(args), self.create_arg(kwargs))
        self.values[node] = self._run(node)
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, _Shape):
            a = self.create_proxy("call_function", getattr, (a.proxy, "shape"), {})
        if not isinstance(a, Tensor):
            return super().create_arg(a)
        name = self._tensors.get(id(a))
        if name is None:
            name = next((k for k, v in self.constants.items() if v is a), f"constant{len(self.constants)}")
            self.constants[name] = a
        node = self.create_node("get_attr", name, (), {})
        self.values[node] = a
        return node

    def _run(self, node: fx.Node) -> Any:
        args = map_aggregate(node.args, self._value)
        kwargs = map_aggregate(node.kwargs, self._value)
        assert isinstance(args, tuple) and isinstance(kwargs, dict)
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _value(self, a: Any) -> Any:
        return self.values[a] if isinstance(a, fx.Node) else a


class _Shape(tuple[Any, ...]):
    """Sizes of a tensor, which are those of the tensor again where they are passed on as a whole."""

    proxy: fx.Proxy


class _Proxy(fx.Proxy):
    """Stands for a value; its sizes are numbers, but for that of the batch."""

    tracer: _Tracer

    @property
    def _known(self) -> Any:
        return self.tracer.values[self.node]

    def __getattr__(self, k: str) -> Any:
        value = self._known
        if isinstance(value, Tensor):
            if k == "shape":
                return self._size()
            if k == "size":
                return lambda dim=None: self._size() if dim is None else self._size()[dim]
            if k in ("dim", "ndimension"):
                return value.dim
            if k == "ndim":
                return value.ndim
        elif not hasattr(value, k):
            raise AttributeError(k)
        if not callable(getattr(value, k)):
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return super().__getattr__(k)

    def _size(self) -> tuple[Any, ...]:
        first, *rest = self._known.shape or (1,)
        if not self._known.dim():
            return ()
        if first and first % BATCH == 0:
            first = self.tracer.create_proxy("call_method", "size", (self, 0), {})
        shape = _Shape((first, *rest))
        shape.proxy = self
        return shape

    def __iter__(self) -> Iterator[Any]:
        if not isinstance(self._known, (tuple, list)):
            raise Untraceable("it loops over the images of a batch")
        get = operator.getitem
        return iter([self.tracer.create_proxy("call_function", get, (self, i), {}) for i in range(len(self._known))])

    def __len__(self) -> int:
        if not isinstance(self._known, (tuple, list, Mapping)):
            raise Untraceable("it asks for the number of images in a batch")
        return len(self._known)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __bool__(self) -> bool:
        if isinstance(self._known, Tensor):
            raise Untraceable("its control flow depends on the values of a tensor")
        return bool(self._known)

    def _number(self) -> Any:
        if isinstance(self._known, Tensor):
            raise Untraceable("it makes a number of a tensor")
        what = "an argument of its forward pass" if isinstance(self._known, float) else "the number of images in a batch"
        raise Untraceable(f"it computes with {what} outside of torch")

    __index__ = __int__ = __float__ = _number
