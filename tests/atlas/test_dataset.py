"""Datasets and maps as a user holds them, from rows to search, and what happens to them later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.embedding import PROBE, EncodedChunk
from gnomonic.atlas.options import EmbedOptions
from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError

WORDS = ("whale ocean fish reef", "train station rail engine", "violin piano orchestra opera", "bread oven flour yeast")


class Hashing:
    """Encoders that embed a text by its words; implements `atlas.encoders.Encoders`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.shift = 0
        """Another number is another model."""

    def model_of(self, modality: str, options: EmbedOptions) -> str:
        return options.model or "hashing"

    def open(self, modality: str, options: EmbedOptions) -> Any:
        def encode(values: list[Any], /) -> EncodedChunk:
            self.seen += [value for value in values if value != PROBE]
            made = np.zeros((len(values), 64), dtype=np.float32)
            for row, value in enumerate(values):
                for word in value.split():
                    made[row] += np.random.default_rng(sum(map(ord, word)) * 7919 + len(word) + self.shift).normal(
                        size=64
                    )
            norms = np.linalg.norm(made, axis=1, keepdims=True)
            return EncodedChunk(vectors=made / np.where(norms, norms, 1))

        return encode


def _texts(count: int, seed: int = 0) -> list[str]:
    chance = np.random.default_rng(seed)
    return [" ".join(chance.choice(WORDS[i % len(WORDS)].split(), 6)) + f" n{i}" for i in range(count)]


def _clustered(count: int, dim: int = 32, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    centres = chance.normal(size=(8, dim)) * 3
    return (centres[np.arange(count) % 8] + chance.normal(size=(count, dim))).astype(np.float32)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset("My Books", root=tmp_path, encoders=Hashing())


def test_the_three_lines(dataset: Dataset) -> None:
    vectors = _clustered(300)
    dataset.add_data(embeddings=vectors)
    made = dataset.create_index()
    assert made.embeddings.latent.shape == (300, 32)
    np.testing.assert_array_equal(np.asarray(made.embeddings.latent), vectors)
    assert made.embeddings.tb.column_names == ["id_", "x", "y"]
    assert dataset.modality == "embedding"
    neighbors, distances = made.embeddings.vector_search(queries=vectors[:2], k=3)
    assert [row[0] for row in neighbors] == made.ids.to_pylist()[:2]
    assert distances[0][0] == pytest.approx(0, abs=1e-3)


def test_names_follow_the_official_rule(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.identifier == "local/my-books"
    assert Dataset("My Déjà_vu  Map!", root=tmp_path).slug == "my-deja-vu-map"
    assert Dataset("my books", root=tmp_path).id == dataset.id
    assert Dataset(dataset_id=dataset.id, root=tmp_path).slug == "my-books"
    with pytest.raises(InputError, match="no letter"):
        Dataset("日本", root=tmp_path)
    with pytest.raises(DatasetNotFoundError):
        Dataset("other", root=tmp_path, create=False)
    with pytest.raises(DatasetError, match="id column"):
        Dataset("my books", root=tmp_path, unique_id_field="key")


def test_a_text_map_has_topics_duplicates_and_search(dataset: Dataset) -> None:
    rows = [{"text": text, "n": i} for i, text in enumerate(_texts(240))]
    rows[10]["text"] = rows[2]["text"]
    dataset.add_data(rows)
    made = dataset.create_index(indexed_field="text")
    found = made.search("whale reef", k=5, columns=["text"])
    assert all("n" in text for text in found["text"].to_pylist())
    assert {word for text in found["text"].to_pylist() for word in text.split()[:-1]} <= set(WORDS[0].split())
    assert found["_score"].to_pylist() == sorted(found["_score"].to_pylist(), reverse=True)
    only = made.search("whale reef", k=5, where="n > 200", columns=["n"])
    assert min(only["n"].to_pylist()) > 200
    words = made.search("n17", mode="words", k=3, columns=["n"])
    assert words["n"].to_pylist() == [17]
    groups = made.duplicates.tb["cluster_id"].to_pylist()
    assert groups[10] == groups[2] != groups[3]
    assert len({"2", "10"} & set(made.duplicates.deletion_candidates())) >= 1
    names = [topic.name for topic in made.topics.records]
    assert len(set(names)) == len(names)
    assert sum(len(group["datum_ids"]) for group in made.topics.group_by_topic(1)) <= 240
    assert set(made.quality) >= {"neighbor_recall", "neighborhood_preservation", "trustworthiness", "triplet_accuracy"}


def test_the_same_rows_and_seed_give_the_same_map(tmp_path: Path) -> None:
    planes = []
    for name in ("a", "b"):
        dataset = Dataset(name, root=tmp_path)
        dataset.add_data(embeddings=_clustered(200))
        planes.append(np.asarray(dataset.create_index(seed=3).folder.xy))
    np.testing.assert_array_equal(*planes)


def test_new_rows_are_placed_and_old_ones_stay(dataset: Dataset) -> None:
    dataset.add_data({"text": _texts(200)})
    before = dataset.create_index(indexed_field="text")
    xy = np.asarray(before.folder.xy)
    dataset.add_data({"text": _texts(8, seed=9)})
    after = dataset.get_map()
    assert after.id != before.id
    assert after.index_id == before.index_id
    np.testing.assert_array_equal(np.asarray(after.folder.xy)[:200], xy)
    assert after.record.grown_rows == 8
    assert len(after.data.tb) == 208
    centre = xy[np.arange(200) % 4 == 0].mean(axis=0)
    spread = np.linalg.norm(xy[np.arange(200) % 4 == 0] - centre, axis=1).max()
    assert np.linalg.norm(np.asarray(after.folder.xy)[200] - centre) <= 1.5 * spread
    assert dataset.roll_back(before.id).record.rows == 200


def test_only_new_texts_are_embedded_again(tmp_path: Path) -> None:
    encoders = Hashing()
    dataset = Dataset("again", root=tmp_path, encoders=encoders)
    dataset.add_data({"text": _texts(50)})
    # Topics ask the model as well, for the words that name them.
    dataset.create_index(indexed_field="text", topic_model=False)
    assert len(encoders.seen) == 50
    dataset.add_data({"text": ["whale n900", *_texts(2)]})
    assert encoders.seen[50:] == ["whale n900"]


def test_a_model_that_was_trained_again_embeds_everything_again(tmp_path: Path) -> None:
    encoders = Hashing()
    dataset = Dataset("trained", root=tmp_path, encoders=encoders)
    dataset.add_data({"text": _texts(60)})
    before = np.asarray(dataset.create_index(indexed_field="text", topic_model=False).embeddings.latent)
    encoders.shift = 1
    encoders.seen.clear()
    dataset.add_data({"text": ["whale n900"]})
    assert len(encoders.seen) == 61
    after = np.asarray(dataset.get_map().embeddings.latent)
    assert after.shape == (61, 64)
    assert not np.allclose(before, after[:60], atol=0.1)


def test_changed_and_deleted_rows(tmp_path: Path) -> None:
    dataset = Dataset("change", unique_id_field="key", root=tmp_path, encoders=Hashing())
    dataset.add_data({"key": [f"k{i}" for i in range(100)], "text": _texts(100)})
    made = dataset.create_index(indexed_field="text")
    made.tags.add(["k1", "k2", "k3"], ["good"])
    assert dataset.delete_data(["k2", "no such id"]) == 1
    gone = dataset.get_map()
    assert "k2" not in gone.ids.to_pylist()
    assert gone.tags.get_tags() == {"good": ["k1", "k3"]}
    assert "k2" not in gone.search("whale", k=100, columns=[])["key"].to_pylist()
    dataset.update_data([{"key": "k5", "text": "violin opera"}])
    assert dataset.get_data(["k5"])[0]["text"] == "violin opera"
    changed = dataset.get_map()
    assert changed.record.rows == 99
    assert dataset.get_data(["k1", "k0"])[0]["key"] == "k1"
    with pytest.raises(DatasetError, match="nobody"):
        dataset.get_data(["nobody"])


def test_rebuilding_is_laid_onto_the_old_map(dataset: Dataset) -> None:
    dataset.add_data(embeddings=_clustered(300))
    first = np.asarray(dataset.create_index(seed=1).folder.xy)
    second = np.asarray(dataset.create_index(seed=2).folder.xy)
    span = first.max() - first.min()
    centres = [np.array([plane[i::8].mean(axis=0) for i in range(8)]) for plane in (first, second)]
    free = np.asarray(Dataset("free", root=dataset.home.folder.parents[2]).store.count())
    assert free == 0
    assert np.linalg.norm(centres[0] - centres[1], axis=1).mean() < 0.35 * span


@pytest.mark.parametrize("count", [1, 2, 14])
def test_tiny_datasets(tmp_path: Path, count: int) -> None:
    dataset = Dataset("tiny", root=tmp_path)
    dataset.add_data(embeddings=_clustered(count, dim=8))
    made = dataset.create_index()
    assert np.isfinite(np.asarray(made.folder.xy)).all()
    neighbors, _ = made.embeddings.vector_search(ids=made.ids.to_pylist()[:1], k=5)
    assert len(neighbors[0]) == min(count, 5)


@pytest.mark.parametrize(
    "vectors", [np.ones((50, 8)), np.zeros((50, 8)), np.random.default_rng(0).normal(size=(50, 2))]
)
def test_odd_vectors(tmp_path: Path, vectors: np.ndarray) -> None:
    dataset = Dataset("odd", root=tmp_path)
    dataset.add_data(embeddings=vectors)
    made = dataset.create_index()
    assert np.isfinite(np.asarray(made.folder.xy)).all()


def test_a_search_takes_one_query(dataset: Dataset) -> None:
    dataset.add_data(embeddings=_clustered(20))
    made = dataset.create_index()
    with pytest.raises(InputError, match="give one of query, vector, id, not none"):
        made.search()
    with pytest.raises(InputError, match="not query and id"):
        made.search("whale", id="3")


def test_a_map_needs_rows_and_a_field(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="no rows"):
        dataset.create_index()
    dataset.add_data({"text": ["a", "b"], "n": [1, 2]})
    with pytest.raises(InputError, match="no field") as caught:
        dataset.create_index()
    assert "text" in caught.value.hint
    with pytest.raises(InputError, match="int64 and no texts"):
        dataset.create_index(indexed_field="n")
    with pytest.raises(InputError, match="did you mean 'n_neighbors'"):
        dataset.create_index(indexed_field="text", projection={"n_neighbours": 3})


def test_a_cancelled_build_goes_on(dataset: Dataset) -> None:
    dataset.add_data(embeddings=_clustered(300))

    def cancel(report: Any) -> None:
        if report.stage == "projection":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.create_index(on_progress=cancel)
    assert dataset.maps == []
    made = dataset.create_index()
    assert {stage["name"]: stage["reused"] for stage in made.record.stages}["neighbors"]
    assert not list(dataset.home.maps.glob(".*partial"))


def test_export(dataset: Dataset, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    dataset.add_data({"text": _texts(60), 'odd "name".x': list(range(60))})
    made = dataset.create_index(indexed_field="text")
    table = pq.read_table(made.to_parquet(tmp_path / "out.parquet"))
    assert table.num_rows == 60
    assert {"text", 'odd "name".x', "_x", "_y", "_trust"} <= set(table.column_names)
