"""The tables of tags in a dataset's SQLite file, and the log of what was done to them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.row_bitmaps import BLOCK, count_rows, unpack
from gnomonic.errors import DatasetError

__all__ = [
    "SCHEMA", "delete_tag", "find_tag", "make_tag", "note", "now", "read_bits", "tag_number", "take_back", "write_bits",
]  # fmt: skip

_UNDO_STEPS = 100
SCHEMA = """
CREATE TABLE IF NOT EXISTS tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tag_rows (
    tag INTEGER NOT NULL REFERENCES tags (id), block INTEGER NOT NULL, count INTEGER NOT NULL, bits BLOB NOT NULL,
    PRIMARY KEY (tag, block)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS selections (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL, definition TEXT NOT NULL, rows BLOB, created TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, operation TEXT NOT NULL, tag TEXT NOT NULL,
    detail TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS log_rows (step INTEGER NOT NULL, block INTEGER NOT NULL, bits BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS log_rows_by_step ON log_rows (step);
"""
"""Makes what is not there yet."""


def now() -> str:
    """Return the time, ISO 8601 with microseconds and zone."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def read_bits(connection: sqlite3.Connection, tag: int, block: int) -> NDArray[np.uint8]:
    """Return the bitmap of a tag's rows in a block."""
    found = connection.execute("SELECT bits FROM tag_rows WHERE tag = ? AND block = ?", (tag, block)).fetchone()
    return np.zeros(BLOCK // 8, dtype=np.uint8) if found is None else unpack(found[0])


def write_bits(connection: sqlite3.Connection, tag: int, block: int, bits: NDArray[np.uint8]) -> None:
    """Set the bitmap of a tag's rows in a block."""
    count = int(np.unpackbits(bits).sum())
    if count:
        connection.execute("INSERT OR REPLACE INTO tag_rows VALUES (?, ?, ?, ?)", (tag, block, count, bits.tobytes()))
    else:
        connection.execute("DELETE FROM tag_rows WHERE tag = ? AND block = ?", (tag, block))


def find_tag(connection: sqlite3.Connection, name: str) -> int | None:
    """Return a tag's number in the file, or None."""
    found = connection.execute("SELECT id FROM tags WHERE name = ?", (name,)).fetchone()
    return None if found is None else int(found[0])


def tag_number(connection: sqlite3.Connection, name: str) -> int:
    """Return a tag's number in the file.

    Raises:
        DatasetError: there is no such tag.
    """
    found = find_tag(connection, name)
    if found is None:
        raise DatasetError(f"there is no tag {name!r}")
    return found


def make_tag(connection: sqlite3.Connection, name: str) -> int:
    """Make a tag and return its number in the file."""
    return int(connection.execute("INSERT INTO tags (name, created) VALUES (?, ?)", (name, now())).lastrowid or 0)


def delete_tag(connection: sqlite3.Connection, tag: int) -> dict[int, NDArray[np.uint8]]:
    """Delete a tag; return the rows it had."""
    found = connection.execute("SELECT block, bits FROM tag_rows WHERE tag = ?", (tag,)).fetchall()
    connection.execute("DELETE FROM tag_rows WHERE tag = ?", (tag,))
    connection.execute("DELETE FROM tags WHERE id = ?", (tag,))
    return {int(block): unpack(bits) for block, bits in found}


def note(
    connection: sqlite3.Connection,
    operation: str,
    tag: str,
    changed: Mapping[int, NDArray[np.uint8]] | None = None,
    **detail: Any,
) -> None:
    """Write down what was done, with the rows whose marks changed, so that it can be taken back."""
    changed = changed or {}
    text = json.dumps({"rows": count_rows(changed), "kept": True, **detail})
    step = connection.execute(
        "INSERT INTO log (at, operation, tag, detail) VALUES (?, ?, ?, ?)", (now(), operation, tag, text)
    ).lastrowid
    connection.executemany(
        "INSERT INTO log_rows VALUES (?, ?, ?)", [(step, block, bits.tobytes()) for block, bits in changed.items()]
    )
    old = connection.execute(
        "SELECT id, detail FROM log WHERE undone = 0 AND json_extract(detail, '$.kept') ORDER BY id DESC "
        "LIMIT -1 OFFSET ?", (_UNDO_STEPS,)
    ).fetchall()  # fmt: skip
    for number, told in old:
        connection.execute(
            "UPDATE log SET detail = ? WHERE id = ?", (json.dumps({**json.loads(told), "kept": False}), number)
        )
        connection.execute("DELETE FROM log_rows WHERE step = ?", (number,))


def take_back(
    connection: sqlite3.Connection,
    operation: str,
    tag: str,
    detail: Mapping[str, Any],
    changed: Mapping[int, NDArray[np.uint8]],
) -> None:
    """Do the opposite of a step; all later steps have been taken back, so that the tags are as it left them."""
    if operation == "delete":
        number = make_tag(connection, tag)
    else:
        number = tag_number(connection, detail["name"] if operation == "rename" else tag)
    if operation == "rename":
        connection.execute("UPDATE tags SET name = ? WHERE id = ?", (tag, number))
    for block, bits in changed.items():
        before = read_bits(connection, number, block)
        write_bits(connection, number, block, before & ~bits if operation == "add" else before | bits)
    if operation == "create" or (operation == "add" and detail.get("made")):
        delete_tag(connection, number)
