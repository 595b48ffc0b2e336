"""Real clients, unmodified, against the server: each gets the library's vectors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gnomonic
from tests.server.live import LiveServer, running

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

_HERE = Path(__file__).parent
_MODEL = "gnomonic-embed-text-mini"
_TEXTS = ["A map is not the territory.", "Où est la bibliothèque ?", "x" * 300, "the whale dives " * 50]
_PYTHON = (
    "nomic", "openai", "openai_float", "ollama", "ollama_one_by_one", "cohere", "huggingface_hub", "langchain_nomic",
    "langchain_openai", "langchain_ollama", "llama_index",
)  # fmt: skip
_NODE = {"openai": "openai@7.57.0", "atlas": "@nomic-ai/atlas@0.12.0"}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with running("--no-access-log") as live:
        yield live


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has the clients."""
    found = os.environ.get("GNOMONIC_CLIENTS_PYTHON", "")
    if not found:
        pytest.skip("GNOMONIC_CLIENTS_PYTHON names no interpreter; `make test-clients` makes one")
    return found


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds the clients."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node-clients")
    (folder / "package.json").write_text('{"private": true}')
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *_NODE.values()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install {', '.join(_NODE.values())}: {done.stderr.strip()[-200:]}")
    return folder


def _ask(command: list[str], home: Path) -> np.ndarray:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "NO_PROXY": "*"}
    done = subprocess.run(
        command, input=json.dumps(_TEXTS), capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return np.array(json.loads(done.stdout.splitlines()[-1]), dtype=np.float32)


def _check(found: np.ndarray, task: str) -> None:
    with gnomonic.load(_MODEL) as encoder:
        wanted = encoder.encode(_TEXTS, task_type=task).vectors
    assert found.shape == wanted.shape
    assert float(np.abs(found - wanted).max()) < 1e-6


@pytest.mark.parametrize("task", ["search_query", "search_document"])
@pytest.mark.parametrize("client", _PYTHON)
def test_python_clients_get_the_librarys_vectors(
    server: LiveServer, python: str, tmp_path: Path, client: str, task: str
) -> None:
    command = [python, str(_HERE / "python_clients.py"), client, server.url, _MODEL, task]
    _check(_ask(command, tmp_path), task)


@pytest.mark.parametrize("task", ["search_query", "clustering"])
@pytest.mark.parametrize("client", list(_NODE))
def test_node_clients_get_the_librarys_vectors(
    server: LiveServer, node_folder: Path, tmp_path: Path, client: str, task: str
) -> None:
    url = f"http://localhost:{server.port}"
    command = ["node", str(_HERE / "node_clients.mjs"), str(node_folder), client, url, _MODEL, task]
    _check(_ask(command, tmp_path), task)
