"""The losses against sums written out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from gnomonic.training.losses import (  # noqa: E402
    embedding_distillation,
    info_nce,
    matryoshka_info_nce,
    similarity_distillation,
)


def _unit(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_info_nce_is_the_mean_log_share_of_the_own_document() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    documents = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    expected = -math.log(math.exp(0.8 / 0.5) / (math.exp(0.8 / 0.5) + math.exp(0.6 / 0.5)))
    assert float(info_nce(queries, documents, 0.5)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("target", [2, torch.tensor([5, 0, 3])])
def test_the_own_document_may_stand_anywhere_among_negatives(target: int | torch.Tensor) -> None:
    queries, documents = _unit(3, 4), _unit(7, 4, seed=1)
    own = [2, 3, 4] if isinstance(target, int) else target.tolist()
    total = 0.0
    for i, column in enumerate(own):
        shares = [math.exp(float(queries[i] @ documents[j]) / 0.2) for j in range(7)]
        total -= math.log(shares[column] / sum(shares))
    assert float(info_nce(queries, documents, 0.2, target=target)) == pytest.approx(total / 3, rel=1e-5)


def test_an_ignored_document_is_no_negative() -> None:
    queries, documents = _unit(3, 4), _unit(5, 4, seed=1)
    without = info_nce(queries, documents[:4], 0.05)
    ignore = torch.zeros(3, 5, dtype=torch.bool)
    ignore[:, 4] = True
    assert float(info_nce(queries, documents, 0.05, ignore=ignore)) == pytest.approx(float(without), rel=1e-6)
    assert float(info_nce(queries, documents, 0.05)) > float(without)


def test_matryoshka_averages_the_prefixes_after_a_layer_norm_over_the_full_width() -> None:
    torch.manual_seed(0)
    queries, documents = torch.randn(5, 8) * 3 + 1, torch.randn(9, 8)
    ignore = torch.zeros(5, 9, dtype=torch.bool)
    ignore[1, 8] = True
    total = 0.0
    for dim in (8, 4):
        sides = []
        for x in (queries, documents):
            normed = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, unbiased=False, keepdim=True) + 1e-5)
            cut = normed[:, :dim]
            sides.append(cut / cut.norm(dim=1, keepdim=True))
        scores = (sides[0] @ sides[1].T / 0.1).masked_fill(ignore, float("-inf"))
        total += float(-torch.log_softmax(scores, 1).diagonal(offset=2).mean())
    found = matryoshka_info_nce(queries, documents, temperature=0.1, dims=(8, 4), target=2, ignore=ignore)
    assert float(found) == pytest.approx(total / 2, rel=1e-5)


def test_autocast_does_not_round_the_similarities() -> None:
    queries, documents = _unit(16, 32), _unit(16, 32, seed=1)
    plain = matryoshka_info_nce(queries, documents, temperature=0.02, dims=(32, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = matryoshka_info_nce(queries, documents, temperature=0.02, dims=(32, 16))
    assert inside.dtype == torch.float32
    assert float(inside) == float(plain)


def test_embedding_distillation_looks_at_directions_and_trains_the_student_alone() -> None:
    students, teachers = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0]])
    students.requires_grad_()
    teachers.requires_grad_()
    loss = embedding_distillation(students, teachers)
    loss.backward()
    assert loss.item() == pytest.approx((0.0 + 1.0) / 2)
    assert teachers.grad is None
    assert float(students.grad[1, 0]) < 0


def test_similarity_distillation_is_the_divergence_from_the_teachers_ranking() -> None:
    students, teachers = torch.tensor([[0.1, 0.5, 0.9]]), torch.tensor([[0.7, 0.2, 0.4]])
    p, q = ([math.exp(x / 0.5) for x in row[0].tolist()] for row in (teachers, students))
    p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(similarity_distillation(students, teachers, temperature=0.5)) == pytest.approx(expected, rel=1e-5)
    assert float(similarity_distillation(teachers, teachers, temperature=0.5)) == pytest.approx(0.0, abs=1e-6)


def test_an_ignored_document_takes_no_part_in_the_ranking() -> None:
    students, teachers = _unit(4, 6).requires_grad_(), _unit(4, 6, seed=1)
    ignore = torch.zeros(4, 6, dtype=torch.bool)
    ignore[:, 5] = True
    masked = similarity_distillation(students, teachers, temperature=0.1, ignore=ignore)
    cut = similarity_distillation(students[:, :5], teachers[:, :5], temperature=0.1)
    assert masked.item() == pytest.approx(cut.item(), rel=1e-5)
    masked.backward()
    assert torch.isfinite(students.grad).all()
    assert float(students.grad[:, 5].abs().sum()) == 0.0
