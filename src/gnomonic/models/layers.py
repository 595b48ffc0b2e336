"""The parts of a NomicBERT block, over packed sequences.

Shape legend: T tokens of all sequences together, D hidden size, H heads, d head size, F intermediate size,
n sequences of one attention group, S their padded length.

Packed means that a batch is one row of T tokens without padding. Only attention must know where sequences begin;
it does so through an `AttentionPlan`, made once per forward and shared by all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Attention", "AttentionPlan", "Block", "GatedMLP", "rotary_tables"]

# Sequences whose lengths round up to the same multiple of this share one attention call. A larger step makes fewer,
# larger calls and wastes more of them; only attention pays, never the matrix products.
_GROUP_STEP = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Sequences that go through one scaled-dot-product call."""

    gather: Tensor
    """[n × S] int64: packed position of each cell; cells past a sequence's end point at its first token."""
    valid: Tensor | None
    """[n × S] bool, None when every sequence of the group has the full length."""
    count: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionPlan:
    """Which packed tokens attend to each other."""

    groups: tuple[_Group, ...]

    @classmethod
    def build(cls, lengths: Sequence[int], device: torch.device) -> AttentionPlan:
        """Group sequences of similar length.

        Args:
            lengths: tokens per sequence, in packed order, each at least 1.
            device: where the index tensors go.
        """
        sizes = torch.tensor(lengths, dtype=torch.int64)
        starts = torch.cumsum(sizes, 0) - sizes
        buckets = (sizes + _GROUP_STEP - 1) // _GROUP_STEP
        groups = []
        for bucket in sorted(set(buckets.tolist())):
            members = (buckets == bucket).nonzero().squeeze(1)
            width = int(sizes[members].max())
            cells = torch.arange(width).expand(len(members), width)
            valid = cells < sizes[members, None]
            gather = torch.where(valid, starts[members, None] + cells, starts[members, None])
            groups.append(
                _Group(
                    gather=gather.reshape(-1).to(device),
                    valid=None if bool(valid.all()) else valid.reshape(-1).to(device),
                    count=len(members),
                    width=width,
                )
            )
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


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the half-split pairs of x [T, 2, H, d] by the angles of cos and sin [T, 1, 1, d/2]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


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
        total = x.shape[0]
        qkv = self.Wqkv(x).view(total, 3, self.num_heads, self.head_dim)
        cos, sin = (table[:, None, None, :] for table in rotary)
        qk, v = qkv.split((2, 1), dim=1)
        qkv = torch.cat((_rotate(qk, cos, sin), v), dim=1)
        if len(plan.groups) == 1 and plan.groups[0].valid is None:
            return self._out(self._attend(qkv, plan.groups[0]))
        mixed = qkv.new_empty(total, self.num_heads * self.head_dim)
        pieces, places = [], []
        for group in plan.groups:
            heads = self._attend(qkv[group.gather], group)
            pieces.append(heads if group.valid is None else heads[group.valid])
            places.append(group.gather if group.valid is None else group.gather[group.valid])
        mixed = mixed.index_copy(0, torch.cat(places), torch.cat(pieces))
        return self._out(mixed)

    def _out(self, mixed: Tensor) -> Tensor:
        projected: Tensor = self.out_proj(mixed)
        return projected

    def _attend(self, qkv: Tensor, group: _Group) -> Tensor:
        """Attend in one group: [n × S, 3, H, d] -> [n × S, D]."""
        n, width = group.count, group.width
        q, k, v = qkv.view(n, width, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mask = None if group.valid is None else group.valid.view(n, 1, 1, width)
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [n, H, S, d]
        return heads.transpose(1, 2).reshape(n * width, -1)


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
