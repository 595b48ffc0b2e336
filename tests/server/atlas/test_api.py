"""Our own API, route by route."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError, SchemaError
from gnomonic.server.atlas import api_datasets, api_maps, api_search
from gnomonic.server.atlas.call import ARROW_STREAM
from gnomonic.server.atlas.desk import Desk
from tests.server.atlas.desks import MODEL, ask, desk_in, run_jobs, said

_N = 60
_ONE = {"organization": "local", "slug": "books"}
_KINDS = ("sea storm", "apple pie", "stone tower")


def _rows(n: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"key": i, "text": f"{_KINDS[i % 3]} {i % 5}", "year": 1990 + i} for i in range(first, first + n)]


def _append(desk: Desk, body: bytes | dict[str, Any], path: Path, kind: str = "application/json", **more: Any) -> Any:
    import json

    path.write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
    return ask(desk, api_datasets.append_rows, upload=path, params=_ONE, headers={"content-type": kind}, **more)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """With one dataset "books", of 60 rows, and its map."""
    desk = desk_in(tmp_path_factory.mktemp("data"))
    assert ask(desk, api_datasets.create, {"name": "Books", "unique_id_field": "key"}).status_code == 201
    _append(desk, {"rows": _rows(_N)}, desk.options.root / "rows")
    job = said(ask(desk, api_maps.build, {"indexed_field": "text", "model": MODEL}, params=_ONE))
    assert (job["state"], job["indexed_field"]) == ("waiting", "text")
    (done,) = run_jobs(desk)
    assert (done.state, done.error, done.map_id) == ("completed", None, job["map_id"])
    return desk


def _map(**more: str) -> dict[str, str]:
    return {**_ONE, "map_id": "current", **more}


def _ids(desk: Desk) -> list[int]:
    """Return the ids in map order."""
    found = desk.datasets.map_of(desk.datasets.open("local", "books"), "current")
    return [found.all_ids[int(row)].as_py() for row in found.folder.order]


def _bits(answer: Any) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes(answer.body), np.uint8), count=_N, bitorder="little").astype(bool)


def test_a_dataset_is_told_of(desk: Desk) -> None:
    about = said(ask(desk, api_datasets.about, params=_ONE))
    assert (about["rows"], about["modality"], about["unique_id_field"]) == (_N, "text", "key")
    assert [one["name"] for one in about["columns"]] == ["key", "text", "year"]
    assert said(ask(desk, api_datasets.list_all))["datasets"] == [about]
    assert said(ask(desk, api_datasets.list_all, organization="others"))["datasets"] == []
    again = ask(desk, api_datasets.create, {"name": "books", "unique_id_field": "key"})
    assert (again.status_code, said(again)) == (200, about)
    assert ask(desk, api_datasets.create, {"name": "books"}).status_code == 409


@pytest.mark.parametrize("body", [{}, {"name": 5}, {"name": "?"}, {"name": "a", "other": 1}, b"[]", b"{", b"\xff"])
def test_names_that_cannot_be(desk: Desk, body: Any) -> None:
    with pytest.raises(InputError):
        ask(desk, api_datasets.create, body)


@pytest.mark.parametrize(
    "params", [{"organization": "others"}, {"slug": ".."}, {"slug": "nothing"}, {"organization": ".."}]
)
def test_other_datasets_do_not_exist(desk: Desk, params: dict[str, str]) -> None:
    for function in (
        api_datasets.about,
        api_datasets.delete,
        api_datasets.read_rows,
        api_maps.list_maps,
        api_maps.about,
    ):
        with pytest.raises(DatasetNotFoundError):
            ask(desk, function, params={**_map(), **params})


def test_rows_by_id_and_by_page(desk: Desk) -> None:
    answer = ask(desk, api_datasets.read_rows, params=_ONE, query={"ids": "7,3", "columns": "key,year"})
    assert said(answer)["rows"] == [{"key": 7, "year": 1997}, {"key": 3, "year": 1993}]
    pages = [
        said(ask(desk, api_datasets.read_rows, params=_ONE, query={"offset": str(at), "limit": "25", "columns": "key"}))
        for at in (0, 25, 50, 75)
    ]
    assert [len(page["rows"]) for page in pages] == [25, 25, 10, 0]
    assert [row["key"] for page in pages for row in page["rows"]] == list(range(_N))
    headers = {"accept": ARROW_STREAM}
    arrow = ask(desk, api_datasets.read_rows, params=_ONE, query={"limit": "2"}, headers=headers)
    assert pa.ipc.open_stream(bytes(arrow.body)).read_all().num_rows == 2
    for query in ({"ids": "x"}, {"limit": "0"}, {"offset": "-1"}, {"columns": "nothing"}):
        with pytest.raises(InputError):
            ask(desk, api_datasets.read_rows, params=_ONE, query=query)
    with pytest.raises(DatasetError):
        ask(desk, api_datasets.read_rows, params=_ONE, query={"ids": "999"})


def test_a_map_and_its_parts(desk: Desk) -> None:
    (brief,) = said(ask(desk, api_maps.list_maps, params=_ONE))["maps"]
    assert (brief["rows"], brief["current"], brief["model"]) == (_N, True, MODEL)
    about = said(ask(desk, api_maps.about, params=_map()))
    assert about["id"] == brief["id"]
    assert about["record"]["stages"]
    assert 0 <= about["quality"]["trustworthiness"] <= 1
    topics = said(ask(desk, api_maps.topics, params=_map()))["topics"]
    assert len({one["name"] for one in topics}) == len(topics) > 0
    (job,) = said(ask(desk, api_maps.list_jobs, params=_ONE))["jobs"]
    assert said(ask(desk, api_maps.job, params={**_ONE, "job_id": job["id"]})) == job
    for bad in ("x", "00000000-0000-0000-0000-000000000000"):
        with pytest.raises((InputError, DatasetNotFoundError)):
            ask(desk, api_maps.job, params={**_ONE, "job_id": bad})
        with pytest.raises((InputError, DatasetNotFoundError)):
            ask(desk, api_maps.about, params=_map(map_id=bad))


def test_duplicates_at_any_cutoff(desk: Desk) -> None:
    own = said(ask(desk, api_maps.duplicates, params=_map()))
    assert own["total"] == _N
    wide = said(ask(desk, api_maps.duplicates, params=_map(), query={"cutoff": "0.9"}))
    assert len(wide["rows"]) >= len(own["rows"])
    for bad in ("x", "-1", "nan"):
        with pytest.raises(InputError):
            ask(desk, api_maps.duplicates, params=_map(), query={"cutoff": bad})


def test_a_row_and_its_neighbors_by_position(desk: Desk) -> None:
    ids = _ids(desk)
    found = said(ask(desk, api_maps.row, params=_map(position="4")))
    assert found["row"]["key"] == ids[4]
    near = said(ask(desk, api_maps.neighbors, params=_map(position="4"), query={"k": "3"}))["neighbors"]
    assert len(near) == 3
    assert all(ids[one["position"]] == one["id"] and one["id"] % 3 == ids[4] % 3 for one in near)
    for bad in ("60", "-1", "x", "1" * 30, "²"):
        with pytest.raises(DatasetNotFoundError):
            ask(desk, api_maps.row, params=_map(position=bad))


def test_filters_are_bits_in_map_order(desk: Desk) -> None:
    ids = np.array(_ids(desk))
    answer = ask(desk, api_search.filter_bits, {"where": "year < 2000"}, params=_map())
    assert set(ids[_bits(answer)]) == set(range(10))
    assert answer.headers["x-gnomonic-count"] == "10"
    drawn = base64.b64encode(bytes(answer.body)).decode()
    both = ask(desk, api_search.filter_bits, {"bits": drawn, "ids": [3, 30]}, params=_map())
    assert set(ids[_bits(both)]) == {3}
    assert _bits(ask(desk, api_search.filter_bits, {}, params=_map())).all()
    topic = said(ask(desk, api_maps.topics, params=_map()))["topics"][0]
    inside = _bits(ask(desk, api_search.filter_bits, {"topics": [topic["id"]]}, params=_map()))
    assert inside.sum() == topic["count"]
    for bad in ({"where": "nothing = 1"}, {"bits": "!"}, {"bits": "AAAA"}, {"k": 1}, {"ids": "x"}):
        with pytest.raises(InputError):
            ask(desk, api_search.filter_bits, bad, params=_map())


def test_search_by_text_vector_and_row(desk: Desk) -> None:
    body = {"query": "tower of stone", "k": 4, "columns": ["text"]}
    rows = said(ask(desk, api_search.search, body, params=_map()))["rows"]
    assert len(rows) == 4
    assert all("stone tower" in row["text"] for row in rows)
    by_id = said(ask(desk, api_search.search, {"id": 4, "k": 4}, params=_map()))["rows"]
    assert all(row["key"] % 3 == 1 for row in by_id)
    vector = np.asarray(desk.encoders.open("text", _options())(["apple pie"]).vectors[0]).tolist()
    by_vector = said(ask(desk, api_search.search, {"vector": vector, "k": 4}, params=_map()))["rows"]
    assert all("apple pie" in row["text"] for row in by_vector)
    for bad in (
        {},
        {"query": "a", "id": 1},
        {"vector": [1]},
        {"vector": ["a"]},
        {"query": "a", "k": 0},
        {"query": "a", "k": 10**6},
    ):
        with pytest.raises(InputError):
            ask(desk, api_search.search, bad, params=_map())


def _options() -> Any:
    from gnomonic.atlas.options import EmbedOptions

    return EmbedOptions(model=MODEL)


@pytest.mark.parametrize("source", [{"query": "stone tower"}, {"id": 2}])
def test_heat_is_in_map_order(desk: Desk, source: dict[str, Any]) -> None:
    ids = np.array(_ids(desk))
    answer = ask(desk, api_search.heat, source, params=_map())
    heat = np.frombuffer(bytes(answer.body), "<f2").astype(float)
    assert len(heat) == _N
    assert heat[ids % 3 == 2].mean() > heat[ids % 3 != 2].mean() + 0.2
    assert heat.argmax() in np.flatnonzero(ids % 3 == 2)
    small = ask(desk, api_search.heat, {**source, "dtype": "uint8"}, params=_map())
    scaled = np.frombuffer(bytes(small.body), np.uint8)
    assert (scaled.min(), scaled.max()) == (0, 255)
    for bad in ({}, {**source, "dtype": "float64"}, {**source, "vector": [1.0] * 16}):
        with pytest.raises(InputError):
            ask(desk, api_search.heat, bad, params=_map())


def test_files_are_those_of_the_browser_only(desk: Desk) -> None:
    answer: Any = ask(desk, api_maps.file, params=_map(path="manifest.json"))
    assert answer.headers["cache-control"] == "no-cache"
    exact: Any = ask(desk, api_maps.file, params=_map(path="tiles/0/0/0.bin", map_id=answer.headers["x-gnomonic-map"]))
    assert "immutable" in exact.headers["cache-control"]
    assert len(exact.body) == 4 * _N
    for bad in ("order.npy", "../map.json", "tiles/../../map.json", "/etc/passwd", "tiles/0/0/9.bin", "stage.json", ""):
        with pytest.raises(DatasetNotFoundError):
            ask(desk, api_maps.file, params=_map(path=bad))


def test_tags_and_exports(desk: Desk) -> None:
    assert ask(desk, api_maps.add_tag, {"name": "good", "ids": [1, 2, 3]}, params=_ONE).status_code == 201
    ask(desk, api_maps.remove_tag, {"name": "good", "ids": [3]}, params=_ONE)
    assert said(ask(desk, api_maps.tags, params=_ONE))["tags"] == [{"name": "good", "rows": 2}]
    answer: Any = ask(desk, api_search.export, {"tags": ["good"], "columns": ["key", "year"]}, params=_map())
    assert pq.read_table(answer.path).to_pylist() == [{"key": 1, "year": 1991}, {"key": 2, "year": 1992}]
    Path(answer.path).unlink()
    assert answer.headers["x-gnomonic-count"] == "2"
    none: Any = ask(desk, api_search.export, {"where": "year < 0"}, params=_map())
    assert pq.read_table(none.path).num_rows == 0
    ask(desk, api_maps.remove_tag, {"name": "good"}, params=_ONE)
    assert said(ask(desk, api_maps.tags, params=_ONE))["tags"] == []
    for bad in ({"name": " ", "ids": [1]}, {"name": "x"}, {"name": "x", "ids": ["a"]}):
        with pytest.raises(InputError):
            ask(desk, api_maps.add_tag, bad, params=_ONE)


def test_a_text_that_would_be_a_formula_is_quoted() -> None:
    table = pa.table({"a": ["=1+1", "plain"], "b": [[1], None]})
    lines = b"".join(api_search._csv_lines(table, iter(()))).decode().splitlines()
    assert lines == ["a,b", "'=1+1,[1]", "plain,"]


def test_builds_that_are_refused_at_once(desk: Desk) -> None:
    for bad in (
        {"indexed_field": "nothing"}, {"indexed_field": "year"}, {}, {"indexed_field": "text", "model": "unknown"},
        {"indexed_field": "text", "projection": {"n_neighbors": 0}}, {"indexed_field": "text", "seed": -1},
        {"indexed_field": "text", "topics": {"naming_url": "http://169.254.0.1/"}}, {"indexed_field": "text", "x": 1},
        {"modality": "image"}, {"modality": "embedding"}, {"indexed_field": "text", "topics": 5},
    ):  # fmt: skip
        with pytest.raises(InputError):
            ask(desk, api_maps.build, bad, params=_ONE)
    assert list(desk.queue.entries()) == []


def test_rows_are_added_changed_and_deleted_and_the_map_follows(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    ask(desk, api_datasets.create, {"name": "books", "unique_id_field": "key"})
    lines = b"\n".join(b'{"key": %d, "text": "sea storm"}' % i for i in range(5))
    assert said(_append(desk, lines, tmp_path / "rows"))["ids"] == list(range(5))
    table = pa.table({"key": [5, 6], "text": ["apple pie", None]})
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    assert said(_append(desk, stream.getvalue(), tmp_path / "rows", ARROW_STREAM))["added"] == 2
    with pytest.raises(DatasetError):
        _append(desk, {"rows": [{"key": 5}]}, tmp_path / "rows")
    with pytest.raises(SchemaError):
        _append(desk, {"rows": [{"key": 50, "text": 5}]}, tmp_path / "rows")
    for bad in (b"nonsense", b"", b"[]", b'{"rows": 5}', b'{"embeddings": "x", "rows": [{"key": 9}]}'):
        with pytest.raises(InputError):
            _append(desk, bad, tmp_path / "rows")
    assert (
        said(_append(desk, {"rows": [{"key": 5}]}, tmp_path / "rows", query={"on_conflict": "skip"}))["job_id"] is None
    )
    ask(desk, api_maps.build, {"indexed_field": "text", "topics": False}, params=_ONE)
    run_jobs(desk)
    changed = said(ask(desk, api_datasets.change_rows, {"rows": [{"key": 5, "text": "deep sea"}]}, params=_ONE))
    deleted = said(ask(desk, api_datasets.delete_rows, {"ids": [0, 999]}, params=_ONE))
    assert (changed["changed"], deleted["deleted"]) == (1, 1)
    assert changed["job_id"] == deleted["job_id"]
    bits = ask(desk, api_search.filter_bits, {}, params=_map())
    assert bits.headers["x-gnomonic-count"] == "6"  # at once, before the map follows
    (job,) = run_jobs(desk)
    assert (job.kind, job.state, job.error) == ("update", "completed", None)
    maps = said(ask(desk, api_maps.list_maps, params=_ONE))["maps"]
    assert [(one["rows"], one["current"]) for one in maps] == [(7, False), (6, True)]
    ask(desk, api_maps.delete, params=_map())
    assert said(ask(desk, api_datasets.about, params=_ONE))["current_map"] == maps[0]["id"]
    ask(desk, api_datasets.delete, params=_ONE)
    with pytest.raises(DatasetNotFoundError):
        ask(desk, api_datasets.about, params=_ONE)


def test_a_job_is_cancelled_where_it_is(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    ask(desk, api_datasets.create, {"name": "books", "unique_id_field": "key"})
    _append(desk, {"rows": _rows(5)}, tmp_path / "rows")
    job = said(ask(desk, api_maps.build, {"indexed_field": "text"}, params=_ONE))
    assert ask(desk, api_maps.cancel_job, params={**_ONE, "job_id": job["id"]}).status_code == 202
    (ended,) = run_jobs(desk)
    assert ended.state == "cancelled"
    assert said(ask(desk, api_maps.list_maps, params=_ONE))["maps"] == []
