"""Scores of vectors against what people judged; numpy in, one number out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["classification_accuracy", "ndcg_at", "spearman"]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 0, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_rank: NDArray[np.float64] = (ends - counts + ends - 1) / 2
    return mean_rank[inverse]


def spearman(left: Sequence[float] | NDArray[np.float64], right: Sequence[float] | NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation of two lists of equal length, ties sharing their mean rank."""
    a, b = (_ranks(np.asarray(values, np.float64)) for values in (left, right))
    return float(np.corrcoef(a, b)[0, 1])


def ndcg_at(k: int, ranked: Sequence[str], relevant: Mapping[str, float]) -> float:
    """Return nDCG@k of one query with linear gains (Järvelin & Kekäläinen 2002), as trec_eval computes it.

    Args:
        k: depth.
        ranked: document ids, best first.
        relevant: gain by document id; what is absent has gain 0.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = np.array([relevant.get(document, 0.0) for document in ranked[:k]])
    ideal = np.sort(np.array(list(relevant.values()), np.float64))[::-1][:k]
    best = float(ideal @ discounts[: len(ideal)])
    return float(gains @ discounts[: len(gains)]) / best if best else 0.0


def classification_accuracy(
    train: NDArray[np.float32], train_labels: Sequence[str], test: NDArray[np.float32], test_labels: Sequence[str]
) -> float:
    """Fit a logistic regression on the training vectors and return its accuracy on the test vectors.

    Args:
        train: [n, dim]; `train_labels` [n].
        train_labels: the classes.
        test: [m, dim]; `test_labels` [m].
        test_labels: the classes.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000, C=10.0).fit(train, np.asarray(train_labels))
    return float((model.predict(test) == np.asarray(test_labels)).mean())
