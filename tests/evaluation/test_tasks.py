from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gnomonic.errors import InputError
from gnomonic.evaluation.tasks import KINDS, find_tasks, read_rows
from tests.evaluation.conftest import write_task


def _names(folder: Path, **options: object) -> list[str]:
    return [task.name for task in find_tasks([folder], **options).tasks]  # type: ignore[arg-type]


def test_the_test_split_holds_no_steering_file(task_folder: Path) -> None:
    assert _names(task_folder) == [
        "cls_alone_test", "cls_topic_test", "cls_whole_all", "clu_topic", "pair_topic_test", "rerank_topic_test",
        "ret_topic", "sts_topic",
    ]  # fmt: skip


def test_the_dev_split_takes_training_rows_only_where_no_dev_file_is(task_folder: Path) -> None:
    found = {task.name: task for task in find_tasks([task_folder], split="dev").tasks}
    assert sorted(found) == ["cls_alone_train", "cls_topic_valid", "pair_topic_dev"]
    assert found["cls_alone_train"].holdout == "fifth"
    train = found["cls_topic_valid"].train
    assert train is not None
    assert train.name == "cls_topic_train.jsonl.gz"


def test_the_two_splits_share_nothing_and_make_up_all(task_folder: Path) -> None:
    test, dev, both = (set(_names(task_folder, split=split)) for split in ("test", "dev", "all"))
    assert not test & dev
    assert test | dev == both


def test_a_classification_without_training_rows_is_left_out_until_named(task_folder: Path) -> None:
    found = find_tasks([task_folder])
    assert "no cls_orphan_train" in found.left_out["cls_orphan_test100"]
    (named,) = find_tasks([task_folder], names=["cls_orphan_test100"]).tasks
    assert named.holdout == "folds"


def test_patterns_keep_to_the_split_and_names_do_not(task_folder: Path) -> None:
    assert _names(task_folder, names=["pair_*"]) == ["pair_topic_test"]
    assert _names(task_folder, names=["pair_topic_dev", "sts_*"]) == ["pair_topic_dev", "sts_topic"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "final"}, "split 'final' is unknown"),
        ({"names": ["sts_topik"]}, "matches no task of split 'test'; close names: sts_topic"),
        ({"names": ["pair_*"], "split": "test"}, ""),
    ],
)
def test_a_mistake_names_the_way_out(task_folder: Path, options: dict[str, object], message: str) -> None:
    if not message:
        assert _names(task_folder, **options)
        return
    with pytest.raises(InputError, match=message):
        _names(task_folder, **options)


def test_folders_that_do_not_serve(tmp_path: Path, task_folder: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        find_tasks([tmp_path / "absent"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no task of split"):
        find_tasks([tmp_path / "empty"])
    with pytest.raises(InputError, match="is there twice"):
        find_tasks([task_folder, task_folder])


def test_the_digest_knows_the_task_and_its_training_rows(task_folder: Path) -> None:
    def digests() -> dict[str, str]:
        return {task.name: task.digest() for task in find_tasks([task_folder], split="all").tasks}

    before = digests()
    write_task(task_folder, "cls_topic_train", [{"text": "other", "label": "x"}])
    changed = {name for name, digest in digests().items() if digest != before[name]}
    assert changed == {"cls_topic_test", "cls_topic_valid"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b'{"text": "a", "label": "b"}\n{"text": ', mtime=0), "cannot be read after row 1"),
        (gzip.compress(b'{"text": "a", "label": "b"}\n', mtime=0)[:-6], "cannot be read"),
        (b"not gzip", "cannot be read"),
        (gzip.compress(b'{"text": "a"}\n', mtime=0), "row 1 has no 'label'; it needs text, label"),
        (gzip.compress(b"[1, 2]\n", mtime=0), "row 1 has no 'text'"),
        (gzip.compress(b"\n", mtime=0), "is empty"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cls_bad_test.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)


def test_plain_files_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sts_plain.jsonl"
    path.write_bytes('\ufeff{"sentence1": "é", "sentence2": "b", "score": 1}\r\n\n'.encode())
    assert read_rows(path) == [{"sentence1": "é", "sentence2": "b", "score": 1}]


def test_every_kind_is_in_the_module_table() -> None:
    from gnomonic.evaluation import tasks

    assert all(f"| `{kind}` |" in (tasks.__doc__ or "") for kind in KINDS)
