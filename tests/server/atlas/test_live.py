"""Maps over HTTP: keys, limits, a build in a process of its own, and a server that ends in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gnomonic import AtlasDataset, map_data
from gnomonic.client import remote
from gnomonic.errors import AuthenticationError, DatasetNotFoundError, TooLargeError
from gnomonic.server.auth import create_key
from tests.server.live import LiveServer, running

_D = "/v1/datasets/ours/one"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the keys and the data of the servers here."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def keys(place: Path) -> dict[str, str]:
    """A key of each organisation."""
    return {name: create_key(place / "keys.json", name, organization=name)[1] for name in ("ours", "theirs")}


def _options(place: Path) -> tuple[object, ...]:
    return (
        "--no-access-log", "--threads", "1", "--api-keys", place / "keys.json", "--data-dir", place / "data",
        "--max-upload-mb", "0.5", "--max-body-mb", "0.25",
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(place: Path, keys: dict[str, str]) -> Iterator[LiveServer]:
    with running(*_options(place)) as live:
        yield live


def _client(server: LiveServer, key: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False)


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def _fill(client: httpx.Client, n: int = 40) -> None:
    vectors = np.random.default_rng(0).normal(size=(n, 4)).round(3).tolist()
    assert client.post("/v1/datasets", json={"name": "one", "unique_id_field": "key"}).status_code in (200, 201)
    rows = [{"key": f"k{i}", "text": f"words number {i}"} for i in range(n)]
    assert client.post(f"{_D}/rows", json={"rows": rows, "embeddings": vectors}).status_code == 201


def test_a_map_from_rows_to_search(server: LiveServer, keys: dict[str, str]) -> None:
    with _client(server, keys["ours"]) as client:
        _fill(client)
        job = client.post(f"{_D}/maps", json={"indexed_field": "text"})
        assert job.status_code == 202
        address = f"{_D}/jobs/{job.json()['id']}"
        _until(lambda: client.get(address).json()["state"] not in ("waiting", "running"))
        assert client.get(address).json()["state"] == "completed", "".join(server.log)
        found = client.post(f"{_D}/maps/current/search", json={"query": "words number 7", "k": 1})
        assert found.json()["rows"][0]["key"] == "k7"
        tile = client.get(f"{_D}/maps/{job.json()['map_id']}/files/tiles/0/0/0.bin")
        assert (len(tile.content), tile.status_code) == (160, 200)
        known = {"if-none-match": tile.headers["etag"]}
        assert client.get(tile.url, headers=known).status_code == 304
        columns = client.get(f"{_D}/maps/current/files/columns.json")
        assert (columns.headers["content-encoding"], columns.headers["cache-control"]) == ("gzip", "no-cache")
        assert {"key", "text"} <= {one["name"] for one in columns.json()["columns"]}
        (row,) = client.post(f"{_D}/maps/current/rows-at", json={"positions": [3]}).json()["rows"]
        bits = client.post(f"{_D}/maps/current/filter", json={"ids": [row["id"]]})
        assert (bits.content[0], bits.headers["x-gnomonic-count"]) == (1 << 3, "1")
        for path in ("thumbs/0/0/0", "images/0", "thumbs/..%2f..", "images/-1"):
            assert client.get(f"{_D}/maps/current/{path}").status_code == 404
        assert client.post(f"{_D}/maps/current/filter", json={"box": [1, 2]}).status_code == 400
        assert client.get("/health").json()["status"] == "ok"
        parquet = client.post(f"{_D}/maps/current/export", json={})
        assert parquet.content[:4] == b"PAR1"


@pytest.fixture
def _pointed(server: LiveServer, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the package work on the server."""
    monkeypatch.setenv("GNOMONIC_API_URL", server.url)
    monkeypatch.setenv("GNOMONIC_API_KEY", keys["ours"])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "_kept", {})
    yield
    for client in remote._kept.values():
        client.close()


@pytest.mark.usefixtures("_pointed")
def test_the_package_itself_as_client(keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    made = map_data(embeddings=vectors, identifier="by-package")
    assert made.dataset.identifier == "ours/by-package"
    assert made.embeddings.vector_search(vectors[:3], k=1)[0] == [["0"], ["1"], ["2"]]
    assert len(made.embeddings.tb) == len(made.trust) == len(made.topics.tb) == 30
    with pytest.raises(TooLargeError):
        made.dataset.add_data([{"text": np.random.default_rng(1).bytes(800_000).hex()}], vectors[:1])
    monkeypatch.setenv("GNOMONIC_API_KEY", keys["theirs"])
    with pytest.raises(DatasetNotFoundError):
        AtlasDataset("ours/by-package", create=False)
    monkeypatch.setenv("GNOMONIC_API_KEY", "nk-wrong")
    with pytest.raises(AuthenticationError):
        AtlasDataset("by-package")
    made.dataset.delete()


def test_keys_have_organisations(server: LiveServer, keys: dict[str, str]) -> None:
    assert httpx.get(f"{server.url}/v1/datasets", trust_env=False).status_code == 401
    for name in ("ours", "theirs"):
        with _client(server, keys[name]) as client:
            user = client.get("/v1/user").json()
            assert [one["slug"] for one in user["organizations"]] == [name]
            assert client.get(f"/v1/organization/{name}").json()["id"] == name
    with _client(server, keys["theirs"]) as client:
        assert client.get("/v1/datasets").json() == {"datasets": []}
        for path in (_D, f"{_D}/rows", f"{_D}/maps", f"{_D}/jobs", f"{_D}/maps/current"):
            assert client.get(path).status_code == 404
        assert client.get("/v1/project/ours/one").status_code == 403


def test_limits_and_addresses_that_lead_elsewhere(server: LiveServer, keys: dict[str, str]) -> None:
    with _client(server, keys["ours"]) as client:
        large = b"x" * 600_000
        for path in ("/v1/project/data/add/arrow", "/v1/project/data/add/blobs", f"{_D}/rows"):
            assert client.post(path, content=large).status_code == 413
            assert client.post(path, content=iter([large[:300_000]] * 2)).status_code == 413
        assert client.post("/v1/project/data/get", content=b"x" * 300_000).status_code == 413
        packed = client.post(f"{_D}/rows", content=b"x", headers={"content-encoding": "gzip"})
        assert packed.status_code == 400
        assert client.post("/v1/project/data/add/arrow", content=b"nonsense").status_code == 400
        for path in ("/v1/datasets/ours/..%2f..", "/v1/datasets/..%2fours/one", "/v1/project/%2e%2e/one", f"{_D}%00"):
            assert client.get(path).status_code in (403, 404)
        message = client.get("/v1/project/nonsense").json()["detail"]
        assert isinstance(message, str)
        assert client.post("/v1/project/create", json={"organization_id": "ours", "project_name": "one",
                                                       "unique_id_field": "key"}).status_code == 201  # fmt: skip


@pytest.mark.slow
def test_a_build_goes_on_after_the_server_ended(server: LiveServer, place: Path, keys: dict[str, str]) -> None:
    with _client(server, keys["ours"]) as client:
        job: dict[str, Any] = client.post(f"{_D}/maps", json={"modality": "embedding", "name": "second"}).json()
        address = f"{_D}/jobs/{job['id']}"
        _until(lambda: client.get(address).json()["state"] == "running")
    assert server.stop() == 0
    with running(*_options(place)) as again, _client(again, keys["ours"]) as client:
        _until(lambda: client.get(address).json()["state"] not in ("waiting", "running"))
        assert client.get(address).json()["state"] == "completed", "".join(again.log)
        maps = client.get(f"{_D}/maps").json()["maps"]
        assert [one["id"] for one in maps][-1] == job["map_id"]
    assert list((place / "data" / "uploads").iterdir()) == []
