"""Where the rows of a layout begin: along the two directions in which the vectors vary most."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import InputError

__all__ = ["start_positions"]

_SAMPLE_ROWS = 8_000
_BLOCK_VALUES = 1 << 23
"""Values of the vectors that are held as float32 at a time."""
_EXTENT_PER_ROW = 2.5e-4
_EXTENTS = (2.5, 20.0)
"""Smallest and largest. Many rows need room, or their neighbourhoods stay folded over each other; few rows keep their
large distances better in a small one."""
_DEVIATIONS = 3.0
"""Standard deviations that reach the extent; what lies beyond begins at the rim."""
_JITTER = 1e-4
"""Of the extent: parts equal rows, so that they can be pushed apart."""


def start_positions(vectors: NDArray[Any], *, metric: str, seed: int = 0) -> NDArray[np.float32]:
    """Return the vectors' first two principal components, scaled to -5 to 5, or up to -20 to 20 where rows are many.

    A tiny jitter parts equal rows. The number of threads does not matter: what a matrix product may round otherwise is
    rounded away.

    Args:
        vectors: [n, d] float16 or float32, perhaps a memory map; read in blocks.
        metric: "cosine" looks at the rows' directions alone, their lengths put aside.
        seed: of the sample that the components are found from, and of the jitter.

    Returns:
        [n, 2] float32; the sign of each component is that which makes its largest part positive.

    Raises:
        InputError: a vector is not finite; names the first such row.
    """
    n, d = vectors.shape
    found = np.zeros((n, 2), dtype=np.float32)
    if n and d:
        random = np.random.default_rng(seed)
        mean, scale, basis = _components(vectors, np.sort(random.permutation(n)[:_SAMPLE_ROWS]), metric, random)
        step = max(1, _BLOCK_VALUES // d)
        for begin in range(0, n, step):
            block = _rows(vectors, slice(begin, begin + step), metric)
            if not np.isfinite(block).all():
                bad = begin + int((~np.isfinite(block).all(axis=1)).argmax())
                raise InputError(f"the vector of row {bad} is not finite; remove the row or embed it again")
            block /= scale
            block -= mean
            for axis in range(2):  # einsum, as BLAS rounds by the number of threads
                found[begin : begin + step, axis] = np.einsum("ij,j->i", block, basis[axis])
    deviation = float(np.sqrt((found.astype(np.float64) ** 2).mean(axis=0).max())) if n else 0.0
    extent = min(max(_EXTENT_PER_ROW * n, _EXTENTS[0]), _EXTENTS[1])
    if deviation > 0.0:
        found *= np.float32(extent / _DEVIATIONS / deviation)
    np.clip(found, -extent, extent, out=found)
    jitter = np.random.default_rng([seed, 1]).standard_normal((n, 2), dtype=np.float32)
    return found + np.float32(extent * _JITTER) * jitter


def _components(
    vectors: NDArray[Any], drawn: NDArray[np.int64], metric: str, random: np.random.Generator
) -> tuple[NDArray[np.float32], np.float32, NDArray[np.float32]]:
    """Return a sample's mean [d], the scale it was divided by before, and its components [2, d].

    By subspace iteration (Halko, Martinsson and Tropp 2011, "Finding structure with randomness", algorithm 4.4).
    """
    rows = _rows(vectors, drawn, metric)
    finite = np.isfinite(rows).all(axis=1)
    sample = rows[finite].astype(np.float64)
    scale = float(np.abs(sample).max(initial=0.0)) or 1.0
    sample /= scale
    mean = sample.mean(axis=0) if len(sample) else np.zeros(sample.shape[1])
    sample -= mean
    block = random.standard_normal((sample.shape[1], 8))
    for _ in range(12):
        block = sample.T @ (sample @ np.linalg.qr(block)[0])
    block = np.linalg.qr(block)[0]
    strengths, turned = np.linalg.eigh(block.T @ (sample.T @ (sample @ block)))
    basis = np.zeros((2, sample.shape[1]))
    for axis in range(min(2, len(strengths))):
        # A direction without any variance is made of rounding errors; leave it out.
        if strengths[-1 - axis] > 1e-9 * strengths[-1] > 0.0:
            direction = block @ turned[:, -1 - axis]
            basis[axis] = direction * np.sign(direction[np.abs(direction).argmax()])
    return mean.round(9).astype(np.float32), np.float32(scale), basis.round(6).astype(np.float32)


def _rows(vectors: NDArray[Any], rows: Any, metric: str) -> NDArray[np.float32]:
    """Return some rows as float32, of length 1 (or 0) for the cosine."""
    block = np.array(vectors[rows], dtype=np.float32)
    if metric == "cosine":
        # By the largest part first, so that no square is out of range.
        largest = np.maximum(block.max(axis=1, keepdims=True), -block.min(axis=1, keepdims=True))
        with np.errstate(invalid="ignore"):
            np.divide(block, largest, out=block, where=largest > 0)
            length = np.sqrt(np.einsum("ij,ij->i", block, block))[:, None]
            np.divide(block, length, out=block, where=length > 0)
    return block
