"""Our protocols beside mteb's own, on the same vectors; and our encoder inside mteb, on tasks made in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gnomonic.evaluation.metrics import v_measure
from gnomonic.evaluation.mteb import MtebEncoder, task_type_of
from gnomonic.evaluation.scoring import Rules, score
from gnomonic.evaluation.tasks import find_tasks
from gnomonic.types import TaskType
from tests.evaluation.conftest import (
    WordVectors,
    collection,
    labelled,
    pairs,
    rankings,
    scored,
    write_task,
)

pytestmark = pytest.mark.filterwarnings("default")


def _ours(folder: Path, rules: Rules | None = None, **files: Sequence[dict[str, Any]]) -> dict[str, float]:
    for name, rows in files.items():
        write_task(folder, name, rows)
    (task,) = find_tasks([folder]).tasks
    embedder = WordVectors()
    return score(task, lambda texts, kind: embedder.encode(texts, task_type=kind).vectors, rules or Rules())


def _theirs(mock: str, split: str, data: Any, **attributes: Any) -> dict[str, Any]:
    """Run one of mteb's own mock tasks on other data."""
    module, _, name = mock.rpartition(".")
    task = getattr(pytest.importorskip(f"mteb.mocks.mock_tasks.{module}"), name)()
    task.dataset, task.data_loaded = data, True
    for attribute, value in attributes.items():
        setattr(task, attribute, value)
    model = MtebEncoder(WordVectors())
    found: dict[str, Any] = task.evaluate(model, split=split, encode_kwargs={"batch_size": 16})
    return found["default"]


def _table(rows: Sequence[dict[str, Any]], *names: str) -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict({name: [row[name] for row in rows] for name in names})


def test_few_shot_classification_is_mtebs(tmp_path: Path) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    train, test = labelled(80, 0), labelled(60, 1)
    data = {"train": _table(train, "text", "label"), "test": _table(test, "text", "label")}
    model = linear_model.LogisticRegression(max_iter=100)
    theirs = _theirs("classification.MockClassificationTask", "test", data, evaluator_model=model, samples_per_label=8)
    ours = _ours(tmp_path, Rules(few_shot=8), cls_t_train=train, cls_t_test=test)
    assert 0.3 < ours["accuracy"] < 1
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-12)


def test_clustering_is_mtebs_with_its_seed() -> None:
    rows = labelled(120, 2)
    columns = {"sentences": "text", "labels": "label"}
    datasets = pytest.importorskip("datasets")
    nested = datasets.Dataset.from_dict({name: [[row[key] for row in rows]] for name, key in columns.items()})
    theirs = _theirs("clustering.MockClusteringTask", "test", {"test": nested})
    vectors = WordVectors().encode([row["text"] for row in rows], task_type="clustering").vectors
    ours = v_measure(vectors, [row["label"] for row in rows], seed=42)
    assert 0 < ours < 1
    assert ours == pytest.approx(theirs["v_measure"], abs=1e-12)


def test_pair_classification_is_mtebs(tmp_path: Path) -> None:
    rows = pairs(80, 3)
    data = {"test": _table([{**row, "labels": row["label"]} for row in rows], "sentence1", "sentence2", "labels")}
    theirs = _theirs("pair_classification.MockPairClassificationTask", "test", data)
    ours = _ours(tmp_path, pair_t_test=rows)
    assert ours["average_precision"] == pytest.approx(theirs["cosine_ap"], abs=1e-6)


def test_similarity_is_mtebs(tmp_path: Path) -> None:
    rows = scored(80, 4)
    data = {"test": _table(rows, "sentence1", "sentence2", "score")}
    theirs = _theirs("sts.MockSTSTask", "test", data, min_score=0, max_score=5)
    ours = _ours(tmp_path, sts_t=rows)
    assert ours["spearman"] == pytest.approx(theirs["cosine_spearman"], abs=1e-6)
    assert ours["pearson"] == pytest.approx(theirs["cosine_pearson"], abs=1e-6)


def _retrieval(queries: dict[str, str], documents: dict[str, str], gains: Any, top: Any = None) -> dict[str, Any]:
    datasets = pytest.importorskip("datasets")
    rows = [{"id": key, "text": text} for key, text in queries.items()]
    corpus = [{"id": key, "text": text, "title": ""} for key, text in documents.items()]
    found = {
        "queries": datasets.Dataset.from_list(rows),
        "corpus": datasets.Dataset.from_list(corpus),
        "relevant_docs": gains,
        "top_ranked": top,
    }
    return {"default": {"test": found}}


def test_retrieval_is_mtebs(tmp_path: Path) -> None:
    rows = collection(60, 5)
    gains: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["type"] == "qrel":
            gains.setdefault(row["qid"], {})[row["did"]] = row["score"]
    queries = {row["id"]: row["text"] for row in rows if row["type"] == "query"}
    documents = {row["id"]: row["text"] for row in rows if row["type"] == "doc"}
    theirs = _theirs("retrieval.MockRetrievalTask", "test", _retrieval(queries, documents, gains))
    ours = _ours(tmp_path, ret_t=rows)
    assert ours["ndcg_at_10"] == pytest.approx(theirs["ndcg_at_10"], abs=1e-5)


def test_reranking_is_mtebs(tmp_path: Path) -> None:
    rows = rankings(15, 6)
    sides = [[*row["positive"], *row["negative"]] for row in rows]
    documents = {f"{i}-{j}": text for i, texts in enumerate(sides) for j, text in enumerate(texts)}
    gains = {f"q{i}": {f"{i}-{j}": int(j < 2) for j in range(8)} for i in range(len(rows))}
    top = {query: list(found) for query, found in gains.items()}
    queries = {f"q{i}": row["query"] for i, row in enumerate(rows)}
    theirs = _theirs("reranking.MockRerankingTask", "test", _retrieval(queries, documents, gains, top))
    ours = _ours(tmp_path, rerank_t_test=rows)
    assert ours["map"] == pytest.approx(theirs["map_at_1000"], abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "side", "expected"),
    [
        ("Classification", None, TaskType.CLASSIFICATION),
        ("PairClassification", None, TaskType.CLASSIFICATION),
        ("STS", None, TaskType.CLASSIFICATION),
        ("Clustering", None, TaskType.CLUSTERING),
        ("Retrieval", "query", TaskType.SEARCH_QUERY),
        ("Retrieval", "document", TaskType.SEARCH_DOCUMENT),
        ("Reranking", "query", TaskType.SEARCH_QUERY),
        ("InstructionRetrieval", "document", TaskType.SEARCH_DOCUMENT),
    ],
)
def test_each_kind_of_mteb_task_has_its_prefix(kind: str, side: str | None, expected: TaskType) -> None:
    assert task_type_of(kind, side) is expected


def test_mteb_runs_on_our_encoder_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    mteb = pytest.importorskip("mteb")
    tasks = pytest.importorskip("mteb.mocks.mock_tasks")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = WordVectors()
    task = tasks.MockSTSTask()
    result = mteb.evaluate(MtebEncoder(words, dim=16), tasks=[task], cache=None, co2_tracker=False)
    assert -1 <= result.task_results[0].get_score() <= 1
    assert {kind for kind, _ in words.asked} == {"classification"}
