"""Vectors on disk: found again, mended, of one model only, and safe from kill -9 and full disks."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from gnomonic.errors import GnomonicError, InputError
from gnomonic.training.curation import workplace
from gnomonic.training.curation.vectors import VectorStore
from gnomonic.training.curation.words import text_key
from gnomonic.types import TaskType
from tests.training.curation.stand_ins import WordEncoder, curate_then_die, run_all

TEXTS = [f"text number {i}" for i in range(10)]
KEYS = np.array([text_key(text) for text in TEXTS], np.uint64)
QUERY = TaskType.SEARCH_QUERY


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplace, "_CHUNK_ROWS", 3)


def _embed(folder: Path, encoder: WordEncoder | None = None, *, task: TaskType = QUERY, **options: object) -> tuple:
    store = VectorStore(folder, encoder or WordEncoder(), **options)  # type: ignore[arg-type]
    with store.locked():
        found = np.array(store.embed(KEYS, lambda begin, end: TEXTS[begin:end], task, what="texts"))
    return found, store


def test_vectors_are_those_of_the_embedder_and_found_again(tmp_path: Path) -> None:
    expected = WordEncoder().encode(TEXTS).vectors
    found, store = _embed(tmp_path)
    assert np.abs(found - expected).max() < 1e-3
    assert store.embedded == 10
    again, store = _embed(tmp_path)
    assert store.embedded == 0
    assert (again == found).all()


def test_other_texts_tasks_sizes_and_limits_are_embedded_anew(tmp_path: Path) -> None:
    _embed(tmp_path)
    assert _embed(tmp_path, task=TaskType.CLUSTERING)[1].embedded == 10
    assert _embed(tmp_path, dim=8)[0].shape == (10, 8)
    assert _embed(tmp_path, label="max_tokens=16")[1].embedded == 10
    assert _embed(tmp_path)[1].embedded == 0


def test_another_model_is_refused(tmp_path: Path) -> None:
    _embed(tmp_path)
    with pytest.raises(InputError, match=r"another model.*--cache"):
        _embed(tmp_path, WordEncoder("other"))


@pytest.mark.parametrize("damage", ["cut", "flip", "log", "no log"])
def test_damaged_chunks_are_embedded_again(tmp_path: Path, damage: str) -> None:
    expected, _ = _embed(tmp_path)
    (path,) = tmp_path.glob("*.rows")
    log = path.with_suffix(".log")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[:-10])
    elif damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "log":
        log.write_text(log.read_text() + "3 12", encoding="ascii")
    else:
        log.unlink()
    found, store = _embed(tmp_path)
    assert (found == expected).all()
    assert store.embedded == {"cut": 1, "flip": 7, "log": 0, "no log": 10}[damage]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with VectorStore(tmp_path, WordEncoder()).locked(), pytest.raises(InputError, match="another process"):
        _embed(tmp_path)


def test_a_full_disk_says_so_and_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def full(_descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # the probe, two chunks, and then no room
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(workplace.os, "fsync", full)
    with pytest.raises(GnomonicError, match="No space left") as caught:
        _embed(tmp_path)
    assert "run the same command again" in caught.value.hint
    monkeypatch.undo()
    _, store = _embed(tmp_path)
    assert store.embedded == 10 - 2 * 3


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.curation.stand_ins", "pyarrow.parquet"])
    return context


def test_a_run_killed_at_any_change_goes_on_to_the_same_bytes(processes: ForkServerContext, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    complete = WordEncoder()
    run_all(whole, complete)
    expected = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert expected.keys() == {"filtered.parquet", "mined.parquet", "unique.parquet"}
    killed, embedded = 0, []
    for fatal in range(1, 400, 14):
        folder = tmp_path / f"killed-{fatal}"
        folder.mkdir()
        process = processes.Process(target=curate_then_die, args=(folder, fatal))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
        killed += 1
        resumed = WordEncoder()
        run_all(folder, resumed)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected, f"killed at {fatal}"
        embedded.append(len(resumed.texts))
    assert killed > 4
    assert embedded[0] == len(complete.texts)
    assert min(embedded) < len(complete.texts) / 4
