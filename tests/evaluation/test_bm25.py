from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from gnomonic.evaluation.bm25 import Bm25, words

pytest.importorskip("scipy")

_DOCUMENTS = ["the river bank", "a bank of the river river", "trains run late", "", "late late late trains"]


def _by_definition(query: str, documents: list[str], k1: float, b: float) -> list[float]:
    split = [words(document) for document in documents]
    mean = sum(map(len, split)) / len(split)
    scores = []
    for document in split:
        total = 0.0
        for word in words(query):
            n = sum(word in other for other in split)
            f = Counter(document)[word]
            idf = math.log(1 + (len(split) - n + 0.5) / (n + 0.5))
            total += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(document) / mean)) if f else 0.0
        scores.append(total)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.0), (2.0, 1.0)])
def test_scores_are_those_of_the_formula(k1: float, b: float) -> None:
    queries = ["river bank", "late late trains", "unheard of", ""]
    found = Bm25(_DOCUMENTS, k1=k1, b=b).scores(queries)
    expected = [_by_definition(query, _DOCUMENTS, k1, b) for query in queries]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[1].argmax() == 4


def test_identifiers_fall_apart_and_plurals_meet() -> None:
    assert words("parseHTTPHeader2 snake_case") == ["parse", "http", "header", "2", "snake", "case"]
    assert words("Trains pass us gas") == ["train", "pass", "us", "gas"]
    assert words("naïve Größe 水") == ["naïve", "größe", "水"]


def test_no_documents_and_no_queries() -> None:
    assert Bm25([]).scores(["a"]).shape == (1, 0)
    assert Bm25(["a"]).scores([]).shape == (0, 1)
