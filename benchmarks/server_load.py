"""How much of the library's throughput does the server keep, and how long do requests take beside Infinity?

One text a request. First the library alone embeds the texts in one batch; then servers take turns (A B A B): 64
clients that ask one after another (closed loop) give the throughput at saturation; then requests arrive at random
times, whether or not earlier ones are answered (open loop, Poisson; each latency counts from the planned arrival, so no
delay of the generator is left out), at half of each server's saturation, and at half of Infinity's on both; then one
query after another beside a request of 1,000 of them. Last, what writing a vector costs.

Infinity 0.0.78 does not open NomicBERT: it gets a BERT with the same depth, width, heads and FFN operations, random
weights and the same tokenizer, and the texts with their prefix. It runs in an environment of its own: `--infinity
PYTHON` names its interpreter. The generator and the servers share the CPUs. Run it as
`python -m benchmarks.server_load --infinity PYTHON`, nothing else running.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Bar, PeerError
from benchmarks.workloads import SHAPES, Shape, Workload, make_checkpoint, make_workload

__all__ = ["main"]

CLIENTS = 64
PEER = "infinity 0.0.78"
BERT = """
import json, sys, torch
from transformers import BertConfig, BertModel
source, out, shape = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
torch.manual_seed(0)
config = BertConfig(max_position_embeddings=512, **shape)
BertModel(config, add_pooling_layer=False).eval().save_pretrained(out)
from transformers import BertTokenizerFast
BertTokenizerFast.from_pretrained(source, model_max_length=512).save_pretrained(out)
"""


class Connection:
    """One HTTP/1.1 connection that is kept."""

    def __init__(self, port: int, path: str) -> None:
        self.port, self.path = port, path
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, body: bytes) -> int:
        """Send a request and read its whole answer; return its status."""
        if self.reader is None or self.reader.at_eof():  # new, or closed by the server while it was idle
            self.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.writer is not None
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer.lower())
        await self.reader.readexactly(int(length[1]) if length else 0)
        return int(answer[9:12])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


async def saturate(port: int, path: str, bodies: Sequence[bytes], clients: int) -> float:
    """Let clients ask one after another until every body was sent once; return requests per second."""
    waiting: Iterator[bytes] = iter(bodies)

    async def client() -> None:
        connection = Connection(port, path)
        for body in waiting:
            if (status := await connection.post(body)) != 200:
                raise PeerError(f"status {status}")
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return len(bodies) / (time.perf_counter() - began)


async def arrive(port: int, path: str, bodies: Sequence[bytes], rate: float) -> list[float]:
    """Send requests at random times, `rate` a second; return seconds from each planned arrival to its answer."""
    idle: list[Connection] = []
    chance = random.Random(0)

    async def one(planned: float, body: bytes) -> float:
        connection = idle.pop() if idle else Connection(port, path)
        if (status := await connection.post(body)) != 200:
            raise PeerError(f"status {status}")
        idle.append(connection)
        return time.perf_counter() - planned

    tasks, planned = [], time.perf_counter()
    for body in bodies:
        planned += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, planned - time.perf_counter()))
        tasks.append(asyncio.create_task(one(planned, body)))
    seconds = await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return list(seconds)


async def beside_big(port: int, path: str, bodies: Sequence[bytes], big: bytes) -> tuple[list[float], float]:
    """Ask one query after another while a large request is in the server; return the seconds of each, and its own."""
    connection, small = Connection(port, path), Connection(port, path)
    began = time.perf_counter()
    task = asyncio.create_task(connection.post(big))
    await asyncio.sleep(0.05)
    seconds = []
    for body in bodies * 100:
        if task.done():
            break
        asked = time.perf_counter()
        await small.post(body)
        seconds.append(time.perf_counter() - asked)
    if await task != 200:
        raise PeerError("the large request failed")
    whole = time.perf_counter() - began
    connection.close()
    small.close()
    return seconds, whole


@contextmanager
def serving(command: Sequence[str], environment: dict[str, str], port: int, log: Path) -> Iterator[int]:
    """Run a server until the end of the block, which begins when its port answers; gives the process's number."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})
    try:
        until = time.monotonic() + 300
        while asyncio.run(_answers(port)) is False:
            if process.poll() is not None or time.monotonic() > until:
                raise PeerError(f"the server did not start: {log.read_text(errors='replace')[-400:]}")
            time.sleep(0.5)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        good = (await _.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    except OSError:
        return False
    return good


def make_bert(python: str, shape: Shape, source: Path, workdir: Path) -> Path:
    """Write a BERT of the same cost: SwiGLU's three matrices of `intermediate` are two of 1.5 times that."""
    out = workdir / f"bert-{shape.name}"
    if not (out / "config.json").exists():
        sizes = {
            "vocab_size": shape.vocab_size,
            "hidden_size": shape.hidden_size,
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.num_heads,
            "intermediate_size": shape.intermediate_size * 3 // 2,
        }
        command = [python, "-c", BERT, str(source), str(out), json.dumps(sizes)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(done.stderr[-400:])
    return out


def library_rate(folder: Path, work: Workload, rounds: int) -> float:
    """Return texts per second of one batch through the library, the best of some rounds."""
    import gnomonic

    with gnomonic.load(folder) as encoder:
        encoder.encode(work.texts[:64], task_type=work.task_type)
        best = 0.0
        for _ in range(rounds):
            began = time.perf_counter()
            encoder.encode(work.texts, task_type=work.task_type)
            best = max(best, len(work.texts) / (time.perf_counter() - began))
    return best


def writing_costs() -> list[dict[str, Any]]:
    """Time the ways to write 64 vectors of 768 values; microseconds a vector, the best of many."""
    import orjson

    from gnomonic.server.dialects.rendering import base64_rows, float_rows

    vectors = np.random.default_rng(0).standard_normal((64, 768)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ways: dict[str, Callable[[], object]] = {
        "ours, JSON (orjson on the array)": lambda: float_rows(vectors),
        "orjson on lists": lambda: orjson.dumps(vectors.tolist()),
        "json on lists": lambda: json.dumps(vectors.tolist()),
        "ours, base64": lambda: base64_rows(vectors),
        "base64 in a JSON string, json": lambda: json.dumps([base64.b64encode(row).decode() for row in vectors]),
    }
    rows = []
    for name, way in ways.items():
        best = min(_seconds(way) for _ in range(20))
        rows.append({"way": name, "us_per_vector": 1e6 * best / len(vectors)})
    harness.print_table("writing a vector of 768 values", ["way", "µs"], [list(row.values()) for row in rows])
    return rows


def _seconds(way: Callable[[], object]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


class Server:
    """A server to measure, and what was found."""

    def __init__(self, name: str, port: int, command: list[str], environment: dict[str, str], path: str) -> None:
        self.name, self.port, self.command, self.environment, self.path = name, port, command, environment, path
        self.saturated: list[float] = []
        self.half: list[float] = []
        self.equal: list[float] = []
        self.beside: list[float] = []
        self.big: list[float] = []


def systems(args: Any, shape: Shape, folder: Path) -> tuple[list[Server], str]:
    """Return the servers to measure, and why one is left out."""
    code = "from gnomonic.cli.main import app_main; app_main()"
    source = {"PYTHONPATH": str(harness.ROOT / "src")}
    port = 18400 + os.getpid() % 1000
    ours = [sys.executable, "-c", code, "serve", "--port", str(port), "--model", str(folder), "--no-access-log"]
    servers = [Server("gnomonic", port, ours, source, "/v1/embeddings")]
    if not args.infinity:
        return servers, "--infinity names no interpreter"
    try:
        bert = make_bert(args.infinity, shape, folder, args.workdir)
    except (PeerError, OSError) as error:
        return servers, str(error)
    tool = str(Path(args.infinity).with_name("infinity_emb"))
    theirs = [tool, "v2", "--model-id", str(bert), "--served-model-name", "peer", "--port", str(port + 1),
              "--device", "cpu", "--engine", "torch", "--host", "127.0.0.1"]  # fmt: skip
    quiet = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1"}
    servers.append(Server(PEER, port + 1, theirs, quiet, "/embeddings"))
    return servers, ""


def measure(server: Server, bodies: Sequence[bytes], args: Any, rates: dict[str, float]) -> None:
    """Measure one server once: saturation, then random arrivals at half its own and at the common rate."""
    log = args.workdir / f"server-{server.port}.log"
    with serving(server.command, server.environment, server.port, log):
        asyncio.run(saturate(server.port, server.path, bodies[:CLIENTS], CLIENTS))
        found = asyncio.run(saturate(server.port, server.path, bodies, CLIENTS))
        server.saturated.append(found)
        rates.setdefault(server.name, found / 2)
        server.half += asyncio.run(arrive(server.port, server.path, bodies, rates[server.name]))
        big = json.dumps({"input": args.documents, "model": json.loads(bodies[0])["model"]}).encode()
        seconds, whole = asyncio.run(beside_big(server.port, server.path, bodies, big))
        server.beside += seconds
        server.big.append(whole)
        if PEER in rates and server.name != PEER:
            server.equal += asyncio.run(arrive(server.port, server.path, bodies, rates[PEER]))


def report(
    servers: Sequence[Server], library: float, rates: dict[str, float]
) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Print what was found; return it as rows and bars."""
    rows = []
    for server in servers:
        if not server.saturated:
            continue
        row: dict[str, Any] = {"system": server.name, "saturated_per_s": max(server.saturated),
                               "of_the_library": max(server.saturated) / library}  # fmt: skip
        equal = server.equal or server.half
        for name, rate, values in (("half", rates[server.name], server.half), ("equal", min(rates.values()), equal)):
            row[f"{name}_rate_per_s"] = rate
            row[f"{name}_p50_ms"] = 1e3 * harness.percentile(values, 50)
            row[f"{name}_p99_ms"] = 1e3 * harness.percentile(values, 99)
        for share in (50, 99):
            beside = harness.percentile(server.beside, share) if server.beside else None
            row[f"beside_p{share}_ms"] = None if beside is None else 1e3 * beside
        row["big_s"] = min(server.big)
        rows.append(row)
    columns = [
        "system", "texts/s", "of the library", "half load/s", "p50 ms", "p99 ms", "equal load/s", "p50 ms", "p99 ms",
        "beside a big one, p50 ms", "p99 ms", "the big one, s",
    ]  # fmt: skip
    title = f"one text a request; the library in one batch: {library:.1f} texts/s"
    harness.print_table(title, columns, [list(row.values()) for row in rows])
    ours, peer = rows[0], rows[1] if len(rows) > 1 else None
    bars = [
        Bar(name="saturated throughput over the library's", value=ours["of_the_library"], limit=0.9),
        Bar(name="saturated throughput over Infinity's",
            value=ours["saturated_per_s"] / peer["saturated_per_s"] if peer else None, limit=2.0),
        Bar(name="p99 over Infinity's at equal load",
            value=ours["equal_p99_ms"] / peer["equal_p99_ms"] if peer else None, limit=1.0, at_least=False),
    ]  # fmt: skip
    return rows, bars


def main() -> None:
    parser = harness.common_parser(__doc__.splitlines()[0])
    parser.add_argument("--infinity", help="interpreter of an environment with infinity-emb[torch,server]==0.0.78")
    parser.add_argument("--texts", type=int, help="texts a pass (default 400)")
    args = parser.parse_args()
    # The result tells the command, and not where things are on this machine.
    places = {args.infinity: "PYTHON", str(args.workdir): "FOLDER"}
    sys.argv = [places.get(word, word) for word in sys.argv]
    shape = SHAPES["tiny" if args.quick else "v1.5"]
    args.workdir.mkdir(parents=True, exist_ok=True)
    folder = make_checkpoint(shape, args.workdir)
    work = make_workload("queries", shape).first(args.texts or (80 if args.quick else 400))
    args.documents = make_workload("queries", shape).texts[:1000]
    library = library_rate(folder, work, 1 if args.quick else 3)
    servers, left_out = systems(args, shape, folder)
    rates: dict[str, float] = {}
    bodies = {
        "gnomonic": [json.dumps({"input": text, "model": f"{folder.name}:query"}).encode() for text in work.texts],
        PEER: [json.dumps({"input": f"search_query: {text}", "model": "peer"}).encode() for text in work.texts],
    }
    # The peer first: its saturation sets the rate at which both are compared.
    for _ in range(args.rounds or (1 if args.quick else 2)):
        for server in reversed(servers):
            try:
                measure(server, bodies[server.name], args, rates)
            except PeerError as error:
                left_out = f"{server.name}: {error}"
                print(f"not measured: {left_out}")
    rows, bars = report(servers, library, rates)
    result = {"workload": work.name, "texts": len(work.texts), "clients": CLIENTS, "library_per_s": library,
              "rows": rows, "writing": writing_costs(), "left_out": left_out}  # fmt: skip
    harness.print_bars(bars)
    out = args.out if args.quick else args.out or harness.RESULTS
    harness.publish("server_load", result, bars, out)


if __name__ == "__main__":
    main()
