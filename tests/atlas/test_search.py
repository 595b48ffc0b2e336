"""Search over a map: what is near, what has the words, what passes; nothing that is gone."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from gnomonic.atlas.map_folder import MapFolder, MapRecord, now
from gnomonic.atlas.search import MapSearch
from gnomonic.atlas.store import open_store
from gnomonic.atlas.topics import Topic, Topics
from gnomonic.errors import DatasetError, InputError

WORDS = ["red fox", "grey wolf", "red deer", "blue whale", "grey whale", "red panda", "snow fox", "sea otter"]
AXES = sorted({word for text in WORDS for word in text.split()})


def _encode(text: str):
    vector = np.array([float(axis in text.split()) for axis in AXES], dtype=np.float32)
    return vector / max(np.linalg.norm(vector), 1e-9)


def _topic(number, depth, name, count):
    return Topic(
        id=number, depth=depth, parent=None, name=name, description="", keywords=(), count=count, x=0.0, y=0.0,
        exemplars=(),
    )  # fmt: skip


def _publish(path, store, vectors, metric="cosine"):
    """Write a map of the store's rows, in reverse, as a build leaves it."""
    rows = np.concatenate([batch.column(0).to_numpy() for batch in store.scan(["_row"])])[::-1]
    count = len(rows)
    record = MapRecord(
        id="m", index_id="i", name="animals", created=now(), version=store.version, rows=count, dim=vectors.shape[1],
        modality="text", indexed_field="text", model=None, options={"neighbors": {"metric": metric}}, seed=0,
    )  # fmt: skip
    for stage in ("embeddings", "tiles", "topics"):
        (path / stage).mkdir(parents=True)
    (path / "map.json").write_text(json.dumps(asdict(record)))
    np.save(path / "embeddings" / "rows.npy", rows)
    np.save(path / "embeddings" / "vectors.npy", vectors[::-1])
    np.save(path / "tiles" / "order.npy", np.roll(np.arange(count), 3))
    labels = np.array([[0] * 5 + [-1] * 3, [1, 1, 2, 2, 2, -1, -1, -1]], dtype=np.int32)
    topics = (_topic(0, 1, "Land", 5), _topic(1, 2, "Cold", 2), _topic(2, 2, "Warm", 3))
    Topics(topics=topics, labels=labels, centroids=np.zeros((3, 2), dtype=np.float32)).save(path / "topics")
    return MapFolder(path)


@pytest.fixture
def store(tmp_path):
    made = open_store(tmp_path / "animals", unique_id_field="id")
    table = pa.table({"id": [f"a{i}" for i in range(8)], "text": WORDS, "year": list(range(2000, 2008))})
    made.append(table)
    made.create_full_text(["text"])
    yield made
    made.close()


@pytest.fixture
def folder(store, tmp_path):
    return _publish(tmp_path / "map", store, np.stack([_encode(text) for text in WORDS]).astype(np.float16))


@pytest.fixture
def search(store, folder):
    return MapSearch(folder, store, encode_query=_encode)


def _texts(search, hits):
    return search.table(hits)["text"].to_pylist()


def test_by_meaning_and_by_vector(search) -> None:
    hits = search.by_text("red fox", 4)
    assert _texts(search, hits)[0] == "red fox"
    assert set(_texts(search, hits)[1:]) == {"red deer", "red panda", "snow fox"}
    np.testing.assert_allclose(hits.scores, [1, 0.5, 0.5, 0.5], atol=1e-3)
    np.testing.assert_array_equal(search.by_vector(_encode("red fox"), 4).rows, hits.rows)
    # Equal scores come by row, and rows of this map run backwards.
    assert _texts(search, hits)[1:] == ["snow fox", "red panda", "red deer"]


def test_by_row_leaves_the_row_out(search) -> None:
    hits = search.by_row("a0", 3)
    assert set(_texts(search, hits)) == {"red deer", "red panda", "snow fox"}
    assert len(search.by_row("a0", 100)) == 7


def test_nearest_gives_l2_between_unit_vectors(search) -> None:
    wanted = search.vectors_of(["a3", "a0"])
    np.testing.assert_allclose(wanted, np.stack([_encode("blue whale"), _encode("red fox")]), atol=1e-3)
    rows, distances = search.nearest(3 * wanted, 2)
    assert rows[:, 0].tolist() == [4, 7]
    np.testing.assert_allclose(distances, [[0, 1], [0, 1]], atol=2e-3)


def test_a_euclidean_map_scores_by_distance(store, tmp_path) -> None:
    places = np.arange(16, dtype=np.float32).reshape(8, 2) ** 1.5
    search = MapSearch(_publish(tmp_path / "plane", store, places, metric="cosine"), store)
    rows, distances = search.nearest(places[2:3], 2)
    assert rows.tolist() == [[5, 6]]
    np.testing.assert_allclose(distances[0], [0, np.linalg.norm(places[2] - places[1])], rtol=1e-5)
    np.testing.assert_allclose(search.by_vector(places[2], 2).scores, -distances[0])
    assert search.heat(id="a2").max() == 0


def test_by_words(search) -> None:
    assert set(_texts(search, search.by_words("whale", 5))) == {"blue whale", "grey whale"}
    assert _texts(search, search.by_words("grey whale", 1)) == ["grey whale"]
    assert len(search.by_words("unicorn", 5)) == 0
    with pytest.raises(InputError, match="year"):
        search.by_words("whale", 5, ["year"])


def test_words_that_pass_the_mask_are_found_however_far_down(tmp_path) -> None:
    store = open_store(tmp_path / "many", unique_id_field="id")
    store.append(pa.table({"id": list(range(300)), "text": ["word " * 3] * 299 + ["word and much else"]}))
    store.create_full_text(["text"])
    search = MapSearch(_publish(tmp_path / "map", store, np.ones((300, 2), dtype=np.float32)), store)
    hits = search.by_words("word", 1, mask=search.mask(where="id = 299"))
    assert search.table(hits)["id"].to_pylist() == [299]
    store.close()


def test_hybrid_joins_ranks(search) -> None:
    by_meaning, by_words = search.by_text("red fox", 8).rows.tolist(), search.by_words("red fox", 8).rows.tolist()
    hits = search.hybrid("red fox", 3)
    expected = {row: 1 / (61 + place) for place, row in enumerate(by_meaning)}
    for place, row in enumerate(by_words):
        expected[row] += 1 / (61 + place)
    best = sorted(expected, key=lambda row: (-expected[row], row))[:3]
    assert hits.rows.tolist() == best
    np.testing.assert_allclose(hits.scores, [expected[row] for row in best], rtol=1e-6)
    assert _texts(search, hits)[0] == "red fox"


def test_masks_are_joined_by_and(search, store) -> None:
    assert search.mask() is None
    young = search.mask(where="year >= 2005")
    assert _texts(search, search.by_text("red fox", 5, young)) == ["snow fox", "red panda", "sea otter"]
    # Rows run backwards: the topic "Warm" holds the rows 2 to 4 of the map, "a5" to "a3".
    warm = search.mask(topics=["Warm"])
    assert warm.tolist() == [False, False, True, True, True, False, False, False]
    assert search.mask(topics=[1, "Warm"]).tolist() == search.mask(topics=["Land"]).tolist()
    tagged = store.rows_of(["a5", "a0"])
    both = search.mask(where="year >= 2005", topics=["Warm"], tags=tagged, selection=store.rows_of(["a5", "a7"]))
    assert search.table(search.by_text("fox", 5, both))["id"].to_pylist() == ["a5"]
    assert len(search.by_words("red", 5, mask=both)) == 1
    assert search.hybrid("red fox", 5, both).rows.tolist() == [2]


def test_wrong_questions_are_told(search, folder, store) -> None:
    with pytest.raises(InputError, match="did you mean 'Warm'"):
        search.mask(topics=["Warn"])
    with pytest.raises(InputError, match="no topic 9"):
        search.mask(topics=[9])
    with pytest.raises(InputError):
        search.mask(where="nothing > 1")
    with pytest.raises(InputError, match="k 0"):
        search.by_text("fox", 0)
    with pytest.raises(InputError, match="one of"):
        search.heat()
    with pytest.raises(InputError, match="no model"):
        MapSearch(folder, store).by_text("fox", 1)
    with pytest.raises(DatasetError):
        search.by_row("unknown", 1)


def test_rows_that_went_are_never_found_and_new_ones_are_not_on_the_map(search, store) -> None:
    assert _texts(search, search.by_text("red fox", 1)) == ["red fox"]
    store.delete(["a0", "a4"])
    store.append(pa.table({"id": ["new"], "text": ["red fox whale"], "year": [2020]}))
    assert "red fox" not in _texts(search, search.by_text("red fox", 8))
    assert len(search.by_text("red fox", 8)) == 6
    assert _texts(search, search.by_words("whale", 8)) == ["blue whale"]
    assert search.by_vector(_encode("grey"), 8, np.ones(8, dtype=bool)).rows.tolist().count(3) == 0
    assert set(search.hybrid("red whale", 8).rows.tolist()) == {0, 1, 2, 4, 5, 6}
    assert not {3, 7} & set(search.nearest(np.ones((5, len(AXES))), 8)[0].ravel().tolist())
    assert search.mask(where="id = 'new'").sum() == 0
    with pytest.raises(DatasetError, match="'new' was added after"):
        search.by_row("new", 1)
    heat = search.heat(text="red fox")
    assert np.isnan(heat).sum() == 2


def test_heat_is_in_map_order(search, folder) -> None:
    heat = search.heat(text="red fox")
    true = np.stack([_encode(text) for text in WORDS])[::-1] @ _encode("red fox")
    np.testing.assert_allclose(heat, true[folder.order], atol=1e-3)
    np.testing.assert_allclose(search.heat(id="a0"), heat, atol=1e-3)
    np.testing.assert_allclose(search.heat(vector=5 * _encode("red fox")), heat, atol=1e-3)


def test_a_table_has_ids_columns_and_scores(search) -> None:
    table = search.table(search.by_text("whale", 2), ["year", "id"])
    assert table.column_names == ["id", "year", "_score"]
    assert table["year"].to_pylist() == [2004, 2003]
    assert search.table(search.by_words("unicorn", 2)).num_rows == 0
