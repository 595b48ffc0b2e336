"""A model hub on the loopback, with faults on order."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPO = "nomic-ai/tiny"
COMMIT = "1234567890abcdef1234567890abcdef12345678"

FILES = {
    "config.json": b'{"model_type": "nomic_bert"}',
    "tokenizer.json": b'{"version": "1.0"}',
    "modules.json": b"[]",
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "model.safetensors": bytes(range(256)) * 12_000,
    "pytorch_model.bin": b"a pickle",
    "modeling_hf_nomic_bert.py": b"raise SystemExit('remote code ran')",
    "onnx/model.onnx": b"a graph",
    "README.md": b"# tiny",
}


class FakeHub:
    """Serves one repository; `faults[file]` is used up one request at a time.

    Faults: "truncate" (half of what is left, then the connection ends), "wrong" (one byte differs), "slow" (a block
    every 20 ms), "no_range" (a Range is ignored), or a status such as "500". "api" is the file of the listing.
    """

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.large = {"model.safetensors", "pytorch_model.bin", "onnx/model.onnx"}
        self.commit = COMMIT
        self.branches = {"main": COMMIT}
        self.faults: defaultdict[str, deque[str]] = defaultdict(deque)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def asked(self, file: str) -> list[str]:
        """Return the Range of every request for a file, "" where there was none."""
        return [headers.get("range", "") for path, headers in self.requests if path.endswith(f"/{file}")]

    def listing(self, revision: str) -> dict[str, Any] | None:
        """Return the answer of the models API."""
        commit = self.branches.get(revision, revision)
        if commit not in (self.commit, *self.branches.values()):
            return None
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content)}
            entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if name in self.large:
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            siblings.append(entry)
        return {"id": REPO, "sha": commit, "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every small answer waits 40 ms for an acknowledgement

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.requests.append((path, {name.lower(): value for name, value in self.headers.items()}))
        api = f"/api/models/{REPO}/revision/"
        resolve = f"/{REPO}/resolve/"
        if path.startswith(api):
            fault = self._next_fault("api")
            body = self.hub.listing(path.removeprefix(api))
            if fault.isdigit() or body is None:
                self._send(int(fault) if fault else 404, b"")
            else:
                self._send(200, b"not json" if fault == "wrong" else json.dumps(body).encode())
        elif path.startswith(resolve):
            self._send_file(path.removeprefix(resolve).partition("/")[2])
        else:
            self._send(404, b"")

    def _next_fault(self, file: str) -> str:
        waiting = self.hub.faults[file]
        return waiting.popleft() if waiting else ""

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, file: str) -> None:
        fault = self._next_fault(file)
        content = self.hub.files.get(file)
        if fault.isdigit() or content is None:
            self._send(int(fault) if fault else 404, b"")
            return
        if fault == "wrong":
            content = content[:-1] + bytes([content[-1] ^ 1])
        start, status, headers = 0, 200, {}
        asked = self.headers.get("Range", "")
        if asked and fault != "no_range":
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if fault not in ("truncate", "slow"):
            self._send(status, body, headers)
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "truncate":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        for begin in range(0, len(body), 65536):
            self.wfile.write(body[begin : begin + 65536])
            self.wfile.flush()
            time.sleep(0.02)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what some tests are about."""


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Run the hub until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
