"""How long does one query take, and how long does the first one of a new process take?

Queries of 16–32 tokens one at a time, at least 300 per system, taken in turn in blocks (A B C A B C) by
systems that were started beforehand. Cold start is the wall time from starting a process to its first
vector: interpreter, imports, loading and one query; files are in the page cache, as they are for every
start but a machine's first. Gnomonic is started with its built graph in the cache ("warm") and with an
empty cache ("cold"). Run it as `python -m benchmarks.embed_latency`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Bar, PeerError, Worker, Workshop
from benchmarks.peers import PEERS
from benchmarks.workloads import SHAPES, Workload, make_workload

__all__ = ["main"]

BLOCK = 25
BUNDLED = "gnomonic-embed-text-mini"
FIRST_TEXT = "which planet has the most moons?"
QUICK_PEERS = ("gnomonic-fp32", "ort-fp32")


@dataclass(frozen=True, kw_only=True)
class Start:
    """One way to start a process."""

    name: str
    peer: str
    folder: Path
    limit_s: float | None = None
    """What it must keep, in seconds."""
    empty_cache: bool = False
    starts: int = 5


def _latencies(
    shop: Workshop,
    names: Sequence[str],
    threads: int,
    queries: Workload,
    calls: int,
    unavailable: dict[str, str],
) -> dict[str, list[float]]:
    """Time single queries with every system in turn; return seconds per call and system."""
    workers, seconds = {}, {}
    try:
        for name in names:
            worker = Worker(shop, name, threads)
            try:
                worker.wait_ready()
                worker.ask("latency", queries, start=0, calls=5)
            except PeerError as error:
                unavailable[f"{name}, {threads} thread(s)"] = str(error)
                continue
            workers[name], seconds[name] = worker, list[float]()
        for start in range(0, calls, BLOCK):
            block = min(BLOCK, calls - start)
            for name, worker in workers.items():
                seconds[name] += worker.ask("latency", queries, start=start, calls=block)["seconds"]
    finally:
        for worker in workers.values():
            worker.close()
    return seconds


def _starts(shop: Workshop, names: Sequence[str], *, quick: bool) -> list[Start]:
    """List what to start: every system, Gnomonic's also with an empty cache, and the bundled model."""
    bundled = harness.ROOT / "src" / "gnomonic" / "assets" / BUNDLED
    count = 1 if quick else 5
    limit = None if quick else 1.5
    starts = []
    for name in names:
        ours = name.startswith("gnomonic")
        judged = name in ("gnomonic-fp32", "gnomonic-int8")
        kept = limit if judged else None
        starts.append(
            Start(
                name=name,
                peer=name,
                folder=shop.folder,
                limit_s=kept,
                starts=count if ours else min(count, 3),
            )
        )
        if judged:
            empty = Start(
                name=f"{name}, cold cache",
                peer=name,
                folder=shop.folder,
                empty_cache=True,
                starts=min(count, 3),
            )
            starts.append(empty)
        if name == "gnomonic-fp32" and (bundled / "config.json").exists():
            starts.append(Start(name="bundled model, fp32", peer=name, folder=bundled, limit_s=0.6, starts=count))
    return starts


def _start_once(shop: Workshop, start: Start, threads: int) -> dict[str, float]:
    """Start one process and wait for its first vector.

    Raises:
        PeerError: it ended without one.
    """
    own = replace(shop, folder=start.folder)
    cache = Path(tempfile.mkdtemp(dir=shop.workdir, prefix="cache-")) if start.empty_cache else None
    worker = Worker(own, start.peer, threads, cache=cache, extra=["--first", FIRST_TEXT])
    try:
        seconds, answer = worker.wait_ready()
    finally:
        worker.close()
        if cache:
            shutil.rmtree(cache, ignore_errors=True)
    return {"seconds": seconds, "peak_rss_gb": answer["peak_rss_bytes"] / 1e9}


def _cold_starts(
    shop: Workshop, starts: Sequence[Start], threads: int, unavailable: dict[str, str]
) -> dict[str, list[dict[str, float]]]:
    """Start every process in turn, once unmeasured so that caches are filled and pages are in memory."""
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(-1, max(start.starts for start in starts)):
        for start in starts:
            if number >= start.starts or start.name in unavailable or (number < 0 and start.empty_cache):
                continue
            try:
                once = _start_once(shop, start, threads)
            except PeerError as error:
                unavailable[start.name] = str(error)
                continue
            if number >= 0:
                found.setdefault(start.name, []).append(once)
    return found


def _print_latencies(latencies: dict[int, dict[str, list[float]]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for threads, systems in latencies.items():
        for name, seconds in systems.items():
            p50, p99 = (1e3 * harness.percentile(seconds, share) for share in (50, 99))
            rows.append({"threads": threads, "peer": name, "p50_ms": p50, "p99_ms": p99, "calls": len(seconds)})
        table = [[r["peer"], r["p50_ms"], r["p99_ms"], r["calls"]] for r in rows if r["threads"] == threads]
        harness.print_table(f"one query, {threads} thread(s)", ["system", "p50 ms", "p99 ms", "calls"], table)
    return rows


def _print_starts(starts: Sequence[Start], found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    rows = []
    for start in starts:
        if start.name in found:
            seconds = [once["seconds"] for once in found[start.name]]
            rows.append(
                {
                    "start": start.name,
                    "median_s": statistics.median(seconds),
                    "best_s": min(seconds),
                    "worst_s": max(seconds),
                    "peak_rss_gb": max(once["peak_rss_gb"] for once in found[start.name]),
                    "starts": len(seconds),
                }
            )
    columns = ["new process to first vector", "median s", "best s", "worst s", "peak RSS GB", "starts"]
    harness.print_table("cold start", columns, [list(row.values()) for row in rows])
    return rows


def _install_size() -> dict[str, Any] | None:
    """Return what install_size.py last published, without its environment; None when there is nothing."""
    result = harness.newest_result("install_size")
    return {key: value for key, value in result.items() if key != "environment"} if result else None


def main() -> None:
    parser = harness.common_parser(__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, help="queries per system and thread count (default 300)")
    args = parser.parse_args()
    shape = SHAPES["tiny" if args.quick else "v1.5"]
    shop = harness.open_workshop(shape, args.workdir)
    queries = make_workload("queries", shape)
    names = args.peers or list(QUICK_PEERS if args.quick else PEERS)
    thread_counts = args.threads or ([1] if args.quick else sorted({1, len(os.sched_getaffinity(0))}))
    calls = args.calls or (20 if args.quick else 300)
    unavailable: dict[str, str] = {}
    latencies = {n: _latencies(shop, names, n, queries, calls, unavailable) for n in thread_counts}
    starts = _starts(shop, names, quick=args.quick)
    found = _cold_starts(shop, starts, max(thread_counts), unavailable)
    latency_rows, start_rows = _print_latencies(latencies), _print_starts(starts, found)
    for name, reason in unavailable.items():
        print(f"not measured: {name}: {reason}")
    medians = {row["start"]: row["median_s"] for row in start_rows}
    bars = [
        Bar(
            name=f"first vector: {s.name}",
            value=medians.get(s.name),
            limit=s.limit_s,
            at_least=False,
            unit="s",
        )
        for s in starts
        if s.limit_s is not None
    ]
    harness.print_bars(bars)
    result = {
        "workload": {"name": queries.name, "texts": len(queries.texts), "sha256": queries.digest},
        "threads": thread_counts,
        "latency": latency_rows,
        "cold_start": start_rows,
        "install_size": _install_size(),
        "repeats": {"latency_s": latencies, "cold_start": found},
        "unavailable": unavailable,
    }
    harness.publish("embed_latency", result, bars, args.out or (None if args.quick else harness.RESULTS))


if __name__ == "__main__":
    main()
