"""Each call gets its own answer, and no way of dying is the last."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic.errors import EngineError, UnavailableError
from gnomonic.server import workers
from gnomonic.server.workers import Worker

_IDS = [np.array([5, 6, 7], dtype=np.int32)]


def _play(scene: Callable[[Worker], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def play() -> None:
        worker = Worker(**options)
        try:
            await worker.start()
            await scene(worker)
        finally:
            await worker.stop()

    asyncio.run(asyncio.wait_for(play(), 60))


def _settings(folder: Path, cache: Path) -> dict[str, Any]:
    return {"folder": str(folder), "device": None, "precision": None, "threads": 1, "cache_dir": str(cache)}


async def _restarted(worker: Worker, times: int) -> None:
    while worker.restarts < times or not worker.alive:
        await asyncio.sleep(0.02)


def test_a_call_that_fails_shifts_no_answers(tiny_checkpoint: Path, tmp_path: Path) -> None:
    async def scene(worker: Worker) -> None:
        info = await worker.open("a", **_settings(tiny_checkpoint, tmp_path))
        assert info.hidden_size == 32
        wanted, _ = await worker.run("a", _IDS)
        with pytest.raises(EngineError):
            await worker.open("b", **_settings(Path("/models/\udcff"), tmp_path))
        with pytest.raises(TypeError):
            await worker.open("c", folder=object())
        with pytest.raises(EngineError, match="no engine 'd'"):
            await worker.run("d", _IDS)
        other, again = await asyncio.gather(worker.run("a", [_IDS[0][::-1].copy()]), worker.run("a", _IDS))
        np.testing.assert_array_equal(again[0], wanted)
        assert not np.array_equal(other[0], wanted)

    _play(scene)


def test_a_start_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = asyncio.create_subprocess_exec, [OSError("no memory"), OSError("no memory")]

    async def start(*command: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await real(*command, **options)

    async def scene(worker: Worker) -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await _restarted(worker, 1)
        assert not failures

    _play(scene)


def test_a_worker_that_hangs_is_killed_and_one_that_talks_nonsense_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_WATCH_EVERY_S", 0.05)
    monkeypatch.setattr(workers, "_END_S", 0.1)
    hang = "import sys, time; time.sleep(600)"
    nonsense = (
        "import socket, sys, time; from gnomonic.server.framing import pack; "
        "s = socket.socket(fileno=int(sys.argv[1])); s.recv(9); s.sendall(pack({'id': 99})); time.sleep(600)"
    )

    async def scene(worker: Worker) -> None:
        with pytest.raises(UnavailableError):
            await worker.run("a", _IDS)
        await _restarted(worker, 1)

    for code in (hang, nonsense):
        _play(scene, batch_timeout_s=0.3, command=(sys.executable, "-c", code))
