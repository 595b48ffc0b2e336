"""From pooled vectors to unit embeddings: layer norm, Matryoshka truncation, unit length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["finish", "merge_chunks", "unit_mean"]

_LAYER_NORM_EPS = 1e-5


def finish(pooled: NDArray[np.floating], *, layer_norm: bool, dim: int) -> NDArray[np.float32]:
    """Turn pooled vectors into embeddings of unit length.

    The v1.5 family normalises over the full width first: (x - mean) / sqrt(var + 1e-5), biased variance, no
    affine. Then come the first `dim` values, then x / |x|. Computed in float64, so that the result does not
    depend on how rows are grouped.

    Args:
        pooled: [n, hidden_size], left unchanged.
        layer_norm: whether the model is of the v1.5 family.
        dim: size of the result, 1 to hidden_size.

    Returns:
        [n, dim] float32, rows of norm 1 within 1e-6; a row without any direction (all zero) stays zero.
    """
    x = pooled.astype(np.float64)
    if layer_norm:
        x -= x.mean(axis=1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=1, keepdims=True) + _LAYER_NORM_EPS)
    return _unit(x[:, :dim]).astype(np.float32)


def merge_chunks(embedded: NDArray[np.float32], owners: NDArray[np.int64], texts: int) -> NDArray[np.float32]:
    """Return one vector a text: its only chunk's, or the mean of its chunks', scaled to unit length.

    Args:
        embedded: [chunks, dim], rows of unit length.
        owners: [chunks] ascending: the text of each chunk; every text has at least one.
        texts: how many there are.

    Returns:
        [texts, dim] float32; `embedded` itself where every text has one chunk.
    """
    if len(embedded) == texts:
        return embedded
    bounds = np.searchsorted(owners, np.arange(texts + 1))
    out = embedded[bounds[:-1]]
    for text in np.flatnonzero(np.diff(bounds) > 1):
        out[text] = unit_mean(embedded[bounds[text] : bounds[text + 1]])
    return out


def unit_mean(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Average the embeddings of one text's chunks and scale the mean to unit length.

    Args:
        vectors: [chunks, dim], rows of unit length, at least one.

    Returns:
        [dim] float32, norm 1; zero when the chunks cancel out exactly.
    """
    mean = vectors.astype(np.float64).mean(axis=0, keepdims=True)
    unit: NDArray[np.float32] = _unit(mean)[0].astype(np.float32)
    return unit


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # Scaling by the largest value first keeps the squares of tiny and huge rows in range.
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    scaled = x / np.where(largest > 0, largest, 1.0)
    norm = np.sqrt(np.square(scaled).sum(axis=1, keepdims=True))
    unit: NDArray[np.float64] = scaled / np.where(norm > 0, norm, 1.0)
    return unit
