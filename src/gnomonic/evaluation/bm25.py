"""BM25: what word counts alone find, the yardstick beside every retrieval score."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bm25", "words"]

_WORD = re.compile(r"[^\W\d_]+|\d+")
_CASE_CHANGE = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words(text: str) -> list[str]:
    """Split into lower-cased words: at case changes, digits and `_`, so that identifiers fall apart; plural s goes."""
    found = (part.lower() for word in _WORD.findall(text) for part in _CASE_CHANGE.split(word))
    return [word[:-1] if len(word) > 3 and word[-1] == "s" != word[-2] else word for word in found]


class Bm25:
    """An index of documents, scored by Okapi BM25 with Lucene's idf (Robertson & Zaragoza 2009, eq. 3.15).

    score(q, d) = Σ idf_t · f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|)) over the words t of q, each of which occurs
    f times in d, with idf_t = ln(1 + (N - n_t + .5) / (n_t + .5)) for a word in n_t of the N documents.
    """

    def __init__(self, documents: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> None:
        """Index the documents.

        Args:
            documents: the texts.
            k1: how slowly a repeated word stops counting.
            b: how much long documents are held back, 0 to 1.
        """
        from scipy.sparse import csr_matrix

        self._vocabulary: dict[str, int] = {}
        columns: list[int] = []
        counts: list[int] = []
        ends = [0]
        lengths = np.zeros(len(documents))
        for index, document in enumerate(documents):
            counted = Counter(words(document))
            lengths[index] = counted.total()
            columns += [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in counted]
            counts += counted.values()
            ends.append(len(columns))
        f, column = np.array(counts, np.float64), np.array(columns, np.int64)
        found_in = np.bincount(column, minlength=len(self._vocabulary))
        idf = np.log1p((len(documents) - found_in + 0.5) / (found_in + 0.5))
        scale = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9)) if len(documents) else lengths
        weights = idf[column] * f * (k1 + 1) / (f + np.repeat(scale, np.diff(ends)))
        shape = (len(documents), len(self._vocabulary))
        self._weights = csr_matrix((weights, column, np.array(ends)), shape=shape).T.tocsr()

    def scores(self, queries: Sequence[str]) -> NDArray[np.float64]:
        """Return the score of every document for every query, [queries, documents] float64."""
        from scipy.sparse import csr_matrix

        columns: list[int] = []
        ends = [0]
        for query in queries:
            columns += [self._vocabulary[word] for word in words(query) if word in self._vocabulary]
            ends.append(len(columns))
        shape = (len(queries), len(self._vocabulary))
        asked = csr_matrix((np.ones(len(columns)), np.array(columns, np.int64), np.array(ends)), shape=shape)
        product: NDArray[np.float64] = (asked @ self._weights).toarray()
        return product
