from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gnomonic.server.routes.embeddings import Exchange
from gnomonic.server.tracing import tracer

SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/embed",
    "client": None,
    "headers": [(b"traceparent", b"00-a-b-01")],
}
EXCHANGE = Exchange(request_id="r1", dialect="tei", texts=2, phases={"engine": 0.1})


class Span:
    """What was recorded."""

    def __init__(self, name: str, **given: Any) -> None:
        self.name, self.given = name, given
        self.status: str | None = None
        self.ended_ns: int | None = None

    def set_status(self, status: str) -> None:
        self.status = status

    def end(self, time_ns: int) -> None:
        self.ended_ns = time_ns


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[Span]:
    """Stand in for opentelemetry-api; returns the spans started."""
    recorded: list[Span] = []

    def start_span(name: str, **given: Any) -> Span:
        recorded.append(Span(name, **given))
        return recorded[-1]

    package: Any = ModuleType("opentelemetry")
    package.trace = SimpleNamespace(
        get_tracer=lambda _name: SimpleNamespace(start_span=start_span),
        SpanKind=SimpleNamespace(SERVER="server"),
        StatusCode=SimpleNamespace(ERROR="error"),
    )
    package.propagate = SimpleNamespace(extract=dict)
    monkeypatch.setitem(sys.modules, "opentelemetry", package)
    return recorded


def test_a_request_is_one_span(spans: list[Span]) -> None:
    tracer(True)(SCOPE, EXCHANGE, 200, 0.5)
    (span,) = spans
    assert span.name == "POST tei"
    assert span.given["context"] == {"traceparent": "00-a-b-01"}
    assert span.ended_ns is not None
    assert span.ended_ns - span.given["start_time"] == 500_000_000
    attributes = span.given["attributes"]
    assert (attributes["gnomonic.texts"], attributes["gnomonic.phases_ms.engine"]) == (2, 100.0)
    assert all(isinstance(value, str | int | float) for value in attributes.values())
    assert span.status is None


def test_a_failure_of_ours_is_marked(spans: list[Span]) -> None:
    tracer(True)(SCOPE, EXCHANGE, 503, 0.5)
    assert spans[0].status == "error"


def test_switched_off_nothing_is_recorded(spans: list[Span]) -> None:
    tracer(False)(SCOPE, EXCHANGE, 200, 0.5)
    assert spans == []


def test_without_the_package_a_line_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with caplog.at_level(logging.WARNING):
        tracer(True)(SCOPE, EXCHANGE, 200, 0.5)
    assert "pip install opentelemetry-distro" in caplog.text


def test_the_real_api_takes_it() -> None:
    pytest.importorskip("opentelemetry.trace")
    tracer(True)(SCOPE, EXCHANGE, 500, 0.5)
