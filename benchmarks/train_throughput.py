"""How many tokens a second does contrastive training do, beside sentence-transformers' trainer?

Two cases: pairs (as in weakly supervised pre-training) and pairs with seven hard negatives each (as in fine-tuning).
Every trainer runs in a process of its own, and they take turns, a round of steps each; their losses are compared step
by step before anything is judged. Run it as `python -m benchmarks.train_throughput`; the peer needs `accelerate` and
`datasets` beside sentence-transformers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import ROOT, Bar, PeerError, Worker, Workshop
from benchmarks.train_peers import PEERS
from benchmarks.workloads import SEED, SHAPES, Shape, make_checkpoint, make_workload

__all__ = ["main"]

LIMIT = 1.5
LOSS_LIMIT = 0.02
"""Largest relative difference between two trainers' losses of a step: bf16 rounds in another order."""

TRAINED = {
    "tiny": SHAPES["tiny"],
    "mini": Shape(name="mini", vocab_size=10240, hidden_size=384, num_layers=6, num_heads=6, intermediate_size=1024),
    "v1.5": SHAPES["v1.5"],
}
MAX_TOKENS = 192


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of step."""

    name: str
    batch_size: int
    negatives: int
    steps_per_round: int

    def quick(self) -> Case:
        """Return the same, small."""
        return dataclasses.replace(self, batch_size=8, steps_per_round=2)


CASES = (
    Case(name="pretrain", batch_size=256, negatives=0, steps_per_round=3),
    Case(name="finetune", batch_size=32, negatives=7, steps_per_round=3),
)


def _write_pairs(case: Case, shape: Shape, rows: int, path: Path) -> None:
    """Write rows of which no two share a text, so that in-batch negatives are never right answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng([SEED, case.negatives])
    words = sorted({word for text in make_workload("passages", shape).texts[:200] for word in text.split()})

    def text(median: float, most: int) -> str:
        # A word is one piece, or two where it has an ending.
        count = int(np.clip(np.rint(np.exp(rng.normal(np.log(median), 0.6))), 6, most))
        return " ".join(words[i] for i in rng.integers(0, len(words), size=count))

    table = {
        "query": [text(12, 24) for _ in range(rows)],
        "document": [text(50, 85) for _ in range(rows)],
        "negatives": [[text(50, 85) for _ in range(case.negatives)] for _ in range(rows)],
        "source": ["pairs"] * rows,
    }
    pq.write_table(pa.table(table, schema=_schema()), path)


def _schema() -> Any:
    import pyarrow as pa

    texts = pa.list_(pa.string())
    kinds = {"query": pa.string(), "document": pa.string(), "negatives": texts, "source": pa.string()}
    return pa.schema(kinds.items())


class _Trainer:
    """One trainer's process."""

    def __init__(self, shop: Workshop, name: str, case: dict[str, Any], threads: int) -> None:
        self.name = name
        stem = shop.workdir / f"train-{case['name']}-{name}-{os.getpid()}"
        path, self.log = stem.with_suffix(".json"), stem.with_suffix(".log")
        path.write_text(json.dumps({**case, "out": str(stem)}), encoding="utf-8")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.train_peers", name, str(path)],
                cwd=ROOT,
                env=shop.environment(threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def read(self) -> dict[str, Any]:
        """Wait for the process's next report.

        Raises:
            PeerError: it ended instead.
        """
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.close()
            written = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise PeerError(f"{self.name}: {written[-1] if written else 'ended'}".replace(str(ROOT), "."))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def go(self) -> dict[str, Any]:
        """Train one round and return its report."""
        if self.process.stdin:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """End the process."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _measure(shop: Workshop, case: Case, args: argparse.Namespace, shape: Shape) -> dict[str, Any]:
    """Train one case with every trainer in turn; the first round warms up and is not counted."""
    steps = case.steps_per_round * (args.rounds + 1)
    pairs = shop.workdir / f"train-{case.name}-{shape.name}-{case.batch_size * steps}.parquet"
    _write_pairs(case, shape, case.batch_size * steps, pairs)
    settings = {
        **dataclasses.asdict(case), "steps": steps, "pairs": str(pairs), "folder": str(shop.workdir),
        "model": str(shop.folder), "hidden_size": shape.hidden_size, "max_tokens": MAX_TOKENS, "temperature": 0.05,
        "learning_rate": 2e-4,
    }  # fmt: skip
    trainers, unavailable, tokens = {}, {}, []
    for name in args.peers:
        trainer = _Trainer(shop, name, settings, args.threads)
        try:
            found = trainer.read()["tokens"]
        except PeerError as error:
            unavailable[name] = str(error)
            continue
        tokens = tokens or found
        if found != tokens:
            trainer.close()
            raise SystemExit(f"{name} reads other tokens than {next(iter(trainers))}: {found[:3]}, {tokens[:3]}")
        trainers[name] = trainer
    repeats: list[dict[str, Any]] = []
    gemm = []
    worker = Worker(shop, "gemm", args.threads, extra=["--quick"] if args.quick else [])
    try:
        worker.wait_ready()
        for number in range(args.rounds + 1):
            if number:
                gemm.append(worker.ask("gemm"))
            for name, trainer in trainers.items():
                repeats.append({"peer": name, "round": number, **trainer.go()})
    finally:
        for process in (worker, *trainers.values()):
            process.close()
    return {"case": case, "tokens": tokens, "repeats": repeats, "gemm": gemm, "unavailable": unavailable}


def _summarise(found: dict[str, Any], shape: Shape) -> list[dict[str, Any]]:
    """Reduce a case to one row per trainer."""
    case, repeats = found["case"], found["repeats"]
    size = case.steps_per_round
    peak = max((rate for entry in found["gemm"] for rate in entry["bf16"].values()), default=None)
    rows = []
    for name in dict.fromkeys(entry["peer"] for entry in repeats):
        rounds = [entry for entry in repeats if entry["peer"] == name and entry["round"]]
        tokens = [sum(found["tokens"][entry["round"] * size : (entry["round"] + 1) * size]) for entry in rounds]
        rate = statistics.median(count / entry["seconds"] for count, entry in zip(tokens, rounds, strict=True))
        by_cpu = statistics.median(count / entry["cpu_seconds"] for count, entry in zip(tokens, rounds, strict=True))
        # A forward pass and twice its products backward; what is computed a second time is a trainer's own cost.
        tflops = rate * 6 * shape.gemm_parameters / 1e12
        rows.append(
            {
                "case": case.name, "peer": name, "tokens_per_s": rate, "tokens_per_cpu_s": by_cpu,
                "share_of_gemm_peak": tflops / peak if peak else None,
                "peak_rss_gb": max(entry["peak_rss_bytes"] for entry in rounds) / 1e9,
                "losses": [loss for entry in repeats if entry["peer"] == name for loss in entry["losses"]],
            }
        )  # fmt: skip
    return rows


def _ratio(found: dict[str, Any], peer: str, *, clock: str) -> float | None:
    """Return how many times as fast gnomonic was as the peer: the median over rounds."""
    times = {(entry["peer"], entry["round"]): entry[clock] for entry in found["repeats"] if entry["round"]}
    pairs = [(times.get(("gnomonic", number)), seconds) for (name, number), seconds in times.items() if name == peer]
    return statistics.median([theirs / ours for ours, theirs in pairs if ours]) if any(o for o, _ in pairs) else None


def _judge(found: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[Bar]:
    """Compare the losses step by step, then the rates with the faster of the peers."""
    name = found["case"].name
    losses = {row["peer"]: np.array(row["losses"]) for row in rows}
    peers = [peer for peer in losses if peer != "gnomonic"]
    if not peers or "gnomonic" not in losses:
        return [Bar(name=f"{name}: gnomonic over sentence-transformers", value=None, limit=LIMIT)]
    ours = losses["gnomonic"]
    apart = max(float(np.max(np.abs(losses[peer] - ours) / ours)) for peer in peers)
    ratios = [ratio for peer in peers if (ratio := _ratio(found, peer, clock="seconds")) is not None]
    return [
        Bar(name=f"{name}: largest difference of a step's losses", value=apart, limit=LOSS_LIMIT, at_least=False),
        Bar(name=f"{name}: gnomonic over sentence-transformers", value=min(ratios, default=None), limit=LIMIT),
    ]


def _print(found: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    case = found["case"]
    columns = ["trainer", "tokens/s", "tokens/CPU s", "of GEMM peak", "RSS GB", "gnomonic is × it", "by CPU time"]
    table = [
        [row["peer"], row["tokens_per_s"], row["tokens_per_cpu_s"], row["share_of_gemm_peak"], row["peak_rss_gb"],
         _ratio(found, row["peer"], clock="seconds"), _ratio(found, row["peer"], clock="cpu_seconds")]
        for row in rows
    ]  # fmt: skip
    title = f"{case.name}: {case.batch_size} pairs a step, {case.negatives} negatives each"
    harness.print_table(title, columns, table)
    steps = [[i, *(f"{row['losses'][i]:.4f}" for row in rows)] for i in range(len(rows[0]["losses"]))] if rows else []
    harness.print_table("losses", ["step", *(row["peer"] for row in rows)], steps)
    for name, reason in found["unavailable"].items():
        print(f"not measured: {name}: {reason}")


def main() -> None:
    """Measure every case and publish."""
    parser = harness.common_parser(__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=TRAINED, help="model to train (default: mini, 384 wide and 6 layers)")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="kinds of step")
    args = parser.parse_args()
    shape = TRAINED[args.shape or ("tiny" if args.quick else "mini")]
    args.threads = args.threads[0] if args.threads else (1 if args.quick else len(os.sched_getaffinity(0)))
    args.rounds = args.rounds or (1 if args.quick else 4)
    args.peers = args.peers or (["gnomonic", "st-32"] if args.quick else list(PEERS))
    shop = Workshop(workdir=args.workdir, folder=make_checkpoint(shape, args.workdir))
    cases = [case.quick() if args.quick else case for case in CASES if case.name in (args.cases or case.name)]
    results, bars, summary = [], [], []
    for case in cases:
        found = _measure(shop, case, args, shape)
        rows = _summarise(found, shape)
        _print(found, rows)
        bars += _judge(found, rows)
        summary += rows
        results.append({**found, "case": dataclasses.asdict(case)})
    harness.print_bars(bars)
    result = {"shape": vars(shape), "threads": args.threads, "summary": summary, "cases": results}
    harness.publish("train_throughput", result, bars, args.out or (None if args.quick else harness.RESULTS))


if __name__ == "__main__":
    main()
