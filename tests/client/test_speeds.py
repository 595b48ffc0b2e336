from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gnomonic.client.choose import PRIOR_REMOTE, Speed, Work
from gnomonic.client.speeds import Speeds, local_key, remote_key, speeds_in

WORK = Work(texts=10, tokens=1000)
KEY = remote_key("http://127.0.0.1:8000", "m")


class Clock:
    """Seconds since 1970, set by hand."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_not_known_is_the_prior(tmp_path: Path, clock: Clock) -> None:
    assert Speeds(tmp_path / "speeds.json", clock=clock).speed(KEY, PRIOR_REMOTE) == PRIOR_REMOTE


def test_another_process_finds_what_was_learnt(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "new" / "speeds.json"
    ours = Speeds(path, clock=clock)
    ours.learn(KEY, PRIOR_REMOTE, WORK, 3.0)
    found = Speeds(path, clock=clock).speed(KEY, PRIOR_REMOTE)
    assert found == ours.speed(KEY, PRIOR_REMOTE) != PRIOR_REMOTE
    assert [file.name for file in path.parent.iterdir()] == ["speeds.json"]


def test_measurements_of_two_processes_stay(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "speeds.json"
    one, two = Speeds(path, clock=clock), Speeds(path, clock=clock)
    one.learn("remote|a|m", PRIOR_REMOTE, WORK, 3.0)
    two.learn("remote|b|m", PRIOR_REMOTE, WORK, 3.0)
    found = Speeds(path, clock=clock)
    assert found.speed("remote|a|m", PRIOR_REMOTE).calls == found.speed("remote|b|m", PRIOR_REMOTE).calls == 1


def test_the_file_is_written_now_and_then_only(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "speeds.json"
    speeds = Speeds(path, clock=clock)
    counts = []
    for seconds in (0.0, 1.0, 1.0, 10.0, -3600.0):
        clock.now += seconds
        speeds.learn(KEY, PRIOR_REMOTE, WORK, 3.0)
        counts.append(Speeds(path, clock=clock).speed(KEY, PRIOR_REMOTE).calls)
    assert counts == [1, 1, 1, 4, 5]


def test_opening_is_averaged_and_no_texts_teach_nothing(tmp_path: Path, clock: Clock) -> None:
    speeds = Speeds(tmp_path / "speeds.json", clock=clock)
    prior, key = Speed(call_s=0.01, tokens_per_s=100, open_s=60.0), local_key("m", None, 2)
    speeds.learn(key, prior, Work(texts=0, tokens=0), 3.0, open_s=9.0)
    assert speeds.speed(key, prior) == prior
    speeds.learn(key, prior, WORK, 3.0, open_s=4.0)
    assert speeds.speed(key, prior).open_s == 4.0
    speeds.learn(key, prior, WORK, 3.0, open_s=2.0)
    speeds.learn(key, prior, WORK, 3.0)
    assert speeds.speed(key, prior).open_s == 3.0


def test_a_server_fades_within_hours_and_this_machine_does_not(tmp_path: Path, clock: Clock) -> None:
    speeds = Speeds(tmp_path / "speeds.json", clock=clock)
    here = local_key("m", None, 2)
    for key in (KEY, here):
        speeds.learn(key, PRIOR_REMOTE, WORK, 100.0)
    clock.now += 8 * 3600
    assert speeds.speed(KEY, PRIOR_REMOTE).seconds(WORK) < 0.2
    assert speeds.speed(here, PRIOR_REMOTE).seconds(WORK) > 50


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"version": 2, "speeds": {"remote|a|m": {}}}',
        b'{"version": 1, "speeds": []}',
        b'{"version": 1, "speeds": {"remote|a|m": 3}}',
        b'{"version": 1, "speeds": {"remote|a|m": {"call_s": 1}}}',
        b'{"version": 1, "speeds": {"remote|a|m": {"call_s": 0, "tokens_per_s": 1}}}',
        b'{"version": 1, "speeds": {"remote|a|m": {"call_s": NaN, "tokens_per_s": 1}}}',
        b'{"version": 1, "speeds": {"remote|a|m": {"call_s": "1", "tokens_per_s": 1}}}',
        b'{"version": 1, "speeds": {"remote|a|m": {"call_s": 1, "tokens_per_s": 1, "color": 1}}}',
    ],
)
def test_a_damaged_file_is_as_none_and_is_mended(tmp_path: Path, clock: Clock, content: bytes) -> None:
    path = tmp_path / "speeds.json"
    path.write_bytes(content)
    speeds = Speeds(path, clock=clock)
    assert speeds.speed("remote|a|m", PRIOR_REMOTE) == PRIOR_REMOTE
    speeds.learn("remote|a|m", PRIOR_REMOTE, WORK, 3.0)
    assert list(json.loads(path.read_text())["speeds"]) == ["remote|a|m"]


def test_the_file_does_not_grow_for_ever(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "speeds.json"
    speeds = Speeds(path, clock=clock)
    for index in range(510):
        clock.now += 1
        speeds._speeds[f"remote|{index}|m"] = Speed(call_s=1, tokens_per_s=1, measured_at=clock.now)
        speeds._fresh.add(f"remote|{index}|m")
    speeds.learn(KEY, PRIOR_REMOTE, WORK, 3.0)
    kept = json.loads(path.read_text())["speeds"]
    assert len(kept) == 500
    assert KEY in kept
    assert "remote|0|m" not in kept


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, clock: Clock) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    speeds = Speeds(blocked / "speeds.json", clock=clock)
    speeds.learn(KEY, PRIOR_REMOTE, WORK, 3.0)
    assert speeds.speed(KEY, PRIOR_REMOTE).calls == 1


def test_a_server_is_left_alone_for_its_time(tmp_path: Path, clock: Clock) -> None:
    speeds = Speeds(tmp_path / "speeds.json", clock=clock)
    assert not speeds.is_shunned("http://a")
    speeds.shun("http://a", 60)
    assert speeds.is_shunned("http://a")
    assert not speeds.is_shunned("http://b")
    clock.now += 59
    assert speeds.is_shunned("http://a")
    clock.now += 2
    assert not speeds.is_shunned("http://a")
    speeds.shun("http://a", 60)
    clock.now -= 3600  # set back
    assert not speeds.is_shunned("http://a")


def test_keys_tell_models_devices_and_threads_apart() -> None:
    keys = {local_key("m", None, 2), local_key("m", None, 4), local_key("n", None, 2), local_key("m", "cuda", 2)}
    assert len(keys) == 4
    assert local_key("m", None, 2) == local_key("m", "cpu", 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_not_held_up_by_its_parents_lock(tmp_path: Path) -> None:
    ours = speeds_in(tmp_path)
    assert speeds_in(tmp_path) is ours
    with ours._lock:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                speeds_in(tmp_path).learn(KEY, PRIOR_REMOTE, WORK, 3.0)
                code = 0
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert speeds_in(tmp_path) is ours
