"""The rows of a dataset on a server, read and written in pieces."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnomonic.atlas.rows import check_ids, check_vectors
from gnomonic.client.remote_api import RemoteApi, id_chunks, pages
from gnomonic.errors import DatasetError, GnomonicError, TooLargeError

__all__ = ["RemoteStore"]

_BATCH_BYTES = 16 << 20
"""Of rows in one request."""
_CHANGE_BYTES = 8 << 20
_PAGE_ROWS = 1000
_MAX_PAGE_ROWS = 10_000
_GET_IDS = 1000
_VECTORS = "_embeddings"
_BLOBS = "_blob"
_LATER = {"update_maps": "false"}
"""The dataset asks itself for the map to follow, and waits for it."""


class RemoteStore:
    """What `atlas.store.Store` is for a dataset on this machine, as far as a dataset's user needs it."""

    def __init__(self, api: RemoteApi, place: tuple[str, str]) -> None:
        """Use the dataset at `place`, (organisation, slug), of a server."""
        self._api = api
        self._place = place

    def about(self) -> dict[str, Any]:
        """Return what the server says of the dataset."""
        return self._api.ask("GET", self._place)

    @property
    def version(self) -> int:
        """The newest version of the rows."""
        return int(self.about()["version"])

    @property
    def unique_id_field(self) -> str:
        """The column of ids."""
        return str(self.about()["unique_id_field"])

    @property
    def dim(self) -> int | None:
        """Size of the vectors; None without any."""
        found: int | None = self.about()["dimensions"]
        return found

    @property
    def schema(self) -> pa.Schema:
        """The user's columns, ids included."""
        return self._page(0, 1, None, None).schema

    def count(self) -> int:
        """Return the number of rows."""
        return int(self.about()["rows"])

    def append(
        self,
        table: pa.Table,
        *,
        vectors: NDArray[Any] | None = None,
        blobs: Sequence[bytes | None] | None = None,
        on_conflict: str = "error",
    ) -> list[Any]:
        """Add rows, 16 MB at a time.

        Each request adds all of its rows or none. Where a later one is refused and `on_conflict` is "error", what the
        earlier ones added is taken out again; with "skip" and "replace" it stays, and the call can be repeated.

        Raises:
            GnomonicError: as `atlas.store.Store.append`; from the second request on the message says how far it got.
        """
        id_field = self.about()["unique_id_field"]
        if vectors is not None:
            rows = table.num_rows if table.num_columns else None
            vectors = check_vectors(vectors, rows=rows)
            vectors = check_vectors(vectors, dtype=np.dtype(vectors.dtype if vectors.dtype == np.float16 else "f4"))
        if id_field in table.column_names:
            check_ids(table[id_field], id_field)
        count = _count(table, vectors, blobs)
        added: list[Any] = []
        # Rows that are sent twice would be there twice, or be told of as if they had been there before.
        again = on_conflict == "replace" and id_field in table.column_names
        query = {"on_conflict": on_conflict, **_LATER}
        waiting = [*_spans(table, vectors, blobs, range(count), _BATCH_BYTES)]
        while waiting:
            span = waiting.pop(0)
            try:
                part = _joined(table, vectors, blobs, span)
                added += self._api.send("POST", (*self._place, "rows"), part, query, again=again)["ids"]
            except TooLargeError as error:
                if len(span) < 2:
                    self._undo(error, span.start, added if on_conflict == "error" else None)
                    raise
                # The server takes less at a time.
                middle = span.start + len(span) // 2
                waiting[:0] = [range(span.start, middle), range(middle, span.stop)]
            except GnomonicError as error:
                self._undo(error, span.start, added if on_conflict == "error" else None)
                raise
        return added

    def _undo(self, error: GnomonicError, rows: int, added: list[Any] | None) -> None:
        """Take out what was added before an error, and say so in it."""
        if not rows:
            return
        told = f"the {rows:,} rows before it were added"
        if added is not None:
            try:
                self.delete(added)
                told = "none was added"
            except GnomonicError as second:
                told += f", and could not be taken out again ({second})"
        error.args = (f"{error}; this is of the rows from {rows:,} on, counted from there; {told}",)

    def update(self, table: pa.Table) -> int:
        """Change columns of rows by id, 8 MB at a time; each request changes all of its rows or none.

        Raises:
            GnomonicError: as `atlas.store.Store.update`.
        """
        changed = 0
        for span in _spans(table, None, None, range(table.num_rows), _CHANGE_BYTES):
            part = table.slice(span.start, len(span))
            changed += self._api.send("PATCH", (*self._place, "rows"), part, _LATER, again=True)["changed"]
        return changed

    def delete(self, ids: Sequence[Any]) -> int:
        """Delete rows by id, passing over unknown ids; return how many there were."""
        deleted = 0
        for chunk in id_chunks(ids):
            path = (*self._place, "rows")
            deleted += self._api.ask("DELETE", path, {"ids": chunk}, query=_LATER)["deleted"]
        return deleted

    def get(self, ids: Sequence[Any], columns: Sequence[str] | None = None) -> pa.Table:
        """Return rows by id, in the order of the ids.

        Raises:
            InputError: there is no such column, or an id is of another type than the column.
            DatasetError: an id is unknown.
        """
        chosen = {} if columns is None else {"columns": list(columns)}
        found = [self._read({"ids": chunk, **chosen}) for chunk in id_chunks(ids, _GET_IDS)]
        return pa.concat_tables(found) if found else self._read({"ids": [], **chosen})

    def scan(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Read all rows of the newest version, in row order."""
        about = self.about()

        def fetch(offset: int, limit: int) -> pa.Table:
            return self._page(offset, limit, columns, about["version"])

        for table in pages(fetch, about["rows"], first=_PAGE_ROWS, most=_MAX_PAGE_ROWS):
            yield from table.to_batches()

    def export_parquet(self, path: Path, columns: Sequence[str] | None = None) -> None:
        """Write the rows to a parquet file, whole or not at all.

        Raises:
            InputError: there is no such column.
            DatasetError: the file cannot be written, or parquet has no form for a column.
        """
        schema = self._page(0, 1, columns, None).schema
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            with pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
                for batch in self.scan(columns):
                    writer.write_batch(batch)
            fresh.replace(path)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path} cannot be written: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink()

    def close(self) -> None:
        """Do nothing: the connections are those of the process."""

    def _page(self, offset: int, limit: int, columns: Sequence[str] | None, version: int | None) -> pa.Table:
        body: dict[str, Any] = {"offset": offset, "limit": limit}
        body |= {} if columns is None else {"columns": list(columns)}
        return self._read(body if version is None else {**body, "version": version})

    def _read(self, body: dict[str, Any]) -> pa.Table:
        return self._api.read((*self._place, "rows", "read"), body)


def _count(table: pa.Table, vectors: NDArray[Any] | None, blobs: Sequence[bytes | None] | None) -> int:
    if table.num_columns:
        return int(table.num_rows)
    return len(vectors) if vectors is not None else len(blobs or ())


def _spans(
    table: pa.Table, vectors: NDArray[Any] | None, blobs: Sequence[bytes | None] | None, span: range, limit: int
) -> Iterator[range]:
    """Cut rows into requests of at most `limit` bytes; a row that is larger goes alone."""
    count = len(span)
    size = table.slice(span.start, count).nbytes if table.num_columns else 0
    size += count * vectors.shape[1] * 4 if vectors is not None else 0
    size += sum(len(one or b"") for one in blobs[span.start : span.stop]) if blobs is not None else 0
    if size <= limit or count < 2:
        yield span
        return
    # In pieces of one size and not by halves: most rows are alike.
    step = max(1, int(count * 0.9 * limit / size))
    for low in range(span.start, span.stop, step):
        yield from _spans(table, vectors, blobs, range(low, min(low + step, span.stop)), limit)


def _joined(
    table: pa.Table, vectors: NDArray[Any] | None, blobs: Sequence[bytes | None] | None, span: range
) -> pa.Table:
    """Return the rows of a request, with vectors and images as columns."""
    columns = dict(zip(table.column_names, table.slice(span.start, len(span)).columns, strict=True))
    if vectors is not None:
        part = vectors[span.start : span.stop]
        flat = np.ascontiguousarray(part, dtype=np.float16 if part.dtype == np.float16 else np.float32)
        columns[_VECTORS] = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), part.shape[1])
    if blobs is not None:
        columns[_BLOBS] = pa.array(list(blobs[span.start : span.stop]), type=pa.large_binary())
    return pa.table(columns)
