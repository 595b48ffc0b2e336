"""One version of the rows in Lance, for reading."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomonic.atlas.predicates import translate
from gnomonic.atlas.row_state import RowState
from gnomonic.atlas.row_types import Codec, show
from gnomonic.atlas.store import HIDDEN_COLUMNS
from gnomonic.errors import DatasetError, GnomonicError, InputError

__all__ = ["Snapshot", "condition_on", "lance_errors"]

_TAKE_ROWS = 4096
_BATCH_ROWS = 65_536
_SCAN_SHARE = 8
"""From one row in so many on, reading all rows is faster than fetching some."""
_WORDS, _WORD_CHARACTERS = 64, 2000
"""Of a query that is searched for; among a million rows every frequent word takes a part of a second, each time that it
stands there."""
_IN_LIST = 1000
"""Ids up to which a query by the index is faster than a look at all."""


@contextlib.contextmanager
def lance_errors(path: str | Path, what: str) -> Iterator[None]:
    """Turn errors of Lance into ours.

    Raises:
        DatasetError: any of them; says what could not be done with which files.
    """
    try:
        yield
    except GnomonicError:
        raise
    except (RuntimeError, ValueError, OSError, KeyError, pa.ArrowException) as error:
        hint = "" if what.startswith("written") else "restore it from a backup, or an older version with restore()"
        raise DatasetError(f"{path} cannot be {what}: {_reason(error)}", hint=hint) from error


def condition_on(name: str, values: NDArray[np.int64] | Sequence[Any]) -> str:
    """Return the SQL condition that a column has one of these values, strings or whole numbers."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    listed = ",".join(_literal(value) for value in values)
    return f"{name} IN ({listed})"


class Snapshot:
    """A version, with its columns by the user's names. Safe to use from several threads."""

    def __init__(self, table: Any, state: RowState, *, path: str | Path) -> None:
        """Read a version.

        Args:
            table: Lance's table, checked out at the version; None for the store without rows.
            state: what its columns are; its ids' column, and what of it is indexed.
            path: where it is, for error messages.
        """
        self._table = table
        self._state = state
        self._path = path
        self._lock = threading.Lock()
        self._places: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self.held: pa.Schema = pa.schema([]) if table is None else table.schema
        self._entries = state.entries(self.held)
        self._codecs = {name: entry.codec for name, entry in self._entries.items()}

    @cached_property
    def schema(self) -> pa.Schema:
        """The user's columns."""
        return pa.schema([pa.field(name, codec.kind) for name, codec in self._codecs.items()])

    def internal(self, name: str) -> str:
        """Return a user's column's name in Lance."""
        return self._entries[name].internal

    @property
    def is_empty(self) -> bool:
        """Whether there is no table yet."""
        return self._table is None

    @cached_property
    def count(self) -> int:
        """The number of rows."""
        if self._table is None:
            return 0
        with lance_errors(self._path, "read"):
            return int(self._table.count_rows())

    # -- all rows ------------------------------------------------------------------------------------------------

    def scan(self, columns: Sequence[str] | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Read all rows in order, in batches of `batch_rows` with a smaller last one."""
        kinds = self._kinds(columns)  # here, so that a wrong name is told at once and not with the first batch
        return iter(()) if self._table is None else self._decoded(kinds, batch_rows)

    def _decoded(self, kinds: dict[str, Codec], batch_rows: int) -> Iterator[pa.RecordBatch]:
        internal = [self._entries[name].internal if name in self._entries else name for name in kinds]
        schema = pa.schema([pa.field(name, codec.kind) for name, codec in kinds.items()])
        for batch in self._batches(internal, batch_rows):
            arrays = [codec.decode(batch.column(i)) for i, codec in enumerate(kinds.values())]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _batches(self, internal: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Read columns as Lance has them; its own batches end where its files do."""
        with lance_errors(self._path, "read"):
            query = self._table.search().select(list(dict.fromkeys(internal))).limit(None)
            waiting: list[pa.RecordBatch] = []
            rows = 0
            for batch in query.to_batches(batch_rows):
                batch = batch.select(internal)
                while rows + batch.num_rows >= batch_rows:
                    cut = batch_rows - rows
                    yield _joined([*waiting, batch.slice(0, cut)])
                    waiting, rows, batch = [], 0, batch.slice(cut)
                if batch.num_rows:
                    waiting.append(batch)
                    rows += batch.num_rows
            if waiting:
                yield _joined(waiting)

    def _kinds(self, columns: Sequence[str] | None) -> dict[str, Codec]:
        """Return how the columns asked for are kept, in their order."""
        if columns is None:
            return dict(self._codecs)
        if isinstance(columns, str):
            raise InputError(f"columns is the string {columns!r}; give a list of names")
        found = {}
        for name in columns:
            if name in self._codecs:
                found[name] = self._codecs[name]
            elif name == "_row" or (name in HIDDEN_COLUMNS and name in self.held.names):
                kind = pa.int64() if name == "_row" else self.held.field(name).type
                found[name] = Codec(kind, kind)
            elif name in HIDDEN_COLUMNS:
                raise InputError(f"no row has a {name[1:]}; add rows with {name[1:]}s first")
            else:
                names = ", ".join(map(repr, self._codecs)) or "none"
                raise InputError(f"there is no column {name!r}; the columns are: {names}")
        return found

    # -- some rows -----------------------------------------------------------------------------------------------

    def take(self, rows: NDArray[np.int64], columns: Sequence[str] | None) -> pa.Table:
        """Return rows by number, in the order given."""
        kinds = self._kinds(columns)
        rows = np.asarray(rows, dtype=np.int64).reshape(-1)
        wanted, back = np.unique(rows, return_inverse=True)
        internal = [self._entries[name].internal if name in self._entries else name for name in kinds]
        schema = pa.schema([pa.field(name, codec.kind) for name, codec in kinds.items()])
        if not len(wanted):
            return schema.empty_table()
        places = self._addresses(wanted)
        fetched = list(dict.fromkeys(["_row", *internal]))
        with lance_errors(self._path, "read"):
            if len(wanted) * _SCAN_SHARE >= self.count:
                pieces = [self._among(batch, wanted) for batch in self._batches(fetched, _TAKE_ROWS)]
            else:
                pieces = [
                    self._table.take_row_ids(places[i : i + _TAKE_ROWS].tolist()).select(fetched).to_arrow()
                    for i in range(0, len(places), _TAKE_ROWS)
                ]
            found = pa.concat_tables(pieces)
        order = pa.array(np.argsort(found["_row"].to_numpy())[back])
        arrays = []
        for name, codec in zip(internal, kinds.values(), strict=True):
            decoded = [codec.decode(chunk) for chunk in found[name].chunks]
            arrays.append(pa.chunked_array(decoded, type=codec.kind).take(order))
        return pa.table(arrays, schema=schema)

    @staticmethod
    def _among(batch: pa.RecordBatch, wanted: NDArray[np.int64]) -> pa.Table:
        there = np.isin(batch.column(0).to_numpy(), wanted)
        return pa.Table.from_batches([batch.filter(pa.array(there))])

    def _addresses(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where Lance has rows, by their numbers, ascending and each once.

        Raises:
            DatasetError: a row is not there.
        """
        numbers, places = self._numbers()
        at = np.minimum(np.searchsorted(numbers, wanted), max(len(numbers) - 1, 0))
        missing = wanted if not len(numbers) else wanted[numbers[at] != wanted]
        if len(missing):
            named = ", ".join(map(str, missing[:3].tolist()))
            raise DatasetError(f"{len(missing)} rows are not there, such as number {named}; were they deleted?")
        return places[at]

    def check_rows(self, rows: NDArray[np.int64]) -> None:
        """Check that rows are there.

        Raises:
            DatasetError: one is not.
        """
        self._addresses(np.sort(rows))

    def _numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return all rows' numbers, ascending, and where Lance has them; 16 bytes a row, read once."""
        with self._lock:
            if self._places is None:
                if self._table is None:
                    self._places = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
                else:
                    with lance_errors(self._path, "read"):
                        found = _read(self._table.search().select(["_row"]).with_row_id(True).limit(None))
                    numbers, places = _numbers_in(found, "_row"), _numbers_in(found, "_rowid")
                    order = np.argsort(numbers, kind="stable")
                    self._places = (numbers[order], places[order])
            return self._places

    # -- rows by id, by a condition, by words --------------------------------------------------------------------

    def rows_of(self, ids: pa.Array) -> NDArray[np.int64]:
        """Return the numbers of rows by id, [len(ids)] int64; -1 where there is none."""
        if self._table is None or not len(ids):
            return np.full(len(ids), -1, dtype=np.int64)
        name = self.internal(self._state.unique_id_field)
        ids = ids.cast(self.held.field(name).type)
        found: list[pa.RecordBatch] = []
        with lance_errors(self._path, "read"):
            if len(ids) <= _IN_LIST:
                wanted = condition_on(name, ids.drop_null().to_pylist() or [None])
                query = self._table.search().where(wanted).select(["_row", name])
                found = query.limit(None).to_arrow().to_batches()
            else:
                for batch in self._batches(["_row", name], 65_536):
                    found.append(batch.filter(pc.is_in(batch.column(1), value_set=ids)))
        table = pa.Table.from_batches(found, pa.schema([("_row", pa.int64()), (name, ids.type)])).combine_chunks()
        places = pc.index_in(ids, value_set=table.column(1)).fill_null(-1).to_numpy(zero_copy_only=False)
        numbers = np.append(table.column(0).to_numpy(), -1)
        rows: NDArray[np.int64] = numbers[places].astype(np.int64)
        return rows

    def where(self, predicate: str) -> NDArray[np.int64]:
        """Return the numbers of the rows for which a condition holds, ascending."""
        if not isinstance(predicate, str):
            raise InputError(f"a condition is a string, not a {type(predicate).__name__}")
        names = {name: entry.internal for name, entry in self._entries.items()}
        translated = translate(predicate, {**names, "_row": "_row"})
        for name, internal in names.items():
            if self._codecs[name].opaque and re.search(rf"\b{internal}\b", translated):
                raise InputError(f"column {name!r} holds {self._codecs[name].kind}; conditions cannot look into it")
        if self._table is None:
            return np.empty(0, dtype=np.int64)
        try:
            found = _read(self._table.search().where(translated).select(["_row"]).limit(None))
        except ValueError as error:
            raise self._refused(predicate, error) from error
        except (RuntimeError, OSError) as error:
            # What fails on a value, such as a division by zero, is the condition's fault; the rest is the files'.
            if "Arrow error" in str(error) or "Query Execution" in str(error):
                raise self._refused(predicate, error) from error
            with lance_errors(self._path, "read"):
                raise
        return np.sort(_numbers_in(found, "_row"))

    def _refused(self, predicate: str, error: Exception) -> InputError:
        named = {entry.internal: repr(name) for name, entry in self._entries.items()}
        reason = re.sub(r"`?\b(c\d+)\b`?", lambda match: named.get(match[1], match[0]), _reason(error))
        return InputError(f"condition {show(predicate)} cannot be used: {reason}")

    def full_text(self, query: str, columns: list[str], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return numbers and scores of the rows that have a word of the query, best first; by columns' Lance names."""
        query = _first_words(query)
        if self._table is None or not columns or not query:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        from lancedb.query import MatchQuery, MultiMatchQuery

        words = (
            MatchQuery(query, columns[0])  # type: ignore[call-arg]
            if len(columns) == 1
            else MultiMatchQuery(query, columns)  # type: ignore[call-arg]
        )
        with lance_errors(self._path, "searched"):
            found = self._table.search(words, query_type="fts").select(["_row", "_score"]).limit(k).to_arrow()
        rows, scores = found["_row"].to_numpy(), found["_score"].to_numpy().astype(np.float32)
        order = np.lexsort((rows, -scores))
        return rows[order], scores[order]


def _first_words(query: str) -> str:
    """Return a query's first words, each once."""
    words: dict[str, str] = {}
    for word in query.split():
        words.setdefault(word.lower(), word)
    return " ".join(list(words.values())[:_WORDS])[:_WORD_CHARACTERS]


def _read(query: Any) -> list[pa.RecordBatch]:
    """Return all that a query finds; `to_arrow` takes twenty times as long for many rows of one small column."""
    return list(query.to_batches(_BATCH_ROWS))


def _numbers_in(batches: list[pa.RecordBatch], name: str) -> NDArray[np.int64]:
    found = [batch.column(name).to_numpy() for batch in batches]
    return np.concatenate([np.empty(0, dtype=np.int64), *found]).astype(np.int64, copy=False)


def _literal(value: str | int | None) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else str(value)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _reason(error: Exception) -> str:
    """Return the first line of an error of Lance's, without places in its sources."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = re.sub(r",?\s*/\S+\.rs:\d+(:\d+)?.*", "", line)
    return re.sub(r"^(lance error: |Invalid input, |LanceError\((\w+)\): )+", "", line)[:400]
