"""What the page of a map asks for, on a map whose rows are known."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError
from gnomonic.server.atlas import api_datasets, api_maps, api_search, api_viewer
from gnomonic.server.atlas.desk import Desk
from tests.server.atlas.desks import MODEL, ask, desk_in, run_jobs, said

_N = 90
_ONE = {"organization": "local", "slug": "books"}
_MAP = {**_ONE, "map_id": "current"}
_KINDS = ("sea storm wind", "apple pie sugar", "stone tower wall")
_DAY = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_ROWS = [
    {
        "key": f"k{i}", "note": f"note {i}", "rank": i,
        "text": f"{_KINDS[i % 3]} {'x' * (i % 7)}", "year": 1990 + i % 30, "kind": _KINDS[i % 3][:5],
        "ok": None if i % 10 == 0 else i % 2 == 0, "day": (_DAY + dt.timedelta(days=i)).isoformat(),
        "big": 2**60 + i, "list": list(range(i)), "price": None if i % 9 == 0 else i / 7,
    }
    for i in range(_N)
]  # fmt: skip


def _filled(root: Path, rows: list[dict[str, Any]]) -> Desk:
    desk = desk_in(root)
    ask(desk, api_datasets.create, {"name": "Books", "unique_id_field": "key", "description": "Many"})
    (root / "rows").write_bytes(json.dumps({"rows": rows}).encode())
    kind = {"content-type": "application/json"}
    ask(desk, api_datasets.append_rows, upload=root / "rows", params=_ONE, headers=kind)
    ask(desk, api_maps.build, {"indexed_field": "text", "model": MODEL}, params=_ONE)
    (done,) = run_jobs(desk)
    assert done.error is None
    return desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return _filled(tmp_path_factory.mktemp("data"), _ROWS)


def _post(desk: Desk, function: Any, body: dict[str, Any] | None = None, **more: Any) -> Any:
    return said(ask(desk, function, body, params=_MAP, **more))


def _map_of(desk: Desk) -> Any:
    return desk.datasets.map_of(desk.datasets.open("local", "books"), "current")


def _rows(desk: Desk) -> list[int]:
    """Return the number of the row at each position."""
    found = _map_of(desk)
    return [int(found.all_ids[int(row)].as_py()[1:]) for row in found.folder.order]


def _chosen(desk: Desk, conditions: dict[str, Any]) -> set[int]:
    """Return the numbers of the rows that pass."""
    answer = ask(desk, api_search.filter_bits, conditions, params=_MAP)
    assert len(bytes(answer.body)) == (_N + 7) // 8
    bits = np.unpackbits(np.frombuffer(bytes(answer.body), np.uint8), bitorder="little")[:_N]
    assert answer.headers["x-gnomonic-count"] == str(int(bits.sum()))
    return set(np.array(_rows(desk))[bits == 1].tolist())


def _where(rule: Any) -> set[int]:
    return {i for i, row in enumerate(_ROWS) if rule(row)}


def test_the_view(desk: Desk) -> None:
    view = _post(desk, api_viewer.view)
    assert view["dataset"]["description"] == "Many"
    assert (view["map"]["rows"], view["map"]["rows_now"], view["map"]["model"]) == (_N, _N, MODEL)
    assert view["text_field"] == "text"
    assert view["can"] == {"semantic": True, "words": True, "image": False, "edit": True, "images": False}
    assert {one["name"]: one["kind"] for one in view["fields"]}["ok"] == "bool"


def test_a_map_of_a_model_that_is_not_here(desk: Desk) -> None:
    elsewhere = desk_in(desk.options.root, sources={"other": "other"}, forced="other")
    assert _post(elsewhere, api_viewer.view)["can"]["semantic"] is False
    for function, body in (
        (api_search.find, {"query": "sea"}), (api_search.find, {"query": "sea", "mode": "hybrid"}),
        (api_search.heat, {"query": "sea"}), (api_search.search, {"query": "sea"}),
    ):  # fmt: skip
        with pytest.raises(InputError, match="made with 'words', which is not served here"):
            _post(elsewhere, function, body)
    assert _post(elsewhere, api_search.find, {"query": "sea", "mode": "words", "k": 3})["hits"]
    elsewhere.datasets.close()


def test_labels_are_of_topics(desk: Desk) -> None:
    topics = {one["id"]: one for one in _post(desk, api_maps.topics)["topics"]}
    labels = _post(desk, api_viewer.labels)["labels"]
    assert labels
    for one in labels:
        topic = topics[one["topic"]]
        assert (one["name"], one["depth"], one["count"]) == (topic["name"], topic["depth"], topic["count"])
        assert one["zoom"] >= 0


def test_rows_by_position(desk: Desk) -> None:
    rows = _rows(desk)
    found = _post(desk, api_viewer.rows_at, {"positions": [5, 0, 5], "longest": 12})["rows"]
    assert [one["position"] for one in found] == [5, 0, 5]
    assert [one["id"] for one in found] == [f"k{rows[5]}", f"k{rows[0]}", f"k{rows[5]}"]
    one, row = found[0], _ROWS[rows[5]]
    assert one["values"]["text"] == row["text"][:12]
    assert one["values"]["big"] == str(row["big"])
    assert one["values"]["year"] == row["year"]
    assert ("text" in one["cut"]) is (len(row["text"]) > 12)
    assert 0 <= one["trust"] <= 1
    place = _map_of(desk).folder.xy[_map_of(desk).folder.order[5]]
    assert [one["x"], one["y"]] == place.tolist()
    some = _post(desk, api_viewer.rows_at, {"positions": [1], "columns": ["year"]})["rows"][0]
    assert some["values"] == {"year": _ROWS[rows[1]]["year"]}
    assert _post(desk, api_viewer.rows_at, {"positions": []}) == {"rows": []}


@pytest.mark.parametrize(
    "bad",
    [
        {}, {"positions": 5}, {"positions": [_N]}, {"positions": [-1]}, {"positions": [1.5]}, {"positions": ["1"]},
        {"positions": [True]}, {"positions": [0] * 1001}, {"positions": [0], "columns": ["no such"]},
        {"positions": [0], "columns": "year"}, {"positions": [0], "longest": -1}, {"positions": [0], "other": 1},
        {"positions": [0], "longest": 1_000_001}, {"positions": [0, 1], "longest": 500_001},
    ],
)  # fmt: skip
def test_positions_that_do_not_do(desk: Desk, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        _post(desk, api_viewer.rows_at, bad)


def test_fields(desk: Desk) -> None:
    for fields, rule in (
        ([{"column": "year", "min": 1995, "max": 2000}], lambda row: 1995 <= row["year"] <= 2000),
        ([{"column": "price", "min": 3}], lambda row: row["price"] is not None and row["price"] >= 3),
        ([{"column": "price", "max": 3, "nulls": True}], lambda row: row["price"] is None or row["price"] <= 3),
        (
            [{"column": "ok", "codes": [1]}, {"column": "year", "max": 2000}],
            lambda row: row["ok"] and row["year"] <= 2000,
        ),
        ([{"column": "ok", "codes": [], "nulls": True}], lambda row: row["ok"] is None),
        ([], lambda row: True),
    ):
        assert _chosen(desk, {"fields": fields}) == _where(rule)
    names = _map_of(desk).arrays.columns.names("kind")
    assert _chosen(desk, {"fields": [{"column": "kind", "codes": [0]}]}) == _where(lambda row: row["kind"] == names[0])


def test_conditions_are_joined_and_turned_around(desk: Desk) -> None:
    both = {"where": "year < 2000", "fields": [{"column": "ok", "codes": [1]}], "ids": ["k4", "k5", "k6", "k70"]}
    assert _chosen(desk, both) == {4, 6}
    assert _chosen(desk, {**both, "invert": True}) == set(range(_N)) - {4, 6}
    assert _chosen(desk, {"invert": True}) == set()
    assert _chosen(desk, {"invert": None, "topics": None, "heat": None}) == set(range(_N))


def test_shapes(desk: Desk) -> None:
    found = _map_of(desk)
    xy, rows = np.asarray(found.folder.xy)[found.folder.order], np.array(_rows(desk))
    (x0, y0), (x1, y1) = np.quantile(xy, [0.2, 0.7], axis=0).tolist()
    inside = set(rows[((xy >= [x0, y0]) & (xy <= [x1, y1])).all(axis=1)].tolist())
    assert inside
    assert _chosen(desk, {"box": [x0, y0, x1, y1]}) == inside
    low, high = xy.min(axis=0).tolist(), xy.max(axis=0).tolist()
    around = [
        [low[0] - 1, low[1] - 1],
        [high[0] + 1, low[1] - 1],
        [high[0] + 1, high[1] + 1],
        [low[0] - 1, high[1] + 1],
    ]
    assert _chosen(desk, {"polygon": around}) == set(range(_N))


def test_heat_as_a_condition(desk: Desk) -> None:
    rows = _rows(desk)
    for query in ({"query": _KINDS[1]}, {"position": rows.index(1)}, {"id": "k1"}):
        scores = np.frombuffer(bytes(ask(desk, api_search.heat, query, params=_MAP).body), "<f2")
        near = _chosen(desk, {"heat": {**query, "at_least": 0.8}})
        assert near == {rows[i] for i in range(_N) if scores[i] >= 0.8}
        assert 1 in near
        assert near <= _where(lambda row: row["kind"] == "apple")


def test_duplicates_as_a_condition(desk: Desk) -> None:
    groups = _post(desk, api_viewer.duplicate_groups, query={"cutoff": "0.02", "limit": "500"})
    rows = _rows(desk)
    assert groups["groups"] == len(groups["page"]) > 0
    assert groups["rows"] - groups["groups"] == groups["deletable"] > 0
    dropped = {rows[at] for group in groups["page"] for at in group["positions"] if at != group["keep"]}
    assert _chosen(desk, {"duplicates": {"cutoff": 0.02}}) == dropped
    for group in groups["page"]:
        assert rows[group["keep"]] == min(rows[at] for at in group["positions"])
        assert group["positions"][0] == group["keep"]
        assert len(group["positions"]) == group["size"]
    sizes = [group["size"] for group in groups["page"]]
    assert sizes == sorted(sizes, reverse=True)
    some = _post(desk, api_viewer.duplicate_groups, query={"cutoff": "0.02", "limit": "1", "offset": "1"})
    assert some["page"] == groups["page"][1:2]
    newest = _post(desk, api_viewer.duplicate_groups, query={"cutoff": "0.02", "keep": "newest", "by": "rank"})
    assert all(rows[one["keep"]] == max(rows[at] for at in one["positions"]) for one in newest["page"])
    longest = _post(desk, api_viewer.duplicate_groups, query={"cutoff": "0.2", "keep": "longest"})
    for one in longest["page"]:
        length = [len(_ROWS[rows[at]]["text"]) for at in one["positions"]]
        assert length[0] == max(length)
    assert _post(desk, api_viewer.duplicate_groups)["cutoff"] == 0.1


@pytest.mark.parametrize(
    "bad",
    [
        {"cutoff": "x"}, {"cutoff": "-0.1"}, {"cutoff": "1.1"}, {"cutoff": "nan"}, {"cutoff": "inf"}, {"keep": "last"},
        {"keep": "longest", "by": "year"}, {"keep": "newest", "by": "kind"}, {"keep": "newest", "by": "zzz"},
        {"keep": "newest"}, {"offset": "-1"}, {"limit": "501"}, {"limit": "x"},
    ],
)  # fmt: skip
def test_groups_that_do_not_do(desk: Desk, bad: dict[str, str]) -> None:
    with pytest.raises(InputError):
        _post(desk, api_viewer.duplicate_groups, query=bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"fields": 5}, {"fields": [5]}, {"fields": [{}]}, {"fields": [{"column": "zzz"}]},
        {"fields": [{"column": "note"}]},
        {"fields": [{"column": "year", "min": "1"}]}, {"fields": [{"column": "year", "min": True}]},
        {"fields": [{"column": "year", "codes": [1]}]}, {"fields": [{"column": "kind", "min": 1}]},
        {"fields": [{"column": "kind", "codes": [99]}]}, {"fields": [{"column": "kind", "codes": ["a"]}]},
        {"fields": [{"column": "kind", "codes": 1}]}, {"fields": [{"column": "ok", "nulls": 1}]},
        {"fields": [{"column": "ok", "x": 1}]}, {"fields": [{"column": "ok"}] * 201},
        {"polygon": [[0, 0], [1, 1]]}, {"polygon": 5}, {"polygon": [[0, 0], [1, 1], [2, "a"]]}, {"box": [1, 2, 3]},
        {"box": {}}, {"heat": {}}, {"heat": 5}, {"heat": {"query": "a"}}, {"heat": {"at_least": 1}},
        {"heat": {"query": "a", "position": 1, "at_least": 0}}, {"heat": {"position": _N, "at_least": 0}},
        {"heat": {"position": -1, "at_least": 0}}, {"heat": {"query": "a", "at_least": "0"}},
        {"duplicates": {"cutoff": 2}}, {"duplicates": {"cutoff": -1}}, {"duplicates": {"keep": "x"}},
        {"duplicates": []},
        {"duplicates": {"cutoff": "x"}}, {"invert": 1}, {"topics": [9999]}, {"topics": [-1]}, {"topics": ["no such"]},
        {"bits": base64.b64encode(b"x").decode()}, {"bits": "x!"}, {"bits": base64.b64encode(bytes(13)).decode()},
        {"where": "zzz = 1"}, {"where": ""}, {"unknown": 1}, {"heat": {"image": "aGk=", "at_least": 0}},
    ],
    ids=str,
)  # fmt: skip
def test_conditions_that_do_not_do(desk: Desk, bad: dict[str, Any]) -> None:
    for function, more in ((api_search.filter_bits, {}), (api_viewer.counts, {"columns": ["year"]})):
        with pytest.raises(InputError):
            _post(desk, function, {**bad, **more})


@pytest.mark.parametrize(
    "body", [b'{"box": [0, 0, NaN, 1]}', b'{"box": [0, 0, 1e999, 1]}', b'{"polygon": [[1e999, 0]]}']
)
def test_numbers_that_are_none(desk: Desk, body: bytes) -> None:
    with pytest.raises(InputError):
        ask(desk, api_search.filter_bits, body, params=_MAP)


def test_find(desk: Desk) -> None:
    rows = _rows(desk)
    stone = _where(lambda row: row["kind"] == "stone")
    for body in (
        {"query": "stone tower"}, {"mode": "words", "query": "tower"}, {"mode": "hybrid", "query": "stone tower"},
        {"mode": "like", "position": rows.index(2)},
    ):  # fmt: skip
        answer = _post(desk, api_search.find, {**body, "k": 6})
        found = [rows[one["position"]] for one in answer["hits"]]
        assert len(found) == len(set(found)) == 6
        assert set(found) <= stone
        assert (2 in found) is False or body.get("mode") != "like"
        scores = [one["score"] for one in answer["hits"]]
        assert scores == sorted(scores, reverse=True)
        assert answer["ms"] > 0
        some = _post(desk, api_search.find, {**body, "k": 6, "ids": ["k5", "k8", "k11"]})["hits"]
        assert {rows[one["position"]] for one in some} == {5, 8, 11}
    (one,) = _post(desk, api_search.find, {"mode": "id", "query": " k7 "})["hits"]
    assert rows[one["position"]] == 7
    assert _post(desk, api_search.find, {"mode": "id", "query": "k7", "ids": ["k8"]})["hits"] == []
    assert _post(desk, api_search.find, {"mode": "id", "query": "nobody"})["hits"] == []
    assert len(_post(desk, api_search.find, {"query": "sea"})["hits"]) == 50


@pytest.mark.parametrize(
    "bad",
    [
        {}, {"mode": "x", "query": "a"}, {"mode": "like", "query": "a"}, {"mode": "like"}, {"position": 1},
        {"mode": "like", "position": _N}, {"query": "a", "position": 1}, {"query": 5}, {"query": "a", "k": 0},
        {"query": "a", "k": 1001}, {"mode": "image", "image": "aGk="}, {"mode": "image", "image": 5},
        {"query": "a", "x": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_found(desk: Desk, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        _post(desk, api_search.find, bad)


def test_search_and_export_take_all_conditions(desk: Desk) -> None:
    conditions = {"fields": [{"column": "year", "max": 1992}], "invert": False}
    rows = said(ask(desk, api_search.search, {"query": "sea", "k": 90, **conditions}, params=_MAP))["rows"]
    assert {int(row["key"][1:]) for row in rows} == _where(lambda row: row["year"] <= 1992)
    answer: Any = ask(desk, api_search.export, {**conditions, "format": "ids"}, params=_MAP)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    lines = b"".join(_streamed(answer)).decode().splitlines()
    assert lines == [f"k{i}" for i in sorted(_where(lambda row: row["year"] <= 1992))]


def _streamed(answer: Any) -> list[bytes]:
    import asyncio

    async def read() -> list[bytes]:
        return [part async for part in answer.body_iterator]

    return asyncio.run(read())


def test_counts(desk: Desk) -> None:
    answer = _post(
        desk, api_viewer.counts, {"columns": ["year", "kind", "ok"], "fields": [{"column": "year", "max": 1999}]}
    )
    chosen = [row for row in _ROWS if row["year"] <= 1999]
    assert answer["total"] == len(chosen)
    assert answer["counts"]["year"] == {"bins": [3] * 10 + [0] * 20, "nulls": 0}
    ok = [row["ok"] for row in chosen]
    assert answer["counts"]["ok"] == {"bins": [ok.count(False), ok.count(True)], "nulls": ok.count(None)}
    names = _map_of(desk).arrays.columns.names("kind")
    told = dict(zip(answer["counts"]["kind"]["codes"], answer["counts"]["kind"]["counts"], strict=True))
    kinds = [row["kind"] for row in chosen]
    assert {names[code]: count for code, count in told.items()} == {kind: kinds.count(kind) for kind in set(kinds)}
    for bad in ({}, {"columns": "year"}, {"columns": ["zzz"]}, {"columns": ["note"]}, {"columns": ["year"] * 501}):
        with pytest.raises(InputError):
            _post(desk, api_viewer.counts, bad)


def test_an_explanation(desk: Desk) -> None:
    rows = _rows(desk)
    names = _map_of(desk).arrays.columns.names("kind")
    sea = {"fields": [{"column": "kind", "codes": [names.index("sea s")]}]}
    answer = _post(desk, api_viewer.explain, sea)
    assert answer["count"] == 30
    said_words = " ".join(one["phrase"] for one in answer["words"])
    assert "storm" in said_words
    assert "apple" not in said_words
    assert ("kind", "sea s") in {(one["column"], one["value"]) for one in answer["fields"]}
    assert not any(one["column"].startswith("_topic") for one in answer["fields"])
    inside = _where(lambda row: row["kind"] == "sea s")
    assert {rows[at] for at in (*answer["exemplars"], *answer["outliers"])} <= inside
    assert len(answer["exemplars"]) == 8
    top = [one for one in answer["topics"] if one["depth"] == 1]
    assert sum(one["count"] for one in top) <= 30
    for conditions in ({}, {"ids": []}, {"ids": ["k1"]}):
        again = _post(desk, api_viewer.explain, conditions)
        assert len(again["exemplars"]) == min(8, again["count"])


def test_tags_tell_what_they_changed(desk: Desk) -> None:
    rows = np.array(_rows(desk))

    def changed(answer: dict[str, Any]) -> set[int]:
        raw = np.frombuffer(base64.b64decode(answer["changed"]), np.uint8)
        return set(rows[np.unpackbits(raw, count=_N, bitorder="little") == 1].tolist())

    first = _post(desk, api_viewer.tag_rows, {"name": "good", "ids": ["k1", "k2"]})
    second = _post(desk, api_viewer.tag_rows, {"name": "good", "ids": ["k2", "k3"]})
    assert (first["rows"], changed(first), second["rows"], changed(second)) == (2, {1, 2}, 3, {3})
    assert _chosen(desk, {"tags": ["good"]}) == {1, 2, 3}
    undone = _post(desk, api_viewer.tag_rows, {"name": "good", "bits": second["changed"], "remove": True})
    assert (undone["rows"], changed(undone)) == (2, {3})
    none = _post(desk, api_viewer.tag_rows, {"name": "good", "ids": ["k50"], "remove": True})
    assert (none["rows"], changed(none)) == (2, set())
    for bad in ({"ids": []}, {"name": " "}, {"name": "a\nb"}, {"name": "x" * 201}, {"name": "x", "remove": 1}):
        with pytest.raises(InputError):
            _post(desk, api_viewer.tag_rows, bad)
    with pytest.raises(DatasetError):
        _post(desk, api_viewer.tag_rows, {"name": "unknown", "remove": True})
    ask(desk, api_maps.remove_tag, {"name": "good"}, params=_ONE)


def test_long_texts_are_explained_a_few_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    store, read = _map_of(desk).dataset.store, []
    take = store.take

    def spy(rows: Any, columns: Any = None, **more: Any) -> Any:
        read.append(len(rows))
        return take(rows, columns, **more)

    monkeypatch.setattr(store, "take", spy)
    monkeypatch.setattr("gnomonic.server.atlas.row_values._BLOCK_BYTES", 200)
    assert _post(desk, api_viewer.explain, {"where": "year < 2000"})["words"]
    assert max(read) <= 10


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_export_has_columns(desk: Desk, form: str) -> None:
    with pytest.raises(InputError, match="columns is an empty list; name one at least"):
        ask(desk, api_search.export, {"columns": [], "format": form}, params=_MAP)


def test_an_export_is_of_the_rows_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = _filled(tmp_path, _ROWS[:30])
    monkeypatch.setattr(api_search, "_BLOCK_ROWS", 10)
    answer: Any = ask(desk, api_search.export, {"format": "jsonl"}, params=_MAP)
    gone = {"ids": [f"k{i}" for i in range(30)]}
    ask(desk, api_datasets.delete_rows, gone, params=_ONE, query={"update_maps": "false"})

    async def body() -> bytes:
        return b"".join([piece async for piece in answer.body_iterator])

    assert len(asyncio.run(body()).splitlines()) == 30


def test_rows_that_are_gone(tmp_path: Path) -> None:
    desk = _filled(tmp_path, _ROWS[:30])
    rows = _rows(desk)
    ask(desk, api_datasets.delete_rows, {"ids": ["k4"]}, params=_ONE, query={"update_maps": "false"})
    at = rows.index(4)
    found = _post(desk, api_viewer.rows_at, {"positions": [at, (at + 1) % 30]})["rows"]
    assert found[0] is None
    assert found[1]["id"] == f"k{rows[(at + 1) % 30]}"
    for conditions in ({}, {"invert": True, "ids": ["k5"]}, {"fields": [{"column": "year", "min": 0}]}):
        bits = bytes(ask(desk, api_search.filter_bits, conditions, params=_MAP).body)
        assert not bits[at // 8] & (1 << at % 8)
    assert _post(desk, api_viewer.counts, {"columns": ["year"]})["total"] == 29
    assert _post(desk, api_viewer.view)["map"]["rows_now"] == 29
    assert _post(desk, api_viewer.explain, {"where": "year < 2000"})["count"] == 9
    tagged = _post(desk, api_viewer.tag_rows, {"name": "all"})
    assert tagged["rows"] == 29
    hits = _post(desk, api_search.find, {"query": "apple pie", "k": 100})["hits"]
    assert at not in {one["position"] for one in hits}
    groups = _post(desk, api_viewer.duplicate_groups, query={"cutoff": "0.05"})
    assert not any(at in group["positions"] for group in groups["page"])
    heat = np.frombuffer(bytes(ask(desk, api_search.heat, {"query": "sea"}, params=_MAP).body), "<f2")
    assert np.isnan(heat[at])


def test_files_are_not_sent_twice(desk: Desk) -> None:
    answer: Any = ask(desk, api_maps.file, params={**_MAP, "path": "columns.json"})
    etag = answer.headers["etag"]
    for known, status in ((etag, 304), (f'W/{etag}, "x"', 304), ("*", 304), ('"x"', 200), ("", 200)):
        again = ask(desk, api_maps.file, params={**_MAP, "path": "columns.json"}, headers={"if-none-match": known})
        assert again.status_code == status
        assert again.headers["etag"] == etag
    assert bytes(answer.body).startswith(b"{")
    with pytest.raises(DatasetNotFoundError):
        ask(desk, api_maps.file, params={**_MAP, "path": "nothing.json"}, headers={"if-none-match": "*"})


def test_all_of_it_is_of_ones_own_datasets(desk: Desk) -> None:
    for function in (
        api_viewer.view, api_viewer.labels, api_viewer.rows_at, api_viewer.counts, api_viewer.explain,
        api_viewer.tag_rows, api_viewer.duplicate_groups, api_search.find,
    ):  # fmt: skip
        with pytest.raises(DatasetNotFoundError):
            ask(desk, function, {}, params={**_MAP, "organization": "others"}, organization="others")


@pytest.mark.parametrize("vectors", [[[1, 2]], [[1, 2]] * 3, [[0, 0], [0, 0]]])
def test_maps_of_few_or_equal_rows(tmp_path: Path, vectors: list[list[float]]) -> None:
    desk = desk_in(tmp_path)
    ask(desk, api_datasets.create, {"name": "Books"})
    rows = [{"a": i} for i in range(len(vectors))]
    (tmp_path / "rows").write_bytes(json.dumps({"rows": rows, "embeddings": vectors}).encode())
    ask(desk, api_datasets.append_rows, upload=tmp_path / "rows", params=_ONE, headers={})
    ask(desk, api_maps.build, {}, params=_ONE)
    run_jobs(desk)
    for gone in (False, True):
        if gone:
            ids = [str(i) for i in range(len(vectors))]
            ask(desk, api_datasets.delete_rows, {"ids": ids}, params=_ONE, query={"update_maps": "false"})
        there = 0 if gone else len(vectors)
        assert _post(desk, api_viewer.view)["map"]["rows_now"] == there
        _post(desk, api_viewer.labels)
        everywhere = [[-1e9, -1e9], [1e9, -1e9], [1e9, 1e9], [-1e9, 1e9]]
        answer = ask(desk, api_search.filter_bits, {"polygon": everywhere}, params=_MAP)
        assert answer.headers["x-gnomonic-count"] == str(there)
        told = _post(desk, api_viewer.explain, {})
        assert (told["count"], len(told["exemplars"]), told["words"]) == (there, there, [])
        groups = _post(desk, api_viewer.duplicate_groups)
        assert (groups["rows"], groups["deletable"]) == ((there, there - 1) if there > 1 else (0, 0))
        counted = _post(desk, api_viewer.counts, {"columns": ["a", "_trust"]})
        assert counted["total"] == sum(counted["counts"]["a"]["bins"]) == there
        heat = ask(desk, api_search.heat, {"position": 0, "dtype": "uint8"}, params=_MAP)
        assert len(bytes(heat.body)) == len(vectors)
        hits = _post(desk, api_search.find, {"mode": "like", "position": 0})["hits"]
        assert len(hits) == max(0, there - 1)
        found = _post(desk, api_viewer.rows_at, {"positions": [0]})["rows"]
        assert (found == [None]) is gone
