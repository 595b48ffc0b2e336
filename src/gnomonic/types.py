"""The values every part passes to every other: task types, requests, results and the Embedder protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import InputError

__all__ = ["EmbedRequest", "Embedder", "Embeddings", "LongTextMode", "TaskType", "Usage"]


class _Choice(StrEnum):
    """A value of an argument that takes one of a few names."""

    @classmethod
    def parse(cls, value: str) -> Self:
        """Return the member of that name.

        Raises:
            InputError: no member has this name; the message lists those there are.
        """
        try:
            return cls(value)
        except ValueError:
            argument = {"TaskType": "task_type", "LongTextMode": "long_text_mode"}[cls.__name__]
            raise InputError(f"{argument} {value!r} is unknown; choose one of {', '.join(cls)}") from None


class TaskType(_Choice):
    """What the vector is for; the model saw each task's prefix in training."""

    SEARCH_QUERY = "search_query"
    SEARCH_DOCUMENT = "search_document"
    CLASSIFICATION = "classification"
    CLUSTERING = "clustering"


class LongTextMode(_Choice):
    """What happens to a text longer than the model or the caller's limit."""

    TRUNCATE = "truncate"
    MEAN = "mean"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens charged for a request: body tokens only, without prefix and special tokens."""

    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeddings:
    """Vectors of one request, in the order of its inputs."""

    vectors: NDArray[np.float32]
    """[n, dim] float32, rows of unit length."""
    model: str
    usage: Usage
    truncated: tuple[int, ...] = ()
    """Indices of the inputs that were cut to fit, ascending."""

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedRequest:
    """One request for text embeddings, whatever front door it came through."""

    texts: tuple[str, ...]
    model: str
    task_type: TaskType = TaskType.SEARCH_DOCUMENT
    dim: int | None = None
    long_text_mode: LongTextMode = LongTextMode.TRUNCATE
    max_tokens_per_text: int = 8192
    options: dict[str, Any] = field(default_factory=dict)
    """What only the dialect that parsed the request needs to answer it, such as the encoding format."""


class Embedder(Protocol):
    """Anything that turns texts into unit vectors; the seam between embedding and mapping or evaluation."""

    def encode(
        self, texts: Sequence[str], *, task_type: TaskType | str = TaskType.SEARCH_DOCUMENT, dim: int | None = None
    ) -> Embeddings:
        """Embed texts, in order.

        Args:
            texts: any number of strings, empty ones included.
            task_type: selects the prefix.
            dim: size of the vectors; None for the model's full width.

        Returns:
            vectors [len(texts), dim] float32 with unit rows.

        Raises:
            InputError: a text or an option is not usable.
            EngineError: the backend failed.
        """
        ...
