"""Nomic's own client, unmodified, against the server's maps: upload, build, read back, search, tags, keys of others."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gnomonic.server.auth import create_key
from tests.server.live import LiveServer, running

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

_SCRIPT = Path(__file__).with_name("nomic_atlas.py")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A file of keys, one of the organisation "local", one of another."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return path, create_key(path, "ours")[1], create_key(path, "theirs", organization="others")[1]


@pytest.fixture(scope="module")
def server(keys: tuple[Path, str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    options = (
        "--no-access-log",
        "--api-keys",
        keys[0],
        "--atlas-model",
        "gnomonic-embed-text-mini",
        "--atlas-images",
        "appearance",
    )
    with running(*options, "--data-dir", tmp_path_factory.mktemp("data")) as live:
        yield live


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has the client."""
    found = os.environ.get("GNOMONIC_CLIENTS_PYTHON", "")
    if not found:
        pytest.skip("GNOMONIC_CLIENTS_PYTHON names no interpreter; `make test-clients` makes one")
    return found


def _do(python: str, server: LiveServer, key: str, home: Path, step: str, *more: str) -> dict[str, Any]:
    """Run one step in the client's environment; its cache is in `home`."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "NO_PROXY": "*"}
    done = subprocess.run(
        [python, str(_SCRIPT), step, server.url, key, *more],
        capture_output=True, text=True, timeout=400, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:] + "".join(server.log[-20:])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_vectors_become_a_map_that_the_client_reads(
    python: str, server: LiveServer, keys: tuple[Path, str, str], tmp_path: Path
) -> None:
    _, ours, theirs = keys
    made = _do(python, server, ours, tmp_path, "embeddings")
    assert made["topics"]
    headers = {"authorization": f"Bearer {ours}"}
    body = {"name": "good ones", "ids": ["row-1", "row-2000", "row-6000"]}
    address = f"{server.url}/v1/datasets/local/my-deja-vu-map/tags"
    assert httpx.post(address, json=body, headers=headers, trust_env=False).status_code == 201
    assert _do(python, server, ours, tmp_path, "tags")["rows"] == sorted(body["ids"])
    seen = _do(python, server, theirs, tmp_path, "foreign", made["id"])
    assert "organisation 'others'" in seen["said"][0]
    assert "there is no dataset" in seen["said"][1]
    assert seen["mine"] != made["id"]


def test_texts_are_embedded_by_the_server(
    python: str, server: LiveServer, keys: tuple[Path, str, str], tmp_path: Path
) -> None:
    assert _do(python, server, keys[1], tmp_path, "texts")["gone"]


def test_images_are_mapped_by_their_looks(
    python: str, server: LiveServer, keys: tuple[Path, str, str], tmp_path: Path
) -> None:
    near = _do(python, server, keys[1], tmp_path, "images")["neighbors"]
    assert near[0] == "k0"
    assert near.index("k1") < near.index("k5")  # the shades go from black to red


def test_a_refused_upload_is_told_with_the_index(
    python: str, server: LiveServer, keys: tuple[Path, str, str], tmp_path: Path
) -> None:
    said = _do(python, server, keys[1], tmp_path, "refused")["said"]
    assert "5 rows were refused" in said
    assert "5 ids are there already" in said
