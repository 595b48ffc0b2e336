"""A server as a user starts it, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LiveServer", "running"]

_STARTED = re.compile(r"serving .* on (http://\S+)")


class LiveServer:
    """A running `gnomonic serve`.

    Attributes:
        url: where it listens, `http://127.0.0.1:PORT`.
        process: its first process.
        log: what it wrote so far, both streams.
    """

    def __init__(self, *options: object, environment: dict[str, str] | None = None) -> None:
        code = "from gnomonic.cli.main import app_main; app_main()"
        source = str(Path(__file__).parents[2] / "src")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "--port", "0", *map(str, options)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )  # fmt: skip
        self.log: list[str] = []
        self.url = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ready.wait(90)
        if not self.url:
            self.stop()
            raise AssertionError("".join(self.log))

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def stop(self, *, timeout_s: float = 60) -> int:
        """Send SIGTERM and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        finally:
            self.process.kill()
            self._reader.join(10)
            assert self.process.stdout is not None
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if not self.url and (found := _STARTED.search(line)):
                self.url = found[1]
                self._ready.set()
        self._ready.set()


@contextmanager
def running(*options: object, environment: dict[str, str] | None = None) -> Iterator[LiveServer]:
    """Start a server with these options, and end it."""
    server = LiveServer(*options, environment=environment)
    try:
        yield server
    finally:
        server.stop()
