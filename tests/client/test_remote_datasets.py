"""Datasets and maps on a server give what those on this machine give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gnomonic
from gnomonic.client import remote, remote_maps, remote_store
from gnomonic.client.datasets import AtlasDataset, LocalDataset
from gnomonic.client.remote_datasets import RemoteDataset
from gnomonic.errors import (
    AuthenticationError,
    DatasetError,
    DatasetNotFoundError,
    GnomonicError,
    InputError,
    RemoteError,
    SchemaError,
    UnknownModelError,
)
from tests.client.atlas_server import AtlasServer, serving_atlas
from tests.server.atlas.desks import MODEL

_N = 60
_KINDS = ("sea storm", "apple pie", "stone tower")


def _table(n: int = _N, first: int = 0) -> pa.Table:
    rows = range(first, first + n)
    return pa.table(
        {
            "key": [f"k{i}" for i in rows],
            "text": [f"{_KINDS[i % 3]} {i % 5}" for i in rows],
            "year": pa.array([1990 + i for i in rows], pa.int16()),
            "at": pa.array([datetime(2020, 1, 1 + i % 20) for i in rows], pa.timestamp("us")),
            "raw": [bytes([i % 7]) for i in rows],
            "many": [list(range(i % 3)) for i in rows],
        }
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtlasServer]:
    with serving_atlas(AtlasServer(tmp_path_factory.mktemp("data"))) as one:
        yield one


@pytest.fixture(autouse=True)
def _pointed(monkeypatch: pytest.MonkeyPatch, server: AtlasServer) -> Iterator[None]:
    monkeypatch.setenv("GNOMONIC_API_URL", server.url)
    monkeypatch.delenv("GNOMONIC_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "_kept", {})
    monkeypatch.setattr("gnomonic.client.remote_datasets._FIRST_PAUSE_S", 0.01)
    yield
    for client in remote._kept.values():
        client.close()
    server.script.clear()
    server.key = None


@pytest.fixture(scope="module")
def both(server: AtlasServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The same map on the server and, from the same folder, on this machine; one of its rows was deleted."""
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setenv("GNOMONIC_API_URL", server.url)
        context.setenv("NO_PROXY", "127.0.0.1")
        there = AtlasDataset("Books", "some books", unique_id_field="key")
        assert there.add_data(_table()) == [f"k{i}" for i in range(_N)]
        stages = []
        made = there.create_index(
            indexed_field="text", embedding_model={"model": MODEL}, on_progress=lambda told: stages.append(told.stage)
        )
        made.tags.add(["k1", "k2"], ["good", "a, tag"])
        there.delete_data(["k2"])
    here = LocalDataset("books", root=server.desk.options.root, create=False)
    here._encoders = server.desk.encoders
    return made, here.get_map(projection_id=made.id)


def test_the_environment_and_root_choose(server: AtlasServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(gnomonic.AtlasDataset("chosen"), RemoteDataset)
    assert type(AtlasDataset("chosen", root=tmp_path)) is AtlasDataset
    assert [home.record.slug for home in AtlasDataset.all()] == ["chosen"]
    assert AtlasDataset(dataset_id=AtlasDataset("chosen").id).name == "chosen"
    AtlasDataset("chosen").delete()
    monkeypatch.delenv("GNOMONIC_API_URL")
    monkeypatch.setenv("GNOMONIC_DATA", str(tmp_path))
    assert type(AtlasDataset("chosen")) is AtlasDataset
    with pytest.raises(GnomonicError):
        RemoteDataset("chosen")


def test_a_dataset_says_the_same(both: tuple[Any, Any]) -> None:
    there, here = (one.dataset for one in both)
    assert isinstance(there, AtlasDataset)
    for name in ("id", "name", "slug", "identifier", "description", "created_timestamp", "unique_id_field", "id_field",
                 "total_datums", "schema", "dataset_fields", "modality", "is_locked", "is_accepting_data"):  # fmt: skip
        assert getattr(there, name) == getattr(here, name), name
    assert len(there) == _N - 1
    assert repr(there) == repr(here)
    assert list(there) == list(here)
    assert there.get_data(["k9", "k3"]) == here.get_data(["k9", "k3"])
    with pytest.raises(DatasetError, match="no folder"):
        _ = there.home


def test_a_map_says_the_same(both: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = both
    monkeypatch.setattr(remote_maps, "_PAGE_ROWS", 25)
    assert asdict(there.record) == asdict(here.record)
    for name in ("id", "projection_id", "index_id", "atlas_index_id", "name", "id_field", "quality", "is_whole"):
        assert getattr(there, name) == getattr(here, name), name
    for name in ("alive", "trust"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    assert there.ids.equals(here.ids)
    assert there.all_ids.equals(here.all_ids)
    for part in ("data", "embeddings", "topics", "duplicates", "tags"):
        assert getattr(there, part).tb.equals(getattr(here, part).tb), part
    assert there.data.columns(["year", "key"]).equals(here.data.columns(["year", "key"]))
    latent = there.embeddings.latent
    assert latent.dtype == here.embeddings.latent.dtype
    np.testing.assert_array_equal(latent, here.embeddings.latent)
    assert pq.read_table(there.to_parquet(tmp_path / "a")).equals(pq.read_table(here.to_parquet(tmp_path / "b")))
    rows = pq.read_table(there.dataset.to_parquet(tmp_path / "c"))
    assert rows.equals(pq.read_table(here.dataset.to_parquet(tmp_path / "d")))


def test_topics_duplicates_and_tags_say_the_same(both: tuple[Any, Any]) -> None:
    there, here = both
    assert there.topics.records == here.topics.records
    assert there.topics.tree() == here.topics.tree()
    assert there.topics.hierarchy == here.topics.hierarchy
    np.testing.assert_array_equal(there.topics.labels, here.topics.labels)
    assert there.topics.group_by_topic(2) == here.topics.group_by_topic(2)
    span = ("at", datetime(2020, 1, 3), datetime(2020, 1, 9))
    assert there.topics.get_topic_density(*span) == here.topics.get_topic_density(*span)
    vectors = np.asarray(here.embeddings.latent[:2], dtype=np.float32)
    assert there.topics.vector_search_topics(vectors, k=4) == here.topics.vector_search_topics(vectors, k=4)
    assert there.duplicates.deletion_candidates() == here.duplicates.deletion_candidates()
    assert there.duplicates.at_cutoff(0.9).equals(here.duplicates.at_cutoff(0.9))
    assert there.tags.get_tags() == here.tags.get_tags() == {"a, tag": ["k1"], "good": ["k1"]}
    assert there.tags.remove(["k1"], ["a, tag"])
    assert there.tags.get("a, tag") == []
    assert there.tags.remove([], ["a, tag"], delete_all=True)
    assert list(here.tags.get_tags()) == ["good"]


def test_searches_find_the_same(both: tuple[Any, Any]) -> None:
    there, here = both
    vectors = np.asarray(here.embeddings.latent[:2])
    for asked in (
        {"query": "stone", "k": 4},
        {"query": "apple", "mode": "words", "columns": ["text"]},
        {"query": "apple", "mode": "hybrid", "where": "year > 2000", "k": 3},
        {"id": "k4", "tags": ["good"]},
        {"vector": vectors[0], "topics": [here.topics.records[0].name], "k": 5},
    ):
        assert there.search(**asked).equals(here.search(**asked)), asked
    assert there.embeddings.vector_search(ids=["k1", "k5"], k=3) == here.embeddings.vector_search(ids=["k1", "k5"], k=3)
    assert there.embeddings.vector_search(vectors, k=2) == here.embeddings.vector_search(vectors, k=2)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda made: made.dataset.get_data(["no such"]), DatasetError),
        (lambda made: made.dataset.get_data("k1"), InputError),
        (lambda made: made.dataset.add_data([{"key": "k1"}]), DatasetError),
        (lambda made: made.dataset.add_data([{"key": "new", "year": "x"}]), SchemaError),
        (lambda made: made.dataset.add_data([{"key": None}]), InputError),
        (lambda made: made.dataset.update_data([{"key": "no such", "year": 1}]), DatasetError),
        (lambda made: made.dataset.create_index(projection={"n_neighbor": 3}), InputError),
        (lambda made: made.dataset.create_index(indexed_field="nothing"), InputError),
        (lambda made: made.dataset.create_index(indexed_field="text", embedding_model="none"), UnknownModelError),
        (lambda made: made.dataset.create_index(reuse_embeddings_from_index="none"), InputError),
        (lambda made: made.dataset.get_map("none"), DatasetError),
        (lambda made: made.dataset.roll_back("none"), DatasetError),
        (lambda made: made.dataset.delete_map("current"), DatasetError),
        (lambda made: made.search("x", where="nothing = 1"), InputError),
        (lambda made: made.search(), InputError),
        (lambda made: made.search("x", mode="other"), InputError),
        (lambda made: made.search(vector=[np.nan] * 16), InputError),
        (lambda made: made.embeddings.vector_search(ids=["none"]), DatasetError),
        (lambda made: made.embeddings.vector_search([[1.0]]), InputError),
        (lambda made: made.embeddings.vector_search(ids=["k1"], k=10**6), InputError),
        (lambda made: made.duplicates.at_cutoff(3), InputError),
        (lambda made: made.topics.group_by_topic(9), InputError),
        (lambda made: made.tags.get("none"), DatasetError),
        (lambda made: made.tags.add(["none"], ["x"]), DatasetError),
        (lambda made: made.data.columns(["none"]), InputError),
    ],
)
def test_errors_are_of_the_same_classes(both: tuple[Any, Any], call: Any, kind: type[Exception]) -> None:
    there, here = both
    for made in (here, there):
        if made is here and kind is UnknownModelError:
            continue  # any name will do for the encoder of these tests
        with pytest.raises(kind) as raised:
            call(made)
        assert type(raised.value) in (kind, DatasetNotFoundError)
        assert isinstance(raised.value, GnomonicError)


def test_names_that_are_not_there(server: AtlasServer) -> None:
    with pytest.raises(DatasetNotFoundError):
        AtlasDataset("nothing", create=False)
    with pytest.raises(DatasetNotFoundError, match="those of local"):
        AtlasDataset("others/nothing")
    with pytest.raises(DatasetNotFoundError):
        AtlasDataset(dataset_id="00000000-0000-0000-0000-000000000000")
    with pytest.raises(InputError):
        AtlasDataset()
    AtlasDataset("ids", unique_id_field="a")
    with pytest.raises(DatasetError, match="id column"):
        AtlasDataset("ids", unique_id_field="b")
    assert AtlasDataset("local/ids").unique_id_field == "a"


def test_rows_go_in_pieces_and_all_or_none(server: AtlasServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_store, "_BATCH_BYTES", 2000)
    monkeypatch.setattr(remote_store, "_PAGE_ROWS", 7)
    dataset = AtlasDataset("pieces", unique_id_field="key")
    vectors = np.random.default_rng(0).normal(size=(200, 8))
    sent = len(server.seen)
    table = _table(200).append_column("kind", pa.array(["a", "b"] * 100).dictionary_encode())
    assert len(dataset.add_data(table, vectors)) == 200
    assert sum(path.startswith("/v1/datasets/local/pieces/rows?") for _, path in server.seen[sent:]) > 5
    store = LocalDataset("pieces", root=server.desk.options.root).store
    assert store.take(store.rows_of(["k7"]), ["_vector"])["_vector"].to_pylist()[0] == pytest.approx(vectors[7])
    assert [row["key"] for row in dataset] == [f"k{i}" for i in range(200)]
    more = _table(200, first=300).set_column(0, "key", [[f"k{i}" for i in range(300, 499)] + ["k5"]])
    with pytest.raises(DatasetError, match=r"'k5'.*none was added"):
        dataset.add_data(more, vectors)
    assert len(dataset) == 200
    bad = np.full((3, 8), np.nan)
    with pytest.raises(InputError, match="row 0"):
        dataset.add_data(_table(3, first=900), bad)
    assert dataset.update_data(_table(200).select(["key", "year"]).set_column(1, "year", [[7] * 200])) == 200
    assert {row["year"] for row in dataset} == {7}
    assert dataset.add_data(_table(2), vectors[:2], on_conflict="skip") == []


def test_a_server_that_takes_less_at_a_time(server: AtlasServer) -> None:
    dataset = AtlasDataset("smaller", unique_id_field="key")
    server.script.extend([(200, {}, json.dumps(dataset.store.about()).encode()), (413, {}, b"{}")])
    assert dataset.add_data(_table(9), update_maps=False) == [f"k{i}" for i in range(9)]
    assert [row["key"] for row in dataset] == [f"k{i}" for i in range(9)]


def test_images_go_with_their_rows(server: AtlasServer) -> None:
    dataset = AtlasDataset("images", unique_id_field="key")
    dataset.add_data([{"key": "a"}, {"key": "b"}], blobs=[b"one", None])
    assert dataset.dataset_fields == ["key"]
    assert dataset.modality == "image"
    store = LocalDataset("images", root=server.desk.options.root).store
    assert [store.blob(key) for key in "ab"] == [b"one", None]


def test_a_map_follows_and_comes_back(server: AtlasServer) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    first = gnomonic.map_data(embeddings=vectors[:40], identifier="grows", topic_model=False)
    dataset = first.dataset
    assert dataset.get_map().id == first.id
    stages: list[str] = []
    assert dataset.add_data(embeddings=vectors[40:], on_progress=lambda told: stages.append(told.stage))[0] == "40"
    second = dataset.get_map()
    assert (second.record.rows, second.record.grown_rows, len(dataset.maps)) == (50, 10, 2)
    np.testing.assert_array_equal(second.embeddings.latent, vectors.astype(second.embeddings.latent.dtype))
    with pytest.raises(InputError, match="given vectors"):
        dataset.add_data([{"word": "x"}])
    with pytest.raises(DatasetError, match="topic modeling"):
        _ = second.topics.tb
    assert dataset.roll_back(first.id).id == dataset.get_map().id == first.id
    dataset.update_indices(rebuild_topic_models=True)
    assert dataset.get_map().record.grown_rows == 0
    second.delete()
    assert second.id not in [one.id for one in dataset.maps]
    with pytest.raises(DatasetError, match="has rows already"):
        gnomonic.map_data(embeddings=vectors, identifier="grows")


def test_a_build_that_fails_or_is_cancelled(server: AtlasServer, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = AtlasDataset("fails", unique_id_field="key")
    dataset.add_data(_table(20))

    def broken(name: str, values: list[Any], options: Any) -> Any:
        raise SchemaError("these words cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(server.desk.encoders, "_encode", broken)
        with pytest.raises(SchemaError, match="cannot be read"):
            dataset.create_index(indexed_field="text")
    monkeypatch.setattr(server, "works", False)
    monkeypatch.setattr(
        "gnomonic.client.remote_datasets.time.sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        dataset.create_index(indexed_field="text")
    server.work()
    jobs = json.loads(server.answer("GET", "/v1/datasets/local/fails/jobs", {}, b"")[2])["jobs"]
    assert [job["state"] for job in jobs] == ["failed", "cancelled"]
    assert dataset.maps == []


def test_what_is_no_server_of_ours(server: AtlasServer, monkeypatch: pytest.MonkeyPatch) -> None:
    user = (200, {}, b'{"organizations": [{"slug": "me"}]}')
    for script, match in (
        ([user, (404, {}, b'{"detail": "Not Found"}')], "no Gnomonic server"),
        ([user, (404, {"x-gnomonic-version": "0"}, b'{"detail": "is not known here"}')], "an older Gnomonic server"),
        ([(404, {}, b"")], "no Gnomonic server"),
        ([(200, {}, b"<html>")], "unreadable"),
        ([(302, {"location": "/login"}, b"")], "no Gnomonic server"),
    ):
        server.script.extend(script)
        with pytest.raises(RemoteError, match=match) as raised:
            AtlasDataset("books")
        assert "root=" in raised.value.hint
        assert not server.script
    server.key = "secret"
    with pytest.raises(AuthenticationError, match="no such key") as refused:
        AtlasDataset("books")
    assert "GNOMONIC_API_KEY" in refused.value.hint
    monkeypatch.setenv("GNOMONIC_API_KEY", "secret")
    assert AtlasDataset("keyed").total_datums == 0


def test_what_is_tried_again(server: AtlasServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("gnomonic.client.remote.time.sleep", pauses.append)
    dataset = AtlasDataset("again")
    busy = (503, {"retry-after": "3"}, b"")
    server.script.extend([busy, None, (200, {"x-gnomonic-version": "0"}, b'{"rows": 5}')])
    assert dataset.total_datums == 5
    assert len(pauses) == 2
    assert pauses[0] >= 3
    # Rows whose answer is lost are not sent twice: they might be there twice.
    pauses.clear()
    with monkeypatch.context() as patch:
        patch.setattr(type(dataset.store), "about", lambda _: {"unique_id_field": "id_"})
        server.script.extend([busy, None])
        with pytest.raises(RemoteError, match="not known"):
            dataset.add_data([{"word": "x"}], update_maps=False)
    assert len(pauses) == 1
    assert dataset.total_datums == 0
