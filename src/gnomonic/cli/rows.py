"""Read the rows of a .txt, .csv, .tsv or .jsonl file one at a time, the unusable ones with the reason.

Every row of the input has exactly one place in the output, so a row that cannot be read is passed on with its
reason instead of ending the run. Files may be gzipped (.jsonl.gz) and are read as UTF-8, with or without a
byte-order mark, with Unix or Windows line ends.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gnomonic.errors import InputError

__all__ = ["MAX_LINE", "Row", "file_format", "header_of", "iter_rows", "usable_text"]

MAX_LINE = 1 << 24
"""Longest line that is read, in characters; the rest of a longer one is skipped: memory stays bounded."""

_FORMATS = ("txt", "csv", "tsv", "jsonl", "parquet")
_JSON_NAMES = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the input."""

    number: int
    """Counted from 0; the row's place in the output."""
    line: int | None = None
    """Line of the file it starts on, counted from 1; None in Parquet files."""
    values: dict[str, object] | None = None
    """Column name -> value; None when the row could not be read."""
    text: str = ""
    """What is embedded; empty when `reason` is set."""
    reason: str = ""
    """Why the row cannot be embedded; empty for a good row."""


def file_format(path: Path) -> str:
    """Return "txt", "csv", "tsv", "jsonl" or "parquet" from the file's name; a final .gz is ignored.

    Raises:
        InputError: the name ends in none of these.
    """
    name = path.name.lower().removesuffix(".gz")
    kind = name.rpartition(".")[2]
    if kind in _FORMATS and "." in name and not (kind == "parquet" and path.name.lower().endswith(".gz")):
        return kind
    raise InputError(
        f"{path.name}: the input's name must end in .txt, .csv, .tsv, .jsonl (each also .gz) or .parquet, "
        "so that its format is known"
    )


def header_of(path: Path) -> list[str]:
    """Return the column names of a .csv or .tsv file.

    Raises:
        InputError: the file is empty, cannot be read, or names a column twice.
    """
    with _lines(path, newline="") as (_, lines):
        return _header(path, csv.reader(lines, delimiter=_delimiter(path), strict=True))


def iter_rows(path: Path, field: str) -> Iterator[Row]:
    """Yield every row of a text, CSV or JSON-lines file, with the text of `field`.

    Args:
        path: the file; .parquet is read by `columns.iter_parquet_rows`.
        field: name of the column to embed; ignored for .txt, whose one column is `text`.

    Raises:
        InputError: the file as a whole cannot be read.
    """
    kind = file_format(path)
    reader = {"txt": _text_rows, "csv": _csv_rows, "tsv": _csv_rows, "jsonl": _json_rows}[kind]
    return reader(path, field)


def usable_text(value: object) -> tuple[str, str]:
    """Return (text, "") for a value that can be embedded, ("", reason) for one that cannot."""
    if value is None:
        return "", "the text is null"
    if not isinstance(value, str):
        return "", f"the text is {_JSON_NAMES.get(type(value), 'not text')}, not a string"
    if position := _surrogate(value):
        return "", f"the text has a lone surrogate at character {position}, which no UTF-8 can hold"
    return value, ""


def _surrogate(text: str) -> int:
    """Return the position of the first lone surrogate, counted from 1; 0 when there is none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start + 1
    return 0


@contextmanager
def _lines(path: Path, newline: str | None = None) -> Iterator[tuple[io.TextIOBase, Iterator[str]]]:
    """Open a text file and give its lines, bytes that are not UTF-8 as lone surrogates.

    Raises:
        InputError: the file is absent, unreadable, UTF-16 or damaged gzip data.
    """
    try:
        with path.open("rb") as raw:
            data = gzip.GzipFile(fileobj=raw) if path.name.lower().endswith(".gz") else raw
            start = data.read(2)
            if start in (b"\xff\xfe", b"\xfe\xff"):
                raise InputError(f"{path}: this file is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8")
            data.seek(0)
            stream = io.TextIOWrapper(data, encoding="utf-8-sig", errors="surrogateescape", newline=newline)
            yield stream, _bounded(stream)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip data: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _bounded(stream: io.TextIOBase) -> Iterator[str]:
    while line := stream.readline(MAX_LINE):
        yield line
        rest = line
        while len(rest) == MAX_LINE and not rest.endswith(("\n", "\r")):
            rest = stream.readline(MAX_LINE)


def _line_problem(line: str) -> str:
    if len(line) >= MAX_LINE:
        return f"the line is longer than {MAX_LINE:,} characters"
    if position := _surrogate(line):
        return f"the line is not valid UTF-8, from character {position} on"
    return ""


def _text_rows(path: Path, _field: str) -> Iterator[Row]:
    with _lines(path) as (_, lines):
        for number, line in enumerate(lines):
            text = line.removesuffix("\n")
            if reason := _line_problem(line):
                yield Row(number=number, line=number + 1, reason=reason)
            else:
                yield Row(number=number, line=number + 1, values={"text": text}, text=text)


def _json_rows(path: Path, field: str) -> Iterator[Row]:
    number = 0
    with _lines(path) as (_, lines):
        for at, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            values, reason = _parse_json(line)
            text = ""
            if values is not None:
                text, reason = usable_text(values[field]) if field in values else ("", f"no field {field!r}")
            yield Row(number=number, line=at, values=values, text=text, reason=reason)
            number += 1


def _parse_json(line: str) -> tuple[dict[str, object] | None, str]:
    if reason := _line_problem(line):
        return None, reason
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"
    if not isinstance(values, dict):
        return None, f"not a JSON object but {_JSON_NAMES.get(type(values), 'a bare value')}"
    for name, value in values.items():
        if _surrogate(name) or (isinstance(value, str) and _surrogate(value)):
            shown = name.encode("ascii", "backslashreplace").decode()
            return None, f"field {shown!r} has a lone surrogate, which no UTF-8 can hold"
    return values, ""


def _delimiter(path: Path) -> str:
    """Return the character between the columns: tab for .tsv, else what the header line uses."""
    if file_format(path) == "tsv":
        return "\t"
    with _lines(path, newline="") as (_, lines):
        first = next(lines, "")
    return max(",;\t", key=first.count)


def _header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise InputError(f"{path}: the header line is not CSV: {error}") from error
    if not header:
        raise InputError(f"{path}: no header line; the first line of a CSV file must name its columns")
    if _surrogate("".join(header)):
        raise InputError(f"{path}: the header line is not valid UTF-8; convert the file to UTF-8 first")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{path}: the header names {', '.join(map(repr, twice))} more than once; rename one")
    return header


def _csv_rows(path: Path, field: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE)
    delimiter = _delimiter(path)
    with _lines(path, newline="") as (_, lines):
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = _header(path, reader)
        number = 0
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(number=number, line=line, reason=f"not CSV: {error}")
                number += 1
                continue
            if not cells:
                continue
            yield _csv_row(number, line, header, cells, field)
            number += 1


def _csv_row(number: int, line: int, header: list[str], cells: list[str], field: str) -> Row:
    if len(cells) != len(header):
        reason = f"{len(cells)} columns where the header has {len(header)}"
        return Row(number=number, line=line, reason=reason)
    if _surrogate("".join(cells)):
        return Row(number=number, line=line, reason="the row is not valid UTF-8")
    values = dict(zip(header, cells, strict=True))
    return Row(number=number, line=line, values=dict(values), text=values[field])
