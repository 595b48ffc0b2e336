from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from gnomonic.server import access_log
from gnomonic.server.routes.embeddings import Exchange

SCOPE = {
    "type": "http", "method": "POST", "path": "/v1/embedding/text", "query_string": b"key=nk-secret",
    "client": ("10.1.2.3", 5555), "headers": [(b"authorization", b"Bearer nk-secret")],
}  # fmt: skip


def _exchange(**changes: Any) -> Exchange:
    values = {
        "request_id": "r1", "dialect": "nomic", "model": "m", "task": "search_query", "texts": 3, "tokens": 40,
        "truncated": 1, "phases": {"parse": 0.0012345}, "key_id": "abc",
    }  # fmt: skip
    return Exchange(**(values | changes))


def _line(caplog: pytest.LogCaptureFixture, scope: dict[str, Any], exchange: Exchange) -> str:
    with caplog.at_level(logging.INFO, logger="gnomonic.access"):
        access_log.write(scope, exchange, 200, 0.25, clock=lambda: 1_700_000_000.5)
    return caplog.records[-1].getMessage()


def test_a_request_is_one_line_of_json(caplog: pytest.LogCaptureFixture) -> None:
    assert json.loads(_line(caplog, SCOPE, _exchange())) == {
        "time": "2023-11-14T22:13:20.500Z",
        "request_id": "r1",
        "client": "10.1.2.3",
        "method": "POST",
        "path": "/v1/embedding/text",
        "dialect": "nomic",
        "model": "m",
        "task": "search_query",
        "texts": 3,
        "tokens": 40,
        "truncated": 1,
        "status": 200,
        "duration_ms": 250.0,
        "phases_ms": {"parse": 1.23},
        "key_id": "abc",
    }


def test_no_key_stands_in_it_wherever_it_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    assert "nk-secret" not in _line(caplog, SCOPE, _exchange())


def test_what_a_client_chose_stays_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    scope = {**SCOPE, "path": "/a\nb\u2028" + "x" * 9000}
    line = _line(caplog, scope, _exchange(model='"}\n{' + "y" * 9000))
    assert line.splitlines() == [line]
    assert line.isascii()
    assert len(line) < 1000
    assert json.loads(line)["path"].startswith("/a\nb")


def test_a_client_behind_a_unix_socket_has_no_address(caplog: pytest.LogCaptureFixture) -> None:
    assert json.loads(_line(caplog, {**SCOPE, "client": None}, _exchange()))["client"] == ""


def test_a_logger_that_is_off_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="gnomonic.access"):
        access_log.write({}, _exchange(), 200, 0.1)
    assert caplog.records == []
