"""The parts of a NomicBERT block, over packed sequences.

Shape legend: T tokens of all sequences together, D hidden size, H heads, d head size, F intermediate size,
n sequences of one attention group, S their padded length.

Packed means that a batch is one row of T tokens without padding. Only attention must know where sequences begin;
it does so through an `AttentionPlan`, made once per forward and shared by all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Attention", "AttentionPlan", "Block", "GatedMLP", "rotary_tables"]

# Off the CPU, sequences whose lengths round up to the same multiple of this share one attention call. A larger step
# makes fewer, larger calls and wastes more of them; only attention pays, never the matrix products. On the CPU a call
# costs little and padding costs a copy, so there only sequences of equal length share one.
_GROUP_STEP = {"cpu": 1, "": 16}

# In training on the CPU, attention over sequences of at most this length is written out as two batched products and a
# softmax: the backward pass of torch's fused kernel takes more than twice the time there. It goes by the mode, not by
# whether a gradient is recorded, so that both passes of GradCache compute the same.
_WRITTEN_OUT = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Neighbouring sequences that go through one scaled-dot-product call."""

    count: int
    width: int
    tokens: int
    """How many packed tokens the group spans."""
    cells: Tensor | None
    """[tokens] int64: cell of each token in the padded [count × width] grid; None when nothing is padded."""
    valid: Tensor | None
    """[count, 1, 1, width] bool: cells that hold a token; None when all do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionPlan:
    """Which packed tokens attend to each other."""

    groups: tuple[_Group, ...]

    @classmethod
    def build(cls, lengths: Sequence[int], device: torch.device) -> AttentionPlan:
        """Group neighbouring sequences of similar length.

        Args:
            lengths: tokens per sequence, in packed order, each at least 1; sorted lengths make the fewest groups.
            device: where the index tensors go.
        """
        step = _GROUP_STEP.get(device.type, _GROUP_STEP[""])
        groups = []
        for _, run in groupby(lengths, key=lambda length: -(-length // step)):
            sizes = list(run)
            width = max(sizes)
            cells = valid = None
            if min(sizes) < width:
                grid = torch.arange(width) < torch.tensor(sizes)[:, None]
                cells = grid.reshape(-1).nonzero().squeeze(1).to(device)
                valid = grid[:, None, None, :].to(device)
            groups.append(_Group(count=len(sizes), width=width, tokens=sum(sizes), cells=cells, valid=valid))
        return cls(groups=tuple(groups))


def rotary_tables(
    lengths: Sequence[int], base_at: Callable[[int], float], head_dim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the rotary angles of every packed token.

    RoPE (arXiv 2104.09864) with half-split pairs: angle = position · base^(−2k/d), k = 0 … d/2 − 1. The base is asked
    for per sequence length, so a sequence's table never depends on its batch.

    Args:
        lengths: tokens per sequence.
        base_at: RoPE base for a sequence of that length.
        head_dim: d.
        device: where the tables go.

    Returns:
        cos, sin: [T, d/2] float32.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    tables: dict[float, Tensor] = {}
    longest: dict[float, int] = {}
    for length in lengths:
        base = base_at(length)
        longest[base] = max(length, longest.get(base, 0))
    for base, length in longest.items():
        tables[base] = torch.outer(torch.arange(length, dtype=torch.float32), base**-exponents)
    angles = torch.cat([tables[base_at(length)][:length] for length in lengths]).to(device)
    return angles.cos(), angles.sin()


class _RotateQueriesAndKeys(torch.autograd.Function):
    """Rotate the half-split pairs of q and k inside a fused projection, in place.

    Written as one function because autograd would keep, and the CPU would allocate, six temporaries a layer for it.
    A rotation's transpose is the rotation by the opposite angle, which is the whole backward pass.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate qkv [T, 3, H, d] by the angles of cos and sin [T, 1, 1, d/2]; v stays as it is."""
        ctx.save_for_backward(cos, sin)
        ctx.mark_dirty(qkv)
        return _rotate_(qkv, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Rotate the gradient back."""
        cos, sin = ctx.saved_tensors
        return _rotate_(grads[0].clone(), cos, -sin), None, None


def _rotate_(qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = qkv[:, :2].chunk(2, dim=-1)
    crossed = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(crossed)
    return qkv


class Attention(nn.Module):
    """Multi-head self-attention with a fused projection; rows of `Wqkv` are q, then k, then v, heads contiguous."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.Wqkv = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.out_proj = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], plan: AttentionPlan) -> Tensor:
        """Attend within each sequence.

        Args:
            x: [T, D].
            rotary: cos, sin [T, d/2] in x's dtype.
            plan: where the sequences are.

        Returns:
            [T, D].
        """
        cos, sin = (table[:, None, None, :] for table in rotary)
        qkv = self.Wqkv(x).view(x.shape[0], 3, self.num_heads, self.head_dim)
        qkv = _RotateQueriesAndKeys.apply(qkv, cos, sin)  # type: ignore[no-untyped-call]
        spans = qkv.split([group.tokens for group in plan.groups])
        mixed = torch.cat([self._attend(span, group) for span, group in zip(spans, plan.groups, strict=True)])
        projected: Tensor = self.out_proj(mixed)
        return projected

    def _attend(self, qkv: Tensor, group: _Group) -> Tensor:
        """Attend in one group: [tokens, 3, H, d] -> [tokens, D]."""
        n, width = group.count, group.width
        if group.cells is not None:
            qkv = qkv.new_zeros(n * width, *qkv.shape[1:]).index_copy(0, group.cells, qkv)
        q, k, v = qkv.view(n, width, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        if self.training and group.valid is None and q.device.type == "cpu" and width <= _WRITTEN_OUT:
            weights = torch.softmax(q @ k.transpose(2, 3) * self.head_dim**-0.5, dim=-1, dtype=torch.float32)
            heads = weights.to(v.dtype) @ v
        else:
            heads = F.scaled_dot_product_attention(q, k, v, attn_mask=group.valid)  # [n, H, S, d]
        mixed: Tensor = heads.transpose(1, 2).reshape(n * width, -1)
        return mixed if group.cells is None else mixed[group.cells]


class GatedMLP(nn.Module):
    """SwiGLU (arXiv 2002.05202) with the published names: `fc12` is the gate, `fc11` the value."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.fc11 = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.fc12 = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.fc2 = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        mixed: Tensor = self.fc2(self.fc11(x) * F.silu(self.fc12(x)))
        return mixed


class Block(nn.Module):
    """One post-norm transformer block: norm after each residual sum."""

    def __init__(self, hidden_size: int, num_heads: int, intermediate_size: int, layer_norm_eps: float) -> None:
        super().__init__()
        self.attn = Attention(hidden_size, num_heads)
        self.norm1 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.mlp = GatedMLP(hidden_size, intermediate_size)
        self.norm2 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], plan: AttentionPlan) -> Tensor:
        """[T, D] -> [T, D]."""
        x = self.norm1(x + self.attn(x, rotary, plan))
        out: Tensor = self.norm2(x + self.mlp(x))
        return out
