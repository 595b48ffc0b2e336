"""Losses: tensors in, a scalar out; nothing here knows models, files or steps.

Each computes in float32 at least (float64 stays), autocast or not: a temperature of 0.02 multiplies the rounding of a
similarity by fifty.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["embedding_distillation", "info_nce", "matryoshka_info_nce", "similarity_distillation"]


def _full(x: Tensor) -> Tensor:
    """Return the tensor in float32, or as it is when it has more."""
    return x if x.dtype == torch.float64 else x.float()


def info_nce(
    queries: Tensor,
    documents: Tensor,
    temperature: float,
    *,
    target: int | Tensor = 0,
    ignore: Tensor | None = None,
) -> Tensor:
    """Contrast each query with its own document against all the others.

    InfoNCE (arXiv 1807.03748, eq. 4) over cosine similarities divided by a fixed temperature.

    Args:
        queries: [n, dim], unit rows.
        documents: [m, dim], unit rows, m ≥ n: the queries' own documents among those of other ranks and hard negatives.
        temperature: above 0.
        target: which document is each query's own: [n] int64, or k for document k + i of query i.
        ignore: [n, m] bool; True takes a document out of a query's negatives, such as a second copy of its own
            document. False at every target.

    Returns:
        The mean loss over the n queries, a float32 scalar.
    """
    with torch.autocast(queries.device.type, enabled=False):
        scores = _full(queries) @ _full(documents).T / temperature
        if ignore is not None:
            scores = scores.masked_fill(ignore, float("-inf"))
        if isinstance(target, int):
            target = torch.arange(target, target + len(queries), device=scores.device)
        return F.cross_entropy(scores, target)


def matryoshka_info_nce(
    queries: Tensor,
    documents: Tensor,
    *,
    temperature: float,
    dims: Sequence[int],
    target: int | Tensor = 0,
    ignore: Tensor | None = None,
) -> Tensor:
    """Average InfoNCE over nested prefixes of the vectors (Matryoshka, arXiv 2205.13147, eq. 1, equal weights).

    As in nomic-embed-text-v1.5, a layer norm without affine (eps 1e-5) over the full width comes first, then each
    prefix is cut and scaled to unit length.

    Args:
        queries: [n, hidden_size], pooled.
        documents: [m, hidden_size], pooled.
        temperature: above 0.
        dims: sizes of the prefixes, each 1 … hidden_size.
        target: see `info_nce`.
        ignore: see `info_nce`.

    Returns:
        The mean loss over queries and prefixes, a float32 scalar.
    """
    with torch.autocast(queries.device.type, enabled=False):
        width = (queries.shape[1],)
        queries, documents = (F.layer_norm(_full(x), width, eps=1e-5) for x in (queries, documents))
        losses = [
            info_nce(_prefix(queries, dim), _prefix(documents, dim), temperature, target=target, ignore=ignore)
            for dim in dims
        ]
        return torch.stack(losses).mean()


def _prefix(x: Tensor, dim: int) -> Tensor:
    return F.normalize(x[:, :dim], dim=1)


def embedding_distillation(students: Tensor, teachers: Tensor) -> Tensor:
    """Pull each student vector towards the teacher's vector of the same text: the mean of 1 - cosine.

    For unit vectors this is half the squared distance, the loss of sentence-transformers' multilingual distillation
    (arXiv 2004.09813, eq. 1) once lengths are set aside.

    Args:
        students: [n, dim].
        teachers: [n, dim]; no gradient flows into them.

    Returns:
        The mean over the n texts, a float32 scalar between 0 and 2.
    """
    with torch.autocast(students.device.type, enabled=False):
        return (1 - F.cosine_similarity(_full(students), _full(teachers.detach()), dim=1)).mean()


def similarity_distillation(
    students: Tensor, teachers: Tensor, *, temperature: float, ignore: Tensor | None = None
) -> Tensor:
    """Have the student rank documents as the teacher does, whatever the two models' dimensions.

    Kullback-Leibler divergence from the teacher's to the student's distribution over a query's documents (knowledge
    distillation, arXiv 1503.02531, §2, over similarities in place of class scores), not multiplied by temperature².

    Args:
        students: [n, m] cosine similarities of n queries and m documents.
        teachers: [n, m] the teacher's; no gradient flows into them.
        temperature: divides both; above 0.
        ignore: [n, m] bool; True takes a document out of both distributions. At least one per row stays.

    Returns:
        The mean over the n queries, a float32 scalar, 0 when the two agree.
    """
    with torch.autocast(students.device.type, enabled=False):
        student, teacher = _full(students) / temperature, _full(teachers.detach()) / temperature
        if ignore is not None:
            # The lowest finite number: a share of exactly 0, without the 0 × ∞ of an infinite one.
            lowest = torch.finfo(student.dtype).min
            student, teacher = student.masked_fill(ignore, lowest), teacher.masked_fill(ignore, lowest)
        return F.kl_div(
            F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1), reduction="batchmean", log_target=True
        )
