from __future__ import annotations

import logging
import multiprocessing
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from gnomonic.errors import OverloadedError
from gnomonic.server import rates
from gnomonic.server.rates import RateLimiter, rates_path


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Opener = Callable[[Path], RateLimiter]


@pytest.fixture
def opened(clock: Clock) -> Iterator[Opener]:
    """Return `open(path)`; what it opened is closed in the end."""
    limiters: list[RateLimiter] = []

    def open_one(path: Path) -> RateLimiter:
        limiters.append(RateLimiter(path, clock=clock))
        return limiters[-1]

    yield open_one
    for limiter in limiters:
        limiter.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rates"


def _granted(limiter: RateLimiter, key: str, per_minute: int, tries: int) -> int:
    granted = 0
    for _ in range(tries):
        try:
            limiter.take(key, per_minute)
        except OverloadedError:
            continue
        granted += 1
    return granted


def test_a_minutes_requests_go_at_once_and_then_at_the_rate(path: Path, opened: Opener, clock: Clock) -> None:
    limiter = opened(path)
    assert _granted(limiter, "a", 6, 20) == 6
    with pytest.raises(
        OverloadedError, match=r"key a has used up its 6 requests a minute; try again in 10.0 s"
    ) as caught:
        limiter.take("a", 6)
    assert caught.value.retry_after_s == pytest.approx(10)
    clock.now += 10
    assert _granted(limiter, "a", 6, 5) == 1
    clock.now += 3600
    assert _granted(limiter, "a", 6, 20) == 6  # never more than one minute's


def test_refused_requests_cost_nothing(path: Path, opened: Opener, clock: Clock) -> None:
    limiter = opened(path)
    _granted(limiter, "a", 6, 6)
    for _ in range(10):
        clock.now += 1
        _granted(limiter, "a", 6, 1)
    clock.now += 10
    assert _granted(limiter, "a", 6, 1) == 1


def test_keys_do_not_share_and_no_limit_opens_no_file(path: Path, opened: Opener) -> None:
    limiter = opened(path)
    limiter.take("a", None)
    assert not path.exists()
    assert _granted(limiter, "a", 2, 5) == 2
    assert _granted(limiter, "b", 3, 5) == 3


def test_a_changed_limit_holds_at_once(path: Path, opened: Opener) -> None:
    limiter = opened(path)
    limiter.take("a", 100)
    assert _granted(limiter, "a", 2, 5) == 2


def test_two_limiters_on_one_file_share_the_count(path: Path, opened: Opener) -> None:
    first, second = opened(path), opened(path)
    assert _granted(first, "a", 5, 3) == 3
    assert _granted(second, "a", 5, 5) == 2
    first.close()
    assert _granted(first, "a", 5, 5) == 0


def test_a_clock_that_jumps_neither_fills_nor_blocks(path: Path, opened: Opener, clock: Clock) -> None:
    limiter = opened(path)
    _granted(limiter, "a", 6, 6)
    clock.now = 5.0  # the machine was started again
    assert _granted(limiter, "a", 6, 6) == 0
    clock.now += 20
    assert _granted(limiter, "a", 6, 6) == 2


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 200_000])
def test_a_damaged_file_begins_anew(path: Path, opened: Opener, content: bytes) -> None:
    path.write_bytes(content)
    limiter = opened(path)
    assert _granted(limiter, "a", 3, 5) == 3
    os.truncate(path, 10)  # while it is open
    assert _granted(limiter, "a", 3, 5) == 3


@pytest.mark.parametrize(("left", "then"), [(float("nan"), 0.0), (1.0, float("nan")), (-5.0, 0.0), (float("inf"), 0.0)])
def test_a_damaged_slot_begins_anew(path: Path, opened: Opener, left: float, then: float) -> None:
    limiter = opened(path)
    limiter.take("a", 3)
    content = path.read_bytes()
    slot = content.index(b"a" + b"\0" * 15)
    path.write_bytes(content[: slot + 16] + struct.pack("dd", left, then) + content[slot + 32 :])
    assert _granted(limiter, "a", 3, 5) == 3


def test_a_deleted_file_is_made_again(path: Path, opened: Opener) -> None:
    limiter = opened(path)
    limiter.take("a", 3)
    path.unlink()
    limiter.take("a", 3)
    assert _granted(opened(path), "a", 3, 5) == 2


def test_when_the_slots_are_full_the_longest_unused_gives_way(
    path: Path, opened: Opener, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "_SLOTS", 1)  # every key has the same window of 16
    limiter = opened(path)
    for number in range(16):
        clock.now += 0.001
        assert _granted(limiter, f"key{number}", 1, 2) == 1
    clock.now += 0.001
    assert _granted(limiter, "another", 1, 2) == 1
    assert _granted(limiter, "key15", 1, 1) == 0  # still counted
    assert _granted(limiter, "key0", 1, 1) == 1  # forgotten


def test_where_the_file_cannot_be_used_requests_pass_and_the_log_says_so_once(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = opened(tmp_path)
    with caplog.at_level(logging.ERROR):
        assert _granted(limiter, "a", 1, 5) == 5
    assert len(caplog.records) == 1
    assert str(tmp_path) in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_link_is_not_followed(tmp_path: Path, opened: Opener) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(victim)
    assert _granted(opened(link), "a", 1, 3) == 3
    assert victim.read_bytes() == b"precious"


def test_the_counts_lie_beside_the_keys_or_with_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rates_path(tmp_path / "api-keys.json") == tmp_path / ".api-keys.json.rates"
    monkeypatch.setattr(os, "access", lambda _folder, mode: mode != os.W_OK)
    elsewhere = rates_path(tmp_path / "api-keys.json")
    assert elsewhere.parent != tmp_path
    assert elsewhere != rates_path(tmp_path / "others.json")


def _take_many(path: Path, answers: Queue[int]) -> None:
    with closing(RateLimiter(path, clock=lambda: 1000.0)) as limiter:
        answers.put(_granted(limiter, "a", 100, 80))


def test_processes_share_the_count(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers: Queue[int] = context.Queue()
    processes = [context.Process(target=_take_many, args=(path, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    granted = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sum(granted) == 100
