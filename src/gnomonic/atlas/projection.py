"""The plane: positions in two dimensions that keep neighbours together (UMAP)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.fuzzy import Neighbors, fuzzy_graph
from gnomonic.atlas.landmarks import draw_landmarks, landmark_neighbors
from gnomonic.atlas.layout import fit_curve, optimize
from gnomonic.atlas.options import ProjectionOptions
from gnomonic.atlas.placement import place
from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.atlas.start import start_positions
from gnomonic.errors import InputError

__all__ = ["LANDMARKS_ABOVE", "project"]

LANDMARKS_ABOVE = 1_200_000
"""Rows above which a sample is laid out first."""

_RATE = 0.3
"""Below UMAP's 1: here both ends of an edge move at once, and longer moves overshoot."""
_JOINT_RATE = 0.1
"""For rows that stand near their places already."""
_JOINT_SHARE = 0.25
"""Of the epochs, for all rows together once the landmarks lie."""
_RADIUS = 10.0
"""Root mean square distance from the centre of vectors that are positions themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pace:
    """How long rows move, how far, and who is told."""

    epochs: int
    on_epoch: Callable[[int], None]
    rate: float = _RATE


def project(
    graph: Neighbors,
    vectors: NDArray[Any],
    options: ProjectionOptions | None = None,
    *,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
    landmarks_above: int = LANDMARKS_ABOVE,
) -> NDArray[np.float32]:
    """Return positions on the plane; a seed gives the same ones whatever the number of threads.

    Vectors of two dimensions are positions already: they come back centred and scaled. Otherwise the graph is laid out
    as in McInnes, Healy and Melville 2018, "UMAP": pulled together along its edges and pushed apart at random, from the
    vectors' principal components. Equal rows come near each other, not on one spot.

    Args:
        graph: the rows' nearest neighbours.
        vectors: [n, d] float16 or float32, perhaps a memory map; only the start is made from them.
        options: of the layout; default those of `ProjectionOptions`.
        seed: of all that is random.
        on_progress: told the epochs done.
        landmarks_above: rows above which a sample is laid out first and the rest placed by it.

    Returns:
        [n, 2] float32, finite, with its mean at 0; in units of the spread, some tens across.

    Raises:
        InputError: the graph and the vectors are not of the same rows, or a vector is not finite.
    """
    options = options or ProjectionOptions()
    n = len(graph.indices)
    if vectors.ndim != 2 or len(vectors) != n:
        raise InputError(f"vectors have the shape {vectors.shape}, the graph has {n} rows; give the vectors it is of")
    if vectors.shape[1] == 2:
        return _as_positions(vectors)
    epochs = options.n_epochs or _epochs_for(n)
    start = start_positions(vectors, metric=graph.metric, seed=seed)
    if n <= landmarks_above:
        pace = _Pace(epochs=epochs, on_epoch=_teller(on_progress, 0, epochs))
        return _centred(_lay_out(graph, start, options, seed, pace))
    joint = max(1, round(epochs * _JOINT_SHARE))
    rows = draw_landmarks(n, max(landmarks_above // 2, n // 20, 2), seed=seed)
    pace = _Pace(epochs=epochs, on_epoch=_teller(on_progress, 0, epochs + joint))
    placed = _lay_out(landmark_neighbors(graph, rows, rows), start[rows], options, seed, pace)
    others = np.setdiff1d(np.arange(n), rows, assume_unique=True)
    near = landmark_neighbors(graph, rows, others)
    xy = np.empty((n, 2), dtype=np.float32)
    xy[rows] = placed
    xy[others] = place(near.indices, near.distances, placed, seed=seed)
    pace = _Pace(epochs=joint, rate=_JOINT_RATE, on_epoch=_teller(on_progress, epochs, epochs + joint))
    return _centred(_lay_out(graph, xy, options, seed, pace))


def _lay_out(
    graph: Neighbors,
    start: NDArray[np.float32],
    options: ProjectionOptions,
    seed: int,
    pace: _Pace,
) -> NDArray[np.float32]:
    edges = fuzzy_graph(graph, n_neighbors=options.n_neighbors, local_connectivity=options.local_neighborhood_size or 1)
    # The layout is made in units of the spread, as its start is.
    curve = fit_curve(options.min_dist / options.spread, 1.0)
    return optimize(edges, start, epochs=pace.epochs, curve=curve, rate=pace.rate, seed=seed, on_epoch=pace.on_epoch)


def _epochs_for(n: int) -> int:
    """Return 300 epochs up to 10,000 rows, falling with their logarithm to 200 at 100,000 and above."""
    return round(np.interp(math.log10(max(n, 1)), [4.0, 5.0], [300.0, 200.0]))


def _teller(on_progress: OnProgress, before: int, total: int) -> Callable[[int], None]:
    return lambda done: on_progress(Progress(stage="projection", done=before + done, total=total, unit="epochs"))


def _centred(xy: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = xy.mean(axis=0, dtype=np.float64) if len(xy) else 0.0
    return (xy - mean).astype(np.float32)


def _as_positions(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return vectors of two dimensions centred and scaled, both axes alike."""
    positions = np.array(vectors, dtype=np.float64)
    finite = np.isfinite(positions).all(axis=1)
    if not finite.all():
        bad = int((~finite).argmax())
        raise InputError(f"the vector of row {bad} is not finite; remove the row or give its position")
    if len(positions):
        positions -= positions.mean(axis=0)
        # By the largest first, so that no square is out of range.
        positions /= np.abs(positions).max() or 1.0
        positions *= _RADIUS / (np.sqrt((positions**2).sum(axis=1).mean()) or 1.0)
    return positions.astype(np.float32)
