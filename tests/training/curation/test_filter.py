"""The consistency filter on texts whose vectors are the mean of their words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from gnomonic.errors import ConfigError, InputError
from gnomonic.training.curation.filter import FilterConfig, consistency_ranks, filter_report
from gnomonic.training.curation.pairs import Pairs
from gnomonic.training.curation.vectors import VectorStore
from tests.training.curation.stand_ins import WordEncoder, pairs_of

GOOD = [{"query": f"a{i} b{i}", "document": f"a{i} b{i} c{i}", "source": "good"} for i in range(12)]
BAD = [{"query": f"q{i} r{i}", "document": f"x{i} y{i}", "source": "bad"} for i in range(40)]


def _ranks(folder: Path, pairs: Pairs, encoder: WordEncoder | None = None, **options: Any) -> np.ndarray:
    store = VectorStore(folder, encoder or WordEncoder())
    with store.locked():
        return consistency_ranks(pairs, store, FilterConfig(**options))


def test_consistent_pairs_rank_first_and_random_ones_do_not(tmp_path: Path) -> None:
    pairs = pairs_of([row for both in zip(GOOD, BAD[:12], strict=True) for row in both] + BAD[12:])
    ranks = _ranks(tmp_path, pairs)
    good = pairs.source == pairs.sources.index("good")
    assert (ranks[good] == 1).all()
    assert (ranks[~good] > 2).mean() > 0.8


def test_only_documents_of_the_same_source_compete(tmp_path: Path) -> None:
    copies = [{**row, "document": row["query"], "source": "copies"} for row in GOOD]
    assert (_ranks(tmp_path, pairs_of(GOOD + copies)) == 1).all()
    joined = [{**row, "source": "one"} for row in GOOD + copies]
    assert (_ranks(tmp_path, pairs_of(joined)) == [2] * 12 + [1] * 12).all()


def test_equal_texts_are_one_document(tmp_path: Path) -> None:
    rows = [{"query": "a b", "document": text} for text in ("a b", "A  b", "a B")]
    rows += [{"query": "z", "document": "z y"}]
    encoder = WordEncoder()
    assert _ranks(tmp_path, pairs_of(rows), encoder).tolist() == [1, 1, 1, 1]
    assert encoder.texts.count("a b") == 2  # as the query and as the document
    assert not {"A  b", "a B"} & set(encoder.texts)


def test_blocks_are_equal_and_of_one_source_and_smaller_ones_are_milder(tmp_path: Path) -> None:
    pairs = pairs_of(BAD)
    whole, parts = _ranks(tmp_path, pairs), _ranks(tmp_path, pairs, block_rows=15)
    assert parts.max() <= 14  # 40 rows in blocks of 13 or 14
    assert parts.sum() < whole.sum()
    assert (_ranks(tmp_path, pairs, block_rows=15) == parts).all()
    assert (_ranks(tmp_path, pairs, block_rows=15, seed=1) != parts).any()


def test_queries_and_documents_get_their_prefixes(tmp_path: Path) -> None:
    encoder = WordEncoder()
    _ranks(tmp_path, pairs_of(GOOD[:1]), encoder, query_task="clustering", document_task="classification")
    given = dict(zip(encoder.texts, encoder.tasks, strict=True))
    assert (given["a0 b0"], given["a0 b0 c0"]) == ("clustering", "classification")


def test_finished_blocks_are_not_computed_again(tmp_path: Path) -> None:
    pairs = pairs_of(GOOD + BAD)
    expected = _ranks(tmp_path, pairs)
    assert not list(tmp_path.glob("*.rows"))
    encoder = WordEncoder()
    assert (_ranks(tmp_path, pairs, encoder) == expected).all()
    assert not set(encoder.texts) & {row["query"] for row in GOOD + BAD}


def test_the_report_counts_by_source_and_shows_the_worst() -> None:
    pairs = pairs_of(GOOD[:3] + BAD[:3])
    report = filter_report(pairs, np.array([1, 2, 3, 40, 500, 1], np.int32), FilterConfig())
    assert (report.rows_in, report.rows_out) == (6, 3)
    assert list(report.sources) == [
        {"source": "good", "rows": 3, "kept": 2, "rank_1": 1},
        {"source": "bad", "rows": 3, "kept": 1, "rank_1": 1},
    ]
    assert [entry["rank"] for entry in report.examples] == [500, 40, 3]
    assert report.examples[0]["query"] == BAD[1]["query"]
    assert sum(report.details.values()) == 6


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match="top_k 0"):
        FilterConfig(top_k=0)
    with pytest.raises(InputError, match="task_type 'poem'"):
        FilterConfig(query_task="poem")
