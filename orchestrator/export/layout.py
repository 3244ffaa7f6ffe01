"""Layout of generated Python: a statement that is too long is broken at its brackets, as formatters do."""

from __future__ import annotations

import re

WIDTH = 120
_OPENING, _CLOSING = "([{", ")]}"


def lay_out(statement: str, indent: int = 0, width: int = WIDTH) -> list[str]:
    """Break one statement into lines.

    Args:
        statement: Python in one line.
        indent: Spaces before it.
        width: The most characters of a line.
    """
    start = " " * indent
    if len(start + statement) <= width:
        return [start + statement]
    split = _last_bracket(statement)
    if split is None:
        return [start + statement]
    head, inside, tail = split
    items = _items(inside)
    if len(items) > 1 and len(start) + 4 + len(inside) <= width:
        return [start + head, f"{start}    {inside}", start + tail]
    lines = [start + head]
    for item in items:
        comma = "," if len(items) > 1 else ""
        broken = lay_out(item, indent + 4, width - len(comma))
        lines += [*broken[:-1], broken[-1] + comma]
    return [*lines, start + tail]


def _last_bracket(statement: str) -> tuple[str, str, str] | None:
    """Split at the last pair of brackets on the outermost level that has something in it."""
    depth, opened, found = 0, 0, None
    for position, sign in _signs(statement):
        if sign in _OPENING:
            opened = position if not depth else opened
            depth += 1
        elif sign in _CLOSING:
            depth -= 1
            if not depth and position > opened + 1:
                found = (statement[: opened + 1], statement[opened + 1 : position], statement[position:])
    return found


def _items(inside: str) -> list[str]:
    """Split at the commas of the outermost level."""
    depth, begin, items = 0, 0, []
    for position, sign in _signs(inside):
        depth += (sign in _OPENING) - (sign in _CLOSING)
        if sign == "," and not depth:
            items.append(inside[begin:position].strip())
            begin = position + 1
    return [item for item in (*items, inside[begin:].strip()) if item]


def _signs(text: str) -> list[tuple[int, str]]:
    """Brackets and commas outside of strings, with their positions."""
    return [(m.start(), m[0]) for m in re.finditer(r'"(?:\\.|[^"\\])*"|[()\[\]{},]', text) if m[0][0] != '"']
