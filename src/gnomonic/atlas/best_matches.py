"""The nearest columns of each row: merged lists of the best, and exact distances for what is on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.kernel_calls import run_kernel
from gnomonic.atlas.kernels import threads
from gnomonic.atlas.vector_rows import VectorRows

__all__ = ["SPARE", "BestLists", "exact_distances", "nearest_of_all", "row_groups", "zero_bias"]

_GROUP_ROWS = 512
SPARE = 16
"""Candidates kept beyond those asked for, since scores are rounded where distances are exact."""
_QUERY_ROWS = 8_192
_FEW_DIMENSIONS = 16
"""Up to this many differences are taken one by one, exact however far the vectors are from the origin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BestLists:
    """For each row of a block the best columns met so far, best first."""

    scores: NDArray[np.float32]
    """[m, keep] float32; -inf where there is none."""
    ids: NDArray[np.int32]
    """[m, keep] int32; -1 where there is none."""

    @classmethod
    def empty(cls, rows: int, keep: int) -> Self:
        """Return lists that have met nothing."""
        scores = np.full((rows, keep), -np.inf, dtype=np.float32)
        return cls(scores=scores, ids=np.full((rows, keep), -1, dtype=np.int32))

    def join(
        self,
        x: VectorRows,
        y: VectorRows,
        *,
        bias: NDArray[np.float32] | None,
        differences: bool,
        groups: NDArray[np.int64],
        segments: NDArray[np.int64],
        own: NDArray[np.int32] | None = None,
        first_id: int = 0,
    ) -> None:
        """Meet columns: score the rows of `y` for those of `x` and keep the best, in place.

        Args:
            x: m rows, one for each list.
            y: t rows.
            bias: [t] float32, taken off the scores of each column; None for none.
            differences: whether a score is -|x - y|²/2 - bias, or else x·y - bias.
            groups: [g, 4] int64: first row and end row of x, first and end of its segments.
            segments: [s, 2] int64: first and end row of y.
            own: [m] int32, the id each row must not meet, its own; None for none.
            first_id: id of y's row 0; the others follow.
        """
        if not run_kernel(
            "neighbors_join", *x.arguments, *y.arguments, bias, x.dim, int(differences), groups, len(groups), segments,
            own, first_id, self.scores, self.ids, self.ids.shape[1], threads(),
        ):  # fmt: skip
            for begin, end, first, last in groups:
                given = x.part(begin, end).read()
                columns = np.concatenate([np.arange(0), *(np.arange(a, b) for a, b in segments[first:last])])
                for at in range(0, len(columns), 4096):
                    part = columns[at : at + 4096]
                    scores = _score(given, y.rows(part).read(), differences=differences)
                    if bias is not None:
                        scores -= bias[part]
                    ids = (part + first_id).astype(np.int32)
                    if own is not None:
                        scores[ids == own[begin:end, None]] = -np.inf
                    self.merge(slice(begin, end), scores, ids)

    def merge(self, rows: slice, scores: NDArray[np.float32], ids: NDArray[np.int32]) -> None:
        """Keep the best of what some rows have and are given: scores [r, c], ids [c] or [r, c]; -inf counts as none."""
        all_scores = np.concatenate([self.scores[rows], scores], axis=1)
        all_ids = np.concatenate([self.ids[rows], np.broadcast_to(ids, scores.shape)], axis=1)
        all_ids[all_scores == -np.inf] = -1
        best = np.lexsort((all_ids, -all_scores), axis=1)[:, : self.ids.shape[1]]
        self.scores[rows] = np.take_along_axis(all_scores, best, axis=1)
        self.ids[rows] = np.take_along_axis(all_ids, best, axis=1)


def row_groups(rows: int) -> NDArray[np.int64]:
    """Return groups [g, 4] int64 of rows that all meet the one segment 0, enough of them for every thread."""
    size = min(_GROUP_ROWS, max(12, -(-rows // (2 * threads()))))
    begins = np.arange(0, rows, size, dtype=np.int64)
    ends = np.minimum(begins + size, rows)
    return np.stack([begins, ends, np.zeros_like(begins), np.ones_like(begins)], axis=1)


def nearest_of_all(
    rows: VectorRows, wanted: NDArray[np.int64], k: int, report: Callable[[float], None]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the nearest rows of some rows, every pair compared.

    Args:
        rows: the t rows among which neighbours are looked for.
        wanted: [m] int64, positions of those whose neighbours are looked for, themselves not counted.
        k: neighbours a row, less than t.
        report: told the share of the work that is done.

    Returns:
        positions [m, k] int32, and distances [m, k] float32, ascending.
    """
    ids = np.empty((len(wanted), k), dtype=np.int32)
    distances = np.empty((len(wanted), k), dtype=np.float32)
    for begin in range(0, len(wanted), _QUERY_ROWS):
        part = wanted[begin : begin + _QUERY_ROWS]
        lists = BestLists.empty(len(part), min(k + SPARE, len(rows) - 1))
        lists.join(
            rows.rows(part),
            rows,
            bias=zero_bias(rows.zeros()),
            differences=rows.scale is None,
            groups=row_groups(len(part)),
            segments=np.array([[0, len(rows)]], dtype=np.int64),
            own=part.astype(np.int32),
        )
        done = slice(begin, begin + len(part))
        ids[done], distances[done] = exact_distances(rows.rows(part), rows, lists.ids, k)
        report((begin + len(part)) / len(wanted))
    return ids, distances


def exact_distances(
    queries: VectorRows, rows: VectorRows, ids: NDArray[np.int32], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the k nearest of each query's candidates, by exact distance: cosine where rows have factors.

    Args:
        queries: m rows.
        rows: t rows.
        ids: [m, c] int32, candidates, positions in `rows`; -1 for none.
        k: how many to return, at most c.

    Returns:
        ids [m, k] int32 and distances [m, k] float32, ascending; -1 and inf where there are fewer.
    """
    distances = np.empty(ids.shape, dtype=np.float32)
    ids = np.ascontiguousarray(ids)
    if not run_kernel(
        "neighbors_distances", *queries.arguments, *rows.arguments, rows.dim, len(queries), ids, ids.shape[1],
        distances, threads(),
    ):  # fmt: skip
        for begin in range(0, len(ids), 64):
            part = slice(begin, begin + 64)
            distances[part] = _distances(queries.part(begin, begin + 64).read(), rows, ids[part])
    best = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, best, axis=1), np.take_along_axis(distances, best, axis=1)


def zero_bias(zeros: NDArray[np.bool_] | None) -> NDArray[np.float32] | None:
    """Return the bias [t] float32 that puts zero vectors first for a zero vector, whose products with all are 0.

    Args:
        zeros: [t] bool, which rows are zero vectors; None for no bias.
    """
    return None if zeros is None else np.where(zeros, np.float32(-1e-6), np.float32(0))


def _score(x: NDArray[np.float32], y: NDArray[np.float32], *, differences: bool) -> NDArray[np.float32]:
    """Return scores [m, t] float32 as the kernel takes them."""
    if not differences:
        products: NDArray[np.float32] = x @ y.T
        return products
    found = np.zeros((len(x), len(y)), dtype=np.float32)
    if x.shape[1] <= _FEW_DIMENSIONS:
        for axis in range(x.shape[1]):
            found -= np.float32(0.5) * (x[:, axis, None] - y[None, :, axis]) ** 2
        return found
    middle = x.mean(axis=0)
    x, y = x - middle, y - middle
    found -= np.float32(0.5) * (np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y))
    found += x @ y.T
    return found


def _distances(queries: NDArray[np.float32], rows: VectorRows, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return distances [m, c] float32, inf where no row is named."""
    named = rows.rows(np.maximum(ids, 0).ravel())
    steps = named.read().reshape(*ids.shape, -1) - queries[:, None, :]
    distances: NDArray[np.float32] = np.einsum("ijk,ijk->ij", steps, steps)
    zeros = named.zeros()
    if zeros is None:
        np.sqrt(distances, out=distances)
    else:
        distances = np.where(distances < 2e-12, np.float32(0), distances / 2)
        of_row, of_query = zeros.reshape(ids.shape), np.all(queries == 0, axis=1)[:, None]
        distances[of_row | of_query] = 1
        distances[of_row & of_query] = 0
    distances[ids < 0] = np.inf
    return distances
