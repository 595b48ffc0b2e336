"""Cells of rows that lie near each other: k-means on a sample, with none much larger than the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.best_matches import BestLists, row_groups
from gnomonic.atlas.vector_rows import VectorRows

__all__ = ["Cells", "make_cells"]

_SAMPLE_PER_CELL = 60
_ROUNDS = 6
_LARGEST = 2.5
"""Times the wished size beyond which a cell is split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """A partition of rows."""

    order: NDArray[np.int64]
    """[n] int64, rows sorted by cell, ascending inside one."""
    starts: NDArray[np.int64]
    """[cells + 1] int64, where each cell begins in `order`; no cell is empty."""
    centres: NDArray[np.float32]
    """[cells, d] float32, means of the cells' rows."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """[cells] int64, rows of each cell."""
        return np.diff(self.starts)


def make_cells(points: NDArray[np.float32], *, size: int, rng: np.random.Generator) -> Cells:
    """Cut points into cells.

    Args:
        points: [n, d] float32, n > 0.
        size: rows a cell should have; none has more than 2.5 times as many.
        rng: chooses the sample and the first centres.
    """
    labels = _cut(points, max(1, round(len(points) / size)), rng)
    counts = np.bincount(labels)
    following = len(counts)
    order, starts = _sorted(labels, following)
    for cell in np.flatnonzero(counts > _LARGEST * size):
        rows = order[starts[cell] : starts[cell + 1]]
        parts = _split(points[rows], size, rng)
        labels[rows[parts > 0]] = following + parts[parts > 0] - 1
        following += int(parts.max())
    labels = np.unique(labels, return_inverse=True)[1]
    order, starts = _sorted(labels, int(labels.max()) + 1)
    return Cells(order=order, starts=starts, centres=_means(points, order, starts))


def _cut(points: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return labels [n] int64 of k-means (Lloyd's rounds on a sample, then every point to its nearest centre)."""
    if count == 1:
        return np.zeros(len(points), dtype=np.int64)
    sample = points
    if len(points) > count * _SAMPLE_PER_CELL:
        sample = points[np.sort(rng.choice(len(points), count * _SAMPLE_PER_CELL, replace=False))]
    centres = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(_ROUNDS):
        labels = _nearest(sample, centres)
        found, inverse = np.unique(labels, return_inverse=True)
        centres[found] = _means(sample, *_sorted(inverse, len(found)))
    return _nearest(points, centres)


def _split(points: NDArray[np.float32], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return labels [n] int64 of parts of at most 2.5 times the wished size."""
    labels = _cut(points, -(-len(points) // size), rng)
    following = int(labels.max()) + 1
    for part in np.flatnonzero(np.bincount(labels) > _LARGEST * size):
        # What k-means does not tell apart is sliced along the line from its middle to its farthest point.
        rows = np.flatnonzero(labels == part)
        away = points[rows] - points[rows].mean(axis=0)
        farthest = away[np.einsum("ij,ij->i", away, away).argmax()]
        slices = -(-len(rows) // size)
        sliced = np.empty(len(rows), dtype=np.int64)
        sliced[np.argsort(away @ farthest, kind="stable")] = np.arange(len(rows)) * slices // len(rows)
        labels[rows[sliced > 0]] = following + sliced[sliced > 0] - 1
        following += slices - 1
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest centre of each point [n] int64."""
    lists = BestLists.empty(len(points), 1)
    bias = np.float32(0.5) * np.einsum("ij,ij->i", centres, centres)
    segments = np.array([[0, len(centres)]], dtype=np.int64)
    lists.join(
        VectorRows(vectors=points),
        VectorRows(vectors=centres),
        bias=bias,
        differences=False,
        groups=row_groups(len(points)),
        segments=segments,
    )
    return lists.ids[:, 0].astype(np.int64)


def _sorted(labels: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows sorted by label [n] int64, and where each label begins [count + 1] int64."""
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(labels, minlength=count), out=starts[1:])
    return np.argsort(labels, kind="stable"), starts


def _means(points: NDArray[np.float32], order: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean of each run of `order` [runs, d] float32; no run is empty."""
    means = np.empty((len(starts) - 1, points.shape[1]), dtype=np.float32)
    step = max(1, len(means) * (1 << 16) // max(1, len(order)))
    for begin in range(0, len(means), step):
        end = min(begin + step, len(means))
        first = starts[begin]
        sums = np.add.reduceat(points[order[first : starts[end]]], starts[begin:end] - first, axis=0)
        means[begin:end] = sums / (starts[begin + 1 : end + 1] - starts[begin:end])[:, None]
    return means
