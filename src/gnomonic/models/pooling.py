"""Mean pooling over packed sequences; the torch twin of what the ONNX graph does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["mean_pool"]


def mean_pool(token_embeddings: Tensor, lengths: Sequence[int]) -> Tensor:
    """Average each sequence's token vectors, in float32 whatever their dtype.

    Args:
        token_embeddings: [total, hidden_size], sequences end to end.
        lengths: tokens per sequence, each at least 1; they sum to total.

    Returns:
        [batch, hidden_size] float32.
    """
    sizes = torch.tensor(lengths, dtype=torch.int64, device=token_embeddings.device)
    owner = torch.repeat_interleave(sizes)
    sums = token_embeddings.new_zeros(len(lengths), token_embeddings.shape[1], dtype=torch.float32)
    sums = sums.index_add(0, owner, token_embeddings.float())
    return sums / sizes[:, None]
