"""Python statements of a traced forward pass: one for each step, short ones joined as a person would write them."""

from __future__ import annotations

import builtins
import inspect
import keyword
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from orchestrator.export.tracing import Trace, Untraceable, changes_in_place

INFIX = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//", operator.mod: "%",
    operator.pow: "**", operator.matmul: "@", operator.gt: ">", operator.lt: "<", operator.ge: ">=", operator.le: "<=",
    operator.eq: "==", operator.ne: "!=", operator.and_: "&", operator.or_: "|", operator.xor: "^",
}  # fmt: skip
_JOINED = 70
"""The most characters of an expression that is joined to the next."""
_MODULES = {torch: "torch", functional: "F", operator: "operator"}
_TAKEN = {*keyword.kwlist, *dir(builtins), "self", "torch", "nn", "F", "Tensor"}


class Body:
    """Statements of a forward pass.

    Args:
        traced: The forward pass.
        child: Returns the expression of a child's path, as `self.edges[0]`.

    Attributes:
        statements: Statements with the value of each, None where it is not one tensor.
    """

    def __init__(self, traced: Trace, child: Callable[[str], str]) -> None:
        self.statements: list[tuple[str, Any]] = []
        self._traced, self._child = traced, child
        self._names: dict[fx.Node, str] = {}
        self._pending: list[tuple[fx.Node, str]] = []
        self._taken = set(_TAKEN)
        self._position = {node: i for i, node in enumerate(traced.graph.nodes)}
        for node in traced.graph.nodes:
            self._add(node)

    def _add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._names[node] = parameter_name(str(node.target))
            self._taken.add(self._names[node])
            return
        if node.op == "get_attr":
            self._names[node] = self._child(str(node.target))
            return
        text = self._expression(node)
        if node.op == "output":
            self._flush()
            self.statements.append((f"return {text}", None))
        elif node.target is operator.setitem or not node.users:
            self._flush()
            self.statements.append((text, None))
        elif len(node.users) == 1 and len(text) <= _JOINED and not changes_in_place(node):
            self._pending.append((node, text))
        else:
            self._flush()
            self._assign(node, text)

    def _expression(self, node: fx.Node) -> str:
        """Format an operation; what was computed just before, for it alone, is written inside where that reads well."""
        operands = _operands(node)
        joined = 0
        waiting = [n for n, _ in self._pending]
        for count in range(1, len(operands) + 1):
            tail = [n for n in operands if n in waiting][-count:]
            if len(tail) == count and waiting[-count:] == tail and all(_joins(n, node) for n in tail):
                joined = count
        inside = dict(self._pending[len(self._pending) - joined :])
        if len("".join(inside.values())) > 2 * _JOINED:
            inside = {}
        del self._pending[len(self._pending) - len(inside) :]
        if any(n in operands for n, _ in self._pending) or changes_in_place(node):
            self._flush()
        return self._write(node, lambda n: inside.get(n) or self._names[n], inside)

    def _flush(self) -> None:
        waiting, self._pending = self._pending, []
        for node, text in waiting:
            self._assign(node, text)

    def _assign(self, node: fx.Node, text: str) -> None:
        value = self._traced.values[node]
        name = self._reused(node) if isinstance(value, Tensor) else None
        if name is None:
            stem = {"call_function": "y", "call_method": "y"}.get(node.op, str(node.target).rpartition(".")[2])
            stem = str(node.target).replace(".", "_") if node.op == "call_module" else stem
            stem = "size" if node.target == "size" else stem
            stem = stem if stem.isidentifier() else "y"
            name, number = stem, 2
            while name in self._taken:
                name, number = f"{stem}{number}", number + 1
            self._taken.add(name)
        self._names[node] = name
        self.statements.append((f"{name} = {text}", value))

    def _reused(self, node: fx.Node) -> str | None:
        """Return the name of the one tensor that an operation uses up, unless it says what made the tensor."""
        named = {n for n in self._leaves(node) if self._names.get(n, "self.").isidentifier()}
        if len(named) != 1:
            return None
        (only,) = named
        if len(self._traced.parameters) > 1 and only.op == "placeholder":
            return None
        if only.op == "call_module" and self._names[only] == str(only.target).replace(".", "_"):
            return None
        here = self._position[node]
        if any(self._position[user] > here for user in self._users(only, node)) or not isinstance(
            self._traced.values[only], Tensor
        ):
            return None
        return self._names[only]

    def _leaves(self, node: fx.Node) -> set[fx.Node]:
        """Named operations that an expression is made of, through those that are written inside of it."""
        found: set[fx.Node] = set()
        for operand in node.all_input_nodes:
            found |= {operand} if operand in self._names else self._leaves(operand)
        return found

    def _users(self, node: fx.Node, last: fx.Node) -> set[fx.Node]:
        """Operations whose statement reads the name of `node`; `last` is one that has a statement of its own."""
        found: set[fx.Node] = set()
        for user in node.users:
            done = user is last or user in self._names or user.op == "output"
            found |= {user} if done else {user, *self._users(user, last)}
        return found

    def _write(self, node: fx.Node, name: Callable[[fx.Node], str], inside: Mapping[fx.Node, str]) -> str:
        def text(value: Any) -> str:
            return literal(value, name)

        def operand(value: Any, left: bool = False) -> str:
            infix = isinstance(value, fx.Node) and value in inside and (value.target in INFIX or value.target is operator.neg)
            chain = left and infix and value.target is node.target and node.target in (operator.add, operator.mul)
            return f"({text(value)})" if infix and not chain else text(value)

        arguments = [text(a) for a in node.args] + [f"{k}={text(v)}" for k, v in node.kwargs.items()]
        if node.op == "output":
            return text(node.args[0])
        if node.op == "call_module":
            return f"{self._child(str(node.target))}({', '.join(arguments)})"
        if node.op == "call_method":
            return f"{operand(node.args[0])}.{node.target}({', '.join(arguments[1:])})"
        function = node.target
        if function in INFIX:
            return f"{operand(node.args[0], left=True)} {INFIX[function]} {operand(node.args[1])}"
        if function is operator.neg:
            return f"-{operand(node.args[0])}"
        if function is getattr:
            return f"{operand(node.args[0])}.{node.args[1]}"
        if function is operator.getitem:
            return f"{operand(node.args[0])}[{_index(node.args[1], text)}]"
        if function is operator.setitem:
            return f"{operand(node.args[0])}[{_index(node.args[1], text)}] = {text(node.args[2])}"
        assert callable(function)
        return f"{function_name(function)}({', '.join(_shown(node, function, text))})"


def parameter_name(name: str) -> str:
    """Name a parameter of a forward pass: as it is, but for the one of `nn.Sequential`, which hides a builtin."""
    return "x" if name == "input" else name


def _joins(operand: fx.Node, node: fx.Node) -> bool:
    """Tell whether an operand reads well inside of an operation."""
    if operand.target in (operator.getitem, getattr) or operand.target == "size":
        return True
    if node.op == "output" or node.target in INFIX:
        return True
    first = node.args[0] if node.args else None
    if node.op == "call_method":
        return operand is first and operand.op != "call_module"
    return node.op == "call_function" and isinstance(first, (tuple, list)) and operand in first and operand.target not in INFIX


def _operands(node: fx.Node) -> list[fx.Node]:
    """List the operands in the order in which they are written, as often as they are."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return found


def function_name(function: Callable[..., Any]) -> str:
    """Name a function of torch as its users do. Raises Untraceable for any other."""
    name = getattr(function, "__name__", "")
    for module, short in ((functional, "F"), *_MODULES.items()):
        if getattr(module, name, None) is function:
            return f"{short}.{name}"
    try:
        qualified: str = fx.node._get_qualified_name(function)
    except Exception as error:
        raise Untraceable(f"it calls {function!r}") from error
    package, *path = qualified.split(".")
    found: Any = torch
    for part in path:
        found = getattr(found, part, None)
    if package != "torch" or found is not function:
        raise Untraceable(f"it calls {qualified}, which is not part of torch")
    return qualified


def _shown(node: fx.Node, function: Callable[..., Any], text: Callable[[Any], str]) -> list[str]:
    """Format arguments; keywords that have their defaults are left out."""
    defaults: dict[str, Any] = {}
    for candidate in (function, getattr(functional, f"_{getattr(function, '__name__', '')}", None)):
        try:
            defaults |= {p.name: p.default for p in inspect.signature(candidate).parameters.values()}  # type: ignore[arg-type]
        except (ValueError, TypeError):
            continue
    none = object()
    kept = {k: v for k, v in node.kwargs.items() if isinstance(v, fx.Node) or defaults.get(k, none) != v}
    return [text(a) for a in node.args] + [f"{k}={text(v)}" for k, v in kept.items()]


def _index(index: Any, text: Callable[[Any], str]) -> str:
    def one(value: Any) -> str:
        if not isinstance(value, slice):
            return text(value)
        start, stop, step = ("" if v is None else text(v) for v in (value.start, value.stop, value.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")

    if isinstance(index, tuple) and index:
        return ", ".join(map(one, index)) + ("," if len(index) == 1 else "")
    return one(index)


def literal(value: Any, name: Callable[[fx.Node], str] = lambda node: node.name) -> str:
    """Format a value as Python. Raises Untraceable for what cannot be written down."""
    if isinstance(value, fx.Node):
        return name(value)
    if isinstance(value, str):
        return '"' + repr(value)[1:-1].replace('"', '\\"').replace("\\'", "'") + '"'
    if isinstance(value, (tuple, list)):
        inside = ", ".join(literal(v, name) for v in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k, name)}: {literal(v, name)}" for k, v in value.items()) + "}"
    if isinstance(value, slice):
        return f"slice({literal(value.start, name)}, {literal(value.stop, name)}, {literal(value.step, name)})"
    if value is None or value is Ellipsis or isinstance(value, (bool, int)):
        return "..." if value is Ellipsis else repr(value)
    if isinstance(value, float):
        return repr(value) if value == value and abs(value) != float("inf") else f'float("{value}")'
    if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
        return str(value)
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    raise Untraceable(f"it passes a {type(value).__name__} on")
