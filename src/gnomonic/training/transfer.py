"""What a model takes over: from a teacher, words and the axes of its space; from its own start, a share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gnomonic.errors import ConfigError
from gnomonic.models.nomic_bert import NomicBert
from gnomonic.training.teacher import Words

__all__ = ["mix_in_start", "principal_axes", "start_from_words"]


def mix_in_start(model: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Make the model's weights the weighted mean of themselves and of those it started from, in place.

    Args:
        model: trained, float32.
        start: every parameter's first value, by name.
        share: weight of the start, 0 to 1; the trained weights have the rest.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.lerp_(start[name].to(parameter.device), share)


def principal_axes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rotation that puts most of the vectors' energy into the first values, as Matryoshka sizes want it.

    The eigenvectors of VᵀV by falling eigenvalue, not centred, so that cosines stay what they are.

    Args:
        vectors: [n, dim].

    Returns:
        [dim, dim] float32, orthogonal; `vectors @ axes` are the turned vectors.
    """
    _, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    axes = axes[:, ::-1]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.ascontiguousarray(axes * signs, dtype=np.float32)


def start_from_words(model: NomicBert, vocabulary: dict[str, int], words: Words | None) -> None:
    """Copy the teacher's rows of the words both know, and the norm after them, into a fresh student.

    Args:
        model: changed in place. Rows of words that the teacher lacks stay as they are.
        vocabulary: row of each of the student's tokens.
        words: the teacher's.

    Raises:
        ConfigError: the teacher has no such table, or one of another width.
    """
    table = model.embeddings.word_embeddings.weight
    if words is None or words.rows.shape[1] != table.shape[1]:
        found = "none" if words is None else f"one of width {words.rows.shape[1]}"
        raise ConfigError(f"start_words: the teacher has {found}; the model needs a BERT's of width {table.shape[1]}")
    shared = [(row, words.vocabulary[token]) for token, row in vocabulary.items() if token in words.vocabulary]
    own, theirs = (np.array(side) for side in zip(*shared, strict=True))
    with torch.no_grad():
        table[torch.from_numpy(own)] = torch.from_numpy(words.rows[theirs])
        for parameter, value in zip((model.emb_ln.weight, model.emb_ln.bias), words.norm, strict=True):
            parameter.copy_(torch.from_numpy(value))
