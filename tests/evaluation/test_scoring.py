"""Each kind of task, judged by hand from the same vectors; and the protocols of mteb."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomonic.errors import InputError
from gnomonic.evaluation.metrics import average_precision, classification_accuracy, v_measure
from gnomonic.evaluation.scoring import PREFIXES, Rules, Scores, by_words, score, score_ranking
from gnomonic.evaluation.tasks import KINDS, Task, find_tasks, read_rows
from gnomonic.types import TaskType
from tests.evaluation.conftest import WordVectors, write_task

pytest.importorskip("sklearn")


def _task(folder: Path, name: str) -> Task:
    (task,) = find_tasks([folder], names=[name]).tasks
    return task


def _embed(texts: Sequence[str], task_type: TaskType) -> NDArray[np.float32]:
    return WordVectors().encode(texts, task_type=task_type).vectors


def _judge(folder: Path, name: str, rules: Rules | None = None) -> Scores:
    return score(_task(folder, name), _embed, rules or Rules())


@pytest.mark.parametrize(
    "name", ["cls_topic_test", "clu_topic", "pair_topic_test", "rerank_topic_test", "ret_topic", "sts_topic"]
)
def test_every_kind_gives_its_metric_between_chance_and_perfect(task_folder: Path, name: str) -> None:
    main = _judge(task_folder, name)[KINDS[name.partition("_")[0]].metric]
    assert 0.15 < main < 1.0


def test_retrieval_is_the_mean_over_queries_of_the_cosine_ranking(task_folder: Path) -> None:
    from sklearn.metrics import ndcg_score

    rows = read_rows(task_folder / "ret_topic.jsonl.gz")
    documents = {row["id"]: row["text"] for row in rows if row["type"] == "doc"}
    gains: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["type"] == "qrel":
            gains.setdefault(row["qid"], {})[row["did"]] = row["score"]
    right = _embed(list(documents.values()), TaskType.SEARCH_DOCUMENT)
    each = []
    for row in rows:
        if row["type"] == "query":
            cosines = _embed([row["text"]], TaskType.SEARCH_QUERY) @ right.T
            each.append(ndcg_score([[gains[row["id"]].get(name, 0) for name in documents]], cosines, k=10))
    assert _judge(task_folder, "ret_topic")["ndcg_at_10"] == pytest.approx(np.mean(each), abs=1e-7)


def test_queries_without_a_relevant_document_do_not_count(task_folder: Path) -> None:
    rows = read_rows(task_folder / "ret_topic.jsonl.gz")
    extra = [{"type": "query", "id": "x", "text": "boat"}, {"type": "qrel", "qid": "x", "did": "d0", "score": 0}]
    write_task(task_folder, "ret_more", [*rows, *extra])
    assert _judge(task_folder, "ret_more") == _judge(task_folder, "ret_topic")


def test_equal_scores_go_to_the_first_document(tmp_path: Path) -> None:
    documents = [{"type": "doc", "id": f"d{i}", "text": "same words"} for i in range(30)]
    asked = [{"type": "query", "id": "q", "text": "same"}, {"type": "qrel", "qid": "q", "did": "d1"}]
    write_task(tmp_path, "ret_ties", [*documents, *asked])
    expected = 1 / np.log2(3)
    assert score_ranking(_task(tmp_path, "ret_ties"), by_words)["ndcg_at_10"] == pytest.approx(expected)
    assert _judge(tmp_path, "ret_ties")["ndcg_at_10"] == pytest.approx(expected)


def test_reranking_is_the_mean_average_precision_of_each_query(task_folder: Path) -> None:
    from sklearn.metrics import average_precision_score

    each = []
    for row in read_rows(task_folder / "rerank_topic_test.jsonl.gz"):
        documents = [*row["positive"], *row["negative"]]
        cosines = _embed(documents, TaskType.SEARCH_DOCUMENT) @ _embed([row["query"]], TaskType.SEARCH_QUERY)[0]
        each.append(average_precision_score([1] * 2 + [0] * 6, cosines))
    assert _judge(task_folder, "rerank_topic_test")["map"] == pytest.approx(np.mean(each), abs=1e-7)


def test_average_precision_agrees_with_scikit_learn_with_ties() -> None:
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        relevant, scores = rng.random(50) < 0.3, rng.integers(0, 8, 50).astype(np.float64)
        assert average_precision(relevant, scores) == pytest.approx(average_precision_score(relevant, scores))


def test_pairs_and_similarity_use_the_cosine(task_folder: Path) -> None:
    stats = pytest.importorskip("scipy.stats")
    from sklearn.metrics import average_precision_score

    for name in ("pair_topic_test", "sts_topic"):
        rows = read_rows(task_folder / f"{name}.jsonl.gz")
        left, right = (_embed([r[key] for r in rows], TaskType.CLASSIFICATION) for key in ("sentence1", "sentence2"))
        cosines = (left.astype(np.float64) * right).sum(axis=1)
        found = _judge(task_folder, name)
        if name == "sts_topic":
            assert found["spearman"] == pytest.approx(stats.spearmanr(cosines, [r["score"] for r in rows]).statistic)
        else:
            assert found["average_precision"] == pytest.approx(
                average_precision_score([r["label"] for r in rows], cosines)
            )


def test_a_task_with_a_training_file_learns_from_it_alone(task_folder: Path) -> None:
    sides = [read_rows(task_folder / f"cls_topic_{part}.jsonl.gz") for part in ("train", "test")]
    vectors = [_embed([row["text"] for row in rows], TaskType.CLASSIFICATION) for rows in sides]
    labels = [[row["label"] for row in rows] for rows in sides]
    expected = classification_accuracy(vectors[0], labels[0], vectors[1], labels[1])
    assert _judge(task_folder, "cls_topic_test") == {"accuracy": expected}


def test_ten_folds_judge_every_row_once(task_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []

    def count(*arrays: object, **_options: object) -> float:
        judged.append(len(arrays[3]))  # type: ignore[arg-type]
        return 0.5

    monkeypatch.setattr("gnomonic.evaluation.scoring.classification_accuracy", count)
    _judge(task_folder, "cls_whole_all")
    assert len(judged) == 10
    assert sum(judged) == 60
    judged.clear()
    _judge(task_folder, "cls_alone_train")
    assert judged == [10]


def test_a_label_with_fewer_rows_than_folds_does_no_harm(task_folder: Path, tmp_path: Path) -> None:
    rows = read_rows(task_folder / "cls_whole_all.jsonl.gz")
    write_task(tmp_path, "cls_rare_all", [*rows, {"text": "odd one", "label": "rare"}])
    assert 0.3 < _judge(tmp_path, "cls_rare_all")["accuracy"] < 1


def test_few_shot_embeds_only_what_it_needs(task_folder: Path) -> None:
    asked: list[str] = []

    def embed(texts: Sequence[str], task_type: TaskType) -> NDArray[np.float32]:
        asked.extend(texts)
        return _embed(texts, task_type)

    found = score(_task(task_folder, "cls_topic_test"), embed, Rules(few_shot=1))
    assert found["accuracy_std"] > 0
    assert len(asked) <= 40 + 10 * 4


def test_clustering_is_a_mean_over_seeds(task_folder: Path) -> None:
    rows = read_rows(task_folder / "clu_topic.jsonl.gz")
    vectors = _embed([row["text"] for row in rows], TaskType.CLUSTERING)
    each = [v_measure(vectors, [row["label"] for row in rows], seed=42 + run) for run in range(5)]
    found = _judge(task_folder, "clu_topic")
    assert found == {"v_measure": pytest.approx(np.mean(each)), "v_measure_std": pytest.approx(np.std(each))}


def test_prefixes_are_those_of_the_kind_or_of_the_rules(task_folder: Path) -> None:
    seen: set[TaskType] = set()

    def embed(texts: Sequence[str], task_type: TaskType) -> NDArray[np.float32]:
        seen.add(task_type)
        return _embed(texts, task_type)

    for task in find_tasks([task_folder]).tasks:
        seen.clear()
        score(task, embed, Rules())
        assert seen == set(PREFIXES[task.kind])
    seen.clear()
    rules = Rules(prefixes={**PREFIXES, "sts": (TaskType.SEARCH_QUERY, TaskType.CLUSTERING)})
    score(_task(task_folder, "sts_topic"), embed, rules)
    assert seen == {TaskType.SEARCH_QUERY, TaskType.CLUSTERING}


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("cls_one_all", [{"text": "a", "label": 1}], "has one label"),
        ("pair_none_test", [{"sentence1": "a", "sentence2": "b", "label": 0}], "no pair with label 1"),
        ("ret_none", [{"type": "doc", "id": "d", "text": "a"}], "no query with a relevant document"),
    ],
)
def test_a_task_that_cannot_be_judged_is_named(
    tmp_path: Path, name: str, rows: list[dict[str, object]], message: str
) -> None:
    write_task(tmp_path, name, rows)
    with pytest.raises(InputError, match=message):
        _judge(tmp_path, name)
