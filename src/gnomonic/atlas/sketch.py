"""Vectors in little room: their first principal directions in bytes, by which a browser finds what is alike.

Rows are projected to the directions in which a sample of them is longest (for cosines) or differs most (for Euclidean
distances), and every direction is stored in steps of its own. What lies in the directions left out is lost, so scores
are approximate; with as many directions as the vectors have, only by the rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sketch", "plan_sketch"]

_DIM = 64
_SAMPLE = 20_000
_STEPS = 127
_SHORTEST = 1e-30
"""Vectors no longer than this are zero vectors, which are like nothing."""
_BEYOND = 1e-3
"""Share of the sample's values that are cut off at the largest step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketch:
    """How rows are projected and rounded."""

    metric: str
    """"cosine" or "euclidean"."""
    directions: NDArray[np.float32]
    """[k, dim] float32, orthonormal, the one that says most first."""
    center: NDArray[np.float32]
    """[dim] float32: what is taken from a row first; zeros for cosines."""
    steps: NDArray[np.float32]
    """[k] float32: a stored number times its direction's step is the coordinate."""
    kept: float
    """Share of the sample's squared length, or variance, that the directions hold."""

    def encode(self, vectors: NDArray[Any]) -> NDArray[np.int8]:
        """Return rows [m, dim] as [m, k] int8."""
        found = (_prepared(vectors, self.metric) - self.center) @ self.directions.T
        rounded = np.rint(found / np.where(self.steps > 0, self.steps, 1))
        return np.clip(rounded, -_STEPS, _STEPS).astype(np.int8)

    def blocks(
        self, vectors: NDArray[Any], order: NDArray[np.int64], rows: int
    ) -> Iterator[tuple[int, NDArray[np.int8]]]:
        """Yield the number of each block of some rows of the map order, and the rows [b, k] int8."""
        for number, begin in enumerate(range(0, len(order), rows)):
            at = order[begin : begin + rows]
            # Ascending, so that a memory map is read from front to back.
            by_row = np.argsort(at, kind="stable")
            read = np.empty((len(at), len(self.steps)), dtype=np.int8)
            for first in range(0, len(at), 4096):
                part = by_row[first : first + 4096]
                read[part] = self.encode(np.asarray(vectors[at[part]]))
            yield number, read


def plan_sketch(vectors: NDArray[Any], metric: str, *, dim: int = _DIM, seed: int = 0) -> Sketch:
    """Choose the directions and steps.

    Args:
        vectors: [n, dim] float16 or float32, a memory map too; a sample of its rows is read.
        metric: "cosine" or "euclidean".
        dim: directions at most.
        seed: of the sample.
    """
    n, width = vectors.shape
    picked = np.sort(np.random.default_rng(seed).choice(n, size=min(n, _SAMPLE), replace=False))
    sample = _prepared(np.asarray(vectors[picked]), metric)
    center = np.zeros(width, dtype=np.float32)
    if metric != "cosine" and n:
        center = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        sample = sample - center
    # The eigenvectors of the second moments are the right singular vectors of the sample.
    moments = sample.T.astype(np.float64) @ sample.astype(np.float64)
    values, found = np.linalg.eigh(moments)
    count = min(dim, width)
    best = np.argsort(-values, kind="stable")[:count]
    directions = np.ascontiguousarray(found[:, best].T, dtype=np.float32)
    coordinates = np.abs(sample @ directions.T)
    most = np.quantile(coordinates, 1 - _BEYOND, axis=0) if n else np.zeros(count)
    total = float(np.maximum(values, 0).sum())
    return Sketch(
        metric=metric,
        directions=directions,
        center=center,
        steps=(most / _STEPS).astype(np.float32),
        kept=float(np.maximum(values[best], 0).sum()) / total if total > 0 else 1.0,
    )


def _prepared(vectors: NDArray[Any], metric: str) -> NDArray[np.float32]:
    """Return rows as float32, of unit length for cosines; zero vectors stay."""
    rows = np.asarray(vectors, dtype=np.float32)
    if metric != "cosine":
        return rows
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.where(lengths > _SHORTEST, lengths, 1)).astype(np.float32)
    unit *= lengths > _SHORTEST
    return unit
