from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gnomonic.client import local
from gnomonic.client.local import free, text_encoder
from gnomonic.inference.encoder import TextEncoder
from tests.fakes import FakeEngine


class _Opened(TextEncoder):
    """An encoder that knows what it was opened for."""

    def __init__(self, asked: Any) -> None:
        self.asked = asked
        self.engine = FakeEngine()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    calls: list[Any] = []

    def fake_load(model: Any, *, device: str | None = None, precision: str | None = None) -> _Opened:
        time.sleep(0.02)
        calls.append((model, device, precision))
        return _Opened(calls[-1])

    monkeypatch.setattr("gnomonic.inference.load.load", fake_load)
    free()
    yield calls
    free()


def test_device_and_precision_are_part_of_the_identity(loads: list[Any]) -> None:
    options: list[dict[str, str]] = [{}, {"device": "cpu"}, {"precision": "int8"}]
    first = [text_encoder("gnomonic-embed-text-mini", **option) for option in options]
    assert len({id(encoder) for encoder in first}) == 3
    assert text_encoder("gnomonic-embed-text-mini", precision="int8") is first[2]


def test_the_least_recently_used_model_is_dropped(loads: list[Any], tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    kept = text_encoder(a)
    dropped = weakref.ref(text_encoder(b))
    assert text_encoder(a) is kept
    text_encoder(c)
    gc.collect()
    assert dropped() is None
    assert text_encoder(a) is kept
    assert len(loads) == 3


def test_a_dropped_model_in_use_is_not_closed(loads: list[Any], tmp_path: Path) -> None:
    used = text_encoder(tmp_path / "a")
    free()
    assert not used.engine.closed


def test_a_name_and_a_path_of_that_name_differ(loads: list[Any]) -> None:
    assert text_encoder("nomic-embed-text-v1") is not text_encoder(Path("nomic-embed-text-v1"))


def test_a_relative_folder_follows_the_working_directory(
    loads: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    here = text_encoder("./model")
    assert text_encoder("./model") is here
    monkeypatch.chdir(tmp_path / "other")
    assert text_encoder("./model") is not here


def test_many_threads_open_a_model_once(loads: list[Any]) -> None:
    found: list[TextEncoder] = []
    threads = [threading.Thread(target=lambda: found.append(text_encoder("model"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len({id(encoder) for encoder in found}) == 1


def test_a_failed_opening_is_tried_again(monkeypatch: pytest.MonkeyPatch, loads: list[Any]) -> None:
    def broken(*_: Any, **__: Any) -> TextEncoder:
        raise OSError("gone")

    with monkeypatch.context() as patch:
        patch.setattr("gnomonic.inference.load.load", broken)
        with pytest.raises(OSError, match="gone"):
            text_encoder("model")
    assert text_encoder("model").asked == ("model", None, None)  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_its_own_model(loads: list[Any]) -> None:
    ours = text_encoder("model")
    held = local._shelf.lock
    with held:  # another thread may hold the lock at the moment of the fork
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if text_encoder("model") is not ours and len(loads) == 2 else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert text_encoder("model") is ours


@pytest.fixture
def in_child() -> Callable[[Callable[[], bool]], int]:
    """Run a check in a forked child; return its exit code, 0 for true; -9 when it hangs."""

    def run(check: Callable[[], bool]) -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if check() else 2
            finally:
                os._exit(code)
        for _ in range(600):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.kill(child, 9)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return run


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_embeds_with_the_real_engine(
    tiny_checkpoint: Path, in_child: Callable[[Callable[[], bool]], int]
) -> None:
    free()
    before = text_encoder(tiny_checkpoint).encode(["a fox", "dog"]).vectors

    def same() -> bool:
        found = text_encoder(tiny_checkpoint).encode(["a fox", "dog"]).vectors
        return bool(abs(found - before).max() < 1e-6)

    assert in_child(same) == 0
    free()
