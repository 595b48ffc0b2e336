"""What a store promises: rows come back as they went in, whole changes, old versions, search by id, condition, word."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnomonic.atlas.row_types import codec_of, settled_type
from gnomonic.atlas.rows import to_table
from gnomonic.atlas.store import Store, open_store
from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError, SchemaError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(tmp_path / "books", unique_id_field="id")
    yield made
    made.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Store]:
    """A store that makes the ids."""
    made = open_store(tmp_path / "plain")
    yield made
    made.close()


def _numbers(store: Store, **options: Any) -> list[int]:
    return [int(row) for batch in store.scan(["_row"], **options) for row in batch.column(0).to_pylist()]


def _rows(store: Store, **options: Any) -> list[dict[str, Any]]:
    return [row for batch in store.scan(**options) for row in batch.to_pylist()]


# -- what there is ----------------------------------------------------------------------------------------------


def test_an_empty_store_answers_everything(plain: Store) -> None:
    assert (plain.version, plain.count(), plain.dim, plain.has_blobs) == (0, 0, None, False)
    assert (plain.schema.names, plain.versions(), _rows(plain), list(plain.vectors())) == ([], [], [], [])
    assert plain.unique_id_field == "id_"
    assert plain.take(np.empty(0, dtype=np.int64)).num_rows == 0
    assert plain.append(pa.table({"a": pa.array([], pa.int64())})) == []
    assert plain.append(pa.table({})) == []
    assert plain.delete(["7"]) == 0
    plain.optimize()
    assert plain.version == 0
    with pytest.raises(DatasetError, match="1 ids are unknown, such as '7'"):
        plain.get(["7"])
    with pytest.raises(DatasetError, match="no version 3"):
        plain.count(3)


def test_made_ids_are_the_numbers_of_the_rows(plain: Store) -> None:
    assert plain.append(pa.table({"a": [1, 2]})) == ["0", "1"]
    assert plain.append(pa.table({}), vectors=np.eye(3)) == ["2", "3", "4"]
    assert plain.schema.names == ["id_", "a"]
    assert plain.delete(["4"]) == 1
    assert plain.append(pa.table({"a": [3]})) == ["5"]
    assert _numbers(plain) == [0, 1, 2, 3, 5]
    with pytest.raises(InputError, match="'id_' has the name of the ids that are made"):
        plain.append(pa.table({"id_": ["x"]}))


def test_a_store_is_found_again(store: Store, tmp_path: Path) -> None:
    store.append(pa.table({"id": [5, 3], "a": ["x", None]}))
    again = open_store(tmp_path / "books", create=False)
    assert again.unique_id_field == "id"
    assert _rows(again) == [{"id": 5, "a": "x"}, {"id": 3, "a": None}]
    again.append(pa.table({"id": [9]}))
    assert store.count() == 3
    with pytest.raises(DatasetError, match="id column 'id', not 'key'"):
        open_store(tmp_path / "books", unique_id_field="key")
    with pytest.raises(DatasetNotFoundError):
        open_store(tmp_path / "nothing", create=False)
    with pytest.raises(InputError, match="float64"):
        open_store(tmp_path / "nothing", vector_dtype="float64")


# -- types ------------------------------------------------------------------------------------------------------

_D = decimal.Decimal
_UTC = datetime.UTC
_TYPES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.bool_(), [True, False]),
    *[(kind, [0, 2**kind.bit_width - 1]) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())],
    *[
        (kind, [-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1])
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    ],
    (pa.float16(), [np.float16(1.5), np.float16("-inf")]),
    (pa.float32(), [1.5, -0.0]),
    (pa.float64(), [0.1, math.inf]),
    (pa.string(), ["", "é日本 🗺"]),
    (pa.large_string(), ["", "x" * 5000]),
    (pa.binary(), [b"", b"\xff\0"]),
    (pa.large_binary(), [b"", b"a"]),
    (pa.binary(4), [b"abcd", b"\0\0\0\0"]),
    (pa.date32(), [datetime.date(1066, 10, 14), datetime.date(9999, 1, 1)]),
    (pa.date64(), [datetime.date(1970, 1, 1), datetime.date(2024, 2, 29)]),
    (pa.time32("s"), [datetime.time(1, 2, 3), datetime.time(0)]),
    (pa.time64("us"), [datetime.time(23, 59, 59, 999_999), datetime.time(0)]),
    (pa.timestamp("s"), [datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1)]),
    (pa.timestamp("us", "UTC"), [datetime.datetime(2024, 1, 1, 1, 1, 1, 7, _UTC)] * 2),
    (pa.timestamp("ms", "Europe/Berlin"), [datetime.datetime(2024, 7, 1, tzinfo=_UTC)] * 2),
    (pa.timestamp("us", "+02:00"), [datetime.datetime(2024, 7, 1, tzinfo=_UTC)] * 2),
    (pa.duration("us"), [datetime.timedelta(days=-3), datetime.timedelta(microseconds=1)]),
    (pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3]), pa.MonthDayNano([-1, 0, 0])]),
    (pa.decimal32(5, 2), [_D("123.45"), _D("-0.01")]),
    (pa.decimal64(12, 3), [_D("123456789.125"), _D("0.000")]),
    (pa.decimal128(38, 10), [_D("1234567890123456789012345678.0000000001"), _D("0E-10")]),
    (pa.decimal256(60, 5), [_D("9" * 55 + ".00001"), _D("-1.00000")]),
    (pa.null(), []),
    (pa.list_(pa.int64()), [[], [1, None]]),
    (pa.large_list(pa.string()), [[""], [None, "x"]]),
    (pa.list_(pa.float32(), 2), [[1.0, 2.0], [None, 0.5]]),
    (pa.list_(pa.list_(pa.int8())), [[[1], None, []], []]),
    (pa.struct([("a", pa.int64()), ("b.c", pa.string())]), [{"a": 1, "b.c": ""}, {"a": None, "b.c": None}]),
    (pa.struct([("n", pa.null())]), [{"n": None}]),
    (pa.struct([]), [{}]),
    (pa.struct([("a", pa.struct([("b", pa.list_(pa.string()))]))]), [{"a": {"b": ["x", None]}}, {"a": None}]),
    (pa.list_(pa.struct([("x", pa.list_(pa.timestamp("us")))])), [[{"x": [datetime.datetime(2024, 1, 1)]}, None], []]),
    (pa.map_(pa.string(), pa.int64()), [[("k", 1), ("l", None)], []]),
    (pa.dictionary(pa.int32(), pa.string()), ["b", "a", "b"]),
    (pa.dictionary(pa.int32(), pa.int64()), [7, 5]),
    (pa.uuid(), [b"0123456789abcdef", b"fedcba9876543210"]),
    (pa.bool8(), [1, 0]),
]


def _column(kind: pa.DataType, values: list[Any], absent: str) -> pa.Array:
    """Sixty values: some null, all null, or null except at the end."""
    cycle = [*values, None] if values else [None]
    found = [cycle[i % len(cycle)] for i in range(60)] if absent == "some" else [None] * 60
    if absent == "first" and values:
        found[-1] = values[0]
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(found, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return pa.array(found, kind.value_type).dictionary_encode()
    return pa.array(found, kind)


@pytest.mark.parametrize("absent", ["some", "all", "first"])
def test_every_type_comes_back(plain: Store, absent: str) -> None:
    columns = {f"c {i}: {kind}": _column(kind, values, absent) for i, (kind, values) in enumerate(_TYPES)}
    table = pa.table(columns)
    for begin, length in ((0, 40), (40, 1), (41, 19)):
        plain.append(table.slice(begin, length))

    def check(found: pa.Table, places: list[int]) -> None:
        for name, kind in zip(table.column_names, table.schema.types, strict=True):
            assert found.schema.field(name).type == kind
            expected = table[name].take(pa.array(places))
            assert found[name].to_pylist() == expected.to_pylist(), name

    assert plain.schema.remove(0) == table.schema
    check(pa.Table.from_batches(plain.scan(batch_rows=25)), list(range(60)))
    check(plain.take(np.array([59, 3, 40, 3])), [59, 3, 40, 3])
    plain.update(plain.take(np.array([7, 41])))
    plain.optimize()
    there = np.argsort(_numbers(plain))
    check(pa.Table.from_batches(plain.scan()).take(pa.array(there)), list(range(60)))


def test_nan_stays_nan_and_null_stays_null(plain: Store) -> None:
    plain.append(pa.table({"a": pa.array([math.nan, None], from_pandas=False)}))
    first, second = plain.take(np.array([0, 1]), ["a"])["a"].to_pylist()
    assert math.isnan(first)
    assert second is None


def test_types_that_settle_are_stored_as_they_settled() -> None:
    for kind in (pa.string_view(), pa.list_view(pa.int8()), pa.dictionary(pa.int8(), pa.list_(pa.int8()))):
        settled = settled_type(kind)
        assert settled == settled_type(settled)
        assert codec_of(settled).kind == settled


_NAMES = ["a.b", 'say "hi"', "`tick`", "größe 日本", "", " ", "c0", "select", "x" * 300, "a/b\\c", "Title", "title"]


def test_any_name_can_be_a_column(plain: Store) -> None:
    plain.append(pa.table({name: [i, None] for i, name in enumerate(_NAMES)}))
    plain.update(pa.table({"id_": ["1"], **{name: [100 + i] for i, name in enumerate(_NAMES)}}))
    assert plain.schema.names == ["id_", *_NAMES]
    assert plain.get(["1"]).to_pylist() == [{"id_": "1", **{name: 100 + i for i, name in enumerate(_NAMES)}}]
    assert plain.get(["0"], ["select", "c0"]).to_pylist() == [{"select": 7, "c0": 6}]
    for i, name in enumerate(_NAMES):
        for quote in '"`':
            condition = f"{quote}{name.replace(quote, quote * 2)}{quote} = {100 + i}"
            np.testing.assert_array_equal(plain.where(condition), [1], err_msg=condition)


# -- columns that come, go and change ---------------------------------------------------------------------------


def test_columns_that_are_missing_or_new(store: Store) -> None:
    store.append(pa.table({"id": ["a"], "x": [1], "later": pa.nulls(1)}))
    store.append(pa.table({"new": [[1, 2]], "id": ["b"], "later": ["now"]}))
    assert store.schema.names == ["id", "x", "later", "new"]
    assert _rows(store) == [
        {"id": "a", "x": 1, "later": None, "new": None}, {"id": "b", "x": None, "later": "now", "new": [1, 2]},
    ]  # fmt: skip
    assert store.schema_at(store.versions()[0].number).names == ["id", "x", "later"]
    assert _rows(store, version=store.versions()[0].number) == [{"id": "a", "x": 1, "later": None}]


@pytest.mark.parametrize(
    ("held", "given", "expected"),
    [
        (pa.array([1.5]), pa.array([2]), 2.0),
        (pa.array([1]), pa.array([2.0]), 2),
        (pa.array([1]), pa.array([3], pa.uint8()), 3),
        (pa.array([1], pa.int8()), pa.array([3]), 3),
        (pa.array([1], pa.float32()), pa.array([0.1]), float(np.float32(0.1))),
        (pa.array(["a"]), pa.array(["b"], pa.large_string()), "b"),
        (pa.array(["a"]), pa.array(["b"]).dictionary_encode(), "b"),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"]), "b"),
        (pa.array([b"a"]), pa.array([b"b"], pa.large_binary()), b"b"),
        (pa.array(["a"]), pa.nulls(1), None),
        (pa.array(["a"]), pa.array([None], pa.int64()), None),
        (pa.array([_D("1.50")]), pa.array([2]), _D("2.00")),
        (pa.array([0], pa.timestamp("us")), pa.array([datetime.date(2024, 1, 2)]), datetime.datetime(2024, 1, 2)),
        (pa.array([0], pa.timestamp("us", "UTC")), pa.array([0], pa.timestamp("s", "Asia/Tokyo")), 0),
        (pa.array([[1.5]]), pa.array([[2]]), [2.0]),
        (pa.array([[1.5]]), pa.array([[]], pa.list_(pa.null())), []),
        (pa.array([{"a": 1, "b": 2.5}]), pa.array([{"a": 2, "b": 3}]), {"a": 2, "b": 3.0}),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_values_that_fit_are_cast(plain: Store, held: pa.Array, given: pa.Array, expected: Any) -> None:
    plain.append(pa.table({"a": held}))
    plain.append(to_table(pa.table({"a": given})))
    found = plain.get(["1"])["a"]
    assert found.type == held.type
    assert (found[0].value if pa.types.is_timestamp(found.type) and expected == 0 else found[0].as_py()) == expected


@pytest.mark.parametrize(
    ("held", "given", "row"),
    [
        (pa.array([1]), pa.array([None, 2.0, 2.5, 3.5]), 2),
        (pa.array([1], pa.int8()), pa.array([1, 127, 128]), 2),
        (pa.array([1], pa.uint8()), pa.array([1, -1]), 1),
        (pa.array([1]), pa.array(["2"]), 0),
        (pa.array(["a"]), pa.array([None, 5]), 1),
        (pa.array([True]), pa.array([1]), 0),
        (pa.array(["a"]), pa.array([b"a"]), 0),
        (pa.array([0], pa.timestamp("us", "UTC")), pa.array([0], pa.timestamp("us")), 0),
        (pa.array([0], pa.date32()), pa.array(["2024-01-01"]), 0),
        (pa.array([_D("1.50")]), pa.array([_D("1.25"), _D("1.255")]), 1),
        (pa.array([[1]]), pa.array([[1], ["a"]][1:]), 0),
        (pa.array([{"a": 1}]), pa.array([{"a": 1, "more": 2}]), 0),
        (pa.array(["a"]).dictionary_encode(), pa.array([1]), 0),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_values_that_do_not_fit_are_told_by_row(plain: Store, held: pa.Array, given: pa.Array, row: int) -> None:
    plain.append(pa.table({"the column": held}))
    version = plain.version
    with pytest.raises(SchemaError, match=rf"column 'the column' holds .*, but row {row} has .*\(.+\)"):
        plain.append(to_table(pa.table({"the column": given})))
    assert (plain.version, plain.count()) == (version, 1)


# -- ids --------------------------------------------------------------------------------------------------------


def test_ids_are_unique(store: Store) -> None:
    assert store.append(pa.table({"id": ["a", "b"], "x": [1, 2]})) == ["a", "b"]
    with pytest.raises(DatasetError, match="1 ids are there already, such as 'b'"):
        store.append(pa.table({"id": ["c", "b"]}))
    with pytest.raises(DatasetError, match="2 ids stand in the data twice, such as 'c', 'c' in row 1"):
        store.append(pa.table({"id": ["c", "c", "c"]}))
    assert store.append(pa.table({"id": ["c", "b", "c"], "x": [3, 4, 5]}), on_conflict="skip") == ["c"]
    assert _rows(store) == [{"id": "a", "x": 1}, {"id": "b", "x": 2}, {"id": "c", "x": 3}]
    with pytest.raises(InputError, match="on_conflict 'merge'"):
        store.append(pa.table({"id": ["z"]}), on_conflict="merge")


def test_replacing_keeps_the_number_and_nothing_else(store: Store) -> None:
    store.append(pa.table({"id": ["a", "b", "c"], "x": [1, 2, 3], "y": [1, 2, 3]}), vectors=np.eye(3))
    table = pa.table({"id": ["d", "b", "b"], "x": [4, 5, 6]})
    assert store.append(table, vectors=np.full((3, 3), 2.0), on_conflict="replace") == ["d", "b"]
    found = {row["id"]: row for row in _rows(store, columns=["id", "_row", "x", "y"])}
    assert found["b"] == {"id": "b", "_row": 1, "x": 6, "y": None}
    assert found["d"]["_row"] == 3
    assert store.count() == 4
    assert store.take(np.array([1]), ["_vector"])["_vector"].to_pylist() == [[2.0, 2.0, 2.0]]


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.uint8(), pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_rows_by_id(store: Store, kind: pa.DataType) -> None:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    ids = pa.array([20, 3, 100]).cast(value).cast(kind)
    store.append(pa.table({"id": ids, "x": [1, 2, 3]}))
    np.testing.assert_array_equal(store.rows_of([100, "20", np.int32(3), 20]), [2, 0, 1, 0])
    assert store.get(ids.to_pylist()[::-1], ["x"])["x"].to_pylist() == [3, 2, 1]
    assert store.get(ids, ["x"])["x"].to_pylist() == [1, 2, 3]
    assert store.get([])["x"].to_pylist() == []
    with pytest.raises(DatasetError, match="2 ids are unknown, such as 'no', 99999999999999999999"):
        store.get([3, "no", 99999999999999999999])
    with pytest.raises(InputError, match=r"id 1\.5 is a float"):
        store.get([1.5])
    with pytest.raises(InputError, match="give a list of ids"):
        store.get("20")
    assert store.delete([3, "no", "it's"]) == 1
    assert _numbers(store) == [0, 2]


def test_many_ids_are_found_as_few_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"row '{i}'" for i in range(50)]
    store.append(pa.table({"id": ids}))
    few = store.rows_of(ids[::-1])
    monkeypatch.setattr("gnomonic.atlas.snapshot._IN_LIST", 3)
    np.testing.assert_array_equal(store.rows_of(ids[::-1]), few)
    np.testing.assert_array_equal(few, np.arange(50)[::-1])


@pytest.mark.parametrize("share", [1, 10**9], ids=["by address", "by reading all"])
def test_rows_by_number(plain: Store, monkeypatch: pytest.MonkeyPatch, share: int) -> None:
    monkeypatch.setattr("gnomonic.atlas.snapshot._SCAN_SHARE", share)
    monkeypatch.setattr("gnomonic.atlas.snapshot._TAKE_ROWS", 3)
    for begin in range(0, 20, 5):
        plain.append(pa.table({"x": range(begin, begin + 5)}))
    plain.delete(["4", "5"])
    plain.optimize()
    wanted = np.array([19, 3, 3, 0, 7])
    found = plain.take(wanted, ["x", "_row", "id_"])
    assert found["x"].to_pylist() == found["_row"].to_pylist() == wanted.tolist()
    assert found.column_names == ["x", "_row", "id_"]
    with pytest.raises(DatasetError, match="2 rows are not there, such as number 4, 99"):
        plain.take(np.array([3, 99, 4]))


# -- changes ----------------------------------------------------------------------------------------------------


def test_updating_changes_the_given_columns_only(store: Store) -> None:
    store.append(pa.table({"id": ["a", "b", "c"], "x": [1, 2, 3], "y": ["p", "q", "r"]}), vectors=np.eye(3))
    assert store.update(pa.table({"x": [30, 10], "new": [True, False], "id": ["c", "a"]})) == 2
    found = sorted(_rows(store, columns=["_row", "id", "x", "y", "new"]), key=lambda row: row["_row"])
    assert found == [
        {"_row": 0, "id": "a", "x": 10, "y": "p", "new": False},
        {"_row": 1, "id": "b", "x": 2, "y": "q", "new": None},
        {"_row": 2, "id": "c", "x": 30, "y": "r", "new": True},
    ]
    assert [len(block) for _, block in store.vectors()] == [3]
    version = store.version
    assert store.update(pa.table({"id": ["a"]})) == 0
    assert store.update(pa.table({"id": pa.array([], pa.string())})) == 0
    with pytest.raises(DatasetError, match="1 ids are unknown, such as 'z'"):
        store.update(pa.table({"id": ["a", "z"], "x": [0, 0]}))
    with pytest.raises(InputError, match="twice"):
        store.update(pa.table({"id": ["a", "a"], "x": [0, 0]}))
    with pytest.raises(InputError, match="'id' is missing"):
        store.update(pa.table({"x": [0]}))
    with pytest.raises(SchemaError, match="column 'x' holds int64"):
        store.update(pa.table({"id": ["a"], "x": ["no"]}))
    assert store.version == version


def test_updating_by_an_index_reaches_rows_that_came_after_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnomonic.atlas.writing._INDEX_ROWS_ABOVE", 2)
    store.append(pa.table({"id": range(5), "x": [0] * 5, "y": range(5)}))
    store.update(pa.table({"id": [3], "x": [1]}))
    store.append(pa.table({"id": range(5, 10), "x": [0] * 5, "y": range(5, 10)}))
    store.delete([0])
    store.update(pa.table({"id": [9, 3, 5], "x": [9, 3, 5]}))
    assert {row["id"]: row["x"] for row in _rows(store)} == {1: 0, 2: 0, 3: 3, 4: 0, 5: 5, 6: 0, 7: 0, 8: 0, 9: 9}
    assert all(row["id"] == row["y"] for row in _rows(store))
    assert sorted(_numbers(store)) == list(range(1, 10))


def test_versions_can_be_read_and_restored(store: Store) -> None:
    store.append(pa.table({"id": ["a", "b"], "x": [1, 2]}))
    store.append(pa.table({"id": ["c"], "y": [3]}))
    store.delete(["a"])
    first, second, third = store.versions()
    assert [version.rows for version in store.versions()] == [2, 3, 2]
    assert datetime.datetime.fromisoformat(first.created).utcoffset() == datetime.timedelta(0)
    assert store.version == third.number
    assert [store.count(version.number) for version in (first, second, third)] == [2, 3, 2]
    assert store.take(np.array([0]), version=first.number).to_pylist() == [{"id": "a", "x": 1}]
    np.testing.assert_array_equal(store.where("x = 1", version=second.number), [0])
    np.testing.assert_array_equal(store.rows_of(["a"], version=first.number), [0])
    with pytest.raises(InputError, match="no column 'y'"):
        store.scan(["y"], version=first.number)
    assert store.restore(first.number) == store.version > third.number
    assert _rows(store) == [{"id": "a", "x": 1}, {"id": "b", "x": 2}]
    store.append(pa.table({"id": ["c"], "y": ["text now"]}))
    assert _numbers(store) == [0, 1, 3]
    assert store.schema.field("y").type == pa.string()
    assert _rows(store, version=second.number)[2] == {"id": "c", "x": None, "y": 3}
    with pytest.raises(DatasetError, match="no version 999"):
        store.restore(999)


def test_optimizing_joins_files_and_forgets_old_versions(store: Store, tmp_path: Path) -> None:
    store.create_full_text([])
    for i in range(8):
        store.append(pa.table({"id": [i], "text": [f"word{i}"]}), vectors=np.eye(8)[i : i + 1])
        if i == 3:
            store.create_full_text(["text"])
    before = _rows(store)
    files = list((tmp_path / "books" / "rows.lance" / "data").iterdir())
    store.optimize(keep_s=0)
    assert _rows(store) == before
    assert len(list((tmp_path / "books" / "rows.lance" / "data").iterdir())) < len(files)
    assert len(store.versions()) == 1
    assert store.versions()[0].number == store.version
    np.testing.assert_array_equal(store.full_text("word7")[0], [7])
    np.testing.assert_array_equal(store.full_text("word1")[0], [1])
    with pytest.raises(DatasetError, match="no version 2 any more"):
        store.count(2)


def test_versions_in_use_outlive_optimizing(store: Store) -> None:
    for i in range(3):
        store.append(pa.table({"id": [i]}))
    kept = [version.number for version in store.versions()]
    store.optimize()
    assert [version.number for version in store.versions()][:3] == kept
    assert [store.count(number) for number in kept] == [1, 2, 3]
    assert [len(_rows(store, version=number)) for number in kept] == [1, 2, 3]


def test_many_small_writes_are_joined_by_themselves(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnomonic.atlas.upkeep._SMALL_WRITES", 4)
    monkeypatch.setattr("gnomonic.atlas.writing._INDEX_IDS_ABOVE", 5)
    for i in range(9):
        store.append(pa.table({"id": [f"n{i}"]}))
    assert _numbers(store) == list(range(9))
    np.testing.assert_array_equal(store.rows_of(["n8", "n0"]), [8, 0])
    assert (tmp_path / "books" / "rows.lance" / "_indices").is_dir()


# -- vectors and images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
def test_vectors_come_back_exactly(plain: Store, dtype: str) -> None:
    given = (np.random.default_rng(0).normal(size=(10, 3)) * 5).astype(dtype)
    plain.append(pa.table({"a": range(10)}), vectors=given)
    assert (plain.dim, plain.vector_dtype) == (3, np.float32)
    ((rows_, found),) = plain.vectors()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, given.astype(np.float32))
    np.testing.assert_array_equal(rows_, np.arange(10))
    assert [block.shape for _, block in plain.vectors(batch_rows=4)] == [(4, 3), (4, 3), (2, 3)]
    (batch,) = plain.scan(["a"], vectors=True)
    assert batch.schema.names == ["a", "_vector"]


def test_half_the_space(tmp_path: Path) -> None:
    store = open_store(tmp_path, vector_dtype="float16")
    store.append(pa.table({}), vectors=np.array([[0.1, 65504.0]]))
    ((_, found),) = store.vectors()
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, np.array([[0.1, 65504.0]], dtype=np.float16))
    with pytest.raises(InputError, match="too large for float16"):
        store.append(pa.table({}), vectors=np.array([[0.1, 70000.0]]))


def test_vectors_from_a_memory_map_are_read_in_blocks(
    plain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnomonic.atlas.row_batches._BLOCK_ROWS", 7)
    given = np.lib.format.open_memmap(tmp_path / "v.npy", mode="w+", dtype=np.float16, shape=(50, 4))
    given[:] = np.arange(200).reshape(50, 4)
    plain.append(pa.table({"x": pa.chunked_array([range(20), range(20, 50)])}), vectors=given)
    found = np.concatenate([block for _, block in plain.vectors(batch_rows=11)])
    np.testing.assert_array_equal(found, given)
    assert [row["x"] for row in _rows(plain)] == list(range(50))


def test_rows_may_lack_vectors(plain: Store) -> None:
    plain.append(pa.table({"a": [1, 2]}))
    plain.append(pa.table({"a": [3]}), vectors=np.ones((1, 2)))
    plain.append(pa.table({"a": [4]}))
    ((there, found),) = plain.vectors()
    assert (there.tolist(), found.tolist()) == ([2], [[1.0, 1.0]])
    plain.put_vectors(np.array([3, 0]), np.array([[5, 6], [7, 8]]))
    pairs = {
        int(row): vector.tolist() for part, block in plain.vectors() for row, vector in zip(part, block, strict=True)
    }
    assert pairs == {0: [7.0, 8.0], 2: [1.0, 1.0], 3: [5.0, 6.0]}
    with pytest.raises(DatasetError, match="3 dimensions, those of the dataset 2"):
        plain.append(pa.table({"a": [5]}), vectors=np.ones((1, 3)))
    with pytest.raises(DatasetError, match="number 77"):
        plain.put_vectors(np.array([77]), np.ones((1, 2)))
    with pytest.raises(InputError, match="row 0 has nan"):
        plain.append(pa.table({"a": [5]}), vectors=np.full((1, 2), np.nan))
    with pytest.raises(InputError, match="2 in data, 1 in embeddings"):
        plain.append(pa.table({"a": [5, 6]}), vectors=np.ones((1, 2)))
    assert plain.count() == 4


def test_images_and_thumbnails(plain: Store) -> None:
    plain.append(pa.table({"a": [1]}))
    assert plain.blobs(np.array([0])) == [None]
    assert not plain.has_blobs
    image = bytes(range(256)) * 400
    plain.append(pa.table({}), blobs=[image, None, b""], thumbs=[b"t", None, None])
    assert plain.has_blobs
    assert plain.blobs(np.array([3, 1, 0, 2, 1])) == [b"", image, None, None, image]
    assert plain.thumbs(np.array([1, 2])) == [b"t", None]
    assert plain.blob("1") == image
    assert "_blob" not in plain.schema.names
    with pytest.raises(DatasetError, match="number 9"):
        plain.blobs(np.array([9]))
    with pytest.raises(InputError, match="2 in data, 1 in blobs"):
        plain.append(pa.table({"a": [1, 2]}), blobs=[b""])


# -- conditions -------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "library")
    store.append(
        pa.table(
            {
                "Title": ["Maps of O'Brien", "the atlas", None, "Éire"],
                "year": [1999, 2001, 2010, None],
                "date": pa.array([datetime.date(2024, 1, day) for day in (1, 2, 3, 4)]),
                "at": pa.array([datetime.datetime(2024, 1, day, tzinfo=_UTC) for day in (1, 2, 3, 4)]),
                "price": pa.array([_D("1.50"), _D("2.50"), None, _D("0.10")]),
                "ok": [True, False, None, True],
                "kind": pa.array(["x", "y", "x", "z"]).dictionary_encode(),
                "words": [["a", "b"], [], None, ["c"]],
                "who": [{"name": "Ann", "age": 3}, {"name": "Bob", "age": 4}, None, {"name": None, "age": 5}],
                "deep": [[[1]], [], None, [[2]]],
                "meta.lang": ["en", "de", "en", "ga"],
            }
        )
    )
    yield store
    store.close()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("year >= 2001", [1, 2]),
        ("YEAR >= 2001 and title is not null", [1]),
        ("year == 1999 OR year != 1999", [0, 1, 2]),
        ("Title LIKE '%O''Brien'", [0]),
        ("lower(Title) = 'éire'", [3]),
        ("Title ILIKE 'THE%'", [1]),
        ("date > date '2024-01-02'", [2, 3]),
        ("CAST(date AS string) = '2024-01-01'", [0]),
        ("date BETWEEN date '2024-01-02' AND date '2024-01-03'", [1, 2]),
        ("at >= timestamp '2024-01-03 00:00:00'", [2, 3]),
        ("at < timestamp '2024-01-02 12:00:00'", [0, 1]),
        ("price > 1", [0, 1]),
        ("ok", [0, 3]),
        ("NOT ok", [1]),
        ("ok IS NULL", [2]),
        ("kind IN ('x', 'z')", [0, 2, 3]),
        ("array_has(words, 'a')", [0]),
        ("who.age > 3 and who.name is not null", [1]),
        ("who['name'] = 'Ann'", [0]),
        ("meta.lang = 'en'", [0, 2]),
        ("\"meta.lang\" = 'ga' and _row > 1", [3]),
        ("id_ = '2'", [2]),
        ("year % 2 = 1 and -year < 0", [0, 1]),
        ("true", [0, 1, 2, 3]),
        ("1 = 2", []),
    ],
)
def test_conditions(library: Store, condition: str, expected: list[int]) -> None:
    np.testing.assert_array_equal(library.where(condition), expected)
    assert library.where(condition).dtype == np.int64


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("", "empty"),
        ("yeer > 3", "names 'yeer', which is no column; did you mean 'year'"),
        ("c1 = 3", "names 'c1'"),
        ("_vector is null", "names '_vector'"),
        ('"nothing" = 1', "names 'nothing'"),
        ("Title = 'open", 'quote at "\'open" is not closed'),
        ("year > ; drop", "';' cannot stand here"),
        ("year >", "cannot be used"),
        ("year = 'old'", "cannot be used: .*'year'|cannot be used"),
        ("year + 1", "boolean"),
        ("year / 0 = 1", "Divide by zero"),
        ("deep IS NULL", "'deep' holds list.*conditions cannot look into it"),
        ("year > 3 limit 5", "names 'limit'"),
        ("year in (select year from _rows)", "names 'select'"),
        ("nofunction(year)", "cannot be used"),
        # The engine nests a level for each operator; thousands of them would overrun its stack and end the process.
        ("year = " + "+".join(["1"] * 9000), "more than 100 operators"),
        ("year IS NULL" + " IS NULL" * 9000, "more than 100 operators"),
        ("year > 1" + " = (year > 1 AND year < 3)" * 3000, "more than 100 operators"),
        ("(" * 40 + "year" + ("+ 1" * 90 + ")") * 40 + " = 1", "more than 100 operators"),
        ("year BETWEEN 1 AND 2" + " BETWEEN 1 AND 2" * 3000, "more than 100 operators"),
    ],
)
def test_conditions_that_cannot_be_used(library: Store, condition: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        library.where(condition)
    assert ".rs:" not in str(caught.value)


# -- words ------------------------------------------------------------------------------------------------------


def test_search_by_words(store: Store) -> None:
    texts = ["a map of Paris", "maps and a map map", None, "", "naïve café", "東京の地図を見る", "nothing here"]
    store.append(pa.table({"id": range(7), "a b": texts, "other": ["Paris"] * 7, "n": range(7)}))
    store.create_full_text(["a b"])
    found, scores = store.full_text("map")
    assert (sorted(found.tolist()), found.dtype, scores.dtype) == ([0, 1], np.int64, np.float32)
    assert scores[0] >= scores[1] > 0
    np.testing.assert_array_equal(store.full_text("MAP PARIS", k=1)[0], [0])
    np.testing.assert_array_equal(store.full_text("cafe")[0], [4])
    np.testing.assert_array_equal(store.full_text("地図")[0], [5])
    # A word that stands there a thousand times costs what it costs once, and of many words the first count.
    np.testing.assert_array_equal(store.full_text("map MAP " * 500)[1], scores)
    others = " ".join(f"w{i}" for i in range(63))
    assert len(store.full_text(f"{others} map")[0]) == 2
    for nothing in ("", "  ", "xyzzy", '" ( * ~ ^', f"{others} w63 map"):
        assert store.full_text(nothing)[0].tolist() == []
    store.append(pa.table({"id": [7, 8], "a b": ["late map", "x"]}))
    store.update(pa.table({"id": [8, 6], "a b": ["zebra", "zebra crossing"]}))
    store.delete([0])
    assert set(store.full_text("map")[0].tolist()) == {1, 7}
    assert set(store.full_text("zebra")[0].tolist()) == {6, 8}
    assert store.full_text("nothing")[0].tolist() == []
    store.create_full_text(["a b", "other"])
    assert len(store.full_text("paris")[0]) == 6
    assert store.full_text("paris", columns=["a b"])[0].tolist() == []
    with pytest.raises(InputError, match="'n' holds int64 and no texts"):
        store.create_full_text(["n"])
    with pytest.raises(InputError, match="no column 'nope'"):
        store.create_full_text(["nope"])
    with pytest.raises(InputError, match="'n' is not indexed"):
        store.full_text("x", columns=["n"])
    with pytest.raises(InputError, match="k 0"):
        store.full_text("x", k=0)


def test_an_index_does_not_outlive_its_version(store: Store) -> None:
    store.append(pa.table({"id": [1], "text": ["word"]}))
    before = store.version
    store.create_full_text(["text"])
    after = store.version
    store.restore(before)
    with pytest.raises(InputError, match="not indexed"):
        store.full_text("word", columns=["text"])
    store.restore(after)
    assert store.full_text("word")[0].tolist() == [0]


# -- reading and writing out ------------------------------------------------------------------------------------


def test_batches_have_the_size_asked_for(plain: Store) -> None:
    for size in (3, 1, 1, 8, 2):
        plain.append(pa.table({"x": range(size)}))
    sizes = [batch.num_rows for batch in plain.scan(["x"], batch_rows=4)]
    assert sizes == [4, 4, 4, 3]
    assert _numbers(plain, batch_rows=4) == list(range(15))
    with pytest.raises(InputError, match="batch_rows 0"):
        plain.scan(batch_rows=0)
    with pytest.raises(InputError, match="no column 'y'; the columns are: 'id_', 'x'"):
        plain.scan(["y"])
    with pytest.raises(InputError, match="no row has a vector"):
        plain.scan(vectors=True)
    with pytest.raises(InputError, match="give a list of names"):
        plain.scan("x")


def test_a_reader_is_not_disturbed(plain: Store) -> None:
    plain.append(pa.table({"x": range(40)}))
    reading = plain.scan(["x"], batch_rows=10)
    next(reading)
    plain.delete([str(i) for i in range(40)])
    plain.append(pa.table({"x": [99]}))
    plain.optimize()
    assert sum(batch.num_rows for batch in reading) == 30


def test_parquet(library: Store, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    library.export_parquet(path)
    assert pq.read_table(path).to_pylist() == _rows(library)
    library.export_parquet(path, ["_row", "year"])
    assert pq.read_table(path).to_pydict() == {"_row": [0, 1, 2, 3], "year": [1999, 2001, 2010, None]}
    with pytest.raises(InputError, match="no column 'nope'"):
        library.export_parquet(path, ["nope"])
    with pytest.raises(DatasetError, match="cannot be written"):
        library.export_parquet(tmp_path / "none" / "out.parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["library", "out.parquet"]
    assert pq.read_table(path).num_rows == 4
