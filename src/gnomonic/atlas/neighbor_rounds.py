"""A round of NN-descent (Dong et al. 2011): a neighbour of a neighbour is likely a neighbour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.best_matches import BestLists
from gnomonic.atlas.kernel_calls import run_kernel
from gnomonic.atlas.kernels import threads
from gnomonic.atlas.vector_rows import VectorRows

__all__ = ["refine_lists"]

_WIDEST = 16
"""Neighbours of each kind, those a row lists and those that list it, that are asked for theirs."""
_BLOCK_ROWS = 32


def refine_lists(
    lists: BestLists,
    points: VectorRows,
    bias: NDArray[np.float32] | None,
    *,
    k: int,
    cell_of: NDArray[np.int32],
    searched: NDArray[np.uint8],
) -> None:
    """Let each row meet the neighbours of its neighbours, in place, but for rows its cell has met already.

    Args:
        lists: of n rows; scores are -|x - y|²/2 - bias.
        points: the n rows.
        bias: [n] float32; None for none.
        k: neighbours wanted in the end.
        cell_of: [n] int32, each row's cell.
        searched: [cells, cells] uint8, 1 where all rows of the one have met all of the other.
    """
    width = min(k, _WIDEST, lists.ids.shape[1])
    near = np.full((len(points), 2 * width), -1, dtype=np.int32)
    near[:, :width] = lists.ids[:, :width]
    near[:, width:] = _reverse(lists.ids, width)
    if not run_kernel(
        "neighbors_refine", *points.arguments, points.dim, bias, len(points), near, near.shape[1], cell_of, searched,
        len(searched), lists.scores, lists.ids, lists.ids.shape[1], threads(),
    ):  # fmt: skip
        for begin in range(0, len(points), _BLOCK_ROWS):
            rows = np.arange(begin, min(begin + _BLOCK_ROWS, len(points)))
            _refine(lists, points, bias, near, rows, searched[cell_of[rows]][:, cell_of])


def _reverse(ids: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """Return for each row the first rows [n, width] int32 that have it among their `width` best; -1 for none."""
    count = len(ids)
    found = np.full((count, width), -1, dtype=np.int32)
    if not run_kernel("neighbors_reverse", ids, count, width, ids.shape[1], found, width):
        to = ids[:, :width].T.ravel()
        come_from = np.tile(np.arange(count, dtype=np.int32), width)[to >= 0]
        to = to[to >= 0]
        order = np.argsort(to, kind="stable")
        to = to[order]
        rank = np.arange(len(to)) - np.searchsorted(to, to)
        kept = rank < width
        found[to[kept], rank[kept]] = come_from[order][kept]
    return found


def _refine(
    lists: BestLists,
    points: VectorRows,
    bias: NDArray[np.float32] | None,
    near: NDArray[np.int32],
    rows: NDArray[np.int64],
    met: NDArray[np.uint8],
) -> None:
    """Do what the kernel does for some rows; `met` [rows, n] tells whom their cells have met."""
    ids = np.where(near[rows, :, None] >= 0, near[near[rows]], -1).reshape(len(rows), -1)
    ids.sort(axis=1)
    known = ids < 0
    known[:, 1:] |= ids[:, 1:] == ids[:, :-1]
    known |= ids == rows[:, None]
    known |= np.take_along_axis(met, np.maximum(ids, 0), axis=1) != 0
    known |= (ids[:, :, None] == lists.ids[rows, None, :]).any(axis=2)
    steps = points.rows(rows).read()[:, None, :] - points.rows(np.maximum(ids, 0).ravel()).read().reshape(
        *ids.shape, -1
    )
    scores = np.float32(-0.5) * np.einsum("ijk,ijk->ij", steps, steps)
    if bias is not None:
        scores -= bias[ids]
    lists.merge(slice(rows[0], rows[-1] + 1), np.where(known, np.float32(-np.inf), scores), ids)
