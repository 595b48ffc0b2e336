"""Look through an input file once, before any work: its columns, the one to embed, its size, its digest."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gnomonic.cli import columns
from gnomonic.cli.rows import Row, file_format, header_of, iter_rows
from gnomonic.errors import InputError

__all__ = ["Source", "likely_field", "scan"]

_LIKELY = ("text", "content", "body", "document", "passage", "sentence", "chunk", "message", "description")
"""Column names that are taken for the text, in this order, when a file has several columns of text."""

_EXACT_FLOAT = 1 << 53
_INT64 = 1 << 63


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An input file that was looked through: everything later steps need to know about it."""

    path: Path
    format: str
    field: str
    """The column that is embedded; "text" for .txt files."""
    rows: int
    chars: int
    """Characters in all texts that can be embedded."""
    bad_rows: int
    first_bad: Row | None
    sha256: str
    size: int
    mtime_ns: int
    kinds: Mapping[str, str]
    """Column -> "null", "bool", "int", "int64", "float" or "string"; empty for Parquet."""

    def __iter__(self) -> Iterator[Row]:
        """Read the rows again from the start."""
        if self.format == "parquet":
            return columns.iter_parquet_rows(self.path, self.field)
        return iter_rows(self.path, self.field)

    def check_unchanged(self) -> None:
        """Raise InputError when the file was written to since it was looked through."""
        now = self.path.stat() if self.path.exists() else None
        if now is None or (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise InputError(
                f"{self.path} was changed while it was being embedded, so rows and vectors no longer fit",
                hint="run again with --overwrite",
            )


def likely_field(texts: Sequence[str]) -> str | None:
    """Return the column whose name says that it holds the text, None where no name does."""
    by_name = {name.lower(): name for name in reversed(texts)}
    return next((by_name[likely] for likely in _LIKELY if likely in by_name), None)


def scan(path: Path, wanted: str | None) -> Source:
    """Read the whole file once, without embedding anything.

    Args:
        path: the input file.
        wanted: the column to embed; None to take the only or the likely one.

    Raises:
        InputError: the file cannot be read, or there is no such column, or which one to embed is not clear.
        MissingExtraError: Parquet without pyarrow.
    """
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise InputError(f"input {path} {what}")
    kind = file_format(path)
    before = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    kinds = _kinds(path, kind)
    chosen = _choose(path, kind, wanted, kinds)
    rows = columns.iter_parquet_rows(path, chosen) if kind == "parquet" else iter_rows(path, chosen)
    total = chars = bad = 0
    first_bad = None
    for row in rows:
        total += 1
        chars += len(row.text)
        if row.reason:
            bad += 1
            first_bad = first_bad or row
    return Source(
        path=path,
        format=kind,
        field=chosen,
        rows=total,
        chars=chars,
        bad_rows=bad,
        first_bad=first_bad,
        sha256=digest,
        size=before.st_size,
        mtime_ns=before.st_mtime_ns,
        kinds={} if kind == "parquet" else kinds,
    )


def _kinds(path: Path, kind: str) -> dict[str, str]:
    if kind == "parquet":
        return columns.parquet_kinds(path)
    if kind == "txt":
        return {"text": "string"}
    if kind in ("csv", "tsv"):
        return dict.fromkeys(header_of(path), "string")
    kinds: dict[str, str] = {}
    for row in iter_rows(path, ""):
        for name, value in (row.values or {}).items():
            kinds[name] = _merge(kinds.get(name, "null"), _kind_of(value))
    return kinds


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if abs(value) <= _EXACT_FLOAT:
            return "int"
        return "int64" if -_INT64 <= value < _INT64 else "string"
    return "float" if isinstance(value, float) else "string"


def _merge(one: str, other: str) -> str:
    """Return the narrowest kind that holds both without loss; "string" holds everything, as JSON."""
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    pair = {one, other}
    if pair == {"int", "int64"}:
        return "int64"
    return "float" if pair == {"int", "float"} else "string"


def _choose(path: Path, kind: str, wanted: str | None, kinds: Mapping[str, str]) -> str:
    """Return the column to embed, as documented for --field."""
    listed = ", ".join(kinds) or "none"
    if kind == "txt":
        if wanted not in (None, "text"):
            raise InputError(f"{path.name} is plain text and has no column {wanted!r}; leave out --field")
        return "text"
    if wanted is not None:
        if wanted not in kinds and kinds:
            near = difflib.get_close_matches(wanted, kinds, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(f"{path.name} has no column {wanted!r}; {meant}its columns: {listed}")
        if kinds.get(wanted, "string") not in ("string", "null"):
            held = kinds[wanted]
            raise InputError(f"column {wanted!r} of {path.name} holds {held}, not text; its columns: {listed}")
        return wanted
    texts = [name for name, held in kinds.items() if held == "string"]
    if len(texts) == 1:
        return texts[0]
    if (likely := likely_field(texts)) is not None:
        return likely
    if not kinds:
        return "text"
    if not texts:
        raise InputError(f"{path.name} has no column of text; its columns: {listed}")
    raise InputError(f"{path.name} has several columns of text; choose one with --field: {', '.join(texts)}")
