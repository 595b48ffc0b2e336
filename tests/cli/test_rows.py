"""Reading rows: every format, every kind of damage, one place in the output for each row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from gnomonic.cli import rows
from gnomonic.cli.rows import Row, file_format, header_of, iter_rows
from gnomonic.errors import InputError


def _write(tmp_path: Path, name: str, data: bytes | str) -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def _read(tmp_path: Path, name: str, data: bytes | str, field: str = "text") -> list[Row]:
    return list(iter_rows(_write(tmp_path, name, data), field))


def _texts(found: list[Row]) -> list[str]:
    return [row.text for row in found]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.txt", "txt"), ("a.CSV", "csv"), ("a.b.jsonl.gz", "jsonl"), ("a.tsv", "tsv"), ("a.parquet", "parquet")],
)
def test_the_name_says_the_format(name: str, kind: str) -> None:
    assert file_format(Path(name)) == kind


@pytest.mark.parametrize("name", ["a.json", "csv", "a", "a.parquet.gz", "a.gz", ".xlsx"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="must end in"):
        file_format(Path(name))


def test_a_text_file_has_a_text_per_line_blank_ones_included(tmp_path: Path) -> None:
    found = _read(tmp_path, "a.txt", "one\n\n two \nlast")
    assert _texts(found) == ["one", "", " two ", "last"]
    assert [row.number for row in found] == [0, 1, 2, 3]
    assert [row.line for row in found] == [1, 2, 3, 4]


def test_byte_order_mark_and_windows_line_ends_are_not_text(tmp_path: Path) -> None:
    assert _texts(_read(tmp_path, "a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n")) == ["one", "two"]


def test_line_separators_of_unicode_do_not_end_a_line(tmp_path: Path) -> None:
    assert _texts(_read(tmp_path, "a.txt", "a\u2028b\x0bc\n")) == ["a\u2028b\x0bc"]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert _read(tmp_path, "a.txt", "") == []
    assert _read(tmp_path, "a.jsonl", "") == []


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_bytes_that_are_not_utf8_cost_only_their_row(tmp_path: Path, name: str) -> None:
    good = b'{"text": "x"}' if name == "a.jsonl" else b"x"
    found = _read(tmp_path, name, good + b"\n\xff\xfe\n" + good + b"\n")
    assert _texts(found) == ["x", "", "x"]
    assert "not valid UTF-8" in found[1].reason


def test_utf16_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="UTF-16"):
        _read(tmp_path, "a.txt", "hello".encode("utf-16"))


def test_an_overlong_line_costs_only_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE", 10)
    found = _read(tmp_path, "a.txt", "short\n" + "x" * 95 + "\nafter\n")
    assert _texts(found) == ["short", "", "after"]
    assert "longer than 10" in found[1].reason


def test_gzip_is_read(tmp_path: Path) -> None:
    assert _texts(_read(tmp_path, "a.txt.gz", gzip.compress(b"one\ntwo\n", mtime=0))) == ["one", "two"]


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"text\n" * 1000, mtime=0)[:-12]])
def test_damaged_gzip_is_an_input_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="damaged gzip"):
        _read(tmp_path, "a.txt.gz", data)


def test_quoted_csv_fields_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    found = _read(tmp_path, "a.csv", 'id,text\r\n1,"a, ""b""\r\nc"\r\n\r\n2,d\r\n')
    assert _texts(found) == ['a, "b"\r\nc', "d"]
    assert [row.line for row in found] == [2, 5]
    assert found[0].values == {"id": "1", "text": 'a, "b"\r\nc'}


def test_csv_rows_of_another_width_fail(tmp_path: Path) -> None:
    found = _read(tmp_path, "a.csv", "id,text\n1\n1,a,b\n1,good\n")
    assert [row.reason for row in found] == [
        "1 columns where the header has 2",
        "3 columns where the header has 2",
        "",
    ]


def test_an_open_quote_ends_in_an_error_not_in_a_giant_text(tmp_path: Path) -> None:
    found = _read(tmp_path, "a.csv", 'id,text\n1,good\n2,"never closed\n3,x\n')
    assert found[0].text == "good"
    assert [row.reason != "" for row in found] == [False, True]


def test_text_after_a_closing_quote_is_not_guessed_at(tmp_path: Path) -> None:
    found = _read(tmp_path, "a.csv", 'id,text\n1,"he said "no" twice"\n2,good\n')
    assert found[0].reason.startswith("not CSV")
    assert found[1].text == "good"


def test_nul_characters_are_text(tmp_path: Path) -> None:
    assert _texts(_read(tmp_path, "a.csv", "text\na\0b\n")) == ["a\0b"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_shows_the_delimiter(tmp_path: Path, name: str, delimiter: str) -> None:
    if name == "a.tsv":
        delimiter = "\t"
    assert header_of(_write(tmp_path, name, f"id{delimiter}text\n")) == ["id", "text"]


def test_a_csv_without_a_header_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no header line"):
        header_of(_write(tmp_path, "a.csv", ""))


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'a' more than once"):
        header_of(_write(tmp_path, "a.csv", "a,b,a\n"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "not JSON"),
        ("[1]", "a list"),
        ('"bare"', "bare value"),
        ("{}", "no field 'text'"),
        ('{"text": null}', "null"),
        ('{"text": 5}', "a number"),
        ('{"text": true}', "a boolean"),
        ('{"text": ["a"]}', "a list"),
        ('{"text": "\\ud800"}', "lone surrogate"),
        ('{"text": "ok", "other": "\\udfff"}', "lone surrogate"),
        ("[" * 100_000, "not JSON"),
    ],
    ids=lambda value: value[:24],
)
def test_a_bad_json_line_fails_with_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    good = json.dumps({"text": "good"})
    found = _read(tmp_path, "a.jsonl", f"{good}\n\n{line}\n{good}\n")
    assert _texts(found) == ["good", "", "good"]
    assert reason in found[1].reason
    assert (found[1].number, found[1].line) == (1, 3)


def test_a_surrogate_pair_in_json_is_one_character(tmp_path: Path) -> None:
    assert _texts(_read(tmp_path, "a.jsonl", '{"text": "\\ud83d\\ude00"}\n')) == ["😀"]
