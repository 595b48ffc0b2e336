"""Rows as users hold them, read into a table, and what is said of those that cannot be."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pyarrow as pa
import pytest

from gnomonic.atlas.rows import check_ids, check_vectors, read_blobs, read_rows, split_embeddings, to_table
from gnomonic.errors import InputError, SchemaError

ROWS = [{"title": "a", "year": 2001, "ok": True}, {"title": None, "year": 2002}, {"year": None, "more": 1.5}]
TABLE = pa.table(
    {
        "title": ["a", None, None],
        "year": [2001, 2002, None],
        "ok": [True, None, None],
        "more": [None, None, 1.5],
    }
)


class OldFrame:
    """A DataFrame of a library without Arrow's protocol."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = list(columns)
        self._columns = columns

    def to_dict(self, orient: str) -> dict[str, list[Any]]:
        assert orient == "list"
        return self._columns


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        iter(ROWS),
        TABLE,
        TABLE.to_batches()[0],
        TABLE.to_reader(),
        TABLE.to_pydict(),
        OldFrame(TABLE.to_pydict()),
        polars.DataFrame(TABLE.to_pydict()),
        {name: TABLE[name] for name in TABLE.column_names},
    ],
    ids=["dicts", "iterator", "table", "batch", "reader", "columns", "old frame", "polars", "arrow columns"],
)
def test_all_forms_give_the_same_rows(data: Any) -> None:
    found = to_table(data)
    assert found.to_pydict() == TABLE.to_pydict()
    assert found.column_names == TABLE.column_names


def test_values_keep_what_they_are() -> None:
    moment = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    found = to_table(
        {
            "big": [2**63, 1],
            "exact": [decimal.Decimal("1.10"), None],
            "empty": ["", " "],
            "when": [moment, None],
            "day": [datetime.date(2024, 5, 1), None],
            "raw": [b"\xff", b""],
            "nan": [float("nan"), None],
            "matrix": np.arange(4).reshape(2, 2),
        }
    )
    assert found.schema.field("big").type == pa.uint64()
    assert found.schema.field("exact").type == pa.decimal128(3, 2)
    rows = found.to_pylist()
    assert rows[0]["big"] == 2**63
    assert (rows[0]["empty"], rows[1]["empty"]) == ("", " ")
    assert rows[0]["when"] == moment
    assert rows[0]["nan"] != rows[0]["nan"]
    assert rows[1]["nan"] is None
    assert rows[1]["matrix"] == [2, 3]


def test_types_settle() -> None:
    text = pa.array(["a", "b", "a"])
    found = to_table(
        pa.table(
            {
                "view": text.cast(pa.string_view()),
                "ends": pa.compute.run_end_encode(pa.array([1, 1, 2])),
                "codes": text.dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string())),
                "deep": pa.array([["x"], [], None], pa.large_list(pa.string_view())),
            }
        )
    )
    assert found.schema.types == [
        pa.string(), pa.int64(), pa.dictionary(pa.int32(), pa.string()), pa.large_list(pa.string()),
    ]  # fmt: skip
    assert found.to_pydict() == {
        "view": ["a", "b", "a"], "ends": [1, 1, 2], "codes": ["a", "b", "a"], "deep": [["x"], [], None],
    }  # fmt: skip


def test_frames_from_pandas_lose_only_the_unnamed_index() -> None:
    table = pa.table({"a": [1], "__index_level_0__": [7]}).replace_schema_metadata({"pandas": "{}"})
    assert to_table(table).column_names == ["a"]
    assert to_table(table.replace_schema_metadata(None)).column_names == ["a", "__index_level_0__"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("text", "cannot be read from a str"),
        (7, "cannot be read from a int"),
        (np.zeros((2, 2)), "cannot be read from a ndarray"),
        ([{"a": 1}, 5], "row 1 is a int"),
        ([{1: 2}], "row 0 has the column name 1"),
        ({"a": "text"}, "column 'a' is a str"),
        ({"a": [1], "b": [1, 2]}, "1 in 'a', 2 in 'b'"),
        ({"_row": [1]}, "'_row' is used by the store"),
        ({(1, 2): [1]}, r"column name \(1, 2\) is not a string"),
        (pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), "2 columns are named 'a'"),
        ({"\ud800": [1]}, "not valid Unicode"),
    ],
)
def test_what_are_no_rows(data: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        to_table(data)


@pytest.mark.parametrize(
    ("values", "row"),
    [([1, 2, "x", 3, "y"], 2), (["a", b"b\xff", 3], 2), ([1, 2**70], 1), (["a", "\ud800"], 1), ([{"a": 1}, 5], 1)],
)
def test_a_mixed_column_is_told_with_its_first_odd_row(values: list[Any], row: int) -> None:
    for data in ({"fine": values, "odd": values}, [{"odd": value} for value in values]):
        with pytest.raises(SchemaError, match=rf"column '(fine|odd)': row {row} has"):
            to_table(data)


def test_rows_need_not_have_columns() -> None:
    table, images = read_rows(vectors=np.zeros((3, 2)))
    assert (table.num_columns, images) == (0, None)
    table, images = read_rows([{"a": 1}], blobs=[b"x"])
    assert (table.num_rows, images) == (1, [b"x"])
    with pytest.raises(InputError, match="no rows"):
        read_rows()
    with pytest.raises(InputError, match="1 in data, 2 in embeddings"):
        read_rows([{"a": 1}], vectors=np.zeros((2, 2)))
    with pytest.raises(InputError, match="2 in embeddings, 1 in blobs"):
        read_rows(vectors=np.zeros((2, 2)), blobs=[None])


def test_images_are_read_from_anything(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "image.bin"
    path.write_bytes(b"abc")
    found = read_blobs([b"x", None, path, str(path), bytearray(b"y"), Image.new("L", (2, 2))])
    assert found[:5] == [b"x", None, b"abc", b"abc", b"y"]
    assert found[5] is not None
    assert found[5].startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"image of row 1, .*nothing\.png"):
        read_blobs([None, str(tmp_path / "nothing.png")])
    with pytest.raises(InputError, match="row 0 is a int"):
        read_blobs([3])


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ([[1.0, 2.0], [1.0]], "row 1 has a vector of 1 numbers, row 0 one of 2"),
        ([[1.0], 3], "vector of row 1 is a int"),
        ([["a"], ["b"]], "hold <U1"),
        ([1.0, 2.0], r"shape \(2,\)"),
        (np.zeros((2, 0)), r"shape \(2, 0\)"),
        (np.array([[1.0, 0.0], [0.0, np.nan]]), "vector of row 1 has nan"),
        (np.array([[1.0, -np.inf]], dtype=np.float16), "vector of row 0 has -inf"),
        (np.array([[1.0], [1e39]]), "row 1 has 1e[+]39, too large for float32"),
    ],
)
def test_bad_vectors_are_told_by_row(vectors: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_vectors(vectors, dtype=np.dtype(np.float32))


def test_good_vectors_are_not_copied() -> None:
    vectors = np.zeros((20_000, 3), dtype=np.float16)
    assert check_vectors(vectors, rows=20_000) is vectors
    vectors[12_345, 1] = np.nan
    with pytest.raises(InputError, match="row 12345 "):
        check_vectors(vectors)
    with pytest.raises(InputError, match="3 in data, 2 in embeddings"):
        check_vectors([[1, 2], [3, 4]], rows=3)


def test_ids_are_strings_or_whole_numbers() -> None:
    check_ids(pa.chunked_array([["a", "b"]]), "id")
    check_ids(pa.chunked_array([[1, 2]], pa.uint8()), "id")
    for values, said in (
        (["a", None], "row 1 has no id in 'id'"),
        (["a", "", ""], "row 1 has no id"),
        ([None], "row 0"),
    ):
        with pytest.raises(InputError, match=said):
            check_ids(pa.chunked_array([values]), "id")
    with pytest.raises(SchemaError, match="holds double"):
        check_ids(pa.chunked_array([[1.5]]), "id")


def test_vectors_among_the_columns() -> None:
    plain = pa.table({"a": [1, 2], "_embeddings": [[1.0, 2.0], [3.0, 4.0]]})
    fixed = plain.set_column(1, "_embeddings", plain["_embeddings"].cast(pa.list_(pa.float16(), 2)))
    for table in (plain, fixed, fixed.slice(0)):
        rest, vectors = split_embeddings(table)
        assert rest.column_names == ["a"]
        np.testing.assert_array_equal(vectors, [[1, 2], [3, 4]])
    _, second = split_embeddings(fixed.slice(1))
    np.testing.assert_array_equal(second, [[3, 4]])
    assert split_embeddings(rest) == (rest, None)
    with pytest.raises(InputError, match="row 1 has a vector of 1"):
        split_embeddings(pa.table({"_embeddings": [[1.0, 2.0], [3.0]]}))
    with pytest.raises(InputError, match="row 0 has null"):
        split_embeddings(pa.table({"_embeddings": [None, [3.0]]}))
