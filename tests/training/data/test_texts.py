"""Texts of any file, for a vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from gnomonic.errors import ConfigError
from gnomonic.training.data.texts import iter_texts


def _write(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"text": "ärger"}\n{"text": "zwei wörter"}\n', encoding="utf-8")
    (folder / "b.csv").write_text("query,document,title\nq,d,t\nr,e,t\n", encoding="utf-8")


def test_every_text_column_of_every_file_is_read(tmp_path: Path) -> None:
    _write(tmp_path)
    texts = list(iter_texts(["*.jsonl", "*.csv"], tmp_path, cache=tmp_path / "cache"))
    assert texts == ["ärger", "zwei wörter", "q", "r", "d", "e"]
    assert list(iter_texts([tmp_path / "b.csv"], columns=["document"], cache=tmp_path / "cache")) == ["d", "e"]


def test_texts_are_cut(tmp_path: Path) -> None:
    _write(tmp_path)
    assert list(iter_texts(["a.jsonl"], tmp_path, max_chars=4, cache=tmp_path / "cache")) == ["ärge", "zwei"]


def test_a_file_without_the_columns_asked_for(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(ConfigError, match=r"no file has one of the columns \['text'\]"):
        next(iter_texts(["b.csv"], tmp_path, columns=["text"], cache=tmp_path / "cache"))
