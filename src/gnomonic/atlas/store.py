"""What a dataset's rows can do, whatever keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["GENERATED_ID_FIELD", "HIDDEN_COLUMNS", "Store", "VersionInfo", "open_store"]

GENERATED_ID_FIELD = "id_"
"""The column of ids where the user has none: each row's number as a string."""

HIDDEN_COLUMNS = ("_row", "_vector", "_blob", "_thumb")
"""Columns every store may have beside the user's; they are read by name and never part of the schema."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionInfo:
    """A state of the rows that can still be read."""

    number: int
    """Ascending with time, not without gaps."""
    created: str
    """ISO 8601 with microseconds and zone."""
    rows: int


class Store(Protocol):
    """The rows of one dataset: columns of the user, and for each row a number, perhaps a vector, an image, a thumbnail.

    `_row`, int64, is a row's number: given when the row is added, kept when it is changed, never given again. Rows are
    read in row order: the order in which they were added, except that changed rows and rows from before a compaction
    may have moved. All reads of one version have one order.

    Every change is whole or not done, and makes a version. One process writes at a time and the others wait; readers
    wait for nobody and see the last whole version. Types that change on the way in: views become plain strings,
    binaries and lists, run-end-encoded columns become plain ones, dictionaries get int32 indices. All else comes back
    as it went in.
    """

    @property
    def version(self) -> int:
        """The newest version; 0 before the first row."""
        ...

    def versions(self) -> list[VersionInfo]:
        """Return the versions that can be read, oldest first."""
        ...

    def restore(self, version: int) -> int:
        """Make an old version the newest again, and return its new number.

        Raises:
            DatasetError: it is not there any more.
        """
        ...

    @property
    def schema(self) -> pa.Schema:
        """The user's columns, ids included."""
        ...

    def schema_at(self, version: int) -> pa.Schema:
        """Return the user's columns of a version.

        Raises:
            DatasetError: it is not there any more.
        """
        ...

    @property
    def unique_id_field(self) -> str:
        """The column of ids."""
        ...

    @property
    def dim(self) -> int | None:
        """Size of the vectors; None without any."""
        ...

    @property
    def vector_dtype(self) -> np.dtype[Any]:
        """float32 or float16, of the vectors as they are stored."""
        ...

    @property
    def has_blobs(self) -> bool:
        """Whether any row came with an image."""
        ...

    def count(self, version: int | None = None) -> int:
        """Return the number of rows.

        Raises:
            DatasetError: the version is not there any more.
        """
        ...

    def append(
        self,
        table: pa.Table,
        *,
        vectors: NDArray[Any] | None = None,
        blobs: Sequence[bytes | None] | None = None,
        thumbs: Sequence[bytes | None] | None = None,
        on_conflict: str = "error",
    ) -> list[Any]:
        """Add rows: all of them, or none.

        Columns that are missing are null; new columns are added, null for the rows before. A value is cast to its
        column's type where nothing is lost; floats are rounded to the width of their column.

        Args:
            table: the user's columns; may have none where vectors or blobs say how many rows there are.
            vectors: [n, dim] float16, float32, float64 or integers, finite; a memory map is read in blocks.
            blobs: [n] an image's bytes, or None, a row.
            thumbs: [n] a small image's bytes, or None, a row.
            on_conflict: what becomes of a row whose id is there: "error" refuses all, "skip" leaves the old row,
                "replace" puts the new row in its place, under its number.

        Returns:
            the ids of the rows that were stored, in order.

        Raises:
            InputError: an id, a vector or a count is not usable; says which row.
            SchemaError: a value does not fit its column; says which column and row.
            DatasetError: an id is there already, the vectors have another size, or the rows cannot be written.
        """
        ...

    def update(self, table: pa.Table) -> int:
        """Change the given columns of the rows with the given ids; return how many rows.

        Raises:
            InputError: an id is missing or stands there twice.
            SchemaError: a value does not fit its column.
            DatasetError: an id is unknown.
        """
        ...

    def delete(self, ids: Sequence[Any]) -> int:
        """Delete rows by id, passing over unknown ids; return how many there were.

        Raises:
            InputError: an id is of another type than the column.
        """
        ...

    def put_vectors(self, rows: NDArray[np.int64], vectors: NDArray[Any]) -> None:
        """Set the vectors of rows that are there.

        Args:
            rows: [m] numbers.
            vectors: [m, dim] finite.

        Raises:
            InputError: a vector is not usable.
            DatasetError: a row is unknown, or the vectors have another size.
        """
        ...

    def rows_of(self, ids: Sequence[Any], *, version: int | None = None) -> NDArray[np.int64]:
        """Return the numbers of rows, [len(ids)] int64, in the order of the ids.

        Raises:
            InputError: an id is of another type than the column.
            DatasetError: an id is unknown; names up to three.
        """
        ...

    def get(self, ids: Sequence[Any], columns: Sequence[str] | None = None) -> pa.Table:
        """Return rows by id, in the order of the ids.

        Raises:
            InputError: there is no such column, or an id is of another type than the column.
            DatasetError: an id is unknown; names up to three.
        """
        ...

    def take(
        self, rows: NDArray[np.int64], columns: Sequence[str] | None = None, *, version: int | None = None
    ) -> pa.Table:
        """Return rows by number, in the order given; a number may stand there twice.

        Args:
            rows: [m] numbers.
            columns: names, hidden ones included; None for the user's.
            version: default the newest.

        Raises:
            InputError: there is no such column.
            DatasetError: a row is not there.
        """
        ...

    def scan(
        self,
        columns: Sequence[str] | None = None,
        *,
        version: int | None = None,
        batch_rows: int = 8192,
        vectors: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Read all rows in row order, in batches of `batch_rows` with a smaller last one.

        Args:
            columns: names, hidden ones included; None for the user's.
            version: default the newest.
            batch_rows: rows a batch.
            vectors: whether `_vector` comes last.

        Raises:
            InputError: there is no such column.
            DatasetError: the version is not there any more, or a file is damaged.
        """
        ...

    def vectors(
        self, version: int | None = None, *, batch_rows: int = 8192
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Read the vectors in row order: blocks of numbers [b] int64 and vectors [b, dim].

        Rows without a vector are left out.

        Raises:
            DatasetError: the version is not there any more, or a file is damaged.
        """
        ...

    def blobs(self, rows: NDArray[np.int64], *, version: int | None = None) -> list[bytes | None]:
        """Return the images of rows by number, in order; None where a row has none.

        Raises:
            DatasetError: a row is not there, or the version is gone.
        """
        ...

    def blob(self, id: Any) -> bytes | None:
        """Return the image of a row by id; None where it has none.

        Raises:
            DatasetError: the id is unknown.
        """
        ...

    def thumbs(self, rows: NDArray[np.int64], *, version: int | None = None) -> list[bytes | None]:
        """Return the thumbnails of rows by number, in order; None where a row has none.

        Raises:
            DatasetError: a row is not there, or the version is gone.
        """
        ...

    def where(self, predicate: str, *, version: int | None = None) -> NDArray[np.int64]:
        """Return the numbers of the rows for which a condition holds, [m] int64, ascending.

        Args:
            predicate: what may follow WHERE in SQL, such as "year >= 2000 AND title LIKE '%map%'". Names other than
                words stand in "double quotes" or `backticks`, texts in 'single quotes'.
            version: default the newest.

        Raises:
            InputError: it cannot be read, or names an unknown column; says why.
            DatasetError: the version is not there any more, or a file is damaged.
        """
        ...

    def create_full_text(self, columns: Sequence[str]) -> None:
        """Index text columns for `full_text`; those that are indexed stay as they are.

        Raises:
            InputError: a column is unknown or holds no text.
        """
        ...

    def full_text(
        self, query: str, *, columns: Sequence[str] | None = None, k: int = 10
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find rows by words, best first, rows that came after the index included.

        Args:
            query: words; a row that has any of them is found.
            columns: indexed columns; None for all of them.
            k: at most so many.

        Returns:
            numbers [m] int64 and BM25 scores [m] float32.

        Raises:
            InputError: k is out of range, or a column is not indexed.
        """
        ...

    def optimize(self, *, keep_s: float = 3600.0) -> None:
        """Join small files, bring indices up to date, and remove old versions.

        Args:
            keep_s: versions that were the newest one at any time in so many seconds before now are kept.

        Raises:
            DatasetError: a file is damaged or cannot be written.
        """
        ...

    def export_parquet(self, path: Path, columns: Sequence[str] | None = None) -> None:
        """Write the rows to a parquet file, whole or not at all.

        Raises:
            InputError: there is no such column.
            DatasetError: the file cannot be written, or parquet has no form for a column.
        """
        ...

    def close(self) -> None:
        """Free what is open; the next call opens it again."""
        ...


def open_store(
    folder: Path,
    *,
    unique_id_field: str | None = None,
    vector_dtype: str = "float32",
    location: str | None = None,
    create: bool = True,
) -> Store:
    """Open the rows of a dataset, or make an empty store.

    Args:
        folder: the dataset's folder; what is small and changes often is always here.
        unique_id_field: the column of ids of a new store; None to have ids made.
        vector_dtype: of a new store's vectors: "float32", or "float16" for half the space.
        location: where a new store keeps the rows themselves: a folder or an address such as s3://bucket/path; default
            the dataset's folder.
        create: whether a store that is not there is made.

    Raises:
        InputError: vector_dtype is unknown.
        DatasetNotFoundError: it is not there and is not to be made.
        DatasetError: it is there with another id column, or its files are damaged.
    """
    from gnomonic.atlas.lance_store import LanceStore

    return LanceStore(
        folder, unique_id_field=unique_id_field, vector_dtype=vector_dtype, location=location, create=create
    )
