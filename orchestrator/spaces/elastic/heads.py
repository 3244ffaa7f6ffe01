"""Heads of self-attention, each of which can go with its queries, keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.spaces.elastic.axes import Axis, Cut, by_importance, counts_of


def head_axes(model: nn.Module, fractions: Sequence[float]) -> list[Axis]:
    """List the attentions of a network whose heads can go: `nn.MultiheadAttention`, and the attention of timm's transformers.

    The latter is known by its attributes: a linear layer `qkv` whose outputs are queries, keys and values, each head by head, a
    linear layer `proj` that takes the heads together, and `num_heads`.

    Args:
        model: The network.
        fractions: Fractions of the heads that options keep.
    """
    axes = []
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            if module.in_proj_weight is None or module.bias_k is not None:
                continue
            heads, size = module.num_heads, module.head_dim
            names = (f"{path}.in_proj_weight", f"{path}.in_proj_bias", f"{path}.out_proj.weight")
            attributes: tuple[tuple[str, str, int], ...] = ()
        elif _is_timm(module):
            found: Any = module
            heads, size = found.num_heads, found.qkv.out_features // (3 * found.num_heads)
            names = (f"{path}.qkv.weight", f"{path}.qkv.bias", f"{path}.proj.weight")
            attributes = ((path, "num_heads", 1),)
            attributes += ((path, "attn_dim", size),) if hasattr(module, "attn_dim") else ()
        else:
            continue
        counts = counts_of(fractions, heads)
        if len(counts) < 2:
            continue
        one = torch.arange(heads)[:, None] * size + torch.arange(size)  # (heads, size)
        three = torch.cat([one + part * heads * size for part in range(3)], dim=1)
        parameters = dict(model.named_parameters())
        cuts = [Cut(name, 0, three) for name in names[:2] if name in parameters]
        cuts.append(Cut(names[2], 1, one))
        order = by_importance(model, cuts, heads)
        axes.append(Axis(path, "heads", counts, tuple(map(str, counts)), order, tuple(cuts), attributes=attributes))
    return axes


def _is_timm(module: nn.Module) -> bool:
    qkv, proj, heads = (getattr(module, name, None) for name in ("qkv", "proj", "num_heads"))
    if not isinstance(qkv, nn.Linear) or not isinstance(proj, nn.Linear) or not isinstance(heads, int):
        return False
    return qkv.out_features == 3 * proj.in_features and proj.in_features % heads == 0


class FewerHeads(nn.Module):
    """Attention with fewer heads than its width has room for, which `nn.MultiheadAttention` cannot be.

    It has the parameters of the attention that it is made of, sliced, under the same names.

    Args:
        whole: The attention that it takes the place of.
        weight: Matrix of queries, keys and values, (3 * heads * size, width).
        bias: Their bias, (3 * heads * size); None for none.
    """

    def __init__(self, whole: nn.MultiheadAttention, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.num_heads, self.head_dim = len(weight) // (3 * whole.head_dim), whole.head_dim
        self.batch_first, self.dropout = whole.batch_first, whole.dropout
        self.in_proj_weight = weight
        self.in_proj_bias = bias
        self.out_proj = whole.out_proj

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        """Return the output, of the shape of `query`, and no weights. Raises ValueError where the weights are asked for."""
        if need_weights:
            raise ValueError("an attention with fewer heads returns no weights; call it with need_weights=False")
        weights = self.in_proj_weight.chunk(3)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        parts = []
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True):
            x = functional.linear(x if self.batch_first else x.transpose(0, 1), weight, bias)
            parts.append(x.reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2))
        dropout = self.dropout if self.training else 0.0
        heads = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], dropout_p=dropout)
        y = self.out_proj(heads.transpose(1, 2).flatten(2))
        return y if self.batch_first else y.transpose(0, 1), None
