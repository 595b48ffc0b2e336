"""Changes of the rows in Lance: one writer at a time, each change whole or not done."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.lock import BUILD_LOCK, held_since, hold
from gnomonic.atlas.row_batches import RowBatches, vector_array
from gnomonic.atlas.row_bitmaps import distinct
from gnomonic.atlas.row_state import RowState, read_state, write_state
from gnomonic.atlas.row_types import Codec, conform, settled_type, show
from gnomonic.atlas.rows import check_ids
from gnomonic.atlas.snapshot import Snapshot, condition_on, lance_errors
from gnomonic.atlas.upkeep import index_values, index_words, is_scattered, join_files, word_columns
from gnomonic.errors import DatasetError, GnomonicError, InputError

__all__ = ["Writer", "lance_table", "make_store", "write_into"]

log = logging.getLogger(__name__)

_TABLE = "rows"
_LOCK = "rows.lock"
_WAIT_S = 60.0
_BLOCK_ROWS = 8192
_DELETE_ROWS = 10_000
_BEFORE_BUILD_S = 60.0
"""Clocks of files are coarse."""
_LARGE_WRITE = 100_000
"""Rows that make a file worth its own."""
_INDEX_IDS_ABOVE = 100_000
"""Rows from which on ids get an index; below, a look at all of them is as fast."""
_INDEX_ROWS_ABOVE = 10_000
"""Rows from which on numbers get an index before the first change of columns."""


def lance_table(folder: Path, state: RowState, *, version: int | None = None) -> Any:
    """Open Lance's table, at a version or the newest one it has.

    Raises:
        DatasetError: it is damaged, or has no such version.
    """
    with lance_errors(folder / f"{_TABLE}.lance", "opened"):
        table = _connect(folder, state).open_table(_TABLE)
        if version is not None:
            table.checkout(version)
        return table


def _connect(folder: Path, state: RowState) -> Any:
    import lancedb  # takes seconds to import, which those who only ask how many rows there are need not wait for

    return lancedb.connect(state.location or str(folder))


def make_store(folder: Path, path: Path, state: RowState) -> None:
    """Make an empty store, unless another process was first.

    Raises:
        DatasetError: it cannot be written.
    """
    with hold(folder / _LOCK, wait_s=_WAIT_S, busy="another process is writing rows"):
        if read_state(path) is None:
            write_state(path, state)


@contextlib.contextmanager
def write_into(folder: Path, path: Path) -> Iterator[Writer]:
    """Change the rows: what the block does counts once it ends without an error, and not before.

    Raises:
        DatasetError: another process writes for too long, or the files cannot be written; nothing was changed.
    """
    with hold(folder / _LOCK, wait_s=_WAIT_S, busy="another process is writing rows"):
        state = read_state(path)
        if state is None:
            raise DatasetError(f"{path} is gone; was the dataset deleted?")
        with lance_errors(folder / f"{_TABLE}.lance", "written, and nothing was changed"):
            writer = Writer(folder, state)
            yield writer
            changed = writer.result()
            if changed is not state:
                write_state(path, changed)
            if writer.is_scattered:
                _tidy(folder, path, changed)


def _tidy(folder: Path, path: Path, state: RowState) -> None:
    """Join small files after a write that is safe already; failing is no failure of the write."""
    try:
        writer = Writer(folder, state)
        writer.optimize()
        write_state(path, writer.result())
    except (GnomonicError, RuntimeError, ValueError, OSError) as error:
        log.warning("small files of %s could not be joined: %s", folder, error)


class Writer:
    """One change of the rows, by the holder of the lock."""

    def __init__(self, folder: Path, state: RowState) -> None:
        """Take back what a writer before left undone."""
        self._folder = folder
        self._path = folder / f"{_TABLE}.lance"
        self._state = self._before = state
        self._table: Any = None
        self._changed = False
        self.is_scattered = False
        self._rows_before = state.versions[-1].rows if state.versions else 0
        self._connection = _connect(folder, state)
        if state.version:
            self._table = self._connection.open_table(_TABLE)
            if self._table.version != state.version:
                self._table.checkout(state.version)
                self._table.restore()
        else:
            self._connection.drop_table(_TABLE, ignore_missing=True)
        self.snapshot = self._look()

    def result(self) -> RowState:
        """Return the state after the change; the one before where nothing was changed."""
        if not self._changed:
            return self._before
        self._table.checkout_latest()
        return self._state.committed(int(self._table.version), int(self._table.count_rows()))

    # -- adding --------------------------------------------------------------------------------------------------

    def append(
        self,
        table: pa.Table,
        rows: int,
        vectors: NDArray[Any] | None,
        blobs: Mapping[str, Sequence[bytes | None] | None],
        on_conflict: str,
    ) -> list[Any]:
        """Add rows; returns the ids of those that were stored."""
        table, fresh = self._with_ids(table, rows)
        ids = table.column(self._state.unique_id_field)
        kept = np.arange(rows)
        numbers = self._state.next_row + np.arange(rows)
        if not fresh:
            kept, known = self._resolve(ids, on_conflict)
            numbers = np.where(known[kept] >= 0, known[kept], 0)
            new = known[kept] < 0
            numbers[new] = self._state.next_row + np.arange(int(new.sum()))
        columns = self._fit(table)
        held = self._add_columns(columns, vectors, blobs)
        if not fresh and (known[kept] >= 0).any():
            self._delete(np.sort(known[kept][known[kept] >= 0]))
        if not len(kept):
            return []
        source = RowBatches(columns, numbers, kept, vectors, blobs)
        reader = pa.RecordBatchReader.from_batches(source.schema(held), source.batches(held))
        self._table.add(reader, write_parallelism=1)
        self._state = replace(
            self._state,
            next_row=max(self._state.next_row, int(numbers.max()) + 1),
        )
        if self._rows_before + len(kept) > _INDEX_IDS_ABOVE:
            index_values(self._table, self._state.entries(held)[self._state.unique_id_field].internal)
        self._note(len(kept))
        return list(ids.take(pa.array(kept)).to_pylist())

    def _with_ids(self, table: pa.Table, rows: int) -> tuple[pa.Table, bool]:
        """Return the table with ids, and whether they were made here."""
        field = self._state.unique_id_field
        if not self._state.generated_ids:
            if field not in table.column_names:
                raise InputError(
                    f"the id column {field!r} is missing; the columns are: {', '.join(table.column_names)}"
                )
            check_ids(table.column(field), field)
            return table, False
        if field in table.column_names:
            raise InputError(
                f"column {field!r} has the name of the ids that are made here; rename it, or make the dataset with "
                f"unique_id_field={field!r}"
            )
        begin = self._state.next_row
        made = pa.array(np.arange(begin, begin + rows)).cast(pa.string())
        if not table.num_columns:
            return pa.table({field: made}), True
        return table.add_column(0, field, made), True

    def _resolve(self, ids: pa.ChunkedArray, on_conflict: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which rows are stored, ascending, and the number of the row of the same id for each, or -1."""
        field = self._state.unique_id_field
        if field in self.snapshot.schema.names:
            ids = conform(field, ids, self.snapshot.schema.field(field).type)
        plain = ids.combine_chunks()
        plain = plain.dictionary_decode() if pa.types.is_dictionary(plain.type) else plain
        codes = plain.dictionary_encode().indices.to_numpy()
        _, first = np.unique(codes, return_index=True)
        if on_conflict == "error" and len(first) < len(codes):
            again = np.setdiff1d(np.arange(len(codes)), first)
            _conflict(plain, again, f"stand in the data twice, such as {{}} in row {again[0]}")
        known = self.snapshot.rows_of(plain)
        if on_conflict == "error" and (known >= 0).any():
            _conflict(plain, np.flatnonzero(known >= 0), "are there already, such as {}")
        if on_conflict == "skip":
            return np.sort(first[known[first] < 0]), known
        _, last = np.unique(codes[::-1], return_index=True)
        return np.sort(len(codes) - 1 - last), known

    def _fit(self, table: pa.Table) -> dict[str, tuple[Codec, pa.ChunkedArray]]:
        """Return columns by their Lance names, cast to their types; new ones are entered into the state."""
        entries = self._state.entries(self.snapshot.held)
        fitted = {}
        for name in table.column_names:
            values = table.column(name)
            entry = entries.get(name)
            kind = settled_type(values.type)
            if entry is not None and pa.types.is_null(entry.codec.kind) and not pa.types.is_null(kind):
                entry = None  # it held nothing but nulls, so it takes the first type that comes
            if entry is None:
                self._state, entry = self._state.with_column(name, kind)
            codec = entry.codec
            fitted[entry.internal] = (codec, conform(name, values, codec.kind))
        return fitted

    def _add_columns(
        self,
        columns: Mapping[str, tuple[Codec, pa.ChunkedArray]],
        vectors: NDArray[Any] | None,
        blobs: Mapping[str, Sequence[bytes | None] | None],
    ) -> pa.Schema:
        """Make the columns that Lance does not have yet, and the table; return its schema."""
        wanted = {"_row": pa.int64(), **{name: codec.storage for name, (codec, _) in columns.items()}}
        if vectors is not None:
            wanted["_vector"] = self._vector_type(vectors.shape[1])
        wanted |= {name: pa.large_binary() for name, values in blobs.items() if values is not None}
        if self._table is None:
            schema = pa.schema([pa.field(name, kind) for name, kind in wanted.items()])
            self._table = self._connection.create_table(_TABLE, schema=schema)
            return schema
        held = self._table.schema
        new = [pa.field(name, kind) for name, kind in wanted.items() if name not in held.names]
        if new:
            # A column that held nothing but nulls is dropped where one of the same name takes its place.
            self._table.add_columns(pa.schema(new))
            kept = {entry.internal for entry in self._state.entries(self._table.schema).values()}
            ours = {entry.internal for entry in self._state.columns}
            if old := [name for name in self._table.schema.names if name in ours - kept]:
                self._table.drop_columns(old)
        return self._table.schema

    def _vector_type(self, dim: int) -> pa.DataType:
        held = self.snapshot.held
        if "_vector" in held.names and held.field("_vector").type.list_size != dim:
            raise DatasetError(
                f"the embeddings have {dim} dimensions, those of the dataset {held.field('_vector').type.list_size}; "
                "all need the same"
            )
        return pa.list_(pa.from_numpy_dtype(np.dtype(self._state.vector_dtype)), dim)

    # -- changing ------------------------------------------------------------------------------------------------

    def update(self, table: pa.Table) -> int:
        """Change columns of rows by id; returns how many rows."""
        field = self._state.unique_id_field
        if field not in table.column_names:
            raise InputError(f"the id column {field!r} is missing; it says which rows to change")
        ids = table.column(field)
        check_ids(ids, field)
        if self.snapshot.is_empty:
            raise DatasetError(f"{len(ids)} ids are unknown, such as {show(ids[0].as_py())}; there are no rows yet")
        kept, known = self._resolve(ids, "replace")
        if len(kept) < len(ids):
            raise InputError("an id stands in the data twice; give each row once")
        if (known < 0).any():
            _conflict(ids, np.flatnonzero(known < 0), "are unknown, such as {}")
        columns = self._fit(table.drop_columns([field]))
        if not columns:
            return 0
        self._add_columns(columns, None, {})
        made = {name: codec.encode(values) for name, (codec, values) in columns.items()}
        self._merge(pa.table({"_row": pa.array(known), **made}))
        return len(known)

    def put_vectors(self, rows: NDArray[np.int64], vectors: NDArray[Any]) -> None:
        """Set vectors of rows by number."""
        if not len(rows):
            return
        if len(distinct(rows)) < len(rows):
            raise InputError("a row stands among the numbers twice; give each once")
        self.snapshot.check_rows(rows)
        self._add_columns({}, vectors, {})
        for begin in range(0, len(rows), 8 * _BLOCK_ROWS):
            block = slice(begin, begin + 8 * _BLOCK_ROWS)
            flat = vector_array(vectors[block], self._vector_type(vectors.shape[1]))
            self._merge(pa.table({"_row": pa.array(rows[block]), "_vector": flat}))

    def _merge(self, table: pa.Table) -> None:
        if self._rows_before > _INDEX_ROWS_ABOVE:
            index_values(self._table, "_row")  # without it, Lance reads and rewrites columns that do not change
        self._table.merge_insert("_row").when_matched_update_all().execute(table)
        self._note()

    def delete(self, rows: NDArray[np.int64]) -> int:
        """Delete rows by number; returns how many."""
        if len(rows):
            self._delete(rows)
            self._note()
        return len(rows)

    def _delete(self, rows: NDArray[np.int64]) -> None:
        for begin in range(0, len(rows), _DELETE_ROWS):
            self._table.delete(condition_on("_row", rows[begin : begin + _DELETE_ROWS]))

    def restore(self, version: int) -> None:
        """Make an old version the newest."""
        if version == 0:
            raise DatasetError("version 0 has no rows; delete them instead")
        self._table.checkout(version)
        self._table.restore()
        words = word_columns(self._table)
        indexed = tuple(entry.internal for entry in self._state.columns if entry.internal in words)
        self._state = replace(self._state, full_text=indexed)
        self._changed = True

    # -- keeping it fast -----------------------------------------------------------------------------------------

    def index_words(self, columns: Sequence[str]) -> None:
        """Index columns for search by words, by their Lance names."""
        for name in columns:
            if name not in self._state.full_text:
                index_words(self._table, name)
                self._state = replace(self._state, full_text=(*self._state.full_text, name))
                self._changed = True

    def optimize(self, keep_s: float = 3600.0) -> None:
        """Join small files, bring indices up to date, remove versions that nobody should be reading."""
        if self._table is None:
            return
        self._table.checkout_latest()
        if (building := held_since(self._folder / BUILD_LOCK)) is not None:
            # Of the version that was the newest when it began, however long ago that is.
            keep_s = max(keep_s, time.time() - building + _BEFORE_BUILD_S)
        join_files(self._table, self._state.versions, keep_s)
        there = {int(version["version"]) for version in self._table.list_versions()}
        versions = tuple(version for version in self._state.versions if version.number in there)
        self._state = replace(self._state, versions=versions, small_writes=0, small_rows=0)
        self._changed = True

    def _note(self, rows: int = 0) -> None:
        """Mark the rows as changed, and see whether small writes have left too many files."""
        self._changed = True
        if rows >= _LARGE_WRITE:
            return
        writes, small = self._state.small_writes + 1, self._state.small_rows + rows
        self._state = replace(self._state, small_writes=writes, small_rows=small)
        self.is_scattered = is_scattered(self._state)

    def _look(self) -> Snapshot:
        return Snapshot(self._table, self._state, path=self._path)


def _conflict(ids: Any, rows: NDArray[np.int64], what: str) -> NoReturn:
    named = ", ".join(show(ids[int(row)].as_py()) for row in rows[:3])
    raise DatasetError(f"{len(rows)} ids {what.format(named)}")
