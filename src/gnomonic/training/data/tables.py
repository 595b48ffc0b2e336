"""Data files as one memory-mapped Arrow table.

A file is converted once, as a stream, into an Arrow file in the cache folder and mapped from there, so that data
larger than memory takes none, and a second run starts at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomonic.errors import ConfigError, InputError
from gnomonic.training.data.cache import appearing, cache_folder, fingerprint, remove
from gnomonic.training.data.readers import SCHEMA, read_batches, stem_of

__all__ = ["RowReader", "find_files", "left_out", "open_tables"]

logger = logging.getLogger(__name__)

_ROWS = "rows.arrow"
_LEFT_OUT = b"left_out"


def find_files(patterns: Sequence[str], folder: Path) -> list[Path]:
    """Return the files that patterns name, each once, those of one pattern in the order of their names.

    Args:
        patterns: file names or globs (`*`, `?`, `[…]`, `**`), relative to `folder` or absolute.
        folder: where the recipe lies.

    Raises:
        ConfigError: a pattern matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        literal = folder / pattern
        if literal.is_dir():
            raise ConfigError(f"data: {pattern!r} is a folder; name its files, as in {pattern.rstrip('/')}/*.parquet")
        anchor = Path(pattern).anchor
        base, relative = (Path(anchor), pattern[len(anchor) :]) if anchor else (folder, pattern)
        paths = [literal] if literal.is_file() else sorted(path for path in base.glob(relative) if path.is_file())
        if not paths:
            raise ConfigError(f"data: {pattern!r} matches no file under {folder}")
        found |= dict.fromkeys(path.resolve() for path in paths)
    return list(found)


def open_tables(
    patterns: Sequence[str],
    folder: Path,
    *,
    need: Sequence[str] = ("query", "document"),
    cache: Path | None = None,
    on_progress: Callable[[Path, int], None] | None = None,
) -> pa.Table:
    """Open data files as one table; nothing of it lies in memory until it is read.

    Rows whose query, document or text is null or blank are left out; `left_out` says how many. Take rows through
    `RowReader`: the columns are chunked, and a column of several GiB does not fit into one Arrow array of strings.

    Args:
        patterns: .parquet files, or .jsonl, .csv or .tsv files (each also .gz or .zst); see `find_files`.
        folder: what the patterns are relative to.
        need: columns that every file must have, of query, document, negatives, text.
        cache: folder for the converted files, about as large as the texts; default is `data` in GNOMONIC_CACHE.
        on_progress: called while a file is converted, with the file and the rows read so far.

    Returns:
        Columns query, document and text (string), as far as any file has them; negatives (list of string, never
        null), if any file has it; source (string), the file's name without endings where the file has none.

    Raises:
        ConfigError: a pattern matches nothing, or a file's format or columns do not fit.
        InputError: a file is damaged, or holds no usable row; or the cache folder cannot be written.
    """
    tables = []
    for path in find_files(patterns, folder):
        table = _opened(path, cache_folder(cache), on_progress)
        _check_columns(path, table, need)
        tables.append(table)
    count = sum(left_out(table) for table in tables)
    table = pa.concat_tables(tables).replace_schema_metadata({_LEFT_OUT: str(count)})
    absent = [field.name for field in SCHEMA if table[field.name].null_count == table.num_rows]
    table = table.drop_columns(absent) if absent else table
    return _no_null_lists(table) if "negatives" in table.column_names else table


def _check_columns(path: Path, table: pa.Table, need: Sequence[str]) -> None:
    for name in need:
        if empty := table[name].null_count:
            what = f"{empty:,} rows have no {name!r}" if empty < table.num_rows else f"it has no column {name!r}"
            has = [field for field in SCHEMA.names if table[field].null_count < table.num_rows]
            raise ConfigError(f"data: {path}: {what}; the columns that it has: {has}")


def _no_null_lists(table: pa.Table) -> pa.Table:
    """Return the table with an empty list for every null one."""
    field = table.schema.field("negatives")
    empty = pa.scalar([], field.type)
    chunks = [pc.coalesce(chunk, empty) if chunk.null_count else chunk for chunk in table["negatives"].chunks]
    place = table.column_names.index("negatives")
    return table.set_column(place, field, pa.chunked_array(chunks, field.type))


def left_out(table: pa.Table) -> int:
    """Return how many rows of the files behind a table of `open_tables` were empty, and are not in it."""
    return int((table.schema.metadata or {}).get(_LEFT_OUT, b"0"))


class RowReader:
    """Rows of a chunked table by number, without joining its chunks."""

    def __init__(self, table: pa.Table) -> None:
        self._columns = [(name, table[name].chunks) for name in table.column_names]
        self._starts = {
            name: np.cumsum([0, *(len(chunk) for chunk in chunks)], dtype=np.int64) for name, chunks in self._columns
        }
        self._schema = table.schema
        self._rows = table.num_rows

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return these rows.

        Args:
            rows: [n] int64, row numbers; repeats are allowed.

        Returns:
            A table of n rows in the order asked for, each column one chunk.

        Raises:
            IndexError: the table has no such row.
        """
        if not len(rows):
            return self._schema.empty_table()
        if rows.min() < 0 or rows.max() >= self._rows:
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a table of {self._rows}")
        arrays = [self._take(name, chunks, rows) for name, chunks in self._columns]
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _take(self, name: str, chunks: list[pa.Array], rows: NDArray[np.int64]) -> pa.Array:
        starts = self._starts[name]
        which = np.searchsorted(starts, rows, side="right") - 1
        order = np.argsort(which, kind="stable")
        wanted, first = np.unique(which[order], return_index=True)
        pieces = [
            chunks[chunk].take(pa.array(rows[part] - starts[chunk]))
            for chunk, part in zip(wanted, np.split(order, first[1:]), strict=True)
        ]
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.concat_arrays(pieces).take(pa.array(back))


def _opened(path: Path, cache: Path, on_progress: Callable[[Path, int], None] | None) -> pa.Table:
    """Map the converted file, which is made first when there is none."""
    who = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    readable = re.sub(r"[^\w.-]", "_", stem_of(path))[:40]
    target = cache / f"{readable}-{who}-{fingerprint(path)}"
    try:
        table = _mapped(target)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        if not isinstance(error, FileNotFoundError):
            # Cut short by a disk that lost power, for example.
            remove(target)
        table = _converted(path, target, on_progress)
        for other in cache.glob(f"*-{who}-*"):
            if target.name not in other.name:
                remove(other)
    if count := left_out(table):
        logger.warning("%s: %d rows left out: query, document or text is empty", path, count)
    if not table.num_rows:
        raise InputError(f"{path}: no row with text; take the file out, or fill its columns")
    return table


def _mapped(target: Path) -> pa.Table:
    reader = pa.ipc.open_file(pa.memory_map(str(target / _ROWS)))
    batches = [reader.get_batch(index) for index in range(reader.num_record_batches - 1)]
    end, metadata = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
    table = pa.Table.from_batches([*batches, end], schema=SCHEMA)
    return table.replace_schema_metadata({_LEFT_OUT: metadata[_LEFT_OUT]})


def _converted(path: Path, target: Path, on_progress: Callable[[Path, int], None] | None) -> pa.Table:
    with appearing(target) as fresh:
        if fresh:
            logger.info("reading %s into %s", path, target.parent)
            with (fresh / _ROWS).open("wb") as stream, pa.ipc.new_file(stream, SCHEMA) as writer:
                seen = kept = 0
                for batch, rows in read_batches(path):
                    writer.write_batch(batch)
                    seen, kept = seen + rows, kept + batch.num_rows
                    if on_progress:
                        on_progress(path, seen)
                end = pa.RecordBatch.from_pylist([], schema=SCHEMA)
                writer.write_batch(end, custom_metadata={_LEFT_OUT: str(seen - kept)})
    return _mapped(target)
