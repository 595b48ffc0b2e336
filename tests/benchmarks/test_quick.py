from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.harness import Bar, PeerError, Worker, Workshop
from benchmarks.workloads import SHAPES, make_checkpoint, make_workload, workload_names

TINY = SHAPES["tiny"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    make_checkpoint(TINY, folder)
    return folder


def _run_quick(question: str, workdir: Path, *options: str) -> tuple[str, dict]:
    out = workdir / "results"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(harness.ROOT / "src"), str(harness.ROOT)])}
    command = [sys.executable, "-m", f"benchmarks.{question}", "--quick", "--threads", "1"]
    command += ["--workdir", str(workdir), "--out", str(out), *options]
    done = subprocess.run(command, cwd=harness.ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    document = json.loads(done.stdout.splitlines()[-1])
    (written,) = out.glob(f"{question}_*.json")
    assert json.loads(written.read_text()) == document
    assert document["question"] == question
    assert not document.get("unavailable")
    return done.stdout, document


@pytest.mark.parametrize("name", workload_names())
def test_every_text_has_the_tokens_it_was_written_with(name: str, workdir: Path) -> None:
    from tokenizers import Tokenizer

    workload = make_workload(name, TINY).first(40)
    tokenizer = Tokenizer.from_file(str(make_checkpoint(TINY, workdir) / "tokenizer.json"))
    encoded = tokenizer.encode_batch([f"{workload.task_type}: {text}" for text in workload.texts])
    assert tuple(len(e.ids) for e in encoded) == workload.lengths
    assert not any(tokenizer.token_to_id("[UNK]") in e.ids for e in encoded)


def test_workloads_have_the_lengths_they_promise() -> None:
    queries, passages = (np.array(make_workload(name, TINY).lengths) for name in ("queries", "passages"))
    assert (queries.min(), queries.max(), len(queries)) == (16, 32, 2000)
    assert passages.max() == 512
    assert 190 < passages.mean() < 210
    assert make_workload("passages", TINY).digest == make_workload("passages", TINY).digest


def test_flops_of_the_published_shape() -> None:
    # 113.2 M weights in matrix products, and 36.9 k operations per token of length.
    assert SHAPES["v1.5"].gemm_parameters == 12 * (2304 * 768 + 768 * 768 + 3 * 768 * 3072)
    assert SHAPES["v1.5"].flops([100]) == pytest.approx(100 * (226.5e6 + 36.9e3 * 100), rel=1e-3)


def test_centred_cosine_ignores_scale_but_sees_a_swap_and_a_common_shift() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, 512)).astype(np.float32)
    shift = 0.3 * rng.standard_normal(512).astype(np.float32)
    assert harness.centred_cosine(3 * vectors + 1, vectors) == pytest.approx((1, 1))
    assert harness.centred_cosine(vectors[[1, 0, 2, 3, 4, 5]], vectors)[1] < 0.9
    assert harness.centred_cosine(vectors + shift, vectors)[0] < 0.98
    assert harness.centred_cosine(vectors + shift, vectors, own_mean=True)[0] > 0.99


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        (Bar(name="speed", value=1.3, limit=1.2), "PASS"),
        (Bar(name="speed", value=1.1, limit=1.2), "FAIL"),
        (Bar(name="memory", value=2.0, limit=2.5, at_least=False, unit="GB"), "PASS"),
        (Bar(name="memory", value=None, limit=2.5, at_least=False, unit="GB"), "NOT MEASURED"),
    ],
)
def test_bars_say_whether_they_hold(bar: Bar, verdict: str) -> None:
    assert bar.verdict == verdict
    assert bar.describe().startswith(verdict)


def test_a_system_that_cannot_start_says_why(workdir: Path, tmp_path: Path) -> None:
    worker = Worker(Workshop(workdir=workdir, folder=tmp_path / "absent"), "ort-fp32", 1)
    with pytest.raises(PeerError, match=r"ort-fp32: .*plain-fp32\.onnx"):
        worker.wait_ready()


def test_embed_throughput_runs(workdir: Path) -> None:
    peers = ["gnomonic-fp32", "gnomonic-int8", "ort-fp32", "ort-int8"]
    shown, result = _run_quick("embed_throughput", workdir, "--peers", *peers)
    assert {(row["peer"], row["workload"]) for row in result["summary"]} == {
        (peer, workload) for peer in peers for workload in ("queries", "passages")
    }
    assert all(row["tokens_per_s"] > 0 and row["peak_rss_gb"] > 0 for row in result["summary"])
    assert set(result["gemm"][0]["tflops"]) == {"fp32", "bf16", "int8"}
    assert "gnomonic-int8 over ort-int8" in shown


def test_embed_latency_runs(workdir: Path) -> None:
    _, result = _run_quick("embed_latency", workdir, "--peers", "gnomonic-fp32", "ort-fp32")
    assert {row["peer"]: row["calls"] for row in result["latency"]} == {"gnomonic-fp32": 20, "ort-fp32": 20}
    starts = {row["start"]: row["median_s"] for row in result["cold_start"]}
    assert {"gnomonic-fp32", "gnomonic-fp32, cold cache", "ort-fp32"} <= set(starts)


def test_batching_waste_runs(workdir: Path) -> None:
    _, result = _run_quick("batching_waste", workdir)
    passages = result["plans"]["passages, 2,000"]
    assert passages["waste"] < 0.05 < passages["waste_given_order_32"]
    assert passages["most_tokens"] <= result["budget"]["max_tokens"]
    assert result["memory"][0]["peak_rss_bytes"] > 1e7


def test_server_load_runs(workdir: Path) -> None:
    _, result = _run_quick("server_load", workdir, "--texts", "64")
    (row,) = result["rows"]
    assert 0 < row["half_p50_ms"] <= row["half_p99_ms"]
    assert row["saturated_per_s"] > 0
    ours, lists = (way["us_per_vector"] for way in result["writing"][:2])
    assert min(ours, lists) > 0
    assert result["left_out"] == "--infinity names no interpreter"
