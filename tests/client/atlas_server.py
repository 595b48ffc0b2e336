"""A server's Atlas routes on the loopback, in this process: a desk behind a plain HTTP server, jobs in a thread."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from fastapi.responses import FileResponse

from gnomonic.errors import GnomonicError
from gnomonic.server.atlas.call import Call
from gnomonic.server.dialects import atlas
from gnomonic.server.routes.atlas import _run, is_streamed
from gnomonic.server.routes.atlas_table import ROUTES
from tests.server.atlas.desks import desk_in, run_jobs

__all__ = ["AtlasServer", "serving_atlas"]

_PATTERNS = [
    (route.method, re.compile(re.sub(r"{(\w+)(:path)?}", r"(?P<\1>[^/]+)", route.path)), route.target)
    for route in ROUTES
    if route.shown
]


class AtlasServer:
    """Speaks our own routes; what `script` holds is answered first.

    Attributes:
        script: (status, headers, body) of answers that come before any route is asked; None drops the connection.
        seen: method and path of each request.
        key: the bearer token it asks for; None for none.
    """

    def __init__(self, root: Path) -> None:
        self.desk = desk_in(root)
        self.script: deque[tuple[int, dict[str, str], bytes] | None] = deque()
        self.seen: list[tuple[str, str]] = []
        self.key: str | None = None
        self.url = ""
        self.works = True
        self._root = root
        self._jobs = threading.Lock()

    def answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer a request as a server of ours would."""
        ours = {"x-gnomonic-version": "0"}
        path, query = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query))
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return 401, ours, b'{"detail": "no such key"}'
        if path == "/v1/user":
            return 200, ours, b'{"organizations": [{"slug": "local"}]}'
        for known, pattern, function in _PATTERNS:
            found = pattern.fullmatch(path)
            if known != method or found is None:
                continue
            upload = None
            if is_streamed({"method": method, "path": path}):
                upload = self._root / f"upload-{threading.get_ident()}"
                upload.write_bytes(body)
            params = {name: unquote(value) for name, value in found.groupdict().items()}
            call = Call(organization="local", params=params, query=query, headers=headers,
                        body=b"" if upload else body, upload=upload)  # fmt: skip
            try:
                made = _run(function, self.desk, call)
            except GnomonicError as error:
                reply = atlas.render_error(error)
                return reply.status, {**ours, **reply.headers}, reply.body
            if self.works and list(self.desk.queue.entries()):
                threading.Thread(target=self.work, daemon=True).start()
            content = Path(made.path).read_bytes() if isinstance(made, FileResponse) else bytes(made.body)
            return made.status_code, {**ours, **dict(made.headers)}, content
        return 404, ours, b'{"detail": "not known here"}'

    def work(self) -> None:
        """Run the jobs that wait."""
        with self._jobs:
            run_jobs(self.desk)


@contextmanager
def serving_atlas(server: AtlasServer) -> Iterator[AtlasServer]:
    """Have it listen."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            server.seen.append((self.command, self.path))
            scripted = server.script.popleft() if server.script else ()
            if scripted is None:
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, told, content = scripted or server.answer(self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in told.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
