"""The seam between the pipeline and a runtime: named numpy arrays in, pooled vectors out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["BatchBudget", "Engine", "Feeds"]

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchBudget:
    """What one batch may cost on an engine; the planner keeps every batch inside it."""

    max_tokens: int = 4096
    """Padded tokens in a batch (rows × width); a single longer text is a batch of its own."""
    max_cells: int = 16_777_216
    """rows × width²: bounds the attention work, and with it the memory, of one batch."""
    call_tokens: int = 64
    """What starting a batch costs, in tokens' worth of work; the planner weighs it against padding."""


class Engine(Protocol):
    """Runs one encoder on one device. Call it from one thread at a time."""

    name: str
    """Which implementation: "onnx", "torch", …"""
    precision: str
    """What the weights and products are computed in: "fp32", "bf16", "fp16" or "int8"."""
    hidden_size: int
    budget: BatchBudget

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Encode and mean-pool one padded batch.

        A row's result depends on that row's own tokens alone.

        Args:
            feeds: `input_ids` and `attention_mask`, both [batch, seq] int64; each mask row is ones, then zeros,
                with at least one 1.

        Returns:
            [batch, hidden_size] float32: pooled, neither layer-normed, truncated nor scaled to unit length.

        Raises:
            EngineError: the backend failed; the engine stays usable.
        """
        ...

    def close(self) -> None:
        """Free the runtime's memory; `run` must not be called afterwards."""
        ...
