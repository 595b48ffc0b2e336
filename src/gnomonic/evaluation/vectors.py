"""Every text of a task is embedded once, at full width; smaller sizes are cut from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import InputError
from gnomonic.types import Embedder, TaskType

__all__ = ["FullWidth", "cut"]

_BLOCK = 2048
"""Texts between two calls of `on_progress`; enough for batches of equal length."""


def cut(vectors: NDArray[np.float32], dim: int | None) -> NDArray[np.float32]:
    """Return the first `dim` values of unit vectors, of unit length again.

    That is what the encoder itself gives for that size, since scaling commutes with cutting.

    Args:
        vectors: [n, width].
        dim: 1 to width; None for all of them.

    Returns:
        [n, dim] float32; a row that is all zero stays zero.
    """
    if dim is None or dim == vectors.shape[1]:
        return vectors
    part = vectors[:, :dim]
    norms = np.linalg.norm(part, axis=1, keepdims=True)
    norms[norms == 0] = 1
    unit: NDArray[np.float32] = part / norms
    return unit


class FullWidth:
    """Embeds texts, and remembers the vectors by task type and text.

    Attributes:
        texts: how many were embedded, equal ones counted once.
        truncated: how many of them were too long for the model and were cut.
    """

    def __init__(self, embedder: Embedder, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Embed with this embedder; `on_progress(done, total)` hears of the texts of each call."""
        self.texts = self.truncated = 0
        self._embedder = embedder
        self._on_progress = on_progress
        self._rows: dict[TaskType, dict[str, int]] = {}
        self._vectors: dict[TaskType, NDArray[np.float32]] = {}

    def at(self, dim: int | None) -> Callable[[Sequence[str], TaskType], NDArray[np.float32]]:
        """Return `encode` for one size."""
        return lambda texts, task_type: self.encode(texts, task_type, dim)

    def encode(self, texts: Sequence[str], task_type: TaskType, dim: int | None = None) -> NDArray[np.float32]:
        """Return the vectors of the texts, in order, cut to `dim`: [n, dim] float32.

        Raises:
            InputError: the model has fewer dimensions.
        """
        rows = self._rows.setdefault(task_type, {})
        # By length, so that a block holds texts that fit one batch.
        new = sorted((text for text in dict.fromkeys(texts) if text not in rows), key=len)
        parts = [self._vectors[task_type]] if task_type in self._vectors else []
        for start in range(0, len(new), _BLOCK):
            found = self._embedder.encode(new[start : start + _BLOCK], task_type=task_type)
            parts.append(found.vectors)
            self.texts += len(found)
            self.truncated += len(found.truncated)
            if self._on_progress is not None:
                self._on_progress(start + len(found), len(new))
        first = len(rows)
        rows.update((text, first + index) for index, text in enumerate(new))
        self._vectors[task_type] = np.concatenate(parts)
        vectors = self._vectors[task_type]
        if dim is not None and dim > vectors.shape[1]:
            raise InputError(f"--dims {dim} is larger than the model's {vectors.shape[1]}")
        return cut(vectors, dim)[[rows[text] for text in texts]]
