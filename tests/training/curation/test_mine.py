"""Hard negatives: hard, and never an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from gnomonic.errors import ConfigError
from gnomonic.training.curation import mine as mining
from gnomonic.training.curation.mine import MineConfig, Mined, mine, mine_report, negatives_of
from gnomonic.training.curation.pairs import Pairs
from gnomonic.training.curation.vectors import VectorStore
from tests.training.curation.stand_ins import WordEncoder, pairs_of

ROWS = [
    {"query": f"t{i % 5} q{i} e{i}", "document": f"t{i % 5} q{i} d{i} f{i}", "source": f"s{i % 2}"} for i in range(60)
]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "_TILE", 8)
    monkeypatch.setattr(mining, "_SAVED", 16)


def _mine(folder: Path, pairs: Pairs, encoder: WordEncoder | None = None, **options: Any) -> Mined:
    store = VectorStore(folder, encoder or WordEncoder())
    with store.locked():
        return mine(pairs, store, MineConfig(**{"negatives": 3, "pool": 6, **options}))


def _texts(pairs: Pairs, mined: Mined) -> list[list[str]]:
    return negatives_of(pairs, mined)(0, len(pairs))


def _cosines(rows: list[dict[str, str]]) -> np.ndarray:
    encode = WordEncoder().encode
    queries, documents = (encode([row[name] for row in rows]).vectors for name in ("query", "document"))
    return queries @ documents.T


def test_the_hardest_are_the_best_of_the_source_below_the_margin(tmp_path: Path) -> None:
    mined = _mine(tmp_path, pairs_of(ROWS), sampling="hardest")
    scores = _cosines(ROWS)
    for i in range(60):
        allowed = [d for d in range(60) if d % 2 == i % 2 and d != i and scores[i, d] < 0.95 * scores[i, i]]
        assert mined.documents[i].tolist() == sorted(allowed, key=lambda d: -scores[i, d])[:3]
        assert mined.negative_scores[i] == pytest.approx(scores[i, mined.documents[i]].mean(), abs=1e-3)


def test_random_ones_come_from_the_pool_and_from_the_seed(tmp_path: Path) -> None:
    pairs = pairs_of(ROWS)
    pool = _mine(tmp_path, pairs, sampling="hardest", negatives=6).documents
    one, again, other = (_mine(tmp_path, pairs, seed=seed).documents for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()
    for found in (one, other):
        assert all(set(row) <= set(best) and len(set(row)) == 3 for row, best in zip(found, pool, strict=True))
    places = [list(best).index(item) for row, best in zip(one, pool, strict=True) for item in row]
    assert len(set(places)) == 6
    assert places == [place for row in np.sort(np.reshape(places, (-1, 3)), axis=1) for place in row]


def test_no_document_of_the_same_query_is_a_negative(tmp_path: Path) -> None:
    rows = [{"query": " The  Q", "document": f"q answer{i}"} for i in range(6)]
    rows += [{"query": "the q", "document": f"other{i}"} for i in range(4)]
    rows += [{"query": "x y", "document": f"q answer{i} z"} for i in range(3)]
    for texts in _texts(pairs := pairs_of(rows), _mine(tmp_path, pairs, pool=20, margin=1.0))[:10]:
        assert not set(texts) & {row["document"] for row in rows[:10]}


def test_the_positive_in_other_words_is_no_negative(tmp_path: Path) -> None:
    common = "the long text of some document that has very many words in it and goes on and on for a while"
    rows = [{"query": "text document words unique", "document": f"{common} unique"}]
    rows += [{"query": f"q{i}", "document": f"{common} u{i}"} for i in range(3)]
    rows += [{"query": f"r{i}", "document": f"text {i}"} for i in range(3)]
    pairs = pairs_of(rows)
    options = {"margin": 1.0, "pool": 6}
    assert not any(common in text for text in _texts(pairs, _mine(tmp_path, pairs, **options))[0])
    strict = _texts(pairs, _mine(tmp_path, pairs, duplicate_similarity=1.0, **options))[0]
    assert any(common in text for text in strict)


def test_what_is_as_close_as_the_positive_is_suspected(tmp_path: Path) -> None:
    rows = [{"query": "a b", "document": "a c"}, {"query": "z", "document": "a b d"}]
    rows += [{"query": f"n{i}", "document": f"a m{i} o{i} p{i}"} for i in range(3)]
    pairs = pairs_of(rows)
    mined = _mine(tmp_path, pairs)
    assert mined.suspects[0] == 1
    assert "a b d" not in _texts(pairs, mined)[0]


def test_a_margin_below_a_negative_score_is_still_below_it(tmp_path: Path) -> None:
    rows = [{"query": f"q{i}", "document": f"d{i}"} for i in range(80)]
    mined = _mine(tmp_path, pairs_of(rows), sampling="hardest")
    scores = _cosines(rows)
    below = 0
    for i in np.flatnonzero(mined.positive_scores < -0.05):
        found = mined.documents[i][mined.documents[i] >= 0]
        below += len(found)
        assert (scores[i, found] < 1.05 * scores[i, i] + 1e-3).all()
    assert below > 20


def test_negatives_that_are_there_stay_first_and_are_not_found_again(tmp_path: Path) -> None:
    best = _texts(pairs_of(ROWS), _mine(tmp_path / "a", pairs_of(ROWS), sampling="hardest"))
    rows = [{**row, "negatives": ["my own", found[0].upper()]} for row, found in zip(ROWS, best, strict=True)]
    pairs = pairs_of(rows)
    for row, texts, before in zip(rows, _texts(pairs, _mine(tmp_path / "b", pairs)), best, strict=True):
        assert texts[:2] == row["negatives"]
        assert len(texts) == 5
        assert before[0] not in texts


def test_a_corpus_is_searched_too(tmp_path: Path) -> None:
    rows = ROWS[:4]
    corpus = [f"t{i % 5} g{i} h{i} i{i}" for i in range(40)] + [ROWS[1]["document"]]
    pairs = pairs_of(rows, corpus=corpus)
    texts = _texts(pairs, _mine(tmp_path, pairs))
    assert all(set(found) <= {*corpus, *(row["document"] for row in rows)} for found in texts)
    assert all(len(set(found) & set(corpus[:40])) >= 2 for found in texts)
    assert all(row["document"] not in found for row, found in zip(rows, texts, strict=True))


def test_all_sources_are_searched_when_asked_to(tmp_path: Path) -> None:
    mined = _mine(tmp_path, pairs_of(ROWS), across_sources=True, sampling="hardest")
    assert ((mined.documents % 2) != (np.arange(60) % 2)[:, None]).any()


def test_few_documents_give_few_negatives_and_the_report_says_so(tmp_path: Path) -> None:
    rows = [{"query": "a", "document": "a b c", "source": "small"}, {"query": "d", "document": "e", "source": "alone"}]
    rows += [{"query": "f", "document": "g h", "source": "small"}]
    pairs = pairs_of(rows)
    mined = _mine(tmp_path, pairs)
    assert _texts(pairs, mined)[:2] == [["g h"], []]
    report = mine_report(pairs, mined, MineConfig(negatives=3))
    assert report.details["rows with fewer than asked for"] == 3
    assert report.sources[1] == {"source": "alone", "rows": 1, "full": 0, "none": 1}


def test_finished_parts_are_not_computed_again(tmp_path: Path) -> None:
    pairs = pairs_of(ROWS)
    expected = _mine(tmp_path, pairs).documents
    encoder = WordEncoder()
    assert (_mine(tmp_path, pairs, encoder).documents == expected).all()
    assert not set(encoder.texts) & {row["query"] for row in ROWS}
    assert not list(tmp_path.glob("*.rows"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "negatives 0"),
        ({"negatives": 8, "pool": 7}, "pool 7 is smaller than negatives 8"),
        ({"margin": 1.5}, "margin 1.5"),
        ({"sampling": "best"}, "'best'.*random or hardest"),
    ],
)
def test_settings_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MineConfig(**options)
