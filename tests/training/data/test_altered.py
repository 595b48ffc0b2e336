"""Altered copies differ from their texts by some words, and by nothing that the seed does not say."""

from __future__ import annotations

import numpy as np

from gnomonic.training.data.altered import altered_copies

_TEXTS = [f"one{i} two{i} three{i} four{i} five{i} six{i} seven{i} eight{i}" for i in range(40)]


def test_every_copy_is_another_text_of_known_words() -> None:
    copies = altered_copies(_TEXTS, 1.0, np.random.default_rng(0))
    assert len(copies) == len(_TEXTS)
    known = {word for text in _TEXTS for word in text.split()}
    for text, copy in zip(_TEXTS, copies, strict=True):
        kept = set(text.split()) & set(copy.split())
        assert copy
        assert set(copy.split()) <= known
        assert len(kept) >= 4
    # The second half may be the text's own, by chance.
    assert sum(text == copy for text, copy in zip(_TEXTS, copies, strict=True)) <= 2


def test_all_four_ways_occur() -> None:
    copies = altered_copies(_TEXTS, 1.0, np.random.default_rng(1))
    pairs = [(text.split(), copy.split()) for text, copy in zip(_TEXTS, copies, strict=True)]
    assert any(len(copy) < len(text) for text, copy in pairs)
    assert any(copy[:4] == text[:4] and not set(copy[4:]) & set(text[4:]) for text, copy in pairs)
    assert any(sorted(text)[:-1] != sorted(copy)[:-1] and len(set(copy) - set(text)) == 1 for text, copy in pairs)
    assert any(len(set(copy) - set(text)) == 2 for text, copy in pairs)


def test_the_share_and_the_seed_decide() -> None:
    first, again = (altered_copies(_TEXTS, 0.5, np.random.default_rng(7)) for _ in range(2))
    assert first == again
    assert 10 <= len(first) <= 30
    assert altered_copies(_TEXTS, 0.0, np.random.default_rng(7)) == []


def test_texts_too_short_to_change_are_left_out() -> None:
    assert altered_copies(["", "one two", "one two three"], 1.0, np.random.default_rng(0)) != []
    assert len(altered_copies(["", "one two", "one two three"], 1.0, np.random.default_rng(0))) == 1
