"""Axes along which a network shrinks: channels, attention heads, kernels and blocks, all as units that are kept or go."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Cut:
    """Entries of a tensor that go with the units of an axis.

    Args:
        tensor: Name of a parameter or buffer, as in the `state_dict`.
        dim: Dimension of the tensor.
        positions: Positions along the dimension, (units, positions of each).
    """

    tensor: str
    dim: int
    positions: Tensor


@dataclass(frozen=True, eq=False)
class Axis:
    """Part of a network that can have fewer units.

    Args:
        layer: Path of the layer, stage or attention that it is named after.
        kind: "width", "heads", "kernel" or "depth".
        counts: Units that each option keeps, in ascending order; the last one keeps all.
        labels: Names of the options.
        order: Units in the order in which they are kept, (units,).
        cuts: Entries of tensors that go with the units.
        blocks: Paths of the blocks that go with the units, one for each; an identity takes their place.
        attributes: Attributes of modules that say how many units there are: path of the module, name, and value per unit.
    """

    layer: str
    kind: str
    counts: tuple[int, ...]
    labels: tuple[str, ...]
    order: Tensor
    cuts: tuple[Cut, ...] = ()
    blocks: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str, int], ...] = ()

    @property
    def name(self) -> str:
        """Name of the choice."""
        return f"{self.layer}/{self.kind}"


def counts_of(fractions: Sequence[float], units: int, multiple: int = 1) -> tuple[int, ...]:
    """Return the numbers of units that fractions of them are, in ascending order, each once.

    Args:
        fractions: Fractions in 0..1; all units are kept by one of the options, whether 1 is among them or not.
        units: Number of units.
        multiple: Counts are multiples of this, as far as there are so many units; the nearest one above half is taken.
    """
    found = {units}
    for fraction in fractions:
        count = max(1, int(fraction * units + 0.5))
        if multiple > 1 and count < units:
            count = max(multiple, int(count / multiple + 0.5) * multiple)
        found.add(min(count, units))
    return tuple(sorted(found))


def by_importance(model: nn.Module, cuts: Sequence[Cut], units: int) -> Tensor:
    """Return the units in the order of their importance, (units,), the most important one first.

    Importance is the L1 norm of the weights that go with a unit, as Once-for-all sorts channels (arXiv 1908.09791, section
    3.3). There it is that of the layer that reads the channel; here each matrix and each learned scale that has the unit takes
    part, divided by its mean over the units, as a unit may be read by several layers or by none that has weights.
    """
    parameters = dict(model.named_parameters())
    total = torch.zeros(units, dtype=torch.float64)
    for cut in cuts:
        scale = cut.tensor.endswith("weight")
        if cut.tensor not in parameters or not scale:
            continue
        tensor = parameters[cut.tensor].detach()
        others = [d for d in range(tensor.dim()) if d != cut.dim]
        norms = tensor.double().abs().sum(others) if others else tensor.double().abs()
        of_units = norms.cpu()[cut.positions].sum(1)
        total += of_units / of_units.mean().clamp_min(1e-12)
    return torch.argsort(total, descending=True, stable=True)


def chosen(axes: Sequence[Axis], fixed: Mapping[str, str], layers: Sequence[str]) -> list[Axis]:
    """Return the axes of the layers that patterns name.

    Args:
        axes: All axes.
        fixed: Layers that cannot shrink, with the reasons.
        layers: Paths, with * for any part of them; the names of axes with their kind do as well.

    Raises:
        ValueError: For a pattern that names nothing that can shrink, with the reason.
    """
    kept: list[Axis] = []
    for pattern in layers:
        found = [a for a in axes if fnmatch.fnmatch(a.layer, pattern) or fnmatch.fnmatch(a.name, pattern)]
        if not found:
            refused = next(
                (f"{name} cannot shrink: {why}" for name, why in fixed.items() if fnmatch.fnmatch(name, pattern)), ""
            )
            there = ", ".join(a.name for a in axes[:8]) + (", ..." if len(axes) > 8 else "")
            raise ValueError(f"layers = {pattern!r}: {refused or 'no layer that can shrink has this name'}; there are {there}")
        kept += [axis for axis in found if axis not in kept]
    return [axis for axis in axes if axis in kept]
