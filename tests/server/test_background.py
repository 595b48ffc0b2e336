"""The server that looks at maps of this machine: it embeds what is typed with the model a map was made with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("lancedb")

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.client.datasets import LocalDataset
from gnomonic.errors import ConfigError, UnknownModelError
from gnomonic.server.atlas.encoders import OfferedModels
from gnomonic.server.background import BackgroundServer, viewing_config
from tests.house.sources import PACKAGE

_TEXTS = ("the cat and the mouse", "a train to the mountain", "bread made by fire")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A map of texts by a model from a folder, one of vectors, and a dataset without a map."""
    folder = tmp_path_factory.mktemp("data")
    notes = LocalDataset("notes", "", "key", root=folder)
    notes.add_data([{"key": i, "text": f"{_TEXTS[i % 3]} {i}"} for i in range(30)])
    notes.create_index(indexed_field="text", embedding_model=str(tiny_checkpoint), projection={"n_epochs": 5})
    dots = LocalDataset("dots", root=folder)
    dots.add_data(embeddings=np.random.default_rng(0).normal(size=(12, 4)))
    dots.create_index(projection={"n_epochs": 5})
    LocalDataset("plain", root=folder)
    return folder


@pytest.fixture
def server(root: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BackgroundServer]:
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    made = BackgroundServer(viewing_config(root))
    made.start(warm=str(tiny_checkpoint))
    yield made
    made.stop()
    assert not made.is_alive


def test_the_models_of_maps_are_offered(root: Path, tiny_checkpoint: Path) -> None:
    config = viewing_config(root, port=8123)
    assert config.models == (DEFAULT_TEXT_MODEL, str(tiny_checkpoint))
    assert (config.host, config.port, config.data_dir) == ("127.0.0.1", 8123, str(root))


def test_a_model_is_known_by_its_folder_too() -> None:
    models = OfferedModels(sources={"mini": "mini", "tiny": "models/tiny"})
    assert [models.resolve(asked) for asked in ("tiny", "models/tiny", None)] == ["tiny", "tiny", "mini"]
    with pytest.raises(UnknownModelError, match="elsewhere/tiny"):
        models.resolve("elsewhere/tiny")


def test_what_is_typed_is_embedded_by_the_maps_model(server: BackgroundServer, root: Path) -> None:
    with httpx.Client(base_url=f"{server.url}/v1/datasets/local", trust_env=False, timeout=60) as client:
        assert client.get("/notes/maps/current/view").json()["can"]["semantic"] is True
        assert client.get("/dots/maps/current/view").json()["can"]["semantic"] is False
        asked = {"mode": "semantic", "query": "a train to the mountain 4", "k": 5}
        hits = client.post("/notes/maps/current/find", json=asked).json()["hits"]
    found = LocalDataset("notes", root=root, create=False).get_map()
    here = found.search("a train to the mountain 4", k=5)
    at = [found.all_ids[int(found.folder.order[hit["position"]])].as_py() for hit in hits]
    assert at == here["key"].to_pylist()
    np.testing.assert_allclose([hit["score"] for hit in hits], here["_score"].to_pylist(), atol=1e-4)


def test_an_address_that_cannot_be_had_is_told(server: BackgroundServer, root: Path) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
        BackgroundServer(viewing_config(root, port=port)).start()
    with pytest.raises(ConfigError, match="port"):
        viewing_config(root, port=70000)


def test_one_that_is_interrupted_while_it_starts_ends(root: Path) -> None:
    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert super().wait(timeout)
            raise KeyboardInterrupt

    made = BackgroundServer(viewing_config(root))
    made._ready = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        made.start()
    made.wait(30)
    assert not made.is_alive
