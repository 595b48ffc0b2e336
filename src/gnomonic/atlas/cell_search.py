"""Nearest neighbours by cells: each cell's rows meet the rows of the cells around it.

The idea is that of inverted files (Jégou et al. 2011, "Product quantization for nearest neighbor search"), asked for
all rows at once, with rounds of NN-descent (Dong et al. 2011) for what lies beyond the cells searched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.best_matches import BestLists, exact_distances, nearest_of_all, row_groups
from gnomonic.atlas.cells import Cells, make_cells
from gnomonic.atlas.neighbor_rounds import refine_lists
from gnomonic.atlas.reduction import reduce_rows
from gnomonic.atlas.vector_rows import VectorRows

__all__ = ["search_cells"]

_TRUTH_ROWS = 1_000
_TRIED_ROWS = 250
_FAITHFUL = 0.97
"""Share of true neighbours that must be among the candidates found in the reduced space, or it is not used."""
_COVERAGE = 0.95
"""Share of true neighbours that the cells searched should hold; neighbours' neighbours bring most of the rest."""
_LEAST_ROWS = 2_048
_MOST_ROWS = 32_768
"""Bounds of how many rows each row is compared with; fewer where they have more than 384 dimensions."""
_COSTLY_DIM = 384
_GOOD = 0.965
"""Recall at which no further round is worth its time."""
_LEAST_GAIN = 0.003
_MOST_ROUNDS = 4
_CELLS_A_CALL = 64
_BLOCK_ROWS = 8_192


@dataclass(frozen=True, kw_only=True, slots=True)
class _Truth:
    """True neighbours of a sample, to choose the effort by and to measure recall with."""

    wanted: NDArray[np.int64]
    """[m] int64, the sampled rows."""
    ids: NDArray[np.int32]
    """[m, k] int32, their neighbours."""
    distances: NDArray[np.float32]
    """[m, k] float32, ascending."""

    def recall(self, distances: NDArray[np.float32]) -> float:
        """Return the share of true neighbours found, from the distances [m, k] of those found.

        One as near as the farthest true one is a true one: of rows at equal distances any may be listed.
        """
        return float(np.mean(distances <= self.distances[:, -1:] * (1 + 1e-5) + 1e-7))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Search:
    """What the steps of a search share; its rows are in the order of the cells."""

    rows: VectorRows
    space: VectorRows
    """The rows as candidates are looked for: reduced, or as they are where too much would be lost."""
    lost: NDArray[np.float32] | None
    """[t] float32, half the squared length that each row lost in `space`; None for nothing."""
    cells: Cells
    lists: BestLists
    """Scores are minus half the squared distances in `space`, less what the neighbour lost."""
    searched: NDArray[np.uint8]
    """[cells, cells] uint8, 1 where the rows of the one have met those of the other."""


def search_cells(
    rows: VectorRows, k: int, *, seed: int, report: Callable[[float], None]
) -> tuple[NDArray[np.int32], NDArray[np.float32], float]:
    """Return the nearest rows of each row, most of them truly so.

    Args:
        rows: t rows, no two of them identical.
        k: neighbours a row, less than t.
        seed: chooses samples.
        report: told the share of the work that is done.

    Returns:
        positions in `rows` [t, k] int32, distances [t, k] float32, ascending, and the recall.
    """
    rng = np.random.default_rng(seed)
    wanted = np.sort(rng.choice(len(rows), min(_TRUTH_ROWS, len(rows)), replace=False))
    true_ids, true_distances = nearest_of_all(rows, wanted, k, lambda share: report(0.15 * share))
    truth = _Truth(wanted=wanted, ids=true_ids, distances=true_distances)
    search = _prepare(rows, truth, min(2 * k + 10, len(rows) - 1), rng)
    report(0.3)
    order = search.cells.order
    place = np.empty(len(rows), dtype=np.int64)
    place[order] = np.arange(len(rows))
    effort = _effort(search, place[truth.wanted], place[truth.ids])
    _meet(search, effort, lambda share: report(0.3 + 0.45 * share))
    _improve(search, truth, place[truth.wanted])
    report(0.85)
    ids = np.empty((len(rows), k), dtype=np.int32)
    distances = np.empty((len(rows), k), dtype=np.float32)
    for begin in range(0, len(rows), _BLOCK_ROWS):
        to = order[begin : begin + _BLOCK_ROWS]
        found, distances[to] = _exact(search, np.arange(begin, begin + len(to)), k)
        ids[to] = np.where(found >= 0, order[found], -1)
        report(0.85 + 0.15 * (begin + len(to)) / len(rows))
    return ids, distances, truth.recall(distances[truth.wanted])


def _prepare(rows: VectorRows, truth: _Truth, keep: int, rng: np.random.Generator) -> _Search:
    """Reduce the rows, cut them into cells, and choose the space in which candidates are looked for."""
    points, lost = reduce_rows(rows, rng)
    size = int(np.clip(math.sqrt(len(rows)) / 1.5, 128, 600))
    cells = make_cells(points, size=size, rng=rng)
    space = rows.rows(cells.order)
    if lost is None or _is_faithful(rows, points, lost, truth, keep):
        ordered = np.empty_like(points)
        for begin in range(0, len(points), _BLOCK_ROWS):
            part = slice(begin, begin + _BLOCK_ROWS)
            ordered[part] = points[cells.order[part]]
        space = VectorRows(vectors=ordered)
        lost = None if lost is None else lost[cells.order]
    else:
        lost = None
    return _Search(
        rows=rows.rows(cells.order),
        space=space,
        lost=lost,
        cells=cells,
        lists=BestLists.empty(len(rows), keep),
        searched=np.zeros((len(cells.sizes), len(cells.sizes)), dtype=np.uint8),
    )


def _is_faithful(
    rows: VectorRows, points: NDArray[np.float32], lost: NDArray[np.float32], truth: _Truth, keep: int
) -> bool:
    """Return whether the candidates nearest in the reduced space hold nearly all true neighbours of a sample."""
    tried = truth.wanted[:: max(1, len(truth.wanted) // _TRIED_ROWS)]
    lists = BestLists.empty(len(tried), keep)
    reduced = VectorRows(vectors=points)
    lists.join(
        reduced.rows(tried),
        reduced,
        bias=lost,
        differences=True,
        groups=row_groups(len(tried)),
        segments=np.array([[0, len(points)]], dtype=np.int64),
        own=tried.astype(np.int32),
    )
    k = truth.ids.shape[1]
    known = truth.distances[np.searchsorted(truth.wanted, tried)]
    found = exact_distances(rows.rows(tried), rows, lists.ids, k)[1]
    return _Truth(wanted=tried, ids=truth.ids, distances=known).recall(found) >= _FAITHFUL


def _outward(cells: Cells, which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all cells by the distance of their centres from some cells' centres [m, cells] int64, nearest first."""
    squares = np.einsum("ij,ij->i", cells.centres, cells.centres)
    away = squares - 2 * cells.centres[which] @ cells.centres.T
    away[np.arange(len(which)), which] = -np.inf
    return np.argsort(away, axis=1, kind="stable")


def _effort(search: _Search, wanted: NDArray[np.int64], ids: NDArray[np.int64]) -> int:
    """Return how many rows each row should meet for a share of true neighbours to be among them.

    Args:
        search: its cells and space.
        wanted: [m] int64, sampled rows, in the order of the cells.
        ids: [m, k] int64, their true neighbours, likewise.
    """
    cells = search.cells
    cell_of = np.repeat(np.arange(len(cells.sizes)), cells.sizes)
    needed = np.empty(ids.shape, dtype=np.int64)
    for begin in range(0, len(wanted), 64):
        part = slice(begin, begin + 64)
        outward = _outward(cells, cell_of[wanted[part]])
        rows_met = np.empty_like(outward)
        np.put_along_axis(rows_met, outward, np.cumsum(cells.sizes[outward], axis=1), axis=1)
        needed[part] = np.take_along_axis(rows_met, cell_of[ids[part]], axis=1)
    most = _MOST_ROWS * min(1.0, _COSTLY_DIM / search.space.dim)
    return int(np.clip(np.quantile(needed, _COVERAGE), _LEAST_ROWS, most))


def _meet(search: _Search, effort: int, report: Callable[[float], None]) -> None:
    """Have each cell's rows meet those of the cells around it, nearest first, until they have met `effort` rows."""
    cells, space = search.cells, search.space
    euclidean = search.rows.scale is None
    half = None
    bias = search.lost
    if not euclidean and space.scale is None:
        half = np.float32(0.5) * np.einsum("ij,ij->i", space.vectors, space.vectors)
        bias = half if search.lost is None else half + search.lost
    own = np.arange(len(space), dtype=np.int32)
    count = len(cells.sizes)
    for begin in range(0, count, _CELLS_A_CALL):
        which = np.arange(begin, min(begin + _CELLS_A_CALL, count))
        outward = _outward(cells, which)
        met = np.cumsum(cells.sizes[outward], axis=1)
        taken = 1 + (met < effort).sum(axis=1)
        around = [cells_near[:number] for cells_near, number in zip(outward, taken, strict=True)]
        for cell, others in zip(which, around, strict=True):
            search.searched[cell, others] = 1
        flat = np.concatenate(around)
        ends = np.cumsum([len(others) for others in around])
        groups = np.stack([cells.starts[which], cells.starts[which + 1], ends - list(map(len, around)), ends], axis=1)
        search.lists.join(
            space,
            space,
            bias=bias,
            differences=euclidean,
            groups=np.ascontiguousarray(groups, dtype=np.int64),
            segments=np.stack([cells.starts[flat], cells.starts[flat + 1]], axis=1),
            own=own,
        )
        report(which[-1] / count)
    if half is not None:
        search.lists.scores[:] -= half[:, None]
    elif not euclidean:
        search.lists.scores[:] -= 1


def _improve(search: _Search, truth: _Truth, wanted: NDArray[np.int64]) -> None:
    """Try neighbours' neighbours until the recall of the sample is good or grows no more."""
    cell_of = np.repeat(np.arange(len(search.cells.sizes), dtype=np.int32), search.cells.sizes)
    k = truth.ids.shape[1]
    recall = truth.recall(_exact(search, wanted, k)[1])
    for _ in range(_MOST_ROUNDS):
        if recall >= _GOOD:
            break
        refine_lists(search.lists, search.space, search.lost, k=k, cell_of=cell_of, searched=search.searched)
        before, recall = recall, truth.recall(_exact(search, wanted, k)[1])
        if recall < before + _LEAST_GAIN:
            break


def _exact(search: _Search, which: NDArray[np.int64], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    return exact_distances(search.rows.rows(which), search.rows, search.lists.ids[which], k)
