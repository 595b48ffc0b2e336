"""Losses: tensors in, a scalar out; nothing here knows models, files or steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["info_nce", "matryoshka_info_nce"]


def info_nce(queries: Tensor, documents: Tensor, temperature: float, ignore: Tensor | None = None) -> Tensor:
    """Contrast each query with its own document against all others of the batch.

    InfoNCE (arXiv 1807.03748, eq. 4) over cosine similarities divided by a fixed temperature.

    Args:
        queries: [batch, dim], unit rows.
        documents: [batch, dim], unit rows; row i belongs to query i.
        temperature: above 0.
        ignore: [batch, batch] bool; True takes a document out of a query's negatives, such as a second copy of its
            own document. The diagonal must be False.

    Returns:
        The mean loss, a scalar.
    """
    scores = queries @ documents.T / temperature
    if ignore is not None:
        scores = scores.masked_fill(ignore, float("-inf"))
    return F.cross_entropy(scores, torch.arange(len(queries), device=scores.device))


def matryoshka_info_nce(
    queries: Tensor, documents: Tensor, temperature: float, dims: Sequence[int], ignore: Tensor | None = None
) -> Tensor:
    """Average InfoNCE over nested prefixes of the vectors (Matryoshka, arXiv 2205.13147, eq. 1, equal weights).

    As in nomic-embed-text-v1.5, a layer norm without affine (eps 1e-5) over the full width comes first, then each
    prefix is cut and scaled to unit length.

    Args:
        queries: [batch, hidden_size], pooled.
        documents: [batch, hidden_size], pooled.
        temperature: above 0.
        dims: sizes of the prefixes, each 1 … hidden_size.
        ignore: see `info_nce`.

    Returns:
        The mean loss, a scalar.
    """
    width = queries.shape[1]
    queries, documents = (F.layer_norm(x, (width,), eps=1e-5) for x in (queries, documents))
    losses = [
        info_nce(F.normalize(queries[:, :dim], dim=1), F.normalize(documents[:, :dim], dim=1), temperature, ignore)
        for dim in dims
    ]
    return torch.stack(losses).mean()
