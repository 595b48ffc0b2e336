"""The server from outside: every dialect, bad requests of every kind, and a canary after each."""

from __future__ import annotations

import base64
import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

import gnomonic
from tests.server.live import LiveServer, running

_MODEL = "gnomonic-embed-text-mini"
_TEXTS = ["A map is not the territory.", "the whale dives", ""]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with running("--threads", "2", "--max-texts", "50", "--max-request-tokens", "20000", "--max-body-mb", "2") as live:
        yield live


@pytest.fixture
def client(server: LiveServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        yield client
        # Whatever the test did, the server embeds as before.
        assert client.get("/health").json()["status"] == "ok"
        answer = client.post("/embed", json={"inputs": _TEXTS[0]})
        np.testing.assert_allclose(answer.json(), _wanted("search_document")[:1], atol=1e-6)


def _wanted(task: str, dim: int | None = None) -> np.ndarray:
    with gnomonic.load(_MODEL) as encoder:
        return encoder.encode(_TEXTS, task_type=task, dim=dim).vectors


def _from_base64(items: list[dict[str, Any]]) -> np.ndarray:
    return np.stack([np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in items])


def test_every_dialect_gives_the_same_vectors(client: httpx.Client) -> None:
    task, wanted = "search_query", _wanted("search_query", 128)
    nomic = client.post("/v1/embedding/text", json={"texts": _TEXTS, "model": _MODEL, "task_type": task,
                                                    "dimensionality": 128, "max_tokens_per_text": None})  # fmt: skip
    body = {"input": _TEXTS[:2], "model": f"{_MODEL}:query", "dimensions": 128}
    openai = client.post("/v1/embeddings", json=body)
    packed = client.post("/embeddings", json={**body, "encoding_format": "base64"})
    ollama = client.post("/api/embed", json={"model": _MODEL, "input": _TEXTS, "dimensions": 128, "task_type": task})
    tei = client.post("/embed", json={"inputs": _TEXTS, "prompt_name": task, "dimensions": 128})
    cohere = client.post("/v2/embed", json={"model": _MODEL, "texts": _TEXTS, "input_type": task,
                                            "embedding_types": ["float"], "output_dimension": 128})  # fmt: skip
    sage = client.post("/invocations", json={"texts": _TEXTS, "dimensionality": 128, "task_type": task})
    header = client.post("/", json={"inputs": _TEXTS, "dimensions": 128}, headers={"x-task-type": task})
    found = {
        "nomic": nomic.json()["embeddings"],
        "openai": [item["embedding"] for item in openai.json()["data"]],
        "ollama": ollama.json()["embeddings"],
        "tei": tei.json(),
        "cohere": cohere.json()["embeddings"]["float"],
        "sagemaker": sage.json()["embeddings"],
        "header": header.json(),
    }
    for name, rows in found.items():
        rows = np.array(rows, dtype=np.float32)
        assert float(np.abs(rows - wanted[: len(rows)]).max()) < 1e-6, name
    np.testing.assert_array_equal(_from_base64(packed.json()["data"]), np.array(found["openai"], dtype=np.float32))
    # The third text, which only the first was sent, is empty and counts nothing.
    assert nomic.json()["usage"] == openai.json()["usage"] == packed.json()["usage"]
    assert nomic.json()["usage"]["total_tokens"] > 0
    prints = {reply.headers["x-gnomonic-fingerprint"] for reply in (nomic, openai, packed, ollama, tei, cohere, sage)}
    assert len(prints) == 1
    assert all(reply.headers["x-gnomonic-task"] == task for reply in (nomic, openai, ollama, tei, cohere, header))


def test_our_own_client_may_have_raw_float32(client: httpx.Client) -> None:
    headers = {"accept": "application/x-gnomonic-f32"}
    answer = client.post("/v1/embedding/text", json={"texts": _TEXTS}, headers=headers)
    shape = int(answer.headers["x-gnomonic-rows"]), int(answer.headers["x-gnomonic-dim"])
    found = np.frombuffer(answer.content, "<f4").reshape(shape)
    np.testing.assert_allclose(found, _wanted("search_document"), atol=1e-6)
    assert int(answer.headers["x-gnomonic-prompt-tokens"]) > 0


def test_what_was_cut_is_told(client: httpx.Client) -> None:
    long = "word " * 4000
    tei = client.post("/embed", json={"inputs": ["a", long, "b", long]})
    assert tei.headers["x-gnomonic-truncated"] == "1,3"
    cohere = client.post("/v2/embed", json={"model": _MODEL, "texts": ["a", long], "input_type": "search_document",
                                            "embedding_types": ["float"]})  # fmt: skip
    assert "1" in json.dumps(cohere.json()["meta"]["warnings"])
    refused = client.post("/api/embed", json={"model": _MODEL, "input": long, "truncate": False})
    assert refused.status_code == 400
    assert "more than 2048" in refused.json()["error"]


def test_it_tells_about_itself(client: httpx.Client) -> None:
    assert [entry["id"] for entry in client.get("/v1/models").json()["data"]] == [_MODEL]
    assert client.get(f"/v1/models/{_MODEL}").json()["id"] == _MODEL
    assert client.get("/v1/models/other").status_code == 404
    assert client.get("/api/tags").json()["models"][0]["model"].startswith(_MODEL)
    assert client.post("/api/show", json={"model": _MODEL}).json()["capabilities"] == ["embedding"]
    assert client.get("/api/ps").json()["models"]
    assert client.get("/").text == "Ollama is running"
    assert client.head("/").status_code == 200
    assert client.get("/info").json()["max_input_length"] == 2048
    assert client.get("/ping").status_code == 200
    image = client.post("/v1/embedding/image", files={"images": b"x"}, data={"model": "nomic-embed-vision-v1.5"})
    assert image.status_code == 404
    assert "not served here" in image.json()["detail"]
    assert client.get("/v1/user").status_code == client.get("/v1/user/").status_code == 200
    assert client.get(f"{client.base_url}/v1/user").status_code == 200
    (tokens,) = client.post("/tokenize", json={"inputs": "the whale"}).json()
    assert [token["text"] for token in tokens if not token["special"]] == ["the", "whale"]
    assert tokens[0]["special"]
    assert client.post("/tokenize", json={"inputs": "a " * 200_000}).status_code == 413
    metrics = client.get("/metrics")
    assert metrics.status_code == 200
    assert b"gnomonic" in metrics.content
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/embedding/text", "/v1/embeddings", "/api/embed", "/embed", "/v2/embed", "/invocations"} <= paths.keys()


_POSTS = ("/v1/embedding/text", "/v1/embeddings", "/api/embed", "/embed", "/v2/embed", "/invocations")


@pytest.mark.parametrize("path", _POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"1", b'"text"', b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}", b'{"a": NaN}',
        b'{"texts": ["\\ud800"], "input": ["\\ud800"], "inputs": "\\ud800", "model": "m", "input_type": "clustering"}',
        b"[" * 100_000, b'{"a":' * 50_000, b'{"model": 1e999}', b'{"model": "' + b"x" * 10_000 + b'"}',
        b'{"model": "../../etc/passwd", "input": "a", "texts": ["a"], "inputs": "a", "input_type": "search_query"}',
    ],
    ids=lambda body: repr(body[:30]),
)  # fmt: skip
def test_bodies_that_are_no_requests(client: httpx.Client, path: str, body: bytes) -> None:
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404, 413, 422), answer.text
    told = answer.json()
    assert isinstance(told.get("error") or told.get("detail") or told.get("message"), str | dict | list)


_FIELDS: list[tuple[dict[str, Any], int]] = [
    ({"texts": None}, 422), ({"texts": [None]}, 422), ({"texts": [1]}, 422), ({"texts": [["a"]]}, 422),
    ({"texts": "str"}, 422), ({"texts": []}, 200), ({"texts": [""]}, 200), ({"texts": [" "]}, 200),
    ({"texts": ["a"] * 50}, 200), ({"texts": ["a"] * 51}, 413), ({"unknown": 1}, 200),
    ({"dimensionality": None}, 200), ({"dimensionality": 0}, 422), ({"dimensionality": -1}, 422),
    ({"dimensionality": 1}, 200), ({"dimensionality": 63}, 200), ({"dimensionality": 384}, 200),
    ({"dimensionality": 385}, 422), ({"dimensionality": "64"}, 422), ({"dimensionality": 64.0}, 422),
    ({"dimensionality": True}, 422), ({"dimensionality": 10**9}, 422), ({"model": "no-such-model"}, 404),
    ({"model": ""}, 422), ({"model": 5}, 422), ({"task_type": "poetry"}, 422), ({"task_type": None}, 200),
    ({"long_text_mode": "no"}, 422), ({"max_tokens_per_text": 0}, 422), ({"max_tokens_per_text": 1}, 422),
    ({"max_tokens_per_text": 8192}, 200), ({"max_tokens_per_text": 8193}, 200),
    ({"texts": ["word " * 30_000], "long_text_mode": "mean"}, 413),
]  # fmt: skip


@pytest.mark.parametrize(("change", "status"), _FIELDS, ids=lambda value: str(value)[:50])
def test_fields_of_every_kind(client: httpx.Client, change: dict[str, Any], status: int) -> None:
    answer = client.post("/v1/embedding/text", json={"texts": ["a"], **change})
    # An empty name may be no name or an unknown one; both are the caller's mistake.
    expected = (404, 422) if change == {"model": ""} else (status,)
    assert answer.status_code in expected, answer.text
    if status != 200:
        assert answer.json()["detail"]


@pytest.mark.parametrize(
    "text",
    [
        "a", "a" * 1_000_000, "".join(map(chr, range(0x4E00, 0x9FFF))), "!?." * 100, "\u200d" * 50, "\u0301" * 99,
        "שלום עולם", "\0", "中文", "👨‍👩‍👧‍👦" * 20, "HELLO hello héllo", "[CLS] [SEP] [MASK] [PAD]",
        "search_query: twice", "buffalo " * 1000, "\ufeffbom", "\r\n\t",
    ],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_texts_of_every_kind(client: httpx.Client, text: str) -> None:
    (row,) = client.post("/embed", json={"inputs": [text]}).json()
    assert abs(float(np.linalg.norm(row)) - 1) < 1e-5
    with gnomonic.load(_MODEL) as encoder:
        np.testing.assert_allclose(row, encoder.encode([text]).vectors[0], atol=1e-5)


def test_http_of_every_kind(client: httpx.Client, server: LiveServer) -> None:
    good = {"inputs": "a"}
    assert client.put("/embed", json=good).status_code == 405
    assert client.get("/embed").status_code == 405
    assert client.post("/nowhere", json=good).status_code == 404
    assert client.post("/embed/", json=good).status_code == 200
    assert client.post("/..%2fembed", json=good).status_code == 404
    assert client.post("/embed", json=good, headers={"host": "evil.example"}).status_code in (400, 421)
    assert (
        "access-control-allow-origin" not in client.post("/embed", json=good, headers={"origin": "https://x.y"}).headers
    )
    assert client.post("/embed", content=b"x" * (2 << 20 | 1)).status_code == 413
    packed = gzip.compress(json.dumps(good).encode())
    assert client.post("/embed", content=packed, headers={"content-encoding": "gzip"}).status_code == 200
    bomb = gzip.compress(b" " * (100 << 20), mtime=0)
    assert client.post("/embed", content=bomb, headers={"content-encoding": "gzip"}).status_code == 413
    assert client.post("/embed", content=b"no gzip", headers={"content-encoding": "gzip"}).status_code == 400
    assert client.post("/embed", content=b"{}", headers={"content-encoding": "br"}).status_code == 415

    def chunks() -> Iterator[bytes]:
        yield b'{"inputs"'
        yield b': "a"}'

    assert client.post("/embed", content=chunks()).status_code == 200
    with socket.create_connection(("127.0.0.1", server.port), 10) as raw:  # pipelined
        one = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n" + b'{"inputs": "a"}'
        raw.sendall(one + one)
        got = b""
        while got.count(b"HTTP/1.1 200") < 2:
            got += raw.recv(65536)
    with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
        raw.sendall(b"GET /embed HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 80_000 + b"\r\n\r\n")
        assert raw.recv(65536).startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
    with socket.create_connection(("127.0.0.1", server.port), 10) as raw:  # a client that leaves early
        raw.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{")
