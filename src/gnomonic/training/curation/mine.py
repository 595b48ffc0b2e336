"""Hard negatives: documents that a model finds close to a query, and that are not answers to it.

Candidates are the best-scoring documents below a ceiling that is relative to the positive's score, as in NV-Retriever
(Moreira et al. 2024, §3.2, "TopK-PercPos"); negatives are drawn from them at random, which Nomic Embed found better
than the hardest (Nussbaum et al. 2024, §3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import ConfigError
from gnomonic.training.curation.neighbors import Search
from gnomonic.training.curation.pairs import Pairs, Texts
from gnomonic.training.curation.report import Report, count_by_source
from gnomonic.training.curation.vectors import VectorStore
from gnomonic.training.curation.words import text_key
from gnomonic.training.curation.workplace import digest_of
from gnomonic.types import TaskType

__all__ = ["MineConfig", "Mined", "mine", "mine_report", "negatives_of"]

_TILE = 1024
_SAVED = 32 * _TILE
_EXAMPLES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class MineConfig:
    """Which documents are negatives."""

    negatives: int = 7
    """How many a row gets, fewer where there are no more."""
    pool: int = 20
    """They are taken from this many of the best-scoring candidates."""
    margin: float = 0.95
    """A document is a candidate if it scores less than this share of the positive's score: what is about as close as
    the positive is often an answer too. 1 takes everything below the positive."""
    duplicate_similarity: float = 0.95
    """A document whose cosine with the positive document is this high is the positive in other words, and skipped."""
    sampling: str = "random"
    """From the pool: "random", or "hardest", the best-scoring ones."""
    across_sources: bool = False
    """Search the documents of all sources, not of the row's own; with a corpus, that is always so."""
    query_task: str = "search_query"
    document_task: str = "search_document"
    seed: int = 0
    device: str = "cpu"
    """Torch device that compares the vectors."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
            InputError: a task type is unknown.
        """
        if self.negatives < 1:
            raise ConfigError(f"negatives {self.negatives} is too small; choose 1 or more")
        if self.pool < self.negatives:
            raise ConfigError(f"pool {self.pool} is smaller than negatives {self.negatives}; choose that or more")
        for name in ("margin", "duplicate_similarity"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)} is out of range; choose above 0, at most 1")
        if self.sampling not in ("random", "hardest"):
            raise ConfigError(f"sampling {self.sampling!r} is unknown; choose random or hardest")
        TaskType.parse(self.query_task)
        TaskType.parse(self.document_task)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mined:
    """The negatives of n rows."""

    documents: NDArray[np.int64]
    """[n, negatives] rows whose document it is, best-scoring first; -1 where there are no more."""
    positive_scores: NDArray[np.float32]
    """[n] cosine of query and document."""
    negative_scores: NDArray[np.float32]
    """[n] mean cosine of the query and its negatives; NaN without any."""
    suspects: NDArray[np.int64]
    """[n] documents, positives aside, that scored too high to be negatives."""


def mine(pairs: Pairs, store: VectorStore, config: MineConfig, *, keep_vectors: bool = False) -> Mined:
    """Find hard negatives for every row; finished parts are kept in the store.

    A row's negatives are never its document, nor the document of any row with the same query, nor one of the negatives
    that the row already has; texts are compared normalised.

    Args:
        pairs: the rows; their documents, and those of the corpus, are what is searched.
        store: embeds the texts; its lock is held.
        config: what counts as a negative.
        keep_vectors: keep the vectors of a source when it is done; else disk use is that of one source.

    Raises:
        GnomonicError: the embedder failed or the disk is full; the same call goes on afterwards.
    """
    found = _empty(len(pairs), config.negatives)
    together = config.across_sources or len(pairs.corpus) > 0
    groups = [np.arange(len(pairs))] if together else _by_source(pairs)
    for number, rows in enumerate(groups):
        group = _Group(pairs, rows, store, config)
        for begin in range(0, len(rows), _SAVED):
            part = rows[begin : begin + _SAVED]
            array = group.mined(begin, begin + len(part), [config.seed, number, begin])
            found.documents[part] = array[:, :-3].astype(np.int64)
            found.positive_scores[part], found.negative_scores[part] = array[:, -3], array[:, -2]
            found.suspects[part] = array[:, -1].astype(np.int64)
        if not keep_vectors:
            group.drop()
    return found


def _empty(rows: int, negatives: int) -> Mined:
    return Mined(
        documents=np.full((rows, negatives), -1, np.int64),
        positive_scores=np.zeros(rows, np.float32),
        negative_scores=np.zeros(rows, np.float32),
        suspects=np.zeros(rows, np.int64),
    )


def _by_source(pairs: Pairs) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(pairs.source == place) for place in range(len(pairs.sources))]


class _Group:
    """Rows that are searched together."""

    def __init__(self, pairs: Pairs, rows: NDArray[np.int64], store: VectorStore, config: MineConfig) -> None:
        self._pairs, self._rows, self._store, self._config = pairs, rows, store, config
        self._tasks = TaskType.parse(config.query_task), TaskType.parse(config.document_task)
        self._queries = pairs.distinct("query", rows)
        self._documents = pairs.distinct("document", np.concatenate([rows, pairs.corpus]))
        self._positives = _lists(self._queries.place, self._documents.place[: len(rows)], len(self._queries.keys))
        self._key = digest_of(
            "mined",
            store.key(self._queries.keys, self._tasks[0]),
            store.key(self._documents.keys, self._tasks[1]),
            self._queries.place,
            self._documents.place,
            {name: value for name, value in asdict(config).items() if name != "device"},
        )

    @cached_property
    def _search(self) -> Search:
        """The vectors, embedded when a part is first found missing."""
        return Search(
            self._store.embed(
                self._queries.keys, self._reader("query", self._queries), self._tasks[0], what="embedding queries"
            ),
            self._store.embed(
                self._documents.keys,
                self._reader("document", self._documents),
                self._tasks[1],
                what="embedding documents",
            ),
            device=self._config.device,
        )

    def _reader(self, column: str, texts: Texts) -> Callable[[int, int], list[str]]:
        return lambda begin, end: self._pairs.texts(column, texts.rows[begin:end])

    def mined(self, begin: int, end: int, seed: list[int]) -> NDArray[np.float64]:
        """Return [rows, negatives + 3]: rows of the negatives, score of the positive, of the negatives, suspects."""
        own = self._own_negatives(begin, end)

        def make() -> NDArray[np.float64]:
            rng = np.random.default_rng(seed)
            parts = []
            for start in range(begin, end, _TILE):
                stop = min(start + _TILE, end)
                within = (own[:, 0] >= start) & (own[:, 0] < stop)
                parts.append(self._tile(np.arange(start, stop), own[within] - np.array([start, 0]), rng))
                if self._store.on_progress is not None:
                    self._store.on_progress("searching", stop, len(self._rows))
            return np.concatenate(parts)

        return self._store.result(digest_of(self._key, seed, own), make).astype(np.float64, copy=False)

    def drop(self) -> None:
        """Delete the vectors; what was found with them is kept."""
        self.__dict__.pop("_search", None)
        self._store.drop_vectors(self._queries.keys, self._tasks[0])
        self._store.drop_vectors(self._documents.keys, self._tasks[1])

    def _tile(self, places: NDArray[np.int64], own: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
        query, document = self._queries.place[places], self._documents.place[places]
        positive = self._search.scores(query, document)
        # Below a negative score lies what is less alike, so the margin is taken off, not multiplied.
        ceilings = (positive - (1 - self._config.margin) * np.abs(positive)).astype(np.float32)
        taken = self._search.hardest(query, ceilings, self._excluded(query, own), 2 * self._config.pool)
        like = self._search.likeness(document, taken.documents) >= self._config.duplicate_similarity
        usable = (taken.documents >= 0) & ~like
        usable &= np.cumsum(usable, axis=1) <= self._config.pool
        chosen = self._choose(usable, rng)
        ids = np.where(chosen >= 0, np.take_along_axis(taken.documents, np.maximum(chosen, 0), axis=1), -1)
        scores = np.where(chosen >= 0, np.take_along_axis(taken.scores, np.maximum(chosen, 0), axis=1), 0)
        count = (chosen >= 0).sum(axis=1)
        mean = np.where(count > 0, scores.sum(axis=1) / np.maximum(count, 1), np.nan)
        rows = np.where(ids >= 0, self._documents.rows[np.maximum(ids, 0)], -1)
        return np.column_stack([rows, positive, mean, taken.above]).astype(np.float64)

    def _choose(self, usable: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return [n, negatives] places among the candidates, best first, -1 where there are no more."""
        n, k = usable.shape
        order = rng.random((n, k)) if self._config.sampling == "random" else np.tile(np.arange(k) / k, (n, 1))
        order[~usable] = 2.0
        width = min(self._config.negatives, k)
        chosen = np.argsort(order, axis=1, kind="stable")[:, :width]
        chosen = np.where(np.take_along_axis(usable, chosen, axis=1), chosen, k)
        chosen = np.sort(chosen, axis=1)
        chosen = np.pad(chosen, ((0, 0), (0, self._config.negatives - width)), constant_values=k)
        return np.where(chosen < k, chosen, -1)

    def _excluded(
        self, query: NDArray[np.int64], own: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs (place in `query`, document) that are no negatives whatever they score."""
        starts, documents = self._positives
        counts = starts[query + 1] - starts[query]
        who = np.repeat(np.arange(len(query)), counts)
        offsets = np.arange(len(who)) - np.repeat(np.cumsum(counts) - counts, counts)
        what = documents[np.repeat(starts[query], counts) + offsets]
        return np.concatenate([who, own[:, 0]]), np.concatenate([what, own[:, 1]])

    def _own_negatives(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return (row, document) of the negatives that rows already have, as far as they are documents here: [n, 2]."""
        if not self._pairs.has_negatives:
            return np.empty((0, 2), np.int64)
        lists = self._pairs.negatives(self._rows[begin:end])
        rows = np.repeat(np.arange(begin, end), [len(texts) for texts in lists])
        keys = np.array([text_key(text) for texts in lists for text in texts], np.uint64)
        order = np.argsort(self._documents.keys, kind="stable")
        known = self._documents.keys[order]
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        there = known[at] == keys
        return np.stack([rows[there], order[at[there]]], axis=1).astype(np.int64)


def _lists(
    query: NDArray[np.int64], document: NDArray[np.int64], queries: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the documents of each query: where each list begins and ends, [queries + 1], and the lists."""
    pairs = np.unique(np.stack([query, document], axis=1), axis=0)
    starts = np.searchsorted(pairs[:, 0], np.arange(queries + 1))
    return starts, np.ascontiguousarray(pairs[:, 1])


def mine_report(pairs: Pairs, mined: Mined, config: MineConfig) -> Report:
    """Return how many negatives were found, by source, with some rows as examples.

    Args:
        pairs: the rows.
        mined: what `mine` found.
        config: what was asked for.
    """
    count = (mined.documents >= 0).sum(axis=1)
    sampled = np.random.default_rng(config.seed).permutation(np.flatnonzero(count > 0))[:_EXAMPLES]
    with_any = ~np.isnan(mined.negative_scores)
    details: dict[str, float] = {
        "negatives in all": int(count.sum()),
        "rows with fewer than asked for": int((count < config.negatives).sum()),
        "rows with none": int((count == 0).sum()),
        "mean cosine with the positive": float(mined.positive_scores.mean()),
        "rows for which some other document scored too high": int((mined.suspects > 0).sum()),
    }
    if with_any.any():
        details["mean cosine with the negatives"] = float(mined.negative_scores[with_any].mean())
    return Report(
        command="mine",
        settings=asdict(config),
        rows_in=len(pairs),
        rows_out=len(pairs),
        sources=count_by_source(pairs, {"full": count == config.negatives, "none": count == 0}),
        details=details,
        examples=[
            {"source": source, "query": query[:200], "document": document[:200], "first_negative": negative[:200]}
            for source, query, document, negative in zip(
                pairs.texts("source", sampled),
                pairs.texts("query", sampled),
                pairs.texts("document", sampled),
                pairs.texts("document", mined.documents[sampled, 0]),
                strict=True,
            )
        ],
    )


def negatives_of(pairs: Pairs, mined: Mined) -> Callable[[int, int], list[list[str]]]:
    """Return `read(begin, end)`, which gives the negatives of those rows: their own first, then the mined ones."""

    def read(begin: int, end: int) -> list[list[str]]:
        wanted = mined.documents[begin:end]
        texts = iter(pairs.texts("document", wanted[wanted >= 0]))
        counts = (wanted >= 0).sum(axis=1).tolist()
        own = pairs.negatives(np.arange(begin, end))
        return [[*kept, *(next(texts) for _ in range(count))] for kept, count in zip(own, counts, strict=True)]

    return read
