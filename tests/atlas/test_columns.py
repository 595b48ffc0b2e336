"""Columns beside the tiles: what goes in comes out, of every type, under any name."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math

import numpy as np
import pyarrow as pa
import pytest

from gnomonic.atlas.columns import (
    ColumnInfo,
    read_column_tile,
    read_columns_index,
    read_dictionary,
    write_column,
    write_columns_index,
)
from gnomonic.atlas.tiles import read_manifest, write_tiles
from gnomonic.errors import DatasetError, InputError


@pytest.fixture
def place(tmp_path):
    """Return a function that makes a map of n points, of several tiles from 8 points on."""

    def make(n):
        random = np.random.default_rng(n)
        write_tiles(tmp_path, random.normal(size=(n, 2)).astype(np.float32), tile_points=8)
        return tmp_path, read_manifest(tmp_path)

    return make


def _stored(folder, manifest, info):
    return np.concatenate([read_column_tile(folder, info, tile) for tile in manifest.tiles])


def _write(place, values, name="a column"):
    folder, manifest = place(len(values))
    info = write_column(folder, name, values, manifest)
    stored = _stored(folder, manifest, info) if info.dtype else None
    return folder, info, stored


UTC = dt.UTC
_2024 = dt.datetime(2024, 5, 6, 7, 8, 9, 125_000, tzinfo=UTC)

# Values, kind, type of the files, what is stored.
_NUMBERS = {
    "int8": (pa.array([3, None, -4] * 9, pa.int8()), "integer", "f32", [3, math.nan, -4] * 9),
    "uint8": (pa.array([200, 7], pa.uint8()), "integer", "f32", [200, 7]),
    "int64": (pa.array([2**40, None, -1]), "integer", "f64", [2**40, math.nan, -1]),
    "int64, beyond exact": (pa.array([2**60, -(2**63)]), "number", "f64", [2.0**60, -(2.0**63)]),
    "uint64": (pa.array([2**64 - 1, 0], pa.uint64()), "number", "f64", [2.0**64, 0]),
    "float16": (pa.array(np.array([0.5, -2], np.float16)), "number", "f32", [0.5, -2]),
    "float32": (pa.array([0.1, None, 7], pa.float32()), "number", "f32", [np.float32(0.1), math.nan, 7]),
    "float64": (pa.array([0.1, math.nan, -7]), "number", "f32", [np.float32(0.1), math.nan, -7]),
    "float64, huge": (pa.array([1e300, -1e300]), "number", "f64", [1e300, -1e300]),
    "float64, fine": (pa.array([1.7e9 + 1, 1.7e9 + 2]), "number", "f64", [1.7e9 + 1, 1.7e9 + 2]),
    "float64, infinite": (pa.array([math.inf, 1.0, -math.inf]), "number", "f32", [math.inf, 1, -math.inf]),
    "decimal": (pa.array([decimal.Decimal("1.25"), None]), "number", "f32", [1.25, math.nan]),
    "duration": (pa.array([1500, None], pa.duration("ms")), "number", "f32", [1.5, math.nan]),
    "time32": (pa.array([dt.time(0, 1), None], pa.time32("s")), "number", "f32", [60, math.nan]),
    "time64": (pa.array([dt.time(0, 0, 1, 500_000)], pa.time64("us")), "number", "f32", [1.5]),
    "date32": (pa.array([dt.date(1970, 1, 3), None]), "date", "f64", [2 * 86_400_000, math.nan]),
    "date64": (pa.array([dt.date(1969, 12, 31)], pa.date64()), "date", "f64", [-86_400_000]),
    "timestamp": (pa.array([_2024, None], pa.timestamp("us", "Asia/Tokyo")), "date", "f64", [1714979289125, math.nan]),
    "timestamp, ns": (pa.array([1_500_000], pa.timestamp("ns")), "date", "f64", [1.5]),
    "timestamp, s": (pa.array([-3], pa.timestamp("s")), "date", "f64", [-3000]),
    "only nulls": (pa.array([None, None], pa.float64()), "number", "f32", [math.nan, math.nan]),
    "none": (pa.array([], pa.int64()), "integer", "f32", []),
    "bool": (pa.array([True, None, False]), "bool", "u8", [1, 255, 0]),
}  # fmt: skip


@pytest.mark.parametrize("name", _NUMBERS)
def test_numbers_of_every_type_are_stored(place, name) -> None:
    values, kind, dtype, expected = _NUMBERS[name]
    _, info, stored = _write(place, values)
    assert (info.kind, info.dtype) == (kind, dtype)
    assert info.nulls == sum(value is None or value != value for value in values.to_pylist())
    np.testing.assert_array_equal(stored, np.array(expected, dtype=stored.dtype))


def test_a_chunked_column_is_one_column(place) -> None:
    values = pa.chunked_array([["a", "b"], [], ["a", None, "c"]], type=pa.string())
    folder, info, stored = _write(place, values)
    assert stored.tolist() == [0, 1, 0, 255, 2]
    assert read_dictionary(folder, info) == (("a", "b", "c"), (2, 1, 1))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_categories_are_codes_by_falling_count(place, kind) -> None:
    texts = ["é", "", None, "b", "", "é", "", "東京 😀"] * 3
    folder, info, stored = _write(place, pa.array(texts, pa.string()).cast(kind))
    assert (info.kind, info.dtype, info.null_code, info.distinct, info.nulls) == ("category", "u8", 255, 4, 3)
    names, counts = read_dictionary(folder, info)
    assert names == ("", "é", "b", "東京 😀")
    assert counts == (9, 6, 3, 3)
    assert [None if code == 255 else names[code] for code in stored] == texts


@pytest.mark.parametrize(("distinct", "dtype"), [(255, "u8"), (256, "u16"), (65_535, "u16"), (65_540, "u32")])
def test_codes_are_as_wide_as_they_must_be(tmp_path, distinct, dtype) -> None:
    write_tiles(tmp_path, np.zeros((2 * distinct + 1, 2), dtype=np.float32), tile_points=300_000)
    manifest = read_manifest(tmp_path)
    texts = [f"{i:06d}" for i in range(distinct)] * 2 + [None]
    info = write_column(tmp_path, "c", pa.array(texts), manifest)
    assert (info.dtype, info.distinct) == (dtype, distinct)
    assert info.null_code == 2 ** int(dtype[1:]) - 1
    stored = _stored(tmp_path, manifest, info)
    assert stored[-1] == info.null_code
    assert stored[:distinct].tolist() == list(range(distinct))
    assert len(read_dictionary(tmp_path, info)[0]) == min(distinct, 65_535)


def test_free_text_ids_and_nested_values_have_no_files(place) -> None:
    folder, manifest = place(200)
    columns = {
        "id": (pa.array([f"row-{i}" for i in range(200)]), "text"),
        "article": (pa.array(["word " * 200] * 200), "text"),
        "list": (pa.array([[i] for i in range(200)]), "other"),
        "struct": (pa.array([{"a": i} for i in range(200)]), "other"),
        "bytes": (pa.array([b"x"] * 200), "other"),
        "null": (pa.nulls(200), "other"),
    }
    for name, (values, kind) in columns.items():
        info = write_column(folder, name, values, manifest)
        assert (info.kind, info.dtype) == (kind, None), name
        with pytest.raises(DatasetError, match="has no files"):
            read_column_tile(folder, info, manifest.tiles[0])
    assert not (folder / "columns").exists()


def test_a_few_different_strings_are_categories_even_on_a_small_map(place) -> None:
    _, info, _ = _write(place, pa.array([f"name {i}" for i in range(14)]))
    assert info.kind == "category"


def test_spread_is_told(place) -> None:
    _, info, _ = _write(place, pa.array([3, 5, 5, None]))
    assert (info.minimum, info.maximum, info.histogram) == (3, 5, (1, 0, 2))
    _, info, _ = _write(place, pa.array([0.0, 64.0, 63.99, 0.5, math.inf, math.nan]))
    assert (info.minimum, info.maximum, info.nulls) == (0, 64, 1)
    assert info.histogram == (2, *[0] * 62, 2)
    _, info, _ = _write(place, pa.array([1.7e308, -1.7e308]))
    assert info.histogram == (1, *[0] * 62, 1)
    _, info, _ = _write(place, pa.array([2.5, 2.5]))
    assert sum(info.histogram) == 2
    _, info, _ = _write(place, pa.array([True, False, True, None]))
    assert info.histogram == (1, 2)


_NAMES = [
    "plain", "a.b.c", "with \"quotes\" and 'more'", "../../etc/passwd", "a/b\\c", "東京 😀", "x" * 300, "", ".", "CON",
    "Plain", "PLAIN", "new\nline\u2028\x00",
]  # fmt: skip


def test_any_name_works_and_comes_back(place) -> None:
    folder, manifest = place(20)
    infos = [write_column(folder, name, pa.array([i] * 20), manifest) for i, name in enumerate(_NAMES)]
    write_columns_index(folder, infos)
    found = read_columns_index(folder)
    assert found == {info.name: info for info in infos}
    assert list(found) == _NAMES
    assert len({info.id.lower() for info in infos}) == len(_NAMES)
    for value, name in enumerate(_NAMES):
        assert set(_stored(folder, manifest, found[name])) == {value}
    outside = [path for path in folder.rglob("*.bin") if path.relative_to(folder).parts[0] not in {"tiles", "columns"}]
    assert outside == []
    assert {len(path.parts) for path in (folder / "columns").rglob("0.bin")} == {len(folder.parts) + 5}


def test_the_index_is_plain_json(place) -> None:
    folder, manifest = place(3)
    values = pa.array([math.inf, math.nan, None])
    write_columns_index(folder, [write_column(folder, "n", values, manifest)])

    def refuse(constant):
        raise AssertionError(constant)

    told = json.loads((folder / "columns.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert told["format"] == "gnomonic-columns-1"
    assert told["columns"][0]["minimum"] is None


def test_a_later_versions_fields_are_passed_over(place) -> None:
    folder, manifest = place(3)
    info = write_column(folder, "n", pa.array([1, 2, 3]), manifest)
    write_columns_index(folder, [info])
    path = folder / "columns.json"
    told = json.loads(path.read_text())
    told["columns"][0]["unit"] = "m"
    path.write_text(json.dumps(told))
    assert read_columns_index(folder) == {"n": info}


def test_a_wrong_number_of_values_is_refused(place) -> None:
    folder, manifest = place(3)
    with pytest.raises(InputError, match="has 2 values and the map 3 points"):
        write_column(folder, "n", pa.array([1, 2]), manifest)


def test_damaged_files_are_named(place) -> None:
    folder, manifest = place(20)
    info = write_column(folder, "n", pa.array(["a", "b"] * 10), manifest)
    target = folder / "columns" / info.id
    (target / "0/0/0.bin").write_bytes(b"\x00")
    with pytest.raises(DatasetError, match=r"0\.bin cannot be read: it has 1 bytes"):
        read_column_tile(folder, info, manifest.tiles[0])
    (target / "0/0/0.bin").unlink()
    with pytest.raises(DatasetError, match=r"0\.bin cannot be read"):
        read_column_tile(folder, info, manifest.tiles[0])
    (target / "dictionary.json").write_text('{"names": ["a"], "counts": []}')
    with pytest.raises(DatasetError, match=r"dictionary\.json cannot be read"):
        read_dictionary(folder, info)
    with pytest.raises(DatasetError, match=r"only a category"):
        read_dictionary(folder, ColumnInfo(name="n", id="n", kind="bool"))
    for text in ("", "[]", '{"format": "gnomonic-columns-9", "columns": []}', '{"format": "", "columns": [3]}'):
        (folder / "columns.json").write_text(text)
        with pytest.raises(DatasetError, match=r"columns\.json cannot be read"):
            read_columns_index(folder)
