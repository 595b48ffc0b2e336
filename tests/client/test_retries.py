from __future__ import annotations

import pytest

from gnomonic.client.retries import Attempts, Failure, Patience, Tries, retry_after_s, tries_of
from gnomonic.errors import RemoteError

NOW = 1_790_000_000.0  # Mon, 21 Sep 2026 14:13:20 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("nan", None),
        ("inf", None),
        ("Mon, 21 Sep 2026 14:13:30 GMT", 10.0),
        ("Mon, 21 Sep 2026 14:13:30 -0000", 10.0),
        ("Mon, 21 Sep 2026 16:13:30 +0200", 10.0),
        ("Mon, 21 Sep 2026 14:00:00 GMT", 0.0),
        ("Mon, 99 Sep 2026 14:00:00 GMT", None),
        ("tomorrow", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, now=NOW) == seconds


def _failure(tries: Tries, retry_after_s: float | None = None) -> Failure:
    return Failure(error=RemoteError("x"), tries=tries, retry_after_s=retry_after_s)


@pytest.mark.parametrize(("tries", "pauses"), [(Tries.NEVER, 0), (Tries.ONCE, 1), (Tries.CONNECT, 2), (Tries.OFTEN, 5)])
def test_each_kind_has_its_number_of_tries(tries: Tries, pauses: int) -> None:
    attempts = Attempts(Patience(attempts=6, connect_attempts=3), lambda: 0.0)
    made = 0
    while attempts.pause_s(_failure(tries), 100.0) is not None:
        made += 1
    assert made == pauses


def test_kinds_share_the_number_of_requests() -> None:
    attempts = Attempts(Patience(attempts=3), lambda: 0.0)
    found = [attempts.pause_s(_failure(tries), 100.0) for tries in (Tries.CONNECT, Tries.OFTEN, Tries.OFTEN)]
    assert found == [0.0, 0.0, None]


def test_pauses_double_up_to_their_bound_and_jitter_is_full() -> None:
    patience = Patience(attempts=9, backoff_s=1.0, max_backoff_s=5.0)
    high, low = Attempts(patience, lambda: 1.0), Attempts(patience, lambda: 0.0)
    assert [high.pause_s(_failure(Tries.OFTEN), 100.0) for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert [low.pause_s(_failure(Tries.OFTEN), 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_what_the_server_asks_for_is_the_least_pause_and_is_capped() -> None:
    attempts = Attempts(Patience(backoff_s=1.0, max_retry_after_s=60.0), lambda: 0.5)
    assert attempts.pause_s(_failure(Tries.OFTEN, 10.0), 1000.0) == 10.5
    assert attempts.pause_s(_failure(Tries.OFTEN, 9999.0), 1000.0) == 61.0
    assert attempts.pause_s(_failure(Tries.OFTEN, 10.0), 11.0) is None


@pytest.mark.parametrize(
    ("status", "tries"),
    [
        *((status, Tries.OFTEN) for status in (408, 429, 502, 503, 504)),
        (500, Tries.ONCE),
        *((status, Tries.NEVER) for status in (301, 400, 401, 501)),
    ],
)
def test_only_passing_statuses_are_tried_again(status: int, tries: Tries) -> None:
    assert tries_of(status) is tries
