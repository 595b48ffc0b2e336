"""What /metrics shows, in Prometheus' text format.

Labels take few values, all of them ours: a model is counted by name only once it has answered, since a name that a
client made up would be a new series each time.

Several server processes share a folder: the variable PROMETHEUS_MULTIPROC_DIR names it, and has to be set before
prometheus_client is imported, so whoever starts the processes sets it for them. Any of them then shows the sum of all.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import ValueClass

if TYPE_CHECKING:
    from gnomonic.server.jobs import BatchReport
    from gnomonic.server.routes.embeddings import Exchange

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)

_REASONS = MappingProxyType(
    {400: "input", 401: "key", 404: "unknown", 413: "size", 422: "input", 429: "too_many", 499: "client_left",
     503: "unavailable", 504: "deadline"}
)  # fmt: skip
"""Why a request got no vectors, by status."""


class Metrics:
    """The counts of one server process, or of its share of several."""

    def __init__(self) -> None:
        # They would be a second series for each, with the time it began, that nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self._registry = CollectorRegistry()
        self._requests = Histogram(
            "gnomonic_request_seconds", "Time from a request's head to its answer.", ["dialect", "status"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._phases = Histogram(
            "gnomonic_phase_seconds", "Time of a request in each phase.", ["phase"], buckets=_SECONDS, registry=registry
        )
        self._rejected = Counter("gnomonic_rejected", "Requests without an answer.", ["reason"], registry=registry)
        self._texts = Counter("gnomonic_texts", "Texts embedded.", ["model"], registry=registry)
        self._tokens = Counter("gnomonic_tokens", "Tokens of these texts.", ["model"], registry=registry)
        self._truncations = Counter("gnomonic_truncations", "Texts that were cut to fit.", ["model"], registry=registry)
        self._queue_requests = Gauge(
            "gnomonic_queue_requests", "Requests that wait.", multiprocess_mode="livesum", registry=registry
        )
        self._queue_tokens = Gauge(
            "gnomonic_queue_tokens", "Tokens that wait.", multiprocess_mode="livesum", registry=registry
        )
        self._batch_rows = Histogram("gnomonic_batch_rows", "Rows of a batch.", buckets=_ROWS, registry=registry)
        self._batch_tokens = Histogram(
            "gnomonic_batch_tokens", "Tokens of a batch, without padding.", buckets=_TOKENS, registry=registry
        )
        self._padding = Histogram(
            "gnomonic_batch_padding_share", "Padding in all that a batch computes.", buckets=_SHARES, registry=registry
        )
        self._engine = Histogram(
            "gnomonic_batch_engine_seconds", "Time of a batch in the engine.", buckets=_SECONDS, registry=registry
        )
        self._restarts = Counter("gnomonic_worker_restarts", "Workers that ended and were replaced.", registry=registry)

    def request(self, exchange: Exchange, status: int, seconds: float) -> None:
        """Count a request that was answered, well or not.

        Args:
            exchange: what was noted of it.
            status: of the answer.
            seconds: it took.
        """
        self._requests.labels(exchange.dialect or "none", str(status)).observe(seconds)
        if status in _REASONS:
            self.refused(_REASONS[status])
        for phase, spent_s in exchange.phases.items():
            self._phases.labels(phase).observe(spent_s)
        if status == 200 and exchange.model:
            self._texts.labels(exchange.model).inc(exchange.texts)
            self._tokens.labels(exchange.model).inc(exchange.tokens)
            self._truncations.labels(exchange.model).inc(exchange.truncated)

    def refused(self, reason: str) -> None:
        """Count a request that was refused; `Guard(on_refusal=…)` calls it for those the application never sees."""
        self._rejected.labels(reason).inc()

    def batch(self, report: BatchReport) -> None:
        """Count a batch that was run."""
        self._batch_rows.observe(report.rows)
        self._batch_tokens.observe(report.tokens)
        self._padding.observe(1 - report.tokens / max(1, report.padded_tokens))
        self._engine.observe(report.engine_s)

    def queue(self, *, requests: int, tokens: int) -> None:
        """Note what waits in this process."""
        self._queue_requests.set(requests)
        self._queue_tokens.set(tokens)

    def worker_restarted(self) -> None:
        """Count a worker that had to be replaced."""
        self._restarts.inc()

    def render(self) -> tuple[bytes, str]:
        """Return the page and its media type: of all processes where several share a folder."""
        registry = self._registry
        if getattr(ValueClass, "_multiprocess", False):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
