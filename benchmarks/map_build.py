"""How long does a map take, how much memory, and how good is the plane, beside umap-learn and openTSNE?

10k, 100k and 1M × 768 vectors (`benchmarks/vectors.py`), each system in a process of its own that starts cold: the
seconds count interpreter and imports. Ours is `create_index` on a dataset that holds the vectors: neighbours,
projection, topics, duplicates, quality and tiles; the peers make neighbours and projection only (umap-learn with
pynndescent, as Apple's Embedding Atlas runs it). One measure judges all planes. The peers live in an environment of
their own: `pip install umap-learn openTSNE`, named with --peers-python. Run it as `python -m benchmarks.map_build`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Bar
from benchmarks.vectors import make_vectors

__all__ = ["main"]

SIZES = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000}
LIMITS_S = {"10k": 10.0, "100k": 60.0, "1M": 900.0}
PEER_LIMIT_S = 3600
TRIPLETS, BLOCK = 400_000, 20_000

OURS = """
import json, sys
import numpy as np
from gnomonic.atlas.dataset import Dataset
root, out = sys.argv[1:3]
made = Dataset("bench", root=root, create=False).create_index()
np.save(out, np.asarray(made.folder.xy))
stages = {stage["name"]: stage["seconds"] for stage in made.record.stages}
"""
UMAP = """
import json, sys
import numpy as np, umap
vectors, out = sys.argv[1:3]
np.save(out, umap.UMAP(metric="cosine", n_neighbors=15).fit_transform(np.load(vectors).astype(np.float32)))
stages = {}
"""
TSNE = """
import json, sys
import numpy as np, openTSNE
vectors, out = sys.argv[1:3]
made = openTSNE.TSNE(metric="cosine", n_jobs=-1, neighbors="pynndescent").fit(np.load(vectors).astype(np.float32))
np.save(out, np.asarray(made))
stages = {}
"""
END = """
# Not getrusage: a process begins with the peak of the one that started it.
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
print("RESULT", json.dumps({"peak_gb": peak / 1e9, "stages": stages}))
"""


def _run(code: str, python: str, arguments: list[str], limit_s: float) -> dict[str, Any]:
    """Run one system; return its seconds, peak memory and stages, or why it failed."""
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(harness.ROOT / "src") if code == OURS else ""}
    try:
        done = subprocess.run(
            [python, "-c", code + END, *arguments], capture_output=True, text=True, timeout=limit_s, env=environment
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit_s:.0f} s"}
    seconds = time.perf_counter() - began
    told = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not told:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1][-300:]}
    return {"seconds": seconds, **json.loads(told[-1].removeprefix("RESULT "))}


def _triplets(vectors: Any, xy: Any, seed: int) -> float:
    """Return the share of random triplets that keep their order, of so many that its error is below .002."""
    draw = np.random.default_rng(seed)
    kept = 0
    for _ in range(TRIPLETS // BLOCK):
        one, left, right = draw.integers(len(xy), size=(3, BLOCK))
        near = [np.asarray(vectors[rows], dtype=np.float32) for rows in (one, left, right)]
        near = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in near]
        truly = np.einsum("ij,ij->i", near[0], near[1]) > np.einsum("ij,ij->i", near[0], near[2])
        drawn = ((xy[one] - xy[left]) ** 2).sum(axis=1) < ((xy[one] - xy[right]) ** 2).sum(axis=1)
        kept += int((truly == drawn).sum())
    return kept / TRIPLETS


def judge(vectors: Any, xy: Any, seed: int = 0) -> dict[str, float]:
    """Return neighborhood preservation at 10, trustworthiness at 15 and triplet accuracy of a plane."""
    from gnomonic.atlas.neighbors import NeighborGraph
    from gnomonic.atlas.quality import measure_quality

    # The graph serves the trust of single points only, which is not asked for here.
    empty = np.full((len(xy), 1), -1, dtype=np.int32)
    graph = NeighborGraph(
        indices=empty,
        distances=np.full(empty.shape, np.inf, dtype=np.float32),
        metric="cosine",
        recall=1.0,
        exact=False,
    )
    found, _ = measure_quality(vectors, np.ascontiguousarray(xy, dtype=np.float32), graph, None, seed=seed)
    return {
        "neighborhood_preservation": found.neighborhood_preservation,
        "trustworthiness": found.trustworthiness,
        "triplet_accuracy": _triplets(vectors, xy, seed),
    }


def measure(name: str, args: Any) -> dict[str, Any]:
    """Run all systems on one size."""
    from gnomonic.atlas.dataset import Dataset

    rows = SIZES[name]
    vectors = make_vectors(rows, seed=0, workdir=args.workdir)
    path = args.workdir / f"vectors-{rows}.npy"
    np.save(path, vectors)
    found: dict[str, Any] = {}
    systems = {"gnomonic": (OURS, sys.executable)}
    if args.peers_python and name in args.peer_sizes.split(","):
        systems["umap-learn"] = (UMAP, args.peers_python)
        if name in args.tsne_sizes.split(","):
            systems["openTSNE"] = (TSNE, args.peers_python)
    for turn in range(args.rounds):
        for system, (code, python) in systems.items():
            root = args.workdir / f"data-{rows}-{turn}"
            first = str(path)
            if system == "gnomonic":
                # Finished stages of a run that was cut off would be used again.
                shutil.rmtree(root, ignore_errors=True)
                dataset = Dataset("bench", root=root)
                for begin in range(0, rows, 100_000):
                    block = vectors[begin : begin + 100_000]
                    dataset.add_data({"n": list(range(begin, begin + len(block)))}, block, update_maps=False)
                dataset.close()
                first = str(root)
            out = args.workdir / f"xy-{system}-{rows}.npy"
            told = _run(code, python, [first, str(out)], PEER_LIMIT_S)
            if system == "gnomonic":
                Dataset("bench", root=root).delete()
            if "failed" not in told:
                told |= judge(vectors, np.load(out))
            kept = found.get(system)
            if kept is None or told.get("seconds", 1e9) < kept.get("seconds", 1e9):
                found[system] = told
            print(f"{name} {system}: {json.dumps(told)}", flush=True)
    return found


def _bars(results: dict[str, Any]) -> list[Bar]:
    bars = []
    for name, found in results.items():
        ours, peer = found["gnomonic"], found.get("umap-learn", {})
        bars.append(
            Bar(name=f"{name}: seconds", value=ours.get("seconds"), limit=LIMITS_S[name], at_least=False, unit="s")
        )
        if "seconds" in peer and "seconds" in ours:
            bars.append(
                Bar(name=f"{name}: umap-learn's time", value=peer["seconds"] / ours["seconds"], limit=3.0, unit="x")
            )
            for measure_name in ("neighborhood_preservation", "triplet_accuracy"):
                share = ours[measure_name] / peer[measure_name]
                bars.append(Bar(name=f"{name}: {measure_name} of umap-learn's", value=share, limit=1.0))
    if "1M" in results:
        peak = results["1M"]["gnomonic"].get("peak_gb")
        bars.append(Bar(name="1M: peak memory", value=peak, limit=8.0, at_least=False, unit="GB"))
    return bars


def main() -> None:
    parser = harness.common_parser(__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10k,100k,1M", help="which sizes, of 10k, 100k and 1M")
    parser.add_argument("--peer-sizes", default="10k,100k", help="with which of them the peers run")
    parser.add_argument("--tsne-sizes", default="10k", help="with which of those openTSNE runs, which takes longest")
    parser.add_argument("--peers-python", help="interpreter of the environment that holds umap-learn and openTSNE")
    parser.set_defaults(rounds=1)
    args = parser.parse_args()
    # The result tells the command, and not where things are on this machine.
    sys.argv = ["FOLDER" if word in (str(args.workdir), args.peers_python) else word for word in sys.argv]
    results = {name: measure(name, args) for name in (["10k"] if args.quick else args.sizes.split(","))}
    columns = ["size", "system", "seconds", "peak GB", "NP@10", "trust@15", "triplets"]
    keys = ("seconds", "peak_gb", "neighborhood_preservation", "trustworthiness", "triplet_accuracy")
    rows = [
        [name, system, *(told.get(key) for key in keys)]
        for name, found in results.items()
        for system, told in found.items()
    ]
    harness.print_table("maps", columns, rows)
    bars = _bars(results)
    harness.print_bars(bars)
    harness.publish("map_build", {"sizes": results}, bars, args.out if args.quick else args.out or harness.RESULTS)


if __name__ == "__main__":
    main()
