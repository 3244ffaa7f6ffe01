"""Directed acyclic graphs of states and operations, as text and in Graphviz's language."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
    """Labelled boxes and the arrows between them, without cycles.

    Args:
        boxes: Label of each box, by its name.
        arrows: (source, target) pairs of names.
        kinds: Operation of each box that is one, which decides its colour; a box without a kind is a state.
        dead: Names of boxes that do not count, as they do not lead from the image to the output; they are drawn in grey.
    """

    boxes: dict[str, str]
    arrows: list[tuple[str, str]]
    kinds: dict[str, str] = field(default_factory=dict)
    dead: frozenset[str] = frozenset()

    def marked(self, live: Graph | None) -> Graph:
        """Mark the boxes as dead that have no arrows in `live`, which is what counts of the graph; None where nothing does."""
        reached = {name for arrow in live.arrows for name in arrow} if live else set()
        return replace(self, dead=frozenset(self.boxes) - reached)

    def lines(self) -> list[str]:
        """Describe the graph as text: each state as the sum of its inputs, or a chain as a single line."""
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

        equations = []
        for name, inputs in sources.items():
            if name not in self.kinds and inputs:
                # Outputs of operations are summed; states are concatenated.
                concatenated = len(inputs) > 1 and not any(source in self.kinds for source in inputs)
                terms = [term(source) for source in inputs]
                equations.append(f"{self.boxes[name]} = {'[' + ', '.join(terms) + ']' if concatenated else ' + '.join(terms)}")
        return equations

    def dot(self, title: str) -> str:
        """Render the graph in Graphviz's language, under the name `title`."""
        lines = []
        for name, text in self.boxes.items():
            shape = "ellipse"
            if name in self.kinds:
                shape = f'box, style="rounded,filled", fillcolor="{colour(self.kinds[name])}"'
            if name in self.dead:
                shape = f"{'box' if name in self.kinds else 'ellipse'}, style=dashed, color=grey, fontcolor=grey"
            lines.append(f"  {_quoted(name)} [label={_quoted(text)}, shape={shape}];")
        for a, b in self.arrows:
            dashed = " [style=dashed, color=grey]" if {a, b} & self.dead else ""
            lines.append(f"  {_quoted(a)} -> {_quoted(b)}{dashed};")
        return "\n".join([f"digraph {_quoted(title)} {{", "  rankdir=LR;", *lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def colour(kind: str) -> str:
    """Fill colour of an operation's box, shared by all operations of a family.

    Args:
        kind: Name of the operation, such as `sep_conv_3x3`; its first word decides.
    """
    family = kind.lower().replace(" ", "_").split("_")[0]
    if family in _FAMILIES or family[:2] in ("k3", "k5", "k7") or family[:3] in _FAMILIES or family[:4] in _FAMILIES:
        return next(_FAMILIES[f] for f in (family, family[:4], family[:3], family[:2]) if f in _FAMILIES)
    return _OTHERS[sum(map(ord, kind)) % len(_OTHERS)]
