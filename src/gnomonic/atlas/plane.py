"""Nearest neighbours on the plane, exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.kernel_calls import run_kernel
from gnomonic.atlas.kernels import threads
from gnomonic.errors import InputError

__all__ = ["plane_neighbors"]

_LEAF = 64
"""Points a leaf of the numpy form; its leaves are compared with each other whole."""


def plane_neighbors(xy: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the nearest neighbours of each point, by Euclidean distance.

    Among equally far points the lower row comes first, so the answer is one and repeats. Time is about n log n, however
    many points are equal; of more than k equal points all have the same lowest rows as their neighbours.

    Args:
        xy: [n, 2] float32 positions, finite.
        k: neighbours a point, itself not counted; 1 or more.

    Returns:
        indices [n, k] int32, nearest first, -1 where there are fewer than k others; distances [n, k] float32, infinity
        there.

    Raises:
        InputError: the positions are not [n, 2] or not finite, or k is below 1.
    """
    if k < 1:
        raise InputError(f"k {k} is smaller than 1; ask for one neighbour or more")
    points = np.ascontiguousarray(xy, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"positions have the shape {points.shape}; give [n, 2]")
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        raise InputError(f"the position of row {int(bad.argmax())} is not finite; project the map again")
    indices = np.empty((len(points), k), dtype=np.int32)
    distances = np.empty((len(points), k), dtype=np.float32)
    if not run_kernel("plane_neighbors", points, len(points), k, indices, distances, threads()):
        return _by_leaves(points, k)
    return indices, distances


def _by_leaves(points: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Give the kernel's answer: leaves of a k-d tree against all leaves near enough."""
    indices = np.full((len(points), k), -1, dtype=np.int32)
    distances = np.full((len(points), k), np.inf, dtype=np.float32)
    # Of equal points only the first k + 1 can be anybody's neighbours; the others have the first k as theirs.
    _, place, copies = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    grouped = np.argsort(place, kind="stable")
    first = np.cumsum(copies) - copies
    rank = np.empty(len(points), dtype=np.int64)
    rank[grouped] = np.arange(len(points)) - first[place[grouped]]
    late = np.flatnonzero(rank > k)
    indices[late] = grouped[first[place[late]][:, None] + np.arange(k)]
    distances[late] = 0.0
    kept = np.flatnonzero(rank <= k)
    leaves = _leaves(points, kept)
    low = np.array([points[leaf].min(axis=0) for leaf in leaves], dtype=np.float64).reshape(-1, 2)
    high = np.array([points[leaf].max(axis=0) for leaf in leaves], dtype=np.float64).reshape(-1, 2)
    for number, leaf in enumerate(leaves):
        gap = np.maximum(0.0, np.maximum(low - high[number], low[number] - high))
        between = (gap * gap).sum(axis=1)
        # The points of the nearest leaves that hold enough bound how far a neighbour can be.
        near = np.argsort(between, kind="stable")
        enough = 1 + int(np.searchsorted(np.cumsum([len(leaves[i]) for i in near[: k + 2]]), k + 1))
        bound = _nearest(points, leaf, np.concatenate([leaves[i] for i in near[:enough]]), k)[1]
        reach = float(np.max(bound[:, -1], initial=0.0))
        candidates = np.concatenate([leaves[i] for i in np.flatnonzero(between <= reach)])
        found, squared = _nearest(points, leaf, np.sort(candidates), k)
        indices[leaf, : found.shape[1]] = found
        distances[leaf, : found.shape[1]] = np.sqrt(squared)
    indices[np.isinf(distances)] = -1
    return indices, distances


def _leaves(points: NDArray[np.float32], rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut rows into groups of at most `_LEAF` near each other."""
    if len(rows) <= _LEAF:
        return [rows] if len(rows) else []
    spread = np.ptp(points[rows], axis=0)
    middle = len(rows) // 2
    order = np.argpartition(points[rows, int(spread[1] > spread[0])], middle)
    return _leaves(points, rows[order[:middle]]) + _leaves(points, rows[order[middle:]])


def _nearest(
    points: NDArray[np.float32], rows: NDArray[np.int64], among: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the k nearest of some points and their squared distances, ties in the order given."""
    away = points[rows, None].astype(np.float64) - points[among]
    squared = (away * away).sum(axis=2)
    squared[rows[:, None] == among] = np.inf
    k = min(k, len(among))
    furthest = np.partition(squared, k - 1, axis=1)[:, k - 1 : k]
    row, column = np.nonzero(squared <= furthest)
    order = np.lexsort((squared[row, column], row))
    first = np.searchsorted(row, np.arange(len(rows)))
    column = column[order[first[:, None] + np.arange(k)]]
    return among[column], np.take_along_axis(squared, column, axis=1)
