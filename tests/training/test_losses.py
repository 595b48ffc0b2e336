"""The losses against sums written out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from gnomonic.training.losses import info_nce, matryoshka_info_nce  # noqa: E402


def test_info_nce_is_the_mean_log_share_of_the_own_document() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    documents = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    expected = -math.log(math.exp(0.8 / 0.5) / (math.exp(0.8 / 0.5) + math.exp(0.6 / 0.5)))
    assert float(info_nce(queries, documents, 0.5)) == pytest.approx(expected, rel=1e-5)


def test_an_ignored_document_is_no_negative() -> None:
    queries = documents = torch.nn.functional.normalize(torch.randn(3, 4), dim=1)
    ignore = ~torch.eye(3, dtype=torch.bool)
    assert float(info_nce(queries, documents, 0.05, ignore)) == pytest.approx(0.0, abs=1e-6)


def test_matryoshka_averages_the_prefixes_after_a_layer_norm_over_the_full_width() -> None:
    torch.manual_seed(0)
    queries, documents = torch.randn(5, 8) * 3 + 1, torch.randn(5, 8)
    total = 0.0
    for dim in (8, 4):
        sides = []
        for x in (queries, documents):
            normed = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, unbiased=False, keepdim=True) + 1e-5)
            cut = normed[:, :dim]
            sides.append(cut / cut.norm(dim=1, keepdim=True))
        scores = sides[0] @ sides[1].T / 0.1
        total += float(-torch.log_softmax(scores, 1).diagonal().mean())
    assert float(matryoshka_info_nce(queries, documents, 0.1, (8, 4))) == pytest.approx(total / 2, rel=1e-5)
