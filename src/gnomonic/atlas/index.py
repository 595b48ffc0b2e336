"""Which rows of a map are nearest to a vector: exactly, or on large maps by an index whose recall is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.inverted_file import InvertedFile, write_inverted_file
from gnomonic.atlas.neighbors import query_neighbors
from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.atlas.scoring import as_queries, best_of, row_scores
from gnomonic.errors import DatasetError, InputError

__all__ = ["EXACT_BELOW", "VectorIndex", "build_index"]

EXACT_BELOW = 250_000
"""Below this many rows every row is compared and no index is needed."""

_RECORD = "index.json"
_FORMAT = 1
_TARGET = 0.98
"""Recall@10 that the index is set to on rows of its own; queries from elsewhere lose a little."""
_PROBES = 200
_K = 10
_KEEP = 128
"""Candidates of the index that are compared by their vectors, for ten results."""
_FEW = 4
"""Queries up to which each reads all rows for itself."""


def build_index(
    folder: Path,
    vectors: NDArray[Any],
    *,
    metric: str,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> None:
    """Write the index of vectors and `index.json`, with the recall@10 it reaches on sampled rows.

    How many rows a query looks at is the least with which that recall is 0.98; where nothing less reaches it, all.

    Args:
        folder: exists and is empty.
        vectors: [n, dim] float16 or float32, finite; may be a memory map. n may be 0.
        metric: "cosine" or "euclidean".
        seed: of the samples; the same seed gives the same index.
        on_progress: told of the rows.

    Raises:
        InputError: the metric is unknown.
    """
    rows = len(vectors)
    record: dict[str, Any] = {"format": _FORMAT, "rows": rows, "dim": vectors.shape[1], "metric": metric, "seed": seed}
    record |= {"quota": rows, "recall": 1.0, "sampled": 0}
    cosine = _is_cosine(metric)
    if rows:
        write_inverted_file(folder, vectors, cosine=cosine, seed=seed, on_progress=on_progress)
        cells = InvertedFile(folder, cosine=cosine)
        on_progress(Progress(stage="index recall", done=0, total=_PROBES, unit="queries"))
        probes = np.sort(np.random.default_rng([seed, 1]).permutation(rows)[:_PROBES])
        quota, recall = _calibrate(VectorIndex(vectors, metric=metric), cells, probes)
        record |= {"quota": quota, "recall": round(recall, 4), "sampled": len(probes), "cells": cells.cells}
    (folder / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


class VectorIndex:
    """Finds the nearest rows of a map; safe to use from several threads."""

    def __init__(self, vectors: NDArray[Any], *, metric: str) -> None:
        """Search exactly; `open` uses an index where there is one.

        Args:
            vectors: [n, dim] float16 or float32, finite; may be a memory map.
            metric: "cosine" or "euclidean".

        Raises:
            InputError: the metric is unknown.
        """
        self.vectors = vectors
        self.cosine = _is_cosine(metric)
        self.recall = 1.0
        """Share of the true ten nearest that a search finds, measured when the index was built."""
        self._cells: InvertedFile | None = None
        self._quota = len(vectors)

    @classmethod
    def open(cls, folder: Path | None, vectors: NDArray[Any], metric: str) -> Self:
        """Open an index, or search exactly where there is none or the rows are few.

        Args:
            folder: what `build_index` wrote; None, or a folder without an index, for none.
            vectors: [n, dim] those it was built of.
            metric: that it was built for.

        Raises:
            DatasetError: it is damaged, or of other vectors.
            InputError: the metric is unknown.
        """
        found = cls(vectors, metric=metric)
        few = len(vectors) < max(1, EXACT_BELOW)
        if folder is None or few or not (folder / _RECORD).is_file():
            return found
        try:
            record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
            built = (record["format"], record["rows"], record["dim"], record["metric"])
            quota, recall = int(record["quota"]), float(record["recall"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{folder / _RECORD} cannot be read: {error}", hint="build the map again") from error
        expected = (_FORMAT, *vectors.shape, metric)
        if built != expected:
            raise DatasetError(
                f"the index in {folder} is of (format, rows, dim, metric) {built} and the map is {expected}",
                hint="build the map again",
            )
        found._cells = InvertedFile(folder, cosine=found.cosine)
        found._quota, found.recall = quota, recall
        return found

    @property
    def exact(self) -> bool:
        """Whether every row is compared."""
        return self._cells is None

    def search(
        self, queries: NDArray[Any], k: int, *, mask: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the nearest rows of each query, nearest first, equal ones by row.

        Args:
            queries: [m, dim].
            k: how many.
            mask: [n] bool: which rows may be found. As long as k of them pass, k are found.

        Returns:
            rows [m, k'] int64 and distances [m, k'] float32 (1 - cosine, or Euclidean; 1 beside a zero vector), k'
            being the lesser of k and the rows that pass.

        Raises:
            InputError: the queries have another width or values that are not finite, k is below 1, or the mask is not
                of the map's rows.
        """
        asked = as_queries(queries, self.vectors.shape[1])
        if k < 1:
            raise InputError(f"k {k} is smaller than 1; ask for one row or more")
        if mask is not None and (mask.shape != (len(self.vectors),) or mask.dtype != np.bool_):
            raise InputError(f"the mask is {mask.dtype} {mask.shape}; give bool [{len(self.vectors)}]")
        passing = len(self.vectors) if mask is None else int(np.count_nonzero(mask))
        wanted = min(k, passing)
        rows = np.empty((len(asked), wanted), dtype=np.int64)
        scores = np.empty((len(asked), wanted), dtype=np.float32)
        # The farther down the list, the more cells the rows lie in.
        quota = round(self._quota * max(1.0, k / _K) ** 0.5)
        missing = np.arange(len(asked))
        if self._cells is not None and passing > 2 * quota:
            found = [self._by_cells(self._cells, query, wanted, quota, mask) for query in asked]
            for number, (near, worth) in enumerate(found):
                if len(near) == wanted:
                    rows[number], scores[number] = near, worth
            missing = np.array([number for number, (near, _) in enumerate(found) if len(near) < wanted], dtype=np.int64)
        if len(missing) and wanted:
            rows[missing], scores[missing] = self._by_all(asked[missing], wanted, mask)
        distances = np.maximum(1 - scores if self.cosine else -scores, np.float32(0))
        return rows, distances

    def scores(self, query: NDArray[Any]) -> NDArray[np.float32]:
        """Return how near every row is, [n] float32: the cosine, or the Euclidean distance, negative.

        Args:
            query: [dim].

        Raises:
            InputError: the query has another width or values that are not finite.
        """
        asked = as_queries(np.asarray(query)[None], self.vectors.shape[1])[0]
        return row_scores(self.vectors, asked, cosine=self.cosine)

    def _by_all(
        self, asked: NDArray[np.float32], wanted: int, mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        among = None if mask is None else np.flatnonzero(mask)
        if len(asked) > _FEW:
            metric = "cosine" if self.cosine else "euclidean"
            found, distances = query_neighbors(self.vectors, asked, wanted, metric=metric, among=among)
            return found.astype(np.int64), 1 - distances if self.cosine else -distances
        every = [row_scores(self.vectors, query, cosine=self.cosine, among=among) for query in asked]
        best = np.stack([best_of(scores, wanted) for scores in every])
        worth = np.stack([scores[at] for scores, at in zip(every, best, strict=True)])
        return best if among is None else among[best], worth

    def _by_cells(
        self, cells: InvertedFile, query: NDArray[np.float32], wanted: int, quota: int, mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        near = _near(cells, query, wanted, quota, mask)
        scores = row_scores(self.vectors, query, cosine=self.cosine, among=near)
        best = best_of(scores, wanted)
        return near[best], scores[best]


def _is_cosine(metric: str) -> bool:
    if metric not in ("cosine", "euclidean"):
        raise InputError(f"metric {metric!r} is unknown; choose one of cosine, euclidean")
    return metric == "cosine"


def _near(
    cells: InvertedFile, query: NDArray[np.float32], wanted: int, quota: int, mask: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Return candidates by row, so that equal scores come in that order."""
    keep = max(_KEEP, 8 * wanted)
    return np.sort(cells.candidates(query, quota=quota, keep=keep, mask=mask))


def _calibrate(exact: VectorIndex, cells: InvertedFile, probes: NDArray[np.int64]) -> tuple[int, float]:
    """Return the least quota with which rows find their neighbours, and the recall@10 it gives."""
    queries = np.asarray(exact.vectors[probes], dtype=np.float32)
    # The row itself, whichever of equal rows that is, is found always and does not count.
    true, distances = exact.search(queries, _K + 1)
    limits = distances[:, -1] + 1e-6

    def recall(quota: int) -> float:
        found = 0
        for query, limit in zip(queries, limits, strict=True):
            near = _near(cells, query, _K + 1, quota, None)
            scores = row_scores(exact.vectors, query, cosine=exact.cosine, among=near)
            within = (1 - scores if exact.cosine else -scores) <= limit
            found += min(int(np.count_nonzero(within)), true.shape[1]) - 1
        return float(found / max(1, len(queries) * (true.shape[1] - 1)))

    rows = len(exact.vectors)
    quota = min(rows, max(64, rows // 1024))
    reached = recall(quota)
    while reached < _TARGET and quota < rows:
        quota = min(rows, round(quota * 1.5) + 1)
        reached = recall(quota)
    return quota, reached
