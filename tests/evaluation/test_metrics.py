"""The metrics against their definitions and against scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from gnomonic.evaluation.metrics import classification_accuracy, ndcg_at, spearman


def test_spearman_agrees_with_scipy_with_ties() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 6, 200), rng.normal(size=200)
    right = right + 0.2 * left
    assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic, abs=1e-12)


def test_ndcg_of_a_perfect_and_of_a_known_ranking() -> None:
    assert ndcg_at(10, ["a", "b", "c"], {"a": 1, "b": 1}) == pytest.approx(1.0)
    expected = (1 / np.log2(3)) / 1.0
    assert ndcg_at(10, ["x", "a"], {"a": 1}) == pytest.approx(expected)
    assert ndcg_at(1, ["x", "a"], {"a": 1}) == 0.0


def test_ndcg_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    gains, scores = rng.integers(0, 4, 30), rng.permutation(30)
    names = [str(i) for i in range(30)]
    ranked = [names[i] for i in np.argsort(-scores)]
    ours = ndcg_at(10, ranked, {n: float(g) for n, g in zip(names, gains, strict=True)})
    assert ours == pytest.approx(metrics.ndcg_score([gains], [scores], k=10), abs=1e-9)


def test_classification_separates_what_is_separable() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(2)
    centres = np.eye(3, 8, dtype=np.float32) * 4
    labels = [str(i % 3) for i in range(60)]
    vectors = centres[[int(label) for label in labels]] + rng.normal(size=(60, 8)).astype(np.float32) * 0.1
    assert classification_accuracy(vectors, labels, vectors, labels) == 1.0
    assert classification_accuracy(vectors, labels, vectors, ["0"] * 60) == pytest.approx(1 / 3)
