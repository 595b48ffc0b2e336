"""`rows.json`: which version of the rows counts, and what their columns are.

Lance may hold versions after the one named here: a writer that was killed, or failed, left them. Nobody reads them and
the next writer takes them back. So a change may take several steps in Lance and is still whole or not done.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from gnomonic.atlas.row_types import Codec, codec_of, read_type, write_type
from gnomonic.atlas.store import VersionInfo
from gnomonic.errors import DatasetError

__all__ = ["ColumnEntry", "RowState", "read_state", "write_state"]

_FORMAT = 1
_MAX_VERSIONS = 500
"""More are not listed: the list is written anew with every change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnEntry:
    """A column of the user's and its name in Lance, where any name would not do."""

    name: str
    internal: str
    type: str
    """The Arrow type, as `row_types.write_type` writes it."""

    @property
    def codec(self) -> Codec:
        """How its values are kept."""
        return codec_of(read_type(self.type))


@dataclass(frozen=True, kw_only=True, slots=True)
class RowState:
    """What a store is at one moment."""

    unique_id_field: str
    generated_ids: bool
    vector_dtype: str
    location: str | None
    version: int = 0
    """The version that counts; 0 before the first row."""
    next_row: int = 0
    columns: tuple[ColumnEntry, ...] = ()
    """All there ever were; those count that the version has. An entry is never taken out and no name given twice."""
    versions: tuple[VersionInfo, ...] = ()
    full_text: tuple[str, ...] = ()
    """Internal names of the columns that are indexed for search by words."""
    small_writes: int = 0
    """Writes, and rows in them, since the files were last joined."""
    small_rows: int = 0

    def entries(self, held: pa.Schema) -> dict[str, ColumnEntry]:
        """Return the columns of a Lance schema by the user's names, in the order in which they came."""
        there = set(held.names)
        found: dict[str, ColumnEntry | None] = {}
        for entry in self.columns:
            # A later entry takes the place of a column of that name that held nothing.
            found[entry.name] = entry if entry.internal in there else found.get(entry.name)
        return {name: entry for name, entry in found.items() if entry is not None}

    def with_column(self, name: str, kind: pa.DataType) -> tuple[RowState, ColumnEntry]:
        """Return the state with one more column, and its entry."""
        entry = ColumnEntry(name=name, internal=f"c{len(self.columns)}", type=write_type(kind))
        return replace(self, columns=(*self.columns, entry)), entry

    def committed(self, version: int, rows: int) -> RowState:
        """Return the state with a new version that counts."""
        made = VersionInfo(number=version, created=datetime.now(UTC).isoformat(timespec="microseconds"), rows=rows)
        return replace(self, version=version, versions=(*self.versions[1 - _MAX_VERSIONS :], made))


def read_state(path: Path) -> RowState | None:
    """Return the state, or None where there is no file.

    Raises:
        DatasetError: the file cannot be read, or is of a newer program.
    """
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("format") != _FORMAT:
            raise DatasetError(f"{path} was written by a newer version of Gnomonic; update this one")
        told["columns"] = tuple(ColumnEntry(**entry) for entry in told["columns"])
        told["versions"] = tuple(VersionInfo(**version) for version in told["versions"])
        told["full_text"] = tuple(told["full_text"])
        return RowState(**told)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}", hint="restore it from a backup") from error


def write_state(path: Path, state: RowState) -> None:
    """Put a state in the place of the one before, in one step.

    Raises:
        DatasetError: it cannot be written; the one before is as it was.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with fresh.open("w", encoding="utf-8") as stream:
            json.dump({"format": _FORMAT, **asdict(state)}, stream, ensure_ascii=False)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise DatasetError(f"{path} cannot be written: {error.strerror}; nothing was changed") from error
