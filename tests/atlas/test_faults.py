"""What strangers do to datasets and maps: odd arguments, changes at a bad time, leftovers, full disks."""

from __future__ import annotations

import shutil
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from gnomonic.atlas import map_folder, row_state
from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.embedding import EncodedChunk
from gnomonic.atlas.lock import hold
from gnomonic.atlas.options import EmbedOptions
from gnomonic.atlas.progress import Progress
from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError


class Letters:
    """Encoders that count letters; implements `atlas.encoders.Encoders`."""

    def model_of(self, modality: str, options: EmbedOptions) -> str:
        return options.model or "letters"

    def open(self, modality: str, options: EmbedOptions) -> Any:
        def encode(values: list[Any], /) -> EncodedChunk:
            texts = [str(value) for value in values]
            return EncodedChunk(vectors=np.array([[t.count(c) + 0.1 for c in "abcdefgh"] for t in texts], np.float32))

        return encode


def _vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Sixty rows with vectors and a map."""
    made = Dataset("faults", root=tmp_path, encoders=Letters())
    made.add_data({"n": list(range(60))}, _vectors(60))
    made.create_index()
    return made


# -- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vectors", "said"),
    [([[1.0, 2.0], [1.0]], "row 1 has a vector of 1"), (np.array(5.0), r"shape \(\)"), (np.ones(5), r"shape \(5,\)")],
)
def test_vectors_that_are_no_matrix(tmp_path: Path, vectors: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Dataset("odd", root=tmp_path).add_data(embeddings=vectors)


@pytest.mark.parametrize(
    "act",
    [
        lambda d: d.delete_data("12"),
        lambda d: d.get_data("12"),
        lambda d: d.get_map().tags.add(["1"], "good"),
        lambda d: d.get_map().tags.add("12", ["good"]),
        lambda d: d.get_map().search(id="1", columns="n"),
        lambda d: d.get_map().search(id="1", topics="Region 1"),
        lambda d: d.get_map().embeddings.vector_search(ids="12"),
    ],
)
def test_a_string_is_no_list(dataset: Dataset, act: Callable[[Dataset], Any]) -> None:
    with pytest.raises(InputError, match="give a list"):
        act(dataset)
    assert len(dataset) == 60
    assert dataset.get_map().tags.get_tags() == {}


@pytest.mark.parametrize("map_id", ["../../../evil", "name", "", 7])
def test_a_promised_map_id_is_a_uuid(dataset: Dataset, map_id: Any) -> None:
    with pytest.raises(InputError, match="is no UUID"):
        dataset.create_index(map_id=map_id)


def test_a_map_id_is_given_once(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="is another map's"):
        dataset.create_index(map_id=dataset.get_map().id)
    with pytest.raises(DatasetError, match="there is no map"):
        dataset.roll_back(f"../maps/{dataset.get_map().id}")


def test_columns_named_as_those_made_here(tmp_path: Path) -> None:
    dataset = Dataset("names", root=tmp_path, unique_id_field="x")
    ids = [f"i{n}" for n in range(40)]
    dataset.add_data({"x": ids, "_x": ids, "_trust": ids, "_topic_depth_1": ids, "_score": ids}, _vectors(40))
    made = dataset.create_index()
    assert made.embeddings.tb.column_names == ["x", "_x", "y"]
    assert made.embeddings.tb["x"].to_pylist() == ids
    found = made.search(id="i1", k=2)
    assert found.column_names[-2:] == ["_score", "__score"]
    table = pq.read_table(made.to_parquet(tmp_path / "out.parquet"))
    assert table["_x"].to_pylist() == table["_topic_depth_1"].to_pylist() == ids
    assert {"__x", "_y", "__trust", "__topic_depth_1"} <= set(table.column_names)
    with pytest.raises(DatasetError, match="cannot be written"):
        made.to_parquet(tmp_path / "none" / "out.parquet")


# -- rows that come, change and go ----------------------------------------------------------------------------------


def test_rows_that_cannot_be_on_the_map_are_refused_before_they_are_stored(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="map is of given vectors"):
        dataset.add_data({"n": [1, 2]})
    assert len(dataset) == 60
    assert dataset.add_data({"n": [1]}, update_maps=False) == ["60"]


def test_rows_that_come_while_a_map_is_built(dataset: Dataset) -> None:
    asked: list[int] = []

    def on_progress(report: Progress) -> None:
        if report.stage == "projection" and not asked:
            asked.extend(map(int, dataset.add_data({"n": [7]}, _vectors(1, seed=9))))

    dataset.create_index(seed=2, on_progress=on_progress)
    assert asked == [60]
    assert (len(dataset), dataset.get_map().record.rows) == (61, 60)
    dataset.update_indices()
    assert dataset.get_map().record.rows == 61


def test_rows_change_often_while_a_map_is_built(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that the build reads is neither forgotten nor cleaned up."""
    monkeypatch.setattr(row_state, "_MAX_VERSIONS", 3)
    dataset.delete_data(["0"])
    changed: list[int] = []

    def on_progress(report: Progress) -> None:
        if report.stage == "projection" and not changed:
            changed.extend(dataset.delete_data([str(row)]) for row in range(1, 10))
            dataset.store.optimize(keep_s=0)

    assert dataset.create_index(seed=2, on_progress=on_progress).record.rows == 59
    assert (len(changed), len(dataset.get_map().ids)) == (9, 50)


def test_who_builds_second_is_told(dataset: Dataset) -> None:
    with hold(dataset.home.folder / "build.lock"), pytest.raises(DatasetError, match="is being built already"):
        dataset.create_index(seed=2)


def test_a_map_that_cannot_follow_does_not_hide_that_rows_were_added(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(map_folder, "_link", full)
        with pytest.raises(DatasetError, match=r"rows were added, but .* No space left") as caught:
            dataset.add_data({"n": [7]}, _vectors(1, seed=9))
    assert "do not give the rows again" in caught.value.hint
    assert (len(dataset), dataset.get_map().record.rows) == (61, 60)
    assert not list(dataset.home.maps.glob(".*"))
    dataset.update_indices()
    assert dataset.get_map().record.rows == 61


def test_a_held_map_follows_deletions(dataset: Dataset) -> None:
    held = dataset.get_map()
    assert len(held.ids) == held.data.tb.num_rows == 60
    dataset.delete_data(["3", "5"])
    dataset.store.optimize(keep_s=0)
    for table in (held.data.tb, held.embeddings.tb, held.topics.tb, held.duplicates.tb, held.tags.tb):
        assert table["id_"].to_pylist() == [str(n) for n in range(60) if n not in (3, 5)]
    assert len(held.trust) == len(held.embeddings.latent) == 58
    labels = held.topics.labels
    assert [topic.count for topic in held.topics.records] == [
        int((labels == one.id).sum()) for one in held.topics.records
    ]
    assert held.embeddings.vector_search(queries=_vectors(60)[3:4], k=58)[0][0].count("3") == 0


@pytest.mark.parametrize("count", [1, 3])
def test_a_map_that_is_mostly_new_is_built_again(tmp_path: Path, count: int) -> None:
    dataset = Dataset("small", root=tmp_path)
    dataset.add_data(embeddings=_vectors(count))
    index = dataset.create_index().index_id
    dataset.add_data(embeddings=_vectors(100, seed=1))
    made = dataset.get_map()
    assert (made.record.rows, made.record.grown_rows, made.index_id) == (count + 100, 0, index)
    assert len(np.unique(np.asarray(made.folder.xy), axis=0)) == count + 100
    assert np.load(made.folder.folder / "neighbors" / "indices.npy").shape[1] > 3


def test_a_map_grows_one_row_at_a_time_from_one(tmp_path: Path) -> None:
    dataset = Dataset("small", root=tmp_path)
    dataset.add_data(embeddings=_vectors(1))
    dataset.create_index(topic_model=False)
    for seed in range(5):
        dataset.add_data(embeddings=_vectors(1, seed=seed + 1))
    assert len(np.unique(np.asarray(dataset.get_map().folder.xy), axis=0)) == 6


def test_all_rows_go_and_others_come(dataset: Dataset) -> None:
    dataset.delete_data(dataset.get_map().ids.to_pylist())
    assert dataset.get_map().ids.to_pylist() == []
    dataset.add_data({"n": list(range(30))}, _vectors(30, seed=4))
    assert len(np.unique(np.asarray(dataset.get_map().folder.xy), axis=0)) == 30


def test_a_grown_map_is_built_again_on_request(tmp_path: Path) -> None:
    dataset = Dataset("texts", root=tmp_path, encoders=Letters())
    dataset.add_data({"text": [f"{'abcdefgh'[i % 8] * 4} n{i}" for i in range(48)]})
    first = dataset.create_index(indexed_field="text", topic_model={"labels": ("aaa", "bbb", "ccc")})
    dataset.add_data({"text": ["abc", "bcd"]})
    assert dataset.get_map().record.grown_rows == 2
    dataset.update_indices(rebuild_topic_models=True)
    again = dataset.get_map()
    assert (again.record.grown_rows, again.record.rows) == (0, 50)
    assert again.index_id == first.index_id
    dataset.update_indices(rebuild_topic_models=True)
    assert dataset.get_map().id == again.id


def test_steps_of_growing_do_not_fill_the_disk(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    built = dataset.get_map()
    monkeypatch.setattr(map_folder, "_STEP_S", 0.0)
    for seed in range(5):
        dataset.add_data({"n": [seed]}, _vectors(1, seed=seed + 10))
    maps = dataset.maps
    assert [one.record.rows for one in maps] == [60, 63, 64, 65]
    assert maps[0].id == built.id
    # Of finished stages only those of the last map are kept.
    assert len(list((dataset.home.folder / "build").iterdir())) == len(maps[-1].record.stages)
    assert dataset.roll_back(built.id).record.rows == 60


# -- leftovers and damage -------------------------------------------------------------------------------------------


def test_a_build_that_was_killed_while_it_published_goes_on_under_its_promised_id(dataset: Dataset) -> None:
    promised = str(uuid.uuid4())
    for left in (f".{promised}.partial", f".{uuid.uuid4()}.partial", f".{uuid.uuid4()}.doomed"):
        (dataset.home.maps / left).mkdir()
    assert dataset.create_index(seed=2, map_id=promised).id == promised
    assert not list(dataset.home.maps.glob(".*"))


def test_a_current_map_that_is_gone(dataset: Dataset) -> None:
    first = dataset.get_map()
    second = dataset.create_index(seed=2)
    shutil.rmtree(second.folder.folder)  # as a deletion leaves it that is killed before it names another
    assert dataset.get_map().id == first.id
    dataset.add_data({"n": [1]}, _vectors(1, seed=3))
    assert dataset.get_map().record.rows == 61


def test_a_current_map_that_is_damaged_can_be_built_again_or_deleted(dataset: Dataset) -> None:
    old = dataset.get_map()
    (old.folder.folder / "map.json").write_text("{", encoding="utf-8")
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.get_map()
    made = dataset.create_index(seed=2)
    assert dataset.get_map().id == made.id


def test_a_dataset_that_was_deleted_elsewhere_does_not_come_back(tmp_path: Path) -> None:
    held = Dataset("gone", root=tmp_path)
    Dataset("gone", root=tmp_path).delete()
    with pytest.raises(DatasetNotFoundError, match="was deleted"):
        held.add_data([{"a": 1}])
    assert not held.home.folder.exists()
    assert Dataset("gone", root=tmp_path).id != held.id


def test_a_dataset_that_is_deleted_while_it_is_built(dataset: Dataset) -> None:
    def on_progress(report: Progress) -> None:
        if report.stage == "projection" and dataset.home.folder.exists():
            Dataset(dataset.identifier, root=dataset.home.folder.parents[2]).delete()

    with pytest.raises(DatasetError, match="cannot be written"):
        dataset.create_index(seed=2, on_progress=on_progress)
    assert not dataset.home.folder.exists()


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "datasets" / "local" / "taken" / "maps").mkdir(parents=True)
    with pytest.raises(DatasetError, match="a folder without a record is in the way"):
        Dataset("taken", root=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
@pytest.mark.parametrize("limit", [100, 15_000])
def test_a_full_disk_leaves_the_old_map(tmp_path: Path, limit: int) -> None:
    import resource

    dataset = Dataset("full", root=tmp_path)
    dataset.add_data(embeddings=_vectors(400))
    old = dataset.create_index()
    dataset.add_data(embeddings=_vectors(100, seed=1), update_maps=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DatasetError, match=r"stage \w+ of the map cannot be written") as caught:
            dataset.create_index(seed=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "make room" in caught.value.hint
    assert dataset.get_map().id == old.id
    assert dataset.create_index(seed=2).record.rows == 500


def test_an_error_of_whoever_watches_stays_what_it_is(dataset: Dataset) -> None:
    def on_progress(_: Progress) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        dataset.create_index(seed=2, on_progress=on_progress)


# -- several at once ------------------------------------------------------------------------------------------------


def test_who_waits_for_a_lock_comes_before_who_takes_it_again(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    waiting, turns = threading.Event(), []

    def wait() -> None:
        waiting.set()
        with hold(path, wait_s=20):
            turns.append("other")

    other = threading.Thread(target=wait)
    for turn in range(2000):
        with hold(path):
            if turn == 0:
                other.start()
                waiting.wait()
            turns.append("ours")
        if "other" in turns:
            break
    other.join()
    assert turns.index("other") < 500


def test_threads_read_a_map_while_rows_go(dataset: Dataset) -> None:
    held = dataset.get_map()
    errors: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                for table in (held.data.tb, held.embeddings.tb, held.topics.tb, held.duplicates.tb):
                    assert table.num_rows
            except Exception as error:  # noqa: BLE001 - shown by the assertion below
                errors.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for row in range(30):
        dataset.delete_data([str(row)])
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert len(held.ids) == 30
