"""An encoder by formula, tables in memory, and a run that ends itself at a chosen point."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.training.curation.dedup import DedupConfig, find_duplicates
from gnomonic.training.curation.filter import FilterConfig, consistency_ranks
from gnomonic.training.curation.mine import MineConfig, mine, negatives_of
from gnomonic.training.curation.overlap import Judged, OverlapConfig, find_overlap
from gnomonic.training.curation.pairs import Pairs, write_pairs
from gnomonic.training.curation.vectors import VectorStore
from gnomonic.training.curation.workplace import Workplace
from gnomonic.types import Embeddings, Usage

__all__ = ["Scratch", "WordEncoder", "curate_then_die", "pairs_of", "run_all"]

WIDTH = 48


@cache
def _word(word: str, salt: str) -> NDArray[np.float64]:
    seed = list(hashlib.sha256(f"{salt}{word}".encode()).digest())
    return np.random.default_rng(seed).standard_normal(WIDTH)


class WordEncoder:
    """A text's vector is the mean of its words' random vectors, the same for every task; some text makes it fail."""

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.texts: list[str] = []
        self.tasks: list[str] = []

    def encode(self, texts: Sequence[str], *, task_type: str = "search_document", dim: int | None = None) -> Embeddings:
        self.texts += texts
        self.tasks += [str(task_type)] * len(texts)
        rows = [np.mean([_word(word, self.salt) for word in text.split() or [""]], axis=0)[:dim] for text in texts]
        vectors = np.array(rows, np.float32).reshape(len(texts), -1)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors=vectors, model="words", usage=Usage(prompt_tokens=0, total_tokens=0))


class Scratch(Workplace):
    """A workplace in a folder that goes with it."""

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp()))
        weakref.finalize(self, shutil.rmtree, self.folder)


def pairs_of(rows: Sequence[Mapping[str, Any]], corpus: Sequence[str] | None = None) -> Pairs:
    """Return pairs from rows of query, document and perhaps source and negatives."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ("query", "document")}
    if any("negatives" in row for row in rows):
        columns["negatives"] = pa.array([row.get("negatives", []) for row in rows], pa.list_(pa.string()))
    columns["source"] = [row.get("source", "one") for row in rows]
    more = pa.table({"document": list(corpus)}) if corpus is not None else None
    return Pairs(pa.table(columns), corpus=more)


def run_all(folder: Path, encoder: WordEncoder | None = None) -> None:
    """Filter, mine, drop duplicates and write 60 rows of two sources with vectors kept in `folder`."""
    words = [f"w{i}" for i in range(40)]
    rows = [
        {
            "query": f"{words[i % 40]} {words[(3 * i) % 40]} {i}",
            "document": f"{words[i % 40]} {words[(7 * i) % 40]} {words[(11 * i) % 40]} d{i}",
            "source": "even" if i % 2 else "odd",
        }
        for i in range(60)
    ]
    pairs = pairs_of(rows)
    store = VectorStore(folder / "partial", encoder or WordEncoder())
    with store.locked():
        ranks = consistency_ranks(pairs, store, FilterConfig(block_rows=16))
        mined = mine(pairs, store, MineConfig(negatives=2, pool=4))
        unique = find_duplicates(pairs, DedupConfig(), store).kept
        judged = Judged(files=("one",), texts=("w0 w0 0", "w3 w9 3 w3 w21 w33 d3"), file=np.zeros(2, np.int64))
        held = find_overlap(pairs, judged, OverlapConfig(ngram=2), store).text >= 0
        write_pairs(pairs, np.flatnonzero(unique & ~held), folder / "unique.parquet")
        write_pairs(pairs, np.flatnonzero(ranks <= 2), folder / "filtered.parquet")
        write_pairs(pairs, np.arange(60), folder / "mined.parquet", negatives=negatives_of(pairs, mined))
        store.remove()


def curate_then_die(folder: Path, fatal: int) -> None:
    """Run `run_all`, and kill this process with SIGKILL just before its `fatal`-th change of the file system."""
    changes = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        path = str(arguments[0]) if arguments else ""
        is_write = event == "open" and isinstance(arguments[1], str) and bool(set(arguments[1]) & set("wax+"))
        is_change = is_write or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
        if is_change and path.startswith(str(folder)):
            changes += 1
            if changes == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    run_all(folder)
