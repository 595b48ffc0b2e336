"""How much of what a planned batch computes is padding, and how much memory does a mix of lengths take?

Part one plans batches for lists of lengths and counts padded tokens, beside the two usual habits: 32 texts
at a time in the given order, and 32 at a time sorted by length (what sentence-transformers does). Part two
embeds three mixes in fresh processes and reads their peak memory. Run it as `python -m
benchmarks.batching_waste`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness
from benchmarks.harness import Bar, PeerError, Worker, Workshop
from benchmarks.workloads import SEED, SHAPES, Shape, Workload, make_checkpoint, make_workload

__all__ = ["main"]

WASTE_LIMIT = 0.05
MEMORY_LIMIT_GB = 2.5
QUICK_PEERS = ("gnomonic-fp32",)
FULL_PEERS = ("gnomonic-fp32", "gnomonic-int8")


def _corpora(*, quick: bool) -> dict[str, NDArray[np.int64]]:
    """Return lengths in tokens: the benchmark's own texts, and larger and wilder lists."""
    rng = np.random.default_rng(SEED)
    shape = SHAPES["v1.5"]
    many = 20_000 if quick else 1_000_000

    def log_normal(count: int, median: float, sigma: float, most: int) -> NDArray[np.int64]:
        return np.clip(np.rint(np.exp(rng.normal(np.log(median), sigma, size=count))), 3, most).astype(np.int64)

    short = rng.integers(16, 33, size=1000)
    return {
        "queries, 2,000": np.array(make_workload("queries", shape).lengths),
        "passages, 2,000": np.array(make_workload("passages", shape).lengths),
        "passages, 64": np.array(make_workload("passages", shape).first(64).lengths),
        "log-normal, sigma 1, up to 8,192, 10,000": log_normal(10_000, 150, 1.0, 8192),
        f"log-normal, sigma 0.6, up to 512, {many:,}": log_normal(many, 175, 0.6, 512),
        "one of 8,192 among 1,000 short": np.concatenate([short[:500], [8192], short[500:]]),
    }


def _padded_by_32(lengths: NDArray[np.int64]) -> int:
    """Return the padded tokens of batches of 32 texts in the order given."""
    full = len(lengths) // 32 * 32
    rest = lengths[full:]
    padded = 32 * int(lengths[:full].reshape(-1, 32).max(axis=1).sum())
    return padded + len(rest) * int(rest.max(initial=0))


def _plan(lengths: NDArray[np.int64], budget: Any) -> dict[str, Any]:
    """Plan one corpus and count what the plan costs."""
    from gnomonic.inference.batching import plan_batches

    start = time.perf_counter()
    batches = plan_batches(lengths, budget)
    seconds = time.perf_counter() - start
    shapes = [(len(batch), int(lengths[batch].max())) for batch in batches]
    padded, real = sum(rows * width for rows, width in shapes), int(lengths.sum())
    return {
        "texts": len(lengths),
        "tokens": real,
        "batches": len(batches),
        "waste": 1 - real / padded,
        "waste_sorted_32": 1 - real / _padded_by_32(np.sort(lengths)[::-1]),
        "waste_given_order_32": 1 - real / _padded_by_32(lengths),
        "most_tokens": max(rows * width for rows, width in shapes),
        "most_cells": max(rows * width**2 for rows, width in shapes),
        "plan_seconds": seconds,
    }


def _mixes(shape: Shape, *, quick: bool) -> list[Workload]:
    """Return what is embedded for the memory figures."""
    queries, passages = make_workload("queries", shape), make_workload("passages", shape)
    few = 16 if quick else 256
    queries = queries.first(few)
    mixes = [queries, passages.first(8 if quick else 64)]
    if not quick:
        long = make_workload("doc8192", shape).first(1)
        mixed = Workload(
            name="one-8192-among-short",
            task_type=queries.task_type,
            texts=queries.texts + long.texts,
            lengths=queries.lengths + long.lengths,
        )
        mixes.append(mixed)
    return mixes


def _memory(shop: Workshop, names: Sequence[str], mixes: Sequence[Workload], threads: int) -> list[dict[str, Any]]:
    """Embed each mix in a fresh process and read the most memory it held."""
    rows = []
    for mix in mixes:
        for name in names:
            worker = Worker(shop, name, threads)
            try:
                worker.wait_ready()
                answer = worker.ask("encode", mix)
            except PeerError as error:
                print(f"not measured: {name} on {mix.name}: {error}")
                continue
            finally:
                worker.close()
            rows.append({"mix": mix.name, "peer": name, "texts": len(mix.texts), "tokens": mix.tokens, **answer})
    return rows


def _print(plans: dict[str, dict[str, Any]], memory: Sequence[dict[str, Any]]) -> None:
    columns = [
        "lengths",
        "batches",
        "waste",
        "sorted by 32",
        "given order by 32",
        "most tokens",
        "most cells",
        "plan s",
    ]
    keys = [
        "batches",
        "waste",
        "waste_sorted_32",
        "waste_given_order_32",
        "most_tokens",
        "most_cells",
        "plan_seconds",
    ]
    rows = []
    for name, plan in plans.items():
        rows.append([name, *(f"{plan[key]:.2%}" if key.startswith("waste") else plan[key] for key in keys)])
    harness.print_table("padding", columns, rows)
    columns = ["mix", "system", "texts", "tokens", "seconds", "peak RSS GB"]
    harness.print_table(
        "memory, one fresh process each",
        columns,
        [[r["mix"], r["peer"], r["texts"], r["tokens"], r["seconds"], r["peak_rss_bytes"] / 1e9] for r in memory],
    )


def main() -> None:
    parser = harness.common_parser(__doc__.splitlines()[0])
    args: argparse.Namespace = parser.parse_args()
    import gnomonic

    shape = SHAPES["tiny" if args.quick else "v1.5"]
    shop = Workshop(workdir=args.workdir, folder=make_checkpoint(shape, args.workdir))
    names = args.peers or list(QUICK_PEERS if args.quick else FULL_PEERS)
    threads = max(args.threads or [1 if args.quick else len(os.sched_getaffinity(0))])
    memory = _memory(shop, names, _mixes(shape, quick=args.quick), threads)
    budget = gnomonic.load(str(shop.folder), precision="fp32").engine.budget
    plans = {name: _plan(lengths, budget) for name, lengths in _corpora(quick=args.quick).items()}
    _print(plans, memory)
    bars = [
        Bar(
            name=f"padding of {name}",
            value=plan["waste"],
            limit=WASTE_LIMIT,
            at_least=False,
            unit="of tokens",
        )
        for name, plan in plans.items()
        if plan["texts"] >= 2000
    ]
    bars += [
        Bar(
            name=f"peak memory: {row['peer']} on {row['mix']}",
            value=row["peak_rss_bytes"] / 1e9,
            limit=MEMORY_LIMIT_GB,
            at_least=False,
            unit="GB",
        )
        for row in memory
    ]
    harness.print_bars(bars)
    limits = {"max_tokens": budget.max_tokens, "max_cells": budget.max_cells}
    result = {"shape": vars(shape), "threads": [threads], "budget": limits, "plans": plans, "memory": memory}
    harness.publish("batching_waste", result, bars, args.out or (None if args.quick else harness.RESULTS))


if __name__ == "__main__":
    main()
