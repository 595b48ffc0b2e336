"""Does a server that works for a long time stay as quick and as small as it was?

16 clients send texts of 1 to 8,192 tokens (log-uniform), one to twenty a request, for `--minutes` (30). Every few
seconds the resident memory of server and worker and the requests done are noted. The first fifth is left out: pools and
caches fill. Then a line through the rest must be flat. Run it as `python -m benchmarks.server_soak`.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Bar
from benchmarks.server_load import Connection, serving
from benchmarks.workloads import SHAPES, make_checkpoint

__all__ = ["main", "soak"]

CLIENTS = 16
WARM_SHARE = 0.2
WORDS = ("map", "whale", "river", "stone", "light", "paper", "north", "seven")


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children, in MB."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def _work(port: int, until: float, done: list[int]) -> None:
    """Keep the clients busy, adding the tokens of every answer to `done`."""

    async def client(number: int) -> None:
        chance, connection = random.Random(number), Connection(port, "/embed")
        while time.monotonic() < until:
            budget = int(math.exp(chance.uniform(0, math.log(8192))))
            texts = max(1, min(20, 2000 // budget))
            text = " ".join(chance.choices(WORDS, k=budget))
            status = await connection.post(json.dumps({"inputs": [text] * chance.randint(1, texts)}).encode())
            if status != 200:
                raise harness.PeerError(f"status {status}")
            done.append(budget)
        connection.close()

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


def soak(minutes: float, workdir: Path) -> dict[str, Any]:
    """Run it; return the samples, and how much memory and rate change over the whole time, as shares of their mean."""
    workdir.mkdir(parents=True, exist_ok=True)
    folder = make_checkpoint(SHAPES["tiny"], workdir)
    port = 19400 + os.getpid() % 1000
    code = "from gnomonic.cli.main import app_main; app_main()"
    command = [sys.executable, "-c", code, "serve", "--port", str(port), "--model", str(folder), "--no-access-log"]
    samples: list[dict[str, float]] = []

    async def play(pid: int) -> None:
        done: list[int] = []
        began = time.monotonic()
        work = asyncio.create_task(_work(port, began + 60 * minutes, done))
        step = 60 * minutes / 60
        while not work.done():
            before = len(done)
            await asyncio.wait((work,), timeout=step)
            count = len(done) - before
            samples.append({"s": time.monotonic() - began, "rss_mb": resident_mb(pid), "requests_per_s": count / step})
        await work

    with serving(command, {"PYTHONPATH": str(harness.ROOT / "src")}, port, workdir / "soak.log") as pid:
        asyncio.run(play(pid))
    kept = samples[int(len(samples) * WARM_SHARE) : -1]
    return {"minutes": minutes, "samples": samples, "rss_change": _change(kept, "rss_mb"),
            "rate_change": _change(kept, "requests_per_s")}  # fmt: skip


def _change(samples: list[dict[str, float]], name: str) -> float:
    """Return how much a line through the values rises over their whole time, as a share of their mean."""
    seconds, values = (np.array([sample[key] for sample in samples]) for key in ("s", name))
    slope = np.polyfit(seconds, values, 1)[0]
    return float(slope * (seconds[-1] - seconds[0]) / values.mean())


def main() -> None:
    parser = harness.common_parser(__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, help="how long (default 30)")
    args = parser.parse_args()
    # The result tells the command, and not where things are on this machine.
    sys.argv = ["FOLDER" if word == str(args.workdir) else word for word in sys.argv]
    result = soak(args.minutes or (0.5 if args.quick else 30.0), args.workdir)
    columns = ["seconds", "RSS MB", "requests/s"]
    harness.print_table("over time", columns, [list(sample.values()) for sample in result["samples"][::6]])
    bars = [
        Bar(name="growth of memory", value=result["rss_change"], limit=0.05, at_least=False, unit=""),
        Bar(name="change of throughput", value=result["rate_change"], limit=-0.1, unit=""),
    ]
    harness.print_bars(bars)
    harness.publish("server_soak", result, bars, args.out if args.quick else args.out or harness.RESULTS)


if __name__ == "__main__":
    main()
