from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gnomonic.server.jobs import BatchReport
from gnomonic.server.metrics import Metrics
from gnomonic.server.routes.embeddings import Exchange

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _samples(page: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def _value(metrics: Metrics, name: str, **labels: str) -> float:
    return _samples(metrics.render()[0])[f"gnomonic_{name}", tuple(sorted(labels.items()))]


def _exchange(**changes: object) -> Exchange:
    values = {
        "request_id": "r", "dialect": "nomic", "model": "m", "texts": 3, "tokens": 40, "truncated": 1,
        "phases": {"parse": 0.002, "engine": 0.2},
    }  # fmt: skip
    return Exchange(**(values | changes))


def test_an_answered_request_is_counted_by_dialect_phase_and_model() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.request(_exchange(), 200, 0.3)
    assert _value(metrics, "request_seconds_count", dialect="nomic", status="200") == 2
    assert _value(metrics, "request_seconds_sum", dialect="nomic", status="200") == pytest.approx(0.6)
    assert _value(metrics, "phase_seconds_sum", phase="engine") == pytest.approx(0.4)
    assert _value(metrics, "phase_seconds_bucket", phase="parse", le="0.0025") == 2
    assert _value(metrics, "texts_total", model="m") == 6
    assert _value(metrics, "tokens_total", model="m") == 80
    assert _value(metrics, "truncations_total", model="m") == 2


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "input"), (401, "key"), (404, "unknown"), (413, "size"), (429, "too_many"), (503, "unavailable"),
     (504, "deadline")],
)  # fmt: skip
def test_a_refused_request_has_a_reason_and_makes_no_series_of_its_own_words(status: int, reason: str) -> None:
    metrics = Metrics()
    metrics.request(_exchange(model="made up by a client"), status, 0.1)
    assert _value(metrics, "rejected_total", reason=reason) == 1
    assert b"made up" not in metrics.render()[0]


def test_what_the_guard_refuses_is_counted() -> None:
    metrics = Metrics()
    metrics.refused("host")
    assert _value(metrics, "rejected_total", reason="host") == 1


def test_batches_show_their_size_and_padding() -> None:
    metrics = Metrics()
    metrics.batch(BatchReport(rows=4, tokens=300, padded_tokens=400, engine_s=0.05))
    assert _value(metrics, "batch_rows_sum") == 4
    assert _value(metrics, "batch_tokens_sum") == 300
    assert _value(metrics, "batch_padding_share_sum") == pytest.approx(0.25)
    assert _value(metrics, "batch_engine_seconds_sum") == pytest.approx(0.05)


def test_the_queue_and_the_workers_are_shown() -> None:
    metrics = Metrics()
    metrics.queue(requests=7, tokens=900)
    metrics.queue(requests=2, tokens=30)
    metrics.worker_restarted()
    assert _value(metrics, "queue_requests") == 2
    assert _value(metrics, "queue_tokens") == 30
    assert _value(metrics, "worker_restarts_total") == 1


def test_two_in_one_process_are_apart() -> None:
    first, second = Metrics(), Metrics()
    first.worker_restarted()
    assert _value(second, "worker_restarts_total") == 0


def test_the_page_is_what_prometheus_reads() -> None:
    page, media_type = Metrics().render()
    assert media_type.startswith("text/plain; version=")
    assert b"# HELP gnomonic_queue_tokens " in page


def test_the_guide_names_every_metric() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
    families = text_string_to_metric_families(Metrics().render()[0].decode())
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert names == set(re.findall(r"`(gnomonic_\w+)`", guide))


_PROCESS = """
import sys
from gnomonic.server.metrics import Metrics
metrics = Metrics()
for _ in range(int(sys.argv[1])):
    metrics.worker_restarted()
metrics.queue(requests=1, tokens=int(sys.argv[1]))
sys.stdout.buffer.write(metrics.render()[0])
"""


def test_several_processes_show_their_sum(tmp_path: Path) -> None:
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    for count in (2, 3):
        page = subprocess.run(
            [sys.executable, "-c", _PROCESS, str(count)], env=environment, check=True, capture_output=True
        ).stdout
    samples = _samples(page)
    assert samples["gnomonic_worker_restarts_total", ()] == 5
    assert samples["gnomonic_queue_tokens", ()] == 5
