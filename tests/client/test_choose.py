from __future__ import annotations

import math
import random

import pytest

from gnomonic.client.choose import PRIOR_REMOTE, Speed, Work, choose, fade, learn, prior_local

SMALL = Work(texts=1, tokens=20)
LARGE = Work(texts=5000, tokens=1_000_000)


def test_work_counts_characters_up_to_the_limit() -> None:
    assert Work.of([], 100) == Work(texts=0, tokens=0)
    assert Work.of(["", "x" * 400], 8192) == Work(texts=2, tokens=16 + 100)
    assert Work.of(["x" * 4000], 100) == Work(texts=1, tokens=8 + 100)


@pytest.mark.parametrize(
    ("local", "remote", "mode"),
    [
        (None, None, "local"),
        (None, PRIOR_REMOTE, "remote"),
        (PRIOR_REMOTE, None, "local"),
        (PRIOR_REMOTE, PRIOR_REMOTE, "local"),
        (Speed(call_s=1, tokens_per_s=1), PRIOR_REMOTE, "remote"),
    ],
)
def test_the_side_that_can_or_is_faster_is_chosen(local: Speed | None, remote: Speed | None, mode: str) -> None:
    found = choose(SMALL, local, remote)
    assert found.mode == mode
    assert (found.predicted_local_s is None, found.predicted_remote_s is None) == (local is None, remote is None)


def test_few_texts_stay_here_and_many_go_where_the_engine_is_faster() -> None:
    here = Speed(call_s=0.003, tokens_per_s=2000)
    there = Speed(call_s=0.05, tokens_per_s=100_000)
    assert choose(SMALL, here, there).mode == "local"
    assert choose(LARGE, here, there).mode == "remote"
    assert choose(LARGE, here, there).predicted_local_s == pytest.approx(500.003)


def test_a_model_that_is_not_open_yet_costs_its_opening() -> None:
    closed = Speed(call_s=0.003, tokens_per_s=2000, open_s=2.0)
    assert choose(SMALL, closed, PRIOR_REMOTE).mode == "remote"


def test_the_prior_of_this_machine_follows_model_and_cpus() -> None:
    small, large = prior_local(14_000_000, 2), prior_local(137_000_000, 2)
    assert small.tokens_per_s > 5 * large.tokens_per_s
    assert prior_local(14_000_000, 8).tokens_per_s == pytest.approx(4 * small.tokens_per_s)
    assert prior_local(137_000_000, 2, download=True).open_s > 10 * large.open_s


def test_the_first_measurement_replaces_the_prior() -> None:
    learnt = learn(PRIOR_REMOTE, LARGE, 500.0, now=7.0)
    assert learnt.tokens_per_s == pytest.approx(2000, rel=0.05)
    assert (learnt.calls, learnt.measured_at) == (1, 7.0)
    assert learn(PRIOR_REMOTE, SMALL, 1.0, now=0).call_s == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("truth", [Speed(call_s=0.4, tokens_per_s=3000), Speed(call_s=0.002, tokens_per_s=200_000)])
def test_small_and_large_calls_teach_latency_and_throughput(truth: Speed) -> None:
    """Simulated calls of mixed sizes with noise: both numbers are found, each within a third."""
    rng = random.Random(0)
    speed = PRIOR_REMOTE
    for step in range(60):
        work = SMALL if step % 2 else LARGE
        speed = learn(speed, work, truth.seconds(work) * rng.lognormvariate(0, 0.1), now=step)
    for work in (SMALL, LARGE):
        assert speed.seconds(work) == pytest.approx(truth.seconds(work), rel=0.33)


def test_one_outlier_does_not_turn_a_settled_average_round() -> None:
    speed = PRIOR_REMOTE
    for step in range(20):
        speed = learn(speed, LARGE, 50.0, now=step)
    assert learn(speed, LARGE, 5000.0, now=20).seconds(LARGE) < 250


@pytest.mark.parametrize("seconds", [0.0, 1e12])
def test_a_clock_that_jumps_leaves_a_usable_speed(seconds: float) -> None:
    speed = PRIOR_REMOTE
    for _ in range(50):
        speed = learn(speed, SMALL, seconds, now=0)
    assert 0 < speed.call_s < math.inf
    assert 0 < speed.tokens_per_s < math.inf


def test_old_measurements_fade_to_the_prior() -> None:
    slow = Speed(call_s=5.0, tokens_per_s=200, calls=9, measured_at=100.0)
    assert fade(slow, PRIOR_REMOTE, now=100.0, half_life_s=10) == slow
    half = fade(slow, PRIOR_REMOTE, now=110.0, half_life_s=10)
    assert half.call_s == pytest.approx(0.5)
    assert half.tokens_per_s == pytest.approx(2000)
    assert fade(slow, PRIOR_REMOTE, now=1000.0, half_life_s=10).call_s == pytest.approx(0.05)
    assert fade(slow, PRIOR_REMOTE, now=0.0, half_life_s=10) == slow  # the clock was set back


def test_a_server_that_was_slow_once_is_tried_again() -> None:
    here, now = Speed(call_s=0.003, tokens_per_s=2000), 0.0
    there = learn(PRIOR_REMOTE, LARGE, 5000.0, now=now)
    assert choose(LARGE, here, there).mode == "local"
    later = fade(there, PRIOR_REMOTE, now=6 * 3600.0, half_life_s=3600.0)
    assert choose(LARGE, here, later).mode == "remote"
