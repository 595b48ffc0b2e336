"""Vectors of many texts on disk, each worked out once and by one model only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import InputError
from gnomonic.training.curation.workplace import Progress, Workplace, digest_of
from gnomonic.types import Embedder, TaskType

__all__ = ["VectorStore"]

_PROBES = ("a red fox", "How is bread made?", "The river runs from the mountain to the sea. " * 20)
_SAME = 5e-3
"""Two models whose probes differ by less in every value are one: threads and machines change the last bits."""


class VectorStore(Workplace):
    """Embeds texts into a folder, and finds there what is already embedded.

    Attributes:
        embedded: how many texts were embedded by this object, not found.
        truncated: how many of them were longer than the model takes, and were cut.
    """

    def __init__(
        self,
        folder: Path,
        embedder: Embedder,
        *,
        dim: int | None = None,
        label: str = "",
        on_progress: Progress | None = None,
    ) -> None:
        """Keep the vectors of one embedder.

        Args:
            folder: made when it is first used.
            embedder: any encoder.
            dim: size of the vectors; None for the full width.
            label: whatever else decides the vectors, such as the longest text that is not cut.
            on_progress: hears of every finished chunk.
        """
        super().__init__(folder, on_progress=on_progress)
        self.embedded = self.truncated = 0
        self._embedder = embedder
        self._dim = dim
        self._label = label
        self._widths: dict[TaskType, int] = {}

    def key(self, keys: NDArray[np.uint64], task: TaskType) -> str:
        """Return the name under which the vectors of these texts are kept.

        Args:
            keys: [n] uint64, one per text (`words.text_key`).
            task: the prefix.
        """
        return digest_of(keys, task, self._dim, self._label, self._width(task))

    def embed(
        self, keys: NDArray[np.uint64], texts: Callable[[int, int], Sequence[str]], task: TaskType, *, what: str
    ) -> NDArray[np.float16]:
        """Return the vectors of texts, embedding those that are not there yet.

        Args:
            keys: [n] uint64, one per text.
            texts: `texts(begin, end)` reads a part of them.
            task: the prefix.
            what: what the texts are, for the progress display.

        Returns:
            [n, dim] float16, mapped from disk.

        Raises:
            InputError: the folder holds vectors of another model.
            GnomonicError: the folder cannot be written.
            EngineError: the embedder failed.
        """

        def make(begin: int, end: int) -> NDArray[np.float32]:
            return self._encode(texts(begin, end), task)

        key, shape = self.key(keys, task), (len(keys), self._width(task))
        found: NDArray[np.float16] = self.rows(key, shape, "<f2", make, what=what)  # type: ignore[assignment]
        return found

    def drop_vectors(self, keys: NDArray[np.uint64], task: TaskType) -> None:
        """Delete the vectors of these texts; what was made of them is kept."""
        self.drop(self.key(keys, task))

    def _encode(self, texts: Sequence[str], task: TaskType) -> NDArray[np.float32]:
        found = self._embedder.encode(texts, task_type=task, dim=self._dim)
        self.embedded += len(texts)
        self.truncated += len(found.truncated)
        return found.vectors

    def _width(self, task: TaskType) -> int:
        """Return the size of the vectors, after a look whether the folder's are of the same model."""
        if task in self._widths:
            return self._widths[task]
        found = self._embedder.encode(_PROBES, task_type=task, dim=self._dim).vectors
        probe = f"probe-{task}-{self._dim or 'full'}"
        kept = self.get(probe)
        if kept is None:
            self.put(probe, found)
        known = found if kept is None else kept.astype(np.float32)
        if known.shape != found.shape or float(np.abs(known - found).max()) > _SAME:
            raise InputError(
                f"{self.folder} holds vectors of another model, or of another precision; delete that folder, or give "
                "another one with --cache"
            )
        self._widths[task] = width = int(found.shape[1])
        return width
