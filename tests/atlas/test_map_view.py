"""What the viewer is told of a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("lancedb")

from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.map_view import choose_fields, map_view

_N = 40


@pytest.mark.parametrize(
    ("ids", "more", "title"),
    [
        ("key", {"title": [f"Part {i}" for i in range(_N)]}, "title"),
        ("name", {"package": [f"package {i % 30}" for i in range(_N)]}, "name"),
        ("name", {"title": [f"Part {i}" for i in range(_N)]}, "title"),
        ("key", {"package": [f"package {i % 30}" for i in range(_N)]}, None),
    ],
)
def test_titles_are_short_and_tell_rows_apart(
    tmp_path: Path, ids: str, more: dict[str, list[str]], title: str | None
) -> None:
    dataset = Dataset("docs", "", ids, root=tmp_path)
    data = {
        ids: [f"r{i}" for i in range(_N)],
        **more,
        "text": [f"What row {i} has to say about itself." for i in range(_N)],
    }
    vectors = np.random.default_rng(0).normal(size=(_N, 4)).astype(np.float32)
    dataset.add_data(pa.table(data), vectors)
    made = dataset.create_index(modality="embedding", topic_model=False, duplicate_detection=False)
    assert choose_fields(made, list(data)) == (title, "text")
    told = map_view(made)
    assert (told["title_field"], told["text_field"]) == (title, "text")
    assert [field["name"] for field in told["fields"]] == list(data)


def test_places_of_this_machine_are_not_told(tmp_path: Path) -> None:
    dataset = Dataset("docs", "", "key", root=tmp_path)
    dataset.add_data(pa.table({"key": ["a", "b"]}), np.eye(2, dtype=np.float32))
    made = dataset.create_index(modality="embedding", topic_model=False)
    made.record.options["embed"]["model"] = str(tmp_path / "my-model")
    made.record.options["topics"]["naming_url"] = "http://inside.example/v1"
    told = map_view(made)["map"]["options"]
    assert told["embed"]["model"] == "my-model"
    assert "naming_url" not in told["topics"]
    assert made.record.options["topics"]["naming_url"] == "http://inside.example/v1"
