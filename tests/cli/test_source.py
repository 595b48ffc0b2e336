"""Looking through a file: which column is embedded, what types its columns have, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gnomonic.cli.source import scan
from gnomonic.errors import InputError


def _jsonl(tmp_path: Path, *values: dict[str, Any]) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def _csv(tmp_path: Path, header: str) -> Path:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n{','.join('x' for _ in header.split(','))}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("header", "field"),
    [("only", "only"), ("id,text", "text"), ("title,Body,id", "Body"), ("content,text", "text")],
)
def test_the_only_or_the_likely_column_is_taken(tmp_path: Path, header: str, field: str) -> None:
    assert scan(_csv(tmp_path, header), None).field == field


def test_an_unclear_choice_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose one with --field: left, right"):
        scan(_csv(tmp_path, "left,right"), None)


def test_the_only_column_of_text_is_taken_whatever_its_name(tmp_path: Path) -> None:
    assert scan(_jsonl(tmp_path, {"id": 1, "ok": True, "say": "a"}), None).field == "say"


def test_a_misspelt_field_is_answered_with_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean 'text'\? its columns: id, text"):
        scan(_csv(tmp_path, "id,text"), "txet")


def test_a_column_of_numbers_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'id' of a\.jsonl holds int, not text"):
        scan(_jsonl(tmp_path, {"id": 1, "text": "a"}), "id")


def test_plain_text_has_no_field(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x\n", encoding="utf-8")
    with pytest.raises(InputError, match="leave out --field"):
        scan(path, "body")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int"),
        ([1, 2.5, None], "float"),
        ([1, 1 << 60], "int64"),
        ([0.5, 1 << 60], "string"),
        ([1 << 80], "string"),
        ([True, None], "bool"),
        ([True, 1], "string"),
        ([None], "null"),
        (["a", 1], "string"),
        ([[1], {"a": 2}], "string"),
    ],
)
def test_a_json_column_gets_the_narrowest_type_that_loses_nothing(tmp_path: Path, values: list[Any], kind: str) -> None:
    path = _jsonl(tmp_path, *({"text": "t", "x": value} for value in values))
    assert scan(path, "text").kinds["x"] == kind


def test_rows_characters_and_bad_rows_are_counted(tmp_path: Path) -> None:
    source = scan(_jsonl(tmp_path, {"text": "abc"}, {"text": None}, {"text": "de"}), "text")
    assert (source.rows, source.chars, source.bad_rows) == (3, 5, 1)
    assert source.first_bad is not None
    assert source.first_bad.number == 1


@pytest.mark.parametrize("name", ["absent.csv", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"does not exist|is a folder"):
        scan(tmp_path / name, None)


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        scan(path, None)
