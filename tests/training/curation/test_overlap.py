"""Rows that hold evaluation texts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

from gnomonic.errors import ConfigError, InputError  # noqa: E402
from gnomonic.training.curation import overlap as module  # noqa: E402
from gnomonic.training.curation.dedup import DedupConfig, dedup_report, find_duplicates  # noqa: E402
from gnomonic.training.curation.overlap import Judged, OverlapConfig, find_overlap, read_judged  # noqa: E402
from tests.training.curation.stand_ins import Scratch, pairs_of  # noqa: E402

STORY = (
    "a small ship left the harbour before dawn and sailed north along the rocky coast until the wind turned and the "
    "captain ordered all hands to take in the great sail while rain fell on the grey water for two long days"
)


def _judged(*texts: str) -> Judged:
    return Judged(files=("ret_one", "cls_two"), texts=texts, file=np.arange(len(texts)) % 2)


def _found(documents: list[str], judged: Judged, **options: float) -> list[int]:
    pairs = pairs_of([{"query": f"q{i}", "document": text} for i, text in enumerate(documents)])
    return find_overlap(pairs, judged, OverlapConfig(**options), Scratch()).text.tolist()  # type: ignore[arg-type]


def test_equal_texts_are_found_in_queries_and_documents() -> None:
    pairs = pairs_of(
        [
            {"query": "  DOG", "document": "x"},
            {"query": "y", "document": "what is it?"},
            {"query": "z", "document": "dog cat"},
        ]
    )
    found = find_overlap(pairs, _judged("What is it?", "dog"), OverlapConfig(), Scratch())
    assert found.text.tolist() == [1, 0, -1]
    assert found.exact.tolist() == [True, True, False]


def test_a_text_is_found_inside_a_longer_one_either_way() -> None:
    words = STORY.split()
    inside = "first some other words . " + STORY.upper() + " ! and then some more of other words"
    part = " ".join(words[5:30])
    half = " ".join(words[:20]) + " but then " + " ".join(f"new{i}" for i in range(20))
    assert _found([inside, part, half, "none of it"], _judged("unlike", STORY)) == [1, 1, -1, -1]
    assert _found([half], _judged("unlike", STORY), containment=0.3) == [1]


def test_the_runs_length_decides_how_much_is_chance() -> None:
    text = "the captain ordered all hands to take cover"
    assert _found([text], _judged(STORY)) == [-1]
    assert _found([text], _judged(STORY), ngram=4) == [0]


def test_the_same_few_words_are_found_and_a_few_words_inside_others_are_not() -> None:
    assert _found(["Left, the harbour!", "we left the harbour late"], _judged("left the harbour")) == [0, -1]


def test_the_text_that_is_shared_most_is_named() -> None:
    words = STORY.split()
    judged = _judged(" ".join(words[:12]) + " x y z", STORY)
    assert _found([STORY + " end"], judged, containment=0.2) == [1]


def test_a_phrase_of_very_many_texts_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMON", 4)
    judged = _judged(*(f"{STORY} {i}" for i in range(6)))
    assert _found([STORY], judged) == [-1]
    monkeypatch.setattr(module, "_COMMON", 6)
    assert _found([STORY], judged) != [-1]


def test_evaluation_files_of_every_kind_are_read(tmp_path: Path) -> None:
    lines = [
        {"type": "query", "id": "the id", "text": "one"},
        {"type": "qrel", "qid": "a", "did": "b", "score": 1},
        {"sentence1": "two", "sentence2": "three", "label": "the label"},
        {"query": "four", "positive": ["five"], "negative": ["six", "one"]},
    ]
    with gzip.open(tmp_path / "ret_x.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, lines)))
    pq.write_table(pa.table({"query": ["seven"], "document": ["eight"]}), tmp_path / "more.parquet")
    judged = read_judged([tmp_path / "ret_x.jsonl.gz", tmp_path / "more.parquet"])
    assert set(judged.texts) == {"one", "two", "three", "four", "five", "six", "seven", "eight"}
    assert judged.files == ("ret_x.jsonl.gz", "more.parquet")
    assert np.bincount(judged.file).tolist() == [6, 2]


def test_a_damaged_or_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cls_x.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(InputError, match=r"cls_x\.jsonl, line 2"):
        read_judged([path])
    path.write_text('{"label": "a"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="no text"):
        read_judged([path])


def test_the_report_counts_by_evaluation_file() -> None:
    pairs = pairs_of(
        [{"query": "a", "document": STORY}, {"query": "b", "document": "dog"}, {"query": "c", "document": "d"}]
    )
    judged = _judged(STORY + " x", "dog")
    found, overlap = (
        find_duplicates(pairs, DedupConfig(), Scratch()),
        find_overlap(pairs, judged, OverlapConfig(), Scratch()),
    )
    report = dedup_report(pairs, found, DedupConfig(), overlap=overlap, judged=judged)
    assert report.rows_out == 1
    assert report.details["rows equal to an evaluation text"] == 1
    assert report.details["rows that share most of an evaluation text"] == 1
    assert report.details["cls_two: rows"] == 1
    assert report.sources[0]["in_evaluation"] == 2
    assert {entry["reason"] for entry in report.examples} == {"in ret_one", "in cls_two"}
    assert overlap.by_file(judged)[1]["rows_equal"] == 1


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match="ngram 1"):
        OverlapConfig(ngram=1)
    with pytest.raises(ConfigError, match="containment 0"):
        OverlapConfig(containment=0)


def test_an_equal_text_is_named_before_one_that_is_shared_in_part() -> None:
    pairs = pairs_of([{"query": f"{STORY} and more", "document": "dog"}])
    found = find_overlap(pairs, _judged(STORY, "dog"), OverlapConfig(), Scratch())
    assert (found.text.tolist(), found.exact.tolist()) == ([1], [True])
