"""Builds and growths that are killed at every stage: what readers see then, and where the next call goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic.atlas import embedding, map_folder, stages
from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.embedding import EncodedChunk
from gnomonic.atlas.options import EmbedOptions
from gnomonic.atlas.progress import Progress

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")

TOPICS = (
    "whale ocean fish reef",
    "train station rail engine",
    "violin piano orchestra opera",
    "bread oven flour yeast",
)
CHUNK_ROWS = 64
STAGES = ("embeddings", "neighbors", "projection", "topics", "duplicates", "quality", "tiles")


class Words:
    """Encoders that embed a text by its words, and remember them; implements `atlas.encoders.Encoders`."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def model_of(self, modality: str, options: EmbedOptions) -> str:
        return options.model or "words"

    def open(self, modality: str, options: EmbedOptions) -> Any:
        def encode(values: list[Any], /) -> EncodedChunk:
            self.seen += [value for value in values if value != embedding.PROBE]
            made = np.zeros((len(values), 24), dtype=np.float32)
            for row, value in enumerate(values):
                for word in value.split():
                    made[row] += np.random.default_rng([len(word), *map(ord, word)]).normal(size=24)
            return EncodedChunk(vectors=made)

        return encode


def _texts(count: int, seed: int) -> list[str]:
    chance = np.random.default_rng(seed)
    return [" ".join(chance.choice(TOPICS[i % 4].split(), 5)) + f" n{seed}-{i}" for i in range(count)]


# -- in a process of its own ----------------------------------------------------------------------------------------


def _serve() -> None:
    """Do what each line of the input says in a fork, and print the signal that ended it."""
    import lancedb  # noqa: F401 - once, before the forks

    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                _work(*json.loads(line))
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.WTERMSIG(status)}\n")
        sys.stdout.flush()


def _work(root: str, deed: str, stage: str) -> None:
    """Build or grow, and die in a stage: when it reports, or when its files are written but not their record."""
    embedding._CHUNK_ROWS = CHUNK_ROWS
    dataset = Dataset("killed", root=root, encoders=Words())

    def on_progress(report: Progress) -> None:
        if report.stage == stage and (stage != "embeddings" or report.done > CHUNK_ROWS):
            _die()

    def die_at(written: Path) -> None:
        if written.name.startswith(f".{stage}-"):
            _die()

    stages._sync = die_at
    if stage == "record":
        map_folder._write_json = _die
    if stage == "current":
        map_folder.set_current = _die
    if deed == "build":
        dataset.create_index(indexed_field="text", seed=2, on_progress=on_progress)
    elif deed == "add":
        dataset.add_data({"text": _texts(8, seed=5)}, on_progress=on_progress)
    else:
        dataset.update_indices(on_progress=on_progress)


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# -- in the process of the tests ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[[Path, str, str], None]]:
    """Does something with a dataset in another process, which dies at a stage."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", "from tests.atlas.test_kills import _serve; _serve()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def kill(root: Path, deed: str, stage: str) -> None:
        process.stdin.write(json.dumps([str(root), deed, stage]) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{int(signal.SIGKILL)}\n", f"{deed} was not killed at {stage}"

    yield kill
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture
def mapped(tmp_path: Path) -> AtlasMap:
    """A map of 160 texts."""
    dataset = Dataset("killed", root=tmp_path / "data", encoders=Words())
    dataset.add_data({"text": _texts(160, seed=0)})
    return dataset.create_index(indexed_field="text", seed=1)


def _check_old(old: AtlasMap, *, published: int) -> None:
    """Whoever opens the dataset now sees the old map, whole, and no half of another."""
    seen = Dataset("killed", root=old.dataset.home.folder.parents[2], encoders=Words(), create=False)
    found = seen.get_map()
    assert found.id == old.id
    assert len(seen.maps) == published
    np.testing.assert_array_equal(found.folder.xy, old.folder.xy)
    assert found.topics.tb.num_rows == found.data.tb.num_rows == 160
    assert found.search("whale reef", k=3).num_rows == 3


def _copy(old: AtlasMap, root: Path) -> Dataset:
    shutil.copytree(old.dataset.home.folder.parents[2], root)
    return Dataset("killed", root=root, encoders=Words(), create=False)


def _check_same(found: AtlasMap, undisturbed: AtlasMap) -> None:
    np.testing.assert_array_equal(found.folder.xy, undisturbed.folder.xy)
    np.testing.assert_array_equal(found.folder.vectors, undisturbed.folder.vectors)
    np.testing.assert_array_equal(found.folder.order, undisturbed.folder.order)
    assert found.topics.records == undisturbed.topics.records
    assert found.duplicates.tb == undisturbed.duplicates.tb
    # A stage that was finished is not done again, whatever became of the next.
    assert {stage["name"]: stage["reused"] for stage in found.record.stages} == dict.fromkeys(STAGES, True)
    assert not [path.name for path in found.folder.folder.parent.glob(".*")]


def test_a_build_is_killed_at_every_stage(
    mapped: AtlasMap, killed: Callable[[Path, str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_CHUNK_ROWS", CHUNK_ROWS)
    dataset = mapped.dataset
    dataset.add_data({"text": _texts(160, seed=3)}, update_maps=False)
    undisturbed = _copy(mapped, tmp_path / "copy").create_index(indexed_field="text", seed=2)
    for stage in (*STAGES, "record", "current"):
        killed(tmp_path / "data", "build", stage)
        # The last one died with the new map whole and the old one current.
        _check_old(mapped, published=2 if stage == "current" else 1)
        if stage == "embeddings":
            assert len(list(dataset.home.folder.glob("build/.embeddings-*.parts/*.npz"))) > 1
    encoders = Words()
    made = Dataset("killed", root=tmp_path / "data", encoders=encoders).create_index(indexed_field="text", seed=2)
    assert encoders.seen == []
    _check_same(made, undisturbed)
    assert Dataset("killed", root=tmp_path / "data").get_map().id == made.id


def test_growing_is_killed_at_every_stage(
    mapped: AtlasMap, killed: Callable[[Path, str, str], None], tmp_path: Path
) -> None:
    copy = _copy(mapped, tmp_path / "copy")
    copy.add_data({"text": _texts(8, seed=5)})
    killed(tmp_path / "data", "add", "embeddings")
    for stage in (*STAGES[1:], "record", "current"):
        _check_old(mapped, published=1)
        assert len(mapped.dataset) == 168
        killed(tmp_path / "data", "grow", stage)
    _check_old(mapped, published=2)
    mapped.dataset.update_indices()
    grown = mapped.dataset.get_map()
    assert grown.record.grown_rows == 8
    np.testing.assert_array_equal(grown.folder.xy[:160], mapped.folder.xy)
    _check_same(grown, copy.get_map())


def test_texts_embedded_before_a_kill_stay_embedded_when_rows_come(
    killed: Callable[[Path, str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_CHUNK_ROWS", CHUNK_ROWS)
    encoders = Words()
    dataset = Dataset("killed", root=tmp_path, encoders=encoders)
    dataset.add_data({"text": _texts(160, seed=0)})
    killed(tmp_path, "build", "embeddings")
    dataset.add_data({"text": ["one more"]})
    dataset.create_index(indexed_field="text", topic_model=False)
    assert len(encoders.seen) <= 161 - CHUNK_ROWS
