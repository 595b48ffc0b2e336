"""The consistency filter: keep a pair when its document is among the best that its query finds.

The filter of Nomic Embed (Nussbaum et al. 2024, §3.2), after E5 (Wang et al. 2022, §3.2): the rows of a source are cut
into blocks, and a pair stays if its document ranks in the top k of its block for its query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import ConfigError
from gnomonic.training.curation.pairs import Pairs, Texts
from gnomonic.training.curation.report import Report, count_by_source
from gnomonic.training.curation.vectors import VectorStore
from gnomonic.training.curation.workplace import digest_of
from gnomonic.types import TaskType

__all__ = ["FilterConfig", "consistency_ranks", "filter_report"]

_EXAMPLES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig:
    """Which pairs are consistent."""

    top_k: int = 2
    """A pair stays if fewer than this many documents of its block score higher for its query."""
    block_rows: int = 1_000_000
    """Rows of a block at most; a source is cut into blocks of equal size. Larger is stricter."""
    query_task: str = "search_query"
    document_task: str = "search_document"
    seed: int = 0
    """Of the shuffle that deals a source's rows to its blocks."""
    device: str = "cpu"
    """Torch device that compares the vectors."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
            InputError: a task type is unknown.
        """
        for name, least in (("top_k", 1), ("block_rows", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} {getattr(self, name)} is too small; choose {least} or more")
        TaskType.parse(self.query_task)
        TaskType.parse(self.document_task)


def consistency_ranks(
    pairs: Pairs, store: VectorStore, config: FilterConfig, *, keep_vectors: bool = False
) -> NDArray[np.int32]:
    """Return the rank of every row's document for its query among the different documents of its block.

    Equal texts are one document, and documents that score equal share a rank. Finished blocks are kept in the store.

    Args:
        pairs: the rows.
        store: embeds the texts; its lock is held.
        config: the blocks and prefixes.
        keep_vectors: keep a block's vectors after its ranks are known; else disk use is that of one block.

    Returns:
        [rows] int32, 1 for the best.

    Raises:
        GnomonicError: the embedder failed or the disk is full; the same call goes on afterwards.
    """
    ranks = np.empty(len(pairs), np.int32)
    tasks = TaskType.parse(config.query_task), TaskType.parse(config.document_task)
    for rows in _blocks(pairs, config):
        queries, documents = pairs.distinct("query", rows), pairs.distinct("document", rows)
        names = store.key(queries.keys, tasks[0]), store.key(documents.keys, tasks[1])
        key = digest_of("ranks", *names, queries.place, documents.place)

        ranks[rows] = store.result(key, partial(_ranks, pairs, store, config, queries, documents))
        if not keep_vectors:
            store.drop_vectors(queries.keys, tasks[0])
            store.drop_vectors(documents.keys, tasks[1])
    return ranks


def _ranks(
    pairs: Pairs, store: VectorStore, config: FilterConfig, queries: Texts, documents: Texts
) -> NDArray[np.int32]:
    """Embed a block and rank each of its pairs."""
    from gnomonic.training.curation.neighbors import Search

    tell = store.on_progress
    left, right = (
        store.embed(texts.keys, _reader(pairs, column, texts.rows), TaskType.parse(task), what=f"embedding {what}")
        for texts, column, task, what in (
            (queries, "query", config.query_task, "queries"),
            (documents, "document", config.document_task, "documents"),
        )
    )
    step = (lambda done, total: tell("comparing", done, total)) if tell else None
    return Search(left, right, device=config.device).ranks(queries.place, documents.place, step)


def _reader(pairs: Pairs, column: str, rows: NDArray[np.int64]) -> Callable[[int, int], list[str]]:
    return lambda begin, end: pairs.texts(column, rows[begin:end])


def _blocks(pairs: Pairs, config: FilterConfig) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each block, ascending; a pure function of the sources' sizes, the block size and the seed."""
    for place in range(len(pairs.sources)):
        rows = np.flatnonzero(pairs.source == place)
        count = -(-len(rows) // config.block_rows)
        dealt = np.random.default_rng([config.seed, place]).permutation(rows) if count > 1 else rows
        for block in np.array_split(dealt, count):
            yield np.sort(block)


def filter_report(pairs: Pairs, ranks: NDArray[np.int32], config: FilterConfig) -> Report:
    """Return what the filter keeps, by source, with the worst pairs as examples.

    Args:
        pairs: the rows.
        ranks: [rows], see `consistency_ranks`.
        config: what was asked for.
    """
    keep = ranks <= config.top_k
    edges = {"rank 1": (1, 1), "rank 2": (2, 2), "rank 3 to 10": (3, 10), "rank 11 to 100": (11, 100)}
    details = {name: int(((ranks >= low) & (ranks <= high)).sum()) for name, (low, high) in edges.items()}
    details["rank above 100"] = int((ranks > 100).sum())
    worst = np.argsort(-ranks, kind="stable")[:_EXAMPLES]
    worst = worst[~keep[worst]]
    table = pairs.take(worst)
    shown = zip(worst, *(table[name].to_pylist() for name in ("source", "query", "document")), strict=True)
    return Report(
        command="filter",
        settings=asdict(config),
        rows_in=len(pairs),
        rows_out=int(keep.sum()),
        sources=count_by_source(pairs, {"kept": keep, "rank_1": ranks == 1}),
        details=details,
        examples=[
            {"rank": int(ranks[row]), "source": source, "query": query[:200], "document": document[:200]}
            for row, source, query, document in shown
        ],
    )
