from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gnomonic.errors import EngineError, InputError
from gnomonic.evaluation.run import BM25, Outcome, Subject, evaluate
from gnomonic.evaluation.scoring import Rules
from gnomonic.evaluation.tasks import Task, find_tasks
from gnomonic.evaluation.vectors import FullWidth, cut
from gnomonic.types import TaskType
from tests.evaluation.conftest import WIDTH, WordVectors

pytest.importorskip("sklearn")


class _Counted:
    """A subject whose embedder counts how often it is opened, and fails on demand."""

    def __init__(self, dims: tuple[int, ...] = (WIDTH, 8), fingerprint: str = "one") -> None:
        self.words = WordVectors()
        self.opened = 0
        self.subject = Subject(name="a/b c", dims=dims, fingerprint=fingerprint, open=self._open)

    def _open(self) -> WordVectors:
        self.opened += 1
        return self.words


def _tasks(folder: Path, *names: str) -> tuple[Task, ...]:
    return find_tasks([folder], names=names).tasks


def test_every_text_is_embedded_once_whatever_the_sizes(task_folder: Path, tmp_path: Path) -> None:
    counted = _Counted()
    (outcome,) = evaluate(counted.subject, _tasks(task_folder, "sts_topic"), tmp_path)
    texts = [text for _, asked in counted.words.asked for text in asked]
    assert len(texts) == len(set(texts)) == outcome.texts
    assert set(outcome.scores) == {WIDTH, 8}
    assert outcome.scores[WIDTH] != outcome.scores[8]


def test_a_second_run_reads_what_the_first_wrote(task_folder: Path, tmp_path: Path) -> None:
    tasks = find_tasks([task_folder]).tasks
    first = evaluate(_Counted().subject, tasks, tmp_path)
    again = _Counted()
    second = evaluate(again.subject, tasks, tmp_path)
    assert again.opened == 0
    assert second == first
    assert all(outcome.kept for outcome in second)
    assert not any(outcome.kept for outcome in first)


def test_an_interrupted_run_goes_on(task_folder: Path, tmp_path: Path) -> None:
    tasks = _tasks(task_folder, "pair_topic_test", "sts_topic")
    broken = _Counted()
    encode = broken.words.encode

    def fails_later(texts: list[str], **options: object) -> object:
        if broken.words.asked:
            raise EngineError("stopped")
        return encode(texts, **options)  # type: ignore[arg-type]

    broken.words.encode = fails_later  # type: ignore[method-assign, assignment]
    with pytest.raises(EngineError):
        evaluate(broken.subject, tasks, tmp_path)
    kept = [outcome.kept for outcome in evaluate(_Counted().subject, tasks, tmp_path)]
    assert kept == [True, False]


@pytest.mark.parametrize("change", ["weights", "rules", "task", "damage", "sizes"])
def test_a_result_is_not_taken_over_when_something_changed(task_folder: Path, tmp_path: Path, change: str) -> None:
    name = "cls_topic_test"
    evaluate(_Counted().subject, _tasks(task_folder, name), tmp_path)
    (file,) = tmp_path.glob("*/cls_topic_test.json")
    counted, rules = _Counted(), Rules()
    if change == "weights":
        counted = _Counted(fingerprint="two")
    elif change == "sizes":
        counted = _Counted(dims=(16,))
    elif change == "rules":
        rules = Rules(few_shot=8)
    elif change == "damage":
        file.write_text(file.read_text()[:40])
    else:
        path = task_folder / "cls_topic_train.jsonl.gz"
        path.write_bytes((task_folder / "cls_topic_valid.jsonl.gz").read_bytes())
    (outcome,) = evaluate(counted.subject, _tasks(task_folder, name), tmp_path, rules=rules)
    assert not outcome.kept


def test_without_a_fingerprint_nothing_is_taken_over(task_folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        counted = _Counted(fingerprint="")
        evaluate(counted.subject, _tasks(task_folder, "pair_topic_dev"), tmp_path)
        assert counted.opened == 1


def test_a_result_file_says_what_it_is(task_folder: Path, tmp_path: Path) -> None:
    (outcome,) = evaluate(_Counted().subject, _tasks(task_folder, "ret_topic"), tmp_path)
    said = json.loads((tmp_path / "a-b-c-fp32-one" / "ret_topic.json").read_text())
    assert said["key"]["prefixes"] == ["search_query", "search_document"]
    assert said["outcome"]["scores"][str(WIDTH)] == outcome.scores[WIDTH]


def test_bm25_is_judged_on_rankings_only(task_folder: Path, tmp_path: Path) -> None:
    outcomes = evaluate(BM25, find_tasks([task_folder]).tasks, tmp_path)
    assert [outcome.task for outcome in outcomes] == ["rerank_topic_test", "ret_topic"]
    assert all(outcome.protocol == "BM25" for outcome in outcomes)


def test_a_size_beyond_the_model_is_refused(task_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"--dims 64 is larger than the model's {WIDTH}"):
        evaluate(_Counted(dims=(64,)).subject, _tasks(task_folder, "sts_topic"), tmp_path)


def test_progress_hears_of_every_task_in_turn(task_folder: Path, tmp_path: Path) -> None:
    heard: list[str] = []

    class _Listener:
        def begin(self, subject: Subject, task: Task) -> None:
            heard.append(f"begin {task.name}")

        def embedded(self, done: int, total: int) -> None:
            heard.append(f"{done == total}")

        def end(self, subject: Subject, outcome: Outcome) -> None:
            heard.append(f"end {outcome.task}")

    evaluate(_Counted().subject, _tasks(task_folder, "clu_topic", "sts_topic"), tmp_path, progress=_Listener())
    assert heard == ["begin clu_topic", "True", "end clu_topic", "begin sts_topic", "True", "end sts_topic"]


def test_cut_vectors_are_those_of_the_encoder(fake_encoder: object) -> None:
    texts = ["the quick brown fox", "a lazy dog", "red green blue"]
    full = fake_encoder.encode(texts).vectors  # type: ignore[attr-defined]
    for dim in (32, 16, 8):
        direct = fake_encoder.encode(texts, dim=dim).vectors  # type: ignore[attr-defined]
        np.testing.assert_allclose(cut(full, dim), direct, atol=2e-7)
    assert not cut(np.zeros((1, 4), np.float32), 2).any()


def test_vectors_come_in_the_order_asked_for_and_by_task_type(words: WordVectors) -> None:
    vectors = FullWidth(words)
    texts = ["b b", "a", "c c c", "a"]
    found = vectors.encode(texts, TaskType.CLUSTERING)
    np.testing.assert_array_equal(found, words.encode(texts, task_type="clustering").vectors)
    more = vectors.encode(["a", "new"], TaskType.CLUSTERING)
    np.testing.assert_array_equal(more, words.encode(["a", "new"], task_type="clustering").vectors)
    other = vectors.encode(["a"], TaskType.SEARCH_QUERY)
    assert not np.array_equal(other[0], found[1])
    assert vectors.texts == 5
