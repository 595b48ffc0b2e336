"""Traces for OpenTelemetry, where they are asked for: one span for each request, with what the access log says.

Only opentelemetry-api is used; what becomes of the spans is set up by its own means, such as the command
`opentelemetry-instrument gnomonic serve …`. Without that, the api drops them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gnomonic.server.access_log import fields_of

if TYPE_CHECKING:
    from gnomonic.server.routes.embeddings import Exchange

__all__ = ["Trace", "tracer"]

logger = logging.getLogger(__name__)

Trace = Callable[[Mapping[str, Any], "Exchange", int, float], None]
"""(scope, exchange, status, seconds), as `access_log.write` takes them, at a request's end."""


def tracer(enabled: bool) -> Trace:
    """Return what records a request as a span: nothing, unless it is enabled and opentelemetry-api is installed."""
    if not enabled:
        return _nothing
    try:
        from opentelemetry import propagate, trace
    except ImportError:
        logger.warning("no traces: opentelemetry-api is not installed; run: pip install opentelemetry-distro")
        return _nothing
    source = trace.get_tracer("gnomonic")

    def record(scope: Mapping[str, Any], exchange: Exchange, status: int, seconds: float) -> None:
        ended_ns = time.time_ns()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        fields = fields_of(scope, exchange, status, seconds)
        phases = {f"phases_ms.{name}": spent for name, spent in fields.pop("phases_ms").items()}
        span = source.start_span(
            f"{fields['method']} {exchange.dialect or 'status'}",
            context=propagate.extract(headers),
            kind=trace.SpanKind.SERVER,
            attributes={f"gnomonic.{name}": value for name, value in {**fields, **phases}.items()},
            start_time=ended_ns - round(seconds * 1e9),
        )
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        span.end(ended_ns)

    return record


def _nothing(_scope: Mapping[str, Any], _exchange: Exchange, _status: int, _seconds: float) -> None:
    """Record nothing."""
