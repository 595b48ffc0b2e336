"""Our encoders in MTEB: `mteb.evaluate(MtebEncoder(encoder), tasks=…)`, with the right prefix for each kind of task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.types import Embedder, TaskType

__all__ = ["MtebEncoder", "task_type_of"]

_CLUSTERING = "Clustering"
_SEARCHES = ("Retrieval", "Reranking")


def task_type_of(kind: str, side: str | None) -> TaskType:
    """Return the task type for a kind of MTEB task.

    Args:
        kind: MTEB's own name, such as "Classification", "Clustering", "Reranking", "STS".
        side: "query" or "document" where MTEB tells them apart.
    """
    if kind.endswith(_SEARCHES):
        return TaskType.SEARCH_QUERY if side == "query" else TaskType.SEARCH_DOCUMENT
    return TaskType.CLUSTERING if kind.endswith(_CLUSTERING) else TaskType.CLASSIFICATION


class MtebEncoder:
    """An `Embedder` in the shape of mteb's `EncoderProtocol` (mteb 2).

    Attributes:
        embedder: what embeds.
        dim: size of the vectors; None for the full width.
    """

    def __init__(self, embedder: Embedder, *, name: str = "gnomonic/model", dim: int | None = None) -> None:
        """Wrap an embedder; mteb keeps results under `name`, which holds one slash."""
        self.embedder = embedder
        self.dim = dim
        self._name = name

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str = "",  # noqa: ARG002
        hf_subset: str = "",  # noqa: ARG002
        prompt_type: Any = None,
        **_options: Any,
    ) -> NDArray[np.float32]:
        """Embed the batches of an mteb data loader: [texts, dim] float32, rows of unit length."""
        texts = [text for batch in inputs for text in batch["text"]]
        side = getattr(prompt_type, "value", prompt_type)
        return self.embedder.encode(texts, task_type=task_type_of(task_metadata.type, side), dim=self.dim).vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine of every row with every row, [n, m], as a torch tensor, which mteb asks for."""
        import torch

        left, right = (np.atleast_2d(np.asarray(side)) for side in (embeddings1, embeddings2))
        return torch.from_numpy(left @ right.T)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine of each row with its counterpart, [n], as a torch tensor."""
        import torch

        return torch.from_numpy(np.einsum("nd,nd->n", np.asarray(embeddings1), np.asarray(embeddings2)))

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb wants to know of the model."""
        from mteb.models.model_meta import ModelMeta

        return ModelMeta.create_empty({"name": self._name, "revision": f"dim-{self.dim or 'full'}"})
