"""New rows on a plane that stands, and one plane turned to lie on another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.fuzzy import neighbor_weights
from gnomonic.errors import InputError

__all__ = ["align", "place"]

_BLOCK_ROWS = 8_192
_NEAR_SHARE = 0.25
"""Of the neighbours' weight: those nearest the middle one that hold so much tell how wide its group is."""
_GROUP_RADIUS = 2.0
"""Widths of the group within which neighbours count for the position."""
_JITTER = 0.1
"""Of the group's width: parts new rows that have the same neighbours."""
_LEAST_JITTER = 1e-4
"""Of the plane's standard deviation: parts them where the neighbours themselves lie on one spot."""


def place(
    indices: NDArray[np.int32], distances: NDArray[np.float32], xy: NDArray[np.float32], *, seed: int = 0
) -> NDArray[np.float32]:
    """Return positions for new rows by their neighbours among those placed before, which stay where they are.

    Neighbours are weighted as in the layout. Of two groups far apart a row goes to the heavier, not between them: the
    neighbour with the least weighted distance to the others marks the group, and the mean of the neighbours around it
    is the position, with a tiny jitter.

    Args:
        indices: [m, k] int32 nearest rows of `xy`, nearest first; -1 where a row has fewer.
        distances: [m, k] float32 to them, ascending.
        xy: [n, 2] float32 positions of the rows placed before.
        seed: of the jitter.

    Returns:
        [m, 2] float32; a row without any neighbour goes to the plane's mean.

    Raises:
        InputError: the shapes do not fit each other, or an index is beyond the rows of `xy`.
    """
    if indices.ndim != 2 or indices.shape != distances.shape:
        raise InputError(f"indices {indices.shape} and distances {distances.shape} differ; give both as [rows, k]")
    if indices.size and int(indices.max()) >= len(xy):
        raise InputError(f"neighbour {int(indices.max())} is none of the {len(xy)} rows placed; give their positions")
    middle = xy.mean(axis=0, dtype=np.float64) if len(xy) else np.zeros(2)
    least = _LEAST_JITTER * float(np.sqrt(xy.var(axis=0, dtype=np.float64).sum())) if len(xy) else 0.0
    placed = np.empty((len(indices), 2), dtype=np.float32)
    width = np.zeros(len(indices), dtype=np.float32)
    placed[:] = middle
    if len(xy) and indices.shape[1]:
        weights = neighbor_weights(indices, distances)
        for begin in range(0, len(indices), _BLOCK_ROWS):
            block = slice(begin, begin + _BLOCK_ROWS)
            rows = np.flatnonzero(weights[block].sum(axis=1) > 0.0) + begin
            placed[rows], width[rows] = _place(xy[np.maximum(indices[rows], 0)], weights[rows])
    jitter = np.random.default_rng([seed, 3]).standard_normal((len(indices), 2), dtype=np.float32)
    placed += np.maximum(np.float32(_JITTER) * width, np.float32(least))[:, None] * jitter
    return placed


def align(xy: NDArray[np.float32], onto: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return positions turned, mirrored, scaled and shifted as a whole, so that some lie best on given ones.

    The transform is the similarity of least squares, reflections allowed (Umeyama 1991, "Least-squares estimation of
    transformation parameters between two point patterns", equations 40 to 42 without the sign).

    Args:
        xy: [n, 2] float32 positions.
        onto: [m, 2] float32 where the rows `rows` should come to lie.
        rows: [m] int64 rows of `xy`.

    Returns:
        [n, 2] float32. Without rows nothing moves; where all of them lie on one spot, all is shifted only.

    Raises:
        InputError: `onto` and `rows` differ in length.
    """
    if onto.shape != (len(rows), 2):
        raise InputError(f"onto has the shape {onto.shape} for {len(rows)} rows; give one position [2] a row")
    if len(rows) == 0:
        return np.array(xy, dtype=np.float32)
    given, wanted = xy[rows].astype(np.float64), onto.astype(np.float64)
    here, there = given.mean(axis=0), wanted.mean(axis=0)
    given -= here
    wanted -= there
    left, strengths, right = np.linalg.svd(wanted.T @ given)
    spread = (given**2).sum()
    scale = strengths.sum() / spread if spread > 0.0 else 0.0
    matrix = scale * (left @ right) if scale > 0.0 else np.eye(2)
    moved: NDArray[np.float32] = ((xy.astype(np.float64) - here) @ matrix.T + there).astype(np.float32)
    return moved


def _place(around: NDArray[np.float32], weights: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return positions [m, 2] by neighbours at [m, k, 2] with weights [m, k], and how wide their groups are [m]."""
    rows = np.arange(len(around))
    apart = np.hypot(*np.moveaxis(around[:, :, None, :] - around[:, None, :, :], -1, 0))
    cost = np.where(weights > 0.0, np.einsum("mij,mj->mi", apart, weights), np.inf)
    away = apart[rows, cost.argmin(axis=1)]
    order = np.argsort(away, axis=1, kind="stable")
    held = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    enough = (held >= _NEAR_SHARE * held[:, -1:]).argmax(axis=1)
    # The middle neighbour may hold as much alone; then its nearest fellow tells the width.
    width = away[rows, order[rows, np.maximum(enough, min(1, away.shape[1] - 1))]]
    counted = np.where(away <= _GROUP_RADIUS * width[:, None], weights, 0.0)
    position = np.einsum("mk,mkc->mc", counted, around) / counted.sum(axis=1)[:, None]
    return position, width
