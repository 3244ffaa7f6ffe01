"""A network as a directed acyclic graph of states and operations: what there is to draw, and Graphviz's language for it."""

from __future__ import annotations

from dataclasses import dataclass, field

_FAMILIES = {
    "none": "#ffffff",
    "skip": "#e4e6ea",
    "identity": "#e4e6ea",
    "id": "#e4e6ea",
    "max": "#f2d6a2",
    "avg": "#f7e6c4",
    "sep": "#bcdcc3",
    "dil": "#d6c9e8",
    "conv": "#bcd4ec",
    "nor": "#bcd4ec",
    "res": "#a3c3e6",
    "k3": "#dbe8f5",
    "k5": "#b4cfe9",
    "k7": "#86b0dc",
    "": "#f3efe6",
}
_OTHERS = ("#f0c9c9", "#cfe3d0", "#e6d5b8", "#c9d6f0", "#e3cfe3", "#d9d9c2")


@dataclass(frozen=True)
class Graph:
    """Boxes by name, with what is written in them, and arrows between them; there must be no cycle.

    kinds: for some boxes, what they are, so that the same kind gets the same colour; a box without one is a state, not an
    operation.
    """

    boxes: dict[str, str]
    arrows: list[tuple[str, str]]
    kinds: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The same in words: what each state is the sum of; a chain in one line."""
        sources: dict[str, list[str]] = {name: [] for name in self.boxes}
        for source, target in self.arrows:
            sources[target].append(source)
        outgoing = [source for source, _ in self.arrows]
        if len(self.kinds) > 1 and len(set(outgoing)) == len(outgoing) and all(len(s) < 2 for s in sources.values()):
            return [" > ".join(text.replace("\n", ": ") for text in self.boxes.values())]

        def term(name: str) -> str:
            text = self.boxes[name].replace("\n", ": ")
            inside = ", ".join(term(source) for source in sources[name])
            return f"{text}({inside})" if name in self.kinds and inside else text

        told = []
        for name, feeding in sources.items():
            if name not in self.kinds and feeding:
                # Operations are added up where they meet; states are put side by side.
                aside = len(feeding) > 1 and not any(source in self.kinds for source in feeding)
                terms = [term(source) for source in feeding]
                told.append(f"{self.boxes[name]} = {'[' + ', '.join(terms) + ']' if aside else ' + '.join(terms)}")
        return told

    def dot(self, title: str) -> str:
        """The same in Graphviz's language."""
        lines = []
        for name, text in self.boxes.items():
            shape = "ellipse"
            if name in self.kinds:
                shape = f'box, style="rounded,filled", fillcolor="{colour(self.kinds[name])}"'
            lines.append(f"  {_quoted(name)} [label={_quoted(text)}, shape={shape}];")
        lines += [f"  {_quoted(a)} -> {_quoted(b)};" for a, b in self.arrows]
        return "\n".join([f"digraph {_quoted(title)} {{", "  rankdir=LR;", *lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def colour(kind: str) -> str:
    """Of a box: operations of a family share it, whatever their names are made of besides."""
    family = kind.lower().replace(" ", "_").split("_")[0]
    if family in _FAMILIES or family[:2] in ("k3", "k5", "k7") or family[:3] in _FAMILIES or family[:4] in _FAMILIES:
        return next(_FAMILIES[f] for f in (family, family[:4], family[:3], family[:2]) if f in _FAMILIES)
    return _OTHERS[sum(map(ord, kind)) % len(_OTHERS)]
