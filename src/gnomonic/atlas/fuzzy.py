"""The neighbours' graph as the layout sees it: symmetric edges weighted by nearness (UMAP's fuzzy set)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.kernels import library, pointer, threads

__all__ = ["EdgeGraph", "Neighbors", "fuzzy_graph", "neighbor_weights"]

_BLOCK_ROWS = 65_536
_ROUNDS = 64
"""Halvings at most, when a row's width is searched."""
_SMALLEST_WIDTH = 1e-3
"""Of the mean distance: narrower, and all but the nearest neighbours would count nothing."""


class Neighbors(Protocol):
    """What is read of a graph of nearest neighbours."""

    @property
    def indices(self) -> NDArray[np.int32]:
        """[n, k] nearest first, -1 where a row has fewer."""

    @property
    def distances(self) -> NDArray[np.float32]:
        """[n, k] ascending."""

    @property
    def metric(self) -> str:
        """Of the distances: "cosine" or "euclidean"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeGraph:
    """A symmetric graph, each edge stored in the rows of both its ends."""

    offsets: NDArray[np.int64]
    """[n + 1] where each row's edges begin."""
    targets: NDArray[np.int32]
    """[edges] the other end, ascending in a row."""
    weights: NDArray[np.float32]
    """[edges] in (0, 1]."""

    def __len__(self) -> int:
        return len(self.offsets) - 1


def neighbor_weights(
    indices: NDArray[np.int32], distances: NDArray[np.float32], *, local_connectivity: int = 1
) -> NDArray[np.float32]:
    """Return how much each neighbour counts for its row, 1 for the nearest and less beyond.

    exp(-max(0, d - rho) / sigma), where rho is the distance to the nearest neighbour that is not an equal and sigma is
    such that a row's weights sum to log2(k + 1), for k neighbours besides the row itself (McInnes, Healy and Melville
    2018, "UMAP", section 3.1 and algorithm 3).

    Args:
        indices: [n, k] int32, -1 where a row has fewer neighbours.
        distances: [n, k] float32, ascending, 0 or more.
        local_connectivity: which neighbour, the nearest being 1, still counts fully.

    Returns:
        [n, k] float32 in [0, 1]; 0 where there is no neighbour.
    """
    indices, distances = np.ascontiguousarray(indices), np.ascontiguousarray(distances)
    n, k = indices.shape
    real = indices >= 0
    mean = float(distances.mean(where=real, dtype=np.float64)) if real.any() else 0.0
    weights = np.zeros((n, k), dtype=np.float32)
    kernels = library()
    if n == 0 or k == 0:
        return weights
    if kernels is not None:
        sizes = (ctypes.c_int64(n), ctypes.c_int64(k), ctypes.c_int64(k), ctypes.c_int64(local_connectivity))
        kernels.layout_weigh(
            pointer(indices), pointer(distances), pointer(weights), *sizes, ctypes.c_double(mean), threads()
        )
        return weights
    for begin in range(0, n, _BLOCK_ROWS):
        block = slice(begin, begin + _BLOCK_ROWS)
        weights[block] = _weigh(distances[block], real[block], local_connectivity, mean)
    return weights


def fuzzy_graph(graph: Neighbors, *, n_neighbors: int | None = None, local_connectivity: int = 1) -> EdgeGraph:
    """Return the symmetric graph of a graph of nearest neighbours.

    An edge weighs w + v - w v, for the weights w and v that its ends give each other (UMAP's probabilistic union).

    Args:
        graph: the neighbours.
        n_neighbors: how many of them count; default all.
        local_connectivity: as of `neighbor_weights`.
    """
    k = min(n_neighbors or graph.indices.shape[1], graph.indices.shape[1])
    indices = np.ascontiguousarray(graph.indices[:, :k], dtype=np.int32)
    distances = np.ascontiguousarray(graph.distances[:, :k], dtype=np.float32)
    weights = neighbor_weights(indices, distances, local_connectivity=local_connectivity)
    return _join(indices, weights)


def _join(indices: NDArray[np.int32], weights: NDArray[np.float32]) -> EdgeGraph:
    """Join directed edges [n, k] into a symmetric graph."""
    n, k = indices.shape
    kernels = library()
    if kernels is None or n == 0 or k == 0:
        return _join_by_sorting(indices, weights)
    offsets = np.zeros(n + 1, dtype=np.int64)
    directed = (pointer(indices), pointer(weights), ctypes.c_int64(n), ctypes.c_int64(k), ctypes.c_int64(k))
    failed = kernels.layout_join(*directed, pointer(offsets), None, None, threads())
    targets = np.empty(offsets[-1], dtype=np.int32)
    joined = np.empty(offsets[-1], dtype=np.float32)
    failed = failed or kernels.layout_join(*directed, pointer(offsets), pointer(targets), pointer(joined), threads())
    if failed:
        raise MemoryError("no memory for the edges of the map's graph")
    return EdgeGraph(offsets=offsets, targets=targets, weights=joined)


def _weigh(
    distances: NDArray[np.float32], real: NDArray[np.bool_], local: int, mean_of_all: float
) -> NDArray[np.float32]:
    """Give the kernel's weights, all rows at once."""
    valid = real.sum(axis=1)
    held = np.where(real, distances, 0.0).astype(np.float64)
    zeros = ((held <= 0.0) & real).sum(axis=1)
    last = np.maximum(np.minimum(zeros + local, valid) - 1, 0)
    rho = np.where(zeros == valid, 0.0, held[np.arange(len(held)), last])
    beyond = np.maximum(held - rho[:, None], 0.0)
    target = np.log2(valid + 1.0)
    low, high, width = np.zeros(len(held)), np.full(len(held), np.inf), np.ones(len(held))
    settled = valid == 0
    for _ in range(_ROUNDS):
        total = np.where(real, np.exp(-beyond / width[:, None]), 0.0).sum(axis=1)
        settled |= np.abs(total - target) < 1e-5
        if settled.all():
            break
        wide = total > target
        high = np.where(~settled & wide, width, high)
        low = np.where(~settled & ~wide, width, low)
        with np.errstate(invalid="ignore"):
            next_width = np.where(np.isinf(high), 2.0 * width, 0.5 * (low + high))
        width = np.where(settled, width, next_width)
    mean = np.where(rho > 0.0, held.sum(axis=1) / np.maximum(valid, 1), mean_of_all)
    width = np.maximum(width, _SMALLEST_WIDTH * mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.where(beyond > 0.0, np.exp(-beyond / width[:, None]), 1.0)
    return np.where(real, weights, 0.0).astype(np.float32)


def _join_by_sorting(indices: NDArray[np.int32], weights: NDArray[np.float32]) -> EdgeGraph:
    """Give the kernel's edges by sorting all of them twice, once from either end."""
    n = len(indices)
    row, column = np.nonzero((indices >= 0) & (weights > 0.0))
    other, weight = indices[row, column].astype(np.int64), weights[row, column]
    keys = np.concatenate([row * n + other, other * n + row])
    order = np.argsort(keys, kind="stable")
    keys, both = keys[order], np.concatenate([weight, weight])[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    paired = np.diff(first, append=len(keys)) > 1
    joined = both[first]
    second = both[first[paired] + 1]
    joined[paired] = joined[paired] + second - joined[paired] * second
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys[first] // n, minlength=n) if n else [], out=offsets[1:])
    return EdgeGraph(offsets=offsets, targets=(keys[first] % max(n, 1)).astype(np.int32), weights=joined)
