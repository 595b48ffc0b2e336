"""What people say of a dataset's rows: tags and saved selections, in one SQLite file beside the rows.

Rows are meant by their numbers (`_row`), which outlive maps and changes. Numbers of rows that were deleted stay in
their tags: whoever reads passes over them, and they are there again when a version of the rows is restored.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.row_bitmaps import BLOCK, check_numbers, join_rows, split_rows, unpack
from gnomonic.atlas.tag_tables import (
    SCHEMA,
    delete_tag,
    find_tag,
    make_tag,
    note,
    now,
    read_bits,
    tag_number,
    take_back,
    write_bits,
)
from gnomonic.errors import DatasetError, InputError

__all__ = ["Annotations", "AuditEntry", "Selection"]

_WAIT_S = 30.0
_MAX_NAME = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """A saved selection of rows."""

    name: str
    kind: str
    """How it was made: "lasso", "filter", "search", …"""
    definition: dict[str, Any]
    """What it can be made from again."""
    rows: NDArray[np.int64] | None
    """[m] int64 numbers, ascending; None for a selection that is only a definition."""
    created: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """One thing that was done to the tags."""

    at: str
    operation: str
    """"create", "add", "remove", "rename" or "delete"."""
    tag: str
    rows: int
    """How many rows it changed."""
    undone: bool


class Annotations:
    """Tags and selections of a dataset. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            DatasetError: it cannot be opened.
        """
        self._path = path
        self._lock = threading.RLock()
        self._opened: tuple[int, sqlite3.Connection] | None = None
        with self._reading():
            pass

    # -- tags ----------------------------------------------------------------------------------------------------

    def tags(self) -> dict[str, int]:
        """Return the tags by name, each with how many rows it has, those deleted since included."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT name, coalesce(sum(count), 0) FROM tags LEFT JOIN tag_rows ON tag = id "
                "GROUP BY id ORDER BY name"
            )
            return {str(name): int(count) for name, count in rows}

    def rows_of(self, tag: str) -> NDArray[np.int64]:
        """Return the numbers of a tag's rows, [m] int64, ascending.

        Raises:
            DatasetError: there is no such tag.
        """
        with self._reading() as connection:
            number = tag_number(connection, tag)
            found = connection.execute("SELECT block, bits FROM tag_rows WHERE tag = ? ORDER BY block", (number,))
            return join_rows(found.fetchall())

    def tags_of(self, row: int) -> list[str]:
        """Return the names of the tags that a row has."""
        block, bit = divmod(int(row), BLOCK)
        with self._reading() as connection:
            found = connection.execute(
                "SELECT name, bits FROM tags JOIN tag_rows ON tag = id WHERE block = ? ORDER BY name", (block,)
            )
            return [str(name) for name, bits in found if bits[bit // 8] & (1 << bit % 8)]

    def create(self, tag: str) -> None:
        """Make a tag without rows.

        Raises:
            InputError: the name is not usable.
            DatasetError: there is such a tag.
        """
        _check_name(tag, "tag")
        with self._writing() as connection:
            if find_tag(connection, tag) is not None:
                raise DatasetError(f"there is a tag {tag!r} already")
            make_tag(connection, tag)
            note(connection, "create", tag)

    def add(self, tag: str, rows: NDArray[np.int64]) -> int:
        """Give a tag to rows, making it where there is none.

        Args:
            tag: its name.
            rows: numbers, in any order.

        Returns:
            how many rows did not have it.

        Raises:
            InputError: the name or a number is not usable.
        """
        return len(self.give(tag, rows))

    def give(self, tag: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give a tag to rows as `add` does, and return those that did not have it, [m] int64, ascending.

        Raises:
            InputError: the name or a number is not usable.
        """
        _check_name(tag, "tag")
        blocks = split_rows(rows)
        with self._writing() as connection:
            number = find_tag(connection, tag)
            made = number is None
            number = make_tag(connection, tag) if number is None else number
            changed = {}
            for block, bits in blocks.items():
                before = read_bits(connection, number, block)
                if (bits & ~before).any():
                    changed[block] = bits & ~before
                    write_bits(connection, number, block, before | bits)
            if changed or made:
                note(connection, "add", tag, changed, made=made)
        return _rows_in(changed)

    def remove(self, tag: str, rows: NDArray[np.int64]) -> int:
        """Take a tag from rows; it stays, even without rows.

        Returns:
            how many rows had it.

        Raises:
            InputError: a number is not usable.
            DatasetError: there is no such tag.
        """
        return len(self.take(tag, rows))

    def take(self, tag: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Take a tag from rows as `remove` does, and return those that had it, [m] int64, ascending.

        Raises:
            InputError: a number is not usable.
            DatasetError: there is no such tag.
        """
        blocks = split_rows(rows)
        with self._writing() as connection:
            number = tag_number(connection, tag)
            changed = {}
            for block, bits in blocks.items():
                before = read_bits(connection, number, block)
                if (bits & before).any():
                    changed[block] = bits & before
                    write_bits(connection, number, block, before & ~bits)
            if changed:
                note(connection, "remove", tag, changed)
        return _rows_in(changed)

    def rename(self, tag: str, name: str) -> None:
        """Give a tag another name.

        Raises:
            InputError: the name is not usable.
            DatasetError: there is no such tag, or one of the new name.
        """
        _check_name(name, "tag")
        with self._writing() as connection:
            number = tag_number(connection, tag)
            if name == tag:
                return
            if find_tag(connection, name) is not None:
                raise DatasetError(f"there is a tag {name!r} already; add the rows to it instead")
            connection.execute("UPDATE tags SET name = ? WHERE id = ?", (name, number))
            note(connection, "rename", tag, name=name)

    def delete(self, tag: str) -> None:
        """Delete a tag with its rows' marks.

        Raises:
            DatasetError: there is no such tag.
        """
        with self._writing() as connection:
            note(connection, "delete", tag, delete_tag(connection, tag_number(connection, tag)))

    def undo(self) -> str | None:
        """Take back the last thing that was done to the tags and not taken back yet; a hundred steps at most.

        Returns:
            what was taken back, in words; None when there is nothing.
        """
        with self._writing() as connection:
            last = connection.execute(
                "SELECT id, operation, tag, detail FROM log WHERE undone = 0 ORDER BY id DESC LIMIT 1"
            ).fetchone()
            if last is None:
                return None
            step, operation, tag, detail = int(last[0]), str(last[1]), str(last[2]), json.loads(last[3])
            if not detail["kept"]:
                return None
            found = connection.execute("SELECT block, bits FROM log_rows WHERE step = ?", (step,)).fetchall()
            take_back(connection, operation, tag, detail, {int(block): unpack(bits) for block, bits in found})
            connection.execute("UPDATE log SET undone = 1 WHERE id = ?", (step,))
            connection.execute("DELETE FROM log_rows WHERE step = ?", (step,))
        rows = f" ({detail['rows']} rows)" if detail["rows"] else ""
        return f"{operation} {tag!r}{rows}"

    def audit(self, limit: int = 100) -> list[AuditEntry]:
        """Return what was done to the tags, newest first."""
        with self._reading() as connection:
            found = connection.execute(
                "SELECT at, operation, tag, detail, undone FROM log ORDER BY id DESC LIMIT ?", (limit,)
            )
            return [
                AuditEntry(at=at, operation=operation, tag=tag, rows=json.loads(detail)["rows"], undone=bool(undone))
                for at, operation, tag, detail, undone in found
            ]

    # -- selections ----------------------------------------------------------------------------------------------

    def save_selection(
        self, name: str, *, kind: str, definition: Mapping[str, Any], rows: NDArray[np.int64] | None = None
    ) -> None:
        """Save a selection under a name, in the place of one that has it.

        Args:
            name: its name.
            kind: how it was made.
            definition: what it can be made from again, as JSON can hold it.
            rows: numbers; None for a selection that is only a definition.

        Raises:
            InputError: the name, the definition or a number is not usable.
        """
        _check_name(name, "selection")
        try:
            text = json.dumps(dict(definition), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"the definition of selection {name!r} is not JSON: {error}") from error
        packed = None if rows is None else zlib.compress(check_numbers(rows).astype("<i8").tobytes(), 1)
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO selections VALUES (?, ?, ?, ?, ?)", (name, kind, text, packed, now())
            )

    def selections(self) -> list[str]:
        """Return the names of the saved selections, oldest first."""
        with self._reading() as connection:
            return [str(row[0]) for row in connection.execute("SELECT name FROM selections ORDER BY created, name")]

    def selection(self, name: str) -> Selection:
        """Return a saved selection.

        Raises:
            DatasetError: there is none of that name.
        """
        with self._reading() as connection:
            found = connection.execute(
                "SELECT kind, definition, rows, created FROM selections WHERE name = ?", (name,)
            ).fetchone()
        if found is None:
            raise DatasetError(f"there is no selection {name!r}")
        kind, text, packed, created = found
        rows = None if packed is None else np.frombuffer(zlib.decompress(packed), dtype="<i8").astype(np.int64)
        return Selection(name=name, kind=kind, definition=json.loads(text), rows=rows, created=created)

    def delete_selection(self, name: str) -> None:
        """Delete a saved selection.

        Raises:
            DatasetError: there is none of that name.
        """
        with self._writing() as connection:
            if not connection.execute("DELETE FROM selections WHERE name = ?", (name,)).rowcount:
                raise DatasetError(f"there is no selection {name!r}")

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._opened is not None and self._opened[0] == os.getpid():
                self._opened[1].close()
            self._opened = None

    # -- inside --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connect()
            except sqlite3.Error as error:
                raise DatasetError(
                    f"{self._path} cannot be used: {error}", hint="restore it from a backup, or move it away"
                ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Make one change, whole or not done; others wait."""
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        """Return this process's connection; one that came over a fork must not be used."""
        if self._opened is not None and self._opened[0] == os.getpid():
            return self._opened[1]
        connection = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        self._opened = (os.getpid(), connection)
        return connection


def _rows_in(blocks: Mapping[int, NDArray[np.uint8]]) -> NDArray[np.int64]:
    return join_rows([(block, bits.tobytes()) for block, bits in sorted(blocks.items())])


def _check_name(name: Any, what: str) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise InputError(f"{what} name {name!r} is not usable; choose 1 to {_MAX_NAME} printable characters")
