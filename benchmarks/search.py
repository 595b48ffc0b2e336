"""How long does one search of a map take, and how many of the true nearest does it find, beside vector indices?

Vectors of 768 values with the neighbourhoods of real text (`benchmarks/vectors.py`), 100,000 and a million of them; the
queries are of the same kind and none of the rows. Every system indexes the same float16 vectors in this process, is set
to the least effort with which it finds 95 % of the true ten nearest on half of the queries, and answers the other half
one at a time, in turn in blocks (A B C A B C). "gnomonic" is what a map does by itself: exact below a bound, by its
index above; "gnomonic-index" is the index at any size. Peers that are not installed are passed over. Run it as
`python -m benchmarks.search`.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness
from benchmarks.harness import Bar
from benchmarks.vectors import make_vectors
from gnomonic.atlas import index as ours
from gnomonic.atlas.neighbors import query_neighbors

__all__ = ["main"]

K = 10
RECALL = 0.95
QUERIES = 1000
BLOCK = 25
SIZES = (100_000, 1_000_000)
SLOW = ("lancedb", "usearch", "faiss-hnsw")
INSTALL = {"lancedb": "lancedb", "usearch": "usearch", "faiss": "faiss-cpu"}

Vectors = NDArray[np.float16]
Query = NDArray[np.float32]


class System(Protocol):
    """A vector index under test."""

    efforts: Sequence[Any]
    """What it can be set to, least first."""

    def build(self, vectors: Vectors, folder: Path, /) -> None: ...

    def search(self, query: Query, effort: Any, /) -> NDArray[np.int64]:
        """Return the rows of the ten nearest."""
        ...


class Gnomonic:
    efforts = (None,)

    def __init__(self, *, always_indexed: bool) -> None:
        self._bound = 1 if always_indexed else ours.EXACT_BELOW

    def build(self, vectors: Vectors, folder: Path) -> None:
        if len(vectors) >= self._bound:
            ours.build_index(folder, vectors, metric="cosine")
        kept, ours.EXACT_BELOW = ours.EXACT_BELOW, self._bound
        try:
            self._index = ours.VectorIndex.open(folder, vectors, "cosine")
        finally:
            ours.EXACT_BELOW = kept

    def search(self, query: Query, _: Any) -> NDArray[np.int64]:
        return self._index.search(query[None], K)[0][0]


class Lance:
    """IVF_HNSW_SQ at its defaults; effort is (nprobes, ef, refine factor)."""

    efforts = (
        (1, 40, 1), (5, 40, 2), (10, 60, 2), (20, 60, 4), (20, 150, 4), (40, 150, 4), (80, 300, 8), (1000, 500, 10),
    )  # fmt: skip

    def build(self, vectors: Vectors, folder: Path) -> None:
        import lancedb
        import pyarrow as pa
        from lancedb.index import HnswSq

        kind = pa.list_(pa.float16(), vectors.shape[1])
        schema = pa.schema([("row", pa.int64()), ("vector", kind)])
        self._table = lancedb.connect(folder).create_table("rows", schema=schema)

        def batches() -> Any:
            for begin in range(0, len(vectors), 50_000):
                part = np.ascontiguousarray(vectors[begin : begin + 50_000])
                rows = pa.array(np.arange(begin, begin + len(part)))
                flat = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), part.shape[1])
                yield pa.record_batch([rows, flat], schema=schema)

        self._table.add(pa.RecordBatchReader.from_batches(schema, batches()))
        self._table.create_index("vector", config=HnswSq(distance_type="cosine"))

    def search(self, query: Query, effort: Any) -> NDArray[np.int64]:
        probes, ef, refine = effort
        asked = self._table.search(query, vector_column_name="vector").distance_type("cosine").limit(K)
        found = asked.nprobes(probes).ef(ef).refine_factor(refine).select(["row", "_distance"]).to_arrow()
        return np.asarray(found["row"].to_numpy())


class Usearch:
    """HNSW on float16 at its defaults; effort is how many candidates it expands."""

    efforts = (16, 32, 64, 96, 128, 192, 256, 384, 512, 1024)

    def build(self, vectors: Vectors, _: Path) -> None:
        from usearch.index import Index

        self._index = Index(ndim=vectors.shape[1], metric="cos", dtype="f16")
        for begin in range(0, len(vectors), 50_000):
            part = np.ascontiguousarray(vectors[begin : begin + 50_000])
            self._index.add(np.arange(begin, begin + len(part)), part)

    def search(self, query: Query, effort: Any) -> NDArray[np.int64]:
        self._index.expansion_search = effort
        return np.asarray(self._index.search(query.astype(np.float16), K).keys, dtype=np.int64)


class Faiss:
    """An index by its factory string on float32, products of unit vectors; effort is nprobe or efSearch."""

    def __init__(self, factory: str, parameter: str, efforts: Sequence[int]) -> None:
        self._factory, self._parameter, self.efforts = factory, parameter, efforts

    def build(self, vectors: Vectors, _: Path) -> None:
        import faiss

        factory = self._factory.format(cells=round(4 * len(vectors) ** 0.5))
        self._index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        sample = np.sort(np.random.default_rng(0).permutation(len(vectors))[:200_000])
        self._index.train(vectors[sample].astype(np.float32))
        for begin in range(0, len(vectors), 50_000):
            self._index.add(vectors[begin : begin + 50_000].astype(np.float32))
        self._space = faiss.ParameterSpace()

    def search(self, query: Query, effort: Any) -> NDArray[np.int64]:
        self._space.set_index_parameter(self._index, self._parameter, effort)
        return np.asarray(self._index.search(query[None], K)[1][0])


SYSTEMS: dict[str, Callable[[], System]] = {
    "gnomonic": lambda: Gnomonic(always_indexed=False),
    "gnomonic-index": lambda: Gnomonic(always_indexed=True),
    "lancedb": Lance,
    "usearch": Usearch,
    "faiss-ivf": lambda: Faiss("IVF{cells},Flat", "nprobe", (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512)),
    "faiss-hnsw": lambda: Faiss("HNSW32,Flat", "efSearch", (16, 32, 64, 96, 128, 192, 256, 384, 512, 1024)),
}


@dataclass(kw_only=True)
class Measured:
    """One system at one size."""

    rows: int
    system: str
    build_s: float
    effort: Any = None
    recall: float = 0.0
    seconds: list[float] = field(default_factory=list)

    def milliseconds(self, share: float) -> float:
        return 1e3 * harness.percentile(self.seconds, share)


def _truth(vectors: Vectors, queries: Query) -> NDArray[np.int64]:
    """Return the ten nearest of every query, having compared them with plain numpy on some.

    Raises:
        SystemExit: the two ways of comparing all rows differ.
    """
    found, _ = query_neighbors(vectors, queries, K, metric="cosine")
    checked = queries[:20]
    best = np.concatenate(
        [checked @ vectors[begin : begin + 50_000].astype(np.float32).T for begin in range(0, len(vectors), 50_000)],
        axis=1,
    )
    plain = np.argpartition(-best, K, axis=1)[:, :K]
    if (shared := _recall(list(found[:20]), plain)) < 0.99:
        raise SystemExit(f"exact search agrees with numpy on {shared:.1%} of the nearest only; nothing was measured")
    return found.astype(np.int64)


def _recall(found: Sequence[NDArray[Any]], truth: NDArray[Any]) -> float:
    shared = [len(set(one.tolist()) & set(true.tolist())) for one, true in zip(found, truth, strict=True)]
    return float(np.mean(shared)) / truth.shape[1]


def _tuned(system: System, queries: Query, truth: NDArray[np.int64]) -> Any:
    """Return the least effort with which a system keeps the recall, or its greatest."""
    for effort in system.efforts:
        if _recall([system.search(query, effort) for query in queries], truth) >= RECALL:
            return effort
    return system.efforts[-1]


def _measure(rows: int, names: Sequence[str], count: int, workdir: Path, unavailable: dict[str, str]) -> list[Measured]:
    made = make_vectors(rows + 2 * count, 0, workdir)
    vectors, queries = made[:rows], made[rows:].astype(np.float32)
    truth = _truth(vectors, queries)
    systems: dict[str, System] = {}
    found: dict[str, Measured] = {}
    for name in names:
        folder = workdir / f"search-{name}-{rows}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        system = SYSTEMS[name]()
        began = time.perf_counter()
        try:
            system.build(vectors, folder)
        except ModuleNotFoundError as error:
            package = INSTALL.get(str(error.name), error.name)
            unavailable[name] = f"it is not installed; run: pip install {package}"
            continue
        found[name] = Measured(rows=rows, system=name, build_s=time.perf_counter() - began)
        found[name].effort = _tuned(system, queries[:count], truth[:count])
        systems[name] = system
    answers: dict[str, list[NDArray[np.int64]]] = {name: [] for name in systems}
    for begin in range(count, 2 * count, BLOCK):
        for name, system in systems.items():
            for query in queries[begin : min(begin + BLOCK, 2 * count)]:
                began = time.perf_counter()
                answer = system.search(query, found[name].effort)
                found[name].seconds.append(time.perf_counter() - began)
                answers[name].append(answer)
    for name, given in answers.items():
        found[name].recall = _recall(given, truth[count:])
    return list(found.values())


def _bars(measured: Sequence[Measured]) -> list[Bar]:
    bars = []
    for one in measured:
        if one.system != "gnomonic":
            continue
        bars.append(Bar(name=f"recall@10, {one.rows:,} rows", value=one.recall, limit=RECALL, unit=""))
        peers = [other for other in measured if other.rows == one.rows and other.system == "lancedb"]
        ratio = statistics.median(peers[0].seconds) / statistics.median(one.seconds) if peers else None
        bars.append(Bar(name=f"LanceDB's median time over ours, {one.rows:,} rows", value=ratio, limit=1.0))
    return bars


def main() -> None:
    parser = harness.common_parser(__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", help="rows (default 100,000 and 1,000,000; 20,000 when quick)")
    parser.add_argument(
        "--slow-below", type=int, default=1_000_000_000,
        help="from so many rows on, leave out lancedb, usearch and faiss-hnsw: building takes them long",
    )  # fmt: skip
    args = parser.parse_args()
    # The result tells the command, and not where things are on this machine.
    sys.argv = ["FOLDER" if word == str(args.workdir) else word for word in sys.argv]
    sizes = args.sizes or ((20_000,) if args.quick else SIZES)
    names = args.peers or list(SYSTEMS)
    if unknown := sorted(set(names) - set(SYSTEMS)):
        parser.error(f"unknown systems {', '.join(unknown)}; choose among {', '.join(SYSTEMS)}")
    unavailable: dict[str, str] = {}
    measured: list[Measured] = []
    for rows in sizes:
        chosen = [name for name in names if rows < args.slow_below or name not in SLOW]
        measured += _measure(rows, chosen, 100 if args.quick else QUERIES // 2, args.workdir, unavailable)
    columns = ["system", "rows", "recall@10", "p50 ms", "p99 ms", "build s", "effort"]
    table = [
        [m.system, m.rows, m.recall, m.milliseconds(50), m.milliseconds(99), m.build_s, str(m.effort or "-")]
        for m in measured
    ]
    harness.print_table("one search at a time", columns, table)
    for name, reason in unavailable.items():
        print(f"not measured: {name}: {reason}")
    bars = _bars(measured)
    harness.print_bars(bars)
    result = {
        "k": K,
        "measured": [
            {
                "system": m.system,
                "rows": m.rows,
                "recall": m.recall,
                "p50_ms": m.milliseconds(50),
                "p99_ms": m.milliseconds(99),
                "build_s": m.build_s,
                "effort": m.effort,
            }
            for m in measured
        ],
        "unavailable": unavailable,
    }
    harness.publish("search", result, bars, args.out or (None if args.quick else harness.RESULTS))


if __name__ == "__main__":
    main()
