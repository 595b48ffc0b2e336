"""Principal components of a sample, and rows reduced to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.vector_rows import VectorRows

__all__ = ["reduce_rows"]

_DIM = 128
_SPARE_DIM = 16
_SAMPLE_ROWS = 20_000
_ITERATIONS = 3
_BLOCK_ROWS = 8_192


def reduce_rows(rows: VectorRows, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Centre rows and reduce them to at most 128 dimensions.

    Distances shrink by what is lost. As what two rows lose is nearly at right angles, their squared distance is close
    to that of the reduced rows plus twice the two losses.

    Args:
        rows: t rows, t > 0.
        rng: chooses the sample.

    Returns:
        points [t, r] float32, and half the squared length each row lost [t] float32; None where nothing was reduced.
    """
    sampled = rows
    if len(rows) > _SAMPLE_ROWS:
        sampled = rows.rows(np.sort(rng.choice(len(rows), _SAMPLE_ROWS, replace=False)))
    sample = sampled.read()
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    if rows.dim <= _DIM + _SPARE_DIM:
        points = rows.read()
        points -= mean
        return points, None
    sample -= mean
    axes = _axes(sample, rng)
    points = np.empty((len(rows), _DIM), dtype=np.float32)
    lost = np.empty(len(rows), dtype=np.float32)
    for begin in range(0, len(rows), _BLOCK_ROWS):
        part = slice(begin, begin + _BLOCK_ROWS)
        block = rows.part(begin, begin + _BLOCK_ROWS).read()
        block -= mean
        reduced = np.matmul(block, axes, out=points[part])
        squares = np.einsum("ij,ij->i", block, block) - np.einsum("ij,ij->i", reduced, reduced)
        lost[part] = np.maximum(squares, 0) / 2
    return points, lost


def _axes(sample: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the leading principal axes [d, 128] float32 of centred rows.

    Subspace iteration with Rayleigh-Ritz (Halko et al. 2011, "Finding structure with randomness", algorithm 4.4).
    """
    axes = rng.standard_normal((sample.shape[1], _DIM + _SPARE_DIM), dtype=np.float32)
    for _ in range(_ITERATIONS):
        axes = np.linalg.qr(sample.T @ (sample @ axes))[0]
    reduced = sample @ axes
    _, turn = np.linalg.eigh((reduced.T @ reduced).astype(np.float64))
    return np.ascontiguousarray(axes @ turn[:, ::-1][:, :_DIM].astype(np.float32))
