"""`gnomonic curate` as it is typed, with the tiny model."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
import pyarrow.parquet as pq

from gnomonic.cli.main import app

_ANIMALS = ["cat", "dog", "mouse", "fox"]
_PLACES = ["house", "river", "mountain", "bread"]
ROWS = [
    {"query": f"where is the {animal} of the {place}", "document": f"the {animal} lives at the old {place} by night"}
    for animal in _ANIMALS
    for place in _PLACES
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["query", "document"])
        writer.writeheader()
        writer.writerows([*ROWS, ROWS[0], {"query": "the same", "document": "what water made red stone"}])
    return path


def _invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["curate", *map(str, arguments)])


def test_filter_writes_the_pairs_that_are_kept_and_two_reports(
    tmp_path: Path, pairs: Path, tiny_checkpoint: Path
) -> None:
    output = tmp_path / "out" / "kept.parquet"
    result = _invoke("filter", pairs, "-o", output, "--model", tiny_checkpoint, "--top-k", 3, "--precision", "fp32")
    assert result.exit_code == 0, result.stderr
    table = pq.read_table(output)
    report = json.loads((tmp_path / "out" / "kept.report.json").read_text(encoding="utf-8"))
    assert table.column_names == ["query", "document", "source"]
    assert report["rows_in"] == 18
    assert 0 < table.num_rows == report["rows_out"] < 18
    assert set(table["source"].to_pylist()) == {"pairs"}
    assert f"{table.num_rows} of 18 rows are kept" in result.stdout
    assert "| pairs | 18 |" in (tmp_path / "out" / "kept.report.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "kept.parquet", "kept.report.json", "kept.report.md",
    ]  # fmt: skip


def test_mine_adds_negatives_that_training_reads(tmp_path: Path, pairs: Path, tiny_checkpoint: Path) -> None:
    output = tmp_path / "mined.parquet"
    corpus = tmp_path / "more.jsonl"
    corpus.write_text('{"text": "the brown fox jumps over the lazy dog"}\n', encoding="utf-8")
    options = ["--duplicate-similarity", 1, "--negatives", 3, "--pool", 9, "--margin", 1, "--corpus", corpus]
    options += ["--max-tokens", 64, "--dim", 16]
    result = _invoke("mine", pairs, "-o", output, "--model", tiny_checkpoint, *options)
    assert result.exit_code == 0, result.stderr
    documents = {row["document"] for row in ROWS} | {
        "what water made red stone",
        "the brown fox jumps over the lazy dog",
    }
    rows = pq.read_table(output).to_pylist()
    assert len(rows) == 18
    assert sum(len(row["negatives"]) for row in rows) > 10
    for row in rows:
        assert set(row["negatives"]) <= documents - {row["document"]}
        assert len(set(row["negatives"])) == len(row["negatives"]) <= 3
    from gnomonic.training.data.tables import open_tables

    assert "negatives" in open_tables([str(output)], Path()).column_names


def test_a_kept_cache_serves_other_settings(tmp_path: Path, pairs: Path, tiny_checkpoint: Path) -> None:
    cache = tmp_path / "cache"
    written = []
    for top_k in (1, 2):
        output = tmp_path / f"{top_k}.parquet"
        result = _invoke("filter", pairs, "-o", output, "--model", tiny_checkpoint, "--top-k", top_k, "--cache", cache)
        assert result.exit_code == 0, result.stderr
        written.append({path.name: path.stat().st_mtime_ns for path in cache.glob("*.rows")})
    assert len(written[0]) == 2
    assert written[0] == written[1]
    assert pq.read_table(tmp_path / "1.parquet").num_rows <= pq.read_table(tmp_path / "2.parquet").num_rows


def test_dedup_drops_repeats_and_what_the_evaluation_holds(tmp_path: Path, pairs: Path) -> None:
    tasks = tmp_path / "eval"
    tasks.mkdir()
    with gzip.open(tasks / "ret_x.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps({"type": "doc", "id": "1", "text": "What water made  red stone"}) + "\n")
    output = tmp_path / "clean.parquet"
    result = _invoke("dedup", pairs, "-o", output, "--against", tasks)
    assert result.exit_code == 0, result.stderr
    assert pq.read_table(output).select(["query", "document"]).to_pylist() == ROWS
    assert "ret_x.jsonl.gz: rows: 1" in result.stdout


def test_a_report_alone_writes_no_pairs(tmp_path: Path, pairs: Path) -> None:
    output = tmp_path / "clean.parquet"
    assert _invoke("dedup", pairs, "-o", output, "--report-only").exit_code == 0
    assert not output.exists()
    assert (tmp_path / "clean.report.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["filter", "{pairs}", "-o", "{folder}/out.csv"], "ends in .parquet"),
        (["filter", "{folder}/none.csv", "-o", "{folder}/out.parquet", "--model", "{model}"], "matches no file"),
        (["filter", "{pairs}", "-o", "{folder}/out.parquet", "--query-task", "poem"], "'poem'"),
        (["filter", "{pairs}", "-o", "{folder}/out.parquet", "--model", "no-such"], "no-such"),
        (["mine", "{pairs}", "-o", "{folder}/out.parquet", "--margin", "2"], "margin 2.0"),
        (["dedup", "{pairs}", "-o", "{folder}/there.parquet"], "there already"),
        (["dedup", "{pairs}", "-o", "{folder}/out.parquet", "--by", "all"], "'all'"),
        (["dedup", "{pairs}", "-o", "{folder}/out.parquet", "--against", "{folder}/no"], "no file there"),
    ],
)
def test_mistakes_are_told_before_any_work(
    tmp_path: Path, pairs: Path, tiny_checkpoint: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "there.parquet").touch()
    places = {"pairs": pairs, "folder": tmp_path, "model": tiny_checkpoint}
    result = _invoke(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "out.parquet").exists()


def test_what_a_finished_run_left_is_replaced_when_asked_to(tmp_path: Path, pairs: Path) -> None:
    output = tmp_path / "clean.parquet"
    assert _invoke("dedup", pairs, "-o", output).exit_code == 0
    assert _invoke("dedup", pairs, "-o", output).exit_code == 2
    assert _invoke("dedup", pairs, "-o", output, "--overwrite").exit_code == 0
    assert pq.read_table(output).num_rows == 17
