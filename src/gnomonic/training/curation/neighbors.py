"""Exact search over vectors on disk, tile by tile: memory depends on the size of a tile, not of the collection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Candidates", "Search"]

_QUERIES = 1024
_DOCUMENTS = 16384
_TIE = 1e-5
"""Scores this close are equal: vectors are stored in half precision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """What `Search.hardest` found for n queries."""

    documents: NDArray[np.int64]
    """[n, k], best first; -1 where fewer were found."""
    scores: NDArray[np.float32]
    """[n, k]"""
    above: NDArray[np.int64]
    """[n] how many documents, excluded ones aside, were at or above the ceiling."""


class Search:
    """Scores of queries against all documents of a collection; by inner product of unit vectors, exact.

    Attributes:
        queries: [n, dim] float16.
        documents: [m, dim] float16.
    """

    def __init__(self, queries: NDArray[np.float16], documents: NDArray[np.float16], *, device: str = "cpu") -> None:
        """Search on a torch device."""
        self.queries = queries
        self.documents = documents
        self._device = torch.device(device)

    def scores(self, query: NDArray[np.int64], document: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the score of query[i] with document[i], [n] float32."""
        found = np.empty(len(query), np.float32)
        for start in range(0, len(query), _QUERIES):
            part = slice(start, start + _QUERIES)
            left = self.queries[query[part]].astype(np.float32)
            found[part] = np.einsum("nd,nd->n", left, self.documents[document[part]].astype(np.float32))
        return found

    def ranks(
        self,
        query: NDArray[np.int64],
        document: NDArray[np.int64],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.int32]:
        """Return the rank of document[i] for query[i] among all documents, 1 for the best; equal scores share it.

        Args:
            query: [n] rows of `queries`.
            document: [n] rows of `documents`.
            on_progress: called with the pairs done and the pairs there are.

        Returns:
            [n] int32, 1 + the number of documents that score higher.
        """
        ranks = np.empty(len(query), np.int32)
        own = torch.from_numpy(self.scores(query, document)).to(self._device) + _TIE
        for start in range(0, len(query), _QUERIES):
            rows = slice(start, min(start + _QUERIES, len(query)))
            better = torch.zeros(rows.stop - start, dtype=torch.int64, device=self._device)
            left = self._vectors(self.queries[query[rows]])
            for first in range(0, len(self.documents), _DOCUMENTS):
                scores = left @ self._vectors(self.documents[first : first + _DOCUMENTS]).T
                better += (scores > own[rows, None]).sum(dim=1)
            ranks[rows] = 1 + better.cpu().numpy()
            if on_progress is not None:
                on_progress(rows.stop, len(query))
        return ranks

    def hardest(
        self,
        query: NDArray[np.int64],
        ceilings: NDArray[np.float32],
        excluded: tuple[NDArray[np.int64], NDArray[np.int64]],
        k: int,
    ) -> Candidates:
        """Return, for each query, the best-scoring documents below a ceiling.

        Args:
            query: [n] rows of `queries`; n decides how much memory is used.
            ceilings: [n] float32; only documents that score less are taken.
            excluded: pairs (place in `query`, row of `documents`) that are never taken, two arrays of equal length.
            k: how many at most.
        """
        n, k = len(query), min(k, len(self.documents))
        left = self._vectors(self.queries[query])
        limit = torch.from_numpy(ceilings).to(self._device)[:, None]
        order = np.argsort(excluded[1], kind="stable")
        who, what = excluded[0][order], excluded[1][order]
        best = torch.full((n, k), -torch.inf, device=self._device)
        ids = torch.full((n, k), -1, dtype=torch.int64, device=self._device)
        above = torch.zeros(n, dtype=torch.int64, device=self._device)
        for first in range(0, len(self.documents), _DOCUMENTS):
            scores = left @ self._vectors(self.documents[first : first + _DOCUMENTS]).T
            begin, end = np.searchsorted(what, [first, first + _DOCUMENTS])
            place = torch.from_numpy(who[begin:end]), torch.from_numpy(what[begin:end] - first)
            scores[place[0].to(self._device), place[1].to(self._device)] = -torch.inf
            too_good = scores >= limit
            above += too_good.sum(dim=1)
            top = scores.masked_fill_(too_good, -torch.inf).topk(min(k, scores.shape[1]), dim=1)
            joined = torch.cat([best, top.values], dim=1).topk(k, dim=1)
            ids = torch.cat([ids, top.indices + first], dim=1).gather(1, joined.indices)
            best = joined.values
        ids[best == -torch.inf] = -1
        return Candidates(documents=ids.cpu().numpy(), scores=best.cpu().numpy(), above=above.cpu().numpy())

    def likeness(self, documents: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the cosine of each document with its candidates.

        Args:
            documents: [n] rows of `documents`.
            candidates: [n, k] rows of `documents`; -1 counts as row 0.

        Returns:
            [n, k] float32.
        """
        found = np.empty(candidates.shape, np.float32)
        for start in range(0, len(documents), 128):
            rows = slice(start, start + 128)
            other = self.documents[np.maximum(candidates[rows], 0)].astype(np.float32)
            found[rows] = np.einsum("nd,nkd->nk", self.documents[documents[rows]].astype(np.float32), other)
        return found

    def _vectors(self, part: NDArray[np.float16]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(part, np.float32)).to(self._device)
