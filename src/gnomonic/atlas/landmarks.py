"""A sample of the rows that stands for all: its own graph, and every row's nearest ones in it, within two steps."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.fuzzy import Neighbors
from gnomonic.atlas.kernels import library, pointer, threads

__all__ = ["LandmarkGraph", "draw_landmarks", "landmark_neighbors"]

_BLOCK_ROWS = 4_096


@dataclass(frozen=True, kw_only=True, slots=True)
class LandmarkGraph:
    """The nearest landmarks of some rows."""

    indices: NDArray[np.int32]
    """[m, k] numbers of landmarks, nearest first, -1 where a row reaches fewer."""
    distances: NDArray[np.float32]
    """[m, k] ascending, infinity where there is none."""
    metric: str


def draw_landmarks(n: int, count: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Return some of n rows, each as likely as the others, ascending.

    Args:
        n: rows there are.
        count: landmarks wanted.
        seed: of the draw.
    """
    return np.sort(np.random.default_rng([seed, 2]).permutation(n)[:count])


def landmark_neighbors(graph: Neighbors, landmarks: NDArray[np.int64], rows: NDArray[np.int64]) -> LandmarkGraph:
    """Return the nearest landmarks of some rows, among their neighbours and the neighbours of those.

    Two steps are as long as steps at right angles, which they nearly are in many dimensions: cosine distances add,
    Euclidean ones add in squares.

    Args:
        graph: neighbours of all rows.
        landmarks: [l] int64 rows.
        rows: [m] int64 rows whose nearest landmarks are wanted; a landmark is not its own.
    """
    slots = np.full(len(graph.indices), -1, dtype=np.int32)
    slots[landmarks] = np.arange(len(landmarks), dtype=np.int32)
    k = graph.indices.shape[1]
    indices, distances = np.empty((len(rows), k), dtype=np.int32), np.empty((len(rows), k), dtype=np.float32)
    squared = graph.metric != "cosine"
    kernels = library()
    if kernels is None:
        for begin in range(0, len(rows), _BLOCK_ROWS):
            block = slice(begin, begin + _BLOCK_ROWS)
            indices[block], distances[block] = _nearest(graph, slots, rows[block], squared)
    elif len(rows) and k:
        near, apart = np.ascontiguousarray(graph.indices), np.ascontiguousarray(graph.distances)
        wanted = np.ascontiguousarray(rows, dtype=np.int64)
        if kernels.layout_landmarks(
            pointer(near), pointer(apart), pointer(slots), pointer(wanted), ctypes.c_int64(len(rows)),
            ctypes.c_int64(k), ctypes.c_int32(squared), pointer(indices), pointer(distances), threads(),
        ):  # fmt: skip
            raise MemoryError("no memory for the landmarks of the map")
    return LandmarkGraph(indices=indices, distances=distances, metric=graph.metric)


def _nearest(
    graph: Neighbors, slots: NDArray[np.int32], rows: NDArray[np.int64], squared: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Give the kernel's answer for a block of rows."""
    m, k = len(rows), graph.indices.shape[1]
    near = np.asarray(graph.indices[rows])
    first = np.where(near >= 0, np.asarray(graph.distances[rows]), np.inf).astype(np.float32)
    beyond = np.where((near >= 0)[:, :, None], np.asarray(graph.indices)[np.maximum(near, 0)], -1)
    second = np.asarray(graph.distances)[np.maximum(near, 0)]
    with np.errstate(invalid="ignore"):
        path = np.sqrt(first[:, :, None] ** 2 + second**2) if squared else first[:, :, None] + second
    found = np.concatenate([near, beyond.reshape(m, -1)], axis=1)
    apart = np.concatenate([first, path.reshape(m, -1)], axis=1)
    slot = np.where((found >= 0) & (found != rows[:, None]), slots[np.maximum(found, 0)], -1)
    apart = np.where(slot >= 0, apart, np.float32(np.inf))
    # The shortest way to each landmark comes first among its ways.
    order = np.lexsort((apart, slot), axis=1)
    slot, apart = np.take_along_axis(slot, order, 1), np.take_along_axis(apart, order, 1)
    again = np.zeros(slot.shape, dtype=bool)
    again[:, 1:] = slot[:, 1:] == slot[:, :-1]
    apart[again] = np.inf
    order = np.lexsort((slot, apart), axis=1)[:, :k]
    slot, apart = np.take_along_axis(slot, order, 1), np.take_along_axis(apart, order, 1)
    return np.where(np.isinf(apart), -1, slot).astype(np.int32), apart.astype(np.float32)
