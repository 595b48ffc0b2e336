"""When two texts are the same, and the hashed runs of words."""

from __future__ import annotations

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

from gnomonic.training.curation.words import Ngrams, column_keys, normalise, text_key, words  # noqa: E402


@pytest.mark.parametrize(
    ("left", "right"),
    [("Two  words", " two\twords\n"), ("STRASSE", "straße"), ("ﬁsh ①", "fish 1"), ("e\u0301te\u0301", "été")],
)
def test_texts_that_read_the_same_have_one_key(left: str, right: str) -> None:
    assert text_key(left) == text_key(right)


@pytest.mark.parametrize(("left", "right"), [("a + b", "a - b"), ("two words", "twowords"), ("x", "y"), ("1.5", "15")])
def test_texts_that_differ_have_two_keys(left: str, right: str) -> None:
    assert text_key(left) != text_key(right)


def test_a_column_is_read_across_chunks() -> None:
    column = pa.chunked_array([["A", "b"], [], ["a", "c"]], pa.string())
    keys = column_keys(pa.table({"query": column}), "query")
    assert keys.tolist() == [text_key(text) for text in "abac"]


def test_words_are_letters_and_digits_and_each_ideograph() -> None:
    assert words("Don't stop_here, 3.5× 日本 한국") == ["don", "t", "stop_here", "3", "5", "日", "本", "한", "국"]
    assert normalise(" \n") == ""


def test_the_runs_of_a_text_do_not_depend_on_its_neighbours() -> None:
    texts = ["a b c d e", "", "x", "++", "c d e", "a b c d e"]
    ngrams = Ngrams(3)
    hashes, starts = ngrams.of(texts)
    assert np.diff(starts).tolist() == [3, 1, 1, 1, 1, 3]
    for text, begin, end in zip(texts, starts[:-1], starts[1:], strict=True):
        assert Ngrams(3).of([text])[0].tolist() == hashes[begin:end].tolist()
    sets = ngrams.sets(texts)
    assert sets[4] < sets[0] == sets[5]
    assert len({next(iter(found)) for found in sets[1:4]}) == 3


def test_runs_have_an_order() -> None:
    one, two = Ngrams(2).sets(["a b", "b a"])
    assert not one & two
