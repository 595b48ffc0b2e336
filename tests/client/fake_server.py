"""An embedding server on the loopback that answers by a script, and counts."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "served-model"
DIM = 16
F32 = "application/x-gnomonic-f32"


def vector_of(text: str, dim: int = DIM) -> NDArray[np.float32]:
    """Return the unit vector [dim] that the server has for a text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def vectors_of(texts: Sequence[str], dim: int = DIM) -> NDArray[np.float32]:
    """Return [texts, dim]."""
    return np.array([vector_of(text, dim) for text in texts], dtype=np.float32).reshape(-1, dim)


@dataclass(kw_only=True)
class Say:
    """One scripted answer; what is not given is as in a good one."""

    status: int = 200
    body: bytes | None = None
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    rows: Callable[[list[Any]], Any] | None = None
    """Changes the rows of a good answer."""
    drops: bool = False
    """Closes the connection without an answer."""
    cuts: bool = False
    """Sends half of the body that was announced."""
    waits_for: threading.Event | None = None
    """Answers when this is set."""


@dataclass(kw_only=True)
class Asked:
    """A request that came."""

    path: str
    headers: dict[str, str]
    fields: dict[str, Any]
    connection: tuple[str, int]


class FakeServer:
    """Speaks Nomic's dialect, and ours when `is_ours`; answers of `script` come first, then good ones.

    `on[text]` is the script of the request whose first text that is.
    """

    def __init__(self) -> None:
        self.script: deque[Say] = deque()
        self.on: defaultdict[str, deque[Say]] = defaultdict(deque)
        self.requests: list[Asked] = []
        self.is_ours = False
        self.model: str | None = None
        self.dim = DIM
        self.busy = self.busiest = 0
        self.slowness_s = 0.0
        self.lock = threading.Lock()
        self.url = ""

    @property
    def connections(self) -> int:
        """How many connections requests came on."""
        return len({asked.connection for asked in self.requests})

    def next_say(self, texts: Sequence[str]) -> Say:
        with self.lock:
            waiting = self.on[texts[0]] if texts and self.on[texts[0]] else self.script
            return waiting.popleft() if waiting else Say()


class _Handler(BaseHTTPRequestHandler):
    server_is: FakeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        fake = self.server_is
        fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with fake.lock:
            asked = Asked(path=self.path, headers=headers, fields=fields, connection=self.client_address)
            fake.requests.append(asked)
            fake.busy += 1
            fake.busiest = max(fake.busiest, fake.busy)
        try:
            self._answer(fake, asked, fake.next_say(fields["texts"]))
        finally:
            with fake.lock:
                fake.busy -= 1

    def _answer(self, fake: FakeServer, asked: Asked, say: Say) -> None:
        time.sleep(fake.slowness_s)
        if say.waits_for is not None:
            say.waits_for.wait(20)
        if say.drops:
            self.close_connection = True
            return
        headers = {"content-type": "application/json", **say.headers}
        if fake.is_ours:
            headers = {"x-gnomonic-version": "1", "x-gnomonic-fingerprint": "f1", **headers}
        body = say.body if say.body is not None else json.dumps(say.json).encode()
        if say.status == 200 and say.body is None and say.json is None:
            body = self._good(fake, asked, say, headers)
        self.send_response(say.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if say.cuts else body)
        self.close_connection = self.close_connection or say.cuts

    def _good(self, fake: FakeServer, asked: Asked, say: Say, headers: dict[str, str]) -> bytes:
        texts, model = asked.fields["texts"], fake.model or asked.fields["model"]
        vectors = vectors_of(texts, asked.fields["dimensionality"] or fake.dim)
        if fake.is_ours and asked.headers["accept"] == F32:
            facts = {"rows": len(vectors), "dim": vectors.shape[1], "prompt-tokens": 3 * len(texts), "model": model}
            for name, value in facts.items():
                headers.setdefault(f"x-gnomonic-{name}", str(value))
            headers["content-type"] = F32
            return vectors.astype("<f4").tobytes()
        rows = vectors.tolist()
        usage = {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}
        rows = say.rows(rows) if say.rows else rows
        return json.dumps({"embeddings": rows, "usage": usage, "model": model}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what some tests are about."""


@contextmanager
def serving(fake: FakeServer) -> Iterator[FakeServer]:
    """Run the server until the block ends."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_is": fake}))
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
