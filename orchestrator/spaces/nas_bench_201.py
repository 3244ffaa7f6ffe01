"""NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv 2001.00326): one cell of four nodes, repeated over three stages of width."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from orchestrator.spaces.base import Choice, Edge, MixedOperation, Operation, SearchSpace, SkipDropout, Weights, Zero
from searchers.base import Architecture

NODES = 4
EDGES = [(source, target) for target in range(1, NODES) for source in range(target)]
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


class NasBench201(SearchSpace):
    """15,625 cells: any of five operations on each of the six edges between four nodes.

    channels: width of the first of three groups of cells; it doubles from group to group. cells: cells per group (N).
    supernet_cells: cells per group of the supernet in the last stages of a search that deepens it; the default scales the 5,
        11 and 17 cells of P-DARTS and TND-NAS to this depth. A search of one stage has the last number, and one of more stages
        than numbers begins with the first. Objectives are always those of the network with all `cells`.
    """

    def __init__(
        self,
        *,
        channels: int = 16,
        cells: int = 5,
        supernet_cells: list[int] | None = None,
        image: tuple[int, int, int] = (3, 32, 32),
        classes: int = 10,
    ) -> None:
        if channels < 1 or cells < 1 or classes < 2:
            raise ValueError(f"channels = {channels}, cells = {cells}, classes = {classes}: at least 1, 1 and 2 are needed")
        if min(image[1:]) < 4:
            raise ValueError(f"images of {image[1]}x{image[2]} are too small: the space halves them twice")
        if supernet_cells is None:
            supernet_cells = [max(1, round(cells * part / 17)) for part in (5, 11, 17)]
        if not supernet_cells or min(supernet_cells) < 1:
            raise ValueError(f"supernet_cells = {supernet_cells}; every stage needs at least one cell")
        self.channels, self.cells, self.supernet_cells = channels, cells, supernet_cells
        self.image, self.classes = image, classes
        self.choices = tuple(Choice(f"{source}->{target}", OPERATIONS) for source, target in EDGES)

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        option = dict(zip(EDGES, architecture, strict=True))
        nodes = ("".join(f"{OPERATIONS[option[s, t]]}~{s}|" for s in range(t)) for t in range(1, NODES))
        return "+".join("|" + node for node in nodes)

    def parse(self, text: str) -> Architecture:
        found: list[int] = []
        position = 0

        def expect(token: str) -> None:
            nonlocal position
            if not text.startswith(token, position):
                raise ValueError(
                    f"{text!r} is not a NAS-Bench-201 cell: at position {position} there should be {token!r}, as in "
                    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
                )
            position += len(token)

        for source, target in EDGES:
            if source == 0:
                expect("|" if target == 1 else "+|")
            end = text.find("~", position)
            name = text[position : end if end >= 0 else len(text)]
            if name not in OPERATIONS:
                raise ValueError(f"{text!r}: {name!r} at position {position} is not one of {', '.join(OPERATIONS)}")
            found.append(OPERATIONS.index(name))
            position = position + len(name)
            expect(f"~{source}|")
        if position != len(text):
            raise ValueError(f"{text!r}: there is something left over at position {position}")
        return tuple(found)

    def supernet(self, before_last: int, options: Sequence[Sequence[int]]) -> nn.Module:
        cells = self.supernet_cells[max(0, len(self.supernet_cells) - 1 - before_last)]
        return _Network(self, cells, affine=False, options=options)

    def network(self, architecture: Architecture) -> nn.Module:
        self.check(architecture)
        return _Network(self, self.cells, affine=True, architecture=architecture)

    def operations(self, architecture: Architecture) -> list[Operation]:
        self.check(architecture)
        channels, (colours, height, width) = self.channels, self.image
        listed = [_convolution("stem", 3, colours, channels, (height, width), (height, width))]
        for group in range(3):
            if group:
                size, half = (height, width), (_half(height), _half(width))
                listed += [
                    _convolution("residual_conv_a", 3, channels, 2 * channels, size, half),
                    _convolution("residual_conv_b", 3, 2 * channels, 2 * channels, half, half),
                    _convolution("residual_shortcut", 1, channels, 2 * channels, half, half, norm=False),
                ]
                channels, (height, width) = 2 * channels, half
            size = (height, width)
            for _ in range(self.cells):
                for option in architecture:
                    name = OPERATIONS[option]
                    if name.startswith("nor_conv"):
                        listed.append(_convolution(name, int(name[-1]), channels, channels, size, size))
        listed.append(Operation("last_norm", (channels, height, width), (channels, height, width), 2 * channels, 0))
        head = channels * self.classes
        listed.append(Operation("classifier", (channels, 1, 1), (self.classes, 1, 1), head + self.classes, head))
        return listed

    def drawing(self, architecture: Architecture) -> dict[str, list[Edge]]:
        self.check(architecture)
        return {
            "cell": [
                Edge(str(source), str(target), OPERATIONS[option])
                for (source, target), option in zip(EDGES, architecture, strict=True)
                if OPERATIONS[option] != "none"
            ]
        }


def _half(size: int) -> int:
    return (size + 1) // 2


def _convolution(
    name: str, kernel: int, c_in: int, c_out: int, size_in: tuple[int, int], size_out: tuple[int, int], norm: bool = True
) -> Operation:
    weights = kernel * kernel * c_in * c_out
    shape_in, shape_out = (c_in, *size_in), (c_out, *size_out)
    return Operation(name, shape_in, shape_out, weights + (2 * c_out if norm else 0), weights * size_out[0] * size_out[1])


class _Network(nn.Module):
    """The skeleton with one operation per edge (`architecture`), or with a mixed one (`options`).

    Supernet normalisation has no affine part, lest its scale cancel the mixture's weights, and always uses the statistics of
    the batch: those of another path would be stale (TND-NAS and MODNAS measure sampled networks that way).
    """

    def __init__(
        self,
        space: NasBench201,
        cells: int,
        *,
        affine: bool,
        architecture: Architecture | None = None,
        options: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()

        def norm(channels: int) -> nn.Module:
            return nn.BatchNorm2d(channels, affine=affine, track_running_stats=affine)

        def relu_conv_norm(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Module:
            conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
            return nn.Sequential(nn.ReLU(), conv, norm(c_out))

        def operation(option: int, channels: int) -> nn.Module:
            match OPERATIONS[option]:
                case "none":
                    return Zero()
                case "skip_connect":
                    return SkipDropout() if options is not None else nn.Identity()
                case "avg_pool_3x3":
                    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
                case name:
                    return relu_conv_norm(channels, channels, int(name[-1]))

        def cell(channels: int) -> nn.Module:
            if architecture is not None:
                return _Cell([operation(option, channels) for option in architecture])
            assert options is not None
            return _MixedCell([{o: operation(o, channels) for o in edge} for edge in options])

        channels = space.channels
        self.stem = nn.Sequential(nn.Conv2d(space.image[0], channels, 3, 1, 1, bias=False), norm(channels))
        self.layers = nn.ModuleList()
        for group in range(3):
            if group:
                residual = nn.Sequential(
                    relu_conv_norm(channels, 2 * channels, 3, 2), relu_conv_norm(2 * channels, 2 * channels, 3)
                )
                # The benchmark's shortcut pools without padding; ceil_mode keeps odd sizes in step with the other branch.
                pool = nn.AvgPool2d(2, 2, ceil_mode=True)
                self.layers.append(_Residual(residual, nn.Sequential(pool, nn.Conv2d(channels, 2 * channels, 1, bias=False))))
                channels *= 2
            self.layers.extend(cell(channels) for _ in range(cells))
        self.head = nn.Sequential(norm(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels, space.classes)

    def forward(self, x: Tensor, weights: Weights | None = None) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x, weights) if isinstance(layer, _MixedCell) else layer(x)
        return self.classifier(self.head(x))  # type: ignore[no-any-return]


class _Residual(nn.Module):
    def __init__(self, main: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)  # type: ignore[no-any-return]


class _Cell(nn.Module):
    def __init__(self, edges: Sequence[nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        edges = iter(self.edges)
        for target in range(1, NODES):
            incoming = zip(itertools.islice(edges, target), nodes, strict=True)
            nodes.append(_sum([edge(node) for edge, node in incoming if not isinstance(edge, Zero)], x))
        return nodes[-1]


class _MixedCell(nn.Module):
    def __init__(self, edges: Sequence[dict[int, nn.Module]]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(MixedOperation(choice, options) for choice, options in enumerate(edges))

    def forward(self, x: Tensor, weights: Weights) -> Tensor:
        nodes = [x]
        edges = iter(self.edges)
        for target in range(1, NODES):
            outputs = [edge(node, weights) for edge, node in zip(itertools.islice(edges, target), nodes, strict=True)]
            nodes.append(_sum([y for y in outputs if y is not None], x))
        return nodes[-1]


def _sum(outputs: list[Tensor], like: Tensor) -> Tensor:
    if not outputs:
        return like.new_zeros(like.shape)
    total = outputs[0]
    for y in outputs[1:]:
        total = total + y
    return total
