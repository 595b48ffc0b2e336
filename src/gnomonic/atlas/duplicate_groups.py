"""Groups of rows that say the same, as somebody looks through them: which row of each is kept, by what rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.duplicates import Duplicates

__all__ = ["KEEP_RULES", "DuplicateGroups", "group_rows"]

KEEP_RULES = ("first", "longest", "newest", "central")
"""Which row of a group is kept: the first of the dataset, the one with the longest text, the one with the greatest date
or number, or the one that `find_duplicates` chose, to which alone all others are within the cut-off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateGroups:
    """Groups of two rows or more, the largest first."""

    rows: NDArray[np.int64]
    """[members] int64: row order positions, group by group, the one that is kept first and the others in row order."""
    begins: NDArray[np.int64]
    """[groups + 1] int64: where each group begins in `rows`, and the end of the last."""

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.begins) - 1

    @property
    def kept(self) -> NDArray[np.int64]:
        """[groups] int64: the row of each group that is kept."""
        return self.rows[self.begins[:-1]]

    @property
    def deletable(self) -> NDArray[np.int64]:
        """[members - groups] int64: the rows that are not."""
        is_kept = np.zeros(len(self.rows), dtype=np.bool_)
        is_kept[self.begins[:-1]] = True
        return self.rows[~is_kept]

    def group(self, number: int) -> NDArray[np.int64]:
        """Return the rows of one group, the one that is kept first."""
        return self.rows[self.begins[number] : self.begins[number + 1]]


def group_rows(
    found: Duplicates,
    *,
    alive: NDArray[np.bool_] | None = None,
    worth: NDArray[np.float64] | None = None,
) -> DuplicateGroups:
    """Return the groups that have at least two rows.

    Args:
        found: which group each row is in.
        alive: [n] bool: the rows that count; None for all.
        worth: [n] float64: the row with the most is kept, the first of equal ones; NaN is least. None for the row that
            `find_duplicates` chose, or the first where that one does not count.
    """
    cluster = np.asarray(found.cluster)
    living = np.arange(len(cluster)) if alive is None else np.flatnonzero(alive)
    sizes = np.bincount(cluster[living], minlength=1)
    rows = living[sizes[cluster[living]] > 1]
    group = cluster[rows]
    value = (np.asarray(found.classes)[rows] == 1).astype(np.float64) if worth is None else worth[rows]
    value = np.where(np.isnan(value), -np.inf, value)
    # By group, and in each the kept row first: a group's first row among those that come by falling worth.
    order = np.lexsort((rows, -value, group))
    sorted_group = group[order]
    first = np.flatnonzero(np.append(True, sorted_group[1:] != sorted_group[:-1])[: len(rows)])
    count = np.diff(np.append(first, len(rows)))
    is_kept = np.zeros(len(cluster), dtype=np.bool_)
    is_kept[rows[order[first]]] = True
    earliest = np.minimum.reduceat(rows[order], first) if len(first) else first
    ranked = np.lexsort((earliest, -count))
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[sorted_group[first][ranked]] = np.arange(len(first))
    final = np.lexsort((rows, ~is_kept[rows], rank[group]))
    begins = np.concatenate([[0], np.cumsum(count[ranked])]).astype(np.int64)
    return DuplicateGroups(rows=rows[final].astype(np.int64), begins=begins)
