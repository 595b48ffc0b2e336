"""An embedder of word vectors, and small tasks it does well but not perfectly on."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic.types import Embeddings, TaskType, Usage

WIDTH = 32
TOPICS = {
    "river": "water boat bank fish flood stream bridge wet",
    "train": "rail station ticket track engine platform coach late",
    "music": "song guitar drum tune melody concert chord loud",
    "bread": "flour oven yeast crust bake dough loaf warm",
}


class WordVectors:
    """Maps a text to the unit sum of its words' random vectors; the task type turns it a little.

    Attributes:
        asked: every list of texts so far, with its task type.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def encode(
        self, texts: Sequence[str], *, task_type: TaskType | str = TaskType.SEARCH_DOCUMENT, dim: int | None = None
    ) -> Embeddings:
        self.asked.append((str(task_type), list(texts)))
        rows = []
        for text in texts:
            words = [str(task_type), *text.split()]
            weights = [0.3] + [1.0] * (len(words) - 1)
            drawn = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=WIDTH) for word in words]
            rows.append(np.array(weights) @ np.array(drawn))
        vectors = np.array(rows).reshape(-1, WIDTH)[:, :dim]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        usage = Usage(prompt_tokens=0, total_tokens=0)
        return Embeddings(vectors=vectors.astype(np.float32), model="words", usage=usage, truncated=(0,))


def _sentence(rng: np.random.Generator, topic: str, words: int = 4) -> str:
    everything = " ".join(TOPICS.values()).split()
    own = [str(rng.choice(TOPICS[topic].split())) for _ in range(words)]
    return " ".join([*own, str(rng.choice(everything)), str(rng.choice(everything))])


def labelled(n: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    names = list(TOPICS)
    return [{"text": _sentence(rng, names[i % 4], 2), "label": names[i % 4]} for i in range(n)]


def pairs(n: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        left, right = (str(name) for name in rng.choice(list(TOPICS), 2))
        sentences = {"sentence1": _sentence(rng, left), "sentence2": _sentence(rng, right)}
        rows.append({**sentences, "label": int(left == right)})
    return rows


def scored(n: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [{**row, "score": float(row["label"]) * 3 + rng.random() * 2} for row in pairs(n, seed)]


def rankings(n: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    names = list(TOPICS)
    rows: list[dict[str, Any]] = []
    for i in range(n):
        own, others = names[i % 4], [name for name in names if name != names[i % 4]]
        positive = [_sentence(rng, own) for _ in range(2)]
        negative = [_sentence(rng, str(rng.choice(others)), 3) for _ in range(6)]
        rows.append({"query": _sentence(rng, own, 2), "positive": positive, "negative": negative})
    return rows


def collection(n: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    names = list(TOPICS)
    rows: list[dict[str, Any]] = [
        {"type": "doc", "id": f"d{i}", "text": f"{_sentence(rng, names[i % 4])} part{i}"} for i in range(n)
    ]
    for i in range(0, n, 5):
        text = " ".join(rows[i]["text"].split()[1:4])
        rows.append({"type": "query", "id": f"q{i}", "text": text})
        rows.append({"type": "qrel", "qid": f"q{i}", "did": f"d{i}", "score": 2})
        rows.append({"type": "qrel", "qid": f"q{i}", "did": f"d{(i + 4) % n}", "score": 1})
    return rows


def write_task(folder: Path, name: str, rows: Iterable[dict[str, Any]]) -> Path:
    path = folder / f"{name}.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.fixture
def words() -> WordVectors:
    return WordVectors()


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    """A task of every kind, and dev splits of some."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    made: dict[str, tuple[Callable[[int, int], list[dict[str, Any]]], int]] = {
        "cls_topic_train": (labelled, 80),
        "cls_topic_test": (labelled, 40),
        "cls_topic_valid": (labelled, 20),
        "cls_whole_all": (labelled, 60),
        "cls_alone_train": (labelled, 50),
        "cls_alone_test": (labelled, 20),
        "cls_orphan_test100": (labelled, 40),
        "clu_topic": (labelled, 80),
        "pair_topic_test": (pairs, 60),
        "pair_topic_dev": (pairs, 30),
        "sts_topic": (scored, 60),
        "rerank_topic_test": (rankings, 12),
        "ret_topic": (collection, 40),
    }
    for seed, (name, (make, n)) in enumerate(made.items()):
        write_task(folder, name, make(n, seed))
    return folder
