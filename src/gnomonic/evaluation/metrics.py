"""Scores of vectors against what people judged; arrays in, one number out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import MissingExtraError

__all__ = ["average_precision", "classification_accuracy", "ndcg_at", "need_sklearn", "spearman", "v_measure"]


def need_sklearn() -> None:
    """Check that scikit-learn can be imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise MissingExtraError("eval", needed_for="evaluation")


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


def average_precision(relevant: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the area under the precision-recall steps: the sum over thresholds of (recall gained) × precision.

    Equal scores fall together, so the order of ties does not matter (as `sklearn.metrics.average_precision_score`).

    Args:
        relevant: [n], at least one of them true.
        scores: [n], higher is better.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(relevant[order])
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    hits, seen = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / seen).sum() / hits[-1])


def classification_accuracy(
    train: NDArray[np.float32],
    train_labels: Sequence[str],
    test: NDArray[np.float32],
    test_labels: Sequence[str],
    *,
    c: float = 10.0,
    max_iter: int = 1000,
) -> float:
    """Fit a logistic regression on the training vectors and return its accuracy on the test vectors.

    Args:
        train: [n, dim].
        train_labels: [n] the classes.
        test: [m, dim].
        test_labels: [m] the classes.
        c: inverse strength of the L2 penalty. Unit vectors have small coordinates, so that a good fit needs large
            weights and scikit-learn's default of 1 is too strict with many training rows.
        max_iter: steps of L-BFGS at most.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # One thread: the products are small, and the threads of two pools that share cores wait for each other.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=max_iter, C=c).fit(train, np.asarray(train_labels))
        return float((model.predict(test) == np.asarray(test_labels)).mean())


def v_measure(vectors: NDArray[np.float32], labels: Sequence[str], *, seed: int) -> float:
    """Cluster into as many groups as there are labels and return the V-measure (Rosenberg & Hirschberg 2007).

    Mini-batch k-means with batches of 500, as in MTEB's clustering tasks.

    Args:
        vectors: [n, dim].
        labels: [n].
        seed: of k-means' starting points.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics.cluster import v_measure_score
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        model = MiniBatchKMeans(n_clusters=len(set(labels)), batch_size=500, n_init="auto", random_state=seed)
        return float(v_measure_score(labels, model.fit(vectors).labels_))
