"""Search over a published map: by vector, row, meaning, words, or both; under conditions; and the heat of all rows.

Rows are told by their positions in row order. A row that the dataset lost since the map was built is never found.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.arguments import free_name
from gnomonic.atlas.index import VectorIndex
from gnomonic.atlas.map_folder import MapFolder
from gnomonic.atlas.neighbors import effective_metric
from gnomonic.atlas.store import Store
from gnomonic.atlas.topics import Topics
from gnomonic.errors import DatasetError, InputError

__all__ = ["Hits", "MapSearch"]

_FUSION = 60
"""k of reciprocal rank fusion, as its paper sets it."""
_FUSED = 100
"""Hits that each of two fused searches gives at least."""

_Rows = NDArray[np.int64]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hits:
    """What a search found, best first."""

    rows: _Rows
    """[m] int64, positions in row order."""
    scores: NDArray[np.float32]
    """[m] float32, more is better: the cosine, or the Euclidean distance, negative; BM25; or the fused ranks."""

    def __len__(self) -> int:
        return len(self.rows)


class MapSearch:
    """Finds rows of one map; safe to use from several threads."""

    def __init__(
        self,
        folder: MapFolder,
        store: Store,
        *,
        encode_query: Callable[[str], NDArray[np.float32]] | None = None,
        topics: Topics | None = None,
    ) -> None:
        """Search a map.

        Args:
            folder: the published map.
            store: the rows of its dataset.
            encode_query: gives the vector of a search text, [dim] float32; None where the vectors came with the rows.
            topics: those of the map; read when they are needed.
        """
        self._folder = folder
        self._store = store
        self._encode = encode_query
        self._topics = topics
        self._alive: tuple[int, _Mask | None] = (folder.record.version, None)

    @cached_property
    def index(self) -> VectorIndex:
        """What finds the nearest rows."""
        record = self._folder.record
        metric = effective_metric(record.options.get("neighbors", {}).get("metric", "cosine"), record.dim)
        return VectorIndex.open(self._folder.folder / "index", self._folder.vectors, metric)

    def vectors_of(self, ids: Sequence[Any]) -> NDArray[np.float32]:
        """Return the vectors of rows, [len(ids), dim] float32, in the order of the ids.

        Raises:
            DatasetError: an id is unknown, or its row is not on the map.
        """
        return np.asarray(self.index.vectors[self._positions(ids)], dtype=np.float32)

    def nearest(self, queries: NDArray[Any], k: int, mask: _Mask | None = None) -> tuple[_Rows, NDArray[np.float32]]:
        """Return the rows nearest to vectors, and how far they are.

        Args:
            queries: [m, dim].
            k: how many.
            mask: [n] bool: which rows may be found.

        Returns:
            rows [m, k'] int64 and l2 distances [m, k'] float32, between the vectors at unit length where the map's
            metric is cosine; k' is less than k only where fewer rows can be found.

        Raises:
            InputError: the queries have another width or values that are not finite, or k is below 1.
        """
        rows, distances = self.index.search(queries, k, mask=self._living(mask))
        return rows, np.sqrt(2 * distances) if self.index.cosine else distances

    def by_vector(self, vector: NDArray[Any], k: int, mask: _Mask | None = None) -> Hits:
        """Find the rows nearest to a vector.

        Args:
            vector: [dim].
            k: how many.
            mask: [n] bool: which rows may be found.

        Raises:
            InputError: the vector has another width or values that are not finite, or k is below 1.
        """
        rows, distances = self.index.search(np.asarray(vector)[None], k, mask=self._living(mask))
        return Hits(rows=rows[0], scores=1 - distances[0] if self.index.cosine else -distances[0])

    def by_row(self, id: Any, k: int, mask: _Mask | None = None) -> Hits:
        """Find the rows nearest to a row, itself not among them.

        Args:
            id: the row's id.
            k: how many.
            mask: [n] bool: which rows may be found.

        Raises:
            DatasetError: the id is unknown, or its row is not on the map.
            InputError: k is below 1.
        """
        row = self._positions([id])[0]
        found = self.by_vector(self.index.vectors[row], k + 1, mask)
        others = np.flatnonzero(found.rows != row)[:k]
        return Hits(rows=found.rows[others], scores=found.scores[others])

    def by_text(self, text: str, k: int, mask: _Mask | None = None) -> Hits:
        """Find the rows nearest to a text by meaning.

        Args:
            text: what to look for.
            k: how many.
            mask: [n] bool: which rows may be found.

        Raises:
            InputError: nothing here embeds texts for this map, or k is below 1.
        """
        return self.by_vector(self._encoded(text), k, mask)

    def by_words(self, text: str, k: int, columns: Sequence[str] | None = None, mask: _Mask | None = None) -> Hits:
        """Find rows that have words of a text, by BM25.

        Args:
            text: the words.
            k: how many.
            columns: columns that are indexed for words; default all that are.
            mask: [n] bool: which rows may be found.

        Raises:
            InputError: k is below 1, or a column is not indexed.
        """
        allowed = self._living(mask)
        most = max(k, self._store.count())
        wanted = k if mask is None else min(8 * k, most)
        while True:
            numbers, scores = self._store.full_text(text, columns=columns, k=wanted)
            rows = self._folder.positions_of(numbers)
            found = np.flatnonzero(rows >= 0)
            if allowed is not None:
                found = found[allowed[rows[found]]]
            found = found[:k]
            if len(found) == k or len(numbers) < wanted or wanted == most:
                return Hits(rows=rows[found], scores=scores[found])
            # Words are looked up without the mask, so those that pass may stand far down.
            wanted = min(8 * wanted, most)

    def hybrid(self, text: str, k: int, mask: _Mask | None = None, columns: Sequence[str] | None = None) -> Hits:
        """Find rows by meaning and by words, joined by reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009).

        A row's score is the sum of 1 / (60 + rank) over the two lists, ranks from 1.

        Args:
            text: what to look for.
            k: how many.
            mask: [n] bool: which rows may be found.
            columns: for the words; default all that are indexed.

        Raises:
            InputError: nothing here embeds texts for this map, k is below 1, or a column is not indexed.
        """
        depth = max(_FUSED, 2 * k)
        lists = [self.by_text(text, depth, mask).rows, self.by_words(text, depth, columns, mask).rows]
        rows, place = np.unique(np.concatenate(lists), return_inverse=True)
        worth = np.concatenate([1 / (_FUSION + np.arange(1, len(one) + 1)) for one in lists])
        scores = np.bincount(place, weights=worth, minlength=len(rows))
        best = np.argsort(-scores, kind="stable")[:k]
        return Hits(rows=rows[best], scores=scores[best].astype(np.float32))

    def mask(
        self,
        *,
        where: str | None = None,
        topics: Sequence[str | int] | None = None,
        tags: _Rows | None = None,
        selection: _Rows | None = None,
    ) -> _Mask | None:
        """Return which rows pass all that is given, [n] bool in row order; None where nothing is.

        Args:
            where: an SQL-like condition over the columns as they are now.
            topics: names or ids of topics of the map; a row in any of them passes.
            tags: [*] int64 numbers of rows that have a tag.
            selection: [*] int64 numbers of rows that were selected.

        Raises:
            InputError: the condition cannot be read, or a topic is unknown.
        """
        passing: list[_Mask] = []
        if where is not None:
            passing.append(self._mask_of(self._store.where(where)))
        if topics is not None:
            passing.append(self._in_topics(topics))
        passing.extend(self._mask_of(rows) for rows in (tags, selection) if rows is not None)
        return np.logical_and.reduce(passing) if passing else None

    def heat(
        self, *, text: str | None = None, vector: NDArray[Any] | None = None, id: Any = None
    ) -> NDArray[np.float32]:
        """Return how near every row is to a text, a vector or a row, [n] float32 in map order.

        Scores are cosines, or Euclidean distances, negative; of rows that the dataset lost, NaN.

        Raises:
            InputError: not one of the three is given, or the vector does not fit.
            DatasetError: the id is unknown, or its row is not on the map.
        """
        if sum(value is not None for value in (text, vector, id)) != 1:
            raise InputError("give one of text, vector and id")
        if text is not None:
            query: NDArray[Any] = self._encoded(text)
        else:
            query = self.vectors_of([id])[0] if vector is None else np.asarray(vector)
        scores = self.index.scores(query)
        alive = self._living(None)
        if alive is not None:
            scores[~alive] = np.nan
        return scores[self._folder.order]

    def table(self, hits: Hits, columns: Sequence[str] | None = None) -> pa.Table:
        """Return hits as a table: ids, columns, and `_score` float32, best first.

        A column of the user's that is named `_score` keeps its name, and the scores are in `__score`.

        Args:
            hits: what a search found.
            columns: names besides the ids; None for all.

        Raises:
            InputError: there is no such column.
        """
        names = self._store.schema.names if columns is None else columns
        id_field = self._store.unique_id_field
        wanted = [id_field, *(name for name in dict.fromkeys(names) if name != id_field)]
        found = self._store.take(self._folder.rows[hits.rows], wanted)
        return found.append_column(free_name("_score", wanted), pa.array(hits.scores))

    def _encoded(self, text: str) -> NDArray[np.float32]:
        if self._encode is None:
            raise InputError(
                "this map has no model to embed a search text with",
                hint="give a vector of the model that made the map's vectors, or search by words",
            )
        return self._encode(text)

    def _positions(self, ids: Sequence[Any]) -> _Rows:
        rows = self._folder.positions_of(self._store.rows_of(ids))
        if (rows < 0).any():
            raise DatasetError(
                f"row {ids[int(np.argmin(rows))]!r} was added after the map was built", hint="update the map"
            )
        return rows

    def _mask_of(self, numbers: _Rows) -> _Mask:
        found = np.zeros(self._folder.record.rows, dtype=np.bool_)
        rows = self._folder.positions_of(np.asarray(numbers, dtype=np.int64))
        found[rows[rows >= 0]] = True
        return found

    def _living(self, mask: _Mask | None) -> _Mask | None:
        """Return the rows of a mask, or of all, that the dataset still has; None for all."""
        version, alive = self._alive
        if version != self._store.version:
            version = self._store.version
            numbers = [batch.column(0).to_numpy() for batch in self._store.scan(["_row"], version=version)]
            alive = self._mask_of(np.concatenate([np.empty(0, dtype=np.int64), *numbers]))
            alive = None if alive.all() else alive
            self._alive = (version, alive)
        if mask is None or alive is None:
            return alive if mask is None else mask
        return mask & alive

    def _in_topics(self, wanted: Sequence[str | int]) -> _Mask:
        if self._topics is None:
            self._topics = Topics.load(self._folder.folder / "topics")
        by_name = {topic.name: topic.id for topic in self._topics.topics}
        ids = []
        for one in wanted:
            found = by_name.get(one) if isinstance(one, str) else one
            if found is None or not 0 <= found < len(by_name):
                near = difflib.get_close_matches(str(one), by_name, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"this map has {len(by_name)} topics"
                raise InputError(f"there is no topic {one!r} on this map; {hint}")
            ids.append(found)
        passing = np.zeros(self._folder.record.rows, dtype=np.bool_)
        for labels in self._topics.labels:
            passing |= np.isin(labels, ids)
        return passing
