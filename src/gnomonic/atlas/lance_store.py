"""Rows kept by Lance: columns, vectors and images in files that are never changed, one folder for each dataset."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnomonic.atlas.row_bitmaps import distinct
from gnomonic.atlas.row_state import RowState, read_state
from gnomonic.atlas.row_types import is_text, show
from gnomonic.atlas.rows import check_vectors
from gnomonic.atlas.snapshot import Snapshot
from gnomonic.atlas.store import GENERATED_ID_FIELD, HIDDEN_COLUMNS, VersionInfo
from gnomonic.atlas.writing import lance_table, make_store, write_into
from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError

__all__ = ["LanceStore"]

log = logging.getLogger(__name__)

_STATE = "rows.json"
_MAX_K = 10_000_000
_OPEN_VERSIONS = 4


class LanceStore:
    """Implements `store.Store`, which says what the methods do. Safe to use from several threads and processes.

    Lance's runtime does not survive a fork: start processes by spawning them, or open the store after the fork.
    """

    def __init__(
        self,
        folder: Path,
        *,
        unique_id_field: str | None = None,
        vector_dtype: str = "float32",
        location: str | None = None,
        create: bool = True,
    ) -> None:
        """Open or make a store; `store.open_store` says what the arguments are."""
        if vector_dtype not in ("float32", "float16"):
            raise InputError(f"vector_dtype {vector_dtype!r} is unknown; choose float32 or float16")
        if unique_id_field is not None and (not unique_id_field or unique_id_field in HIDDEN_COLUMNS):
            raise InputError(f"unique_id_field {unique_id_field!r} cannot be a column's name; choose another")
        self._folder = Path(folder)
        self._path = self._folder / _STATE
        self._lock = threading.RLock()
        self._snapshots: dict[int, Snapshot] = {}
        self._seen: tuple[tuple[int, int, int], RowState] | None = None
        self._new = RowState(
            unique_id_field=unique_id_field or GENERATED_ID_FIELD,
            generated_ids=unique_id_field is None,
            vector_dtype=vector_dtype,
            location=location,
        )
        if not self._path.is_file():
            if not create:
                raise DatasetNotFoundError(f"there are no rows in {self._folder}")
            self._folder.mkdir(parents=True, exist_ok=True)
            make_store(self._folder, self._path, self._new)
        known = self._state()
        if unique_id_field is not None and known.unique_id_field != unique_id_field:
            raise DatasetError(
                f"the rows in {self._folder} have the id column {known.unique_id_field!r}, not {unique_id_field!r}"
            )

    # -- what there is -------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The newest version."""
        return self._state().version

    @property
    def unique_id_field(self) -> str:
        """The column of ids."""
        return self._state().unique_id_field

    @property
    def schema(self) -> pa.Schema:
        """The user's columns."""
        return self._at(None).schema

    def schema_at(self, version: int) -> pa.Schema:
        """Return the user's columns of a version."""
        return self._at(version).schema

    @property
    def dim(self) -> int | None:
        """Size of the vectors."""
        held = self._at(None).held
        return int(held.field("_vector").type.list_size) if "_vector" in held.names else None

    @property
    def vector_dtype(self) -> np.dtype[Any]:
        """float32 or float16."""
        return np.dtype(self._state().vector_dtype)

    @property
    def has_blobs(self) -> bool:
        """Whether any row came with an image."""
        return "_blob" in self._at(None).held.names

    def versions(self) -> list[VersionInfo]:
        """Return the versions that can be read."""
        return list(self._state().versions)

    def count(self, version: int | None = None) -> int:
        """Return the number of rows."""
        state = self._state()
        wanted = state.version if version is None else version
        for known in reversed(state.versions):
            if known.number == wanted:
                return known.rows
        return self._at(version).count

    # -- changes -------------------------------------------------------------------------------------------------

    def append(
        self,
        table: pa.Table,
        *,
        vectors: NDArray[Any] | None = None,
        blobs: Sequence[bytes | None] | None = None,
        thumbs: Sequence[bytes | None] | None = None,
        on_conflict: str = "error",
    ) -> list[Any]:
        """Add rows, all or none."""
        if on_conflict not in ("error", "skip", "replace"):
            raise InputError(f"on_conflict {on_conflict!r} is unknown; choose error, skip or replace")
        hidden = {"embeddings": vectors, "blobs": blobs, "thumbs": thumbs}
        counts = {name: len(values) for name, values in hidden.items() if values is not None}
        rows = table.num_rows if table.num_columns else max(counts.values(), default=0)
        for name, count in counts.items():
            if count != rows:
                raise InputError(f"the numbers of rows differ: {rows} in data, {count} in {name}")
        if not rows:
            return []
        if vectors is not None:
            vectors = check_vectors(vectors, rows=rows, dtype=self.vector_dtype)
        with self._writing() as writer:
            stored: list[Any] = writer.append(table, rows, vectors, {"_blob": blobs, "_thumb": thumbs}, on_conflict)
        return stored

    def update(self, table: pa.Table) -> int:
        """Change columns of rows by id."""
        if not table.num_rows:
            return 0
        with self._writing() as writer:
            changed: int = writer.update(table)
        return changed

    def delete(self, ids: Sequence[Any]) -> int:
        """Delete rows by id."""
        with self._writing() as writer:
            rows = writer.snapshot.rows_of(self._as_ids(ids, writer.snapshot))
            deleted: int = writer.delete(distinct(rows[rows >= 0]))
        return deleted

    def put_vectors(self, rows: NDArray[np.int64], vectors: NDArray[Any]) -> None:
        """Set vectors of rows that are there."""
        rows = np.asarray(rows, dtype=np.int64)
        vectors = check_vectors(vectors, rows=len(rows), dtype=self.vector_dtype)
        with self._writing() as writer:
            writer.put_vectors(rows, vectors)

    def restore(self, version: int) -> int:
        """Make an old version the newest again."""
        self._at(version)
        with self._writing() as writer:
            writer.restore(version)
        return self.version

    def create_full_text(self, columns: Sequence[str]) -> None:
        """Index text columns for search by words."""
        schema = self.schema
        for name in columns:
            if name not in schema.names:
                raise InputError(f"there is no column {name!r}; the columns are: {', '.join(map(repr, schema.names))}")
            if not is_text(schema.field(name).type):
                raise InputError(f"column {name!r} holds {schema.field(name).type} and no texts")
        state, snapshot = self._state(), self._at(None)
        if all(snapshot.internal(name) in state.full_text for name in columns):
            return
        with self._writing() as writer:
            writer.index_words([writer.snapshot.internal(name) for name in columns])

    def optimize(self, *, keep_s: float = 3600.0) -> None:
        """Join small files, bring indices up to date, and remove old versions."""
        with self._writing() as writer:
            writer.optimize(keep_s)

    # -- reads ---------------------------------------------------------------------------------------------------

    def rows_of(self, ids: Sequence[Any], *, version: int | None = None) -> NDArray[np.int64]:
        """Return the numbers of rows by id."""
        snapshot = self._at(version)
        rows = snapshot.rows_of(self._as_ids(ids, snapshot))
        if (rows < 0).any():
            missing = [ids[i] for i in np.flatnonzero(rows < 0)[:3]]
            named = ", ".join(map(show, missing))
            raise DatasetError(f"{int((rows < 0).sum())} ids are unknown, such as {named}")
        return rows

    def get(self, ids: Sequence[Any], columns: Sequence[str] | None = None) -> pa.Table:
        """Return rows by id."""
        return self.take(self.rows_of(ids), columns)

    def take(
        self, rows: NDArray[np.int64], columns: Sequence[str] | None = None, *, version: int | None = None
    ) -> pa.Table:
        """Return rows by number."""
        return self._at(version).take(rows, columns)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        *,
        version: int | None = None,
        batch_rows: int = 8192,
        vectors: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Read all rows in row order."""
        if batch_rows < 1:
            raise InputError(f"batch_rows {batch_rows} is out of range; choose 1 or more")
        snapshot = self._at(version)
        if vectors:
            columns = [*(snapshot.schema.names if columns is None else columns), "_vector"]
        return snapshot.scan(columns, batch_rows)

    def vectors(
        self, version: int | None = None, *, batch_rows: int = 8192
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Read the vectors in row order."""
        snapshot = self._at(version)
        if "_vector" not in snapshot.held.names:
            return
        for batch in snapshot.scan(["_row", "_vector"], batch_rows):
            there = batch.column(1).is_valid().to_numpy(zero_copy_only=False)
            if there.any():
                flat = batch.column(1).flatten().to_numpy(zero_copy_only=False)
                yield batch.column(0).to_numpy()[there], flat.reshape(int(there.sum()), -1)

    def blobs(self, rows: NDArray[np.int64], *, version: int | None = None) -> list[bytes | None]:
        """Return images by number."""
        return self._bytes("_blob", rows, version)

    def blob(self, id: Any) -> bytes | None:
        """Return an image by id."""
        return self.blobs(self.rows_of([id]))[0]

    def thumbs(self, rows: NDArray[np.int64], *, version: int | None = None) -> list[bytes | None]:
        """Return thumbnails by number."""
        return self._bytes("_thumb", rows, version)

    def where(self, predicate: str, *, version: int | None = None) -> NDArray[np.int64]:
        """Return the numbers of the rows for which a condition holds."""
        return self._at(version).where(predicate)

    def full_text(
        self, query: str, *, columns: Sequence[str] | None = None, k: int = 10
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find rows by words."""
        if not 1 <= k <= _MAX_K:
            raise InputError(f"k {k} is out of range; choose 1 to {_MAX_K:,}")
        state, snapshot = self._state(), self._at(None)
        internal = [name for name in state.full_text if name in snapshot.held.names]
        if columns is not None:
            known = {name: snapshot.internal(name) for name in snapshot.schema.names}
            for name in columns:
                if known.get(name) not in internal:
                    raise InputError(
                        f"column {name!r} is not indexed for words; call create_full_text([{name!r}]) first"
                    )
            internal = [known[name] for name in columns]
        return snapshot.full_text(query, internal, k)

    def export_parquet(self, path: Path, columns: Sequence[str] | None = None) -> None:
        """Write the rows to a parquet file."""
        snapshot = self._at(None)
        fresh = path.with_name(f".{path.name}.partial")
        empty = snapshot.take(np.empty(0, dtype=np.int64), columns)
        try:
            with pq.ParquetWriter(fresh, empty.schema, compression="zstd") as writer:
                for batch in snapshot.scan(columns, 8192):
                    writer.write_batch(batch)
            fresh.replace(path)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path} cannot be written: {error}", hint="choose another folder or columns") from error
        finally:
            fresh.unlink(missing_ok=True)

    def close(self) -> None:
        """Free what is open."""
        with self._lock:
            self._snapshots.clear()
            self._seen = None

    # -- inside --------------------------------------------------------------------------------------------------

    def _state(self) -> RowState:
        """Return what counts now; the file is read again only when it was replaced."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._new
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        with self._lock:
            if self._seen is None or self._seen[0] != stamp:
                # A state that came between the two calls is read again next time, which does no harm.
                self._seen = (stamp, read_state(self._path) or self._new)
            return self._seen[1]

    def _at(self, version: int | None) -> Snapshot:
        """Return a version for reading; the last few used stay open."""
        state = self._state()
        number = state.version if version is None else version
        # Not all old versions are listed, but for a while they are there.
        unlisted = bool(state.versions) and 0 < number < state.versions[0].number
        if number != state.version and not unlisted and all(known.number != number for known in state.versions):
            raise _gone(number, state)
        with self._lock:
            found = self._snapshots.pop(number, None)
            if found is None:
                try:
                    table = None if number == 0 else lance_table(self._folder, state, version=number)
                except DatasetError as error:
                    if unlisted:
                        raise _gone(number, state) from error
                    raise
                found = Snapshot(table, state, path=self._folder / "rows.lance")
            self._snapshots[number] = found
            while len(self._snapshots) > _OPEN_VERSIONS:
                del self._snapshots[next(iter(self._snapshots))]
            return found

    def _writing(self) -> Any:
        return write_into(self._folder, self._path)

    def _as_ids(self, ids: Sequence[Any], snapshot: Snapshot) -> pa.Array:
        """Return ids in the type of their column."""
        field = self._state().unique_id_field
        text = snapshot.is_empty or not pa.types.is_integer(snapshot.schema.field(field).type)
        if isinstance(ids, str | bytes):
            raise InputError(f"ids is the string {ids!r}; give a list of ids")
        if isinstance(ids, pa.Array | pa.ChunkedArray):
            ids = ids.to_pylist()
        found: list[Any] = []
        for value in ids:
            if isinstance(value, bool) or not isinstance(value, str | int | np.integer):
                raise InputError(f"id {show(value)} is a {type(value).__name__}; ids are strings or whole numbers")
            if text:
                found.append(str(value))
            elif str(value).strip().lstrip("-").isdigit() and -(2**63) <= int(value) < 2**64:
                found.append(int(value))
            else:
                found.append(None)  # no row can have it
        return pa.array(found, pa.string()) if text else _whole(found, snapshot.schema.field(field).type)

    def _bytes(self, name: str, rows: NDArray[np.int64], version: int | None) -> list[bytes | None]:
        snapshot = self._at(version)
        if name not in snapshot.held.names:
            snapshot.check_rows(rows)
            return [None] * len(rows)
        found: list[bytes | None] = snapshot.take(rows, [name]).column(0).to_pylist()
        return found


def _gone(number: int, state: RowState) -> DatasetError:
    if not state.versions:
        return DatasetError(f"the rows have no version {number}")
    oldest = min(version.number for version in state.versions)
    return DatasetError(f"the rows have no version {number} any more; the oldest is {oldest}")


def _whole(values: list[int | None], kind: pa.DataType) -> pa.Array:
    """Return whole numbers in a column's type, null for those it cannot hold."""
    low, high = (0, 2**kind.bit_width - 1) if pa.types.is_unsigned_integer(kind) else (
        -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1,
    )  # fmt: skip
    return pa.array([value if value is not None and low <= value <= high else None for value in values], kind)
