"""Duplicates: what is dropped is as alike as asked for, and what is that alike is found."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from gnomonic.errors import ConfigError
from gnomonic.training.curation import dedup, workplace
from gnomonic.training.curation.dedup import DedupConfig, Duplicates, band_shape, dedup_report, find_duplicates
from gnomonic.training.curation.pairs import Pairs
from gnomonic.training.curation.words import Ngrams
from tests.training.curation.stand_ins import Scratch, pairs_of

LONG = "the quick brown fox jumps over the lazy dog while seven wizards brew a strange potion in the old stone tower"


def _keepers(documents: list[str], **options: object) -> list[int]:
    pairs = pairs_of([{"query": "what is it", "document": text} for text in documents])
    return find_duplicates(pairs, DedupConfig(**options), Scratch()).keeper.tolist()  # type: ignore[arg-type]


def test_the_first_of_equal_rows_stays() -> None:
    found = find_duplicates(
        pairs_of([{"query": q, "document": d} for q, d in [("A", "x y"), ("b", "x y"), ("a ", "X  y"), ("a", "z")]]),
        DedupConfig(),
        Scratch(),
    )
    assert found.keeper.tolist() == [0, 1, 0, 3]
    assert found.exact.tolist() == [False, False, True, False]
    assert found.kept.tolist() == [True, True, False, True]


def test_small_changes_are_duplicates_and_larger_ones_are_not() -> None:
    near = LONG.replace("strange", "weird")
    far = " ".join(reversed(LONG.split()))
    assert _keepers([LONG, far, near, f"{LONG}!"], similarity=0.7) == [0, 1, 0, 0]
    assert _keepers([LONG, far, near, f"{LONG}!"], similarity=1.0) == [0, 1, 2, 3]
    assert _keepers([LONG, far, near], similarity=0.95) == [0, 1, 2]


def test_both_the_query_and_the_document_must_be_alike() -> None:
    rows = [{"query": f"question number {i} of many", "document": LONG} for i in range(3)]
    rows.append({"query": rows[0]["query"].upper() + "?", "document": LONG + "."})
    pairs = pairs_of(rows)
    assert find_duplicates(pairs, DedupConfig(), Scratch()).keeper.tolist() == [0, 1, 2, 0]
    assert find_duplicates(pairs, DedupConfig(by="document"), Scratch()).keeper.tolist() == [0, 0, 0, 0]
    assert find_duplicates(pairs, DedupConfig(by="query"), Scratch()).keeper.tolist() == [0, 1, 2, 0]


def _versions(seed: int) -> list[str]:
    """Families of texts whose members differ by few to many words."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(25):
        base = [f"w{number}" for number in rng.integers(0, 3000, 60)]
        for changes in (0, 1, 2, 4, 8, 16):
            changed = list(base)
            for place in rng.integers(0, 60, changes):
                changed[place] = f"v{rng.integers(0, 3000)}"
            texts.append(" ".join(changed))
    return [texts[i] for i in rng.permutation(len(texts))]


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.9])
def test_what_is_dropped_is_alike_and_what_is_alike_is_dropped(similarity: float) -> None:
    texts = _versions(1)
    keeper = _keepers(texts, similarity=similarity)
    sets = Ngrams(3).sets(texts)
    likeness = np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])
    for row, target in enumerate(keeper):
        assert keeper[target] == target
        assert target == row or likeness[row, target] >= similarity
    kept = [row for row, target in enumerate(keeper) if row == target]
    missed = [(i, j) for i in kept for j in kept if i < j and likeness[i, j] >= similarity]
    assert len(missed) <= 0.02 * (len(texts) - len(kept))
    assert len(kept) < len(texts)


def test_a_chain_of_small_changes_does_not_join_its_ends() -> None:
    words = [f"w{i}" for i in range(40)]
    chain = []
    for step in range(20):
        words[step] = f"changed{step}"
        chain.append(" ".join(words))
    keeper = _keepers(chain, similarity=0.8)
    assert keeper[1] == 0
    assert keeper[-1] != 0
    sets = Ngrams(3).sets(chain)
    assert all(len(sets[i] & sets[k]) >= 0.8 * len(sets[i] | sets[k]) for i, k in enumerate(keeper))


def test_a_crowd_of_alike_rows_is_cheap_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    plain = dedup._jaccard

    def count(left: frozenset[int], right: frozenset[int]) -> float:
        nonlocal compared
        compared += 1
        return plain(left, right)

    monkeypatch.setattr(dedup, "_jaccard", count)
    assert _keepers([f"{LONG} {i}" for i in range(300)]) == [0] * 300
    assert compared <= 2 * 300


def test_batches_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = _versions(2)
    expected = _keepers(texts)
    monkeypatch.setattr(workplace, "_CHUNK_ROWS", 7)
    monkeypatch.setattr(dedup, "_BATCH_PAIRS", 5)
    assert _keepers(texts) == expected


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 0.95, 0.9999])
def test_bands_find_what_is_alike(similarity: float) -> None:
    bands, size = band_shape(similarity)
    assert bands * size <= 128
    assert 1 - (1 - similarity**size) ** bands >= 0.999


def test_texts_of_few_or_no_words_are_no_trouble() -> None:
    assert _keepers(["a", "++", "b", "--", "A.", "a b"]) == [0, 1, 2, 3, 0, 5]
    assert _keepers(["日本語の文章です", "日本語の文章でした", "全然違う言葉だけ"], similarity=0.5) == [0, 0, 2]


def test_the_report_shows_what_was_dropped_and_for_what() -> None:
    pairs: Pairs = pairs_of([{"query": "q", "document": LONG}, {"query": "q", "document": LONG + " x"}] * 2)
    found = find_duplicates(pairs, DedupConfig(), Scratch())
    report = dedup_report(pairs, found, DedupConfig())
    assert (report.rows_in, report.rows_out) == (4, 1)
    assert report.details == {"exact duplicates": 2, "near duplicates": 1}
    (entry,) = report.examples
    assert entry["document"].endswith(" x")
    assert isinstance(found, Duplicates)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"by": "all"}, "'all'"), ({"similarity": 0.1}, "similarity 0.1"), ({"shingle": 0}, "shingle 0")],
)
def test_settings_out_of_range_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DedupConfig(**options)  # type: ignore[arg-type]


def test_a_run_cut_off_while_comparing_goes_on_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pairs_of([{"query": "what is it", "document": text} for text in _versions(3)])
    expected = find_duplicates(pairs, DedupConfig(), Scratch()).keeper
    monkeypatch.setattr(dedup, "_BATCH_PAIRS", 5)
    monkeypatch.setattr(dedup, "_SAVE_EVERY", 2)
    place, plain, compared = Scratch(), dedup._compare, []

    def compare(pairs: Pairs, config: DedupConfig, candidates: np.ndarray, root: np.ndarray) -> None:
        if len(compared) == 9:
            raise KeyboardInterrupt
        compared.append(candidates)
        plain(pairs, config, candidates, root)

    monkeypatch.setattr(dedup, "_compare", compare)
    with pytest.raises(KeyboardInterrupt):
        find_duplicates(pairs, DedupConfig(), place)
    first = list(compared)
    compared.clear()
    monkeypatch.setattr(dedup, "_compare", lambda *arguments: (compared.append(arguments[2]), plain(*arguments)))
    assert find_duplicates(pairs, DedupConfig(), place).keeper.tolist() == expected.tolist()
    assert compared[0].tolist() == first[8].tolist(), "saved after every second batch, so the ninth comes again"
