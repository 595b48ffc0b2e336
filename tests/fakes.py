"""Stand-ins with real behaviour for what is slow or heavy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import EngineError
from gnomonic.inference.engines.base import BatchBudget, Feeds

__all__ = ["FakeEngine"]


class FakeEngine:
    """An `Engine` that maps ids to vectors by formula: the mean of a fixed random table's rows, weighted by position.

    Attributes:
        batches: the [rows, width] of every batch so far.
        closed: whether `close` was called.
    """

    name = "fake"
    precision = "fp32"

    def __init__(
        self,
        *,
        hidden_size: int = 32,
        vocab_size: int = 512,
        budget: BatchBudget | None = None,
        fails_on_id: int | None = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.budget = budget or BatchBudget()
        self.batches: list[tuple[int, int]] = []
        self.closed = False
        self._table = np.random.default_rng(0).standard_normal((vocab_size, hidden_size))
        self._fails_on_id = fails_on_id

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        input_ids, mask = feeds["input_ids"], feeds["attention_mask"]
        self.batches.append(input_ids.shape)
        if self._fails_on_id is not None and (input_ids == self._fails_on_id).any():
            raise EngineError("the fake engine was told to fail")
        # Row by row and unpadded, so that a row's bits cannot depend on its neighbours.
        rows = [self._pool(ids[kept == 1]) for ids, kept in zip(input_ids, mask, strict=True)]
        return np.array(rows, dtype=np.float32).reshape(-1, self.hidden_size)

    def close(self) -> None:
        self.closed = True

    def _pool(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        weights = 1 + np.arange(len(ids)) % 7
        return (self._table[ids] * weights[:, None]).mean(axis=0)
