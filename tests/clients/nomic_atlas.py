"""Use Nomic's client 3.9.0, unmodified, with a server of ours: `nomic_atlas.py STEP URL KEY`; prints one JSON line.

Runs in the clients' own environment, without our package. HOME is a folder of the test's.
"""

import io
import json
import os
import sys
import time

import numpy as np

STEP, URL, KEY = sys.argv[1:4]
os.environ["ATLAS_API_PATH"] = URL
os.environ["TQDM_DISABLE"] = "1"

from nomic import AtlasDataset, atlas, login  # noqa: E402

login(KEY)


def vectors(n, dim=16):
    """Three groups, so that there are topics to find."""
    draw = np.random.default_rng(0)
    return (draw.normal(size=(n, dim)) * 0.1 + np.eye(3, dim)[np.arange(n) % 3]).astype(np.float32)


def wait(dataset):
    until = time.monotonic() + 240
    while not dataset.is_accepting_data:
        assert time.monotonic() < until
        time.sleep(0.2)


def embeddings():
    """Vectors, by ids of the user's own, in several shards."""
    n = 12_000
    words = ("apples and pears", "the deep blue sea", "tall stone towers")
    data = [{"id": f"row-{i}", "text": f"{words[i % 3]} {i}", "year": 1900 + i % 100} for i in range(n)]
    dataset = atlas.map_data(
        data=data, embeddings=vectors(n), identifier="My Déjà_vu  Map!", id_field="id", description="a test",
        topic_model={"build_topic_model": True, "topic_label_field": "text"},
    )  # fmt: skip
    assert dataset.identifier.endswith("/my-deja-vu-map")
    assert not dataset.is_accepting_data or dataset.maps
    wait(dataset)
    (found,) = dataset.maps
    assert found._status["index_build_stage"] == "Completed"
    projected = found.embeddings.projected
    assert list(projected.columns) == ["id", "x", "y"]
    assert sorted(projected["id"]) == sorted(row["id"] for row in data)
    latent = found.embeddings.latent
    assert latent.dtype == np.float16 or latent.dtype == np.float32
    order = [int(name[4:]) for name in projected["id"]]
    assert np.abs(latent.astype(np.float32) - vectors(n)[order]).max() < 2e-3
    neighbors, distances = found.embeddings.vector_search(ids=["row-0", "row-7"], k=4)
    assert [row[0] for row in neighbors] == ["row-0", "row-7"]
    by_vector, apart = found.embeddings.vector_search(queries=vectors(n)[[7]].astype(np.float64), k=4)
    assert by_vector[0] == neighbors[1]
    assert apart[0][0] < 0.01 < apart[0][1] < 2
    assert all(len(row) == 4 for row in distances)
    topics = found.topics
    assert topics.depth == 3
    assert {"topic_depth_1", "topic_depth_2", "topic_depth_3"} <= set(topics.df.columns)
    assert topics.metadata["topic_short_description"].is_unique
    groups = topics.group_by_topic(1)
    assert sum(len(group["datum_ids"]) for group in groups) <= n
    assert topics.hierarchy
    assert "topics" in topics.vector_search_topics(vectors(n)[:2], k=8, depth=1)
    duplicates = found.duplicates
    assert set(duplicates.df["duplicate_class"]) <= {"singleton", "retention candidate", "deletion candidate"}
    assert isinstance(duplicates.deletion_candidates(), list)
    frame = found.data.df
    assert {"id", "text", "year"} <= set(frame.columns)
    assert frame.set_index("id").loc["row-4", "year"] == 1904
    assert dataset.get_data(ids=["row-3", "row-1"])[1]["text"] == data[1]["text"]
    assert found.tags.get_tags() == []
    assert dataset.total_datums == n
    assert dataset.created_timestamp.tzinfo is not None
    assert found.map_link
    more = [{"id": f"new-{i}", "text": "apples", "year": 2000} for i in range(5)]
    dataset.add_data(data=more, embeddings=vectors(5))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        wait(dataset)
        now = AtlasDataset(dataset.identifier).maps[0]
        if now.id != found.id:
            break
        time.sleep(0.2)
    assert now.id != found.id, "the map did not follow its rows"
    assert len(now.embeddings.df) == n + 5
    again = AtlasDataset("my-deja-vu-map")
    assert again.id == dataset.id
    return {"id": dataset.id, "topics": sorted(topics.metadata["topic_short_description"])}


def texts():
    """A text field, embedded by the server; no ids of the user's."""
    import pandas

    words = ("a recipe for apple cake", "storms at sea", "how towers are built")
    frame = pandas.DataFrame({"text": [f"{words[i % 3]}, part {i}" for i in range(40)], "n": range(40)})
    dataset = atlas.map_data(data=frame, identifier="texts", indexed_field="text", duplicate_detection=False)
    wait(dataset)
    (found,) = dataset.maps
    frame = found.data.df
    assert {"text", "n", "id_"} <= set(frame.columns)
    assert len(frame) == 40
    assert found.embeddings.latent.shape[0] == 40
    assert len(found.topics.df) == 40
    neighbors, _ = found.embeddings.vector_search(ids=["3"], k=3)
    assert neighbors[0][0] == "3"
    assert all(int(one) % 3 == 0 for one in neighbors[0])
    second = dataset.create_index(
        name="second", indexed_field="text", projection={"model": "umap", "n_neighbors": 5}, topic_model=False,
        reuse_embeddings_from_index="texts",
    )  # fmt: skip
    assert second is not None
    wait(dataset)
    assert {one.name for one in dataset.maps} == {"texts", "second"}
    assert dataset.get_map("second").embeddings.df.shape[0] == 40
    dataset.delete()
    return {"gone": dataset.id}


def images():
    """Images are kept, and mapped by what the server has for them."""
    from PIL import Image

    blobs = []
    for shade in range(6):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), (shade * 40, 0, 0)).save(stream, format="JPEG")
        blobs.append(stream.getvalue())
    data = [{"name": f"image {i}", "key": f"k{i}"} for i in range(6)]
    dataset = AtlasDataset("images", unique_id_field="key")
    dataset.add_data(data=data, blobs=blobs)
    assert dataset.total_datums == 0  # the client knows what it was when it began
    dataset = AtlasDataset("images")
    assert dataset.total_datums == 6
    assert dataset.modality == "image"
    assert "_blob_hash" in dataset.dataset_fields
    found = dataset.create_index()
    wait(dataset)
    (found,) = dataset.maps
    assert sorted(found.embeddings.projected["key"]) == [row["key"] for row in data]
    neighbors, _ = found.embeddings.vector_search(ids=["k0"], k=6)
    made = atlas.map_data(data=data, blobs=blobs, identifier="more images", id_field="key")
    wait(made)
    (other,) = made.maps
    assert len(other.data.df) == 6
    return {"neighbors": neighbors[0]}


def refused():
    """What the client shrugs off at the upload is told when the index is asked for."""
    data = [{"id": f"{i}", "text": f"text {i}"} for i in range(5)]
    dataset = AtlasDataset("refused", unique_id_field="id")
    dataset.add_data(data=data)
    dataset.add_data(data=data)
    dataset = AtlasDataset("refused")
    said = ""
    try:
        dataset.create_index(indexed_field="text")
    except Exception as error:  # noqa: BLE001 - the client raises nothing narrower
        said = str(error)
    made = dataset.create_index(indexed_field="text")
    wait(dataset)
    assert len(made.embeddings.df) == 5
    return {"said": said}


def tags():
    """Tags that somebody gave elsewhere."""
    (found,) = AtlasDataset("my-deja-vu-map").maps
    (tag,) = found.tags.get_tags()
    rows = found.tags.get_datums_in_tag(tag["tag_name"])
    frame = found.tags.df
    assert set(frame[frame[tag["tag_name"]]]["id"]) == set(rows)
    return {"tag": tag["tag_name"], "rows": sorted(rows)}


def foreign():
    """Another organisation's key sees nothing of it."""
    said = []
    for ask in (
        lambda: AtlasDataset("local/my-deja-vu-map"),
        lambda: AtlasDataset(dataset_id=sys.argv[4]),
    ):
        try:
            ask()
        except Exception as error:  # noqa: BLE001 - the client raises nothing narrower
            said.append(str(error))
    mine = AtlasDataset("my-deja-vu-map")
    return {"said": said, "mine": mine.id}


sys.stdout.write("\n" + json.dumps(globals()[STEP]()) + "\n")
