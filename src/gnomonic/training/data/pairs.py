"""Pairs of texts on disk, grouped by source, and the schedule that says which rows make the batch of a step."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.errors import ConfigError
from gnomonic.training.config import SourceConfig
from gnomonic.training.data.shuffles import Shuffles
from gnomonic.training.data.tables import RowReader, open_tables
from gnomonic.types import TaskType

__all__ = ["PairBatch", "PairSource", "Schedule", "load_sources"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairBatch:
    """Texts of one step, prefixes already in front; this rank's part of them."""

    queries: list[str]
    documents: list[str]
    source: str
    negatives: list[list[str]]
    """Documents known to be wrong for each query, all that the row has; empty lists where it has none."""
    rows: NDArray[np.int64]
    """[pairs] int64: where each pair stands among all rows of all files, in the order of `open_tables`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSource:
    """All pairs of one source."""

    name: str
    reader: RowReader
    """The rows of all sources."""
    rows: NDArray[np.int64]
    """[pairs] int64: which of them are this source's."""
    query_prefix: str
    document_prefix: str
    weight: float

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: NDArray[np.int64]) -> PairBatch:
        """Return pairs as a batch.

        Args:
            positions: [pairs] int64, counted from 0 within the source.
        """
        rows = self.rows[positions]
        chosen = self.reader.take(rows)
        has_negatives = "negatives" in chosen.column_names
        lists = chosen["negatives"].to_pylist() if has_negatives else [[] for _ in range(len(rows))]
        return PairBatch(
            queries=[self.query_prefix + text for text in chosen["query"].to_pylist()],
            documents=[self.document_prefix + text for text in chosen["document"].to_pylist()],
            negatives=[[self.document_prefix + text for text in texts] for texts in lists],
            source=self.name,
            rows=rows,
        )


def _rule(name: str, rules: Sequence[SourceConfig]) -> SourceConfig:
    for rule in rules:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in rule.match):
            return rule
    return SourceConfig(match=())


def _prefix(task: str) -> str:
    """Return the text put in front; none for the task ""."""
    return f"{TaskType.parse(task)}: " if task else ""


def load_sources(
    patterns: Sequence[str],
    folder: Path,
    rules: Sequence[SourceConfig],
    *,
    cache: Path | None = None,
    on_progress: Callable[[Path, int], None] | None = None,
) -> list[PairSource]:
    """Open data files with `query` and `document`, and `negatives` and `source` if they have them.

    Args:
        patterns: file names or globs, relative to `folder`; see `open_tables`.
        folder: where the recipe lies.
        rules: prefixes and weights by source. A row without a source belongs to one named as its file.
        cache: folder for the converted files; default is `data` in GNOMONIC_CACHE.
        on_progress: called while a file is converted, with the file and the rows read so far.

    Returns:
        The sources with a weight above 0, sorted by name. Their texts stay on the disk.

    Raises:
        ConfigError: a pattern matches nothing, a file lacks a column, or every source has weight 0.
        InputError: a file is damaged or empty.
    """
    table = open_tables(patterns, folder, cache=cache, on_progress=on_progress)
    # The text column of a mixed file, and the sources, are not read again for each batch.
    reader = RowReader(table.select([name for name in table.column_names if name not in ("text", "source")]))
    sources = []
    for name, rows in _rows_by_source(table["source"]):
        rule = _rule(name, rules)
        if rule.weight > 0:
            sources.append(
                PairSource(
                    name=name,
                    reader=reader,
                    rows=rows,
                    query_prefix=_prefix(rule.query_task),
                    document_prefix=_prefix(rule.document_task),
                    weight=rule.weight,
                )
            )
    if not sources:
        raise ConfigError("sources: every source has weight 0; give at least one a weight above 0")
    return sources


def _rows_by_source(column: pa.ChunkedArray) -> list[tuple[str, NDArray[np.int64]]]:
    """Return each name with its row numbers, sorted by name."""
    codes = np.empty(len(column), np.int32)
    known: dict[str, int] = {}
    start = 0
    for chunk in column.chunks:
        labels = chunk.dictionary_encode()
        of_chunk = np.array([known.setdefault(name, len(known)) for name in labels.dictionary.to_pylist()], np.int32)
        codes[start : start + len(chunk)] = of_chunk[labels.indices.to_numpy()]
        start += len(chunk)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(known)))
    return sorted((name, order[ends[code - 1] if code else 0 : ends[code]]) for name, code in known.items())


class Schedule:
    """Which source and which rows each step takes; a pure function of the settings, so a step is a position.

    With `steps`, a step draws one source in proportion to (rows × weight)^exponent and takes the next `batch_size`
    pairs of that source, whose shuffles are laid end to end: each row comes once before any comes again. With
    `epochs`, each epoch takes each row of every source once, whatever its weight: a source's shuffle is cut into
    batches, and the batches of all sources are shuffled. What does not fill a batch makes a smaller one; less than
    half a batch is shared with the batch before, since a query learns from the other documents of its batch.

    Attributes:
        sources: those that are used.
        skipped: names of sources that have fewer rows than a batch, which only epochs can use.
        batch_size: pairs of a whole step, over all ranks.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        *,
        batch_size: int,
        seed: int,
        steps: int = 0,
        epochs: int = 0,
        exponent: float = 1.0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Lay out the run.

        Args:
            sources: what to take from.
            batch_size: pairs of a step, over all ranks.
            seed: of all draws and shuffles.
            steps: length of the run in steps; or
            epochs: its length in passes over all rows. One of the two is given.
            exponent: with `steps`, flattens (below 1) the shares of large sources.
            rank: which part of each batch is returned.
            world: number of ranks; each takes an equal part, so with `epochs` up to world - 1 rows of a source, others
                in each epoch, are passed over.

        Raises:
            ConfigError: the batch is larger than every source, does not divide by the ranks, or not one of steps and
                epochs is given.
        """
        if (steps > 0) == (epochs > 0) or steps < 0 or epochs < 0:
            raise ConfigError(f"steps and epochs: {steps} and {epochs} are given; give one of them, above 0")
        if batch_size < 1 or batch_size % world:
            raise ConfigError(
                f"batch_size: {batch_size} cannot be shared equally by {world} processes; take a positive multiple"
            )
        least = world if epochs else batch_size
        self.sources = [source for source in sources if len(source) >= least]
        self.skipped = [source.name for source in sources if len(source) < least]
        if not self.sources:
            raise ConfigError(f"batch_size: no source has {least} rows; take a smaller batch")
        if self.skipped:
            logger.warning(
                "%d sources have fewer rows than a batch and are left out: %s", len(self.skipped), self.skipped
            )
        self.batch_size = batch_size
        self._rank, self._world = rank, world
        self._shuffles = Shuffles(seed)
        if epochs:
            self._plan_epochs(epochs)
        else:
            self._draw_steps(steps, exponent, seed)

    def __len__(self) -> int:
        """Return the steps of the run."""
        return self._steps

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over all rows; 0 when the run is counted in steps."""
        return len(self._cuts) if self._by_epochs else 0

    def batch(self, step: int) -> PairBatch:
        """Return this rank's texts of a step; may be called from several threads.

        Raises:
            IndexError: the run has no such step.
        """
        if not 0 <= step < self._steps:
            raise IndexError(f"step {step} of a run of {self._steps}")
        index, start, size = self._cut_in_epoch(step) if self._by_epochs else self._cut_in_draws(step)
        part = size // self._world
        positions = np.arange(start + self._rank * part, start + (self._rank + 1) * part)
        source = self.sources[index]
        turns, offsets = np.divmod(positions, len(source))
        rows = np.empty(part, np.int64)
        for turn in np.unique(turns):
            rows[turns == turn] = self._shuffles.get(index, int(turn), len(source))[offsets[turns == turn]]
        return source.take(rows)

    def _draw_steps(self, steps: int, exponent: float, seed: int) -> None:
        self._steps, self._by_epochs = steps, False
        shares = np.array([len(source) * source.weight for source in self.sources]) ** exponent
        self._draws = np.random.default_rng(seed).choice(len(self.sources), size=steps, p=shares / shares.sum())
        self._turns = np.zeros(steps, np.int64)
        for index in range(len(self.sources)):
            where = np.flatnonzero(self._draws == index)
            self._turns[where] = np.arange(len(where))

    def _cut_in_draws(self, step: int) -> tuple[int, int, int]:
        return int(self._draws[step]), int(self._turns[step]) * self.batch_size, self.batch_size

    def _plan_epochs(self, epochs: int) -> None:
        self._by_epochs = True
        self._cuts = [
            (index, start, size)
            for index, source in enumerate(self.sources)
            for start, size in _cut(len(source) - len(source) % self._world, self.batch_size, self._world)
        ]
        self._steps = epochs * len(self._cuts)

    def _cut_in_epoch(self, step: int) -> tuple[int, int, int]:
        epoch, place = divmod(step, len(self._cuts))
        order = self._shuffles.get(len(self.sources), epoch, len(self._cuts))
        index, start, size = self._cuts[order[place]]
        return index, epoch * len(self.sources[index]) + start, size


def _cut(rows: int, batch_size: int, world: int) -> list[tuple[int, int]]:
    """Return (start, size) of the batches of a source; every size divides by `world`, as `rows` does."""
    sizes = [batch_size] * (rows // batch_size)
    if rest := rows % batch_size:
        if sizes and rest < batch_size / 2:
            both = (sizes.pop() + rest) // world
            sizes += [(both - both // 2) * world, (both // 2) * world]
        else:
            sizes.append(rest)
    return [(int(end) - size, size) for end, size in zip(np.cumsum(sizes), sizes, strict=True)]
