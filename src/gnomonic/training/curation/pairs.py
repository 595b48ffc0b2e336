"""The pairs that curation works on: rows by number, keys of their texts, and the file that is written at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gnomonic.training.curation.words import column_keys
from gnomonic.training.curation.workplace import Progress, writing
from gnomonic.training.data.tables import RowReader

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Pairs", "Texts", "write_pairs"]

_BATCH_ROWS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """Different texts of a column, each by the first row that has it."""

    keys: NDArray[np.uint64]
    """[m] ascending by first row, so that a growing file keeps its beginning."""
    rows: NDArray[np.int64]
    """[m] where each stands first."""
    place: NDArray[np.int64]
    """[n] which of the m texts each row of the selection has."""


class Pairs:
    """Rows with `query`, `document`, `source` and perhaps `negatives`, which stay on disk.

    Attributes:
        has_negatives: whether the rows have a column of negatives.
        keys: column name → [rows] uint64, see `words.text_key`; the documents of a corpus come after those of the rows.
        sources: the sources' names, in order of first appearance.
        source: [rows] int64, place in `sources`.
        corpus: [m] int64, numbers of the corpus' rows, which follow those of the pairs.
    """

    def __init__(self, table: pa.Table, *, corpus: pa.Table | None = None, on_progress: Progress | None = None) -> None:
        """Read the texts once, for their keys.

        Args:
            table: columns query, document, source and perhaps negatives, such as `open_tables` gives.
            corpus: more documents without a query, in a column `document`.
            on_progress: hears of the rows read.
        """
        self.has_negatives = "negatives" in table.column_names
        self.sources, self.source = _sources(table)
        self.keys = {"query": _keys(table, "query", on_progress), "document": _keys(table, "document", on_progress)}
        self.corpus = np.arange(table.num_rows, table.num_rows)
        if corpus is not None:
            import pyarrow as pa

            more = _keys(corpus, "document", on_progress)
            self.keys["document"] = np.concatenate([self.keys["document"], more])
            self.corpus = np.arange(len(more)) + table.num_rows
            table = pa.concat_tables([table, corpus.select(["document"])], promote_options="default")
        self._reader = RowReader(table)

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return these rows."""
        return self._reader.take(rows)

    def texts(self, column: str, rows: NDArray[np.int64]) -> list[str]:
        """Return the texts of a column in these rows."""
        found: list[str] = self._reader.take(rows)[column].to_pylist()
        return found

    def negatives(self, rows: NDArray[np.int64]) -> list[list[str]]:
        """Return the negatives that these rows bring; empty lists where the table has no such column."""
        if not self.has_negatives:
            return [[] for _ in rows]
        found: list[list[str]] = self._reader.take(rows)["negatives"].to_pylist()
        return found

    def distinct(self, column: str, rows: NDArray[np.int64]) -> Texts:
        """Return the different texts of a column in these rows."""
        keys, first, place = np.unique(self.keys[column][rows], return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        new = np.empty_like(order)
        new[order] = np.arange(len(order))
        return Texts(keys=keys[order], rows=rows[first[order]], place=new[place.reshape(-1)])


def _keys(table: pa.Table, name: str, on_progress: Progress | None) -> NDArray[np.uint64]:
    what = "reading queries" if name == "query" else "reading documents"
    tell = (lambda done, total: on_progress(what, done, total)) if on_progress else None
    return column_keys(table, name, tell)


def _sources(table: pa.Table) -> tuple[list[str], NDArray[np.int64]]:
    places: dict[str, int] = {}
    parts = [
        np.fromiter((places.setdefault(name, len(places)) for name in chunk.to_pylist()), np.int64, len(chunk))
        for batch in table.select(["source"]).to_batches(max_chunksize=_BATCH_ROWS)
        for chunk in [batch.column(0)]
    ]
    return list(places), np.concatenate(parts) if parts else np.empty(0, np.int64)


def write_pairs(
    pairs: Pairs,
    rows: NDArray[np.int64],
    path: Path,
    *,
    negatives: Callable[[int, int], list[list[str]]] | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Write rows as Parquet with query, document, negatives and source; the file appears when it is whole.

    Args:
        pairs: where the rows come from.
        rows: [n] which, in the order they are written.
        path: the file; its folder is made.
        negatives: `negatives(begin, end)` gives those of a part of `rows`; None keeps what the rows have.
        on_progress: called with the rows written.

    Raises:
        GnomonicError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in ("query", "document")])
    if negatives is not None or pairs.has_negatives:
        schema = schema.append(pa.field("negatives", pa.list_(pa.string())))
    schema = schema.append(pa.field("source", pa.string()))
    draft = path.with_name(f"{path.name}.tmp")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(draft, schema, compression="zstd") as writer:
            for begin in range(0, len(rows), _BATCH_ROWS):
                end = min(begin + _BATCH_ROWS, len(rows))
                table = pairs.take(rows[begin:end])
                columns = {name: table[name] for name in table.column_names}
                if "negatives" in schema.names:
                    given = negatives(begin, end) if negatives else pairs.negatives(rows[begin:end])
                    columns["negatives"] = pa.array(given, pa.list_(pa.string()))
                writer.write_table(pa.table([columns[name] for name in schema.names], schema=schema))
                if on_progress is not None:
                    on_progress("writing", end, len(rows))
        with draft.open("rb+") as stream:
            os.fsync(stream.fileno())
        draft.replace(path)
