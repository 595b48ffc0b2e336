"""The official client's protocol, route by route."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError, UnknownModelError
from gnomonic.server.atlas import (
    wire_datasets,
    wire_maps,
    wire_refused,
    wire_search,
    wire_tags,
    wire_tiles,
    wire_uploads,
)
from gnomonic.server.atlas.desk import Desk
from tests.server.atlas.desks import MODEL, ask, desk_in, feather_of, read_feather, run_jobs, said

_N = 60
_WORDS = ("apple pie", "deep sea", "stone tower")


def _create(desk: Desk, name: str = "one", id_field: str | None = "id", **more: Any) -> str:
    body = {"organization_id": "local", "project_name": name, "unique_id_field": id_field, "is_public": True}
    answer = ask(desk, wire_datasets.create, {**body, "description": "", **more})
    assert answer.status_code == 201
    return str(said(answer)["project_id"])


def _upload(desk: Desk, project: str, table: pa.Table, path: Path, **more: Any) -> Any:
    return ask(desk, wire_uploads.add_arrow, upload=feather_of(table, path, project_id=project), **more)


def _table(n: int = _N, first: int = 0) -> pa.Table:
    ids = range(first, first + n)
    return pa.table({"id": [f"r{i}" for i in ids], "text": [f"{_WORDS[i % 3]} {i % 5}" for i in ids]})


def _index(desk: Desk, project: str, **more: Any) -> Any:
    body = {
        "project_id": project, "index_name": None, "indexed_field": "text", "model": MODEL,
        "atomizer_strategies": ["document", "charchunk"], "colorable_fields": ["n"], "projection": "NomicProject",
        "projection_hyperparameters": '{"model": "umap", "n_neighbors": 5, "n_epochs": null, "hosted_only": 3}',
        "topic_model_hyperparameters": json.dumps(
            {"build_topic_model": True, "community_description_target_field": "text", "cluster_method": "fast"}
        ),
        "duplicate_detection_hyperparameters": '{"tag_duplicates": true, "duplicate_cutoff": 0.1}', **more,
    }  # fmt: skip
    return ask(desk, wire_maps.create_index, body)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """With one dataset "mapped", of texts, and its map."""
    desk = desk_in(tmp_path_factory.mktemp("data"))
    project = _create(desk, "mapped")
    for part in (1, 0):  # out of order, as they come
        assert _upload(desk, project, _table(30, 30 * part), desk.options.root / "shard").status_code == 200
    assert _index(desk, project).status_code == 200
    (job,) = run_jobs(desk)
    assert (job.state, job.error) == ("completed", None)
    return desk


def _about(desk: Desk) -> dict[str, Any]:
    params = {"organization": "local", "slug": "mapped"}
    found: dict[str, Any] = said(ask(desk, wire_datasets.about_named, params=params))
    return found


def _map_params(desk: Desk, **more: str) -> dict[str, str]:
    about = _about(desk)
    return {"project_id": about["id"], "map_id": about["atlas_indices"][0]["projections"][0]["id"], **more}


def test_creating_twice_finds_the_first(desk: Desk) -> None:
    assert _create(desk, "mapped") == _about(desk)["id"]
    body = {"organization_id": "local", "project_name": "mapped", "unique_id_field": "other"}
    answer = ask(desk, wire_datasets.create, body)
    assert answer.status_code == 409
    assert "id column 'id'" in said(answer)["detail"]


def test_a_dataset_has_what_the_client_reads(desk: Desk) -> None:
    about = _about(desk)
    assert about["total_datums_in_project"] == _N
    assert (about["modality"], about["unique_id_field"], about["insert_update_delete_lock"]) == ("text", "id", False)
    assert about["project_fields"] == ["id", "text"]
    assert "." in about["created_timestamp"]
    assert about["created_timestamp"].endswith("+00:00")
    assert pa.ipc.read_schema(io.BytesIO(base64.b64decode(about["schema"]))).names == ["id", "text"]
    (index,) = about["atlas_indices"]
    assert index["indexed_field"] == "text"
    assert len(index["projections"]) == 1


def test_others_see_nothing(desk: Desk) -> None:
    about = _about(desk)
    index = about["atlas_indices"][0]["id"]
    params = _map_params(desk, key="0/0/0.feather")
    named = ask(desk, wire_datasets.about_named, params={"organization": "local", "slug": "mapped"}, organization="b")
    assert named.status_code == 403
    by_id = {"params": {**params, "job_id": index, "index_id": index, "slug": "local"}, "organization": "b"}
    for function in (
        wire_datasets.about, wire_datasets.organization, wire_maps.job, wire_maps.progress, wire_maps.about_map,
        wire_tiles.schema, wire_tiles.manifest, wire_tiles.tile,
    ):  # fmt: skip
        with pytest.raises(DatasetNotFoundError):
            ask(desk, function, **by_id)
    bodies = [
        (wire_datasets.get_rows, {"project_id": about["id"], "datum_ids": ["r1"]}),
        (wire_datasets.remove, {"project_id": about["id"]}),
        (wire_datasets.create, {"organization_id": "local", "project_name": "x"}),
        (wire_maps.create_index, {"project_id": about["id"]}),
        (wire_search.by_id, {"atlas_index_id": index, "datum_ids": ["r1"], "k": 1}),
        (wire_search.by_embedding, {"atlas_index_id": index, "queries": _packed(np.zeros((1, 16))), "k": 1}),
    ]  # fmt: skip
    for function, body in bodies:
        with pytest.raises(DatasetNotFoundError):
            ask(desk, function, body, organization="b")
    with pytest.raises(DatasetNotFoundError):
        _upload(desk, about["id"], _table(1, 900), desk.options.root / "foreign", organization="b")
    assert _about(desk)["total_datums_in_project"] == _N


def test_every_tile_reads_and_has_the_types_of_the_schema(desk: Desk) -> None:
    params = _map_params(desk)
    schema = pa.ipc.read_schema(io.BytesIO(bytes(ask(desk, wire_tiles.schema, params=params).body)))
    assert all(item.metadata for item in schema)
    columns = {item.name: json.loads(item.metadata[b"sidecar_name"]) for item in schema}
    assert columns["x"] == columns["y"] == ""
    assert columns["id"] == "datum_id"
    manifest = read_feather(ask(desk, wire_tiles.manifest, params=params))
    assert sum(manifest["nPoints"].to_pylist()) == _N
    seen: dict[str, list[pa.Table]] = {}
    for key in manifest["key"].to_pylist():
        for sidecar in dict.fromkeys(columns.values()):
            name = f"{key}.{sidecar}.feather" if sidecar else f"{key}.feather"
            table = read_feather(ask(desk, wire_tiles.tile, params={**params, "key": name}))
            wanted = [item for item in schema if columns[item.name] == sidecar]
            assert table.schema.names == [item.name for item in wanted]
            assert [item.type for item in table.schema] == [item.type for item in wanted]
            seen.setdefault(sidecar, []).append(table)
    ids = pa.concat_tables(seen["datum_id"])["id"].to_pylist()
    assert sorted(ids) == sorted(f"r{i}" for i in range(_N))
    texts = pa.concat_tables(seen["columns"])["text"].to_pylist()
    assert texts == [f"{_WORDS[int(one[1:]) % 3]} {int(one[1:]) % 5}" for one in ids]


@pytest.mark.parametrize(
    "key",
    ["0/0/0.nothing.feather", "9/0/0.feather", "x", "../../map.json", "0/0/0.../x.feather", "0/0/0._tag.x.feather"],
)
def test_tiles_that_are_not_there_are_not_found(desk: Desk, key: str) -> None:
    with pytest.raises(DatasetNotFoundError):
        ask(desk, wire_tiles.tile, params=_map_params(desk, key=key))


def test_topics_have_names_that_are_unique(desk: Desk) -> None:
    about = said(ask(desk, wire_maps.about_map, params=_map_params(desk)))
    (model,) = about["topic_models"]
    told = [feature["properties"] for feature in model["features"]]
    assert len({one["topic_short_description"] for one in told}) == len(told) > 0
    assert all(isinstance(one["topic"], int) for one in told)
    assert all(one[f"_topic_depth_{one['depth']}"] == one["topic_short_description"] for one in told)


def _packed(array: np.ndarray) -> str:
    stream = io.BytesIO()
    np.save(stream, array)
    return base64.b64encode(stream.getvalue()).decode()


def test_neighbors_by_row_and_by_vector_are_the_same(desk: Desk) -> None:
    index = _about(desk)["atlas_indices"][0]["id"]
    by_id = said(ask(desk, wire_search.by_id, {"atlas_index_id": index, "datum_ids": ["r0", "r7"], "k": 5}))
    assert [len(row) for row in by_id["neighbors"]] == [5, 5]
    assert all(int(one[1:]) % 3 == 0 for one in by_id["neighbors"][0])
    vectors = np.asarray(desk.datasets.map_by_index("local", index).search_engine.vectors_of(["r0", "r7"]))
    body = {"atlas_index_id": index, "queries": _packed(vectors.astype("<f8")), "k": 5}
    by_vector = said(ask(desk, wire_search.by_embedding, body))
    np.testing.assert_allclose(by_vector["distances"], by_id["distances"], atol=1e-3)
    for bad in ({"k": 0}, {"k": 129}, {"k": True}, {"queries": _packed(np.zeros((1, 3)))}):
        with pytest.raises(InputError):
            ask(desk, wire_search.by_embedding, {**body, **bad})
    with pytest.raises(DatasetError):
        ask(desk, wire_search.by_id, {"atlas_index_id": index, "datum_ids": ["nobody"], "k": 5})


def test_shares_of_topics(desk: Desk) -> None:
    index = _about(desk)["atlas_indices"][0]["id"]
    body = {"atlas_index_id": index, "queries": _packed(np.ones((2, 16))), "k": 8, "depth": 1}
    assert len(said(ask(desk, wire_search.topic_shares, body))["topics"]) == 2


def test_rows_come_in_the_order_of_their_ids(desk: Desk) -> None:
    body = {"project_id": _about(desk)["id"], "datum_ids": ["r5", "r2"]}
    assert [row["id"] for row in said(ask(desk, wire_datasets.get_rows, body))["datums"]] == ["r5", "r2"]


def test_tags_are_known_by_what_they_hold(desk: Desk) -> None:
    about = _about(desk)
    dataset = desk.datasets.by_id("local", about["id"])
    dataset.annotations.add("good", dataset.store.rows_of(["r1", "r2"]))
    query = {"project_id": about["id"], "projection_id": _map_params(desk)["map_id"]}
    (tag,) = said(ask(desk, wire_tags.all_tags, query=query))
    status = said(ask(desk, wire_tags.tag_status, query={**query, "tag_id": tag["tag_id"]}))
    assert status == {"is_complete": True}
    key = f"0/0/0._tag.{tag['tag_definition_id']}.feather"
    bits = read_feather(ask(desk, wire_tiles.tile, params=_map_params(desk, key=key)))["bitmask"].to_pylist()
    ids = read_feather(ask(desk, wire_tiles.tile, params=_map_params(desk, key="0/0/0.datum_id.feather")))["id"]
    assert {one for one, bit in zip(ids.to_pylist(), bits, strict=True) if bit} == {"r1", "r2"}
    dataset.annotations.add("good", dataset.store.rows_of(["r3"]))
    (after,) = said(ask(desk, wire_tags.all_tags, query=query))
    assert after["tag_definition_id"] != tag["tag_definition_id"]
    dataset.annotations.delete("good")


def test_a_refused_shard_is_told_with_the_index(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    project = _create(desk)
    assert _upload(desk, project, _table(4), tmp_path / "a").status_code == 200
    again = _upload(desk, project, _table(4), tmp_path / "b")
    assert again.status_code == 400
    assert "detail" in said(again)
    assert b"Insert failed due to ID conflict" not in bytes(again.body)
    with pytest.raises(DatasetError, match="4 rows were refused"):
        _index(desk, project)
    assert _index(desk, project).status_code == 200
    (job,) = run_jobs(desk)
    assert job.state == "completed"  # of four rows


def test_an_index_is_known_before_it_is_built(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    project = _create(desk, "texts", None)
    _upload(desk, project, _table(9).drop_columns(["id"]), tmp_path / "a")
    made = said(_index(desk, project))
    about = said(ask(desk, wire_datasets.about, params={"project_id": project}))
    assert about["insert_update_delete_lock"] is True
    assert about["unique_id_field"] is None
    assert about["project_fields"] == ["id_", "text"] or about["project_fields"] == ["text", "id_"]
    (index,) = about["atlas_indices"]
    assert (index["id"], index["projections"][0]["id"]) == (made["index_id"], made["projection_id"])
    job = said(ask(desk, wire_maps.job, params={"job_id": made["job_id"]}))
    assert (job["index_id"], job["index_build_stage"]) == (made["index_id"], "Waiting")
    run_jobs(desk)
    progress = said(ask(desk, wire_maps.progress, params={"index_id": made["index_id"]}))
    assert (progress["index_build_stage"], progress["result"]) == ("Completed", 100)
    found = desk.datasets.map_by_index("local", made["index_id"])
    assert found.id == made["projection_id"]


def test_rows_that_come_later_join_the_map(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    project = _create(desk)
    _upload(desk, project, _table(20), tmp_path / "a")
    _index(desk, project)
    (first,) = run_jobs(desk)
    _upload(desk, project, _table(3, 20), tmp_path / "b")
    _upload(desk, project, _table(3, 23), tmp_path / "b")
    (second,) = run_jobs(desk)
    assert (second.kind, second.state, second.error) == ("update", "completed", None)
    about = said(ask(desk, wire_datasets.about, params={"project_id": project}))
    (index,) = about["atlas_indices"]
    assert [one["id"] for one in index["projections"]] == [second.map_id]
    assert second.map_id != first.map_id
    assert desk.datasets.map_by_id("local", second.map_id).record.rows == 26


def test_a_build_that_fails_says_why_where_the_map_is_asked_for(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    project = _create(desk)
    _upload(desk, project, _table(6), tmp_path / "a")
    made = said(_index(desk, project))
    (entry,) = desk.queue.entries()
    desk.queue.close(entry, "failed", "the disk is full")
    with pytest.raises(DatasetError, match=r"failed\. the disk is full"):
        ask(desk, wire_tiles.schema, params={"map_id": made["projection_id"]})
    assert said(ask(desk, wire_datasets.about, params={"project_id": project}))["atlas_indices"] == []


def test_no_other_model_than_the_one_that_is_asked_for(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    project = _create(desk)
    _upload(desk, project, _table(6), tmp_path / "a")
    with pytest.raises(UnknownModelError, match="is not served here"):
        _index(desk, project, model="nomic-embed-text-v1.5")
    forced = desk_in(tmp_path, forced=MODEL)
    answer = _index(forced, project, model="nomic-embed-text-v1.5")
    assert "embeds fields with words" in answer.headers["x-atlaswarning"]
    (job,) = run_jobs(forced)
    assert job.state == "completed"
    absent = desk_in(tmp_path, why_absent=lambda name: "not here")
    with pytest.raises(InputError, match="cannot be opened here: not here"):
        _index(absent, project)


def test_vectors_stay_as_they_came(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    project = _create(desk)
    vectors = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float16)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4)
    table = _table(9).append_column("_embeddings", column)
    assert _upload(desk, project, table, tmp_path / "a").status_code == 200
    about = said(ask(desk, wire_datasets.about, params={"project_id": project}))
    assert about["modality"] == "embedding"
    schema = pa.ipc.read_schema(io.BytesIO(base64.b64decode(about["schema"])))
    assert schema.field("_embeddings").type.list_size == 4
    made = said(_index(desk, project, indexed_field=None, model=None))
    run_jobs(desk)
    params = {"map_id": made["projection_id"], "key": "0/0/0.embeddings.feather"}
    latent = read_feather(ask(desk, wire_tiles.tile, params=params))["_embeddings"].to_pylist()
    ids = read_feather(ask(desk, wire_tiles.tile, params={**params, "key": "0/0/0.datum_id.feather"}))["id"].to_pylist()
    np.testing.assert_array_equal(np.array(latent), vectors[[int(one[1:]) for one in ids]])


def test_images_wait_for_their_rows(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    project = _create(desk, "pictures")
    part = '--b\r\nContent-Disposition: form-data; name="{}"; filename="blobs"\r\n\r\n{}\r\n'
    body = part.format("dataset_id", project) + part.format("blobs", "one") + part.format("blobs", "two") + "--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    hashes = said(ask(desk, wire_uploads.add_blobs, body.encode(), headers=headers))["hashes"]
    assert len(hashes) == 2
    table = pa.table({"id": ["a", "b", "c"], "_blob_hash": [hashes[1], "null", hashes[0]]})
    assert _upload(desk, project, table, tmp_path / "a").status_code == 200
    about = said(ask(desk, wire_datasets.about, params={"project_id": project}))
    assert about["modality"] == "image"
    assert "_blob_hash" in about["project_fields"]
    store = desk.datasets.by_id("local", project).store
    assert [store.blob(one) for one in ("a", "b", "c")] == [b"two", None, b"one"]
    with pytest.raises(InputError, match="no model of this server embeds images"):
        _index(desk, project, indexed_field="_blob_hash")


def test_removing_a_dataset_leaves_nothing(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    project = _create(desk)
    _upload(desk, project, _table(4), tmp_path / "a")
    _index(desk, project)
    ask(desk, wire_datasets.remove, {"project_id": project})
    with pytest.raises(DatasetNotFoundError):
        ask(desk, wire_datasets.about, params={"project_id": project})
    assert list((tmp_path / "datasets" / "local").iterdir()) == []
    assert _create(desk) != project


def test_what_this_server_does_not_do(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    assert ask(desk, wire_refused.not_here).status_code == 501
    assert ask(desk, wire_refused.refresh).status_code == 404
