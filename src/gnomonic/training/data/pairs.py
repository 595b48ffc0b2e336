"""Pairs of texts on disk, grouped by source, and the schedule that says which rows make the batch of a step."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnomonic.errors import ConfigError
from gnomonic.training.config import SourceConfig
from gnomonic.types import TaskType

__all__ = ["PairBatch", "PairSource", "Schedule", "iter_texts", "load_sources"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairBatch:
    """Texts of one step, prefixes already in front."""

    queries: list[str]
    documents: list[str]
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSource:
    """All pairs of one source."""

    name: str
    table: pa.Table
    """Columns query, document."""
    query_prefix: str
    document_prefix: str
    weight: float

    def take(self, rows: NDArray[np.int64]) -> PairBatch:
        """Return these rows as a batch."""
        chosen = self.table.take(pa.array(rows))
        return PairBatch(
            queries=[self.query_prefix + text for text in chosen["query"].to_pylist()],
            documents=[self.document_prefix + text for text in chosen["document"].to_pylist()],
            source=self.name,
        )


def _rule(name: str, rules: Sequence[SourceConfig]) -> SourceConfig:
    for rule in rules:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in rule.match):
            return rule
    return SourceConfig(match=())


def load_sources(patterns: Sequence[str], folder: Path, rules: Sequence[SourceConfig]) -> list[PairSource]:
    """Read parquet files with `query`, `document` and `source` columns.

    Args:
        patterns: file names or globs, relative to `folder`.
        folder: where the recipe lies.
        rules: prefixes and weights by source.

    Returns:
        The sources with a weight above 0, sorted by name.

    Raises:
        ConfigError: a pattern matches nothing, or a file lacks a column.
    """
    tables = []
    for pattern in patterns:
        paths = sorted(folder.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
        if not paths:
            raise ConfigError(f"data: {pattern!r} matches no file under {folder}")
        for path in paths:
            table = pq.read_table(path)
            if missing := {"query", "document", "source"} - set(table.column_names):
                raise ConfigError(f"data: {path} has no column {sorted(missing)}; it has {table.column_names}")
            tables.append(table.select(["query", "document", "source"]))
    table = pa.concat_tables(tables)
    labels = table["source"].combine_chunks().dictionary_encode()
    codes = labels.indices.to_numpy()
    sources = []
    for code, name in sorted(enumerate(labels.dictionary.to_pylist()), key=lambda item: str(item[1])):
        rule = _rule(name, rules)
        if rule.weight > 0:
            sources.append(
                PairSource(
                    name=name,
                    table=table.take(pa.array(np.flatnonzero(codes == code))).select(["query", "document"]),
                    query_prefix=f"{TaskType.parse(rule.query_task)}: ",
                    document_prefix=f"{TaskType.parse(rule.document_task)}: ",
                    weight=rule.weight,
                )
            )
    return sources


class Schedule:
    """Which source and which rows each step takes; a pure function of the seed, so a step is a position.

    A step draws one source in proportion to (rows × weight)^exponent, then the next `batch_size` rows of that
    source's shuffle; a source that runs out is shuffled anew.
    """

    def __init__(
        self, sources: Sequence[PairSource], *, batch_size: int, steps: int, exponent: float, seed: int
    ) -> None:
        usable = [source for source in sources if source.table.num_rows >= batch_size]
        if not usable:
            raise ConfigError(f"batch_size: no source has {batch_size} rows; take a smaller batch")
        self.sources = usable
        self.batch_size = batch_size
        self.seed = seed
        shares = np.array([source.table.num_rows * source.weight for source in usable]) ** exponent
        draws = np.random.default_rng(seed).choice(len(usable), size=steps, p=shares / shares.sum())
        self._source_of = draws
        self._turn = np.zeros(steps, np.int64)
        for index in range(len(usable)):
            where = np.flatnonzero(draws == index)
            self._turn[where] = np.arange(len(where))
        self._shuffles: dict[tuple[int, int], NDArray[np.int64]] = {}

    def batch(self, step: int) -> PairBatch:
        """Return the texts of a step."""
        index = int(self._source_of[step])
        source = self.sources[index]
        per_epoch = source.table.num_rows // self.batch_size
        epoch, turn = divmod(int(self._turn[step]), per_epoch)
        if (index, epoch) not in self._shuffles:
            rng = np.random.default_rng([self.seed, index, epoch])
            self._shuffles[index, epoch] = rng.permutation(source.table.num_rows)
        rows = self._shuffles[index, epoch][turn * self.batch_size : (turn + 1) * self.batch_size]
        return source.take(rows)


def iter_texts(paths: Sequence[Path], max_chars: int = 600) -> Iterator[str]:
    """Yield every query and every second document, cut to `max_chars`, for vocabulary training."""
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(columns=["query", "document"]):
            yield from batch["query"].to_pylist()
            for text in batch["document"].to_pylist()[::2]:
                yield text[:max_chars]
