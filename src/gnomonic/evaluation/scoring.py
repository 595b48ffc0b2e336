"""From vectors to a task's scores: one function a kind, with the protocols of MTEB (Muennighoff et al. 2023)."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import InputError
from gnomonic.evaluation.bm25 import Bm25
from gnomonic.evaluation.metrics import average_precision, classification_accuracy, ndcg_at, spearman, v_measure
from gnomonic.evaluation.tasks import KINDS, Task, read_rows
from gnomonic.types import TaskType

__all__ = ["PREFIXES", "Embed", "Ranker", "Rules", "Scores", "by_vectors", "by_words", "score", "score_ranking"]

Embed = Callable[[Sequence[str], TaskType], NDArray[np.float32]]
"""texts, task type -> unit vectors [n, dim]."""

Ranker = Callable[[Sequence[str], Sequence[str]], Iterator[NDArray[Any]]]
"""queries, documents -> blocks of scores [some queries, documents], in order."""

Scores = dict[str, float]
"""The main score under its kind's metric, and others."""

PREFIXES: Mapping[str, tuple[TaskType, TaskType]] = {
    "cls": (TaskType.CLASSIFICATION, TaskType.CLASSIFICATION),
    "clu": (TaskType.CLUSTERING, TaskType.CLUSTERING),
    "pair": (TaskType.CLASSIFICATION, TaskType.CLASSIFICATION),
    "rerank": (TaskType.SEARCH_QUERY, TaskType.SEARCH_DOCUMENT),
    "ret": (TaskType.SEARCH_QUERY, TaskType.SEARCH_DOCUMENT),
    "sts": (TaskType.CLASSIFICATION, TaskType.CLASSIFICATION),
}
"""Kind → task types of its left and right texts: those of the published models' own evaluation, but for reranking."""

_SEED = 42
_MAX_TRAIN_ROWS = 12_000
_FOLDS = 10
_CLUSTERINGS = 5
_EXPERIMENTS = 10
_FEW_SHOT_FOLDS = 5
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What may be chosen about how tasks are judged."""

    few_shot: int = 0
    """Training rows per label, drawn ten times as MTEB does; 0 trains on all of them, 12,000 at most."""
    prefixes: Mapping[str, tuple[TaskType, TaskType]] = field(default_factory=lambda: PREFIXES)
    """Kind → task types of its left and right texts."""

    def describe(self, task: Task) -> str:
        """Say how this task is judged."""
        if task.kind == "clu":
            return f"mean of {_CLUSTERINGS} runs of mini-batch k-means"
        if task.kind != "cls":
            return "cosine"
        where = {"folds": f", {_FEW_SHOT_FOLDS if self.few_shot else _FOLDS} folds", "fifth": ", on every fifth row"}
        if not self.few_shot:
            return "logistic regression on the training rows" + where.get(task.holdout, "")
        folds = where.get(task.holdout, f", mean of {_EXPERIMENTS} draws")
        return f"logistic regression on {self.few_shot} rows per label{folds}"


def score(task: Task, embed: Embed, rules: Rules) -> Scores:
    """Judge vectors on a task.

    Args:
        task: what `find_tasks` found.
        embed: gives the vectors; called with equal texts again, it should not embed them again.
        rules: few-shot or not, prefixes.

    Raises:
        InputError: the task's file is not usable.
        MissingExtraError: scikit-learn is not installed, for classification and clustering.
    """
    left, right = rules.prefixes[task.kind]
    if task.kind in {"ret", "rerank"}:
        return score_ranking(task, by_vectors(embed, left, right))
    if task.kind == "cls":
        return _classification(task, embed, left, rules.few_shot)
    rows = read_rows(task.path)
    if task.kind == "clu":
        labels = [str(row["label"]) for row in rows]
        vectors = embed([row["text"] for row in rows], left)
        return _spread("v_measure", [v_measure(vectors, labels, seed=_SEED + run) for run in range(_CLUSTERINGS)])
    cosines = _cosines(rows, embed, left, right)
    if task.kind == "pair":
        same = np.array([int(row["label"]) == 1 for row in rows])
        if not same.any():
            raise InputError(f"evaluation task {task.path} has no pair with label 1")
        return {"average_precision": average_precision(same, cosines)}
    judged = np.array([float(row["score"]) for row in rows])
    return {"spearman": spearman(cosines, judged), "pearson": float(np.corrcoef(cosines, judged)[0, 1])}


def score_ranking(task: Task, ranker: Ranker) -> Scores:
    """Judge a ranker on a retrieval or reranking task.

    Raises:
        InputError: the task's file is not usable.
    """
    rows = read_rows(task.path)
    return _retrieval(task, rows, ranker) if task.kind == "ret" else _reranking(rows, ranker)


def by_vectors(embed: Embed, query_task: TaskType, document_task: TaskType) -> Ranker:
    """Return a ranker by cosine."""

    def rank(queries: Sequence[str], documents: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        right = embed(documents, document_task)
        left = embed(queries, query_task)
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            yield left[start : start + _QUERIES_AT_ONCE] @ right.T

    return rank


def by_words(queries: Sequence[str], documents: Sequence[str]) -> Iterator[NDArray[np.float64]]:
    """Rank by BM25; a `Ranker`."""
    index = Bm25(documents)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        yield index.scores(queries[start : start + _QUERIES_AT_ONCE])


def _spread(metric: str, values: Sequence[float]) -> Scores:
    return {metric: float(np.mean(values)), f"{metric}_std": float(np.std(values))}


def _cosines(rows: Sequence[Mapping[str, Any]], embed: Embed, left: TaskType, right: TaskType) -> NDArray[np.float64]:
    sides = [[row[key] for row in rows] for key in ("sentence1", "sentence2")]
    if left == right:  # in one call, so that equal sentences of both sides are embedded once
        both = embed(sides[0] + sides[1], left)
        a, b = both[: len(rows)], both[len(rows) :]
    else:
        a, b = embed(sides[0], left), embed(sides[1], right)
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", a, b, dtype=np.float64)
    return cosines


# -- classification ---------------------------------------------------------------------------------------------


def _classification(task: Task, embed: Embed, task_type: TaskType, few_shot: int) -> Scores:
    train = read_rows(task.train) if task.train else []
    rows = [*train, *read_rows(task.path)]
    labels = np.array([str(row["label"]) for row in rows])
    if len(set(labels)) < 2:
        raise InputError(f"evaluation task {task.path} has one label; a classification needs two or more")
    fits = list(_drawn(_splits(task, labels, len(train), few_shot), labels, few_shot))
    used = np.unique(np.concatenate([part for fit in fits for part in fit]))  # few-shot leaves most rows out
    vectors = embed([rows[index]["text"] for index in used], task_type)
    # MTEB's own settings for few rows; with thousands, its penalty is too strict (see `classification_accuracy`).
    settings: dict[str, Any] = {"c": 1.0, "max_iter": 100} if few_shot else {}
    accuracies = []
    for fit, judge in fits:
        sides = (vectors[np.searchsorted(used, part)] for part in (fit, judge))
        accuracies.append(
            classification_accuracy(next(sides), labels[fit].tolist(), next(sides), labels[judge].tolist(), **settings)
        )
    return _spread("accuracy", accuracies) if len(accuracies) > 1 else {"accuracy": accuracies[0]}


def _splits(
    task: Task, labels: NDArray[np.str_], train: int, few_shot: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return (rows to train on, rows to judge) of every fold; `train` counts the rows of a training file."""
    from sklearn.model_selection import KFold, StratifiedKFold

    if task.holdout == "folds" and few_shot:
        return list(KFold(_FEW_SHOT_FOLDS, shuffle=True, random_state=_SEED).split(labels))
    if task.holdout == "folds":
        with warnings.catch_warnings():
            # A label rarer than the folds is spread over as many folds as it has rows.
            warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
            return list(StratifiedKFold(_FOLDS, shuffle=True, random_state=_SEED).split(labels, labels))
    row = np.arange(len(labels))
    judged = row % 5 == 4 if task.holdout else row >= train
    return [(row[~judged], row[judged])]


def _drawn(
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], labels: NDArray[np.str_], few_shot: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (training rows, judged rows) for every fit.

    The order of rows is shuffled anew from its last state before each draw, as MTEB does, so that equal vectors give
    equal scores.
    """
    if not few_shot:
        for fit, judge in splits:
            some = np.random.RandomState(_SEED).permutation(len(fit))[:_MAX_TRAIN_ROWS]
            yield fit[np.sort(some)], judge
        return
    order: list[int] | None = None
    for fit, judge in [*splits] * (_EXPERIMENTS if len(splits) == 1 else 1):
        order = list(range(len(fit))) if order is None else [index for index in order if index < len(fit)]
        np.random.RandomState(_SEED).shuffle(order)
        counts: dict[str, int] = defaultdict(int)
        drawn = []
        for index in order:
            label = str(labels[fit[index]])
            if counts[label] < few_shot:
                drawn.append(index)
                counts[label] += 1
        yield fit[drawn], judge


# -- ranking ----------------------------------------------------------------------------------------------------


def _retrieval(task: Task, rows: Sequence[Mapping[str, Any]], ranker: Ranker) -> Scores:
    queries: dict[str, str] = {}
    documents: dict[str, str] = {}
    relevant: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row["type"] == "qrel":
            relevant[str(row["qid"])][str(row["did"])] = float(row.get("score", 1))
        else:
            (queries if row["type"] == "query" else documents)[str(row["id"])] = row["text"]
    asked = [name for name in queries if any(gain > 0 for gain in relevant[name].values())]
    if not asked or not documents:
        raise InputError(f"evaluation task {task.path} has no query with a relevant document")
    names = list(documents)
    ndcg, recall = [], []
    blocks = ranker([queries[name] for name in asked], list(documents.values()))
    for name, scores in zip(asked, (row for block in blocks for row in block), strict=True):
        ranked = [names[index] for index in _best(scores, 100)]
        gains = relevant[name]
        ndcg.append(ndcg_at(10, ranked, gains))
        wanted = {document for document, gain in gains.items() if gain > 0}
        recall.append(len(wanted.intersection(ranked)) / len(wanted))
    return {
        "ndcg_at_10": float(np.mean(ndcg)),
        "ndcg_at_10_stderr": float(np.std(ndcg) / np.sqrt(len(ndcg))),
        "recall_at_100": float(np.mean(recall)),
    }


def _best(scores: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Return the places of the k highest scores, best first; of equal ones, the first document comes first."""
    k = min(k, len(scores))
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    candidates = np.flatnonzero(scores >= threshold)
    order: NDArray[np.int64] = candidates[np.argsort(-scores[candidates], kind="stable")][:k]
    return order


def _reranking(rows: Sequence[Mapping[str, Any]], ranker: Ranker) -> Scores:
    judged = [row for row in rows if row["positive"] and row["negative"]]  # the others say nothing, as in MTEB
    places = {
        text: i for i, text in enumerate(dict.fromkeys(t for r in judged for t in (*r["positive"], *r["negative"])))
    }
    blocks = ranker([row["query"] for row in judged], list(places))
    precisions = []
    for row, scores in zip(judged, (line for block in blocks for line in block), strict=True):
        found = scores[[places[text] for text in (*row["positive"], *row["negative"])]]
        precisions.append(average_precision(np.arange(len(found)) < len(row["positive"]), found))
    mean, error = float(np.mean(precisions)), float(np.std(precisions) / np.sqrt(len(precisions)))
    return {KINDS["rerank"].metric: mean, "map_stderr": error}
