"""The systems under test, each in a process of its own.

`python -m benchmarks.peers NAME FOLDER` loads one system and then answers requests, one JSON object per
line; with `--first` it embeds a single text, reports and exits, which is what a cold start is. Importing
this module is cheap: every system imports its runtime when it is built, so that a cold start counts that
too.

Every system gets the same texts, the same thread count and the prefix of the same task. None gets tuned:
each is called as its documentation does, at its default batch size, and the two plain ONNX Runtime loops as
a careful user would write them (batches of 32 texts sorted by length, padded to the longest of the batch).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["PEERS", "Peer", "main"]

BATCH_SIZE = 32
MAX_TOKENS = 8192


class Peer(Protocol):
    """One system: texts in, one vector per text out."""

    def encode(self, texts: Sequence[str], task_type: str) -> NDArray[np.float32]:
        """Return [len(texts), hidden] float32: pooled or finished, whatever the system gives."""
        ...

    def count_tokens(self, texts: Sequence[str], task_type: str) -> int:
        """Return the tokens the system reads from these texts, prefix and special tokens included."""
        ...


class Gnomonic:
    """This project, through its public API."""

    def __init__(self, folder: Path, *, precision: str) -> None:
        import gnomonic

        self.encoder = gnomonic.load(str(folder), precision=precision)

    def encode(self, texts: Sequence[str], task_type: str) -> NDArray[np.float32]:
        return self.encoder.encode(list(texts), task_type=task_type).vectors

    def count_tokens(self, texts: Sequence[str], task_type: str) -> int:
        # Usage counts body tokens; the prefix and the special tokens are the same six for every text.
        usage = self.encoder.encode(list(texts), task_type=task_type).usage
        return usage.prompt_tokens + 6 * len(texts)


class SentenceTransformers:
    """sentence-transformers on torch, at its default batch size of 32."""

    def __init__(self, folder: Path, *, threads: int, dtype: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        options = {"dtype": getattr(torch, dtype)}
        self.model = SentenceTransformer(str(folder), device="cpu", model_kwargs=options)
        self.model.max_seq_length = MAX_TOKENS

    def encode(self, texts: Sequence[str], task_type: str) -> NDArray[np.float32]:
        vectors = self.model.encode(list(texts), prompt=f"{task_type}: ", show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def count_tokens(self, texts: Sequence[str], task_type: str) -> int:
        ids = self.model.tokenizer([f"{task_type}: {text}" for text in texts])["input_ids"]
        return sum(map(len, ids))


class PlainLoop:
    """A padded, length-sorted loop around any runtime that takes ids and mask and returns pooled vectors."""

    def __init__(self, folder: Path, run: Callable[[dict[str, NDArray[np.int64]]], Any]) -> None:
        from tokenizers import Tokenizer

        self.run = run
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def _ids(self, texts: Sequence[str], task_type: str) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch([f"{task_type}: {text}" for text in texts])]

    def encode(self, texts: Sequence[str], task_type: str) -> NDArray[np.float32]:
        ids = self._ids(texts, task_type)
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        vectors: list[Any] = [None] * len(ids)
        for start in range(0, len(order), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            width = len(ids[rows[0]])
            feeds = {name: np.zeros((len(rows), width), np.int64) for name in ("input_ids", "attention_mask")}
            for row, index in enumerate(rows):
                feeds["input_ids"][row, : len(ids[index])] = ids[index]
                feeds["attention_mask"][row, : len(ids[index])] = 1
            for index, vector in zip(rows, self.run(feeds), strict=True):
                vectors[index] = np.array(vector)
        return np.stack(vectors)

    def count_tokens(self, texts: Sequence[str], task_type: str) -> int:
        return sum(map(len, self._ids(texts, task_type)))


def _onnxruntime(folder: Path, threads: int, graphs: Path, *, precision: str) -> PlainLoop:
    """ONNX Runtime at its default session options on the graph a user would export or download."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    graph = graphs / f"plain-{precision}.onnx"
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return PlainLoop(folder, lambda feeds: session.run(None, feeds)[0])


def _openvino(folder: Path, threads: int, graphs: Path, *, precision: str) -> PlainLoop:
    """OpenVINO's own reader on the fp32 graph; LOG.md says why not through optimum."""
    import openvino

    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    model = core.compile_model(core.read_model(str(graphs / "plain-fp32.onnx")), "CPU", options)
    return PlainLoop(folder, lambda feeds: model(feeds)[0])


Factory = Callable[[Path, int, Path], Peer]

PEERS: dict[str, Factory] = {
    "gnomonic-fp32": lambda folder, _threads, _graphs: Gnomonic(folder, precision="fp32"),
    "gnomonic-int8": lambda folder, _threads, _graphs: Gnomonic(folder, precision="int8"),
    "gnomonic-bf16": lambda folder, _threads, _graphs: Gnomonic(folder, precision="bf16"),
    "st-fp32": lambda folder, threads, _graphs: SentenceTransformers(folder, threads=threads, dtype="float32"),
    "st-bf16": lambda folder, threads, _graphs: SentenceTransformers(folder, threads=threads, dtype="bfloat16"),
    "ort-fp32": lambda folder, threads, graphs: _onnxruntime(folder, threads, graphs, precision="fp32"),
    "ort-int8": lambda folder, threads, graphs: _onnxruntime(folder, threads, graphs, precision="int8"),
    "openvino-fp32": lambda folder, threads, graphs: _openvino(folder, threads, graphs, precision="fp32"),
    "openvino-bf16": lambda folder, threads, graphs: _openvino(folder, threads, graphs, precision="bf16"),
}
"""name -> factory(checkpoint folder, threads, folder of plain graphs)."""


def _peak_rss_bytes() -> int:
    """Return the most memory this process has held, mapped files included (VmHWM), in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM line; peak memory is measured on Linux only")


def _answer(peer: Peer, request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request: "encode", "latency" or "count" over the texts of a JSON file."""
    texts = json.loads(Path(request["texts"]).read_text(encoding="utf-8"))[: request["count"]]
    task = request["task_type"]
    if request["op"] == "count":
        return {"tokens": peer.count_tokens(texts, task)}
    if request["op"] == "latency":
        times = []
        for i in range(request["start"], request["start"] + request["calls"]):
            start = time.perf_counter()
            peer.encode([texts[i % len(texts)]], task)
            times.append(time.perf_counter() - start)
        return {"seconds": times}
    cpu, start = time.process_time(), time.perf_counter()
    vectors = peer.encode(texts, task)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if request["out"]:
        np.save(request["out"], vectors)
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_rss_bytes": _peak_rss_bytes()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=[*PEERS, "gemm"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--graphs", type=Path, required=True)
    parser.add_argument("--first", metavar="TEXT", help="embed this text, report, and exit")
    parser.add_argument("--quick", action="store_true", help="gemm only: a small shape")
    args = parser.parse_args()
    # Answers go to a private copy of stdout; whatever a library prints goes to the log.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    if args.peer == "gemm":
        import torch

        from benchmarks.gemm_peak import measure_gemm

        torch.set_num_threads(args.threads)
        tell({"ready": True})
        for _ in sys.stdin:
            tell(measure_gemm(args.threads, quick=args.quick))
        return
    peer = PEERS[args.peer](args.folder, args.threads, args.graphs)
    if args.first is not None:
        peer.encode([args.first], "search_query")
        tell({"ready": True, "peak_rss_bytes": _peak_rss_bytes()})
        return
    tell({"ready": True})
    for line in sys.stdin:
        tell(_answer(peer, json.loads(line)))


if __name__ == "__main__":
    main()
