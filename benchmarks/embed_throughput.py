"""How many texts a second does each system embed, on the same machine, in turn?

The model has nomic-embed-text-v1.5's shape with random weights. Per thread count, every system is started
once and then measured in turn, round after round (A B C A B C), because absolute times on a shared machine
do not repeat; ratios are taken within a round, and the median over rounds is reported. Texts of 8,192
tokens run in fresh processes, so that their peak memory is theirs alone. Run it as `python -m
benchmarks.embed_throughput`.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Bar, PeerError, Worker, Workshop
from benchmarks.peers import PEERS
from benchmarks.workloads import SHAPES, Shape, Workload, make_workload, workload_names

__all__ = ["main"]

REFERENCE = "st-fp32"
LONG = "doc8192"
MEMORY_LIMIT_GB = 2.5
BUSY = 0.85
AGREEMENT = {"fp32": 0.9999, "bf16": 0.998, "int8": 0.99}
QUICK_PEERS = ("gnomonic-fp32", "gnomonic-int8", "ort-fp32", "ort-int8", "st-fp32")


@dataclass(kw_only=True)
class Run:
    """One invocation: what is measured, and what was found so far."""

    shop: Workshop
    shape: Shape
    workloads: list[Workload]
    rounds: int
    quick: bool
    measurements: list[dict[str, Any]] = field(default_factory=list)
    gemm: list[dict[str, Any]] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)

    def start(self, names: Sequence[str], threads: int) -> dict[str, Worker]:
        """Start systems, all at once; those that cannot start are noted with their error."""
        extra = ["--quick"] if self.quick else []
        workers = {name: Worker(self.shop, name, threads, extra=extra) for name in names}
        for name, worker in list(workers.items()):
            try:
                worker.wait_ready()
            except PeerError as error:
                self.unavailable[name] = str(error)
                del workers[name]
        return workers

    def measure(self, worker: Worker, workload: Workload, number: int) -> None:
        """Time one system on one workload; the vectors of the first round are kept for comparison."""
        out = self.vectors_file(worker.peer, workload, worker.threads) if number == 0 else None
        try:
            answer = worker.ask("encode", workload, out=str(out) if out else None)
        except PeerError as error:
            self.unavailable[f"{worker.peer} on {workload.name}"] = str(error)
            return
        about = {"peer": worker.peer, "workload": workload.name, "threads": worker.threads, "round": number}
        self.measurements.append(about | answer)

    def vectors_file(self, peer: str, workload: Workload, threads: int) -> Path:
        """Return where a system's vectors of a workload are kept."""
        return self.shop.workdir / f"vectors-{os.getpid()}-{peer}-{workload.name}-{threads}.npy"


def _warm_up(run: Run, workers: dict[str, Worker], workload: Workload) -> None:
    """Let every system run once, and make sure it reads exactly the tokens the workload was written with.

    A system that fails here is noted and left out.

    Raises:
        SystemExit: a system reads other tokens, so its speed would be another task's.
    """
    few = workload.first(1 if workload.name == "doc2048" else 4)
    for name, worker in list(workers.items()):
        try:
            tokens = worker.ask("count", few)["tokens"]
            worker.ask("encode", few)
        except PeerError as error:
            run.unavailable[name] = str(error)
            del workers[name]
            continue
        if tokens != few.tokens:
            raise SystemExit(f"{name} reads {tokens} tokens from {workload.name} where {few.tokens} were written")


def _measure_interleaved(run: Run, names: Sequence[str], threads: int) -> None:
    """Measure all but the longest workload with every system in turn."""
    workloads = [workload for workload in run.workloads if workload.name != LONG]
    workers = run.start(["gemm", *names], threads)
    try:
        gemm = workers.pop("gemm", None)
        for workload in workloads:
            _warm_up(run, workers, workload)
        for number in range(run.rounds):
            if gemm:
                run.gemm.append({"threads": threads, "round": number, "tflops": gemm.ask("gemm")})
            for workload in workloads:
                # The 2,048-token text takes long and varies little: one round of it.
                if number == 0 or workload.name != "doc2048":
                    for worker in workers.values():
                        run.measure(worker, workload, number)
    finally:
        for worker in [*workers.values(), *([gemm] if gemm else [])]:
            worker.close()


def _measure_long(run: Run, names: Sequence[str], threads: int) -> None:
    """Embed one 8,192-token text per system, each in a fresh process."""
    for workload in run.workloads:
        if workload.name == LONG:
            for name in names:
                if name in run.unavailable:
                    continue
                for worker in run.start([name], threads).values():
                    run.measure(worker, workload, 0)
                    worker.close()


def _summarise(run: Run) -> list[dict[str, Any]]:
    """Reduce the repeats to one row per system, workload and thread count."""
    rows = []
    groups: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for entry in run.measurements:
        groups.setdefault((entry["threads"], entry["workload"], entry["peer"]), []).append(entry)
    workloads = {workload.name: workload for workload in run.workloads}
    for (threads, name, peer), entries in groups.items():
        workload = workloads[name]
        seconds = [entry["seconds"] for entry in entries]
        rates = [run.shape.flops(workload.lengths) / s / 1e12 for s in seconds]
        peak = _gemm_peak(run, threads, peer.rsplit("-", 1)[1])
        rows.append(
            {
                "threads": threads,
                "workload": name,
                "peer": peer,
                "texts_per_s": len(workload.texts) / statistics.median(seconds),
                "tokens_per_s": workload.tokens / statistics.median(seconds),
                "tokens_per_cpu_s": workload.tokens / statistics.median(e["cpu_seconds"] for e in entries),
                "tokens_per_s_range": [workload.tokens / max(seconds), workload.tokens / min(seconds)],
                "times_reference": _ratio(run, threads, name, peer, REFERENCE),
                "times_reference_by_cpu_time": _ratio(run, threads, name, peer, REFERENCE, clock="cpu_seconds"),
                "tflops": statistics.median(rates),
                "share_of_gemm_peak": statistics.median(rates) / peak if peak else None,
                **_agreement(run, peer, workload, threads),
                "peak_rss_gb": max(entry["peak_rss_bytes"] for entry in entries) / 1e9,
                "cpu_share": statistics.median(e["cpu_seconds"] / e["seconds"] / threads for e in entries),
            }
        )
    return rows


def _gemm_peak(run: Run, threads: int, dtype: str) -> float | None:
    """Return the best rate, over shapes, runtimes and rounds, of a dtype's matrix product, in TFLOP/s."""
    rates = [rate for entry in run.gemm if entry["threads"] == threads for rate in entry["tflops"][dtype].values()]
    return max(rates, default=None)


def _agreement(run: Run, peer: str, workload: Workload, threads: int) -> dict[str, float | None]:
    """Compare a system's vectors with sentence-transformers fp32; None where that says nothing."""
    names = ("centred_cosine_mean", "centred_cosine_min", "own_mean_cosine_mean", "own_mean_cosine_min")
    ours, theirs = (run.vectors_file(name, workload, threads) for name in (peer, REFERENCE))
    if len(workload.texts) < 2 or not (ours.exists() and theirs.exists()):
        return dict.fromkeys(names)
    vectors, reference = np.load(ours), np.load(theirs)
    strict = harness.centred_cosine(vectors, reference)
    return dict(zip(names, strict + harness.centred_cosine(vectors, reference, own_mean=True), strict=True))


def _ratio(run: Run, threads: int, workload: str, peer: str, other: str, *, clock: str = "seconds") -> float | None:
    """Return how many times as fast `peer` was as `other`: the median of the ratios within each round.

    The clock is wall time, or "cpu_seconds": on one thread it tells what the wall clock would on an idle machine.
    """
    times = {
        (entry["peer"], entry["round"]): entry[clock]
        for entry in run.measurements
        if entry["threads"] == threads and entry["workload"] == workload
    }
    ratios = [
        seconds / times[peer, number]
        for (name, number), seconds in times.items()
        if name == other and (peer, number) in times
    ]
    return statistics.median(ratios) if ratios else None


def _bars(run: Run, rows: Sequence[dict[str, Any]], thread_counts: Sequence[int]) -> list[Bar]:
    """Judge what the project promises."""
    promises = [
        ("passages", "gnomonic-fp32", "st-fp32", 1.15),
        ("passages", "gnomonic-int8", "st-fp32", 2.5),
        ("passages", "gnomonic-int8", "ort-int8", 1.2),
        ("queries", "gnomonic-int8", "ort-int8", 1.2),
    ]
    bars = [
        Bar(
            name=f"{workload}, {threads} thread(s): {peer} over {other}",
            value=_ratio(run, threads, workload, peer, other),
            limit=limit,
        )
        for threads in thread_counts
        for workload, peer, other, limit in promises
    ]
    found = {(row["workload"], row["peer"], row["threads"]): row for row in rows}
    for peer in ("gnomonic-fp32", "gnomonic-int8"):
        row = found.get((LONG, peer, max(thread_counts)), {})
        name = f"one 8,192-token text, peak memory: {peer}"
        bars.append(Bar(name=name, value=row.get("peak_rss_gb"), limit=MEMORY_LIMIT_GB, at_least=False, unit="GB"))
    for workload in ("queries", "passages"):
        for precision, limit in AGREEMENT.items():
            row = found.get((workload, f"gnomonic-{precision}", min(thread_counts)), {})
            name = f"{workload}, mean centred cosine to {REFERENCE}: gnomonic-{precision}"
            bars.append(Bar(name=name, value=row.get("centred_cosine_mean"), limit=limit, unit=""))
    return bars


def _print(rows: Sequence[dict[str, Any]], run: Run) -> None:
    """Print one table per workload and thread count."""
    headings = ["system", "texts/s", "tokens/s", f"× {REFERENCE}", "by CPU time", "of GEMM peak"]
    headings += ["cosine mean", "min", "own mean", "RSS GB", "CPU use"]
    for threads, workload in dict.fromkeys((row["threads"], row["workload"]) for row in rows):
        table = []
        for row in rows:
            if (row["threads"], row["workload"]) == (threads, workload):
                cosines = [row[key] for key in ("centred_cosine_mean", "centred_cosine_min", "own_mean_cosine_mean")]
                table.append(
                    [
                        row["peer"],
                        row["texts_per_s"],
                        row["tokens_per_s"],
                        row["times_reference"],
                        row["times_reference_by_cpu_time"],
                        row["share_of_gemm_peak"],
                        *(None if cosine is None else f"{cosine:.5f}" for cosine in cosines),
                        row["peak_rss_gb"],
                        row["cpu_share"],
                    ]
                )
        harness.print_table(f"{workload}, {threads} thread(s)", headings, table)
    if any(row["cpu_share"] < BUSY and row["threads"] == 1 for row in rows):
        print("\nOther work had the CPU for part of this run; compare by CPU time, or run it again when idle.")
    for name, reason in run.unavailable.items():
        print(f"not measured: {name}: {reason}")


def _workloads(args: argparse.Namespace, shape: Shape) -> list[Workload]:
    texts = args.texts or (8 if args.quick else 64)
    sizes = {"queries": 2 * texts, "passages": texts, "doc2048": 1, LONG: 1}
    names = args.workloads or (["queries", "passages"] if args.quick else list(sizes))
    return [make_workload(name, shape).first(sizes[name]) for name in names]


def main() -> None:
    parser = harness.common_parser(__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, help="passages per round (default 64); twice as many queries")
    parser.add_argument("--workloads", nargs="+", choices=workload_names(), help="texts to embed (default: all)")
    args = parser.parse_args()
    shape = SHAPES["tiny" if args.quick else "v1.5"]
    thread_counts = args.threads or ([1] if args.quick else sorted({1, len(os.sched_getaffinity(0))}))
    names = args.peers or list(QUICK_PEERS if args.quick else PEERS)
    run = Run(
        shop=harness.open_workshop(shape, args.workdir),
        shape=shape,
        workloads=_workloads(args, shape),
        rounds=args.rounds or (1 if args.quick else 2),
        quick=args.quick,
    )
    for threads in thread_counts:
        _measure_interleaved(run, names, threads)
    _measure_long(run, names, max(thread_counts))
    rows = _summarise(run)
    for path in run.shop.workdir.glob(f"vectors-{os.getpid()}-*.npy"):
        path.unlink()
    _print(rows, run)
    bars = _bars(run, rows, thread_counts)
    harness.print_bars(bars)
    result = {
        "shape": vars(shape),
        "workloads": {w.name: {"texts": len(w.texts), "tokens": w.tokens, "sha256": w.digest} for w in run.workloads},
        "threads": thread_counts,
        "summary": rows,
        "gemm": run.gemm,
        "repeats": run.measurements,
        "unavailable": run.unavailable,
    }
    harness.publish("embed_throughput", result, bars, args.out or (None if args.quick else harness.RESULTS))


if __name__ == "__main__":
    main()
