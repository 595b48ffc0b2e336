"""What the queue holds and gives: engines as it knows them, requests in it, batches that were run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gnomonic.inference.engines.base import BatchBudget

__all__ = ["BatchReport", "Job", "Line", "Pooled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What a queue must know of an engine."""

    key: str
    model: str
    precision: str
    hidden_size: int
    budget: BatchBudget


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooled:
    """A request's sequences, encoded."""

    vectors: NDArray[np.float32]
    """[sequences, hidden_size] float32, in the order they were given."""
    queue_s: float
    """From submission to the first batch that held one of them."""
    engine_s: float
    """From then to the end of the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchReport:
    """One batch that was run, for metrics."""

    rows: int
    tokens: int
    padded_tokens: int
    engine_s: float


@dataclass(eq=False, slots=True)
class Job:
    """One request in the queue."""

    line: Line
    sequences: Sequence[NDArray[np.int32]]
    owners: NDArray[np.int64]
    order: list[int]
    """Its sequences, longest first, so that its own batches are of like length."""
    done: asyncio.Future[None]
    pooled: NDArray[np.float32]
    submitted: float
    started: float = 0.0
    tag: float = 0.0
    next: int = 0
    left: int = 0
    waiting_tokens: int = 0
    alone: set[int] = field(default_factory=set)
    """Sequences of a batch that failed: each is tried once more by itself."""
