"""Orders of rows that depend on the seed and on nothing that ran before."""

from __future__ import annotations

from threading import Lock

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shuffles"]


class Shuffles:
    """Permutations made when asked for, and kept while batches are cut from them; threads may share one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._kept: dict[int, dict[int, NDArray[np.int64]]] = {}
        self._lock = Lock()

    def get(self, key: int, turn: int, size: int) -> NDArray[np.int64]:
        """Return a permutation, a pure function of the arguments and the seed.

        Args:
            key: what is shuffled, such as the number of a source.
            turn: which pass over it. The two passes used last are kept, since a batch may lie across their border.
            size: elements.

        Returns:
            [size] int64, not to be changed.
        """
        with self._lock:
            kept = self._kept.setdefault(key, {})
            if turn not in kept:
                if len(kept) > 1:
                    del kept[min(kept)]
                kept[turn] = np.random.default_rng([self._seed, key, turn]).permutation(size)
            return kept[turn]
