"""Evaluation tasks on disk, each a function of an embedder that returns one score.

A task is a gzipped JSON-lines file whose name starts with its kind: `sts_` {sentence1, sentence2, score}, `cls_`
{text, label} in train and test files, `ret_` lines of {type: query | doc | qrel}.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from gnomonic.errors import InputError
from gnomonic.evaluation.metrics import classification_accuracy, ndcg_at, spearman
from gnomonic.types import Embedder, TaskType

__all__ = ["classification", "read_rows", "retrieval", "sts"]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a .jsonl.gz file.

    Raises:
        InputError: the file is absent or not what it should be.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise InputError(f"evaluation task {path} cannot be read: {error}") from error


def sts(embedder: Embedder, path: Path, *, dim: int | None = None) -> float:
    """Return Spearman's correlation of cosine similarity with the human scores."""
    rows = read_rows(path)
    left, right = (
        embedder.encode([row[key] for row in rows], task_type=TaskType.CLASSIFICATION, dim=dim).vectors
        for key in ("sentence1", "sentence2")
    )
    cosines = np.einsum("nd,nd->n", left, right, dtype=np.float64)
    return spearman(cosines, [float(row["score"]) for row in rows])


def classification(embedder: Embedder, train: Path, test: Path, *, dim: int | None = None) -> float:
    """Return the accuracy of a logistic regression on the whole training file."""
    sides = [read_rows(path) for path in (train, test)]
    vectors = [
        embedder.encode([row["text"] for row in rows], task_type=TaskType.CLASSIFICATION, dim=dim).vectors
        for rows in sides
    ]
    labels = [[str(row["label"]) for row in rows] for rows in sides]
    return classification_accuracy(vectors[0], labels[0], vectors[1], labels[1])


def retrieval(embedder: Embedder, path: Path, *, dim: int | None = None) -> float:
    """Return the mean nDCG@10 over the queries, documents ranked by cosine."""
    queries, documents = {}, {}
    relevant: dict[str, dict[str, float]] = defaultdict(dict)
    for row in read_rows(path):
        if row["type"] == "query":
            queries[str(row["id"])] = row["text"]
        elif row["type"] == "doc":
            documents[str(row["id"])] = row["text"]
        else:
            relevant[str(row["qid"])][str(row["did"])] = float(row.get("score", 1))
    names = list(documents)
    asked = [name for name in queries if name in relevant]
    q = embedder.encode([queries[name] for name in asked], task_type=TaskType.SEARCH_QUERY, dim=dim).vectors
    d = embedder.encode(list(documents.values()), task_type=TaskType.SEARCH_DOCUMENT, dim=dim).vectors
    scores = []
    for name, row in zip(asked, q @ d.T, strict=True):
        top = np.argpartition(-row, min(10, len(row) - 1))[:10]
        top = top[np.argsort(-row[top], kind="stable")]
        scores.append(ndcg_at(10, [names[index] for index in top], relevant[name]))
    return float(np.mean(scores))
