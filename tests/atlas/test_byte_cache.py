"""What is kept, for how long, and made how often."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from gnomonic.atlas.byte_cache import ByteCache


def _make(made: list[str], name: str, size: int):
    def make() -> np.ndarray:
        made.append(name)
        return np.zeros(size, dtype=np.uint8)

    return make


def test_the_least_used_goes_first() -> None:
    cache, made = ByteCache(100), []
    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(name, _make(made, name, 40))
    assert made == ["a", "b", "c", "b"]
    assert cache.nbytes == 80


def test_what_is_larger_than_all_room_is_made_every_time() -> None:
    cache, made = ByteCache(100), []
    cache.get("small", _make(made, "small", 50))
    for _ in range(2):
        assert len(cache.get("large", _make(made, "large", 101))) == 101
    cache.get("small", _make(made, "small", 50))
    assert made == ["small", "large", "large"]


def test_a_failure_is_not_kept() -> None:
    cache, made = ByteCache(100), []

    def fail() -> bytes:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get("a", fail)
    cache.get("a", _make(made, "a", 1))
    assert made == ["a"]


def test_what_several_ask_for_at_once_is_made_once() -> None:
    cache, made = ByteCache(1000), []

    def slow() -> bytes:
        made.append("a")
        time.sleep(0.05)
        return b"x"

    threads = [threading.Thread(target=cache.get, args=("a", slow)) for _ in range(5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert made == ["a"]


def test_bytes_are_counted_inside_tuples() -> None:
    cache = ByteCache(1000)
    cache.get("a", lambda: (b"12345", "image/webp"))
    assert 5 <= cache.nbytes <= 200


def test_what_two_made_after_a_failure_counts_once() -> None:
    cache, waiting = ByteCache(1000), threading.Event()

    def fail() -> bytes:
        waiting.wait(5)
        raise ValueError("no")

    def ask(make: Callable[[], bytes]) -> None:
        with contextlib.suppress(ValueError):
            cache.get("a", make)

    both = threading.Barrier(2, timeout=5)

    def make() -> bytes:
        both.wait()
        return b"x" * 10

    first = threading.Thread(target=ask, args=(fail,))
    first.start()
    while "a" not in cache._making:
        time.sleep(0.001)
    gate = cache._making["a"]
    # This one waits for the first one's end, and a third comes when that has given up its place.
    second = threading.Thread(target=ask, args=(make,))
    second.start()
    time.sleep(0.05)
    assert cache._making["a"] is gate
    waiting.set()
    first.join()
    ask(make)
    second.join()
    assert cache.nbytes == 10
