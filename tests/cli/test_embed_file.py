"""A whole run: what is written, what fails alone, what resuming accepts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic.cli.chunks import ChunkStore, plan_chunks
from gnomonic.cli.rows import Row
from gnomonic.errors import EngineError, InputError, MissingExtraError
from tests.cli.stand_ins import WIDTH, HashEncoder, run_job

TEXTS = [f"text number {index}" for index in range(10)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    rows = [{"id": index, "text": text} for index, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _expected(texts: list[str], **options: Any) -> np.ndarray:
    return HashEncoder().encode(texts, **options).vectors


def _failures(output: Path) -> list[dict[str, Any]]:
    lines = output.with_name(output.name + ".failed.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _read_parquet(path: Path) -> Any:
    return pytest.importorskip("pyarrow.parquet").read_table(path)


def test_npy_holds_a_vector_per_row_in_order(tmp_path: Path, source: Path) -> None:
    summary = run_job(source, tmp_path / "out.npy")
    vectors = np.load(tmp_path / "out.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, _expected(TEXTS))
    assert (summary.rows, summary.failed, summary.tokens, summary.dim) == (10, 0, 30, WIDTH)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.npy"]


def test_parquet_holds_the_input_columns_and_the_vectors(tmp_path: Path, source: Path) -> None:
    run_job(source, tmp_path / "out.parquet", dim=4, task_type="clustering")
    table = _read_parquet(tmp_path / "out.parquet")
    assert table.column_names == ["id", "text", "embedding"]
    assert str(table.schema.field("embedding").type).startswith("fixed_size_list")
    assert table["id"].to_pylist() == list(range(10))
    vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(vectors, _expected(TEXTS, dim=4, task_type="clustering"))
    about = json.loads(table.schema.metadata[b"gnomonic"])
    assert (about["dim"], about["--task-type"], about["--model"]) == (4, "clustering", "hash")


def test_parquet_input_keeps_its_types_and_metadata(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"n": pa.array([1, None, 3], pa.int16()), "text": ["a", None, "c"], "l": [[1], [], None]}
    table = pa.table(columns).replace_schema_metadata({b"mine": b"kept"})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=2)
    summary = run_job(tmp_path / "in.parquet", tmp_path / "out.parquet")
    result = _read_parquet(tmp_path / "out.parquet")
    assert result.drop(["embedding"]).equals(table)
    assert result.schema.metadata[b"mine"] == b"kept"
    assert result["embedding"].is_null().to_pylist() == [False, True, False]
    assert summary.failed == 1
    assert _failures(tmp_path / "out.parquet") == [{"row": 1, "reason": "the text is null"}]


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_an_input_without_rows_gives_an_output_without_rows(tmp_path: Path, ending: str) -> None:
    (tmp_path / "in.csv").write_text("id,text\n", encoding="utf-8")
    output = tmp_path / f"out.{ending}"
    assert run_job(tmp_path / "in.csv", output).rows == 0
    if ending == "npy":
        assert np.load(output).shape == (0, WIDTH)
    else:
        assert _read_parquet(output).column_names == ["id", "text", "embedding"]


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_bad_rows_keep_their_place_and_cost_no_other(tmp_path: Path, ending: str) -> None:
    lines = ['{"text": "a", "n": 1}', "broken", '{"text": 7, "n": 2}', '{"text": "<breaks>"}', '{"text": "e"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    output = tmp_path / f"out.{ending}"
    assert run_job(tmp_path / "in.jsonl", output, chunk_rows=100).failed == 3
    failures = _failures(output)
    assert [(failure["row"], failure["line"]) for failure in failures] == [(1, 2), (2, 3), (3, 4)]
    assert "<breaks>" in failures[2]["reason"]
    if ending == "npy":
        vectors = np.load(output)
        assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, True, False]
        np.testing.assert_array_equal(vectors[[0, 4]], _expected(["a", "e"]))
    else:
        table = _read_parquet(output)
        assert table["embedding"].is_null().to_pylist() == [False, True, True, True, False]
        assert table["text"].to_pylist() == ["a", None, "7", "<breaks>", "e"]
        assert table["n"].to_pylist() == [1, None, 2, None, None]


def test_too_long_a_text_fails_alone_where_long_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\nb c d e\nf\n", encoding="utf-8")
    run_job(tmp_path / "in.txt", tmp_path / "out.npy", long_text_mode="error", max_tokens=9)
    assert not (tmp_path / "out.npy.failed.jsonl").exists()
    options = {"long_text_mode": "error", "max_tokens": 9, "overwrite": True}
    (tmp_path / "in.txt").write_text("a\n" + "b " * 10 + "\nf\n", encoding="utf-8")
    run_job(tmp_path / "in.txt", tmp_path / "out.npy", **options)
    assert _failures(tmp_path / "out.npy") == [{"row": 1, "line": 2, "reason": "the text is too long"}]


def test_cut_texts_are_counted(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n" + "b " * 20 + "\nf\n", encoding="utf-8")
    assert run_job(tmp_path / "in.txt", tmp_path / "out.npy", max_tokens=15).truncated == 1


def test_an_engine_that_fails_on_everything_ends_the_run(tmp_path: Path, source: Path) -> None:
    class Dying(HashEncoder):
        def encode(self, texts: Any, **options: Any) -> Any:
            self.broken = len(self.calls) >= 2
            return super().encode(texts, **options)

    with pytest.raises(EngineError, match="gone"):
        run_job(source, tmp_path / "out.npy", Dying())
    assert not (tmp_path / "out.npy").exists()
    assert run_job(source, tmp_path / "out.npy", resume=True).resumed_rows == 3


@pytest.mark.parametrize("bad", ['{"text": null}', "broken", '{"text": "<breaks>"}'])
def test_strict_writes_nothing(tmp_path: Path, source: Path, bad: str) -> None:
    with source.open("a", encoding="utf-8") as file:
        file.write(bad + "\n")
    with pytest.raises(InputError, match=r"row 10 \(line 11\): .*--strict"):
        run_job(source, tmp_path / "out.npy", strict=True)
    assert not (tmp_path / "out.npy").exists()


def test_the_output_is_not_replaced_unasked(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out.npy"
    output.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists"):
        run_job(source, output)
    assert output.read_bytes() == b"precious"
    run_job(source, output, overwrite=True)
    assert len(np.load(output)) == 10


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.csv", "must end in .npy or .parquet"), ("no/out.npy", "does not exist"), ("dir.npy", "is a folder")],
)
def test_an_output_that_cannot_be_is_refused(tmp_path: Path, source: Path, name: str, message: str) -> None:
    (tmp_path / "dir.npy").mkdir()
    with pytest.raises(InputError, match=message):
        run_job(source, tmp_path / name)


def test_the_input_cannot_be_the_output(tmp_path: Path) -> None:
    path = tmp_path / "same.parquet"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="same file"):
        run_job(path, path, overwrite=True)


def test_a_column_is_never_doubled(tmp_path: Path, source: Path) -> None:
    with pytest.raises(InputError, match="already has a column 'id'"):
        run_job(source, tmp_path / "out.parquet", column="id")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"gnomonic\[atlas\]"):
        run_job(source, tmp_path / "out.parquet")
    run_job(source, tmp_path / "out.npy")


def _interrupt(source: Path, output: Path, **options: Any) -> None:
    """Leave two finished chunks of three rows behind."""

    class Interrupted(HashEncoder):
        def encode(self, texts: Any, **options: Any) -> Any:
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().encode(texts, **options)

    with pytest.raises(KeyboardInterrupt):
        run_job(source, output, Interrupted(), **options)


def test_resume_embeds_only_what_is_missing(tmp_path: Path, source: Path) -> None:
    _interrupt(source, tmp_path / "out.npy")
    encoder = HashEncoder()
    summary = run_job(source, tmp_path / "out.npy", encoder, resume=True)
    assert summary.resumed_rows == 6
    assert [text for call in encoder.calls[1:] for text in call] == TEXTS[6:]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), _expected(TEXTS))


def test_unfinished_work_is_neither_lost_nor_taken_up_unasked(tmp_path: Path, source: Path) -> None:
    _interrupt(source, tmp_path / "out.npy")
    with pytest.raises(InputError, match="unfinished work") as error:
        run_job(source, tmp_path / "out.npy")
    assert "--resume" in error.value.hint
    assert run_job(source, tmp_path / "out.npy", overwrite=True).resumed_rows == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"task_type": "clustering"}, "--task-type was search_document, is clustering"),
        ({"dim": 4}, "--dimensionality was None, is 4"),
        ({"chunk_rows": 4}, "--chunk-rows was 3, is 4"),
        ({"model": "other"}, "--model was hash, is other"),
    ],
)
def test_resume_with_other_settings_is_refused(
    tmp_path: Path, source: Path, option: dict[str, Any], message: str
) -> None:
    _interrupt(source, tmp_path / "out.npy")
    with pytest.raises(InputError, match=message):
        run_job(source, tmp_path / "out.npy", resume=True, **option)


def test_resume_with_another_input_is_refused(tmp_path: Path, source: Path) -> None:
    _interrupt(source, tmp_path / "out.npy")
    with source.open("a", encoding="utf-8") as file:
        file.write('{"text": "new"}\n')
    with pytest.raises(InputError, match="input sha256 was"):
        run_job(source, tmp_path / "out.npy", resume=True)


def test_resume_with_a_model_of_other_numbers_is_refused(tmp_path: Path, source: Path) -> None:
    _interrupt(source, tmp_path / "out.npy")
    with pytest.raises(InputError, match="fingerprint was"):
        run_job(source, tmp_path / "out.npy", HashEncoder(salt="other weights"), resume=True)


@pytest.mark.parametrize("damage", [b"", b"\0" * 96])
def test_a_damaged_chunk_is_embedded_again(tmp_path: Path, source: Path, damage: bytes) -> None:
    _interrupt(source, tmp_path / "out.npy")
    (tmp_path / "out.npy.partial" / "00000001.f32").write_bytes(damage)
    assert run_job(source, tmp_path / "out.npy", resume=True).resumed_rows == 3
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), _expected(TEXTS))


def test_resume_with_nothing_begun_starts_and_with_all_done_stops(tmp_path: Path, source: Path) -> None:
    assert run_job(source, tmp_path / "out.npy", resume=True).rows == 10
    before = (tmp_path / "out.npy").stat().st_mtime_ns
    assert run_job(source, tmp_path / "out.npy", resume=True).was_complete
    assert (tmp_path / "out.npy").stat().st_mtime_ns == before


def test_an_input_that_changes_under_the_run_is_noticed(tmp_path: Path, source: Path) -> None:
    class Meddling(HashEncoder):
        def encode(self, texts: Any, **options: Any) -> Any:
            os.utime(source, (1, 1))
            return super().encode(texts, **options)

    with pytest.raises(InputError, match="was changed while"):
        run_job(source, tmp_path / "out.npy", Meddling())
    assert not (tmp_path / "out.npy").exists()


def test_two_runs_on_one_output_do_not_mix(tmp_path: Path, source: Path) -> None:
    store = ChunkStore(tmp_path / "out.npy.partial")
    with store.locked(), pytest.raises(InputError, match="another process"):
        run_job(source, tmp_path / "out.npy")


def test_chunks_depend_on_the_rows_alone() -> None:
    rows = [Row(number=index, text="x" * size) for index, size in enumerate([5, 5, 3_000_000, 5, 5, 5])]
    cuts = [[row.number for row in chunk] for chunk in plan_chunks(rows, 2)]
    assert cuts == [[0, 1], [2], [3, 4], [5]]
